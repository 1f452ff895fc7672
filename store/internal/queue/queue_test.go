package queue_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/store/internal/queue"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// entry is run n of a flow, due at noon.
func entry(n, flow int64, order string) queue.Entry {
	return queue.Entry{Number: n, Flow: flow, Due: noon, Order: order}
}

// queued enters runs and queues them.
func queued(x *queue.Index, entries ...queue.Entry) {
	for _, e := range entries {
		x.Enter(e)
		x.Queue(e)
	}
}

func take(x *queue.Index, limit int) string {
	taken, _ := x.Take(func(int64) int { return 100 }, limit, noon)
	return numbers(taken)
}

func numbers(entries []queue.Entry) string {
	var words []string
	for _, e := range entries {
		words = append(words, fmt.Sprint(e.Number))
	}
	return strings.Join(words, " ")
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func waiting(x *queue.Index) [2]int64 {
	queued, claimed := x.Waiting()
	return [2]int64{queued, claimed}
}

// A run that entered keeps its place before later ones also while it is being stored, and gives it up when it was not.
func TestARunOnItsWayKeepsItsPlace(t *testing.T) {
	t.Parallel()
	x := queue.New()
	one, two, three := entry(1, 1, "k"), entry(2, 1, "k"), entry(3, 1, "k")
	same(t, x.Enter(one), true)
	same(t, x.Enter(two, three), false)
	x.Queue(two)
	x.Queue(three)
	same(t, take(x, 9), "")
	x.Withdraw(one)
	same(t, take(x, 9), "2")
	same(t, waiting(x), [2]int64{1, 1})
}

func TestEnterTellsWhetherRunsAreFree(t *testing.T) {
	t.Parallel()
	x := queue.New()
	same(t, x.Enter(entry(1, 1, ""), entry(2, 1, ""), entry(3, 1, "k"), entry(4, 2, "k")), true)
	same(t, x.Enter(entry(5, 1, "j"), entry(6, 1, "j")), false)
	same(t, x.Enter(entry(7, 1, "l"), entry(8, 1, "k")), false)
}

// A run that is canceled while it waits for its turn, is due later, or is on its way to a claim is never taken and never counted.
func TestCanceledRunsAreGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cancel int64
		takes  string // at once, and when what it took has ended
		then   string
	}{
		{"the first", 1, "2 4", "3"},
		{"one that waits for its turn", 2, "1 4", "3"},
		{"the last", 3, "1 4", "2"},
		{"one without a key", 4, "1", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := queue.New()
			all := []queue.Entry{entry(1, 1, "k"), entry(2, 1, "k"), entry(3, 1, "k"), entry(4, 1, "")}
			queued(x, all...)
			x.Cancel(all[c.cancel-1])
			same(t, waiting(x), [2]int64{3, 0})
			taken, _ := x.Take(func(int64) int { return 100 }, 9, noon)
			slices.SortFunc(taken, func(a, b queue.Entry) int { return cmp.Compare(a.Number, b.Number) })
			same(t, numbers(taken), c.takes)
			for _, e := range taken {
				x.Settle(e)
			}
			same(t, take(x, 9), c.then)
		})
	}
	t.Run("due later", func(t *testing.T) {
		t.Parallel()
		x := queue.New()
		late := entry(1, 1, "")
		late.Due = noon.Add(time.Hour)
		queued(x, late)
		x.Cancel(late)
		_, next := x.Take(func(int64) int { return 1 }, 1, noon)
		same(t, next.IsZero(), true)
	})
	for name, end := range map[string]func(*queue.Index, queue.Entry){"being claimed": (*queue.Index).Settle, "being claimed in vain": (*queue.Index).Requeue} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := queue.New()
			one, two := entry(1, 1, "k"), entry(2, 1, "k")
			queued(x, one, two)
			same(t, take(x, 9), "1")
			x.Cancel(one)
			end(x, one)
			same(t, waiting(x), [2]int64{1, 0})
			same(t, take(x, 9), "2")
		})
	}
}

func TestARetryKeepsItsPlace(t *testing.T) {
	t.Parallel()
	x := queue.New()
	one, two := entry(1, 1, "k"), entry(2, 1, "k")
	queued(x, one, two)
	same(t, take(x, 9), "1")
	one.Due = noon.Add(time.Minute)
	x.Requeue(one)
	taken, next := x.Take(func(int64) int { return 9 }, 9, noon)
	same(t, numbers(taken), "")
	same(t, next, one.Due)
	taken, _ = x.Take(func(int64) int { return 9 }, 9, one.Due)
	same(t, numbers(taken), "1")
	x.Settle(one)
	same(t, take(x, 9), "2")
}

// The flow that was served longest ago is next, whatever stands idle between.
func TestFlowsTakeTurns(t *testing.T) {
	t.Parallel()
	x := queue.New()
	n := int64(0)
	for _, flow := range []int64{1, 2, 3, 4, 5} { // all are known
		n++
		queued(x, entry(n, flow, ""))
	}
	same(t, take(x, 9), "1 2 3 4 5")
	for range 4 {
		for _, flow := range []int64{1, 5} {
			n++
			queued(x, entry(n, flow, ""))
		}
	}
	for _, want := range []string{"6", "7", "8", "9 10 11", "12 13"} {
		same(t, take(x, len(strings.Fields(want))), want)
	}
}

func TestClaimed(t *testing.T) {
	t.Parallel()
	x := queue.New()
	for _, n := range []int64{1, 2, 3} {
		x.Enter(entry(n, 1, ""))
		x.Claim(entry(n, 1, ""))
	}
	x.Settle(entry(2, 1, ""))
	x.Settle(entry(2, 1, "")) // of one that is not claimed nothing is forgotten
	same(t, x.Claimed(), []int64{1, 3})
	same(t, waiting(x), [2]int64{0, 2})
}

// A long line costs no more than a short one.
func BenchmarkOneKey(b *testing.B) {
	x := queue.New()
	for n := range int64(b.N) {
		queued(x, entry(n+1, 1, "k"))
	}
	for range b.N {
		taken, _ := x.Take(func(int64) int { return 1 }, 1, noon)
		x.Settle(taken[0])
	}
}
