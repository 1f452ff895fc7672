// Package boltstore keeps a store in one bbolt file and a folder of large bodies beside it. It is the store that an engine uses unless it is
// told otherwise.
//
//	st, err := boltstore.Open("data", nil)
//
// Every write is synced before it is answered; writes of concurrent callers share a commit. Every value carries a checksum that is
// verified on every read. One process has the store open at a time; a second one gets store.ErrInUse.
//
// When the disk is full nothing is written and store.ErrFull says so until there is room. When a write or sync of the file fails
// otherwise, the store takes no more writes (store.ErrBroken): after a failed sync nobody knows what the disk holds, so it is opened anew
// and verified instead of tried again.
package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/internal/queue"
)

// Options are the choices of a store; nil is all defaults.
type Options struct {
	// OnCorrupt is told of every damaged value that was met; nil: nobody is. The caller of the method that met it gets store.ErrCorrupt
	// in any case.
	OnCorrupt func(error)
}

const (
	fileName      = "integrator.db"
	blobFolder    = "blobs"
	formatNumber  = 1
	writer        = "integrator"
	lockTimeout   = 500 * time.Millisecond
	initialMmap   = 1 << 30 // address space, not memory: the file is remapped, which waits for readers, only beyond it
	commitAtMost  = 4096    // operations in one commit
	numbersAtOnce = 1000    // run numbers reserved at a time
)

var (
	bucketMeta        = []byte("meta")
	bucketMessages    = []byte("messages")    // uuid → message
	bucketMessageRuns = []byte("messageRuns") // uuid, number → nothing
	bucketActive      = []byte("active")      // number → run
	bucketHistory     = []byte("history")     // number → run
	bucketByFlow      = []byte("byFlow")      // flow, number → status; settled runs
	bucketFailed      = []byte("failed")      // number → status; settled runs that are not a success
	bucketAttachments = []byte("attachments") // number → rejects and log
	bucketOnce        = []byte("once")        // scope, 0, key → once-key
	bucketOnceUntil   = []byte("onceUntil")   // time, once-key's key → nothing
	bucketCatalog     = []byte("catalog")     // kind, 0, name → entry
	bucketNumbers     = []byte("numbers")     // kind, 0, name → number

	buckets = [][]byte{bucketMeta, bucketMessages, bucketMessageRuns, bucketActive, bucketHistory, bucketByFlow, bucketFailed, bucketAttachments,
		bucketOnce, bucketOnceUntil, bucketCatalog, bucketNumbers}

	keyFormat  = []byte("format")
	keyWriter  = []byte("writer")
	keyEpoch   = []byte("epoch")
	keyNumbers = []byte("numbers")
)

// Store is a store in a folder.
type Store struct {
	dir       string
	db        *bolt.DB
	onCorrupt func(error)
	index     *queue.Index

	operations chan *operation
	closing    chan struct{}
	closed     sync.Once
	closeErr   error
	written    sync.WaitGroup // the writer goroutine
	health     atomic.Pointer[error]

	mu       sync.Mutex // guards what follows
	epoch    *Queue     // the engine that has joined
	next     int64      // run number handed out next
	reserved int64      // numbers below are reserved durably
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, making both when they are missing. The error wraps store.ErrInUse when another process has it open, and
// says what to do about a file that is damaged or of a newer format.
func Open(dir string, options *Options) (*Store, error) {
	if options == nil {
		options = &Options{}
	}
	if err := os.MkdirAll(filepath.Join(dir, blobFolder), 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	path := filepath.Join(dir, fileName)
	_, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, db: db, onCorrupt: options.OnCorrupt, index: queue.New(), operations: make(chan *operation, commitAtMost), closing: make(chan struct{})}
	if s.onCorrupt == nil {
		s.onCorrupt = func(error) {}
	}
	if err := s.prepare(fresh); err != nil {
		db.Close()
		return nil, err
	}
	s.written.Go(s.write)
	return s, nil
}

// openFile opens the database. bbolt may panic on a damaged file.
func openFile(path string) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Errorf("%v", p))
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, InitialMmapSize: initialMmap, FreelistType: bolt.FreelistMapType})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolt.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, store.ErrInUse)
	case errors.Is(err, bolt.ErrInvalid), errors.Is(err, bolt.ErrChecksum), errors.Is(err, bolt.ErrVersionMismatch):
		return nil, damaged(path, err)
	}
	return nil, fmt.Errorf("open the store: %w", err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s: %w: %w; move the file away and put a backup in its place", path, store.ErrCorrupt, err)
}

