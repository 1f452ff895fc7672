package transform

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/integrator-go/integrator/transform/internal/spill"
)

// Gatherer is a step that needs all records of a run before it can give the last of them. It is safe for concurrent use by several runs.
type Gatherer interface {
	// Gather begins a run. It touches nothing before the first Add.
	Gather(env *Env, space Space) Gathering
}

// Gathering is a gatherer at work on one run. It is used by one goroutine. What it keeps of a batch it copies.
type Gathering interface {
	// Add takes the next batch of the run and leaves in it what goes on at once: records that are rejected, and in some steps others. An error ends the run.
	Add(ctx context.Context, b *Batch) error

	// Next fills an empty batch with the next records of those that it has taken, io.EOF behind the last. Nothing is added once it has been called.
	Next(ctx context.Context, b *Batch) error

	// Close gives back what the gathering holds.
	Close()
}

// Space is what a step may take to keep records.
type Space struct {
	Memory int64  // bytes, approximately: what is more goes to files; 0 is 64 MiB
	Dir    string // of these files, which have no names and are gone when their process is; "" is the system's for temporary files
}

func (s Space) withDefaults() Space {
	if s.Memory <= 0 {
		s.Memory = 64 << 20
	}
	return s
}

// What a batch of records that were gathered holds, at most.
const (
	gatheredRecords = 512
	gatheredBytes   = 256 << 10
)

// fill fills a batch with records.
func fill(b *Batch, next func() (r Record, size int, err error)) error {
	for size := 0; len(b.Records) < gatheredRecords && size < gatheredBytes; {
		r, n, err := next()
		if err == io.EOF && len(b.Records) > 0 {
			return nil
		} else if err != nil {
			return err
		}
		b.Records = append(b.Records, r)
		size += n
	}
	return nil
}

// packer writes records as bytes and reads them. It remembers the shapes of their objects, so that names are written once.
type packer struct {
	ids    map[*Shape]int
	shapes []*Shape
	root   *Shape
}

// maxPacked bounds the shapes that a packer remembers.
const maxPacked = 4096

// What a value begins with.
const (
	packedNull = iota
	packedFalse
	packedTrue
	packedNumber
	packedText
	packedUntyped
	packedBytes
	packedList
	packedObject
	packedNamed // an object with its names
)

var packedKinds = map[Kind]byte{KindNumber: packedNumber, KindText: packedText, KindUntyped: packedUntyped, KindBytes: packedBytes}

func (p *packer) value(to []byte, v Value) []byte {
	switch v.Kind() {
	case KindNull:
		return append(to, packedNull)
	case KindBool:
		if v.IsTrue() {
			return append(to, packedTrue)
		}
		return append(to, packedFalse)
	case KindList:
		to = binary.AppendUvarint(append(to, packedList), uint64(v.Len()))
	case KindObject:
		if id, ok := p.id(v.Shape()); ok {
			to = binary.AppendUvarint(append(to, packedObject), uint64(id))
			break
		}
		to = binary.AppendUvarint(append(to, packedNamed), uint64(v.Len()))
		for name := range v.Fields() {
			to = packText(to, name)
		}
	default:
		return packText(append(to, packedKinds[v.Kind()]), v.Text())
	}
	for i := range v.Len() {
		to = p.value(to, v.At(i))
	}
	return to
}

func packText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

func (p *packer) id(s *Shape) (int, bool) {
	if id, ok := p.ids[s]; ok {
		return id, true
	}
	if len(p.shapes) == maxPacked || s.Len() > sharedFields {
		return 0, false
	}
	if p.ids == nil {
		p.ids = map[*Shape]int{}
	}
	p.ids[s] = len(p.shapes)
	p.shapes = append(p.shapes, s)
	return len(p.shapes) - 1, true
}

// record writes a record without what encloses it and without its raw text.
func (p *packer) record(to []byte, r *Record) []byte {
	to = binary.AppendVarint(binary.AppendVarint(to, r.Index), r.Line)
	to = packText(to, r.Split)
	if to = p.value(to, r.Value); r.Source.same(r.Value) { // nothing has changed it
		return append(to, 1)
	}
	return p.value(append(to, 0), r.Source)
}

// unpacker reads what a packer wrote.
type unpacker struct {
	*packer
	text string
}

// unpack begins to read bytes, which it copies.
func (p *packer) unpack(b []byte) *unpacker { return &unpacker{p, string(b)} }

func (u *unpacker) number() int64 {
	var n uint64
	for shift := 0; ; shift += 7 {
		c := u.byte()
		if n |= uint64(c&0x7F) << shift; c < 0x80 {
			return int64(n)
		}
	}
}

func (u *unpacker) signed() int64 {
	n := uint64(u.number())
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) byte() byte {
	c := u.text[0]
	u.text = u.text[1:]
	return c
}

func (u *unpacker) string() string {
	n := u.number()
	s := u.text[:n]
	u.text = u.text[n:]
	return s
}

func (u *unpacker) values(n int) []Value {
	values := make([]Value, n)
	for i := range values {
		values[i] = u.value()
	}
	return values
}

func (u *unpacker) value() Value {
	switch u.byte() {
	case packedFalse:
		return Bool(false)
	case packedTrue:
		return Bool(true)
	case packedNumber:
		return Number(u.string())
	case packedText:
		return Text(u.string())
	case packedUntyped:
		return Untyped(u.string())
	case packedBytes:
		return Bytes(u.string())
	case packedList:
		return List(u.values(int(u.number())))
	case packedObject:
		shape := u.shapes[u.number()]
		return NewObject(shape, u.values(shape.Len()))
	case packedNamed:
		if u.root == nil {
			u.root = NewShape()
		}
		names := NewShapeBuilder(u.root)
		n := int(u.number())
		for range n {
			names.Add(u.string())
		}
		return NewObject(names.Shape(), u.values(n))
	}
	return Null
}

func (u *unpacker) record() Record {
	r := Record{Index: u.signed(), Line: u.signed(), Split: u.string()}
	r.Value = u.value()
	if r.Source = r.Value; u.byte() == 0 {
		r.Source = u.value()
	}
	return r
}

// bySeq appends a number that orders as bytes.
func bySeq(to []byte, n int64) []byte { return binary.BigEndian.AppendUint64(to, uint64(n)) }

// reader reads what a sorter has sorted, from its first use on.
type reader struct {
	*spill.Reader
}

func (r *reader) next(ctx context.Context, s *spill.Sorter) (key, value []byte, err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if r.Reader == nil {
		if r.Reader, err = s.Sort(ctx); err != nil {
			return nil, nil, err
		}
	}
	return r.Next()
}
