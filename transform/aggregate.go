package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform/internal/spill"
)

// Fold is one field of a [NewAggregate]: what is made of the values of a group.
type Fold struct {
	name  string
	kind  string
	of    func(env *Env, r *Record) (Value, error) // nil: the record itself, which is counted
	reads *Expression                              // nil: nothing of the record
}

// folds are the kinds of Fold, and what they give.
var folds = map[string]string{
	"count":    "how many values are not null; without an expression how many records there are",
	"distinct": "how many different values there are, null not among them",
	"sum":      "the sum of the values that are not null; null without any",
	"avg":      "the sum divided by the number of the values that are not null; null without any",
	"min":      "the least value that is not null; null without any",
	"max":      "the greatest value that is not null; null without any",
	"first":    "the first record's value",
	"last":     "the last record's value",
	"list":     "the values of all records in their order",
}

// CompileFold compiles the field of that name: `count`, or one of count, distinct, sum, avg, min, max, first, last and list with an expression in
// parentheses. A = may stand before it. The error is a *DefinitionError.
func CompileFold(name, text string, options CompileOptions) (Fold, error) {
	bare := strings.TrimLeft(strings.TrimPrefix(strings.TrimLeft(text, " "), "="), " ")
	at := len(text) - len(bare)
	kind, inner, called := strings.Cut(strings.TrimRight(bare, " "), "(")
	fold := Fold{name: name, kind: strings.TrimSpace(kind)}
	inner, closed := strings.CutSuffix(inner, ")")
	if _, ok := folds[fold.kind]; !ok || called && !closed {
		return fold, &DefinitionError{Offset: at, Reason: "a field of an aggregate is a function of the group's records",
			Hint: "there are count, and " + strings.Join(slices.Sorted(maps.Keys(folds)), ", ") + " with an expression, as in sum(qty * price); calculate with what they give in a set step behind"}
	}
	if strings.TrimSpace(inner) == "" {
		if fold.kind != "count" {
			return fold, &DefinitionError{Offset: at, Reason: fold.kind + " needs an expression", Hint: "write " + fold.kind + "(qty), or count for the number of records"}
		}
		return fold, nil
	}
	e, err := CompileExpression(inner, options)
	if d := (*DefinitionError)(nil); errors.As(err, &d) {
		d.Offset += at + strings.IndexByte(bare, '(') + 1
	}
	if err == nil {
		fold.of, fold.reads = e.Eval, e
	}
	return fold, err
}

// Expression returns what is computed for each record, nil when nothing is.
func (f *Fold) Expression() *Expression { return f.reads }

type aggregateStep struct {
	name  string
	by    *Mapping
	folds []Fold
	shape *Shape
}

// NewAggregate returns a step that makes one record of all that have one key, which the values of the mapping's fields are: of these fields, those of the first record of
// the key, and of the folds. The groups are in the order of their first records. Without fields in the mapping all records are one group, which is there
// without records too. A list or an object as a key rejects the record, and so does a value that cannot be added, counted or compared. The records
// that are made count from 0 again and have no source but themselves.
func NewAggregate(name string, by *Mapping, of []Fold) Gatherer {
	names := slices.Clone(by.names)
	for _, f := range of {
		names = append(names, f.name)
	}
	return &aggregateStep{name, by, of, NewShape(names...)}
}

// NewNest returns a step that makes one record of all that have the same values in the named fields: of these, and of a list of what else each of them has.
// It is a [NewAggregate] otherwise.
func NewNest(name string, by *Mapping, into string) Gatherer {
	root, names := NewShape(), slices.Clone(by.names)
	return NewAggregate(name, by, []Fold{{name: into, kind: "list", of: func(_ *Env, r *Record) (Value, error) {
		return r.Value.without(root, names), nil
	}}})
}

// tally is what a fold knows of a group.
type tally struct {
	count int64
	sum   Decimal
	value Value  // the first, last, least or greatest
	order []byte // of the least or greatest; nil: there is none yet
	list  []Value
	set   map[string]struct{}
}

