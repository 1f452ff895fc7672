// Package file reads and writes the files of a folder: connections of type file.
//
// What it promises: nothing outside the folder is ever touched, also through symbolic links (os.Root). A file is written under a hidden
// temporary name, synced, and renamed into place when the run commits: readers see the former file or the whole new one. A path that a later
// run wrote is never put back by an older run's retry; which run wrote a path is noted in the folder .integrator, whose files may be
// deleted when no run is on its way.
//
// The name that matters is [Kind].
package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// options are a definition's keys.
type options struct {
	Dir string `json:"dir"`
}

// Kind makes connections of type file: `{type: file, dir: out}`. A folder that is missing is made when it is first written to.
func Kind() connector.Kind {
	return connector.Kind{Name: "file", New: func(env connector.Env, decode func(any) error) (connector.Connection, error) {
		var o options
		if err := decode(&o); err != nil {
			return nil, err
		}
		if o.Dir == "" {
			return nil, &connector.Fault{Key: "dir", Reason: "the folder is missing", Hint: "write dir: out"}
		}
		if !filepath.IsAbs(o.Dir) {
			o.Dir = filepath.Join(env.BaseDir, o.Dir)
		}
		return &connection{dir: o.Dir}, nil
	}}
}

// connection is a folder.
type connection struct {
	dir string

	mu   sync.Mutex // guards root
	root *os.Root

	commits sync.Mutex // one decision about who wrote a path last at a time
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

// use returns the open folder.
func (c *connection) use(make bool) (*os.Root, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root != nil {
		return c.root, nil
	}
	if make {
		if err := os.MkdirAll(c.dir, dirMode); err != nil {
			return nil, fmt.Errorf("make the folder: %w", err)
		}
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	c.root = root
	return root, nil
}

// Ping reports whether the folder is there, or can be made.
func (c *connection) Ping(context.Context) error {
	_, err := c.use(true)
	return err
}

// Close lets go of the folder. A later use opens it again.
func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root == nil {
		return nil
	}
	err := c.root.Close()
	c.root = nil
	return err
}

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
	if reason := checkPath(spec.Path); reason != "" && !strings.Contains(spec.Path, "${") {
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
		return nil, connector.Permanent(errors.New("read a file: " + reason))
	}
	root, err := r.c.use(false)
	if err != nil {
		return nil, err
	}
	open := func() (*os.File, error) {
		f, err := root.Open(filepath.FromSlash(path))
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			f.Close()
			return nil, connector.Permanent(fmt.Errorf("%s is no file", path))
		}
		return f, nil
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	options := r.spec.Decode
	options.Reopen = func() (io.ReadCloser, error) { return open() }
	decoder, err := r.spec.Format.NewDecoder(bufio.NewReaderSize(&patient{ctx, f}, 128<<10), options)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &records{decoder, f}, nil
}

// patient is a reader that stops when its context ends.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// records is a file being read.
type records struct {
	transform.Decoder
	file *os.File
}

// Close closes the file.
func (r *records) Close() error {
	if c, ok := r.Decoder.(io.Closer); ok {
		c.Close() // it only releases what Reopen opened
	}
	return r.file.Close()
}
