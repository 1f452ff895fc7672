package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Throttling of failed logins.
const (
	freeMisses   = 5
	firstWait    = time.Second
	longestWait  = time.Minute
	forgetAfter  = 15 * time.Minute
	maxThrottled = 10_000 // accounts and networks remembered
)

// throttle counts failed logins of an account from a network. The zero value, with now set, is ready.
type throttle struct {
	now     func() time.Time
	mu      sync.Mutex
	entries map[throttled]*misses
}

type throttled struct {
	login   string
	network netip.Prefix
}

type misses struct {
	count int
	last  time.Time
	until time.Time
}

// network is what counts as one place: /24 of IPv4, /64 of IPv6.
func network(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

func (t *throttle) key(login string, a netip.Addr) throttled {
	return throttled{login[:min(len(login), maxLogin)], network(a)}
}

// allowed refuses an attempt that comes too early.
func (t *throttle) allowed(login string, a netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.entries[t.key(login, a)]; m != nil {
		if wait := m.until.Sub(t.now()); wait > 0 {
			return &ThrottledError{RetryAfter: min(wait, longestWait)}
		}
	}
	return nil
}

// miss notes a failed attempt.
func (t *throttle) miss(login string, a netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.entries == nil {
		t.entries = map[throttled]*misses{}
	}
	k := t.key(login, a)
	m := t.entries[k]
	if m == nil {
		if len(t.entries) >= maxThrottled {
			t.evict(now)
		}
		m = &misses{}
		t.entries[k] = m
	}
	m.count++
	m.last = now
	if over := m.count - freeMisses; over >= 0 {
		m.until = now.Add(min(firstWait<<min(over, 10), longestWait))
	}
}

// hit forgets the failures of who has the right password.
func (t *throttle) hit(login string, a netip.Addr) {
	t.mu.Lock()
	delete(t.entries, t.key(login, a))
	t.mu.Unlock()
}

// evict makes room: what is idle first, and when nothing is, any.
func (t *throttle) evict(now time.Time) {
	for k, m := range t.entries {
		if now.Sub(m.last) > forgetAfter {
			delete(t.entries, k)
		}
	}
	for k := range t.entries {
		if len(t.entries) < maxThrottled {
			return
		}
		delete(t.entries, k)
	}
}
