package boltstore

import bolt "go.etcd.io/bbolt"

// Commits returns how many transactions were committed since the file was made.
func (s *Store) Commits() (n int) {
	s.db.View(func(tx *bolt.Tx) error {
		n = tx.ID()
		return nil
	})
	return n
}

// Syncs reports whether every commit is synced, and the file's growth.
func (s *Store) Syncs() bool { return !s.db.NoSync && !s.db.NoGrowSync }

// Hold keeps the writer in a commit until release is called.
func (s *Store) Hold() (release func()) {
	held, end := make(chan struct{}), make(chan struct{})
	op := &operation{apply: func(*bolt.Tx) error {
		close(held)
		<-end
		return nil
	}, done: make(chan struct{})}
	s.operations <- op
	<-held
	return func() { close(end); <-op.done }
}

// SetFormat writes a format number as another engine would.
func (s *Store) SetFormat(n int64) error {
	return s.db.Update(func(tx *bolt.Tx) error { return putNumber(tx, bucketMeta, keyFormat, n) })
}

// Rows returns how many rows each bucket has that is not empty.
func (s *Store) Rows() map[string]int {
	rows := map[string]int{}
	s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if n := b.Stats().KeyN; n > 0 {
				rows[string(name)] = n
			}
			return nil
		})
	})
	return rows
}
