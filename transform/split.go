package transform

import (
	"context"
	"fmt"
	"strconv"
)

type splitStep struct {
	name string
	list *Mapping // of one field
}

// NewSplit returns a step that makes a record of each element of a list, which the mapping's one field gives, and none of an empty one. The
// element is the record then, what it was split off its parent, its position in the list its index. Index, Line and Source stay those of the source's record.
func NewSplit(name string, list *Mapping) Step { return &splitStep{name, list} }

func (s *splitStep) Apply(_ context.Context, env *Env, b *Batch) error {
	var out []Record
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			out = append(out, *r)
			continue
		}
		list, err := s.list.Apply(env, r)
		if err != nil {
			r.Err = faultOf(s.name, err)
			out = append(out, *r)
			continue
		}
		element := *r
		element.Raw = ""
		element.Scope = &Scope{Parent: r.Value, Doc: rootDoc.of(env, r), outer: r.Scope}
		for n, v := range list.At(0).Values() {
			element.Value, element.Split = v, strconv.Itoa(n)
			if r.Split != "" {
				element.Split = r.Split + "." + element.Split
			}
			out = append(out, element)
		}
	}
	b.Records = out
	return nil
}

type flattenStep struct {
	name      string
	separator string
	depth     int
	root      *Shape // of the records that the step makes
}

// NewFlatten returns a step that puts the fields of objects into the record itself, in their places: a field b of an object a becomes one whose name
// is a, the separator and b. It goes down so many levels, 0: all. Lists stay as they are, an empty object becomes null.
func NewFlatten(name, separator string, depth int) Step {
	return &flattenStep{name, separator, depth, NewShape()}
}

// Borrows says that the step keeps nothing.
func (s *flattenStep) Borrows() {}

func (s *flattenStep) Apply(_ context.Context, _ *Env, b *Batch) error {
	each(s.name, b, func(r *Record) (bool, error) {
		if r.Value.Kind() != KindObject {
			return true, nil
		}
		object := NewBuilder(s.root)
		err := s.add(&object, "", r.Value, 0)
		if err == nil {
			r.Value = object.Object()
		}
		return true, err
	})
	return nil
}

// maxFlatName bounds the names that nested ones are joined to, in bytes: what is nested as deep as a format takes it would make them long without end.
const maxFlatName = 4 << 10

// add adds the fields of an object, which stands so many levels below the record.
func (s *flattenStep) add(to *Builder, prefix string, object Value, level int) error {
	for name, v := range object.Fields() {
		name = prefix + name
		switch {
		case len(name) > maxFlatName:
			return &Fault{Reason: fmt.Sprintf("names of nested fields would be longer than %d bytes together", maxFlatName)}
		case v.Kind() == KindObject && (s.depth == 0 || level < s.depth) && v.Len() > 0:
			if err := s.add(to, name+s.separator, v, level+1); err != nil {
				return err
			}
			continue
		case v.Kind() == KindObject && v.Len() == 0:
			v = Null
		}
		if to.Index(name) >= 0 {
			return &Fault{Field: name, Reason: "the record has two fields of this name when it is flat"}
		}
		to.Add(name, v)
	}
	return nil
}
