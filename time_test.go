package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// The tests of this file run in bubbles, in which time passes when everybody waits for it: engine, server and client are all inside.

// bubble is an engine with a server and a client that are joined by pipes.
type bubble struct {
	*host
	client *http.Client
	pipes  *pipeListener
}

// inBubble calls f with an engine at work.
func inBubble(t *testing.T, yaml string, f func(b *bubble), changes ...func(*integrator.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, dir: t.TempDir(), log: &syncBuffer{}, events: newWatcher()}
		config := integrator.Config{Store: memstore.New(), BaseDir: h.dir, Definitions: definitionsOf(yaml), Observer: h.events, Logger: logger(h.log)}
		for _, change := range changes {
			change(&config)
		}
		engine, err := integrator.New(config)
		if err != nil {
			t.Fatal(err)
		}
		h.engine = engine
		done := make(chan error, 1)
		go func() { done <- engine.Run(context.Background()) }()
		<-engine.Ready()
		b := &bubble{host: h, pipes: newPipeListener()}
		server := &http.Server{Handler: engine.Handler()}
		go server.Serve(b.pipes)
		b.client = &http.Client{Transport: &http.Transport{DialContext: b.pipes.dial, DisableKeepAlives: true}}
		f(b)
		server.Close()
		engine.Close()
		if err := <-done; err != nil {
			t.Errorf("the engine ended with: %v", err)
		}
	})
}

func (b *bubble) do(ctx context.Context, method, path, token string, body io.Reader) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, body)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := b.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(text)}, err
}

func (b *bubble) must(method, path, token, body string) reply {
	b.t.Helper()
	r, err := b.do(context.Background(), method, path, token, strings.NewReader(body))
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (b *bubble) login() string {
	b.t.Helper()
	r := b.must("POST", "/rest/v1/token-auth/issue", "", `{"login": "ops", "password": "password-ops"}`)
	return decode[struct{ Token string }](b.t, r.body).Token
}

// pipeListener accepts connections that are pipes.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.close(); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const slowYAML = `
connections: {out: {type: file, dir: out}}
listeners:
  pure:    {path: /pure, format: json, mode: sync, timeout: 10s}
  written: {path: /written, format: json, mode: sync, timeout: 10s}
  async:   {path: /async, format: json, max_body: 1GiB}
flows:
  pure:    {from: {listener: pure}, steps: [{go: slow}], respond: {}}
  written: {from: {listener: written}, steps: [{go: slow}], to: {connection: out, path: written.ndjson, format: ndjson}}
  async:   {from: {listener: async}, steps: [{go: slow}], to: {connection: out, path: async.ndjson, format: ndjson}}
  limited: {steps: [{go: slow}], timeout: 5s, to: {connection: out, path: limited.ndjson, format: ndjson}, retry: {attempts: 3}}
  named:   {steps: [{go: slow}], to: {connection: out, path: named.ndjson, format: ndjson}}
users: {ops: {role: operator, password: password-ops}}
`

// slow makes the step `slow` wait until its run ends or the time has passed.
func slow(wait time.Duration) func(*integrator.Config) {
	return func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"slow": func(ctx context.Context, r *transform.Record) error {
			select {
			case <-time.After(wait):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
	}
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		token := b.login()
		time.Sleep(30*time.Second - time.Millisecond)
		if r := b.must("GET", "/rest/v1/runs", token, ""); r.status != 200 {
			t.Errorf("before its end: %d %s", r.status, r.body)
		}
		time.Sleep(time.Millisecond)
		if r := b.must("GET", "/rest/v1/runs", token, ""); r.status != 401 {
			t.Errorf("at its end: %d %s", r.status, r.body)
		}
	}, slow(0))
}

// TestTokenInTimeIsGoodForASlowBody begins an upload in time and ends it after the token has expired.
func TestTokenInTimeIsGoodForASlowBody(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		body, write := io.Pipe()
		token := b.login()
		go func() {
			for i := range 40 {
				fmt.Fprintf(write, "%s\n%s", map[bool]string{true: "[", false: ","}[i == 0], `"`+strings.Repeat("x", 5000)+`"`)
				time.Sleep(time.Second)
			}
			io.WriteString(write, "]")
			write.Close()
		}()
		if r, err := b.do(context.Background(), "POST", listeners+"/async", token, body); err != nil || r.status != 200 {
			t.Errorf("%v %d %s", err, r.status, r.body)
		}
	}, slow(0))
}

func TestClockSetBackRevivesNothing(t *testing.T) {
	t.Parallel()
	var back atomic.Int64
	inBubble(t, slowYAML, func(b *bubble) {
		token := b.login()
		time.Sleep(31 * time.Second)
		if r := b.must("GET", "/rest/v1/runs", token, ""); r.status != 401 {
			t.Errorf("expired: %d", r.status)
		}
		back.Store(int64(time.Minute))
		if r := b.must("GET", "/rest/v1/runs", token, ""); r.status != 401 {
			t.Errorf("after the clock was set back: %d", r.status)
		}
	}, slow(0), func(c *integrator.Config) {
		c.Clock = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	})
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		token := b.login()
		body, write := io.Pipe()
		defer write.Close()
		go io.WriteString(write, `{"a":`)
		began := time.Now()
		r, err := b.do(context.Background(), "POST", listeners+"/async", token, body)
		if err != nil || r.status != http.StatusRequestTimeout {
			t.Errorf("%v %d %s", err, r.status, r.body)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it was waited for for %v", took)
		}
	}, slow(0))
}

// TestBodyThatNobodyReads refuses a call whose body never comes: the answer leaves all the same.
func TestBodyThatNobodyReads(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		body, write := io.Pipe()
		defer write.Close()
		go io.WriteString(write, `{`)
		began := time.Now()
		r, err := b.do(context.Background(), "POST", listeners+"/async", "no token", body)
		if err != nil || r.status != http.StatusUnauthorized {
			t.Errorf("%v %d %s", err, r.status, r.body)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the answer took %v", took)
		}
	}, slow(0))
}

func TestSynchronousTimeLimits(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		token := b.login()
		r := b.must("POST", listeners+"/pure", token, "{}")
		if r.status != http.StatusGatewayTimeout || !strings.Contains(r.body, `problem:timeout"`) {
			t.Errorf("nothing was written: %d %s", r.status, r.body)
		}
		if run := last[flow.Settled](b.events).Run; run.Status != store.Error || run.Kind != flow.KindTimeout {
			t.Errorf("the pure run is %v of kind %s", run.Status, run.Kind)
		}
		r = b.must("POST", listeners+"/written", token, "{}")
		receipt := decode[receipt](t, r.body)
		if r.status != http.StatusAccepted || receipt.Status != "running" || r.header.Get("Location") != "/rest/v1/messages/"+receipt.MessageUUID.String() {
			t.Errorf("what is written goes on: %d %v %s", r.status, r.header, r.body)
		}
		if e := b.events.settled(receipt.AuditID); e.Run.Status != store.Success || e.Took != 15*time.Second {
			t.Errorf("it ended in %v after %v", e.Run.Status, e.Took)
		}
	}, slow(15*time.Second))
}

