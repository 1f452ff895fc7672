package transform

import (
	"context"

	"github.com/integrator-go/integrator/transform/internal/spill"
)

// Direction is how one key of a [NewSort] orders.
type Direction struct {
	Descending bool
	NullsLast  bool
}

type sortStep struct {
	name string
	by   *Mapping
	how  []Direction // of each field of by
}

// NewSort returns a step that orders the records of a run by the values of a mapping's fields. Records of which all are alike keep their order. A
// list or an object as a value rejects the record.
func NewSort(name string, by *Mapping, how []Direction) Gatherer { return &sortStep{name, by, how} }

type sorting struct {
	*sortStep
	env    *Env
	packer packer
	sorter *spill.Sorter
	sorted reader
	key    []byte
	value  []byte
}

func (s *sortStep) Gather(env *Env, space Space) Gathering {
	space = space.withDefaults()
	return &sorting{sortStep: s, env: env, sorter: spill.New(space.Dir, space.Memory)}
}

func (s *sorting) Add(ctx context.Context, b *Batch) error {
	var failed error
	each(s.name, b, func(r *Record) (bool, error) {
		if failed != nil {
			return false, nil
		}
		values, err := s.by.Apply(s.env, r)
		if err != nil {
			return true, err
		}
		s.key = s.key[:0]
		for i := range s.how {
			if s.key, err = appendOrder(s.key, values.At(i), s.how[i].Descending, s.how[i].NullsLast); err != nil {
				return true, &Fault{Field: s.by.names[i], Reason: err.Error()}
			}
		}
		s.value = s.packer.record(s.value[:0], r)
		failed = s.sorter.Add(ctx, s.key, s.value)
		return false, nil
	})
	return failed
}

func (s *sorting) Next(ctx context.Context, b *Batch) error {
	return fill(b, func() (Record, int, error) {
		_, value, err := s.sorted.next(ctx, s.sorter)
		if err != nil {
			return Record{}, 0, err
		}
		return s.packer.unpack(value).record(), len(value), nil
	})
}

func (s *sorting) Close() { s.sorter.Close() }
