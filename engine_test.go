package integrator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// TestMain makes sure that no goroutine outlives the tests but those of the clients' idle connections, which it closes first.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestNewReportsEveryFaultAndOpensNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, err := integrator.New(integrator.Config{Dir: dir, Definitions: fstest.MapFS{
		"a.yaml": {Data: []byte("listeners:\n  orders: {path: orders, fromat: json}\n")},
		"flows/b.yaml": {Data: []byte(`flows:
  load:
    from: {listener: order}
    steps:
      - map: {total: qty * price}
    to: {connection: warehouse, table: orders}
`)},
	}})
	var faults integrator.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("New: %v", err)
	}
	var got []string
	for _, f := range faults {
		got = append(got, f.Error())
	}
	want := []string{
		`a.yaml:2:18: listeners.orders.path: a listener's path begins with / (write /orders)`,
		`a.yaml:2:26: listeners.orders.fromat: unknown key "fromat" (did you mean format?)`,
		`flows/b.yaml:3:22: flows.load.from.listener: listener "order" is not defined (did you mean orders?)`,
		`flows/b.yaml:5:25: flows.load.steps[0].map.total: qty * price is no path (write = qty * price)`,
		`flows/b.yaml:6:22: flows.load.to[0].connection: connection "warehouse" is not defined (there are no connections)`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New made the store's folder: %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	_, err := integrator.New(integrator.Config{Limits: integrator.Limits{Workers: -1, MaxWaiting: -1, MaxQueued: -1, MaxBodies: -1}, Connectors: []connector.Kind{{Name: "file"}}, Compressions: []file.Compression{{Name: "gzip"}},
		Formats: []transform.FormatKind{{Name: "fixed"}, {Name: "form"}}, Steps: map[string]transform.Func{"a": nil}, Definitions: definitionsOf("flows: {a: {}}")})
	for _, want := range []string{"Dir, the folder", "Limits.Workers", "Limits.MaxWaiting", "Limits.MaxQueued", "Limits.MaxBodies", `Connectors: the name "file" is empty or taken`, `"file" has no New`,
		`Compressions: the name "gzip" is empty or taken`, `"gzip" lacks an Extension`,
		`Formats: the name "fixed" is empty or taken`, `Formats: the name "form" is empty or taken`, `Steps: "a" is nil`, "the flow leads nowhere"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New does not tell %q: %v", want, err)
		}
	}
	if _, err := integrator.New(integrator.Config{Dir: "x", Store: memstore.New()}); err == nil {
		t.Error("New took two stores")
	}
}

func TestEngineThatNeverRuns(t *testing.T) {
	t.Parallel()
	engine, err := integrator.New(integrator.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.RunFlow(t.Context(), "a", nil); !errors.Is(err, flow.ErrStopping) {
		t.Errorf("RunFlow: %v", err)
	}
	if _, err := engine.Store(); !errors.Is(err, flow.ErrStopping) {
		t.Errorf("Store before Run: %v", err)
	}
	if _, err := engine.Auth(); !errors.Is(err, flow.ErrStopping) {
		t.Errorf("Auth: %v", err)
	}
	for range 2 {
		if err := engine.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := engine.Run(t.Context()); err == nil {
		t.Error("a closed engine ran")
	}
}

func TestHandlerOutsideOfRun(t *testing.T) {
	t.Parallel()
	h := start(t, quoteYAML)
	token := h.token("shop", "password-shop")
	var handler http.Handler = h.engine.Handler()
	h.stop()
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/livez", 200}, {"GET", "/readyz", 503}, {"POST", "/rest/v1/token-auth/issue", 503}, {"POST", listeners + "/quote", 503},
		{"GET", "/rest/v1/runs", 503}, {"POST", "/plugins/flows/rest/v1/flow-name/quote/run", 503}, {"GET", "/nothing", 404},
	} {
		request, _ := http.NewRequest(c.method, c.path, strings.NewReader("{}"))
		request.Header.Set("Authorization", "Bearer "+token)
		w := &recorder{header: http.Header{}}
		handler.ServeHTTP(w, request)
		if w.status != c.want || c.want == 503 && w.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d, Retry-After %q, want %d", c.method, c.path, w.status, w.header.Get("Retry-After"), c.want)
		}
	}
}

