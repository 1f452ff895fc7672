package flow

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Submission is work for the runner: a message for the flows that read its listener, or a call of a flow.
type Submission struct {
	Message   *store.Message   // nil without a payload
	Decoded   *transform.Batch // the records of the message, as Plan.Decode returned them for the only plan; nil: they are not decoded yet
	Replay    bool             // the message is stored already
	Plans     []*Plan          // one run each
	Trigger   string           // listener, name, go, schedule, replay
	User      string
	Params    []byte    // what Plan.Parameters made; a message's are found in it
	Parent    int64     // the run that this one replays
	Scheduled time.Time // the due time of a schedule
	Order     string    // of rejected records: the order key of the run that rejected them
	Once      *store.Once

	// Detach lets runs of [Runner.Call] go on when the caller goes away, whatever they do.
	Detach bool

	// Stream takes the answer of [Runner.Call] while the run goes on, where the flow says so; nil: it comes with the outcome. Its writes may wait
	// as long as they like. A run that is stored first, because of a once-key, answers with its outcome all the same.
	Stream StreamFunc
}

// runs returns the submission's runs, ready to be stored, and what names them.
func (r *Runner) runs(s Submission) ([]*store.Run, error) {
	now := r.options.Now()
	runs := make([]*store.Run, len(s.Plans))
	for i, p := range s.Plans {
		id, err := newRunID()
		if err != nil {
			return nil, err
		}
		params := s.Params
		if s.Message != nil && s.Message.RejectsOf == 0 {
			if params, err = p.paramsOf(s.Message); err != nil {
				return nil, err
			}
		}
		runs[i] = &store.Run{ID: id, Parent: s.Parent, Flow: p.Name, FlowID: p.ID, Trigger: s.Trigger, User: s.User, Params: params,
			Scheduled: s.Scheduled, Queued: now, Due: now, Version: p.Version, Started: now}
		if s.Message != nil {
			runs[i].Message = s.Message.ID
		}
		if s.Message != nil && s.Message.RejectsOf != 0 {
			runs[i].Order = s.Order
		} else if p.order != nil {
			if runs[i].Order, err = p.order.Of(s.Message, params); err != nil {
				return nil, fmt.Errorf("order_by of flow %q: %w", p.Name, err)
			}
		}
	}
	return runs, nil
}

// enter counts a submission in, so that a stop waits until what it accepted is in a lane.
func (r *Runner) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue == nil || r.draining || r.broken != nil {
		return ErrStopping
	}
	r.submitted.Add(1)
	return nil
}

// reserve takes a place in every flow's lane, or in none: also when earlier runs of a flow wait in the store, because they come first. When it
// takes none, runs are on their way into the store until stored is called.
func (r *Runner) reserve(plans []*Plan) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		if l := r.lane(p); l.held >= l.limit() || l.backlog {
			for _, p := range plans {
				l := r.lane(p)
				l.backlog, l.behind, l.storing = true, l.behind+1, l.storing+1
			}
			return false
		}
	}
	for _, p := range plans {
		r.lane(p).held++
	}
	return true
}

// stored notes that runs of the flows are in the store, or will not come.
func (r *Runner) stored(plans []*Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		r.lane(p).storing--
	}
}

func (r *Runner) release(plans []*Plan) {
	look := false
	r.mu.Lock()
	for _, p := range plans {
		look = r.lane(p).leave() || look
	}
	r.mu.Unlock()
	if look {
		r.Look()
	}
}

// Admit says beforehand whether runs of the flows would be refused: the error is ErrStopping or ErrQueueFull. It is for what is better known
// before a body is read; Submit and Call look for themselves.
func (r *Runner) Admit(ctx context.Context, plans []*Plan) error {
	r.mu.Lock()
	stopping, wait := r.queue == nil || r.draining || r.broken != nil, false
	for _, p := range plans {
		if p.answer != nil && p.order == nil && p.inPlace() {
			continue
		}
		l := r.lanes[p.ID]
		wait = wait || p.order != nil || l != nil && (l.backlog || l.held >= l.limit())
	}
	r.mu.Unlock()
	switch {
	case stopping:
		return ErrStopping
	case wait:
		return r.queueable(ctx)
	}
	return nil
}

// queueable returns ErrQueueFull when no more runs may wait in the store. What finds its flow's place free is never refused for it.
func (r *Runner) queueable(ctx context.Context) error {
	queued, _, err := r.queue.Waiting(ctx)
	if err == nil && queued >= int64(r.options.MaxQueued) {
		err = ErrQueueFull
	}
	return err
}

