package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// What is accepted, settled, erased and pruned while a backup is made is in it as it was at one moment.
func TestBackupOfABusyStore(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "data")
	early := fill(t, dir, 120)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	const writers = 4
	var accepted [writers][]uuid.UUID
	var acknowledged [writers]atomic.Int64
	var stop atomic.Bool
	var busy sync.WaitGroup
	ctx := context.WithoutCancel(t.Context())
	for w := range writers {
		busy.Go(func() {
			for i := 0; !stop.Load(); i++ {
				m := &store.Message{ID: uuid.Must(uuid.NewV7()), Listener: fmt.Sprint(w), ReceivedAt: time.Now()}
				spool := store.NewSpool(ctx, st)
				spool.Write([]byte(strings.Repeat(m.ID.String(), []int{1, 20, 4000}[i%3])))
				var err error
				if m.Body, err = spool.Body(); err != nil {
					t.Error(err)
					return
				}
				run := &store.Run{ID: uuid.Must(uuid.NewV7()), Flow: "busy", FlowID: 3, Message: m.ID, Queued: m.ReceivedAt, Due: m.ReceivedAt}
				once := &store.Once{Scope: "w", Key: m.ID.String(), Until: time.Now().Add(time.Hour)}
				if _, err := q.Accept(ctx, &store.Acceptance{Message: m, Runs: []*store.Run{run}, Once: once, Claim: i%2 == 0}); err != nil {
					t.Error(err)
					return
				}
				accepted[w] = append(accepted[w], m.ID)
				acknowledged[w].Add(1)
				if i%4 == 0 {
					run.Status, run.Ended = store.Success, time.Now()
					if err := q.Settle(ctx, []*store.Settlement{{Run: *run, Log: store.Body{Inline: []byte("log"), Size: 3}}}); err != nil {
						t.Error(err)
					}
				}
				if i%16 == 5 {
					if err := st.Erase(ctx, m.ID); err != nil {
						t.Error(err)
					}
				}
				if _, err := st.Put(ctx, store.Entry{Kind: "busy", Name: m.ID.String(), Value: []byte("v")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	busy.Go(func() { // what fill has left goes, with its large bodies
		for !stop.Load() {
			runs, _, err := q.Claim(ctx, map[int64]store.Want{1: {Runs: 3}, 2: {Runs: 3}}, 4, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			for _, run := range runs {
				run.Status, run.Ended = store.Success, time.Unix(1, 0)
				if err := q.Settle(ctx, []*store.Settlement{{Run: run}}); err != nil {
					t.Error(err)
				}
			}
			if _, err := st.Prune(ctx, store.Keep{Since: time.Unix(2, 0)}, 3); err != nil {
				t.Error(err)
			}
		}
	})
	defer st.Close()
	defer busy.Wait()
	defer stop.Store(true)
	const backups = 3
	var before [backups][writers]int64
	name := func(i int) string { return filepath.Join(root, "backups", fmt.Sprint(i)) }
	for i := range backups {
		for w := range writers {
			before[i][w] = acknowledged[w].Load()
		}
		checked, err := st.Backup(t.Context(), name(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if checked.Rows == 0 || checked.Blobs == 0 || checked.Faults != 0 {
			t.Errorf("%+v", *checked)
		}
	}
	stop.Store(true)
	busy.Wait()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range backups {
		inOrder(t, i, name(i))
		copied, err := boltstore.Open(name(i), &boltstore.Options{OnCorrupt: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		for w := range writers {
			there := int64(0)
			for n, id := range accepted[w] { // what one caller has sent is there up to some moment, and nothing after it
				m, err := copied.Message(t.Context(), id)
				if errors.Is(err, store.ErrNotFound) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if there != int64(n) {
					t.Errorf("backup %d: message %d is there and one before it is not", i, n)
				}
				there++
				if !m.Erased {
					if got := bodyOf(t, copied, m.Body); got != strings.Repeat(id.String(), []int{1, 20, 4000}[n%3]) {
						t.Errorf("backup %d: message %d has another body", i, n)
					}
				}
				if runs, err := copied.MessageRuns(t.Context(), id); err != nil || len(runs) != 1 {
					t.Errorf("backup %d: message %d has runs %v, %v", i, n, runs, err)
				}
			}
			if there < before[i][w] {
				t.Errorf("backup %d: %d messages of %d that were acknowledged before", i, there, before[i][w])
			}
		}
		if got := read(t.Context(), copied, early); len(got) == 0 {
			t.Error("nothing is left of what was there before")
		}
		copied.Close()
	}
	inOrder(t, "the store itself", dir)
}

func bodyOf(t *testing.T, st *boltstore.Store, b store.Body) string {
	t.Helper()
	reader, err := st.OpenBody(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBackup(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir, to := filepath.Join(root, "data"), filepath.Join(root, "backup")
	messages := fill(t, dir, 30)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Backup(t.Context(), to, nil); err != nil {
		t.Fatal(err)
	}
	want := read(t.Context(), st, messages)
	got, _ := all(t, to, messages)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("difference from the store (-) to its backup (+):\n%s", diff)
	}
	if _, err := st.Backup(t.Context(), to, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v, not ErrExist", err)
	}
	if _, err := st.Backup(t.Context(), filepath.Join(dir, "backup"), nil); err == nil {
		t.Error("into the store itself: no error")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.Backup(canceled, filepath.Join(root, "other"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	large, err := st.Message(t.Context(), messages[2])
	if err != nil {
		t.Fatal(err)
	}
	name := large.Body.Blob.String()
	flip(t, filepath.Join(dir, "blobs", name[len(name)-2:], name), 9999)
	if _, err := st.Backup(t.Context(), filepath.Join(root, "other"), nil); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), name) {
		t.Errorf("of a damaged body: %v; it is ErrCorrupt and names it", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
	// What goes while nothing is copied goes at once.
	if err := st.Erase(t.Context(), messages[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Backup(t.Context(), filepath.Join(root, "other"), nil); err != nil {
		t.Errorf("without the damaged body: %v", err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, dir, 12)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	got, err := st.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.FileBytes == 0 || got.FreeBytes == 0 || got.FreeBytes > got.FileBytes || got.BlobBytes < 4*100_000 {
		t.Errorf("%+v", *got)
	}
	got.FileBytes, got.FreeBytes, got.BlobBytes = 0, 0, 0
	want := &boltstore.Stats{Messages: 12, Blobs: 4, OldestQueued: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Runs: map[store.Status]int64{store.Queued: 15, store.Running: 3, store.Success: 3, store.Error: 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("difference from what is wanted (-) to what is there (+):\n%s", diff)
	}
}
