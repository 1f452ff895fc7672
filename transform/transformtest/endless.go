package transformtest

import (
	"errors"
	"testing"

	"github.com/integrator-go/integrator/transform"
)

// Endless is a document that begins with Head and goes on with Tail for ever.
type Endless struct {
	Head, Tail string
	Bytes      int64 // that were read
}

func (e *Endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		at := e.Bytes + int64(n)
		if at < int64(len(e.Head)) {
			n += copy(p[n:], e.Head[at:])
		} else {
			n += copy(p[n:], e.Tail[(at-int64(len(e.Head)))%int64(len(e.Tail)):])
		}
	}
	e.Bytes += int64(n)
	return n, nil
}

// Refuses checks that an endless document is refused, by Check and by Decode, before more than most bytes of it were read.
func Refuses(t *testing.T, f transform.Format, o transform.DecodeOptions, head, tail string, most int64) {
	t.Helper()
	for name, read := range map[string]func(*Endless) error{
		"Check":  func(e *Endless) error { return f.Check(e, o) },
		"Decode": func(e *Endless) error { _, err := Decode(f, e, o); return err },
	} {
		e := &Endless{Head: head, Tail: tail}
		var fault *transform.SyntaxError
		if err := read(e); !errors.As(err, &fault) || e.Bytes > most {
			t.Errorf("%s read %d bytes, at most %d are due: %v", name, e.Bytes, most, err)
		}
	}
}
