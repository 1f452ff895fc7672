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
// A record is a commit: its generation, the generation before, its length and a CRC-32C of these, of its place in the file and of its changes;
// then the changes, then zeros up to a multiple of recordAlign. A change is what a transaction put or deleted: bucket, key and value, each
// behind its length. The last record may be torn: it was never answered then. A gap before another one is damage.
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
	pending    []byte // the record of the commit under way, without its head; empty: nothing is changed
}

const (
	recordHead   = 8 + 8 + 4 + 4
	recordSummed = recordHead - 4
	recordAlign  = 8
	journalGrows = 256 << 10 // bytes of zeros written ahead
	journalKept  = 8 << 20   // bytes that a file keeps whatever a commit has needed once
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

// add puts the changes of an operation into the commit under way.
func (j *journal) add(changes []byte) {
	if len(j.pending) == 0 {
		j.pending = append(j.pending, make([]byte, recordHead)...)
	}
	j.pending = append(j.pending, changes...)
}

// commit makes the commit under way durable. Only room that the file does not get is an error after which it can be tried again.
func (j *journal) commit() error {
	record := j.pending
	if len(record) <= recordHead {
		j.drop()
		return nil
	}
	binary.BigEndian.PutUint64(record, uint64(j.generation))
	binary.BigEndian.PutUint64(record[8:], uint64(j.previous))
	binary.BigEndian.PutUint32(record[16:], uint32(len(record)-recordHead))
	binary.BigEndian.PutUint32(record[recordSummed:], recordSum(record, j.end))
	file, end := j.files[j.at], align(j.end+int64(len(record)))
	if had := j.sizes[j.at]; end > had {
		size := (end + journalGrows) / journalGrows * journalGrows
		if _, err := file.WriteAt(make([]byte, size-had), had); err != nil {
			return fmt.Errorf("make room in the journal: %w", err)
		}
		j.sizes[j.at] = size
	}
	if _, err := file.WriteAt(record, j.end); err != nil {
		return fmt.Errorf("write the journal: %v", err) // not wrapped: some of it may be there, so that it is not to be taken for a full disk
	}
	failpoint.Hit("journal.written")
	if err := syncData(file); err != nil {
		return fmt.Errorf("sync the journal: %v", err)
	}
	j.end = end
	if j.drop(); cap(j.pending) > journalGrows {
		j.pending = nil
	}
	return nil
}

func align(at int64) int64 { return (at + recordAlign - 1) / recordAlign * recordAlign }

// drop forgets the commit under way.
func (j *journal) drop() { j.pending = j.pending[:0] }

// next returns a generation to follow this one.
func (j *journal) next() int64 { return max(time.Now().UnixNano(), j.generation+1) }

// restart begins a generation in the file that does not hold this one.
func (j *journal) restart(generation int64) {
	j.previous, j.generation = j.generation, generation
	j.at, j.end = 1-j.at, 0
	if j.sizes[j.at] > journalKept && j.files[j.at].Truncate(journalKept) == nil {
		j.sizes[j.at] = journalKept
	}
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
			if r.at == 0 { // what stands elsewhere may be of a generation that was written over long ago
				if newest[i] = r.generation; r.generation < last {
					j.previous = max(j.previous, r.generation)
				}
			}
			changed = changed || generation <= r.generation && r.generation <= last
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
	at, end              int64
	changes              []byte
}

// recordsOf returns the records that a file has, of any generation, in their order. Only the one at the file's start, and those of its generation,
// are known for what they are: behind them stands what is left of earlier ones, and the payloads in it may look like anything.
func recordsOf(text []byte) []record {
	var all []record
	for at := int64(0); at+recordHead <= int64(len(text)); {
		r := record{generation: int64(binary.BigEndian.Uint64(text[at:])), previous: int64(binary.BigEndian.Uint64(text[at+8:])), at: at}
		length := int64(binary.BigEndian.Uint32(text[at+16:]))
		if r.generation <= 0 || length > int64(len(text))-at-recordHead {
			at += recordAlign
			continue
		}
		whole := text[at : at+recordHead+length]
		if binary.BigEndian.Uint32(whole[recordSummed:]) != recordSum(whole, at) {
			at += recordAlign
			continue
		}
		at = align(at + int64(len(whole)))
		r.changes, r.end = whole[recordHead:], at
		all = append(all, r)
	}
	return all
}

// follow calls apply with the changes of a generation and of those that follow it, and returns the last of them. What is missing before something
// that is there is told to damaged.
func follow(generation int64, files [2][]record, damaged func(error), apply func(changes []byte) error) (last int64, err error) {
	for {
		next, any := int64(0), false
		for _, records := range files {
			end := int64(0)
			for _, r := range records {
				if r.generation > generation && r.previous == generation {
					next = r.generation
				}
				if r.generation != generation {
					continue
				}
				if end < r.at {
					damaged(fmt.Errorf("%w: the journal, bytes %d to %d", store.ErrCorrupt, end, r.at))
				}
				if err := apply(r.changes); err != nil {
					return 0, err
				}
				end, any = r.end, true
			}
		}
		if next == 0 {
			break
		}
		if !any && generation != 0 { // there is no next one before something was written
			damaged(fmt.Errorf("%w: the journal, all of generation %d", store.ErrCorrupt, generation))
		}
		generation = next
	}
	for _, records := range files {
		if len(records) > 0 && records[0].at == 0 && records[0].generation > generation {
			return 0, fmt.Errorf("%w: the journal goes on from a later state than the database is in: put back all three files of one time, or move the journal's two away",
				store.ErrCorrupt)
		}
	}
	return generation, nil
}
