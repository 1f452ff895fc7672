package storetest

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/integrator-go/integrator/store"
)

// checkModel plays random calls against a store and against a model that is a map.
func checkModel(t *testing.T, h Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{t: t, h: h, Store: h.New(t), runs: map[int64]store.Run{}, begun: map[int64]int{}, attached: map[int64]int64{}, messages: map[uuid.UUID]bool{}, once: map[string]*store.Receipt{}, now: time.Now().UTC().Round(0)}
		defer func() { m.Close() }()
		m.join(rt)
		rt.Repeat(rapid.StateMachineActions(m))
	})
}

type model struct {
	store.Store
	t        *testing.T
	h        Harness
	queue    store.Queue
	now      time.Time
	runs     map[int64]store.Run
	begun    map[int64]int   // attempts
	attached map[int64]int64 // bytes of rejects and logs
	messages map[uuid.UUID]bool
	once     map[string]*store.Receipt
}

func (m *model) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) join(t *rapid.T) {
	var err error
	m.queue, err = m.Store.Join(t.Context(), "model")
	m.must(t, err)
	for n, run := range m.runs {
		if run.Status != store.Running {
			continue
		}
		run.Status, run.Epoch = store.Queued, 0
		if m.begun[n] == run.Attempts {
			run.Crashes++
		} else {
			run.Attempts--
		}
		got, err := m.Store.Run(t.Context(), n)
		m.must(t, err)
		if run.Due = got.Due; got.Due.After(time.Now()) {
			t.Fatalf("run %d, freed, is due later", n)
		}
		m.runs[n] = run
	}
}

// numbers returns the runs that keep says yes to, rising.
func (m *model) numbers(keep func(store.Run) bool) []int64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.runs)), func(n int64) bool { return !keep(m.runs[n]) })
}

func (m *model) is(status store.Status) []int64 {
	return m.numbers(func(run store.Run) bool { return run.Status == status })
}

// first reports whether no earlier run of the run's order key is active.
func (m *model) first(run store.Run) bool {
	return run.Order == "" || len(m.numbers(func(other store.Run) bool {
		return other.FlowID == run.FlowID && other.Order == run.Order && !other.Status.Settled() && other.Number < run.Number
	})) == 0
}

func (m *model) Accept(t *rapid.T) {
	a := &store.Acceptance{Claim: rapid.Bool().Draw(t, "claim")}
	if rapid.Bool().Draw(t, "message") {
		a.Message = &store.Message{ID: newID(), ReceivedAt: m.now, Body: m.body(t, "body")}
	}
	for range rapid.IntRange(1, 3).Draw(t, "runs") {
		run := &store.Run{ID: newID(), FlowID: rapid.Int64Range(1, 3).Draw(t, "flow"), Order: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "order"),
			Queued: m.now, Due: m.now.Add(time.Duration(rapid.IntRange(-2, 3).Draw(t, "due")) * time.Second)}
		if a.Message != nil {
			run.Message = a.Message.ID
		}
		if a.Claim {
			run.Started, run.Version = m.now, "claimed"
		}
		a.Runs = append(a.Runs, run)
	}
	key := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "once")
	if key != "" {
		a.Once = &store.Once{Key: key, Until: time.Now().Add(time.Hour)}
	}
	receipt, err := m.queue.Accept(t.Context(), a)
	m.must(t, err)
	if earlier := m.once[key]; earlier != nil {
		if !receipt.Repeated || receipt.Message != earlier.Message || !slices.Equal(receipt.Runs, earlier.Runs) {
			t.Fatalf("the receipt is %v, the first one was %v", receipt, earlier)
		}
		return
	}
	if key != "" {
		m.once[key] = receipt
	}
	if a.Message != nil {
		m.messages[a.Message.ID] = true
	}
	free := a.Claim
	for _, run := range a.Runs {
		m.runs[run.Number] = store.Run{Number: run.Number, FlowID: run.FlowID, Order: run.Order, Status: store.Queued}
		free = free && m.first(m.runs[run.Number])
	}
	for i, run := range a.Runs {
		if (run.Status == store.Running) != free {
			t.Fatalf("run %d is %s; free to run: %v", run.Number, run.Status, free)
		}
		size := int64(0)
		if i == 0 && a.Message != nil {
			size = a.Message.Body.Size
		}
		if run.Bytes != size {
			t.Fatalf("run %d has %d bytes, not %d", run.Number, run.Bytes, size)
		}
		m.runs[run.Number] = *run
	}
}

// body draws a short body, often none.
func (m *model) body(t *rapid.T, label string) store.Body {
	return inline(rapid.SampledFrom([]string{"", "", "a", "four"}).Draw(t, label))
}

