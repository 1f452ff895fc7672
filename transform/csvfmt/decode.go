package csvfmt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
)

// document is a CSV document being read: its rows behind its header.
type document struct {
	*scanner
	shape  *transform.Shape   // nil before the header was read
	types  []*columnOf        // by column, nil for untyped ones; nil when there are none
	root   *transform.Shape   // of the shapes of ragged rows
	first  bool               // the row found last is the first of a document without a header
	ragged []*transform.Shape // by number of cells, as far as they were seen
}

type columnOf struct {
	name string
	transform.Column
}

// next finds the next row behind the header.
func (d *document) next() error {
	if d.shape == nil {
		if err := d.open(); err != nil {
			return err
		}
	}
	if d.first {
		d.first = false
		return nil
	}
	return d.scanner.next()
}

// open reads the header, or makes one.
func (d *document) open() error {
	names := d.format.options.Names
	if d.format.header || len(names) == 0 {
		if err := d.scanner.next(); err != nil {
			return err // io.EOF: a document without anything has no records
		}
		d.first = !d.format.header
		if d.format.header && len(names) > 0 && len(names) != len(d.cells) {
			return d.headerFault(0, fmt.Sprintf("the header has %d columns and the definition names %d", len(d.cells), len(names)))
		}
	}
	if len(names) == 0 {
		seen := make(map[string]int, len(d.cells))
		for i, c := range d.cells {
			name := fmt.Sprintf("c%d", i+1)
			if d.format.header && (c.end > c.start || c.quoted) {
				name = strings.Clone(d.content(c))
			}
			if len(name) > d.limits.NameBytes {
				return d.headerFault(i, fmt.Sprintf("the name of column %d is longer than %d bytes", i+1, d.limits.NameBytes))
			}
			if before, twice := seen[name]; twice {
				return d.headerFault(i, fmt.Sprintf("columns %d and %d are both named %q: give the format names of its own with names: […]", before+1, i+1, name))
			}
			seen[name] = i
			names = append(names, name)
		}
	}
	d.shape, d.root, d.single = transform.NewShape(names...), transform.NewShape(), len(names) == 1
	for _, name := range slices.Sorted(maps.Keys(d.format.columns)) {
		i := d.shape.Index(name)
		if i < 0 {
			return d.headerFault(0, fmt.Sprintf("the document has no column %q, which the definition gives a type", name))
		}
		if d.types == nil {
			d.types = make([]*columnOf, len(names))
		}
		d.types[i] = &columnOf{name, d.format.columns[name]}
	}
	return nil
}

// headerFault is a fault of the header, which was the row found last.
func (d *document) headerFault(column int, reason string) error {
	at := d.At
	if column < len(d.cells) {
		at = d.cells[column].start
	}
	return d.Fault(at, "%s", reason)
}

// content returns what a cell holds.
func (d *document) content(c cell) string {
	s := d.Text[c.start:c.end]
	if c.escaped {
		q := string(d.quote)
		s = strings.ReplaceAll(s, q+q, q)
	}
	return s
}

// decoder makes records of rows.
type decoder struct {
	*document
	raw bool
}

func (d *decoder) decode(f *feed.Feed) error {
	d.Wait = f.Wait
	var r transform.Record
	for {
		if err := d.next(); err != nil {
			return err
		}
		d.record(&r, f.Batch())
		if err := f.Emit(&r, int64(len(d.row))); err != nil {
			return err
		}
	}
}

// record makes r the record of the row found last.
func (d *decoder) record(r *transform.Record, b *transform.Batch) {
	r.Line, r.Err = d.begins, nil
	if d.raw {
		r.Raw = d.row
	}
	shape, n := d.shape, len(d.cells)
	if n < shape.Len() && d.format.options.Ragged == "pad" {
		n = shape.Len()
	}
	if n != shape.Len() {
		r.Err = fault("", fmt.Sprintf("the row has %d cells, the header has %d", n, shape.Len()))
		shape = d.raggedShape(n)
	}
	values := b.Values(n)
	text, null := d.Text, d.format.options.Null
	for i := range d.cells {
		c := &d.cells[i]
		s := text[c.start:c.end]
		if c.quoted {
			s = d.content(*c)
		} else if s == "" || s == null {
			continue
		}
		if d.types == nil || r.Err != nil || d.types[i] == nil { // a row with a fault is not looked at further
			values[i] = transform.Untyped(s)
			continue
		}
		v, err := d.types[i].Value(s)
		if err != nil {
			v = transform.Untyped(s)
			r.Err = fault(d.types[i].name, err.Error())
		}
		values[i] = v
	}
	r.Value = b.Object(shape, values)
	r.Source = r.Value
}

func fault(field, reason string) error {
	return &transform.Fault{Kind: "input", Step: "decode", Field: field, Reason: reason}
}

// raggedShape returns the names of a row with n cells: those of the header, and made-up ones for cells beyond it.
func (d *decoder) raggedShape(n int) *transform.Shape {
	for _, s := range d.ragged {
		if s.Len() == n {
			return s
		}
	}
	names, taken := make([]string, 0, n), map[string]bool{}
	for i := range min(n, d.shape.Len()) {
		names = append(names, d.shape.Name(i))
		taken[d.shape.Name(i)] = true
	}
	for i := len(names); i < n; i++ {
		name := fmt.Sprintf("c%d", i+1)
		for taken[name] {
			name = "_" + name
		}
		taken[name] = true
		names = append(names, name)
	}
	s := transform.NewShape(names...)
	if len(d.ragged) < 16 {
		d.ragged = append(d.ragged, s)
	}
	return s
}
