package listener

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// runner is what a receiver needs of flow.Runner.
type runner interface {
	Submit(ctx context.Context, s flow.Submission) (*store.Receipt, error)
	Call(ctx context.Context, s flow.Submission, timeout time.Duration) (*flow.Outcome, error)
}

// Receiver takes payloads in. It is safe for concurrent use.
type Receiver struct {
	runner runner
	store  store.Store
	now    func() time.Time
}

// NewReceiver returns a receiver that stores into st and hands its runs to r. now is the engine's clock.
func NewReceiver(r *flow.Runner, st store.Store, now func() time.Time) *Receiver {
	return &Receiver{runner: r, store: st, now: now}
}

// Call is one call of a listener, authorised.
type Call struct {
	User   string
	Method string
	Params []store.Pair // of the path
	Query  []store.Pair
	Header []store.Pair // without credentials
	Body   io.Reader    // nil: none; it is the caller's part to bound it to the listener's MaxBody
	Length int64        // of the body, -1 when unknown
	Once   *store.Once  // its BodyHash is set by Receive
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

// Receive reads the body, checks its syntax on the way, stores it durably and, for a synchronous listener, waits for its run. Errors: a
// *PayloadError, faults of the body's reader as they are, and those of flow.Runner's Submit and Call; with flow.ErrStillRuns the answer
// holds the receipt of the run that goes on.
func (r *Receiver) Receive(ctx context.Context, l *Listener, c *Call) (*Answer, error) {
	body, err := r.body(ctx, l, c)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	message := &store.Message{ID: id, Listener: l.Name, User: c.User, ReceivedAt: r.now(), Method: c.Method, Params: c.Params, Query: c.Query,
		Header: c.Header, Body: body}
	submission := flow.Submission{Message: message, Plans: l.plans, Trigger: "listener", User: c.User, Once: c.Once}
	if c.Once != nil {
		c.Once.BodyHash = body.SHA256
	}
	if !l.Sync {
		receipt, err := r.runner.Submit(ctx, submission)
		return &Answer{Receipt: receipt}, err
	}
	outcome, err := r.runner.Call(ctx, submission, l.Timeout)
	if outcome == nil {
		return nil, err
	}
	run := outcome.Run
	receipt := &store.Receipt{Message: run.Message, Runs: []store.ReceiptRun{{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number}}}
	return &Answer{Receipt: receipt, Outcome: outcome}, err
}

// checked is how a payload is checked: what its records are, and so how long one may be, is for the flows to say.
var checked = transform.DecodeOptions{Limits: transform.Limits{RecordBytes: math.MaxInt}}

// body spools and checks the payload. On an error nothing of it stays.
func (r *Receiver) body(ctx context.Context, l *Listener, c *Call) (store.Body, error) {
	check := l.Check && l.Format != nil && l.reads()
	if c.Body == nil {
		c.Body, c.Length = bytes.NewReader(nil), 0
	}
	if 0 <= c.Length && c.Length <= store.InlineBytes {
		inline := make([]byte, c.Length)
		if _, err := io.ReadFull(c.Body, inline); err != nil {
			return store.Body{}, err
		}
		if check {
			if err := l.Format.Check(bytes.NewReader(inline), checked); err != nil {
				return store.Body{}, &PayloadError{err}
			}
		}
		return store.Body{Inline: inline, Size: c.Length, SHA256: sha256.Sum256(inline)}, nil
	}
	spool := store.NewSpool(ctx, r.store)
	source := &sourceReader{r: c.Body}
	var err error
	if tee := io.TeeReader(source, spool); check {
		err = l.Format.Check(tee, checked)
	} else {
		_, err = io.Copy(io.Discard, tee)
	}
	if err != nil {
		spool.Abort()
		if source.err != nil {
			return store.Body{}, source.err // the cut is the cause, whatever it did to the syntax
		}
		if check && isSyntax(err) {
			return store.Body{}, &PayloadError{err}
		}
		return store.Body{}, err
	}
	return spool.Body()
}

// sourceReader remembers a fault of the body's reader: a cut upload is no malformed payload.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func isSyntax(err error) bool {
	var syntax *transform.SyntaxError
	return errors.As(err, &syntax)
}
