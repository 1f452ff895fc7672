package flow

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// rows are what one destination gets of a batch.
type rows struct {
	transform.Batch
	paths []string // of each row; nil: the destination has one path
	from  []origin // of each row; nil: the rows are the batch's records, one by one

	recycled bool // nobody keeps any of them: their memory is used again
}

// origin is where a row comes from.
type origin struct {
	record  int // its place in the batch
	element int // of the record's list; -1: none, and the row is no row but says whose rows go
	at      int // the writer's target that it is for
}

// rows fills out with what the destination gets of the batch's records. It reports whether it has rejected any of them itself; rows that are rejected have an Err.
func (t *target) rows(env *transform.Env, encode func(string) (string, error), b *transform.Batch, out *rows, taken []bool) (rejected bool) {
	if out.paths = nil; out.recycled {
		out.Recycle()
	} else {
		out.Batch = transform.Batch{Records: out.Records[:0]}
	}
	if t.plain() {
		out.Records, out.from = append(out.Records, b.Records...), nil
		if t.path != nil && t.path.record {
			out.paths = make([]string, len(b.Records))
			for k := range out.Records {
				if record := &out.Records[k]; record.Err == nil {
					out.paths[k], record.Err = t.path.fill(env, record, encode)
				}
			}
		}
		if t.mapping != nil {
			t.mapping.ApplyAll(env, &out.Batch)
		}
		return false
	}
	if out.from = out.from[:0]; out.from == nil {
		out.from = make([]origin, 0, len(b.Records))
	}
	for k := range b.Records {
		record := &b.Records[k]
		if record.Err != nil {
			continue
		}
		before := len(out.Records)
		if record.Err = t.expand(env, encode, record, k, out); record.Err != nil {
			out.Records, out.from, rejected = out.Records[:before], out.from[:before], true
			if out.paths != nil {
				out.paths = out.paths[:before]
			}
		} else if taken != nil && len(out.Records) > before {
			taken[k] = true
		}
	}
	return rejected
}

// expand adds the rows of a record, the k-th of its batch.
func (t *target) expand(env *transform.Env, encode func(string) (string, error), record *transform.Record, k int, out *rows) error {
	if t.each == nil {
		return t.row(env, encode, record, record, origin{record: k}, out)
	}
	list, err := t.each.Apply(env, record)
	if err != nil {
		return err
	}
	element := transform.Record{Scope: &transform.Scope{Parent: record.Value, Doc: record.Source}}
	if record.Scope != nil {
		element.Scope.Doc = record.Scope.Doc
	}
	before := len(out.Records)
	for i, v := range list.At(0).Values() {
		element.Value, element.Source, element.Index = v, v, int64(i)
		if err := t.row(env, encode, record, &element, origin{record: k, element: i}, out); err != nil {
			return t.inElement(i, err)
		}
	}
	if t.clear == nil || len(out.Records) > before {
		return nil
	}
	element.Value, element.Source, element.Index = transform.Null, transform.Null, 0
	key, err := t.clear.Apply(env, &element)
	if err != nil {
		return err
	}
	if out.add(record, key, origin{record: k, element: -1, at: t.clearAt}); t.path != nil && t.path.record {
		out.paths = append(out.paths, "")
	}
	return nil
}

// row adds the row that is made of seen, which is the record or one of its elements; nothing when the destination takes none.
func (t *target) row(env *transform.Env, encode func(string) (string, error), record, seen *transform.Record, from origin, out *rows) error {
	if t.when != nil {
		is, err := t.when.EvalBool(env, seen)
		if err != nil {
			return &transform.Fault{Kind: KindInput, Field: "when", Reason: err.Error()}
		}
		if !is {
			return nil
		}
	}
	if from.at = t.at; t.choose != nil {
		action, err := t.choose.Eval(env, seen)
		if err != nil {
			return &transform.Fault{Kind: KindInput, Field: "action", Reason: err.Error()}
		}
		at, ok := t.actions[action.Text()]
		if !ok {
			return &transform.Fault{Kind: KindInput, Field: "action", Reason: "this is no action: there are " + strings.Join(slices.Sorted(maps.Keys(t.actions)), ", ")}
		}
		from.at = at
	}
	path := ""
	if t.path != nil && t.path.record {
		var err error
		if path, err = t.path.fill(env, seen, encode); err != nil {
			return err
		}
	}
	value := seen.Value
	if t.mapping != nil {
		var err error
		if value, err = t.mapping.Apply(env, seen); err != nil {
			return err
		}
	}
	if out.add(record, value, from); t.path != nil && t.path.record {
		out.paths = append(out.paths, path)
	}
	return nil
}

func (r *rows) add(record *transform.Record, value transform.Value, from origin) {
	row := *record
	row.Value = value
	r.Records, r.from = append(r.Records, row), append(r.from, from)
}

// inElement returns a fault as one of an element of the record.
func (t *target) inElement(i int, err error) error {
	var fault *transform.Fault
	if !errors.As(err, &fault) {
		return err
	}
	named := *fault
	named.Reason = fmt.Sprintf("element %d of %s: %s", i+1, t.list, fault.Reason)
	return &named
}

// hand hands rows to the work, those for one target of the writer after those for another. What takes effect at once ends with the first row that is rejected.
func (o *output) hand(work connector.Work, t *target, out *rows) error {
	if out.from == nil && !o.immediate {
		return writeAt(work, t.at, &out.Batch, out.paths)
	}
	at := func(k int) int {
		if out.from == nil {
			return t.at
		}
		return out.from[k].at
	}
	for lo, hi := 0, 0; lo < len(out.Records); lo = hi {
		for hi = lo + 1; hi < len(out.Records) && at(hi) == at(lo) && !o.immediate; {
			hi++
		}
		some := transform.Batch{Records: out.Records[lo:hi:hi]}
		var paths []string
		if out.paths != nil {
			paths = out.paths[lo:hi]
		}
		if err := writeAt(work, at(lo), &some, paths); err != nil {
			return err
		}
		if o.immediate && some.Records[0].Err != nil {
			out.Records = out.Records[:hi]
		}
	}
	return nil
}

// settle rejects the records of which a row was rejected. It reports whether there are any.
func (r *rows) settle(t *target, b *transform.Batch) (rejected bool) {
	for k := range r.Records {
		err, record := r.Records[k].Err, k
		if err == nil {
			continue
		}
		if r.from != nil {
			if record = r.from[k].record; t.each != nil && r.from[k].element >= 0 {
				err = t.inElement(r.from[k].element, err)
			}
		}
		if b.Records[record].Err == nil {
			b.Records[record].Err, rejected = err, true
		}
	}
	return rejected
}

// written returns how many rows were written.
func (r *rows) written() (n int64) {
	for k := range r.Records {
		if r.Records[k].Err == nil && (r.from == nil || r.from[k].element >= 0) {
			n++
		}
	}
	return n
}

func writeAt(work connector.Work, target int, b *transform.Batch, paths []string) error {
	if paths == nil {
		return work.Write(target, b)
	}
	return work.(connector.PathWork).WriteAt(target, b, paths)
}
