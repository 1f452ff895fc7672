package flow

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/integrator-go/integrator/transform"
)

// Response is what a flow answers to the caller that waits for its run. It is complete before it is sent, so that its status and its
// body agree. It is used by one goroutine at a time; Close releases it.
type Response struct {
	Status int
	Header http.Header

	plan    *answer
	leftOut func(header string, err error) // told of a header that cannot be sent
	encoder transform.Encoder
	memory  bytes.Buffer
	file    *os.File // set once the body has outgrown the memory
	size    int64
	begun   bool
}

// responseMemory is how large a response may grow in memory; what is larger goes to a temporary file.
const responseMemory = 256 << 10

func newResponse(a *answer) *Response {
	return &Response{Status: a.status, Header: http.Header{}, plan: a}
}

// Write adds to the body.
func (r *Response) Write(p []byte) (int, error) {
	r.size += int64(len(p))
	if r.file == nil && r.memory.Len()+len(p) <= responseMemory {
		return r.memory.Write(p)
	}
	if r.file == nil {
		file, err := os.CreateTemp("", "integrator-response-*")
		if err != nil {
			return 0, fmt.Errorf("spool the response: %w", err)
		}
		r.file = file
		os.Remove(file.Name()) // the open file is enough; where that fails, Close removes it
		if _, err := r.memory.WriteTo(file); err != nil {
			return 0, fmt.Errorf("spool the response: %w", err)
		}
	}
	return r.file.Write(p)
}

// begin writes the head, once.
func (r *Response) begin(env *transform.Env) error {
	if r.begun {
		return nil
	}
	r.begun = true
	if !r.plan.empty {
		r.Header.Set("Content-Type", r.plan.format.MediaType())
	}
	for _, h := range r.plan.headers {
		value, err := h.value.fill(env, nil, headerValue)
		if err != nil {
			r.leftOut(h.name, err) // rather than changed
			continue
		}
		r.Header.Set(h.name, value)
	}
	if r.plan.empty {
		return nil
	}
	encoder, err := r.plan.format.NewEncoder(r, transform.EncodeOptions{As: r.plan.as})
	r.encoder = encoder
	return err
}

func (r *Response) encode(env *transform.Env, b *transform.Batch) error {
	if err := r.begin(env); err != nil || r.encoder == nil {
		return err
	}
	return r.encoder.Encode(b)
}

func (r *Response) finish(env *transform.Env) error {
	if err := r.begin(env); err != nil || r.encoder == nil {
		return err
	}
	return r.encoder.Close()
}

// Empty reports whether the status allows no body.
func (r *Response) Empty() bool { return r.plan.empty }

// Size returns the length of the body in bytes.
func (r *Response) Size() int64 { return r.size }

// WriteTo sends the body. It can be called once.
func (r *Response) WriteTo(w io.Writer) (int64, error) {
	if r.file == nil {
		return r.memory.WriteTo(w)
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read the spooled response: %w", err)
	}
	return io.Copy(w, r.file)
}

// Close releases the body. The second call does nothing.
func (r *Response) Close() {
	if r.file != nil {
		r.file.Close()
		os.Remove(r.file.Name())
		r.file = nil
	}
}
