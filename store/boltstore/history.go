package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/internal/failpoint"
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
	payload, err := s.unseal(bucketMessages, id[:], value)
	if err != nil {
		return nil, err
	}
	return decodeMessage(payload)
}

// numbersOf returns the numbers of a message's runs, rising.
func (s *Store) numbersOf(tx *bolt.Tx, id uuid.UUID) []int64 {
	var numbers []int64
	if payload, err := unseal(bucketMessages, id[:], tx.Bucket(bucketMessages).Get(id[:])); err == nil {
		numbers = runsOf(payload)
	}
	cursor := tx.Bucket(bucketMessageRuns).Cursor()
	for k, _ := cursor.Seek(id[:]); bytes.HasPrefix(k, id[:]); k, _ = cursor.Next() {
		numbers = append(numbers, int64(binary.BigEndian.Uint64(k[len(id):])))
	}
	slices.Sort(numbers)
	return numbers
}

// MessageRuns returns the runs of a message by number.
func (s *Store) MessageRuns(ctx context.Context, id uuid.UUID) (runs []store.Run, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		for _, n := range s.numbersOf(tx, id) {
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

// row reads a run of a bucket.
func (s *Store) row(tx *bolt.Tx, bucket []byte, n int64) (*store.Run, error) {
	key := numberKey(n)
	value := s.get(tx, bucket, key)
	if value == nil {
		return nil, fmt.Errorf("run %d: %w", n, store.ErrNotFound)
	}
	run, err := s.run(bucket, key, value)
	if err != nil {
		return nil, err
	}
	return &run, nil
}

// find returns a run, active or settled.
func (s *Store) find(tx *bolt.Tx, n int64) (*store.Run, error) {
	run, err := s.row(tx, bucketActive, n)
	if errors.Is(err, store.ErrNotFound) {
		return s.row(tx, bucketHistory, n)
	}
	return run, err
}

// Run returns a run.
func (s *Store) Run(ctx context.Context, n int64) (run *store.Run, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		run, err = s.find(tx, n)
		return err
	})
	return run, err
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
	case f.Status == store.Queued, f.Status == store.Running:
		settled = backwards{}
	case f.FlowID != 0:
		settled = backwards{cursor: tx.Bucket(bucketByFlow).Cursor(), prefix: numberKey(f.FlowID)}
	case f.Status.Settled() && f.Status != store.Success:
		settled = backwards{cursor: tx.Bucket(bucketFailed).Cursor()}
	}
	if f.Status.Settled() {
		active = backwards{}
	}
	var changed []int64 // of the active ones, since the last checkpoint
	if active.cursor != nil && s.tx != nil {
		active.hidden = s.tx.active.rows
		changed = slices.DeleteFunc(s.tx.active.above(0), func(n int64) bool { return active.hidden[n] == nil })
		if i, _ := slices.BinarySearch(changed, below); below > 0 {
			changed = changed[:i]
		}
	}
	active.seek(below)
	settled.seek(below)
	for range scanPage {
		n := max(active.number, settled.number)
		switch last := len(changed) - 1; {
		case last >= 0 && changed[last] >= n:
			n, changed = changed[last], changed[:last]
		case n == 0:
			return runs, 0, false, nil
		case n == active.number:
			active.step()
		default:
			settled.step()
		}
		below = n
		run, err := s.find(tx, n)
		if err != nil {
			continue // damaged, and told to OnCorrupt; the others are still there
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

// backwards walks over the numbers at the end of a bucket's keys, from the greatest. In a transaction that has deleted keys, bbolt's cursor
// stops going back at a page that has become empty, and never comes back from Last when all have: so it is asked to go on as long as there is
// a key to come to.
type backwards struct {
	cursor *bolt.Cursor     // nil: over nothing
	hidden map[int64][]byte // numbers that are passed over
	prefix []byte
	least  []byte // the first key of the bucket; nil when it has none
	number int64  // 0 at the end
}

func (b *backwards) seek(below int64) {
	if b.cursor == nil {
		return
	}
	first, _ := b.cursor.First()
	b.least = bytes.Clone(first)
	if b.least == nil {
		return
	}
	if below <= 0 {
		below = 1<<63 - 1
	}
	from := pairKey(b.prefix, below)
	if k, _ := b.cursor.Seek(from); k == nil {
		k, _ = b.cursor.Last()
		if b.set(k); b.passed() {
			b.step()
		}
	} else {
		b.back(k)
	}
}

func (b *backwards) step() { b.back(pairKey(b.prefix, b.number)) }

// back goes to the key before the one at which the cursor is.
func (b *backwards) back(from []byte) {
	for bytes.Compare(b.least, from) < 0 {
		if k, _ := b.cursor.Prev(); k != nil {
			if b.set(k); !b.passed() {
				return
			}
			from = bytes.Clone(k)
		}
	}
	b.number = 0
}

// passed reports whether the number is one to be passed over.
func (b *backwards) passed() bool {
	_, hidden := b.hidden[b.number]
	return hidden
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
		if value = tx.Bucket(bucketHistory).Get(key); value != nil {
			var payload []byte
			if payload, err = s.unseal(bucketHistory, key, value); err == nil {
				rejects, log, err = attachedBy(payload)
			}
		}
		return
	}
	payload, err := s.unseal(bucketAttachments, key, value)
	if err != nil {
		return
	}
	return decodeAttachments(payload)
}

// Erase removes a message's body, and what was made of it.
func (s *Store) Erase(ctx context.Context, id uuid.UUID) error {
	var blobs []uuid.UUID
	err := s.do(ctx, &operation{
		check: func(tx *bolt.Tx) error {
			_, err := s.message(tx, id)
			return err
		},
		apply: func(tx *writeTx) (err error) {
			blobs, err = s.erase(tx, id)
			return err
		},
	})
	if err != nil {
		return err
	}
	for _, blob := range blobs {
		s.unlink(blob)
	}
	return nil
}

// erase returns the blobs that nothing refers to any more.
func (s *Store) erase(tx *writeTx, id uuid.UUID) (blobs []uuid.UUID, err error) {
	done := map[uuid.UUID]bool{}
	for todo := []uuid.UUID{id}; len(todo) > 0; todo = todo[1:] {
		m, err := s.message(tx.Tx, todo[0])
		if err != nil || done[m.ID] {
			continue // gone, or damaged and told to OnCorrupt
		}
		done[m.ID] = true
		todo = append(todo, m.Derived...)
		err = disown(tx, m.Body, &blobs)
		m.Body.Inline, m.Body.Blob, m.Erased = nil, uuid.Nil, true
		if err = errors.Join(err, s.putMessage(tx, m, 0)); err != nil {
			return nil, err
		}
		for _, n := range s.numbersOf(tx.Tx, m.ID) {
			if err := s.eraseRejects(tx, n, &blobs); err != nil {
				return nil, err
			}
		}
	}
	return blobs, nil
}

// eraseRejects erases those of a run whose message has no body any more.
func (s *Store) eraseRejects(tx *writeTx, n int64, blobs *[]uuid.UUID) error {
	rejects, log, err := s.attachments(tx.Tx, n)
	if err == nil && rejects.Held() > 0 {
		err := disown(tx, rejects, blobs)
		rejects.Inline, rejects.Blob = nil, uuid.Nil
		key := numberKey(n)
		if tx.Bucket(bucketAttachments).Get(key) != nil {
			err = errors.Join(err, tx.put(bucketAttachments, key, seal(bucketAttachments, key, encodeAttachments(rejects, log))))
		} else if run, runErr := s.row(tx.Tx, bucketHistory, n); runErr == nil {
			err = errors.Join(err, tx.put(bucketHistory, key, seal(bucketHistory, key, encodeEnded(run, rejects, log))))
		}
		if err != nil {
			return err
		}
	}
	for _, bucket := range [][]byte{bucketActive, bucketHistory} {
		run, err := s.row(tx.Tx, bucket, n)
		if err != nil {
			continue
		}
		left := int64(0)
		if run.Status.Settled() {
			left = log.Held()
		}
		if run.Bytes != left {
			run.Bytes = left
			return s.again(tx, bucket, run)
		}
	}
	return nil
}

// disown notes that nothing refers to the blob of a body any more.
func disown(tx *writeTx, b store.Body, blobs *[]uuid.UUID) error {
	if b.Blob == uuid.Nil {
		return nil
	}
	*blobs = append(*blobs, b.Blob)
	return tx.delete(bucketBlobs, b.Blob[:])
}

// sourceOf returns the message of which another holds rejected records; nil when there is none, or it is gone.
func (s *Store) sourceOf(tx *bolt.Tx, m *store.Message) *store.Message {
	if m == nil || m.RejectsOf == 0 {
		return nil
	}
	run, err := s.find(tx, m.RejectsOf)
	if err != nil || run.Message == uuid.Nil {
		return nil
	}
	of, err := s.message(tx, run.Message)
	if err != nil {
		return nil
	}
	return of
}

// add stores a new message, and lets the one that it is derived from know.
func (s *Store) add(tx *writeTx, m *store.Message, row []byte) error {
	err := errors.Join(tx.put(bucketMessages, m.ID[:], row), own(tx, m.Body))
	if of := s.sourceOf(tx.Tx, m); of != nil {
		of.Derived = append(of.Derived, m.ID)
		err = errors.Join(err, s.putMessage(tx, of, 0))
	}
	return err
}

// rowOf is the row of a new message that comes with runs.
func rowOf(m *store.Message, runs []store.Run) []byte {
	fresh := *m
	fresh.Derived = nil
	var own []int64
	for i := range runs {
		if runs[i].Message == m.ID {
			own = append(own, runs[i].Number)
		}
	}
	return seal(bucketMessages, m.ID[:], encodeMessage(&fresh, own...))
}

// putMessage stores a message anew, of whose runs one is gone; 0: none.
func (s *Store) putMessage(tx *writeTx, m *store.Message, gone int64) error {
	payload, err := s.unseal(bucketMessages, m.ID[:], tx.Bucket(bucketMessages).Get(m.ID[:]))
	if err != nil {
		return err
	}
	runs := slices.DeleteFunc(runsOf(payload), func(n int64) bool { return n == gone })
	return tx.put(bucketMessages, m.ID[:], seal(bucketMessages, m.ID[:], encodeMessage(m, runs...)))
}

// Prune removes what need not be kept.
func (s *Store) Prune(ctx context.Context, keep store.Keep, limit int) (removed int, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	some := false
	err = s.view(ctx, func(tx *bolt.Tx) error {
		some = s.over(tx, keep, nil) != nil || s.unwanted(tx, nil, keep.Since) != nil
		return nil
	})
	if err != nil || !some {
		return 0, err
	}
	var blobs []uuid.UUID
	err = s.do(ctx, &operation{apply: func(tx *writeTx) error {
		for after := []byte(nil); removed < limit; removed++ {
			run := s.over(tx.Tx, keep, after)
			if run == nil {
				break
			}
			more, err := s.remove(tx, run)
			if err != nil {
				return err
			}
			blobs = append(blobs, more...)
			after = pairKey(timeKey(run.Ended), run.Number)
		}
		for from := []byte(nil); removed < limit; removed++ {
			m := s.unwanted(tx.Tx, from, keep.Since)
			if m == nil {
				break
			}
			if err := s.drop(tx, m, &blobs); err != nil {
				return err
			}
			from = m.ID[:]
		}
		if len(blobs) > 0 {
			failpoint.Hit("prune.written")
		}
		return nil
	}})
	if err != nil {
		return 0, err
	}
	for _, id := range blobs {
		failpoint.Hit("prune.committed")
		s.unlink(id)
		failpoint.Hit("prune.unlinked")
	}
	return removed, nil
}

// remove deletes a settled run, and its message when that has no other run. It returns the blobs that nothing refers to any more.
func (s *Store) remove(tx *writeTx, run *store.Run) (blobs []uuid.UUID, err error) {
	rejects, log, err := s.attachments(tx.Tx, run.Number)
	if err == nil { // damaged ones go with their run; their blobs stay, whose they are cannot be read
		if err := errors.Join(disown(tx, rejects, &blobs), disown(tx, log, &blobs)); err != nil {
			return nil, err
		}
	}
	key := numberKey(run.Number)
	rows := []struct{ bucket, key []byte }{{bucketHistory, key}, {bucketFailed, key}, {bucketAttachments, key},
		{bucketByFlow, pairKey(numberKey(run.FlowID), run.Number)}, {bucketEnded, pairKey(timeKey(run.Ended), run.Number)}}
	late := pairKey(run.Message[:], run.Number)
	isLate := tx.Bucket(bucketMessageRuns).Get(late) != nil
	if isLate {
		rows = append(rows, struct{ bucket, key []byte }{bucketMessageRuns, late})
	}
	for _, row := range rows {
		if err := tx.delete(row.bucket, row.key); err != nil {
			return nil, err
		}
	}
	if run.Message == uuid.Nil {
		return blobs, nil
	}
	m, err := s.message(tx.Tx, run.Message)
	others := slices.DeleteFunc(s.numbersOf(tx.Tx, run.Message), func(n int64) bool { return n == run.Number })
	switch {
	case err != nil && len(others) == 0:
		return blobs, nil // gone, or damaged and kept
	case len(others) > 0:
		whole := err == nil
		if err = nil; whole && !isLate {
			err = s.putMessage(tx, m, run.Number)
		}
		return blobs, errors.Join(err, s.inherit(tx, others, run.Bytes-rejects.Held()-log.Held()))
	}
	err = s.drop(tx, m, &blobs)
	return blobs, err
}

// drop deletes a message that no run has.
func (s *Store) drop(tx *writeTx, m *store.Message, blobs *[]uuid.UUID) error {
	return errors.Join(disown(tx, m.Body, blobs), tx.delete(bucketMessages, m.ID[:]))
}

// lookedAt is how many old messages are looked at for one that no run has: those before it wait for their runs.
const lookedAt = 1000

// unwanted returns the first message, of those from an id on that came before a time, which no run has; nil without any.
func (s *Store) unwanted(tx *bolt.Tx, from []byte, since time.Time) *store.Message {
	cursor := tx.Bucket(bucketMessages).Cursor()
	k, _ := cursor.Seek(from)
	for n := 0; k != nil && n < lookedAt; n++ {
		m, err := s.message(tx, uuid.UUID(k))
		switch {
		case err != nil: // damaged: kept for who repairs the store
		case !m.ReceivedAt.Before(since): // ids order by time
			return nil
		case len(s.numbersOf(tx, m.ID)) == 0:
			return m
		}
		k, _ = cursor.Next()
	}
	return nil
}
