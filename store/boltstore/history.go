package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// scanPage is how many rows one read transaction looks at.
const scanPage = 512

// Message returns a message.
func (s *Store) Message(ctx context.Context, id uuid.UUID) (m *store.Message, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		m, err = s.message(tx, id)
		return err
	})
	return m, err
}

func (s *Store) message(tx *bolt.Tx, id uuid.UUID) (*store.Message, error) {
	value := tx.Bucket(bucketMessages).Get(id[:])
	if value == nil {
		return nil, fmt.Errorf("message %s: %w", id, store.ErrNotFound)
	}
	payload, err := s.open(bucketMessages, id[:], value)
	if err != nil {
		return nil, err
	}
	return decodeMessage(payload)
}

// numbersOf returns the numbers of a message's runs.
func numbersOf(tx *bolt.Tx, id uuid.UUID) []int64 {
	var numbers []int64
	cursor := tx.Bucket(bucketMessageRuns).Cursor()
	for k, _ := cursor.Seek(id[:]); bytes.HasPrefix(k, id[:]); k, _ = cursor.Next() {
		numbers = append(numbers, int64(binary.BigEndian.Uint64(k[len(id):])))
	}
	return numbers
}

// MessageRuns returns the runs of a message by number.
func (s *Store) MessageRuns(ctx context.Context, id uuid.UUID) (runs []store.Run, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		for _, n := range numbersOf(tx, id) {
			run, err := s.find(tx, n)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			runs = append(runs, *run)
		}
		return nil
	})
	return runs, err
}

// find returns a run, active or settled.
func (s *Store) find(tx *bolt.Tx, n int64) (*store.Run, error) {
	key := numberKey(n)
	for _, bucket := range [][]byte{bucketActive, bucketHistory} {
		if value := tx.Bucket(bucket).Get(key); value != nil {
			run, err := s.run(bucket, key, value)
			return &run, err
		}
	}
	return nil, fmt.Errorf("run %d: %w", n, store.ErrNotFound)
}

