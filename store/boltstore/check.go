package boltstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/integrator-go/integrator/store"
)

// Fault is one piece of damage.
type Fault struct {
	Bucket string // the part of the store; "" for the file itself
	Key    string // of the row, in words; "" for a page, or a row whose key is not known
	Blob   string // the large body, of damage outside of the database file; "" inside
	Offset int64  // in the file; -1 when it has no place there
	Reason string // on one line
}

// String returns the fault on one line: where it is, then what it is.
func (f Fault) String() string {
	var where []string
	if f.Blob != "" {
		where = append(where, "large body "+f.Blob)
	}
	if f.Bucket != "" {
		where = append(where, strings.TrimSpace(f.Bucket+" "+f.Key))
	}
	if f.Offset >= 0 {
		where = append(where, fmt.Sprintf("at byte %d", f.Offset))
	}
	return strings.Join(append(where, f.Reason), ": ")
}

// Watch is told how work on a store goes on; a nil Watch, and a nil function in it, is nobody. The functions are called by one goroutine and
// return soon.
type Watch struct {
	Fault    func(Fault)      // each fault that is found
	Progress func(read int64) // how many bytes of the file and of large bodies have been read so far
}

// Checked is what a check looked at.
type Checked struct {
	Rows   int64 // intact rows of the database
	Blobs  int64 // large bodies that something refers to
	Bytes  int64 // read
	Faults int64 // 0: the store is in order
}

// Check looks at everything in the store in dir: the structure of the file, each value's checksum and content, each large body, and that
// whatever refers to something else finds it. It changes nothing, needs memory for a few pages, and bears any damage; faults are told to
// watch one by one. The error says that the store could not be checked: it wraps store.ErrInUse when somebody has it open, and
// store.ErrNotFound when there is none.
func Check(ctx context.Context, dir string, watch *Watch) (*Checked, error) {
	in, release, err := hold(ctx, dir, watch)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := in.run(true); err != nil {
		return nil, err
	}
	return &in.checked, nil
}

// inspection looks at a database file that nobody writes to.
type inspection struct {
	ctx     context.Context
	im      *image
	headErr error // of the file's heads
	bodies  *Store
	watch   Watch
	visit   visit
	checked Checked
	bad     map[uuid.UUID]bool           // large bodies that are missing or damaged
	pending map[string]map[string][]byte // by bucket and key: what the journal has beyond the file; nil is deleted
	newest  int64                        // generation of the journal
	ended   tally                        // of the history in the file

	keep func(b *bucket, e element) error  // gets each intact row; nil: nobody
	lose func(f Fault, value []byte) error // gets each fault, with the value when there is one; nil: nobody
	err  error                             // of lose
}

// hold opens the database file of a store that nobody has open, and keeps others from opening it until it is released.
func hold(ctx context.Context, dir string, watch *Watch) (in *inspection, release func(), err error) {
	path := filepath.Join(dir, fileName)
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: there is no store: %w", dir, store.ErrNotFound)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the store: %w", err)
	}
	lock, err := lockFile(path)
	release = func() {
		file.Close()
		if lock != nil {
			lock.Close()
		}
	}
	if err == nil && !unmoved(file, path) {
		err = fmt.Errorf("%s: %w", path, store.ErrInUse) // somebody has put another in its place just now
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	in = inspect(ctx, file, dir, watch)
	if format, err := in.number(bucketMeta, keyFormat); err == nil && format != 0 && (format < oldestFormat || format > formatNumber) {
		release()
		return nil, nil, otherFormat(path, format)
	}
	return in, release, nil
}

func inspect(ctx context.Context, file *os.File, dir string, watch *Watch) *inspection {
	in := &inspection{ctx: ctx, bodies: &Store{dir: dir, onCorrupt: func(error) {}}, bad: map[uuid.UUID]bool{}}
	if watch != nil {
		in.watch = *watch
	}
	in.im, in.headErr = newImage(file)
	in.im.cache = map[uint64]*page{}
	return in
}

// readJournal finds out what goes beyond the file.
func (in *inspection) readJournal() error {
	var files [2][]record
	least := int64(0)
	for i, name := range journalNames {
		text, err := os.ReadFile(filepath.Join(in.bodies.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read the journal: %w", err)
		}
		files[i] = recordsOf(text)
		for _, r := range files[i] {
			in.newest = max(in.newest, r.generation)
			if r.at == 0 && (least == 0 || r.generation < least) {
				least = r.generation
			}
		}
	}
	generation, err := in.number(bucketMeta, keyJournal)
	if err != nil || generation == 0 {
		generation = least // what the file has already comes out the same again
	}
	in.newest = max(in.newest, generation)
	in.pending = map[string]map[string][]byte{}
	told := func(err error) { in.fault(Fault{Offset: -1, Reason: err.Error()}, nil) }
	_, err = follow(generation, files, told, func(changes []byte) error {
		return eachChange(changes, func(bucket, key, value []byte, deleted bool) error {
			of := in.pending[string(bucket)]
			if of == nil {
				of = map[string][]byte{}
				in.pending[string(bucket)] = of
			}
			if !deleted {
				value = append(make([]byte, 0, len(value)), value...) // not nil
			}
			of[string(key)] = value
			return nil
		})
	})
	if err != nil {
		told(err)
	}
	return nil
}

// get returns the value of a row, as the journal or else the file has it; nil without one.
func (in *inspection) get(bucket, key []byte) []byte {
	if value, ok := in.pending[string(bucket)][string(key)]; ok {
		return value
	}
	return in.im.get(bucket, key)
}

// lockFile locks a database file as those do that read only. A file that the database cannot read is not locked, and nobody can open it.
func lockFile(path string) (lock *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			lock, err = nil, nil
		}
	}()
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil, err
	}
	lock, err = bolt.Open(path, fileMode, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, store.ErrInUse)
	}
	return lock, nil
}

