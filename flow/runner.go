package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Conditions of [Runner.Submit] and [Runner.Call] that callers branch on.
var (
	ErrStopping  = errors.New("the engine is not running")                  // before Run, and once it stops
	ErrBusy      = errors.New("too many calls wait for their runs already") // come again
	ErrQueueFull = errors.New("too many runs wait already")                 // nothing was stored; come again
	ErrStillRuns = errors.New("the run has not ended yet")                  // it goes on
	ErrOnceBusy  = errors.New("the first call with this once-key has not ended yet")
)

// Options are what a [Runner] works with. Store and Plan are required.
type Options struct {
	Store store.Store

	// Plan returns the plan of a flow as the set of that version defines it; "" is the set in force. The error of a flow that the set
	// does not define wraps store.ErrNotFound.
	Plan func(ctx context.Context, flowID int64, version string) (*Plan, error)

	// Plans returns the enabled flows of the set in force.
	Plans func() []*Plan

	Logger   *slog.Logger     // nil is slog.Default()
	Observer Observer         // nil: nobody is told
	Now      func() time.Time // nil is time.Now

	// Redact takes secrets out of a text that is going to be stored or logged; nil leaves it as it is.
	Redact func(string) string

	Workers      int           // attempts, or groups of small ones, at a time, and as many again of flows that have none at work; 0 is 16
	MaxWaiting   int           // calls that may wait for their runs at a time; 0 is 1024
	MaxQueued    int           // runs that may wait in the store before more are refused, about; 0 is 1,000,000
	DrainTimeout time.Duration // how long a stopping engine lets attempts finish before it interrupts them; 0 is 20s

	Space transform.Space // of each step over all records of a run, such as sort
}

func (o Options) withDefaults() Options {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Observer == nil {
		o.Observer = ObserverFunc(func(Event) {})
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	o.Workers = cmp.Or(o.Workers, 16)
	o.MaxWaiting = cmp.Or(o.MaxWaiting, 1024)
	o.MaxQueued = cmp.Or(o.MaxQueued, 1_000_000)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 20*time.Second)
	return o
}

// Runner takes runs from acceptance to settlement: it claims what is due, executes it and settles it. It is safe for concurrent use.
//
// Three contexts bound its work. Accepting ends first, when Run's context ends. Working ends when what was begun had its DrainTimeout.
// Committing is bounded by time alone, so that a result that exists is recorded.
type Runner struct {
	options Options
	store   store.Store

	mu        sync.Mutex
	queue     store.Queue // nil: not running
	lanes     map[int64]*lane
	turn      []*lane               // lanes with work that is ready, in the order of their turns
	active    map[int64]*job        // claimed by us, by the run's number
	cancels   map[int64]bool        // to be canceled when they become active
	waiters   map[uuid.UUID]*waiter // by the run's id
	waiting   int
	workers   int
	suspect   bool // a run is executed that was at work when an engine crashed
	draining  bool
	submitted sync.WaitGroup // calls that may still add to a lane, or execute a run in place
	working   context.Context
	interrupt context.CancelCauseFunc
	group     sync.WaitGroup
	begun     chan struct{} // closed when runs are accepted
	look      chan struct{} // signalled when a claim may find something: a slot is free, or a set came into force
	broken    error
	halt      context.CancelCauseFunc
}

// lane is the work of one flow in this engine.
type lane struct {
	plan     *Plan
	ready    []*job // claimed, not begun
	busy     int    // workers
	grouping int    // those of them that take small runs together
	held     int    // runs claimed by us: being accepted, ready or executing
	backlog  bool   // runs may wait in the store
	behind   int    // how many have been put there
	seen     int    // of them before the last claim
	storing  int    // on their way there
	queued   bool   // in Runner.turn
}

// waiter is a call that waits for its run.
type waiter struct {
	done    chan struct{}
	outcome Outcome
	err     error // the run could not be settled
	gone    bool  // the call has stopped waiting
}

// Outcome is how a run ended.
type Outcome struct {
	Run      store.Run
	Response *Response // nil when the flow has no answer or the run failed; the receiver closes it
	Failure  *Failure  // nil when the run succeeded
	Rejects  []Rejected
	Missed   []string // paths of the flow's maps that no record has: misspelt ones, perhaps

	NoRecords string // the path of the source's records when it had none there

	plan    *Plan          // of the run
	message *store.Message // that it was called with; nil: none
}

