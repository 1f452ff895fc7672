package flow

import "sync"

// Users counts the runs that use what a set of plans is made over, its connections, so that they can be let go when the last run has ended.
// The zero value is ready; it is safe for concurrent use.
type Users struct {
	mu   sync.Mutex
	n    int
	last func() // what to do when nobody is left; nil: the set is in force
}

func (u *Users) enter() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.n++
	u.mu.Unlock()
}

func (u *Users) leave() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.n--
	last := u.last
	if u.n > 0 {
		last = nil
	}
	u.mu.Unlock()
	if last != nil {
		last()
	}
}

// Retire says that the set is not in force any more: f is called when no run uses it, at once when none does. A run that found its plan
// before and begins after has f called again at its end.
func (u *Users) Retire(f func()) {
	u.mu.Lock()
	u.last = f
	idle := u.n == 0
	u.mu.Unlock()
	if idle {
		f()
	}
}
