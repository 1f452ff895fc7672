package integrator_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/transform"
)

const uploadYAML = `
connections: {out: {type: file, dir: out}, other: {type: file, dir: other}}
listeners:
  upload: {path: "/upload/{name}", method: [PUT, POST], max_body: 8MiB}
  wait:   {path: "/wait/{name}", mode: sync}
flows:
  upload:
    from: {listener: upload}
    to: [{connection: out, path: "${param.name}.bin"}, {connection: other, path: "${param.name}"}]
  wait:
    from: {listener: wait}
    to: {connection: out, path: "${param.name}", exists: fail}
users:
  shop: {role: api, password: password-shop, listeners: [upload, wait]}
  ops:  {role: operator, password: password-ops}
`

// TestUpload puts payloads into files as they are, whatever they are and however large.
func TestUpload(t *testing.T) {
	t.Parallel()
	h := start(t, uploadYAML)
	token := h.token("shop", "password-shop")
	large := make([]byte, 5<<20+1)
	source := rand.NewChaCha8([32]byte{})
	source.Read(large)
	for name, payload := range map[string][]byte{"empty": nil, "small": []byte("\xff\x00 no text\r\n"), "inline": large[:64<<10], "blob": large[:64<<10+1], "large": large, "json": []byte(`{"a":`)} {
		r := h.call("PUT", listeners+"/upload/"+name, token, bytes.NewReader(payload))
		if r.status != 200 {
			t.Fatalf("%s: %d %s", name, r.status, r.body)
		}
		run := h.events.settled(decode[receipt](t, r.body).AuditID).Run
		if run.Status.String() != "success" || run.Read != 1 || run.Written != 1 {
			t.Errorf("%s: the run: %+v", name, run)
		}
		for _, file := range []string{"out/" + name + ".bin", "other/" + name} {
			if h.read(file) != string(payload) {
				t.Errorf("%s: %s holds something else", name, file)
			}
		}
	}
	if r := h.post(listeners+"/wait/a", token, "first"); r.status != 200 || decode[receipt](t, r.body).Status != "success" || h.read("out/a") != "first" {
		t.Errorf("a call that waits: %d %s", r.status, r.body)
	}
	if r := h.post(listeners+"/wait/a", token, "second"); r.status != 409 || h.read("out/a") != "first" {
		t.Errorf("a file that is there: %d %s", r.status, r.body)
	}
	if r := h.post(listeners+"/wait/.hidden", token, "x"); r.status != 422 || !strings.Contains(r.body, "makes no file's name") {
		t.Errorf("a name that files do not have: %d %s", r.status, r.body)
	}
	if names, err := os.ReadDir(filepath.Join(h.dir, "out")); err != nil || len(names) != 8 {
		t.Errorf("the folder holds %v (%v), want six uploads, one file and what the connection notes", names, err)
	}
	result, err := h.engine.RunPayload(context.Background(), "upload", map[string]any{"name": "from-go"}, bytes.NewReader(large))
	if err != nil || result.Err != nil || h.read("other/from-go") != string(large) {
		t.Errorf("from Go: %+v, %v", result, err)
	}
}

