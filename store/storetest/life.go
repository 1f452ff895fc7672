package storetest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// queueCalls returns a call of each method of the queue.
func (r *rig) queueCalls() map[string]func() error { return r.queueCallsWith(r.ctx) }

func (r *rig) queueCallsWith(ctx context.Context) map[string]func() error {
	number, err := int64(1<<40), error(nil)
	insert := ended(*r.newRun(1), store.Success)
	insert.Run.Number, insert.Insert = number, true
	return map[string]func() error{
		"Accept":     func() error { _, err = r.queue.Accept(ctx, r.of(r.newMessage("late"), 1)); return err },
		"Claim":      func() error { _, _, err = r.queue.Claim(ctx, map[int64]store.Want{1: {Runs: 1}}, 1, noon); return err },
		"Settle":     func() error { return r.queue.Settle(ctx, []*store.Settlement{insert}) },
		"NextNumber": func() error { _, err = r.queue.NextNumber(ctx); return err },
		"Cancel":     func() error { _, err = r.queue.Cancel(ctx, 1, noon); return err },
		"Oldest":     func() error { _, err = r.queue.Oldest(ctx); return err },
		"Waiting":    func() error { _, _, err = r.queue.Waiting(ctx); return err },
		"Begin":      func() error { return r.queue.Begin(ctx, nil) },
	}
}

// storeCalls returns a call of each method of the store.
func (r *rig) storeCalls(ctx context.Context, message uuid.UUID) map[string]func() error {
	var err error
	return map[string]func() error{
		"Join":        func() error { _, err = r.Join(ctx, "late"); return err },
		"Message":     func() error { _, err = r.Message(ctx, message); return err },
		"MessageRuns": func() error { _, err = r.MessageRuns(ctx, message); return err },
		"Run":         func() error { _, err = r.Store.Run(ctx, 1); return err },
		"Runs":        func() error { _, err = r.Runs(ctx, store.RunFilter{}); return err },
		"Attachments": func() error { _, _, err = r.Attachments(ctx, 1); return err },
		"Erase":       func() error { return r.Erase(ctx, message) },
		"Kept":        func() error { _, err = r.Kept(ctx); return err },
		"Prune":       func() error { _, err = r.Prune(ctx, store.Keep{Since: noon.Add(time.Hour)}, 9); return err },
		"Get":         func() error { _, err = r.Get(ctx, "k", "n"); return err },
		"List":        func() error { _, err = r.List(ctx, "k"); return err },
		"Put":         func() error { _, err = r.Put(ctx, store.Entry{Kind: "k", Name: "late"}); return err },
		"Delete":      func() error { return r.Delete(ctx, "k", "n", 1) },
		"Numbers":     func() error { _, err = r.Numbers(ctx, "k", "late"); return err },
		"CreateBlob":  func() error { _, err = r.CreateBlob(ctx); return err },
		"Discard":     func() error { return r.Discard(ctx, store.Body{Blob: uuid.New()}) },
		"OpenBody":    func() error { _, err = r.OpenBody(ctx, inline("x")); return err },
	}
}

