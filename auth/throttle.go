package auth

import (
	"cmp"
	"net/netip"
	"strings"
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

// throttle counts failed logins of an account from a network. A success does not clear them, or whoever guesses beside a client that logs in
// all day would guess freely; they are forgotten when there was none for a while.
type throttle struct {
	clock   *clock
	mu      sync.Mutex
	entries map[place]misses
}

// place is an account with a network that tries to log in to it.
type place struct {
	login   string
	network netip.Prefix
}

type misses struct {
	count int
	last  time.Time
	until time.Time // no attempt before
}

// placeOf returns the place of an attempt. What counts as one network is a /24 of IPv4 and a /64 of IPv6; callers without an address, as over
// a Unix socket, are in one together.
func placeOf(login string, a netip.Addr) place {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	network, _ := a.Prefix(bits)
	return place{login[:min(len(login), maxLogin+1)], network} // longer ones are nobody's, and need not be told apart
}

// allowed refuses an attempt that comes too early.
func (t *throttle) allowed(p place) error {
	now := t.clock.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.entries[p].until.Sub(now); wait > 0 {
		return &ThrottledError{RetryAfter: wait}
	}
	return nil
}

// miss notes a failed attempt.
func (t *throttle) miss(p place) {
	now := t.clock.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	m, held := t.entries[p]
	switch {
	case !held:
		if len(t.entries) >= maxThrottled {
			t.evict(now)
		}
		p.login = strings.Clone(p.login) // it may be a part of something large
	case m.forgotten(now):
		m = misses{}
	}
	m.count++
	m.last = now
	if over := m.count - freeMisses; over >= 0 {
		m.until = now.Add(min(firstWait<<min(over, 10), longestWait))
	}
	t.entries[p] = m
}

func (m misses) forgotten(now time.Time) bool { return now.Sub(m.last) > forgetAfter }

// evict makes room: for what is forgotten, or else of the one with the fewest misses, the oldest of these. So a place that waits gives way
// last, and to clear one by flooding costs more misses than the waiting saves.
func (t *throttle) evict(now time.Time) {
	var least place
	var fewest misses
	for p, m := range t.entries {
		if m.forgotten(now) {
			delete(t.entries, p)
		} else if fewest.count == 0 || cmp.Or(cmp.Compare(m.count, fewest.count), m.last.Compare(fewest.last)) < 0 {
			least, fewest = p, m
		}
	}
	if len(t.entries) >= maxThrottled {
		delete(t.entries, least)
	}
}
