package xmlfmt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// encoder writes records as elements.
type encoder struct {
	format *format
	w      io.Writer
	as     string
	buf    []byte
	begun  bool
	count  int
	bound  []string // prefixes that are declared where the encoder stands
}

// flushSize is when the buffer is written out.
const flushSize = 64 << 10

func (f *format) NewEncoder(w io.Writer, o transform.EncodeOptions) (transform.Encoder, error) {
	switch o.As {
	case "", "array", "object":
	default:
		return nil, fmt.Errorf("xmlfmt: records cannot be written as %q: there are array and object", o.As)
	}
	e := &encoder{format: f, w: w, as: o.As, bound: []string{"xml"}}
	for prefix := range f.options.Namespaces {
		e.bound = append(e.bound, prefix)
	}
	return e, nil
}

// begin writes what stands before the records.
func (e *encoder) begin() {
	if e.begun {
		return
	}
	e.begun = true
	if d := e.format.options.Declaration; d == nil || *d {
		e.buf = append(e.buf, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"...)
	}
	if e.as != "object" {
		e.buf = append(append(e.buf, '<'), e.format.options.Root...)
		e.declare()
		e.buf = append(e.buf, '>')
	}
}

// declare writes the namespaces of the definition into a start tag.
func (e *encoder) declare() {
	for _, prefix := range slices.Sorted(maps.Keys(e.format.options.Namespaces)) {
		e.buf = append(e.buf, " xmlns"...)
		if prefix != "" {
			e.buf = append(append(e.buf, ':'), prefix...)
		}
		e.buf = append(e.buf, `="`...)
		e.buf = appendEscaped(e.buf, e.format.options.Namespaces[prefix], true)
		e.buf = append(e.buf, '"')
	}
}

func (e *encoder) Encode(b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if e.as == "object" && e.count > 0 {
			return errors.New("write xml: there is more than one record and the document is one object: write as array")
		}
		e.begin()
		before, bound := len(e.buf), len(e.bound)
		if e.as != "object" {
			e.buf = append(e.buf, '\n')
		}
		if err := e.element(e.format.options.Element, r.Value, e.as == "object"); err != nil {
			e.buf, e.bound = e.buf[:before], e.bound[:bound]
			var fault *transform.Fault
			if !errors.As(err, &fault) {
				fault = &transform.Fault{Reason: err.Error()}
			}
			fault.Kind, fault.Step = "input", "encode"
			r.Err = fault
			continue
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

// element writes one element. declare adds the definition's namespaces.
func (e *encoder) element(name string, v transform.Value, declare bool) error {
	if reason := checkName(name); reason != "" {
		return &transform.Fault{Field: name, Reason: reason + ": rename the field"}
	}
	outside := len(e.bound)
	defer func() { e.bound = e.bound[:outside] }()
	for field, value := range v.Fields() {
		if name, ok := strings.CutPrefix(field, "@"); ok && value.Text() != "" {
			if prefix, ok := declares(name); ok {
				e.bound = append(e.bound, prefix)
			}
		}
	}
	if err := e.checkPrefix(name); err != nil {
		return err
	}
	e.buf = append(append(e.buf, '<'), name...)
	if declare {
		e.declare()
	}
	if v.IsNull() {
		e.buf = append(e.buf, "/>"...)
		return nil
	}
	for field, value := range v.Fields() {
		if strings.HasPrefix(field, "@") {
			if err := e.attribute(field, value); err != nil {
				return err
			}
		}
	}
	e.buf = append(e.buf, '>')
	if v.Kind() != transform.KindObject {
		if err := e.content(name, v); err != nil {
			return err
		}
	}
	for field, value := range v.Fields() {
		var err error
		switch {
		case strings.HasPrefix(field, "@"):
		case field == "#text":
			err = e.content(field, value)
		case value.Kind() == transform.KindList:
			for _, one := range value.Values() {
				if err = e.element(field, one, false); err != nil {
					break
				}
			}
		default:
			err = e.element(field, value, false)
		}
		if err != nil {
			return err
		}
	}
	e.buf = append(append(append(e.buf, "</"...), name...), '>')
	return nil
}

// checkPrefix refuses a name whose prefix is not declared.
func (e *encoder) checkPrefix(name string) error {
	if prefix, _, ok := strings.Cut(name, ":"); ok && !slices.Contains(e.bound, prefix) {
		return &transform.Fault{Field: name, Reason: fmt.Sprintf("the prefix %s is not declared: list it in the format's namespaces", prefix)}
	}
	return nil
}

func (e *encoder) attribute(field string, v transform.Value) error {
	name := field[1:]
	if reason := checkName(name); reason != "" {
		return &transform.Fault{Field: field, Reason: reason + ": rename the field"}
	}
	prefix, declaration := declares(name)
	if !declaration {
		if err := e.checkPrefix(name); err != nil {
			return err
		}
	}
	if v.IsNull() {
		return nil
	}
	if declaration && (prefix != "" && v.Text() == "" || prefix == "xml" || prefix == "xmlns" || v.Text() == xmlURI || v.Text() == xmlnsURI) {
		return &transform.Fault{Field: field, Reason: "this namespace cannot be declared"}
	}
	s, err := scalar(v)
	if err != nil {
		return &transform.Fault{Field: field, Reason: err.Error()}
	}
	e.buf = append(append(append(e.buf, ' '), name...), `="`...)
	e.buf = append(appendEscaped(e.buf, s, true), '"')
	return nil
}

func (e *encoder) content(field string, v transform.Value) error {
	s, err := scalar(v)
	if err != nil {
		return &transform.Fault{Field: field, Reason: err.Error()}
	}
	e.buf = appendEscaped(e.buf, s, false)
	return nil
}

// scalar returns the text of a value that has no parts.
func scalar(v transform.Value) (string, error) {
	switch v.Kind() {
	case transform.KindObject, transform.KindList:
		return "", fmt.Errorf("XML has no place for this %s", v.Kind())
	case transform.KindBytes:
		return base64.StdEncoding.EncodeToString([]byte(v.Text())), nil
	}
	if !validText(v.Text()) {
		return "", errors.New("the text holds a character that XML cannot")
	}
	return v.Text(), nil
}

// appendEscaped appends text so that it is read back unchanged.
func appendEscaped(b []byte, s string, value bool) []byte {
	start := 0
	for i := range len(s) {
		var escaped string
		switch c := s[i]; {
		case c == '&':
			escaped = "&amp;"
		case c == '<':
			escaped = "&lt;"
		case c == '>':
			escaped = "&gt;"
		case c == '\r':
			escaped = "&#13;"
		case value && c == '"':
			escaped = "&quot;"
		case value && c == '\n':
			escaped = "&#10;"
		case value && c == '\t':
			escaped = "&#9;"
		default:
			continue
		}
		b = append(append(b, s[start:i]...), escaped...)
		start = i + 1
	}
	return append(b, s[start:]...)
}

func (e *encoder) flush() error {
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return fmt.Errorf("write xml: %w", err)
	}
	return nil
}

func (e *encoder) Close() error {
	e.begin()
	switch {
	case e.as != "object":
		e.buf = append(append(append(e.buf, "\n</"...), e.format.options.Root...), ">\n"...)
	case e.count == 0:
		e.buf = append(append(append(e.buf, '<'), e.format.options.Element...), "/>\n"...)
	default:
		e.buf = append(e.buf, '\n')
	}
	return e.flush()
}