var lifeCases = map[string]func(*testing.T, Harness){
	"life: after Close everything is refused": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("x")
		r.accept(r.of(m, 1))
		w, err := r.CreateBlob(r.ctx)
		r.check(err)
		r.check(r.Health())
		r.check(r.Close())
		r.check(r.Close())
		r.is(r.Health(), store.ErrClosed)
		_, err = w.Commit()
		r.is(err, store.ErrClosed)
		for _, calls := range []map[string]func() error{r.queueCalls(), r.storeCalls(r.ctx, m.ID)} {
			for name, call := range calls {
				if err := call(); !errors.Is(err, store.ErrClosed) {
					t.Errorf("%s: the error is %v, not ErrClosed", name, err)
				}
			}
		}
		r.check(r.queue.Leave())
	},
	"life: a context that has ended ends every call": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("x")
		n := r.accept(r.of(m, 1)).Runs[0].Number
		want := r.run(n)
		cause, cancel := context.WithCancel(r.ctx)
		cancel()
		for _, calls := range []map[string]func() error{r.queueCallsWith(cause), r.storeCalls(cause, m.ID)} {
			for name, call := range calls {
				if err := call(); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: the error is %v, not context.Canceled", name, err)
				}
			}
		}
		runs, err := r.Runs(r.ctx, store.RunFilter{})
		r.check(err)
		r.same(runs, []store.Run{want})
		got, err := r.Message(r.ctx, m.ID)
		r.check(err)
		r.same(got, m)
		late, err := r.List(r.ctx, "k")
		r.check(err)
		r.same(len(late), 0)
		r.waiting(1, 0)
	},
	"life: everything is found again": func(t *testing.T, h Harness) {
		r := begin(t, h)
		once := r.onceOf("k", "body", time.Hour)
		once.Message.Body = r.blob(large)
		receipt := r.accept(once)
		a := r.of(r.newMessage("b"), 2, 2, 3)
		a.Runs[0].Order, a.Runs[1].Order = "k", "k"
		r.accept(a)
		s := ended(r.claim(1)[0], store.Error)
		s.Log = inline("log")
		r.settle(s)
		crashed := r.claim(2)[0]
		r.check(r.queue.Begin(r.ctx, []store.Run{crashed}))
		e := store.Entry{Kind: "flow", Name: "orders", Value: []byte("v")}
		e.Version = r.put(e)
		deleted := r.put(store.Entry{Kind: "flow", Name: "old"})
		r.check(r.Delete(r.ctx, "flow", "old", deleted))
		_, err := r.Numbers(r.ctx, "flow", "orders")
		r.check(err)
		epoch := r.queue.Epoch()
		queued := r.run(a.Runs[2].Number)
		unused, err := r.queue.NextNumber(r.ctx)
		r.check(err)

		r.reopen()
		r.same(r.queue.Epoch() > epoch, true)
		r.waiting(3, 0)
		if n := r.add(9, nil); n <= unused {
			t.Errorf("number %d came twice", n)
		}
		s.Run.Epoch = 0
		s.Run.Bytes += s.Log.Size
		r.same(r.run(s.Run.Number), s.Run)
		r.same(r.run(queued.Number), queued)
		r.kept(1, s.Run.Bytes)
		_, log, err := r.Attachments(r.ctx, s.Run.Number)
		r.check(err)
		r.same(log, s.Log)
		got, err := r.Message(r.ctx, once.Message.ID)
		r.check(err)
		r.same(got, once.Message)
		content, err := r.read(got.Body)
		r.check(err)
		r.same(content, large)
		receipt.Repeated = true
		r.same(r.accept(once), receipt)
		entry, err := r.Get(r.ctx, "flow", "orders")
		r.check(err)
		r.same(entry, e)
		if version := r.put(store.Entry{Kind: "flow", Name: "old"}); version == deleted {
			t.Error("a version came twice")
		}
		n, err := r.Numbers(r.ctx, "flow", "other", "orders")
		r.check(err)
		r.same(n, []int64{2, 1})
		runs, _ := r.claimAt(time.Now(), 9, 2) // the order of its key is kept across
		r.same(numbers(runs), []int64{crashed.Number})
		r.same([]any{runs[0].Crashes, runs[0].Attempts, runs[0].Started, runs[0].Version}, []any{1, 2, crashed.Started, "v1"})
	},
	"life: nothing is half done when the end comes": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var mu sync.Mutex
		acknowledged := map[uuid.UUID]bool{}
		first := make(chan struct{}, 1)
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for {
					m := r.newMessage("body")
					if _, err := r.queue.Accept(r.ctx, r.of(m, 1, 2, 3)); err != nil {
						return
					}
					mu.Lock()
					acknowledged[m.ID] = true
					if len(acknowledged) == 50 {
						first <- struct{}{}
					}
					mu.Unlock()
				}
			})
		}
		<-first
		if h.Reopen == nil {
			r.check(r.Close())
			calls.Wait() // they end at least
			t.Skip("nothing survives in this back end")
		}
		reopened := h.Reopen(t, r.Store)
		calls.Wait()
		r.Store = reopened
		for id := range acknowledged {
			_, err := r.Message(r.ctx, id)
			r.check(err)
		}
		for before := int64(0); ; {
			runs, err := r.Runs(r.ctx, store.RunFilter{Before: before})
			r.check(err)
			if len(runs) == 0 {
				break
			}
			for _, run := range runs {
				_, err := r.Message(r.ctx, run.Message)
				r.check(err)
				all, err := r.MessageRuns(r.ctx, run.Message)
				r.check(err)
				r.same(len(all), 3)
				before = run.Number
			}
		}
	},
	"life: a slow reader keeps no writer waiting": func(t *testing.T, h Harness) {
		r := begin(t, h)
		body := r.blob(large)
		reader, err := r.OpenBody(r.ctx, body)
		r.check(err)
		defer reader.Close()
		for { // between the pieces of a body there is time to write
			_, err := io.CopyN(io.Discard, reader, 10_000)
			if errors.Is(err, io.EOF) {
				break
			}
			r.check(err)
			m := r.newMessage(string(large[:store.InlineBytes]))
			r.accept(r.of(m, 1))
			r.settle(ended(r.claim(1)[0], store.Success))
		}
	},
	"life: many at a time": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const callers, each = 8, 20
		var accepted, workers sync.WaitGroup
		for i := range callers {
			accepted.Go(func() {
				for range each {
					a := r.of(r.newMessage("body"), int64(i%3+1))
					a.Runs[0].Order = []string{"", "k"}[i%2]
					if _, err := r.queue.Accept(r.ctx, a); err != nil {
						t.Error(err)
					}
					if _, err := r.Message(r.ctx, a.Message.ID); err != nil {
						t.Error(err)
					}
					if _, err := r.Runs(r.ctx, store.RunFilter{FlowID: 1, Limit: 5}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		settled := make(chan int64, callers*each)
		for range 4 {
			workers.Go(func() {
				for {
					runs, _, err := r.queue.Claim(r.ctx, map[int64]store.Want{1: {Runs: 2}, 2: {Runs: 2}, 3: {Runs: 2}}, 4, noon)
					var settlements []*store.Settlement
					for _, run := range runs {
						settlements = append(settlements, ended(run, store.Success))
					}
					if err = errors.Join(err, r.queue.Settle(r.ctx, settlements)); err != nil {
						t.Error(err)
						return
					}
					for _, run := range runs {
						settled <- run.Number
					}
					if len(runs) > 0 {
						continue
					}
					select {
					case <-r.queue.Changed():
					case <-done:
						return
					}
				}
			})
		}
		seen := map[int64]bool{}
		for range callers * each {
			n := <-settled
			if seen[n] {
				t.Errorf("run %d was executed twice", n)
			}
			seen[n] = true
		}
		close(done)
		accepted.Wait()
		workers.Wait()
		r.waiting(0, 0)
		removed, err := r.Prune(r.ctx, store.Keep{Since: noon.Add(time.Hour)}, callers*each+1)
		r.check(err)
		r.same(removed, callers*each)
	},
}
