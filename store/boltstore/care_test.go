package boltstore_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// look checks a store and returns its faults.
func look(t *testing.T, dir string) (*boltstore.Checked, []string) {
	t.Helper()
	var faults []string
	checked, err := boltstore.Check(t.Context(), dir, &boltstore.Watch{Fault: func(f boltstore.Fault) { faults = append(faults, f.String()) }})
	if err != nil {
		t.Fatal(err)
	}
	if checked.Faults != int64(len(faults)) {
		t.Errorf("%d faults were told of %d", len(faults), checked.Faults)
	}
	return checked, faults
}

// inOrder wants a store without faults.
func inOrder(t *testing.T, what any, dir string) {
	t.Helper()
	if _, faults := look(t, dir); len(faults) > 0 {
		t.Errorf("%v: %d faults: %q", what, len(faults), faults[:min(len(faults), 10)])
	}
}

// all opens a store and returns everything in it, and the runs that an engine can claim, by id.
func all(t *testing.T, dir string, messages []uuid.UUID) (contents, map[uuid.UUID]store.Run) {
	t.Helper()
	st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	had := read(t.Context(), st, messages)
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[uuid.UUID]store.Run{}
	for {
		runs, _, err := q.Claim(t.Context(), map[int64]store.Want{1: {Runs: 1000}, 2: {Runs: 1000}}, 1000, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) == 0 {
			return had, claimed
		}
		var settled []*store.Settlement
		for _, run := range runs {
			if m, err := st.Message(t.Context(), run.Message); err != nil {
				t.Errorf("run %d: %v", run.Number, err)
			} else if m.Erased && len(messages) > 0 && run.Message != messages[0] {
				t.Errorf("run %d: its payload is lost", run.Number)
			}
			claimed[run.ID] = run
			run.Status, run.Ended = store.Success, time.Now()
			settled = append(settled, &store.Settlement{Run: run})
		}
		if err := q.Settle(t.Context(), settled); err != nil {
			t.Fatal(err)
		}
	}
}

// copyStore makes a store of a closed one.
func copyStore(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, databaseName), used(t, filepath.Join(from, databaseName))); err != nil { // without its room to grow
		t.Fatal(err)
	}
	return dir
}

func TestCheckOfAStoreInOrder(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 12, 150} {
		dir := t.TempDir()
		fill(t, dir, count)
		inOrder(t, count, dir)
		if checked, _ := look(t, dir); checked.Rows < int64(8*count) || checked.Blobs != int64(count/3) || checked.Bytes == 0 {
			t.Errorf("%d messages: %+v", count, *checked)
		}
		all(t, dir, nil)
		inOrder(t, "after work", dir)
	}
}

