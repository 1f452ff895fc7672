// Package boltstore keeps a store in a bbolt file, the two files of its journal and a folder of large bodies: they belong together, and a copy
// of one alone is none. It is the store that an engine uses unless it is told otherwise.
//
//	st, err := boltstore.Open("data", nil)
//
// Every write is synced before it is answered, in a journal beside the database; writes of concurrent callers share a commit. The database
// takes what the journal has from time to time, and when a store is opened that was not closed. Every value carries a checksum that is
// verified on every read. One process has the store open at a time; a second one gets store.ErrInUse.
//
// When the disk is full nothing is written and store.ErrFull says so until there is room. When a write or sync of the file fails
// otherwise, or a page of it cannot be read, the store takes no more writes (store.ErrBroken): after a failed sync nobody knows what the disk
// holds. A mark beside the file says so, and the next Open trusts the file again only when it has verified every value into a fresh copy.
//
// [Check], [Compact] and [Repair] take care of a store that nobody has open, [Store.Backup] and [Store.Stats] of one that is open.
package boltstore

import (
	"context"
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

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/internal/queue"
)

// Options are the choices of a store; nil is all defaults.
type Options struct {
	// OnCorrupt is told of every damaged value that was met; nil: nobody is. The caller of the method that asked for it gets
	// store.ErrCorrupt in any case. It is called while the store is locked: it returns soon and does not call the store.
	OnCorrupt func(error)

	// OnCommit is told of each commit: how many operations it made durable together, and how long that took. OnCheckpoint is told how many
	// bytes of the journal the database took, and how long that took. nil: nobody is. The writer calls them: they return soon and do
	// not call the store.
	OnCommit     func(operations int, took time.Duration)
	OnCheckpoint func(journal int64, took time.Duration)

	// MustExist keeps Open from making a store: without one the error wraps store.ErrNotFound.
	MustExist bool
}

const (
	fileName      = "integrator.db"
	fileMode      = 0o600
	folderMode    = 0o700
	blobFolder    = "blobs"
	formatNumber  = 2 // 1: messages do not say which runs came with them, and runs have neither rejects nor log
	oldestFormat  = 1 // that is taken over: its rows mean the same
	writer        = "integrator"
	untouched     = 1 // the transaction that bbolt leaves in a file it has made
	lockTimeout   = 500 * time.Millisecond
	pageSize      = 16 << 10 // of a fresh database file: a checkpoint writes page by page, and messages of one or two KiB leave little of it empty
	initialMmap   = 1 << 30  // address space, not memory: the file is remapped, which waits for readers, only beyond it
	commitAtMost  = 4096     // operations in one commit
	numbersAtOnce = 1000     // run numbers reserved at a time
)

var (
	bucketMeta        = []byte("meta")
	bucketMessages    = []byte("messages")    // uuid → message
	bucketMessageRuns = []byte("messageRuns") // uuid, number → nothing
	bucketActive      = []byte("active")      // number → run
	bucketHistory     = []byte("history")     // number → run
	bucketByFlow      = []byte("byFlow")      // flow, number → nothing; settled runs
	bucketFailed      = []byte("failed")      // number → nothing; settled runs that are not a success
	bucketEnded       = []byte("ended")       // time, number → nothing; settled runs
	bucketAttachments = []byte("attachments") // number → rejects and log
	bucketBlobs       = []byte("blobs")       // uuid → empty payload; blobs that are referred to
	bucketOnce        = []byte("once")        // scope and key → once-key
	bucketOnceUntil   = []byte("onceUntil")   // time, once-key's key → nothing
	bucketCatalog     = []byte("catalog")     // kind and name → entry
	bucketNumbers     = []byte("numbers")     // kind and name → number

	keyFormat  = []byte("format")
	keyWriter  = []byte("writer")
	keyEpoch   = []byte("epoch")
	keyNumbers = []byte("numbers")
)

