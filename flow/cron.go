package flow

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cron is a compiled cron expression: minute, hour, day of the month, month, day of the week, each a set of bits.
//
// Which times it means is that of Vixie cron: when both day fields are restricted, either is enough. A job at fixed times of the day runs once
// each day, whatever the clocks do: a time that is skipped when they go forward runs right after the gap, one that comes twice when they
// go back runs the first time. A job whose minute or hour begins with * follows real time.
type cron struct {
	minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                bool
	wild                              bool // follows real time
}

// cronFields are the fields of an expression in their order.
var cronFields = []struct {
	name      string
	low, high int
	names     []string // of the values from low on
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

var cronNames = map[string]string{"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}

// parseCron reads `0 2 * * *`, with lists, ranges, steps and names, or a name such as @daily.
func parseCron(text string) (*cron, error) {
	if written, ok := cronNames[strings.ToLower(strings.TrimSpace(text))]; ok {
		text = written
	}
	parts := strings.Fields(text)
	if strings.HasPrefix(text, "@") {
		return nil, fmt.Errorf("%s is not known: there are %s", text, strings.Join(slices.Sorted(maps.Keys(cronNames)), ", "))
	}
	if len(parts) != len(cronFields) {
		return nil, fmt.Errorf("five fields are expected, as in 0 2 * * *: minute, hour, day of the month, month, day of the week; here are %d", len(parts))
	}
	var sets [5]uint64
	for i, part := range parts {
		for item := range strings.SplitSeq(part, ",") {
			set, err := cronItem(i, strings.ToLower(item))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", cronFields[i].name, err)
			}
			sets[i] |= set
		}
	}
	sets[4] |= sets[4] >> 7 & 1 // 7 is Sunday too
	c := &cron{minute: sets[0], hour: sets[1], day: sets[2], month: sets[3], weekday: sets[4], anyDay: parts[2][0] == '*', anyWeekday: parts[4][0] == '*',
		wild: parts[0][0] == '*' || parts[1][0] == '*'}
	if c.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("there is no such day: %s of the months given", parts[2])
	}
	return c, nil
}

// cronItem reads one item of a list: *, 5, 1-5, */10, 1-31/2, mon-fri.
func cronItem(i int, item string) (set uint64, err error) {
	field := cronFields[i]
	span, step, stepped := strings.Cut(item, "/")
	every := 1
	if stepped {
		if every, err = strconv.Atoi(step); err != nil || every < 1 {
			return 0, fmt.Errorf("%q is no step", step)
		}
	}
	low, high := field.low, field.high
	if span != "*" {
		from, to, ranged := strings.Cut(span, "-")
		if low, err = cronValue(i, from); err != nil {
			return 0, err
		}
		switch {
		case ranged:
			if high, err = cronValue(i, to); err != nil {
				return 0, err
			}
			if high < low {
				return 0, fmt.Errorf("the range %s goes backwards", span)
			}
		case !stepped:
			high = low
		}
	}
	for v := low; v <= high; v += every {
		set |= 1 << v
	}
	return set, nil
}

func cronValue(i int, text string) (int, error) {
	field := cronFields[i]
	for n, name := range field.names {
		if text == name {
			return field.low + n, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < field.low || n > field.high {
		names := ""
		if field.names != nil {
			names = fmt.Sprintf(", or one of %s", strings.Join(field.names, ", "))
		}
		return 0, fmt.Errorf("%q is not between %d and %d%s", text, field.low, field.high, names)
	}
	return n, nil
}

// farthest is how far ahead a time is looked for: the longest pause is that of a 29 February across a century's end.
const farthest = 9 * 366

// next returns the first time after t, in t's zone; the zero time when there is none.
func (c *cron) next(t time.Time) time.Time {
	if c.wild {
		return c.nextWild(t)
	}
	for wall := wallOf(t); ; {
		if wall = c.nextWall(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := fromWall(wall, t.Location()); at.After(t) { // not: the first of two, which has been
			return at
		}
	}
}

// onDay reports whether the expression means the day of t.
func (c *cron) onDay(t time.Time) bool {
	if c.month>>t.Month()&1 == 0 {
		return false
	}
	day, weekday := c.day>>t.Day()&1 == 1, c.weekday>>t.Weekday()&1 == 1
	if c.anyDay || c.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// nextWall returns the first time after wall that the expression means, on a clock that nobody sets.
func (c *cron) nextWall(wall time.Time) time.Time {
	wall = wall.Truncate(time.Minute).Add(time.Minute)
	for range farthest {
		if !c.onDay(wall) {
			wall = time.Date(wall.Year(), wall.Month(), wall.Day()+1, 0, 0, 0, 0, time.UTC)
			continue
		}
		for day := wall.Day(); wall.Day() == day; {
			switch {
			case c.hour>>wall.Hour()&1 == 0:
				wall = wall.Truncate(time.Hour).Add(time.Hour)
			case c.minute>>wall.Minute()&1 == 0:
				wall = wall.Add(time.Minute)
			default:
				return wall
			}
		}
	}
	return time.Time{}
}

// nextWild returns the first time after t whose clock shows what the expression means.
func (c *cron) nextWild(t time.Time) time.Time {
	t = t.Truncate(time.Minute).Add(time.Minute)
	for range farthest {
		if !c.onDay(t) {
			t = dayAfter(t)
			continue
		}
		for day := t.Day(); t.Day() == day; {
			switch {
			case c.hour>>t.Hour()&1 == 0:
				t = untilZone(t, t.Add(time.Duration(60-t.Minute())*time.Minute))
			case c.minute>>t.Minute()&1 == 0:
				t = t.Add(time.Minute)
			default:
				return t
			}
		}
	}
	return time.Time{}
}

// untilZone returns next, or the first whole minute before it after the clock is set: what it shows then is looked at anew.
func untilZone(t, next time.Time) time.Time {
	_, end := t.ZoneBounds()
	if end = end.Add(time.Minute - 1).Truncate(time.Minute); end.After(t) && end.Before(next) {
		return end
	}
	return next
}

// dayAfter returns the first minute of the next day that t's zone has.
func dayAfter(t time.Time) time.Time {
	next := fromWall(time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC), t.Location())
	if !next.After(t) { // the day begins twice, and t is in between
		for next = t.Add(time.Minute); next.Day() == t.Day(); {
			next = next.Add(time.Minute)
		}
	}
	return untilZone(t, next)
}

// wallOf returns what the clock shows at t, as a time of UTC.
func wallOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// fromWall returns when a clock of the zone shows wall: the first time when it does so twice, the end of the gap when it never does.
func fromWall(wall time.Time, zone *time.Location) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, end := t.ZoneBounds()
	switch shown := wallOf(t); {
	case shown.After(wall): // time.Date went over the gap
		return start
	case shown.Before(wall): // it stayed before it
		return end
	}
	if !start.IsZero() {
		_, offset := t.Zone()
		_, before := start.Add(-time.Second).Zone()
		if earlier := t.Add(time.Duration(offset-before) * time.Second); before > offset && earlier.Before(start) {
			return earlier
		}
	}
	return t
}
