package integrator_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/flow"
)

const togetherYAML = `
connections: {out: {type: file, dir: out}}
listeners:
  file:   {path: "/file/{name}", method: GET, mode: sync}
  fixed:  {path: /fixed, method: GET, mode: sync}
  later:  {path: "/later/{name}"}
  put:    {path: "/put/{name}", method: PUT, mode: sync}
  two:    {path: "/two/{a}/{b}", method: PUT, mode: sync}
  deep:   {path: "/deep/{name}", method: PUT, mode: sync}
  page:   {path: /page, method: GET, mode: sync, params: {limit: int, after: int}}
  kept:   {path: /kept, answer: {headers: {Cache-Control: max-age=5}}}
  empty:  {path: /empty, format: json, mode: sync}
  stream: {path: /stream, format: ndjson, mode: sync}
  lax:    {path: /lax, format: json, check: none, mode: sync}
  varies: {path: /varies, method: GET, mode: sync}
  some:   {path: /some, format: json, mode: sync}
flows:
  file:   {listener: file, from: {connection: out, path: "${param.name}", format: json}, respond: {}}
  fixed:  {listener: fixed, from: {connection: out, path: none.json, format: json}, respond: {}}
  later:  {listener: later, from: {connection: out, path: "${param.name}", format: json}, to: {connection: out, path: copy.json, format: json}, retry: {attempts: 1}}
  put:    {from: {listener: put}, to: {connection: out, path: "${param.name}", exists: fail}}
  two:    {from: {listener: two}, to: [{connection: out, path: "${param.a}"}, {connection: out, path: "${param.b}"}]}
  deep:   {from: {listener: deep}, to: {connection: out, path: "${param.name}/b.json"}}
  page:   {listener: page, from: {connection: out, path: rows.csv, format: csv}, respond: {page: {size: limit, after: id}}}
  kept:   {from: {listener: kept}, to: {connection: out, path: "kept-${run.id}"}}
  empty:  {from: {listener: empty, records: "a[*]"}, to: {connection: out, path: empty.json, format: json}}
  stream: {from: {listener: stream}, steps: [{reject: {when: "n > 1", reason: large}}], respond: {format: ndjson, stream: true}}
  lax:    {from: {listener: lax}, respond: {}}
  varies: {listener: varies, respond: {format: [json, csv], headers: {vary: Accept-Language}}}
  some:
    from: {listener: some, records: "[*]"}
    steps: [{map: {n: "= n * 2"}}]
    on_reject: {action: keep, to: {connection: out, path: rejects.ndjson, format: ndjson}}
    respond: {body: {written: run.written, rejected: run.rejected}}
users:
  shop: {role: api, password: password-shop, listeners: ["*"]}
  ops:  {role: operator, password: password-ops}
`