// Store is a store in a folder.
type Store struct {
	dir       string
	db        *bolt.DB
	options   Options
	onCorrupt func(error)
	index     *queue.Index

	journal *journal
	opened  sync.RWMutex // guards lacks and tx: readers share it, the writer has it to itself while it changes something
	lacks   bool         // the database lacks what the journal has, and tx is not open
	tx      *writeTx     // open from the first change to the next checkpoint; nil: the database has all
	commits atomic.Int64

	operations chan *operation
	follower   *follower // a backup's, or nil; the writer's
	batch      []byte    // what the commit under way changes, when a backup follows it
	pins       pins
	closing    chan struct{}
	ended      chan struct{} // closed when the writer goroutine has ended
	closed     sync.Once
	closeErr   error
	health     atomic.Pointer[error]

	mu       sync.Mutex // guards what follows; runs enter the index while it is held, in the order of their numbers
	epoch    *Queue     // the engine that has joined
	next     int64      // run number handed out next
	reserved int64      // numbers below are reserved durably
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, making both when they are missing. A store that failed when it was last open is verified first, value by
// value, which takes as long as reading and writing its database file. The error wraps store.ErrInUse when another process has it open,
// and says what to do about a file that is damaged or of a newer format.
func Open(dir string, options *Options) (*Store, error) {
	if options == nil {
		options = &Options{}
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); options.MustExist && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no store: %w", dir, store.ErrNotFound)
	}
	if err := makeFolder(filepath.Join(dir, blobFolder)); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	s := &Store{dir: dir, options: *options, onCorrupt: options.OnCorrupt, index: queue.New(), operations: make(chan *operation, commitAtMost),
		closing: make(chan struct{}), ended: make(chan struct{})}
	if s.onCorrupt == nil {
		s.onCorrupt = func(error) {}
	}
	err := s.trust()
	if err != nil {
		return nil, err
	}
	if err = makeFile(s.path()); err != nil {
		return nil, err
	}
	if err = sound(s.path()); err != nil {
		return nil, err
	}
	if s.db, err = openFile(s.path()); err != nil {
		return nil, err
	}
	left, _ := filepath.Glob(s.path() + ".*" + tempSuffix)
	for _, name := range left { // of crashes in makeFile, or of somebody who finds our file in its place
		os.Remove(name)
	}
	if s.journal, err = openJournal(dir); err != nil {
		s.db.Close()
		return nil, err
	}
	err = errors.Join(syncDir(dir), syncDir(filepath.Join(dir, blobFolder)))
	for _, step := range []func() error{s.prepare, s.replay, s.load, s.sweep} {
		if err == nil {
			err = s.guard(step)
		}
	}
	if errors.Is(err, store.ErrBroken) {
		err = damaged(s.path(), err)
	}
	if err != nil {
		s.guard(s.abandon)
		s.journal.close()
		s.db.Close()
		return nil, err
	}
	go s.write() // Close waits for it
	return s, nil
}

// trust verifies a store that failed.
func (s *Store) trust() error {
	mark := filepath.Join(s.dir, markName)
	_, err := os.Stat(mark)
	if err == nil {
		_, err = renew(context.Background(), s.dir, nil, false)
		if errors.Is(err, store.ErrNotFound) { // the file was moved away
			err = os.Remove(mark)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("verify a store that failed: %w", err)
	}
	return nil
}

// makeFile makes a database file where there is none: with another name until it is synced, since one that a loss of power left half written could not be told
// from a damaged one.
func makeFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil // openFile says why it cannot be opened
	}
	name := path + "." + uuid.NewString() + tempSuffix // of our own: somebody else may be making one
	db, err := bolt.Open(name, fileMode, &bolt.Options{PageSize: pageSize, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	defer os.Remove(name)
	if err := db.Close(); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	if os.Link(name, path) == nil {
		return nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil // somebody else was faster
	}
	return os.Rename(name, path) // the file system knows no links
}

// sound looks at what bbolt relies on when it opens a file: where it panics, its mapping would keep the file locked until the process ends.
func sound(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return nil // there is none yet, or openFile says why it cannot be opened
	}
	defer file.Close()
	lock, err := lockFile(path)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	im, err := newImage(file)
	if im.head.root == 0 {
		return damaged(path, err)
	}
	if missing := int64(im.head.high)*im.pageSize - im.size; missing > 0 {
		return damaged(path, fmt.Errorf("%d bytes are missing at its end", missing))
	}
	if _, err := im.free(); err != nil && im.head.freelist != noFreelist {
		return damaged(path, err)
	}
	return nil
}

// openFile opens the database. bbolt panics on some damaged files; the mapping that it leaves keeps the file locked until the process ends.
func openFile(path string) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Errorf("%v", p))
		}
	}()
	var file *os.File
	db, err = bolt.Open(path, fileMode, &bolt.Options{Timeout: lockTimeout, InitialMmapSize: initialMmap, PageSize: pageSize, FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		}})
	if err == nil && !unmoved(file, path) { // a repair had it while we waited for the lock
		db.Close()
		err = bolterrors.ErrTimeout
	}
	var system *os.PathError
	var code syscall.Errno
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, store.ErrInUse)
	case errors.As(err, &system), errors.As(err, &code):
		return nil, fmt.Errorf("open the store: %s: %w", path, err)
	}
	return nil, damaged(path, err)
}

func (s *Store) path() string { return filepath.Join(s.dir, fileName) }

func damaged(path string, err error) error {
	return fmt.Errorf("%s: %w: %w; rescue what is intact with `integrator store repair`, or put a backup in its place", path, store.ErrCorrupt, err)
}

