package transform

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
)

// Step changes the records of a batch in place, leaves some out, or rejects some by setting their Err. Records that carry an Err already
// pass untouched. A Step is safe for concurrent use by several runs. An error ends the run.
type Step interface {
	Apply(ctx context.Context, env *Env, b *Batch) error
}

// Borrower is a [Step], or a part that writes records, that keeps nothing of a batch once it has returned, no value and no text: a run all of whose
// parts are Borrowers uses the memory of its batches again ([Batch.Recycle]). The steps of this package are, but for
// those of [NewFunc], and of [NewSplit] and [NewWhen], which make other batches.
type Borrower interface {
	// Borrows does nothing: it is a promise.
	Borrows()
}

// Func is a Go function as a step: it may change the record's Value. ErrDrop leaves the record out; any other error rejects it. The Reason of
// a *[Fault] is told to who sent the record; the text of other errors may hold what is nobody's business, and is for the run's log. It is called from one goroutine for each run, and from several for several runs.
type Func func(ctx context.Context, r *Record) error

// ErrDrop is what a [Func] returns to leave a record out.
var ErrDrop = errors.New("leave the record out")

// each applies f to every record that is not rejected yet; false leaves the record out, an error rejects it.
func each(step string, b *Batch, f func(r *Record) (keep bool, err error)) {
	kept := 0
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err == nil {
			keep, err := f(r)
			if err != nil {
				r.Err = faultOf(step, err)
			} else if !keep {
				continue
			}
		}
		if kept < i {
			b.Records[kept] = *r
		}
		kept++
	}
	clear(b.Records[kept:])
	b.Records = b.Records[:kept]
}

// faultOf makes err a Fault of the step.
func faultOf(step string, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		named := *f
		if named.Step == "" {
			named.Step = step
		}
		if named.Kind == "" {
			named.Kind = "input"
		}
		return &named
	}
	return &Fault{Kind: "input", Step: step, Reason: err.Error(), Err: err}
}

type filterStep struct {
	name string
	when *Expression
}

// NewFilter returns a step that keeps the records for which the expression is true. name is what faults call the step.
func NewFilter(name string, when *Expression) Step { return &filterStep{name, when} }

// Borrows says that the step keeps nothing.
func (s *filterStep) Borrows() {}

func (s *filterStep) Apply(_ context.Context, env *Env, b *Batch) error {
	m := machine{env: env, batch: b}
	each(s.name, b, func(r *Record) (bool, error) { return s.when.holds(&m, r) })
	return nil
}

type mapStep struct {
	name    string
	mapping *Mapping
}

// NewMap returns a step that makes each record what the mapping says.
func NewMap(name string, m *Mapping) Step { return &mapStep{name, m} }

// Borrows says that the step keeps nothing.
func (s *mapStep) Borrows() {}

func (s *mapStep) Apply(_ context.Context, env *Env, b *Batch) error {
	m := newMapper(s.mapping, env, b)
	each(s.name, b, func(r *Record) (bool, error) { return true, m.apply(r) })
	return nil
}

type setStep struct {
	name    string
	mapping *Mapping
}

// NewSet returns a step that adds or replaces the mapping's fields. All of them see the record as it was before the step.
func NewSet(name string, m *Mapping) Step { return &setStep{name, m} }

// Borrows says that the step keeps nothing.
func (s *setStep) Borrows() {}

func (s *setStep) Apply(_ context.Context, env *Env, b *Batch) error {
	m := newMapper(s.mapping, env, b)
	var from, to *Shape // of the records before and behind the step
	var places []int    // of the mapping's fields in to
	each(s.name, b, func(r *Record) (bool, error) {
		set, err := m.values(r)
		if err != nil {
			return true, err
		}
		var before []Value
		shape := r.Value.Shape()
		if r.Value.Kind() == KindObject {
			before = r.Value.node().values
		} else {
			shape = noFields
		}
		if shape != from {
			from, to, places = shape, shape, places[:0]
			for _, name := range s.mapping.names {
				if to.Index(name) < 0 {
					to = to.With(name)
				}
				places = append(places, to.Index(name))
			}
		}
		values := b.Values(to.Len())
		copy(values, before)
		for i, at := range places {
			values[at] = set[i]
		}
		r.Value = b.Object(to, values)
		return true, nil
	})
	return nil
}

// noFields is the shape of a value that is no object when fields are added to it.
var noFields = NewShape()

type dropStep struct {
	names []string
	root  *Shape // of the records that the step makes
}

// NewDrop returns a step that takes fields out of each record.
func NewDrop(names ...string) Step { return &dropStep{slices.Clone(names), NewShape()} }

// Borrows says that the step keeps nothing.
func (s *dropStep) Borrows() {}

func (s *dropStep) Apply(_ context.Context, _ *Env, b *Batch) error {
	each("drop", b, func(r *Record) (bool, error) {
		r.Value = r.Value.without(s.root, s.names)
		return true, nil
	})
	return nil
}

type renameStep struct {
	names map[string]string // old name → new name
	root  *Shape            // of the records that the step makes
}

// NewRename returns a step that gives fields other names, in their places. names holds the old name of each new one.
func NewRename(names map[string]string) Step {
	s := &renameStep{map[string]string{}, NewShape()}
	for to, from := range names {
		s.names[from] = to
	}
	return s
}

// Borrows says that the step keeps nothing.
func (s *renameStep) Borrows() {}

func (s *renameStep) Apply(_ context.Context, _ *Env, b *Batch) error {
	each("rename", b, func(r *Record) (bool, error) {
		if r.Value.Kind() != KindObject {
			return true, nil
		}
		object := NewBuilder(s.root)
		for name, v := range r.Value.Fields() {
			if to, ok := s.names[name]; ok {
				name = to
			}
			if object.Index(name) >= 0 {
				return true, &Fault{Field: name, Reason: "the record has a field of this name already"}
			}
			object.Add(name, v)
		}
		r.Value = object.Object()
		return true, nil
	})
	return nil
}

type rejectStep struct {
	name   string
	when   *Expression
	reason string
}

// NewReject returns a step that rejects the records for which the expression is true.
func NewReject(name string, when *Expression, reason string) Step {
	return &rejectStep{name, when, reason}
}

// Borrows says that the step keeps nothing.
func (s *rejectStep) Borrows() {}

func (s *rejectStep) Apply(_ context.Context, env *Env, b *Batch) error {
	m := machine{env: env, batch: b}
	each(s.name, b, func(r *Record) (bool, error) {
		is, err := s.when.holds(&m, r)
		if err == nil && is {
			err = &Fault{Reason: s.reason}
		}
		return true, err
	})
	return nil
}

type funcStep struct {
	name string
	f    Func
}

// PanicError is a panic of a [Func]. Its text says only that there was one: what was thrown may hold data, and is for logs.
type PanicError struct {
	Value any
	Stack []byte
}

// Error says that the function panicked.
func (e *PanicError) Error() string { return "the Go function panicked" }

// NewFunc returns a step that calls a Go function for each record. A panic of the function rejects the record with a *[PanicError].
func NewFunc(name string, f Func) Step { return &funcStep{name, f} }

func (s *funcStep) Apply(ctx context.Context, _ *Env, b *Batch) error {
	each(s.name, b, func(r *Record) (keep bool, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = &PanicError{Value: p, Stack: debug.Stack()}
			}
		}()
		err = s.f(ctx, r)
		if errors.Is(err, ErrDrop) {
			return false, nil
		}
		if err != nil && !errors.As(err, new(*Fault)) {
			err = &Fault{Reason: "the Go function refused the record", Err: err}
		}
		return true, err
	})
	return ctx.Err()
}