// TestUploadDryRun tells where a payload would be put, and shows nothing of it.
func TestUploadDryRun(t *testing.T) {
	t.Parallel()
	h := start(t, uploadYAML)
	settled := h.send("/upload/a", h.token("shop", "password-shop"), strings.Repeat("\xff", 200<<10))
	r := h.post("/rest/v1/messages/"+settled.Run.Message.String()+"/replay?dry_run=true", h.token("ops", "password-ops"), "")
	want := `{"dryRun":true,"runs":[{"flowName":"upload","read":1,"rejected":0,"destinations":[{"connection":"out","action":"insert","where":"a.bin","records":1,"first":[]},` +
		`{"connection":"other","action":"insert","where":"a","records":1,"first":[]}]}]}` + "\n"
	if r.status != 200 || r.body != want {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestFormatStaysWithItsMessage: what was read as one format is read as that ever after, also where the listener's definition has come to prefer another.
func TestFormatStaysWithItsMessage(t *testing.T) {
	t.Parallel()
	h := start(t, "users: {shop: {role: api, password: password-shop, listeners: [\"*\"]}}")
	token := h.token("shop", "password-shop")
	define := func(formats ...string) {
		t.Helper()
		d := integrator.Definitions{
			Listeners: map[string]listener.Definition{"a": {Path: "/a"}},
			Flows: map[string]flow.Definition{"a": {From: &flow.From{Listener: "a"}, Steps: []flow.Step{{Map: transform.Map{
				{Name: "a", Term: transform.Term{Text: "a"}}}}}}},
		}
		l := d.Listeners["a"]
		for _, f := range formats {
			l.Format = append(l.Format, transform.FormatRef{Type: f})
		}
		d.Listeners["a"] = l
		if err := h.engine.Define(d); err != nil {
			t.Fatal(err)
		}
	}
	define("csv")
	r := h.post(listeners+"/a", token, "a,b\n1,2\n3,4\n", "Content-Type: application/json") // which nobody looked at then
	run := h.events.settled(decode[receipt](t, r.body).AuditID).Run
	define("json", "csv")
	again, err := h.engine.Replay(t.Context(), run.Message)
	if err != nil {
		t.Fatal(err)
	}
	if run := h.events.settled(again.Runs[0].Number).Run; run.Status.String() != "success" || run.Read != 2 {
		t.Errorf("the replay: %+v", run)
	}
	define("json") // which it is not
	again, err = h.engine.Replay(t.Context(), run.Message)
	if err != nil {
		t.Fatal(err)
	}
	if run := h.events.settled(again.Runs[0].Number).Run; run.Status.String() != "error" || run.Kind != flow.KindInput {
		t.Errorf("the replay without its format: %+v", run)
	}
}

// TestRunPayloadAsksNobody: a flow that is run on a payload by its name takes it, whatever its from.when says; parameters are checked all the same.
func TestRunPayloadAsksNobody(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: "/{id}/a", format: json, mode: sync, params: {id: int, day: {type: date, default: "2026-01-01"}}}}
flows: {a: {from: {listener: a, when: "header['X'] == 'yes'"}, steps: [{map: {id: "= param.id + 1", day: param.day, a: a}}], respond: {}}}
`)
	result, err := h.engine.RunPayload(t.Context(), "a", map[string]any{"id": 6}, strings.NewReader(`{"a": 1}`))
	if err != nil || result.Err != nil || string(result.Response) != `{"id":7,"day":"2026-01-01","a":1}`+"\n" {
		t.Errorf("%+v, %v", result, err)
	}
	if _, err := h.engine.RunPayload(t.Context(), "a", map[string]any{"id": 6, "day": "soon"}, strings.NewReader(`{}`)); err == nil || !strings.Contains(err.Error(), `"day" must be a date`) {
		t.Errorf("a parameter that is wrong: %v", err)
	}
}

// TestCORSBeforeReady: a script learns that it has to come again.
func TestCORSBeforeReady(t *testing.T) {
	t.Parallel()
	engine, err := integrator.New(integrator.Config{Dir: t.TempDir(), Logger: logger(&syncBuffer{}), Definitions: definitionsOf(`
listeners: {a: {path: /a, format: json, cors: "https://a.example"}}
flows: {a: {from: {listener: a}}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest("POST", listeners+"/a", strings.NewReader("{}"))
	request.Header.Set("Origin", "https://a.example")
	w := httptest.NewRecorder()
	engine.Handler().ServeHTTP(w, request)
	if h := w.Header(); w.Code != 503 || h.Get("Access-Control-Allow-Origin") != "https://a.example" || h.Get("Retry-After") == "" || h.Get("Vary") != "Origin" {
		t.Errorf("%d %v", w.Code, h)
	}
}
