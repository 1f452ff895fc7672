package boltstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
)

// journal is the file in which a commit is durable first. The database takes many commits in one transaction (a checkpoint): each page once,
// however many commits have changed it, and with two syncs for all of them. What the journal holds beyond the last checkpoint is read again when
// the store is opened.
//
// The file is written from its start again after each checkpoint, over blocks that it has already: a sync then writes the commit and
// nothing else. So records of earlier generations follow the last one. A record is the generation, where its commit begins, its length
// and a CRC-32C of these, of its place in the file and of its changes; then the changes of one operation, then zeros up to a multiple of
// recordAlign. A change is what a transaction put or
// deleted: bucket, key and value, each behind its length.
//
// A generation is the time at which it began. The database's meta row says which one goes beyond it: a checkpoint is one transaction with
// everything, and the next generation's number.
type journal struct {
	file       *os.File
	generation int64
	end        int64  // where the next commit begins
	size       int64  // bytes that the file has
	pending    []byte // records of the commit under way
}

const (
	journalName  = "integrator.journal"
	recordHead   = 8 + 4 + 4 + 4
	recordAlign  = 8
	journalGrows = 256 << 10 // bytes of zeros written ahead
	checkpointAt = 4 << 20   // bytes in the journal: what a checkpoint spares depends on how much it takes at a time, and what is open in memory too
)

// keyJournal is the row of bucketMeta that holds the journal's generation.
var keyJournal = []byte("journal")

func openJournal(dir string) (*journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return &journal{file: file, size: info.Size()}, nil
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
	sum := crc32.Update(0, castagnoli, record[:16])
	sum = crc32.Update(sum, castagnoli, binary.BigEndian.AppendUint64(nil, uint64(at)))
	return crc32.Update(sum, castagnoli, record[recordHead:])
}

// add makes the changes of one operation a record of the commit under way.
func (j *journal) add(changes []byte) {
	start := len(j.pending)
	j.pending = binary.BigEndian.AppendUint64(j.pending, uint64(j.generation))
	j.pending = binary.BigEndian.AppendUint32(j.pending, uint32(j.end))
	j.pending = binary.BigEndian.AppendUint32(j.pending, uint32(len(changes)))
	j.pending = append(append(j.pending, 0, 0, 0, 0), changes...)
	binary.BigEndian.PutUint32(j.pending[start+16:], recordSum(j.pending[start:], j.end+int64(start)))
	for len(j.pending)%recordAlign != 0 {
		j.pending = append(j.pending, 0)
	}
}

// commit makes the records durable that were added. Only room that the file does not get is an error after which it can be tried again.
func (j *journal) commit() error {
	if len(j.pending) == 0 {
		return nil
	}
	end := j.end + int64(len(j.pending))
	if end > j.size {
		size := (end + journalGrows) / journalGrows * journalGrows
		if _, err := j.file.WriteAt(make([]byte, size-j.size), j.size); err != nil {
			return fmt.Errorf("make room in the journal: %w", err)
		}
		j.size = size
	}
	if _, err := j.file.WriteAt(j.pending, j.end); err != nil {
		return fmt.Errorf("write the journal: %v", err) // not wrapped: some of it may be there, so that it is not to be taken for a full disk
	}
	failpoint.Hit("journal.written")
	if err := syncData(j.file); err != nil {
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

// restart begins a generation at the start of the file.
func (j *journal) restart(generation int64) { j.generation, j.end = generation, 0 }

// find goes through the first bytes of the file, up to limit, calls apply with the changes of each record of this generation, and moves the end
// behind the last one. Operations of one commit do not build upon each other, so that what is left of a torn commit, which was never answered,
// does no harm. A gap before a later commit is damage, and told to damaged.
func (j *journal) find(limit int64, damaged func(error), apply func(changes []byte) error) error {
	text := make([]byte, limit)
	if _, err := j.file.ReadAt(text, 0); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	var gap error // told when a commit after it is found: then it was answered
	var gapAt int
	at, found := 0, 0 // found: where the last record ends
	for at+recordHead <= len(text) {
		generation, begins := int64(binary.BigEndian.Uint64(text[at:])), int(binary.BigEndian.Uint32(text[at+8:]))
		length := int64(binary.BigEndian.Uint32(text[at+12:]))
		if generation <= 0 || generation < j.generation || length > int64(len(text)-at-recordHead) {
			at += recordAlign
			continue
		}
		record := text[at : at+recordHead+int(length)]
		if binary.BigEndian.Uint32(record[16:]) != recordSum(record, int64(at)) {
			at += recordAlign
			continue
		}
		if generation > j.generation {
			return fmt.Errorf("%w: %s goes on from a later state than the database is in: put back both of one time, or move it away", store.ErrCorrupt, j.file.Name())
		}
		if found < at {
			gap, gapAt = fmt.Errorf("%w: the journal, bytes %d to %d", store.ErrCorrupt, found, at), found
		}
		if gap != nil && begins > gapAt {
			damaged(gap)
			gap = nil
		}
		if err := apply(record[recordHead:]); err != nil {
			return err
		}
		at = (at + len(record) + recordAlign - 1) / recordAlign * recordAlign
		found = at
	}
	j.end = int64(found)
	return nil
}
