// Package storetest is what every back end of package store passes:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{New: open, Reopen: reopen, Exclusive: true})
//	}
//
// Each promise of package store is a named case. A fault that was found in one back end becomes a case here.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/integrator-go/integrator/store"
)

// Harness makes the stores of a back end and says what it is.
type Harness struct {
	// New returns an empty store. The suite closes it.
	New func(tb testing.TB) store.Store

	// Reopen ends st, without an orderly end where it can, and opens again what st has kept. nil: nothing survives, and the cases
	// about that are skipped.
	Reopen func(tb testing.TB, st store.Store) store.Store

	// Damage changes a stored byte in the middle of a blob. nil: the case about that is skipped.
	Damage func(tb testing.TB, st store.Store, blob uuid.UUID)

	// Exclusive says that one epoch is open at a time.
	Exclusive bool
}

// Run checks every promise. The calling test is not parallel: the first case looks for goroutines that are left behind. The cases after it
// are.
func Run(t *testing.T, h Harness) {
	t.Run("no goroutine is left", func(t *testing.T) { noGoroutineLeft(t, h) }) // not parallel: it sees the goroutines of others
	for _, cases := range []map[string]func(*testing.T, Harness){acceptCases, claimCases, settleCases, epochCases, historyCases, catalogCases, blobCases, lifeCases} {
		for name, check := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				check(t, h)
			})
		}
	}
	t.Run("a model", func(t *testing.T) {
		t.Parallel()
		checkModel(t, h)
	})
}

func noGoroutineLeft(t *testing.T, h Harness) {
	before := goleak.IgnoreCurrent()
	r := begin(t, h)
	r.accept(&store.Acceptance{Runs: []*store.Run{r.newRun(1)}})
	r.claim(1)
	r.check(r.Close())
	goleak.VerifyNone(t, before)
}

// rig is a fresh store with an engine that has joined.
type rig struct {
	*testing.T
	store.Store
	queue store.Queue
	h     Harness
	ctx   context.Context
}

func begin(t *testing.T, h Harness) *rig {
	t.Helper()
	r := &rig{T: t, h: h, Store: h.New(t), ctx: t.Context()}
	t.Cleanup(func() { r.Store.Close() })
	r.join()
	return r
}

func (r *rig) join() {
	r.Helper()
	queue, err := r.Join(r.ctx, "suite")
	r.check(err)
	r.queue = queue
}

// reopen ends the store and joins what it has kept.
func (r *rig) reopen() {
	r.Helper()
	if r.h.Reopen == nil {
		r.Skip("nothing survives in this back end")
	}
	r.Store = r.h.Reopen(r.T, r.Store)
	r.join()
}

func (r *rig) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// is checks that an error is what was promised.
func (r *rig) is(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Fatalf("the error is %v, not %v", err, want)
	}
}

// same checks that two values are equal; empty and nil are.
func (r *rig) same(got, want any) {
	r.Helper()
	if diff := difference(got, want); diff != "" {
		r.Fatalf("difference from what is wanted (-) to what is there (+):\n%s", diff)
	}
}

