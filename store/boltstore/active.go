package boltstore

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// active holds the rows of bucketActive that were changed since the last checkpoint, which puts them into the database: most runs that
// begin have ended by then, and never come there.
type active struct {
	rows   map[int64][]byte // by number; nil: the database's row is gone
	stored int64            // the database has no row above
}

// beside returns what goes beside a transaction in which nothing is changed yet.
func beside(tx *bolt.Tx) active {
	a := active{rows: map[int64][]byte{}}
	if last, _ := tx.Bucket(bucketActive).Cursor().Last(); len(last) == 8 {
		a.stored = numberOf(last)
	}
	return a
}

func numberOf(key []byte) int64 { return int64(binary.BigEndian.Uint64(key)) }

// change notes a change of a row; false when it is one of another bucket. value is nil for a row that is deleted.
func (a *active) change(bucket, key, value []byte) bool {
	if !bytes.Equal(bucket, bucketActive) || len(key) != 8 {
		return false
	}
	if n := numberOf(key); value != nil || n <= a.stored {
		a.rows[n] = value
	} else {
		delete(a.rows, n)
	}
	return true
}

// store puts the rows into the database.
func (a *active) store(tx *bolt.Tx) error {
	b := tx.Bucket(bucketActive)
	for _, n := range a.above(-1) {
		var err error
		if row := a.rows[n]; row != nil {
			err = b.Put(numberKey(n), row)
		} else {
			err = b.Delete(numberKey(n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// above returns the numbers of rows that were changed, rising.
func (a *active) above(n int64) []int64 {
	return slices.Sorted(func(yield func(int64) bool) {
		for number := range maps.Keys(a.rows) {
			if number > n && !yield(number) {
				return
			}
		}
	})
}

// get returns the value of a row, as the transaction has it that a view or an operation reads from; nil without one.
func (s *Store) get(tx *bolt.Tx, bucket, key []byte) []byte {
	if s.tx != nil && bytes.Equal(bucket, bucketActive) {
		if row, ok := s.tx.active.rows[numberOf(key)]; ok {
			return row
		}
	}
	return tx.Bucket(bucket).Get(key)
}

// from calls f with a bucket's rows from a key on, until it returns false.
func (s *Store) from(tx *bolt.Tx, bucket, key []byte, f func(key, value []byte) bool) {
	var changed []int64
	if s.tx != nil && bytes.Equal(bucket, bucketActive) {
		after := int64(-1)
		if len(key) == 8 {
			after = numberOf(key) - 1
		}
		changed = s.tx.active.above(after)
	}
	cursor := tx.Bucket(bucket).Cursor()
	k, v := cursor.Seek(key)
	for k != nil || len(changed) > 0 {
		at, value := k, v
		if len(changed) > 0 {
			if first := numberKey(changed[0]); k == nil || bytes.Compare(first, k) <= 0 {
				at, value = first, s.tx.active.rows[changed[0]]
				changed = changed[1:]
			}
		}
		if bytes.Equal(at, k) {
			k, v = cursor.Next()
		}
		if bytes.Equal(bucket, bucketActive) && value == nil {
			continue
		}
		if !f(at, value) {
			return
		}
	}
}
