package csvfmt

import (
	"fmt"
	"strings"
)

// begin passes over what stands before the rows, and finds the delimiter when the document has to tell it.
func (s *scanner) begin() error {
	f := s.format
	if err := s.StartIn(f.charset); err != nil {
		return err
	}
	for range f.options.Skip {
		if err := s.skipLine(); err != nil {
			return err
		}
	}
	if f.auto {
		return s.detect()
	}
	return nil
}

// skipLine passes over a line, whatever it holds but what is no character.
func (s *scanner) skipLine() error {
	s.Begin(s.At, s.limits.RecordBytes, false)
	for {
		rest := s.Text[s.At:]
		end := strings.IndexAny(rest, "\r\n")
		whole := end >= 0 && (rest[end] == '\n' || end+1 < len(rest)) || s.EOF
		if end < 0 {
			end = len(rest)
		}
		if err := s.Within(s.At + end); err != nil {
			return err
		}
		if whole {
			if s.At+end > s.Sound {
				return s.NoCharacter(s.Sound)
			}
			after := strings.TrimPrefix(rest[end:], "\r\n")
			if len(after) == len(rest)-end && after != "" {
				after = after[1:]
			}
			s.At = len(s.Text) - len(after)
			return nil
		}
		if err := s.Fill(); err != nil {
			return err
		}
	}
}

// skipComments passes over the lines that begin as a comment does, and blank ones between them.
func (s *scanner) skipComments() error {
	for {
		if !s.single {
			s.skipBlank()
		}
		switch {
		case s.At == len(s.Text) && !s.EOF:
			s.line = false // the window counts lines
			if err := s.Fill(); err != nil {
				return err
			}
		case s.At == len(s.Text) || s.Text[s.At] != s.comment:
			return nil
		default:
			s.line = false
			if err := s.skipLine(); err != nil {
				return err
			}
		}
	}
}

const (
	noDelimiter = 0xff    // which no row holds, being in no UTF-8
	sampleSize  = 8 << 10 // of a document whose delimiter is looked for
	delimiters  = ",;\t|" // that are looked for
)

// detect finds the delimiter: the one that stands in each row of the first 8 KiB as often as in the first, outside of quotes; or else the only
// one in the first row. Without any the rows have one cell.
func (s *scanner) detect() error {
	s.Begin(s.At, s.limits.RecordBytes, false)
	for len(s.Text)-s.At < sampleSize && !s.EOF {
		if err := s.Fill(); err != nil {
			return err
		}
	}
	sample := s.Text[s.At:]
	cut := len(sample) > sampleSize || !s.EOF
	sample = sample[:min(len(sample), sampleSize)]
	var first, row [len(delimiters)]int
	rows, same := 0, [len(delimiters)]bool{true, true, true, true}
	cells := false // the row has some
	end := func() {
		if cells && (rows == 0 || row != [len(delimiters)]int{}) { // another one tells nothing
			if rows++; rows == 1 {
				first = row
			}
			for i := range row {
				same[i] = same[i] && row[i] == first[i]
			}
		}
		row, cells = [len(delimiters)]int{}, false
	}
	quoted, begins := false, true // inside of quotes; where a cell may begin
	for i := 0; i < len(sample); i++ {
		c := sample[i]
		switch k := strings.IndexByte(delimiters, c); {
		case quoted && c == s.quote && i+1 < len(sample) && sample[i+1] == s.quote:
			i++
		case quoted:
			quoted = c != s.quote
		case begins && s.quote != 0 && c == s.quote:
			quoted, begins, cells = true, false, true
		case begins && !cells && s.comment != 0 && c == s.comment:
			for i+1 < len(sample) && sample[i+1] != '\n' && sample[i+1] != '\r' {
				i++
			}
		case c == '\n' || c == '\r':
			begins = true
			end()
		case k >= 0:
			row[k]++
			begins, cells = true, true
		default:
			begins, cells = false, true
		}
	}
	if !cut || rows == 0 {
		end()
	}
	var steady, there []byte
	for i := range first {
		if first[i] > 0 {
			if there = append(there, delimiters[i]); same[i] {
				steady = append(steady, delimiters[i])
			}
		}
	}
	switch {
	case len(steady) == 1:
		s.delimit(steady[0])
	case len(there) == 1:
		s.delimit(there[0])
	case len(there) > 1:
		return s.Fault(s.At, "the cells may end at any of %s: name the delimiter", strings.Trim(fmt.Sprintf("%q", there), `"`))
	default:
		s.delimit(noDelimiter)
	}
	return nil
}
