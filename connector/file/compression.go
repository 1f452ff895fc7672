package file

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// Compression is a way to pack files. Gzip is built in; hosts add others in integrator.Config.Compressions. It is safe for concurrent use.
type Compression struct {
	Name      string // what a connection's `compression` says
	Extension string // what the names of packed files end with, such as ".gz"

	// NewReader unpacks what r gives, in bounded memory however much comes of it. Its Close leaves r open.
	NewReader func(r io.Reader) (io.ReadCloser, error)

	// NewWriter packs for w; the same bytes become the same. Its Close ends the packed data and leaves w open.
	NewWriter func(w io.Writer) (io.WriteCloser, error)
}

// Gzip returns the compression of RFC 1952, of files that end with .gz.
func Gzip() Compression {
	return Compression{Name: "gzip", Extension: ".gz",
		NewReader: func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
		NewWriter: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }}
}

// None is the name that says that files are not packed, whatever their names say.
const None = "none"

// ErrCompression says that no compression has the name.
var ErrCompression = errors.New("the compression is not known")

// Choose returns how a file is packed: by the compression's name, without one by the end of the file's. nil: it is not packed. The error wraps
// [ErrCompression].
func Choose(known []Compression, name, path string) (*Compression, error) {
	i := slices.IndexFunc(known, func(c Compression) bool {
		return c.Name == name || name == "" && strings.HasSuffix(strings.ToLower(path), c.Extension)
	})
	switch {
	case i >= 0:
		return &known[i], nil
	case name == "" || name == None:
		return nil, nil
	}
	names := []string{None}
	for _, c := range known {
		names = append(names, c.Name)
	}
	return nil, fmt.Errorf("%w: %q; there are %s", ErrCompression, name, strings.Join(names, ", "))
}

// Unpack returns what is packed in r; r itself where c is nil. What is no packed data, or ends early, is a *transform.Fault of kind input.
func (c *Compression) Unpack(r io.ReadCloser) (io.ReadCloser, error) {
	if c == nil {
		return r, nil
	}
	u := &unpacked{c: c, packed: r}
	var err error
	if u.plain, err = c.NewReader(readerFunc(u.readPacked)); err != nil {
		return nil, u.fault(err)
	}
	return u, nil
}

// Pack returns a writer that packs for w, and leaves w open when it is closed; w itself where c is nil.
func (c *Compression) Pack(w io.Writer) (io.WriteCloser, error) {
	if c == nil {
		return unpackedWriter{w}, nil
	}
	return c.NewWriter(w)
}

type unpackedWriter struct{ io.Writer }

func (unpackedWriter) Close() error { return nil }

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// unpacked is what is packed in a file.
type unpacked struct {
	c      *Compression
	packed io.ReadCloser
	plain  io.ReadCloser
	broken error // of the file
}

func (u *unpacked) readPacked(p []byte) (int, error) {
	n, err := u.packed.Read(p)
	if err != nil && err != io.EOF {
		u.broken = err
	}
	return n, err
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.plain.Read(p)
	if err != nil && err != io.EOF {
		err = u.fault(err)
	}
	return n, err
}

// fault tells what is wrong with the packed data from what is wrong with the file.
func (u *unpacked) fault(err error) error {
	if u.broken != nil {
		return u.broken
	}
	reason := "the data is damaged"
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "the data ends early"
	}
	return &transform.Fault{Kind: "input", Reason: u.c.Name + ": " + reason, Err: err}
}

func (u *unpacked) Close() error { return errors.Join(u.plain.Close(), u.packed.Close()) }
