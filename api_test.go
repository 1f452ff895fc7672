package integrator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
)

// api is a server that applies each Idempotency-Key once.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	applied map[string]string // calls by their keys
	order   []string          // of the calls that were applied
	calls   int
	differ  []string                  // keys that came with another call than before
	answer  func(r *http.Request) int // its status; nil: 200
}

func newAPI(t *testing.T, answer func(r *http.Request) int) *api {
	a := &api{applied: map[string]string{}, answer: answer}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it was cut on its way
	}
	a.mu.Lock()
	a.calls++
	a.mu.Unlock()
	if a.answer != nil {
		if status := a.answer(r); status >= 300 {
			w.WriteHeader(status)
			io.WriteString(w, `{"detail": "it was not to be"}`)
			return
		}
	}
	key, call := r.Header.Get("Idempotency-Key"), r.Method+" "+r.RequestURI+" "+strings.TrimSpace(string(body))
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, twice := a.applied[key]; twice && before != call {
		a.differ = append(a.differ, key)
	} else if !twice {
		a.applied[key] = call
		a.order = append(a.order, call)
	}
}

// proxy stands between a connection and an API, and does to each TCP connection what its turn says.
type proxy struct {
	net.Listener
	to     string
	turns  []func(client, server net.Conn)
	group  sync.WaitGroup
	mu     sync.Mutex
	open   []net.Conn
	closed bool
}

func newProxy(t *testing.T, to string, turns ...func(client, server net.Conn)) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: strings.TrimPrefix(to, "http://"), turns: turns}
	p.group.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.closed = true
		for _, c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.group.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for n := 0; ; n++ {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		if p.open = append(p.open, client, server); p.closed {
			client.Close()
			server.Close()
		}
		p.mu.Unlock()
		turn := p.turns[n%len(p.turns)]
		p.group.Go(func() {
			defer client.Close()
			defer server.Close()
			turn(client, server)
		})
	}
}

// refuse hangs up.
func refuse(client, _ net.Conn) { client.(*net.TCPConn).SetLinger(0) }

// dead takes everything and never answers.
func dead(client, _ net.Conn) { io.Copy(io.Discard, client) }

// pass passes on what the API answers up to so many bytes, and resets the connection then.
func pass(most int64) func(client, server net.Conn) {
	return func(client, server net.Conn) {
		go io.Copy(server, client) // ends when either is closed
		io.CopyN(client, server, most)
		client.(*net.TCPConn).SetLinger(0)
	}
}

// gated passes on nothing until the gate is closed.
func gated(reached chan<- struct{}, gate <-chan struct{}) func(client, server net.Conn) {
	return func(client, server net.Conn) {
		first := make([]byte, 1)
		if _, err := client.Read(first); err != nil {
			return
		}
		reached <- struct{}{}
		<-gate
		server.Write(first)
		pass(1<<40)(client, server)
	}
}

// payloadKey is a key of a record that a payload holds.
var payloadKey = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+$`)

// TestSourceThatChanges reads a file that is another one when its run is tried again: no record is taken for the one that stood in its place.
func TestSourceThatChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string) {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "in"), 0o750), os.WriteFile(filepath.Join(dir, "in", "a.json"), []byte(text), 0o600)); err != nil {
			t.Error(err)
		}
	}
	calls := 0
	a := newAPI(t, func(*http.Request) int {
		if calls++; calls == 2 {
			write(`[{"n": 2}, {"n": 3}]`)
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	write(`[{"n": 1}, {"n": 2}]`)
	h := startIn(t, dir, fmt.Sprintf(`
