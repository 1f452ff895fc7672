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
	pieces  []string // Go layouts of one element each; literal text is marked by a leading NUL
	hasTime bool
	hasZone bool
}

// layoutElements are the elements of a layout, longest first, with Go's layout of each.
var layoutElements = []struct{ letters, goLayout string }{
	{"yyyy", "2006"}, {"yy", "06"},
	{"MMMM", "January"}, {"MMM", "Jan"}, {"MM", "01"}, {"M", "1"},
	{"dd", "02"}, {"d", "2"},
	{"EEEE", "Monday"}, {"EEE", "Mon"},
	{"HH", "15"}, {"hh", "03"}, {"h", "3"},
	{"mm", "04"}, {"m", "4"},
	{"ss", "05"}, {"s", "5"},
	{".SSSSSS", ".000000"}, {".SSS", ".000"},
	{"XXX", "Z07:00"}, {"XX", "Z0700"},
	{"a", "PM"},
}

// ParseLayout reads a layout: yyyy yy MMMM MMM MM M dd d EEEE EEE HH hh h mm m ss s .SSS .SSSSSS XXX XX a, other letters in single
// quotes, a quote as two of them.
func ParseLayout(text string) (Layout, error) {
	l := Layout{text: text}
	if text == "" {
		return l, errors.New("the layout is empty: write one such as yyyy-MM-dd")
	}
	elements := 0
	open := "" // an element of one or two digits directly before
next:
	for rest := text; rest != ""; {
		for _, e := range layoutElements {
			if after, ok := strings.CutPrefix(rest, e.letters); ok {
				digits := strings.Contains("yyyy MM dd HH hh mm ss", e.letters)
				if open != "" && digits {
					return l, fmt.Errorf("nobody can tell where %s ends and %s begins: write something between them, or %s", open, e.letters, open+open)
				}
				if open = ""; digits && len(e.letters) == 1 {
					open = e.letters
				}
				l.pieces = append(l.pieces, e.goLayout)
				l.hasTime = l.hasTime || strings.ContainsAny(e.letters, "HhmsS")
				l.hasZone = l.hasZone || e.letters[0] == 'X'
				elements++
				rest = after
				continue next
			}
		}
		open = ""
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "''"):
			l.pieces = append(l.pieces, "\x00'")
			rest = rest[2:]
		case c == '\'':
			quoted, after, ok := strings.Cut(strings.ReplaceAll(rest[1:], "''", "\x00"), "'")
			if !ok {
				return l, errors.New("the layout has a quote that is not closed")
			}
			l.pieces = append(l.pieces, "\x00"+strings.ReplaceAll(quoted, "\x00", "'"))
			rest = strings.ReplaceAll(after, "\x00", "''")
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			return l, fmt.Errorf("the layout has a letter %q that means nothing: write it as in yyyy-MM-dd HH:mm:ss, text in single quotes", c)
		default:
			l.pieces = append(l.pieces, "\x00"+rest[:1])
			rest = rest[1:]
		}
	}
	if elements == 0 {
		return l, errors.New("the layout holds no part of a date or time: write it as in yyyy-MM-dd HH:mm:ss")
	}
	return l, nil
}

// String returns the layout as it was written.
func (l Layout) String() string { return l.text }

// Format writes a time in its own zone.
func (l Layout) Format(t time.Time) string {
	var b strings.Builder
	for _, p := range l.pieces {
		if literal, ok := strings.CutPrefix(p, "\x00"); ok {
			b.WriteString(literal)
		} else {
			b.WriteString(t.Format(p))
		}
	}
	return b.String()
}

// Parse reads a time, in zone when the text names none. Days and hours that do not exist, there too when a clock is put forward, are
// refused.
func (l Layout) Parse(text string, zone *time.Location) (time.Time, error) {
	var goLayout strings.Builder
	for _, p := range l.pieces {
		literal, ok := strings.CutPrefix(p, "\x00")
		if ok && strings.ContainsAny(literal, "0123456789_JMPpZ") { // what begins an element of Go's layouts
			return time.Time{}, fmt.Errorf("the layout %s can be written but not read: its literal text looks like a date's", l.text)
		}
		if !ok {
			literal = p
		}
		goLayout.WriteString(literal)
	}
	t, err := time.ParseInLocation(goLayout.String(), text, time.UTC)
	if err != nil || l.hasZone {
		return t, err
	}
	there := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	if there.Hour() != t.Hour() || there.Minute() != t.Minute() {
		return time.Time{}, errors.New("there is no such time in the time zone: the clock is put forward then")
	}
	return there, nil
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