// NewRunner returns a runner that waits for Run.
func NewRunner(options Options) *Runner {
	return &Runner{options: options.withDefaults(), store: options.Store, lanes: map[int64]*lane{}, active: map[int64]*job{}, waiters: map[uuid.UUID]*waiter{},
		cancels: map[int64]bool{}, begun: make(chan struct{}), look: make(chan struct{}, 1)}
}

// maxCrashes is how often a run may be executing when its engine crashes before it is taken for the cause.
const maxCrashes = 3

// crashedTooOften is why a run is not executed again.
func crashedTooOften(run store.Run) error {
	return fmt.Errorf("it was being executed %d times when the engine crashed", run.Crashes)
}

// claimLimit bounds one claim: what is claimed is held in memory.
const claimLimit = 500

// Run works until ctx ends, then stops in order: nothing new, what runs may finish within DrainTimeout, then it is interrupted and
// queued again. ready is called once runs are accepted. Run returns nil after an orderly stop, and the cause when the store failed. It
// runs once, and leaves the queue to its caller.
func (r *Runner) Run(ctx context.Context, queue store.Queue, ready func()) error {
	ctx, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	working, interrupt := context.WithCancelCause(context.WithoutCancel(ctx))
	defer interrupt(nil)
	r.mu.Lock()
	r.queue, r.working, r.interrupt, r.halt = queue, working, interrupt, halt
	r.mu.Unlock()
	close(r.begun)
	ready()
	r.claim(ctx)
	r.drain()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// Look makes the runner look for claimable runs: after a new set of definitions came into force.
func (r *Runner) Look() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// claim claims due runs whenever there is room for them, until ctx ends.
func (r *Runner) claim(ctx context.Context) {
	pause := time.Duration(0) // after a failed claim
	clock := unturned{now: r.options.Now}
	for {
		next := time.Time{}
		want := r.room()
		if len(want) > 0 {
			runs, due, err := r.queue.Claim(ctx, want, claimLimit, clock.read())
			switch {
			case ctx.Err() != nil:
			case errors.Is(err, store.ErrBroken), errors.Is(err, store.ErrClaimLost), errors.Is(err, store.ErrClosed):
				r.fail(fmt.Errorf("claim runs: %w", err))
				return
			case err != nil:
				pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
				r.options.Logger.Warn("claiming runs failed; trying again", "error", err, "pause", pause)
			default:
				pause, next = 0, due
				r.caughtUp(want, runs)
			}
			r.take(ctx, runs)
			if len(runs) > 0 && err == nil {
				continue // there may be more
			}
		}
		var alarm <-chan time.Time
		if pause > 0 {
			alarm = time.After(pause)
		} else if !next.IsZero() {
			// The clock may be set ahead: looked at again every minute at the latest.
			alarm = time.After(min(max(next.Sub(clock.read()), time.Millisecond), time.Minute))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.queue.Changed():
		case <-r.look:
		case <-alarm:
		}
	}
}

// unturned is a clock that goes on when the one it looks at is set back: a run that waits a minute waits a minute.
type unturned struct {
	now  func() time.Time
	last time.Time // that it told, at some moment
	at   time.Time // that moment, by the monotonic clock
}

func (c *unturned) read() time.Time {
	at, told := time.Now(), c.now()
	if !c.at.IsZero() {
		if went := c.last.Add(at.Sub(c.at)); went.After(told) {
			told = went
		}
	}
	c.last, c.at = told.Round(0), at
	return told
}

// caughtUp notes the flows of which nothing waits any more after a claim.
func (r *Runner) caughtUp(want map[int64]store.Want, runs []store.Run) {
	if len(runs) == claimLimit {
		return // it may have ended early
	}
	claimed := map[int64]int{}
	for _, run := range runs {
		claimed[run.FlowID]++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, w := range want {
		if l := r.lanes[id]; l != nil && claimed[id] < w.Runs && l.storing == 0 && l.behind == l.seen {
			l.backlog = false
		}
	}
}

// room returns how many runs of each flow may be claimed.
func (r *Runner) room() map[int64]store.Want {
	want := map[int64]store.Want{}
	plans := r.options.Plans()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		l := r.lane(p)
		l.seen = l.behind
		if n := l.limit() - l.held; n > 0 {
			want[p.ID] = store.Want{Runs: n, Version: p.Version}
		}
	}
	return want
}

// lane returns the flow's lane, with the plan that is in force now. The caller holds r.mu.
func (r *Runner) lane(p *Plan) *lane {
	l := r.lanes[p.ID]
	if l == nil {
		l = &lane{backlog: true} // those of an earlier engine
		r.lanes[p.ID] = l
	}
	l.plan = p
	return l
}

// limit is how many runs of the flow this engine holds claims on.
func (l *lane) limit() int {
	switch {
	case l.plan.maxRunning > 0:
		return l.plan.maxRunning
	case l.plan.Listener == "":
		return 1
	default:
		return max(4*l.plan.group, 64)
	}
}

// leave gives a place back. It reports whether a claim may find something for it: otherwise nothing waits but what the queue tells of. The
// caller holds Runner.mu.
func (l *lane) leave() (look bool) {
	look = l.backlog || l.held >= l.limit()
	l.held--
	return look
}

// take makes jobs of claimed runs and lets the workers have them.
func (r *Runner) take(ctx context.Context, runs []store.Run) {
	for i := range runs {
		run := &runs[i]
		plan, err := r.options.Plan(ctx, run.FlowID, run.Version)
		if err == nil && run.Crashes >= maxCrashes && !plan.resumes() && (plan.pure() || run.Crashes > maxCrashes) {
			err = crashedTooOften(*run) // else its destinations are looked at first; for one that resumes it matters how far it came
		}
		var message *store.Message
		if err == nil && run.Message != uuid.Nil {
			message, err = r.store.Message(ctx, run.Message)
		}
		if plan == nil {
			plan = &Plan{Name: run.Flow, ID: run.FlowID, zone: time.UTC, retry: Retry{Attempts: 1}, paths: &transform.Paths{}}
		}
		j := r.newJob(plan, run, message)
		r.resume(j)
		r.mu.Lock()
		r.laneOf(j).held++
		if err == nil {
			r.enqueue(j)
			r.mu.Unlock()
			continue
		}
		r.activate(j)
		r.mu.Unlock()
		j.failure = &Failure{Flow: run.Flow, Kind: KindInternal, Err: fmt.Errorf("prepare the run: %w", err)}
		if ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) {
			j.failure = fail(j.ctx, run.Flow, "", errInterrupted)
			j.cancel(errInterrupted)
		}
		r.settle([]*job{j})
	}
}