// Submit stores the message and its runs durably and returns the receipt; the runs are executed afterwards. The errors are those of
// store.Queue.Accept, a *KeyError, ErrQueueFull and ErrStopping.
func (r *Runner) Submit(ctx context.Context, s Submission) (*store.Receipt, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.submitted.Done()
	runs, err := r.runs(s)
	if err != nil {
		return nil, err
	}
	return r.accept(ctx, s, runs)
}

// accept stores the runs: claimed for this engine when every flow has a free place, so that they start at once.
func (r *Runner) accept(ctx context.Context, s Submission, runs []*store.Run) (*store.Receipt, error) {
	began := r.options.Now()
	claim := len(runs) > 0 && r.reserve(s.Plans)
	if !claim {
		defer r.stored(s.Plans)
		for _, run := range runs {
			run.Version, run.Started = "", time.Time{} // the first claim sets them
		}
	}
	if !claim || slices.ContainsFunc(runs, func(run *store.Run) bool { return run.Order != "" }) {
		if err := r.queueable(ctx); err != nil {
			if claim {
				r.release(s.Plans)
			}
			return nil, err
		}
	}
	acceptance := &store.Acceptance{Message: s.Message, Runs: runs, Claim: claim, Once: s.Once}
	if s.Replay {
		acceptance.Message = nil
	}
	receipt, err := r.queue.Accept(ctx, acceptance)
	if claim && (err != nil || receipt.Repeated) {
		r.release(s.Plans)
	}
	if err != nil || receipt.Repeated {
		return receipt, err
	}
	if claim && runs[0].Status != store.Running { // earlier runs of an order key of theirs come first
		r.release(s.Plans)
		claim = false
	}
	accepted := Accepted{Took: r.options.Now().Sub(began)}
	if m := s.Message; m != nil {
		accepted.Listener, accepted.Message, accepted.Bytes = m.Listener, m.ID, m.Body.Size
	}
	for _, p := range s.Plans {
		accepted.Flows = append(accepted.Flows, p.Name)
	}
	r.options.Observer.Observe(accepted)
	if claim {
		r.mu.Lock()
		for i, run := range runs {
			j := r.newJob(s.Plans[i], run, s.Message)
			j.decoded = s.Decoded
			r.enqueue(j)
		}
		r.mu.Unlock()
	}
	return receipt, nil
}

// Call starts a run and waits for its end, timeout at most. The submission has one plan, or none: then its message is stored, and the outcome's run has the
// message alone. The outcome is complete unless err is
// ErrStillRuns: then it holds the receipt's run, which goes on. Other errors are those of Submit, ErrBusy, and the context's error when
// the caller went away.
//
// A run that changes nothing outside is executed at once and recorded when it ends; it is canceled when the time is up or the
// caller goes away. Any other is stored first and goes on whatever the caller does.
func (r *Runner) Call(ctx context.Context, s Submission, timeout time.Duration) (*Outcome, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	left := sync.OnceFunc(r.submitted.Done)
	defer left()
	leave, err := r.admit()
	if err != nil {
		return nil, err
	}
	defer leave()
	runs, err := r.runs(s)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		receipt, err := r.accept(ctx, s, nil)
		if err != nil {
			return nil, err
		}
		return r.repeated(ctx, receipt)
	}
	plan := s.Plans[0]
	var outcome *Outcome
	if plan.inPlace() && s.Once == nil && runs[0].Order == "" {
		outcome, err = r.callPure(ctx, s, plan, runs[0], timeout)
	} else {
		outcome, err = r.callStored(ctx, s, runs, timeout, left)
	}
	if outcome != nil {
		outcome.plan, outcome.message = plan, s.Message
		if outcome.Run.Status == store.Success && outcome.Run.Read == 0 {
			outcome.NoRecords = plan.source.records
		}
	}
	return outcome, err
}

// admit counts a call that waits for its run, unless there are too many.
func (r *Runner) admit() (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting >= r.options.MaxWaiting {
		return nil, ErrBusy
	}
	r.waiting++
	return func() {
		r.mu.Lock()
		r.waiting--
		r.mu.Unlock()
	}, nil
}

// callers wait for runs that are executed in place, and never stop to.
var callers = &waiter{}