func (m *model) Claim(t *rapid.T) {
	want := map[int64]store.Want{}
	for flow := range int64(3) {
		want[flow+1] = store.Want{Runs: rapid.IntRange(0, 3).Draw(t, "want"), Version: rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "version")}
	}
	limit := rapid.IntRange(0, 6).Draw(t, "limit")
	claimable := func(run store.Run) bool { return run.Status == store.Queued && m.first(run) }
	waiting := m.numbers(claimable)
	runs, next, err := m.queue.Claim(t.Context(), want, limit, m.now)
	m.must(t, err)
	got := map[int64][]int64{}
	for _, run := range runs {
		before := m.runs[run.Number]
		if !slices.Contains(waiting, run.Number) || before.Due.After(m.now) {
			t.Fatalf("run %d, %s, due %s, was claimed at %s", run.Number, before.Status, before.Due, m.now)
		}
		before.Status, before.Epoch = store.Running, m.queue.Epoch()
		before.Attempts++
		if before.Started.IsZero() {
			before.Started, before.Version = m.now, want[run.FlowID].Version
		}
		m.same(t, run, before)
		m.runs[run.Number] = before
		got[run.FlowID] = append(got[run.FlowID], run.Number)
	}
	var wantNext time.Time
	for flow, w := range want {
		all := slices.DeleteFunc(slices.Clone(waiting), func(n int64) bool { return m.runs[n].FlowID != flow })
		slices.SortStableFunc(all, func(a, b int64) int { return m.runs[a].Due.Compare(m.runs[b].Due) })
		took := len(got[flow])
		if took > w.Runs || !slices.Equal(got[flow], all[:took]) {
			t.Fatalf("flow %d: claimed %v of %v, wanted %d", flow, got[flow], all, w.Runs)
		}
		if took == w.Runs || took == len(all) {
			continue
		}
		due := m.runs[all[took]].Due
		if !due.After(m.now) && len(runs) < limit {
			t.Fatalf("flow %d: run %d was due and left", flow, all[took])
		}
		if wantNext.IsZero() || due.Before(wantNext) {
			wantNext = due
		}
	}
	if len(runs) > limit || !next.Equal(wantNext) {
		t.Fatalf("claimed %d of %d; next is %s, not %s", len(runs), limit, next, wantNext)
	}
}

func (m *model) Begin(t *rapid.T) {
	running := m.is(store.Running)
	if len(running) == 0 {
		t.Skip("nothing is claimed")
	}
	run := m.runs[rapid.SampledFrom(running).Draw(t, "run")]
	m.must(t, m.queue.Begin(t.Context(), []store.Run{run}))
	m.begun[run.Number] = run.Attempts
}

func (m *model) Settle(t *rapid.T) {
	var settlements []*store.Settlement
	for _, n := range m.is(store.Running) {
		if run := m.runs[n]; rapid.Bool().Draw(t, "this") {
			s := ended(run, rapid.SampledFrom([]store.Status{store.Success, store.Error, store.Queued}).Draw(t, "status"))
			s.Run.Ended = m.now
			if s.Run.Status == store.Queued {
				s.Run.Ended, s.Run.Due = time.Time{}, m.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "due"))*time.Second)
			} else {
				s.Rejects = m.body(t, "rejects")
			}
			s.Log = m.body(t, "log")
			settlements = append(settlements, s)
		}
	}
	written := slices.Clone(settlements)
	stale := m.numbers(func(run store.Run) bool { return run.Status != store.Running })
	lost := len(stale) > 0 && rapid.Bool().Draw(t, "stale")
	if lost {
		settlements = append(settlements, ended(m.runs[rapid.SampledFrom(stale).Draw(t, "run")], store.Warning))
	}
	err := m.queue.Settle(t.Context(), settlements)
	if !lost {
		m.must(t, err)
	} else if err == nil {
		t.Fatal("a stale settlement was written")
	}
	for _, s := range written {
		n := s.Run.Number
		if size := s.Rejects.Size + s.Log.Size; size > 0 {
			m.attached[n] = size
		}
		if s.Run.Epoch = 0; s.Run.Status.Settled() {
			s.Run.Bytes += m.attached[n]
		}
		m.runs[s.Run.Number] = s.Run
	}
}

func (m *model) Cancel(t *rapid.T) {
	active := m.numbers(func(run store.Run) bool { return !run.Status.Settled() })
	if len(active) == 0 {
		t.Skip("nothing is active")
	}
	run := m.runs[rapid.SampledFrom(active).Draw(t, "run")]
	canceled, err := m.queue.Cancel(t.Context(), run.Number, m.now)
	m.must(t, err)
	if canceled != (run.Status == store.Queued) {
		t.Fatalf("run %d is %s; canceled: %v", run.Number, run.Status, canceled)
	}
	if canceled {
		run.Status, run.Ended, run.Kind = store.Canceled, m.now, "canceled"
		run.Bytes += m.attached[run.Number]
		m.runs[run.Number] = run
	}
}

