package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
)

// Conditions of a replay.
var (
	ErrNoFlow    = fmt.Errorf("no enabled flow takes it today: %w", store.ErrNotFound)
	ErrNoRejects = errors.New("there are no rejected records to replay") // none at all, or those of a run that wrote nothing
	ErrActive    = errors.New("the run has not ended yet")
	ErrTogether  = errors.New("the flow's records belong together: those that were rejected cannot be replayed alone")
)

// alone reports why rejected records of a flow cannot be replayed without the others: they would make another record of the same key, or have lost what enclosed them.
func (p *Plan) alone() error {
	switch {
	case p.remade != "":
		return fmt.Errorf("flow %q, %s: %w", p.Name, p.remade, ErrTogether)
	case p.gathers != "" && p.source.options.Scope:
		return fmt.Errorf("flow %q, %s, and what reads parent or doc before: %w", p.Name, p.gathers, ErrTogether)
	}
	return nil
}

// today returns what a run's flow is today.
func (r *Runner) today(ctx context.Context, run *store.Run) (*Plan, error) {
	plan, err := r.options.Plan(ctx, run.FlowID, "")
	if errors.Is(err, store.ErrNotFound) || err == nil && !plan.Enabled() {
		return nil, fmt.Errorf("flow %q: %w", run.Flow, ErrNoFlow)
	}
	return plan, err
}

// OfMessage returns what replays a message: a run of each flow that reads its listener today, which the caller knows, and wants it. Rejected records that were
// replayed are a message of one flow. The error is a *ParamError, or wraps store.ErrErased when the payload was erased, ErrNoFlow, and ErrTogether.
func (r *Runner) OfMessage(ctx context.Context, m *store.Message, readers []*Plan, user string) (Submission, error) {
	s := Submission{Message: m, Replay: true, Plans: readers, Trigger: "replay", User: user}
	if m.Erased {
		return s, store.ErrErased
	}
	runs, err := r.store.MessageRuns(ctx, m.ID)
	if err != nil {
		return s, err
	}
	if len(runs) > 0 {
		last := &runs[len(runs)-1]
		s.Parent, s.Params, s.Scheduled, s.Order = last.Number, last.Params, last.Scheduled, last.Order
		if m.RejectsOf != 0 {
			plan, err := r.today(ctx, last)
			if err != nil {
				return s, err
			}
			if err := plan.alone(); err != nil {
				return s, err
			}
			s.Plans = []*Plan{plan}
		}
	}
	if m.RejectsOf == 0 {
		if s.Plans, err = Wanted(m, readers); err != nil {
			return s, err
		}
	}
	if len(s.Plans) == 0 {
		return s, fmt.Errorf("listener %q: %w", m.Listener, ErrNoFlow)
	}
	return s, nil
}

// OfRun returns what replays a run that has ended: its flow as it is today, on the same payload or, without one, with the same parameters. The error
// wraps ErrActive, ErrNoFlow, or store.ErrErased when the payload was erased.
func (r *Runner) OfRun(ctx context.Context, run *store.Run, user string) (Submission, error) {
	s := Submission{Trigger: "replay", User: user, Params: run.Params, Parent: run.Number, Scheduled: run.Scheduled, Order: run.Order}
	if !run.Status.Settled() {
		return s, fmt.Errorf("run %d: %w", run.Number, ErrActive)
	}
	plan, err := r.today(ctx, run)
	if err != nil {
		return s, err
	}
	s.Plans = []*Plan{plan}
	if run.Message == uuid.Nil {
		if plan.Reads() {
			return s, fmt.Errorf("flow %q reads listener %q, and run %d had no payload: %w", run.Flow, plan.Listener, run.Number, ErrNoFlow)
		}
		return s, nil
	}
	if s.Message, err = r.store.Message(ctx, run.Message); err != nil {
		return s, err
	}
	if s.Replay = true; s.Message.Erased {
		return s, store.ErrErased
	}
	return s, nil
}

