package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/failpoint"
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
		default:
			if reason := checkPath(filled(t.Path)); reason != "" {
				fault(i, "path", reason, "")
			}
		}
		paths[t.Path] = true
		if t.Format == nil {
			fault(i, "path", "the format of the file is missing", "write format: csv")
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
		if t.Commit > 0 {
			fault(i, "commit", "a file is put in place as a whole", "leave it out")
		}
		switch t.Exists {
		case "", "replace", "fail", "unique":
		case "append":
			if c.packed(filled(t.Path)) != nil {
				fault(i, "exists", "nothing is appended to a packed file", "write another word for exists, or compression: none for the connection")
			} else if _, err := appender(io.Discard, &t); err != nil && t.Format != nil {
				fault(i, "exists", err.Error(), "write format: ndjson or csv, or another word for exists")
			}
		default:
			fault(i, "exists", fmt.Sprintf("%q is not known", t.Exists), "there are replace, append, fail, unique")
		}
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return &writer{c, targets}, nil
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
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := w.c.make(); err != nil {
		return nil, err
	}
	root, err := w.c.open()
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
	temp    string // its name until then, with the system's separators
	file    *os.File
	buffer  *bufio.Writer
	packer  io.WriteCloser // before the buffer
	encoder transform.Encoder
	info    fs.FileInfo // of the file when it is complete
}

// Start opens the files of a run. When all of them are in place already, or a later run's, the run was applied.
func (w *work) Start(run connector.Run, paths []string) (bool, error) {
	if err := w.ctx.Err(); err != nil {
		return false, err
	}
	if err := w.finish(); err != nil {
		return false, err
	}
	outs := make([]*out, len(w.targets))
	applied := true
	for i := range w.targets {
		o := &out{run: run, target: &w.targets[i], path: paths[i]}
		if reason := checkPath(o.path); reason != "" {
			return false, valueFault(reason)
		}
		if slices.ContainsFunc(outs[:i], func(other *out) bool { return other.path == o.path }) {
			return false, valueFault("another destination of the run writes the same file")
		}
		if reason := w.taken(o); reason != "" {
			return false, valueFault(reason)
		}
		o.temp = filepath.Join(filepath.FromSlash(path.Dir(o.path)), fmt.Sprintf("%s%s-%d%s", tempPrefix, run.ID, i, tempSuffix))
		outs[i] = o
		done, err := w.done(o)
		if err == nil && !done && o.target.Exists == "fail" {
			err = w.free(o.path)
		}
		if err != nil {
			return false, escape(err)
		}
		applied = applied && done
	}
	for _, o := range outs {
		if err := w.root.Remove(o.temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an attempt that crashed
			return false, escape(err)
		}
	}
	if applied {
		return true, nil
	}
	for _, o := range outs {
		err := w.create(o)
		if o.file != nil {
			w.outs, w.current = append(w.outs, o), append(w.current, o)
		}
		if err != nil {
			return false, escape(err)
		}
		if o.target.Exists == "append" {
			o.encoder, err = appender(o.packer, o.target)
		} else {
			o.encoder, err = o.target.Format.NewEncoder(o.packer, o.target.Encode)
		}
		if err != nil {
			return false, connector.Permanent(err)
		}
	}
	return false, nil
}

// taken returns why a file cannot have the name that a value has made, whatever a later attempt finds; "" when it can.
func (w *work) taken(o *out) string {
	if o.path == o.target.Path {
		return ""
	}
	info, err := w.root.Stat(filepath.FromSlash(o.path))
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return "a file stands where a folder would have to be"
	case err == nil && info.IsDir() && o.target.Exists != "fail" && o.target.Exists != "unique":
		return "a folder has that name"
	}
	return ""
}

// create makes the file under its temporary name, which is the same in every attempt.
func (w *work) create(o *out) error {
	dir := filepath.Dir(o.temp)
	if err := w.root.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make the folder of %s: %w", o.path, err)
	}
	w.c.sweep(w.root, dir)
	f, err := w.root.OpenFile(o.temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	o.file, o.buffer = f, bufio.NewWriterSize(&eager{file: f}, 64<<10)
	packed := w.c.packed(o.path)
	if o.target.Raw && w.c.compression == "" { // it is what its name says
		packed = nil
	}
	if packed != nil && o.target.Exists == "append" { // a value in the path says so
		return connector.Permanent(fmt.Errorf("nothing is appended to a packed file such as %s", o.path))
	}
	o.packer, err = packed.Pack(o.buffer)
	return err
}

