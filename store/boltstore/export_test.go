package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// PageSize is that of a fresh database file.
const PageSize = pageSize

// Commits returns how many commits were synced since the store was opened.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Syncs reports whether every commit is synced, and the file's growth.
func (s *Store) Syncs() bool { return !s.db.NoSync && !s.db.NoGrowSync }

// Hold keeps the writer in a commit until release is called.
func (s *Store) Hold() (release func()) {
	held, end := make(chan struct{}), make(chan struct{})
	op := &operation{apply: func(tx *writeTx) error {
		close(held)
		<-end
		return putNumber(tx, bucketMeta, []byte("held"), 1)
	}, done: make(chan struct{})}
	s.operations <- op
	<-held
	return func() { close(end); <-op.done }
}

// Break makes a commit fail as a disk does.
func (s *Store) Break() error {
	return s.do(context.Background(), &operation{apply: func(*writeTx) error { return errors.New("input/output error") }})
}

// SetFormat writes a format number as another engine would.
func (s *Store) SetFormat(n int64) error {
	return s.do(context.Background(), &operation{apply: func(tx *writeTx) error { return putNumber(tx, bucketMeta, keyFormat, n) }})
}

// Rows returns how many rows each bucket has that is not empty.
func (s *Store) Rows() map[string]int {
	rows := map[string]int{}
	s.view(context.Background(), func(tx *bolt.Tx) error {
		for _, b := range buckets {
			s.from(tx, b.name, nil, func(_, _ []byte) bool {
				rows[string(b.name)]++
				return true
			})
		}
		return nil
	})
	return rows
}

// Crash closes the store as it is: what the journal has is not put into the database.
func (s *Store) Crash() error {
	err := fmt.Errorf("%w: by a test", store.ErrBroken)
	s.closed.Do(func() {
		close(s.closing)
		s.health.Store(&err)
		<-s.ended
		s.closeErr = errors.Join(s.journal.close(), s.db.Close())
	})
	return s.closeErr
}

// TallyRow returns the row of the history's tally.
func TallyRow(runs, bytes int64) []byte { return tally{Runs: runs, Bytes: bytes}.row() }
