package csvfmt

import (
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// cell is one cell of a row, as places in the scanner's text.
type cell struct {
	start, end      int  // of its text, without quotes
	quoted, escaped bool // escaped: it holds doubled quotes
}

// scanner finds the rows of a document. A row that the end of the window cuts is scanned again with more of it.
type scanner struct {
	*window.Window
	format    *format
	quote     byte
	delimiter byte
	comment   byte // 0: none
	limits    transform.Limits
	special   [256]bool // bytes that end an unquoted cell
	started   bool

	single bool   // the document has one column: a blank line is a row
	cells  []cell // of the row found last
	row    string // its text, without the line end
	begins int64  // its line
}

func newScanner(r io.Reader, f *format, limits transform.Limits) *scanner {
	s := &scanner{Window: window.New("csv", r), format: f, quote: f.quote, comment: f.comment, limits: limits}
	s.special['\n'], s.special['\r'], s.special[0] = true, true, true
	if !f.auto {
		s.delimit(f.delimiter)
	}
	return s
}

// delimit says where cells end.
func (s *scanner) delimit(delimiter byte) { s.delimiter, s.special[delimiter] = delimiter, true }

// errMore says that a row goes on behind the text that was read.
var errMore = errors.New("the row goes on")

// next finds the next row. It returns io.EOF after the last one.
func (s *scanner) next() error {
	if !s.started {
		s.started = true
		if err := s.begin(); err != nil {
			return err
		}
	}
	for {
		if !s.single {
			s.skipBlank()
		}
		if s.comment != 0 {
			if err := s.skipComments(); err != nil {
				return err
			}
		}
		if s.At == len(s.Text) && s.EOF {
			return io.EOF
		}
		s.begins = s.Begin(s.At, s.limits.RecordBytes, false)
		err := errMore
		if s.At < len(s.Text) {
			err = s.scan()
		}
		if err != errMore {
			return err
		}
		// The last byte may be a CR, which is no part of the row.
		if err := s.Within(len(s.Text) - 1); err != nil {
			return err
		}
		if err := s.Fill(); err != nil {
			return err
		}
	}
}

// skipBlank passes over blank lines.
func (s *scanner) skipBlank() {
	i := s.At
	for i < len(s.Text) && (s.Text[i] == '\n' || s.Text[i] == '\r') {
		i++
	}
	if i > s.At && i == len(s.Text) && s.Text[i-1] == '\r' && !s.EOF {
		i-- // a LF may follow
	}
	s.At = i
}

// scan finds the row that begins at s.At, and moves behind it.
func (s *scanner) scan() error {
	text, i := s.Text, s.At
	s.cells = s.cells[:0]
	for {
		c := cell{start: i}
		if s.quote != 0 && i < len(text) && text[i] == s.quote {
			end, err := s.quotedCell(&c)
			if err != nil {
				return err
			}
			i = end
		} else {
			for i < len(text) && !s.special[text[i]] {
				i++
			}
			if i-c.start > s.limits.FieldBytes {
				return s.Fault(c.start, "the cell that begins here is longer than %d bytes", s.limits.FieldBytes)
			}
			if i == len(text) && !s.EOF {
				return errMore
			}
			c.end = i
		}
		s.cells = append(s.cells, c)
		if len(s.cells) > s.limits.Fields {
			return s.Fault(c.start, "the row has more than %d cells", s.limits.Fields)
		}
		switch {
		case i == len(text):
			return s.found(i, i)
		case text[i] == s.delimiter:
			i++
		case text[i] == '\n':
			return s.found(i, i+1)
		case text[i] == '\r':
			if i+1 == len(text) && !s.EOF {
				return errMore
			}
			if i+1 < len(text) && text[i+1] == '\n' {
				return s.found(i, i+2)
			}
			return s.found(i, i+1)
		case text[i] == 0:
			return s.Fault(i, "a NUL character cannot be part of CSV")
		default:
			return s.Fault(i, "text follows the closing quote: a quote inside quotes is written twice")
		}
	}
}

// quotedCell finds the end of the quoted cell that begins at c.start, and returns the place behind its quote.
func (s *scanner) quotedCell(c *cell) (int, error) {
	text, i := s.Text, c.start+1
	for {
		k := strings.IndexByte(text[i:], s.quote)
		end := i + k
		if k < 0 {
			end = len(text)
		}
		switch {
		case end-c.start-1 > s.limits.FieldBytes:
			return 0, s.Fault(c.start, "the quote that opens here is not closed within %d bytes", s.limits.FieldBytes)
		case k < 0 && s.EOF:
			return 0, s.Fault(c.start, "the quote that opens here is never closed")
		case k < 0 || end+1 == len(text) && !s.EOF:
			return 0, errMore
		}
		if i = end + 1; i == len(text) || text[i] != s.quote {
			break
		}
		c.escaped = true
		i++
	}
	c.start, c.end, c.quoted = c.start+1, i-1, true
	if k := strings.IndexByte(text[c.start:c.end], 0); k >= 0 {
		return 0, s.Fault(c.start+k, "a NUL character cannot be part of CSV")
	}
	return i, nil
}

// found notes the row that ends at end, and goes to next.
func (s *scanner) found(end, next int) error {
	s.row = s.Text[s.At:end]
	if err := s.Within(end); err != nil {
		return err
	}
	if err := s.valid(s.At, end); err != nil {
		return err
	}
	s.At = next
	return nil
}

// valid returns the fault of what is no character between two places.
func (s *scanner) valid(from, to int) error {
	if utf8.ValidString(s.Text[from:to]) {
		return nil
	}
	for {
		r, size := utf8.DecodeRuneInString(s.Text[from:])
		if r == utf8.RuneError && size == 1 {
			return s.NoCharacter(from)
		}
		from += size
	}
}
