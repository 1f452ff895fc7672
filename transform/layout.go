package transform

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Layout is a form of dates and times, written as in yyyy-MM-dd HH:mm:ss. The zero value writes nothing.
type Layout struct {
	text    string
	pieces  []layoutPiece
	hasTime bool
	hasZone bool
}

// layoutPiece is an element of a layout, or the text between two.
type layoutPiece struct {
	*layoutElement        // nil: literal
	literal        string // stands as it is
}

// layoutElement is a part of a date: how it is written, and which digits or names it is read from.
type layoutElement struct {
	letters  string
	goLayout string // how the time package writes it
	unit     layoutUnit
	min, max int      // digits, when it is a number
	names    []string // what else it is; names[0] is the number first
	first    int
}

// layoutUnit is what an element says.
type layoutUnit uint8

const (
	unitYear layoutUnit = iota
	unitYearOfCentury
	unitMonth
	unitDay
	unitWeekday // read, and not compared with the date
	unitHour
	unitHourOfHalf
	unitHalf
	unitMinute
	unitSecond
	unitFraction // nanoseconds
	unitZone
	units
)

// layoutElements are the elements of a layout, longest first.
var layoutElements = []layoutElement{
	{letters: "yyyy", goLayout: "2006", unit: unitYear, min: 4, max: 4},
	{letters: "yy", goLayout: "06", unit: unitYearOfCentury, min: 2, max: 2},
	{letters: "MMMM", goLayout: "January", unit: unitMonth, names: namesOf(12, func(i int) string { return time.Month(i + 1).String() }), first: 1},
	{letters: "MMM", goLayout: "Jan", unit: unitMonth, names: namesOf(12, func(i int) string { return time.Month(i + 1).String()[:3] }), first: 1},
	{letters: "MM", goLayout: "01", unit: unitMonth, min: 2, max: 2},
	{letters: "M", goLayout: "1", unit: unitMonth, min: 1, max: 2},
	{letters: "dd", goLayout: "02", unit: unitDay, min: 2, max: 2},
	{letters: "d", goLayout: "2", unit: unitDay, min: 1, max: 2},
	{letters: "EEEE", goLayout: "Monday", unit: unitWeekday, names: namesOf(7, func(i int) string { return time.Weekday(i).String() })},
	{letters: "EEE", goLayout: "Mon", unit: unitWeekday, names: namesOf(7, func(i int) string { return time.Weekday(i).String()[:3] })},
	{letters: "HH", goLayout: "15", unit: unitHour, min: 2, max: 2},
	{letters: "hh", goLayout: "03", unit: unitHourOfHalf, min: 2, max: 2},
	{letters: "h", goLayout: "3", unit: unitHourOfHalf, min: 1, max: 2},
	{letters: "mm", goLayout: "04", unit: unitMinute, min: 2, max: 2},
	{letters: "m", goLayout: "4", unit: unitMinute, min: 1, max: 2},
	{letters: "ss", goLayout: "05", unit: unitSecond, min: 2, max: 2},
	{letters: "s", goLayout: "5", unit: unitSecond, min: 1, max: 2},
	{letters: ".SSSSSS", goLayout: ".000000", unit: unitFraction, min: 6, max: 6},
	{letters: ".SSS", goLayout: ".000", unit: unitFraction, min: 3, max: 3},
	{letters: "XXX", goLayout: "Z07:00", unit: unitZone},
	{letters: "XX", goLayout: "Z0700", unit: unitZone},
	{letters: "a", goLayout: "PM", unit: unitHalf, names: []string{"AM", "PM"}},
}

func namesOf(n int, name func(i int) string) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = name(i)
	}
	return names
}

