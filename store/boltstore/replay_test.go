package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// life is a store that is opened again and again.
type life struct {
	t   *testing.T
	dir string
	*Store
	queue store.Queue
	told  []error
}

func begin(t *testing.T) *life {
	l := &life{t: t, dir: t.TempDir()}
	l.open()
	t.Cleanup(func() { l.Close() })
	return l
}

func (l *life) open() {
	l.t.Helper()
	var err error
	if l.Store, err = Open(l.dir, &Options{OnCorrupt: func(err error) { l.told = append(l.told, err) }}); err != nil {
		l.t.Fatal(err)
	}
	if l.queue, err = l.Join(l.t.Context(), "engine"); err != nil {
		l.t.Fatal(err)
	}
}

// again closes the store, which makes a checkpoint, and opens it.
func (l *life) again() {
	l.t.Helper()
	l.must(l.Close())
	l.open()
}

func (l *life) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) accept(body []byte) uuid.UUID {
	l.t.Helper()
	m := &store.Message{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: store.Body{Inline: body, Size: int64(len(body))}}
	_, err := l.queue.Accept(l.t.Context(), &store.Acceptance{Message: m})
	l.must(err)
	return m.ID
}

// write changes bytes of the database while nobody has it open.
func (l *life) write(at int64, text []byte) {
	l.t.Helper()
	file, err := os.OpenFile(filepath.Join(l.dir, fileName), os.O_RDWR, 0)
	l.must(err)
	defer file.Close()
	_, err = file.WriteAt(text, at)
	l.must(err)
}

// A payload may look like a record of the journal, at the very place where it stands. What was written over last leaves such places behind.
func TestPayloadThatLooksLikeTheJournal(t *testing.T) {
	t.Parallel()
	build := func(payload []byte) (l *life, at int64) {
		l = begin(t)
		l.again()
		l.accept(payload)
		text, err := os.ReadFile(filepath.Join(l.dir, journalNames[l.journal.at]))
		l.must(err)
		for _, body := range []string{"in the other file", "over the beginning"} {
			l.again()
			l.accept([]byte(body))
		}
		l.must(l.Crash())
		return l, int64(bytes.Index(text, payload[:8]))
	}
	payload := bytes.Repeat([]byte("x"), 4000)
	_, at := build(payload)
	for off := align(at) - at; off+recordHead <= int64(len(payload)); off += align(recordHead) {
		record := make([]byte, recordHead)
		binary.BigEndian.PutUint64(record, 1<<62)
		binary.BigEndian.PutUint32(record[recordSummed:], recordSum(record, at+off))
		copy(payload[off:], record)
	}
	l, now := build(payload)
	if now >= 0 && now != at {
		t.Fatalf("the payload stood at %d and stands at %d: the test does not test", at, now)
	}
	l.open()
	checked, err := Check(t.Context(), begin(t).dir, nil)
	if err == nil && checked.Faults > 0 {
		t.Error(checked)
	}
}

// When the row cannot be read that says how far the database is, what was deleted since does not come back.
func TestRepairWithoutTheGeneration(t *testing.T) {
	t.Parallel()
	l := begin(t)
	ctx := t.Context()
	l.again()
	_, err := l.Put(ctx, store.Entry{Kind: "user", Name: "filler", Value: bytes.Repeat([]byte("f"), 4000)})
	l.must(err)
	version, err := l.Put(ctx, store.Entry{Kind: "user", Name: "mallory", Value: []byte("admin")})
	l.must(err)
	l.again()
	l.must(l.Delete(ctx, "user", "mallory", version))
	for range 3 {
		l.again()
	}
	l.must(l.Close())
	db, err := bolt.Open(filepath.Join(l.dir, fileName), fileMode, nil)
	l.must(err)
	l.must(db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		value := bytes.Clone(b.Get(keyJournal))
		value[len(value)-1] ^= 1
		return b.Put(keyJournal, value)
	}))
	l.must(db.Close())
	if _, err := Open(l.dir, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Fatal(err)
	}
	_, err = Repair(ctx, l.dir, nil)
	l.must(err)
	l.open()
	if e, err := l.Get(ctx, "user", "mallory"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a user that was deleted is back: %s, %v", e.Value, err)
	}
	if _, err := l.Get(ctx, "user", "filler"); err != nil {
		t.Error(err)
	}
}

