package integrator_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
)

const editorYAML = `
listeners: {kept: {path: /kept, format: json, mode: sync}}
flows: {kept: {from: {listener: kept}, respond: {}}}
users: {ed: {role: editor, password: password-ed}}
`

// put makes or replaces a definition over HTTP.
func (h *host) put(path, token, body string, header ...string) reply {
	h.t.Helper()
	return h.call("PUT", "/rest/v1/"+path, token, strings.NewReader(body), header...)
}

// TestDefinitionsOutliveTheEngine makes definitions over HTTP and in Go, and looks for them after a restart.
func TestDefinitionsOutliveTheEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startIn(t, dir, editorYAML)
	token := h.token("ed", "password-ed")
	for path, body := range map[string]string{
		"connections/out": `{type: file, dir: out}`,
		"listeners/made":  `{path: "/made/{n}", format: json, mode: sync}`,
	} {
		if r := h.put(path, token, body); r.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
	}
	made := h.put("flows/made", token, "from: {listener: made} # a person's words\nsteps: [{map: {n: '= param.n'}}]\nrespond: {}\n")
	if made.status != http.StatusCreated {
		t.Fatalf("%d %s", made.status, made.body)
	}
	if err := h.engine.Persist(t.Context(), integrator.Definitions{Flows: map[string]flow.Definition{"of-go": {Respond: &flow.Respond{}}}}); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Define(integrator.Definitions{Flows: map[string]flow.Definition{"in-memory": {Respond: &flow.Respond{}}}}); err != nil {
		t.Fatal(err)
	}
	if r := h.put("flows/in-memory", token, "{respond: {}}"); r.status != http.StatusConflict || !strings.Contains(r.body, "defined in Go") {
		t.Errorf("the program's own flow: %d %s", r.status, r.body)
	}
	before := h.get("/rest/v1/flows", token).body
	if !strings.Contains(before, `"name":"in-memory","flowId":4,"owner":"go"`) || !strings.Contains(before, `"name":"of-go","flowId":3,"owner":"http"`) {
		t.Errorf("before the restart: %s", before)
	}
	h.stop()

	h = startIn(t, dir, editorYAML)
	token = h.token("ed", "password-ed")
	if r := h.post(listeners+"/made/7", token, "{}"); r.status != 200 || r.body != "{\"n\":\"7\"}\n" {
		t.Errorf("after the restart the listener answers %d %s", r.status, r.body)
	}
	if r := h.get("/rest/v1/flows/made", token); r.body != made.body || r.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("after the restart the flow is %s, under %s", r.body, r.header.Get("ETag"))
	}
	after := h.get("/rest/v1/flows", token).body
	if strings.Contains(after, "in-memory") || !strings.Contains(after, `"name":"of-go","flowId":3,"owner":"http"`) {
		t.Errorf("after the restart: %s", after)
	}
	h.stop()

	// Files and Go come first, and what they hide is there again when they let go of the name.
	h = startIn(t, dir, strings.Replace(editorYAML, "flows: {", "flows: {made: {steps: [{map: {n: '= 0'}}], from: {listener: kept}, enabled: false, respond: {}}, ", 1))
	token = h.token("ed", "password-ed")
	if r := h.put("flows/made", token, "{respond: {}}"); r.status != http.StatusConflict {
		t.Errorf("a file owns it: %d %s", r.status, r.body)
	}
	if log := h.log.String(); !strings.Contains(log, "hidden") || !strings.Contains(log, "integrator.yaml:3") {
		t.Errorf("the log does not tell of what is hidden: %s", log)
	}
	if r := h.post(listeners+"/made/7", token, "{}"); r.status != 404 {
		t.Errorf("the hidden flow is in force: %d", r.status)
	}
	h.stop()
	h = startIn(t, dir, editorYAML)
	token = h.token("ed", "password-ed")
	if r := h.post(listeners+"/made/7", token, "{}"); r.status != 200 {
		t.Errorf("what was hidden is not there again: %d", r.status)
	}
	h.stop()

	// What does not compile with the files any more keeps the engine from starting, and is told.
	engine, err := integrator.New(integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir, Logger: logger(h.log),
		Definitions: definitionsOf("listeners: {theirs: {path: '/made/{x}', format: json}}")})
	if err != nil {
		t.Fatal(err)
	}
	var faults integrator.Faults
	if err := engine.Run(t.Context()); !errors.As(err, &faults) || !strings.Contains(err.Error(), `listener "made" waits for POST on an equivalent path already`) ||
		!strings.Contains(err.Error(), "made over HTTP") {
		t.Errorf("the engine ended with %v", err)
	}
}

