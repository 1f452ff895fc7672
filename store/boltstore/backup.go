package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

const (
	partialSuffix = ".partial"
	copyRows      = 512       // in one read transaction, or
	copyBytes     = 1 << 20   // of them
	behindAtMost  = 256 << 20 // bytes of changes that a backup may have to catch up with
)

// Backup copies the store, which goes on working, into a folder that it makes: a store of its own, as everything was at one moment between call
// and return, each message with its payload. The copy is synced and checked before the folder gets its name; until then it is called
// name.partial, and without success it is removed. To restore, open a copy of the folder.
//
// No read transaction is held longer than a page of rows takes to copy: the rows are read in steps, and what commits change meanwhile is
// followed. One backup is made at a time. A damaged value or body is an error that wraps store.ErrCorrupt; a folder that exists is one that
// wraps os.ErrExist.
func (s *Store) Backup(ctx context.Context, dir string, watch *Watch) (*Checked, error) {
	if err := s.outside(dir); err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	partial := dir + partialSuffix
	if err := makeFolder(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	if err := os.Mkdir(partial, folderMode); err != nil {
		return nil, fmt.Errorf("back up: %w (left by a backup that was interrupted, or of one that is being made)", err)
	}
	checked, err := s.backUp(ctx, partial, watch)
	if err == nil {
		if err = s.outside(dir); err == nil { // still
			err = os.Rename(partial, dir)
		}
	}
	if err != nil {
		os.RemoveAll(partial)
		return nil, fmt.Errorf("back up: %w", err)
	}
	return checked, syncDir(filepath.Dir(filepath.Clean(dir)))
}

// outside refuses a folder that exists, or lies in the store's own.
func (s *Store) outside(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s: %w: a backup makes its folder", dir, os.ErrExist)
	}
	own, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	to, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(own, to); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s is in the folder of the store itself", dir)
	}
	return nil
}

func (s *Store) backUp(ctx context.Context, dir string, watch *Watch) (*Checked, error) {
	s.pins.add()
	defer func() {
		for _, id := range s.pins.release() {
			s.unlink(id)
		}
	}()
	f, err := s.startFollowing(ctx)
	if err != nil {
		return nil, err
	}
	defer f.ended.Store(true)
	db, err := makeFresh(filepath.Join(dir, fileName))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	fill := &filler{db: db}
	defer fill.abandon()
	for i := range buckets {
		b := &buckets[i]
		err := s.rows(ctx, b.name, func(key, value []byte) error {
			if _, err := b.unseal(key, value); err != nil {
				return damaged(s.path(), fmt.Errorf("%s %s", b.name, b.show(key)))
			}
			return fill.put(b.name, key, value)
		}, func() error { return f.catchUp(fill) })
		if err != nil {
			return nil, err
		}
	}
	// After this commit nothing is followed any more: what was read and what was changed is now the state at one moment.
	if err := s.do(ctx, &operation{apply: func(*writeTx) error { return nil }, committed: func() { f.ended.Store(true) }}); err != nil {
		return nil, err
	}
	if err := f.catchUp(fill); err != nil {
		return nil, err
	}
	if err := fill.finish(time.Now().UnixNano()); err != nil {
		return nil, err
	}
	if err := s.copyBlobs(ctx, db, dir); err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	var first *Fault
	told := Watch{Fault: func(f Fault) {
		if first == nil {
			first = &f
		}
	}}
	if watch != nil {
		told.Progress = watch.Progress
	}
	checked, err := Check(ctx, dir, &told)
	if err == nil && first != nil {
		err = damaged(s.path(), errors.New(first.String()))
	}
	return checked, err
}

// rows calls f with copies of a bucket's rows, and between after each page of them; no transaction is open then.
func (s *Store) rows(ctx context.Context, name []byte, f func(key, value []byte) error, between func() error) error {
	type row struct{ key, value []byte }
	for after := []byte(nil); ; {
		var page []row
		err := s.view(ctx, func(tx *bolt.Tx) error {
			size := 0
			s.from(tx, name, after, func(k, v []byte) bool {
				if !bytes.Equal(k, after) {
					page = append(page, row{bytes.Clone(k), bytes.Clone(v)})
					size += len(k) + len(v)
				}
				return len(page) < copyRows && size < copyBytes
			})
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			if err := f(r.key, r.value); err != nil {
				return err
			}
		}
		if err := between(); err != nil {
			return err
		}
		after = page[len(page)-1].key
	}
}

// copyBlobs copies the large bodies that a copied database refers to.
func (s *Store) copyBlobs(ctx context.Context, db *bolt.DB, dir string) error {
	to := &Store{dir: dir, db: db}
	folders := map[string]bool{filepath.Join(dir, blobFolder): true, dir: true}
	if err := makeFolder(filepath.Join(dir, blobFolder)); err != nil {
		return err
	}
	err := to.rows(ctx, bucketBlobs, func(key, _ []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, err := os.Open(s.blobPath(idOf(key)))
		if err != nil {
			return fmt.Errorf("%w: large body: %w", store.ErrCorrupt, err)
		}
		defer from.Close()
		path := to.blobPath(idOf(key))
		if folder := filepath.Dir(path); !folders[folder] {
			folders[folder] = true
			if err := os.Mkdir(folder, folderMode); err != nil {
				return err
			}
		}
		return copyFile(from, path)
	}, func() error { return nil })
	for folder := range folders {
		err = errors.Join(err, syncDir(folder))
	}
	return err
}

// follower gathers what commits change while the store is copied.
type follower struct {
	ended atomic.Bool

	mu      sync.Mutex
	changes []byte
	err     error
}

// errBackup refuses a second backup.
var errBackup = errors.New("another backup is being made")

func (s *Store) startFollowing(ctx context.Context) (*follower, error) {
	f := &follower{}
	return f, s.do(ctx, &operation{
		check: func(*bolt.Tx) error {
			if s.follower != nil && !s.follower.ended.Load() {
				return errBackup
			}
			return nil
		},
		apply:     func(*writeTx) error { return nil },
		committed: func() { s.follower = f },
	})
}

// follow hands what a commit changed to the backup that is being made, or that it was taken back: readers may have seen it. The writer calls it.
func (s *Store) follow(changes []byte, err error) {
	f := s.follower
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended.Load():
		s.follower = nil
	case f.err != nil:
	case err != nil:
		f.err, f.changes = err, nil
	case len(f.changes)+len(changes) > behindAtMost:
		f.err, f.changes = errors.New("the store changes faster than the backup can be written: try again when there is less to do, or give it a faster disk"), nil
	default:
		f.changes = append(f.changes, changes...)
	}
}

// catchUp writes what was changed since.
func (f *follower) catchUp(fill *filler) error {
	f.mu.Lock()
	changes, err := f.changes, f.err
	f.changes = nil
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return eachChange(changes, func(bucket, key, value []byte, deleted bool) error {
		if deleted {
			return fill.remove(bucket, key)
		}
		return fill.put(bucket, key, value)
	})
}

// pins keeps large bodies while they are copied.
type pins struct {
	mu   sync.Mutex
	n    int
	over []uuid.UUID // to be removed when nobody copies any more
}

func (p *pins) add() {
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
}

// release returns what may be removed now.
func (p *pins) release() (over []uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		over, p.over = slices.Clip(p.over), nil
	}
	return over
}

func (p *pins) postpone(id uuid.UUID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n > 0 {
		p.over = append(p.over, id)
	}
	return p.n > 0
}