func (m *model) Insert(t *rapid.T) {
	n, err := m.queue.NextNumber(t.Context())
	m.must(t, err)
	s := &store.Settlement{Insert: true, Run: store.Run{Number: n, FlowID: 1, Queued: m.now, Ended: m.now, Status: store.Success}}
	m.must(t, m.queue.Settle(t.Context(), []*store.Settlement{s}))
	m.runs[n] = s.Run
}

func (m *model) Prune(t *rapid.T) {
	keep := store.Keep{Since: m.now.Add(time.Duration(-rapid.IntRange(0, 9).Draw(t, "since")) * time.Second), Runs: rapid.Int64Range(0, 3).Draw(t, "keep"),
		Bytes: rapid.Int64Range(0, 9).Draw(t, "bytes")}
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	old := m.numbers(func(run store.Run) bool { return run.Status.Settled() })
	slices.SortStableFunc(old, func(a, b int64) int { return m.runs[a].Ended.Compare(m.runs[b].Ended) })
	removed, err := m.Store.Prune(t.Context(), keep, limit)
	m.must(t, err)
	want := 0
	for ; want < min(len(old), limit); want++ {
		run, kept := m.runs[old[want]], m.kept()
		if !run.Ended.Before(keep.Since) && (keep.Runs == 0 || kept.Runs <= keep.Runs) && (keep.Bytes == 0 || kept.Bytes <= keep.Bytes) {
			break
		}
		delete(m.runs, run.Number)
		others := m.numbers(func(other store.Run) bool { return other.Message == run.Message })
		if run.Message != uuid.Nil && len(others) > 0 {
			heir := m.runs[others[0]]
			heir.Bytes += run.Bytes - m.attached[run.Number]
			m.runs[heir.Number] = heir
		} else {
			delete(m.messages, run.Message)
		}
	}
	if removed != want {
		t.Fatalf("removed %d runs of %v, not %d", removed, old, want)
	}
}

func (m *model) kept() (kept store.Kept) {
	for _, run := range m.runs {
		if run.Status.Settled() {
			kept.Runs++
			kept.Bytes += run.Bytes
		}
	}
	return kept
}

func (m *model) LeaveAndJoin(t *rapid.T) {
	m.must(t, m.queue.Leave())
	m.join(t)
}

func (m *model) Reopen(t *rapid.T) {
	if m.h.Reopen == nil {
		t.Skip("nothing survives in this back end")
	}
	m.Store = m.h.Reopen(m.t, m.Store)
	m.join(t)
}

func (m *model) TimePasses(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
}

// Check compares what the store tells with the model, after each action.
func (m *model) Check(t *rapid.T) {
	runs, err := m.Store.Runs(t.Context(), store.RunFilter{Limit: len(m.runs) + 1})
	m.must(t, err)
	all := slices.SortedFunc(maps.Values(m.runs), func(a, b store.Run) int { return cmp.Compare(b.Number, a.Number) })
	m.same(t, runs, all)
	kept, err := m.Store.Kept(t.Context())
	m.must(t, err)
	m.same(t, kept, m.kept())
	queued, running, err := m.queue.Waiting(t.Context())
	m.must(t, err)
	if int(queued) != len(m.is(store.Queued)) || int(running) != len(m.is(store.Running)) {
		t.Fatalf("%d queued and %d running, not %d and %d", queued, running, len(m.is(store.Queued)), len(m.is(store.Running)))
	}
	due, err := m.queue.Oldest(t.Context())
	m.must(t, err)
	var wantDue time.Time
	for _, n := range m.numbers(func(run store.Run) bool { return run.Status == store.Queued && m.first(run) }) {
		if first := m.runs[n].Due; wantDue.IsZero() || first.Before(wantDue) {
			wantDue = first
		}
	}
	if !due.Equal(wantDue) {
		t.Fatalf("what is due first is due %s, not %s", due, wantDue)
	}
	for id := range m.messages {
		_, err := m.Store.Message(t.Context(), id)
		m.must(t, err)
		runs, err := m.Store.MessageRuns(t.Context(), id)
		m.must(t, err)
		m.same(t, numbers(runs), m.numbers(func(run store.Run) bool { return run.Message == id }))
	}
}

func (m *model) same(t *rapid.T, got, want any) {
	if diff := difference(got, want); diff != "" {
		t.Fatalf("difference from the model (-) to the store (+):\n%s", diff)
	}
}