// Whatever is damaged, it is found, and what is not damaged is there after a repair: messages, runs and what can be claimed.
func TestRepair(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "original")
	const count = 40
	messages := fill(t, original, count)
	wanted, claimable := all(t, copyStore(t, original), messages)
	size := used(t, filepath.Join(original, databaseName))
	const pageSize, ofPage = int64(boltstore.PageSize), 30 // messages, small ones
	database, err := os.ReadFile(filepath.Join(original, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 8))
	type damage struct {
		name     string
		do       func(dir string) error
		found    bool // for certain: a flipped bit may be in room that nothing uses
		messages int  // that may be lost at most
	}
	write := func(offset int64, b []byte) func(dir string) error {
		return func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(b, offset)
			return err
		}
	}
	var cases []damage
	for range 25 {
		bit := random.Int64N(8 * size)
		for database[bit/8] == 0 {
			bit = random.Int64N(8 * size)
		}
		cases = append(cases, damage{"a flipped bit", write(bit/8, []byte{database[bit/8] ^ 1<<(bit%8)}), false, 1})
	}
	for range 10 { // in what says where rows are
		page := 2 + random.Int64N(size/pageSize-2)
		at := page*pageSize + random.Int64N(48)
		cases = append(cases, damage{"a byte of a page's head", write(at, []byte{database[at] ^ byte(1+random.IntN(255))}), false, ofPage})
	}
	for page := range size / pageSize {
		if page%2 == 0 {
			cases = append(cases, damage{"a page of zeros", write(page*pageSize, make([]byte, pageSize)), false, ofPage})
		}
		noise := make([]byte, pageSize)
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		if page%8 == 3 {
			cases = append(cases, damage{"a page of noise", write(page*pageSize, noise), false, ofPage})
		}
	}
	cases = append(cases,
		damage{"no head", write(0, make([]byte, 2*pageSize)), true, 0},
		damage{"half of it", func(dir string) error { return os.Truncate(filepath.Join(dir, databaseName), size/2) }, true, count},
		damage{"cut within a page", func(dir string) error { return os.Truncate(filepath.Join(dir, databaseName), size-pageSize/2) }, true, 10},
		damage{"no large bodies", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "blobs")) }, true, count / 3},
		damage{"a large body is missing", func(dir string) error { return os.Remove(blobOf(t, dir, 1)) }, true, 1},
		damage{"a large body is longer", func(dir string) error { return os.Truncate(blobOf(t, dir, 1), 200_000) }, true, 1},
		damage{"a chunk of a large body", func(dir string) error { flip(t, blobOf(t, dir, 2), 8*70_000); return nil }, true, 1},
	)
	found, lossless := 0, 0
	most := map[string]int{}
	for i, c := range cases {
		dir := copyStore(t, original)
		if err := c.do(dir); err != nil {
			t.Fatal(err)
		}
		_, faults := look(t, dir)
		if c.found && len(faults) == 0 {
			t.Errorf("%d %s: no fault was found", i, c.name)
		}
		repaired, err := boltstore.Repair(t.Context(), dir, nil)
		if err != nil {
			t.Errorf("%d %s: %v", i, c.name, err)
			continue
		}
		if repaired.Faults != int64(len(faults)) {
			t.Errorf("%d %s: check finds %d faults, repair %d", i, c.name, len(faults), repaired.Faults)
		}
		inOrder(t, c.name, dir)
		if (len(faults) > 0) != (repaired.Aside != "") {
			t.Errorf("%d %s: %d faults, put aside in %q", i, c.name, len(faults), repaired.Aside)
		}
		report := ""
		if len(faults) > 0 {
			found++
			content, err := os.ReadFile(filepath.Join(repaired.Aside, "report.txt"))
			if report = string(content); err != nil || !strings.Contains(report, faults[0]) {
				t.Errorf("%d %s: the report is %q, %v", i, c.name, report, err)
			}
			if _, err := os.Stat(filepath.Join(repaired.Aside, databaseName)); err != nil {
				t.Error(err)
			}
		}
		got, claimed := all(t, dir, messages)
		lost := 0
		for _, id := range messages {
			m, ok := got["message "+id.String()].(*store.Message)
			if !ok || m.Erased && id != messages[0] {
				lost++
			}
		}
		most[c.name] = max(most[c.name], lost)
		if lost > c.messages {
			t.Errorf("%d %s: %d messages are lost: %q", i, c.name, lost, faults[:min(5, len(faults))])
		}
		if len(faults) == 0 || lost == 0 && len(claimed) == len(claimable) {
			lossless++
		}
		// What is there is what was there. What could be claimed can be claimed, unless its message is lost or it has ended in error.
		for id, run := range claimable {
			if c, ok := claimed[id]; ok && (c.Message != run.Message || c.FlowID != run.FlowID || c.Number != run.Number) {
				t.Errorf("%d: run %v became %v", i, run, c)
			}
		}
		if len(claimed)+int(repaired.Failed) < len(claimable)-2*lost-2*len(repaired.Replay) {
			t.Errorf("%d %s: %d runs can be claimed of %d, %d have failed, %d messages are lost", i, c.name, len(claimed), len(claimable), repaired.Failed, lost)
		}
		for key, value := range got {
			w, ok := wanted[key]
			switch {
			case !strings.HasPrefix(key, "body ") && !strings.HasPrefix(key, "entry "):
			case key == "body "+messages[0].String() && strings.Contains(report, "may have come back"): // it was erased
			case !ok || !reflect.DeepEqual(value, w):
				t.Errorf("%d %s: %s is not what was stored", i, c.name, key)
			}
		}
		for _, id := range repaired.Replay {
			if !slices.Contains(messages, id) {
				t.Errorf("%d %s: no message %s", i, c.name, id)
			}
		}
	}
	t.Logf("%d damages: %d were found, after %d nothing that can be claimed is lost; %v", len(cases), found, lossless, most)
}

