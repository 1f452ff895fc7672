package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// TestRepeatedAfterAFailure repeats a synchronous call under its key: while the first is in flight it is 409, after a failure of the destination
// it runs again, after a success or a fault of its own input it is told what the first one was told.
func TestRepeatedAfterAFailure(t *testing.T) {
	t.Parallel()
	var away, writes atomic.Int64
	begun, release := make(chan struct{}), make(chan struct{})
	s := &scripted{write: func(b *transform.Batch) error {
		if b.Records[0].Value.Field("bad").IsTrue() {
			b.Records[0].Err = errors.New("no good")
			return nil
		}
		writes.Add(1)
		switch away.Load() {
		case 1:
			return errors.New("not now")
		case 2:
			close(begun)
			<-release
		}
		return nil
	}}
	h := start(t, strings.Replace(scriptedYAML, "format: json", "format: json, mode: sync, idempotency: {key: id}", 1), func(c *integrator.Config) {
		c.Connectors = []connector.Kind{s.kind()}
	})
	token := h.token("ops", "password-ops")
	send := func(body string) reply { return h.post(listeners+"/a", token, body) }
	want := func(what string, r reply, status int, runs int64) {
		t.Helper()
		if r.status != status || writes.Load() != runs {
			t.Errorf("%s: %d after %d writes, want %d after %d: %s", what, r.status, writes.Load(), status, runs, r.body)
		}
	}
	away.Store(1)
	want("the destination is away", send(`{"id": 1}`), 500, 1)
	want("it still is", send(`{"id": 1}`), 500, 2)
	want("another body under the key", send(`{"id": 1, "x": 1}`), 422, 2)
	if t.Failed() {
		t.FailNow() // what follows would wait for ever
	}
	away.Store(2)
	var group sync.WaitGroup
	group.Go(func() { want("it is slow", send(`{"id": 1}`), 200, 3) })
	<-begun
	want("the first is in flight", send(`{"id": 1}`), 409, 3)
	close(release)
	group.Wait()
	away.Store(0)
	want("it has been applied", send(`{"id": 1}`), 200, 3)
	want("bad input", send(`{"id": 2, "bad": true}`), 422, 3)
	runs := h.get("/rest/v1/runs", token).body
	want("the same bad input", send(`{"id": 2, "bad": true}`), 422, 3)
	if again := h.get("/rest/v1/runs", token).body; again != runs {
		t.Error("bad input ran again")
	}
}

// TestRepeatedAfterItsHistory repeats a synchronous call whose run is not kept any more: it is the same message still.
func TestRepeatedAfterItsHistory(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	s := &scripted{write: func(*transform.Batch) error { return nil }}
	h := start(t, strings.Replace(scriptedYAML, "format: json", "format: json, mode: sync, idempotency: {key: id, window: 60d}", 1), func(c *integrator.Config) {
		c.Connectors, c.Dir, c.Store = []connector.Kind{s.kind()}, "", st
	})
	token := h.token("ops", "password-ops")
	first := decode[receipt](t, h.post(listeners+"/a", token, `{"id": 1}`).body)
	if n, err := st.Prune(t.Context(), store.Keep{Since: time.Now().Add(time.Hour)}, 10); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	again := h.post(listeners+"/a", token, `{"id": 1}`)
	first.Status = "unknown"
	if again.status != 200 || decode[receipt](t, again.body) != first {
		t.Errorf("%d %s, want %v", again.status, again.body, first)
	}
}

const overloadYAML = `
connections: {away: {type: scripted}}
listeners:
  a:     {path: /a, format: json}
  other: {path: /other, format: json}
  quote: {path: /quote, format: json, mode: sync}
flows:
  a:     {from: {listener: a}, max_running: 4, to: {connection: away, table: t}}
  other: {from: {listener: other}, max_running: 4, to: {connection: away, table: t}}
  quote: {from: {listener: quote}, respond: {}}
users: {ops: {role: operator, password: password-ops}}
`

