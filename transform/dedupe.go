package transform

import (
	"bytes"
	"context"
	"io"

	"github.com/integrator-go/integrator/transform/internal/spill"
)

type dedupeStep struct {
	name string
	by   *Mapping
	last bool
}

// NewDedupe returns a step that keeps one record of each key, which the values of the mapping's fields are: the first, or the last one. Those that
// are kept stay in their order. A list or an object as a value rejects the record.
func NewDedupe(name string, by *Mapping, last bool) Gatherer { return &dedupeStep{name, by, last} }

type deduping struct {
	*dedupeStep
	env    *Env
	packer packer
	room   int64               // that is left for seen
	seen   map[string]struct{} // keys whose first record has gone on; those that there is no room for are found by sorting
	full   bool
	count  int64
	byKey  *spill.Sorter // records of the other keys: number, record
	kept   *spill.Sorter // records to keep by their numbers
	sorted reader
	ready  bool
	key    []byte
	value  []byte
}

func (s *dedupeStep) Gather(env *Env, space Space) Gathering {
	space = space.withDefaults()
	return &deduping{dedupeStep: s, env: env, room: space.Memory / 2, seen: map[string]struct{}{},
		byKey: spill.New(space.Dir, space.Memory/2), kept: spill.New(space.Dir, space.Memory/2)}
}

// keyOf appends what tells records apart by the mapping's values.
func keyOf(to []byte, env *Env, by *Mapping, r *Record) ([]byte, Value, error) {
	values, err := by.Apply(env, r)
	for i := 0; err == nil && i < values.Len(); i++ {
		if to, err = appendSame(to, values.At(i)); err != nil {
			err = &Fault{Field: by.names[i], Reason: err.Error()}
		}
	}
	return to, values, err
}

// keySize is what a key takes in a map beside its bytes, about.
const keySize = 48

func (s *deduping) Add(ctx context.Context, b *Batch) error {
	var failed error
	each(s.name, b, func(r *Record) (bool, error) {
		if failed != nil {
			return false, nil
		}
		var err error
		if s.key, _, err = keyOf(s.key[:0], s.env, s.by, r); err != nil {
			return true, err
		}
		if !s.last {
			if _, repeated := s.seen[string(s.key)]; repeated {
				return false, nil
			}
			if size := int64(len(s.key) + keySize); !s.full && size <= s.room {
				s.room -= size
				s.seen[string(s.key)] = struct{}{}
				return true, nil
			}
			s.full = true // later keys may not go before this one
		}
		s.value = s.packer.record(bySeq(s.value[:0], s.count), r)
		s.count++
		failed = s.byKey.Add(ctx, s.key, s.value)
		return false, nil
	})
	return failed
}

// choose finds the records to keep.
func (s *deduping) choose(ctx context.Context) error {
	s.seen = nil
	var byKey reader
	var one, chosen []byte
	keep := func() error {
		if chosen == nil {
			return nil
		}
		return s.kept.Add(ctx, chosen[:8], chosen[8:])
	}
	for {
		key, value, err := byKey.next(ctx, s.byKey)
		if err != nil && err != io.EOF {
			return err
		}
		if another := err == io.EOF || chosen == nil || !bytes.Equal(key, one); another {
			if err := keep(); err != nil {
				return err
			}
			one = append(one[:0], key...)
		} else if !s.last {
			continue
		}
		if err == io.EOF {
			break
		}
		chosen = append(chosen[:0], value...)
	}
	s.byKey.Close()
	return nil
}

func (s *deduping) Next(ctx context.Context, b *Batch) error {
	if !s.ready {
		if err := s.choose(ctx); err != nil {
			return err
		}
		s.ready = true
	}
	return fill(b, func() (Record, int, error) {
		_, value, err := s.sorted.next(ctx, s.kept)
		if err != nil {
			return Record{}, 0, err
		}
		return s.packer.unpack(value).record(), len(value), nil
	})
}

func (s *deduping) Close() {
	s.byKey.Close()
	s.kept.Close()
}
