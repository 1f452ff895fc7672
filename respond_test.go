package integrator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// bigYAML answers with a large file: complete, at once, and until a step has had enough.
const bigYAML = `
connections: {in: {type: file, dir: in}}
listeners:
  whole:  {path: /whole, method: GET, mode: sync}
  stream: {path: /stream, method: GET, mode: sync}
  broken: {path: /broken, method: GET, mode: sync}
flows:
  whole:  {listener: whole, from: {connection: in, path: big.ndjson, format: ndjson}, respond: {format: ndjson}}
  stream: {listener: stream, from: {connection: in, path: big.ndjson, format: ndjson}, steps: [{go: count}], respond: {format: ndjson, stream: true}}
  broken: {listener: broken, from: {connection: in, path: big.ndjson, format: ndjson}, steps: [{go: fail}], respond: {format: ndjson, stream: true}}
users: {ops: {role: operator, password: password-ops}}
`

// bigLines is how many lines of bigLine bytes the file has: 20 MB.
const (
	bigLines = 20_000
	bigLine  = 1000
)

// writeBig writes the file that the flows of bigYAML answer with.
func writeBig(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "in", "big.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	filler := strings.Repeat("x", bigLine-len(`{"n":10000,"s":""}`)-1)
	for i := range bigLines {
		fmt.Fprintf(w, `{"n":%d,"s":"%s"}`+"\n", 10_000+i, filler)
	}
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// spooled counts the temporary files of answers that this process has open; they have no names any more.
func spooled(t *testing.T) (n int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no list of open files here: ", err)
	}
	for _, fd := range open {
		if name, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(name, "integrator-response-") {
			n++
		}
	}
	return n
}

// TestLargeAnswers gets an answer that does not fit into memory: it has its length, all of its bytes, and leaves no file behind, also when the client hangs up.
// It counts the process's open files, so no other test may run beside it.
func TestLargeAnswers(t *testing.T) {
	dir := t.TempDir()
	writeBig(t, dir)
	h := startIn(t, dir, bigYAML, func(c *integrator.Config) { c.Steps = map[string]transform.Func{"count": nothing, "fail": nothing} })
	token := h.token("ops", "password-ops")
	done := make(chan int, 10) // temporary files that are open when a call is over
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- spooled(t) }()
		h.engine.Handler().ServeHTTP(w, r)
	}))
	defer server.Close()
	get := func(method, path string) *http.Response {
		request, err := http.NewRequest(method, server.URL+listeners+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	response := get("GET", "/whole")
	runtime.GC()
	runtime.ReadMemStats(&after) // the answer is complete, and hardly any of it is read
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 5<<20 {
		t.Errorf("an answer of %d bytes takes %d bytes of memory", bigLines*bigLine, grown)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if response.Body.Close(); err != nil || n != bigLines*bigLine || response.ContentLength != n {
		t.Errorf("the answer has %d bytes, Content-Length %d: %v", n, response.ContentLength, err)
	}
	if left := <-done; left != 0 {
		t.Errorf("%d temporary files are left", left)
	}
	head := get("HEAD", "/whole")
	if head.Body.Close(); head.ContentLength != bigLines*bigLine {
		t.Errorf("HEAD says Content-Length %d", head.ContentLength)
	}
	if left := <-done; left != 0 {
		t.Errorf("%d temporary files are left behind HEAD", left)
	}
	response = get("GET", "/whole")
	response.Body.Close() // with 20 MB unread
	if left := <-done; left != 0 {
		t.Errorf("%d temporary files are left by a client that hung up", left)
	}
}

// TestStreamedAnswer reads an answer that is sent while its run goes on: to its end, and in part, so that the run waits for its reader and ends with it.
func TestStreamedAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeBig(t, dir)
	var counted atomic.Int64
	h := startIn(t, dir, bigYAML, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"count": func(context.Context, *transform.Record) error { counted.Add(1); return nil }, "fail": nothing}
	})
	token := h.token("ops", "password-ops")
	r := h.get(listeners+"/stream", token)
	if r.status != 200 || len(r.body) != bigLines*bigLine || r.header.Get("Content-Length") != "" {
		t.Errorf("status %d, %d bytes, Content-Length %q", r.status, len(r.body), r.header.Get("Content-Length"))
	}
	if run := last[flow.Settled](h.events).Run; run.Status != store.Success || run.Written != bigLines {
		t.Errorf("the run is %v and wrote %d", run.Status, run.Written)
	}

	counted.Store(0)
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", h.url+listeners+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, response.Body, bigLine); err != nil {
		t.Fatal(err)
	}
	hangUp()
	response.Body.Close()
	e := await(h.events, func(e flow.Settled) bool { return e.Run.Flow == "stream" && e.Run.Status != store.Success })
	if e.Run.Status != store.Canceled || e.Run.Kind != flow.KindCanceled {
		t.Errorf("the run of a reader that went away is %v: %s", e.Run.Status, e.Run.Exception)
	}
	if n := counted.Load(); n >= bigLines {
		t.Errorf("the run did not wait for its reader: %d records", n)
	}
}

