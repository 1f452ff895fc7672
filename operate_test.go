package integrator_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// TestRunLog follows a run that fails once, is interrupted by a stop, and ends in another engine: its log tells all of it.
func TestRunLog(t *testing.T) {
	t.Parallel()
	dir, begun := t.TempDir(), make(chan struct{})
	var calls atomic.Int64
	s := &scripted{}
	s.write = func(b *transform.Batch) error {
		switch calls.Add(1) {
		case 1:
			return errors.New("dial secret-of-HOST:\n2026-01-01T00:00:00Z forged")
		case 2:
			ctx := *s.begun.Load().(*context.Context)
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}
		b.Records[1].Err = &transform.Fault{Reason: "no such customer"}
		return nil
	}
	yaml := `
connections: {away: {type: scripted}}
listeners: {a: {path: /a, format: json}}
vars: {host: "${secret.HOST}"}
flows: {a: {from: {listener: a, records: "[*]"}, to: {connection: away, table: customers, action: upsert}, on_reject: keep, retry: {backoff: 1ms}}}
users: {ops: {role: operator, password: "${secret.HOST}"}}
`
	with := func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()}; c.Limits.DrainTimeout = 1 }
	first := startIn(t, dir, yaml, with)
	r := first.post(listeners+"/a", first.token("ops", "secret-of-HOST"), `[{"n":1},{"n":2}]`)
	run := decode[receipt](t, r.body).AuditID
	<-begun
	first.stop()
	second := startIn(t, dir, yaml, with)
	second.events.settled(run)
	log := second.get(fmt.Sprintf("/rest/v1/runs/%d/log", run), second.token("ops", "secret-of-HOST"))
	if log.status != 200 || log.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("%d %v", log.status, log.header)
	}
	at := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z `)
	got := regexp.MustCompile(`error id \w+`).ReplaceAllString(at.ReplaceAllString(log.body, "AT "), "error id ID")
	want := `AT attempt 1 begins
AT fails (connection, error id ID), with 2 read and 0 rejected: flow "a": away: connection
    dial ***:
    2026-01-01T00:00:00Z forged
