package fixedfmt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
)

// encoder writes records as lines.
type encoder struct {
	format *format
	w      io.Writer
	buf    []byte
	begun  bool
	apart  bool // the byte order mark is kept apart, in head
	head   []byte

	shape  *transform.Shape // of the record before
	places []int            // of its fields, by column; -1: it has no such field
	beside int              // the place of a field of it that has no column, -1 for none
}

// flushSize is when the buffer is written out.
const flushSize = 32 << 10

func (f *format) NewEncoder(w io.Writer, o transform.EncodeOptions) (transform.Encoder, error) {
	if o.As != "" && o.As != "array" && o.As != "lines" {
		return nil, fmt.Errorf("fixedfmt: records cannot be written as %q: they are lines", o.As)
	}
	if len(f.sorts) > 1 {
		return nil, fmt.Errorf("lines of several sorts are read only (%s): write with a format that has one", f.names(", "))
	}
	if f.records.overlap != "" {
		return nil, errors.New("it can be read only: " + f.records.overlap)
	}
	for _, name := range o.Columns {
		if f.records.shape.Index(name) < 0 {
			return nil, fmt.Errorf("the format has no column for the field %q", name)
		}
	}
	return &encoder{format: f, w: f.charset.Writer(w), places: make([]int, len(f.records.columns))}, nil
}

// NewAppender writes lines alone; the byte order mark is in Head.
func (f *format) NewAppender(w io.Writer, o transform.EncodeOptions) (transform.AppendEncoder, error) {
	e, err := f.NewEncoder(w, o)
	if err != nil {
		return nil, err
	}
	appender := e.(*encoder)
	appender.apart = true
	return appender, nil
}

// Head returns the byte order mark, when it was kept apart.
func (e *encoder) Head() []byte { return e.format.charset.Append(nil, e.head) }

func (e *encoder) Encode(b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if r.Value.Kind() != transform.KindObject {
			r.Err = unfit("", fmt.Sprintf("a line is made of the fields of an object, and the record is no object but: %s", r.Value.Kind()))
			continue
		}
		if !e.begun {
			e.begin()
		}
		before := len(e.buf)
		if r.Err = e.line(r.Value); r.Err != nil {
			e.buf = e.buf[:before]
			continue
		}
		if len(e.buf) >= flushSize {
			if err := e.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *encoder) begin() {
	e.begun = true
	if e.format.charset.NeedsMark() {
		e.buf = append(e.buf, charset.ByteOrderMark...)
	}
	if e.apart {
		e.head, e.buf = e.buf, nil
	}
}

// fit finds the fields of a record's columns.
func (e *encoder) fit(shape *transform.Shape) {
	e.shape, e.beside = shape, -1
	for i, c := range e.format.records.columns {
		e.places[i] = shape.Index(c.name)
	}
	for i := range shape.Len() {
		if e.format.records.shape.Index(shape.Name(i)) < 0 {
			e.beside = i
		}
	}
}

// line appends one line. Fields that the record lacks are null.
func (e *encoder) line(v transform.Value) error {
	if v.Shape() != e.shape {
		e.fit(v.Shape())
	}
	if e.beside >= 0 {
		return unfit(e.shape.Name(e.beside), "the format has no such column")
	}
	begins := len(e.buf)
	e.buf = append(e.buf, e.format.records.starts...)
	at := utf8.RuneCountInString(e.format.records.starts)
	for i := range e.format.records.columns {
		c := &e.format.records.columns[i]
		e.fill(' ', c.from-at)
		at = c.to
		var field transform.Value
		if e.places[i] >= 0 {
			field = v.At(e.places[i])
		}
		if err := e.value(c, field); err != nil {
			return unfit(c.name, err.Error())
		}
	}
	if e.format.charset.Mistaken(string(e.buf[begins:min(len(e.buf), begins+len(charset.ByteOrderMark)*utf8.UTFMax)])) {
		return unfit(e.format.records.columns[0].name, "a line that begins with a byte order mark would be read without it")
	}
	e.buf = append(e.buf, e.format.lineEnd...)
	return nil
}

func unfit(field, reason string) error {
	return &transform.Fault{Kind: "input", Step: "encode", Field: field, Reason: reason}
}

// fill appends a character n times.
func (e *encoder) fill(with byte, n int) {
	begins := len(e.buf)
	e.buf = slices.Grow(e.buf, n)[:begins+n]
	for i := range e.buf[begins:] {
		e.buf[begins+i] = with
	}
}

// value appends a value that fills its column.
func (e *encoder) value(c *column, v transform.Value) error {
	text := v.Text()
	switch v.Kind() {
	case transform.KindNull:
		e.fill(' ', c.to-c.from)
		return nil
	case transform.KindObject, transform.KindList:
		return fmt.Errorf("a column holds no %s: map its parts to columns", v.Kind())
	case transform.KindBytes:
		text = base64.StdEncoding.EncodeToString([]byte(text))
		v = transform.Text(text)
	}
	if c.typed && text != "" {
		var err error
		if text, err = c.Text(v); err != nil {
			return err
		}
	}
	switch {
	case strings.ContainsAny(text, "\x00\r\n"):
		return errors.New("a line cannot hold a line end or a NUL character")
	case !utf8.ValidString(text):
		return errors.New("the text is not valid UTF-8")
	}
	if r, lacks := e.format.charset.Lacks(text); lacks {
		return fmt.Errorf("%s has no character %q", e.format.charset, r)
	}
	rest := c.to - c.from - utf8.RuneCountInString(text)
	switch {
	case rest < 0:
		return fmt.Errorf("has %d characters, and the column holds %d", c.to-c.from-rest, c.to-c.from)
	case c.zeros && text != "":
		if text[0] == '-' || text[0] == '+' {
			e.buf, text = append(e.buf, text[0]), text[1:]
		}
		e.fill('0', rest)
		e.buf = append(e.buf, text...)
	case c.align == "right" || c.align == "" && (c.IsNumber() || v.Kind() == transform.KindNumber):
		e.fill(' ', rest)
		e.buf = append(e.buf, text...)
	default:
		e.buf = append(e.buf, text...)
		e.fill(' ', rest)
	}
	return nil
}

// Close writes what is still buffered.
func (e *encoder) Close() error {
	if len(e.buf) == 0 {
		return nil
	}
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return fmt.Errorf("write fixed: %w", err)
	}
	return nil
}
