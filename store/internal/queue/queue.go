// Package queue is the order in which runs are claimed: an index in memory beside a store that keeps the runs themselves. Exclusive back
// ends share it.
//
// A run enters before it is stored, so that its place in its order key's line is fixed by its number; it is withdrawn when storing it
// failed, otherwise it becomes queued or claimed. From then on the index follows what the store has committed, in the order of commits.
package queue

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"sync"
	"time"
)

// Entry is what the index knows of an active run.
type Entry struct {
	Number int64
	Flow   int64
	Due    time.Time
	Order  string // "" runs at any time
}

// Index holds the active runs of a store. It is safe for concurrent use.
type Index struct {
	mu      sync.Mutex
	flows   map[int64]*due
	turn    []int64           // flows, the one that was served longest ago first
	lines   map[order][]place // by number
	queued  int64
	claimed map[int64]bool
	gone    map[int64]bool // canceled, still in a heap
	changed chan struct{}
}

type order struct {
	flow int64
	key  string
}

// place is an active run in the line of its order key. Only the first of a line is offered or claimed.
type place struct {
	Entry
	ready bool // queued, to be offered when it is the first
}

// New returns an empty index.
func New() *Index {
	return &Index{flows: map[int64]*due{}, lines: map[order][]place{}, claimed: map[int64]bool{}, gone: map[int64]bool{}, changed: make(chan struct{}, 1)}
}

// Changed is signalled when something may have become claimable.
func (x *Index) Changed() <-chan struct{} { return x.changed }

// Waiting returns how many runs are queued and claimed.
func (x *Index) Waiting() (queued, claimed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.queued, int64(len(x.claimed))
}

// Oldest returns the due time of the run that is due first, of those that are offered; zero when none is.
func (x *Index) Oldest() (due time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range x.turn {
		if first, ok := x.first(id); ok && (due.IsZero() || first.Due.Before(due)) {
			due = first.Due
		}
	}
	return due
}

// Claimed returns the numbers of the claimed runs, rising.
func (x *Index) Claimed() []int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Sorted(maps.Keys(x.claimed))
}

// Enter gives new runs, with numbers above all earlier ones, their places. It reports whether each may run at once.
func (x *Index) Enter(entries ...Entry) (free bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	free = true
	for _, e := range entries {
		if e.Order != "" {
			k := order{e.Flow, e.Order}
			free = free && len(x.lines[k]) == 0
			x.lines[k] = append(x.lines[k], place{Entry: e})
		}
	}
	return free
}

// Withdraw takes back a run that entered and was not stored.
func (x *Index) Withdraw(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leave(e)
}

// Queue makes a run that entered claimable.
func (x *Index) Queue(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.queued++
	x.offer(e)
}

// Claim counts a run that entered as claimed.
func (x *Index) Claim(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claimed[e.Number] = true
}

// Take claims due runs: of each flow at most what want says, limit together, flows taking turns. next is when the next run becomes due of
// the flows that want more, zero when none waits.
func (x *Index) Take(want func(flow int64) int, limit int, now time.Time) (taken []Entry, next time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	got := map[int64]int{}
	for len(taken) < limit {
		i := slices.IndexFunc(x.turn, func(id int64) bool {
			if got[id] >= want(id) {
				return false
			}
			first, ok := x.first(id)
			return ok && !first.Due.After(now)
		})
		if i < 0 {
			break
		}
		id := x.turn[i]
		x.turn = append(slices.Delete(x.turn, i, i+1), id)
		e := heap.Pop(x.flows[id]).(Entry)
		x.claimed[e.Number] = true
		x.queued--
		got[id]++
		taken = append(taken, e)
	}
	for _, id := range x.turn {
		if got[id] >= want(id) {
			continue
		}
		if first, ok := x.first(id); ok && (next.IsZero() || first.Due.Before(next)) {
			next = first.Due
		}
	}
	return taken, next
}

// Requeue puts a claimed run back, for another attempt. A run that was canceled while it was being claimed stays away.
func (x *Index) Requeue(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.claimed[e.Number] {
		delete(x.claimed, e.Number)
		x.queued++
		x.offer(e)
	}
}

// Settle forgets a claimed run.
func (x *Index) Settle(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.claimed[e.Number] {
		delete(x.claimed, e.Number)
		x.leave(e)
	}
}

// Cancel forgets a run that is queued in the store, also when it is being claimed.
func (x *Index) Cancel(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.claimed[e.Number]:
		delete(x.claimed, e.Number)
	case e.Order == "" || x.lines[order{e.Flow, e.Order}][0].Number == e.Number:
		x.queued--
		x.gone[e.Number] = true
	default:
		x.queued--
	}
	x.leave(e)
}

// offer makes a queued run claimable, once it is the first of its line.
func (x *Index) offer(e Entry) {
	if e.Order != "" {
		line := x.lines[order{e.Flow, e.Order}]
		if i, _ := at(line, e.Number); i > 0 {
			line[i] = place{e, true}
			return
		}
	}
	f := x.flows[e.Flow]
	if f == nil {
		f = &due{}
		x.flows[e.Flow] = f
		x.turn = append(x.turn, e.Flow)
	}
	heap.Push(f, e)
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// leave takes a run out of its line and offers the next one.
func (x *Index) leave(e Entry) {
	if e.Order == "" {
		return
	}
	k := order{e.Flow, e.Order}
	line := x.lines[k]
	i, found := at(line, e.Number)
	switch {
	case !found:
		return
	case len(line) == 1:
		delete(x.lines, k)
		return
	case i > 0:
		x.lines[k] = slices.Delete(line, i, i+1)
		return
	}
	line[0] = place{}
	line = line[1:]
	x.lines[k] = line
	if line[0].ready {
		line[0].ready = false
		x.offer(line[0].Entry)
	}
}

func at(line []place, number int64) (int, bool) {
	return slices.BinarySearchFunc(line, number, func(p place, n int64) int { return cmp.Compare(p.Number, n) })
}

// first returns the flow's run that is due first.
func (x *Index) first(flow int64) (Entry, bool) {
	f := x.flows[flow]
	for len(*f) > 0 && x.gone[(*f)[0].Number] {
		delete(x.gone, heap.Pop(f).(Entry).Number)
	}
	if len(*f) == 0 {
		return Entry{}, false
	}
	return (*f)[0], true
}

// due is a heap of runs by due time, then number.
type due []Entry

func (h due) Len() int { return len(h) }
func (h due) Less(i, j int) bool {
	return cmp.Or(h[i].Due.Compare(h[j].Due), cmp.Compare(h[i].Number, h[j].Number)) < 0
}
func (h due) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *due) Push(e any)   { *h = append(*h, e.(Entry)) }
func (h *due) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