// laneOf returns the lane of a job's flow, which may be of an older set. The caller holds r.mu.
func (r *Runner) laneOf(j *job) *lane {
	if l := r.lanes[j.run.FlowID]; l != nil {
		return l
	}
	return r.lane(j.plan)
}

// newJob returns the job of a run. The run stays as it is.
func (r *Runner) newJob(plan *Plan, run *store.Run, message *store.Message) *job {
	j := &job{plan: plan, run: *run, head: run, message: message, redact: r.options.Redact}
	plan.users.enter() // until done
	j.log = &runLog{now: r.options.Now, redact: r.options.Redact}
	j.ctx, j.cancel = context.WithCancelCause(r.working)
	return j
}

// activate makes a job known, and heeds who wanted its run canceled before. The caller holds r.mu.
func (r *Runner) activate(j *job) {
	r.active[j.run.Number] = j
	if r.cancels[j.run.Number] {
		delete(r.cancels, j.run.Number)
		j.cancel(errCanceled)
	}
}

// enqueue makes a job ready, and starts workers for it. The caller holds r.mu and has counted the job as held.
func (r *Runner) enqueue(j *job) {
	r.activate(j)
	j.waiter = r.waiters[j.run.ID]
	l := r.laneOf(j)
	l.ready = append(l.ready, j)
	r.dispatch(l)
}

// dispatch gives the lane its turn, and starts workers while there are lanes to serve. A lane that nobody works for gets a worker also when all
// are busy: those of a destination that hangs hold up nobody else. The caller holds r.mu.
func (r *Runner) dispatch(l *lane) {
	if l != nil && !l.queued && len(l.ready) > 0 {
		l.queued = true
		r.turn = append(r.turn, l)
	}
	waiting := r.turn
	r.turn = nil
	for _, l := range waiting {
		if r.workers >= r.options.Workers && (l.busy > 0 || r.workers >= 2*r.options.Workers) {
			r.turn = append(r.turn, l)
			continue
		}
		l.queued = false
		if jobs := r.next(l); jobs != nil {
			r.work(l, jobs)
		}
		if len(l.ready) > 0 && !l.queued {
			l.queued = true
			r.turn = append(r.turn, l)
		}
	}
}

