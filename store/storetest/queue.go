package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

var acceptCases = map[string]func(*testing.T, Harness){
	"accept: message and runs are found as they were given": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("a;b\n1;2\n")
		a := r.of(m, 1, 2)
		a.Runs[0].Order, a.Runs[0].Parent = "k", 5
		a.Runs[0].Version, a.Runs[0].Started = "not yet", noon // only the first claim sets them
		receipt := r.accept(a)
		want := []store.Run{*a.Runs[0], *a.Runs[1]}
		for i := range want {
			r.same(want[i].Status, store.Queued)
			r.same(receipt.Runs[i], store.ReceiptRun{Flow: want[i].Flow, FlowID: want[i].FlowID, Number: want[i].Number})
			want[i].Version, want[i].Started = "", time.Time{}
			r.same(r.run(want[i].Number), want[i])
		}
		r.same(receipt.Message, m.ID)
		r.same(want[0].Number > 0 && want[1].Number > want[0].Number, true)
		got, err := r.Message(r.ctx, m.ID)
		r.check(err)
		r.same(got, m)
		runs, err := r.MessageRuns(r.ctx, m.ID)
		r.check(err)
		r.same(runs, want)
	},
	"accept: a message alone, a run alone": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("")
		receipt := r.accept(&store.Acceptance{Message: m})
		r.same(receipt, &store.Receipt{Message: m.ID})
		runs, err := r.MessageRuns(r.ctx, m.ID)
		r.check(err)
		r.same(runs, []store.Run(nil))
		n := r.add(1, func(run *store.Run) { *run = store.Run{FlowID: 1} })
		r.same(r.run(n), store.Run{FlowID: 1, Number: n, Status: store.Queued})
	},
	"accept: no memory is shared": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("body")
		want := *r.newMessage("body")
		want.ID = m.ID
		a := r.of(m, 1)
		n := r.accept(a).Runs[0].Number
		spoil := func(m *store.Message, run *store.Run) {
			m.Body.Inline[0], m.Header[0].Value, m.Query[0].Name, m.Params[0].Name, run.Params[0] = 'x', "x", "x", "x", 'x'
		}
		spoil(m, a.Runs[0])
		for range 2 {
			m, err := r.Message(r.ctx, m.ID)
			r.check(err)
			r.same(*m, want)
			run := r.run(n)
			r.same(string(run.Params), `{"a":1}`)
			spoil(m, &run)
		}
		claimed := r.claim(1)
		claimed[0].Params[0] = 'x'
		r.same(string(r.run(n).Params), `{"a":1}`)
	},
	"accept: runs can be born claimed": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("x")
		a := r.of(m, 1, 1)
		a.Claim = true
		a.Runs[0].Version, a.Runs[0].Started = "v7", noon
		r.accept(a)
		got := r.run(a.Runs[0].Number)
		r.same(got, *a.Runs[0])
		r.same([]any{got.Status, got.Attempts, got.Epoch, got.Version, got.Started}, []any{store.Running, 1, r.queue.Epoch(), "v7", noon})
		r.claims(1)
		r.waiting(0, 2)
		r.settle(ended(got, store.Success), ended(*a.Runs[1], store.Success))
		r.waiting(0, 0)
	},
	"accept: a born claim gives way to an earlier run of its order key": func(t *testing.T, h Harness) {
		r := begin(t, h)
		first := r.add(1, ordered("k"))
		for name, orders := range map[string][]string{"another's": {"k", "other"}, "its own": {"new", "new"}} {
			a := &store.Acceptance{Claim: true}
			for _, order := range orders {
				run := r.newRun(1)
				run.Order, run.Version, run.Started = order, "v", noon
				a.Runs = append(a.Runs, run)
			}
			r.accept(a)
			for _, run := range a.Runs {
				r.same([]any{name, run.Status, run.Attempts, run.Version}, []any{name, store.Queued, 0, ""})
				r.same(r.run(run.Number), *run)
			}
		}
		r.same(r.claim(1)[0].Number, first)
	},
	"once: the same again stores nothing and answers the first receipt": func(t *testing.T, h Harness) {
		r := begin(t, h)
		a, b := r.onceOf("k", "body", time.Hour), r.onceOf("k", "body", time.Hour)
		want := r.accept(a)
		r.same(want.Repeated, false)
		want.Repeated = true
		r.same(r.accept(b), want)
		_, err := r.Message(r.ctx, b.Message.ID)
		r.is(err, store.ErrNotFound)
		r.waiting(1, 0)
	},
	"once: another body is refused and stores nothing": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.accept(r.onceOf("k", "body", time.Hour))
		for _, body := range []string{"other", ""} {
			a := r.onceOf("k", body, time.Hour)
			_, err := r.queue.Accept(r.ctx, a)
			r.is(err, store.ErrOnce)
			_, err = r.Message(r.ctx, a.Message.ID)
			r.is(err, store.ErrNotFound)
		}
		r.waiting(1, 0)
	},
	"once: a key whose first run is not to be remembered is free for the same body": func(t *testing.T, h Harness) {
		r := begin(t, h)
		first := r.accept(r.onceOf("k", "body", time.Hour)).Runs[0].Number
		r.settle(ended(r.claim(1)[0], store.Error))
		instead := func(run int64, body string) *store.Acceptance {
			a := r.onceOf("k", body, time.Hour)
			a.Once.Instead = run
			return a
		}
		_, err := r.queue.Accept(r.ctx, instead(first, "other"))
		r.is(err, store.ErrOnce)
		r.same(r.accept(instead(first+1, "body")).Repeated, true)
		second := r.accept(instead(first, "body"))
		r.same(second.Repeated, false)
		for _, run := range []int64{first, 0} { // of two who saw the first one fail, one comes late
			late := r.accept(instead(run, "body"))
			r.same(late.Repeated, true)
			r.same(late.Runs, second.Runs)
		}
		r.waiting(1, 0)
	},
	"runs of a message that is gone are refused": func(t *testing.T, h Harness) {
		r := begin(t, h)
		_, err := r.queue.Accept(r.ctx, &store.Acceptance{Runs: []*store.Run{{FlowID: 1, Message: uuid.New()}}})
		r.is(err, store.ErrNotFound)
		r.waiting(0, 0)
	},
	"once: a key without a body": func(t *testing.T, h Harness) {
		r := begin(t, h)
		once := &store.Once{Scope: "schedule", Key: "2026-03-01", Until: time.Now().Add(time.Hour)}
		r.accept(&store.Acceptance{Runs: []*store.Run{r.newRun(1)}, Once: once})
		r.same(r.accept(&store.Acceptance{Runs: []*store.Run{r.newRun(1)}, Once: once}).Repeated, true)
	},
	"once: keys of different scopes do not meet": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, once := range [][2]string{{"", "k"}, {"a", "bc"}, {"ab", "c"}, {"a\x00b", "c"}, {"a", "b\x00c"}, {"A", "bc"}, {"a", "BC"},
			{strings.Repeat("s", store.NameBytes), strings.Repeat("k", store.KeyBytes)}} {
			a := r.onceOf(once[1], once[0]+once[1], time.Hour)
			a.Once.Scope = once[0]
			r.same(r.accept(a).Repeated, false)
			r.same(r.accept(a).Repeated, true)
		}
	},
	"once: a key is forgotten after its time": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.same(r.accept(r.onceOf("k", "one", -time.Second)).Repeated, false)
		r.same(r.accept(r.onceOf("k", "two", time.Hour)).Repeated, false)
		for i := range 10 { // what is over is swept, what was used anew since is not
			r.accept(r.onceOf(fmt.Sprint(i), "", -time.Second))
		}
		r.same(r.accept(r.onceOf("k", "two", time.Hour)).Repeated, true)
	},
	"once: keys beyond their limits are refused": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for name, once := range map[string]store.Once{"no key": {}, "long key": {Key: strings.Repeat("k", store.KeyBytes+1)},
			"huge key": {Key: strings.Repeat("k", 1<<20)}, "long scope": {Key: "k", Scope: strings.Repeat("s", store.NameBytes+1)}} {
			once.Until = time.Now().Add(time.Hour)
			if _, err := r.queue.Accept(r.ctx, &store.Acceptance{Runs: []*store.Run{r.newRun(1)}, Once: &once}); err == nil {
				t.Error(name, "was taken")
			}
		}
		r.check(r.Health())
		r.waiting(0, 0)
	},
	"once: of many calls at a time one is the first": func(t *testing.T, h Harness) {
		r := begin(t, h)
		receipts := make([]*store.Receipt, 32)
		var calls sync.WaitGroup
		for i := range receipts {
			calls.Go(func() {
				var err error
				if receipts[i], err = r.queue.Accept(r.ctx, r.onceOf("k", "body", time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		firsts := 0
		for _, receipt := range receipts {
			if !receipt.Repeated {
				firsts++
			}
			r.same(receipt.Message, receipts[0].Message)
			r.same(receipt.Runs, receipts[0].Runs)
		}
		r.same(firsts, 1)
		r.waiting(1, 0)
	},
	"numbers: rising, and never twice": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var mu sync.Mutex
		seen := map[int64]bool{}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				last := int64(0)
				for range 200 {
					n, err := r.queue.NextNumber(r.ctx)
					if err == nil && n%10 == 0 {
						var receipt *store.Receipt
						if receipt, err = r.queue.Accept(r.ctx, &store.Acceptance{Runs: []*store.Run{r.newRun(1)}}); err == nil {
							n = receipt.Runs[0].Number
						}
					}
					mu.Lock()
					if err != nil || n <= last || seen[n] {
						t.Error("number", n, "after", last, "seen", seen[n], "error", err)
					}
					seen[n], last = true, n
					mu.Unlock()
				}
			})
		}
		calls.Wait()
	},
}