// eager is a file whose content is sent to the disk while it is written, so that little is left to wait for when it is synced.
type eager struct {
	file        *os.File
	size, begun int64 // written, and of that on its way to the disk
}

// eagerSize is how much is sent at once.
const eagerSize = 8 << 20

func (e *eager) Write(p []byte) (int, error) {
	n, err := e.file.Write(p)
	if e.size += int64(n); e.size-e.begun >= eagerSize {
		beginSync(e.file, e.begun, e.size-e.begun)
		e.begun = e.size
	}
	return n, err
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
		return err
	}
	o := w.current[target]
	return o.fault(o.encoder.Encode(b))
}

// Borrows says that records are written to the encoder's buffer and not kept.
func (w *work) Borrows() {}

// fault marks what the format cannot write as final; what the file cannot take is tried again.
func (o *out) fault(err error) error {
	if err == nil {
		return nil
	}
	if _, broken := o.buffer.Write(nil); broken != nil {
		return err
	}
	return connector.Permanent(err)
}

// finish completes the files of the run that was started last: they are written, synced and closed.
func (w *work) finish() error {
	for _, o := range w.current {
		if err := o.fault(o.encoder.Close()); err != nil {
			return err
		}
		if err := o.packer.Close(); err != nil {
			return err
		}
		if err := o.buffer.Flush(); err != nil {
			return err
		}
		if err := o.file.Sync(); err != nil {
			return err
		}
		var err error
		if o.info, err = o.file.Stat(); err != nil {
			return err
		}
		if err := o.file.Close(); err != nil {
			return err
		}
	}
	w.current = nil
	return nil
}

// Commit puts the files in place: all are complete before the first is renamed.
func (w *work) Commit() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	w.c.commits.Lock()
	defer w.c.commits.Unlock()
	for _, o := range w.outs {
		if err := w.place(o); err != nil {
			return err
		}
		failpoint.Hit("file.placed")
	}
	synced := map[string]bool{}
	for _, o := range w.outs {
		if err := w.syncFolders(o, synced); err != nil {
			return err
		}
	}
	failpoint.Hit("file.committed")
	w.ended = true
	return w.root.Close()
}

// syncFolders makes the name of a file durable, and those of the folders above it.
func (w *work) syncFolders(o *out, synced map[string]bool) error {
	for dir := path.Dir(o.path); !synced[dir]; dir = path.Dir(dir) { // "." is its own parent
		if err := syncDir(w.root.Open(filepath.FromSlash(dir))); err != nil {
			return err
		}
		synced[dir] = true
	}
	return nil
}

// place gives the file its final name, or appends it to the one that has it.
func (w *work) place(o *out) error {
	if o.target.Exists == "append" {
		if err := w.mend(o); err != nil {
			return escape(err)
		}
	}
	done, err := w.done(o)
	if err != nil {
		return err
	}
	if done { // an earlier attempt did it, or a later run did
		return w.root.Remove(o.temp)
	}
	if o.target.Exists == "append" {
		if err := w.append(o); err != nil {
			return escape(err)
		}
		failpoint.Hit("append.noted")
		return w.root.Remove(o.temp)
	}
	final := o.path
	for n := 2; ; n++ {
		err := w.free(final)
		if err == nil || o.target.Exists == "" || o.target.Exists == "replace" {
			break
		}
		if o.target.Exists == "fail" || !connector.IsPermanent(err) {
			return err
		}
		extension := path.Ext(o.path)
		final = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(o.path, extension), n, extension)
	}
	failpoint.Hit("file.noting")
	if !o.named() {
		if err := w.note(o, final); err != nil {
			return err
		}
	}
	failpoint.Hit("file.placing")
	return w.root.Rename(o.temp, filepath.FromSlash(final))
}

// free returns why a file cannot be written without harm to another one: a permanent error that wraps fs.ErrExist, of one that is there.
func (w *work) free(path string) error {
	_, err := w.root.Lstat(filepath.FromSlash(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return connector.Permanent(&fs.PathError{Op: "write", Path: path, Err: fs.ErrExist})
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
		if err := w.root.Remove(o.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(append(faults, w.root.Close())...)
}
