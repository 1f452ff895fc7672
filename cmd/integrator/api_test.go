package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledWhileCalling sends orders to a server that calls an API for each line of them, and kills it again and again while the API holds an answer
// back. In the end the API has each line under one key, and never another one under it.
func TestKilledWhileCalling(t *testing.T) {
	t.Parallel()
	const orders, lines, clients = 60, 5, 8
	kills := map[int]bool{7: true, 60: true, 150: true, 200: true} // in the middle of which calls
	var (
		mu      sync.Mutex
		calls   int
		applied = map[string]string{} // by key
		repeats int
		differ  []string
	)
	reached, killed := make(chan struct{}), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		key, call := r.Header.Get("Idempotency-Key"), r.RequestURI+" "+strings.TrimSpace(string(body))
		mu.Lock()
		calls++
		kill := kills[calls]
		if before, twice := applied[key]; twice {
			repeats++
			if before != call {
				differ = append(differ, key)
			}
		}
		applied[key] = call
		mu.Unlock()
		if kill { // it is applied, and nobody gets to know
			reached <- struct{}{}
			<-killed
		}
	}))
	defer api.Close()
	s := newVictim(t, fmt.Sprintf(`
connections: {api: {type: http, url: %q}}
listeners: {orders: {path: /orders, format: json}}
flows:
  load:
    from: {listener: orders, records: "lines[*]"}
    to: {connection: api, path: "/runs/${run.number}/lines/${record.line}", map: {order: doc.id, line: line, run: run.id}}
    retry: {attempts: 50, backoff: 1ms, max_backoff: 10ms}
users: {shop: {role: api, password: "${secret.SHOP}", listeners: [orders]}}
`, api.URL))
	s.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for id := client; id < orders; id += clients {
				var text []string
				for n := range lines {
					text = append(text, fmt.Sprintf(`{"line": %d}`, n))
				}
				s.send(fmt.Sprintf("order-%d", id), fmt.Sprintf(`{"id": %d, "lines": [%s]}`, id, strings.Join(text, ", ")))
			}
		})
	}
	for range kills {
		select {
		case <-reached:
		case <-ctx.Done():
			t.Fatalf("the API is not called any more\n%s", &s.log)
		}
		s.kill()
		killed <- struct{}{}
		s.start()
	}
	group.Wait()
	s.settle(orders)
	s.stop()
	mu.Lock()
	defer mu.Unlock()
	different := map[string]bool{}
	for _, call := range applied {
		different[call] = true
	}
	if len(applied) != orders*lines || len(different) != orders*lines {
		t.Errorf("the API has %d keys and %d different lines, want %d: nothing lost, nothing twice", len(applied), len(different), orders*lines)
	}
	if len(differ) > 0 {
		t.Errorf("keys that came with another line than before: %v", differ)
	}
	if repeats < len(kills) {
		t.Errorf("%d calls were repeated, want one for each of %d kills at least", repeats, len(kills))
	}
}
