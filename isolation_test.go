package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// stuck is a kind of destinations whose work waits for its context to end, or for release.
type stuck struct {
	scripted
	release chan struct{}
	begun   chan struct{} // told of each work that waits
	atWork  atomic.Int64
	most    atomic.Int64 // at work at a time
}

func newStuck() *stuck { return &stuck{release: make(chan struct{}), begun: make(chan struct{}, 1000)} }

func (s *stuck) kind() connector.Kind {
	return connector.Kind{Name: "stuck", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return s, decode(&struct{}{})
	}}
}

func (s *stuck) PrepareWrite([]connector.Target) (connector.Writer, error) { return s, nil }
func (s *stuck) MaxRuns() int                                              { return 1 }
func (s *stuck) Begin(ctx context.Context) (connector.Work, error) {
	return stuckWork{scriptedWork{&s.scripted}, s, ctx}, nil
}

type stuckWork struct {
	scriptedWork
	s   *stuck
	ctx context.Context
}

func (w stuckWork) Write(int, *transform.Batch) error {
	n := w.s.atWork.Add(1)
	defer w.s.atWork.Add(-1)
	for most := w.s.most.Load(); n > most && !w.s.most.CompareAndSwap(most, n); most = w.s.most.Load() {
	}
	w.s.begun <- struct{}{}
	select {
	case <-w.s.release:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// TestSlowDestination blocks the destination of several flows that have more to do than there are workers: the runs of other flows are executed
// without any delay, synchronous calls too, max_running holds, and a cancel reaches the connector that blocks.
func TestSlowDestination(t *testing.T) {
	t.Parallel()
	const slowFlows, quickFlows, payloads = 5, 3, 30
	var yaml strings.Builder
	yaml.WriteString("connections: {slow: {type: stuck}, quick: {type: scripted}}\nlisteners:\n  quote: {path: /quote, format: json, mode: sync}\n")
	for _, kind := range []string{"slow", "quick"} {
		for i := range slowFlows {
			fmt.Fprintf(&yaml, "  %[1]s%[2]d: {path: /%[1]s%[2]d, format: json}\n", kind, i)
		}
	}
	yaml.WriteString("flows:\n  quote: {from: {listener: quote}, to: {connection: quick, table: t}}\n")
	for i := range slowFlows {
		fmt.Fprintf(&yaml, "  slow%[1]d: {from: {listener: slow%[1]d}, to: {connection: slow, table: t}%[2]s}\n", i, map[bool]string{true: ", max_running: 2"}[i == 0])
		fmt.Fprintf(&yaml, "  quick%[1]d: {from: {listener: quick%[1]d}, to: {connection: quick, table: t}}\n", i)
	}
	yaml.WriteString("users: {ops: {role: operator, password: password-ops}}\n")
	s, quick := newStuck(), &scripted{write: func(*transform.Batch) error { return nil }}
	inBubble(t, yaml.String(), func(b *bubble) {
		token := b.login()
		send := func(path string) int64 {
			r := b.must("POST", listeners+path, token, "{}")
			if r.status != 200 {
				t.Fatalf("%s: %d %s", path, r.status, r.body)
			}
			return decode[receipt](t, r.body).AuditID
		}
		var blocked []int64
		for range payloads {
			blocked = append(blocked, send("/slow0"))
		}
		for range 2 {
			<-s.begun
		}
		if most := s.most.Load(); most != 2 {
			t.Errorf("%d runs of a flow with max_running: 2 are at work", most)
		}
		for i := 1; i < slowFlows; i++ {
			for range payloads {
				blocked = append(blocked, send(fmt.Sprintf("/slow%d", i)))
			}
			<-s.begun // each of the flows is at work
		}
		began := time.Now()
		for range payloads {
			for i := range quickFlows {
				if e := b.events.settled(send(fmt.Sprintf("/quick%d", i))); e.Run.Status != store.Success {
					t.Errorf("a run of another flow is %v: %s", e.Run.Status, e.Run.Exception)
				}
			}
			send("/quote")
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("other flows waited for %v", took)
		}
		for _, run := range blocked[:payloads] { // those at work, and those that wait
			if r := b.must("POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", run), token, ""); r.status >= 300 {
				t.Errorf("cancel: %d %s", r.status, r.body)
			}
		}
		for _, run := range blocked[:payloads] {
			if e := b.events.settled(run); e.Run.Status != store.Canceled {
				t.Errorf("a run that was canceled is %v", e.Run.Status)
			}
		}
		close(s.release)
		for _, run := range blocked[payloads:] {
			if e := b.events.settled(run); e.Run.Status != store.Success {
				t.Errorf("a run that was blocked is %v: %s", e.Run.Status, e.Run.Exception)
			}
		}
	}, func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind(), quick.kind()} })
}

// TestFlappingDestination lets a destination come and go, for ten seconds each: every run gets through, once, and while runs wait for their next
// attempt the one worker there is serves others.
func TestFlappingDestination(t *testing.T) {
	t.Parallel()
	const payloads = 40
	var mu sync.Mutex
	written := map[string]int{}
	var began time.Time
	away := func() bool { return int(time.Since(began)/(10*time.Second))%2 == 0 }
	s := &scripted{write: func(b *transform.Batch) error {
		if away() {
			return errors.New("not now")
		}
		mu.Lock()
		defer mu.Unlock()
		written[b.Records[0].Value.Field("n").Text()]++
		return nil
	}}
	inBubble(t, strings.NewReplacer("on_reject: keep}}", "retry: {attempts: 20, backoff: 1s, max_backoff: 4s}, group: 1}, quote: {from: {listener: quote}, respond: {}, max_running: 1}}",
		"listeners: {", "listeners: {quote: {path: /quote, format: json, mode: sync}, ").Replace(scriptedYAML), func(b *bubble) {
		began = time.Now()
		token := b.login()
		for n := range payloads {
			b.must("POST", listeners+"/a", token, fmt.Sprintf(`{"n": %d}`, n))
		}
		for run := range int64(payloads) {
			await(b.events, func(e flow.Settled) bool { return e.Run.Number == run+1 }) // its first attempt has failed
		}
		before := time.Now()
		if r := b.must("POST", listeners+"/quote", token, "{}"); r.status != 200 || time.Since(before) > 0 {
			t.Errorf("another flow's call took %v: %d %s", time.Since(before), r.status, r.body)
		}
		for run := range int64(payloads) {
			e := b.events.settled(run + 1).Run
			if e.Status != store.Success || e.Attempts < 4 || e.Attempts > 8 { // 1 + 2 + 4 + 4 … seconds until the destination is back
				t.Errorf("run %d is %v after %d attempts", e.Number, e.Status, e.Attempts)
			}
			if took := e.Ended.Sub(e.Queued); took < 10*time.Second || took > 15*time.Second {
				t.Errorf("run %d took %v", e.Number, took)
			}
		}
	}, func(c *integrator.Config) {
		c.Connectors, c.Limits.Workers = []connector.Kind{s.kind()}, 1
	})
	for n := range payloads {
		if times := written[fmt.Sprint(n)]; times != 1 {
			t.Errorf("payload %d was written %d times", n, times)
		}
	}
}