func TestRunByNameStillRuns(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		r := b.must("POST", "/plugins/flows/rest/v1/flow-name/named/run", b.login(), "")
		if r.status != 200 || strings.TrimSpace(r.body) != `{"status":1,"exception":"run 1 is still running"}` {
			t.Errorf("%d %s", r.status, r.body)
		}
		if e := b.events.settled(1); e.Run.Status != store.Success {
			t.Errorf("it ended in %v", e.Run.Status)
		}
	}, slow(90*time.Second))
}

func TestCallerGone(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]store.Status{"/pure": store.Canceled, "/written": store.Success} {
		inBubble(t, slowYAML, func(b *bubble) {
			token := b.login()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if _, err := b.do(ctx, "POST", listeners+path, token, strings.NewReader("{}")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: the call ended with %v", path, err)
			}
			if e := await(b.events, func(flow.Settled) bool { return true }); e.Run.Status != want {
				t.Errorf("%s: the run is %v, want %v", path, e.Run.Status, want)
			}
		}, slow(5*time.Second))
	}
}

func TestFlowTimeLimit(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		began := time.Now()
		result, err := b.engine.RunFlow(context.Background(), "limited", nil)
		var failure *flow.Failure
		if err != nil || !errors.As(result.Err, &failure) || failure.Kind != flow.KindTimeout || time.Since(began) != 5*time.Second {
			t.Errorf("%v %+v after %v", err, result, time.Since(began))
		}
	}, slow(time.Hour))
}