// prepare checks the format of a store, and makes the buckets of a fresh one.
func (s *Store) prepare() error {
	path := s.path()
	fresh, older := false, false
	err := s.db.View(func(tx *bolt.Tx) error {
		if first, _ := tx.Cursor().First(); first == nil {
			if fresh = tx.ID() <= untouched; fresh {
				return nil
			}
		}
		if tx.Bucket(bucketMeta) == nil {
			return fmt.Errorf("%s is damaged or no store of this engine: %w", path, store.ErrCorrupt)
		}
		format, err := number(tx, bucketMeta, keyFormat)
		if err != nil {
			return damaged(path, err)
		}
		if format < oldestFormat || format > formatNumber {
			return otherFormat(path, format)
		}
		older = format < formatNumber
		for _, b := range buckets {
			if tx.Bucket(b.name) == nil {
				return damaged(path, fmt.Errorf("its part %q is missing", b.name))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case fresh:
		return s.db.Update(makeBuckets)
	case older:
		return s.db.Update(func(tx *bolt.Tx) error { return putNumber(&writeTx{Tx: tx}, bucketMeta, keyFormat, formatNumber) })
	}
	return nil
}

func otherFormat(path string, format int64) error {
	return fmt.Errorf("%s has format %d, this engine reads formats %d to %d: open it with the engine that wrote it", path, format, oldestFormat, formatNumber)
}

// makeBuckets makes an empty store.
func makeBuckets(bare *bolt.Tx) error {
	tx := &writeTx{Tx: bare}
	for _, b := range buckets {
		if _, err := tx.CreateBucketIfNotExists(b.name); err != nil {
			return err
		}
	}
	return errors.Join(put(tx, bucketMeta, keyWriter, []byte(writer)), putNumber(tx, bucketMeta, keyFormat, formatNumber),
		tx.put(bucketMeta, keyKept, tally{}.row()))
}

// load fills the index with the active runs and reads the numbers.
func (s *Store) load() error {
	return s.db.View(func(tx *bolt.Tx) error {
		n, err := number(tx, bucketMeta, keyNumbers)
		if err != nil {
			return damaged(s.path(), err)
		}
		for _, bucket := range [][]byte{bucketActive, bucketHistory} { // the number may be gone that says what is reserved
			cursor := tx.Bucket(bucket).Cursor()
			for k, v := cursor.Last(); k != nil; k, v = cursor.Prev() { // of one that is damaged the key may be as well
				if run, err := s.run(bucket, k, v); err == nil {
					n = max(n, run.Number+1)
					break
				}
			}
		}
		s.next, s.reserved = max(n, 1), max(n, 1)
		return tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
			run, err := s.run(bucketActive, k, v)
			if err != nil {
				return nil // told to OnCorrupt; the other runs go on
			}
			e := entryOf(&run)
			s.index.Enter(e)
			if run.Status == store.Running {
				s.index.Claim(e)
			} else {
				s.index.Queue(e)
			}
			return nil
		})
	})
}

func entryOf(r *store.Run) queue.Entry {
	return queue.Entry{Number: r.Number, Flow: r.FlowID, Due: r.Due, Order: r.Order}
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

// Size returns how many bytes the database's file and the journal have. Large bodies come on top.
func (s *Store) Size() (int64, error) {
	size := int64(0)
	for _, name := range []string{fileName, journalNames[0], journalNames[1]} {
		info, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			return 0, fmt.Errorf("look at the store's files: %w", err)
		}
		size += info.Size()
	}
	return size, nil
}

// Close ends the store after the commit that is under way.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.returnNumbers()
		close(s.closing)
		<-s.ended
		s.closeErr = errors.Join(s.closeErr, s.journal.close(), s.db.Close())
	})
	return s.closeErr
}

// unseal returns the payload of a stored value, and tells of a damaged one.
func (s *Store) unseal(bucket, key, value []byte) ([]byte, error) {
	payload, err := unseal(bucket, key, value)
	if err != nil {
		s.onCorrupt(err)
	}
	return payload, err
}

func (s *Store) run(bucket, key, value []byte) (store.Run, error) {
	payload, err := s.unseal(bucket, key, value)
	if err != nil {
		return store.Run{}, err
	}
	return decodeRun(payload)
}

// put stores a small payload.
func put(tx *writeTx, bucket, key, payload []byte) error {
	return tx.put(bucket, key, seal(bucket, key, append(make([]byte, envelopeLength, envelopeLength+len(payload)), payload...)))
}

func putNumber(tx *writeTx, bucket, key []byte, n int64) error {
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

// nameKey keeps a kind's names together, by name.
func nameKey(kind, name string) []byte {
	key := binary.AppendUvarint(make([]byte, 0, 2+len(kind)+len(name)), uint64(len(kind)))
	return append(append(key, kind...), name...)
}

// timeKey orders by time.
func timeKey(t time.Time) []byte {
	if t.IsZero() {
		return make([]byte, 8)
	}
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())^1<<63)
}

// makeFolder makes a folder and those above it, durably.
func makeFolder(path string) error {
	err := os.Mkdir(path, folderMode)
	if errors.Is(err, os.ErrNotExist) {
		if err = makeFolder(filepath.Dir(path)); err == nil {
			err = os.Mkdir(path, folderMode)
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes names in a folder durable.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such call, and journals names
	}
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
