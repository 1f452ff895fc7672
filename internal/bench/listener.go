package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

const (
	eventsRoute = listenerRoute + "/events"
	quoteRoute  = listenerRoute + "/quote"
)

const filtering = `
listeners:
  events: {path: /events, format: json}
flows:
  watch:
    from: {listener: events}
    steps:
      - filter: "priority > 1 and country == 'GB'"
`

// asynchronous measures acceptance: 1 KiB of JSON is on disk before the answer, and a flow filters it afterwards.
func asynchronous(c *config) error {
	dir := filepath.Join(c.dir, "p1")
	p, err := c.startPair(dir, filtering, eventsRoute, payload(1024))
	if err != nil {
		return err
	}
	if err := p.compare(c, 64, 0.45); err != nil {
		return err
	}
	answered := p.toEngine.answered.Load()
	wrote, err := p.stop()
	if err != nil {
		return err
	}
	judge("events for one sync", figures{float64(answered) / float64(wrote.Syncs)}, "", atLeast(20))
	row("bytes of journal for one event", short(float64(wrote.Journal)/float64(answered)))
	if err := allSucceeded(dir, 0, answered); err != nil {
		return err
	}
	return c.alone()
}

// alone measures acceptance over one connection, against the rate at which the disk syncs.
func (c *config) alone() error {
	dir := filepath.Join(c.dir, "p1-alone")
	p, err := c.startPair(dir, filtering, eventsRoute, payload(1024))
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "synced"))
	if err != nil {
		return err
	}
	defer file.Close()
	const blocks, block = 256, 4096
	if _, err := file.Write(make([]byte, blocks*block)); err != nil {
		return err
	}
	syncs := func() (float64, error) { // as many commits a second as the disk's syncs would allow
		text, n, began := make([]byte, block), 0, time.Now()
		for ; time.Since(began) < c.length; n++ {
			if _, err := file.WriteAt(text, int64(n%blocks*block)); err != nil {
				return 0, err
			}
			if err := syncData(file); err != nil {
				return 0, err
			}
		}
		return float64(n) / syncsOfCommit / time.Since(began).Seconds(), nil
	}
	one := func() (float64, error) { return p.toEngine.drive(1, c.length) }
	all, err := alternate(c.rounds, side{"syncs", syncs}, side{"engine", one}, side{"syncs again", syncs})
	if err != nil {
		return err
	}
	tell("one connection: syncs of the disk / 2", all[0], "commits/s")
	tell("one connection: engine", all[1], "calls/s")
	judge("engine / (syncs / 2)", all[1].over(mean(all[0], all[2])), "", atLeast(0.45))
	tell("control: syncs / syncs", all[2].over(all[0]), "")
	answered := p.toEngine.answered.Load()
	wrote, err := p.stop()
	if err != nil {
		return err
	}
	row("syncs for one event", short(float64(wrote.Syncs)/float64(answered)))
	return allSucceeded(dir, 0, answered)
}

// syncsOfCommit is how often a call over one connection has to wait for the disk at the least, as the target counts: when it is accepted, and when
// its run is settled.
const syncsOfCommit = 2

// allSucceeded checks that the history holds a run for each call that was answered, each of them a success. Runs numbered up to last were there
// before.
func allSucceeded(dir string, last, answered int64) error {
	st, err := boltstore.Open(filepath.Join(dir, "data"), nil)
	if err != nil {
		return err
	}
	defer st.Close()
	filter := store.RunFilter{Limit: 1000}
	n := int64(0)
all:
	for {
		runs, err := st.Runs(context.Background(), filter)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if run.Number <= last {
				break all
			}
			if run.Status != store.Success {
				return fmt.Errorf("run %d is %s", run.Number, run.Status)
			}
			filter.Before = run.Number
			n++
		}
		if len(runs) == 0 {
			break
		}
	}
	if n != answered {
		return fmt.Errorf("%d calls were answered and the history holds %d runs", answered, n)
	}
	row("answered, and in the history", fmt.Sprintf("%10d", n))
	return nil
}

const quoting = `
listeners:
  quote: {path: /quote, format: json, mode: sync}
flows:
  quote:
    from: {listener: quote}
    steps:
      - map:
          order: id
          customer: customer
          place: "= city + ', ' + country"
          currency: currency
          day: date
          open: "= status == 'open'"
          urgent: "= priority > 2"
          note: "= note ?? ''"
          positions: "= len(lines)"
          total: "= sum(lines, .qty * .price)"
    respond: {format: json}
`

// synchronous measures a mapping of ten fields that is answered, and recorded in the history before.
func synchronous(c *config) error {
	dir := filepath.Join(c.dir, "p2")
	body := payload(1024)
	p, err := c.startPair(dir, quoting, quoteRoute, body)
	if err != nil {
		return err
	}
	if p.toEngine.check, err = quoted(body); err != nil {
		return err
	}
	if err := p.compare(c, 64, 0.5); err != nil {
		return err
	}
	answered := p.toEngine.answered.Load()
	if _, err := p.stop(); err != nil {
		return err
	}
	return allSucceeded(dir, 0, answered)
}

// quoted returns a check of the answers: all are the first one, and that one holds the order's total.
func quoted(body []byte) (func([]byte) error, error) {
	var order struct {
		Lines []struct{ Qty, Price float64 }
	}
	if err := json.Unmarshal(body, &order); err != nil {
		return nil, err
	}
	cents := 0.0
	for _, l := range order.Lines {
		cents += l.Qty * l.Price * 100
	}
	end := fmt.Sprintf(`"positions":%d,"total":%g}`, len(order.Lines), float64(int(cents+0.5))/100)
	return func(answer []byte) error {
		if text := string(answer); len(text) < len(end) || text[len(text)-len(end)-1:] != end+"\n" {
			return fmt.Errorf("the answer does not end in %s: %s", end, answer)
		}
		return nil
	}, nil
}