AT is tried again at *, because the failure may pass (connection)
AT attempt 2 begins
AT interrupted by the engine's stop; the attempt does not count
AT attempt 2 begins
AT ends in warning: read 2, written 1, rejected 1
AT   away (upsert customers): 1 records
AT   rejected by away: 1 records
`
	if !glob(want, got) {
		t.Errorf("the log is\n%s\nand not\n%s", got, want)
	}
	inGo, err := second.engine.RunLog(t.Context(), run)
	if err != nil || inGo != log.body {
		t.Errorf("in Go it is %v\n%s", err, inGo)
	}
	if _, err := second.engine.RunLog(t.Context(), 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the log of a run that is not there: %v", err)
	}
}

// TestRunLogIsBounded lets thousands of records say much: how the run began and how it ended is kept.
func TestRunLogIsBounded(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json}}
connections: {out: {type: file, dir: out}}
flows: {a: {from: {listener: a, records: "[*]"}, steps: [{go: talk}], to: {connection: out, path: "a.json", format: json}, on_reject: keep}}
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"talk": func(context.Context, *transform.Record) error { return errors.New(strings.Repeat("é", 20_000)) }}
	})
	e := h.send("/a", h.token("ops", "password-ops"), "["+strings.Repeat("{},", 999)+"{}]")
	log, err := h.engine.RunLog(t.Context(), e.Run.Number)
	if err != nil || len(log) > 64<<10 {
		t.Errorf("%d bytes, %v", len(log), err)
	}
	for _, want := range []string{"attempt 1 begins", "lines are left out here", "ends in warning: read 1000, written 0, rejected 1000", "rejected by step 1 (go): 1000 records"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	h.stop() // the line is written after the event
	line := fmt.Sprintf("msg=run flow=a flowID=%d run=%d runID=%s status=warning trigger=listener attempt=1 read=1000 written=0 rejected=1000 took=",
		e.Run.FlowID, e.Run.Number, e.Run.ID)
	if log := h.log.String(); !strings.Contains(log, line) || !strings.Contains(log, "message="+e.Run.Message.String()+" user=ops") {
		t.Errorf("the engine's log does not say %s:\n%s", line, log)
	}
}

// full writes a value with its kinds.
func full(v transform.Value) string {
	switch v.Kind() {
	case transform.KindObject, transform.KindList:
		text := "("
		for i := range v.Len() {
			if v.Kind() == transform.KindObject {
				text += v.Shape().Name(i) + "="
			}
			text += full(v.At(i)) + " "
		}
		return text + ")"
	}
	return fmt.Sprintf("%d:%q", v.Kind(), v.Text())
}

// odd is a format of one record with what JSON cannot tell apart.
type odd struct{ transform.Format }

func (odd) Check(r io.Reader, _ transform.DecodeOptions) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (odd) NewDecoder(io.Reader, transform.DecodeOptions) (transform.Decoder, error) {
	return &oddDecoder{}, nil
}

type oddDecoder struct{ done bool }

func (d *oddDecoder) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if d.done {
		return io.EOF
	}
	d.done = true
	list := transform.List([]transform.Value{transform.Bytes("\xff\x00"), transform.Text("\xfe"), transform.Untyped("\xfd"), transform.Untyped("7"), transform.Text(""), transform.Null, transform.Bool(true)})
	b.Records = append(b.Records, transform.Record{Value: list, Source: list})
	return nil
}

// TestReplayRejects rejects every record of some payloads, and replays what was rejected: the steps see the same records as those of a run that rejects
// none, also in a second attempt, and once.
func TestReplayRejects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	closed, fails := true, 0
	gate := func(_ context.Context, r *transform.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return errors.New("closed")
		}
		scope := r.Scope
		if scope == nil {
			scope = &transform.Scope{}
		}
		seen = append(seen, fmt.Sprintf("%d %d %q %s %s %s", r.Index, r.Line, r.Raw, full(r.Value), full(scope.Parent), full(scope.Doc)))
		return nil
	}
	var written []string
	s := &scripted{write: func(b *transform.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if fails > 0 {
			fails--
			return errors.New("not now")
		}
		for _, r := range b.Records {
			written = append(written, full(r.Value))
		}
		return nil
	}}
	h := start(t, `
connections: {away: {type: scripted}}
listeners:
  csv:  {path: "/csv/{store}", format: csv}
  json: {path: /json, format: json}
  xml:  {path: /xml, format: xml}
  odd:  {path: /odd, format: odd}
