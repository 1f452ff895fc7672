package xmlfmt

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// reader makes values of elements.
type reader struct {
	*scanner
	shapes *transform.Shape
	lists  map[string]bool
	at     map[string]string // "@name" by name
}

func (f *format) reader(r io.Reader, limits transform.Limits) *reader {
	return &reader{scanner: newScanner(r, limits.WithDefaults()), shapes: transform.NewShape(), lists: f.lists, at: map[string]string{}}
}

// attributeName returns the field name of an attribute.
func (r *reader) attributeName(name string) string {
	if field, ok := r.at[name]; ok {
		return field
	}
	field := "@" + name
	if len(r.at) < 1000 {
		r.at[strings.Clone(name)] = field
	}
	return field
}

// skip passes over the element whose start tag was read.
func (r *reader) skip() error {
	for depth := len(r.open); len(r.open) >= depth; {
		if err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// element reads the element whose start tag was read. from is the offset where the record begins. The names of omit lead to elements that are
// left out.
func (r *reader) element(from int64, omit []string) (transform.Value, error) {
	object := transform.NewBuilder(r.shapes)
	var lists map[int][]transform.Value // the values of fields that came more than once
	for _, a := range r.attrs {
		if _, ok := declares(a.name); !ok {
			object.Add(r.attributeName(a.name), transform.Untyped(a.value))
		}
	}
	content, children := "", false
	for {
		if err := r.next(); err != nil {
			return transform.Null, err
		}
		if r.Offset()-from > int64(r.limits.RecordBytes) {
			return transform.Null, r.fault(r.At, fmt.Sprintf("the record is longer than %d bytes", r.limits.RecordBytes))
		}
		switch r.kind {
		case text:
			if content == "" {
				content = r.content
			} else {
				content += r.content
			}
			if len(content) > r.limits.FieldBytes {
				return transform.Null, r.fault(r.At, fmt.Sprintf("a text is longer than %d bytes", r.limits.FieldBytes))
			}
			continue
		case endTag:
			for i, values := range lists {
				object.Set(i, transform.List(values))
			}
			if object.Len() == 0 && !children {
				if content == "" {
					return transform.Null, nil
				}
				return transform.Untyped(content), nil
			}
			if content != "" && (!children || !blank(content)) {
				object.Add("#text", transform.Untyped(content))
			}
			return object.Object(), nil
		}
		children = true
		name := r.name
		var below []string
		if len(omit) > 0 && name == omit[0] {
			if below = omit[1:]; len(below) == 0 {
				if err := r.skip(); err != nil {
					return transform.Null, err
				}
				continue
			}
		}
		v, err := r.element(from, below)
		if err != nil {
			return transform.Null, err
		}
		i := object.Index(name)
		if i < 0 {
			i = object.Len()
			object.Add(name, v)
			if !r.lists[name] {
				continue
			}
		} else if _, several := lists[i]; !several {
			if lists == nil {
				lists = map[int][]transform.Value{}
			}
			lists[i] = append(lists[i], object.At(i))
		}
		if lists == nil {
			lists = map[int][]transform.Value{}
		}
		lists[i] = append(lists[i], v)
		if object.Len() > r.limits.Fields {
			return transform.Null, r.fault(r.At, fmt.Sprintf("an element has more than %d children of different names", r.limits.Fields))
		}
	}
}

// decoder reads the selected elements of one document.
type decoder struct {
	*reader
	records selector // nil: the document is the record
	matched int      // how many of its steps the open elements follow
	raw     bool
	omit    []string // what the records leave out
	scopes  *scopes
	index   int64
	done    error
}

// Decode fills b with the next records.
func (d *decoder) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	var from int64
	if d.Window != nil {
		from = d.Offset()
	}
	for d.done == nil && len(b.Records) < d.limits.BatchSize && (len(b.Records) == 0 || d.Offset()-from < int64(d.limits.BatchBytes)) {
		record, err := d.record()
		if err != nil {
			d.done = err
			d.scopes.close()
			break
		}
		b.Records = append(b.Records, record)
	}
	if len(b.Records) == 0 {
		return d.done
	}
	return nil
}

// Close releases what an unfinished decoder holds; after the end it does nothing.
func (d *decoder) Close() error {
	if d.done == nil {
		d.done = io.EOF
	}
	d.scopes.close()
	return nil
}

// record finds and reads the next record. Behind the last one it reads the rest of the document, which must be well-formed too.
func (d *decoder) record() (transform.Record, error) {
	for {
		if err := d.next(); err != nil {
			return transform.Record{}, err
		}
		depth := len(d.open)
		switch {
		case d.kind == endTag && d.matched > depth:
			d.matched = depth
		case d.kind == startTag && d.records == nil:
			return d.take(func(v transform.Value, name string) transform.Value {
				return transform.NewObject(transform.NewShape(name), []transform.Value{v})
			})
		case d.kind == startTag && d.matched == depth-1 && depth <= len(d.records) && d.name == d.records[depth-1].name:
			if depth == len(d.records) {
				return d.take(func(v transform.Value, _ string) transform.Value { return v })
			}
			d.matched = depth
			if d.scopes != nil && depth == len(d.records)-1 {
				if err := d.scopes.advance(); err != nil {
					return transform.Record{}, err
				}
			}
		}
	}
}

// take reads the element whose start tag was read as a record.
func (d *decoder) take(shape func(transform.Value, string) transform.Value) (transform.Record, error) {
	r := transform.Record{Index: d.index, Line: d.line}
	d.index++
	name := strings.Clone(d.name)
	from := d.Offset()
	var head string
	if d.raw {
		d.keep = d.begins
		head = d.standalone()
	}
	v, err := d.element(from, d.omit)
	if err != nil {
		return r, err
	}
	if d.raw {
		rest := d.Text[d.keep:d.At]
		r.Raw = rest[:1+len(name)] + head + rest[1+len(name):]
		d.keep = -1
	}
	r.Value = shape(v, name)
	r.Source = r.Value
	if d.scopes != nil {
		r.Scope = d.scopes.now
	}
	return r, nil
}

// standalone returns the namespace declarations that the element whose start tag was read inherits.
func (d *decoder) standalone() string {
	var b strings.Builder
	seen := map[string]bool{}
	for i := len(d.bindings) - 1; i >= 0; i-- {
		bound := d.bindings[i]
		if seen[bound.prefix] {
			continue
		}
		seen[bound.prefix] = true
		if i >= d.open[len(d.open)-1].bindings {
			continue // its own
		}
		b.WriteString(" xmlns")
		if bound.prefix != "" {
			b.WriteString(":" + bound.prefix)
		}
		b.WriteString(`="` + string(appendEscaped(nil, bound.uri, true)) + `"`)
	}
	return b.String()
}

// scopes runs ahead of a decoder over the same document and knows what encloses the records that come next.
type scopes struct {
	doc     transform.Value
	parents *decoder
	batch   transform.Batch
	used    int
	now     *transform.Scope
	closers []io.Closer
}

// scopes prepares what DecodeOptions.Scope asks for.
func (f *format) scopes(o transform.DecodeOptions, records selector) (*scopes, error) {
	if o.Reopen == nil {
		return nil, errors.New("xmlfmt: Scope needs Reopen")
	}
	s := &scopes{}
	open := func(d *decoder) error {
		r, err := o.Reopen()
		if err == nil {
			s.closers = append(s.closers, r)
			d.reader = f.reader(r, o.Limits)
		}
		return err
	}
	whole := &decoder{}
	for _, step := range records[1:] {
		whole.omit = append(whole.omit, step.name)
		if step.list {
			break
		}
	}
	err := open(whole)
	if err == nil {
		var outline transform.Record
		if outline, err = whole.record(); err == nil {
			s.doc = outline.Value
		}
	}
	if err == nil {
		last := len(records) - 1
		s.parents = &decoder{records: records[:last], omit: []string{records[last].name}}
		err = open(s.parents)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// advance moves on to the next enclosing element.
func (s *scopes) advance() error {
	if s.used == len(s.batch.Records) {
		s.used = 0
		if err := s.parents.Decode(&s.batch); err != nil {
			if err == io.EOF {
				err = errors.New("xmlfmt: the document read a second time is another one")
			}
			return err
		}
	}
	s.now = &transform.Scope{Parent: s.batch.Records[s.used].Value, Doc: s.doc}
	s.used++
	return nil
}

func (s *scopes) close() {
	if s == nil {
		return
	}
	for _, c := range s.closers {
		c.Close()
	}
	s.closers = nil
}