// onceOf returns an acceptance with a once-key that is over after a while.
func (r *rig) onceOf(key, body string, after time.Duration) *store.Acceptance {
	a := r.of(r.newMessage(body), 1)
	a.Once = &store.Once{Scope: "ann orders", Key: key, BodyHash: a.Message.Body.SHA256, Until: time.Now().Add(after)}
	return a
}

var claimCases = map[string]func(*testing.T, Harness){
	"claim: the longest due first, nothing before its time": func(t *testing.T, h Harness) {
		r := begin(t, h)
		due := func(d time.Duration) int64 { return r.add(1, func(run *store.Run) { run.Due = noon.Add(d) }) }
		late, later, early, now := due(time.Nanosecond), due(time.Minute), due(-time.Minute), due(0)
		runs, next := r.claimAt(noon, 100, 1)
		r.same(numbers(runs), []int64{early, now})
		r.same(next, noon.Add(time.Nanosecond))
		runs, next = r.claimAt(noon.Add(time.Second), 100, 1)
		r.same(numbers(runs), []int64{late})
		r.same(next, noon.Add(time.Minute))
		runs, next = r.claimAt(noon.Add(time.Hour), 100, 1)
		r.same(numbers(runs), []int64{later})
		r.same(next, time.Time{})
	},
	"claim: what it returns is what is stored": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.add(1, nil)
		run := r.claim(1)[0]
		r.same(r.run(run.Number), run)
		r.same([]any{run.Status, run.Attempts, run.Epoch, run.Started, run.Version}, []any{store.Running, 1, r.queue.Epoch(), noon, "v1"})
		r.claims(1)
		r.waiting(0, 1)
	},
	"claim: definitions and time are pinned at the first attempt": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.add(1, nil)
		first := r.claim(1)[0]
		r.settle(again(first, noon))
		runs, _, err := r.queue.Claim(r.ctx, map[int64]store.Want{1: {Runs: 1, Version: "v2"}}, 1, noon.Add(time.Hour))
		r.check(err)
		r.same([]any{runs[0].Version, runs[0].Started, runs[0].Attempts}, []any{"v1", noon, 2})
	},
	"claim: only as many as are wanted": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for range 5 {
			r.add(1, nil)
			r.add(2, nil)
			r.add(3, nil)
		}
		for _, step := range []struct {
			limit int
			want  map[int64]store.Want
			got   map[int64]int
			more  bool // a run of a wanted flow is left, and room for it
		}{
			{limit: 0, want: map[int64]store.Want{1: {Runs: 1}}, got: map[int64]int{}, more: true},
			{limit: 9, want: map[int64]store.Want{}, got: map[int64]int{}},
			{limit: 9, want: map[int64]store.Want{1: {Runs: 2}, 2: {Runs: 0}, 4: {Runs: 9}}, got: map[int64]int{1: 2}},
			{limit: 3, want: map[int64]store.Want{1: {Runs: 9}}, got: map[int64]int{1: 3}},
			{limit: 3, want: map[int64]store.Want{1: {Runs: 9}, 2: {Runs: 9}}, got: map[int64]int{2: 3}, more: true},
		} {
			runs, next, err := r.queue.Claim(r.ctx, step.want, step.limit, noon)
			r.check(err)
			got := map[int64]int{}
			for _, run := range runs {
				got[run.FlowID]++
			}
			r.same(got, step.got)
			r.same(!next.IsZero(), step.more)
		}
	},
	"claim: flows take turns within a call": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for flow := range int64(3) {
			for range 10 * (flow + 1) {
				r.add(flow+1, nil)
			}
		}
		got := map[int64]int{}
		runs, _ := r.claimAt(noon, 12, 1, 2, 3)
		for _, run := range runs {
			got[run.FlowID]++
		}
		r.same(got, map[int64]int{1: 4, 2: 4, 3: 4})
	},
	"claim: flows take turns across calls": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for flow := range int64(6) {
			r.add(flow+1, nil)
		}
		r.claim(1, 2, 3, 4, 5, 6) // flows 2 to 5 have had their turns and are idle then
		for range 10 {
			r.add(1, nil)
			r.add(6, nil)
		}
		got := map[int64]int{}
		for range 10 {
			runs, _ := r.claimAt(noon, 1, 1, 2, 3, 4, 5, 6)
			got[runs[0].FlowID]++
		}
		r.same(got, map[int64]int{1: 5, 6: 5})
	},
	"claim: no run twice": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const count = 200
		for range count / 4 {
			r.accept(&store.Acceptance{Runs: []*store.Run{r.newRun(1), r.newRun(2), r.newRun(1), r.newRun(2)}})
		}
		var mu sync.Mutex
		seen := map[int64]int{}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for {
					runs, _, err := r.queue.Claim(r.ctx, map[int64]store.Want{1: {Runs: 3}, 2: {Runs: 3}}, 5, noon)
					if err != nil || len(runs) == 0 {
						if err != nil {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					for _, run := range runs {
						seen[run.Number]++
					}
					mu.Unlock()
				}
			})
		}
		calls.Wait()
		for n, times := range seen {
			if times != 1 {
				t.Errorf("run %d was claimed %d times", n, times)
			}
		}
		r.same(len(seen), count)
		r.waiting(0, count)
	},
	"order: runs of one key one after the other, whatever their due times": func(t *testing.T, h Harness) {
		r := begin(t, h)
		a := r.add(1, func(run *store.Run) { run.Order, run.Due = "k", noon.Add(-time.Second) })
		b := r.add(1, func(run *store.Run) { run.Order, run.Due = "k", noon.Add(-time.Hour) })
		c := r.add(1, ordered("k"))
		other, free, elsewhere := r.add(1, ordered("j")), r.add(1, nil), r.add(2, ordered("k"))
		runs, next := r.claimAt(noon, 100, 1, 2)
		got := map[int64]store.Run{}
		for _, run := range runs {
			got[run.Number] = run
		}
		r.same(len(got), 4)
		for _, n := range []int64{a, other, free, elsewhere} {
			r.same(got[n].Number, n)
		}
		r.same(next, time.Time{})
		r.settle(ended(got[a], store.Error)) // its error lets the next one go
		run := r.claims(1, b)[0]
		r.settle(ended(run, store.Success))
		r.claims(1, c)
	},
	"order: while the first waits for its next attempt the others wait": func(t *testing.T, h Harness) {
		r := begin(t, h)
		a, b := r.add(1, ordered("k")), r.add(1, ordered("k"))
		r.settle(again(r.claims(1, a)[0], noon.Add(time.Minute)))
		r.claims(1)
		runs, _ := r.claimAt(noon.Add(time.Minute), 100, 1)
		r.same(numbers(runs), []int64{a})
		r.settle(ended(runs[0], store.Success))
		r.claims(1, b)
	},
	"order: canceled runs make way": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var n []int64
		for range 5 {
			n = append(n, r.add(1, ordered("k")))
		}
		cancel := func(number int64) {
			t.Helper()
			canceled, err := r.queue.Cancel(r.ctx, number, noon)
			r.check(err)
			r.same(canceled, true)
		}
		cancel(n[0]) // the first, which waits
		first := r.claims(1, n[1])[0]
		cancel(n[3]) // one in the middle
		r.settle(again(first, noon))
		cancel(n[1]) // the first, which waits for its next attempt
		r.settle(ended(r.claims(1, n[2])[0], store.Success))
		cancel(n[4]) // the last one
		r.claims(1)
		r.waiting(0, 0)
		last := r.add(1, ordered("k"))
		r.claims(1, last)
	},
	"order: runs accepted at a time still run one after the other": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const count = 64
		var mu sync.Mutex
		running, done := 0, 0
		begins := func() {
			mu.Lock()
			defer mu.Unlock()
			if running++; running > 1 {
				t.Error("two runs of one key at a time")
			}
		}
		ends := func(run store.Run) {
			mu.Lock()
			running--
			done++
			mu.Unlock()
			if err := r.queue.Settle(r.ctx, []*store.Settlement{ended(run, store.Success)}); err != nil {
				t.Error(err)
			}
		}
		var calls sync.WaitGroup
		for range count {
			calls.Go(func() {
				run := r.newRun(1)
				run.Order, run.Started, run.Version = "k", noon, "v"
				if _, err := r.queue.Accept(r.ctx, &store.Acceptance{Runs: []*store.Run{run}, Claim: true}); err != nil {
					t.Error(err)
				} else if run.Status == store.Running {
					begins()
					ends(*run)
				}
				runs, _, err := r.queue.Claim(r.ctx, map[int64]store.Want{1: {Runs: 9}}, 9, noon)
				if err != nil {
					t.Error(err)
				}
				for _, run := range runs {
					begins()
					ends(run)
				}
			})
		}
		calls.Wait()
		for runs := r.claim(1); len(runs) > 0; runs = r.claim(1) {
			begins()
			ends(runs[0])
		}
		r.same(done, count)
	},
	"changed: signalled when runs become claimable": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.add(1, ordered("k"))
		r.add(1, ordered("k"))
		<-r.queue.Changed()
		first := r.claim(1)[0]
		select { // what came late
		case <-r.queue.Changed():
		default:
		}
		r.settle(ended(first, store.Success)) // the next one of its key is free
		<-r.queue.Changed()
		r.settle(again(r.claim(1)[0], noon))
		<-r.queue.Changed()
	},
}

