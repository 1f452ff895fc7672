package boltstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

func TestASecondOpenerIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = boltstore.Open(dir, nil)
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("the error is %v; it is ErrInUse and names %s", err, dir)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, err = boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}

func TestEveryCommitIsSynced(t *testing.T) {
	t.Parallel()
	st, err := boltstore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if !st.Syncs() {
		t.Error("the database does not sync")
	}
}

// Whoever comes while a commit is synced shares the next one.
func TestCallersShareACommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		q, err := st.Join(t.Context(), "engine")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.NextNumber(t.Context()); err != nil { // numbers are reserved now
			t.Fatal(err)
		}
		release := st.Hold()
		before := st.Commits()
		var callers sync.WaitGroup
		for range 64 {
			callers.Go(func() {
				if _, err := q.Accept(t.Context(), &store.Acceptance{Runs: []*store.Run{{FlowID: 1}}}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		release()
		callers.Wait()
		if commits := st.Commits() - before; commits != 2 { // the one that was held, and theirs
			t.Errorf("64 accepts took %d commits", commits-1)
		}
	})
}

func TestANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SetFormat(7); err != nil {
		t.Fatal(err)
	}
	st.Close()
	_, err = boltstore.Open(dir, nil)
	if err == nil || !strings.Contains(err.Error(), "has format 7") || !strings.Contains(err.Error(), "reads formats 1 to 2") {
		t.Fatalf("the error is %v; it says both formats", err)
	}
}

func TestLeftoversOfBlobsAreSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	messages := fill(t, dir, 12)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	for _, name := range []string{"0190a5b0-0000-7000-8000-000000000000.tmp", "00/0190a5b0-0000-7000-8000-000000000000"} {
		path := filepath.Join(dir, "blobs", name)
		os.Mkdir(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	left := 0
	filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left++
		}
		return err
	})
	if left != len(blobs) {
		t.Errorf("%d files are left of %d that are referred to", left, len(blobs))
	}
	read(t.Context(), st, messages)
}

// Whatever a run and its message have stored goes when they are pruned.
func TestPruneLeavesNoRow(t *testing.T) {
	t.Parallel()
	st, err := boltstore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	spool := func() store.Body {
		s := store.NewSpool(t.Context(), st)
		if _, err := s.Write(make([]byte, store.InlineBytes+1)); err != nil {
			t.Fatal(err)
		}
		body, err := s.Body()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	number, err := q.NextNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := st.Rows()
	m := &store.Message{ID: uuid.Must(uuid.NewV7()), Body: spool()}
	if _, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{{FlowID: 1, Message: m.ID}}}); err != nil {
		t.Fatal(err)
	}
	runs, _, err := q.Claim(t.Context(), map[int64]store.Want{1: {Runs: 1}}, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	runs[0].Status, runs[0].Ended = store.Error, time.Now()
	inserted := store.Run{Number: number, FlowID: 2, Status: store.Success} // and one that says nothing of its end
	if err := q.Settle(t.Context(), []*store.Settlement{{Run: runs[0], Rejects: spool(), Log: spool()}, {Run: inserted, Insert: true}}); err != nil {
		t.Fatal(err)
	}
	if removed, err := st.Prune(t.Context(), store.Keep{Since: time.Now().Add(time.Hour)}, 9); err != nil || removed != 2 {
		t.Fatal(removed, err)
	}
	if diff := cmp.Diff(before, st.Rows()); diff != "" {
		t.Errorf("difference from before (-) to what is left (+):\n%s", diff)
	}
}

// What a crash has left half written while it made a store is not in the way, and does not stay.
func TestLeftOfMakingAStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := filepath.Join(dir, databaseName+".0.tmp")
	if err := os.WriteFile(left, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*.tmp")); err != nil || len(found) > 0 {
		t.Errorf("%v stay, %v", found, err)
	}
}
