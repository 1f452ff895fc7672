package flow

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// job is one attempt of one run: what it works on, and what came of it.
type job struct {
	plan    *Plan
	run     store.Run
	head    *store.Run // run as it was claimed, for who asks meanwhile
	redact  func(string) string
	message *store.Message // nil: a run without one
	waiter  *waiter        // nil: nobody waits
	inPlace bool           // executed by the call that waits for it, and not in the queue
	ctx     context.Context
	cancel  context.CancelCauseFunc
	began   time.Time

	decoded  *transform.Batch // the payload's records, until the first attempt takes them; nil: they are read from the payload
	env      *transform.Env
	rejects  *rejects
	wrote    []destination // what the flow's destinations got, in their order
	log      *runLog
	response *Response  // filled when somebody waits and the flow answers
	stream   StreamFunc // where an answer goes that is sent at once; nil: it is kept until the run has ended
	failure  *Failure

	recycles  bool   // nothing of the run keeps a batch's records: its memory is used again
	parts     *parts // of an attempt that is committed in parts
	committed int64  // records that are written for good although the run has not ended
	untaken   int64  // records that no destination took
}

// small reports whether the run's payload is small enough to be held in memory with those of other runs.
func (j *job) small() bool {
	return j.plan.source.reader == nil && (j.message == nil || j.message.Body.Size <= store.InlineBytes)
}

// failed records why the attempt failed.
func (j *job) failed(step string, err error) {
	if err != nil {
		j.failure = fail(j.ctx, j.plan.Name, step, err)
	}
}

// begin prepares an attempt, also after an earlier one of the same job was rolled back.
func (j *job) begin(r *Runner) {
	j.run.Read, j.run.Written, j.run.Rejected = 0, 0, 0
	j.failure, j.parts, j.committed, j.untaken, j.wrote, j.recycles = nil, nil, 0, 0, nil, false
	j.discard(r)
	j.rejects = newRejects(j.ctx, r)
	if j.waiter != nil && j.plan.answer != nil {
		j.response = r.newResponse(j.plan.answer, j.message, &j.run)
		if j.plan.answer.stream && j.stream != nil {
			j.response.send = func() io.Writer { return j.stream(j.ctx, j.response) }
		}
	}
	j.env = environment(j.plan, j.message, j.head)
}

// missed returns the paths of the plan's maps that no record of the run has.
func (j *job) missed() []string {
	if j.env == nil || j.parts != nil && j.parts.start > 0 { // what an earlier attempt has seen is not known
		return nil
	}
	missed := j.plan.paths.Missed(j.env.Sights)
	if path := j.noRecords(); path != "" {
		missed = append(missed, path)
	}
	return missed
}

// noRecords returns the path of the source's records when there was not one, "" otherwise.
func (j *job) noRecords() string {
	if j.run.Read > 0 || j.failure != nil {
		return ""
	}
	return j.plan.source.records
}

// discard throws away what an attempt collected.
func (j *job) discard(r *Runner) {
	j.rejects.discard(r)
	if j.response != nil {
		j.response.Close()
		j.response = nil
	}
}

// messageNames and runNames are what an expression finds in message and run.
var (
	messageNames = []string{"id", "listener", "user", "method", "received_at", "bytes", "sha256"}
	messageShape = transform.NewShape(messageNames...)
	runNames     = []string{"id", "number", "flow", "user", "started", "due"}
	runShape     = transform.NewShape(runNames...)
)

// environment is what the run's expressions and ${…} see beside the record.
func environment(p *Plan, m *store.Message, run *store.Run) *transform.Env {
	env := callEnv(m, run.Params)
	env.Now, env.Zone, env.Sights = run.Started, p.zone, make([]transform.Sight, p.paths.Len())
	env.Run.Make = func() transform.Value { return runValue(p, run) }
	return env
}

func runValue(p *Plan, run *store.Run) transform.Value {
	value := transform.NewObject(runShape, []transform.Value{transform.Text(run.ID.String()), transform.Int(run.Number), transform.Text(p.Name),
		transform.Text(run.User), transform.Text(run.Started.In(p.zone).Format(time.RFC3339Nano)), transform.Null})
	if due := run.Scheduled; !due.IsZero() {
		value = value.With("due", transform.Text(due.In(p.zone).Format(time.RFC3339)))
	}
	return value
}