// group is what is known of the records of one key.
type group struct {
	first   int64 // number of its first record
	by      []Value
	tallies []tally
	size    int64
}

type aggregating struct {
	*aggregateStep
	env    *Env
	packer packer
	most   int64 // bytes of the groups in memory, and of one group
	used   int64
	groups map[string]*group
	count  int64
	byKey  *spill.Sorter // groups that there was no room for, in parts
	made   *spill.Sorter // records by the numbers of the groups' first ones
	next   []*group      // those to make, when all are in memory
	sorted reader
	ready  bool
	index  int64
	key    []byte
	value  []byte
}

func (s *aggregateStep) Gather(env *Env, space Space) Gathering {
	space = space.withDefaults()
	return &aggregating{aggregateStep: s, env: env, most: space.Memory / 2, groups: map[string]*group{},
		byKey: spill.New(space.Dir, space.Memory/2), made: spill.New(space.Dir, space.Memory/2)}
}

// groupSize and tallySize are what a group and each of its tallies take in memory beside what they hold, about.
const (
	groupSize = 160
	tallySize = 160
	valueSize = 48
)

// sizeOf returns what a value takes in memory, about.
func sizeOf(v Value) int64 {
	size := int64(valueSize + len(v.Text()))
	for i := range v.Len() {
		size += sizeOf(v.At(i))
	}
	return size
}

func (s *aggregating) Add(ctx context.Context, b *Batch) error {
	var failed error
	values := make([]Value, len(s.folds))
	each(s.name, b, func(r *Record) (bool, error) {
		if failed != nil {
			return false, nil
		}
		var by Value
		var err error
		if s.key, by, err = keyOf(s.key[:0], s.env, s.by, r); err != nil {
			return true, err
		}
		g := s.groups[string(s.key)]
		for i := range s.folds {
			f := &s.folds[i]
			if f.of != nil {
				values[i], err = f.of(s.env, r)
			}
			if err == nil {
				err = f.fits(values[i])
			}
			if err != nil {
				return true, &Fault{Field: f.name, Reason: err.Error()}
			}
		}
		if g == nil {
			g = &group{first: s.count, tallies: make([]tally, len(s.folds)), size: int64(groupSize + len(s.key) + tallySize*len(s.folds))}
			for i := range by.Len() {
				g.by = append(g.by, by.At(i).Clone())
				g.size += sizeOf(by.At(i))
			}
			s.used += g.size
			s.groups[string(s.key)] = g
		}
		s.count++
		before := g.size
		for i := range s.folds {
			if failed = s.folds[i].add(g, &g.tallies[i], values[i]); failed != nil {
				failed = &Fault{Kind: "input", Step: s.name, Field: s.folds[i].name, Reason: failed.Error(), Err: failed}
				return false, nil
			}
		}
		if s.used += g.size - before; s.used > s.most {
			failed = s.dump(ctx)
		}
		return false, nil
	})
	return failed
}

// fits reports why a value is none for the fold.
func (f *Fold) fits(v Value) error {
	if v.IsNull() {
		return nil
	}
	switch f.kind {
	case "sum", "avg":
		if v.Kind() == KindNumber || v.Kind() == KindUntyped {
			if _, err := ParseDecimal(v.Text()); err == nil || v.Kind() == KindNumber {
				return err
			}
		}
		return fmt.Errorf("%s needs numbers, this is %s", f.kind, describe(v))
	case "min", "max":
		_, err := appendOrder(nil, v, false, false)
		return err
	case "distinct":
		_, err := appendSame(nil, v)
		return err
	}
	return nil
}