// next takes the jobs of the lane's next turn: one, or some small ones of the same plan. It returns nil when the lane's work should wait:
// for the worker that collects small runs, for a suspect that is at work, or because one flow may not have all workers. The caller holds r.mu.
func (r *Runner) next(l *lane) []*job {
	if len(l.ready) == 0 || l.busy >= max(1, r.options.Workers/2) {
		return nil
	}
	first := l.ready[0]
	if first.suspect() { // one at a time: should the engine crash again, it is known which
		if r.suspect {
			return nil
		}
		r.suspect = true
	}
	if !first.groups() {
		l.ready = l.ready[1:]
		return []*job{first}
	}
	if l.grouping > 0 && len(l.ready) < first.plan.group {
		return nil // they gather meanwhile
	}
	n := 1
	for n < len(l.ready) && n < first.plan.group && l.ready[n].groups() && l.ready[n].plan == first.plan {
		n++
	}
	jobs := l.ready[:n:n]
	l.ready = l.ready[n:]
	return jobs
}

// suspect reports whether the run was at work when an engine crashed.
func (j *job) suspect() bool { return j.head.Crashes > 0 }

// groups reports whether the job may share a piece of work with others.
func (j *job) groups() bool {
	return j.plan.group > 1 && j.plan.answer == nil && j.run.Attempts <= 1 && j.plan.timeout == 0 && j.small()
}

// work starts a worker that executes the jobs and then whatever the lane has ready. The caller holds r.mu.
func (r *Runner) work(l *lane, jobs []*job) {
	r.workers++
	l.busy++
	r.group.Go(func() {
		for jobs != nil {
			grouping := jobs[0].groups()
			if grouping {
				r.mu.Lock()
				l.grouping++
				r.mu.Unlock()
			}
			r.attempt(jobs)
			r.mu.Lock()
			if jobs[0].suspect() {
				r.suspect = false
			}
			if grouping {
				l.grouping--
			}
			jobs = nil
			l.busy--
			if len(r.turn) == 0 { // nobody else waits for a turn
				jobs = r.next(l)
			}
			if jobs != nil {
				l.busy++
			} else {
				r.workers--
				r.dispatch(l)
			}
			r.mu.Unlock()
		}
	})
}

// begun are lists that were used before of runs which begin.
var begun = sync.Pool{New: func() any { return new([]store.Run) }}

// attempt executes and settles.
func (r *Runner) attempt(jobs []*job) {
	now := r.options.Now()
	for _, j := range jobs {
		j.began = now
		r.options.Observer.Observe(Started{Flow: j.run.Flow, Run: j.run.Number, Attempt: j.run.Attempts, Waited: now.Sub(j.run.Due)})
		j.log.add("attempt %d begins", j.run.Attempts)
		if j.plan.timeout > 0 {
			var stop context.CancelFunc
			j.ctx, stop = context.WithTimeoutCause(j.ctx, j.plan.timeout, errTimeLimit)
			defer stop()
		}
	}
	runs := begun.Get().(*[]store.Run)
	for _, j := range jobs {
		*runs = append(*runs, j.run)
	}
	failpoint.Hit("begin.noting")
	if err := r.queue.Begin(r.working, *runs); err != nil {
		r.options.Logger.Warn("a crash of the engine would not be counted for these runs", "flow", jobs[0].plan.Name, "runs", len(jobs), "error", err)
	}
	failpoint.Hit("begin.noted")
	clear(*runs)
	*runs = (*runs)[:0]
	begun.Put(runs)
	r.execute(jobs)
	r.settle(jobs)
}

// committing is how long a settlement is still tried while the engine stops.
const committing = 10 * time.Second

// settle stores what became of the jobs, tells who waits, and frees their places.
func (r *Runner) settle(jobs []*job) {
	failpoint.Hit("settle.deciding")
	settlements := make([]*store.Settlement, len(jobs))
	for i, j := range jobs {
		settlements[i] = r.settlement(j)
	}
	err := r.commit(func(ctx context.Context) error { return r.queue.Settle(ctx, settlements) })
	if err != nil && !errors.Is(err, store.ErrClaimLost) {
		r.fail(fmt.Errorf("settle runs: %w", err))
	}
	look := false
	var late []int64 // canceled when it was decided that they are tried again
	r.mu.Lock()
	for _, j := range jobs {
		delete(r.active, j.run.Number)
		look = r.laneOf(j).leave() || look
		if j.run.Status == store.Queued && errors.Is(context.Cause(j.ctx), errCanceled) {
			late = append(late, j.run.Number)
		}
	}
	r.mu.Unlock()
	for i, j := range jobs {
		r.done(j, &settlements[i].Run, err)
	}
	for _, number := range late {
		if err := r.stop(context.WithoutCancel(r.working), number); err != nil {
			r.options.Logger.Error("a run that was canceled is tried again", "run", number, "error", err)
		}
	}
	if look {
		r.Look()
	}
}