// callPure executes a run in place, and records it with its message when it has ended.
func (r *Runner) callPure(ctx context.Context, s Submission, plan *Plan, run *store.Run, timeout time.Duration) (*Outcome, error) {
	number, err := r.queue.NextNumber(ctx)
	if err != nil {
		return nil, err
	}
	run.Number, run.Status, run.Attempts = number, store.Running, 1
	j := r.newJob(plan, run, s.Message)
	j.decoded = s.Decoded
	defer j.cancel(nil)
	if !s.Detach {
		stop := context.AfterFunc(ctx, func() { j.cancel(errCallerGone) })
		defer stop()
	}
	late := func() { j.cancel(errTimeLimit) }
	alarm := time.AfterFunc(timeout, late)
	defer alarm.Stop()
	if plan.timeout > 0 {
		defer time.AfterFunc(plan.timeout, late).Stop()
	}
	if s.Stream != nil {
		j.stream = func(ctx context.Context, head *Response) io.Writer {
			alarm.Stop() // the answer has come; how long it takes to read is for its reader to say
			return s.Stream(ctx, head)
		}
	}
	j.waiter, j.inPlace = callers, true
	r.mu.Lock()
	r.active[number] = j
	r.mu.Unlock()
	j.began = run.Started
	r.options.Observer.Observe(Started{Flow: run.Flow, Run: number, Attempt: 1})
	j.log.add("begins")
	r.execute([]*job{j})
	settlement := r.settlement(j)
	settlement.Insert, settlement.Message = true, s.Message
	err = r.commit(func(ctx context.Context) error { return r.queue.Settle(ctx, []*store.Settlement{settlement}) })
	outcome := &Outcome{Run: settlement.Run, Failure: j.failure, Rejects: j.rejects.shown(), Missed: j.missed()}
	if j.failure == nil && err == nil {
		outcome.Response, j.response = j.response, nil
	}
	r.mu.Lock()
	delete(r.active, number)
	r.mu.Unlock()
	interrupted := errors.Is(context.Cause(j.ctx), errInterrupted)
	r.done(j, &settlement.Run, err)
	switch {
	case errors.Is(err, store.ErrBroken):
		r.fail(err)
	case err == nil && interrupted && j.failure != nil:
		err = ErrStopping
	}
	if err != nil {
		return nil, err
	}
	return outcome, nil
}

// callStored stores the run, and waits for it. It calls stored when a stop need not wait for the call any more.
func (r *Runner) callStored(ctx context.Context, s Submission, runs []*store.Run, timeout time.Duration, stored func()) (*Outcome, error) {
	w := &waiter{done: make(chan struct{})}
	id := runs[0].ID
	r.mu.Lock()
	r.waiters[id] = w
	r.mu.Unlock()
	forget := func() {
		r.mu.Lock()
		delete(r.waiters, id)
		r.mu.Unlock()
	}
	receipt, err := r.accept(ctx, s, runs)
	if err != nil {
		forget()
		return nil, err
	}
	if receipt.Repeated {
		forget()
		outcome, err := r.repeated(ctx, receipt)
		if err != nil || !outcome.forgotten() {
			return outcome, err
		}
		once := *s.Once
		once.Instead = outcome.Run.Number
		s.Once = &once
		if runs, err = r.runs(s); err != nil {
			return nil, err
		}
		return r.callStored(ctx, s, runs, timeout, stored)
	}
	stored()
	alarm := time.NewTimer(timeout)
	defer alarm.Stop()
	gone := ctx.Done()
	if s.Detach {
		gone = nil
	}
	select {
	case <-w.done:
		return w.result()
	case <-alarm.C:
		err = ErrStillRuns
	case <-r.working.Done():
		err = ErrStillRuns
	case <-gone:
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	w.gone = true
	delete(r.waiters, id)
	ended := false
	select {
	case <-w.done:
		ended = true // in the same moment
	default:
	}
	r.mu.Unlock()
	if ended {
		return w.result()
	}
	return &Outcome{Run: *runs[0]}, err
}

// result returns what became of the run.
func (w *waiter) result() (*Outcome, error) {
	if w.err != nil {
		return nil, w.err
	}
	return &w.outcome, nil
}

// repeated answers a call whose once-key was used before: with the first run, as far as it has come.
func (r *Runner) repeated(ctx context.Context, receipt *store.Receipt) (*Outcome, error) {
	if len(receipt.Runs) == 0 { // nobody wanted it
		return &Outcome{Run: store.Run{Message: receipt.Message}}, nil
	}
	first := receipt.Runs[0]
	run, err := r.store.Run(ctx, first.Number)
	if errors.Is(err, store.ErrNotFound) { // the key is remembered for longer than the history
		return &Outcome{Run: store.Run{Number: first.Number, Flow: first.Flow, FlowID: first.FlowID, Message: receipt.Message}}, nil
	}
	if err != nil {
		return nil, err
	}
	outcome := &Outcome{Run: *run}
	if !run.Status.Settled() {
		return nil, ErrOnceBusy
	}
	if run.Status == store.Error || run.Status == store.Canceled {
		outcome.Failure = &Failure{Flow: run.Flow, Kind: run.Kind, Err: errors.New(run.Reason)}
	}
	return outcome, nil
}

// forgotten reports whether a repetition runs again instead of being told how the first run ended: its input was not at fault, or nothing could be read of it, which is told
// in more words than a run keeps.
func (o *Outcome) forgotten() bool {
	return o.Run.Status == store.Error && (o.Run.Kind != KindInput || o.Run.Read == 0)
}

// Cancel stops a run: a queued one is settled as canceled at once, one that is being executed as soon as it notices. The error wraps
// store.ErrNotFound when the run is not active.
func (r *Runner) Cancel(ctx context.Context, number int64) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.submitted.Done()
	return r.stop(ctx, number)
}

