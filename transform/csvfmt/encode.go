package csvfmt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
	"github.com/integrator-go/integrator/transform/internal/word"
)

// encoder writes records as rows.
type encoder struct {
	format *format
	w      io.Writer
	buf    []byte
	shape  *transform.Shape // the columns; nil before they are known
	given  bool             // they are the definition's, and not those of the first record
	begun  bool
	apart  bool // the header is kept apart, in head
	head   []byte

	always, guards     bool   // every cell is quoted; formulas are looked for
	delimiters, quotes uint64 // a word of them
}

// flushSize is when the buffer is written out.
const flushSize = 64 << 10

func (f *format) NewEncoder(w io.Writer, o transform.EncodeOptions) (transform.Encoder, error) {
	if o.As != "" && o.As != "array" && o.As != "lines" {
		return nil, fmt.Errorf("csvfmt: records cannot be written as %q: CSV has rows", o.As)
	}
	e := &encoder{format: f, w: f.charset.Writer(w), delimiters: word.Of(f.delimiter), quotes: word.Of(f.quote)}
	e.always, e.guards = f.options.Quoting == "all", f.options.Formula != "" && f.options.Formula != "keep"
	if o.Columns != nil {
		e.shape, e.given = transform.NewShape(o.Columns...), true
	}
	return e, nil
}

// NewAppender writes rows alone; the header is in Head.
func (f *format) NewAppender(w io.Writer, o transform.EncodeOptions) (transform.AppendEncoder, error) {
	e, err := f.NewEncoder(w, o)
	if err != nil {
		return nil, err
	}
	appender := e.(*encoder)
	appender.apart = true
	return appender, nil
}

// Head returns the header, when it was kept apart.
func (e *encoder) Head() []byte { return e.format.charset.Append(nil, e.head) }

// begin writes the byte order mark and the header.
func (e *encoder) begin() error {
	if e.begun || e.shape == nil {
		return nil
	}
	e.begun = true
	if e.format.charset.NeedsMark() {
		e.buf = append(e.buf, charset.ByteOrderMark...)
	}
	if e.format.header {
		if err := e.header(); err != nil {
			return err
		}
	}
	if e.apart {
		e.head, e.buf = e.buf, nil
	}
	return nil
}

func (e *encoder) header() error {
	for i := range e.shape.Len() {
		if i > 0 {
			e.buf = append(e.buf, e.format.delimiter)
		}
		var err error
		if e.buf, err = e.text(e.buf, e.shape.Name(i)); err != nil {
			return fmt.Errorf("the name of column %d: %w", i+1, err)
		}
	}
	e.endLine()
	return nil
}

func (e *encoder) endLine() {
	if e.format.options.LineEnd == "crlf" {
		e.buf = append(e.buf, '\r')
	}
	e.buf = append(e.buf, '\n')
}