// commit tries a write until it succeeds or is refused for good: while the store is full or cannot be reached it waits. No caller can end it;
// a stop gives it a last while.
func (r *Runner) commit(write func(context.Context) error) error {
	ctx := context.WithoutCancel(r.working)
	var giveUp time.Time
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := write(ctx)
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrFull) {
			return err
		}
		r.mu.Lock()
		stopping := r.draining
		r.mu.Unlock()
		switch now := time.Now(); {
		case !stopping:
		case giveUp.IsZero():
			giveUp = now.Add(committing)
		case now.After(giveUp):
			return err
		}
		time.Sleep(pause)
	}
}

// done tells everybody how the attempt ended.
func (r *Runner) done(j *job, run *store.Run, err error) {
	j.cancel(nil)
	took := r.options.Now().Sub(j.began)
	if j.began.IsZero() {
		took = 0
	}
	if err == nil {
		r.options.Observer.Observe(Settled{Run: *run, Took: took})
	}
	r.tell(j, run, took, err)
	r.mu.Lock()
	w := r.waiters[run.ID]
	if run.Status.Settled() {
		delete(r.waiters, run.ID)
	}
	gone := w == nil || w.gone
	switch {
	case gone:
	case err != nil: // nobody knows what is stored of it
		delete(r.waiters, run.ID)
		w.err = err
		close(w.done)
	case run.Status.Settled():
		w.outcome = Outcome{Run: *run, Failure: j.failure, Rejects: j.rejects.shown(), Missed: j.missed()}
		if j.failure == nil {
			w.outcome.Response, j.response = j.response, nil
		}
		close(w.done)
	}
	r.mu.Unlock()
	if j.response != nil {
		j.response.Close()
	}
	j.plan.users.leave()
	if j.rejects != nil && (j.rejects.whole == nil || !run.Status.Settled()) { // otherwise they are stored
		j.rejects.discard(r)
	}
}

// tell logs how an attempt ended: one line.
func (r *Runner) tell(j *job, run *store.Run, took time.Duration, err error) {
	level := slog.LevelInfo
	switch {
	case run.Status == store.Error:
		level = slog.LevelError
	case j.failure != nil:
		level = slog.LevelWarn
	}
	if !r.options.Logger.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{"flow", run.Flow, "flowID", run.FlowID, "run", run.Number, "runID", run.ID, "status", run.Status.String(), "trigger", run.Trigger, "attempt", run.Attempts,
		"read", run.Read, "written", run.Written, "rejected", run.Rejected, "took", took}
	if run.Message != uuid.Nil {
		attrs = append(attrs, "message", run.Message)
	}
	if run.Parent != 0 {
		attrs = append(attrs, "parent", run.Parent)
	}
	if run.User != "" {
		attrs = append(attrs, "user", run.User)
	}
	if j.failure != nil {
		attrs = append(attrs, "kind", j.failure.Kind, "errorID", run.ErrorID, "exception", run.Exception)
		if run.Status == store.Queued {
			attrs = append(attrs, "due", run.Due)
		}
		if p := (*panicError)(nil); errors.As(j.failure, &p) {
			attrs = append(attrs, "stack", p.stack)
		}
	}
	if missed := j.missed(); j.failure == nil && missed != nil {
		attrs = append(attrs, "noRecordHas", missed)
	}
	if err != nil {
		attrs = append(attrs, "settle", err)
	}
	r.options.Logger.Log(context.Background(), level, "run", attrs...)
}