func nothing(context.Context, *transform.Record) error { return nil }

// TestStreamThatFails has a run fail when a part of its answer is sent: the connection breaks, so that nobody takes the part for the whole, and the history tells.
func TestStreamThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeBig(t, dir)
	h := startIn(t, dir, bigYAML, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"count": nothing, "fail": func(_ context.Context, r *transform.Record) error {
			if r.Index == bigLines-1 {
				return errors.New("enough")
			}
			return nil
		}}
	})
	request, err := http.NewRequest("GET", h.url+listeners+"/broken", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+h.token("ops", "password-ops"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if response.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || n == 0 {
		t.Errorf("status %d, %d bytes, then %v", response.StatusCode, n, err)
	}
	if e := await(h.events, func(e flow.Settled) bool { return e.Run.Flow == "broken" }); e.Run.Status != store.Error || !strings.Contains(e.Run.Exception, "enough") {
		t.Errorf("the run is %v: %s", e.Run.Status, e.Run.Exception)
	}
}

// TestStreamTellsRejectsAtItsEnd wants the number of rejected records behind the body, since it is not known before.
func TestStreamTellsRejectsAtItsEnd(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json, mode: sync}}
flows:
  a:
    from: {listener: a, records: "[*]"}
    steps: [{reject: {when: n < 0}}]
    on_reject: keep
    respond: {stream: true}
users: {ops: {role: operator, password: password-ops}}
`)
	token := h.token("ops", "password-ops")
	for body, want := range map[string]string{`[{"n": 1}, {"n": -1}]`: "1", `[{"n": 1}]`: ""} {
		request, err := http.NewRequest("POST", h.url+listeners+"/a", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || string(text) != "[\n{\"n\":1}\n]\n" || response.Trailer.Get("Integrator-Rejected") != want {
			t.Errorf("%s: %s, trailer %v: %v", body, text, response.Trailer, err)
		}
	}
}

// TestStreamWithoutAConnection streams to a host's writer that knows no deadlines.
func TestStreamWithoutAConnection(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, method: GET, mode: sync}}
flows: {a: {listener: a, respond: {stream: true, status: 201}}}
users: {ops: {role: operator, password: password-ops}}
`)
	request, err := http.NewRequest("GET", listeners+"/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+h.token("ops", "password-ops"))
	for method, body := range map[string]string{"GET": "{}\n", "HEAD": ""} {
		request.Method = method
		w := &recorder{header: http.Header{}}
		h.engine.Handler().ServeHTTP(w, request)
		if w.status != 201 || w.body.String() != body {
			t.Errorf("%s: %d %s", method, w.status, w.body.String())
		}
	}
}

// settling is a store that does something before it settles a run.
type settling struct {
	store.Store
	settle func() error
}

func (s settling) Join(ctx context.Context, engine string) (store.Queue, error) {
	q, err := s.Store.Join(ctx, engine)
	return settlingQueue{q, s.settle}, err
}

type settlingQueue struct {
	store.Queue
	settle func() error
}

func (q settlingQueue) Settle(ctx context.Context, s []*store.Settlement) error {
	if err := q.settle(); err != nil {
		return err
	}
	return q.Queue.Settle(ctx, s)
}

