package integrator_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

const orderedYAML = `
connections: {away: {type: scripted}}
listeners: {a: {path: /a, format: json}}
flows:
  a: {from: {listener: a}, order_by: customer.id, to: {connection: away, table: t}, retry: {attempts: 3, backoff: 1s}}
users: {ops: {role: operator, password: password-ops}}
`

// TestOrder sends payloads of several customers at once, each customer's one after the other, to a destination that fails now and then: what
// arrives of one customer arrives in the order in which it was accepted, also where small runs share their work.
func TestOrder(t *testing.T) {
	t.Parallel()
	const customers, payloads = 8, 30
	var mu sync.Mutex
	arrived := map[string][]int{} // by customer
	failures := 0
	s := &scripted{write: func(b *transform.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if rand.IntN(10) == 0 {
			failures++
			return errors.New("not now")
		}
		for _, r := range b.Records {
			var n int
			fmt.Sscan(r.Value.Field("n").Text(), &n)
			id := r.Value.Field("customer").Field("id").Text()
			arrived[id] = append(arrived[id], n)
		}
		return nil
	}}
	h := start(t, strings.Replace(orderedYAML, "attempts: 3, backoff: 1s", "attempts: 1000, backoff: 1ms, max_backoff: 2ms", 1),
		func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
	token := h.token("ops", "password-ops")
	var group sync.WaitGroup
	for customer := range customers {
		group.Go(func() {
			for n := range payloads {
				if r := h.post(listeners+"/a", token, fmt.Sprintf(`{"customer": {"id": %d}, "n": %d}`, customer, n)); r.status != 200 {
					t.Errorf("%d %s", r.status, r.body)
				}
			}
		})
	}
	group.Wait()
	for run := range int64(customers * payloads) {
		if e := h.events.settled(run + 1); e.Run.Status != store.Success {
			t.Fatalf("run %d is %v: %s", run+1, e.Run.Status, e.Run.Exception)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for customer, got := range arrived {
		// A group that is split writes again what it has written: the scripted destination rolls nothing back and knows no runs.
		if got = firsts(got); len(got) != payloads || !slices.IsSorted(got) {
			t.Errorf("customer %s: %v", customer, got)
		}
	}
	if len(arrived) != customers || failures == 0 {
		t.Errorf("%d customers, %d failures", len(arrived), failures)
	}
}

// firsts returns each number where it comes first.
func firsts(all []int) (first []int) {
	for _, n := range all {
		if !slices.Contains(first, n) {
			first = append(first, n)
		}
	}
	return first
}

// TestOrderWaitsForTheHead fails the first run of a key: its followers wait while it waits for its retries, other keys and runs without a key go
// on; when it has ended in error they go on too. A cancel of the head lets them go on at once.
func TestOrderWaitsForTheHead(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var wrote []string
	var away atomic.Bool
	s := &scripted{write: func(b *transform.Batch) error {
		name := b.Records[0].Value.Field("n").Text()
		if away.Load() && strings.HasPrefix(name, "bad") {
			return errors.New("not now")
		}
		mu.Lock()
		defer mu.Unlock()
		wrote = append(wrote, name)
		return nil
	}}
	seen := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(wrote, " ")
	}
	inBubble(t, orderedYAML, func(b *bubble) {
		token := b.login()
		send := func(id, n string) int64 {
			r := b.must("POST", listeners+"/a", token, fmt.Sprintf(`{"customer": {"id": %s}, "n": %q}`, id, n))
			return decode[receipt](t, r.body).AuditID
		}
		away.Store(true)
		head := send("1", "bad")
		follower := send("1", "second")
		third := send("1", "third")
		for _, run := range []int64{send("2", "other"), send("null", "none")} {
			b.events.settled(run)
		}
		if got := seen(); got != "other none" && got != "none other" {
			t.Errorf("while the head waits, %q was written", got)
		}
		b.events.settled(third)
		if got := b.events.settled(head).Run; got.Status != store.Error || got.Attempts != 3 {
			t.Errorf("the head is %v after %d attempts", got.Status, got.Attempts)
		}
		if got := seen(); !strings.HasSuffix(got, " second third") {
			t.Errorf("behind the head, %q was written", got)
		}
		began, ended := b.events.settled(follower).Run, b.events.settled(head).Run
		if began.Started.Before(ended.Ended) {
			t.Error("the follower began before the head had ended")
		}
		token = b.login()
		head, follower = send("1", "bad again"), send("1", "fourth")
		await(b.events, func(e flow.Settled) bool { return e.Run.Number == head }) // its first attempt has failed
		if r := b.must("POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", head), token, ""); r.status >= 300 {
			t.Errorf("cancel: %d %s", r.status, r.body)
		}
		before := time.Now()
		b.events.settled(follower)
		if d := time.Since(before); d > 0 {
			t.Errorf("the follower waited %v for a head that was canceled", d)
		}
	}, func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()} })
}
