// Package spill sorts entries that need not fit into memory: what is more than a budget goes to temporary files, in sorted runs that are merged.
//
// The files are unlinked as soon as they are open, where the system lets it, so that nothing of them is left whatever becomes of the process.
package spill

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	fanIn      = 64       // runs of one level that are merged into one of the next
	bufferSize = 64 << 10 // of a file that is read or written
	blockSize  = 1 << 20
	entrySize  = 64 // what an entry takes beside its bytes
	checkEvery = 1 << 10
)

// Sorter sorts entries by the bytes of their keys. Entries of one key keep the order in which they were added. It is used by one goroutine.
type Sorter struct {
	dir     string
	memory  int64
	used    int64
	block   []byte   // where the next entry goes
	spare   [][]byte // blocks that hold none now
	blocks  [][]byte
	entries []entry
	levels  []level
	buffer  *bufio.Writer
}

type entry struct {
	data []byte // the key and the value
	key  uint32 // length of the key
	nth  uint32
}

// level is runs that were merged equally often. What was added first is in the highest level.
type level struct {
	file *os.File
	size int64
	runs []span
}

type span struct{ from, to int64 }

// New returns a sorter that takes so many bytes of memory, approximately, and keeps what is more in files in a directory that it makes when it
// needs it; "" is the system's for temporary files.
func New(dir string, memory int64) *Sorter { return &Sorter{dir: dir, memory: memory} }

// Add adds an entry, whose bytes it copies.
func (s *Sorter) Add(ctx context.Context, key, value []byte) error {
	size := len(key) + len(value)
	if s.used+int64(size)+entrySize > s.memory && len(s.entries) > 0 {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	if len(s.block)+size > cap(s.block) {
		s.grow(size)
	}
	at := len(s.block)
	s.block = append(append(s.block, key...), value...)
	s.entries = append(s.entries, entry{s.block[at:len(s.block):len(s.block)], uint32(len(key)), uint32(len(s.entries))})
	s.used += int64(size) + entrySize
	return nil
}

// grow makes a block for an entry.
func (s *Sorter) grow(size int) {
	if s.block != nil && cap(s.block) == blockSize {
		s.blocks = append(s.blocks, s.block)
	}
	switch n := len(s.spare); {
	case size > blockSize:
		s.block = make([]byte, 0, size)
	case n > 0:
		s.block, s.spare = s.spare[n-1][:0], s.spare[:n-1]
	case s.memory < 4*blockSize: // a small budget is not for one block
		s.block = make([]byte, 0, max(int64(size), s.memory/4))
	default:
		s.block = make([]byte, 0, blockSize)
	}
}

func (s *Sorter) sort() {
	slices.SortFunc(s.entries, func(a, b entry) int {
		return cmp.Or(bytes.Compare(a.data[:a.key], b.data[:b.key]), cmp.Compare(a.nth, b.nth))
	})
}

// flush makes a run of what is in memory.
func (s *Sorter) flush(ctx context.Context) error {
	s.sort()
	i := 0
	err := s.write(ctx, 0, func() ([]byte, []byte, error) {
		if i == len(s.entries) {
			return nil, nil, io.EOF
		}
		e := s.entries[i]
		i++
		return e.data[:e.key], e.data[e.key:], nil
	})
	s.spare = append(s.spare, s.blocks...)
	clear(s.entries)
	s.entries, s.blocks, s.used = s.entries[:0], nil, 0
	if s.block = s.block[:0]; cap(s.block) > blockSize {
		s.block = nil
	}
	return err
}

// write makes a run of a level, and one of the next when the level is full.
func (s *Sorter) write(ctx context.Context, at int, next func() (key, value []byte, err error)) error {
	if at == len(s.levels) {
		file, err := create(s.dir)
		if err != nil {
			return err
		}
		s.levels = append(s.levels, level{file: file})
	}
	l := &s.levels[at]
	if s.buffer == nil {
		s.buffer = bufio.NewWriterSize(nil, bufferSize)
	}
	w := s.buffer
	w.Reset(&writer{l.file, l.size})
	run := span{l.size, l.size}
	var lengths []byte
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key, value, err := next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		lengths = binary.AppendUvarint(binary.AppendUvarint(lengths[:0], uint64(len(key))), uint64(len(value)))
		w.Write(lengths) // its first error is the one of Flush
		w.Write(key)
		if _, err := w.Write(value); err != nil {
			return full(err)
		}
		run.to += int64(len(lengths) + len(key) + len(value))
	}
	if err := w.Flush(); err != nil {
		return full(err)
	}
	l.size = run.to
	if l.runs = append(l.runs, run); len(l.runs) < fanIn {
		return nil
	}
	r, err := s.merge(l.sources())
	if err != nil {
		return err
	}
	if err := s.write(ctx, at+1, r.Next); err != nil {
		return err
	}
	l = &s.levels[at] // the levels have moved
	l.runs, l.size = nil, 0
	if err := l.file.Truncate(0); err != nil {
		return full(err)
	}
	return nil
}

