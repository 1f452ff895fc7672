package boltstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

const (
	databaseName = "integrator.db"
	journalName  = "integrator.journal.2" // of a fresh store; the other one is .1
)

// flip changes a bit of a file.
func flip(tb testing.TB, path string, bit int64) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		tb.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	if _, err := f.WriteAt(b[:], bit/8); err != nil {
		tb.Fatal(err)
	}
}

// contents is everything that a reader of a store can be told, by what it asked for.
type contents map[string]any

// read asks for everything that fill has stored. What cannot be read is left out.
func read(ctx context.Context, st *boltstore.Store, messages []uuid.UUID) contents {
	c := contents{}
	put := func(key string, value any, err error) {
		if err == nil {
			c[key] = value
		}
	}
	body := func(key string, b store.Body) {
		reader, err := st.OpenBody(ctx, b)
		if err != nil {
			return
		}
		defer reader.Close()
		content, err := io.ReadAll(reader)
		put(key, string(content), err)
	}
	for _, id := range messages {
		m, err := st.Message(ctx, id)
		put("message "+id.String(), m, err)
		if err == nil && !m.Erased {
			body("body "+id.String(), m.Body)
		}
		runs, _ := st.MessageRuns(ctx, id)
		for _, run := range runs {
			put("run "+run.ID.String(), run, nil)
		}
	}
	for _, filter := range []store.RunFilter{{}, {FlowID: 1}, {Status: store.Error}, {Status: store.Queued}} {
		runs, _ := st.Runs(ctx, filter)
		for _, run := range runs {
			put("run "+run.ID.String(), run, nil)
			_, log, err := st.Attachments(ctx, run.Number)
			put("attachments "+run.ID.String(), log, err)
			if err == nil {
				body("log "+run.ID.String(), log)
			}
		}
	}
	entries, _ := st.List(ctx, "flow")
	for _, e := range entries {
		put("entry "+e.Name, e, nil)
		got, err := st.Get(ctx, "flow", e.Name)
		put("entry "+e.Name, got, err)
	}
	return c
}

// fill makes a store with something of everything, the same each time but for the names of blobs.
func fill(t *testing.T, dir string, count int) (messages []uuid.UUID) {
	t.Helper()
	ids := rand.New(rand.NewPCG(5, 6))
	newID := func() (id uuid.UUID) {
		binary.BigEndian.PutUint64(id[:], ids.Uint64())
		binary.BigEndian.PutUint64(id[8:], ids.Uint64())
		return id
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	st, err := boltstore.Open(dir, nil)
	must(err)
	q, err := st.Join(ctx, "fill")
	must(err)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range count {
		m := &store.Message{ID: newID(), Listener: "orders", User: "ann", ReceivedAt: at, Header: []store.Pair{{Name: "Content-Type", Value: "text/csv"}}}
		spool := store.NewSpool(ctx, st)
		spool.Write([]byte(strings.Repeat(m.ID.String(), []int{1, 50, 3000}[i%3])))
		m.Body, err = spool.Body()
		must(err)
		a := &store.Acceptance{Message: m, Runs: []*store.Run{{ID: newID(), Flow: "a", FlowID: 1, Message: m.ID, Queued: at, Due: at, Order: []string{"", "k"}[i%2]},
			{ID: newID(), Flow: "b", FlowID: 2, Message: m.ID, Queued: at, Due: at}}}
		a.Once = &store.Once{Scope: "ann", Key: m.ID.String(), Until: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}
		_, err = q.Accept(ctx, a)
		must(err)
		messages = append(messages, m.ID)
		_, err = st.Put(ctx, store.Entry{Kind: "flow", Name: m.ID.String(), Value: []byte(strings.Repeat("v", i))})
		must(err)
		_, err = st.Numbers(ctx, "flow", m.ID.String())
		must(err)
	}
	for range count / 4 {
		runs, _, err := q.Claim(ctx, map[int64]store.Want{1: {Runs: 2, Version: "v"}, 2: {Runs: 1}}, 3, at)
		must(err)
		must(q.Begin(ctx, runs))
		for i, run := range runs[1:] { // one stays claimed
			run.Status, run.Ended = []store.Status{store.Success, store.Error}[i], at
			log := []byte("log of " + run.ID.String())
			must(q.Settle(ctx, []*store.Settlement{{Run: run, Log: store.Body{Inline: log, Size: int64(len(log))}}}))
		}
	}
	if count > 0 {
		must(st.Erase(ctx, messages[0]))
	}
	_, err = st.Numbers(ctx, "flow", "last") // what a flipped bit in the file's head takes back is its last commit: this one
	must(err)
	must(st.Close())
	return messages
}

// missing reports whether a value is that of a run without attachments: the database's own pages have no checksum, a flipped bit in one can
// hide values.
func missing(value any) bool { return value == "" || reflect.DeepEqual(value, store.Body{}) }

// used returns how much of a database file its content takes.
func used(t *testing.T, path string) (size int64) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size
}

