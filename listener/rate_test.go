package listener

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// newRate compiles a rate over a clock that the test moves.
func newRate(t *testing.T, d Rate) (*Listener, *time.Time) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r, faults := compileRate(d, "rate", func() time.Time { return now })
	if faults != nil {
		t.Fatal(faults)
	}
	return &Listener{rate: r}, &now
}

func TestRate(t *testing.T) {
	t.Parallel()
	l, now := newRate(t, Rate{Total: "120/m"})
	admitted := func() (n int) {
		for l.Admit("a") == nil {
			n++
		}
		return n
	}
	if n := admitted(); n != 120 {
		t.Errorf("%d calls at once", n)
	}
	var many *RateError
	if err := l.Admit("a"); !errors.As(err, &many) || many.RetryAfter != time.Second/2 {
		t.Errorf("refused with %v", err)
	}
	for wait, want := range map[time.Duration]int{10 * time.Second: 20, time.Second: 2, time.Hour: 120} {
		*now = now.Add(wait)
		if n := admitted(); n != want {
			t.Errorf("%d calls after %s, want %d", n, wait, want)
		}
	}
	*now = now.Add(-time.Hour) // a clock that is set back holds nobody up for longer than it takes
	if l.Admit("a") == nil {
		t.Error("the clock was set back and calls are taken")
	}
	*now = now.Add(time.Second)
	if n := admitted(); n != 2 {
		t.Errorf("%d calls a second after the clock was set back", n)
	}
}

// TestRateOfUsers bounds each user and all of them; a call that is refused uses nothing up.
func TestRateOfUsers(t *testing.T) {
	t.Parallel()
	l, now := newRate(t, Rate{Total: "5/s", User: "2/s"})
	count := func(user string, calls int) (n int) {
		for range calls {
			if l.Admit(user) == nil {
				n++
			}
		}
		return n
	}
	if a, b, c, d := count("a", 9), count("b", 9), count("c", 9), count("d", 9); a != 2 || b != 2 || c != 1 || d != 0 {
		t.Errorf("%d, %d, %d, %d calls", a, b, c, d)
	}
	*now = now.Add(200 * time.Millisecond) // one more of all, and d has used none of its own
	if d := count("d", 9); d != 1 {
		t.Errorf("%d calls", d)
	}
}

// TestRateHoldsLittle tells no more users apart than there may be, and forgets those that have their whole rate again.
func TestRateHoldsLittle(t *testing.T) {
	t.Parallel()
	l, now := newRate(t, Rate{User: "1/m"})
	admitted := 0
	for i := range 3 * maxUsers {
		if l.Admit(fmt.Sprint("user-", i)) == nil {
			admitted++
		}
		*now = now.Add(time.Millisecond)
	}
	if n := len(l.rate.users); n > maxUsers+1 {
		t.Errorf("%d users are held", n)
	}
	if admitted != maxUsers+1 { // those without a limiter of their own share one
		t.Errorf("%d calls were taken", admitted)
	}
	*now = now.Add(time.Minute)
	if l.Admit("user-0") != nil {
		t.Error("a user's rate has not come back")
	}
	if n := len(l.rate.users); n != 1 {
		t.Errorf("%d users are held a minute later", n)
	}
}