// add adds a value, which fits, to a tally of a group.
func (f *Fold) add(g *group, t *tally, v Value) error {
	var one tally
	switch {
	case f.of == nil:
		t.count++
		return nil
	case f.kind == "list":
		v = v.Clone()
		t.list = append(t.list, v)
		g.size += sizeOf(v)
		return nil
	case f.kind == "first" && t.count > 0:
		return nil
	case f.kind == "first", f.kind == "last":
		v = v.Clone()
		g.size += sizeOf(v) - sizeOf(t.value)
		t.count, t.value = t.count+1, v
		return nil
	case v.IsNull():
		return nil
	case f.kind == "distinct":
		key, err := appendSame(nil, v)
		if err != nil {
			return err
		}
		one.set = map[string]struct{}{string(key): {}}
	case f.kind == "sum", f.kind == "avg":
		d, err := ParseDecimal(v.Text())
		if err != nil {
			return err
		}
		one.sum = d
	case f.kind == "min", f.kind == "max":
		order, err := appendOrder(nil, v, f.kind == "max", false)
		if err != nil || t.order != nil && bytes.Compare(order, t.order) >= 0 {
			return err
		}
		one.value, one.order = v.Clone(), order
	}
	one.count = 1
	return f.merge(g, t, &one)
}

// merge adds a later tally of a group to an earlier one.
func (f *Fold) merge(g *group, t, later *tally) (err error) {
	switch f.kind {
	case "first":
		if t.count == 0 {
			t.value = later.value
		}
	case "last":
		if later.count > 0 {
			g.size += sizeOf(later.value) - sizeOf(t.value)
			t.value = later.value
		}
	case "min", "max":
		if later.order != nil && (t.order == nil || bytes.Compare(later.order, t.order) < 0) {
			g.size += sizeOf(later.value) - sizeOf(t.value) + int64(len(later.order)-len(t.order))
			t.value, t.order = later.value, later.order
		}
	case "sum", "avg":
		t.sum, err = t.sum.Add(later.sum)
	case "list":
		t.list = append(t.list, later.list...)
		for _, v := range later.list {
			g.size += sizeOf(v)
		}
	case "distinct":
		if t.set == nil {
			t.set = map[string]struct{}{}
		}
		for key := range later.set {
			if _, known := t.set[key]; !known {
				t.set[key] = struct{}{}
				g.size += int64(len(key) + keySize)
			}
		}
	}
	t.count += later.count
	return err
}

// result returns what the fold gives.
func (f *Fold) result(t *tally) (Value, error) {
	switch f.kind {
	case "count":
		return Int(t.count), nil
	case "distinct":
		return Int(int64(len(t.set))), nil
	case "list":
		return List(t.list), nil
	case "sum", "avg":
		if t.count == 0 {
			return Null, nil
		}
		total, err := t.sum, error(nil)
		if f.kind == "avg" {
			total, err = t.sum.Quo(DecimalOf(t.count))
		}
		return total.Value(), err
	}
	return t.value, nil
}

// dump makes room: the groups go to the sorter as far as they are known.
func (s *aggregating) dump(ctx context.Context) error {
	for key, g := range s.groups { // those of one key are one behind the other, whatever is between them
		s.value = s.pack(s.value[:0], g)
		if err := s.byKey.Add(ctx, []byte(key), s.value); err != nil {
			return err
		}
	}
	clear(s.groups)
	s.used = 0
	return nil
}

func (s *aggregating) pack(to []byte, g *group) []byte {
	to = s.packer.value(bySeq(to, g.first), List(g.by))
	for i := range g.tallies {
		t := &g.tallies[i]
		set := make([]Value, 0, len(t.set))
		for key := range t.set {
			set = append(set, Bytes(key))
		}
		order := Null
		if t.order != nil {
			order = Bytes(string(t.order))
		}
		for _, v := range []Value{Int(t.count), t.sum.Value(), t.value, order, List(t.list), List(set)} {
			to = s.packer.value(to, v)
		}
	}
	return to
}

