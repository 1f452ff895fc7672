package integrator

import (
	"context"
	"fmt"

	"github.com/integrator-go/integrator/flow"
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