// ParseLayout reads a layout: yyyy yy MMMM MMM MM M dd d EEEE EEE HH hh h mm m ss s .SSS .SSSSSS XXX XX a, other letters in single
// quotes, a quote as two of them. Parts that make no date or time together, such as yyyy-mm-dd, where mm is minutes, are refused.
func ParseLayout(text string) (Layout, error) {
	l := Layout{text: text}
	if text == "" {
		return l, errors.New("the layout is empty: write one such as yyyy-MM-dd")
	}
	elements := 0
	open := "" // an element of one or two digits directly before
next:
	for rest := text; rest != ""; {
		for i := range layoutElements {
			e := &layoutElements[i]
			if after, ok := strings.CutPrefix(rest, e.letters); ok {
				digits := e.max > 0 && e.unit != unitFraction
				if open != "" && digits {
					return l, fmt.Errorf("nobody can tell where %s ends and %s begins: write something between them, or %s", open, e.letters, open+open)
				}
				if open = ""; digits && e.min < e.max {
					open = e.letters
				}
				l.pieces = append(l.pieces, layoutPiece{layoutElement: e})
				l.hasTime = l.hasTime || unitHour <= e.unit && e.unit <= unitFraction
				l.hasZone = l.hasZone || e.unit == unitZone
				elements++
				rest = after
				continue next
			}
		}
		open = ""
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "''"):
			l.pieces = append(l.pieces, layoutPiece{literal: "'"})
			rest = rest[2:]
		case c == '\'':
			quoted, after, ok := strings.Cut(strings.ReplaceAll(rest[1:], "''", "\x00"), "'")
			if !ok {
				return l, errors.New("the layout has a quote that is not closed")
			}
			l.pieces = append(l.pieces, layoutPiece{literal: strings.ReplaceAll(quoted, "\x00", "'")})
			rest = strings.ReplaceAll(after, "\x00", "''")
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			return l, fmt.Errorf("the layout has a letter %q that means nothing: write it as in yyyy-MM-dd HH:mm:ss, text in single quotes", c)
		default:
			l.pieces = append(l.pieces, layoutPiece{literal: rest[:1]})
			rest = rest[1:]
		}
	}
	if elements == 0 {
		return l, errors.New("the layout holds no part of a date or time: write it as in yyyy-MM-dd HH:mm:ss")
	}
	return l, l.plausible()
}

// plausible refuses letters whose case is mistaken: what they mean would be read, or written, without a fault.
func (l Layout) plausible() error {
	var has [units]int
	for _, p := range l.pieces {
		if p.layoutElement != nil {
			has[p.unit]++
		}
	}
	year, month, day := has[unitYear]+has[unitYearOfCentury] > 0, has[unitMonth] > 0, has[unitDay] > 0
	hour, minute, second := has[unitHour]+has[unitHourOfHalf] > 0, has[unitMinute] > 0, has[unitSecond] > 0
	switch {
	case minute && !month && (year || day):
		return errors.New("the layout has minutes and no month: mm is minutes, MM the month")
	case minute && !hour && (month || !second): // mm:ss is how long something takes
		return errors.New("the layout has minutes and no hour: mm is minutes, MM the month, HH the hour")
	case hour && !minute && (second || month && !day || has[unitMonth] > 1):
		return errors.New("the layout has an hour and no minutes: MM is the month, mm minutes")
	case year && day && !month:
		return errors.New("the layout has a year and a day, and no month: write it as MM")
	case has[unitHourOfHalf] > 0 && has[unitHour]+has[unitHalf] == 0:
		return errors.New("the layout has an hour of twelve and no half of the day: HH is the hour from 0 to 23, hh goes with a")
	}
	return nil
}

// String returns the layout as it was written.
func (l Layout) String() string { return l.text }

// Format writes a time in its own zone.
func (l Layout) Format(t time.Time) string {
	var b strings.Builder
	for _, p := range l.pieces {
		if p.layoutElement == nil {
			b.WriteString(p.literal)
		} else {
			b.WriteString(t.Format(p.goLayout))
		}
	}
	return b.String()
}

