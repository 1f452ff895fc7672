package csvfmt

import (
	"errors"
	"io"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/window"
	"github.com/integrator-go/integrator/transform/internal/word"
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

	delimiters, quotes uint64 // a word of them

	started bool

	single bool   // the document has one column: a blank line is a row
	cells  []cell // of the row found last
	row    string // its text, without the line end
	begins int64  // its line
	line   bool   // it took one line, and the next row begins behind it
}

func newScanner(r io.Reader, f *format, limits transform.Limits) *scanner {
	s := &scanner{Window: window.New("csv", r), format: f, quote: f.quote, quotes: word.Of(f.quote), comment: f.comment, limits: limits}
	s.special['\n'], s.special['\r'], s.special[0] = true, true, true
	if !f.auto {
		s.delimit(f.delimiter)
	}
	return s
}

// delimit says where cells end.
func (s *scanner) delimit(delimiter byte) {
	s.delimiter, s.delimiters, s.special[delimiter] = delimiter, word.Of(delimiter), true
}

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
		if s.line {
			s.begins = s.BeginLine(s.At, s.limits.RecordBytes)
		} else {
			s.begins = s.Begin(s.At, s.limits.RecordBytes, false)
		}
		s.line = true // until it is known better
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
		s.line = false // the row is begun again
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
	s.line = s.line && i == s.At
	s.At = i
}

// telling marks the bytes of a word that say something in a cell: the delimiter, or the quote, and control characters, of which NUL, LF and CR do.
func telling(w, mark uint64) uint64 { return word.Below(w, 14) | word.Same(w, mark) }

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
			for {
				if i+word.Size <= len(text) {
					found := telling(word.At(text, i), s.delimiters)
					if found == 0 {
						i += word.Size
						continue
					}
					i += word.First(found)
				}
				if i == len(text) || s.special[text[i]] {
					break
				}
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
	text, i, nul := s.Text, c.start+1, -1
	for {
		for i < len(text) { // to the next quote
			if i+word.Size <= len(text) {
				found := telling(word.At(text, i), s.quotes)
				if found == 0 {
					i += word.Size
					continue
				}
				i += word.First(found)
			}
			if text[i] == s.quote {
				break
			}
			switch text[i] {
			case 0:
				if nul < 0 {
					nul = i
				}
			case '\n', '\r':
				s.line = false
			}
			i++
		}
		switch {
		case i-c.start-1 > s.limits.FieldBytes:
			return 0, s.Fault(c.start, "the quote that opens here is not closed within %d bytes", s.limits.FieldBytes)
		case i == len(text) && s.EOF:
			return 0, s.Fault(c.start, "the quote that opens here is never closed")
		case i == len(text) || i+1 == len(text) && !s.EOF:
			return 0, errMore
		}
		if i++; i == len(text) || text[i] != s.quote {
			break
		}
		c.escaped = true
		i++
	}
	c.start, c.end, c.quoted = c.start+1, i-1, true
	if nul >= 0 {
		return 0, s.Fault(nul, "a NUL character cannot be part of CSV")
	}
	return i, nil
}

// found notes the row that ends at end, and goes to next.
func (s *scanner) found(end, next int) error {
	s.row = s.Text[s.At:end]
	if err := s.Within(end); err != nil {
		return err
	}
	if end > s.Sound {
		return s.NoCharacter(s.Sound)
	}
	s.At = next
	return nil
}
