// Package file reads and writes the files of a folder: connections of type file.
//
// What it promises: nothing outside the folder is ever touched, also through symbolic links (os.Root). A file is written under a hidden
// temporary name beside its own, synced, and renamed into place when the run commits: readers see the former file or the whole new one.
// Several files of one commit are all complete before the first is put in place, one after the other. A second attempt of a run that put
// its files in place writes nothing, and a path that a later run wrote is never put back by an older run's retry; which run wrote a path is
// noted in the folder .integrator. With exists: append a run's records are written behind those of the runs that committed before, in one go at its
// commit: a run that was applied appends nothing, and what one that crashed has left of its records is cut off before anything else is appended;
// who reads the file meanwhile may see it. That holds while a file stays where it was put: when somebody takes it away between the commit and a crash
// before the run is settled, the next attempt writes it again. Notes and the temporary files of attempts that crashed are removed when they
// are old. One engine writes to a folder at a time.
//
// Files whose names end with .gz are packed with gzip, unless the connection's compression says otherwise; payloads that are put into files as
// they are stay as they are, unless it says gzip. See [Compression].
//
// The name that matters is [Kind].
package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// options are a definition's keys.
type options struct {
	Dir         string `json:"dir"`
	Compression string `json:"compression"` // of its files: gzip, none, or another one that the engine has; unless told, what the end of a file's name says
}

// Kind makes connections of type file: `{type: file, dir: out}`. A folder that is missing is made when it is first written to. More are
// compressions beside the built-in gzip.
func Kind(more ...Compression) connector.Kind {
	known := append([]Compression{Gzip()}, more...)
	return connector.Kind{Name: "file", New: func(env connector.Env, decode func(any) error) (connector.Connection, error) {
		var o options
		if err := decode(&o); err != nil {
			return nil, err
		}
		if o.Dir == "" {
			return nil, &connector.Fault{Key: "dir", Reason: "the folder is missing", Hint: "write dir: out"}
		}
		if _, err := Choose(known, o.Compression, ""); err != nil {
			return nil, &connector.Fault{Key: "compression", Reason: err.Error(), Hint: "leave it out, and the end of a file's name tells"}
		}
		if !filepath.IsAbs(o.Dir) {
			o.Dir = filepath.Join(env.BaseDir, o.Dir)
		}
		commits, _ := folders.LoadOrStore(filepath.Clean(o.Dir), &sync.Mutex{})
		return &connection{dir: o.Dir, compression: o.Compression, known: known, now: env.Now, commits: commits.(*sync.Mutex), swept: map[string]time.Time{}}, nil
	}}
}

// folders holds a lock for each folder, as connections to one folder may be several: those of a set of definitions and of the next one.
var folders sync.Map

// connection is a folder. It is opened for each use, so that one that was away or was made anew is found again.
type connection struct {
	dir         string
	compression string // "": the end of a file's name tells
	known       []Compression
	now         func() time.Time

	commits *sync.Mutex // one decision about who wrote a path last, or where its end is, at a time

	mu    sync.Mutex
	swept map[string]time.Time // when the leftovers of a folder were removed
}

var (
	_ connector.Source      = (*connection)(nil)
	_ connector.Destination = (*connection)(nil)
)

// Folder modes and file modes of what is made.
const (
	dirMode  = 0o750
	fileMode = 0o640
)

// open opens the folder.
func (c *connection) open() (*os.Root, error) {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	return root, nil
}

// make makes the folder when it is missing, for good.
func (c *connection) make() error {
	var made []string // folders that get a new name in them
	for dir := c.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, filepath.Dir(dir))
	}
	if len(made) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.dir, dirMode); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	for _, dir := range made {
		if err := syncDir(os.Open(dir)); err != nil {
			return fmt.Errorf("make the folder: %w", err)
		}
	}
	return nil
}

// syncDir makes the names in a folder permanent.
func syncDir(d *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// packed returns how a file is packed.
func (c *connection) packed(path string) *Compression {
	compression, _ := Choose(c.known, c.compression, path) // its name is known to be right
	return compression
}

// Ping reports whether the folder can be used. It makes one that is missing, as a destination does.
func (c *connection) Ping(context.Context) error {
	if err := c.make(); err != nil {
		return err
	}
	root, err := c.open()
	if err != nil {
		return err
	}
	return root.Close()
}

// Close does nothing: each use closes what it opened.
func (c *connection) Close() error { return nil }

// ownDir is the folder in which the connection keeps its notes.
const ownDir = ".integrator"

// checkPath returns why a path cannot be one of the folder's files, "" when it can. It is never changed to fit.
func checkPath(path string) string {
	if path == "" {
		return "the path is empty"
	}
	if len(path) > 4096 {
		return "the path is longer than 4096 bytes"
	}
	for i, name := range strings.Split(path, "/") {
		switch {
		case name == "" && i == 0:
			return "the path begins with /: it is relative to the connection's folder"
		case name == "":
			return "the path has an empty name in it"
		case name == "." || name == "..":
			return "the path leads out of its folder"
		case len(name) > 200:
			return "a name in the path is longer than 200 bytes"
		case strings.ContainsAny(name, "\\:") || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			return `a name in the path holds a character that files cannot have everywhere (\, :, control characters)`
		case strings.HasPrefix(name, ownDir):
			return "names that begin with " + ownDir + " are the engine's own"
		case strings.HasPrefix(name, "."):
			return "names that begin with a dot are hidden and are not used"
		case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
			return "a name in the path ends with a dot or a blank"
		}
	}
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return "the path is no file's name on this system"
	}
	return ""
}