// Parse reads a time, in zone when the text names none. Days and hours that do not exist, there too when a clock is put forward, are
// refused, and so is a text that says two different things of one element.
func (l Layout) Parse(text string, zone *time.Location) (time.Time, error) {
	var values [units]int
	var given [units]bool
	rest := text
	for _, p := range l.pieces {
		e := p.layoutElement
		if e == nil {
			after, ok := strings.CutPrefix(rest, p.literal)
			if !ok {
				return time.Time{}, fmt.Errorf("%q stands where the layout %s has %q", begin(rest), l.text, p.literal)
			}
			rest = after
			continue
		}
		value, n := e.read(rest)
		if n == 0 {
			return time.Time{}, fmt.Errorf("%q stands where the layout %s has %s", begin(rest), l.text, e.letters)
		}
		if given[e.unit] && values[e.unit] != value {
			return time.Time{}, fmt.Errorf("%s says two different things in %s", e.letters, l.text)
		}
		values[e.unit], given[e.unit], rest = value, true, rest[n:]
	}
	if rest != "" {
		return time.Time{}, fmt.Errorf("%q stands behind what the layout %s has", begin(rest), l.text)
	}
	month, day, hour := 1, 1, values[unitHour]
	if given[unitMonth] {
		month = values[unitMonth]
	}
	if given[unitDay] {
		day = values[unitDay]
	}
	year := values[unitYear]
	if !given[unitYear] && given[unitYearOfCentury] {
		if year = 1900 + values[unitYearOfCentury]; year < 1969 { // as the time package has it: 1969 to 2068
			year += 100
		}
	}
	if !given[unitHour] {
		if hour = values[unitHourOfHalf]; hour > 12 {
			return time.Time{}, fmt.Errorf("there is no hour %d of twelve", hour)
		}
		if given[unitHalf] {
			hour = hour%12 + 12*values[unitHalf]
		}
	}
	if l.hasZone {
		zone = time.UTC
		if offset := values[unitZone]; offset != 0 {
			zone = time.FixedZone("", offset)
		}
	}
	t := time.Date(year, time.Month(month), day, hour, values[unitMinute], values[unitSecond], values[unitFraction], zone)
	if t.Day() != day || int(t.Month()) != month || hour > 23 || values[unitMinute] > 59 || values[unitSecond] > 59 {
		return time.Time{}, errors.New("there is no such day or time")
	}
	if t.Hour() != hour || t.Minute() != values[unitMinute] {
		return time.Time{}, errors.New("there is no such time in the time zone: the clock is put forward then")
	}
	return t, nil
}

// read returns the value at the start of s and its length; 0: there is none.
func (e *layoutElement) read(s string) (value, length int) {
	switch {
	case e.names != nil:
		for i, name := range e.names {
			if len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) {
				return e.first + i, len(name)
			}
		}
		return 0, 0
	case e.unit == unitZone:
		return readZone(s, strings.Contains(e.goLayout, ":"))
	case e.unit == unitFraction:
		if s == "" || s[0] != '.' {
			return 0, 0
		}
		if value, length = leadingDigits(s[1:], e.max); length < e.min {
			return 0, 0
		}
		for range 9 - e.max {
			value *= 10
		}
		return value, length + 1
	}
	if value, length = leadingDigits(s, e.max); length < e.min {
		return 0, 0
	}
	return value, length
}

// readZone reads Z or an offset from UTC, such as +01:30, in seconds.
func readZone(s string, colon bool) (offset, length int) {
	if s == "" {
		return 0, 0
	}
	if s[0] == 'Z' {
		return 0, 1
	}
	hours, n := leadingDigits(s[1:], 2)
	length = 1 + n
	if s[0] != '+' && s[0] != '-' || n != 2 {
		return 0, 0
	}
	if colon {
		if len(s) == length || s[length] != ':' {
			return 0, 0
		}
		length++
	}
	minutes, n := leadingDigits(s[length:], 2)
	if n != 2 || hours > 23 || minutes > 59 {
		return 0, 0
	}
	if offset = hours*3600 + minutes*60; s[0] == '-' {
		offset = -offset
	}
	return offset, length + 2
}

// leadingDigits returns the number at the start of s, of at most that many digits, and how many there are.
func leadingDigits(s string, most int) (value, n int) {
	for n < most && n < len(s) && '0' <= s[n] && s[n] <= '9' {
		value = value*10 + int(s[n]-'0')
		n++
	}
	return value, n
}

// begin returns the first characters of a text for an error.
func begin(s string) string {
	if len(s) > 12 {
		return strings.ToValidUTF8(s[:12], "") + "…"
	}
	return s
}

// isoTime writes a date, or a date with its time, as ISO 8601 has it (RFC 3339).
func isoTime(t time.Time, withTime bool) string {
	if withTime {
		return t.Format(time.RFC3339Nano)
	}
	return t.Format(time.DateOnly)
}

// parseISO reads what isoTime writes, and SQL's form with a blank.
func parseISO(s string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("this is no date")
}