// settlement decides what becomes of a job's run.
func (r *Runner) settlement(j *job) *store.Settlement {
	now := r.options.Now()
	s := &store.Settlement{}
	run := &j.run
	run.Kind, run.Exception, run.Reason, run.ErrorID = "", "", "", ""
	interrupted := errors.Is(context.Cause(j.ctx), errInterrupted)
	if j.failure != nil && errors.Is(context.Cause(j.ctx), errCanceled) {
		j.failure = &Failure{Flow: j.failure.Flow, Kind: KindCanceled, Err: errCanceled}
	}
	switch f := j.failure; {
	case f == nil:
		run.Status, run.Ended = store.Success, now
		if run.Rejected > 0 {
			run.Status = store.Warning
		}
		j.log.add("ends in %s: read %d, written %d, rejected %d", run.Status, run.Read, run.Written, run.Rejected)
		j.destinations()
		for _, path := range j.missed() {
			j.log.add("warning: no record has the path %s", path)
		}
	case interrupted && !j.inPlace:
		run.Status, run.Due, run.Written = store.Queued, now, j.committed
		run.Attempts--
		j.log.add("interrupted by the engine's stop; the attempt does not count")
	default:
		run.Written = j.committed // what else was written is rolled back
		run.Kind, run.ErrorID = f.Kind, errorID()
		run.Exception, run.Reason = r.options.Redact(capped(f.Exception())), r.options.Redact(capped(f.Public()))
		j.log.add("fails (%s, error id %s), with %d read and %d rejected: %s", run.Kind, run.ErrorID, run.Read, run.Rejected, f.Exception())
		if p := (*panicError)(nil); errors.As(f, &p) {
			j.log.add("%v\n%s", p.value, p.stack)
		}
		run.Status, run.Ended = store.Error, now
		if f.Kind == KindCanceled {
			run.Status = store.Canceled
		}
		waited := r.waitedFor(j)
		if wait, again := j.nextAttempt(waited); again {
			failpoint.Hit("retry.decided")
			run.Status, run.Ended, run.Due = store.Queued, time.Time{}, now.Add(wait)
			j.log.add("is tried again at %s, because the failure may pass (%s)", run.Due.UTC().Format(time.RFC3339), run.Kind)
		} else {
			j.log.add("ends in %s: %s", run.Status, j.final(waited))
		}
	}
	if j.failure != nil && j.committed > 0 {
		j.log.add("%d records are written for good and stay", j.committed)
	}
	if run.Status != store.Queued {
		var err error
		if s.Rejects, err = j.rejects.body(); err != nil {
			r.options.Logger.Error("rejected records could not be stored", "run", run.Number, "error", err)
		}
	}
	s.Log = j.log.body()
	s.Run = *run
	s.Rides = j.waiter == nil && run.Order == "" && j.plan.rides()
	return s
}

// rides reports whether the settlement of a run may come a moment later: no other waits for its place, and what it did is not done again should
// the engine crash meanwhile.
func (p *Plan) rides() bool {
	return p.Listener != "" && p.maxRunning == 0 && !slices.ContainsFunc(p.outputs, func(o output) bool { return o.immediate }) &&
		(p.rejected == nil || !p.rejected.immediate)
}

// waitedFor reports whether a call still waits for the job's run.
func (r *Runner) waitedFor(j *job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return j.waiter != nil && !j.waiter.gone
}

// capped bounds what is stored of a chain of causes.
func capped(s string) string {
	const most = 8 << 10
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}

// fail stops the engine because its store failed.
func (r *Runner) fail(err error) {
	r.mu.Lock()
	first := r.broken == nil
	if first {
		r.broken = err
	}
	halt := r.halt
	r.mu.Unlock()
	if first {
		r.options.Observer.Observe(FailStop{Err: err})
		r.options.Logger.Error("the store failed; the engine stops", "error", err)
		halt(err)
	}
}

// drain stops in order: what is being accepted or executed may end within DrainTimeout, then it is interrupted.
func (r *Runner) drain() {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	alarm := time.AfterFunc(r.options.DrainTimeout, func() {
		r.options.Logger.Warn("runs are interrupted: they did not end in time", "timeout", r.options.DrainTimeout)
		r.interrupt(errInterrupted)
	})
	defer alarm.Stop()
	r.submitted.Wait()
	r.mu.Lock()
	var idle []*job
	for _, l := range r.lanes { // claimed and not begun: back to the queue
		for _, j := range l.ready {
			j.cancel(errInterrupted)
			j.failure = &Failure{Flow: j.run.Flow, Kind: KindCanceled, Err: errInterrupted}
			idle = append(idle, j)
		}
		l.ready = nil
	}
	r.turn = nil
	r.mu.Unlock()
	if len(idle) > 0 {
		r.settle(idle)
	}
	r.group.Wait()
}

// panicError is a panic of a step, a connector or the engine itself.
type panicError struct {
	value any
	stack string
}

// Error says what happened without where: the stack is for the log alone.
func (p *panicError) Error() string {
	return "a panic stopped the run; its stack is in the engine's log"
}

func stack() string { return string(debug.Stack()) }
