package boltstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

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
	if err == nil || !strings.Contains(err.Error(), "has format 7") || !strings.Contains(err.Error(), "writes format 1") {
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
