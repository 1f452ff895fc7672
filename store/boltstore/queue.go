package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/internal/queue"
)

// Queue is one engine's epoch.
type Queue struct {
	s     *Store
	epoch int64
	left  atomic.Bool
	begun *begun
}

var _ store.Queue = (*Queue)(nil)

// freeAtOnce is how many claims of a crashed epoch one commit frees.
const freeAtOnce = 500

// Join begins an epoch.
func (s *Store) Join(ctx context.Context, engine string) (store.Queue, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != nil {
		return nil, fmt.Errorf("join as %q: %s: %w", engine, s.path(), store.ErrInUse)
	}
	q := &Queue{s: s}
	begun, err := readBegun(s.begunPath())
	if err != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, err)
	}
	err = s.do(ctx, &operation{
		check: func(tx *bolt.Tx) error {
			last, err := number(tx, bucketMeta, keyEpoch)
			q.epoch = last + 1
			return err
		},
		apply: func(tx *writeTx) error { return putNumber(tx, bucketMeta, keyEpoch, q.epoch) },
	})
	failpoint.Hit("join.began")
	if err == nil {
		err = s.free(ctx, begun, time.Now())
	}
	failpoint.Hit("join.freed")
	if err == nil {
		q.begun, err = startBegun(s.begunPath())
	}
	failpoint.Hit("join.renewed")
	if err != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, err)
	}
	s.epoch = q
	return q, nil
}

