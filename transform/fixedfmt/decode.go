package fixedfmt

import (
	"fmt"
	"strings"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
)

// decoder makes records of lines.
type decoder struct {
	*scanner
	scope, raw bool
	above      []parent // the lines that the next record stands below, by the places of scanner.parents
	lost       int64    // the last line of no sort: what stands below it, nobody knows
	slab       []transform.Value
}

// parent is a line that records stand below.
type parent struct {
	line  int64 // 0: there is none
	value transform.Value
	scope *transform.Scope
	err   error // why what stands below it is rejected
}

// unknown is the shape of a line of no sort.
var unknown = transform.NewShape("line")

func (d *decoder) decode(f *feed.Feed) error {
	d.Wait = f.Wait
	d.above = make([]parent, len(d.parents))
	for {
		if err := d.next(); err != nil {
			return err
		}
		r := transform.Record{Line: d.begins}
		switch d.sort {
		case d.records:
			r.Value, r.Err = d.values(d.sort.shape)
			if err := d.below(len(d.above), &r.Scope); r.Err == nil {
				r.Err = err
			}
		case nil:
			clear(d.above)
			d.lost = d.begins
			r.Value = transform.NewObject(unknown, []transform.Value{transform.Untyped(d.line)})
			r.Err = fault("", fmt.Sprintf("the line starts like none of %s", d.format.names(", ")))
		default:
			d.enter()
			continue
		}
		r.Source = r.Value
		if d.raw {
			r.Raw = d.line
		}
		if err := f.Emit(&r, int64(len(d.line))); err != nil {
			return err
		}
	}
}

// enter notes the line found last, which records stand below.
func (d *decoder) enter() {
	depth := 0
	for d.parents[depth] != d.sort {
		depth++
	}
	p := &d.above[depth]
	clear(d.above[depth:])
	p.line = d.begins
	shape := d.sort.shape
	if depth > 0 {
		shape = d.sort.above
	}
	p.value, p.err = d.values(shape)
	if err, ok := p.err.(*transform.Fault); ok {
		err.Field, err.Reason = "parent."+err.Field, fmt.Sprintf("%s (%s, line %d)", err.Reason, d.sort.name, p.line)
	}
	if err := d.below(depth, nil); p.err == nil {
		p.err = err
	}
	outermost := p.value
	if depth > 0 {
		outermost = d.above[0].value
	}
	p.scope = &transform.Scope{Parent: p.value, Doc: outermost}
}

// below returns why a line at a depth has no place below the others, and sets its scope where one is asked for.
func (d *decoder) below(depth int, scope **transform.Scope) error {
	if depth == 0 {
		return nil
	}
	p := &d.above[depth-1]
	switch {
	case p.line == 0 && d.lost > 0:
		return fault("", fmt.Sprintf("no line of the sort %s stands between it and line %d, which is of no sort", d.parents[depth-1].name, d.lost))
	case p.line == 0:
		return fault("", fmt.Sprintf("no line of the sort %s stands above it", d.parents[depth-1].name))
	case scope != nil && d.scope:
		*scope = p.scope
	}
	return p.err
}

// values returns the values of the line found last. A last field of the shape that is no column is the line above.
func (d *decoder) values(shape *transform.Shape) (transform.Value, error) {
	var fails error
	n := shape.Len()
	if len(d.slab) < n {
		d.slab = make([]transform.Value, max(n, min(64*n, 4096)))
	}
	values := d.slab[:n:n]
	d.slab = d.slab[n:]
	for i := range d.sort.columns {
		c := &d.sort.columns[i]
		from, to := d.cell(c)
		text := strings.TrimRight(d.line[from:to], " ")
		if !c.typed || !c.IsText() || c.align == "right" {
			text = strings.TrimLeft(text, " ")
		}
		switch {
		case text == "":
		case !c.typed:
			values[i] = transform.Untyped(text)
		default:
			v, err := c.Value(text)
			if err != nil {
				v = transform.Untyped(text)
				if fails == nil {
					fails = fault(c.name, err.Error())
				}
			}
			values[i] = v
		}
	}
	if n > len(d.sort.columns) {
		for i, p := range d.parents {
			if p == d.sort.parent {
				values[n-1] = d.above[i].value
			}
		}
	}
	return transform.NewObject(shape, values), fails
}

func fault(field, reason string) error {
	return &transform.Fault{Kind: "input", Step: "decode", Field: field, Reason: reason}
}
