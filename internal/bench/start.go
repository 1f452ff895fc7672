package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ready measures how long an engine takes from the start of its process until it takes calls; its store is there already.
func ready(c *config) error {
	few, many := filepath.Join(c.dir, "p8-few"), filepath.Join(c.dir, "p8-many")
	for dir, flows := range map[string]int{few: 10, many: 1000} {
		if err := makeFlows(dir, flows); err != nil {
			return err
		}
	}
	var resting figures // memory of the engine with few flows
	starting := func(rest *figures, role string, args ...string) func() (float64, error) {
		return func() (float64, error) {
			began := time.Now()
			p, err := c.start(role, args...)
			if err != nil {
				return 0, err
			}
			if err := p.read(&serving{}); err != nil {
				return 0, err
			}
			took := time.Since(began)
			if rest != nil {
				time.Sleep(time.Second) // it comes to rest
				*rest = append(*rest, p.memory("VmRSS"))
			}
			return float64(took.Microseconds()) / 1000, p.stop()
		}
	}
	var restingMany figures
	all, err := alternate(c.rounds, side{"bare handler", starting(nil, "bare", "1")}, side{"10 flows", starting(&resting, "engine", few)},
		side{"1,000 flows", starting(&restingMany, "engine", many)}, side{"bare handler again", starting(nil, "bare", "1")})
	if err != nil {
		return err
	}
	tell("bare handler", all[0], "ms")
	judge("10 flows", all[1], "ms", atMost(50))
	judge("1,000 flows", all[2], "ms", atMost(300))
	tell("control: bare handler / bare handler", all[3].over(all[0]), "")
	judge("memory at rest, 10 flows", resting, "MiB", atMost(30))
	tell("memory at rest, 1,000 flows", restingMany, "MiB")
	if !c.large {
		return nil
	}
	names := make([]string, 10)
	for i := range names {
		names[i] = "f" + strconv.Itoa(i)
	}
	if _, err := queueRuns(few, manyRuns, names...); err != nil {
		return err
	}
	var restingQueued figures
	queued, err := alternate(c.rounds, side{"1,000,000 queued runs", starting(&restingQueued, "engine", few)})
	if err != nil {
		return err
	}
	judge("10 flows, 1,000,000 queued runs", queued[0], "ms", atMost(1000))
	tell("memory then", restingQueued, "MiB")
	return nil
}

// makeFlows makes definitions of flows with a listener and six expressions each, 100 in a file.
func makeFlows(dir string, flows int) error {
	for first := 0; first < flows; first += 100 {
		var listeners, text strings.Builder
		for i := first; i < min(first+100, flows); i++ {
			fmt.Fprintf(&listeners, "  l%d: {path: '/p%d/{store}', format: json}\n", i, i)
			fmt.Fprintf(&text, `  f%[1]d:
    from: {listener: l%[1]d, records: "orders[*]"}
    steps:
      - filter: "qty > %[1]d and status != 'void'"
      - map:
          id: id
          store: "= param.store"
          customer: "= customer.last + ', ' + customer.first"
          total: "= qty * price"
          lines: "= sum(lines, .qty * .price)"
          note: "= note ?? 'none %[1]d'"
`, i)
		}
		path := filepath.Join(dir, "flows", "part"+strconv.Itoa(first)+".yaml")
		if err := write(path, []byte("listeners:\n"+listeners.String()+"flows:\n"+text.String())); err != nil {
			return err
		}
	}
	return nil
}
