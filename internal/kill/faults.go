package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fault is a deliberate fault of the server, which kills must bring to light.
type fault struct {
	name, about string
	file        string // from the root of the repository
	from, to    string // text that is there once, and what stands in its place
}

var faults = []fault{
	{"early-answer", "writes are answered before their commit", "store/boltstore/commit.go",
		"	if err := s.journal.commit(); err != nil {\n", `	for _, op := range batch {
		if op.err == nil && op.committed != nil {
			op.committed()
		}
		op.committed = nil
		close(op.done)
		op.done = make(chan struct{})
	}
	time.Sleep(2 * time.Millisecond) // as a disk with more to do would
	if err := s.journal.commit(); err != nil {
`},
	{"no-replay", "what a crash left in the journal is not read", "store/boltstore/commit.go",
		"s.journal.recover(generation, s.onCorrupt, s.tx.redo)\n", "s.journal.recover(generation, s.onCorrupt, func([]byte) error { return nil })\n"},
	{"early-settle", "a run is settled before its file has its name", "connector/file/write.go",
		"	return w.root.Rename(o.temp, filepath.FromSlash(final))\n", `	go func() {
		ctx, stop := context.WithTimeout(context.Background(), 3e6)
		defer stop()
		<-ctx.Done()
		os.Rename(filepath.Join(w.c.dir, o.temp), filepath.Join(w.c.dir, filepath.FromSlash(final)))
	}()
	return nil
`},
	{"no-once-key", "a call that is repeated under its Idempotency-Key is taken for a new one", "store/boltstore/queue.go",
		"	used, ok, err := s.used(tx, o)\n", "	used, ok, err := s.used(tx, o)\n	ok = false\n"},
	{"no-applied-table", "the database does not know which runs it holds", "connector/sqldb/write.go",
		"	for _, run := range w.runs {\n", "	for _, run := range w.runs[:0] {\n"},
	{"no-file-note", "the folder does not know whose files it holds", "connector/file/note.go",
		"	if id != o.run.ID && !later {\n", "	if id == o.run.ID && o.target.Exists != \"append\" || id != o.run.ID && !later {\n"},
	{"no-order", "the queue does not look at order keys", "store/internal/queue/queue.go",
		"		if e.Order != \"\" {\n			k := order{e.Flow, e.Order}\n			free", "		if false {\n			k := order{e.Flow, e.Order}\n			free"},
	{"no-append-note", "the folder does not know which runs have appended to its files", "connector/file/append.go",
		"	if err := w.note(o, o.path); err != nil {\n", "	if err := error(nil); err != nil {\n"},
	{"no-append-cut", "what a crashed run has appended without its note is not cut off", "connector/file/write.go",
		"		if err := w.mend(o); err != nil {\n", "		if err := error(nil); err != nil {\n"},
	{"no-http-key", "another attempt calls an API under other keys", "connector/httpclient/write.go",
		"	key := fmt.Sprintf(\"%s-%s\", w.run.ID, place)\n", "	key := fmt.Sprintf(\"%s-%s-%p\", w.run.ID, place, w)\n"},
	{"no-part-check", "the database does not know which parts of a run it holds", "connector/sqldb/write.go",
		"	if c.Position > 0 {\n", "	if c.Position < 0 {\n"},
	{"no-tick-key", "the run of a schedule has no once-key", "flow/schedule.go",
		"		Once: &store.Once{Scope: kindSchedule + \"\\x00\" + s.Name, Key: due.UTC().Format(time.RFC3339), Until: now.Add(onceFor)}})\n", "	})\n"},
	{"early-unlink", "pruning removes large bodies before its commit", "store/boltstore/history.go",
		"			blobs = append(blobs, more...)\n", "			blobs = append(blobs, more...)\n			for _, id := range more {\n				s.unlink(id)\n			}\n"},
	{"forgotten-claims", "claims of a crashed server are not freed", "store/boltstore/queue.go",
		"		err = s.free(ctx, begun, time.Now())\n", "		_ = begun\n"},
}

// apply returns the text of the fault's file with the fault in it.
func (f fault) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(f.from)); n != 1 {
		return nil, fmt.Errorf("fault %s: %s has the text that it replaces %d times, not once: make it fit again\n%s", f.name, f.file, n, f.from)
	}
	return bytes.Replace(text, []byte(f.from), []byte(f.to), 1), nil
}

// breakAndFind kills servers with a fault until it is found.
func breakAndFind(name, scratch string, kills, size int, seed uint64, out io.Writer) error {
	known := false
	for _, f := range faults {
		if f.name != name && name != "all" {
			continue
		}
		known = true
		dir := filepath.Join(scratch, f.name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		program, err := build(dir, f)
		if err != nil {
			return err
		}
		var told strings.Builder
		c := campaign{program: program, dir: dir, kills: kills, size: size, seed: seed, out: &told}
		err = c.run()
		if c.sum.findings == 0 {
			return fmt.Errorf("fault %s was not found with %d kills, seed %d; it ended with %v\n%s", f.name, c.sum.kills, seed, err, &told)
		}
		first, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(out, "%-16s found with %d kills: lost %d, doubled %d, out of order %d, other %d; the first: %s\n", f.name, c.sum.kills, c.sum.lost, c.sum.doubled,
			c.sum.disordered, c.sum.other(), first)
	}
	if !known {
		return fmt.Errorf("there is no fault %q: -list names them", name)
	}
	return nil
}
