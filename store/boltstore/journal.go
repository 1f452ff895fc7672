package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
)

// journal is where a commit is durable first. The database takes many commits in one transaction (a checkpoint): each page once, however many
// commits have changed it, and with two syncs for all of them. What the journal holds beyond the last checkpoint is read again when the store is
// opened.
//
// It is two files, for generations in turn. Each checkpoint begins a generation at the start of the other file, over blocks that it has already:
// a sync then writes the commit and nothing else. So the generation before is whole until the next checkpoint is made: should the head of the
// database be damaged that this one has written, the head before it and both files still have everything.
//
// A record is its generation, the generation before, where its commit begins in the file, its length and a CRC-32C of these, of its own place
// and of its changes; then the changes of one operation, then zeros up to a multiple of recordAlign. A change is what a transaction put or
// deleted: bucket, key and value, each behind its length.
//
// A generation is the time at which it began. The database's meta row says which one goes beyond it: a checkpoint is one transaction with
// everything, and the next generation's number. Records of earlier generations are what was not written over yet.
type journal struct {
	files      [2]*os.File
	sizes      [2]int64
	at         int // the file of this generation
	generation int64
	previous   int64
	end        int64  // where the next commit begins
	pending    []byte // records of the commit under way
}

const (
	recordHead   = 8 + 8 + 4 + 4 + 4
	recordSummed = recordHead - 4
	recordAlign  = 8
	journalGrows = 256 << 10 // bytes of zeros written ahead
	checkpointAt = 4 << 20   // bytes in the journal: what a checkpoint spares depends on how much it takes at a time, and what is open in memory too
)

// journalNames are the files of the journal.
var journalNames = [2]string{"integrator.journal.1", "integrator.journal.2"}

// keyJournal is the row of bucketMeta that holds the journal's generation.
var keyJournal = []byte("journal")

func openJournal(dir string) (*journal, error) {
	j := &journal{}
	for i, name := range journalNames {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, fileMode)
		if err == nil {
			j.files[i] = file
			var info os.FileInfo
			if info, err = file.Stat(); err == nil {
				j.sizes[i] = info.Size()
			}
		}
		if err != nil {
			j.close()
			return nil, fmt.Errorf("open the journal: %w", err)
		}
	}
	return j, nil
}

func (j *journal) close() error {
	var all error
	for _, file := range j.files {
		if file != nil {
			all = errors.Join(all, file.Close())
		}
	}
	return all
}

// appendChange appends what was put under a key, or that it was deleted.
func appendChange(b, bucket, key, value []byte, deleted bool) []byte {
	b = binary.AppendUvarint(b, uint64(len(bucket)))
	b = append(b, bucket...)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	if deleted {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(value))+1)
	return append(b, value...)
}

// eachChange calls do for each change. What it passes points into changes.
func eachChange(changes []byte, do func(bucket, key, value []byte, deleted bool) error) error {
	next := func(spare uint64) (text []byte, nothing, ok bool) {
		length, n := binary.Uvarint(changes)
		if n <= 0 {
			return nil, false, false
		}
		changes = changes[n:]
		if length < spare {
			return nil, true, true
		}
		if length -= spare; length > uint64(len(changes)) {
			return nil, false, false
		}
		text, changes = changes[:length:length], changes[length:]
		return text, false, true
	}
	for len(changes) > 0 {
		bucket, _, ok1 := next(0)
		key, _, ok2 := next(0)
		value, deleted, ok3 := next(1)
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("%w: a change in the journal cannot be decoded", store.ErrCorrupt)
		}
		if err := do(bucket, key, value, deleted); err != nil {
			return err
		}
	}
	return nil
}

func recordSum(record []byte, at int64) uint32 {
	sum := crc32.Update(0, castagnoli, record[:recordSummed])
	sum = crc32.Update(sum, castagnoli, binary.BigEndian.AppendUint64(nil, uint64(at)))
	return crc32.Update(sum, castagnoli, record[recordHead:])
}

// add makes the changes of one operation a record of the commit under way.
func (j *journal) add(changes []byte) {
	start := len(j.pending)
	j.pending = binary.BigEndian.AppendUint64(j.pending, uint64(j.generation))
	j.pending = binary.BigEndian.AppendUint64(j.pending, uint64(j.previous))
	j.pending = binary.BigEndian.AppendUint32(j.pending, uint32(j.end))
	j.pending = binary.BigEndian.AppendUint32(j.pending, uint32(len(changes)))
	j.pending = append(append(j.pending, 0, 0, 0, 0), changes...)
	binary.BigEndian.PutUint32(j.pending[start+recordSummed:], recordSum(j.pending[start:], j.end+int64(start)))
	for len(j.pending)%recordAlign != 0 {
		j.pending = append(j.pending, 0)
	}
}