// blobOf is the path of the payload of the nth large message.
func blobOf(t *testing.T, dir string, n int) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(found) <= n {
		t.Fatal(found, err)
	}
	return found[n]
}

// What is left of a run, a message or a body when a part of it is damaged.
func TestRepairMends(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "original")
	st, err := boltstore.Open(original, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Numbers(t.Context(), "flow", "load"); err != nil {
		t.Fatal(err)
	}
	spool := func(text string) store.Body {
		s := store.NewSpool(t.Context(), st)
		s.Write([]byte(strings.Repeat(text, 30_000)))
		body, err := s.Body()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	ended := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	accept := func(text string, claim bool) *store.Run {
		m := &store.Message{ID: uuid.Must(uuid.NewV7()), Listener: "l-" + text, User: "ann", ReceivedAt: ended, Body: spool("m-" + text)}
		r := &store.Run{ID: uuid.Must(uuid.NewV7()), Flow: "load", FlowID: 1, Message: m.ID, Params: []byte("r-" + text), Queued: ended}
		if _, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{r}, Claim: claim}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	done := accept("done", true)
	done.Status, done.Ended = store.Warning, ended
	rejects, log := spool("rejects"), spool("log")
	if err := q.Settle(t.Context(), []*store.Settlement{{Run: *done, Rejects: rejects, Log: log}}); err != nil {
		t.Fatal(err)
	}
	waits := accept("waits", false)
	waiting, err := st.Message(t.Context(), waits.Message)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	blob := func(dir string, id uuid.UUID) string {
		return filepath.Join(dir, "blobs", id.String()[34:], id.String())
	}
	text := func(text string) func(dir string) { // damages every copy of a text in the file
		return func(dir string) {
			path := filepath.Join(dir, databaseName)
			content, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(content), text) {
				t.Fatal(text, err)
			}
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(content), text, strings.ToUpper(text))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(dir string)
		failed int64
		replay bool
		want   func(t *testing.T, st *boltstore.Store, done, waits *store.Run, aside string)
	}{
		{"a log", func(dir string) { flip(t, blob(dir, log.Blob), 100) }, 0, false,
			func(t *testing.T, st *boltstore.Store, done, _ *store.Run, aside string) {
				gotRejects, gotLog, err := st.Attachments(t.Context(), done.Number)
				if err != nil || gotLog.Size != 0 || bodyOf(t, st, gotRejects) != strings.Repeat("rejects", 30_000) {
					t.Errorf("attachments are %v, %v, %v", gotRejects, gotLog, err)
				}
				if _, err := os.Stat(filepath.Join(aside, "blobs", log.Blob.String())); err != nil {
					t.Error(err)
				}
			}},
		{"a run that has ended", text("r-done"), 0, false, func(t *testing.T, st *boltstore.Store, done, _ *store.Run, _ string) {
			if done.Flow != "load" || done.User != "ann" || done.Status != store.Error || !done.Ended.Equal(ended) || !strings.Contains(done.Exception, "damaged") {
				t.Errorf("what is left is %+v", *done)
			}
			if _, gotLog, err := st.Attachments(t.Context(), done.Number); err != nil || bodyOf(t, st, gotLog) != strings.Repeat("log", 30_000) {
				t.Errorf("its log is %v, %v", gotLog, err)
			}
		}},
		{"a run that waits", text("r-waits"), 1, true, func(t *testing.T, st *boltstore.Store, _, waits *store.Run, _ string) {
			if waits.Status != store.Error || waits.User != "ann" || waits.Ended.IsZero() || !strings.Contains(waits.Exception, "replay") {
				t.Errorf("what is left is %+v", *waits)
			}
			if m, err := st.Message(t.Context(), waits.Message); err != nil || bodyOf(t, st, m.Body) != strings.Repeat("m-waits", 30_000) {
				t.Errorf("its message: %v", err)
			}
		}},
		{"a message", text("l-waits"), 1, false, func(t *testing.T, st *boltstore.Store, _, waits *store.Run, aside string) {
			if waits.Status != store.Error || waits.Message != uuid.Nil || waits.Kind != "internal" || !strings.Contains(waits.Exception, waiting.ID.String()) {
				t.Errorf("its run is %+v", *waits)
			}
			if _, err := os.Stat(filepath.Join(aside, "blobs", waiting.Body.Blob.String())); err != nil {
				t.Errorf("its intact payload is gone: %v", err)
			}
		}},
		{"a payload", func(dir string) { os.Remove(blob(dir, waiting.Body.Blob)) }, 1, false,
			func(t *testing.T, st *boltstore.Store, _, waits *store.Run, _ string) {
				m, err := st.Message(t.Context(), waits.Message)
				if err != nil || !m.Erased || m.Body.Size != waiting.Body.Size || waits.Status != store.Error {
					t.Errorf("its message is %+v, %v, its run %+v", m, err, *waits)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := copyStore(t, original)
			c.damage(dir)
			r, err := boltstore.Repair(t.Context(), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed != c.failed || len(r.Replay) > 0 != c.replay || c.replay && r.Replay[0] != waits.Message || r.Faults == 0 {
				t.Errorf("%+v", *r)
			}
			st, err := boltstore.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			got, err1 := st.Run(t.Context(), done.Number)
			left, err2 := st.Run(t.Context(), waits.Number)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			c.want(t, st, got, left, r.Aside)
		})
	}
}

// A check ends, and without a panic, whatever the file holds.
func TestCheckBearsAnything(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "original")
	fill(t, original, 30)
	dir := copyStore(t, original)
	path := filepath.Join(dir, databaseName)
	database, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(9, 10))
	pageSize := boltstore.PageSize
	for i := range 400 {
		b := slices.Clone(database)
		for range 1 + random.IntN(40) {
			page := random.IntN(len(b) / pageSize)
			switch at := page * pageSize; random.IntN(5) {
			case 0: // anywhere
				b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			case 1: // where pages say what they are
				b[at+random.IntN(64)] ^= byte(1 + random.IntN(255))
			case 2: // one page's content under another page's number
				other := random.IntN(len(b)/pageSize) * pageSize
				copy(b[at+8:at+pageSize], b[other+8:other+pageSize])
			case 3: // one page in place of another
				other := random.IntN(len(b)/pageSize) * pageSize
				copy(b[at:at+pageSize], b[other:other+pageSize])
			case 4:
				if i%10 == 0 {
					b = b[:len(b)-random.IntN(len(b)/2)]
				}
			}
			if len(b) < 2*pageSize {
				break
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		look(t, dir)
		if i%40 == 0 {
			if _, err := boltstore.Repair(t.Context(), dir, nil); err == nil {
				inOrder(t, i, dir)
			} else if !errors.Is(err, store.ErrCorrupt) { // nothing is left of it
				t.Errorf("%d: %v", i, err)
			}
		}
	}
	for _, content := range [][]byte{nil, []byte("no"), []byte(strings.Repeat("no database\n", 10_000)), make([]byte, 1<<16)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, faults := look(t, dir); len(faults) == 0 {
			t.Errorf("a file of %d bytes has no faults", len(content))
		}
		if _, err := boltstore.Repair(t.Context(), dir, nil); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("repair of a file of %d bytes: %v, not ErrCorrupt", len(content), err)
		}
		if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, content) {
			t.Errorf("a repair that failed has changed the file, %v", err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == databaseName+".new" }) {
			t.Errorf("a repair that failed has left %v, %v", left, err)
		}
	}
}