connections: {api: {type: http, url: "%s"}, in: {type: file, dir: in}}
listeners: {go: {path: /go}}
flows: {f: {listener: go, from: {connection: in, path: a.json, format: json, records: "[*]"}, to: {connection: api}, retry: {backoff: 1ms}}}
users: {shop: {role: api, password: password-shop, listeners: [go]}}
`, a.URL))
	if e := h.send("/go", h.token("shop", "password-shop"), ""); e.Run.Status != store.Success || e.Run.Attempts != 2 {
		t.Errorf("the run ended as %v after %d attempts", e.Run.Status, e.Run.Attempts)
	}
	if got := strings.Join(a.order, ", "); got != `POST / {"n":1}, POST / {"n":2}, POST / {"n":3}` {
		t.Errorf("applied are %s", got)
	}
}

// TestAPIThatFails loads records into an API that can be reached now and then. Nothing is lost, and what comes again comes under its key.
func TestAPIThatFails(t *testing.T) {
	t.Parallel()
	const runs, records = 16, 3
	for name, turns := range map[string][]func(client, server net.Conn){
		"refuses": {refuse, refuse, pass(1 << 40)},
		"is dead": {dead, pass(1 << 40)},
		"resets":  {pass(40), pass(0), pass(1 << 40)}, // in the middle of the head of an answer, and before it
		"flaps":   {refuse, pass(500), dead, pass(10), refuse, pass(1000), pass(5000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(*http.Request) int { return []int{200, 200, 503, 200, 429, 200, 200, 500, 408}[rand.IntN(9)] })
			p := newProxy(t, a.URL, turns...)
			h := start(t, fmt.Sprintf(`
connections: {api: {type: http, url: "http://%s/v1", timeout: 250ms}}
listeners: {orders: {path: /orders, format: json}}
flows:
  load:
    from: {listener: orders, records: "orders[*]"}
    to: {connection: api, path: "/orders/${record.id}", action: upsert, map: {number: id}}
    retry: {attempts: 1000, backoff: 1ms, max_backoff: 5ms}
users: {shop: {role: api, password: password-shop, listeners: [orders]}}
`, p.Addr()))
			token := h.token("shop", "password-shop")
			var numbers []int64
			var want []string
			for n := range runs {
				var lines []string
				for i := range records {
					id := fmt.Sprintf("%d/%d", n, i)
					lines = append(lines, fmt.Sprintf(`{"id": %q}`, id))
					want = append(want, fmt.Sprintf(`PUT /v1/orders/%d%%2F%d {"number":%q}`, n, i, id))
				}
				r := h.post(listeners+"/orders", token, fmt.Sprintf(`{"orders": [%s]}`, strings.Join(lines, ",")))
				if r.status != http.StatusOK {
					t.Fatalf("%d %s", r.status, r.body)
				}
				numbers = append(numbers, decode[receipt](t, r.body).AuditID)
			}
			attempts := 0
			for _, number := range numbers {
				run := h.events.settled(number).Run
				if attempts += run.Attempts; run.Status != store.Success || run.Written != records {
					t.Errorf("run %d ended as %v, with %d records written", number, run.Status, run.Written)
				}
			}
			h.stop()
			a.mu.Lock()
			defer a.mu.Unlock()
			got := slices.Clone(a.order)
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-expected +applied):\n%s", diff)
			}
			for key := range a.applied {
				if !payloadKey.MatchString(key) {
					t.Errorf("the key %s is not a run's and a record's", key)
				}
			}
			if len(a.differ) > 0 {
				t.Errorf("keys that came with different calls: %v", a.differ)
			}
			if attempts <= runs || a.calls <= len(want) {
				t.Errorf("nothing failed: %d attempts, %d calls", attempts, a.calls)
			}
		})
	}
}

// TestSlowAPI holds an API's answers back: other flows go on meanwhile, whatever waits for it.
func TestSlowAPI(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	reached, gate := make(chan struct{}, 100), make(chan struct{})
	p := newProxy(t, a.URL, gated(reached, gate))
	h := start(t, fmt.Sprintf(`
connections:
  api: {type: http, url: "http://%s"}
  out: {type: file, dir: out}
listeners:
  slow:  {path: /slow, format: json}
  fast:  {path: /fast, format: json}
  quote: {path: /quote, format: json, mode: sync}
flows:
  slow:  {from: {listener: slow}, to: {connection: api, path: /slow}}
  fast:  {from: {listener: fast}, to: {connection: out, path: "${run.number}.json", format: json}}
  quote: {from: {listener: quote}, respond: {}}
