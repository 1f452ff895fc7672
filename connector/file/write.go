package file

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// maxRuns is how many runs may share one Work.
const maxRuns = 100

// PrepareWrite checks the destinations of a flow.
func (c *connection) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	var faults []error
	fault := func(i int, key, reason, hint string) {
		faults = append(faults, &connector.Fault{Target: i, Key: key, Reason: reason, Hint: hint})
	}
	paths := map[string]bool{}
	for i, t := range targets {
		switch {
		case t.Path == "":
			fault(i, "connection", "a destination in a folder needs a path", `write path: "orders-${run.id}.csv"`)
		case paths[t.Path]:
			fault(i, "path", "another destination writes the same file", "give each its own")
		case !strings.Contains(t.Path, "${"):
			if reason := checkPath(t.Path); reason != "" {
				fault(i, "path", reason, "")
			}
		}
		paths[t.Path] = true
		if t.Format == nil {
			fault(i, cmp.Or(keyOf(t.Path), "connection"), "the format of the file is missing", "write format: csv")
		}
		if t.Table != "" {
			fault(i, "table", "a folder has no tables", "write path")
		}
		if t.Action != "" && t.Action != "insert" {
			fault(i, "action", "a file is written as a whole", "leave action out; exists says what happens to a file that is there")
		}
		if len(t.Key) > 0 {
			fault(i, "key", "a file has no key", "leave it out")
		}
		if t.Create {
			fault(i, "create", "a folder that is missing is always made", "leave it out")
		}
		switch t.Exists {
		case "", "replace", "fail", "unique":
		case "append":
			fault(i, "exists", "append is not supported yet", "there are replace, fail, unique")
		default:
			fault(i, "exists", fmt.Sprintf("%q is not known", t.Exists), "there are replace, fail, unique")
		}
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return &writer{c, targets}, nil
}

func keyOf(path string) string {
	if path == "" {
		return ""
	}
	return "path"
}

// writer writes a flow's files.
type writer struct {
	c       *connection
	targets []connector.Target
}

// MaxRuns returns how many runs may share one Work.
func (w *writer) MaxRuns() int { return maxRuns }

// Begin starts a piece of work.
func (w *writer) Begin(ctx context.Context) (connector.Work, error) {
	root, err := w.c.use(true)
	if err != nil {
		return nil, err
	}
	return &work{writer: w, ctx: ctx, root: root}, nil
}

// work is the files of some runs that are not in place yet.
type work struct {
	*writer
	ctx     context.Context
	root    *os.Root
	outs    []*out // of all runs
	current []*out // of the run that was started last, by target
	ended   bool
}

// out is a file being written.
type out struct {
	run     connector.Run
	target  *connector.Target
	path    string // its final name, with slashes
	temp    string // its name until then
	file    *os.File
	buffer  *bufio.Writer
	encoder transform.Encoder
}

// Start opens the files of a run. A second attempt of a run writes the same files again, so it never counts as applied.
func (w *work) Start(run connector.Run, paths []string) (bool, error) {
	w.current = w.current[:0]
	for i := range w.targets {
		o := &out{run: run, target: &w.targets[i], path: paths[i]}
		if reason := checkPath(o.path); reason != "" {
			return false, connector.Permanent(errors.New("write a file: " + reason))
		}
		dir, name := path.Split(o.path)
		if dir != "" {
			if err := w.root.MkdirAll(filepath.FromSlash(strings.TrimSuffix(dir, "/")), dirMode); err != nil {
				return false, escape(fmt.Errorf("make the folder of %s: %w", o.path, err))
			}
		}
		o.temp = fmt.Sprintf("%s.%.100s.%s-%d.tmp", dir, name, run.ID, i)
		f, err := w.root.OpenFile(filepath.FromSlash(o.temp), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
		if err != nil {
			return false, escape(err)
		}
		o.file, o.buffer = f, bufio.NewWriterSize(f, 64<<10)
		w.outs, w.current = append(w.outs, o), append(w.current, o)
		if o.encoder, err = o.target.Format.NewEncoder(o.buffer, o.target.Encode); err != nil {
			return false, connector.Permanent(err)
		}
	}
	return false, nil
}

// escape marks the refusal to leave the folder as final.
func escape(err error) error {
	if strings.Contains(err.Error(), "escapes") { // os.Root has no error value of its own for it
		return connector.Permanent(err)
	}
	return err
}

// Write adds records to a file of the run that was started last.
func (w *work) Write(target int, b *transform.Batch) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	return w.current[target].encoder.Encode(b)
}

