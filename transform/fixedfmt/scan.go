package fixedfmt

import (
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// scanner finds the lines of a document. A line that the end of the window cuts is scanned again with more of it.
type scanner struct {
	*window.Window
	format  *format
	records *sort
	parents []*sort // of the records, the outermost first
	limits  transform.Limits
	started bool

	line   string // found last
	begins int64  // which line it is
	sort   *sort  // nil: of none
	wide   bool   // not each of its characters is a byte
	places []int  // of its characters when it is wide; empty before somebody asked
}

func (f *format) scanner(r io.Reader, o transform.DecodeOptions) (*scanner, error) {
	records, err := f.chosen(o)
	if err != nil {
		return nil, err
	}
	s := &scanner{Window: window.New("fixed", r), format: f, records: records, limits: o.Limits.WithDefaults()}
	for p := records.parent; p != nil; p = p.parent {
		s.parents = append(s.parents, p)
	}
	slices.Reverse(s.parents)
	return s, nil
}

// errMore says that a line goes on behind the text that was read.
var errMore = errors.New("the line goes on")

// next finds the next line that is not passed over. It returns io.EOF after the last one.
func (s *scanner) next() error {
	if !s.started {
		s.started = true
		if err := s.StartIn(s.format.charset); err != nil {
			return err
		}
	}
	for {
		begins := s.At
		err := s.scan()
		switch {
		case err == nil && s.line != "" && (s.sort == nil || s.sort == s.records || slices.Contains(s.parents, s.sort)):
			return s.bounded(begins)
		case err == errMore && s.EOF:
			return io.EOF
		case err == errMore:
			// The last byte may be a CR, which is no part of the line.
			if err := s.Within(len(s.Text) - 1); err != nil {
				return err
			}
			if err := s.Fill(); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
}

// scan finds the line that begins at At, and moves behind it.
func (s *scanner) scan() error {
	s.begins = s.Begin(s.At, s.limits.RecordBytes, false)
	text, i, bits := s.Text, s.At, byte(0)
	for i < len(text) && text[i] != '\n' && text[i] != '\r' {
		if bits |= text[i]; text[i] == 0 {
			return s.Fault(i, "a NUL character cannot be part of a line")
		}
		i++
	}
	next := i + 1
	switch {
	case i == len(text) && (!s.EOF || i == s.At):
		return errMore
	case i == len(text):
		next = i
	case text[i] == '\r' && next == len(text) && !s.EOF:
		return errMore
	case text[i] == '\r' && next < len(text) && text[next] == '\n':
		next++
	}
	if err := s.Within(i); err != nil {
		return err
	}
	s.line, s.wide, s.places = text[s.At:i], bits >= utf8.RuneSelf, s.places[:0]
	if s.wide && !utf8.ValidString(s.line) {
		for k, r := range s.line {
			if r == utf8.RuneError && !strings.HasPrefix(s.line[k:], string(utf8.RuneError)) {
				return s.NoCharacter(s.At + k)
			}
		}
	}
	s.sort = nil
	for _, sort := range s.format.sorts {
		if strings.HasPrefix(s.line, sort.starts) {
			s.sort = sort
			break
		}
	}
	s.At = next
	return nil
}

// bounded checks the limits of the values of the line that begins at a place.
func (s *scanner) bounded(begins int) error {
	if s.sort == nil {
		if len(s.line) > s.limits.FieldBytes { // it is one value
			return s.Fault(begins, "the line is longer than %d bytes and of no sort that is known", s.limits.FieldBytes)
		}
		return nil
	}
	if len(s.sort.columns) > s.limits.Fields {
		return s.Fault(begins, "the line has more than %d columns", s.limits.Fields)
	}
	if len(s.line) > s.limits.FieldBytes {
		for i := range s.sort.columns {
			if from, to := s.cell(&s.sort.columns[i]); to-from > s.limits.FieldBytes {
				return s.Fault(begins+from, "the value that begins here is longer than %d bytes", s.limits.FieldBytes)
			}
		}
	}
	return nil
}

// cell returns where a column stands in the line, as far as it does.
func (s *scanner) cell(c *column) (from, to int) {
	if !s.wide {
		return min(c.from, len(s.line)), min(c.to, len(s.line))
	}
	if len(s.places) == 0 {
		for i := range s.line {
			s.places = append(s.places, i)
		}
	}
	from, to = len(s.line), len(s.line)
	if c.from < len(s.places) {
		from = s.places[c.from]
	}
	if c.to < len(s.places) {
		to = s.places[c.to]
	}
	return from, to
}