// commit makes the records durable that were added. Only room that the file does not get is an error after which it can be tried again.
func (j *journal) commit() error {
	if len(j.pending) == 0 {
		return nil
	}
	file, end := j.files[j.at], j.end+int64(len(j.pending))
	if had := j.sizes[j.at]; end > had {
		size := (end + journalGrows) / journalGrows * journalGrows
		if _, err := file.WriteAt(make([]byte, size-had), had); err != nil {
			return fmt.Errorf("make room in the journal: %w", err)
		}
		j.sizes[j.at] = size
	}
	if _, err := file.WriteAt(j.pending, j.end); err != nil {
		return fmt.Errorf("write the journal: %v", err) // not wrapped: some of it may be there, so that it is not to be taken for a full disk
	}
	failpoint.Hit("journal.written")
	if err := syncData(file); err != nil {
		return fmt.Errorf("sync the journal: %v", err)
	}
	j.end = end
	j.pending = j.pending[:0]
	if cap(j.pending) > journalGrows {
		j.pending = nil
	}
	return nil
}

// drop forgets the commit under way.
func (j *journal) drop() { j.pending = j.pending[:0] }

// next returns a generation to follow this one.
func (j *journal) next() int64 { return max(time.Now().UnixNano(), j.generation+1) }

// restart begins a generation in the file that does not hold this one.
func (j *journal) restart(generation int64) {
	j.previous, j.generation = j.generation, generation
	j.at, j.end = 1-j.at, 0
}

// again calls apply with the changes of each operation of this generation.
func (j *journal) again(damaged func(error), apply func(changes []byte) error) error {
	text := make([]byte, j.end)
	if _, err := j.files[j.at].ReadAt(text, 0); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	_, err := follow(j.generation, [2][]record{recordsOf(text)}, damaged, apply)
	return err
}

// recover calls apply with the changes that go beyond a database that says generation. changed reports whether there were any.
func (j *journal) recover(generation int64, damaged func(error), apply func(changes []byte) error) (changed bool, err error) {
	var files [2][]record
	for i, file := range j.files {
		text := make([]byte, j.sizes[i])
		if _, err := file.ReadAt(text, 0); err != nil {
			return false, fmt.Errorf("read the journal: %w", err)
		}
		files[i] = recordsOf(text)
	}
	last, err := follow(generation, files, damaged, apply)
	if err != nil {
		return false, err
	}
	j.generation, j.previous = last, 0
	newest := [2]int64{}
	for i, records := range files {
		for _, r := range records {
			if newest[i] = max(newest[i], r.generation); r.generation < last {
				j.previous = max(j.previous, r.generation)
			}
			changed = changed || r.generation >= generation
		}
	}
	// The file that holds the newest generation is this one's, or that of the one before, which stays.
	if newest[1] > newest[0] {
		j.at = 1
	}
	if newest[j.at] != last {
		j.at = 1 - j.at
	}
	return changed, nil
}

// record is a record of a journal.
type record struct {
	generation, previous int64
	begins, at, end      int64
	changes              []byte
}

// recordsOf returns the records that a file has, of any generation, in their order.
func recordsOf(text []byte) []record {
	var all []record
	for at := 0; at+recordHead <= len(text); {
		r := record{generation: int64(binary.BigEndian.Uint64(text[at:])), previous: int64(binary.BigEndian.Uint64(text[at+8:])),
			begins: int64(binary.BigEndian.Uint32(text[at+16:])), at: int64(at)}
		length := int64(binary.BigEndian.Uint32(text[at+20:]))
		if r.generation <= 0 || length > int64(len(text)-at-recordHead) {
			at += recordAlign
			continue
		}
		whole := text[at : at+recordHead+int(length)]
		if binary.BigEndian.Uint32(whole[recordSummed:]) != recordSum(whole, r.at) {
			at += recordAlign
			continue
		}
		at = (at + len(whole) + recordAlign - 1) / recordAlign * recordAlign
		r.changes, r.end = whole[recordHead:], int64(at)
		all = append(all, r)
	}
	return all
}

// follow calls apply with the changes of a generation and of those that follow it, and returns the last of them. Operations of one commit do not
// build upon each other, so that what is left of a torn commit, which was never answered, does no harm. A gap before a later commit is damage,
// and told to damaged.
func follow(generation int64, files [2][]record, damaged func(error), apply func(changes []byte) error) (last int64, err error) {
	for {
		next := int64(0)
		for _, records := range files {
			var gap error // told when a commit after it is found: then it was answered
			gapAt, found := int64(0), int64(0)
			for _, r := range records {
				if r.generation > generation && r.previous == generation {
					next = r.generation
				}
				if r.generation != generation {
					continue
				}
				if found < r.at {
					gap, gapAt = fmt.Errorf("%w: the journal, bytes %d to %d", store.ErrCorrupt, found, r.at), found
				}
				if gap != nil && r.begins > gapAt {
					damaged(gap)
					gap = nil
				}
				if err := apply(r.changes); err != nil {
					return 0, err
				}
				found = r.end
			}
			if gap != nil && next != 0 {
				damaged(gap)
			}
		}
		if next == 0 {
			break
		}
		generation = next
	}
	for _, records := range files {
		for _, r := range records {
			if r.generation > generation {
				return 0, fmt.Errorf("%w: the journal goes on from a later state than the database is in: put back both of one time, or move the journal's two files away",
					store.ErrCorrupt)
			}
		}
	}
	return generation, nil
}
