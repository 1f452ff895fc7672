package integrator

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

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
	return with(e, fmt.Sprintf("replay the rejects of run %d", run), func(s *state) (*store.Receipt, error) {
		of, err := s.store.Run(ctx, run)
		if err != nil {
			return nil, err
		}
		submission, err := s.runner.OfRejects(ctx, of, "")
		if err != nil {
			return nil, err
		}
		return s.runner.Replay(ctx, submission)
	})
}

// ReplayRun runs a run's flow as it is today once more, on the same payload or, where there was none, with the same parameters, and returns the receipt of
// the new run, which names the first one as its parent. The error wraps store.ErrNotFound when there is no such run, or no such flow any more;
// flow.ErrActive before the run has ended; store.ErrErased when its payload was erased.
func (e *Engine) ReplayRun(ctx context.Context, run int64) (*store.Receipt, error) {
	return with(e, fmt.Sprintf("replay run %d", run), func(s *state) (*store.Receipt, error) {
		of, err := s.store.Run(ctx, run)
		if err != nil {
			return nil, err
		}
		return s.runner.ReplayRun(ctx, of, "")
	})
}

// RunFilter chooses runs. Zero fields do not restrict, unless the method says what it takes them for.
type RunFilter struct {
	Flow   string // by name
	Status store.Status
	Since  time.Time // queued at or after
	After  int64     // the cursor: runs with lower numbers
	Limit  int       // at most; 0 is 100, the most is 1000
}

// Runs returns a page of the history, newest first. The number of its last run is the cursor of the next page. The error wraps store.ErrNotFound when
// no such flow is defined.
func (e *Engine) Runs(ctx context.Context, f RunFilter) ([]store.Run, error) {
	s, filter, err := e.chosen(f)
	if err == nil {
		var runs []store.Run
		if runs, err = s.store.Runs(ctx, filter); err == nil {
			return runs, nil
		}
	}
	return nil, fmt.Errorf("integrator: runs: %w", err)
}

// ReplayRuns replays the runs of a page, as ReplayRun does, the oldest first and one after the other; Status 0 is Error. Each is replayed once: a run
// that was replayed before, here or by ReplayRun, is skipped, so that a call that was cut short can be repeated. It returns what became of each,
// and the cursor of the next page, 0 behind the last. An error says that the rest could not be tried.
func (e *Engine) ReplayRuns(ctx context.Context, f RunFilter) (done []flow.Done, after int64, err error) {
	s, filter, err := e.chosen(f)
	if err == nil {
		done, after, err = s.runner.ReplayRuns(ctx, filter, "")
	}
	if err != nil {
		return done, after, fmt.Errorf("integrator: replay runs: %w", err)
	}
	return done, after, nil
}

// CancelRuns stops the runs of a page: a queued one has ended then, one that is being executed ends as soon as it notices. Status 0 is Queued and Running.
// It returns what became of each, and the cursor of the next page, 0 behind the last. An error says that the rest could not be tried.
func (e *Engine) CancelRuns(ctx context.Context, f RunFilter) (done []flow.Done, after int64, err error) {
	s, filter, err := e.chosen(f)
	if err == nil {
		done, after, err = s.runner.CancelRuns(ctx, filter)
	}
	if err != nil {
		return done, after, fmt.Errorf("integrator: cancel runs: %w", err)
	}
	return done, after, nil
}

// chosen returns the filter as the store has it.
func (e *Engine) chosen(f RunFilter) (*state, store.RunFilter, error) {
	filter := store.RunFilter{Status: f.Status, Since: f.Since, Before: f.After, Limit: min(f.Limit, flow.MaxBulk)}
	s := e.state.Load()
	if s == nil {
		return nil, filter, flow.ErrStopping
	}
	if f.Flow != "" {
		plan, ok := e.set.Load().plans[f.Flow]
		if !ok {
			return nil, filter, fmt.Errorf("flow %q is not defined: %w", f.Flow, store.ErrNotFound)
		}
		filter.FlowID = plan.ID
	}
	return s, filter, nil
}

// DryRun finds out what RunFlow would do, without storing or writing anything: it reads the flow's source and passes the records through its steps and
// each destination's map. Go steps are called as always. Preview.Exception says why the run would fail; the error is that of RunFlow.
func (e *Engine) DryRun(ctx context.Context, name string, params map[string]any) (*flow.Preview, error) {
	s := e.state.Load()
	if s == nil {
		return nil, fmt.Errorf("integrator: dry run of flow %q: %w", name, flow.ErrStopping)
	}
	submission, err := e.submission(name, params)
	if err == nil {
		var previews []*flow.Preview
		if previews, err = s.runner.DryRun(ctx, submission); err == nil {
			return previews[0], nil
		}
	}
	return nil, fmt.Errorf("integrator: dry run of flow %q: %w", name, err)
}

// DryReplay finds out what Replay would do, flow by flow, as DryRun does. The error is that of Replay.
func (e *Engine) DryReplay(ctx context.Context, message uuid.UUID) ([]*flow.Preview, error) {
	return with(e, fmt.Sprintf("dry run of message %s", message), func(s *state) ([]*flow.Preview, error) {
		submission, err := e.ofMessage(ctx, s, message)
		if err != nil {
			return nil, err
		}
		return s.runner.DryRun(ctx, submission)
	})
}
