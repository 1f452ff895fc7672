package integrator

import (
	"context"
	"fmt"
	"io"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
)

// RunLog returns the log of a run over all of its attempts, as far as it has come: when it was tried and why again, what each destination got,
// the chain of causes under its error id. It is at most 64 KiB of text, and holds what payloads brought where an error repeats it. The error
// wraps store.ErrNotFound when there is no such run.
func (e *Engine) RunLog(ctx context.Context, run int64) (string, error) {
	s := e.state.Load()
	if s == nil {
		return "", fmt.Errorf("integrator: log of run %d: %w", run, flow.ErrStopping)
	}
	text, err := s.runner.Log(ctx, run)
	if err != nil {
		return "", fmt.Errorf("integrator: log of run %d: %w", run, err)
	}
	return text, nil
}

// WriteRejects writes the records that a run has rejected, as "ndjson", "json" or "csv": the source's fields and _record, _line, _step, _field, _reason.
// The error wraps store.ErrNotFound when there is no such run.
func (e *Engine) WriteRejects(ctx context.Context, w io.Writer, run int64, format string) error {
	err := flow.ErrStopping
	if s := e.state.Load(); s != nil {
		err = s.runner.Rejects(ctx, w, run, format)
	}
	if err != nil {
		return fmt.Errorf("integrator: rejects of run %d: %w", run, err)
	}
	return nil
}

// ReplayRejects runs the records that a run has rejected once more, through today's definition of its flow, and returns the receipt of the new run, which
// names the first one as its parent. It happens once: called again it returns the same receipt, Repeated; what was rejected again is replayed from the new
// run. The error wraps store.ErrNotFound when there is no such run, or no such flow any more; flow.ErrActive before the run has ended, and
// flow.ErrNoRejects when it ended in anything but a warning: nothing of it was written then, and it is replayed as a whole.
func (e *Engine) ReplayRejects(ctx context.Context, run int64) (*store.Receipt, error) {
	fail := func(err error) (*store.Receipt, error) {
		return nil, fmt.Errorf("integrator: replay the rejects of run %d: %w", run, err)
	}
	s := e.state.Load()
	if s == nil {
		return fail(flow.ErrStopping)
	}
	of, err := s.store.Run(ctx, run)
	if err != nil {
		return fail(err)
	}
	receipt, err := e.replayRejects(ctx, s, of, "")
	if err != nil {
		return fail(err)
	}
	return receipt, nil
}

func (e *Engine) replayRejects(ctx context.Context, s *state, run *store.Run, user string) (*store.Receipt, error) {
	plan, err := e.today(ctx, run)
	if err != nil {
		return nil, err
	}
	return s.runner.ReplayRejects(ctx, run, plan, user)
}