// callEnv is what is known of a call before it has runs. m is nil without a payload; params are its declared parameters, which have types.
func callEnv(m *store.Message, params []byte) *transform.Env {
	env := &transform.Env{Param: noParams, Zone: time.UTC}
	if m != nil {
		env.Now = m.ReceivedAt
		for _, p := range m.Params {
			env.Param = env.Param.With(p.Name, transform.Untyped(p.Value))
		}
		env.Header.Make = func() transform.Value { return fromPairs(m.Header) }
		env.Query.Make = func() transform.Value { return fromPairs(m.Query) }
		env.Message.Make = func() transform.Value {
			return transform.NewObject(messageShape, []transform.Value{transform.Text(m.ID.String()), transform.Text(m.Listener), transform.Text(m.User),
				transform.Text(m.Method), transform.Text(m.ReceivedAt.UTC().Format(time.RFC3339Nano)), transform.Int(m.Body.Size),
				transform.Text(hex.EncodeToString(m.Body.SHA256[:]))})
		}
	}
	for name, value := range decodeParams(params).Fields() {
		env.Param = env.Param.With(name, value)
	}
	return env
}

var noParams = transform.NewObject(transform.NewShape(), nil)

func fromPairs(pairs []store.Pair) transform.Value {
	object := transform.NewObject(transform.NewShape(), nil)
	for _, p := range pairs {
		if _, twice := object.Get(p.Name); !twice { // the first of repeated ones
			object = object.With(p.Name, transform.Untyped(p.Value))
		}
	}
	return object
}

// execute carries out one attempt of each job: alone, or together in one piece of work for each connection. Afterwards each job has
// its counters and, when it failed, its failure.
func (r *Runner) execute(jobs []*job) {
	plan := jobs[0].plan
	for _, j := range jobs {
		j.begin(r)
	}
	if len(jobs) == 1 {
		r.executeAlone(jobs[0])
		return
	}
	// What the payloads hold is found out before anything is written, so that one run's bad input is no matter for the others.
	held := make([][]*transform.Batch, len(jobs))
	for i, j := range jobs {
		j.recycles = plan.pure() && plan.borrows()
		j.failed("", guard(func() error {
			return r.stream(j, func(b *transform.Batch) error {
				if plan.pure() {
					return j.answer(b)
				}
				held[i] = append(held[i], b)
				return nil
			})
		}))
	}
	if plan.pure() {
		for _, j := range jobs {
			j.finish()
		}
		return
	}
	together := jobs[:0:0]
	var alone []*job // committed in parts, and of more than one
	for i, j := range jobs {
		if plan.every() > 0 && j.run.Read > plan.every() {
			alone = append(alone, j)
			continue
		}
		held[len(together)] = held[i]
		together = append(together, j)
	}
	if err := guard(func() error { return r.writeTogether(plan, together, held) }); err != nil {
		alone = append(together, alone...) // the group is split: each run answers for itself
	}
	for _, j := range alone {
		if j.failure == nil {
			if len(together) > 1 {
				j.log.add("a fault splits the group of %d runs; this one goes on alone", len(together))
			}
			j.begin(r)
			r.executeAlone(j)
		}
	}
}

// writeTogether writes the batches of several runs in one piece of work for each connection. On an error nothing is settled: what
// was committed is found again by the runs' ids.
func (r *Runner) writeTogether(plan *Plan, jobs []*job, held [][]*transform.Batch) error {
	// The work is nobody's in particular: it ends when the engine's work ends, and a canceled run splits the group.
	works, err := r.beginWorks(r.working, plan)
	defer works.rollback()
	if err != nil {
		return err
	}
	for i, j := range jobs {
		if j.failure != nil {
			continue
		}
		if err := context.Cause(j.ctx); err != nil {
			return err
		}
		if err := works.start(j); err != nil {
			return err
		}
		for _, b := range held[i] {
			if err := works.write(j, b); err != nil {
				return err
			}
			if err := j.answer(b); err != nil {
				return err
			}
		}
		if err := j.finish(); err != nil {
			return err
		}
		if err := works.conclude(r, j); err != nil {
			return err
		}
	}
	_, err = works.commit()
	return err
}

