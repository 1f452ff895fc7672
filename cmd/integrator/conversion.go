package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/transform"
)

// conversion is the connection that a conversion reads from and writes to: the files of the command line. It is for one run.
type conversion struct {
	in     *input
	paths  map[string]string // of what is written, by its path in the script
	pack   *file.Compression // of the output; nil: it is not packed
	single bool              // what is read is one record
}

var (
	_ connector.Source      = (*conversion)(nil)
	_ connector.Destination = (*conversion)(nil)
)

func (v *conversion) kind() connector.Kind {
	return connector.Kind{Name: "files", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return v, decode(&struct{}{})
	}}
}

func (v *conversion) Ping(context.Context) error { return nil }
func (v *conversion) Close() error               { return nil }

func (v *conversion) PrepareRead(spec connector.ReadSpec) (connector.Reader, error) {
	if d, ok := spec.Format.(transform.Describer); ok {
		v.single = d.Describe(spec.Decode).Single
	}
	return &conversionReader{v.in, spec}, nil
}

type conversionReader struct {
	in   *input
	spec connector.ReadSpec
}

func (r *conversionReader) Binds() []connector.Bind { return nil }

func (r *conversionReader) Open(ctx context.Context, _ connector.ReadRequest) (connector.Records, error) {
	options := r.spec.Decode
	options.Reopen = r.in.again
	decoder, err := r.spec.Format.NewDecoder(r.in.buffer, options)
	if err != nil {
		return nil, err
	}
	return &conversionRecords{decoder, ctx}, nil
}

type conversionRecords struct {
	transform.Decoder
	ctx context.Context
}

func (r *conversionRecords) Decode(b *transform.Batch) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	return r.Decoder.Decode(b)
}

func (r *conversionRecords) Close() error {
	if c, ok := r.Decoder.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// input is what a conversion reads.
type input struct {
	file   *os.File
	path   string
	size   int64     // in bytes; 0 where unknown
	from   io.Reader // the file, until the conversion is interrupted
	unpack *file.Compression
	plain  io.ReadCloser // what is in it
	buffer *bufio.Reader // what the format reads
	meter  *meter        // nil: what is read is not counted
}

func openInput(ctx context.Context, path string, unpack *file.Compression) (*input, error) {
	in := &input{file: os.Stdin, path: path, unpack: unpack}
	if path != "-" {
		var err error
		if in.file, err = os.Open(path); err != nil {
			return nil, err
		}
	}
	info, err := in.file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, usagef("%s is a folder", path)
	case info.Mode().IsRegular():
		in.size, in.from = info.Size(), in.file
	default: // a read of it may wait for ever
		r, w := io.Pipe()
		go func() { // ends with the process, if the other end sends nothing more
			_, err := io.Copy(w, in.file)
			w.CloseWithError(err)
		}()
		context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
		in.from = r
	}
	if in.plain, err = unpack.Unpack(packedInput{in}); err != nil {
		in.file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	in.buffer = bufio.NewReaderSize(in.plain, 128<<10)
	return in, nil
}

// packedInput is the bytes of the file.
type packedInput struct{ *input }

func (in packedInput) Close() error { return in.file.Close() }

func (in packedInput) Read(p []byte) (int, error) {
	n, err := in.from.Read(p)
	if in.meter != nil {
		in.meter.read.Add(int64(n))
	}
	return n, err
}

func (in *input) Close() error { return in.plain.Close() }

// again opens the input once more, for formats that look at what stands behind the records.
func (in *input) again() (io.ReadCloser, error) {
	if in.size == 0 {
		return nil, fmt.Errorf("what encloses the records stands behind them too, and %s can be read only once: put it into a file", in.path)
	}
	f, err := os.Open(in.path)
	if err != nil {
		return nil, err
	}
	return in.unpack.Unpack(f)
}

// isList reports whether the input is a JSON document that is a list.
func (in *input) isList() bool {
	begin, _ := in.buffer.Peek(4 << 10) // a fault comes again when it is read
	begin = bytes.TrimLeft(bytes.TrimPrefix(begin, []byte("\ufeff")), " \t\r\n")
	return len(begin) > 0 && begin[0] == '['
}

func (v *conversion) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	for i := range targets {
		t := &targets[i]
		if o := t.Encode; v.single && t.Path == "out" && o.As == "" { // one document becomes one, where the format has it
			o.As = "object"
			if _, err := t.Format.NewEncoder(io.Discard, o); err == nil {
				t.Encode = o
			}
		}
	}
	return &conversionWriter{v, targets}, nil
}

