package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/integrator-go/integrator/store"
)

const (
	freshName   = fileName + ".new"
	markName    = fileName + ".unverified" // the file failed; it is trusted again when every value has been verified into a fresh copy
	damagedName = "damaged-"               // and the time: what a repair has put aside
	fillAtMost  = 8 << 20                  // bytes in one commit of a fresh file
	mendAtOnce  = 1000                     // rows in one commit of a mend
)

// Sizes are those of a database file before and after it was made anew.
type Sizes struct{ Before, After int64 }

// Compact makes the database file of the store in dir anew, without the room that what was removed has left. The fresh file is synced and
// each value in it verified before it takes the place of the old one, which is gone then; until then nothing is changed. A damaged store is
// left as it is: the error wraps store.ErrCorrupt. It wraps store.ErrInUse when somebody has the store open, and store.ErrNotFound when
// there is none. There must be room for both files.
func Compact(ctx context.Context, dir string, watch *Watch) (Sizes, error) {
	r, err := renew(ctx, dir, watch, false)
	if err != nil {
		return Sizes{}, err
	}
	return r.Sizes, nil
}

// Repaired is what a repair has done.
type Repaired struct {
	Sizes
	Rows   int64       // brought into the fresh file
	Faults int64       // found; 0: nothing was put aside
	Aside  string      // folder with the old file, damaged values and bodies, and report.txt that names each; "" without faults
	Failed int64       // runs that ended in error because what they need is lost
	Replay []uuid.UUID // messages that are intact and whose runs are not, or not known: to be replayed by whoever knows that they may be
}

// Repair brings every intact value of the store in dir into a fresh file. What refers to something lost is mended, so that runs whose message is
// intact go on at the next start: indexes are made anew; a run without its payload ends in error; of a run whose row is damaged, what is left
// becomes a run that ended in error, and its message is listed for replay. The old file, damaged values and damaged bodies are put aside in
// a folder beside it. Nothing is changed before the fresh file has been synced and verified.
//
// Where pages of the file's structure are damaged, values are searched in all pages that nothing reaches: if the list of free pages is damaged
// too, some that had been removed may come back, payloads that were erased among them: report.txt says so then. Errors are those of Compact
// but for store.ErrCorrupt, which says that nothing of a store was found.
func Repair(ctx context.Context, dir string, watch *Watch) (*Repaired, error) {
	return renew(ctx, dir, watch, true)
}

