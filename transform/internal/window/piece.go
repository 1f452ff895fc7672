package window

import (
	"sync"
	"sync/atomic"
)

// piece is memory for a Text that is lent: to the window, and to the batches whose records have texts in it. When all have given it back it is on
// its shelf, for another Text.
type piece struct {
	bytes []byte
	lent  atomic.Int32
	shelf *shelf
}

// Release gives the piece back. It is called once by each who has it.
func (p *piece) Release() {
	if p.lent.Add(-1) == 0 {
		p.shelf.put(p)
	}
}

// shelf holds the pieces that nobody uses. It is safe for concurrent use.
type shelf struct {
	mu   sync.Mutex
	free []*piece
}

// What a shelf keeps at most: pieces of long records are left to the collector.
const (
	mostPieces = 8
	mostBytes  = 4 * readSize
)

func (s *shelf) put(p *piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < mostPieces && cap(p.bytes) <= mostBytes {
		s.free = append(s.free, p)
	}
}

// take returns a piece of at least n bytes, which is lent once.
func (s *shelf) take(n int) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.free) > 0 {
		p := s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		if cap(p.bytes) >= n {
			p.bytes = p.bytes[:cap(p.bytes)]
			p.lent.Store(1)
			return p
		}
	}
	p := &piece{bytes: make([]byte, n+readSize/8), shelf: s} // what is left of a text before fits too the next time
	p.lent.Store(1)
	return p
}
