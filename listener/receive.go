package listener

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Receiver takes payloads in. It is safe for concurrent use.
type Receiver struct {
	runner *flow.Runner
	store  store.Store
	now    func() time.Time
	most   int64 // bodies that are read at a time
	bodies atomic.Int64
}

// NewReceiver returns a receiver that stores into st and hands its runs to r. now is the engine's clock; maxBodies bounds how many bodies are
// read at a time, 0 is 1024.
func NewReceiver(r *flow.Runner, st store.Store, now func() time.Time, maxBodies int) *Receiver {
	return &Receiver{runner: r, store: st, now: now, most: int64(cmp.Or(maxBodies, 1024))}
}

// Call is one call of a listener, authorised.
type Call struct {
	User   string
	Method string
	Params []store.Pair // of the path
	Query  []store.Pair
	Header []store.Pair // without credentials
	Body   io.Reader    // nil: none; it is the caller's part to bound it to the listener's MaxBody
	Length int64        // of the body, as it was announced; -1 when it was not
	Once   *store.Once  // the sender's key, which comes before the listener's own; its BodyHash and Until are set by Receive
	Anew   bool         // it is sent once more on purpose: the listener's own key is not looked for

	Stream flow.StreamFunc // takes an answer that is sent while its run goes on; nil: every answer comes when it has ended
}

// Answer is what a call comes to: the receipt, and for a synchronous listener the outcome of its run.
type Answer struct {
	Receipt *store.Receipt
	Outcome *flow.Outcome // nil for an asynchronous listener
}

// PayloadError says that a payload was refused before it was accepted: nothing of it is stored. It wraps a *transform.SyntaxError.
type PayloadError struct{ Err error }

// Error returns the place and the reason.
func (e *PayloadError) Error() string { return "the payload is malformed: " + e.Err.Error() }

// Unwrap returns the fault.
func (e *PayloadError) Unwrap() error { return e.Err }

// ErrBusy is the error for a call while too many bodies are being read: come again.
var ErrBusy = errors.New("too many payloads are being read already")

// ErrLength is the error for a body that is shorter or longer than was announced.
var ErrLength = errors.New("the body is not as long as was announced")

// Receive reads the body, checks its syntax on the way, stores it durably and, for a synchronous listener, waits for its run. Errors: a
// *PayloadError, ErrLength, ErrBusy, faults of the body's reader as they are, and those of flow.Runner's Submit and Call; with
// flow.ErrStillRuns the answer holds the receipt of the run that goes on.
func (r *Receiver) Receive(ctx context.Context, l *Listener, c *Call) (*Answer, error) {
	if err := r.runner.Admit(ctx, l.plans); err != nil {
		return nil, err
	}
	body, decoded, err := r.read(ctx, l, c)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("receive.read")
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	message := &store.Message{ID: id, Listener: l.Name, User: c.User, ReceivedAt: r.now(), Method: c.Method, Params: c.Params, Query: c.Query,
		Header: c.Header, Body: body}
	submission := flow.Submission{Message: message, Decoded: decoded, Plans: l.plans, Trigger: "listener", User: c.User, Stream: c.Stream}
	if submission.Once, err = l.onceOf(c, message); err != nil {
		r.discard(ctx, body)
		return nil, err
	}
	if !l.Sync {
		receipt, err := r.runner.Submit(ctx, submission)
		if err != nil || receipt.Repeated {
			r.discard(ctx, body)
		}
		if err != nil {
			return nil, err
		}
		return &Answer{Receipt: receipt}, nil
	}
	outcome, err := r.runner.Call(ctx, submission, l.Timeout)
	if outcome == nil || outcome.Run.Message != id {
		r.discard(ctx, body)
	}
	if outcome == nil {
		return nil, err
	}
	run := outcome.Run
	receipt := &store.Receipt{Message: run.Message, Runs: []store.ReceiptRun{{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number}}}
	return &Answer{Receipt: receipt, Outcome: outcome}, err
}

// discard removes a large body that was not accepted, whatever became of the caller. What stays is swept when the store is opened next.
func (r *Receiver) discard(ctx context.Context, body store.Body) {
	r.store.Discard(context.WithoutCancel(ctx), body)
}

// checked is how a payload is checked: what its records are, and so how long one may be, is for the flows to say.
var checked = transform.DecodeOptions{Limits: transform.Limits{RecordBytes: math.MaxInt}}

// onceWindow is how long a once-key is remembered unless the definition says otherwise.
const onceWindow = 24 * time.Hour