// recorder is a ResponseWriter without a connection, as some hosts have them.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

const quoteYAML = `
listeners:
  quote: {path: /quote, format: json, mode: sync}
flows:
  quote:
    from: {listener: quote}
    steps: [{map: {sku: sku, price: "= qty >= 10 ? 9.5 : 10"}}]
    respond: {}
users:
  shop: {role: api, password: password-shop, listeners: [quote]}
`

func TestRunsOnce(t *testing.T) {
	t.Parallel()
	h := start(t, quoteYAML)
	if err := h.engine.Run(t.Context()); err == nil {
		t.Error("a second Run was taken")
	}
	h.stop()
	if err := h.engine.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestRestartKeepsTokensUsersAndHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startIn(t, dir, quoteYAML)
	users, err := h.engine.Auth()
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Save(t.Context(), auth.User{Login: "ops", Role: auth.Operator}, "password-ops"); err != nil {
		t.Fatal(err)
	}
	shop, ops := h.token("shop", "password-shop"), h.token("ops", "password-ops")
	if r := h.post(listeners+"/quote", shop, `{"sku":"X","qty":1}`); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	h.stop()
	h = startIn(t, dir, quoteYAML)
	if r := h.post(listeners+"/quote", shop, `{"sku":"X","qty":1}`); r.status != 200 {
		t.Errorf("the token from before the restart: %d %s", r.status, r.body)
	}
	r := h.get("/rest/v1/runs", ops)
	runs := decode[struct {
		Runs []struct{ AuditID, FlowID int64 }
	}](t, r.body).Runs
	if len(runs) != 2 || runs[0].AuditID != runs[1].AuditID+1 || runs[0].FlowID != runs[1].FlowID {
		t.Errorf("history after the restart: %s", r.body)
	}
}

// TestStoppedRunGoesOn stops an engine while a run is at work: the run is interrupted, keeps its attempts, and the next engine ends it.
func TestStoppedRunGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begun := make(chan struct{})
	const yaml = `
connections: {out: {type: file, dir: out}}
listeners:   {orders: {path: /orders, format: json}}
flows:
  load:
    from: {listener: orders, records: "[*]"}
    steps: [{go: work}]
    to: {connection: out, path: "orders.ndjson", format: ndjson}
users: {shop: {role: api, password: password-shop, listeners: [orders]}}
`
	h := startIn(t, dir, yaml, func(c *integrator.Config) {
		c.Limits.DrainTimeout = time.Nanosecond
		c.Steps = map[string]transform.Func{"work": func(ctx context.Context, r *transform.Record) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}}
	})
	r := h.post(listeners+"/orders", h.token("shop", "password-shop"), `[{"id": 1}, {"id": 2}]`)
	run := decode[receipt](t, r.body).AuditID
	<-begun
	h.stop()
	if e := await(h.events, func(e flow.Settled) bool { return e.Run.Number == run }); e.Run.Status != store.Queued || e.Run.Attempts != 0 {
		t.Errorf("after the stop the run is %v with %d attempts", e.Run.Status, e.Run.Attempts)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "orders.ndjson")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the interrupted run left a file: %v", err)
	}
	h = startIn(t, dir, yaml, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"work": func(context.Context, *transform.Record) error { return nil }}
	})
	if e := h.events.settled(run); e.Run.Status != store.Success || e.Run.Attempts != 1 || e.Run.Crashes != 0 {
		t.Errorf("in the end the run is %v after %d attempts and %d crashes: %s", e.Run.Status, e.Run.Attempts, e.Run.Crashes, e.Run.Exception)
	}
	if got := h.read("out/orders.ndjson"); got != "{\"id\":1}\n{\"id\":2}\n" {
		t.Errorf("the file holds %q", got)
	}
}

