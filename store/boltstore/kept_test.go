package boltstore_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// settled makes a store with runs that have ended, each with 4 bytes.
func settled(t *testing.T, dir string, count int) *boltstore.Store {
	t.Helper()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		n, err := q.NextNumber(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := &store.Message{ID: uuid.Must(uuid.NewV7()), Body: store.Body{Inline: []byte("body"), Size: 4}}
		run := store.Run{Number: n, FlowID: 1, Message: m.ID, Status: store.Success, Ended: time.Unix(int64(i+1), 0)}
		if err := q.Settle(t.Context(), []*store.Settlement{{Run: run, Insert: true, Message: m}}); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// setRow puts a row into a store that nobody has open; nil takes it away.
func setRow(t *testing.T, dir, bucket, key string, value []byte) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, databaseName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		if value == nil {
			return tx.Bucket([]byte(bucket)).Delete([]byte(key))
		}
		return tx.Bucket([]byte(bucket)).Put([]byte(key), value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func keeps(t *testing.T, st *boltstore.Store, want store.Kept) {
	t.Helper()
	if kept, err := st.Kept(t.Context()); err != nil || kept != want {
		t.Errorf("%+v is kept (%v), not %+v", kept, err, want)
	}
}

// A prune that finds nothing to remove commits nothing.
func TestPruneOfNothingWritesNothing(t *testing.T) {
	t.Parallel()
	st := settled(t, t.TempDir(), 3)
	before := st.Commits()
	for _, keep := range []store.Keep{{}, {Since: time.Unix(0, 0), Runs: 3, Bytes: 12}} {
		if removed, err := st.Prune(t.Context(), keep, 10); err != nil || removed != 0 {
			t.Error(keep, removed, err)
		}
	}
	if commits := st.Commits() - before; commits != 0 {
		t.Errorf("%d commits", commits)
	}
	if removed, err := st.Prune(t.Context(), store.Keep{Runs: 2}, 10); err != nil || removed != 1 || st.Commits() != before+1 {
		t.Error(removed, err, st.Commits()-before)
	}
	keeps(t, st, store.Kept{Runs: 2, Bytes: 8})
}

// Who wants to know is told of each commit and checkpoint.
func TestCommitsAreTold(t *testing.T) {
	t.Parallel()
	operations := 0
	var checkpoints []int64
	st, err := boltstore.Open(t.TempDir(), &boltstore.Options{
		OnCommit:     func(n int, _ time.Duration) { operations += n },
		OnCheckpoint: func(journal int64, _ time.Duration) { checkpoints = append(checkpoints, journal) },
	})
	if err != nil {
		t.Fatal(err)
	}
	checkpoints = nil // of what opening found
	for i := range 7 {
		entry := store.Entry{Kind: "k", Name: "n", Version: int64(i % 2)} // the later ones are refused
		if _, err := st.Put(t.Context(), entry); (err == nil) != (i < 2) {
			t.Fatal(i, err)
		}
	}
	size, err := st.Size()
	if err != nil || size == 0 {
		t.Error(size, err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if operations != 2 || len(checkpoints) == 0 || slices.Contains(checkpoints, 0) {
		t.Errorf("%d operations and checkpoints of %d bytes were told", operations, checkpoints)
	}
}

// How much there is of settled runs follows from their rows, also when the row that says so is lost, damaged or wrong.
func TestTheTallyIsCountedAgain(t *testing.T) {
	t.Parallel()
	original := t.TempDir()
	st := settled(t, original, 3)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string][]byte{"missing": nil, "damaged": []byte("xxxxxxxxxxx")} {
		dir := copyStore(t, original)
		setRow(t, dir, "meta", "kept", row)
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		keeps(t, st, store.Kept{Runs: 3, Bytes: 12})
		if removed, err := st.Prune(t.Context(), store.Keep{Bytes: 7}, 10); err != nil || removed != 2 {
			t.Error(name, removed, err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(name, err)
		}
		inOrder(t, name, dir)
	}
	dir := copyStore(t, original)
	setRow(t, dir, "meta", "kept", boltstore.TallyRow(4, 12))
	if _, faults := look(t, dir); !slices.ContainsFunc(faults, func(f string) bool {
		return strings.Contains(f, "it says 4 runs with 12 bytes, and there are 3 with 12")
	}) {
		t.Errorf("the faults are %q", faults)
	}
	if _, err := boltstore.Repair(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	inOrder(t, "repaired", dir)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	keeps(t, st, store.Kept{Runs: 3, Bytes: 12})
	backup := t.TempDir() + "/backup"
	if removed, err := st.Prune(t.Context(), store.Keep{Runs: 1}, 10); err != nil || removed != 2 {
		t.Fatal(removed, err)
	}
	if _, err := st.Backup(t.Context(), backup, nil); err != nil {
		t.Fatal(err)
	}
	copied, err := boltstore.Open(backup, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	keeps(t, copied, store.Kept{Runs: 1, Bytes: 4})
}

// Runs of one message go one by one, those that came with it and those that came later, and what is left is in order each time.
func TestRunsOfAMessageArePrunedOneByOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	m := &store.Message{ID: uuid.Must(uuid.NewV7()), Body: store.Body{Inline: []byte("body"), Size: 4}}
	early := []*store.Run{{FlowID: 1, Message: m.ID}, {FlowID: 2, Message: m.ID}}
	late := []*store.Run{{FlowID: 1, Message: m.ID}}
	for _, a := range []*store.Acceptance{{Message: m, Runs: early, Claim: true}, {Runs: late, Claim: true}} {
		if _, err := q.Accept(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for i, run := range []*store.Run{early[1], late[0], early[0]} {
		run.Status, run.Ended = store.Success, time.Unix(int64(i+1), 0)
		log := store.Body{Inline: make([]byte, 10000*i+1), Size: int64(10000*i + 1)} // the first is in the run's row
		if err := q.Settle(t.Context(), []*store.Settlement{{Run: *run, Log: log}}); err != nil {
			t.Fatal(err)
		}
	}
	want := store.Kept{Runs: 3, Bytes: 4 + 1 + 10001 + 20001}
	for left := int64(3); ; {
		keeps(t, st, want)
		runs, err := st.MessageRuns(t.Context(), m.ID)
		if err != nil || int64(len(runs)) != left {
			t.Errorf("%d runs of %d are there (%v)", len(runs), left, err)
		}
		for _, run := range runs {
			if _, log, err := st.Attachments(t.Context(), run.Number); err != nil || log.Size%10000 != 1 || int64(len(log.Inline)) != log.Size {
				t.Errorf("run %d: a log of %d bytes (%v)", run.Number, log.Size, err)
			}
		}
		if rows := st.Rows(); left == 0 && len(rows) > 1 {
			t.Errorf("rows are left: %v", rows)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		inOrder(t, left, dir)
		if left == 0 {
			break
		}
		if st, err = boltstore.Open(dir, nil); err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if removed, err := st.Prune(t.Context(), store.Keep{Runs: left - 1}, 1); left > 1 && (err != nil || removed != 1) {
			t.Fatal(removed, err)
		}
		if left--; left == 0 { // 0 runs to keep means all
			if removed, err := st.Prune(t.Context(), store.Keep{Since: time.Unix(100, 0)}, 1); err != nil || removed != 1 {
				t.Fatal(removed, err)
			}
		}
		want = store.Kept{Runs: left, Bytes: []int64{0, 4 + 20001, 4 + 10001 + 20001}[left]}
	}
}