// What is removed leaves room in the file; a fresh one has none.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	messages := fill(t, dir, 60)
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := st.Prune(t.Context(), store.Keep{Since: time.Now()}, 1000); err != nil || removed == 0 {
		t.Fatal(removed, err)
	}
	want := read(t.Context(), st, messages)
	if _, err := boltstore.Compact(t.Context(), dir, nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("of an open store: %v, not ErrInUse", err)
	}
	if _, err := boltstore.Check(t.Context(), dir, nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("check of an open store: %v, not ErrInUse", err)
	}
	st.Close()
	sizes, err := boltstore.Compact(t.Context(), dir, nil)
	if err != nil || sizes.After >= sizes.Before {
		t.Fatal(sizes, err)
	}
	inOrder(t, "compacted", dir)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 { // database, blobs, begun
		t.Errorf("left are %v, %v", entries, err)
	}
	got, _ := all(t, dir, messages)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d values are there of %d, or they are others", len(got), len(want))
	}
	// A damaged store stays as it is.
	path := filepath.Join(dir, databaseName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(before), "text/csv")
	before[at] ^= 1
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Compact(t.Context(), dir, nil); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "integrator store repair") {
		t.Errorf("of a damaged store: %v; it is ErrCorrupt and says what to do", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, before) {
		t.Errorf("the damaged file is changed, %v", err)
	}
	if _, err := boltstore.Check(t.Context(), filepath.Join(dir, "nothing"), nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no store: %v, not ErrNotFound", err)
	}
}

