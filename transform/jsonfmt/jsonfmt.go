// Package jsonfmt reads and writes JSON (RFC 8259) and newline-delimited JSON, strictly.
//
// Refused with line, column and offset: duplicate names (unless Options say otherwise), invalid UTF-8, lone surrogates, anything behind the
// document, nesting beyond the limit. Numbers keep their digits, objects the order of their fields. Records are picked out while the
// document streams by, so its size is no matter; one record, and with Scope what encloses it, is held in memory.
//
// [New] makes the format of whole documents, [NewLines] that of a record a line, where a bad line rejects that record alone.
package jsonfmt

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/window"
	"github.com/integrator-go/integrator/transform/internal/word"
)

// Options are the choices of both formats. The zero value is strict and compact.
type Options struct {
	DuplicateKeys string `json:"duplicate_keys"` // refuse (the default), or last: the last of several fields of one name wins; records of each of them are read
}

// format is JSON, of documents or of lines.
type format struct {
	options Options
	lines   bool
	root    *transform.SharedRoot
}

var (
	_ transform.Describer  = (*format)(nil)
	_ transform.MediaTyper = (*format)(nil)
	_ transform.Appender   = (*format)(nil)
)

// Kind makes JSON formats from definitions.
func Kind() transform.FormatKind {
	return transform.FormatKind{Name: "json", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	}}
}

// LinesKind makes formats of newline-delimited JSON from definitions.
func LinesKind() transform.FormatKind {
	return transform.FormatKind{Name: "ndjson", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return NewLines(o)
	}}
}

// New returns the format of JSON documents.
func New(o Options) (transform.Format, error) { return newFormat(o, false) }

// NewLines returns the format of newline-delimited JSON.
func NewLines(o Options) (transform.Format, error) { return newFormat(o, true) }

func newFormat(o Options, lines bool) (transform.Format, error) {
	switch o.DuplicateKeys {
	case "", "refuse", "last":
		return &format{o, lines, &transform.SharedRoot{}}, nil
	}
	return nil, &transform.DefinitionError{Path: "duplicate_keys", Reason: fmt.Sprintf("%q is not known", o.DuplicateKeys), Hint: "there are refuse and last"}
}

// Describe says that a document without a path of records is one record.
func (f *format) Describe(o transform.DecodeOptions) transform.Description {
	return transform.Description{Single: !f.lines && o.Records == ""}
}

func (f *format) MediaType() string { return f.MediaTypeOf(transform.EncodeOptions{}) }

// MediaTypeOf says lines also of a document that is asked for as lines.
func (f *format) MediaTypeOf(o transform.EncodeOptions) string {
	if f.lines || o.As == "lines" {
		return "application/x-ndjson"
	}
	return "application/json"
}

func (f *format) Check(r io.Reader, o transform.DecodeOptions) error {
	selector, err := transform.ParseSelector(o.Records)
	if err != nil {
		return err
	}
	if f.lines {
		return f.lineScanner(r, o.Limits).check()
	}
	w := &walker{scanner: f.scanner(o.Limits), selector: selector}
	w.Window = window.New("json", r)
	if err := w.Start(); err != nil {
		return err
	}
	return w.document()
}