// errNoKey refuses what could not be told from its repetition.
var errNoKey = &flow.KeyError{Reason: "the call has no idempotency key: what the listener takes for one is missing or empty"}

// onceOf returns the once-key of a call: the sender's own, else what the listener's definition says; nil without any.
func (l *Listener) onceOf(c *Call, m *store.Message) (*store.Once, error) {
	once := c.Once
	if once == nil && l.once != nil && !c.Anew {
		key, err := l.once.Of(m, nil)
		if err == nil && key == "" {
			err = errNoKey
		}
		if err != nil {
			return nil, err
		}
		once = &store.Once{Scope: "listener key\x00" + c.User + "\x00" + l.Name, Key: key}
	}
	if once != nil {
		once.BodyHash, once.Until = fingerprint(c, m.Body.SHA256), m.ReceivedAt.Add(l.window)
	}
	return once, nil
}

// fingerprint is what must be the same when a once-key is used again: the body, and what the path and the query say.
func fingerprint(c *Call, body [sha256.Size]byte) [sha256.Size]byte {
	sum := sha256.New()
	sum.Write(body[:])
	fmt.Fprintf(sum, "%q %q %q", c.Method, c.Params, c.Query)
	return [sha256.Size]byte(sum.Sum(nil))
}

// read is body while there are not too many.
func (r *Receiver) read(ctx context.Context, l *Listener, c *Call) (store.Body, *transform.Batch, error) {
	defer r.bodies.Add(-1)
	if r.bodies.Add(1) > r.most {
		return store.Body{}, nil, ErrBusy
	}
	return r.body(ctx, l, c)
}

// body reads and checks the payload: one that is small and was announced in memory, any other through a spool. It returns the records too, when
// checking has made them. On an error nothing stays.
func (r *Receiver) body(ctx context.Context, l *Listener, c *Call) (store.Body, *transform.Batch, error) {
	if c.Body == nil {
		return store.Body{SHA256: sha256.Sum256(nil)}, nil, l.check(bytes.NewReader(nil))
	}
	source := &source{r: c.Body, announced: c.Length}
	if 0 <= c.Length && c.Length <= store.InlineBytes {
		inline := make([]byte, c.Length)
		_, err := io.ReadFull(source, inline)
		for n := 0; err == nil && n == 0; { // what comes behind the announced end is a fault, and so is not to reach the end
			n, err = source.Read(source.behind[:])
		}
		if err != io.EOF {
			return store.Body{}, nil, err
		}
		decoded, err := l.decode(inline)
		if err != nil {
			return store.Body{}, nil, err
		}
		return store.Body{Inline: inline, Size: c.Length, SHA256: sha256.Sum256(inline)}, decoded, nil
	}
	spool := store.NewSpool(ctx, r.store)
	defer spool.Abort()
	source.r = io.TeeReader(c.Body, spool)
	err := l.check(source)
	if err == nil {
		_, err = io.Copy(io.Discard, source)
	}
	if source.err != nil {
		return store.Body{}, nil, source.err // it is the cause, whatever it did to the syntax
	}
	if err != nil {
		return store.Body{}, nil, err
	}
	body, err := spool.Body()
	return body, nil, err
}

// decode checks a small payload: by reading its records where one flow wants them, which it then need not do again.
func (l *Listener) decode(payload []byte) (*transform.Batch, error) {
	if l.Check && l.Format != nil && len(l.plans) == 1 && l.reads() {
		switch decoded, err := l.plans[0].Decode(payload); {
		case err != nil:
			return nil, &PayloadError{err}
		case decoded != nil:
			return decoded, nil
		}
	}
	return nil, l.check(bytes.NewReader(payload))
}

// check reads a payload and returns what is wrong with it, a *PayloadError, unless nobody wants to know.
func (l *Listener) check(r io.Reader) error {
	if !l.Check || l.Format == nil || !l.reads() {
		return nil
	}
	if err := l.Format.Check(r, checked); err != nil {
		return &PayloadError{err}
	}
	return nil
}

// source is a body that remembers the fault of its reader, since a cut upload is no malformed payload, and holds it to the announced length.
type source struct {
	r         io.Reader
	announced int64 // -1: any length
	read      int64
	behind    [1]byte // for what comes behind the announced end
	err       error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if s.announced >= 0 && (s.read > s.announced || err == io.EOF && s.read < s.announced) {
		err = ErrLength
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