// TestPoison takes a run that was at work in three crashes: it ends in error, and the runs behind it go on.
// crashed returns a store with a run of the first flow that was at work in some crashes.
func crashed(t *testing.T, flow string, times int) (store.Store, *store.Run) {
	t.Helper()
	st := memstore.New()
	ctx := t.Context()
	ids, err := st.Numbers(ctx, "flow", flow)
	if err != nil {
		t.Fatal(err)
	}
	id := ids[0]
	queue, err := st.Join(ctx, "crashing")
	if err != nil {
		t.Fatal(err)
	}
	run := &store.Run{ID: uuid.New(), Flow: flow, FlowID: id, Trigger: "name", Queued: time.Now(), Due: time.Now()}
	if _, err := queue.Accept(ctx, &store.Acceptance{Runs: []*store.Run{run}}); err != nil {
		t.Fatal(err)
	}
	for range times {
		runs, _, err := queue.Claim(ctx, map[int64]store.Want{id: {Runs: 1}}, 1, time.Now())
		if err != nil || len(runs) != 1 {
			t.Fatalf("claimed %d runs: %v", len(runs), err)
		}
		if err := queue.Begin(ctx, runs); err != nil {
			t.Fatal(err)
		}
		queue.Leave()
		if queue, err = st.Join(ctx, "crashing"); err != nil {
			t.Fatal(err)
		}
	}
	queue.Leave()
	return st, run
}

func TestPoison(t *testing.T) {
	t.Parallel()
	for name, yaml := range map[string]string{
		"answers": "flows: {a: {respond: {}}}",
		"writes":  "connections: {out: {type: file, dir: out}}\nflows: {a: {to: {connection: out, path: a.ndjson, format: ndjson}}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, run := crashed(t, "a", 3)
			h := start(t, yaml, func(c *integrator.Config) { c.Dir, c.Store = "", st })
			if e := h.events.settled(run.Number); e.Run.Status != store.Error || !strings.Contains(e.Run.Exception, "3 times when the engine crashed") {
				t.Errorf("the run is %v: %s", e.Run.Status, e.Run.Exception)
			}
			if result, err := h.engine.RunFlow(t.Context(), "a", nil); err != nil || result.Err != nil {
				t.Errorf("the next run: %v %v", err, result)
			}
		})
	}
}

// TestPoisonThatWasThrough has a run whose third crash came when its destination had committed: it has succeeded, and is no dead letter that
// somebody might replay.
func TestPoisonThatWasThrough(t *testing.T) {
	t.Parallel()
	for crashes, want := range map[int]store.Status{3: store.Success, 4: store.Error} { // the fourth came while that was found out
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			st, run := crashed(t, "a", crashes)
			f := &flaky{applied: true}
			h := start(t, "connections: {away: {type: flaky}}\nflows: {a: {to: {connection: away, table: t}}}", func(c *integrator.Config) {
				c.Dir, c.Store, c.Connectors = "", st, []connector.Kind{f.kind()}
			})
			if e := h.events.settled(run.Number); e.Run.Status != want {
				t.Errorf("the run is %v: %s", e.Run.Status, e.Run.Exception)
			}
			if n := f.committed.Load(); n != 0 {
				t.Errorf("it was committed %d times more", n)
			}
		})
	}
}