func (e *encoder) Encode(b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if r.Value.Kind() != transform.KindObject {
			r.Err = unfit("", fmt.Sprintf("a row is made of the fields of an object, and the record is no object but: %s", r.Value.Kind()))
			continue
		}
		if e.shape == nil {
			if r.Value.Len() == 0 {
				r.Err = unfit("", "a row needs a column, and the record has no fields")
				continue
			}
			e.shape = r.Value.Shape()
		}
		if err := e.begin(); err != nil {
			if e.given {
				return fmt.Errorf("write csv: %w", err)
			}
			r.Err, e.shape, e.begun, e.buf = unfit("", err.Error()), nil, false, e.buf[:0] // the record's names cannot be columns
			continue
		}
		before := len(e.buf)
		if r.Err = e.row(r.Value); r.Err != nil {
			e.buf = e.buf[:before]
			continue
		}
		if len(e.buf) >= flushSize {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// row appends one row. Fields that the record lacks are null.
func (e *encoder) row(v transform.Value) error {
	same := v.Shape() == e.shape
	if !same {
		for name := range v.Fields() {
			if e.shape.Index(name) < 0 {
				return unfit(name, "the file has no such column: its columns are those of the flow's map, or of its first record")
			}
		}
	}
	for i := range e.shape.Len() {
		if i > 0 {
			e.buf = append(e.buf, e.format.delimiter)
		}
		var field transform.Value
		if same {
			field = v.At(i)
		} else {
			field = v.Field(e.shape.Name(i))
		}
		var err error
		if e.buf, err = e.value(e.buf, field); err != nil {
			return unfit(e.shape.Name(i), err.Error())
		}
	}
	e.endLine()
	return nil
}

func unfit(field, reason string) error {
	return &transform.Fault{Kind: "input", Step: "encode", Field: field, Reason: reason}
}

func (e *encoder) value(b []byte, v transform.Value) ([]byte, error) {
	switch v.Kind() {
	case transform.KindNull:
		return append(b, e.format.options.Null...), nil
	case transform.KindBool, transform.KindNumber:
		return e.cell(b, v.Text())
	case transform.KindUntyped:
		if e.format.options.Quoting == "nonnumeric" && transform.IsNumber(v.Text()) {
			return e.cell(b, v.Text())
		}
		return e.text(b, v.Text())
	case transform.KindText:
		return e.text(b, v.Text())
	case transform.KindBytes:
		return e.text(b, base64.StdEncoding.EncodeToString([]byte(v.Text())))
	}
	return b, fmt.Errorf("a cell holds no %s: map its parts to columns", v.Kind())
}

// text appends a cell that holds text.
func (e *encoder) text(b []byte, s string) ([]byte, error) {
	if e.plain(s) && (!e.guards || !isFormula(s)) {
		return append(b, s...), nil
	}
	if e.guards && isFormula(s) {
		if e.format.options.Formula == "reject" {
			return b, errors.New("a spreadsheet would run the text as a formula")
		}
		s = "'" + s
	}
	if !utf8.ValidString(s) {
		return b, errors.New("the text is not valid UTF-8")
	}
	if r, lacks := e.format.charset.Lacks(s); lacks {
		return b, fmt.Errorf("%s has no character %q", e.format.charset, r)
	}
	if e.format.options.Quoting == "nonnumeric" && strings.IndexByte(s, 0) < 0 {
		return e.quoted(b, s)
	}
	return e.cell(b, s)
}

// plain reports whether a text can stand in a cell as it is; one with characters beyond ASCII may be looked at again.
func (e *encoder) plain(s string) bool {
	if len(s) < word.Size/2 || e.always || e.format.options.Quoting == "nonnumeric" || s[0] == e.format.comment {
		return false
	}
	marks := uint64(0)
	look := func(w uint64) {
		marks |= word.Below(w, 14) | word.Same(w, e.delimiters) | word.Same(w, e.quotes) | word.High(w)
	}
	if len(s) < word.Size {
		look(word.Half(s))
	} else {
		for i := 0; i < len(s)-word.Size; i += word.Size {
			look(word.At(s, i))
		}
		look(word.At(s, len(s)-word.Size))
	}
	return marks == 0 && s != e.format.options.Null
}

// cell appends a cell, quoted where it must be.
func (e *encoder) cell(b []byte, s string) ([]byte, error) {
	quote := s == "" || s == e.format.options.Null || e.always || e.format.charset.Mistaken(s) || s[0] == e.format.comment
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0:
			return b, errors.New("CSV cannot hold a NUL character")
		case c == '\n' || c == '\r' || c == e.format.delimiter || c == e.format.quote:
			quote = true
		}
	}
	if !quote {
		return append(b, s...), nil
	}
	return e.quoted(b, s)
}

func (e *encoder) quoted(b []byte, s string) ([]byte, error) {
	q := e.format.quote
	if q == 0 {
		if s == "" {
			return b, nil // without quotes '' and null look the same
		}
		return b, errors.New("the text must be quoted, and the format has no quote")
	}
	b = append(b, q)
	for {
		i := strings.IndexByte(s, q)
		if i < 0 {
			break
		}
		b = append(append(b, s[:i+1]...), q)
		s = s[i+1:]
	}
	return append(append(b, s...), q), nil
}

// isFormula reports whether a spreadsheet would run a cell of this text.
func isFormula(s string) bool {
	return s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0 && !transform.IsNumber(s)
}

func (e *encoder) flush() error {
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

func (e *encoder) Close() error {
	if err := e.begin(); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	if len(e.buf) == 0 {
		return nil
	}
	return e.flush()
}