// OfRejects returns what replays the records that a run has rejected: a run of them alone, which reads a message of its own. It happens once. The error
// wraps ErrActive, ErrNoFlow, ErrNoRejects, ErrTogether, or store.ErrErased when the payload was erased: a run that ended in anything but a warning has written nothing, and is replayed as a whole.
func (r *Runner) OfRejects(ctx context.Context, run *store.Run, user string) (Submission, error) {
	s := Submission{Trigger: "replay", User: user, Params: run.Params, Parent: run.Number, Scheduled: run.Scheduled, Order: run.Order, Once: r.replayed("replay of rejects", run)}
	switch {
	case !run.Status.Settled():
		return s, fmt.Errorf("run %d: %w", run.Number, ErrActive)
	case run.Status != store.Warning:
		return s, fmt.Errorf("run %d ended in %s: %w", run.Number, run.Status, ErrNoRejects)
	}
	plan, err := r.today(ctx, run)
	if err != nil {
		return s, err
	}
	if err := plan.alone(); err != nil {
		return s, err
	}
	s.Plans = []*Plan{plan}
	rejects, _, err := r.store.Attachments(ctx, run.Number)
	if err == nil && rejects.Held() < rejects.Size {
		err = store.ErrErased
	}
	if err != nil {
		return s, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return s, fmt.Errorf("make an id: %w", err)
	}
	m := &store.Message{ID: id, User: user, ReceivedAt: r.options.Now(), RejectsOf: run.Number, Body: rejects}
	if run.Message != uuid.Nil {
		of, err := r.store.Message(ctx, run.Message)
		if err != nil {
			return s, err
		}
		m.Listener, m.Method, m.Params, m.Query, m.Header, m.Format = of.Listener, of.Method, of.Params, of.Query, of.Header, of.Format
	}
	s.Message = m
	return s, nil
}

// replayed is the once-key that tells that something of a run was replayed.
func (r *Runner) replayed(what string, run *store.Run) *store.Once {
	return &store.Once{Scope: what, Key: fmt.Sprint(run.Number), Until: r.options.Now().Add(366 * 24 * time.Hour)}
}

// Replay stores the runs of a submission that OfMessage, OfRun or OfRejects made, and returns their receipt; the errors are those of Submit.
func (r *Runner) Replay(ctx context.Context, s Submission) (*store.Receipt, error) {
	own := s.Message != nil && !s.Replay
	if own { // each body has one owner
		m := *s.Message
		body, err := r.copyBody(ctx, m.Body)
		if err != nil {
			return nil, err
		}
		m.Body, s.Message = body, &m
		failpoint.Hit("replay.copied")
	}
	failpoint.Hit("replay.storing")
	receipt, err := r.Submit(ctx, s)
	failpoint.Hit("replay.stored")
	if own && (err != nil || receipt.Repeated) {
		r.store.Discard(context.WithoutCancel(ctx), s.Message.Body) // what stays is swept when the store is opened next
	}
	if err == nil && s.Replay {
		receipt.Message = s.Message.ID
	}
	return receipt, err
}

func (r *Runner) copyBody(ctx context.Context, b store.Body) (store.Body, error) {
	source, err := r.store.OpenBody(ctx, b)
	if err != nil {
		return store.Body{}, err
	}
	defer source.Close()
	spool := store.NewSpool(ctx, r.store)
	defer spool.Abort()
	if _, err := io.Copy(spool, source); err != nil {
		return store.Body{}, err
	}
	return spool.Body()
}

// ReplayRun replays a run whatever was replayed before; [Runner.ReplayRuns] passes it over from then on.
func (r *Runner) ReplayRun(ctx context.Context, run *store.Run, user string) (*store.Receipt, error) {
	s, err := r.OfRun(ctx, run, user)
	if err != nil {
		return nil, err
	}
	s.Once = r.replayed("replay", run)
	receipt, err := r.Replay(ctx, s)
	if err == nil && receipt.Repeated {
		s.Once = nil
		return r.Replay(ctx, s)
	}
	return receipt, err
}

