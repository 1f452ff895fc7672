package transform

import "unsafe"

// Batch is what the parts of a run hand to each other: some records in order. Who fills a batch gives it away; the receiver may
// change it, and its records' Values stay valid for as long as anybody holds them, unless somebody calls [Batch.Recycle].
//
// A decoder makes the objects and lists of its records in the batch's own memory, a few large pieces for all of them. A batch is used by one
// goroutine at a time.
type Batch struct {
	Records []Record

	values slab[Value]
	nodes  slab[node]
	held   []interface{ Release() }
}

// Values returns n values, which are null, in the batch's memory: for [Batch.Object] or [Batch.List], once they are filled.
func (b *Batch) Values(n int) []Value { return b.values.take(n) }

// Object is [NewObject] in the batch's memory.
func (b *Batch) Object(shape *Shape, values []Value) Value {
	if len(values) != len(shape.names) {
		panic("transform: an object needs one value for each name of its shape")
	}
	n := &b.nodes.take(1)[0]
	n.shape, n.values = shape, values
	return whole(KindObject, n)
}

// List is [List] in the batch's memory.
func (b *Batch) List(values []Value) Value {
	n := &b.nodes.take(1)[0]
	n.values = values
	return whole(KindList, n)
}

// Hold lets the batch have memory that a decoder lends to the texts of its records. Recycle releases it, once; a batch that is not recycled keeps it
// for good.
func (b *Batch) Hold(lent interface{ Release() }) { b.held = append(b.held, lent) }

// Recycle forgets the records, and lets those that are decoded next have their memory, texts included. Who calls it knows that nobody holds a value
// of them any more, nor of what steps made of them.
func (b *Batch) Recycle() {
	clear(b.Records[:cap(b.Records)])
	b.Records = b.Records[:0]
	b.values.recycle()
	b.nodes.recycle()
	for _, lent := range b.held {
		lent.Release()
	}
	clear(b.held)
	b.held = b.held[:0]
}

// Abandon makes the memory that was used so far nobody's: [Batch.Recycle] leaves it alone. A decoder that hands over a batch while it has begun
// the next record in its memory calls it.
func (b *Batch) Abandon() { b.values, b.nodes, b.held = slab[Value]{}, slab[node]{}, nil }

// slab is memory for many values of a type.
type slab[T any] struct {
	free []T   // of the piece that is used
	all  [][]T // the pieces
}

// How many values a piece of memory holds: few for a small document (firstPiece bytes), more as it goes on. A batch that needed more than
// mostRecycled is an exception, whose memory is not kept for others.
const (
	firstPiece   = 512
	largestPiece = 4096
	mostRecycled = 64 << 10
)

func (s *slab[T]) take(n int) []T {
	if len(s.free) < n {
		var one T
		size := firstPiece / int(unsafe.Sizeof(one))
		if last := len(s.all) - 1; last >= 0 {
			size = min(2*len(s.all[last]), largestPiece)
		}
		s.free = make([]T, max(size, n))
		s.all = append(s.all, s.free)
	}
	taken := s.free[:n:n]
	s.free = s.free[n:]
	return taken
}

// recycle makes everything free again. What was used is cleared, so that it holds no text that a decoder read.
func (s *slab[T]) recycle() {
	if len(s.all) == 0 {
		return
	}
	total := 0
	for _, piece := range s.all {
		total += len(piece)
	}
	switch {
	case total > mostRecycled:
		*s = slab[T]{}
	case len(s.all) > 1: // one piece is used up better than several
		s.free = make([]T, total)
		s.all = [][]T{s.free}
	default:
		piece := s.all[0]
		clear(piece[:len(piece)-len(s.free)])
		s.free = piece
	}
}