// A store that failed is trusted again when all of it has been verified, and not before.
func TestAFailedStoreIsVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	messages := fill(t, dir, 12)
	path := filepath.Join(dir, databaseName)
	mark := path + ".unverified"
	failed := func() {
		t.Helper()
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Break(); !errors.Is(err, store.ErrBroken) {
			t.Fatal(err)
		}
		st.Close()
		if reason, err := os.ReadFile(mark); err != nil || !strings.Contains(string(reason), "input/output error") {
			t.Fatalf("the mark says %q, %v", reason, err)
		}
	}
	failed()
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	all(t, dir, messages)
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("it is the same file, not a verified copy")
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mark is still there: %v", err)
	}
	failed()
	database, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, path, 8*int64(strings.LastIndex(string(database), "text/csv")))
	for range 2 {
		if _, err := boltstore.Open(dir, nil); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "integrator store repair") {
			t.Fatalf("the error is %v; it is ErrCorrupt and says what to do", err)
		}
	}
	if _, err := boltstore.Repair(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	all(t, dir, messages)
	failed()
	if err := os.Remove(path); err != nil { // moved away: there is nothing to trust
		t.Fatal(err)
	}
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}

// The log of a run that is tried again is no fault, and a repair of something else keeps it.
func TestLogOfARunThatIsTriedAgain(t *testing.T) {
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
	run := &store.Run{FlowID: 1}
	if _, err := q.Accept(t.Context(), &store.Acceptance{Runs: []*store.Run{run}, Claim: true}); err != nil {
		t.Fatal(err)
	}
	run.Status = store.Queued
	log := store.Body{Inline: []byte("fails"), Size: 5}
	if err := q.Settle(t.Context(), []*store.Settlement{{Run: *run, Log: log}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	inOrder(t, "tried again", dir)
	setRow(t, dir, "meta", "kept", boltstore.TallyRow(4, 12))
	if repaired, err := boltstore.Repair(t.Context(), dir, nil); err != nil || repaired.Faults != 1 {
		t.Fatal(repaired, err)
	}
	inOrder(t, "repaired", dir)
	if st, err = boltstore.Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, kept, err := st.Attachments(t.Context(), run.Number); err != nil || string(kept.Inline) != "fails" {
		t.Error(kept, err)
	}
}
