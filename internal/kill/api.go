package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
)

// api is the API that the servers call, and outlives them. It honours keys: a call is applied once. At times it refuses one before it is applied, and breaks
// off without an answer behind it.
type api struct {
	mu      sync.Mutex
	applied map[string]string // calls by key
	lines   []arrival         // of each call that was applied
	differ  []string          // what is wrong with calls
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	fate := rand.IntN(40)
	if fate == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	a.apply(r.Header.Get("Idempotency-Key"), fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body), body)
	if fate == 1 {
		panic(http.ErrAbortHandler)
	}
}

// apply applies a call whose key is new.
func (a *api) apply(key, call string, body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, known := a.applied[key]; known {
		if before != call {
			a.differ = append(a.differ, fmt.Sprintf("the API was called under key %s with %s, and then with %s", key, before, call))
		}
		return
	}
	var line arrival
	if err := json.Unmarshal(body, &line); err != nil || key == "" {
		a.differ = append(a.differ, fmt.Sprintf("the API was called under key %q with %s: %v", key, call, err))
	}
	a.applied[key], a.lines = call, append(a.lines, line)
}