func TestRunFlow(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {l: {path: /l, format: json}}
flows:
  double:
    params: {n: {type: decimal, required: true}, day: date}
    steps:
      - reject: {when: "n > 100", reason: too large}
      - map: {n: "= n * 2", day: day}
    on_reject: keep
    respond: {}
  strict:
    params: {n: int}
    steps: [{reject: {when: "n > 100", reason: too large}}]
    to: {connection: out, path: n.ndjson, format: ndjson}
  reads: {from: {listener: l}, to: {connection: out, path: l.ndjson, format: ndjson}}
`)
	ctx := t.Context()
	result, err := h.engine.RunFlow(ctx, "double", map[string]any{"n": 1.25, "day": "2026-01-31"})
	if err != nil {
		t.Fatal(err)
	}
	want := &integrator.Result{Run: result.Run, Status: "success", Read: 1, Written: 1, Response: []byte("{\"n\":2.5,\"day\":\"2026-01-31\"}\n")}
	if d := cmp.Diff(want, result); d != "" {
		t.Error(d)
	}
	result, err = h.engine.RunFlow(ctx, "double", map[string]any{"n": 101})
	if err != nil || result.Status != "warning" || result.Rejected != 1 || len(result.Rejects) != 1 || result.Rejects[0].Reason != "too large" {
		t.Errorf("with a reject: %v %+v", err, result)
	}
	result, err = h.engine.RunFlow(ctx, "strict", map[string]any{"n": 101})
	var failure *flow.Failure
	if err != nil || result.Status != "error" || !errors.As(result.Err, &failure) || failure.Kind != flow.KindInput || failure.Record != 1 {
		t.Errorf("a failure: %v %+v", err, result)
	}
	var params *flow.ParamError
	if _, err := h.engine.RunFlow(ctx, "double", map[string]any{"m": 1}); !errors.As(err, &params) || len(params.Faults) != 2 {
		t.Errorf("wrong parameters: %v", err)
	}
	if _, err := h.engine.RunFlow(ctx, "double", map[string]any{"n": struct{}{}}); err == nil {
		t.Error("a struct was taken for a parameter")
	}
	if _, err := h.engine.RunFlow(ctx, "nothing", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown flow: %v", err)
	}
	if _, err := h.engine.RunFlow(ctx, "reads", nil); err == nil {
		t.Error("a flow that reads a listener ran without a payload")
	}
}

func TestDefine(t *testing.T) {
	t.Parallel()
	h := start(t, quoteYAML)
	token := h.token("shop", "password-shop")
	definitions := integrator.Definitions{
		Listeners: map[string]listener.Definition{"echo": {Path: "/echo", Mode: "sync", Format: []transform.FormatRef{{Type: "json"}}}},
		Flows: map[string]flow.Definition{"echo": {From: &flow.From{Listener: "echo"}, Respond: &flow.Respond{Headers: map[string]string{"X-Run": "${run.number}"}},
			Steps: []flow.Step{{Map: transform.Map{{Name: "said", Term: transform.Term{Text: "text"}}}}}}},
		Users: map[string]auth.UserDefinition{"go": {Role: auth.API, Password: "password-go", Listeners: []string{"echo"}}},
	}
	if err := h.engine.Define(definitions); err != nil {
		t.Fatal(err)
	}
	if r := h.post(listeners+"/echo", h.token("go", "password-go"), `{"text": "hello"}`); r.status != 200 || r.body != "{\"said\":\"hello\"}\n" {
		t.Errorf("what was defined in Go: %d %s", r.status, r.body)
	}
	if r := h.post(listeners+"/quote", token, `{"sku": "X", "qty": 1}`); r.status != 200 {
		t.Errorf("what files define: %d %s", r.status, r.body)
	}
	broken := integrator.Definitions{Flows: map[string]flow.Definition{"echo": {From: &flow.From{Listener: "echo"}, Steps: []flow.Step{{Filter: "a >"}}}}}
	var faults integrator.Faults
	if err := h.engine.Define(broken); !errors.As(err, &faults) || faults[0].Path != "flows.echo.steps[0].filter" {
		t.Errorf("what cannot work: %v", err)
	}
	if r := h.post(listeners+"/echo", h.token("go", "password-go"), `{"text": "again"}`); r.status != 200 {
		t.Errorf("what was in force before the refusal: %d %s", r.status, r.body)
	}
	clash := integrator.Definitions{Listeners: map[string]listener.Definition{"quote": {Path: "/other"}}}
	if err := h.engine.Define(clash); err == nil {
		t.Error("a name that files own was defined in Go")
	}
}

// TestTwoEngines runs two engines in one process: neither notices the other, and they cannot share a folder.
func TestTwoEngines(t *testing.T) {
	t.Parallel()
	a, b := start(t, quoteYAML), start(t, quoteYAML)
	token := a.token("shop", "password-shop")
	if r := b.post(listeners+"/quote", token, "{}"); r.status != http.StatusUnauthorized {
		t.Errorf("the other engine's token: %d", r.status)
	}
	third, err := integrator.New(integrator.Config{Dir: filepath.Join(a.dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Run(t.Context()); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), filepath.Join(a.dir, "data")) {
		t.Errorf("a third engine in the first one's folder: %v", err)
	}
}

func TestGoSteps(t *testing.T) {
	t.Parallel()
	h := start(t, `
flows:
  all:
    steps: [{go: step}]
    on_reject: keep
    respond: {}
`, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"step": func(_ context.Context, r *transform.Record) error {
			switch r.Value.Field("do").Text() {
			case "drop":
				return transform.ErrDrop
			case "reject":
				return errors.New("not this one")
			case "panic":
				panic("secret of the payload")
			}
			r.Value = r.Value.With("seen", transform.Bool(true))
			return nil
		}}
	})
	for do, want := range map[string]string{"pass": `success {"do":"pass","seen":true}`, "drop": "success null", "reject": `warning null`, "panic": "warning null"} {
		result, err := h.engine.RunFlow(t.Context(), "all", map[string]any{"do": do})
		if err != nil {
			t.Fatal(err)
		}
		if do == "panic" && result.Rejects[0].Reason != "the Go function panicked" {
			t.Errorf("the reason of a panic is %q", result.Rejects[0].Reason)
		}
		if got := fmt.Sprintf("%s %s", result.Status, bytes.TrimSpace(result.Response)); got != want {
			t.Errorf("%s: %s, want %s", do, got, want)
		}
	}
}

func TestVerifierOfTheHost(t *testing.T) {
	t.Parallel()
	h := start(t, quoteYAML, func(c *integrator.Config) {
		c.Verifier = auth.VerifierFunc(func(_ context.Context, r *http.Request) (auth.Principal, error) {
			switch r.Header.Get("X-Who") {
			case "":
				return auth.Principal{}, auth.ErrNoCredentials
			case "nobody":
				return auth.Principal{Role: auth.API, Listeners: []string{"quote"}}, nil
			case "broken":
				return auth.Principal{}, errors.New("the directory at 10.1.2.3 does not answer")
			}
			return auth.Principal{Login: "host", Role: auth.API, Listeners: []string{"quote"}}, nil
		})
	})
	for who, want := range map[string]int{"": 401, "me": 200, "broken": 500, "nobody": 500} {
		r := h.post(listeners+"/quote", "", `{"sku":"X","qty":1}`, "X-Who: "+who)
		if r.status != want || strings.Contains(r.body, "10.1.2.3") || (r.status == 500) != strings.Contains(r.body, `problem:internal"`) {
			t.Errorf("%q: %d %s", who, r.status, r.body)
		}
	}
}

