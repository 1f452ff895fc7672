package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/internal/queue"
)

// Queue is one engine's epoch.
type Queue struct {
	s     *Store
	epoch int64
	left  atomic.Bool
}

var _ store.Queue = (*Queue)(nil)

// freeAtOnce is how many claims of a crashed epoch one commit frees.
const freeAtOnce = 500

// Join begins an epoch.
func (s *Store) Join(ctx context.Context, engine string) (store.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != nil {
		return nil, fmt.Errorf("join as %q: %s: %w", engine, s.db.Path(), store.ErrInUse)
	}
	q := &Queue{s: s}
	err := s.do(ctx, accept, func(tx *bolt.Tx) error {
		last, err := number(tx, bucketMeta, keyEpoch)
		q.epoch = last + 1
		if err != nil {
			return err
		}
		return putNumber(tx, bucketMeta, keyEpoch, q.epoch)
	})
	if err != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, err)
	}
	if err := s.free(ctx, time.Now()); err != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, err)
	}
	s.epoch = q
	return q, nil
}

// accept is the check of operations that are never refused.
func accept(*bolt.Tx) error { return nil }

// free queues the runs again that earlier epochs had claimed.
func (s *Store) free(ctx context.Context, now time.Time) error {
	var claimed []int64
	err := s.view(ctx, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
			if run, err := s.run(bucketActive, k, v); err == nil && run.Status == store.Running {
				claimed = append(claimed, run.Number)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for len(claimed) > 0 {
		page := claimed[:min(len(claimed), freeAtOnce)]
		claimed = claimed[len(page):]
		var freed []queue.Entry
		err := s.do(ctx, accept, func(tx *bolt.Tx) error {
			freed = freed[:0]
			for _, n := range page {
				run, err := s.active(tx, n)
				if err != nil {
					continue // damaged since: it was told to OnCorrupt
				}
				run.Status, run.Epoch, run.Due = store.Queued, 0, now
				run.Crashes++
				if err := putRun(tx, bucketActive, run); err != nil {
					return err
				}
				freed = append(freed, entryOf(run))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range freed {
			s.index.Requeue(e)
		}
	}
	return nil
}

func putRun(tx *bolt.Tx, bucket []byte, run *store.Run) error {
	key := numberKey(run.Number)
	return tx.Bucket(bucket).Put(key, seal(bucket, key, encodeRun(run)))
}

// active reads an active run.
func (s *Store) active(tx *bolt.Tx, n int64) (*store.Run, error) {
	key := numberKey(n)
	value := tx.Bucket(bucketActive).Get(key)
	if value == nil {
		return nil, fmt.Errorf("run %d: %w", n, store.ErrNotFound)
	}
	run, err := s.run(bucketActive, key, value)
	return &run, err
}

// numbers hands out n run numbers in a row.
func (s *Store) numbers(ctx context.Context, n int) (first int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next+int64(n) > s.reserved {
		reserved := s.next + int64(n) + numbersAtOnce
		if err := s.do(ctx, accept, func(tx *bolt.Tx) error { return putNumber(tx, bucketMeta, keyNumbers, reserved) }); err != nil {
			return 0, err
		}
		s.reserved = reserved
	}
	first = s.next
	s.next += int64(n)
	return first, nil
}

// Epoch is the number of this epoch.
func (q *Queue) Epoch() int64 { return q.epoch }

func (q *Queue) alive() error {
	if q.left.Load() {
		return fmt.Errorf("epoch %d has ended: %w", q.epoch, store.ErrClaimLost)
	}
	return nil
}

// Accept stores a message with its runs.
func (q *Queue) Accept(ctx context.Context, a *store.Acceptance) (*store.Receipt, error) {
	s := q.s
	if err := q.alive(); err != nil {
		return nil, err
	}
	first, err := s.numbers(ctx, len(a.Runs))
	if err != nil {
		return nil, err
	}
	receipt := &store.Receipt{}
	claim := a.Claim
	for i, run := range a.Runs {
		run.Number = first + int64(i)
		claim = claim && s.index.Free(run.FlowID, run.Order)
	}
	var message, messageKey []byte
	if m := a.Message; m != nil {
		receipt.Message, messageKey = m.ID, m.ID[:]
		message = seal(bucketMessages, messageKey, encodeMessage(m))
	}
	rows := make([][]byte, len(a.Runs))
	for i, run := range a.Runs {
		run.Status, run.Epoch, run.Attempts = store.Queued, 0, 0
		if claim {
			run.Status, run.Epoch, run.Attempts = store.Running, q.epoch, 1
		} else {
			run.Started, run.Version = time.Time{}, "" // the first claim sets them
		}
		rows[i] = seal(bucketActive, numberKey(run.Number), encodeRun(run))
		receipt.Runs = append(receipt.Runs, store.ReceiptRun{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number})
	}
	check := func(tx *bolt.Tx) error {
		if err := q.alive(); err != nil {
			return err
		}
		if a.Once == nil {
			return nil
		}
		used, ok, err := s.used(tx, a.Once)
		switch {
		case err != nil:
			return err
		case !ok:
			return nil
		case used.bodyHash != a.Once.BodyHash:
			return store.ErrOnce
		}
		*receipt = used.receipt
		receipt.Repeated = true
		return errRepeated
	}
	err = s.do(ctx, check, func(tx *bolt.Tx) error {
		if message != nil {
			if err := tx.Bucket(bucketMessages).Put(messageKey, message); err != nil {
				return err
			}
		}
		for i, run := range a.Runs {
			if err := tx.Bucket(bucketActive).Put(numberKey(run.Number), rows[i]); err != nil {
				return err
			}
			if run.Message != uuid.Nil {
				if err := tx.Bucket(bucketMessageRuns).Put(pairKey(run.Message[:], run.Number), nil); err != nil {
					return err
				}
			}
		}
		if a.Once != nil {
			return s.use(tx, a.Once, receipt)
		}
		return nil
	})
	if errors.Is(err, errRepeated) {
		return receipt, nil
	}
	if err != nil {
		return nil, err
	}
	for _, run := range a.Runs {
		s.index.Add(entryOf(run), claim)
	}
	return receipt, nil
}

// errRepeated ends an operation that was done before.
var errRepeated = errors.New("done before")

// used looks a once-key up.
func (s *Store) used(tx *bolt.Tx, o *store.Once) (once, bool, error) {
	key := nameKey(o.Scope, o.Key)
	value := tx.Bucket(bucketOnce).Get(key)
	if value == nil {
		return once{}, false, nil
	}
	payload, err := s.open(bucketOnce, key, value)
	if err != nil {
		return once{}, false, err
	}
	used, err := decodeOnce(payload)
	return used, err == nil && time.Now().Before(used.until), err
}

// use notes a once-key, and forgets some that are over.
func (s *Store) use(tx *bolt.Tx, o *store.Once, receipt *store.Receipt) error {
	now, until := uint64(time.Now().UnixNano()), tx.Bucket(bucketOnceUntil)
	var over [][]byte
	cursor := until.Cursor()
	for k, _ := cursor.First(); k != nil && len(over) < 4 && binary.BigEndian.Uint64(k) < now; k, _ = cursor.Next() {
		over = append(over, append([]byte(nil), k...))
	}
	for _, k := range over {
		if err := until.Delete(k); err != nil {
			return err
		}
		value := tx.Bucket(bucketOnce).Get(k[8:])
		if payload, err := unseal(bucketOnce, k[8:], value); value != nil && err == nil {
			if used, err := decodeOnce(payload); err == nil && uint64(used.until.UnixNano()) >= now {
				continue // used anew since
			}
		}
		if err := tx.Bucket(bucketOnce).Delete(k[8:]); err != nil {
			return err
		}
	}
	key := nameKey(o.Scope, o.Key)
	if err := tx.Bucket(bucketOnce).Put(key, seal(bucketOnce, key, encodeOnce(o, receipt))); err != nil {
		return err
	}
	return until.Put(append(binary.BigEndian.AppendUint64(nil, uint64(o.Until.UnixNano())), key...), nil)
}

// Claim marks due runs as running.
func (q *Queue) Claim(ctx context.Context, want map[int64]store.Want, limit int, now time.Time) ([]store.Run, time.Time, error) {
	s := q.s
	if err := q.alive(); err != nil {
		return nil, time.Time{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	taken, next := s.index.Take(func(flow int64) int { return want[flow].Runs }, limit, now)
	if len(taken) == 0 {
		return nil, next, s.Health()
	}
	var runs []store.Run
	err := s.do(ctx, func(*bolt.Tx) error { return q.alive() }, func(tx *bolt.Tx) error {
		runs = runs[:0]
		for _, e := range taken {
			run, err := s.active(tx, e.Number)
			if err != nil {
				continue // damaged: it stays out of the way, and was told to OnCorrupt
			}
			run.Status, run.Epoch = store.Running, q.epoch
			run.Attempts++
			if run.Started.IsZero() {
				run.Started, run.Version = now, want[run.FlowID].Version
			}
			if err := putRun(tx, bucketActive, run); err != nil {
				return err
			}
			runs = append(runs, *run)
		}
		return nil
	})
	if err != nil {
		for _, e := range taken {
			s.index.Requeue(e)
		}
		return nil, time.Time{}, err
	}
	for _, e := range taken {
		if !slices.ContainsFunc(runs, func(r store.Run) bool { return r.Number == e.Number }) {
			s.index.Vanished(e)
		}
	}
	return runs, next, nil
}

// Settle writes what became of runs.
func (q *Queue) Settle(ctx context.Context, settlements []*store.Settlement) error {
	s := q.s
	if err := q.alive(); err != nil {
		return err
	}
	var lost []int64
	var settled []*store.Settlement
	err := s.do(ctx, func(*bolt.Tx) error { return q.alive() }, func(tx *bolt.Tx) error {
		lost, settled = lost[:0], settled[:0]
		for _, t := range settlements {
			if !t.Insert {
				held, err := s.active(tx, t.Run.Number)
				if err != nil || held.Status != store.Running || held.Epoch != q.epoch {
					lost = append(lost, t.Run.Number)
					continue
				}
			}
			if err := s.settle(tx, t); err != nil {
				return err
			}
			settled = append(settled, t)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range settled {
		switch {
		case t.Insert:
		case t.Run.Status == store.Queued:
			s.index.Requeue(entryOf(&t.Run))
		default:
			s.index.Done(entryOf(&t.Run), true)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("runs %v: %w", lost, store.ErrClaimLost)
	}
	return nil
}

// settle writes one settlement.
func (s *Store) settle(tx *bolt.Tx, t *store.Settlement) error {
	run := t.Run
	run.Epoch = 0
	if run.Status == store.Queued {
		return putRun(tx, bucketActive, &run)
	}
	key := numberKey(run.Number)
	if !t.Insert {
		if err := tx.Bucket(bucketActive).Delete(key); err != nil {
			return err
		}
	} else if m := t.Message; m != nil {
		if err := tx.Bucket(bucketMessages).Put(m.ID[:], seal(bucketMessages, m.ID[:], encodeMessage(m))); err != nil {
			return err
		}
		if err := tx.Bucket(bucketMessageRuns).Put(pairKey(m.ID[:], run.Number), nil); err != nil {
			return err
		}
	}
	if t.Rejects.Size > 0 || t.Log.Size > 0 {
		if err := tx.Bucket(bucketAttachments).Put(key, seal(bucketAttachments, key, encodeAttachments(t.Rejects, t.Log))); err != nil {
			return err
		}
	}
	return s.record(tx, &run)
}

// record inserts a settled run into the history.
func (s *Store) record(tx *bolt.Tx, run *store.Run) error {
	if err := putRun(tx, bucketHistory, run); err != nil {
		return err
	}
	status := []byte{byte(run.Status)}
	if err := tx.Bucket(bucketByFlow).Put(pairKey(numberKey(run.FlowID), run.Number), status); err != nil {
		return err
	}
	if run.Status != store.Success {
		return tx.Bucket(bucketFailed).Put(numberKey(run.Number), status)
	}
	return nil
}

// NextNumber hands out a run number.
func (q *Queue) NextNumber(ctx context.Context) (int64, error) {
	if err := q.alive(); err != nil {
		return 0, err
	}
	if err := q.s.Health(); err != nil {
		return 0, err
	}
	return q.s.numbers(ctx, 1)
}

// Cancel settles a queued run as canceled.
func (q *Queue) Cancel(ctx context.Context, n int64, now time.Time) (bool, error) {
	s := q.s
	if err := q.alive(); err != nil {
		return false, err
	}
	var run *store.Run
	err := s.do(ctx, func(tx *bolt.Tx) (err error) {
		if run, err = s.active(tx, n); err == nil && run.Status == store.Running {
			err = errClaimed
		}
		return err
	}, func(tx *bolt.Tx) error {
		run.Status, run.Ended, run.Kind = store.Canceled, now, "canceled"
		return s.settle(tx, &store.Settlement{Run: *run})
	})
	if errors.Is(err, errClaimed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.index.Done(entryOf(run), false)
	return true, nil
}

var errClaimed = errors.New("claimed")

// Changed is signalled when something may be claimable.
func (q *Queue) Changed() <-chan struct{} { return q.s.index.Changed() }

// Waiting returns how many runs are queued and claimed.
func (q *Queue) Waiting(ctx context.Context) (queued, running int64, err error) {
	queued, running = q.s.index.Waiting()
	return queued, running, ctx.Err()
}

// Leave ends the epoch.
func (q *Queue) Leave() error {
	if q.left.Swap(true) {
		return nil
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	q.s.epoch = nil
	return nil
}