// A flipped bit anywhere in a closed store is a clear error, or the values that it hits are missing; it is never a panic and never another
// value.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "original")
	messages := fill(t, original, 40)
	st, err := boltstore.Open(original, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := read(t.Context(), st, messages)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	const leastValues = 40 + 40 + 80 + 80 + 20 + 40 - 2
	if len(want) < leastValues {
		t.Fatalf("the store has only %d values", len(want))
	}
	database, err := os.ReadFile(filepath.Join(original, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	database = database[:used(t, filepath.Join(original, databaseName))] // what follows is room to grow
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	path := filepath.Join(dir, databaseName)
	refused, reported := 0, 0
	for i := range 300 {
		bit := random.Int64N(8 * int64(len(database)))
		for database[bit/8] == 0 { // most of a file is empty room
			bit = random.Int64N(8 * int64(len(database)))
		}
		if err := os.WriteFile(path, database, 0o600); err != nil {
			t.Fatal(err)
		}
		flip(t, path, bit)
		for _, name := range []string{".1", ".2"} {
			os.Remove(filepath.Join(dir, "integrator.journal"+name)) // of an earlier round
		}
		os.Remove(path + ".unverified") // of the one before
		st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(error) { reported++ }})
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("bit %d: the error does not name the file: %v", bit, err)
			}
			continue
		}
		got := read(t.Context(), st, messages)
		for key, value := range got {
			if w, ok := want[key]; ok && !reflect.DeepEqual(value, w) && !missing(value) {
				t.Errorf("bit %d: %s is %v, not %v", bit, key, value, w)
			}
		}
		if q, err := st.Join(t.Context(), "after"); err == nil && i%5 == 0 { // not always, it takes long
			q.Accept(t.Context(), &store.Acceptance{Runs: []*store.Run{{FlowID: 1}}}) // with or without success
			q.Claim(t.Context(), map[int64]store.Want{1: {Runs: 100}, 2: {Runs: 100}}, 200, time.Now())
			st.Prune(t.Context(), store.Keep{Since: time.Now()}, 100)
		}
		st.Close()
	}
	if reported == 0 {
		t.Error("no damaged value was met: the test does not test")
	}
	t.Logf("%d flips were refused when opening, %d damaged values met when reading", refused, reported)
}

func TestFlippedBitsOfABlob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	messages := fill(t, dir, 12)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	m, err := st.Message(t.Context(), messages[2])
	if err != nil {
		t.Fatal(err)
	}
	name := m.Body.Blob.String()
	path := filepath.Join(dir, "blobs", name[len(name)-2:], name)
	want := strings.Repeat(m.ID.String(), 3000)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what any) {
		t.Helper()
		reader, err := st.OpenBody(t.Context(), m.Body)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if got, err := io.ReadAll(reader); !errors.Is(err, store.ErrCorrupt) || !strings.HasPrefix(want, string(got)) {
			t.Errorf("%v: %d bytes, %v", what, len(got), err)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		bit := random.Int64N(8 * info.Size())
		flip(t, path, bit)
		check(bit)
		flip(t, path, bit)
	}
	if err := os.Truncate(path, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	check("cut off")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	database := func(change func(path string)) string {
		dir := t.TempDir()
		fill(t, dir, 12)
		change(filepath.Join(dir, databaseName))
		return dir
	}
	write := func(content string) func(string) {
		return func(path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	update := func(f func(tx *bolt.Tx) error) func(string) {
		return func(path string) {
			os.Remove(path)
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Update(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(path string)
		says   string
	}{
		{"text", write(strings.Repeat("no database\n", 10_000)), "put a backup in its place"},
		{"a few bytes", write("no"), "put a backup in its place"},
		{"zeros", write(string(make([]byte, 1<<16))), "put a backup in its place"},
		{"cut off", func(path string) {
			if err := os.Truncate(path, 5*int64(boltstore.PageSize)); err != nil {
				t.Fatal(err)
			}
		}, "put a backup in its place"},
		{"cut off after its head", func(path string) {
			if err := os.Truncate(path, int64(boltstore.PageSize)); err != nil {
				t.Fatal(err)
			}
		}, "put a backup in its place"},
		{"another program's database", update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return err
		}), "no store of this engine"},
		{"everything is gone", update(func(*bolt.Tx) error { return nil }), "no store of this engine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := database(c.change)
			for range 2 { // the file is not kept locked
				_, err := boltstore.Open(dir, nil)
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("the error is %v; it names %s and says %q", err, dir, c.says)
				}
				if !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("the error is %v, not ErrCorrupt", err)
				}
			}
		})
	}
}

