package main

import (
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/integrator-go/integrator/connector/file"
)

// maxWindow bounds what unpacking holds in memory: what zstd wants of every program.
const maxWindow = 8 << 20

// compressions returns the ways to pack files that the command has beside gzip.
func compressions() []file.Compression {
	return []file.Compression{{Name: "zstd", Extension: ".zst",
		NewReader: func(r io.Reader) (io.ReadCloser, error) {
			d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
			if err != nil {
				return nil, err
			}
			return d.IOReadCloser(), nil
		},
		NewWriter: func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		}}}
}