// executeAlone carries out one attempt of one job, streaming.
func (r *Runner) executeAlone(j *job) {
	j.failed("", guard(func() error {
		if j.plan.every() > 0 {
			return r.executeParts(j)
		}
		works, err := r.beginWorks(j.ctx, j.plan)
		defer works.rollback()
		if err != nil {
			return err
		}
		if err := works.start(j); err != nil {
			return err
		}
		if j.run.Crashes >= maxCrashes { // it is not executed again, but it may be that the last attempt was through
			if len(works.applied) > 0 && !slices.Contains(works.applied, false) {
				return nil
			}
			return &Failure{Flow: j.run.Flow, Kind: KindInternal, Err: crashedTooOften(j.run)}
		}
		j.recycles = j.plan.borrows() && works.borrow()
		for i := range works.scratch {
			works.scratch[i].recycled = j.recycles
		}
		err = r.stream(j, func(b *transform.Batch) error {
			if err := works.write(j, b); err != nil {
				return err
			}
			return j.answer(b)
		})
		if err != nil {
			return err
		}
		if err := j.finish(); err != nil {
			return err
		}
		if err := context.Cause(j.ctx); err != nil {
			return err
		}
		if err := works.conclude(r, j); err != nil {
			return err
		}
		connection, err := works.commit()
		if err != nil {
			return fail(j.ctx, j.plan.Name, connection, err)
		}
		return nil
	}))
}

// guard makes a panic of a plug-in or of ours an error: one bad run must not end the others.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: stack()}
		}
	}()
	return f()
}

// finish ends the run's records: the policy's last word, and the end of the answer.
func (j *job) finish() error {
	if j.failure != nil {
		return nil
	}
	if j.plan.source.raw { // pieces are not counted
		j.run.Read, j.run.Written = 1, 1
		for i := range j.wrote {
			j.wrote[i].records = min(1, j.wrote[i].records)
		}
	}
	err := j.plan.rejects.atEnd(j)
	if err == nil && j.response != nil && !(j.response.unsent() && allRejected(&j.run)) {
		env := j.env
		if a := j.plan.answer; a.body != nil || a.headers != nil || a.page != nil {
			env = endEnv(j.plan, j.message, &j.run)
		}
		if err = j.response.finish(env); err != nil {
			err = j.notWritten(err)
		}
	}
	j.failed("", err)
	if j.failure != nil {
		return j.failure
	}
	return nil
}

// answer adds the batch to what the caller gets.
func (j *job) answer(b *transform.Batch) error {
	if j.response != nil {
		if err := j.response.encode(j.env, b); err != nil {
			return j.notWritten(err)
		}
		if err := j.sift("respond", b); err != nil {
			return err
		}
		j.response.saw(b)
	}
	if len(j.plan.outputs) == 0 {
		j.run.Written += int64(len(b.Records))
	}
	return nil
}

// notWritten returns why the answer could not be made: what the format cannot write is a fault of the definition, and no retry mends it.
func (j *job) notWritten(err error) error {
	f := fail(j.ctx, j.plan.Name, "respond", err)
	if f.Kind == KindConnection {
		f.Kind = KindInternal
	}
	return f
}

// sift moves the records that were rejected out of the batch.
func (j *job) sift(step string, b *transform.Batch) error {
	kept := 0
	for i := range b.Records {
		record := &b.Records[i]
		if record.Err != nil {
			if err := j.reject(step, record); err != nil {
				return err
			}
			continue
		}
		if kept < i {
			b.Records[kept] = *record
		}
		kept++
	}
	b.Records = b.Records[:kept]
	return nil
}