// TestFilesThatTheCallNames: what the caller has named and is not there, or is there already, is no fault of the server.
func TestFilesThatTheCallNames(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	token := h.token("shop", "password-shop")
	if r := h.call("PUT", listeners+"/put/a.json", token, strings.NewReader(`{"a":1}`)); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if err := os.Mkdir(filepath.Join(h.dir, "out", "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(h.dir, filepath.Join(h.dir, "out", "away")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		status       int
		problem      string
	}{
		{"GET", "/file/a.json", 200, ""},
		{"GET", "/file/b.json", 404, "problem:not-found"},
		{"GET", "/fixed", 500, "problem:run-failed"},
		{"GET", "/file/folder", 422, "problem:rejected"},
		{"GET", "/file/away", 422, "problem:rejected"},
		{"PUT", "/put/a.json", 409, "problem:exists"},
		{"PUT", "/put/folder", 409, "problem:exists"},
		{"PUT", "/two/one/one", 422, "problem:rejected"},
		{"PUT", "/two/one/folder", 422, "problem:rejected"},
		{"PUT", "/deep/a.json", 422, "problem:rejected"},
	} {
		for range 2 { // whatever is remembered of the first call, the second is answered alike
			r := h.call(c.method, listeners+c.path, token, strings.NewReader(""), "Idempotency-Key: "+c.path)
			if c.status == 200 && r.status == 200 {
				continue
			}
			if r.status != c.status || !strings.Contains(r.body, `urn:integrator:`+c.problem+`"`) || strings.Contains(r.body, h.dir) {
				t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
			}
		}
	}
}

// TestFileThatIsWaitedFor: where nobody waits for the run, the file may still come.
func TestFileThatIsWaitedFor(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	if run := h.send("/later/b.json", h.token("shop", "password-shop"), "").Run; run.Kind != flow.KindConnection {
		t.Errorf("the run ended in %+v", run)
	}
}

// TestPageOfTheListenersParameters: a page's size and place may be what the listener declares.
func TestPageOfTheListenersParameters(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	os.MkdirAll(filepath.Join(h.dir, "out"), 0o755)
	if err := os.WriteFile(filepath.Join(h.dir, "out", "rows.csv"), []byte("id\n1\n2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := h.call("GET", listeners+"/page?limit=2", h.token("shop", "password-shop"), http.NoBody)
	if r.status != 200 || r.header.Get("Link") != `<?after=2&limit=2>; rel="next"` {
		t.Errorf("%d %s, Link %q", r.status, r.body, r.header.Get("Link"))
	}
}

// TestRepetitionOfAMalformedPayload: a key's second call learns where the payload is malformed, as the first did.
func TestRepetitionOfAMalformedPayload(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	token := h.token("shop", "password-shop")
	for range 2 {
		r := h.post(listeners+"/lax", token, `{"a": `, "Idempotency-Key: k")
		if r.status != 400 || !strings.Contains(r.body, `"column":`) {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

// TestRepetitionOfAnEmptyPayload: what was odd about the first call is told again.
func TestRepetitionOfAnEmptyPayload(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	token := h.token("shop", "password-shop")
	first := h.post(listeners+"/empty", token, `{}`, "Idempotency-Key: k")
	second := h.post(listeners+"/empty", token, `{}`, "Idempotency-Key: k")
	if first.status != 200 || !strings.Contains(first.body, "warning") || second.body != first.body {
		t.Errorf("%d %s, then %d %s", first.status, first.body, second.status, second.body)
	}
}

// TestStreamOfHTTP10: who would take a connection that breaks for the end of the answer gets it when it is complete.
func TestStreamOfHTTP10(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	for proto, want := range map[int][2]int{0: {422, 1}, 1: {http.StatusOK, 0}} {
		r := httptest.NewRequest("POST", listeners+"/stream", strings.NewReader(strings.Repeat("{\"n\": 1}\n", 20_000)+"{\"n\": 2}\n"))
		r.Proto, r.ProtoMajor, r.ProtoMinor = fmt.Sprintf("HTTP/1.%d", proto), 1, proto
		r.Header.Set("Authorization", "Bearer "+h.token("shop", "password-shop"))
		w := httptest.NewRecorder()
		aborted := func() (aborted bool) {
			defer func() { aborted = recover() != nil }()
			h.engine.Handler().ServeHTTP(w, r)
			return false
		}()
		if w.Code != want[0] || len(w.Header()["Content-Length"]) != want[1] || aborted != (proto == 1) {
			t.Errorf("HTTP/1.%d: %d, Content-Length %q, broken off %t", proto, w.Code, w.Header()["Content-Length"], aborted)
		}
	}
}

// TestVaryOfAnAnswer: what a definition says that the answer varies with is beside what the engine's own choice varies with.
func TestVaryOfAnAnswer(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	r := h.call("GET", listeners+"/varies", h.token("shop", "password-shop"), http.NoBody)
	if vary := strings.Join(r.header.Values("Vary"), ", "); r.status != 200 || vary != "Accept, Accept-Language" {
		t.Errorf("%d, Vary %q", r.status, vary)
	}
}

// TestAnswersAreNotKept by anybody between here and the caller, unless the definition says so.
func TestAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	token := h.token("shop", "password-shop")
	for path, want := range map[string]string{"/kept": "max-age=5", "/some": "no-store", "/lax": "no-store"} {
		if r := h.post(listeners+path, token, `[{"n": 1}]`); r.status != 200 || strings.Join(r.header.Values("Cache-Control"), ", ") != want {
			t.Errorf("%s: %d %s, Cache-Control %q, want %q", path, r.status, r.body, r.header.Values("Cache-Control"), want)
		}
	}
}

// TestDryRunCountsAsTheRun: the body of an answer has the same counters, whatever becomes of the rejected records.
func TestDryRunCountsAsTheRun(t *testing.T) {
	t.Parallel()
	h := start(t, togetherYAML)
	r := h.post(listeners+"/some", h.token("shop", "password-shop"), `[{"n": 1}, {"n": "x"}]`)
	if r.status != 200 || r.body != "{\"written\":1,\"rejected\":1}\n" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	run := h.get("/rest/v1/runs?flow=some", h.token("ops", "password-ops")).body
	number := decode[struct{ Runs []struct{ AuditID int64 } }](t, run).Runs[0].AuditID
	dry := h.post("/rest/v1/runs/"+fmt.Sprint(number)+"/replay?dry_run=true", h.token("ops", "password-ops"), "")
	if dry.status != 200 || !strings.Contains(dry.body, strings.TrimSpace(r.body)) {
		t.Errorf("%d %s", dry.status, dry.body)
	}
}