// TestMissedPaths maps fields that some records have, that none has, and about which nobody can tell.
func TestMissedPaths(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 10} { // few records are mapped in another way than many
		missedPaths(t, rows)
	}
}

func missedPaths(t *testing.T, rows int) {
	h := start(t, `
connections: {in: {type: file, dir: .}}
flows:
  all:
    from: {connection: in, path: in.ndjson, format: ndjson}
    steps:
      - map:
          id: id
          some: some
          missing: mising
          deep: customer.frist
          through: maybe.of.null
          list: lines[*].sku
          odd: lines[*].quantity
          empty: none[*].sku
          each: {each: "lines[*]", map: {a: sku, b: skuu}}
          expression: "= nothing"
    respond: {}
`)
	if err := os.WriteFile(filepath.Join(h.dir, "in.ndjson"), []byte(`{"id": 1, "some": null, "customer": {"first": "A"}, "maybe": null, "lines": [{"sku": 1}], "none": []}
`+strings.Repeat(`{"id": 2, "customer": {}, "maybe": null, "lines": [], "none": []}`+"\n", rows)), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := h.engine.RunFlow(t.Context(), "all", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"mising", "customer.frist", "lines[*].quantity", "skuu"}, result.Missed); d != "" || result.Status != "success" {
		t.Error(result.Status, result.Err, d)
	}
	if !strings.Contains(h.log.String(), "noRecordHas=") {
		t.Error("the log does not tell")
	}
}