var placeholder = regexp.MustCompile(`\$\{[^}]*\}`)

// filled returns a path with something harmless for each ${…}, to check what surrounds them.
func filled(path string) string { return placeholder.ReplaceAllLiteralString(path, "x") }

// valueFault says that a path is none because of a value in it: the rest was checked when it was defined.
func valueFault(reason string) error {
	return &transform.Fault{Kind: "input", Reason: "a value that fills in the path makes no file's name: " + reason}
}

// PrepareRead checks a flow's `from`.
func (c *connection) PrepareRead(spec connector.ReadSpec) (connector.Reader, error) {
	switch {
	case spec.Table != "":
		return nil, &connector.Fault{Key: "table", Reason: "a folder has no tables", Hint: "write path"}
	case spec.Query != "":
		return nil, &connector.Fault{Key: "query", Reason: "a folder answers no queries", Hint: "write path"}
	case spec.Path == "":
		return nil, &connector.Fault{Key: "connection", Reason: "nothing is read from it", Hint: "write path: orders.csv"}
	case strings.ContainsAny(spec.Path, "*?"):
		return nil, &connector.Fault{Key: "path", Reason: "the path is that of one file; patterns are not supported yet", Hint: "write the file's name"}
	case spec.Format == nil:
		return nil, &connector.Fault{Key: "path", Reason: "the format of the file is missing", Hint: "write format: csv"}
	}
	if reason := checkPath(filled(spec.Path)); reason != "" {
		return nil, &connector.Fault{Key: "path", Reason: reason}
	}
	return &reader{c, spec}, nil
}

// reader opens a file for each run.
type reader struct {
	c    *connection
	spec connector.ReadSpec
}

// Binds returns nothing: files have no queries.
func (r *reader) Binds() []connector.Bind { return nil }

// Open opens the file.
func (r *reader) Open(ctx context.Context, request connector.ReadRequest) (connector.Records, error) {
	path := request.Path
	if path == "" {
		path = r.spec.Path
	}
	if reason := checkPath(path); reason != "" {
		return nil, valueFault(reason)
	}
	root, err := r.c.open()
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		name := filepath.FromSlash(path)
		info, err := root.Stat(name) // before it is opened: a pipe would wait for its other end
		if err != nil {
			err = escape(err)
		}
		given := path != r.spec.Path
		switch {
		case given && connector.IsPermanent(err):
			return nil, valueFault("the file is not in the folder")
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular() && given:
			return nil, valueFault("it is the name of something else")
		case !info.Mode().IsRegular():
			return nil, connector.Permanent(fmt.Errorf("%s is no file", path))
		}
		f, err := root.Open(name)
		if err != nil {
			return nil, escape(err)
		}
		unpacked, err := r.c.packed(path).Unpack(&patient{f, ctx})
		if err != nil {
			f.Close()
		}
		return unpacked, err
	}
	f, err := open()
	if err != nil {
		root.Close()
		return nil, err
	}
	options := r.spec.Decode
	options.Reopen = open
	decoder, err := r.spec.Format.NewDecoder(bufio.NewReaderSize(f, 128<<10), options)
	if err != nil {
		f.Close()
		root.Close()
		return nil, err
	}
	return &records{decoder, ctx, f, root}, nil
}

// patient is a file that is read until its context ends.
type patient struct {
	io.ReadCloser
	ctx context.Context
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.ReadCloser.Read(b)
}

// records is a file being read.
type records struct {
	decoder transform.Decoder
	ctx     context.Context
	file    io.Closer
	root    *os.Root
}

// Decode fills b with the next records.
func (r *records) Decode(b *transform.Batch) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	return r.decoder.Decode(b)
}

// Close closes the file.
func (r *records) Close() error {
	if c, ok := r.decoder.(io.Closer); ok {
		c.Close() // it only releases what Reopen opened
	}
	return errors.Join(r.file.Close(), r.root.Close())
}