// reject notes a rejected record, and fails when the policy has had enough.
func (j *job) reject(step string, record *transform.Record) error {
	again := j.rejects.again(record)
	if !again {
		j.run.Rejected++
	}
	if p := (*transform.PanicError)(nil); errors.As(record.Err, &p) {
		j.log.add("record %d: %v\n%s", record.Index+1, p.Value, p.Stack)
	} else if fault := (*transform.Fault)(nil); errors.As(record.Err, &fault) && fault.Err != nil {
		j.log.add("record %d: %v", record.Index+1, fault.Err)
	}
	if err := j.rejects.add(step, record, again); err != nil {
		return fail(j.ctx, j.plan.Name, step, err)
	}
	return j.plan.rejects.afterReject(j, step, record)
}

// afterReject fails the run when the policy says stop.
func (p rejectPolicy) afterReject(j *job, step string, record *transform.Record) error {
	var fault *transform.Fault
	if errors.As(record.Err, &fault) && fault.Step != "" {
		step = fault.Step
	}
	f := &Failure{Flow: j.plan.Name, Step: step, Record: record.Index + 1, Line: record.Line, Kind: classify(context.Background(), record.Err), Err: record.Err}
	if f.Kind == KindConnection {
		f.Kind = KindInput // a plain error of a step rejects the record for what it is
	}
	switch {
	case !p.keep:
		return f
	case p.max >= 0 && j.run.Rejected > p.max:
		reason := fmt.Sprintf("more than %d records were rejected", p.max)
		if fault != nil {
			reason += ", the last because of: " + fault.Reason
		}
		f.Err = &transform.Fault{Kind: KindInput, Reason: reason, Err: record.Err}
		return f
	}
	return nil
}

// atEnd fails the run when the share of rejected records is too large, or when not one record of several was fit.
func (p rejectPolicy) atEnd(j *job) error {
	if p.share >= 0 && float64(j.run.Rejected) > p.share*float64(j.run.Read) {
		return &Failure{Flow: j.plan.Name, Kind: KindInput, Err: &transform.Fault{Kind: KindInput,
			Reason: fmt.Sprintf("%d of %d records were rejected, more than %g%%", j.run.Rejected, j.run.Read, p.share*100)}}
	}
	return nil
}

// works is the open work of a run, or of a group, on each of its connections.
type works struct {
	ctx      context.Context
	plan     *Plan
	observer Observer
	work     []connector.Work
	applied  []bool         // of the run that was started last
	before   []before       // of the outputs that are applied
	refused  [][]Rejected   // what the others have rejected of the run that was started last
	rejects  connector.Work // that takes rejected records alone; nil: there are none yet, or another work takes them
	scratch  []rows
	taken    []bool // of a routed plan: which records of the batch some destination takes
	done     bool
}

func (r *Runner) beginWorks(ctx context.Context, p *Plan) (*works, error) {
	w := &works{ctx: ctx, plan: p, observer: r.options.Observer}
	for _, o := range p.outputs {
		work, err := o.writer.Begin(ctx)
		if err != nil {
			return w, fail(ctx, p.Name, o.connection, err)
		}
		w.add(work, len(o.targets))
	}
	return w, nil
}

func (w *works) add(work connector.Work, targets int) {
	w.work, w.scratch = append(w.work, work), append(w.scratch, make([]rows, targets)...)
	w.applied, w.before, w.refused = append(w.applied, false), append(w.before, nil), append(w.refused, nil)
}

// borrows reports whether neither the plan's steps nor its answer keep anything of a batch's records.
func (p *Plan) borrows() bool {
	return !p.answer.keeps() && !slices.ContainsFunc(p.steps, func(s step) bool {
		_, borrows := s.run.(transform.Borrower)
		return !borrows
	})
}

// borrow reports whether the works do not either.
func (w *works) borrow() bool {
	return !slices.ContainsFunc(w.work, func(work connector.Work) bool {
		_, borrows := work.(transform.Borrower)
		return !borrows
	})
}

