package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/integrator-go/integrator/listener"
)

// Faults of a request's body.
var (
	errTooSlow = errors.New("the body came too slowly")
	errCut     = errors.New("the body ended early")
)

// Limits of how slowly a body may come.
const (
	bodyGrace   = 20 * time.Second
	bodyMinRate = 4 << 10 // bytes a second, on average, after the grace
	bodyStep    = 4 * bodyMinRate
)

// bodyReader reads a request's body within its limits: no more bytes than max, no slower than the minimum rate.
type bodyReader struct {
	r        io.Reader
	max      int64
	read     int64
	control  *http.ResponseController
	began    time.Time
	deadline bool // the connection can be given deadlines
	next     int64
	err      error // how the body ended
}

func newBodyReader(w http.ResponseWriter, r *http.Request, max int64) *bodyReader {
	return &bodyReader{r: r.Body, max: max, control: http.NewResponseController(w), began: time.Now(), deadline: true, next: bodyStep} // bound gave the first step its time
}

// Read returns listener.ErrTooLarge, errTooSlow and errCut for what they say. Whatever else ends a body is the sender's doing too: bad
// chunks, a trailer that is none.
func (b *bodyReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.deadline && b.read >= b.next {
		allowed := bodyGrace + time.Duration(b.read/bodyMinRate)*time.Second
		b.deadline = b.control.SetReadDeadline(b.began.Add(allowed)) == nil
		b.next = b.read + bodyStep
	}
	if room := b.max - b.read; int64(len(p)) > room+1 {
		p = p[:room+1] // one byte more tells too large from just right
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	switch {
	case b.read > b.max:
		n, err = 0, listener.ErrTooLarge
	case err == nil, err == io.EOF:
	case errors.As(err, new(*http.MaxBytesError)):
		n, err = 0, listener.ErrTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errTooSlow
	default:
		err = errCut
	}
	if b.err = err; err == io.EOF && b.deadline {
		b.control.SetReadDeadline(time.Time{}) // what the server reads next is the end of the connection, or another request
		b.deadline = false
	}
	return n, err
}

// bound gives a body that nobody may ever read its time: the server reads what is left of it before it sends an answer.
func bound(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyGrace)) // where it cannot be set, the host's server has to
	}
}