// Commit puts the files in place: all are synced before the first is renamed.
func (w *work) Commit() error {
	for _, o := range w.outs {
		if err := o.finish(); err != nil {
			return err
		}
	}
	folders := map[string]bool{}
	w.c.commits.Lock()
	defer w.c.commits.Unlock()
	for _, o := range w.outs {
		if err := w.place(o, folders); err != nil {
			return err
		}
	}
	for dir := range folders {
		if err := w.sync(dir); err != nil {
			return err
		}
	}
	w.ended = true
	return nil
}

// finish writes the end of the file, and syncs and closes it.
func (o *out) finish() error {
	if err := o.encoder.Close(); err != nil {
		return err
	}
	if err := o.buffer.Flush(); err != nil {
		return err
	}
	if err := o.file.Sync(); err != nil {
		return err
	}
	return o.file.Close()
}

// place gives the file its final name, and notes the folders that are to be synced.
func (w *work) place(o *out, folders map[string]bool) error {
	for dir := path.Dir(o.path); ; dir = path.Dir(dir) {
		folders[dir] = true
		if dir == "." {
			break
		}
	}
	switch o.target.Exists {
	case "unique":
		return w.placeUnique(o)
	case "fail":
		note, err := w.note(o.path)
		if err != nil {
			return err
		}
		_, err = w.root.Lstat(filepath.FromSlash(o.path))
		switch {
		case err == nil && note.id == o.run.ID:
			return w.root.Remove(filepath.FromSlash(o.temp)) // an earlier attempt's
		case err == nil:
			return connector.Permanent(fmt.Errorf("%s exists already, and exists: fail says that it stays", o.path))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := w.write(note, o.run, ""); err != nil {
			return err
		}
	default:
		if strings.Contains(o.target.Path, "${run.id}") || strings.Contains(o.target.Path, "${run.number}") {
			break // no other run writes it
		}
		note, err := w.note(o.path)
		if err != nil {
			return err
		}
		if note.later(o.run) {
			return w.root.Remove(filepath.FromSlash(o.temp))
		}
		if err := w.write(note, o.run, ""); err != nil {
			return err
		}
	}
	return w.root.Rename(filepath.FromSlash(o.temp), filepath.FromSlash(o.path))
}

// placeUnique gives the file the first name that is free: orders.csv, orders-2.csv … A second attempt takes the name of the first.
func (w *work) placeUnique(o *out) error {
	note, err := w.note(o.path + "\x00" + o.run.ID.String())
	if err != nil {
		return err
	}
	final := note.text
	if final == "" {
		extension := path.Ext(o.path)
		for n := 1; ; n++ {
			final = o.path
			if n > 1 {
				final = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(o.path, extension), n, extension)
			}
			if _, err := w.root.Lstat(filepath.FromSlash(final)); errors.Is(err, fs.ErrNotExist) {
				break
			} else if err != nil {
				return err
			}
		}
		if err := w.write(note, o.run, final); err != nil {
			return err
		}
	}
	return w.root.Rename(filepath.FromSlash(o.temp), filepath.FromSlash(final))
}

// note says which run wrote a path last.
type note struct {
	file   string
	number int64
	id     uuid.UUID
	text   string
}

// later reports whether the path was written by a run that began after this one. Both the number and the id must say so: numbers begin
// again with a new store, and ids follow the clock, which may be set back.
func (n *note) later(run connector.Run) bool {
	return n.number > run.Number && strings.Compare(n.id.String(), run.ID.String()) > 0
}

// note reads the note about a path; without one the note is empty.
func (w *work) note(about string) (*note, error) {
	sum := sha256.Sum256([]byte(about))
	n := &note{file: filepath.Join(ownDir, hex.EncodeToString(sum[:16]))}
	b, err := w.root.ReadFile(n.file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, err
	}
	if fields := strings.SplitN(strings.TrimSuffix(string(b), "\n"), " ", 3); len(fields) == 3 {
		n.number, _ = strconv.ParseInt(fields[0], 10, 64) // what cannot be read counts as no note
		n.id, _ = uuid.Parse(fields[1])
		n.text = fields[2]
	}
	return n, nil
}

// write makes the note say that this run writes the path.
func (w *work) write(n *note, run connector.Run, text string) error {
	if n.number == run.Number && n.id == run.ID {
		return nil
	}
	if err := w.root.MkdirAll(ownDir, dirMode); err != nil {
		return err
	}
	temp := n.file + ".tmp"
	f, err := w.root.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s %s\n", run.Number, run.ID, text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = w.root.Rename(temp, n.file)
	}
	if err == nil {
		err = w.sync(ownDir)
	}
	return err
}

// sync makes the names in a folder permanent.
func (w *work) sync(dir string) error {
	d, err := w.root.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Rollback removes the files that are not in place.
func (w *work) Rollback() error {
	if w.ended {
		return nil
	}
	w.ended = true
	var faults []error
	for _, o := range w.outs {
		o.file.Close() // it may be closed already
		if err := w.root.Remove(filepath.FromSlash(o.temp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}