func difference(got, want any) string {
	if reflect.DeepEqual(got, want) {
		return "" // found much sooner than by cmp
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

// noon is when the runs of the suite are queued and due, unless they say otherwise.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// newRun returns a run as a caller of Accept fills it in.
func (r *rig) newRun(flow int64) *store.Run {
	return &store.Run{ID: newID(), Flow: fmt.Sprint("flow ", flow), FlowID: flow, Trigger: "listener", User: "ann", Params: []byte(`{"a":1}`), Queued: noon, Due: noon}
}

func (r *rig) newMessage(body string) *store.Message {
	return &store.Message{
		ID: newID(), Listener: "orders", User: "ann", ReceivedAt: noon, Method: "POST",
		Params: []store.Pair{{Name: "id", Value: "7"}, {Name: "id", Value: "8"}}, Query: []store.Pair{{Name: "", Value: ""}, {Name: "q", Value: "ä\x00"}},
		Header: []store.Pair{{Name: "Content-Type", Value: "text/csv"}}, Format: "csv", Body: inline(body), RejectsOf: 1 << 40, // no run of the suite
	}
}

func inline(body string) store.Body {
	return store.Body{Inline: []byte(body), Size: int64(len(body)), SHA256: sha256.Sum256([]byte(body))}
}

// of returns a message with runs of the flows.
func (r *rig) of(m *store.Message, flows ...int64) *store.Acceptance {
	a := &store.Acceptance{Message: m}
	for _, flow := range flows {
		run := r.newRun(flow)
		run.Message = m.ID
		a.Runs = append(a.Runs, run)
	}
	return a
}

func (r *rig) accept(a *store.Acceptance) *store.Receipt {
	r.Helper()
	receipt, err := r.queue.Accept(r.ctx, a)
	r.check(err)
	return receipt
}

// add accepts one run and returns its number.
func (r *rig) add(flow int64, change func(*store.Run)) int64 {
	r.Helper()
	run := r.newRun(flow)
	if change != nil {
		change(run)
	}
	return r.accept(&store.Acceptance{Runs: []*store.Run{run}}).Runs[0].Number
}

func ordered(key string) func(*store.Run) { return func(run *store.Run) { run.Order = key } }

// claim claims everything of the flows that is due at noon.
func (r *rig) claim(flows ...int64) []store.Run {
	r.Helper()
	runs, _ := r.claimAt(noon, 100, flows...)
	return runs
}

func (r *rig) claimAt(now time.Time, limit int, flows ...int64) ([]store.Run, time.Time) {
	r.Helper()
	want := map[int64]store.Want{}
	for _, flow := range flows {
		want[flow] = store.Want{Runs: 100, Version: "v1"}
	}
	runs, next, err := r.queue.Claim(r.ctx, want, limit, now)
	r.check(err)
	return runs, next
}

// claims checks which runs are claimable at noon, by claiming them.
func (r *rig) claims(flow int64, want ...int64) []store.Run {
	r.Helper()
	runs := r.claim(flow)
	r.same(numbers(runs), want)
	return runs
}

func numbers(runs []store.Run) []int64 {
	var numbers []int64
	for _, run := range runs {
		numbers = append(numbers, run.Number)
	}
	return numbers
}

// ended returns the settlement of a run that ended a second after noon.
func ended(run store.Run, status store.Status) *store.Settlement {
	run.Status, run.Ended = status, noon.Add(time.Second)
	if status == store.Error {
		run.Kind, run.Exception, run.Reason, run.ErrorID = "refused", "a\nb", "b", "E1"
	}
	return &store.Settlement{Run: run}
}

// again returns the settlement of a run that is to be tried again.
func again(run store.Run, due time.Time) *store.Settlement {
	run.Status, run.Due = store.Queued, due
	return &store.Settlement{Run: run}
}

func (r *rig) settle(settlements ...*store.Settlement) {
	r.Helper()
	r.check(r.queue.Settle(r.ctx, settlements))
}

// run reads a run.
func (r *rig) run(number int64) store.Run {
	r.Helper()
	run, err := r.Store.Run(r.ctx, number)
	r.check(err)
	return *run
}

// claimed accepts one run, claims it and returns it.
func (r *rig) claimed(a *store.Acceptance) store.Run {
	r.Helper()
	a.Claim = true
	r.accept(a)
	return *a.Runs[0]
}

func (r *rig) kept(runs, bytes int64) {
	r.Helper()
	kept, err := r.Kept(r.ctx)
	r.check(err)
	r.same(kept, store.Kept{Runs: runs, Bytes: bytes})
}

func (r *rig) waiting(queued, running int64) {
	r.Helper()
	q, c, err := r.queue.Waiting(r.ctx)
	r.check(err)
	r.same([]int64{q, c}, []int64{queued, running})
}

// blob stores a large body.
func (r *rig) blob(content []byte) store.Body {
	r.Helper()
	w, err := r.CreateBlob(r.ctx)
	r.check(err)
	_, err = w.Write(content)
	r.check(err)
	body, err := w.Commit()
	r.check(err)
	return body
}

// read reads a body.
func (r *rig) read(body store.Body) ([]byte, error) {
	reader, err := r.OpenBody(r.ctx, body)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return io.ReadAll(reader)
}
