// Package feed makes a transform.Decoder of a function that walks through a document and emits its records.
package feed

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"math"

	"github.com/integrator-go/integrator/transform"
)

var _ transform.WholeDecoder = (*Feed)(nil)

// Feed is a decoder. Its function runs when Decode is called, up to the end of a batch, and goes on from there with the next call.
type Feed struct {
	// Release is called once: at the end, on a fault, or when the decoder is closed before either. It may be nil.
	Release func()

	// Holds reports whether a record is being read of which the batch's memory holds something already. It may be nil: none ever is.
	Holds func() bool

	// Lend lends the memory of the records' texts to a batch before it is handed over, and before the walk reads on. It may be nil.
	Lend func(*transform.Batch)

	limits transform.Limits
	walk   func(*Feed) error
	batch  *transform.Batch
	size   int64
	index  int64
	last   int // how many records the batch before had
	next   func() (error, bool)
	stop   func()
	yield  func(error) bool
	done   error
}

// errStopped ends a walk whose decoder was closed.
var errStopped = errors.New("the decoder was closed")

// New returns the decoder of what walk emits. The limits are complete.
func New(limits transform.Limits, walk func(*Feed) error) *Feed {
	return &Feed{limits: limits, walk: walk}
}

// begin lets the walk begin. A feed that is dropped before holds nothing.
func (f *Feed) begin() {
	f.next, f.stop = iter.Pull(func(yield func(error) bool) {
		f.yield = yield
		err := f.walk(f)
		if err != errStopped {
			f.lend()
			yield(cmp.Or(err, io.EOF))
		}
	})
}

// Batch returns the batch that is being filled, in whose memory the walk makes its records.
func (f *Feed) Batch() *transform.Batch { return f.batch }

// Emit hands over a copy of a record, whose text is that long, and numbers it. The walk returns its error.
func (f *Feed) Emit(r *transform.Record, size int64) error {
	r.Index = f.index
	f.index++
	f.batch.Records = append(f.batch.Records, *r)
	f.size += size
	if len(f.batch.Records) < f.limits.BatchSize && f.size < int64(f.limits.BatchBytes) {
		return nil
	}
	return f.flush()
}

// Wait is called before a reader is waited for: the records that there are go on. The walk returns its error.
func (f *Feed) Wait() error {
	if f.batch == nil || len(f.batch.Records) == 0 {
		return nil
	}
	if f.Holds != nil && f.Holds() {
		f.batch.Abandon()
	}
	return f.flush()
}

func (f *Feed) flush() error {
	f.lend()
	if !f.yield(nil) {
		return errStopped
	}
	return nil
}

func (f *Feed) lend() {
	if f.Lend != nil && len(f.batch.Records) > 0 {
		f.Lend(f.batch)
	}
}

// Decode is that of transform.Decoder.
func (f *Feed) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if f.done != nil {
		return f.done
	}
	if f.next == nil {
		f.begin()
	}
	if b.Records == nil {
		b.Records = make([]transform.Record, 0, f.last)
	}
	f.batch, f.size = b, 0
	err, _ := f.next()
	f.batch, f.last = nil, len(b.Records)
	if err != nil {
		f.end(err)
	}
	if len(b.Records) == 0 {
		return f.done
	}
	return nil
}

// DecodeAll is that of transform.WholeDecoder: the walk runs to its end and never waits for who takes its records.
func (f *Feed) DecodeAll(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if f.done != nil {
		return f.done
	}
	f.limits.BatchSize, f.limits.BatchBytes = math.MaxInt, math.MaxInt
	f.batch, f.yield = b, func(error) bool { return true }
	err := f.walk(f)
	f.batch = nil
	f.end(cmp.Or(err, io.EOF))
	if f.done == io.EOF {
		return nil
	}
	return f.done
}

// Close releases what an unfinished decoder holds; after the end it does nothing.
func (f *Feed) Close() error {
	if f.done == nil {
		f.end(io.EOF)
	}
	return nil
}

func (f *Feed) end(err error) {
	f.done = err
	if f.stop != nil {
		f.stop()
	}
	if f.Release != nil {
		f.Release()
	}
}