users: {shop: {role: api, password: password-shop, listeners: [slow, fast, quote]}}
`, p.Addr()), func(c *integrator.Config) { c.Limits.Workers = 2 })
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	token := h.token("shop", "password-shop")
	var waiting []int64
	for range 20 {
		waiting = append(waiting, decode[receipt](t, h.post(listeners+"/slow", token, `{"n": 1}`).body).AuditID)
	}
	<-reached
	for n := range 20 {
		if e := h.send("/fast", token, `{"n": 2}`); e.Run.Status != store.Success {
			t.Errorf("a run of another flow ended as %v", e.Run.Status)
		}
		if r := h.post(listeners+"/quote", token, fmt.Sprintf(`{"n":%d}`, n)); r.status != http.StatusOK || strings.TrimSpace(r.body) != fmt.Sprintf(`{"n":%d}`, n) {
			t.Errorf("another flow answers %d %s", r.status, r.body)
		}
	}
	if a.calls != 0 {
		t.Errorf("%d calls got through the gate", a.calls)
	}
	release()
	for _, number := range waiting {
		if run := h.events.settled(number).Run; run.Status != store.Success {
			t.Errorf("run %d ended as %v", number, run.Status)
		}
	}
	if len(a.applied) != len(waiting) {
		t.Errorf("%d of %d calls were applied", len(a.applied), len(waiting))
	}
}

// TestAPIThatRefuses has records that the API rejects, each in its own way.
func TestAPIThatRefuses(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(r *http.Request) int {
		switch r.URL.Path {
		case "/orders/2":
			return http.StatusUnprocessableEntity
		case "/orders/moved":
			return http.StatusPermanentRedirect
		case "/orders/secret":
			return http.StatusUnauthorized
		}
		return http.StatusOK
	})
	h := start(t, fmt.Sprintf(`
connections: {api: {type: http, url: "%s", auth: {type: bearer, token: "${secret.API}"}}}
listeners:
  keep: {path: /keep, format: json}
  stop: {path: /stop, format: json}
flows:
  keep: {from: {listener: keep, records: "[*]"}, to: {connection: api, path: "/orders/${record.id}"}, on_reject: keep}
  stop: {from: {listener: stop, records: "[*]"}, to: {connection: api, path: "/orders/${record.id}"}}
users:
  shop: {role: api, password: password-shop, listeners: [keep, stop]}
  ops:  {role: operator, password: password-ops}
`, a.URL))
	shop, ops := h.token("shop", "password-shop"), h.token("ops", "password-ops")
	e := h.send("/keep", shop, `[{"id": 1}, {"id": 2}, {"id": 3}, {"name": "x"}, {"id": ".."}, {"id": [5]}]`)
	if e.Run.Status != store.Warning || e.Run.Written != 2 || e.Run.Rejected != 4 {
		t.Errorf("the run ended as %v, %d written, %d rejected", e.Run.Status, e.Run.Written, e.Run.Rejected)
	}
	rejects := h.get(fmt.Sprintf("/rest/v1/runs/%d/rejects", e.Run.Number), ops).body
	var reasons []string
	for line := range strings.Lines(rejects) {
		var reject struct {
			Record int    `json:"_record"`
			Step   string `json:"_step"`
			Field  string `json:"_field"`
			Reason string `json:"_reason"`
		}
		if err := json.Unmarshal([]byte(line), &reject); err != nil {
			t.Fatal(err, line)
		}
		reasons = append(reasons, fmt.Sprint(reject.Record, reject.Step, " ", reject.Field, " ", reject.Reason))
	}
	empty := "record.id a value that fills in the path is empty, or is none that text can be made of"
	want := []string{"2api  the destination answered 422 Unprocessable Entity", "4api " + empty, "5api  the path has . or .. for a name in it, which leads elsewhere", "6api " + empty}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("rejects (-expected +got):\n%s", diff)
	}
	if got := strings.Join(a.order, "\n"); got != "POST /orders/1 {\"id\":1}\nPOST /orders/3 {\"id\":3}" {
		t.Errorf("applied are\n%s", got)
	}
	for payload, c := range map[string]struct{ public, detail string }{
		`[{"id": 2}, {"id": 4}]`:        {"(refused)\\nthe destination answered 422 Unprocessable Entity", "it was not to be"},
		`[{"id": "moved"}, {"id": 4}]`:  {"the other system refused (refused)", "redirects are not followed"},
		`[{"id": "secret"}, {"id": 4}]`: {"the other system refused (refused)", "does not take the connection's credentials"},
	} {
		e := h.send("/stop", shop, payload)
		if e.Run.Status != store.Error || e.Run.Attempts != 1 {
			t.Errorf("%s: the run ended as %v after %d attempts", payload, e.Run.Status, e.Run.Attempts)
		}
		path := fmt.Sprintf("/rest/v1/runs/%d", e.Run.Number)
		public, full := h.get(path, shop).body, h.get(path, ops).body
		if !strings.Contains(public, c.public) || strings.Contains(public, "not to be") || strings.Contains(public, "redirect") || strings.Contains(public, a.URL) {
			t.Errorf("%s: the caller is told %s", payload, public)
		}
		if !strings.Contains(full, c.detail) {
			t.Errorf("%s: operators are told %s", payload, full)
		}
	}
	if e := h.send("/stop", shop, `[{"id": 7}, {"id": 2}, {"id": 8}]`); e.Run.Status != store.Error || e.Run.Written != 1 {
		t.Errorf("the run ended as %v with %d records written, and one was", e.Run.Status, e.Run.Written)
	}
	if got := strings.Join(a.order[2:], "\n"); got != `POST /orders/7 {"id":7}` {
		t.Errorf("behind a record that stops the run were sent\n%s", got)
	}
}

// TestAPIThatWantsTime answers 429 with a time: the run is due then.
func TestAPIThatWantsTime(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1800")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	now := time.Now()
	h := start(t, fmt.Sprintf(`
