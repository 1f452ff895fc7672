package xmlfmt

import (
	"fmt"
	"io"
	"strings"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
	"github.com/integrator-go/integrator/transform/internal/scope"
	"github.com/integrator-go/integrator/transform/internal/stack"
)

// reader makes values of elements.
type reader struct {
	*scanner
	shapes *transform.Shape
	values stack.Stack
	batch  func() *transform.Batch // in whose memory values are made
	pieces []string                // of the texts of the elements that are read
	lists  map[string]bool
	at     map[string]string // "@name" by name
}

func (f *format) reader(r io.Reader, limits transform.Limits) *reader {
	return &reader{scanner: newScanner(r, limits.WithDefaults()), shapes: f.root.Shape(), lists: f.lists, at: map[string]string{}}
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

// content is the text of an element, of which there may be much between children and comments. Its pieces are those of the reader from a place on.
type content struct {
	from   int
	length int
	solid  bool // it is not white space alone
}

// addText adds a piece to an element's text; without keep only its length.
func (r *reader) addText(c *content, piece string, keep bool) error {
	if c.length += len(piece); c.length > r.limits.FieldBytes {
		return r.fault(r.At, fmt.Sprintf("the text of an element is longer than %d bytes", r.limits.FieldBytes))
	}
	if keep && piece != "" {
		r.pieces = append(r.pieces, piece)
		c.solid = c.solid || !blank(piece)
	}
	return nil
}

// takeText returns an element's text, and lets go of its pieces.
func (r *reader) takeText(c *content) string {
	pieces := r.pieces[c.from:]
	r.pieces = r.pieces[:c.from]
	switch len(pieces) {
	case 0:
		return ""
	case 1:
		return pieces[0]
	}
	return strings.Join(pieces, "")
}

// add adds the name of a field of an element's object.
func (r *reader) add(names *transform.ShapeBuilder, name string) error {
	if names.Len() == r.limits.Fields {
		return r.fault(r.At, fmt.Sprintf("an element has more than %d attributes and children of different names", r.limits.Fields))
	}
	names.Add(name)
	return nil
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

// element reads the element whose start tag was read. Without build it only checks it, and returns null. The names of omit lead to
// elements that are left out.
func (r *reader) element(build bool, omit []string) (transform.Value, error) {
	names, base := transform.NewShapeBuilder(r.shapes), r.values.Len()
	for _, a := range r.attrs {
		if _, ok := declares(a.name); !ok {
			if err := r.add(&names, r.attributeName(a.name)); err != nil {
				return transform.Null, err
			}
			if build {
				r.values.Push(transform.Untyped(a.value))
			}
		}
	}
	var (
		all      = content{from: len(r.pieces)}
		lists    map[int][]transform.Value // the values of fields that came more than once
		children bool
	)
	repeat := func(field int, values ...transform.Value) {
		if lists == nil {
			lists = map[int][]transform.Value{}
		}
		lists[field] = append(lists[field], values...)
	}
	for {
		if len(omit) == 0 {
			for !r.pending {
				leaf, found, err := r.leaf(&names, &all, build)
				if err != nil {
					return transform.Null, err
				}
				if !found {
					break
				}
				if children = true; build {
					r.values.Push(leaf)
				}
			}
		}
		if err := r.next(); err != nil {
			return transform.Null, err
		}
		if r.kind == startTag && len(omit) == 1 && r.name == omit[0] {
			children = true
			if err := r.Aside(r.begins, r.skip); err != nil {
				return transform.Null, err
			}
			continue
		}
		if err := r.Within(r.At); err != nil {
			return transform.Null, err
		}
		switch r.kind {
		case text:
			if err := r.addText(&all, r.content, build); err != nil {
				return transform.Null, err
			}
			continue
		case endTag:
			if !build {
				return transform.Null, nil
			}
			for i, values := range lists {
				r.values.Set(base+i, transform.List(values))
			}
			if names.Len() == 0 && !children {
				if all.length == 0 {
					return transform.Null, nil
				}
				return transform.Untyped(r.takeText(&all)), nil
			}
			if all.length > 0 && (!children || all.solid) {
				names.Add("#text")
				r.values.Push(transform.Untyped(r.takeText(&all)))
			}
			r.pieces = r.pieces[:all.from]
			b := r.batch()
			return b.Object(names.Shape(), r.values.Take(base, b)), nil
		}
		children = true
		name := r.name
		var below []string
		if len(omit) > 0 && name == omit[0] {
			below = omit[1:]
		}
		v, err := r.element(build, below)
		if err != nil {
			return transform.Null, err
		}
		i := names.Index(name)
		if i < 0 {
			if err := r.add(&names, name); err != nil {
				return transform.Null, err
			}
		}
		switch {
		case !build:
			continue
		case i < 0:
			r.values.Push(v)
			if r.lists[name] {
				repeat(names.Len()-1, v)
			}
			continue
		case lists[i] == nil:
			repeat(i, r.values.At(base+i))
		}
		repeat(i, v)
		if stack.IsWhole(v) {
			r.values.Set(base+i, v) // the batch's memory has something of the record: see Holds
		}
	}
}

// leaf reads the child that is most likely to come next, with the white space before it, when it is of text alone and written as most are:
// <name>text</name>, all of it in the window. What is not so is read token by token, and so is whatever has a fault.
func (r *reader) leaf(names *transform.ShapeBuilder, all *content, build bool) (v transform.Value, found bool, err error) {
	rest := r.Text[r.At:]
	begins := 0
	for begins < len(rest) && (rest[begins] == ' ' || rest[begins] == '\n' || rest[begins] == '\t') {
		begins++
	}
	name := names.Next()
	n := len(name)
	at := begins + len("<>") + n // of the text
	if name == "" || len(rest) < at || rest[begins] != '<' || rest[at-1] != '>' || rest[begins+1:at-1] != name {
		return v, false, nil
	}
	end := plainEnd(rest, at)
	behind := end + len("</>") + n
	if len(rest) < behind || rest[end] != '<' || rest[end+1] != '/' || rest[behind-1] != '>' || rest[end+2:behind-1] != name {
		return v, false, nil
	}
	l := &r.limits
	if n > l.NameBytes || names.Len() >= l.Fields || max(end-at, begins, n+len("</>")) > l.FieldBytes || len(r.open) >= l.Depth || r.lists[name] || r.At+end > r.Sound || r.Within(r.At+behind) != nil {
		return v, false, nil
	}
	if begins > 0 {
		if err := r.addText(all, rest[:begins], build); err != nil {
			return v, false, err
		}
	}
	names.Follow()
	r.At += behind
	if at < end {
		v = transform.Untyped(rest[at:end])
	}
	return v, true, nil
}

// walker goes through one document along the path of its records.
type walker struct {
	*reader
	records selector // nil: the document is the record
	matched int      // how many of its steps the open elements follow
	raw     bool
	omit    []string // what the records leave out
	scopes  *scope.Scopes
	emit    func(r *transform.Record, size int64) error // nil: the document is only checked
	found   transform.Record                            // last
}

// document reads the whole document. Behind the last record the rest of it must be well-formed too.
func (w *walker) document() error {
	for {
		if err := w.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		depth := len(w.open)
		switch {
		case w.kind == endTag:
			w.matched = min(w.matched, depth)
			continue
		case w.kind == text:
			continue
		case w.records == nil:
		case w.matched != depth-1 || depth > len(w.records) || w.name != w.records[depth-1].name:
			continue
		case depth < len(w.records):
			w.matched = depth
			if w.scopes != nil && depth == len(w.records)-1 {
				if err := w.scopes.Advance(); err != nil {
					return err
				}
			}
			continue
		}
		if err := w.record(); err != nil {
			return err
		}
	}
}

// record reads the element whose start tag was read as a record.
func (w *walker) record() error {
	r := &w.found
	*r = transform.Record{Line: w.Begin(w.begins, w.limits.RecordBytes, w.raw)}
	w.pieces = w.pieces[:0]
	name, inherited := w.name, ""
	if w.raw {
		inherited = w.inherited()
	}
	w.Pinned = true
	v, err := w.element(w.emit != nil, w.omit)
	w.Pinned = false
	if err != nil {
		return err
	}
	if w.raw {
		tag := 1 + len(name)
		r.Raw = w.Kept()[:tag] + inherited + w.Kept()[tag:]
	}
	size, err := w.Finish(w.At)
	if err != nil || w.emit == nil {
		return err
	}
	if w.records == nil {
		v = transform.NewObject(w.shapes.With(name), []transform.Value{v})
	}
	r.Value, r.Source = v, v
	if w.scopes != nil {
		r.Scope = w.scopes.Now()
	}
	return w.emit(r, size)
}

// inherited returns the namespace declarations that the element whose start tag was read inherits.
func (w *walker) inherited() string {
	var b strings.Builder
	seen := map[string]bool{}
	for i := len(w.bindings) - 1; i >= 0; i-- {
		bound := w.bindings[i]
		if seen[bound.prefix] {
			continue
		}
		seen[bound.prefix] = true
		if i >= w.open[len(w.open)-1].bindings {
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

// decoder returns the decoder of the records of r. Its scopes come from the same document opened again.
func (f *format) decoder(r io.Reader, o transform.DecodeOptions, records selector, omit []string) (*feed.Feed, error) {
	w := &walker{reader: f.reader(r, o.Limits), records: records, raw: o.Raw, omit: omit}
	if o.Scope && len(records) > 1 {
		var err error
		if w.scopes, err = f.scopes(o, records); err != nil {
			return nil, err
		}
	}
	d := feed.New(w.limits, func(d *feed.Feed) error {
		w.emit, w.Wait, w.batch = d.Emit, d.Wait, d.Batch
		return w.document()
	})
	w.Lend()
	d.Lend, d.Holds = w.Hold, w.values.Holds
	d.Release = func() {
		w.values.Free()
		w.scopes.Close()
	}
	return d, nil
}

// scopes prepares what DecodeOptions.Scope asks for.
func (f *format) scopes(o transform.DecodeOptions, records selector) (*scope.Scopes, error) {
	var toList []string
	for _, step := range records[1:] {
		toList = append(toList, step.name)
		if step.list {
			break
		}
	}
	last := len(records) - 1
	return scope.Open(o, func(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
		return f.decoder(r, o, nil, toList)
	}, func(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
		return f.decoder(r, o, records[:last], []string{records[last].name})
	})
}