func (s *aggregating) unpack(value []byte) (*group, error) {
	u := s.packer.unpack(value[8:])
	g := &group{tallies: make([]tally, len(s.folds)), size: int64(2 * len(value))}
	for _, c := range value[:8] {
		g.first = g.first<<8 | int64(c)
	}
	g.by = u.list()
	for i := range g.tallies {
		t := &g.tallies[i]
		count, err := ParseDecimal(u.value().Text())
		if err == nil {
			t.sum, err = ParseDecimal(u.value().Text())
		}
		if err != nil {
			return nil, err
		}
		n, _ := count.Int()
		t.count, t.value = int64(n), u.value()
		if order := u.value(); !order.IsNull() {
			t.order = []byte(order.Text())
		}
		t.list = u.list()
		if set := u.list(); len(set) > 0 {
			t.set = make(map[string]struct{}, len(set))
			for _, key := range set {
				t.set[key.Text()] = struct{}{}
			}
		}
	}
	return g, nil
}

// list reads the values of a list.
func (u *unpacker) list() []Value {
	u.byte()
	return u.values(int(u.number()))
}

// record makes the record of a group.
func (s *aggregating) record(g *group) (Value, error) {
	values := slices.Clone(g.by)
	for i := range s.folds {
		v, err := s.folds[i].result(&g.tallies[i])
		if err != nil {
			return Null, &Fault{Kind: "input", Step: s.name, Field: s.folds[i].name, Reason: err.Error(), Err: err}
		}
		values = append(values, v)
	}
	return NewObject(s.shape, values), nil
}

// finish makes the groups known as a whole.
func (s *aggregating) finish(ctx context.Context) error {
	if s.count == 0 && len(s.by.names) == 0 {
		s.groups[""] = &group{tallies: make([]tally, len(s.folds))}
	}
	if !s.byKey.Used() {
		s.next = slices.SortedFunc(maps.Values(s.groups), func(a, b *group) int { return int(a.first - b.first) })
		s.groups = nil
		return nil
	}
	if err := s.dump(ctx); err != nil {
		return err
	}
	var byKey reader
	var one []byte
	var whole *group
	end := func() error {
		if whole == nil {
			return nil
		}
		v, err := s.record(whole)
		if err != nil {
			return err
		}
		return s.made.Add(ctx, bySeq(nil, whole.first), s.packer.value(nil, v))
	}
	for {
		key, value, err := byKey.next(ctx, s.byKey)
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		part, err := s.unpack(value)
		if err != nil {
			return err
		}
		if whole == nil || !bytes.Equal(key, one) {
			if err := end(); err != nil {
				return err
			}
			one, whole = append(one[:0], key...), part
			continue
		}
		for i := range s.folds {
			if err := s.folds[i].merge(whole, &whole.tallies[i], &part.tallies[i]); err != nil {
				return &Fault{Kind: "input", Step: s.name, Field: s.folds[i].name, Reason: err.Error(), Err: err}
			}
		}
		if most := 2 * s.most; whole.size > most {
			return &Fault{Kind: "input", Step: s.name, Reason: fmt.Sprintf("the values of one group that are listed or told apart take more than the %d bytes of memory that a step has", most)}
		}
	}
	s.byKey.Close()
	return end()
}

func (s *aggregating) Next(ctx context.Context, b *Batch) error {
	if !s.ready {
		if err := s.finish(ctx); err != nil {
			return err
		}
		s.ready = true
	}
	return fill(b, func() (Record, int, error) {
		var v Value
		size := 0
		if s.next != nil {
			if len(s.next) == 0 {
				return Record{}, 0, io.EOF
			}
			g := s.next[0]
			s.next[0], s.next, size = nil, s.next[1:], int(g.size)
			var err error
			if v, err = s.record(g); err != nil {
				return Record{}, 0, err
			}
		} else {
			_, value, err := s.sorted.next(ctx, s.made)
			if err != nil {
				return Record{}, 0, err
			}
			v, size = s.packer.unpack(value).value(), len(value)
		}
		s.index++
		return Record{Value: v, Source: v, Index: s.index - 1}, size, nil
	})
}

func (s *aggregating) Close() {
	s.byKey.Close()
	s.made.Close()
}
