// Package stack holds the values of objects and lists while they are read, until it is known how many there are.
package stack

import (
	"slices"
	"sync"

	"github.com/integrator-go/integrator/transform"
)

// Stack is what was read of the objects and lists that are open, the innermost on top. The zero Stack is empty.
type Stack struct {
	values []transform.Value
}

// Len returns how many values there are.
func (s *Stack) Len() int { return len(s.values) }

// Push puts a value on top.
func (s *Stack) Push(v transform.Value) {
	if s.values == nil {
		s.values = *rooms.Get().(*[]transform.Value)
	}
	s.values = append(s.values, v)
}

// rooms are stacks that were used before: most documents are small, and need one for a moment.
var rooms = sync.Pool{New: func() any { room := make([]transform.Value, 0, 64); return &room }}

// most is how large a room is kept.
const most = 4096

// Free empties the stack, for another to have its room.
func (s *Stack) Free() {
	if room := s.values[:0]; room != nil && cap(room) <= most {
		clear(s.values)
		rooms.Put(&room)
	}
	s.values = nil
}

// At returns the i-th value from the bottom.
func (s *Stack) At(i int) transform.Value { return s.values[i] }

// Set replaces the i-th value from the bottom.
func (s *Stack) Set(i int, v transform.Value) { s.values[i] = v }

// Take takes away the values from the i-th on, and returns them in the batch's memory.
func (s *Stack) Take(i int, b *transform.Batch) []transform.Value {
	top := s.values[i:]
	taken := b.Values(len(top))
	copy(taken, top)
	clear(top) // which would hold what was read before
	s.values = s.values[:i]
	return taken
}

// Holds reports whether some of the values are objects or lists, which are in the batch's memory.
func (s *Stack) Holds() bool { return slices.ContainsFunc(s.values, IsWhole) }

// IsWhole reports whether a value is made of others.
func IsWhole(v transform.Value) bool {
	return v.Kind() == transform.KindObject || v.Kind() == transform.KindList
}
