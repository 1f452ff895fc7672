package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
)

// operation is what a caller hands to the writer.
type operation struct {
	check     func(tx *bolt.Tx) error // may refuse it; nil: it is never refused
	apply     func(tx *writeTx) error // writes; fails only when the database does, and all that share its commit with it
	committed func()                  // called once it is durable, in the order of writes; nil: nothing follows
	rides     bool                    // it may wait for others to share their commit, as long as some are on their way
	err       error
	done      chan struct{}
}

// writeTx is the transaction that is open from one checkpoint to the next. What is put and deleted goes through it, for the journal.
type writeTx struct {
	*bolt.Tx
	changes []byte
	kept    tally
	counted bool // kept is of no checkpoint
	active  active
}

func (tx *writeTx) put(bucket, key, value []byte) error {
	tx.changes = appendChange(tx.changes, bucket, key, value, false)
	return tx.change(bucket, key, value, false)
}

func (tx *writeTx) delete(bucket, key []byte) error {
	tx.changes = appendChange(tx.changes, bucket, key, nil, true)
	return tx.change(bucket, key, nil, true)
}

// insert is put of a run into the history, which has none of that number.
func (tx *writeTx) insert(run *store.Run, rejects, log store.Body) error {
	key := numberKey(run.Number)
	value := seal(bucketHistory, key, encodeEnded(run, rejects, log))
	tx.changes = appendChange(tx.changes, bucketHistory, key, value, false)
	tx.kept.Runs++
	tx.kept.Bytes += run.Bytes
	return tx.Bucket(bucketHistory).Put(key, value)
}

// change does what the journal has already.
func (tx *writeTx) change(bucket, key, value []byte, deleted bool) error {
	if tx.active.change(bucket, key, value) {
		return nil
	}
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("%w: the journal has a change of %q, which is not there", store.ErrCorrupt, bucket)
	}
	tx.kept.change(b, bucket, key, value)
	if deleted {
		return b.Delete(key)
	}
	return b.Put(key, value)
}

// do hands an operation to the writer and waits until it is durable. Once it is handed in, ctx cannot end it.
func (s *Store) do(ctx doneContext, op *operation) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	op.done = make(chan struct{})
	select {
	case s.operations <- op:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	}
	select {
	case <-op.done:
	case <-s.ended:
		s.refuse() // it may have been handed in after the writer's last look
		<-op.done
	}
	return op.err
}

// ready refuses what cannot be written.
func (s *Store) ready(ctx doneContext) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); !errors.Is(err, store.ErrFull) { // there may be room again: the write finds out
		return err
	}
	return nil
}

// doneContext is the part of a context that a write looks at.
type doneContext interface {
	Done() <-chan struct{}
	Err() error
}