// TestFileRecordsKnowTheirDocument reads records of a file with what encloses them, and with their own text.
func TestFileRecordsKnowTheirDocument(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {in: {type: file, dir: .}}
flows:
  all:
    from: {connection: in, path: in.json, format: json, records: "lines[*]"}
    steps:
      - map: {sku: sku, order: parent.id, paid: "= doc.paid", own: {gjson: sku}}
    respond: {}
`)
	if err := os.WriteFile(filepath.Join(h.dir, "in.json"), []byte(`{"id": 7, "lines": [{"sku": "a"}], "paid": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := h.engine.RunFlow(t.Context(), "all", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(result.Response), "[\n{\"sku\":\"a\",\"order\":7,\"paid\":true,\"own\":\"a\"}\n]\n"; got != want {
		t.Errorf("the flow answers %s, want %s", got, want)
	}
}

// TestRefusedLargePayloadLeavesNothing sends bodies that are spooled to files and then not accepted.
func TestRefusedLargePayloadLeavesNothing(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners:
  a: {path: /a, format: json}
  s: {path: /s, format: json, mode: sync}
flows:
  a: {from: {listener: a}, to: {connection: out, path: a.ndjson, format: ndjson}}
  s: {from: {listener: s}, respond: {}}
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) { c.Limits.MaxWaiting = 1 })
	token, body := h.token("ops", "password-ops"), `"`+strings.Repeat("x", store.InlineBytes)
	for range 2 {
		if r := h.post(listeners+"/a", token, body+`"`, "Idempotency-Key: 1"); r.status != http.StatusOK {
			t.Fatal(r.status, r.body)
		}
	}
	if r := h.post(listeners+"/a", token, body+`y"`, "Idempotency-Key: 1"); r.status != http.StatusUnprocessableEntity {
		t.Fatal(r.status, r.body)
	}
	if r := h.post(listeners+"/a", token, body); r.status != http.StatusBadRequest {
		t.Fatal(r.status, r.body)
	}
	blobs, err := filepath.Glob(filepath.Join(h.dir, "data", "blobs", "*", "*"))
	if err != nil || len(blobs) != 1 {
		t.Errorf("there are %d blobs of one message: %v", len(blobs), err)
	}
}

// TestReplay sends a payload that a flow cannot use, mends the flow, and runs the payload again.
func TestReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const yaml = `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a}, steps: [{map: {n: "= number(WHAT)"}}], to: {connection: out, path: "${run.number}.ndjson", format: ndjson}}}
users: {ops: {role: operator, password: password-ops}}
`
	h := startIn(t, dir, strings.Replace(yaml, "WHAT", "text", 1))
	e := h.send("/a", h.token("ops", "password-ops"), `{"text": "one", "n": 1}`)
	if e.Run.Status != store.Error {
		t.Fatalf("the run is %v", e.Run.Status)
	}
	h.stop()
	h = startIn(t, dir, strings.Replace(yaml, "WHAT", "n", 1))
	receipt, err := h.engine.Replay(t.Context(), e.Run.Message)
	if err != nil {
		t.Fatal(err)
	}
	again := h.events.settled(receipt.Runs[0].Number)
	if again.Run.Status != store.Success || again.Run.Parent != e.Run.Number || again.Run.Message != e.Run.Message || receipt.Message != e.Run.Message {
		t.Errorf("%+v: %s", again.Run, again.Run.Exception)
	}
	if _, err := h.engine.Replay(t.Context(), uuid.New()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown message: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a, records: "[*]"}, steps: [{reject: {when: n > 1}}], on_reject: keep, to: {connection: out, path: a.ndjson, format: ndjson}}}