// start begins the run's writes everywhere.
func (w *works) start(j *job) error {
	next := 0
	for i := range w.plan.outputs {
		o := &w.plan.outputs[i]
		paths, err := o.runPaths(j.env)
		if err != nil {
			return fail(j.ctx, w.plan.Name, o.connection, err)
		}
		applied, err := w.work[i].Start(connectorRun(j), paths)
		if err != nil {
			return fail(j.ctx, w.plan.Name, o.connection, err)
		}
		w.applied[i], w.before[i], w.refused[i] = applied, nil, nil
		if applied {
			if w.before[i], err = noted(w.work[i]); err != nil {
				return fail(j.ctx, w.plan.Name, o.connection, err)
			}
		}
		for _, target := range o.targets {
			if next++; next > len(j.wrote) { // the first part of the run
				j.wrote = append(j.wrote, destination{connection: o.connection, action: target.action, where: cmp.Or(paths[target.at], target.table), applied: applied})
			}
		}
	}
	return nil
}

// connectorRun is what destinations are told of the run.
func connectorRun(j *job) connector.Run {
	return connector.Run{ID: j.run.ID, Number: j.run.Number, Flow: j.plan.Name, Attempt: j.run.Attempts, Time: j.run.Started}
}

// runPaths returns the path of each of the writer's targets, filled in for a run: "" where it has none, or one for each record.
func (o *output) runPaths(env *transform.Env) ([]string, error) {
	paths := make([]string, o.writes)
	for _, target := range o.targets {
		if target.path == nil || target.path.record {
			continue
		}
		path, err := target.path.fill(env, nil, o.encode)
		if err != nil {
			return nil, err
		}
		paths[target.at] = path
		for _, at := range target.actions {
			paths[at] = path
		}
		if target.clear != nil {
			paths[target.clearAt] = path
		}
	}
	return paths, nil
}

// write hands the batch to every destination. Records that one of them rejects are out of the batch afterwards.
func (w *works) write(j *job, b *transform.Batch) error {
	if w.plan.routed {
		w.taken = append(w.taken[:0], make([]bool, len(b.Records))...)
	}
	next := 0
	for i := range w.plan.outputs {
		o := &w.plan.outputs[i]
		scratch := w.scratch[next : next+len(o.targets)]
		if next += len(scratch); w.applied[i] {
			w.takes(j, o, scratch, b)
			w.before[i].mark(b)
			w.keep(b, 0, 0)
			if err := j.sift(o.connection, b); err != nil {
				return err
			}
			continue
		}
		most := len(b.Records)
		if o.immediate { // nothing is written behind a record that ends the run
			most = 1
		}
		kept, at := b.Records[:0], 0
		for rest := b.Records; len(rest) > 0; {
			n := min(most, len(rest))
			some := transform.Batch{Records: rest[:n:n]}
			rest = rest[n:]
			var taken []bool
			if w.plan.routed {
				taken = w.taken[at : at+n]
			}
			if err := w.writeTo(j, i, scratch, &some, taken); err != nil {
				return fail(j.ctx, w.plan.Name, o.connection, err)
			}
			for t := range scratch {
				j.wrote[next-len(scratch)+t].records += scratch[t].written()
			}
			w.note(j, i, &some)
			w.keep(&some, at, len(kept))
			if err := j.sift(o.connection, &some); err != nil {
				return err
			}
			if o.immediate && len(w.work) == 1 {
				j.committed += w.written(len(kept), len(kept)+len(some.Records))
			}
			at += n
			kept = append(kept, some.Records...)
		}
		b.Records = kept
	}
	if len(w.work) > 0 {
		written := w.written(0, len(b.Records))
		j.untaken += int64(len(b.Records)) - written
		j.run.Written += written
	}
	return nil
}

// keep moves what is known of the records of a batch, which begins at a place, to another: of those that are not rejected.
func (w *works) keep(b *transform.Batch, at, to int) {
	for k := 0; w.plan.routed && k < len(b.Records); k++ {
		if b.Records[k].Err == nil {
			w.taken[to] = w.taken[at+k]
			to++
		}
	}
}

// written returns how many of the batch's records from lo up to hi some destination has taken.
func (w *works) written(lo, hi int) int64 {
	n := hi - lo
	for k := lo; w.plan.routed && k < hi; k++ {
		if !w.taken[k] {
			n--
		}
	}
	return int64(n)
}

