package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/integrator-go/integrator/connector/sqldb/sqlite"
)

const ordersDefinitions = `
connections:
  warehouse: {type: sql, driver: sqlite, path: warehouse.db}
  out:       {type: file, dir: out}
listeners: {orders: {path: /orders, format: json}}
flows:
  load:
    from: {listener: orders}
    steps: [{map: {id: id, total: "= qty * price"}}]
    to: {connection: warehouse, table: orders, create: true}      # insert without a key: twice would show
  file:
    from: {listener: orders}
    to: {connection: out, path: "${run.id}.ndjson", format: ndjson}
users: {shop: {role: api, password: "${secret.SHOP}", listeners: [orders]}}
`

// victim is a server that is killed.
type victim struct {
	t       *testing.T
	dir     string
	address string
	process *exec.Cmd
	log     lockedBuffer
	up      atomic.Pointer[chan struct{}] // closed while the server takes calls
}

// lockedBuffer is a buffer that is read while a process writes to it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func newVictim(t *testing.T, definitions string) *victim {
	t.Helper()
	return newVictimOf(t, map[string]string{"integrator.yaml": definitions})
}

// newVictimOf is newVictim with several files of definitions, by their paths.
func newVictimOf(t *testing.T, files map[string]string) *victim {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &victim{t: t, dir: dir, address: l.Addr().String()}
	down := make(chan struct{})
	s.up.Store(&down)
	return s
}

// start starts the server and waits until it takes calls.
func (s *victim) start() {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	process := exec.Command(self, "serve", ".", "--addr", s.address)
	process.Args[0] = "integrator" // TestMain becomes the command by this name
	process.Dir = s.dir
	process.Env = append(os.Environ(), "INTEGRATOR_SECRET_SHOP=a long password", "INTEGRATOR_SECRET_SHOP_PASSWORD=a long password", "GORACE=atexit_sleep_ms=0")
	process.Stderr = &s.log
	out, err := process.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.process = process
	s.t.Cleanup(func() { process.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, s.address) {
		s.t.Fatalf("the server said %q: %v\n%s", line, err, &s.log)
	}
	close(*s.up.Load())
}

// kill ends the server at once.
func (s *victim) kill() {
	s.t.Helper()
	down := make(chan struct{})
	s.up.Store(&down)
	if err := s.process.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.process.Wait() // it was killed
}

// stop ends the server in order.
func (s *victim) stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	if err := s.process.Wait(); err != nil {
		s.t.Fatalf("the server ended with %v\n%s", err, &s.log)
	}
}

// call sends a request with a fresh token; it fails as the connection does.
func (s *victim) call(method, path, key, body string) (int, []byte, error) {
	token, err := s.token()
	if err != nil {
		return 0, nil, err
	}
	return s.request(method, path, token, key, body)
}

func (s *victim) token() (string, error) {
	status, body, err := s.request("POST", "/rest/v1/token-auth/issue", "", "", `{"login": "shop", "password": "a long password"}`)
	if err != nil {
		return "", err
	}
	var issued struct{ Token string }
	if err := json.Unmarshal(body, &issued); err != nil || issued.Token == "" {
		return "", fmt.Errorf("no token: %d %s", status, body)
	}
	return issued.Token, nil
}

func (s *victim) request(method, path, token, key, body string) (int, []byte, error) {
	request, err := http.NewRequest(method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// send repeats an order until it is acknowledged.
func (s *victim) send(key, body string) {
	for {
		<-*s.up.Load()
		status, answer, err := s.call("POST", "/plugins/schedules/rest/v1/httplistener/orders", key, body)
		switch {
		case err == nil && status == http.StatusOK:
			return
		case err == nil && status != http.StatusServiceUnavailable:
			s.t.Errorf("order %s: %d %s", key, status, answer)
			return
		}
	}
}

// settle waits until so many runs have ended well, and nothing else is in the history.
func (s *victim) settle(runs int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		counts, after := map[string]int{}, int64(0)
		for {
			path := "/rest/v1/runs?limit=1000"
			if after > 0 {
				path += fmt.Sprintf("&after=%d", after)
			}
			status, answer, err := s.call("GET", path, "", "")
			var page struct {
				Runs  []struct{ Status, Exception string }
				After int64
			}
			if err != nil || status != http.StatusOK || json.Unmarshal(answer, &page) != nil {
				s.t.Fatalf("history: %d %s %v", status, answer, err)
			}
			for _, run := range page.Runs {
				counts[run.Status]++
				if run.Status == "error" {
					s.t.Fatalf("a run failed: %s\n%s", run.Exception, &s.log)
				}
			}
			if after = page.After; after == 0 {
				break
			}
		}
		if counts["success"] == runs && len(counts) == 1 {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the runs stand at %v, want %d", counts, runs)
		}
	}
}