// A file that cannot be read any more is a fault of the mapped memory: an error, after which nothing is written.
func TestAFaultStopsWrites(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"met when reading", "met when writing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			messages := fill(t, dir, 12)
			st, err := boltstore.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			q, err := st.Join(t.Context(), "engine")
			if err != nil {
				t.Fatal(err)
			}
			calls := []func() error{
				func() error { _, err := st.Message(t.Context(), messages[0]); return err },
				func() error {
					m := &store.Message{ID: uuid.Must(uuid.NewV7())}
					_, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{{FlowID: 1, Message: m.ID}}})
					return err
				},
			}
			if name == "met when writing" {
				slices.Reverse(calls)
			}
			if err := os.Truncate(filepath.Join(dir, databaseName), 2*int64(boltstore.PageSize)); err != nil {
				t.Fatal(err)
			}
			for _, call := range append(calls, st.Health) {
				if err := call(); !errors.Is(err, store.ErrBroken) {
					t.Errorf("the error is %v, not ErrBroken", err)
				}
			}
			if err := st.Close(); err != nil { // it does not hang
				t.Error(err)
			}
		})
	}
}

// A key of the order in which once-keys are forgotten that is too short to be one is in nobody's way.
func TestDamagedOrderOfOnceKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, dir, 1)
	setRow(t, dir, "onceUntil", "\x00", []byte{})
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		once := &store.Once{Scope: "ann", Key: "k", Until: time.Now().Add(time.Hour)}
		if _, err := q.Accept(t.Context(), &store.Acceptance{Runs: []*store.Run{{FlowID: 1}}, Once: once}); err != nil {
			t.Fatal(err)
		}
	}
}

// The database verifies no keys: a damaged one of an index, or of a row, is no run's number, and numbers do not go on from it.
func TestANumberThatWasNeverHandedOut(t *testing.T) {
	t.Parallel()
	const never = 1 << 60
	key := binary.BigEndian.AppendUint64(nil, never)
	for _, c := range []struct {
		name   string
		repair bool
		damage func(tx *bolt.Tx) error
	}{
		{"in an index", true, func(tx *bolt.Tx) error {
			return errors.Join(tx.Bucket([]byte("failed")).Put(key, nil), tx.Bucket([]byte("ended")).Put(append(make([]byte, 8), key...), nil))
		}},
		{"of a row", false, func(tx *bolt.Tx) error {
			_, value := tx.Bucket([]byte("history")).Cursor().Last()
			return tx.Bucket([]byte("history")).Put(key, slices.Clone(value))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fill(t, dir, 8)
			db, err := bolt.Open(filepath.Join(dir, databaseName), 0o600, nil)
			if err == nil {
				err = errors.Join(db.Update(c.damage), db.Close())
			}
			if err == nil && c.repair {
				_, err = boltstore.Repair(t.Context(), dir, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			st, err := boltstore.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			q, err := st.Join(t.Context(), "engine")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := q.NextNumber(t.Context()); err != nil || n >= never {
				t.Errorf("the next run is %d, %v", n, err)
			}
			runs, err := st.Runs(t.Context(), store.RunFilter{})
			for _, run := range runs {
				if run.Number >= never {
					t.Errorf("there is a run %d", run.Number)
				}
			}
			if err != nil || len(runs) == 0 {
				t.Error(len(runs), err)
			}
		})
	}
}