// unmoved reports whether a file is still the one that is found under its path.
func unmoved(file *os.File, path string) bool {
	is, err1 := file.Stat()
	found, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(is, found)
}

// fault notes damage.
func (in *inspection) fault(f Fault, value []byte) {
	in.checked.Faults++
	if in.watch.Fault != nil {
		in.watch.Fault(f)
	}
	if in.lose != nil && in.err == nil {
		in.err = in.lose(f, value)
	}
}

// rowFault notes damage of a row.
func (in *inspection) rowFault(b *bucket, e element, value []byte, format string, args ...any) {
	in.fault(Fault{Bucket: string(b.name), Key: b.show(e.key), Offset: e.offset, Reason: fmt.Sprintf(format, args...)}, value)
}

func (in *inspection) progress(bytes int) {
	in.checked.Bytes += int64(bytes)
	if in.watch.Progress != nil {
		in.watch.Progress(in.checked.Bytes)
	}
}

// run looks at everything. Large bodies are read only if blobs is set. The error is none of the store's damage.
func (in *inspection) run(blobs bool) error {
	in.im.read = in.progress
	if err := in.readJournal(); err != nil {
		return err
	}
	if in.headErr != nil {
		in.fault(Fault{Offset: 0, Reason: in.headErr.Error()}, nil)
	}
	in.visit.fault = func(name []byte, offset int64, err error) {
		in.fault(Fault{Bucket: string(name), Offset: offset, Reason: err.Error()}, nil)
	}
	row := func(name []byte, e element) error {
		if err := errors.Join(in.ctx.Err(), in.err); err != nil {
			return err
		}
		b := bucketOf(name)
		if b == nil {
			in.fault(Fault{Bucket: string(name), Offset: e.offset, Reason: "it is no part of a store"}, nil)
			return nil
		}
		held, err := b.unseal(e.key, e.value)
		if err != nil {
			in.rowFault(b, e, e.value, "the value is damaged")
			return nil
		}
		in.checked.Rows++
		in.relate(b, e, held, blobs)
		if in.keep != nil {
			return in.keep(b, e)
		}
		return in.err
	}
	in.visit.row = func(name []byte, e element) error {
		if bytes.Equal(name, bucketHistory) {
			in.ended.add(e.value, 1)
		}
		if _, ok := in.pending[string(name)][string(e.key)]; ok {
			return nil
		}
		return row(name, e)
	}
	if err := in.im.walk(&in.visit); err != nil {
		return err
	}
	in.total()
	for name, of := range in.pending {
		for key, value := range of {
			if value == nil {
				continue
			}
			if err := row([]byte(name), element{key: []byte(key), value: value, offset: -1}); err != nil {
				return err
			}
		}
	}
	if in.im.head.root != 0 {
		in.im.checkFree(&in.visit)
		for _, b := range buckets {
			if !in.visit.hurt && in.im.find(tree{root: in.im.head.root}, b.name) == nil {
				in.fault(Fault{Bucket: string(b.name), Offset: -1, Reason: "this part is missing"}, nil)
			}
		}
	}
	return errors.Join(in.err, in.ctx.Err())
}

// total checks the tally of the history, once all rows of the file were read. Without one, the history is counted when the store is opened.
func (in *inspection) total() {
	value := in.im.get(bucketMeta, keyKept)
	if said, ok := tallyOf(value); ok && said != in.ended && in.checked.Faults == 0 {
		in.rowFault(bucketOf(bucketMeta), element{key: keyKept, offset: -1}, value, "it says %d runs with %d bytes, and there are %d with %d",
			said.Runs, said.Bytes, in.ended.Runs, in.ended.Bytes)
	}
}

