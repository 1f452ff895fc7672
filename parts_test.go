package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
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
	l    *ledger
	runs []uuid.UUID
	rows []string
}

func (p *page) Start(run connector.Run, _ []string) (bool, error) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.runs = append(p.runs, run.ID)
	return p.l.applied[run.ID], nil
}

func (p *page) Write(_ int, b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if p.l.write != nil {
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
    steps: [{go: check}, {filter: "n % 5 != 4"}]
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
	undisturbed := []string{"0 1 3 5 6 8", "10 11 13 15 16 18", "20 21 22 23 25 26"}
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
			if attempt == 1 && n == "15" {
				return passing
			}
			return nil
		}, again: "10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26", status: store.Warning},
		"a final no": {write: func(_ int, n string) error {
			if n == "25" {
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
				if attempt == 1 && n == "7" || n == "17" {
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
					c.written = 18
				}
				if e.Run.Status != c.status || e.Run.Read != 27 || e.Run.Written != c.written || e.Run.Rejected != 4 {
					t.Errorf("the run is %v: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
				}
				const rejects = `{"n":2,"_record":3,"_line":1,"_step":"step 1 (go)","_field":"n","_reason":"a dozen"}
{"n":7,"_record":8,"_line":1,"_step":"away","_field":"n","_reason":"unlucky <today>"}
{"n":12,"_record":13,"_line":1,"_step":"step 1 (go)","_field":"n","_reason":"a dozen"}
{"n":17,"_record":18,"_line":1,"_step":"away","_field":"n","_reason":"unlucky <today>"}
`
				if got := b.must("GET", fmt.Sprintf("/rest/v1/runs/%d/rejects", number), token, "").body; got != rejects {
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
