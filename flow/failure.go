package flow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Kinds of failure: one word list for runs, rejects, problem documents and metrics.
const (
	KindInput      = "input"      // the payload or a record does not fit; never retried
	KindConnection = "connection" // a system cannot be reached or does not answer as it should; retried
	KindRefused    = "refused"    // the destination says no for good
	KindTimeout    = "timeout"    // a time limit was reached; retried
	KindCanceled   = "canceled"   // somebody stopped the run
	KindInternal   = "internal"   // a fault of the engine or of its definitions
)

// Causes of the end of a run's context.
var (
	errCanceled    = errors.New("the run was canceled")
	errInterrupted = errors.New("the engine is stopping") // the attempt does not count
	errTimeLimit   = errors.New("the flow's time limit was reached")
	errCallerGone  = errors.New("the caller went away")
)

// Failure is why a run failed and where: the error that [Runner] methods return and that a run's exception is made of.
type Failure struct {
	Flow   string
	Step   string // part of the flow: "from", a step, a destination's connection; "" for the whole
	Record int64  // number of the record, from 1; 0 for none
	Line   int64  // line in the payload, from 1; 0 where unknown
	Kind   string
	Err    error
}

// Error returns the chain of causes in one line.
func (f *Failure) Error() string { return f.place() + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func (f *Failure) place() string {
	var b strings.Builder
	fmt.Fprintf(&b, "flow %q", f.Flow)
	if f.Step != "" {
		fmt.Fprintf(&b, ": %s", f.Step)
	}
	if f.Record > 0 {
		fmt.Fprintf(&b, ": record %d", f.Record)
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, " (line %d)", f.Line)
	}
	return b.String()
}

// Exception returns the chain of causes, one a line, for those who operate the engine.
func (f *Failure) Exception() string {
	lines := []string{f.place() + ": " + f.Kind}
	for _, cause := range strings.Split(f.Err.Error(), "\n") {
		if cause != "" {
			lines = append(lines, cause)
		}
	}
	if fault := (*transform.Fault)(nil); errors.As(f.Err, &fault) && fault.Err != nil && !strings.Contains(fault.Error(), fault.Err.Error()) {
		lines = append(lines, fault.Err.Error())
	}
	return strings.Join(lines, "\n")
}

// Public returns what a caller may know: the place and the kind, and the reason where it is the engine's own words about the
// caller's records. Addresses, credentials, SQL and payload values are not in it.
func (f *Failure) Public() string {
	lines := []string{f.place() + ": " + publicKinds[f.Kind]}
	var fault *transform.Fault
	var syntax *transform.SyntaxError
	switch {
	case errors.As(f.Err, &fault):
		lines = append(lines, fault.Error())
	case errors.As(f.Err, &syntax):
		lines = append(lines, syntax.Error())
	}
	return strings.Join(lines, "\n")
}

var publicKinds = map[string]string{
	KindInput:      "the input does not fit (input)",
	KindConnection: "a system could not be reached (connection)",
	KindRefused:    "the other system refused (refused)",
	KindTimeout:    "a time limit was reached (timeout)",
	KindCanceled:   "the run was canceled (canceled)",
	KindInternal:   "an internal fault (internal)",
}

// permanentError marks an error of a step or connector that no retry mends.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent marks err as final: the run that it ends is not retried. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// RetryAfter marks err as passing: the run that it ends is tried again after d, within the flow's number of attempts.
// RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error { return connector.RetryAfter(err, d) }

// classify returns the kind of an error that came from a source, a step or a destination. ctx is the run's.
func classify(ctx context.Context, err error) string {
	var fault *transform.Fault
	var syntax *transform.SyntaxError
	var inner *Failure
	switch cause := context.Cause(ctx); {
	case errors.As(err, &inner):
		return inner.Kind
	case cause == nil:
	case errors.Is(cause, errTimeLimit):
		return KindTimeout
	case errors.Is(cause, errCanceled), errors.Is(cause, errCallerGone), errors.Is(cause, errInterrupted):
		return KindCanceled
	}
	switch {
	case errors.As(err, &syntax):
		return KindInput
	case errors.As(err, &fault):
		if fault.Kind != "" {
			return fault.Kind
		}
		return KindInput
	case connector.IsPermanent(err):
		return KindRefused
	case errors.As(err, new(permanentError)):
		return KindRefused
	case errors.As(err, new(*panicError)):
		return KindInternal
	case errors.Is(err, store.ErrErased), errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrNotFound):
		return KindInternal
	case errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case errors.Is(err, errCallerGone):
		return KindCanceled
	}
	return KindConnection
}

// fail returns err as a Failure of the named part, keeping one that is a Failure already.
func fail(ctx context.Context, flow, step string, err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	return &Failure{Flow: flow, Step: step, Kind: classify(ctx, err), Err: err}
}

// retryable reports whether another attempt may end better, and after which time when the error says so.
func (f *Failure) retryable() (after time.Duration, ok bool) {
	if after, ok := connector.RetriedAfter(f.Err); ok {
		return after, true
	}
	return 0, f.Kind == KindConnection || f.Kind == KindTimeout
}
