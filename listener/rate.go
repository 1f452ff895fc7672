package listener

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	xrate "golang.org/x/time/rate"

	"github.com/integrator-go/integrator/internal/define"
)

// RateError is the error for a call that is one too many.
type RateError struct{ RetryAfter time.Duration }

// Error says when to come again.
func (e *RateError) Error() string {
	return fmt.Sprintf("more calls than the listener's rate allows: come again in %s", e.RetryAfter)
}

// rate is a compiled [Rate]. What has been used up is forgotten when a new set of definitions comes into force.
type rate struct {
	now   func() time.Time
	total *xrate.Limiter // nil: no bound
	each  *xrate.Limiter // what every user's looks like; nil: no bound

	mu    sync.Mutex
	users map[string]*xrate.Limiter
	sweep int // from how many users on those are forgotten that have their whole rate again
	swept time.Time
}

// maxUsers is how many users are told apart while none of them has its whole rate again: further ones share one.
const maxUsers = 10_000

// compileRate checks a definition; the rate is nil when there is no bound.
func compileRate(d Rate, base string, now func() time.Time) (*rate, define.Faults) {
	var faults define.Faults
	limiter := func(key, text string) *xrate.Limiter {
		if text == "" {
			return nil
		}
		count, unit, _ := strings.Cut(text, "/")
		per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[strings.TrimSpace(unit)]
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil || n < 1 || n > 1_000_000_000 || per == 0 {
			faults = append(faults, define.Fault{Path: base + key, Reason: fmt.Sprintf("%q is no rate", text), Hint: "write calls per second, minute or hour: 100/s, 600/m, 5000/h"})
			return nil
		}
		return xrate.NewLimiter(xrate.Limit(float64(n)/per.Seconds()), n)
	}
	r := &rate{now: now, users: map[string]*xrate.Limiter{}, sweep: 64}
	key := ""
	if d.User != "" {
		key = ".total"
	}
	if r.total, r.each = limiter(key, d.Total), limiter(".user", d.User); r.total == nil && r.each == nil {
		return nil, faults
	}
	return r, faults
}

// Admit counts a call of the user against the listener's rate. The error is a *RateError, and the call does not count then.
func (l *Listener) Admit(user string) error {
	if l.rate == nil {
		return nil
	}
	return l.rate.admit(user)
}

func (r *rate) admit(user string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var taken []*xrate.Reservation
	for _, limiter := range []*xrate.Limiter{r.of(user, now), r.total} {
		if limiter == nil {
			continue
		}
		reservation := limiter.ReserveN(now, 1)
		taken = append(taken, reservation)
		if wait := reservation.DelayFrom(now); wait > 0 {
			for _, t := range taken {
				t.CancelAt(now)
			}
			return &RateError{wait}
		}
	}
	return nil
}

// of returns the user's limiter. The caller holds r.mu.
func (r *rate) of(user string, now time.Time) *xrate.Limiter {
	if r.each == nil {
		return nil
	}
	if len(r.users) >= r.sweep && now.Sub(r.swept).Abs() >= time.Second {
		for name, limiter := range r.users {
			if limiter.TokensAt(now) >= float64(limiter.Burst()) {
				delete(r.users, name)
			}
		}
		r.sweep, r.swept = min(max(64, 2*len(r.users)), maxUsers), now
	}
	if r.users[user] == nil && len(r.users) >= maxUsers {
		user = "" // nobody's login
	}
	if r.users[user] == nil {
		r.users[user] = xrate.NewLimiter(r.each.Limit(), r.each.Burst())
	}
	return r.users[user]
}