// prepare checks the format, makes the buckets and reads what is active.
func (s *Store) prepare(fresh bool) error {
	path := s.db.Path()
	err := s.guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			meta := tx.Bucket(bucketMeta)
			if meta == nil {
				if !fresh && tx.Cursor().Bucket().Stats().KeyN > 0 {
					return fmt.Errorf("%s is no store of this engine", path)
				}
				for _, name := range buckets {
					if _, err := tx.CreateBucketIfNotExists(name); err != nil {
						return err
					}
				}
				if err := put(tx, bucketMeta, keyWriter, []byte(writer)); err != nil {
					return err
				}
				return putNumber(tx, bucketMeta, keyFormat, formatNumber)
			}
			format, err := number(tx, bucketMeta, keyFormat)
			if err != nil {
				return damaged(path, err)
			}
			if format != formatNumber {
				return fmt.Errorf("%s has format %d, this engine reads and writes format %d: open it with the engine that wrote it", path, format, formatNumber)
			}
			for _, name := range buckets {
				if tx.Bucket(name) == nil {
					return damaged(path, fmt.Errorf("its part %q is missing", name))
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if fresh {
		if err := syncDir(s.dir); err != nil {
			return err
		}
	}
	if err := s.guard(s.load); err != nil {
		return err
	}
	return s.sweep()
}

// load fills the index with the active runs and reads the numbers.
func (s *Store) load() error {
	return s.db.View(func(tx *bolt.Tx) error {
		n, err := number(tx, bucketMeta, keyNumbers)
		if err != nil {
			return damaged(s.db.Path(), err)
		}
		s.next, s.reserved = max(n, 1), max(n, 1)
		return tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
			run, err := s.run(bucketActive, k, v)
			if err != nil {
				return nil // told to OnCorrupt; the other runs go on
			}
			s.index.Add(entryOf(&run), run.Status == store.Running)
			return nil
		})
	})
}

func entryOf(r *store.Run) queue.Entry {
	return queue.Entry{Number: r.Number, Flow: r.FlowID, Due: r.Due, Order: r.Order}
}

// operation is one caller's write. check looks whether it can be done and may refuse it; apply writes and fails only when the database
// does.
type operation struct {
	check func(tx *bolt.Tx) error
	apply func(tx *bolt.Tx) error
	err   error
	done  chan struct{}
}

// do hands a write to the writer and waits until it is durable. Once the writer has taken it, ctx cannot end it.
func (s *Store) do(ctx doneContext, check, apply func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil && !errors.Is(err, store.ErrFull) {
		return err
	}
	op := &operation{check: check, apply: apply, done: make(chan struct{})}
	select {
	case s.operations <- op:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	}
	select {
	case <-op.done:
		return op.err
	case <-s.closing:
		<-op.done // the writer answers everything before it ends
		return op.err
	}
}

// doneContext is the part of a context that a write looks at.
type doneContext interface {
	Done() <-chan struct{}
	Err() error
}

