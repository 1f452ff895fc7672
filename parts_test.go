package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// ledger is a destination that commits in parts. It keeps what was committed: the records' n, one text for each commit.
type ledger struct {
	write  func(r *transform.Record) error // nil: every record is taken
	commit func(number int) (before, after error)

	mu      sync.Mutex
	tries   int
	commits []string
	parts   map[uuid.UUID][]connector.Checkpoint
	applied map[uuid.UUID]bool
}

func (l *ledger) kind() connector.Kind {
	return connector.Kind{Name: "ledger", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return l, decode(&struct{}{})
	}}
}

func (l *ledger) Ping(context.Context) error                                { return nil }
func (l *ledger) Close() error                                              { return nil }
func (l *ledger) PrepareWrite([]connector.Target) (connector.Writer, error) { return l, nil }
func (l *ledger) MaxRuns() int                                              { return 100 }
func (l *ledger) Begin(ctx context.Context) (connector.Work, error)         { return l.BeginPart(ctx) }
func (l *ledger) BeginPart(context.Context) (connector.Part, error)         { return &page{l: l}, nil }

type page struct {
	l     *ledger
	runs  []uuid.UUID
	rows  []string
	saved int
}

var _ connector.Undoer = (*page)(nil)

func (p *page) Save() error { p.saved = len(p.rows); return nil }
func (p *page) Undo() error { p.rows = p.rows[:p.saved]; return nil }

func (p *page) Start(run connector.Run, _ []string) (bool, error) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.runs = append(p.runs, run.ID)
	return p.l.applied[run.ID], nil
}

func (p *page) Write(_ int, b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if p.l.write != nil && r.Err == nil {
			err := p.l.write(r)
			if fault := (*transform.Fault)(nil); err != nil && !errors.As(err, &fault) {
				return err
			}
			r.Err = err
		}
		if r.Err == nil {
			p.rows = append(p.rows, r.Value.Field("n").Text())
		}
	}
	return nil
}