// What the journal says is gone does not come back from pages that a damaged tree has lost.
func TestRepairHeedsTheJournal(t *testing.T) {
	t.Parallel()
	l := begin(t)
	ctx := t.Context()
	var ids []uuid.UUID
	for range 60 {
		body := bytes.Repeat([]byte("x"), 1000)
		m := &store.Message{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: store.Body{Inline: body, Size: int64(len(body))}}
		run := &store.Run{ID: uuid.Must(uuid.NewV7()), FlowID: 1, Message: m.ID}
		_, err := l.queue.Accept(ctx, &store.Acceptance{Message: m, Runs: []*store.Run{run}, Claim: true})
		l.must(err)
		ids = append(ids, m.ID)
		ended := *run
		ended.Status, ended.Ended = store.Success, time.Now()
		l.must(l.queue.Settle(ctx, []*store.Settlement{{Run: ended}}))
	}
	l.again()
	removed, err := l.Prune(ctx, store.Keep{Since: time.Now().Add(time.Hour)}, 30)
	if err != nil || removed != 30 {
		t.Fatal(removed, err)
	}
	l.must(l.Crash())
	db, err := bolt.Open(filepath.Join(l.dir, fileName), fileMode, nil)
	l.must(err)
	var root int64
	l.must(db.View(func(tx *bolt.Tx) error { root = int64(tx.Bucket(bucketMessages).Root()); return nil }))
	page := int64(db.Info().PageSize)
	l.must(db.Close())
	l.write(root*page, make([]byte, page))
	repaired, err := Repair(ctx, l.dir, nil)
	l.must(err)
	l.open()
	for i, id := range ids {
		if _, err := l.Message(ctx, id); (err == nil) != (i >= 30) {
			t.Errorf("message %d of 60, of which 30 were pruned: %v", i, err)
		}
	}
	if len(repaired.Replay) > 0 {
		t.Errorf("%d messages are to be replayed", len(repaired.Replay))
	}
}

// The place of a head may be bad for good.
func TestHeadThatIsDamagedTwice(t *testing.T) {
	t.Parallel()
	l := begin(t)
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, l.accept([]byte("before")))
		l.again()
	}
	newest := func() int64 {
		text, err := os.ReadFile(filepath.Join(l.dir, fileName))
		l.must(err)
		page := pageSize
		const number = 16 + 48 // where the transaction's stands
		if binary.NativeEndian.Uint64(text[page+number:]) > binary.NativeEndian.Uint64(text[number:]) {
			return int64(page)
		}
		return 0
	}
	ids = append(ids, l.accept([]byte("in the journal")))
	l.must(l.Crash())
	bad := newest()
	for range 2 {
		l.write(bad, make([]byte, pageSize))
		l.open()
		ids = append(ids, l.accept([]byte("after")))
		l.must(l.Crash())
	}
	l.open()
	for i, id := range ids {
		if _, err := l.Message(t.Context(), id); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if len(l.told) > 0 {
		t.Errorf("damage is told: %v", l.told)
	}
}

func TestGapsOfTheJournal(t *testing.T) {
	t.Parallel()
	of := func(generation, previous, at, end int64) record {
		return record{generation: generation, previous: previous, at: at, end: end}
	}
	for name, c := range map[string]struct {
		files [2][]record
		told  int
		last  int64
	}{
		"whole":                   {[2][]record{{of(5, 3, 0, 40), of(5, 3, 40, 80)}, {of(3, 2, 0, 40)}}, 0, 5},
		"goes on":                 {[2][]record{{of(5, 3, 0, 40)}, {of(7, 5, 0, 40), of(7, 5, 40, 80)}}, 0, 7},
		"the first is missing":    {[2][]record{{of(5, 3, 40, 80)}}, 1, 5},
		"two are missing":         {[2][]record{{of(5, 3, 40, 80), of(5, 3, 120, 160)}}, 2, 5},
		"all are missing":         {[2][]record{{of(7, 5, 0, 40)}}, 1, 7},
		"nothing was written":     {[2][]record{{of(3, 2, 0, 40)}}, 0, 5},
		"older ones stand behind": {[2][]record{{of(5, 3, 0, 40), of(9, 8, 400, 440)}}, 0, 5},
	} {
		told := 0
		last, err := follow(5, c.files, func(error) { told++ }, func([]byte) error { return nil })
		if err != nil || told != c.told || last != c.last {
			t.Errorf("%s: %d damages are told, it ends in %d, %v; want %d, %d", name, told, last, err, c.told, c.last)
		}
	}
	if _, err := follow(5, [2][]record{{of(9, 8, 0, 40)}}, func(error) {}, func([]byte) error { return nil }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("of a later database: %v", err)
	}
}
