// Package queue is the order in which runs are claimed: an index in memory beside a store that keeps the runs themselves. Exclusive back
// ends share it.
package queue

import (
	"container/heap"
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
	flows   map[int64]*flow
	turn    []int64 // flows in the order of their turns
	open    map[order]*line
	queued  int64
	claimed int64
	gone    map[int64]bool // canceled, still in a heap
	changed chan struct{}
}

type order struct {
	flow int64
	key  string
}

// line is the active runs of one order key, oldest first; parked holds those that were due before their turn.
type line struct {
	numbers []int64
	parked  []Entry
}

type flow struct{ due entries }

// New returns an empty index.
func New() *Index {
	return &Index{flows: map[int64]*flow{}, open: map[order]*line{}, gone: map[int64]bool{}, changed: make(chan struct{}, 1)}
}

// Changed is signalled when something may have become claimable.
func (x *Index) Changed() <-chan struct{} { return x.changed }

func (x *Index) signal() {
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// Waiting returns how many runs are queued and claimed.
func (x *Index) Waiting() (queued, claimed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.queued, x.claimed
}

// Free reports whether no active run has the order key.
func (x *Index) Free(flow int64, key string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return key == "" || x.open[order{flow, key}] == nil
}

// Add enters a new run, queued or claimed.
func (x *Index) Add(e Entry, claimed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.Order != "" {
		k := order{e.Flow, e.Order}
		l := x.open[k]
		if l == nil {
			l = &line{}
			x.open[k] = l
		}
		l.numbers = append(l.numbers, e.Number)
		slices.Sort(l.numbers)
	}
	if claimed {
		x.claimed++
		return
	}
	x.queued++
	x.push(e)
	x.signal()
}

func (x *Index) push(e Entry) {
	f := x.flows[e.Flow]
	if f == nil {
		f = &flow{}
		x.flows[e.Flow] = f
		x.turn = append(x.turn, e.Flow)
	}
	heap.Push(&f.due, e)
}

// Take takes due runs out: of each flow at most want says, limit together, flows taking turns. next is when the next run of the wanted
// flows becomes due, zero when none waits.
func (x *Index) Take(want func(flow int64) int, limit int, now time.Time) (taken []Entry, next time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	got := map[int64]int{}
	for progress := true; progress && len(taken) < limit; {
		progress = false
		for _, id := range x.turn {
			if len(taken) == limit {
				break
			}
			if got[id] >= want(id) {
				continue
			}
			if e, ok := x.pop(id, now); ok {
				taken = append(taken, e)
				got[id]++
				progress = true
			}
		}
	}
	if n := len(x.turn); n > 1 { // the next call begins with another flow
		x.turn = append(x.turn[1:], x.turn[0])
	}
	for id, f := range x.flows {
		if len(f.due) > 0 && want(id) > got[id] && (next.IsZero() || f.due[0].Due.Before(next)) {
			next = f.due[0].Due
		}
	}
	x.queued -= int64(len(taken))
	x.claimed += int64(len(taken))
	return taken, next
}

// pop takes the flow's first due run whose order key allows it.
func (x *Index) pop(id int64, now time.Time) (Entry, bool) {
	f := x.flows[id]
	for f != nil && len(f.due) > 0 && !f.due[0].Due.After(now) {
		e := heap.Pop(&f.due).(Entry)
		if x.gone[e.Number] {
			delete(x.gone, e.Number)
			continue
		}
		if e.Order != "" {
			if l := x.open[order{e.Flow, e.Order}]; l.numbers[0] != e.Number {
				l.parked = append(l.parked, e)
				continue
			}
		}
		return e, true
	}
	return Entry{}, false
}

// Requeue puts a claimed run back, for another attempt.
func (x *Index) Requeue(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claimed--
	x.queued++
	x.push(e)
	x.signal()
}

// Vanished forgets a run that was taken but canceled before its claim was written.
func (x *Index) Vanished(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claimed--
	x.queued++ // the cancel has counted it out
	delete(x.gone, e.Number)
}

// Done forgets a run that was claimed, or queued when it is canceled.
func (x *Index) Done(e Entry, claimed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if claimed {
		x.claimed--
	} else {
		x.queued--
		x.gone[e.Number] = true
	}
	if e.Order == "" {
		return
	}
	k := order{e.Flow, e.Order}
	l := x.open[k]
	if l == nil {
		return
	}
	if i := slices.Index(l.numbers, e.Number); i >= 0 {
		l.numbers = slices.Delete(l.numbers, i, i+1)
	}
	if i := slices.IndexFunc(l.parked, func(p Entry) bool { return p.Number == e.Number }); i >= 0 {
		l.parked = slices.Delete(l.parked, i, i+1)
		delete(x.gone, e.Number)
	}
	if len(l.numbers) == 0 {
		delete(x.open, k)
		return
	}
	if i := slices.IndexFunc(l.parked, func(p Entry) bool { return p.Number == l.numbers[0] }); i >= 0 {
		x.push(l.parked[i])
		l.parked = slices.Delete(l.parked, i, i+1)
		x.signal()
	}
}

// entries is a heap by due time, then number.
type entries []Entry

func (h entries) Len() int { return len(h) }
func (h entries) Less(i, j int) bool {
	if h[i].Due.Equal(h[j].Due) {
		return h[i].Number < h[j].Number
	}
	return h[i].Due.Before(h[j].Due)
}
func (h entries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *entries) Push(e any)   { *h = append(*h, e.(Entry)) }
func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
