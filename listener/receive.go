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
	"net/http"
	"strings"
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
	Anew   bool         // it is sent once more on purpose: the listener's own key is not looked for, and its flows are not asked whether they want it

	Stream flow.StreamFunc // takes an answer that is sent while its run goes on; nil: every answer comes when it has ended
}

// Answer is what a call comes to: the receipt, and for a synchronous listener the outcome of its run.
type Answer struct {
	Receipt *store.Receipt // without runs: no flow wanted the message, which is kept
	Message *store.Message // that the receipt is of, for a listener with an answer of its own; nil: it is gone
	Outcome *flow.Outcome  // nil for an asynchronous listener, and without runs
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

// Receive finds the flows that want the payload, reads it, checks its syntax on the way, stores it durably and, for a synchronous listener, waits for its
// run. Errors: a *TypeError, a *flow.ParamError, a *PayloadError, ErrLength, ErrBusy, faults of the body's reader as they are, and those of flow.Runner's Submit
// and Call; with flow.ErrStillRuns the answer holds the receipt of the run that goes on.
func (r *Receiver) Receive(ctx context.Context, l *Listener, c *Call) (*Answer, error) {
	format, err := l.formatFor(c)
	if err != nil {
		return nil, err
	}
	message := &store.Message{Listener: l.Name, User: c.User, ReceivedAt: r.now(), Method: c.Method, Params: c.Params, Query: c.Query, Header: c.Header, Format: format}
	plans := l.plans
	if !c.Anew {
		if plans, err = flow.Wanted(message, plans); err != nil {
			return nil, err
		}
	}
	params, err := flow.ParamsOf(message, l.params)
	if err != nil {
		return nil, err
	}
	if err := r.runner.Admit(ctx, plans); err != nil {
		return nil, err
	}
	body, decoded, err := r.read(ctx, l, plans, message, c)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("receive.read")
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	message.ID, message.ReceivedAt, message.Body = id, r.now(), body
	submission := flow.Submission{Message: message, Decoded: decoded, Plans: plans, Trigger: "listener", User: c.User, Stream: c.Stream}
	if submission.Once, err = l.onceOf(c, message, params); err != nil {
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
		answer := &Answer{Receipt: receipt}
		if l.reply != nil {
			if answer.Message = message; receipt.Repeated {
				answer.Message, _ = r.store.Message(ctx, receipt.Message) // one that is gone has the engine's receipt
			}
		}
		return answer, nil
	}
	outcome, err := r.runner.Call(ctx, submission, l.Timeout)
	if outcome == nil || outcome.Run.Message != id {
		r.discard(ctx, body)
	}
	if outcome == nil {
		return nil, err
	}
	run := outcome.Run
	if run.Number == 0 {
		return &Answer{Receipt: &store.Receipt{Message: run.Message}}, err
	}
	receipt := &store.Receipt{Message: run.Message, Runs: []store.ReceiptRun{{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number}}}
	return &Answer{Receipt: receipt, Outcome: outcome}, err
}

// Reply returns the answer of the listener's own to a message that it took; status 0 without one. See [flow.Replier.Answer].
func (l *Listener) Reply(a *Answer, leftOut func(header string, err error)) (status int, head http.Header, body []byte, err error) {
	if l.reply == nil || a.Message == nil {
		return 0, nil, nil, nil
	}
	params, err := flow.ParamsOf(a.Message, l.params)
	if err != nil {
		return 0, nil, nil, err // impossible, unless the definition has changed since
	}
	return l.reply.Answer(a.Message, params, a.Receipt, leftOut)
}

// discard removes a large body that was not accepted, whatever became of the caller. What stays is swept when the store is opened next.
func (r *Receiver) discard(ctx context.Context, body store.Body) {
	r.store.Discard(context.WithoutCancel(ctx), body)
}

// checked returns how a payload in a format is checked. What the records of a document are, and so how long one may be, is for the flows to say where a
// path leads to them; a row, a line or a form is one whatever they say, and is held in memory.
func checked(f transform.Format) transform.DecodeOptions {
	if d, ok := f.(transform.Describer); ok {
		if whole := d.Describe(transform.DecodeOptions{}); whole.Records == "" && whole.Single == d.Describe(transform.DecodeOptions{Records: "any[*]"}).Single {
			return transform.DecodeOptions{}
		}
	}
	return transform.DecodeOptions{Limits: transform.Limits{RecordBytes: math.MaxInt}}
}

// onceWindow is how long a once-key is remembered unless the definition says otherwise.
const onceWindow = 24 * time.Hour

// errNoKey refuses what could not be told from its repetition.
var errNoKey = &flow.KeyError{Reason: "the call has no idempotency key: what the listener takes for one is missing or empty"}

// onceOf returns the once-key of a call: the sender's own, else what the listener's definition says; nil without any.
func (l *Listener) onceOf(c *Call, m *store.Message, params []byte) (*store.Once, error) {
	once := c.Once
	if once == nil && l.once != nil && !c.Anew {
		key, err := l.once.Of(m, params)
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
func (r *Receiver) read(ctx context.Context, l *Listener, plans []*flow.Plan, m *store.Message, c *Call) (store.Body, *transform.Batch, error) {
	defer r.bodies.Add(-1)
	if r.bodies.Add(1) > r.most {
		return store.Body{}, nil, ErrBusy
	}
	return r.body(ctx, l, plans, m, c)
}

// body reads and checks the payload: one that is small and was announced in memory, any other through a spool. It returns the records too, when
// checking has made them. On an error nothing stays.
func (r *Receiver) body(ctx context.Context, l *Listener, plans []*flow.Plan, m *store.Message, c *Call) (store.Body, *transform.Batch, error) {
	if c.Body == nil {
		return store.Body{SHA256: sha256.Sum256(nil)}, nil, l.check(m, bytes.NewReader(nil))
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
		decoded, err := l.decode(plans, m, inline)
		if err != nil {
			return store.Body{}, nil, err
		}
		return store.Body{Inline: inline, Size: c.Length, SHA256: sha256.Sum256(inline)}, decoded, nil
	}
	spool := store.NewSpool(ctx, r.store)
	defer spool.Abort()
	source.r = io.TeeReader(c.Body, spool)
	err := l.check(m, source)
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
func (l *Listener) decode(plans []*flow.Plan, m *store.Message, payload []byte) (*transform.Batch, error) {
	if l.Check && l.formats != nil && len(plans) == 1 && plans[0].Reads() {
		switch decoded, err := plans[0].Decode(m, payload); {
		case err != nil:
			return nil, &PayloadError{err}
		case decoded != nil:
			return decoded, nil
		}
	}
	return nil, l.check(m, bytes.NewReader(payload))
}

// check reads a payload and returns what is wrong with it, a *PayloadError, unless nobody wants to know.
func (l *Listener) check(m *store.Message, r io.Reader) error {
	if !l.Check || l.formats == nil || !l.reads() {
		return nil
	}
	f := flow.FormatOf(l.formats, m)
	if err := f.Check(r, checked(f)); err != nil {
		return &PayloadError{err}
	}
	return nil
}

// TypeError is the error for a body that is in none of the formats which a listener takes, by its Content-Type.
type TypeError struct{ Types []string } // that it takes

// Error names them.
func (e *TypeError) Error() string { return "this listener takes " + strings.Join(e.Types, ", ") }

// formatFor returns the name of the format that a call's payload is in.
func (l *Listener) formatFor(c *Call) (string, error) {
	strict := l.definition.StrictType && l.definition.http() && c.Body != nil
	switch {
	case len(l.formats) == 0:
		return "", nil
	case len(l.formats) == 1 && !strict:
		return l.formats[0].Name, nil
	}
	contentType := ""
	for _, h := range c.Header {
		if h.Name == "Content-Type" {
			contentType = h.Value
			break
		}
	}
	i, fits := flow.FormatFor(l.formats, contentType)
	if !fits && strict {
		e := &TypeError{}
		for _, f := range l.formats {
			e.Types = append(e.Types, f.MediaType())
		}
		return "", e
	}
	return l.formats[i].Name, nil
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