func TestCancelRunning(t *testing.T) {
	t.Parallel()
	inBubble(t, slowYAML, func(b *bubble) {
		token := b.login()
		r := b.must("POST", listeners+"/async", token, "{}")
		run := decode[receipt](t, r.body).AuditID
		await(b.events, func(e flow.Started) bool { return e.Run == run })
		if r := b.must("POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", run), token, ""); r.status != http.StatusAccepted {
			t.Errorf("cancel: %d %s", r.status, r.body)
		}
		if e := b.events.settled(run); e.Run.Status != store.Canceled || e.Took > time.Second {
			t.Errorf("it is %v after %v", e.Run.Status, e.Took)
		}
	}, slow(time.Hour))
}

// TestStopIsBounded stops an engine while calls wait for runs that take for ever: after the drain time they are interrupted.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/pure", "/written"} {
		inBubble(t, slowYAML, func(b *bubble) {
			token := b.login()
			answered := make(chan reply)
			go func() {
				r, err := b.do(context.Background(), "POST", listeners+path, token, strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
				}
				answered <- r
			}()
			await(b.events, func(flow.Started) bool { return true })
			began := time.Now()
			b.engine.Close()
			if took := time.Since(began); took != 3*time.Second {
				t.Errorf("%s: the stop took %v", path, took)
			}
			if r, want := <-answered, map[string]int{"/pure": http.StatusServiceUnavailable, "/written": http.StatusAccepted}[path]; r.status != want {
				t.Errorf("%s: %d %s, want %d", path, r.status, r.body, want)
			}
		}, slow(time.Hour), func(c *integrator.Config) { c.Limits.DrainTimeout = 3 * time.Second })
	}
}

// TestRetention: an ended run is kept as long as it is told, and no longer; a negative time keeps it for ever.
func TestRetention(t *testing.T) {
	for _, test := range []struct {
		keep, after time.Duration
		status      int
	}{
		{0, 29 * 24 * time.Hour, 200},
		{0, 31 * 24 * time.Hour, 404},
		{time.Hour, 59 * time.Minute, 200},
		{time.Hour, 80 * time.Minute, 404},
		{-1, 365 * 24 * time.Hour, 200},
	} {
		t.Run(fmt.Sprint(test.keep, " after ", test.after), func(t *testing.T) {
			inBubble(t, slowYAML, func(b *bubble) {
				result, err := b.engine.RunFlow(context.Background(), "named", nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.after)
				if r := b.must("GET", fmt.Sprint("/rest/v1/runs/", result.Run), b.login(), ""); r.status != test.status {
					t.Errorf("the run is answered with %d %s, not %d", r.status, r.body, test.status)
				}
			}, slow(0), func(c *integrator.Config) { c.Retention.Runs = test.keep })
		})
	}
}

// TestRetentionByCountAndBytes: of what has ended, the last ended is kept, as much as is told.
func TestRetentionByCountAndBytes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keep       integrator.Retention
		runs, left int
	}{
		"count":                       {integrator.Retention{Count: 2}, 5, 2},
		"bytes":                       {integrator.Retention{Bytes: 35_000}, 5, 3},
		"both":                        {integrator.Retention{Count: 2, Bytes: 35_000}, 5, 2},
		"neither is reached":          {integrator.Retention{Count: 1000, Bytes: 10_000_000}, 300, 300},
		"more than one step":          {integrator.Retention{Count: 1}, 300, 1},
		"negative ones bound nothing": {integrator.Retention{Runs: -1, Count: -1, Bytes: -1}, 300, 300},
		"whatever the age":            {integrator.Retention{Runs: -1, Count: 7}, 20, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, slowYAML, func(b *bubble) {
				token := b.login()
				for i := range test.runs {
					if r := b.must("POST", listeners+"/pure", token, fmt.Sprintf(`{"n": %d, "text": "%s"}`, i, strings.Repeat("x", 10_000))); r.status != 200 {
						t.Fatal(r.status, r.body)
					}
				}
				want := decode[struct{ Runs []struct{ AuditID int64 } }](t, b.must("GET", "/rest/v1/runs?limit=1000", token, "").body).Runs
				time.Sleep(11 * time.Second)
				got := decode[struct{ Runs []struct{ AuditID int64 } }](t, b.must("GET", "/rest/v1/runs?limit=1000", token, "").body).Runs
				if len(want) != test.runs || !slices.Equal(got, want[:test.left]) {
					t.Errorf("of %d runs %d are left: %v", len(want), len(got), got)
				}
			}, slow(0), func(c *integrator.Config) { c.Retention = test.keep })
		})
	}
}

