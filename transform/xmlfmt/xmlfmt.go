// Package xmlfmt reads and writes XML 1.0 (fifth edition) with namespaces, strictly and as a stream.
//
// Every rule of well-formedness that needs no DTD is checked, and every name's prefix must be bound. A DOCTYPE is refused where it begins,
// so that there are no entities beside the five that XML brings, and nothing outside the document is ever opened. Documents are UTF-8,
// UTF-16 with a byte order mark, or in an encoding of single bytes (ISO-8859-1, windows-1252 …) where their declaration says so.
//
// How an element becomes a value: its attributes are fields `@name`, its child elements are fields, those that repeat (or that
// Options.Lists names) are lists, and text beside either is `#text`. An element of text only is that text, an empty one is null.
// Names keep the prefix they are written with; namespace declarations are no fields. White space alone between child elements is left out, all other
// text is kept. The order of children of different names is not kept, nor is the place of text among them.
//
// The records are the elements that a path leads to: /patients/patient, from the root on. Without a path the document is one
// record with one field, the root element.
//
// The three names that matter are [Kind], [Options] and [New].
package xmlfmt

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// Options are the choices of the format. The zero value reads the document as one record, and writes <records><record>…
type Options struct {
	Records     string            `json:"records"`            // path of the records, /a/b; that of a flow's `from` wins
	Lists       []string          `json:"lists" define:"one"` // names of elements that are lists even if they come once
	Root        string            `json:"root"`               // writing: the root element (records)
	Element     string            `json:"element"`            // writing: a record's element (record)
	Namespaces  map[string]string `json:"namespaces"`         // writing: prefixes that the root declares, with their URIs; "" is the default namespace
	Declaration *bool             `json:"declaration"`        // writing: <?xml …?> first; nil is true
}

// format is XML with checked options.
type format struct {
	options Options
	records selector
	lists   map[string]bool
	root    transform.SharedRoot
}

var _ transform.Describer = (*format)(nil)

// Kind makes XML formats from definitions.
func Kind() transform.FormatKind {
	return transform.FormatKind{Name: "xml", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	}}
}

// New returns the format with these options. The error is a *transform.DefinitionError that names the option.
func New(o Options) (transform.Format, error) {
	if o.Root == "" {
		o.Root = "records"
	}
	if o.Element == "" {
		o.Element = "record"
	}
	f := &format{options: o, lists: map[string]bool{}}
	var err error
	if f.records, err = parseSelector(o.Records); err != nil {
		d := err.(*transform.DefinitionError)
		d.Path = "records"
		return nil, d
	}
	for _, name := range o.Lists {
		f.lists[name] = true
	}
	for _, e := range []struct{ key, name string }{{"root", o.Root}, {"element", o.Element}} {
		if reason := checkName(e.name); reason != "" {
			return nil, &transform.DefinitionError{Path: e.key, Reason: reason}
		}
		if prefix, _, ok := strings.Cut(e.name, ":"); ok && o.Namespaces[prefix] == "" {
			return nil, &transform.DefinitionError{Path: e.key, Reason: fmt.Sprintf("the prefix %s is not declared", prefix), Hint: "list it with its URI in namespaces"}
		}
	}
	for _, prefix := range slices.Sorted(maps.Keys(o.Namespaces)) {
		reason := ""
		switch {
		case prefix == "":
		case strings.Contains(prefix, ":"):
			reason = "a prefix has no colon"
		case prefix == "xml" || prefix == "xmlns":
			reason = fmt.Sprintf("the prefix %s is XML's own", prefix)
		case o.Namespaces[prefix] == "":
			reason = "the URI is missing"
		default:
			reason = checkName(prefix)
		}
		if reason == "" && !validText(o.Namespaces[prefix]) {
			reason = "the URI has characters that XML cannot hold"
		}
		if reason != "" {
			return nil, &transform.DefinitionError{Path: "namespaces." + prefix, Reason: reason}
		}
	}
	return f, nil
}

// Describe says that values have no types, and that a document without a path of records is one record.
func (f *format) Describe(o transform.DecodeOptions) transform.Description {
	return transform.Description{Untyped: true, Single: o.Records == "" && f.records == nil, Records: f.options.Records}
}

func (f *format) MediaType() string { return "application/xml; charset=utf-8" }

func (f *format) Check(r io.Reader, o transform.DecodeOptions) error {
	records, err := f.selector(o)
	if err != nil {
		return err
	}
	return (&walker{reader: f.reader(r, o.Limits), records: records}).document()
}

func (f *format) NewDecoder(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
	records, err := f.selector(o)
	if err != nil {
		return nil, err
	}
	d, err := f.decoder(r, o, records, nil)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// selector returns the path of the records.
func (f *format) selector(o transform.DecodeOptions) (selector, error) {
	if o.Records == "" {
		return f.records, nil
	}
	return parseSelector(o.Records)
}

// selector is the path of the records: names of elements from the root on.
type selector []selectorStep

type selectorStep struct {
	name string
	list bool // the element is one of several
}

// parseSelector reads /a/b, or a.b[*] as other formats have it.
func parseSelector(text string) (selector, error) {
	if text == "" {
		return nil, nil
	}
	var s selector
	if rest, ok := strings.CutPrefix(text, "/"); ok {
		for name := range strings.SplitSeq(rest, "/") {
			if reason := checkName(name); reason != "" {
				return nil, &transform.DefinitionError{Offset: strings.LastIndex(text, name), Reason: reason, Hint: "the path of records is as in /orders/order"}
			}
			s = append(s, selectorStep{name: name})
		}
		s[len(s)-1].list = true
		return s, nil
	}
	steps, err := transform.ParseSelector(text)
	if err != nil {
		return nil, err
	}
	for i, step := range steps {
		switch {
		case !step.All:
			if reason := checkName(step.Name); reason != "" {
				return nil, &transform.DefinitionError{Reason: reason, Hint: "the path of records is as in /orders/order"}
			}
			s = append(s, selectorStep{name: step.Name})
		case i == 0 || steps[i-1].All:
			return nil, &transform.DefinitionError{Reason: "[*] follows the name of an element", Hint: "the path of records is as in /orders/order"}
		default:
			s[len(s)-1].list = true
		}
	}
	s[len(s)-1].list = true
	return s, nil
}
