package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// scripted is a kind of destinations whose work calls write for each batch.
type scripted struct {
	write  func(b *transform.Batch) error
	closed atomic.Int64
	begun  atomic.Value // the context of the work that was begun last
}

func (s *scripted) kind() connector.Kind {
	return connector.Kind{Name: "scripted", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return s, decode(&struct{}{})
	}}
}

func (s *scripted) Ping(context.Context) error                                { return nil }
func (s *scripted) Close() error                                              { s.closed.Add(1); return nil }
func (s *scripted) PrepareWrite([]connector.Target) (connector.Writer, error) { return s, nil }
func (s *scripted) MaxRuns() int                                              { return 100 }

func (s *scripted) Begin(ctx context.Context) (connector.Work, error) {
	s.begun.Store(&ctx)
	return scriptedWork{s}, nil
}

type scriptedWork struct{ s *scripted }

func (w scriptedWork) Start(connector.Run, []string) (bool, error) { return false, nil }
func (w scriptedWork) Write(_ int, b *transform.Batch) error       { return w.s.write(b) }
func (w scriptedWork) Commit() error                               { return nil }
func (w scriptedWork) Rollback() error                             { return nil }

const scriptedYAML = `
connections: {away: {type: scripted}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a}, to: {connection: away, table: t}, on_reject: keep}}
users: {ops: {role: operator, password: password-ops}}
`

