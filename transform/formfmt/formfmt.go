// Package formfmt reads and writes application/x-www-form-urlencoded, what HTML forms and many APIs send, as the WHATWG's URL Standard has it.
//
// A document is one record: its fields are the names in the order of their first appearance, a name that comes more than once (or that
// Options.Lists names) is a list, and every value is untyped text; a name without = has empty text. Stricter than the standard, percent signs
// that begin no escape, escapes that give no UTF-8 and control characters that are not escaped are faults of the document, each with its line
// and column. One line end behind the document and a byte order mark before it are passed over.
//
// Written, a list is its name with each of its values, null and an empty list are left out, and objects are faults of the record.
//
// The three names that matter are [Kind], [Options] and [New]. The document, at most [transform.Limits].RecordBytes long and of at most Fields
// pairs, is held in memory.
package formfmt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// Options are the choices of the format. The zero value reads what comes once as one value.
type Options struct {
	Lists []string `json:"lists" define:"one"` // names that are lists even if they come once
}

// format is forms with their options.
type format struct {
	lists []string
	root  transform.SharedRoot
}

var _ transform.Describer = (*format)(nil)

// Kind makes formats of forms from definitions.
func Kind() transform.FormatKind {
	return transform.FormatKind{Name: "form", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	}}
}

// New returns the format with these options. The error is nil.
func New(o Options) (transform.Format, error) { return &format{lists: slices.Clone(o.Lists)}, nil }

// Describe says that a document is one record, and that values have no types.
func (f *format) Describe(transform.DecodeOptions) transform.Description {
	return transform.Description{Single: true, Untyped: true}
}

func (f *format) MediaType() string { return "application/x-www-form-urlencoded" }

func (f *format) Check(r io.Reader, o transform.DecodeOptions) error {
	s, err := newScanner(r, o)
	if err != nil {
		return err
	}
	return s.pairs(func(string, string) {})
}

func (f *format) NewDecoder(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
	s, err := newScanner(r, o)
	if err != nil {
		return nil, err
	}
	return feed.New(s.limits, func(to *feed.Feed) error {
		s.Wait = to.Wait
		b := builder{names: transform.NewShapeBuilder(f.root.Shape())}
		if err := s.pairs(b.add); err != nil {
			return err
		}
		v := b.object(f.lists)
		return to.Emit(&transform.Record{Value: v, Source: v, Line: 1, Raw: s.raw}, s.size)
	}), nil
}

func newScanner(r io.Reader, o transform.DecodeOptions) (*scanner, error) {
	if o.Records != "" {
		return nil, &transform.DefinitionError{Reason: "a form is one record", Hint: "leave records out"}
	}
	return &scanner{Window: window.New("form", r), limits: o.Limits.WithDefaults(), keep: o.Raw}, nil
}

// builder collects the fields of a form.
type builder struct {
	names  transform.ShapeBuilder
	values []transform.Value
	lists  map[int][]transform.Value // of the fields whose names came more than once
}

func (b *builder) add(name, value string) {
	v := transform.Untyped(value)
	i := b.names.Index(name)
	if i < 0 {
		b.names.Add(name)
		b.values = append(b.values, v)
		return
	}
	if b.lists == nil {
		b.lists = map[int][]transform.Value{}
	}
	if b.lists[i] == nil {
		b.lists[i] = b.values[i : i+1 : i+1]
	}
	b.lists[i] = append(b.lists[i], v)
}

func (b *builder) object(lists []string) transform.Value {
	values := slices.Clone(b.values) // the lists begin with what is in the other
	for i, list := range b.lists {
		values[i] = transform.List(list)
	}
	for _, name := range lists {
		if i := b.names.Index(name); i >= 0 && b.lists[i] == nil {
			values[i] = transform.List([]transform.Value{values[i]})
		}
	}
	return transform.NewObject(b.names.Shape(), values)
}

// encoder writes a record as a form.
type encoder struct {
	w    io.Writer
	done bool
}

func (f *format) NewEncoder(w io.Writer, o transform.EncodeOptions) (transform.Encoder, error) {
	if o.As != "" && o.As != "object" {
		return nil, fmt.Errorf("formfmt: records cannot be written as %q: a form is one of them", o.As)
	}
	return &encoder{w: w}, nil
}

func (e *encoder) Encode(b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if e.done {
			return errors.New("write form: there is more than one record and the document is one form")
		}
		var form []byte
		if form, r.Err = appendForm(nil, r.Value); r.Err != nil {
			continue
		}
		e.done = true
		if _, err := e.w.Write(form); err != nil {
			return fmt.Errorf("write form: %w", err)
		}
	}
	return nil
}

// Close does nothing: a document without a record is empty.
func (e *encoder) Close() error { return nil }

func appendForm(b []byte, v transform.Value) ([]byte, error) {
	if v.Kind() != transform.KindObject {
		return nil, unfit("", fmt.Sprintf("a form is made of the fields of an object, and the record is no object but: %s", v.Kind()))
	}
	for name, field := range v.Fields() {
		if !utf8.ValidString(name) {
			return nil, unfit(name, "the name is not valid UTF-8")
		}
		values := []transform.Value{field}
		switch field.Kind() {
		case transform.KindNull:
			continue
		case transform.KindList:
			values = values[:0]
			for _, e := range field.Values() {
				values = append(values, e)
			}
		}
		for _, value := range values {
			text := value.Text()
			switch value.Kind() {
			case transform.KindNull, transform.KindObject, transform.KindList:
				reason := fmt.Sprintf("a form holds no %s: map its parts to fields", value.Kind())
				if field.Kind() == transform.KindList {
					reason = fmt.Sprintf("a list in a form holds no %s", value.Kind())
				}
				return nil, unfit(name, reason)
			case transform.KindBytes:
				text = base64.StdEncoding.EncodeToString([]byte(text))
			default:
				if !utf8.ValidString(text) {
					return nil, unfit(name, "the text is not valid UTF-8")
				}
			}
			if len(b) > 0 {
				b = append(b, '&')
			}
			b = appendEscaped(append(appendEscaped(b, name), '='), text)
		}
	}
	return b, nil
}

func unfit(field, reason string) error {
	return &transform.Fault{Kind: "input", Step: "encode", Field: field, Reason: reason}
}

// appendEscaped appends a name or a value (URL Standard, section 5.2).
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ':
			b = append(b, '+')
		case '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '*' || c == '-' || c == '.' || c == '_':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
