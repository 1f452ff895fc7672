package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/integrator-go/integrator/store"
)

// begun is the file that says which attempts are at work. It is written and not synced: the operating system keeps it when the process
// dies, and that is all it is for. A note is the run's number, the attempt, and a checksum; one that is cut off is no note.
type begun struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int
	held map[int64]int // attempts at work, by the run's number
}

const (
	noteLength = 8 + 4 + 4
	maxBegun   = 1 << 20 // bytes, from which on the file is made anew of what is held
)

func (s *Store) begunPath() string { return filepath.Join(s.dir, "begun") }

func appendNote(b []byte, number int64, attempt int) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(number))
	b = binary.BigEndian.AppendUint32(b, uint32(attempt))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// readBegun returns the latest attempt that each run has begun.
func readBegun(path string) (map[int64]int, error) {
	notes, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read what was at work: %w", err)
	}
	attempts := map[int64]int{}
	for ; len(notes) >= noteLength; notes = notes[noteLength:] {
		if body := notes[:noteLength-4]; crc32.ChecksumIEEE(body) == binary.BigEndian.Uint32(notes[len(body):]) {
			attempts[int64(binary.BigEndian.Uint64(body))] = int(binary.BigEndian.Uint32(body[8:]))
		}
	}
	return attempts, nil
}

// startBegun begins an epoch's file.
func startBegun(path string) (*begun, error) {
	b := &begun{path: path, held: map[int64]int{}}
	return b, b.renew()
}

// renew makes the file anew of what is held. The caller holds mu, or is the only one.
func (b *begun) renew() error {
	var notes []byte
	for number, attempt := range b.held {
		notes = appendNote(notes, number, attempt)
	}
	next := b.path + ".new"
	file, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, fileMode)
	if err == nil {
		_, err = file.Write(notes)
	}
	if err == nil {
		err = os.Rename(next, b.path)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return fmt.Errorf("note what is at work: %w", err)
	}
	if b.file != nil {
		b.file.Close() // nothing reads it any more
	}
	b.file, b.size = file, len(notes)
	return nil
}

func (b *begun) add(runs []store.Run) error {
	notes := make([]byte, 0, noteLength*len(runs))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range runs {
		b.held[runs[i].Number] = runs[i].Attempts
		notes = appendNote(notes, runs[i].Number, runs[i].Attempts)
	}
	if b.size+len(notes) > maxBegun {
		return b.renew()
	}
	n, err := b.file.Write(notes)
	if b.size += n; err != nil {
		b.size = maxBegun // the next note makes the file anew: this one may be cut off
		return fmt.Errorf("note what is at work: %w", err)
	}
	return nil
}

func (b *begun) remove(number int64) {
	b.mu.Lock()
	delete(b.held, number)
	b.mu.Unlock()
}

func (b *begun) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file.Close()
}