func TestPersistRefuses(t *testing.T) {
	t.Parallel()
	h := start(t, editorYAML)
	flows := func(names ...string) map[string]flow.Definition {
		made := map[string]flow.Definition{}
		for _, name := range names {
			made[name] = flow.Definition{Respond: &flow.Respond{}}
		}
		return made
	}
	if err := h.engine.Define(integrator.Definitions{Flows: flows("memory")}); err != nil {
		t.Fatal(err)
	}
	for want, d := range map[string]integrator.Definitions{
		`"kept" is defined already, in file integrator.yaml:3`: {Flows: flows("new", "kept")},
		`"memory" is defined already, in go`:                   {Flows: flows("new", "memory")},
		"the store keeps connections":                          {Flows: flows("new"), Vars: map[string]string{"a": "b"}},
		`listener "nobody" is not defined`:                     {Flows: map[string]flow.Definition{"new": {From: &flow.From{Listener: "nobody"}, Respond: &flow.Respond{}}}},
	} {
		var faults integrator.Faults
		if err := h.engine.Persist(t.Context(), d); !errors.As(err, &faults) || !strings.Contains(err.Error(), want) {
			t.Errorf("Persist: %v, want %s", err, want)
		}
	}
	if _, ok := h.engine.Definitions().Flows["new"]; ok {
		t.Error("a part of what was refused is in force")
	}
	h.stop()
	if err := h.engine.Persist(t.Context(), integrator.Definitions{Flows: flows("new")}); !errors.Is(err, flow.ErrStopping) {
		t.Errorf("Persist after the end: %v", err)
	}
	engine, err := integrator.New(integrator.Config{Store: memstore.New()})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Persist(t.Context(), integrator.Definitions{Flows: flows("new")}); !errors.Is(err, flow.ErrStopping) {
		t.Errorf("Persist before Run: %v", err)
	}
}

// TestChangesAtOnce makes many definitions at the same time, and changes one of them: none of the changes is lost, and each call meets a whole set.
func TestChangesAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startIn(t, dir, editorYAML)
	token := h.token("ed", "password-ed")
	if r := h.put("flows/counter", token, `{description: "0", respond: {}}`); r.status != http.StatusCreated {
		t.Fatalf("%d %s", r.status, r.body)
	}
	const workers, each = 4, 5
	var group, calls sync.WaitGroup
	calling, stop := context.WithCancel(t.Context())
	calls.Go(func() {
		for calling.Err() == nil {
			if r := h.post(listeners+"/kept", token, "{}"); r.status != 200 {
				t.Errorf("a call meanwhile: %d %s", r.status, r.body)
			}
		}
	})
	for w := range workers {
		group.Go(func() {
			for n := range each {
				if r := h.put(fmt.Sprintf("flows/f-%d-%d", w, n), token, "{respond: {}}"); r.status != http.StatusCreated {
					t.Errorf("%d %s", r.status, r.body)
				}
				for {
					held := h.get("/rest/v1/flows/counter", token)
					count := 0
					fmt.Sscan(decode[struct{ Description string }](t, held.body).Description, &count)
					r := h.put("flows/counter", token, fmt.Sprintf(`{description: "%d", respond: {}}`, count+1), "If-Match: "+held.header.Get("ETag"))
					if r.status == http.StatusOK {
						break
					}
					if r.status != http.StatusPreconditionFailed {
						t.Errorf("%d %s", r.status, r.body)
						break
					}
				}
			}
		})
	}
	group.Wait()
	stop()
	calls.Wait()
	h.stop()
	h = startIn(t, dir, editorYAML)
	flows := h.engine.Definitions().Flows
	if len(flows) != workers*each+2 || flows["counter"].Description != fmt.Sprint(workers*each) {
		t.Errorf("%d flows, the counter at %s", len(flows), flows["counter"].Description)
	}
}