// TestPanicInAGroup lets a destination panic while small runs share its work: the others succeed, and the engine goes on.
func TestPanicInAGroup(t *testing.T) {
	t.Parallel()
	first, gathered := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	s := &scripted{write: func(b *transform.Batch) error {
		if !once.Swap(true) {
			close(first)
			<-gathered
		}
		if b.Records[0].Value.Field("bad").IsTrue() {
			panic("no such luck")
		}
		return nil
	}}
	h := start(t, scriptedYAML, func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
	token := h.token("ops", "password-ops")
	h.post(listeners+"/a", token, "{}")
	<-first // the runs that follow gather behind it
	for i := range 6 {
		h.post(listeners+"/a", token, fmt.Sprintf(`{"bad": %v}`, i == 3))
	}
	close(gathered)
	for run := range int64(7) {
		want := store.Success
		if run == 4 {
			want = store.Error
		}
		if e := h.events.settled(run + 1); e.Run.Status != want || strings.Contains(e.Run.Exception, "luck") {
			t.Errorf("run %d is %v: %s", run+1, e.Run.Status, e.Run.Exception)
		}
	}
	if log := h.log.String(); !strings.Contains(log, "scriptedWork.Write") {
		t.Error("the stack is not in the log")
	}
}

// TestDefineLeavesRunsTheirConnections changes the definitions while a run writes: its connection is closed when it has ended, not before.
func TestDefineLeavesRunsTheirConnections(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	s := &scripted{write: func(*transform.Batch) error {
		close(begun)
		<-release
		return nil
	}}
	h := start(t, scriptedYAML, func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
	h.post(listeners+"/a", h.token("ops", "password-ops"), "{}")
	<-begun
	if err := h.engine.Define(integrator.Definitions{Flows: map[string]flow.Definition{"b": {Respond: &flow.Respond{}}}}); err != nil {
		t.Fatal(err)
	}
	if n := s.closed.Load(); n != 0 {
		t.Errorf("the connection was closed %d times while a run wrote to it", n)
	}
	close(release)
	if e := h.events.settled(1); e.Run.Status != store.Success {
		t.Errorf("the run is %v: %s", e.Run.Status, e.Run.Exception)
	}
	h.stop()
	if n := s.closed.Load(); n != 2 { // of both sets
		t.Errorf("connections were closed %d times", n)
	}
}

// failing is a store whose settlements fail.
type failing struct {
	store.Store
	err error
}

func (f failing) Join(ctx context.Context, engine string) (store.Queue, error) {
	q, err := f.Store.Join(ctx, engine)
	return failingQueue{q, f.err}, err
}

type failingQueue struct {
	store.Queue
	err error
}

func (q failingQueue) Settle(context.Context, []*store.Settlement) error { return q.err }

// TestFailStop lets the store break when a run is settled: who waits is told, Run ends with the cause.
func TestFailStop(t *testing.T) {
	t.Parallel()
	s := &scripted{write: func(*transform.Batch) error { return nil }}
	engine, err := integrator.New(integrator.Config{Store: failing{memstore.New(), fmt.Errorf("fsync: %w", store.ErrBroken)}, Logger: logger(&syncBuffer{}),
		Connectors: []connector.Kind{s.kind()}, Definitions: definitionsOf("connections: {away: {type: scripted}}\nflows: {a: {to: {connection: away, table: t}}}")})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(t.Context()) }()
	<-engine.Ready()
	if result, err := engine.RunFlow(t.Context(), "a", nil); !errors.Is(err, store.ErrBroken) {
		t.Errorf("RunFlow: %+v, %v", result, err)
	}
	if err := <-done; !errors.Is(err, store.ErrBroken) {
		t.Errorf("Run: %v", err)
	}
}

// claims is a store that counts how often somebody asks for runs.
type claims struct {
	store.Store
	n *atomic.Int64
}

func (c claims) Join(ctx context.Context, engine string) (store.Queue, error) {
	q, err := c.Store.Join(ctx, engine)
	return claimsQueue{q, c.n}, err
}

type claimsQueue struct {
	store.Queue
	n *atomic.Int64
}

func (q claimsQueue) Claim(ctx context.Context, want map[int64]store.Want, limit int, now time.Time) ([]store.Run, time.Time, error) {
	q.n.Add(1)
	return q.Queue.Claim(ctx, want, limit, now)
}

// TestNothingIsClaimedWhereNothingWaits lets runs find their places free: the store is not asked for others when they end, because to ask takes
// the longer the more flows there are.
func TestNothingIsClaimedWhereNothingWaits(t *testing.T) {
	t.Parallel()
	s := &scripted{write: func(*transform.Batch) error { return nil }}
	n := new(atomic.Int64)
	inBubble(t, scriptedYAML, func(b *bubble) {
		token := b.login()
		before := int64(0)
		for run := range int64(20) {
			b.must("POST", listeners+"/a", token, "{}")
			b.events.settled(run + 1)
			synctest.Wait()
			if run == 0 { // it may have waited for the first look at what an earlier engine left
				before = n.Load()
			}
		}
		if more := n.Load() - before; more != 0 {
			t.Errorf("the store was asked %d times", more)
		}
	}, func(c *integrator.Config) { c.Connectors, c.Store = []connector.Kind{s.kind()}, claims{c.Store, n} })
}

// TestBacklogComesFirst lets one run work while others queue behind it: they begin in the order in which they came.
func TestBacklogComesFirst(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var order []string
	s := &scripted{write: func(b *transform.Batch) error {
		<-release
		order = append(order, b.Records[0].Value.Field("n").Text())
		return nil
	}}
	h := start(t, strings.Replace(scriptedYAML, "from:", "max_running: 1, from:", 1), func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
	token := h.token("ops", "password-ops")
	for n := range 50 {
		h.post(listeners+"/a", token, fmt.Sprintf(`{"n": %d}`, n))
		if n == 20 {
			close(release)
		}
	}
	for run := range int64(50) {
		h.events.settled(run + 1)
	}
	for i, n := range order {
		if n != fmt.Sprint(i) {
			t.Fatalf("the order is %v", order)
		}
	}
}

// TestWhatGoStepsSay rejects records from Go: what a Fault says reaches the sender, without secrets; other errors are for operators.
func TestWhatGoStepsSay(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json, mode: sync}}
flows: {a: {from: {listener: a}, steps: [{go: step}], respond: {}}}
users: {shop: {role: api, password: "${secret.SHOP}", listeners: [a]}}
`, func(c *integrator.Config) {
		c.Secrets = func(string) (string, bool) { return "canary-of-secrets", true }
		c.Steps = map[string]transform.Func{"step": func(_ context.Context, r *transform.Record) error {
			if r.Value.Field("plain").IsTrue() {
				return errors.New("post http://admin:canary-of-secrets@10.0.0.7: refused")
			}
			return &transform.Fault{Field: "id", Reason: "unknown to canary-of-secrets"}
		}}
	})
	token := h.token("shop", "canary-of-secrets")
	for body, want := range map[string]string{`{"plain": true}`: "the Go function refused the record", `{}`: `"reason":"unknown to ***"`} {
		r := h.post(listeners+"/a", token, body)
		run := decode[struct{ AuditID int64 }](t, r.body).AuditID
		rejects := h.get(fmt.Sprintf("/rest/v1/runs/%d/rejects", run), token)
		if r.status != 422 || !strings.Contains(r.body, want) {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
		if out := r.body + rejects.body; strings.Contains(out, "10.0.0.7") || strings.Contains(out, "canary") {
			t.Errorf("%s comes out: %s", body, out)
		}
	}
	if !strings.Contains(h.log.String(), "10.0.0.7") {
		t.Error("operators do not learn what the step said")
	}
}
