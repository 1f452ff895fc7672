package auth

import (
	"sync/atomic"
	"time"
)

// clock tells the time of day in UTC and never runs backwards. When the wall clock is set forward it follows; when that is set back it goes on at the
// pace of the monotonic clock, so that nothing lives longer than it was given.
type clock struct {
	wall  func() time.Time
	start time.Time    // counts from here by its monotonic reading
	ahead atomic.Int64 // the most that wall was ever ahead of the time since start, in nanoseconds
}

func newClock(wall func() time.Time) *clock {
	c := &clock{wall: wall, start: time.Now()}
	c.ahead.Store(wall().UnixNano())
	return c
}

func (c *clock) now() time.Time {
	passed := int64(time.Since(c.start))
	ahead := c.wall().UnixNano() - passed
	for {
		most := c.ahead.Load()
		if ahead <= most {
			return time.Unix(0, passed+most).UTC()
		}
		if c.ahead.CompareAndSwap(most, ahead) {
			return time.Unix(0, passed+ahead).UTC()
		}
	}
}