func (p *page) Checkpoints(each func(connector.Checkpoint) error) error {
	for _, c := range p.l.parts[p.runs[0]] {
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) Checkpoint(c connector.Checkpoint) error {
	return p.end(func() {
		if c.Position > 0 {
			p.l.parts[p.runs[0]] = append(p.l.parts[p.runs[0]], c)
		}
	})
}

func (p *page) Commit() error {
	return p.end(func() {
		for _, run := range p.runs {
			p.l.applied[run] = true
		}
	})
}

func (p *page) Rollback() error { return nil }

func (p *page) end(mark func()) error {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.l.applied == nil {
		p.l.applied, p.l.parts = map[uuid.UUID]bool{}, map[uuid.UUID][]connector.Checkpoint{}
	}
	var before, after error
	if p.l.tries++; p.l.commit != nil {
		before, after = p.l.commit(p.l.tries)
	}
	if before != nil {
		return before
	}
	mark()
	p.l.commits = append(p.l.commits, strings.Join(p.rows, " "))
	return after
}

const partsYAML = `
connections: {away: {type: ledger}, in: {type: file, dir: in}}
listeners: {a: {path: /a, format: json}}
flows:
  load:
    from: {listener: a, records: "[*]"}
    steps: [{go: check}, {filter: "n % 5 != 0"}]
    to: {connection: away, table: t, commit: 10}
    on_reject: keep
    retry: {backoff: 1s}
users: {ops: {role: operator, password: password-ops}}
`

// numbered is a payload of so many records.
func numbered(records int) string {
	var list []string
	for n := range records {
		list = append(list, fmt.Sprintf(`{"n":%d}`, n))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// TestParts commits a load in parts and lets attempts fail in many places. Whatever happened, each record is in the destination once, and the
// run's counters and rejects are those of a run that nothing disturbed, although later attempts would reject nothing.
func TestParts(t *testing.T) {
	t.Parallel()
	passing := errors.New("connection reset")
	undisturbed := []string{"3 4 6 7 8 9", "11 13 14 16 18 19", "21 22 23 24 26"}
	for name, c := range map[string]struct {
		commit  func(number int) (before, after error)
		write   func(attempt int, n string) error
		commits []string
		again   string // records that a later attempt gives to the steps
		status  store.Status
		written int64
	}{
		"undisturbed": {status: store.Warning},
		"the second part fails": {commit: func(n int) (_, _ error) {
			if n == 2 {
				return passing, nil
			}
			return
		}, again: "10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26", status: store.Warning},
		"the answer to the second part is lost": {commit: func(n int) (_, _ error) {
			if n == 2 {
				return nil, passing
			}
			return
		}, again: "20 21 22 23 24 25 26", status: store.Warning},
		"every part's answer is lost": {commit: func(int) (_, _ error) { return nil, passing },
			again: "10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 20 21 22 23 24 25 26 20 21 22 23 24 25 26", status: store.Warning},
		"a write fails": {write: func(attempt int, n string) error {
			if attempt == 1 && n == "16" {
				return passing
			}
			return nil
		}, again: "10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26", status: store.Warning},
		"a final no": {write: func(_ int, n string) error {
			if n == "26" {
				return connector.Permanent(errors.New("no room"))
			}
			return nil
		}, commits: undisturbed[:2], status: store.Error, written: 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			attempt, again := 0, []string{}
			l := &ledger{commit: c.commit}
			l.write = func(r *transform.Record) error {
				mu.Lock()
				defer mu.Unlock()
				n := r.Value.Field("n").Text()
				if c.write != nil {
					if err := c.write(attempt, n); err != nil {
						return err
					}
				}
				if attempt == 1 && n == "1" || n == "17" {
					return &transform.Fault{Kind: "refused", Step: "away", Field: "n", Reason: "unlucky <today>"}
				}
				return nil
			}
			check := func(_ context.Context, r *transform.Record) error {
				mu.Lock()
				defer mu.Unlock()
				n := r.Value.Field("n").Text()
				if attempt > 1 {
					again = append(again, n)
				}
				if attempt == 1 && n == "2" || n == "12" {
					return &transform.Fault{Kind: "input", Field: "n", Reason: "a dozen"}
				}
				return nil
			}
			inBubble(t, partsYAML, func(b *bubble) {
				token := b.login()
				r := b.must("POST", listeners+"/a", token, numbered(27))
				number := decode[receipt](t, r.body).AuditID
				e := b.events.settled(number)
				want := c.commits
				if want == nil {
					want = undisturbed
				}
				if d := cmp.Diff(want, l.commits); d != "" {
					t.Errorf("commits (-expected +got):\n%s", d)
				}
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(again, " "); got != c.again {
					t.Errorf("later attempts gave the steps %s\nexpected %s", got, c.again)
				}
				if c.written == 0 {
					c.written = 17
				}
				if e.Run.Status != c.status || e.Run.Read != 27 || e.Run.Written != c.written || e.Run.Rejected != 4 {
					t.Errorf("the run is %v: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
				}
				const rejects = `{"n":1,"_record":2,"_line":1,"_step":"away","_field":"n","_reason":"unlucky <today>"}
{"n":12,"_record":13,"_line":1,"_step":"step 1 (go)","_field":"n","_reason":"a dozen"}
{"n":17,"_record":18,"_line":1,"_step":"away","_field":"n","_reason":"unlucky <today>"}
{"n":2,"_record":3,"_line":1,"_step":"step 1 (go)","_field":"n","_reason":"a dozen"}
`
				lines := strings.SplitAfter(b.must("GET", fmt.Sprintf("/rest/v1/runs/%d/rejects", number), token, "").body, "\n")
				slices.Sort(lines)
				if got := strings.Join(lines, ""); got != rejects {
					t.Errorf("rejects:\n%s", cmp.Diff(rejects, got))
				}
			}, func(config *integrator.Config) {
				config.Connectors = []connector.Kind{l.kind()}
				config.Steps = map[string]transform.Func{"check": check}
				observer := config.Observer
				config.Observer = flow.ObserverFunc(func(e flow.Event) {
					if started, ok := e.(flow.Started); ok {
						mu.Lock()
						attempt = started.Attempt
						mu.Unlock()
					}
					observer.Observe(e)
				})
			})
		})
	}
}

// TestPartsOfRejectsAlone has parts of which nothing is written: what was rejected in them is decided too.
func TestPartsOfRejectsAlone(t *testing.T) {
	t.Parallel()
	failed := false
	l := &ledger{write: func(r *transform.Record) error {
		if n := r.Value.Field("n").Text(); n == "26" && !failed {
			failed = true
			return errors.New("connection reset")
		}
		return nil
	}}
	check := func(_ context.Context, r *transform.Record) error {
		if r.Index < 20 && !failed {
			return errors.New("early")
		}
		return nil
	}
	inBubble(t, partsYAML, func(b *bubble) {
		r := b.must("POST", listeners+"/a", b.login(), numbered(27))
		e := b.events.settled(decode[receipt](t, r.body).AuditID)
		if e.Run.Status != store.Warning || e.Run.Attempts != 2 || e.Run.Read != 27 || e.Run.Written != 5 || e.Run.Rejected != 20 {
			t.Errorf("the run is %v after %d attempts: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Attempts, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
		}
		if d := cmp.Diff([]string{"", "", "21 22 23 24 26"}, l.commits); d != "" {
			t.Errorf("commits (-expected +got):\n%s", d)
		}
	}, func(c *integrator.Config) {
		c.Connectors, c.Steps = []connector.Kind{l.kind()}, map[string]transform.Func{"check": check}
	})
}

// TestPartsOfReplayedRejects replays records of several parts, few enough to be committed at once with those of another run, and loses the answer to that
// commit: each run finds itself applied.
func TestPartsOfReplayedRejects(t *testing.T) {
	t.Parallel()
	held, gathered := make(chan struct{}), make(chan struct{})
	l := &ledger{
		write: func(r *transform.Record) error {
			if r.Value.Field("n").Text() == "99" {
				close(held)
				<-gathered
			}
			return nil
		},
		commit: func(number int) (before, after error) {
			if number == 8 { // behind three of each payload, and that of the one that is held
				after = errors.New("connection reset")
			}
			return nil, after
		},
	}
	check := func(_ context.Context, r *transform.Record) error {
		if r.Index%5 == 1 {
			return errors.New("never")
		}
		return nil
	}
	h := start(t, partsYAML, func(c *integrator.Config) {
		c.Connectors, c.Steps = []connector.Kind{l.kind()}, map[string]transform.Func{"check": check}
	})
	token := h.token("ops", "password-ops")
	send := func(path, body string) int64 { return decode[receipt](t, h.post(path, token, body).body).AuditID }
	var first, replays []int64
	for range 2 {
		run := send(listeners+"/a", numbered(27))
		h.events.settled(run)
		first = append(first, run)
	}
	send(listeners+"/a", `[{"n": 99}]`)
	<-held
	for _, run := range first {
		replays = append(replays, send(fmt.Sprintf("/rest/v1/runs/%d/rejects/replay", run), ""))
	}
	close(gathered)
	for _, run := range replays {
		if e := h.events.settled(run); e.Run.Status != store.Warning || e.Run.Read != 6 || e.Run.Rejected != 6 {
			t.Errorf("the replay is %v: read %d, rejected %d: %s", e.Run.Status, e.Run.Read, e.Run.Rejected, e.Run.Exception)
		}
	}
	if l.tries != 8 {
		t.Errorf("%d commits, want 8", l.tries)
	}
}

// TestPartsOfACanceledRun stops a run in its second part: the first one stays, and is what the run says is written.
func TestPartsOfACanceledRun(t *testing.T) {
	t.Parallel()
	inSecond, goOn := make(chan struct{}), make(chan struct{})
	l := &ledger{write: func(r *transform.Record) error {
		if r.Value.Field("n").Text() == "16" {
			close(inSecond)
			<-goOn
		}
		return nil
	}}
	h := start(t, strings.Replace(partsYAML, "{go: check}, ", "", 1), func(c *integrator.Config) { c.Connectors = []connector.Kind{l.kind()} })
	token := h.token("ops", "password-ops")
	run := decode[receipt](t, h.post(listeners+"/a", token, numbered(27)).body).AuditID
	<-inSecond
	if r := h.post(fmt.Sprintf("/rest/v1/runs/%d/cancel", run), token, ""); r.status >= 300 {
		t.Errorf("cancel: %d %s", r.status, r.body)
	}
	close(goOn)
	if e := h.events.settled(run); e.Run.Status != store.Canceled || e.Run.Written != 8 || strings.Join(l.commits, "|") != "1 2 3 4 6 7 8 9" {
		t.Errorf("the run is %v, written %d, committed %q: %s", e.Run.Status, e.Run.Written, l.commits, e.Run.Exception)
	}
}

// TestPartsOfASourceThatMayChange begins at the first record in each attempt: what was committed is written again, and takes the same place.
func TestPartsOfASourceThatMayChange(t *testing.T) {
	t.Parallel()
	l := &ledger{commit: func(n int) (_, _ error) {
		if n == 2 {
			return errors.New("connection reset"), nil
		}
		return
	}}
	yaml := strings.NewReplacer("from: {listener: a, ", "listener: a\n    from: {connection: in, path: in.json, format: json, ", "commit: 10}", "action: upsert, key: [n], commit: 10}",
		"{go: check}, ", "").Replace(partsYAML)
	inBubble(t, yaml, func(b *bubble) {
		if err := os.MkdirAll(filepath.Join(b.dir, "in"), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, "in", "in.json"), []byte(numbered(12)), 0o600); err != nil {
			t.Fatal(err)
		}
		r := b.must("POST", listeners+"/a", b.login(), "{}")
		e := b.events.settled(decode[receipt](t, r.body).AuditID)
		if e.Run.Status != store.Success || e.Run.Attempts != 2 || e.Run.Read != 12 || e.Run.Written != 9 {
			t.Errorf("the run is %v after %d attempts: read %d, written %d: %s", e.Run.Status, e.Run.Attempts, e.Run.Read, e.Run.Written, e.Run.Exception)
		}
		if d := cmp.Diff([]string{"1 2 3 4 6 7 8 9", "1 2 3 4 6 7 8 9", "11"}, l.commits); d != "" {
			t.Errorf("commits (-expected +got):\n%s", d)
		}
	}, func(c *integrator.Config) { c.Connectors = []connector.Kind{l.kind()} })
}

// TestRejectOfASecondDestination wants a record that any of a connection's destinations rejects in none of them.
func TestRejectOfASecondDestination(t *testing.T) {
	t.Parallel()
	l := &ledger{write: func(r *transform.Record) error {
		n := r.Value.Field("n").Text()
		if where := r.Value.Field("where").Text(); where == "second" && n == "3" || where == "third" && n == "4" || where == "" && n == "6" {
			return &transform.Fault{Kind: "refused", Step: "away", Reason: "unlucky"}
		}
		return nil
	}}
	yaml := strings.NewReplacer("{go: check}, ", "", "{connection: away, table: t, commit: 10}", `
      - {connection: away, table: t}
      - {connection: away, table: u, map: {n: n, where: "= n == 2 ? date('two', 'yyyy') : 'second'"}}
      - {connection: away, table: v, map: {n: n, where: "= 'third'"}}`).Replace(partsYAML)
	h := start(t, yaml, func(c *integrator.Config) { c.Connectors = []connector.Kind{l.kind()} })
	e := h.send("/a", h.token("ops", "password-ops"), numbered(9))
	if e.Run.Status != store.Warning || e.Run.Read != 9 || e.Run.Written != 3 || e.Run.Rejected != 4 {
		t.Errorf("the run is %v: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
	}
	if d := cmp.Diff([]string{"1 7 8 1 7 8 1 7 8"}, l.commits); d != "" {
		t.Errorf("commits (-expected +got):\n%s", d)
	}
}

// TestPartsInAGroup lets small runs gather: those of one part share a transaction, the one with several has its own.
func TestPartsInAGroup(t *testing.T) {
	t.Parallel()
	first, gathered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := &ledger{write: func(*transform.Record) error {
		once.Do(func() { close(first); <-gathered })
		return nil
	}}
	h := start(t, strings.Replace(partsYAML, "{go: check}, ", "", 1), func(c *integrator.Config) { c.Connectors = []connector.Kind{l.kind()} })
	token := h.token("ops", "password-ops")
	h.post(listeners+"/a", token, numbered(2))
	<-first
	for _, records := range []int{10, 12, 2} {
		h.post(listeners+"/a", token, numbered(records))
	}
	close(gathered)
	for run := range int64(4) {
		if e := h.events.settled(run + 1); e.Run.Status != store.Success {
			t.Errorf("run %d is %v: %s", run+1, e.Run.Status, e.Run.Exception)
		}
	}
	if d := cmp.Diff([]string{"1", "1 2 3 4 6 7 8 9 1", "1 2 3 4 6 7 8 9", "11"}, l.commits); d != "" {
		t.Errorf("commits (-expected +got):\n%s", d)
	}
}

// TestPartsAndCrashes takes a run that was at work in three crashes: it goes on when it came further in one of the last attempts, and is taken
// for the cause otherwise.
func TestPartsAndCrashes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attempt int // that committed a part; 0: none did
		want    store.Status
	}{"no part": {0, store.Error}, "only in the first attempt": {1, store.Error}, "in the second attempt": {2, store.Success}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, st := t.Context(), memstore.New()
			ids, err := st.Numbers(ctx, "flow", "load")
			if err != nil {
				t.Fatal(err)
			}
			queue, err := st.Join(ctx, "crashing")
			if err != nil {
				t.Fatal(err)
			}
			body := store.NewSpool(ctx, st)
			fmt.Fprint(body, numbered(12))
			message := &store.Message{ID: uuid.Must(uuid.NewV7()), Listener: "a", ReceivedAt: time.Now()}
			if message.Body, err = body.Body(); err != nil {
				t.Fatal(err)
			}
			run := &store.Run{ID: uuid.Must(uuid.NewV7()), Flow: "load", FlowID: ids[0], Message: message.ID, Queued: time.Now(), Due: time.Now()}
			if _, err := queue.Accept(ctx, &store.Acceptance{Message: message, Runs: []*store.Run{run}}); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				runs, _, err := queue.Claim(ctx, map[int64]store.Want{ids[0]: {Runs: 1}}, 1, time.Now())
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
			l := &ledger{}
			if c.attempt > 0 {
				l.parts = map[uuid.UUID][]connector.Checkpoint{run.ID: {{Position: 10, Note: fmt.Appendf(nil, `{"attempt":%d,"written":8}`, c.attempt)}}}
				l.applied = map[uuid.UUID]bool{}
			}
			h := start(t, strings.Replace(partsYAML, "{go: check}, ", "", 1), func(config *integrator.Config) {
				config.Dir, config.Store, config.Connectors = "", st, []connector.Kind{l.kind()}
			})
			e := h.events.settled(run.Number)
			if e.Run.Status != c.want || c.want == store.Error && !strings.Contains(e.Run.Exception, "3 times when the engine crashed") {
				t.Errorf("the run is %v: %s", e.Run.Status, e.Run.Exception)
			}
			if c.want == store.Success && (e.Run.Read != 12 || e.Run.Written != 9 || strings.Join(l.commits, "|") != "11") {
				t.Errorf("read %d, written %d, committed now %q", e.Run.Read, e.Run.Written, l.commits)
			}
		})
	}
}