// TestStreamAndStore streams over stores that take their time with a run, longer than a reader may, and that fail: an answer ends when its run is stored.
func TestStreamAndStore(t *testing.T) {
	t.Parallel()
	const yaml = `
listeners: {a: {path: /a, format: json, mode: sync, timeout: 30s}}
flows: {a: {from: {listener: a}, respond: {stream: true}}}
users: {ops: {role: operator, password: password-ops}}
`
	over := func(settle func() error) func(*integrator.Config) {
		return func(c *integrator.Config) { c.Store = settling{memstore.New(), settle} }
	}
	inBubble(t, yaml, func(b *bubble) {
		transport := &http.Transport{DialContext: b.pipes.dial}
		defer transport.CloseIdleConnections()
		b.client = &http.Client{Transport: transport}
		for range 2 { // over one connection
			if r := b.must("POST", listeners+"/a", b.login(), `{"a": 1}`); r.status != 200 || r.body != "{\"a\":1}\n" {
				t.Errorf("%d %s", r.status, r.body)
			}
			time.Sleep(time.Hour)
		}
	}, over(func() error { time.Sleep(time.Minute); return nil }))
	inBubble(t, yaml, func(b *bubble) {
		token := b.login()
		if r, err := b.do(context.Background(), "POST", listeners+"/a", token, strings.NewReader(`{"a": 1}`)); err == nil {
			t.Errorf("a run that is not stored is answered with %d %s", r.status, r.body)
		}
	}, over(func() error { return fmt.Errorf("a row: %w", store.ErrConflict) }))
}

// TestPages reads a table page by page, as long as there are links. What proves who calls is in none of them, also where it came in the query.
func TestPages(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {in: {type: file, dir: in}}
listeners: {list: {path: "/list/{limit}", method: GET, mode: sync, auth_in: query}}
flows:
  list:
    listener: list
    params: {limit: int, after: int}
    from: {connection: in, path: rows.csv, format: csv}
    steps:
      - filter: "number(id) > number(query.after ?? '0') and number(id) <= number(query.after ?? '0') + number(param.limit)"
    respond: {format: [json, csv], page: {size: limit, after: id}}
users: {ops: {role: operator, password: password-ops}}
`)
	if err := os.Mkdir(filepath.Join(h.dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	rows := "id\n"
	for i := range 7 {
		rows += strconv.Itoa(i+1) + "\n"
	}
	if err := os.WriteFile(filepath.Join(h.dir, "in", "rows.csv"), []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	token := h.token("ops", "password-ops")
	var got []string
	for path := listeners + "/list/3?q=a+b"; path != ""; {
		r := h.call("GET", path+"&Authorization=Bearer%20"+token, "", nil, "Accept: text/csv")
		if r.status != 200 {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
		got = append(got, strings.Join(strings.Fields(r.body), ","))
		link := r.header.Get("Link")
		path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if path != "" && (!strings.HasPrefix(path, "?") || !strings.Contains(path, "q=a+b") || !strings.HasSuffix(link, `; rel="next"`) || strings.Contains(link, "uthorization")) {
			t.Errorf("the link is %s", link)
		}
		if path != "" {
			path = listeners + "/list/3" + path // as a client resolves it
		}
	}
	// The file has more than a page each time, of which the step leaves some out: only a page without a record is the last.
	if want := "id,1,2,3 id,4,5,6 id,7 "; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestErrorAnswers has runs end in the ways that no payload can bring about: each kind has the answer that on_error gives it.
func TestErrorAnswers(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {away: {type: flaky}}
listeners:
  late:     {path: /late, format: json, mode: sync}
  away:     {path: /away, format: json, mode: sync}
  canceled: {path: /canceled, format: json, mode: sync}
  plain:    {path: "/plain/{n}", format: json, mode: sync}
flows:
  late:
    from: {listener: late}
    timeout: 1ms
    steps: [{go: wait}]
    respond: {}
    on_error: [{kind: timeout, respond: {status: 504, body: {kind: error.kind, reason: error.reason}}}]
  away:
    from: {listener: away}
    to: {connection: away, table: t}
    on_error: [{kind: [timeout, connection], respond: {status: 503, headers: {Retry-After: "5", X-Run: "${run.number}"}}}]
  canceled:
    from: {listener: canceled}
    steps: [{go: wait}]
    respond: {}
    on_error: {kind: canceled, respond: {status: 204, headers: {X-Kind: canceled}}}
  plain: {from: {listener: plain}, steps: [{go: wait}], respond: {}, on_error: {kind: input, respond: {status: 400}}}
users: {shop: {role: api, password: password-shop, listeners: ["*"]}, ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) {
		f := &flaky{fails: 100, err: errors.New("dial 10.1.2.3: no route")}
		c.Connectors = []connector.Kind{f.kind()}
		c.Steps = map[string]transform.Func{"wait": func(ctx context.Context, _ *transform.Record) error { <-ctx.Done(); return ctx.Err() }}
	})
	token := h.token("shop", "password-shop")
	if r := h.post(listeners+"/late", token, `{}`); r.status != 504 || r.body != `{"kind":"timeout","reason":"a time limit was reached (timeout)"}`+"\n" {
		t.Errorf("too late: %d %s", r.status, r.body)
	}
	if r := h.post(listeners+"/away", token, `{}`); r.status != 503 || r.header.Get("Retry-After") != "5" || r.header.Get("X-Run") == "" ||
		r.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(r.body, `"status":503`) || strings.Contains(r.body, "10.1.2.3") {
		t.Errorf("a system that is away: %d %v %s", r.status, r.header, r.body)
	}
	canceled := func(flowName, path string) reply {
		answered := make(chan reply)
		go func() { answered <- h.post(listeners+path, token, `{}`) }()
		begun := await(h.events, func(e flow.Started) bool { return e.Flow == flowName })
		if r := h.post(fmt.Sprintf("/rest/v1/runs/%d/cancel", begun.Run), h.token("ops", "password-ops"), ""); r.status != 202 {
			t.Errorf("cancel: %d %s", r.status, r.body)
		}
		return <-answered
	}
	if r := canceled("canceled", "/canceled"); r.status != 204 || r.header.Get("X-Kind") != "canceled" || r.body != "" || r.header.Get("Content-Type") != "" {
		t.Errorf("a canceled run: %d %v %q", r.status, r.header, r.body)
	}
	if r := canceled("plain", "/plain/1"); r.status != 409 || !strings.Contains(r.body, `problem:canceled"`) {
		t.Errorf("a canceled run whose flow says nothing to that: %d %s", r.status, r.body)
	}
}