// stop cancels a run wherever it is.
func (r *Runner) stop(ctx context.Context, number int64) error {
	if r.cancelActive(number) {
		return nil
	}
	canceled, err := r.queue.Cancel(ctx, number, r.options.Now())
	if err != nil {
		return err
	}
	if canceled {
		return r.canceled(ctx, number)
	}
	r.mu.Lock()
	r.cancels[number] = true // claimed, and on its way to becoming active
	r.mu.Unlock()
	if run, err := r.store.Run(ctx, number); r.cancelActive(number) || err == nil && run.Status.Settled() { // it has become so, or has ended
		r.mu.Lock()
		delete(r.cancels, number)
		r.mu.Unlock()
	}
	return nil
}

// cancelActive stops a run that is active here; false when it is not.
func (r *Runner) cancelActive(number int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.active[number]
	if j != nil {
		failpoint.Hit("cancel.active")
		j.cancel(errCanceled)
	}
	return j != nil
}

// canceled tells of a run that was canceled in the queue, also who waits for it.
func (r *Runner) canceled(ctx context.Context, number int64) error {
	run, err := r.store.Run(ctx, number)
	if err != nil {
		return err
	}
	r.options.Observer.Observe(Settled{Run: *run})
	r.options.Logger.Info("run", "flow", run.Flow, "flowID", run.FlowID, "run", run.Number, "runID", run.ID, "status", run.Status.String(), "trigger", run.Trigger,
		"attempt", run.Attempts, "message", run.Message)
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.waiters[run.ID]; w != nil {
		delete(r.waiters, run.ID)
		w.outcome = Outcome{Run: *run, Failure: &Failure{Flow: run.Flow, Kind: KindCanceled, Err: errCanceled}}
		close(w.done)
	}
	return nil
}

// Active returns the runs that are executed in place and not in the store yet, by number.
func (r *Runner) Active(number int64) (store.Run, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.active[number]; j != nil {
		return *j.head, true
	}
	return store.Run{}, false
}

// nextAttempt returns how long the run waits for its next attempt; false when it has none. waited says that somebody waits for it.
func (j *job) nextAttempt(waited bool) (time.Duration, bool) {
	after, ok := j.failure.retryable()
	if !ok || waited || j.run.Attempts >= j.plan.retry.Attempts {
		return 0, false
	}
	if after > 0 {
		return after, true
	}
	return backoff(j.plan.retry, j.run.Attempts), true
}

// final says why the run has no further attempt.
func (j *job) final(waited bool) string {
	switch _, ok := j.failure.retryable(); {
	case j.failure.Kind == KindCanceled:
		return "it was stopped"
	case !ok:
		return "another attempt would fail for the same reason"
	case waited || j.inPlace:
		return "a run that somebody waits for has one attempt"
	}
	return fmt.Sprintf("attempt %d was the last", j.run.Attempts)
}

// backoff doubles with each attempt up to its cap, and is spread by a fifth, so that runs which failed together do not come back
// together.
func backoff(r Retry, attempts int) time.Duration {
	wait := float64(r.Backoff) * math.Pow(2, float64(attempts-1))
	wait = min(wait, float64(r.MaxBackoff))
	return time.Duration(wait * (0.8 + 0.4*mathrand.Float64()))
}

// shown returns the rejected records that an answer shows.
func (r *rejects) shown() []Rejected {
	if r == nil {
		return nil
	}
	return r.first
}

// errorID names one failure in the run, its log and the engine's log.
func errorID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
