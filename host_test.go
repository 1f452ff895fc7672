package integrator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
)

// listeners is where payloads are sent.
const listeners = "/plugins/schedules/rest/v1/httplistener"

// host is an engine at work behind a server of its own.
type host struct {
	t      *testing.T
	dir    string // definitions' base; the store is in data below it
	engine *integrator.Engine
	url    string
	log    *syncBuffer
	events *watcher
	stop   func() // ends the engine and waits; the second call does nothing
}

// definitionsOf makes one file of definitions out of text.
func definitionsOf(yaml string) fs.FS {
	return fstest.MapFS{"integrator.yaml": &fstest.MapFile{Data: []byte(yaml)}}
}

// start runs an engine over definitions in a folder of the test's own until the test ends. Each change is applied to its Config.
func start(t *testing.T, yaml string, changes ...func(*integrator.Config)) *host {
	t.Helper()
	return startIn(t, t.TempDir(), yaml, changes...)
}

// startIn is start in a folder that an earlier engine may have left.
func startIn(t *testing.T, dir, yaml string, changes ...func(*integrator.Config)) *host {
	t.Helper()
	h := &host{t: t, dir: dir, log: &syncBuffer{}, events: newWatcher()}
	config := integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir, Definitions: definitionsOf(yaml), Observer: h.events,
		Logger: logger(h.log), Secrets: func(name string) (string, bool) { return "secret-of-" + name, true }}
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
	select {
	case <-engine.Ready():
	case err := <-done:
		t.Fatalf("the engine ended before it was ready: %v", err)
	}
	server := httptest.NewServer(engine.Handler())
	h.url = server.URL
	h.stop = sync.OnceFunc(func() {
		server.Close()
		engine.Close()
		if err := <-done; err != nil {
			t.Errorf("the engine ended with: %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// logger returns a logger that keeps everything.
func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	body   string
}

// call sends a request; token may be "". Each header is written as "Name: value".
func (h *host) call(method, path, token string, body io.Reader, header ...string) reply {
	h.t.Helper()
	request, err := http.NewRequest(method, h.url+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ":")
		request.Header.Add(name, strings.TrimSpace(value))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

func (h *host) post(path, token, body string, header ...string) reply {
	h.t.Helper()
	return h.call("POST", path, token, strings.NewReader(body), header...)
}

func (h *host) get(path, token string) reply {
	h.t.Helper()
	return h.call("GET", path, token, nil)
}

// token fetches a token.
func (h *host) token(login, password string) string {
	h.t.Helper()
	body, err := json.Marshal(map[string]string{"login": login, "password": password})
	if err != nil {
		h.t.Fatal(err)
	}
	r := h.post("/rest/v1/token-auth/issue", "", string(body))
	if r.status != http.StatusOK {
		h.t.Fatalf("token of %s: %d %s", login, r.status, r.body)
	}
	return decode[struct{ Token string }](h.t, r.body).Token
}

// receipt is the default answer of a listener.
type receipt struct {
	MessageUUID uuid.UUID `json:"messageUuid"`
	AuditID     int64     `json:"auditId"`
	FlowID      int64     `json:"flowId"`
	Status      string    `json:"status"`
}

// send posts a payload to an asynchronous listener, waits for its run, and returns how that ended.
func (h *host) send(path, token, body string) flow.Settled {
	h.t.Helper()
	r := h.post(listeners+path, token, body)
	if r.status != http.StatusOK {
		h.t.Fatalf("POST %s: %d %s", path, r.status, r.body)
	}
	return h.events.settled(decode[receipt](h.t, r.body).AuditID)
}

// read returns a file below the host's folder.
func (h *host) read(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

// watcher is an observer that tests wait on.
type watcher struct {
	mu      sync.Mutex
	changed *sync.Cond
	events  []flow.Event
}

func newWatcher() *watcher {
	w := &watcher{}
	w.changed = sync.NewCond(&w.mu)
	return w
}

func (w *watcher) Observe(e flow.Event) {
	w.mu.Lock()
	w.events = append(w.events, e)
	w.mu.Unlock()
	w.changed.Broadcast()
}

// await waits for an event of type T that is wanted.
func await[T flow.Event](w *watcher, wanted func(T) bool) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	for from := 0; ; w.changed.Wait() {
		for ; from < len(w.events); from++ {
			if e, ok := w.events[from].(T); ok && wanted(e) {
				return e
			}
		}
	}
}

// last returns the newest event of type T.
func last[T flow.Event](w *watcher) (e T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, event := range w.events {
		if newer, ok := event.(T); ok {
			e = newer
		}
	}
	return e
}

// settled waits until a run has ended for good.
func (w *watcher) settled(run int64) flow.Settled {
	return await(w, func(e flow.Settled) bool { return e.Run.Number == run && e.Run.Status.Settled() })
}

// syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