// free queues the runs again that earlier epochs had claimed; begun holds the attempts that were at work.
func (s *Store) free(ctx context.Context, begun map[int64]int, now time.Time) error {
	for page := range slices.Chunk(s.index.Claimed(), freeAtOnce) {
		var freed []queue.Entry
		err := s.do(ctx, &operation{
			apply: func(tx *writeTx) error {
				for _, n := range page {
					run, err := s.row(tx.Tx, bucketActive, n)
					if err != nil || run.Status != store.Running {
						continue // damaged, or a claim of the ended epoch that will not be written
					}
					run.Status, run.Epoch, run.Due = store.Queued, 0, now
					if begun[n] == run.Attempts {
						run.Crashes++
					} else {
						run.Attempts--
					}
					if err := putRun(tx, bucketActive, run); err != nil {
						return err
					}
					freed = append(freed, entryOf(run))
				}
				return nil
			},
			committed: func() {
				for _, e := range freed {
					s.index.Requeue(e)
				}
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func putRun(tx *writeTx, bucket []byte, run *store.Run) error {
	key := numberKey(run.Number)
	return tx.put(bucket, key, seal(bucket, key, encodeRun(run)))
}

// again stores a run that has a row of a bucket anew, with what else the row has.
func (s *Store) again(tx *writeTx, bucket []byte, run *store.Run) error {
	key := numberKey(run.Number)
	payload, err := s.unseal(bucket, key, s.get(tx.Tx, bucket, key))
	if err != nil {
		return err
	}
	rejects, log, err := attachedBy(payload)
	if err != nil {
		return err
	}
	return tx.put(bucket, key, seal(bucket, key, encodeEnded(run, rejects, log)))
}

// own notes that the blob of a body is referred to, so that it is not swept.
func own(tx *writeTx, b store.Body) error {
	if b.Blob == uuid.Nil {
		return nil
	}
	return put(tx, bucketBlobs, b.Blob[:], nil)
}

// numbers hands out n run numbers in a row. The caller holds mu.
func (s *Store) numbers(ctx context.Context, n int) (first int64, err error) {
	if s.next+int64(n) > s.reserved {
		reserved := s.next + int64(n) + numbersAtOnce
		err := s.do(ctx, &operation{apply: func(tx *writeTx) error { return putNumber(tx, bucketMeta, keyNumbers, reserved) }})
		if err != nil {
			return 0, err
		}
		s.reserved = reserved
	}
	first = s.next
	s.next += int64(n)
	return first, nil
}

// returnNumbers gives back what was reserved and not handed out, so that an orderly stop leaves no gap.
func (s *Store) returnNumbers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == s.reserved {
		return
	}
	next := s.next
	if s.do(context.Background(), &operation{apply: func(tx *writeTx) error { return putNumber(tx, bucketMeta, keyNumbers, next) }}) == nil {
		s.reserved = next // else there is a gap
	}
}

// enter gives runs their numbers and their places in the index. free reports whether each may run at once.
func (s *Store) enter(ctx context.Context, runs []store.Run) (free bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, err := s.numbers(ctx, len(runs))
	if err != nil {
		return false, err
	}
	entries := make([]queue.Entry, len(runs))
	for i := range runs {
		runs[i].Number = first + int64(i)
		entries[i] = entryOf(&runs[i])
	}
	return s.index.Enter(entries...), nil
}

// Epoch is the number of this epoch.
func (q *Queue) Epoch() int64 { return q.epoch }

// alive refuses what comes after Leave.
func (q *Queue) alive(*bolt.Tx) error {
	if q.left.Load() {
		return fmt.Errorf("epoch %d has ended: %w", q.epoch, store.ErrClaimLost)
	}
	return nil
}

// Accept stores a message with its runs.
func (q *Queue) Accept(ctx context.Context, a *store.Acceptance) (*store.Receipt, error) {
	s := q.s
	if err := q.alive(nil); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if a.Once != nil {
		if err := a.Once.Check(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	runs := make([]store.Run, len(a.Runs))
	for i, run := range a.Runs {
		runs[i] = *run
	}
	free, err := s.enter(ctx, runs)
	if err != nil {
		return nil, err
	}
	claim := a.Claim && free
	receipt := &store.Receipt{}
	var message []byte
	if m := a.Message; m != nil {
		receipt.Message = m.ID
		message = rowOf(m, runs)
	}
	rows := make([][]byte, len(runs))
	for i := range runs {
		run := &runs[i]
		if run.Bytes = 0; i == 0 && a.Message != nil {
			run.Bytes = a.Message.Body.Held()
		}
		run.Status, run.Epoch, run.Attempts = store.Queued, 0, 0
		if claim {
			run.Status, run.Epoch, run.Attempts = store.Running, q.epoch, 1
		} else {
			run.Started, run.Version = time.Time{}, "" // the first claim sets them
		}
		rows[i] = seal(bucketActive, numberKey(run.Number), encodeRun(run))
		receipt.Runs = append(receipt.Runs, store.ReceiptRun{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number})
	}
	err = s.do(ctx, &operation{
		check: func(tx *bolt.Tx) error {
			if err := q.alive(tx); err != nil {
				return err
			}
			first, err := s.first(tx, a.Once)
			if err != nil {
				return err
			}
			if first != nil {
				receipt = first
				return errDone
			}
			if of := s.sourceOf(tx, a.Message); of != nil && of.Erased {
				return fmt.Errorf("rejected records of run %d: %w", a.Message.RejectsOf, store.ErrErased)
			}
			if a.Message == nil { // a replay, of what may have been pruned meanwhile
				for i := range runs {
					if id := runs[i].Message; id != uuid.Nil && tx.Bucket(bucketMessages).Get(id[:]) == nil {
						return fmt.Errorf("message %s: %w", id, store.ErrNotFound)
					}
				}
			}
			return nil
		},
		apply: func(tx *writeTx) error {
			if m := a.Message; m != nil {
				if err := s.add(tx, m, message); err != nil {
					return err
				}
			}
			for i := range runs {
				if err := errors.Join(tx.put(bucketActive, numberKey(runs[i].Number), rows[i]), link(tx, &runs[i], a.Message)); err != nil {
					return err
				}
			}
			failpoint.Hit("accept.written")
			if a.Once != nil {
				return s.use(tx, a.Once, receipt)
			}
			return nil
		},
		committed: func() {
			failpoint.Hit("accept.committed")
			for i := range runs {
				if claim {
					s.index.Claim(entryOf(&runs[i]))
				} else {
					s.index.Queue(entryOf(&runs[i]))
				}
			}
		},
	})
	if err != nil {
		for i := range runs {
			s.index.Withdraw(entryOf(&runs[i]))
		}
		if errors.Is(err, errDone) {
			return receipt, nil
		}
		return nil, err
	}
	for i, run := range a.Runs {
		*run = runs[i]
	}
	return receipt, nil
}

// link notes that a run belongs to its message, unless that one comes with it.
func link(tx *writeTx, run *store.Run, with *store.Message) error {
	if run.Message == uuid.Nil || with != nil && with.ID == run.Message {
		return nil
	}
	return tx.put(bucketMessageRuns, pairKey(run.Message[:], run.Number), nil)
}

// errDone refuses an operation that was done before.
var errDone = errors.New("done before")

// first returns the receipt that a once-key was used for; nil without one, or a key that is free.
func (s *Store) first(tx *bolt.Tx, o *store.Once) (*store.Receipt, error) {
	if o == nil {
		return nil, nil
	}
	used, ok, err := s.used(tx, o)
	if err != nil || !ok {
		return nil, err
	}
	if repeated, err := o.Used(used.bodyHash, &used.receipt); err != nil || !repeated {
		return nil, err
	}
	used.receipt.Repeated = true
	return &used.receipt, nil
}

// used looks a once-key up.
func (s *Store) used(tx *bolt.Tx, o *store.Once) (once, bool, error) {
	key := nameKey(o.Scope, o.Key)
	value := tx.Bucket(bucketOnce).Get(key)
	if value == nil {
		return once{}, false, nil
	}
	payload, err := s.unseal(bucketOnce, key, value)
	if err != nil {
		return once{}, false, err
	}
	used, err := decodeOnce(payload)
	return used, err == nil && time.Now().Before(used.until), err
}

// use notes a once-key, and forgets some that are over.
func (s *Store) use(tx *writeTx, o *store.Once, receipt *store.Receipt) error {
	now := timeKey(time.Now())
	var over [][]byte
	cursor := tx.Bucket(bucketOnceUntil).Cursor()
	for k, _ := cursor.First(); k != nil && len(over) < 4 && bytes.Compare(k, now) < 0; k, _ = cursor.Next() {
		over = append(over, bytes.Clone(k))
	}
	for _, k := range over {
		if err := tx.delete(bucketOnceUntil, k); err != nil {
			return err
		}
		if len(k) < len(now) {
			continue // damaged
		}
		key := k[len(now):]
		if payload, err := unseal(bucketOnce, key, tx.Bucket(bucketOnce).Get(key)); err == nil {
			if used, err := decodeOnce(payload); err == nil && bytes.Compare(timeKey(used.until), now) >= 0 {
				continue // used anew since
			}
		}
		if err := tx.delete(bucketOnce, key); err != nil {
			return err
		}
	}
	key := nameKey(o.Scope, o.Key)
	if err := tx.put(bucketOnce, key, seal(bucketOnce, key, encodeOnce(o, receipt))); err != nil {
		return err
	}
	return tx.put(bucketOnceUntil, append(timeKey(o.Until), key...), nil)
}

// Claim marks due runs as running.
func (q *Queue) Claim(ctx context.Context, want map[int64]store.Want, limit int, now time.Time) ([]store.Run, time.Time, error) {
	s := q.s
	if err := q.alive(nil); err != nil {
		return nil, time.Time{}, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, time.Time{}, err
	}
	taken, next := s.index.Take(func(flow int64) int { return want[flow].Runs }, limit, now)
	if len(taken) == 0 {
		return nil, next, nil
	}
	var runs []store.Run
	err := s.do(ctx, &operation{
		check: q.alive,
		apply: func(tx *writeTx) error {
			for _, e := range taken {
				run, err := s.row(tx.Tx, bucketActive, e.Number)
				if err != nil {
					continue // canceled meanwhile; or damaged, and told to OnCorrupt
				}
				run.Status, run.Epoch = store.Running, q.epoch
				run.Attempts++
				if run.Started.IsZero() {
					run.Started, run.Version = now.UTC().Round(0), want[run.FlowID].Version
				}
				if err := putRun(tx, bucketActive, run); err != nil {
					return err
				}
				runs = append(runs, *run)
			}
			failpoint.Hit("claim.written")
			return nil
		},
		committed: func() {
			failpoint.Hit("claim.committed")
			for _, e := range taken {
				if !slices.ContainsFunc(runs, func(r store.Run) bool { return r.Number == e.Number }) {
					s.index.Settle(e)
				}
			}
		},
	})
	if err != nil {
		for _, e := range taken {
			s.index.Requeue(e)
		}
		return nil, time.Time{}, err
	}
	return runs, next, nil
}

// Begin notes that runs are being executed.
func (q *Queue) Begin(ctx context.Context, runs []store.Run) error {
	if err := q.alive(nil); err != nil {
		return err
	}
	if err := q.s.ready(ctx); err != nil {
		return err
	}
	return q.begun.add(runs)
}

// Settle writes what became of runs.
func (q *Queue) Settle(ctx context.Context, settlements []*store.Settlement) error {
	s := q.s
	if err := q.alive(nil); err != nil {
		return err
	}
	var lost []int64
	var settled []*store.Settlement
	var over []uuid.UUID
	err := s.do(ctx, &operation{
		rides: !slices.ContainsFunc(settlements, func(t *store.Settlement) bool { return !t.Rides }),
		check: q.alive,
		apply: func(tx *writeTx) error {
			for _, t := range settlements {
				u := *t
				if u.Run.Bytes = 0; !t.Insert {
					var held bool
					if u.Run.Bytes, held = q.holds(tx.Tx, t.Run.Number); !held {
						lost = append(lost, t.Run.Number)
						continue
					}
					settled = append(settled, t)
				} else if t.Message != nil {
					u.Run.Bytes = t.Message.Body.Held()
				}
				if t.Rejects.Size > 0 && s.isErased(tx.Tx, t.Run.Message) {
					over = append(over, t.Rejects.Blob)
					u.Rejects.Inline, u.Rejects.Blob = nil, uuid.Nil
				}
				if err := s.settle(tx, &u); err != nil {
					return err
				}
			}
			failpoint.Hit("settle.written")
			return nil
		},
		committed: func() {
			failpoint.Hit("settle.committed")
			for _, blob := range over {
				s.unlink(blob)
			}
			for _, t := range settled {
				q.begun.remove(t.Run.Number)
				if t.Run.Status == store.Queued {
					failpoint.Hit("retry.committed")
					s.index.Requeue(entryOf(&t.Run))
				} else {
					s.index.Settle(entryOf(&t.Run))
				}
			}
		},
	})
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("runs %v: %w", lost, store.ErrClaimLost)
	}
	return err
}

// holds reports whether a run is claimed by this epoch, and what its row says of its Bytes. It reads no more of the row than it needs.
func (q *Queue) holds(tx *bolt.Tx, n int64) (size int64, held bool) {
	key := numberKey(n)
	value := q.s.get(tx, bucketActive, key)
	if value == nil {
		return 0, false
	}
	payload, err := q.s.unseal(bucketActive, key, value)
	var status store.Status
	var epoch int64
	if err == nil {
		err = walk(payload, func(tag int, n int64, _ []byte) error {
			switch tag {
			case runStatus:
				status = store.Status(n)
			case runEpoch:
				epoch = n
			case runBytes:
				size = n
			}
			return nil
		})
	}
	return size, err == nil && status == store.Running && epoch == q.epoch
}

// isErased reports whether the body of a message was erased.
func (s *Store) isErased(tx *bolt.Tx, id uuid.UUID) bool {
	if id == uuid.Nil {
		return false
	}
	m, err := s.message(tx, id)
	return err == nil && m.Erased
}

// settle writes one settlement. Bytes of its run is the body of the message that the run has to its account.
func (s *Store) settle(tx *writeTx, t *store.Settlement) error {
	run := t.Run
	run.Epoch = 0
	if run.Status == store.Queued {
		return errors.Join(putRun(tx, bucketActive, &run), attach(tx, t))
	}
	key := numberKey(run.Number)
	if !t.Insert {
		if err := tx.delete(bucketActive, key); err != nil {
			return err
		}
	} else if err := link(tx, &run, t.Message); err != nil {
		return err
	} else if t.Message != nil {
		if err := s.add(tx, t.Message, rowOf(t.Message, []store.Run{run})); err != nil {
			return err
		}
	}
	rejects, log := t.Rejects, t.Log
	apart := !t.Insert && tx.Bucket(bucketAttachments).Get(key) != nil || !fits(rejects, log)
	switch {
	case apart && rejects.Size == 0 && log.Size == 0: // what an earlier settlement brought stays
		rejects, log, _ = s.attachments(tx.Tx, run.Number) // those that are damaged count nothing
	case apart:
		if err := attach(tx, t); err != nil {
			return err
		}
	}
	run.Bytes += rejects.Held() + log.Held()
	if apart {
		rejects, log = store.Body{}, store.Body{}
	}
	if run.Status != store.Success {
		if err := tx.put(bucketFailed, key, nil); err != nil {
			return err
		}
	}
	if err := tx.insert(&run, rejects, log); err != nil {
		return err
	}
	if err := tx.put(bucketByFlow, pairKey(numberKey(run.FlowID), run.Number), nil); err != nil {
		return err
	}
	return tx.put(bucketEnded, pairKey(timeKey(run.Ended), run.Number), nil)
}

// attach keeps the rejects and the log.
func attach(tx *writeTx, t *store.Settlement) error {
	if t.Rejects.Size == 0 && t.Log.Size == 0 {
		return nil
	}
	key := numberKey(t.Run.Number)
	row := seal(bucketAttachments, key, encodeAttachments(t.Rejects, t.Log))
	return errors.Join(tx.put(bucketAttachments, key, row), own(tx, t.Rejects), own(tx, t.Log))
}

// NextNumber hands out a run number.
func (q *Queue) NextNumber(ctx context.Context) (int64, error) {
	if err := q.alive(nil); err != nil {
		return 0, err
	}
	if err := q.s.ready(ctx); err != nil {
		return 0, err
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	return q.s.numbers(ctx, 1)
}

// Cancel settles a queued run as canceled.
func (q *Queue) Cancel(ctx context.Context, n int64, now time.Time) (bool, error) {
	s := q.s
	if err := q.alive(nil); err != nil {
		return false, err
	}
	var run *store.Run
	err := s.do(ctx, &operation{
		check: func(tx *bolt.Tx) (err error) {
			if err := q.alive(tx); err != nil {
				return err
			}
			if run, err = s.row(tx, bucketActive, n); err == nil && run.Status == store.Running {
				err = errClaimed
			}
			return err
		},
		apply: func(tx *writeTx) error {
			run.Status, run.Ended, run.Kind = store.Canceled, now, "canceled"
			failpoint.Hit("cancel.written")
			return s.settle(tx, &store.Settlement{Run: *run})
		},
		committed: func() {
			failpoint.Hit("cancel.committed")
			s.index.Cancel(entryOf(run))
		},
	})
	if errors.Is(err, errClaimed) {
		return false, nil
	}
	return err == nil, err
}

// errClaimed refuses to cancel a run that is claimed.
var errClaimed = errors.New("claimed")

// Changed is signalled when something may be claimable.
func (q *Queue) Changed() <-chan struct{} { return q.s.index.Changed() }

// Waiting returns how many runs are queued and claimed.
func (q *Queue) Waiting(ctx context.Context) (queued, running int64, err error) {
	if err := q.open(ctx); err != nil {
		return 0, 0, err
	}
	queued, running = q.s.index.Waiting()
	return queued, running, nil
}

// Oldest returns the due time of the queued run that is due first.
func (q *Queue) Oldest(ctx context.Context) (time.Time, error) {
	if err := q.open(ctx); err != nil {
		return time.Time{}, err
	}
	return q.s.index.Oldest(), nil
}

// open refuses what only looks at the index.
func (q *Queue) open(ctx context.Context) error {
	if err := errors.Join(q.alive(nil), ctx.Err()); err != nil {
		return err
	}
	if err := q.s.Health(); errors.Is(err, store.ErrClosed) {
		return err
	}
	return nil
}

// Leave ends the epoch.
func (q *Queue) Leave() error {
	if q.left.Swap(true) {
		return nil
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	q.s.epoch = nil
	return q.begun.close()
}