// TestRetries lets a destination fail: with a fault that passes, with one that stays, and with one that names its time.
func TestRetries(t *testing.T) {
	t.Parallel()
	const yaml = `
connections: {away: {type: flaky}}
listeners: {a: {path: /a, format: json}}
flows: {a: {from: {listener: a}, to: {connection: away, table: t}, retry: {attempts: 4, backoff: 10s, max_backoff: 15s}}}
users: {ops: {role: operator, password: password-ops}}
`
	for name, c := range map[string]struct {
		fails    int
		err      error
		status   store.Status
		kind     string
		attempts int
		from, to time.Duration // how long it takes all in all
	}{
		"once":      {1, errors.New("connection refused"), store.Success, "", 2, 8 * time.Second, 12 * time.Second},
		"always":    {99, errors.New("connection refused"), store.Error, flow.KindConnection, 4, 32 * time.Second, 48 * time.Second},
		"for good":  {99, connector.Permanent(errors.New("no such table")), store.Error, flow.KindRefused, 1, 0, 0},
		"with time": {1, flow.RetryAfter(errors.New("come back in a minute"), time.Minute), store.Success, "", 2, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{fails: c.fails, err: c.err}
			inBubble(t, yaml, func(b *bubble) {
				began := time.Now()
				r := b.must("POST", listeners+"/a", b.login(), "{}")
				e := b.events.settled(decode[receipt](t, r.body).AuditID)
				if e.Run.Status != c.status || e.Run.Kind != c.kind || e.Run.Attempts != c.attempts {
					t.Errorf("%v, kind %q, %d attempts: %s", e.Run.Status, e.Run.Kind, e.Run.Attempts, e.Run.Exception)
				}
				if took := time.Since(began); took < c.from || took > c.to {
					t.Errorf("it took %v, want %v to %v", took, c.from, c.to)
				}
				if want := c.status == store.Success; want != (f.committed.Load() == 1) {
					t.Errorf("committed %d times", f.committed.Load())
				}
			}, func(config *integrator.Config) { config.Connectors = []connector.Kind{f.kind()} })
		})
	}
}

// flaky is a destination whose first commits fail.
type flaky struct {
	fails     int
	err       error
	applied   bool // runs are found applied
	tries     atomic.Int64
	committed atomic.Int64
}

func (f *flaky) kind() connector.Kind {
	return connector.Kind{Name: "flaky", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return f, decode(&struct{}{})
	}}
}

func (f *flaky) Ping(context.Context) error                                { return nil }
func (f *flaky) Close() error                                              { return nil }
func (f *flaky) PrepareWrite([]connector.Target) (connector.Writer, error) { return f, nil }
func (f *flaky) MaxRuns() int                                              { return 1 }
func (f *flaky) Begin(context.Context) (connector.Work, error)             { return flakyWork{f}, nil }

type flakyWork struct{ f *flaky }

func (w flakyWork) Start(connector.Run, []string) (bool, error) { return w.f.applied, nil }
func (w flakyWork) Write(int, *transform.Batch) error           { return nil }
func (w flakyWork) Rollback() error                             { return nil }
func (w flakyWork) Commit() error {
	if w.f.tries.Add(1) <= int64(w.f.fails) {
		return w.f.err
	}
	w.f.committed.Add(1)
	return nil
}

