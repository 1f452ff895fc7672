package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
	"github.com/integrator-go/integrator/store/storetest"
)

// left copies what a store's files hold at this moment, as a crash would leave them.
func left(tb testing.TB, dir string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "left")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return to
}

// What a store promises of opening it again holds when it was never closed: the journal has the rest.
func TestStoreLeftByACrash(t *testing.T) {
	h := harness()
	reopen := h.Reopen
	h.Reopen = func(tb testing.TB, st store.Store) store.Store {
		tb.Helper()
		if err := st.(*boltstore.Store).Crash(); err != nil {
			tb.Fatal(err)
		}
		return reopen(tb, st)
	}
	storetest.Run(t, h)
}

// Runs of which many have ended since the last checkpoint are found, newest first: pages of the open transaction have become empty.
func TestRunsBetweenEmptyPages(t *testing.T) {
	t.Parallel()
	const count = 600
	dir := t.TempDir()
	join := func() (*boltstore.Store, store.Queue) {
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := st.Join(t.Context(), "engine")
		if err != nil {
			t.Fatal(err)
		}
		return st, q
	}
	st, q := join()
	a := &store.Acceptance{}
	for range count {
		a.Runs = append(a.Runs, &store.Run{FlowID: 1, Exception: strings.Repeat("x", 300)})
	}
	if _, err := q.Accept(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil { // the pages are in the database now
		t.Fatal(err)
	}
	st, q = join()
	defer st.Close()
	runs, _, err := q.Claim(t.Context(), map[int64]store.Want{1: {Runs: count}}, count, time.Now())
	if err != nil || len(runs) != count {
		t.Fatal(len(runs), err)
	}
	active := func(filter store.RunFilter) (numbers []int64) {
		filter.Status, filter.Limit = store.Running, 2*count
		found, err := st.Runs(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range found {
			numbers = append(numbers, run.Number)
		}
		return numbers
	}
	settle := func(some []store.Run) {
		for i := range some {
			some[i].Status, some[i].Ended = store.Success, time.Now()
			if err := q.Settle(t.Context(), []*store.Settlement{{Run: some[i]}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(runs[100:500])
	var want []int64
	for i := count - 1; i >= 0; i-- {
		if i < 100 || i >= 500 {
			want = append(want, runs[i].Number)
		}
	}
	if diff := cmp.Diff(want, active(store.RunFilter{})); diff != "" {
		t.Errorf("difference from what is wanted (-) to what is there (+):\n%s", diff)
	}
	if diff := cmp.Diff(want[100:], active(store.RunFilter{Before: runs[300].Number})); diff != "" {
		t.Errorf("before an ended one, difference from what is wanted (-) to what is there (+):\n%s", diff)
	}
	settle(runs[:100])
	settle(runs[500:])
	if left := active(store.RunFilter{}); len(left) > 0 {
		t.Errorf("runs %v are left", left)
	}
	found, err := st.Runs(t.Context(), store.RunFilter{Limit: 2 * count})
	if err != nil || len(found) != count {
		t.Errorf("%d runs of %d, %v", len(found), count, err)
	}
	if _, err := st.Prune(t.Context(), store.Keep{Since: time.Now().Add(time.Hour)}, 300); err != nil {
		t.Fatal(err)
	}
	if found, err = st.Runs(t.Context(), store.RunFilter{FlowID: 1, Limit: 2 * count}); err != nil || len(found) != count-300 {
		t.Errorf("%d runs of %d, %v", len(found), count-300, err)
	}
}

// journaled makes messages that are in the journal alone, and returns them with the files.
func journaled(t *testing.T, count int) (dir string, messages []*store.Message) {
	t.Helper()
	dir = t.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		body := fmt.Appendf(nil, "payload %d %s", i, strings.Repeat("x", i%7*100))
		m := &store.Message{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: store.Body{Inline: body, Size: int64(len(body))}}
		if _, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{{FlowID: 1, Message: m.ID}}}); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	return left(t, dir), messages
}

// check opens what was left and returns the messages that are there. None has another content than it had.
func check(t *testing.T, dir string, messages []*store.Message, corrupt func(error)) (there []int) {
	t.Helper()
	st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: corrupt})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for i, want := range messages {
		m, err := st.Message(t.Context(), want.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil || !bytes.Equal(m.Body.Inline, want.Body.Inline):
			t.Errorf("message %d is %v, %v", i, m, err)
		default:
			there = append(there, i)
			if runs, err := st.MessageRuns(t.Context(), m.ID); err != nil || len(runs) != 1 {
				t.Errorf("message %d has runs %v, %v", i, runs, err)
			}
		}
	}
	return there
}

// A journal that ends anywhere, as a loss of power leaves it, has every message before that place and nothing half.
func TestTornJournal(t *testing.T) {
	t.Parallel()
	const count = 60
	dir, messages := journaled(t, count)
	journal, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(journal, "\x00"))
	random := rand.New(rand.NewPCG(7, 8))
	before := 0
	for cut := 0; cut <= used; cut += 1 + random.IntN(used/150) {
		if err := os.WriteFile(filepath.Join(dir, journalName), append(bytes.Clone(journal[:cut]), make([]byte, 512)...), 0o600); err != nil {
			t.Fatal(err)
		}
		there := check(t, left(t, dir), messages, func(err error) { t.Errorf("cut at %d: %v", cut, err) })
		for i, n := range there {
			if i != n {
				t.Fatalf("cut at %d, message %d is there and %d is not", cut, n, i)
			}
		}
		if len(there) < before {
			t.Fatalf("cut at %d, %d messages are there; there were %d before", cut, len(there), before)
		}
		before = len(there)
	}
	if before < count-1 {
		t.Errorf("at the end only %d messages are there", before)
	}
}

// A flipped bit in a journal costs the operation that it hits. It is told of, unless it is the last commit: that one may be torn.
func TestFlippedBitsOfAJournal(t *testing.T) {
	t.Parallel()
	const count = 60
	dir, messages := journaled(t, count)
	path := filepath.Join(dir, journalName)
	journal, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := int64(len(bytes.TrimRight(journal, "\x00")))
	random := rand.New(rand.NewPCG(9, 10))
	for range 150 {
		bit := random.Int64N(8 * used)
		if err := os.WriteFile(path, journal, 0o600); err != nil {
			t.Fatal(err)
		}
		flip(t, path, bit)
		reported := 0
		there := check(t, left(t, dir), messages, func(error) { reported++ })
		last := len(there) > 0 && len(there) == count-1 && there[len(there)-1] == count-2
		if len(there) < count-1 || len(there) == count-1 && reported == 0 && !last {
			t.Errorf("bit %d: %d messages of %d are there, %d damages were told", bit, len(there), count, reported)
		}
	}
}

// A journal that goes on from a later database than the one beside it is not thrown away silently.
func TestJournalOfALaterDatabase(t *testing.T) {
	t.Parallel()
	earlier := t.TempDir()
	st, err := boltstore.Open(earlier, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	dir, _ := journaled(t, 3)
	if err := os.Rename(filepath.Join(earlier, databaseName), filepath.Join(dir, databaseName)); err != nil {
		t.Fatal(err)
	}
	if _, err = boltstore.Open(dir, nil); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "journal") {
		t.Errorf("the error is %v; it names the journal", err)
	}
}

// When the head is damaged that the last checkpoint has written, the head before it and the journal's two files have everything.
func TestDamagedHead(t *testing.T) {
	t.Parallel()
	dir, messages := journaled(t, 40)
	for range 3 {
		st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		q, err := st.Join(t.Context(), "engine")
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			m := &store.Message{ID: uuid.Must(uuid.NewV7()), Body: store.Body{Inline: []byte("later"), Size: 5}}
			if _, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{{FlowID: 1, Message: m.ID}}}); err != nil {
				t.Fatal(err)
			}
			messages = append(messages, m)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		destroyHead(t, filepath.Join(dir, databaseName))
		if there := check(t, dir, messages, func(err error) { t.Error(err) }); len(there) != len(messages) {
			t.Fatalf("%d messages of %d are there", len(there), len(messages))
		}
	}
}

// destroyHead fills the head of a database that was written last with zeros.
func destroyHead(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page := int64(boltstore.PageSize)
	const behindHead = 16 + 48 // where the number of the transaction stands
	var newest [2]uint64
	for i := range newest {
		var number [8]byte
		if _, err := file.ReadAt(number[:], int64(i)*page+behindHead); err != nil {
			t.Fatal(err)
		}
		newest[i] = binary.NativeEndian.Uint64(number[:])
	}
	at := int64(0)
	if newest[1] > newest[0] {
		at = page
	}
	if _, err := file.WriteAt(make([]byte, page), at); err != nil {
		t.Fatal(err)
	}
}
