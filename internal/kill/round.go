package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/integrator-go/integrator/internal/failpoint"
)

const (
	senders   = 8
	patience  = 3 * time.Second // how long a point may take to be reached before it is tried again later, twice as long each time
	tries     = 5               // of one point
	startTime = 20 * time.Second
	drainTime = time.Minute
	keep      = 3 * time.Second // how long ended runs are kept by servers that are killed while they prune
)

// round is some kills of one server and its store.
type round struct {
	program string
	dir     string
	random  *rand.Rand
	log     *os.File // what the servers say
	gate    gate
	pruned  time.Time // what ended before may be gone
	api     api
}

// kill is one life of the server: until a random moment, or to a point.
type kill struct {
	point string // "" is a random moment
	tried int
}

// plan returns the kills of a round: every point once, some again that are passed often, and as many random moments. What prunes comes last,
// when there is something that is old enough, and in reverse: what pruning commits would cover up what it did before.
func (r *round) plan(kills int) []kill {
	var points, often, last []kill
	for _, p := range failpoint.Points {
		one := kill{point: p.Name}
		if strings.HasPrefix(p.Name, "prune.") {
			last = append([]kill{one}, last...)
			continue
		}
		points = append(points, one)
		if !strings.HasPrefix(p.Name, "tick.") {
			often = append(often, one)
		}
	}
	for len(points) < kills-len(last) {
		points = append(points, kill{})
		if r.random.IntN(2) == 0 {
			points[len(points)-1] = often[r.random.IntN(len(often))]
		}
	}
	r.random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return append(points, last...)[max(0, len(points)+len(last)-kills):]
}

// times is the greatest number of times that a point is passed before the server dies there.
func times(point string) int {
	switch kind, _, _ := strings.Cut(point, "."); kind {
	case "tick", "join", "checkpoint":
		return 1
	case "cancel", "replay", "prune":
		return 2
	case "blob", "retry", "claim", "append", "part":
		return 4
	}
	return 10
}

// run kills, and compares.
func (r *round) run(kills int, sum *figures) (err error) {
	r.api.applied = map[string]string{}
	called := httptest.NewServer(&r.api)
	defer called.Close()
	text := fmt.Appendf(nil, definitions, called.URL)
	if err := errors.Join(os.MkdirAll(r.dir, 0o700), os.WriteFile(filepath.Join(r.dir, "definitions.yaml"), text, 0o600)); err != nil {
		return err
	}
	if r.log, err = os.Create(filepath.Join(r.dir, "server.log")); err != nil {
		return err
	}
	defer r.log.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	sending, enough := context.WithCancel(ctx)
	defer enough()
	var group sync.WaitGroup
	work := func(name string, f func(l ledger) error) error {
		file, err := os.Create(filepath.Join(r.dir, name+".ledger"))
		if err != nil {
			return err
		}
		group.Go(func() {
			defer file.Close()
			if err := f(ledger{file}); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
		return nil
	}
	newCaller := func() caller {
		return caller{&r.gate, http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}}
	}
	for n := range senders {
		random := rand.New(rand.NewPCG(r.random.Uint64(), uint64(n)))
		err = errors.Join(err, work(fmt.Sprint("sender-", n), func(l ledger) error {
			return (&sender{caller: newCaller(), ledger: l, number: n, random: random}).work(ctx, sending)
		}))
	}
	watch := &operator{caller: newCaller(), seen: map[int64]bool{}}
	watching, seenEnough := context.WithCancel(ctx)
	defer seenEnough()
	err = errors.Join(err, work("operator", func(l ledger) error {
		watch.ledger = l
		return watch.work(ctx, watching)
	}))
	if err == nil {
		err = r.kills(ctx, kills, sum)
	}
	var server *process
	if err == nil {
		if server, err = r.start(kill{}, -1, 0); err == nil {
			defer server.command.Process.Kill() // when it has not ended in order
			enough()
			err = r.drained(ctx, server, watch)
		}
	}
	if err != nil {
		cancel(err)
	}
	enough()
	seenEnough()
	group.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what came of it first
	}
	if err != nil {
		sum.findings++
		return err
	}
	if err := server.stop(); err != nil {
		sum.findings++
		return fmt.Errorf("the server did not stop in order: %w", err)
	}
	return r.compare(sum)
}