func (f *format) NewDecoder(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
	selector, err := transform.ParseSelector(o.Records)
	if err != nil {
		return nil, err
	}
	if f.lines {
		return f.lineDecoder(r, o, selector), nil
	}
	d, err := f.decoder(r, o, selector, nil)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (f *format) NewEncoder(w io.Writer, o transform.EncodeOptions) (transform.Encoder, error) {
	e := &encoder{w: w, as: cmp.Or(o.As, "array")}
	if f.lines {
		e.as = "lines"
	}
	switch e.as {
	case "array", "object", "lines":
		return e, nil
	}
	return nil, fmt.Errorf("jsonfmt: records cannot be written as %q: there are array, object, lines", e.as)
}

// NewAppender continues lines. A document is one value, which nothing continues.
func (f *format) NewAppender(w io.Writer, o transform.EncodeOptions) (transform.AppendEncoder, error) {
	if !f.lines && o.As != "lines" {
		return nil, errors.New("a JSON document is one value, which nothing is appended to")
	}
	return &encoder{w: w, as: "lines"}, nil
}

// Head returns nothing: lines have no header.
func (e *encoder) Head() []byte { return nil }

// encoder writes records.
type encoder struct {
	w     io.Writer
	as    string
	buf   []byte
	names names
	count int
}

// flushSize is when the buffer is written out.
const flushSize = 64 << 10

func (e *encoder) Encode(b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if e.as == "object" && e.count > 0 {
			r.Err = &transform.Fault{Kind: "input", Step: "encode", Reason: "the document is one object, and this is one record more: write as array or lines"}
			continue
		}
		before := len(e.buf)
		if e.as == "array" {
			e.buf = append(e.buf, "[,"[min(e.count, 1)])
			e.buf = append(e.buf, '\n')
		}
		var err error
		if e.buf, err = e.names.append(e.buf, r.Value); err != nil {
			e.buf = e.buf[:before]
			r.Err = &transform.Fault{Kind: "input", Step: "encode", Reason: err.Error()}
			continue
		}
		if e.as != "array" {
			e.buf = append(e.buf, '\n')
		}
		e.count++
		if len(e.buf) >= flushSize {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *encoder) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	return nil
}

func (e *encoder) Close() error {
	switch {
	case e.as == "array" && e.count == 0:
		e.buf = append(e.buf, "[]\n"...)
	case e.as == "array":
		e.buf = append(e.buf, "\n]\n"...)
	case e.as == "object" && e.count == 0:
		e.buf = append(e.buf, "null\n"...)
	}
	return e.flush()
}

// Append appends the JSON text of a value to b. Bytes are written in base64 (RFC 4648 section 4). The error is about invalid UTF-8.
func Append(b []byte, v transform.Value) ([]byte, error) { return (*names)(nil).append(b, v) }

// names are the names of objects as they are written, of the shapes that an encoder has met.
type names struct {
	shape   *transform.Shape // met last
	written []string         // its names, each with what stands around it
	met     map[*transform.Shape][]string
}

// mostShapes is how many shapes are remembered.
const mostShapes = 64

// of returns the names of a shape, with what stands before and behind each of them; nil when they are not to be had. A nil names has none.
func (n *names) of(shape *transform.Shape) []string {
	if n == nil {
		return nil
	}
	if shape == n.shape {
		return n.written
	}
	written, ok := n.met[shape]
	if !ok {
		if len(n.met) == mostShapes {
			return nil
		}
		for i := range shape.Len() {
			text, err := appendText([]byte("{,"[min(i, 1):][:1]), shape.Name(i))
			if err != nil {
				return nil
			}
			written = append(written, string(append(text, ':')))
		}
		if n.met == nil {
			n.met = map[*transform.Shape][]string{}
		}
		n.met[shape] = written
	}
	n.shape, n.written = shape, written
	return written
}

func (n *names) append(b []byte, v transform.Value) ([]byte, error) {
	switch v.Kind() {
	case transform.KindNull:
		return append(b, "null"...), nil
	case transform.KindBool, transform.KindNumber:
		return append(b, v.Text()...), nil
	case transform.KindText, transform.KindUntyped:
		return appendText(b, v.Text())
	case transform.KindBytes:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, []byte(v.Text()))
		return append(b, '"'), nil
	case transform.KindList:
		b = append(b, '[')
		for i, e := range v.Values() {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = n.append(b, e); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
	shape := v.Shape()
	written := n.of(shape)
	var err error
	if written == nil {
		b = append(b, '{')
	}
	for i := range shape.Len() {
		if written != nil {
			b = append(b, written[i]...)
		} else {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendText(b, shape.Name(i)); err != nil {
				return b, err
			}
			b = append(b, ':')
		}
		if b, err = n.append(b, v.At(i)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

const hexDigits = "0123456789abcdef"

// careful marks the bytes of a word of a text that cannot stand in JSON as they are, or that must be looked at.
func careful(w uint64) uint64 {
	return word.Below(w, ' ') | word.Same(w, quotes) | word.Same(w, backslashes) | word.High(w)
}

var quotes, backslashes = word.Of('"'), word.Of('\\')

func appendText(b []byte, s string) ([]byte, error) {
	n := len(b)
	b = append(slices.Grow(b, len(s)+2), '"')
	i := 0
	for i+word.Size <= len(s) && careful(word.At(s, i)) == 0 {
		i += word.Size
	}
	for i < len(s) && plain[s[i]] && s[i] < utf8.RuneSelf {
		i++
	}
	if i == len(s) {
		return append(append(b, s...), '"'), nil
	}
	if !utf8.ValidString(s[i:]) {
		return b[:n], errors.New("a text is not valid UTF-8")
	}
	start := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"'), nil
}