func full(err error) error { return fmt.Errorf("keep records in a temporary file: %w", err) }

// create makes a file that has no name any more, where the system lets it.
func create(dir string) (*os.File, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, full(err)
		}
	}
	file, err := os.CreateTemp(dir, "integrator-spill-*")
	if err != nil {
		return nil, full(err)
	}
	os.Remove(file.Name()) // where that fails, Close removes it
	return file, nil
}

type writer struct {
	file *os.File
	at   int64
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

func (l *level) sources() []source {
	var all []source
	for _, run := range l.runs {
		all = append(all, &stored{reader: bufio.NewReaderSize(io.NewSectionReader(l.file, run.from, run.to-run.from), bufferSize)})
	}
	return all
}

// Sort ends the adding. It returns the entries in order, once.
func (s *Sorter) Sort(ctx context.Context) (*Reader, error) {
	if len(s.levels) == 0 {
		s.sort()
		return s.merge([]source{&held{entries: s.entries}})
	}
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	s.block, s.spare, s.entries = nil, nil, nil
	var all []source
	for i := len(s.levels) - 1; i >= 0; i-- {
		all = append(all, s.levels[i].sources()...)
	}
	return s.merge(all)
}

// Used reports whether anything was added.
func (s *Sorter) Used() bool { return len(s.entries) > 0 || s.Spilled() }

// Spilled reports whether anything went to files.
func (s *Sorter) Spilled() bool { return len(s.levels) > 0 }

// Close gives memory and files back. Entries that were read are not valid any more.
func (s *Sorter) Close() {
	for _, l := range s.levels {
		l.file.Close() // nobody reads it again
		os.Remove(l.file.Name())
	}
	*s = Sorter{dir: s.dir, memory: s.memory}
}

// source is entries in order.
type source interface {
	// advance goes to the next entry, io.EOF behind the last.
	advance() error
	entry() (key, value []byte)
}

// held is a source in memory.
type held struct {
	entries []entry
	next    int
}

func (h *held) advance() error {
	if h.next == len(h.entries) {
		return io.EOF
	}
	h.next++
	return nil
}

func (h *held) entry() (key, value []byte) {
	e := h.entries[h.next-1]
	return e.data[:e.key], e.data[e.key:]
}

// stored is a source in a file.
type stored struct {
	reader *bufio.Reader
	data   []byte
	key    int
}

func (s *stored) advance() error {
	key, err := binary.ReadUvarint(s.reader)
	if err != nil {
		return err
	}
	value, err := binary.ReadUvarint(s.reader)
	if err == nil {
		s.key = int(key)
		if n := int(key + value); cap(s.data) < n {
			s.data = make([]byte, n)
		} else {
			s.data = s.data[:n]
		}
		_, err = io.ReadFull(s.reader, s.data)
	}
	if err != nil {
		return fmt.Errorf("read records from a temporary file: %w", cmp.Or(whole(err), err))
	}
	return nil
}

// whole makes an end in the middle of an entry another error than the end.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (s *stored) entry() (key, value []byte) { return s.data[:s.key], s.data[s.key:] }

// Reader gives entries in order.
type Reader struct {
	heap    []leaf
	started bool
}

// leaf is a source in a heap. Of equal keys those of the source come first that is before the others.
type leaf struct {
	source
	nth int
}

func (s *Sorter) merge(sources []source) (*Reader, error) {
	r := &Reader{}
	for i, source := range sources {
		if err := source.advance(); err == io.EOF {
			continue
		} else if err != nil {
			return nil, err
		}
		r.heap = append(r.heap, leaf{source, i})
	}
	for i := len(r.heap)/2 - 1; i >= 0; i-- {
		r.down(i)
	}
	return r, nil
}

// Next returns the next entry, io.EOF behind the last. It is valid until the next call.
func (r *Reader) Next() (key, value []byte, err error) {
	if r.started && len(r.heap) > 0 {
		if err := r.heap[0].advance(); err == io.EOF {
			last := len(r.heap) - 1
			r.heap[0] = r.heap[last]
			r.heap = r.heap[:last]
		} else if err != nil {
			return nil, nil, err
		}
		r.down(0)
	}
	if r.started = true; len(r.heap) == 0 {
		return nil, nil, io.EOF
	}
	key, value = r.heap[0].entry()
	return key, value, nil
}

func (r *Reader) less(i, j int) bool {
	a, _ := r.heap[i].entry()
	b, _ := r.heap[j].entry()
	return cmp.Or(bytes.Compare(a, b), cmp.Compare(r.heap[i].nth, r.heap[j].nth)) < 0
}

func (r *Reader) down(i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(r.heap) && r.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		r.heap[i], r.heap[least] = r.heap[least], r.heap[i]
		i = least
	}
}
