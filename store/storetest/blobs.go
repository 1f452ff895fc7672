package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// large is the content of a body that is kept as a blob.
var large = content(3*store.InlineBytes + 17)

func content(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

var blobCases = map[string]func(*testing.T, Harness){
	"blobs: what is written is read": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, size := range []int{0, 1, store.InlineBytes - 1, store.InlineBytes, store.InlineBytes + 1, 2 * store.InlineBytes, 5*store.InlineBytes + 3} {
			want := content(size)
			w, err := r.CreateBlob(r.ctx)
			r.check(err)
			for left, piece := want, 1; len(left) > 0; piece = piece*3 + 1 {
				n, err := w.Write(left[:min(piece, len(left))])
				r.check(err)
				left = left[n:]
			}
			body, err := w.Commit()
			r.check(err)
			r.same([]any{body.Size, body.SHA256, body.Inline == nil, body.Blob != uuid.Nil}, []any{int64(size), sha256.Sum256(want), true, true})
			for _, b := range []store.Body{body, {Inline: want, Size: int64(size), SHA256: body.SHA256}} {
				reader, err := r.OpenBody(r.ctx, b)
				r.check(err)
				if err := iotest.TestReader(reader, want); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
				r.check(reader.Close())
			}
		}
	},
	"blobs: readers are independent": func(t *testing.T, h Harness) {
		r := begin(t, h)
		body := r.blob(large)
		var readers []io.ReadSeekCloser
		for range 3 {
			reader, err := r.OpenBody(r.ctx, body)
			r.check(err)
			defer reader.Close()
			readers = append(readers, reader)
			_, err = io.CopyN(io.Discard, reader, 70_000)
			r.check(err)
		}
		for _, reader := range readers {
			got, err := io.ReadAll(reader)
			r.check(err)
			r.same(got, large[70_000:])
		}
	},
	"blobs: abort throws the bytes away": func(t *testing.T, h Harness) {
		r := begin(t, h)
		w, err := r.CreateBlob(r.ctx)
		r.check(err)
		_, err = w.Write(large)
		r.check(err)
		r.check(w.Abort())
		if _, err := w.Commit(); err == nil {
			t.Error("an aborted body was committed")
		}
		if _, err := w.Write(large); err == nil {
			t.Error("an aborted body was written to")
		}
		r.check(w.Abort())
	},
	"blobs: after commit nothing changes": func(t *testing.T, h Harness) {
		r := begin(t, h)
		w, err := r.CreateBlob(r.ctx)
		r.check(err)
		_, err = w.Write(large)
		r.check(err)
		body, err := w.Commit()
		r.check(err)
		if _, err := w.Commit(); err == nil {
			t.Error("a body was committed twice")
		}
		if _, err := w.Write([]byte("more")); err == nil {
			t.Error("a committed body was written to")
		}
		r.check(w.Abort())
		got, err := r.read(body)
		r.check(err)
		r.same(got, large)
	},
	"blobs: discarded, unless something refers to them": func(t *testing.T, h Harness) {
		r := begin(t, h)
		loose, sent, rejects := r.blob(large), r.blob(large), r.blob(large)
		a := r.of(r.newMessage(""), 1)
		a.Message.Body = sent
		r.accept(a)
		s := ended(r.claim(1)[0], store.Error)
		s.Rejects = rejects
		r.settle(s)
		for range 2 {
			for _, b := range []store.Body{loose, sent, rejects, inline("x"), {}} {
				r.check(r.Discard(r.ctx, b))
			}
		}
		_, err := r.OpenBody(r.ctx, loose)
		r.is(err, store.ErrNotFound)
		for _, b := range []store.Body{sent, rejects} {
			got, err := r.read(b)
			r.check(err)
			r.same(got, large)
		}
	},
	"blobs: what is not there": func(t *testing.T, h Harness) {
		r := begin(t, h)
		_, err := r.OpenBody(r.ctx, store.Body{Blob: newID(), Size: 9})
		r.is(err, store.ErrNotFound)
		_, err = r.OpenBody(r.ctx, store.Body{Size: 9})
		r.is(err, store.ErrErased)
	},
	"blobs: damage is met before a damaged byte is read": func(t *testing.T, h Harness) {
		if h.Damage == nil {
			t.Skip("this back end's blobs cannot be damaged")
		}
		r := begin(t, h)
		body := r.blob(large)
		h.Damage(t, r.Store, body.Blob)
		got, err := r.read(body)
		r.is(err, store.ErrCorrupt)
		r.same(bytes.HasPrefix(large, got), true)
		r.check(r.Health())
	},
	"blobs: swept at open unless something refers to them": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("")
		m.Body = r.blob(large)
		r.accept(r.of(m, 1))
		s := ended(r.claim(1)[0], store.Warning)
		s.Rejects, s.Log = r.blob(large), r.blob(large)
		r.settle(s)
		inserted := r.newMessage("")
		inserted.Body = r.blob(large)
		number, err := r.queue.NextNumber(r.ctx)
		r.check(err)
		i := ended(*r.newRun(1), store.Success)
		i.Run.Number, i.Run.Message, i.Insert, i.Message = number, inserted.ID, true, inserted
		r.settle(i)
		orphan := r.blob(large)
		unfinished, err := r.CreateBlob(r.ctx)
		r.check(err)
		_, err = unfinished.Write(large)
		r.check(err)
		for range 2 {
			r.reopen()
			for _, body := range []store.Body{m.Body, s.Rejects, s.Log, inserted.Body} {
				got, err := r.read(body)
				r.check(err)
				r.same(got, large)
			}
			_, err = r.read(orphan)
			r.is(err, store.ErrNotFound)
		}
	},
	"blobs: a spool keeps small bodies inline": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, size := range []int{0, 1, store.InlineBytes, store.InlineBytes + 1, len(large)} {
			spool := store.NewSpool(r.ctx, r.Store)
			for left := content(size); len(left) > 0; left = left[min(len(left), 1000):] {
				_, err := spool.Write(left[:min(len(left), 1000)])
				r.check(err)
			}
			r.same(spool.Size(), int64(size))
			body, err := spool.Body()
			r.check(err)
			spool.Abort() // does nothing any more
			r.same([]any{body.Size, body.SHA256, body.Blob == uuid.Nil}, []any{int64(size), sha256.Sum256(content(size)), size <= store.InlineBytes})
			got, err := r.read(body)
			r.check(err)
			r.same(fmt.Sprintf("%x", sha256.Sum256(got)), fmt.Sprintf("%x", body.SHA256))
		}
	},
}