// write commits what callers hand in, everything that waits in one commit. There is no timer: while one commit is synced, the next one
// gathers.
func (s *Store) write() {
	debug.SetPanicOnFault(true) // an I/O error of the mapped file is a fault, not a crash
	var batch []*operation
	for {
		batch = batch[:0]
		select {
		case op := <-s.operations:
			batch = append(batch, op)
		case <-s.closing:
			s.refuse()
			return
		}
		for range 2 { // who is about to hand in gets the processor once
			batch = s.gather(batch)
			runtime.Gosched()
		}
		batch = s.gather(batch)
		s.commit(batch)
	}
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
	err := s.Health()
	if errors.Is(err, store.ErrFull) {
		err = nil // there may be room again: this commit finds out
	}
	if err == nil {
		err = s.guard(func() error {
			return s.db.Update(func(tx *bolt.Tx) error {
				for _, op := range batch {
					if op.err = op.check(tx); op.err != nil {
						continue
					}
					if err := op.apply(tx); err != nil {
						return err
					}
				}
				return nil
			})
		})
		err = s.classify(err)
	}
	for _, op := range batch {
		if err != nil {
			op.err = err
		}
		close(op.done)
	}
}

// classify notes what a failed commit means for the store.
func (s *Store) classify(err error) error {
	switch {
	case err == nil:
		if s.health.Load() != nil {
			s.health.Store(nil)
		}
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	case errors.Is(err, bolt.ErrDatabaseNotOpen):
		err = store.ErrClosed
	default:
		err = fmt.Errorf("%w: %w", store.ErrBroken, err)
	}
	s.health.Store(&err)
	return err
}

// guard makes a panic of the database an error.
func (s *Store) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", store.ErrBroken, p)
		}
	}()
	return f()
}

// view reads in one transaction. f must be short: no reader may keep a writer waiting.
func (s *Store) view(ctx doneContext, f func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.guard(func() error { return s.db.View(f) })
	if errors.Is(err, bolt.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}

// Health returns nil while the store takes writes.
func (s *Store) Health() error {
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
	}
	if err := s.health.Load(); err != nil {
		return *err
	}
	return nil
}

// Close ends the store after the commit that is under way.
func (s *Store) Close() error {
	s.closed.Do(func() {
		close(s.closing)
		s.written.Wait()
		s.refuse()
		s.closeErr = s.db.Close()
	})
	return s.closeErr
}

// open returns the payload of a stored value, and tells of a damaged one.
func (s *Store) open(bucket, key, value []byte) ([]byte, error) {
	payload, err := unseal(bucket, key, value)
	if err != nil {
		s.onCorrupt(err)
	}
	return payload, err
}

func (s *Store) run(bucket, key, value []byte) (store.Run, error) {
	payload, err := s.open(bucket, key, value)
	if err != nil {
		return store.Run{}, err
	}
	return decodeRun(payload)
}

// put stores a small payload.
func put(tx *bolt.Tx, bucket, key, payload []byte) error {
	return tx.Bucket(bucket).Put(key, seal(bucket, key, append(make([]byte, envelopeLength, envelopeLength+len(payload)), payload...)))
}

func putNumber(tx *bolt.Tx, bucket, key []byte, n int64) error {
	return put(tx, bucket, key, binary.AppendVarint(nil, n))
}

// number reads what putNumber wrote; 0 when there is nothing.
func number(tx *bolt.Tx, bucket, key []byte) (int64, error) {
	value := tx.Bucket(bucket).Get(key)
	if value == nil {
		return 0, nil
	}
	payload, err := unseal(bucket, key, value)
	if err != nil {
		return 0, err
	}
	n, size := binary.Varint(payload)
	if size <= 0 {
		return 0, fmt.Errorf("%w: %s %s is no number", store.ErrCorrupt, bucket, strconv.Quote(string(key)))
	}
	return n, nil
}

// numberKey orders by number.
func numberKey(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// pairKey orders by a, then b.
func pairKey(a []byte, b int64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, len(a)+8), a...), uint64(b))
}

// nameKey keeps a kind's names together. Kinds hold no zero byte.
func nameKey(kind, name string) []byte {
	return append(append(append(make([]byte, 0, len(kind)+1+len(name)), kind...), 0), name...)
}

// syncDir makes names in a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	return nil
}
