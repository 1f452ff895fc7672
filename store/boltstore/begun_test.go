package boltstore_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// TestBegunStaysSmall begins runs many more times than the file has room for: it is made anew of what is at work.
func TestBegunStaysSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { st.Close() }()
	q, err := st.Join(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := &store.Acceptance{Claim: true}
	for range 3 {
		a.Runs = append(a.Runs, &store.Run{ID: uuid.New(), FlowID: 1, Queued: now, Due: now, Started: now})
	}
	if _, err := q.Accept(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := q.Begin(t.Context(), slices.Repeat([]store.Run{*a.Runs[0], *a.Runs[1]}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "begun")
	if file, err := os.Stat(name); err != nil || file.Size() > 1<<20 {
		t.Fatalf("the file has %v bytes: %v", file, err)
	}
	if err := q.Settle(t.Context(), []*store.Settlement{{Run: store.Run{Number: a.Runs[0].Number, FlowID: 1, Status: store.Queued, Due: now, Attempts: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	notes, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(notes, notes[:10]...), 0o600); err != nil { // a note that was cut off
		t.Fatal(err)
	}
	if st, err = boltstore.Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Join(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ crashes, attempts int }{{0, 1}, {1, 1}, {0, 0}} { // retried, at work, waiting
		run, err := st.Run(t.Context(), a.Runs[i].Number)
		if err != nil {
			t.Fatal(err)
		}
		if run.Crashes != want.crashes || run.Attempts != want.attempts || run.Status != store.Queued {
			t.Errorf("run %d is %v after %d attempts and %d crashes, want %v", i, run.Status, run.Attempts, run.Crashes, want)
		}
	}
}