flows:
  csv:
    from: {listener: csv}
    steps: [{go: gate}, {map: {total: "= qty * price", store: param.store, kind: "header['x-kind']", many: "= qty > 9", at: "= index"}}]
  json:
    from: {listener: json, records: "orders[*].lines[*]"}
    steps: [{go: gate}, {map: {n: n, order: parent.id, of: doc.of, first: {gjson: tags.0}}}]
  xml:
    from: {listener: xml, records: "/a/b"}
    steps: [{go: gate}, {map: {id: "@id", x: {xpath: "c[2]"}}}]
  odd:
    from: {listener: odd}
    steps: [{go: gate}]
  named:
    params: {day: date, n: int}
    steps: [{go: gate}, {map: {day: day, n: "= n + 1", p: param.n}}]
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) {
		c.Connectors = []connector.Kind{s.kind()}
		c.Formats = []transform.FormatKind{{Name: "odd", New: func(decode func(any) error) (transform.Format, error) { return odd{}, decode(&struct{}{}) }}}
		c.Steps = map[string]transform.Func{"gate": gate}
		d := &c.Definitions
		yaml, err := fs.ReadFile(*d, "integrator.yaml")
		if err != nil {
			t.Fatal(err)
		}
		*d = definitionsOf(strings.ReplaceAll(string(yaml), "    steps: ", "    to: {connection: away, table: t}\n    on_reject: keep\n    retry: {backoff: 1ms}\n    steps: "))
	})
	token := h.token("ops", "password-ops")
	take := func() (got [2][]string) {
		mu.Lock()
		defer mu.Unlock()
		got = [2][]string{seen, written}
		seen, written = nil, nil
		return got
	}
	gateIs := func(is bool, n int) {
		mu.Lock()
		defer mu.Unlock()
		closed, fails = is, n
	}
	for _, send := range []struct {
		name, path, body string
	}{
		{"csv", listeners + "/csv/berlin", "id,qty,price\n007,10,1.10\n8,2,0.5\n\"\",,3\n"},
		{"json", listeners + "/json", `{"of": "shop", "orders": [{"lines": [{"n": 1, "tags": ["a"]}, {"n": 12345678901234567890}], "id": "A"}, {"id": "B", "lines": [{"n": null}]}]}`},
		{"xml", listeners + "/xml", `<a><b id="1"><c>x</c><c>007</c></b><b id="2"/></a>`},
		{"odd", listeners + "/odd", `x`},
		{"named", "", ""},
	} {
		run := func() int64 {
			if send.path != "" {
				return decode[receipt](t, h.post(send.path, token, send.body, "X-Kind: new").body).AuditID
			}
			result, err := h.engine.RunFlow(t.Context(), "named", map[string]any{"day": "2026-01-31", "n": 6})
			if err != nil {
				t.Fatal(err)
			}
			return result.Run
		}
		gateIs(false, 0)
		h.events.settled(run())
		want := take()
		gateIs(true, 0)
		rejecting := h.events.settled(run())
		if rejecting.Run.Status != store.Warning || rejecting.Run.Rejected != int64(len(want[0])) {
			t.Fatalf("%s: the run ended in %v: %+v", send.name, rejecting.Run.Status, rejecting.Run)
		}
		gateIs(false, 1)
		replay, err := h.engine.ReplayRejects(t.Context(), rejecting.Run.Number)
		if err != nil {
			t.Fatalf("%s: %v", send.name, err)
		}
		e := h.events.settled(replay.Runs[0].Number)
		if e.Run.Status != store.Success || e.Run.Attempts != 2 || e.Run.Parent != rejecting.Run.Number || e.Run.Trigger != "replay" {
			t.Errorf("%s: the replay ended as %+v", send.name, e.Run)
		}
		got := take()
		if n := len(want[0]); len(got[0]) != 2*n || !slices.Equal(got[0][:n], want[0]) || !slices.Equal(got[0][n:], want[0]) || !slices.Equal(got[1], want[1]) {
			t.Errorf("%s: the replay saw, in two attempts, and wrote\n%s\nand not\n%s", send.name, strings.Join(append(got[0], got[1]...), "\n"), strings.Join(append(want[0], want[1]...), "\n"))
		}
		second, err := h.engine.ReplayRejects(t.Context(), rejecting.Run.Number)
		if err != nil || !second.Repeated || second.Runs[0] != replay.Runs[0] {
			t.Errorf("%s: once more: %+v, %v", send.name, second, err)
		}
		gateIs(false, 0)
		third, err := h.engine.Replay(t.Context(), replay.Message)
		if err != nil || len(third.Runs) != 1 || third.Runs[0].Flow != send.name {
			t.Fatalf("%s: the records as a message: %+v, %v", send.name, third, err)
		}
		h.events.settled(third.Runs[0].Number)
		if got := take(); !slices.Equal(got[1], want[1]) {
			t.Errorf("%s: the records as a message give %v", send.name, got[1])
		}
		if _, err := h.engine.ReplayRejects(t.Context(), replay.Runs[0].Number); !errors.Is(err, flow.ErrNoRejects) {
			t.Errorf("%s: replay of no rejects: %v", send.name, err)
		}
	}
}