var settleCases = map[string]func(*testing.T, Harness){
	"settle: the run moves to the history": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, status := range []store.Status{store.Success, store.Warning, store.Error, store.Canceled} {
			r.add(1, nil)
			s := ended(r.claim(1)[0], status)
			s.Run.Read, s.Run.Written, s.Run.Rejected = 3, 2, 1
			r.settle(s)
			want := s.Run
			want.Epoch = 0
			r.same(r.run(want.Number), want)
		}
		r.claims(1)
		r.waiting(0, 0)
	},
	"settle: a run can be queued again": func(t *testing.T, h Harness) {
		r := begin(t, h)
		n := r.add(1, nil)
		s := again(r.claim(1)[0], noon.Add(time.Minute))
		s.Run.Kind, s.Run.Exception = "connection", "refused"
		r.settle(s)
		want := s.Run
		want.Epoch = 0
		r.same(r.run(n), want)
		r.waiting(1, 0)
		runs, next := r.claimAt(noon, 9, 1)
		r.same(len(runs), 0)
		r.same(next, noon.Add(time.Minute))
		runs, _ = r.claimAt(next, 9, 1)
		r.same([]any{runs[0].Number, runs[0].Attempts, runs[0].Exception}, []any{n, 2, "refused"})
	},
	"settle: a claim that is not held is lost, the others are written": func(t *testing.T, h Harness) {
		r := begin(t, h)
		queued, a, b := r.add(2, nil), r.add(1, nil), r.add(1, nil)
		runs := r.claim(1)
		r.settle(ended(runs[0], store.Success))
		unknown := *r.newRun(1)
		unknown.Number = b + 1000
		err := r.queue.Settle(r.ctx, []*store.Settlement{ended(r.run(queued), store.Error), ended(runs[0], store.Error), ended(unknown, store.Error),
			ended(runs[1], store.Success), ended(runs[1], store.Error)})
		r.is(err, store.ErrClaimLost)
		r.same([]store.Status{r.run(queued).Status, r.run(a).Status, r.run(b).Status}, []store.Status{store.Queued, store.Success, store.Success})
		_, err = r.Store.Run(r.ctx, unknown.Number)
		r.is(err, store.ErrNotFound)
		r.waiting(1, 0)
	},
	"settle: a run that was never queued is recorded, with its message": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("body")
		for _, message := range []*store.Message{m, nil} {
			number, err := r.queue.NextNumber(r.ctx)
			r.check(err)
			run := *r.newRun(1)
			run.Number, run.Message = number, m.ID // the second one belongs to a message that is there
			s := ended(run, store.Success)
			s.Insert, s.Message, s.Log = true, message, inline("log")
			r.settle(s)
			if s.Run.Bytes = s.Log.Size; message != nil {
				s.Run.Bytes += m.Body.Size
			}
			r.same(r.run(number), s.Run)
			_, log, err := r.Attachments(r.ctx, number)
			r.check(err)
			r.same(log, s.Log)
		}
		got, err := r.Message(r.ctx, m.ID)
		r.check(err)
		r.same(got, m)
		runs, err := r.MessageRuns(r.ctx, m.ID)
		r.check(err)
		r.same(len(runs), 2)
		r.waiting(0, 0)
	},
	"cancel: a queued run": func(t *testing.T, h Harness) {
		r := begin(t, h)
		n := r.add(1, nil)
		want := r.run(n)
		canceled, err := r.queue.Cancel(r.ctx, n, noon.Add(time.Minute))
		r.check(err)
		r.same(canceled, true)
		want.Status, want.Ended, want.Kind = store.Canceled, noon.Add(time.Minute), "canceled"
		r.same(r.run(n), want)
		runs, next := r.claimAt(noon, 9, 1)
		r.same(len(runs), 0)
		r.same(next, time.Time{})
		r.waiting(0, 0)
		_, err = r.queue.Cancel(r.ctx, n, noon)
		r.is(err, store.ErrNotFound)
	},
	"cancel: a claimed run is its engine's": func(t *testing.T, h Harness) {
		r := begin(t, h)
		n := r.add(1, nil)
		run := r.claim(1)[0]
		canceled, err := r.queue.Cancel(r.ctx, n, noon)
		r.check(err)
		r.same(canceled, false)
		r.same(r.run(n), run)
		_, err = r.queue.Cancel(r.ctx, n+1000, noon)
		r.is(err, store.ErrNotFound)
	},
	"cancel: either the claim or the cancel has the run": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const count = 100
		var n []int64
		for i := range count {
			n = append(n, r.add(1, ordered([]string{"", "k"}[i%2])))
		}
		claimed := map[int64]bool{}
		var canceled sync.Map
		var calls sync.WaitGroup
		calls.Go(func() {
			for _, number := range n {
				if ok, err := r.queue.Cancel(r.ctx, number, noon); err != nil {
					t.Error(err)
				} else if ok {
					canceled.Store(number, true)
				}
			}
		})
		for range count {
			runs, _ := r.claimAt(noon, 1, 1)
			for _, run := range runs {
				claimed[run.Number] = true
			}
		}
		calls.Wait()
		for _, number := range n {
			_, both := canceled.Load(number)
			if both && claimed[number] {
				t.Errorf("run %d was claimed and canceled", number)
			}
		}
		r.waiting(0, int64(len(claimed)))
	},
}