// MaxBulk is how many runs one call replays or cancels at most.
const MaxBulk = 1000

// Done is what [Runner.ReplayRuns] or [Runner.CancelRuns] did with one run.
type Done struct {
	Run     int64
	As      int64 // the run that replays it
	Skipped bool  // it was replayed before, or had ended before it could be canceled
	Err     error // why nothing could be done
}

// ReplayRuns replays the runs that a filter chooses, the oldest first, one after the other: those of the newest page, of filter.Limit and MaxBulk at most.
// Status 0 is Error. Each run is replayed once, so that a call that was cut short can be repeated; what failed again is a run of its own. It returns what
// became of each, and the cursor of the next page, 0 behind the last; an error says that the rest could not be tried.
func (r *Runner) ReplayRuns(ctx context.Context, filter store.RunFilter, user string) (done []Done, after int64, err error) {
	if filter.Status == 0 {
		filter.Status = store.Error
	}
	runs, after, err := r.chosen(ctx, filter, filter.Status)
	if err != nil {
		return nil, 0, err
	}
	slices.Reverse(runs)
	for i := range runs {
		d := Done{Run: runs[i].Number}
		s, err := r.OfRun(ctx, &runs[i], user)
		if err == nil {
			var receipt *store.Receipt
			s.Once = r.replayed("replay", &runs[i])
			if receipt, err = r.Replay(ctx, s); err == nil {
				d.As, d.Skipped = receipt.Runs[0].Number, receipt.Repeated
			}
		}
		if stops(ctx, err) {
			return done, after, err
		}
		d.Err = err
		done = append(done, d)
	}
	return done, after, nil
}

// CancelRuns stops the runs that a filter chooses: those of the newest page, of filter.Limit and MaxBulk at most. Status 0 is Queued and Running. It returns
// what became of each, and the cursor of the next page, 0 behind the last; an error says that the rest could not be tried.
func (r *Runner) CancelRuns(ctx context.Context, filter store.RunFilter) (done []Done, after int64, err error) {
	statuses := []store.Status{filter.Status}
	if filter.Status == 0 {
		statuses = []store.Status{store.Queued, store.Running}
	}
	runs, after, err := r.chosen(ctx, filter, statuses...)
	if err != nil {
		return nil, 0, err
	}
	for _, run := range runs { // the newest first, so that none begins because an earlier one has ended
		d := Done{Run: run.Number}
		err := r.Cancel(ctx, run.Number)
		if d.Skipped = errors.Is(err, store.ErrNotFound); d.Skipped {
			err = nil
		}
		if stops(ctx, err) {
			return done, after, err
		}
		d.Err = err
		done = append(done, d)
	}
	return done, after, nil
}

// stops reports whether what failed for one run would fail for all.
func stops(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || slices.ContainsFunc([]error{ErrStopping, store.ErrFull, store.ErrUnavailable, store.ErrBroken, store.ErrClosed, store.ErrClaimLost},
		func(condition error) bool { return errors.Is(err, condition) }))
}

// chosen returns the newest runs of some statuses, and the cursor of those behind them.
func (r *Runner) chosen(ctx context.Context, filter store.RunFilter, statuses ...store.Status) (runs []store.Run, after int64, err error) {
	if filter.Limit = min(filter.Limit, MaxBulk); filter.Limit <= 0 {
		filter.Limit = 100
	}
	for _, status := range statuses {
		filter.Status = status
		some, err := r.store.Runs(ctx, filter)
		if err != nil {
			return nil, 0, err
		}
		runs = append(runs, some...)
	}
	slices.SortFunc(runs, func(a, b store.Run) int { return cmp.Compare(b.Number, a.Number) })
	runs = slices.CompactFunc(runs, func(a, b store.Run) bool { return a.Number == b.Number }) // which changed its status in between
	if len(runs) >= filter.Limit {
		runs = runs[:filter.Limit]
		after = runs[filter.Limit-1].Number
	}
	return runs, after, nil
}