// takes notes which records the destinations of an output have taken that an earlier attempt has written.
func (w *works) takes(j *job, o *output, scratch []rows, b *transform.Batch) {
	if !w.plan.routed {
		return
	}
	same := transform.Batch{Records: slices.Clone(b.Records)}
	for t := range o.targets {
		o.targets[t].rows(j.env, o.encode, &same, &scratch[t], w.taken)
	}
}

// writeTo hands the batch to the destinations on one connection. A record that one of them rejects, or of whose rows one is rejected, is in none of them, when the work can
// take back what was written. taken is of a routed plan: it tells which records some destination takes.
func (w *works) writeTo(j *job, i int, scratch []rows, b *transform.Batch, taken []bool) error {
	o := &w.plan.outputs[i]
	undoer, _ := w.work[i].(connector.Undoer)
	if len(o.targets) == 1 && o.targets[0].each == nil {
		undoer = nil
	}
	for again := true; again; {
		again = false
		if undoer != nil {
			if err := undoer.Save(); err != nil {
				return err
			}
		}
		for t := range o.targets {
			target, out := &o.targets[t], &scratch[t]
			rejected := target.rows(j.env, o.encode, b, out, taken)
			if err := o.hand(w.work[i], target, out); err != nil {
				return err
			}
			if refused := out.settle(target, b); refused && target.each != nil || (refused || rejected) && t > 0 {
				again = undoer != nil
			}
		}
		if again { // without the records that are rejected now
			if err := undoer.Undo(); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit commits the work of every connection in order, that with rejected records first; it names the connection that failed.
func (w *works) commit() (connection string, err error) {
	first := -1
	if to := w.plan.rejected; to != nil && w.rejects != nil {
		if err := w.delivered(to.connection, w.rejects.Commit); err != nil {
			return to.connection, err
		}
	} else if to != nil {
		first = w.plan.joined
	}
	for n := -1; n < len(w.work); n++ {
		i := n
		if n < 0 {
			i = first
		} else if n == first {
			continue
		}
		if i < 0 {
			continue
		}
		connection := w.plan.outputs[i].connection
		if err := w.delivered(connection, w.work[i].Commit); err != nil {
			return connection, err
		}
	}
	w.done = true
	return "", nil
}

// delivered commits on one connection, and tells of it.
func (w *works) delivered(connection string, commit func() error) error {
	began := time.Now()
	err := commit()
	w.observer.Observe(Delivered{Connection: connection, Took: time.Since(began), Err: err})
	return err
}

// rollback undoes what was not committed. Work that was committed before another connection's commit failed stays; the next attempt
// finds it applied.
func (w *works) rollback() {
	if w.done {
		return
	}
	for _, work := range w.work {
		work.Rollback() // the fault that led here is the one to tell
	}
	if w.rejects != nil {
		w.rejects.Rollback()
	}
}

// stream reads the run's source, passes the records through the steps and gives those that are left to sink, batch after batch in
// order. A small payload is read in place; for others decoding and steps run on goroutines of their own.
func (r *Runner) stream(j *job, sink func(*transform.Batch) error) error {
	if b := j.decoded; b != nil {
		j.decoded = nil // the steps change it: another attempt reads the payload
		j.run.Read += int64(len(b.Records))
		steps := r.pass(j, func(b *transform.Batch) error { return j.drain(b, sink) })
		defer steps.close()
		if err := steps.take(b); err != nil {
			return err
		}
		j.release(b)
		return steps.end()
	}
	source, err := r.open(j)
	if err != nil {
		return fail(j.ctx, j.plan.Name, "from", err)
	}
	defer source.Close()
	if j.parts != nil && j.parts.start > 0 {
		source = &behind{source, j.parts}
	}
	if j.small() {
		steps := r.pass(j, func(b *transform.Batch) error { return j.drain(b, sink) })
		defer steps.close()
		for {
			b := batches.Get().(*transform.Batch)
			if err := r.read(j, source, b); err == io.EOF {
				return steps.end()
			} else if err != nil {
				return err
			}
			if err := steps.take(b); err != nil {
				return err
			}
			j.release(b)
		}
	}
	return r.pipeline(j, source, sink)
}

// decodeAtOnce is how long a payload may be whose records are made when it is accepted and kept until its run begins: what they take in memory is
// many times as much.
const decodeAtOnce = 8 << 10

// Decode returns the records of a message's payload that is small, for [Submission.Decoded]: who accepts a payload checks it, and need not read it twice. It
// returns nil when the payload is not small, or the plan reads it in another way. The records point into the payload, which nobody changes any more. The
// error is that of transform.Format.Check.
func (p *Plan) Decode(m *store.Message, payload []byte) (*transform.Batch, error) {
	s := &p.source
	if s.formats == nil || s.options.Scope || len(payload) > decodeAtOnce {
		return nil, nil
	}
	decoder, err := FormatOf(s.formats, m).NewDecoder(strings.NewReader(unsafe.String(unsafe.SliceData(payload), len(payload))), s.options)
	if err != nil {
		return nil, err
	}
	whole, ok := decoder.(transform.WholeDecoder)
	if !ok {
		return nil, nil
	}
	b := batches.Get().(*transform.Batch)
	return b, whole.DecodeAll(b)
}

// batches are those of small payloads that nobody holds anything of any more.
var batches = sync.Pool{New: func() any { return new(transform.Batch) }}

// release lets the memory of a batch be used again, where nothing of the run keeps its records.
func (j *job) release(b *transform.Batch) {
	if j.recycles {
		b.Recycle()
		batches.Put(b)
	}
}

// read reads one batch, and stops when the run was stopped.
func (r *Runner) read(j *job, source connector.Records, b *transform.Batch) error {
	if err := context.Cause(j.ctx); err != nil {
		return fail(j.ctx, j.plan.Name, "from", err)
	}
	err := source.Decode(b)
	if err != nil && err != io.EOF {
		return fail(j.ctx, j.plan.Name, "from", err)
	}
	return err
}

// drain takes the rejected records out and passes the others on, one part of the run after the other.
func (j *job) drain(b *transform.Batch, sink func(*transform.Batch) error) error {
	for rest := b.Records; len(rest) > 0; {
		n := len(rest)
		if j.parts != nil {
			var err error
			if n, err = j.parts.next(rest); err != nil {
				return err
			}
		}
		if b.Records, rest = rest[:n], rest[n:]; len(rest) > 0 {
			b.Records = slices.Clip(b.Records)
		}
		if err := j.sift(stepDecode, b); err != nil {
			return err
		}
		if len(b.Records) == 0 {
			continue
		}
		if err := sink(b); err != nil {
			return err
		}
	}
	return nil
}

// errStopped ends a part of a pipeline whose work nobody takes any more.
var errStopped = errors.New("stopped")

// pipelineDepth is how many batches may wait between two parts of a pipeline.
const pipelineDepth = 2

func (r *Runner) pipeline(j *job, source connector.Records, sink func(*transform.Batch) error) error {
	ctx, cancel := context.WithCancel(j.ctx)
	decoded := make(chan *transform.Batch, pipelineDepth)
	cooked := make(chan *transform.Batch, pipelineDepth)
	spare := make(chan *transform.Batch, 2*pipelineDepth+3) // those that the sink is through with, when they can be used again
	var group sync.WaitGroup
	var decodeErr, stepErr error
	pass := func(to chan<- *transform.Batch, b *transform.Batch) bool {
		select {
		case to <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	group.Go(func() {
		defer close(decoded)
		decodeErr = guard(func() error {
			for {
				var b *transform.Batch
				select {
				case b = <-spare:
				default:
					b = &transform.Batch{}
				}
				if err := r.read(j, source, b); err != nil {
					return err
				}
				if !pass(decoded, b) {
					return errStopped
				}
			}
		})
	})
	group.Go(func() {
		defer close(cooked)
		stepErr = guard(func() error {
			steps := r.pass(j, func(b *transform.Batch) error {
				if !pass(cooked, b) {
					return errStopped
				}
				return nil
			})
			defer steps.close()
			for b := range decoded {
				if err := steps.take(b); err != nil {
					return err
				}
			}
			if decodeErr != io.EOF { // of half a source nothing is made
				return nil
			}
			return steps.end()
		})
		cancel() // nobody takes what the decoder would still make
	})
	sinkErr := guard(func() error {
		for b := range cooked {
			if err := j.drain(b, sink); err != nil {
				return err
			}
			if j.recycles {
				b.Recycle()
				spare <- b // there are no more of them than fit
			}
		}
		return nil
	})
	cancel()
	group.Wait()
	if decodeErr == io.EOF || decodeErr == errStopped {
		decodeErr = nil
	}
	if stepErr == errStopped {
		stepErr = nil
	}
	for _, err := range []error{sinkErr, stepErr, decodeErr} {
		if err != nil {
			return err
		}
	}
	if err := context.Cause(j.ctx); err != nil {
		return fail(j.ctx, j.plan.Name, "", err)
	}
	return nil
}

// open opens the run's source.
func (r *Runner) open(j *job) (connector.Records, error) {
	s := &j.plan.source
	switch {
	case j.message != nil && j.message.RejectsOf != 0:
		records, err := r.openKept(j.ctx, j.message.Body)
		if err != nil {
			return nil, err
		}
		return &counted{Records: again{records}, job: j}, nil
	case s.reader != nil:
		request := connector.ReadRequest{Value: j.bind}
		if s.path != nil {
			path, err := s.path.fill(j.env, nil, fileName)
			if err != nil {
				return nil, err
			}
			request.Path = path
		}
		records, err := s.reader.Open(j.ctx, request)
		if errors.Is(err, fs.ErrNotExist) && s.path.given() && r.waitedFor(j) { // where nobody waits for the run, further attempts wait for the file
			err = &transform.Fault{Kind: KindInput, Reason: "there is no file of the name that the call gives", Err: err}
		}
		if err != nil {
			return nil, err
		}
		return &counted{Records: records, job: j}, nil
	case s.formats != nil && j.message != nil:
		body, err := r.store.OpenBody(j.ctx, j.message.Body)
		if err != nil {
			return nil, err
		}
		options := s.options
		options.Reopen = func() (io.ReadCloser, error) { return r.store.OpenBody(j.ctx, j.message.Body) }
		decoder, err := FormatOf(s.formats, j.message).NewDecoder(body, options)
		if err != nil {
			body.Close()
			return nil, err
		}
		return &counted{Records: &payload{decoder, body}, job: j}, nil
	case s.formats != nil:
		return nil, Permanent(errors.New("the flow reads a listener's payload and was started without one"))
	default:
		return &counted{Records: &single{value: j.env.Param}, job: j}, nil
	}
}

// bind returns the value of a query's bind: as the definition names it, or the parameter of that name.
func (j *job) bind(name string) (transform.Value, error) {
	if m, ok := j.plan.source.binds[name]; ok {
		v, err := m.Apply(j.env, &transform.Record{Value: j.env.Param})
		if fault := (*transform.Fault)(nil); errors.As(err, &fault) {
			fault.Field = ":" + name
		}
		return v.Field("value"), err
	}
	return j.env.Param.Field(name), nil
}

// payload is a decoder with the body that it reads.
type payload struct {
	transform.Decoder
	body io.Closer
}

func (p *payload) Close() error {
	if c, ok := p.Decoder.(io.Closer); ok {
		c.Close() // it only releases memory
	}
	return p.body.Close()
}

// single is the source of a flow without `from`: one record that holds the parameters.
type single struct {
	value transform.Value
	done  bool
}

func (s *single) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if s.done {
		return io.EOF
	}
	s.done = true
	b.Records = append(b.Records, transform.Record{Value: s.value, Source: s.value})
	return nil
}

func (s *single) Close() error { return nil }

// counted counts the records that a run reads. Only the goroutine that decodes writes the counter, and the run's end reads it.
type counted struct {
	connector.Records
	job *job
}

func (c *counted) Decode(b *transform.Batch) error {
	err := c.Records.Decode(b)
	c.job.run.Read += int64(len(b.Records))
	return err
}

// newRunID returns an id that orders by time (UUIDv7).
func newRunID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("make an id: %w", err)
	}
	return id, nil
}