// TestQueueFull blocks the destination of one flow until no more of its runs may wait: further payloads are refused before their bodies are read,
// and nothing of them is stored, while flows that have room go on. What was accepted is carried out.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &scripted{write: func(b *transform.Batch) error {
		if b.Records[0].Value.Field("other").IsNull() {
			<-release
		}
		return nil
	}}
	h := start(t, overloadYAML, func(c *integrator.Config) {
		c.Connectors, c.Limits.MaxQueued = []connector.Kind{s.kind()}, 10
	})
	token := h.token("ops", "password-ops")
	accepted := 0
	for accepted < 50 {
		r := h.post(listeners+"/a", token, "{}")
		if r.status == 503 && strings.Contains(r.body, "queue-full") && r.header.Get("Retry-After") != "" {
			break
		}
		if accepted++; r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if accepted != 14 { // at work, and waiting
		t.Errorf("%d payloads were accepted", accepted)
	}
	body := &countedReader{}
	request, _ := http.NewRequest("POST", listeners+"/a", io.NopCloser(body))
	request.Header.Set("Authorization", "Bearer "+token)
	request.ContentLength = 2
	w := &recorder{header: http.Header{}}
	if h.engine.Handler().ServeHTTP(w, request); w.status != 503 || body.reads.Load() != 0 {
		t.Errorf("%d after %d reads of the body", w.status, body.reads.Load())
	}
	if e := h.send("/other", token, `{"other": 1}`); e.Run.Status.String() != "success" {
		t.Errorf("a run of another flow is %v", e.Run.Status)
	}
	if r := h.post(listeners+"/quote", token, "{}"); r.status != 200 {
		t.Errorf("a flow that only answers: %d %s", r.status, r.body)
	}
	close(release)
	for run := range int64(accepted) {
		if e := h.events.settled(run + 1); e.Run.Status.String() != "success" {
			t.Errorf("run %d is %v", run+1, e.Run.Status)
		}
	}
	if e := h.send("/a", token, "{}"); e.Run.Status.String() != "success" {
		t.Errorf("a run after the overload is %v", e.Run.Status)
	}
}

// countedReader counts how often it is read.
type countedReader struct{ reads atomic.Int64 }

func (r *countedReader) Read([]byte) (int, error) {
	r.reads.Add(1)
	return 0, io.EOF
}

// TestTooManyBodies opens as many uploads as may be open at a time: the next one is refused, and taken when one has ended.
func TestTooManyBodies(t *testing.T) {
	t.Parallel()
	h := start(t, overloadYAML, func(c *integrator.Config) {
		c.Connectors, c.Limits.MaxBodies = []connector.Kind{(&scripted{write: func(*transform.Batch) error { return nil }}).kind()}, 3
	})
	token := h.token("ops", "password-ops")
	open, answers := make([]*io.PipeWriter, 3), make(chan int, 3)
	for i := range open {
		body, w := io.Pipe()
		open[i] = w
		request, _ := http.NewRequest("POST", listeners+"/a", body)
		request.ContentLength = -1
		request.Header.Set("Authorization", "Bearer "+token)
		go func() {
			answer := &recorder{header: http.Header{}}
			h.engine.Handler().ServeHTTP(answer, request)
			answers <- answer.status
		}()
		io.WriteString(w, "{") // returns when it is being read
	}
	if r := h.post(listeners+"/a", token, "{}"); r.status != 503 || !strings.Contains(r.body, "busy") || r.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", r.status, r.body)
	}
	for _, w := range open {
		io.WriteString(w, "}")
		w.Close()
		if status := <-answers; status != 200 {
			t.Errorf("an upload is answered with %d", status)
		}
	}
	if r := h.post(listeners+"/a", token, "{}"); r.status != 200 {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
}

// TestOverload offers ten times as much as the destination takes: every call is answered at once, with a receipt or with when to come again;
// senders that do so are done when the destination has worked without a pause, and nothing has been lost or carried out twice.
func TestOverload(t *testing.T) {
	t.Parallel()
	const senders, takes = 400, 100 * time.Millisecond // four at a time
	var mu sync.Mutex
	written := map[string]int{}
	s := &scripted{write: func(b *transform.Batch) error {
		time.Sleep(takes)
		mu.Lock()
		defer mu.Unlock()
		written[b.Records[0].Value.Field("n").Text()]++
		return nil
	}}
	inBubble(t, strings.Replace(overloadYAML, "max_running: 4, to", "max_running: 4, group: 1, to", 1), func(b *bubble) {
		began, token := time.Now(), b.login()
		var refused atomic.Int64
		var group sync.WaitGroup
		for n := range senders {
			group.Go(func() {
				for {
					asked := time.Now()
					r, err := b.do(context.Background(), "POST", listeners+"/a", token, strings.NewReader(fmt.Sprintf(`{"n": %d}`, n)))
					if took := time.Since(asked); err != nil || took > 0 {
						t.Errorf("an answer took %v: %v", took, err)
						return
					}
					if r.status == 200 {
						b.events.settled(decode[receipt](t, r.body).AuditID)
						return
					}
					wait, err := strconv.Atoi(r.header.Get("Retry-After"))
					if r.status != 503 || err != nil {
						t.Errorf("%d %s", r.status, r.body)
						return
					}
					refused.Add(1)
					time.Sleep(time.Duration(wait) * time.Second)
				}
			})
		}
		group.Wait()
		if took, least := time.Since(began), senders*takes/4; took > least+takes {
			t.Errorf("it took %v, the destination alone takes %v", took, least)
		}
		if refused.Load() < senders {
			t.Errorf("only %d calls were refused: this is no overload", refused.Load())
		}
	}, func(c *integrator.Config) {
		c.Connectors, c.Limits.MaxQueued = []connector.Kind{s.kind()}, 60
	})
	for n := range senders {
		if times := written[strconv.Itoa(n)]; times != 1 {
			t.Errorf("payload %d was written %d times", n, times)
		}
	}
}
