package jsonfmt

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// lineScanner finds the lines of newline-delimited JSON.
type lineScanner struct {
	*window.Window
	limits transform.Limits
	begun  bool
	line   int64 // of the line found last
	offset int64 // where it begins
	place  int   // the same in Text
	single bool  // no other line end than the one behind it is in it
}

func (f *format) lineScanner(r io.Reader, limits transform.Limits) *lineScanner {
	return &lineScanner{Window: window.New("ndjson", r), limits: limits.WithDefaults()}
}

// next returns the next line without its end, io.EOF behind the last one.
func (s *lineScanner) next() (string, error) {
	if !s.begun {
		s.begun = true
		if err := s.Start(); err != nil {
			return "", err
		}
	}
	if s.single {
		s.line = s.BeginLine(s.At, s.limits.RecordBytes)
	} else {
		s.line = s.Begin(s.At, s.limits.RecordBytes, false)
	}
	s.offset = s.Offset()
	length := 0 // of what was searched
	for {
		rest := s.Text[s.At:]
		end := strings.IndexByte(rest[length:], '\n')
		if length += end; end < 0 {
			length = len(rest)
		}
		if err := s.Within(s.At + length); err != nil {
			return "", err
		}
		switch {
		case end >= 0:
			s.place, s.single = s.At, strings.IndexByte(rest[:length], '\r') < 0
			s.At += length + 1
			return rest[:length], nil
		case s.EOF && length == 0:
			return "", io.EOF
		case s.EOF:
			s.place = s.At
			s.At += length
			return rest, nil
		}
		if err := s.Fill(); err != nil {
			return "", err
		}
	}
}

func (s *lineScanner) check() error {
	for {
		if _, err := s.next(); err == io.EOF { // what a line holds concerns its record alone
			return nil
		} else if err != nil {
			return err
		}
	}
}

// lineDecoder returns the decoder of newline-delimited JSON: the records that the selector leads to, in each line as in a document of
// its own.
func (f *format) lineDecoder(r io.Reader, o transform.DecodeOptions, selector transform.Selector) transform.Decoder {
	lines := f.lineScanner(r, o.Limits)
	var found []transform.Record // in one line
	w := &walker{scanner: f.scanner(o.Limits), selector: selector, raw: o.Raw, emit: func(r *transform.Record, _ int64) error {
		found = append(found, *r)
		return nil
	}}
	w.Window = new(window.Window)
	d := feed.New(lines.limits, func(d *feed.Feed) error {
		lines.Wait, w.batch = d.Wait, d.Batch
		for {
			line, err := lines.next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if line == "" || line[0] <= ' ' && strings.Trim(line, " \t\r") == "" {
				continue
			}
			found = found[:0]
			lines.Line(w.Window, line, lines.place, lines.line, lines.offset)
			w.depth = 0
			if o.Scope && len(selector) > 0 {
				o.Reopen = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(line)), nil }
				w.scopes, err = f.scopes(o, selector)
			}
			if err == nil {
				err = w.document()
				w.scopes.Close()
			}
			if err != nil {
				w.values.Free() // it holds what was read of the line
				found = append(found[:0], rejected(line, lines.line, err))
				if o.Raw {
					found[0].Raw = line
				}
			}
			size := int64(len(line))
			for i := range found {
				if err := d.Emit(&found[i], size); err != nil {
					return err
				}
				size = 0
			}
		}
	})
	lines.Lend()
	d.Lend, d.Release = lines.Hold, w.values.Free
	return d
}

// rejected returns the record of a line that has a fault: the beginning of its text.
func rejected(line string, number int64, err error) transform.Record {
	fault := &transform.Fault{Kind: "input", Step: "decode", Reason: err.Error(), Err: err}
	var syntax *transform.SyntaxError
	if errors.As(err, &syntax) {
		fault.Reason = fmt.Sprintf("column %d: %s", syntax.Column, syntax.Reason)
	}
	text := transform.Text(strings.ToValidUTF8(line[:min(len(line), 1024)], "\uFFFD"))
	return transform.Record{Value: text, Source: text, Line: number, Err: fault}
}
