package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// latencies are how long calls took, the shortest first.
type latencies []time.Duration

// at returns what a share of the calls did not exceed, in milliseconds.
func (l latencies) at(share float64) float64 {
	return float64(l[int(share*float64(len(l)-1))].Microseconds()) / 1000
}

// The calls whose latency is measured: as many a second, over so many connections. The engine can do several times as much.
const (
	rate        = 2000
	connections = 16
)

// pace sends calls at the rate for a time, whatever became of those before. A call that cannot begin when it is due, because all connections are
// at work, has taken its time from then on: a moment in which nothing is answered counts for all calls that it holds up.
func (l *load) pace(length time.Duration) (latencies, error) {
	transport := l.transport(connections)
	defer transport.CloseIdleConnections()
	took := make(latencies, int(rate*length.Seconds()))
	var next atomic.Int64
	var group sync.WaitGroup
	faults := make(chan error, connections)
	started := time.Now()
	for range connections {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(took) {
					return
				}
				due := started.Add(time.Duration(i) * time.Second / rate)
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
					due = time.Now() // how late a sleeper wakes is not the engine's
				}
				if err := l.call(transport); err != nil {
					faults <- err
					return
				}
				took[i] = time.Since(due)
			}
		})
	}
	group.Wait()
	close(faults)
	if err := <-faults; err != nil {
		return nil, err
	}
	slices.Sort(took)
	return took, nil
}

// steady is how latencies are measured round by round: measure is that of a side, p99 in milliseconds; p50 has the other figures.
type steady struct{ p50 figures }

func (s *steady) measure(l *load, length time.Duration) (float64, error) {
	took, err := l.pace(length)
	if err != nil {
		return 0, err
	}
	s.p50 = append(s.p50, took.at(0.5))
	return took.at(0.99), nil
}

// compareLatency measures calls of a small engine, of the one in question and of the small one again, and shows what became of p50 and p99.
func (c *config) compareLatency(small, large string, goal float64, ofSmall, ofLarge func(*steady) (float64, error)) error {
	var sides [3]steady
	all, err := alternate(c.rounds, side{small, func() (float64, error) { return ofSmall(&sides[0]) }},
		side{large, func() (float64, error) { return ofLarge(&sides[1]) }}, side{small + " again", func() (float64, error) { return ofSmall(&sides[2]) }})
	if err != nil {
		return err
	}
	for i := range sides {
		sides[i].p50 = sides[i].p50[1:] // the first round does not count
	}
	tell("p50, "+small, sides[0].p50, "ms")
	tell("p50, "+large, sides[1].p50, "ms")
	tell("ratio", sides[1].p50.over(mean(sides[0].p50, sides[2].p50)), "")
	tell("p99, "+small, all[0], "ms")
	tell("p99, "+large, all[1], "ms")
	judge("ratio", all[1].over(mean(all[0], all[2])), "", atMost(goal))
	tell("control: "+small+" / "+small, all[2].over(all[0]), "")
	return nil
}

// waiting is another flow than the one that is called.
const waiting = `
listeners:
  others: {path: /others, format: json}
flows:
  later:
    from: {listener: others}
    steps:
      - filter: "priority > 1"
`

