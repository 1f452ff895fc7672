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
	"syscall"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// A blob file is a sequence of chunks, each a CRC-32C of the blob's id, the chunk's number and its bytes, then the bytes: chunkSize of
// them but for the last. So each chunk is verified before a byte of it is returned, and can be found by its number.
const (
	chunkSize  = 64 << 10
	chunkHead  = 4
	tempSuffix = ".tmp"
	blobMode   = 0o600
	folderMode = 0o700
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
	ended  bool
}

// CreateBlob starts a blob.
func (s *Store) CreateBlob(ctx context.Context) (store.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Health(); err != nil && !errors.Is(err, store.ErrFull) {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(s.dir, blobFolder, id.String()+tempSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, blobMode)
	if err != nil {
		return nil, blobFault(err)
	}
	return &blobWriter{s: s, id: id, file: file, chunk: make([]byte, chunkHead, chunkHead+chunkSize), hash: sha256.New()}, nil
}

// blobFault classifies a fault of a blob's file. A blob that could not be written is thrown away, so the store goes on.
func blobFault(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return fmt.Errorf("write a large body: %w", err)
}

func (w *blobWriter) Write(p []byte) (int, error) {
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
		return blobFault(err)
	}
	w.number++
	w.chunk = w.chunk[:chunkHead]
	return nil
}

// Commit makes the blob durable: synced, in its place, and its folders synced.
func (w *blobWriter) Commit() (store.Body, error) {
	if w.ended {
		return store.Body{}, errors.New("store: the body has ended already")
	}
	if len(w.chunk) > chunkHead {
		if err := w.flush(); err != nil {
			return store.Body{}, err
		}
	}
	if err := w.file.Sync(); err != nil {
		return store.Body{}, blobFault(err)
	}
	path := w.s.blobPath(w.id)
	if err := os.Mkdir(filepath.Dir(path), folderMode); err == nil {
		if err := syncDir(filepath.Dir(filepath.Dir(path))); err != nil {
			return store.Body{}, err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return store.Body{}, blobFault(err)
	}
	if err := os.Rename(w.file.Name(), path); err != nil {
		return store.Body{}, blobFault(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return store.Body{}, err
	}
	w.ended = true
	body := store.Body{Blob: w.id, Size: w.size, SHA256: [32]byte(w.hash.Sum(nil))}
	return body, w.file.Close()
}

// Abort throws the blob away.
func (w *blobWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.file.Close()
	return os.Remove(w.file.Name())
}

// unlink removes a blob that nothing refers to. One that stays is swept when the store is opened next.
func (s *Store) unlink(id uuid.UUID) {
	if id != uuid.Nil {
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
	if _, err := r.file.ReadAt(buffer, n*(chunkHead+chunkSize)); err != nil && err != io.EOF {
		return fmt.Errorf("read a large body: %w", err)
	}
	if binary.BigEndian.Uint32(buffer) != chunkSum(r.body.Blob, n, buffer[chunkHead:]) {
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
	folder := filepath.Join(s.dir, blobFolder)
	found := map[string]string{} // name → path
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[d.Name()] = path
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look through the large bodies: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	keep := func(b store.Body) {
		if b.Blob != uuid.Nil {
			delete(found, b.Blob.String())
		}
	}
	damaged := false
	err = s.guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			err := tx.Bucket(bucketMessages).ForEach(func(k, v []byte) error {
				payload, err := s.open(bucketMessages, k, v)
				if err != nil {
					damaged = true
					return nil
				}
				m, err := decodeMessage(payload)
				if err == nil {
					keep(m.Body)
				}
				return err
			})
			if err != nil {
				return err
			}
			return tx.Bucket(bucketAttachments).ForEach(func(k, v []byte) error {
				payload, err := s.open(bucketAttachments, k, v)
				if err != nil {
					damaged = true
					return nil
				}
				rejects, log, err := decodeAttachments(payload)
				keep(rejects)
				keep(log)
				return err
			})
		})
	})
	if err != nil {
		return err
	}
	for name, path := range found {
		if damaged && !strings.HasSuffix(name, tempSuffix) {
			continue // it may belong to the value that cannot be read
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a leftover: %w", err)
		}
	}
	return nil
}
