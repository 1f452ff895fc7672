package main

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
)

// spillStore is a store in memory whose large bodies are in files without a name: nothing is left of it, whatever ends the process.
type spillStore struct {
	*memstore.Store
	mu    sync.Mutex
	files map[uuid.UUID]*os.File
}

func newSpillStore() *spillStore {
	return &spillStore{Store: memstore.New(), files: map[uuid.UUID]*os.File{}}
}

// CreateBlob starts a body.
func (s *spillStore) CreateBlob(context.Context) (store.BlobWriter, error) {
	file, err := os.CreateTemp("", "integrator-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return &spill{store: s, file: file, hash: sha256.New()}, nil
}

// OpenBody opens a body.
func (s *spillStore) OpenBody(ctx context.Context, b store.Body) (io.ReadSeekCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, ok := s.files[b.Blob]
	if !ok {
		return s.Store.OpenBody(ctx, b)
	}
	return unclosed{io.NewSectionReader(file, 0, b.Size)}, nil
}

// Discard removes a body.
func (s *spillStore) Discard(ctx context.Context, b store.Body) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, ok := s.files[b.Blob]
	if !ok {
		return s.Store.Discard(ctx, b)
	}
	delete(s.files, b.Blob)
	return file.Close()
}

type unclosed struct{ *io.SectionReader }

func (unclosed) Close() error { return nil }

// spill is a body that is written.
type spill struct {
	store *spillStore
	file  *os.File
	hash  hash.Hash
	size  int64
}

func (s *spill) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *spill) Commit() (store.Body, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return store.Body{}, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.files[id] = s.file
	return store.Body{Blob: id, Size: s.size, SHA256: [sha256.Size]byte(s.hash.Sum(nil))}, nil
}

func (s *spill) Abort() error { return s.file.Close() }