connections: {api: {type: http, url: "%s"}}
listeners: {l: {path: /l, format: json}}
flows: {f: {from: {listener: l}, to: {connection: api}, retry: {max_backoff: 1s}}}
users: {shop: {role: api, password: password-shop, listeners: [l]}}
`, a.URL), func(c *integrator.Config) { c.Clock = func() time.Time { return now } })
	h.post(listeners+"/l", h.token("shop", "password-shop"), `{}`)
	e := await(h.events, func(flow.Settled) bool { return true })
	if e.Run.Status != store.Queued || !e.Run.Due.Equal(now.Add(30*time.Minute).Round(0)) {
		t.Errorf("the run is %v, due %s after it failed", e.Run.Status, e.Run.Due.Sub(now))
	}
}

// TestElementsAsCalls makes a call of each element of a record, and of each rejected record. The next attempt sends them under the same keys; behind an element that is rejected, no
// other one of its record is sent.
func TestElementsAsCalls(t *testing.T) {
	t.Parallel()
	calls := 0
	a := newAPI(t, func(r *http.Request) int {
		switch calls++; {
		case calls == 3:
			return http.StatusServiceUnavailable
		case r.URL.Path == "/lines/bad":
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	h := start(t, fmt.Sprintf(`
connections: {api: {type: http, url: "%s"}}
listeners: {orders: {path: /orders, format: json}}
flows:
  f:
    from: {listener: orders, records: "[*]"}
    to:
      connection: api
      path: "/lines/${record.sku}"
      each: "lines[*]"
      when: "qty != 0"
      action: "= qty < 0 ? 'delete' : 'upsert'"
      map: {order: parent.id, line: index, qty: qty}
    on_reject: {action: keep, to: {connection: api, path: "/rejects/${record._record}", map: {id: id, step: _step}}}
    retry: {backoff: 1ms}
users: {shop: {role: api, password: password-shop, listeners: [orders]}}
`, a.URL))
	e := h.send("/orders", h.token("shop", "password-shop"), `[{"id": 1, "lines": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 0}, {"sku": "a", "qty": -1}]},
		{"id": 2, "lines": [{"sku": "x", "qty": 1}, {"sku": "x", "qty": 1}, {"sku": "bad", "qty": 1}, {"sku": "y", "qty": 1}]}, {"id": 3}]`)
	if e.Run.Status != store.Warning || e.Run.Attempts != 2 || e.Run.Read != 3 || e.Run.Written != 1 || e.Run.Rejected != 1 {
		t.Errorf("attempt %d ends in %v: read %d, written %d, rejected %d: %s", e.Run.Attempts, e.Run.Status, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
	}
	want := []string{`PUT /lines/a {"order":1,"line":0,"qty":1}`, `DELETE /lines/a `, `PUT /lines/x {"order":2,"line":0,"qty":1}`, `PUT /lines/x {"order":2,"line":1,"qty":1}`,
		`POST /rejects/2 {"id":2,"step":"api"}`}
	if d := cmp.Diff(want, a.order); d != "" {
		t.Errorf("applied (-expected +got):\n%s", d)
	}
	if len(a.differ) > 0 {
		t.Errorf("these keys came with different calls: %v", a.differ)
	}
}
