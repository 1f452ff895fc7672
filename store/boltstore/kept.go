package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// keyKept is the row of bucketMeta that holds the tally of the history, as of the last checkpoint. The journal does not have it: the tally
// follows from the rows, and whoever puts changes into a database counts them, so that it is right whatever of a torn commit is left.
var keyKept = []byte("kept")

// tally counts the rows of the history.
type tally store.Kept

// change counts a row of any bucket that gets another value; nil is none.
func (t *tally) change(b *bolt.Bucket, name, key, value []byte) {
	if bytes.Equal(name, bucketHistory) {
		t.add(b.Get(key), -1)
		t.add(value, 1)
	}
}

func (t *tally) add(value []byte, sign int64) {
	if value == nil {
		return
	}
	t.Runs += sign
	if len(value) > envelopeLength {
		walk(value[envelopeLength:], func(tag int, n int64, _ []byte) error { // of a damaged one what there is: it is taken off alike
			if tag == runBytes {
				t.Bytes += sign * n
			}
			return nil
		})
	}
}

// row returns the row of bucketMeta.
func (t tally) row() []byte {
	value := binary.AppendVarint(binary.AppendVarint(make([]byte, envelopeLength), t.Runs), t.Bytes)
	return seal(bucketMeta, keyKept, value)
}

// tallyOf reads a row; false when there is none that can be read.
func tallyOf(value []byte) (t tally, ok bool) {
	payload, err := unseal(bucketMeta, keyKept, value)
	if err != nil {
		return t, false
	}
	var n, m int
	t.Runs, n = binary.Varint(payload)
	t.Bytes, m = binary.Varint(payload[max(n, 0):])
	return t, n > 0 && m > 0
}

// count begins with what the last checkpoint says, or counts: a store that has no tally yet, or has lost it.
func (tx *writeTx) count() error {
	kept, ok := tallyOf(tx.Bucket(bucketMeta).Get(keyKept))
	if ok {
		tx.kept = kept
		return nil
	}
	tx.counted = true
	return tx.Bucket(bucketHistory).ForEach(func(_, value []byte) error {
		tx.kept.add(value, 1)
		return nil
	})
}

// Kept returns how much there is of settled runs.
func (s *Store) Kept(ctx context.Context) (kept store.Kept, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		kept = s.kept(tx)
		return nil
	})
	return kept, err
}

// kept returns the tally of the transaction that a view or an operation reads from.
func (s *Store) kept(tx *bolt.Tx) store.Kept {
	if s.tx != nil {
		return store.Kept(s.tx.kept)
	}
	t, _ := tallyOf(tx.Bucket(bucketMeta).Get(keyKept)) // it is there since the store was opened
	return store.Kept(t)
}

// over returns the longest ended run behind a key of bucketEnded that need not be kept; nil when all are to be.
func (s *Store) over(tx *bolt.Tx, keep store.Keep, after []byte) *store.Run {
	kept, cursor := s.kept(tx), tx.Bucket(bucketEnded).Cursor()
	for k, _ := cursor.Seek(after); k != nil; k, _ = cursor.Next() {
		var run store.Run
		switch ended := bucketOf(bucketEnded); {
		case bytes.Equal(k, after), !ended.hint(k, &run):
			continue
		case !keep.Over(run.Ended, kept):
			return nil
		}
		if old, err := s.row(tx, bucketHistory, run.Number); err == nil {
			return old
		} // damaged: kept for who repairs the store
	}
	return nil
}

// inherit puts the body that a run had to its account to that of the first run that is left of the message.
func (s *Store) inherit(tx *writeTx, others []int64, size int64) error {
	if size <= 0 {
		return nil
	}
	for _, n := range others {
		for _, bucket := range [][]byte{bucketActive, bucketHistory} {
			if run, err := s.row(tx.Tx, bucket, n); err == nil {
				run.Bytes += size
				return s.again(tx, bucket, run)
			}
		}
	}
	return nil // those that are left are damaged
}
