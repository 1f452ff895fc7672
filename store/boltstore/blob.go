package boltstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
)

// A blob file is a sequence of chunks, each a CRC-32C of the blob's id, the chunk's number and its bytes, then the bytes: chunkSize of
// them but for the last. So each chunk is verified before a byte of it is returned, and can be found by its number.
const (
	chunkSize  = 64 << 10
	chunkHead  = 4
	tempSuffix = ".tmp"
)

func chunkSum(id uuid.UUID, n int64, data []byte) uint32 {
	c := crc32.Update(0, castagnoli, binary.BigEndian.AppendUint64(id[:], uint64(n)))
	return crc32.Update(c, castagnoli, data)
}

func (s *Store) blobPath(id uuid.UUID) string {
	name := id.String()
	return filepath.Join(s.dir, blobFolder, name[len(name)-2:], name) // the last digits are random, the first are the time
}

// blobWriter writes one blob.
type blobWriter struct {
	s      *Store
	id     uuid.UUID
	file   *os.File
	chunk  []byte // head and bytes of the chunk being filled
	number int64
	size   int64
	hash   hash.Hash
	err    error // of a write that failed, or errEnded
}

var errEnded = errors.New("store: the body has ended already")

// CreateBlob starts a blob.
func (s *Store) CreateBlob(ctx context.Context) (store.BlobWriter, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(s.dir, blobFolder, id.String()+tempSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, blobFault(err)
	}
	return &blobWriter{s: s, id: id, file: file, chunk: make([]byte, chunkHead, chunkHead+chunkSize), hash: sha256.New()}, nil
}

// blobFault classifies a fault of a blob's file. A blob that could not be written is thrown away, so the store goes on.
func blobFault(err error) error {
	if noRoom(err) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return fmt.Errorf("write a large body: %w", err)
}