type conversionWriter struct {
	*conversion
	targets []connector.Target
}

func (w *conversionWriter) MaxRuns() int { return 1 }

func (w *conversionWriter) Begin(ctx context.Context) (connector.Work, error) {
	return &conversionWork{conversionWriter: w, ctx: ctx}, nil
}

// conversionWork is the files that are written.
type conversionWork struct {
	*conversionWriter
	ctx  context.Context
	outs []*output
}

// Borrows says that records are written to the encoder's buffer and not kept.
func (w *conversionWork) Borrows() {}

func (w *conversionWork) Start(connector.Run, []string) (bool, error) {
	for i := range w.targets {
		t := &w.targets[i]
		var pack *file.Compression
		if t.Path == "out" {
			pack = w.pack
		}
		o, err := openOutput(w.paths[t.Path], pack)
		if err != nil {
			return false, err
		}
		w.outs = append(w.outs, o)
		if o.encoder, err = t.Format.NewEncoder(o.packer, t.Encode); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (w *conversionWork) Write(target int, b *transform.Batch) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.outs[target].encoder.Encode(b)
}

// Commit completes all files before it puts the first in place.
func (w *conversionWork) Commit() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	for _, o := range w.outs {
		if err := o.complete(); err != nil {
			return err
		}
	}
	for _, o := range w.outs {
		if err := o.place(); err != nil {
			return err
		}
	}
	return nil
}

func (w *conversionWork) Rollback() error {
	var faults []error
	for _, o := range w.outs {
		faults = append(faults, o.drop())
	}
	return errors.Join(faults...)
}

// output is a file that is written.
type output struct {
	file    *os.File
	path    string // its final name
	temp    string // its name until it is complete; "": it is no file that could be put in place, and gets what is written at once
	buffer  *bufio.Writer
	packer  io.WriteCloser // before the buffer
	encoder transform.Encoder
}

func openOutput(path string, pack *file.Compression) (*output, error) {
	o := &output{file: os.Stdout, path: path}
	if path != "-" {
		if err := o.open(); err != nil {
			return nil, err
		}
	}
	o.buffer = bufio.NewWriterSize(o.file, 64<<10)
	var err error
	if o.packer, err = pack.Pack(o.buffer); err != nil {
		return nil, errors.Join(err, o.drop())
	}
	return o, nil
}

func (o *output) open() error {
	if real, err := filepath.EvalSymlinks(o.path); err == nil { // a link stays one
		o.path = real
	}
	mode := fs.FileMode(0o666)
	info, err := os.Stat(o.path)
	switch {
	case err == nil && info.IsDir():
		return usagef("%s is a folder", o.path)
	case err == nil && !info.Mode().IsRegular():
		o.file, err = os.OpenFile(o.path, os.O_WRONLY, 0)
		return err
	case err == nil:
		mode = info.Mode().Perm()
	}
	o.temp = filepath.Join(filepath.Dir(o.path), fmt.Sprintf(".%.200s-%x.tmp", filepath.Base(o.path), rand.Uint64()))
	o.file, err = os.OpenFile(o.temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	return err
}

// writeEmpty writes a file with nothing in it.
func writeEmpty(path string) error {
	o, err := openOutput(path, nil)
	if err != nil {
		return err
	}
	if err := o.complete(); err != nil {
		return errors.Join(err, o.drop())
	}
	return o.place()
}

// complete writes what is left, for good.
func (o *output) complete() error {
	if o.encoder != nil {
		if err := o.encoder.Close(); err != nil {
			return err
		}
	}
	if err := o.packer.Close(); err != nil {
		return err
	}
	if err := o.buffer.Flush(); err != nil || o.temp == "" {
		return err
	}
	return errors.Join(o.file.Sync(), o.file.Close())
}

// place gives the file its name, for good.
func (o *output) place() error {
	if o.temp == "" {
		return nil
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return err
	}
	o.temp = ""
	dir, err := os.Open(filepath.Dir(o.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// drop removes a file that is not in place.
func (o *output) drop() error {
	if o.temp == "" {
		return nil
	}
	o.file.Close() // it may be closed already
	return os.Remove(o.temp)
}