// growth measures what an engine's size means for acceptance.
func growth(c *config) error {
	history := 1_000_000
	if c.large {
		history = 10_000_000
	}
	for _, g := range []struct {
		name string
		fill func(dir string) (last int64, err error)
	}{
		{"10,000 listeners", func(dir string) (int64, error) { return 0, makeFlows(dir, 10_000) }},
		{fmt.Sprintf("%d queued runs", manyRuns), func(dir string) (int64, error) { return queueRuns(dir, manyRuns, "later") }},
		{fmt.Sprintf("%d ended runs", history), func(dir string) (int64, error) { return endRuns(dir, history, "watch", time.Now(), payload(1024)) }},
	} {
		if err := c.grown(g.name, g.fill); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// grown compares an engine after fill with one that has nothing but the calls' flow.
func (c *config) grown(name string, fill func(dir string) (last int64, err error)) error {
	small, large := filepath.Join(c.dir, "p9-small"), filepath.Join(c.dir, "p9-large")
	defer os.RemoveAll(small)
	defer os.RemoveAll(large)
	for _, dir := range []string{small, large} {
		if err := errors.Join(write(filepath.Join(dir, "flows", "flows.yaml"), []byte(filtering)), write(filepath.Join(dir, "flows", "others.yaml"), []byte(waiting))); err != nil {
			return err
		}
	}
	began := time.Now()
	last, err := fill(large)
	if err != nil {
		return err
	}
	row(name, fmt.Sprintf("made in %.0f s, the database has %.0f MiB", time.Since(began).Seconds(), fileSize(large)))
	few, toFew, err := c.startEngine(small, eventsRoute, payload(1024))
	if err != nil {
		return err
	}
	many, toMany, err := c.startEngine(large, eventsRoute, payload(1024))
	if err != nil {
		return errors.Join(err, few.stop())
	}
	of := func(l *load) func(*steady) (float64, error) {
		return func(s *steady) (float64, error) { return s.measure(l, 2*c.length) }
	}
	err = c.compareLatency("empty store", name, 1.2, of(toFew), of(toMany))
	if err == nil {
		row("memory at its peak, empty and not", fmt.Sprintf("%.0f and %.0f MiB", few.memory("VmHWM"), many.memory("VmHWM")))
	}
	if err := errors.Join(err, few.stop(), many.stop()); err != nil {
		return err
	}
	return errors.Join(allSucceeded(small, 0, toFew.answered.Load()), allSucceeded(large, last, toMany.answered.Load()))
}

// fileSize returns the size of the database below dir, in MiB.
func fileSize(dir string) float64 {
	info, err := os.Stat(filepath.Join(dir, "data", "integrator.db"))
	if err != nil {
		return 0
	}
	return float64(info.Size()) / (1 << 20)
}

// kept is how long a pruning engine keeps runs.
const kept = 30 * 24 * time.Hour

// bulkPrune measures acceptance while an engine removes very many runs at a time, and when it has.
func bulkPrune(c *config) error {
	runs := 500_000
	if c.large {
		runs = 2_000_000
	}
	fresh, full := filepath.Join(c.dir, "prune-fresh"), filepath.Join(c.dir, "prune")
	for _, dir := range []string{fresh, full} {
		if err := write(filepath.Join(dir, "flows", "flows.yaml"), []byte(filtering)); err != nil {
			return err
		}
	}
	old := time.Now().Add(-kept - 24*time.Hour)
	last, err := endRuns(full, runs, "watch", old, payload(1024))
	if err != nil {
		return err
	}
	row(fmt.Sprintf("%d runs that are over", runs), fmt.Sprintf("the database has %.0f MiB", fileSize(full)))
	answered := map[string]int64{}
	calls := func(dir string, with ...string) func(*steady) (float64, error) { // an engine that works for this measurement alone
		return func(s *steady) (float64, error) {
			p, l, err := c.startEngine(dir, eventsRoute, payload(1024), with...)
			if err != nil {
				return 0, err
			}
			_, err = l.pace(c.length / 4) // it comes to its work
			p99 := 0.0
			if err == nil {
				p99, err = s.measure(l, c.length)
			}
			answered[dir] += l.answered.Load()
			return p99, errors.Join(err, p.stop())
		}
	}
	if err := c.compareLatency("nothing is pruned", "pruning", 2, calls(full), calls(full, pruning)); err != nil {
		return err
	}
	pruned, took, err := pruneAll(full)
	if err != nil {
		return err
	}
	row("pruned while calls came", fmt.Sprintf("%10d", runs-pruned))
	if pruned == 0 {
		return errors.New("nothing was left to prune before the measurement ended: -large has more")
	}
	row("the others without calls or pauses", fmt.Sprintf("%10.0f runs/s", float64(pruned)/took.Seconds()))
	if err := c.compareLatency("a store without a past", "pruned store", 1.2, calls(fresh), calls(full)); err != nil {
		return err
	}
	return errors.Join(allSucceeded(fresh, 0, answered[fresh]), allSucceeded(full, last, answered[full]))
}

// pruneAll removes what is over, page by page as an engine does it, without pauses.
func pruneAll(dir string) (runs int, took time.Duration, err error) {
	st, err := boltstore.Open(filepath.Join(dir, "data"), nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	began := time.Now()
	for {
		n, err := st.Prune(context.Background(), store.Keep{Since: began.Add(-kept)}, 200)
		if err != nil || n == 0 {
			return runs, time.Since(began), err
		}
		runs += n
	}
}