func (w *blobWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	written := len(p)
	w.hash.Write(p)
	for len(p) > 0 {
		n := min(len(p), chunkHead+chunkSize-len(w.chunk))
		w.chunk = append(w.chunk, p[:n]...)
		p = p[n:]
		w.size += int64(n)
		if len(w.chunk) == chunkHead+chunkSize {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

func (w *blobWriter) flush() error {
	binary.BigEndian.PutUint32(w.chunk, chunkSum(w.id, w.number, w.chunk[chunkHead:]))
	if _, err := w.file.Write(w.chunk); err != nil {
		w.err = blobFault(err)
		return w.err
	}
	w.number++
	w.chunk = w.chunk[:chunkHead]
	return nil
}

// Commit makes the blob durable: synced, in its place, and its folders synced.
func (w *blobWriter) Commit() (store.Body, error) {
	if w.err == nil {
		w.err = w.s.ready(context.Background())
	}
	if w.err == nil && len(w.chunk) > chunkHead {
		w.flush()
	}
	if w.err != nil {
		return store.Body{}, w.err
	}
	path := w.s.blobPath(w.id)
	for _, step := range []func() error{
		w.file.Sync,
		w.file.Close,
		func() error { return makeFolder(filepath.Dir(path)) },
		func() error { failpoint.Hit("blob.synced"); return os.Rename(w.file.Name(), path) },
		func() error { failpoint.Hit("blob.renamed"); return syncDir(filepath.Dir(path)) },
	} {
		if err := step(); err != nil {
			w.err = blobFault(err)
			return store.Body{}, w.err
		}
	}
	failpoint.Hit("blob.durable")
	w.err = errEnded
	return store.Body{Blob: w.id, Size: w.size, SHA256: [32]byte(w.hash.Sum(nil))}, nil
}

// Abort throws the blob away.
func (w *blobWriter) Abort() error {
	if w.err == errEnded {
		return nil
	}
	w.err = errEnded
	w.file.Close()
	return os.Remove(w.file.Name())
}

// Discard removes a body that nothing refers to.
func (s *Store) Discard(ctx context.Context, b store.Body) error {
	if b.Blob == uuid.Nil || s.isBroken() { // then the journal may have what refers to it: the next Open sweeps
		return ctx.Err()
	}
	owned := false
	err := s.view(ctx, func(tx *bolt.Tx) error {
		owned = tx.Bucket(bucketBlobs).Get(b.Blob[:]) != nil
		return nil
	})
	if err == nil && !owned {
		s.unlink(b.Blob)
	}
	return err
}

// unlink removes a blob that nothing refers to; while a backup is made, when that ends. One that stays is swept when the store is opened next.
func (s *Store) unlink(id uuid.UUID) {
	if id != uuid.Nil && !s.pins.postpone(id) {
		os.Remove(s.blobPath(id))
	}
}

// OpenBody opens a body.
func (s *Store) OpenBody(ctx context.Context, b store.Body) (io.ReadSeekCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Health(); errors.Is(err, store.ErrClosed) {
		return nil, err
	}
	if b.Blob == uuid.Nil {
		if int64(len(b.Inline)) != b.Size {
			return nil, store.ErrErased
		}
		return inline{bytes.NewReader(b.Inline)}, nil
	}
	file, err := os.Open(s.blobPath(b.Blob))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("large body %s: %w", b.Blob, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open a large body: %w", err)
	}
	return &blobReader{s: s, body: b, file: file, number: -1}, nil
}

// inline is a small body as a reader.
type inline struct{ *bytes.Reader }

func (inline) Close() error { return nil }

// blobReader reads a blob chunk by chunk, each verified.
type blobReader struct {
	s      *Store
	body   store.Body
	file   *os.File
	at     int64
	number int64 // of the chunk in memory, -1 for none
	chunk  []byte
	buffer [chunkHead + chunkSize]byte
}

func (r *blobReader) Read(p []byte) (int, error) {
	if r.at >= r.body.Size {
		return 0, io.EOF
	}
	if n := r.at / chunkSize; n != r.number {
		if err := r.load(n); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.chunk[r.at%chunkSize:])
	r.at += int64(n)
	return n, nil
}

func (r *blobReader) load(n int64) error {
	length := min(chunkSize, r.body.Size-n*chunkSize)
	buffer := r.buffer[:chunkHead+length]
	r.number = -1
	got, err := r.file.ReadAt(buffer, n*(chunkHead+chunkSize))
	if err != nil && err != io.EOF {
		return fmt.Errorf("read a large body: %w", err)
	}
	if got < len(buffer) || binary.BigEndian.Uint32(buffer) != chunkSum(r.body.Blob, n, buffer[chunkHead:]) {
		err := fmt.Errorf("%w: large body %s, chunk %d", store.ErrCorrupt, r.body.Blob, n)
		r.s.onCorrupt(err)
		return err
	}
	r.number, r.chunk = n, buffer[chunkHead:]
	return nil
}

func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.body.Size
	}
	if offset < 0 {
		return 0, errors.New("store: seek before the start of a body")
	}
	r.at = offset
	return offset, nil
}

func (r *blobReader) Close() error { return r.file.Close() }

// sweep removes the blobs that nothing refers to: leftovers of writes that were not committed.
func (s *Store) sweep() error {
	found := map[string]string{} // name → path
	err := filepath.WalkDir(filepath.Join(s.dir, blobFolder), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[d.Name()] = path
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look through the large bodies: %w", err)
	}
	damaged := false
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketBlobs).ForEach(func(k, v []byte) error {
			if _, err := s.unseal(bucketBlobs, k, v); err != nil {
				damaged = true
				return nil
			}
			delete(found, idOf(k).String())
			return nil
		})
	})
	if err != nil {
		return err
	}
	for name, path := range found {
		if damaged && !strings.HasSuffix(name, tempSuffix) {
			continue // it may be the one whose name cannot be read
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a leftover: %w", err)
		}
	}
	return nil
}