// kills starts and kills servers.
func (r *round) kills(ctx context.Context, kills int, sum *figures) error {
	plan := r.plan(kills)
	for len(plan) > 0 {
		k := plan[0]
		plan = plan[1:]
		died, err := r.live(ctx, k)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case k.point == "":
			sum.random++
		case died:
			sum.at[k.point]++
		default: // not reached: killed at some moment, and tried again later
			sum.random++
			if k.tried++; k.tried < tries {
				plan = append(plan, k)
			}
		}
		sum.kills++
	}
	return nil
}

// live starts a server and waits until it is dead. It reports whether it died at the point.
func (r *round) live(ctx context.Context, k kill) (atPoint bool, err error) {
	retention, limit, fromStart := time.Duration(-1), patience<<k.tried, false
	n := 1
	if k.point == "" {
		limit = time.Duration(1+r.random.IntN(80)) * time.Millisecond
		if fromStart = r.random.IntN(8) == 0; fromStart {
			limit = time.Duration(r.random.IntN(20_000)) * time.Microsecond
		}
	} else {
		n += r.random.IntN(times(k.point))
	}
	if strings.HasPrefix(k.point, "prune.") {
		retention = keep
		defer func() { r.pruned = time.Now().Add(-keep) }()
	}
	p, err := r.start(k, retention, n)
	if err != nil {
		return false, err
	}
	defer func() {
		p.command.Process.Kill()
		<-p.ended
	}()
	if !fromStart {
		select {
		case <-p.ready:
		case <-p.ended:
			return k.point != "", p.diedWell(k)
		case <-time.After(startTime):
			return false, fmt.Errorf("the server was not ready within %v", startTime)
		}
	}
	select {
	case <-time.After(limit):
		return false, nil
	case <-ctx.Done():
		return false, nil
	case <-p.ended:
		return k.point != "", p.diedWell(k)
	}
}

// process is a running server.
type process struct {
	command *exec.Cmd
	stdin   io.WriteCloser // the process ends when it does
	ready   chan struct{}  // closed when it takes calls
	ended   chan struct{}  // closed when it has ended, with err
	err     error
	log     string
}

// start starts a server that kills itself when it passes a point for the nth time.
func (r *round) start(k kill, retention time.Duration, n int) (*process, error) {
	p := &process{command: exec.Command(r.program, "-server", r.dir, "-retention", retention.String()), ready: make(chan struct{}), ended: make(chan struct{}), log: r.log.Name()}
	p.command.Stderr = r.log
	if k.point != "" {
		p.command.Env = append(os.Environ(), fmt.Sprintf("INTEGRATOR_FAILPOINT=%s:%d", k.point, n))
	}
	var err error
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		if lines.Scan() {
			r.gate.set(lines.Text())
			close(p.ready)
		}
		io.Copy(io.Discard, out)
		p.err = p.command.Wait()
		r.gate.set("")
	}()
	return p, nil
}

// diedWell returns why a server should not have ended as it did: only at its point, by its own hand.
func (p *process) diedWell(k kill) error {
	<-p.ended
	if k.point != "" && p.command.ProcessState.ExitCode() == -1 {
		return nil
	}
	return fmt.Errorf("the server ended by itself, %v: see %s", p.err, p.log)
}

// stop ends a server in order.
func (p *process) stop() error {
	if _, err := io.WriteString(p.stdin, "stop\n"); err != nil {
		return err
	}
	<-p.ended
	return p.err
}

// drained waits until nothing is queued or running any more, and what was rejected or crashed too often has been replayed.
func (r *round) drained(ctx context.Context, p *process, o *operator) error {
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	go func() { // ends with the server
		<-p.ended
		over(p.diedWell(kill{}))
	}()
	c := caller{&r.gate, http.Client{Timeout: 30 * time.Second}}
	deadline := time.Now().Add(drainTime)
	for quiet := 0; quiet < 3; quiet++ {
		for _, status := range []string{"queued", "running"} {
			code, answer, err := c.call(ctx, "GET", "/rest/v1/runs?limit=1&status="+status, "", nil)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("the history cannot be read: %d %s %v", code, answer, err)
			}
			if !strings.Contains(string(answer), `"runs":[]`) {
				quiet = -1
			}
		}
		found, err := o.look(ctx, true)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if found > 0 {
			quiet = -1
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("runs still wait %v after the last kill", drainTime)
		}
		time.Sleep(100 * time.Millisecond) // an operator's look
	}
	return nil
}