// TestReadersOfStreams reads an answer that is sent at once slowly, not at all, and for longer than the flow may take.
func TestReadersOfStreams(t *testing.T) {
	t.Parallel()
	const yaml = `
listeners:
  a: {path: /a, format: json, mode: sync, timeout: 30s}
  b: {path: /b, format: json, mode: sync, timeout: 30s}
flows:
  a: {from: {listener: a, records: "[*]"}, respond: {stream: true}}
  b: {from: {listener: b, records: "[*]"}, timeout: 10s, respond: {stream: true}}
users: {ops: {role: operator, password: password-ops}}
`
	payload := "[" + strings.TrimSuffix(strings.Repeat(`{"s":"`+strings.Repeat("x", 1000)+`"},`, 300), ",") + "]"
	for _, c := range []struct {
		name, path string
		pause      time.Duration // before each 4 KiB
		cancel     bool
		status     store.Status
		took       time.Duration // at most
	}{
		{"slowly", "/a", time.Second, false, store.Success, 2 * time.Minute},
		{"not at all", "/a", time.Hour, false, store.Canceled, 31 * time.Second},
		{"until it is canceled", "/a", time.Hour, true, store.Canceled, time.Second},
		{"for longer than the flow may take", "/b", time.Second, false, store.Error, 11 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, yaml, func(b *bubble) {
				request, err := http.NewRequest("POST", "http://engine"+listeners+c.path, strings.NewReader(payload))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+b.login())
				response, err := b.client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				began := time.Now()
				read := make(chan error)
				go func() {
					for {
						time.Sleep(c.pause)
						if _, err := io.CopyN(io.Discard, response.Body, 4<<10); err != nil {
							read <- err
							return
						}
					}
				}()
				if c.cancel {
					number := last[flow.Started](b.events).Run
					if r := b.must("POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", number), b.login(), ""); r.status != 202 {
						t.Errorf("cancel: %d %s", r.status, r.body)
					}
				}
				e := await(b.events, func(e flow.Settled) bool { return true })
				if took := time.Since(began); e.Run.Status != c.status || took > c.took {
					t.Errorf("the run is %v after %v: %s", e.Run.Status, took, e.Run.Exception)
				}
				if err := <-read; (err == io.EOF) != (c.status == store.Success) {
					t.Errorf("the reader ends with %v", err)
				}
			})
		})
	}
}