// Run returns a run.
func (s *Store) Run(ctx context.Context, n int64) (run *store.Run, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		run, err = s.find(tx, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return run, nil
}

// Runs returns a page of runs, newest first.
func (s *Store) Runs(ctx context.Context, f store.RunFilter) ([]store.Run, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	var runs []store.Run
	below, more := f.Before, true
	for more && len(runs) < f.Limit {
		err := s.view(ctx, func(tx *bolt.Tx) (err error) {
			runs, below, more, err = s.page(tx, f, below, runs)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// page appends the matching runs among the next rows below a number (0: from the newest). more says that there are further rows.
func (s *Store) page(tx *bolt.Tx, f store.RunFilter, below int64, runs []store.Run) (_ []store.Run, next int64, more bool, err error) {
	active := backwards{cursor: tx.Bucket(bucketActive).Cursor()}
	settled := backwards{cursor: tx.Bucket(bucketHistory).Cursor()}
	switch {
	case f.FlowID != 0:
		settled = backwards{cursor: tx.Bucket(bucketByFlow).Cursor(), prefix: numberKey(f.FlowID)}
	case f.Status.Settled() && f.Status != store.Success:
		settled = backwards{cursor: tx.Bucket(bucketFailed).Cursor()}
	}
	active.seek(below)
	settled.seek(below)
	for range scanPage {
		at := &settled
		if active.number > settled.number {
			at = &active
		}
		if at.number == 0 {
			return runs, 0, false, nil
		}
		n := at.number
		below = n
		at.step()
		run, err := s.find(tx, n)
		if errors.Is(err, store.ErrCorrupt) {
			continue // told to OnCorrupt; the others are still there
		}
		if err != nil {
			return runs, 0, false, err
		}
		if f.FlowID != 0 && run.FlowID != f.FlowID || f.Status != 0 && run.Status != f.Status || f.User != "" && run.User != f.User ||
			run.Queued.Before(f.Since) {
			continue
		}
		if runs = append(runs, *run); len(runs) == f.Limit {
			return runs, 0, false, nil
		}
	}
	return runs, below, true, nil
}

// backwards walks over the numbers at the end of a bucket's keys, from the greatest.
type backwards struct {
	cursor *bolt.Cursor
	prefix []byte
	number int64 // 0 at the end
}

func (b *backwards) seek(below int64) {
	if below == 0 {
		below = 1<<63 - 1
	}
	k, _ := b.cursor.Seek(pairKey(b.prefix, below))
	if k == nil {
		k, _ = b.cursor.Last()
		if k != nil && bytes.Compare(k, pairKey(b.prefix, below)) >= 0 {
			k, _ = b.cursor.Prev()
		}
	} else {
		k, _ = b.cursor.Prev()
	}
	b.set(k)
}

func (b *backwards) step() {
	k, _ := b.cursor.Prev()
	b.set(k)
}

func (b *backwards) set(k []byte) {
	b.number = 0
	if k != nil && bytes.HasPrefix(k, b.prefix) {
		b.number = int64(binary.BigEndian.Uint64(k[len(b.prefix):]))
	}
}

// Attachments returns what a run was settled with.
func (s *Store) Attachments(ctx context.Context, n int64) (rejects, log store.Body, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		if _, err := s.find(tx, n); err != nil {
			return err
		}
		rejects, log, err = s.attachments(tx, n)
		return err
	})
	return rejects, log, err
}

func (s *Store) attachments(tx *bolt.Tx, n int64) (rejects, log store.Body, err error) {
	key := numberKey(n)
	value := tx.Bucket(bucketAttachments).Get(key)
	if value == nil {
		return
	}
	payload, err := s.open(bucketAttachments, key, value)
	if err != nil {
		return
	}
	return decodeAttachments(payload)
}

// Erase removes a message's body.
func (s *Store) Erase(ctx context.Context, id uuid.UUID) error {
	var m *store.Message
	var blob uuid.UUID
	err := s.do(ctx, func(tx *bolt.Tx) (err error) {
		m, err = s.message(tx, id)
		return err
	}, func(tx *bolt.Tx) error {
		blob = m.Body.Blob
		m.Body.Inline, m.Body.Blob, m.Erased = nil, uuid.Nil, true
		return tx.Bucket(bucketMessages).Put(id[:], seal(bucketMessages, id[:], encodeMessage(m)))
	})
	if err != nil {
		return err
	}
	s.unlink(blob)
	return nil
}

// Prune removes what ended before a time.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	var blobs []uuid.UUID
	err = s.do(ctx, accept, func(tx *bolt.Tx) error {
		removed, blobs = 0, blobs[:0]
		var old []store.Run
		cursor := tx.Bucket(bucketHistory).Cursor()
		looked := 0
		for k, v := cursor.First(); k != nil && len(old) < limit && looked < limit+scanPage; k, v = cursor.Next() {
			looked++
			run, err := s.run(bucketHistory, k, v)
			if err != nil {
				continue // damaged: kept for who repairs the store
			}
			if !run.Queued.Before(before) {
				break // numbers rise with the time of queueing
			}
			if run.Ended.Before(before) {
				old = append(old, run)
			}
		}
		for i := range old {
			more, err := s.remove(tx, &old[i])
			if err != nil {
				return err
			}
			blobs = append(blobs, more...)
			removed++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, id := range blobs {
		s.unlink(id)
	}
	return removed, nil
}

// remove deletes a settled run, and its message when that has no other run. It returns the blobs that nothing refers to any more.
func (s *Store) remove(tx *bolt.Tx, run *store.Run) (blobs []uuid.UUID, err error) {
	key := numberKey(run.Number)
	rejects, log, err := s.attachments(tx, run.Number)
	if err != nil {
		return nil, nil // damaged: kept for who repairs the store
	}
	for _, b := range []store.Body{rejects, log} {
		if b.Blob != uuid.Nil {
			blobs = append(blobs, b.Blob)
		}
	}
	for bucket, k := range map[string][]byte{string(bucketHistory): key, string(bucketByFlow): pairKey(numberKey(run.FlowID), run.Number),
		string(bucketFailed): key, string(bucketAttachments): key} {
		if err := tx.Bucket([]byte(bucket)).Delete(k); err != nil {
			return nil, err
		}
	}
	if run.Message == uuid.Nil {
		return blobs, nil
	}
	if err := tx.Bucket(bucketMessageRuns).Delete(pairKey(run.Message[:], run.Number)); err != nil {
		return nil, err
	}
	if len(numbersOf(tx, run.Message)) > 0 {
		return blobs, nil
	}
	m, err := s.message(tx, run.Message)
	if err != nil {
		return blobs, nil // gone, or damaged and kept
	}
	if m.Body.Blob != uuid.Nil {
		blobs = append(blobs, m.Body.Blob)
	}
	return blobs, tx.Bucket(bucketMessages).Delete(run.Message[:])
}