// view reads: from the open transaction, or the database when none is. What it finds may be of a commit that is being synced, of which nobody
// has been told yet. f must be short: nothing is written meanwhile.
func (s *Store) view(ctx doneContext, f func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.opened.RLock()
	defer s.opened.RUnlock()
	err := s.guard(func() error {
		if s.tx != nil {
			return f(s.tx.Tx)
		}
		if s.lacks {
			if err := s.Health(); err != nil {
				return err
			}
			return fmt.Errorf("%w: what its journal has could not be put into the database", store.ErrUnavailable)
		}
		return s.db.View(f)
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}

// quiet is how long nothing is written before a checkpoint is made for its own sake: so that little is left to do after a crash.
const quiet = time.Second

// write commits what callers hand in, everything that waits in one commit. Nobody is kept waiting by a timer: while one commit is synced, the
// next one gathers.
func (s *Store) write() {
	defer close(s.ended)
	var batch []*operation
	var accepting time.Time // when something was last committed that does not ride
	idle := time.NewTimer(quiet)
	defer idle.Stop()
	for {
		batch = batch[:0]
		select {
		case op := <-s.operations:
			batch = append(batch, op)
		case <-idle.C:
			if !s.isBroken() {
				s.classify(s.guard(s.checkpoint))
			}
			continue
		case <-s.closing:
			s.refuse()
			if !s.isBroken() {
				s.closeErr = s.classify(s.guard(s.checkpoint)) // the journal has what the database lacks
			}
			s.guard(s.abandon)
			return
		}
		if batch = s.join(batch); rides(batch) && time.Since(accepting) < ridesFor {
			batch = s.ride(batch)
		}
		if !rides(batch) {
			accepting = time.Now()
		}
		if s.commit(batch); s.tx != nil {
			if s.journal.end >= checkpointAt && s.health.Load() == nil { // who has an answer now does something meanwhile
				s.classify(s.guard(s.checkpoint))
			}
			idle.Reset(quiet)
		}
	}
}

// joinRounds is how often others get the processor before a commit: each time may take as long as one of them works without a pause.
const joinRounds = 4

// join gathers what is about to be handed in: whoever can go on gets the processor, as long as that brings something, or all that there is rides.
// On an idle machine nobody can, and nothing is waited for.
func (s *Store) join(batch []*operation) []*operation {
	for range joinRounds {
		before := len(batch)
		runtime.Gosched()
		batch = s.gather(batch)
		if len(batch) == before && !rides(batch) {
			break
		}
	}
	return batch
}

// ridesFor is how long what rides waits for something to ride on, where something else was committed as short a time ago.
const ridesFor = time.Millisecond

// ride lets a batch wait that rides.
func (s *Store) ride(batch []*operation) []*operation {
	alarm := time.NewTimer(ridesFor)
	defer alarm.Stop()
	for rides(batch) && len(batch) < commitAtMost {
		select {
		case op := <-s.operations:
			batch = s.join(append(batch, op))
		case <-alarm.C:
			return batch
		case <-s.closing:
			return batch
		}
	}
	return batch
}

// rides reports whether nobody is kept waiting by any of the operations.
func rides(batch []*operation) bool {
	return !slices.ContainsFunc(batch, func(op *operation) bool { return !op.rides })
}

func (s *Store) gather(batch []*operation) []*operation {
	for len(batch) < commitAtMost {
		select {
		case op := <-s.operations:
			batch = append(batch, op)
		default:
			return batch
		}
	}
	return batch
}

// refuse answers what came too late.
func (s *Store) refuse() {
	for {
		select {
		case op := <-s.operations:
			op.err = store.ErrClosed
			close(op.done)
		default:
			return
		}
	}
}

func (s *Store) commit(batch []*operation) {
	err := s.ready(context.Background())
	if err == nil {
		err = s.classify(s.guard(func() error { return s.update(batch) }))
		s.follow(s.batch, err)
	}
	for _, op := range batch {
		if err != nil {
			op.err = err
		} else if op.err == nil && op.committed != nil {
			op.committed()
		}
		close(op.done)
	}
}

// update applies a batch to the open transaction, and makes it durable in the journal. When it fails, the transaction is taken back to what the
// journal has.
func (s *Store) update(batch []*operation) error {
	if s.journal.end >= checkpointAt || s.health.Load() != nil { // where there is no room, the journal's own may be made free
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	whole := false
	defer func() {
		if !whole { // also after a panic
			s.abandon()
			s.begin() // for readers; the fault that led here is the one to tell
		}
	}()
	began := time.Now()
	applied, err := s.apply(batch)
	if err != nil {
		return err
	}
	if err := s.journal.commit(); err != nil {
		return err
	}
	whole = true
	s.commits.Add(1)
	if applied > 0 && s.options.OnCommit != nil {
		s.options.OnCommit(applied, time.Since(began))
	}
	return nil
}

// apply applies a batch to the open transaction, but for what is refused.
func (s *Store) apply(batch []*operation) (applied int, err error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	s.opened.Lock()
	defer s.opened.Unlock()
	s.batch = s.batch[:0]
	for _, op := range batch {
		if op.check != nil {
			if op.err = op.check(s.tx.Tx); op.err != nil {
				continue
			}
		}
		s.tx.changes = s.tx.changes[:0]
		if err := op.apply(s.tx); err != nil {
			return 0, err
		}
		applied++
		s.journal.add(s.tx.changes)
		if s.follower != nil {
			s.batch = append(s.batch, s.tx.changes...)
		}
	}
	return applied, nil
}

// begin opens the transaction that takes changes until the next checkpoint, unless it is open, and puts into it what the journal has.
func (s *Store) begin() error {
	if s.tx != nil {
		return nil
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	whole := false
	defer func() {
		if !whole { // also after a panic
			tx.Rollback()
		}
	}()
	for _, b := range buckets { // all are in bbolt's cache from here on, so that readers change nothing
		tx.Bucket(b.name).FillPercent = fill
	}
	next := &writeTx{Tx: tx, active: beside(tx)}
	if err := next.count(); err != nil {
		return err
	}
	if err := s.journal.again(s.onCorrupt, next.redo); err != nil {
		return err
	}
	whole = true
	s.opened.Lock()
	s.tx, s.lacks = next, false
	s.opened.Unlock()
	return nil
}

// fill is how full a page gets before the next one is begun. Keys rise nearly everywhere, so that a page which is left half empty stays so.
const fill = 0.9

// redo puts changes of the journal into a transaction.
func (tx *writeTx) redo(changes []byte) error { return eachChange(changes, tx.change) }

// checkpoint commits the open transaction to the database, and lets the journal begin anew. When it fails, what was in the transaction goes into
// the next one, from the journal.
func (s *Store) checkpoint() error {
	if s.journal.end == 0 && s.journal.generation != 0 {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	return s.settled()
}

// settled commits the open transaction, from which on the journal's next generation counts.
func (s *Store) settled() error {
	began, size, next := time.Now(), s.journal.end, s.journal.next()
	err := errors.Join(putNumber(s.tx, bucketMeta, keyJournal, next), s.tx.put(bucketMeta, keyKept, s.tx.kept.row()))
	failpoint.Hit("checkpoint.committing")
	if err == nil {
		err = s.end(true)
	}
	if err != nil {
		s.abandon()
		s.begin() // the fault that led here is the one to tell
		return err
	}
	failpoint.Hit("checkpoint.committed")
	s.journal.restart(next)
	if s.options.OnCheckpoint != nil {
		s.options.OnCheckpoint(size, time.Since(began))
	}
	return nil
}

// abandon drops the open transaction, and the commit under way.
func (s *Store) abandon() error {
	s.journal.drop()
	return s.end(false)
}

// end closes the open transaction, by a commit or without.
func (s *Store) end(commit bool) error {
	s.opened.Lock()
	defer s.opened.Unlock()
	tx := s.tx
	if tx == nil {
		return nil
	}
	s.tx, s.lacks = nil, s.journal.end > 0
	defer tx.Rollback() // does nothing after a commit; it reads no page, and gives the database's lock back whatever has failed
	if !commit {
		return nil
	}
	err := tx.active.store(tx.Tx)
	if err == nil {
		err = tx.Commit()
	}
	s.lacks = err != nil
	return err
}

// replay puts into the database what the journal of a crashed engine has.
func (s *Store) replay() error {
	generation := int64(0)
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		generation, err = number(tx, bucketMeta, keyJournal)
		return err
	})
	if err != nil {
		return damaged(s.path(), err)
	}
	if err := s.begin(); err != nil {
		return err
	}
	changed, err := s.journal.recover(generation, s.onCorrupt, s.tx.redo)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", s.dir, err)
	case !changed && generation != 0 && !s.tx.counted: // the engine stopped in order
		return s.abandon()
	}
	if err := s.settled(); err != nil {
		return err
	}
	// The head that could not be read may be the one that this commit has written over, on a bad sector: both have everything.
	return s.db.Update(func(tx *bolt.Tx) error {
		return putNumber(&writeTx{Tx: tx}, bucketMeta, keyJournal, s.journal.generation)
	})
}

// isBroken reports whether the store has failed, so that nothing more goes into its files.
func (s *Store) isBroken() bool {
	err := s.health.Load()
	return err != nil && errors.Is(*err, store.ErrBroken)
}

// classify notes what the end of a commit means for the store.
func (s *Store) classify(err error) error {
	switch {
	case err == nil:
		if full := s.health.Load(); full != nil && errors.Is(*full, store.ErrFull) {
			s.health.CompareAndSwap(full, nil)
		}
		return nil
	case errors.Is(err, store.ErrBroken):
		return err // noted already
	case noRoom(err):
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
		s.health.Store(&err)
		return err
	}
	return s.fail(fmt.Errorf("%w: %w", store.ErrBroken, err))
}

// fail ends all writes. The mark that it leaves makes the next Open verify every value.
func (s *Store) fail(err error) error {
	if !s.isBroken() {
		markErr := copyFile(strings.NewReader(err.Error()+"\n"), filepath.Join(s.dir, markName))
		if errors.Is(markErr, os.ErrExist) {
			markErr = nil
		}
		if markErr = errors.Join(markErr, syncDir(s.dir)); markErr != nil {
			err = fmt.Errorf("%w; this could not be noted (%v): run `integrator store compact` before the store is used again", err, markErr)
		}
		s.health.Store(&err)
	}
	return err
}

// noRoom reports whether a write found no room. A sync that finds none has lost what was written before it: that is another matter.
func noRoom(err error) bool {
	var call *os.PathError
	return errors.As(err, &call) && call.Op != "sync" && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT))
}

// guard makes a panic of the database an error, after which the store takes no more writes: what panics is a page that is damaged, or the
// fault that an I/O error of the mapped file is.
func (s *Store) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = s.fail(fmt.Errorf("%w: %s: %v", store.ErrBroken, s.path(), p))
		}
	}()
	return f()
}
