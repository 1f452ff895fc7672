package boltstore_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// Active runs are found whether the database has them already or not, and whatever has changed of them since: in lists, by a backup, in the
// statistics, and when the store is opened after a crash.
func TestActiveRunsBesideTheDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() (*boltstore.Store, store.Queue) {
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		q, err := st.Join(t.Context(), "engine")
		if err != nil {
			t.Fatal(err)
		}
		return st, q
	}
	accept := func(q store.Queue, count int) (runs []*store.Run) {
		for range count {
			runs = append(runs, &store.Run{FlowID: 1})
		}
		if _, err := q.Accept(t.Context(), &store.Acceptance{Runs: runs}); err != nil {
			t.Fatal(err)
		}
		return runs
	}
	st, q := open()
	early := accept(q, 700) // more than a page
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, q = open()
	late := accept(q, 700)
	ended := map[int64]bool{}
	claimed, _, err := q.Claim(t.Context(), map[int64]store.Want{1: {Runs: 1000}}, 1000, time.Now())
	if err != nil || len(claimed) != 1000 {
		t.Fatal(len(claimed), err)
	}
	for i, run := range claimed[100:] {
		if i%10 != 0 {
			run.Status, run.Ended = store.Success, time.Now()
			if err := q.Settle(t.Context(), []*store.Settlement{{Run: run}}); err != nil {
				t.Fatal(err)
			}
			ended[run.Number] = true
		}
	}
	var want []int64
	for _, run := range slices.Concat(early, late) {
		want = append(want, run.Number)
	}
	slices.Reverse(want)
	check := func(name string, st *boltstore.Store) {
		t.Helper()
		for _, before := range []int64{0, want[10], want[705], want[1390]} {
			runs, err := st.Runs(t.Context(), store.RunFilter{Before: before, Limit: 2000})
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, run := range runs {
				got = append(got, run.Number)
				if run.Status.Settled() != ended[run.Number] {
					t.Errorf("%s: run %d is %s", name, run.Number, run.Status)
				}
			}
			if at := slices.Index(want, before) + 1; !slices.Equal(got, want[at:]) {
				t.Errorf("%s: below %d there are %d runs, not %d", name, before, len(got), len(want)-at)
			}
		}
		active, err := st.Runs(t.Context(), store.RunFilter{Status: store.Running, Limit: 2000})
		if err != nil {
			t.Fatal(err)
		}
		if queued, err := st.Runs(t.Context(), store.RunFilter{Status: store.Queued, Limit: 2000}); err != nil || len(active)+len(queued) != len(want)-len(ended) {
			t.Errorf("%s: %d are running and %d queued (%v)", name, len(active), len(queued), err)
		}
		stats, err := st.Stats(t.Context())
		if err != nil || stats.Runs[store.Success] != int64(len(ended)) || stats.Runs[store.Running]+stats.Runs[store.Queued] != int64(len(want)-len(ended)) {
			t.Errorf("%s: %v (%v)", name, stats.Runs, err)
		}
	}
	check("at work", st)
	backup := filepath.Join(t.TempDir(), "backup")
	if _, err := st.Backup(t.Context(), backup, nil); err != nil {
		t.Fatal(err)
	}
	copied, err := boltstore.Open(backup, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	check("backup", copied)
	if err := st.Crash(); err != nil {
		t.Fatal(err)
	}
	inOrder(t, "crashed", dir)
	st, _ = open()
	check("after a crash", st)
}