var epochCases = map[string]func(*testing.T, Harness){
	"epoch: a second engine": func(t *testing.T, h Harness) {
		r := begin(t, h)
		other, err := r.Join(r.ctx, "second")
		if h.Exclusive {
			r.is(err, store.ErrInUse)
			return
		}
		r.check(err)
		n := r.add(1, nil)
		run := r.claims(1, n)[0]
		runs, _, err := other.Claim(r.ctx, map[int64]store.Want{1: {Runs: 1}}, 1, noon)
		r.check(err)
		r.same(len(runs), 0)
		r.is(other.Settle(r.ctx, []*store.Settlement{ended(run, store.Error)}), store.ErrClaimLost)
	},
	"epoch: claims that are left are freed, and those that had begun counted as crashes": func(t *testing.T, h Harness) {
		r := begin(t, h)
		a, b, c := r.add(1, ordered("k")), r.add(1, ordered("k")), r.add(2, nil)
		before := r.claims(1, a)[0]
		r.check(r.queue.Begin(r.ctx, []store.Run{before}))
		waiting := r.claims(2, c)[0] // and does not begin
		for crashes := 1; crashes <= 3; crashes++ {
			old, epoch := r.queue, r.queue.Epoch()
			r.check(r.queue.Leave())
			r.join()
			r.same(r.queue.Epoch() > epoch, true)
			r.is(old.Settle(r.ctx, []*store.Settlement{ended(before, store.Error)}), store.ErrClaimLost)
			r.waiting(3, 0)
			run := r.run(a)
			r.same([]any{run.Status, run.Crashes, run.Attempts, run.Epoch, run.Due.After(time.Now())}, []any{store.Queued, crashes, crashes, int64(0), false})
			r.same([]int{r.run(b).Crashes, r.run(c).Crashes, r.run(c).Attempts}, []int{0, 0, 0})
			r.same([]any{r.run(c).Started, r.run(c).Version}, []any{waiting.Started, waiting.Version})
			runs, _ := r.claimAt(time.Now(), 9, 2)
			r.same(numbers(runs), []int64{c})
			runs, _ = r.claimAt(time.Now(), 9, 1) // the order of its key is kept
			r.check(r.queue.Begin(r.ctx, runs))
			r.same(numbers(runs), []int64{a})
			r.same([]any{runs[0].Attempts, runs[0].Started, runs[0].Version}, []any{crashes + 1, noon, "v1"})
			r.is(old.Settle(r.ctx, []*store.Settlement{ended(before, store.Error)}), store.ErrClaimLost)
			r.same(r.run(a), runs[0])
		}
	},
	"epoch: claims on the way when an epoch ends are not claimed twice": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const count = 50
		for range count {
			r.add(1, nil)
		}
		held := map[int64]int64{} // run → epoch
		for len(held) < count {
			old := r.queue
			late := make(chan []store.Run, 1)
			go func() {
				runs, _, _ := old.Claim(r.ctx, map[int64]store.Want{1: {Runs: 3}}, 3, time.Now())
				late <- runs
			}()
			r.check(old.Leave())
			r.join()
			runs, _ := r.claimAt(time.Now(), 3, 1)
			<-late
			for _, run := range runs {
				held[run.Number] = r.queue.Epoch()
				r.settle(ended(run, store.Success))
			}
		}
		r.waiting(0, 0)
	},
	"epoch: after leaving nothing is taken": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.add(1, nil)
		r.check(r.queue.Leave())
		r.check(r.queue.Leave())
		for name, err := range r.queueCalls() {
			if err := err(); !errors.Is(err, store.ErrClaimLost) {
				t.Errorf("%s: the error is %v, not ErrClaimLost", name, err)
			}
		}
		old := r.queue
		r.join()
		r.check(old.Leave())
		r.waiting(1, 0)
		r.accept(r.of(r.newMessage("x"), 1))
	},
}