users: {ops: {role: viewer, password: password-ops}, shop: {role: api, password: password-shop, listeners: [a]}}
`)
	shop := h.token("shop", "password-shop")
	h.send("/a", shop, `[{"n": 1}, {"n": 2}, {"n": 1}]`)
	h.post(listeners+"/a", shop, `[`)
	h.post(listeners+"/a", "", `[]`)
	r := h.get("/metrics", h.token("ops", "password-ops"))
	for _, want := range []string{
		`integrator_accepted_total{listener="a"} 1`, `integrator_accepted_bytes_total{listener="a"} 30`, `integrator_runs_total{flow="a",status="warning"} 1`,
		`integrator_records_total{flow="a",what="read"} 3`, `integrator_records_total{flow="a",what="written"} 2`,
		`integrator_records_total{flow="a",what="rejected"} 1`, `integrator_refused_total{listener="a",reason="payload-malformed"} 1`,
		`integrator_refused_total{listener="a",reason="unauthorized"} 1`, `integrator_run_seconds_count{flow="a"} 1`, "integrator_runs_queued 0", "integrator_store_failures_total 0",
	} {
		if !strings.Contains(r.body, want+"\n") {
			t.Errorf("there is no %s in\n%s", want, r.body)
		}
	}
	if r := h.get("/metrics", shop); r.status != http.StatusForbidden {
		t.Errorf("for an api user: %d", r.status)
	}
}

// TestMetricsAreListed compares the table in HTTP.md with the metrics of an engine that has done a bit of everything.
func TestMetricsAreListed(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a, records: "[*]"}, to: {connection: out, path: a.ndjson, format: ndjson}}}
users: {ops: {role: viewer, password: password-ops}, shop: {role: api, password: password-shop, listeners: [a]}}
`)
	h.post(listeners+"/a", "", `[]`)
	h.send("/a", h.token("shop", "password-shop"), `[{"n": 1}]`)
	if e := await(h.events, func(flow.Delivered) bool { return true }); e.Connection != "out" || e.Err != nil {
		t.Errorf("%+v", e)
	}
	await(h.events, func(e flow.Committed) bool { return e.Operations > 0 })
	await(h.events, func(e flow.Checkpointed) bool { return e.Journal > 0 })
	got := map[string]string{} // labels by name
	sample := regexp.MustCompile(`^(integrator_\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	for _, line := range strings.Split(strings.TrimSpace(h.get("/metrics", h.token("ops", "password-ops")).body), "\n") {
		found := sample.FindStringSubmatch(line)
		if found == nil {
			t.Errorf("what is %q?", line)
			continue
		}
		var names []string
		for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(found[3], -1) {
			if label[1] != "le" {
				names = append(names, label[1])
			}
		}
		got[found[1]] = strings.Join(names, ", ")
	}
	page, err := os.ReadFile("HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(integrator_\\w+)` \\| ([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		want[row[1]] = strings.TrimSpace(row[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("difference from HTTP.md (-) to what is there (+):\n%s", diff)
	}
}

func jsonText(v transform.Value) string {
	text, err := jsonfmt.Append(nil, v)
	return string(text) + fmt.Sprint(err)
}

// TestMemoryOfBatches converts a file that fills many batches. Where all steps are built in, their memory is used again; a Go step may hold the
// values that it sees for as long as it likes.
func TestMemoryOfBatches(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	for name, step := range map[string]string{"used again": "", "held by a Go step": "\n      - go: hold"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in, want strings.Builder
			for i := range rows {
				fmt.Fprintf(&in, `{"n": %d, "name": "row %d \u00e9", "lines": [{"sku": "s%d", "qty": %d}, {"sku": "t%d"}], "more": {"a": [%d]}}`+"\n", i, i, i, i%7, i, i)
				if i%1000 == 5 || i%3 == 0 { // rejected, and left out
					continue
				}
				fmt.Fprintf(&want, `{"id":%d,"who":"row %d é","skus":["s%d","t%d"],"twice":%d,"lines":[{"sku":"s%d","qty":%d},{"sku":"t%d"}],"deep":[%d],"note":"row %d é!"}`+"\n", i, i, i, i, 2*(i%7), i, i%7, i, i, i)
			}
			var held []transform.Value
			var then []string
			h := start(t, `
connections: {here: {type: file, dir: .}}
flows:
  convert:
    from: {connection: here, path: in.ndjson, format: ndjson}
    on_reject: keep
    steps:
      - filter: n % 3 != 0
      - reject: {when: n % 1000 == 5, reason: five}`+step+`
      - map: {id: n, who: name, skus: "lines[*].sku", twice: "= lines[0].qty * 2", lines: lines, deep: more.a, gone: nothing}
      - set: {note: "= who + '!'"}
      - drop: gone
    to: {connection: here, path: out.ndjson, format: ndjson}
`, func(c *integrator.Config) {
				c.Steps = map[string]transform.Func{"hold": func(_ context.Context, r *transform.Record) error {
					held, then = append(held, r.Value), append(then, jsonText(r.Value))
					return nil
				}}
			})
			if err := os.WriteFile(filepath.Join(h.dir, "in.ndjson"), []byte(in.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			result, err := h.engine.RunFlow(t.Context(), "convert", nil)
			if err != nil || result.Err != nil {
				t.Fatal(err, result.Err)
			}
			got, err := os.ReadFile(filepath.Join(h.dir, "out.ndjson"))
			if err != nil || string(got) != want.String() {
				t.Errorf("the file has %d bytes (%v) and should have %d:\n%.300s\n%.300s", len(got), err, want.Len(), got, want.String())
			}
			for i, v := range held {
				if shown := jsonText(v); shown != then[i] {
					t.Fatalf("a value that was held has changed:\n%s\n%s", then[i], shown)
				}
			}
			if (step != "") != (len(held) > rows/2) {
				t.Errorf("%d values were held", len(held))
			}
		})
	}
}