// TestSchedules lets days pass: due times, the clocks that go forward, a stop, and what was missed.
func TestSchedules(t *testing.T) {
	t.Parallel()
	const yaml = `
flows:
  all: {params: {what: text}, steps: [{go: note}], respond: {}}
schedules:
  nightly: {flow: all, cron: "0 2 * * *", timezone: Europe/Berlin, params: {what: nightly}}
  skipped: {flow: all, cron: "30 3 * * *", if_missed: skip, overlap: queue, params: {what: skipped}}
  weekly:  {flow: all, every: 7d, params: {what: weekly}}
  once:    {flow: all, at: "2000-01-02T12:00", params: {what: once}}
  off:     {flow: all, every: 1s, enabled: false}
`
	var mu sync.Mutex
	var ran []string
	note := func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"note": func(_ context.Context, r *transform.Record) error {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, time.Now().UTC().Format("2 15:04")+" "+r.Value.Field("what").Text())
			return nil
		}}
	}
	since := func() string {
		mu.Lock()
		defer mu.Unlock()
		out := strings.Join(ran, ", ")
		ran = nil
		return out
	}
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New() // in the bubble: it has channels
		run := func() (stop func()) {
			config := integrator.Config{Store: st, Definitions: definitionsOf(yaml), Logger: logger(&syncBuffer{})}
			note(&config)
			engine, err := integrator.New(config)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- engine.Run(context.Background()) }()
			<-engine.Ready()
			return func() {
				engine.Close()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		stop := run()
		time.Sleep(3 * 24 * time.Hour) // it is the 1st of January 2000
		if got, want := since(), "1 01:00 nightly, 1 03:30 skipped, 2 01:00 nightly, 2 03:30 skipped, 2 12:00 once, 3 01:00 nightly, 3 03:30 skipped"; got != want {
			t.Errorf("three days:\n got %s\nwant %s", got, want)
		}
		stop()
		time.Sleep(5*24*time.Hour + 12*time.Hour) // nobody is there: four nights, and a week's turn
		stop = run()
		time.Sleep(2 * time.Hour)
		if got, want := since(), "9 12:00 nightly, 9 12:00 weekly"; got != want && got != "9 12:00 weekly, 9 12:00 nightly" {
			t.Errorf("what was missed:\n got %s\nwant %s", got, want)
		}
		entry, err := st.Get(context.Background(), "schedule", "nightly") // as after a crash before the state was stored
		if err != nil {
			t.Fatal(err)
		}
		stop()
		entry.Value = []byte(strings.Replace(string(entry.Value), "2000-01-09T02", "2000-01-08T02", 1))
		if _, err := st.Put(context.Background(), entry); err != nil {
			t.Fatal(err)
		}
		stop = run()
		time.Sleep(time.Hour)
		if got := since(); got != "" {
			t.Errorf("a due time ran again: %s", got)
		}
		stop()
	})
}

// TestScheduleOverlap lets a run outlast its schedule's pause.
func TestScheduleOverlap(t *testing.T) {
	t.Parallel()
	inBubble(t, strings.Replace(slowYAML, "users:", "schedules: {hourly: {flow: named, every: 1h}}\nusers:", 1), func(b *bubble) {
		time.Sleep(6*time.Hour + time.Minute)
		runs := decode[struct {
			Runs []struct{ Status, Trigger, User string }
		}](t, b.must("GET", "/rest/v1/runs", b.login(), "").body).Runs
		if len(runs) != 3 || runs[0].Status != "running" || runs[1].Status != "success" || runs[1].Trigger != "schedule" || runs[1].User != "schedule:hourly" {
			t.Errorf("%+v", runs)
		}
	}, slow(90*time.Minute))
}

// TestClockJumps sets the clock while runs wait: how long they wait is not a matter of the time of day, and no due time comes twice.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const yaml = `
connections: {away: {type: flaky}}
listeners: {a: {path: /a, format: json}}
flows:
  a:    {from: {listener: a}, to: {connection: away, table: t}, retry: {attempts: 4, backoff: 1m}}
  hour: {steps: [{map: {due: "= run.due"}}, {go: note}], respond: {}}
schedules: {hourly: {flow: hour, cron: "0 * * * *"}}
users: {ops: {role: operator, password: password-ops}}
`
	for name, jump := range map[string]time.Duration{"back": -5 * time.Hour, "ahead": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
			var mu sync.Mutex
			due := map[string]int{}
			f := &flaky{fails: 1, err: errors.New("connection refused")}
			inBubble(t, yaml, func(b *bubble) {
				began := time.Now()
				r := b.must("POST", listeners+"/a", b.login(), "{}")
				synctest.Wait() // the first attempt has failed
				offset.Store(int64(jump))
				if e := b.events.settled(decode[receipt](t, r.body).AuditID); e.Run.Status != store.Success || e.Run.Attempts != 2 {
					t.Errorf("%v after %d attempts", e.Run.Status, e.Run.Attempts)
				}
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("the retry took %v", took)
				}
				time.Sleep(24 * time.Hour)
				offset.Store(0)
				time.Sleep(24 * time.Hour)
				mu.Lock()
				defer mu.Unlock()
				for at, times := range due {
					if times != 1 {
						t.Errorf("%s came %d times", at, times)
					}
				}
				if len(due) < 40 {
					t.Errorf("%d hours came in two days", len(due))
				}
			}, func(c *integrator.Config) {
				c.Clock = clock
				c.Connectors = []connector.Kind{f.kind()}
				c.Steps = map[string]transform.Func{"note": func(ctx context.Context, r *transform.Record) error {
					mu.Lock()
					defer mu.Unlock()
					due[r.Value.Field("due").Text()]++
					return nil
				}}
			})
		})
	}
}