// relate checks what an intact row says against the rows and files that it refers to.
func (in *inspection) relate(b *bucket, e element, held any, blobs bool) {
	wrong := func(format string, args ...any) { in.rowFault(b, e, nil, format, args...) }
	has := func(bucket, key []byte) bool { return in.get(bucket, key) != nil }
	switch held := held.(type) {
	case *store.Message:
		if held.Body.Blob == uuid.Nil && !held.Erased && !intact(held.Body) {
			wrong("its payload does not have the size and the SHA-256 that were stored with it")
		}
		for _, n := range runsOf(e.value[envelopeLength:]) {
			if key := numberKey(n); !has(bucketHistory, key) && !has(bucketActive, key) {
				wrong("its run %d is missing", n)
			}
		}
		in.body(b, e, held.Body, blobs)
	case [2]store.Body: // attachments
		if !has(bucketHistory, e.key) && !has(bucketActive, e.key) { // one that is tried again has the log of its attempts
			wrong("the run that it belongs to is missing")
		}
		for _, body := range held {
			in.body(b, e, body, blobs)
		}
	case *store.Run:
		settled := bytes.Equal(b.name, bucketHistory)
		switch {
		case settled != held.Status.Settled():
			wrong("its status is %s", held.Status)
		case !settled && has(bucketHistory, e.key):
			wrong("it is active, and has ended too")
		}
		if held.Message != uuid.Nil && !has(bucketMessages, held.Message[:]) {
			wrong("its message %s is missing", held.Message)
		}
		for i := range buckets {
			index := &buckets[i]
			if index.point == nil {
				continue
			}
			if key := index.point(held); key != nil && !has(index.name, key) && !(bytes.Equal(index.name, bucketMessageRuns) && in.came(held)) {
				wrong("it is missing in %s", index.name)
			}
		}
	case once:
		if !has(bucketOnceUntil, append(timeKey(held.until), e.key...)) {
			wrong("it would never be forgotten: it is missing in %s", bucketOnceUntil)
		}
	case store.Entry:
		if last, err := in.number(bucketMeta, keyVersions); err == nil && last < held.Version {
			wrong("it has version %d, and the last one is said to be %d", held.Version, last)
		}
	case int64: // of numbers
		kind, _, _ := splitName(e.key)
		if last, err := in.number(bucketMeta, nameKey("last", kind)); err == nil && last < held {
			wrong("it is number %d, and the last one is said to be %d", held, last)
		}
	case nil:
		if b.hint != nil && !in.points(b, e.key) {
			wrong("it points at a run that is missing or says otherwise")
		}
	}
}

// came reports whether a message says that a run came with it.
func (in *inspection) came(r *store.Run) bool {
	payload, err := unseal(bucketMessages, r.Message[:], in.get(bucketMessages, r.Message[:]))
	return err == nil && slices.Contains(runsOf(payload), r.Number)
}

// points reports whether the run that a row of an index points at says so too.
func (in *inspection) points(b *bucket, key []byte) bool {
	var said store.Run
	b.hint(key, &said)
	row := numberKey(said.Number)
	for _, name := range [][]byte{bucketHistory, bucketActive} {
		value := in.get(name, row)
		if value == nil {
			continue
		}
		held, err := bucketOf(name).unseal(row, value)
		if err != nil {
			return true // that is told where it lies
		}
		if bytes.Equal(b.point(held.(*store.Run)), key) {
			return true
		}
	}
	return false
}

func (in *inspection) number(bucket, key []byte) (int64, error) {
	value := in.get(bucket, key)
	if value == nil {
		return 0, nil
	}
	payload, err := unseal(bucket, key, value)
	if err != nil {
		return 0, err
	}
	n, _ := binary.Varint(payload)
	return n, nil
}

// intact reports whether an inline body is what was stored. Without a checksum its size alone tells.
func intact(b store.Body) bool {
	return int64(len(b.Inline)) == b.Size && (b.SHA256 == [32]byte{} || sha256.Sum256(b.Inline) == b.SHA256)
}

// body checks the large body that a row refers to.
func (in *inspection) body(b *bucket, e element, body store.Body, read bool) {
	if body.Blob == uuid.Nil {
		return
	}
	in.checked.Blobs++
	if in.get(bucketBlobs, body.Blob[:]) == nil {
		in.rowFault(b, e, nil, "its large body %s is missing in %s", body.Blob, bucketBlobs)
	}
	if !read {
		return
	}
	if err := in.readBlob(body); err != nil && in.ctx.Err() == nil {
		in.bad[body.Blob] = true
		in.fault(Fault{Blob: body.Blob.String(), Bucket: string(b.name), Key: b.show(e.key), Offset: -1, Reason: err.Error()}, nil)
	}
}

// readBlob verifies a large body: each chunk, its size, its SHA-256.
func (in *inspection) readBlob(body store.Body) error {
	info, err := os.Stat(in.bodies.blobPath(body.Blob))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("its file is missing")
	}
	if err != nil {
		return err
	}
	if want := body.Size + chunkHead*((body.Size+chunkSize-1)/chunkSize); info.Size() != want {
		return fmt.Errorf("its file has %d bytes instead of %d", info.Size(), want)
	}
	reader, err := in.bodies.OpenBody(in.ctx, body)
	if err != nil {
		return err
	}
	defer reader.Close()
	sum := sha256.New()
	buffer := make([]byte, chunkSize)
	for {
		n, err := reader.Read(buffer)
		sum.Write(buffer[:n])
		in.progress(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(in.ctx.Err(), err); err != nil {
			return err
		}
	}
	if [32]byte(sum.Sum(nil)) != body.SHA256 {
		return errors.New("it does not have the SHA-256 that was stored with it")
	}
	return nil
}
