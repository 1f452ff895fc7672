package store

import (
	"context"
	"crypto/sha256"
)

// Spool collects a body of unknown size: in memory up to [InlineBytes], from there on in a blob. It is used by one goroutine. End it
// with Body or Abort.
type Spool struct {
	ctx    context.Context
	blobs  Blobs
	inline []byte
	blob   BlobWriter
	size   int64
}

// NewSpool returns an empty spool for blobs. ctx bounds the writes.
func NewSpool(ctx context.Context, blobs Blobs) *Spool {
	return &Spool{ctx: ctx, blobs: blobs}
}

// Size returns how many bytes were written.
func (s *Spool) Size() int64 { return s.size }

// Write adds bytes.
func (s *Spool) Write(p []byte) (int, error) {
	if s.blob == nil && len(s.inline)+len(p) > InlineBytes {
		blob, err := s.blobs.CreateBlob(s.ctx)
		if err != nil {
			return 0, err
		}
		s.blob = blob
		if _, err := blob.Write(s.inline); err != nil {
			return 0, err
		}
		s.inline = nil
	}
	s.size += int64(len(p))
	if s.blob != nil {
		return s.blob.Write(p)
	}
	s.inline = append(s.inline, p...)
	return len(p), nil
}

// Body ends the spool and returns its body; a blob's bytes are durable then, inline bytes with what they are stored in.
func (s *Spool) Body() (Body, error) {
	if s.blob != nil {
		return s.blob.Commit()
	}
	return Body{Inline: s.inline, Size: s.size, SHA256: sha256.Sum256(s.inline)}, nil
}

// Abort throws the bytes away. After Body it does nothing.
func (s *Spool) Abort() {
	if s.blob != nil {
		s.blob.Abort() // what stays is swept when the store is opened next
	}
}