// renew puts a verified copy in the place of a store's file. Damage is an error unless it is to be repaired.
func renew(ctx context.Context, dir string, watch *Watch, repair bool) (*Repaired, error) {
	in, release, err := hold(ctx, dir, watch)
	if err != nil {
		return nil, err
	}
	defer release()
	path, freshPath := filepath.Join(dir, fileName), filepath.Join(dir, freshName)
	db, err := makeFresh(freshPath)
	if err != nil {
		return nil, fmt.Errorf("make a fresh file: %w", err)
	}
	aside, swapped := &quarantine{dir: dir}, false
	defer func() {
		db.Close() // also when it is closed already
		aside.close(swapped)
		if !swapped {
			os.Remove(freshPath)
		}
	}()
	result := &Repaired{}
	result.Before = in.im.size
	fill := &filler{db: db}
	defer fill.abandon()
	in.keep = func(b *bucket, e element) error { return fill.put(b.name, e.key, e.value) }
	if repair {
		in.lose = aside.lose
	}
	if err := in.run(repair); err != nil {
		return nil, err
	}
	if in.checked.Faults > 0 && !repair {
		return nil, damaged(path, fmt.Errorf("%d faults were found", in.checked.Faults))
	}
	if in.visit.hurt {
		if err := in.salvage(fill); err != nil {
			return nil, err
		}
		if _, err := in.im.free(); err != nil {
			aside.note("values were searched in free pages too: some that had been removed, payloads that were erased among them, may have come back")
		}
	}
	if err := fill.commit(); err != nil {
		return nil, err
	}
	if in.checked.Faults > 0 {
		if fill.rows == 0 {
			return nil, fmt.Errorf("%s: nothing of a store was found in it: %w", path, store.ErrCorrupt)
		}
		m := &mender{ctx: ctx, fill: fill, bad: in.bad, hurt: in.visit.hurt, note: aside.note, result: result, now: time.Now().UTC(),
			bodiless: map[uuid.UUID]bool{}, lost: map[int64]*store.Run{}, names: map[int64]string{}}
		if err := errors.Join(m.mend(), aside.err); err != nil {
			return nil, fmt.Errorf("mend the store: %w", err)
		}
		if err := aside.bodies(db); err != nil {
			return nil, err
		}
	}
	if err := fill.finish(max(time.Now().UnixNano(), in.newest+1)); err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	if result.Rows, result.After, err = verify(ctx, dir, freshPath); err != nil {
		return nil, err
	}
	result.Faults = in.checked.Faults
	if result.Faults > 0 {
		if result.Aside, err = aside.old(path); err != nil {
			return nil, err
		}
	}
	if runtime.GOOS == "windows" {
		release() // a file that is open has no name to give there
	}
	if err := os.Rename(freshPath, path); err != nil {
		return nil, fmt.Errorf("put the fresh file in its place: %w", err)
	}
	swapped = true
	if err := syncDir(dir); err != nil { // before the mark goes, and the journal
		return nil, err
	}
	for _, name := range journalNames { // nothing in them goes beyond the fresh file
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.Remove(filepath.Join(dir, markName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return result, nil
}

// makeFresh makes an empty store's file. It is locked, so that one makes it at a time.
func makeFresh(path string) (*bolt.DB, error) {
	options := &bolt.Options{Timeout: lockTimeout, InitialMmapSize: initialMmap, PageSize: pageSize, FreelistType: bolt.FreelistMapType}
	left, err := bolt.Open(path, fileMode, &bolt.Options{Timeout: lockTimeout, ReadOnly: true}) // of one that was interrupted
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, store.ErrInUse)
	}
	if err == nil {
		left.Close()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, err := bolt.Open(path, fileMode, options)
	if err != nil {
		return nil, err
	}
	db.AllocSize = 0 // no room to grow
	if err := db.Update(makeBuckets); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// verify checks a database file that was just written, large bodies aside, and returns how many rows and bytes it has.
func verify(ctx context.Context, dir, path string) (rows, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	var first *Fault
	in := inspect(ctx, file, dir, &Watch{Fault: func(f Fault) {
		if first == nil {
			first = &f
		}
	}})
	if err := in.run(false); err != nil {
		return 0, 0, err
	}
	if first != nil {
		return 0, 0, fmt.Errorf("the copy is not in order, everything stays as it was: %w: %v", store.ErrCorrupt, *first)
	}
	return in.checked.Rows, in.im.size, nil
}

// filler writes rows in commits of some size.
type filler struct {
	db   *bolt.DB
	tx   *bolt.Tx
	size int // of what is not committed yet
	rows int // that were put
	kept tally
}

func (f *filler) bucket(name []byte) (*bolt.Bucket, error) {
	if f.tx == nil {
		tx, err := f.db.Begin(true)
		if err != nil {
			return nil, err
		}
		f.tx = tx
	}
	b := f.tx.Bucket(name)
	b.FillPercent = 1 // rows come in their order
	return b, nil
}

func (f *filler) put(name, key, value []byte) error {
	b, err := f.bucket(name)
	if err != nil {
		return err
	}
	f.kept.change(b, name, key, value)
	if err := b.Put(key, value); err != nil {
		return err
	}
	f.rows++
	return f.grow(len(key) + len(value))
}

func (f *filler) remove(name, key []byte) error {
	b, err := f.bucket(name)
	if err != nil {
		return err
	}
	f.kept.change(b, name, key, nil)
	if err := b.Delete(key); err != nil {
		return err
	}
	return f.grow(len(key))
}

func (f *filler) grow(n int) error {
	if f.size += n; f.size < fillAtMost {
		return nil
	}
	return f.commit()
}

func (f *filler) commit() error {
	tx := f.tx
	if f.tx, f.size = nil, 0; tx == nil {
		return nil
	}
	if err := tx.Commit(); err != nil {
		tx.Rollback()
		return err
	}
	return nil
}

// finish ends the file: no journal goes beyond it, and both of its heads have everything.
func (f *filler) finish(generation int64) error {
	for range 2 {
		err := errors.Join(f.put(bucketMeta, keyJournal, seal(bucketMeta, keyJournal, number64(generation))), f.put(bucketMeta, keyKept, f.kept.row()))
		if err != nil {
			return err
		}
		if err := f.commit(); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) abandon() {
	if f.tx != nil {
		f.tx.Rollback()
	}
}

// salvage brings in the values of pages that nothing reaches any more. Which bucket they are of, their checksum tells.
func (in *inspection) salvage(fill *filler) error {
	return in.im.orphans(&in.visit, func(e element) error {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		for i := range buckets {
			b := &buckets[i]
			if b.decode == nil {
				continue // made anew
			}
			held, err := b.unseal(e.key, e.value)
			if err != nil {
				continue
			}
			if _, ok := in.pending[string(b.name)][string(e.key)]; ok {
				return nil
			}
			to, err := fill.bucket(b.name)
			if err != nil {
				return err
			}
			if was := to.Get(e.key); was != nil {
				if before, err := b.unseal(e.key, was); err == nil && !later(held, before) {
					return nil
				}
			}
			return fill.put(b.name, e.key, e.value)
		}
		return nil
	})
}

// later reports whether a value of a row was written after another that is known. Where nothing tells, what is there stays.
func later(a, b any) bool {
	switch a := a.(type) {
	case *store.Run:
		b := b.(*store.Run)
		return a.Attempts > b.Attempts || a.Attempts == b.Attempts && a.Due.After(b.Due)
	case *store.Message:
		return a.Erased
	case store.Entry:
		return a.Version > b.(store.Entry).Version
	case once:
		return a.until.After(b.(once).until)
	}
	return false
}

// quarantine is the folder of what a repair puts aside. It is made for the first fault.
type quarantine struct {
	dir, path string
	report    *os.File
	values    int
	err       error // of the report
}

func (q *quarantine) open() error {
	if q.report != nil {
		return nil
	}
	q.path = filepath.Join(q.dir, damagedName+time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.Mkdir(q.path, folderMode); err != nil {
		return fmt.Errorf("put damage aside: %w", err)
	}
	var err error
	q.report, err = os.OpenFile(filepath.Join(q.path, "report.txt"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("put damage aside: %w", err)
	}
	return nil
}

// lose notes a fault, and keeps the bytes of a damaged value.
func (q *quarantine) lose(f Fault, value []byte) error {
	if err := q.open(); err != nil {
		return err
	}
	line := f.String()
	if value != nil {
		q.values++
		name := filepath.Join("values", strconv.Itoa(q.values))
		if err := os.MkdirAll(filepath.Join(q.path, "values"), folderMode); err != nil {
			return fmt.Errorf("put damage aside: %w", err)
		}
		if err := os.WriteFile(filepath.Join(q.path, name), value, fileMode); err != nil {
			return fmt.Errorf("put damage aside: %w", err)
		}
		line += ": kept as " + filepath.ToSlash(name)
	}
	q.note("%s", line)
	return q.err
}

// note adds a line to the report.
func (q *quarantine) note(format string, args ...any) {
	if _, err := fmt.Fprintf(q.report, format+"\n", args...); q.err == nil {
		q.err = err
	}
}

// bodies moves the large bodies away that the mended store does not refer to, intact or not: those of lost rows may be wanted.
func (q *quarantine) bodies(db *bolt.DB) error {
	return filepath.WalkDir(filepath.Join(q.dir, blobFolder), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || err == nil && (d.IsDir() || strings.HasSuffix(path, tempSuffix)) {
			return nil
		}
		if err != nil {
			return err
		}
		owned := false
		if id, err := uuid.Parse(d.Name()); err == nil {
			err = db.View(func(tx *bolt.Tx) error {
				owned = tx.Bucket(bucketBlobs).Get(id[:]) != nil
				return nil
			})
			if err != nil {
				return err
			}
		}
		if owned {
			return nil
		}
		if err := errors.Join(q.open(), os.MkdirAll(filepath.Join(q.path, blobFolder), folderMode)); err != nil {
			return err
		}
		// A second name, not a move: until the fresh file is in its place, the old one refers to it. What is left is swept at the next start.
		return second(path, filepath.Join(q.path, blobFolder, d.Name()))
	})
}

// old keeps the old file, and makes all that was put aside durable.
func (q *quarantine) old(path string) (aside string, err error) {
	err = errors.Join(second(path, filepath.Join(q.path, fileName)), q.report.Sync())
	folders := []string{q.dir, q.path, filepath.Join(q.path, "values"), filepath.Join(q.path, blobFolder)}
	for _, folder := range folders {
		if _, statErr := os.Stat(folder); statErr == nil {
			err = errors.Join(err, syncDir(folder))
		}
	}
	return q.path, err
}

// close ends the report. What was put aside is kept where it is all there is, after the fresh file has taken its place.
func (q *quarantine) close(keep bool) {
	if q.report != nil {
		q.report.Close()
	}
	if q.path != "" && !keep {
		os.RemoveAll(q.path)
	}
}

// second gives a file a second name, as a copy where the file system knows no links.
func second(path, name string) error {
	if os.Link(path, name) == nil {
		return nil
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	return copyFile(from, name)
}

// copyFile makes a file, synced.
func copyFile(from io.Reader, name string) error {
	to, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close())
}