// TestSetsThatNothingNeedsAreForgotten changes definitions many times while a run waits for its retry: the store keeps some sets, and that of the run,
// whose retry finds its flow as it was.
func TestSetsThatNothingNeedsAreForgotten(t *testing.T) {
	t.Parallel()
	f, st := &flaky{fails: 1, err: errors.New("connection refused")}, (store.Store)(nil)
	inBubble(t, `
connections: {away: {type: flaky}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a}, to: {connection: away, table: t}, retry: {attempts: 2, backoff: 1h, max_backoff: 1h}}}
users: {ops: {role: operator, password: password-ops}}
`, func(b *bubble) {
		r := b.must("POST", listeners+"/a", b.login(), "{}")
		synctest.Wait() // until the first attempt has failed
		run, err := st.Run(t.Context(), decode[receipt](t, r.body).AuditID)
		if err != nil || run.Status != store.Queued || run.Version == "" {
			t.Fatalf("%+v %v", run, err)
		}
		const changes = 500
		for n := range changes {
			d := integrator.Definitions{Flows: map[string]flow.Definition{"other": {Description: fmt.Sprint(n), Respond: &flow.Respond{}}}}
			if err := b.engine.Define(d); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		sets, err := st.List(t.Context(), "definitions")
		if err != nil || len(sets) > changes/4 || !slices.ContainsFunc(sets, func(e store.Entry) bool { return e.Name == run.Version }) {
			t.Errorf("%d sets are kept after %d changes: %v", len(sets), changes, err)
		}
		if e := b.events.settled(run.Number); e.Run.Status != store.Success || e.Run.Version != run.Version {
			t.Errorf("the retry: %v, with definitions %.12s, begun with %.12s: %s", e.Run.Status, e.Run.Version, run.Version, e.Run.Exception)
		}
	}, func(c *integrator.Config) { c.Connectors, st = []connector.Kind{f.kind()}, c.Store })
}

// TestSecretsOfDefinitions plants secrets, of the host and in plain, in definitions of every owner: no answer has them in any encoding.
func TestSecretsOfDefinitions(t *testing.T) {
	t.Parallel()
	const plain = "canary-in-plain"
	h := start(t, `
connections: {api: {type: http, url: "http://127.0.0.1:9", headers: {X-Key: canary-in-plain}, auth: {type: basic, user: me, password: canary-in-plain}}}
users:
  ed:   {role: editor, password: password-ed}
  root: {role: admin, password: password-root}
  bot:  {role: api, password: canary-in-plain}
`)
	ed, root := h.token("ed", "password-ed"), h.token("root", "password-root")
	var said strings.Builder
	note := func(r reply) {
		fmt.Fprintln(&said, r.header, r.body)
	}
	note(h.put("connections/made", ed, `{type: http, url: "http://127.0.0.1:9", auth: {type: bearer, token: canary-in-plain}}`))
	note(h.put("connections/made2", ed, `{type: http, url: "http://127.0.0.1:9", auth: {type: bearer, token: "${secret.CANARY}"}}`))
	note(h.put("connections/dsn", ed, `{type: sql, driver: none, dsn: "postgres://me:canary-in-plain@db"}`))
	note(h.put("connections/wrong", ed, `{type: http, url: "${secret.CANARY}", auth: {type: "${secret.CANARY}", token: [canary-in-plain]}}`))
	note(h.put("flows/wrong", ed, `{from: {connection: "${secret.CANARY}", query: "select '${secret.CANARY}'"}, respond: {status: "${secret.CANARY}"}}`))
	for _, path := range []string{"connections", "connections/api", "connections/made", "connections/made2", "users", "users/bot"} {
		note(h.get("/rest/v1/"+path, root))
	}
	if r := h.get("/rest/v1/connections/made2", ed); !strings.Contains(r.body, `"token": "${secret.CANARY}"`) {
		t.Errorf("a reference is not as it was written: %s", r.body)
	}
	said.WriteString(h.log.String())
	for _, secret := range []string{plain, "secret-of-CANARY"} {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(said.String(), form) {
				t.Errorf("%s is in\n%s", form, said.String())
			}
		}
	}
}