// TestPartsThatCannotBe wants definitions refused whose parts could be lost or written twice.
func TestPartsThatCannotBe(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"{connection: away, table: t, commit: -1}":                                                                           "to[0].commit: a negative number",
		"[{connection: away, table: t, commit: 10}, {connection: away, table: u, commit: 20}]":                               "to[1].commit: the destinations on connection \"away\" are committed together, after every 10 records",
		"[{connection: away, table: t, commit: 10}, {connection: in, path: a, format: json}]":                                "to[0].commit: a run that is committed in parts",
		"{connection: in, path: a, format: json, commit: 10}":                                                                "to[0].commit: a file is put in place as a whole",
		"{connection: whole, table: t, commit: 10}":                                                                          "to[0].commit: connection \"whole\" commits a run as a whole",
		"[{connection: away, table: t, commit: 10}, {connection: away, table: u}]":                                           "",
		"[{connection: away, table: t}, {connection: away, table: u, commit: 10}, {connection: away, table: v, commit: 10}]": "",
	} {
		err := partsFault(t, "listener: a", to)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", to, err)
		}
	}
	const file = "connection: in, path: in.json, format: json"
	for action, want := range map[string]bool{"insert": false, "upsert": true, "update": true, "delete": true} {
		err := partsFault(t, file, "{connection: away, table: t, action: "+action+", key: n, commit: 10}")
		if want != (err == nil) || err != nil && !strings.Contains(err.Error(), "to[0].commit: another attempt reads the source from its first record") {
			t.Errorf("%s from a file: %v", action, err)
		}
	}
}

func partsFault(t *testing.T, from, to string) error {
	l := &ledger{}
	yaml := "connections: {away: {type: ledger}, whole: {type: scripted}, in: {type: file, dir: in}}\nlisteners: {a: {path: /a, format: json}}\nflows: {a: {from: {" + from + "}, to: " + to + "}}"
	_, err := integrator.New(integrator.Config{Dir: t.TempDir(), Definitions: definitionsOf(yaml), Connectors: []connector.Kind{l.kind(), (&scripted{}).kind()}})
	return err
}