// TestManyRuns cancels runs that wait and one that is at work, and replays those that failed: each once, in their order, page by page.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	fail := true
	s := &scripted{}
	s.write = func(b *transform.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		n := b.Records[0].Value.Field("n").Text()
		switch {
		case n == "hold":
			close(begun)
			select {
			case <-(*s.begun.Load().(*context.Context)).Done():
				return errors.New("stopped")
			case <-release:
			}
		case fail:
			return connector.Permanent(errors.New("no"))
		}
		order = append(order, n)
		return nil
	}
	h := start(t, `
connections: {away: {type: scripted}}
flows:
  a: {params: {n: text}, to: {connection: away, table: t}, max_running: 1}
  b: {params: {n: text}, to: {connection: away, table: t}}
listeners: {c: {path: /c, format: json}}
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
	run := func(flow, n string) int64 {
		result, err := h.engine.RunFlow(t.Context(), flow, map[string]any{"n": n})
		if err != nil {
			t.Fatal(err)
		}
		return result.Run
	}
	var failed []int64
	for n := range 5 {
		failed = append(failed, run("a", fmt.Sprint(n)))
	}
	other := run("b", "other")
	mu.Lock()
	fail = false
	mu.Unlock()
	var replayed []int64
	for after := int64(0); ; {
		done, next, err := h.engine.ReplayRuns(t.Context(), integrator.RunFilter{Flow: "a", Limit: 2, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			if d.Err != nil || d.Skipped || !slices.Contains(failed, d.Run) {
				t.Errorf("replayed: %+v", d)
			}
			if e := h.events.settled(d.As); e.Run.Status != store.Success || e.Run.Parent != d.Run || e.Run.FlowID == 0 {
				t.Errorf("run %d replayed as %+v", d.Run, e.Run)
			}
			replayed = append(replayed, d.Run)
		}
		if after = next; after == 0 {
			break
		}
	}
	if want := []int64{failed[3], failed[4], failed[1], failed[2], failed[0]}; !slices.Equal(replayed, want) || strings.Join(order, "") != "34120" {
		t.Errorf("replayed %v as %v, not %v", replayed, order, want)
	}
	done, _, err := h.engine.ReplayRuns(t.Context(), integrator.RunFilter{})
	if err != nil || len(done) != 6 || done[5].Run != other || done[5].Skipped || !done[0].Skipped {
		t.Errorf("once more: %+v, %v", done, err)
	}
	h.events.settled(done[5].As)
	if again, err := h.engine.ReplayRun(t.Context(), failed[0]); err != nil || again.Repeated || again.Runs[0].Number <= done[5].As {
		t.Errorf("one run, meant so: %+v, %v", again, err)
	} else {
		h.events.settled(again.Runs[0].Number)
	}

	go h.engine.RunFlow(context.WithoutCancel(t.Context()), "a", map[string]any{"n": "hold"})
	<-begun
	var waiting []int64
	for range 3 {
		receipt, err := h.engine.ReplayRun(t.Context(), failed[0])
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, receipt.Runs[0].Number)
	}
	if _, err := h.engine.ReplayRun(t.Context(), waiting[0]); !errors.Is(err, flow.ErrActive) {
		t.Errorf("replay of a run that waits: %v", err)
	}
	done, after, err := h.engine.CancelRuns(t.Context(), integrator.RunFilter{Flow: "a", Limit: 3})
	if err != nil || len(done) != 3 || after != waiting[0] {
		t.Errorf("canceled: %+v, %d, %v", done, after, err)
	}
	rest, after, err := h.engine.CancelRuns(t.Context(), integrator.RunFilter{Flow: "a", Limit: 3, After: after})
	if err != nil || len(rest) != 1 || after != 0 {
		t.Errorf("canceled: %+v, %d, %v", rest, after, err)
	}
	for _, d := range append(done, rest...) {
		if e := h.events.settled(d.Run); d.Err != nil || d.Skipped || e.Run.Status != store.Canceled {
			t.Errorf("canceled: %+v: %v", d, e.Run.Status)
		}
	}
	if _, _, err := h.engine.CancelRuns(t.Context(), integrator.RunFilter{Flow: "c"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a flow that is not defined: %v", err)
	}
	runs, err := h.engine.Runs(t.Context(), integrator.RunFilter{Flow: "a", Status: store.Canceled})
	if err != nil || len(runs) != 4 {
		t.Errorf("the history has %d canceled runs: %v", len(runs), err)
	}
}

// TestDryRunWritesNothing compares the folder of an engine before and after dry runs, of which some fail and some reject much.
func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: "/a/{shop}", format: json}}
flows:
  a:
    from: {listener: a, records: "[*]"}
    steps: [{reject: {when: "n % 2 == 1", reason: odd}}, {map: {n: n, shop: param.shop}}]
    to:
      - {connection: out, path: "a-${param.shop}.csv", format: csv}
      - {connection: out, path: "b.json", format: json, map: {only: "= n * 2"}}
    on_reject: keep
  fails: {params: {n: int}, steps: [{map: {n: n}}, {reject: {when: n > 1, reason: too many}}], to: {connection: out, path: c.json, format: json}}
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) { c.Retention.Runs = -1 })
	var body strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&body, `%s{"n":%d,"text":"%030d"}`, "[,"[min(n, 1):min(n, 1)+1], n, n)
	}
	e := h.send("/a/x", h.token("ops", "password-ops"), body.String()+"]")
	contents := func() (all string) {
		err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), "integrator.") { // the store takes over from its journal when nothing happens
				text, _ := os.ReadFile(path)
				all += fmt.Sprintf("%s %d %x\n", path, len(text), sha256.Sum256(text))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		runs, err := h.engine.Runs(t.Context(), integrator.RunFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range runs {
			all += fmt.Sprintf("run %d %s\n", run.Number, run.Status)
		}
		return all
	}
	before := contents()
	previews, err := h.engine.DryReplay(t.Context(), e.Run.Message)
	if err != nil || len(previews) != 1 {
		t.Fatal(previews, err)
	}
	p := previews[0]
	if p.Read != 5000 || p.Rejected != 2500 || len(p.Rejects) != 10 || p.Exception != "" || len(p.Destinations) != 2 {
		t.Errorf("%+v", p)
	}
	for i, want := range []struct{ where, first string }{{"a-x.csv", `{"n":2,"shop":"x"}`}, {"b.json", `{"only":4}`}} {
		d := p.Destinations[i]
		if d.Connection != "out" || d.Action != "insert" || d.Where != want.where || d.Records != 2500 || len(d.First) != 20 || string(d.First[1]) != want.first {
			t.Errorf("destination %d: %+v", i, d)
		}
	}
	for n, fails := range map[int]string{1: "", 2: "too many"} {
		p, err := h.engine.DryRun(t.Context(), "fails", map[string]any{"n": n})
		if err != nil || (p.Exception != "") != (fails != "") || !strings.Contains(p.Exception, fails) {
			t.Errorf("%d: %+v, %v", n, p, err)
		}
	}
	if _, err := h.engine.DryRun(t.Context(), "fails", map[string]any{"n": "x"}); !errors.As(err, new(*flow.ParamError)) {
		t.Errorf("a wrong parameter: %v", err)
	}
	if after := contents(); after != before {
		t.Errorf("something was written: before\n%s\nafter\n%s", before, after)
	}
}

// TestDryRunOfAnAPI looks at calls whose path is made of the record: nothing is called.
func TestDryRunOfAnAPI(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {api: {type: http, url: "http://127.0.0.1:1"}}
flows:
  a: {params: {n: int}, steps: [{map: {n: n}}], to: {connection: api, path: "/orders/${record.n}"}}
`)
	p, err := h.engine.DryRun(t.Context(), "a", map[string]any{"n": 1})
	if err != nil || p.Exception != "" || len(p.Destinations) != 1 || p.Destinations[0].Records != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}
