package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Rejected is one rejected record in short, as answers to callers show it.
type Rejected struct {
	Record int64  `json:"record"` // from 1
	Line   int64  `json:"line,omitempty"`
	Split  string `json:"split,omitempty"` // position, from 0, in the list along which a step has split the record, as in "3" or "3.2"
	Step   string `json:"step"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
}

// firstRejects is how many rejected records an answer shows.
const firstRejects = 10

// rejects collects the rejected records of one attempt, in the form that kept reads.
type rejects struct {
	redact  func(string) string
	kept    bool // they are counted alone, if not
	ctx     context.Context
	store   store.Blobs
	spool   *store.Spool // from the first one on that is kept
	encoder transform.Encoder
	batch   transform.Batch
	scope   *transform.Scope // of the record before
	first   []Rejected
	whole   *store.Body      // what was collected, once it is complete
	note    func(Rejected)   // is told each of them; nil: nobody is
	count   map[string]int64 // by step
	steps   []string         // in the order of their first reject, some at most
	split   map[int64]uint64 // of the records that were split: which are rejected, 64 of them together
}

// maxRejectSteps bounds how many steps are told apart: a Go step may name itself as it likes.
const maxRejectSteps = 100

func newRejects(ctx context.Context, r *Runner) *rejects {
	return &rejects{redact: r.options.Redact, kept: true, ctx: ctx, store: r.store}
}

// short returns a rejected record in short.
func (r *rejects) short(step string, record *transform.Record) Rejected {
	rejected := Rejected{Record: record.Index + 1, Line: record.Line, Split: record.Split, Step: step, Reason: record.Err.Error()}
	var fault *transform.Fault
	if errors.As(record.Err, &fault) {
		rejected.Field, rejected.Reason = fault.Field, fault.Reason
		if fault.Step != "" {
			rejected.Step = fault.Step
		}
	}
	rejected.Reason = r.redact(rejected.Reason)
	return rejected
}

// again reports whether the record is an element of one that counts as rejected because of another element.
func (r *rejects) again(record *transform.Record) bool {
	if record.Split == "" {
		return false
	}
	bits, bit := record.Index>>6, uint64(1)<<(record.Index&63)
	if r.split == nil {
		r.split = map[int64]uint64{}
	}
	before := r.split[bits]
	r.split[bits] = before | bit
	return before&bit != 0
}

// add notes a rejected record, and keeps it, or the record of the source that it was split off, unless that was kept for another element.
func (r *rejects) add(step string, record *transform.Record, again bool) error {
	rejected := r.short(step, record)
	if r.note != nil && !again {
		r.note(rejected)
	}
	if len(r.first) < firstRejects {
		r.first = append(r.first, rejected)
	}
	if r.count == nil {
		r.count = map[string]int64{}
	}
	if _, counted := r.count[rejected.Step]; !counted && len(r.steps) < maxRejectSteps {
		r.steps = append(r.steps, rejected.Step)
		r.count[rejected.Step] = 0
	}
	if _, counted := r.count[rejected.Step]; counted {
		r.count[rejected.Step]++
	}
	if !r.kept || again {
		return nil
	}
	return r.keep(record, rejected)
}

// keep writes a record.
func (r *rejects) keep(record *transform.Record, rejected Rejected) error {
	if r.encoder == nil {
		r.spool = store.NewSpool(context.WithoutCancel(r.ctx), r.store) // what a run rejected before it was stopped is kept too
		encoder, err := keptLines.NewEncoder(r.spool, transform.EncodeOptions{})
		if err != nil {
			return err
		}
		r.encoder = encoder
	}
	r.batch.Records = r.batch.Records[:0]
	if scope := record.SourceScope(); scope != r.scope {
		r.scope = scope
		r.batch.Records = append(r.batch.Records, transform.Record{Value: keptScope(scope)})
	}
	r.batch.Records = append(r.batch.Records, transform.Record{Value: keptRecord(record, rejected)})
	if err := r.encoder.Encode(&r.batch); err != nil {
		return err
	}
	for _, line := range r.batch.Records {
		if line.Err != nil {
			return fmt.Errorf("keep a rejected record: %w", line.Err)
		}
	}
	return nil
}

// body ends the collection and returns what is to be stored.
func (r *rejects) body() (store.Body, error) {
	if r == nil || r.encoder == nil {
		return store.Body{}, nil
	}
	if r.whole != nil {
		return *r.whole, nil
	}
	if err := r.encoder.Close(); err != nil {
		return store.Body{}, err
	}
	body, err := r.spool.Body()
	if err == nil {
		r.whole = &body
	}
	return body, err
}

// discard throws away what an attempt that is not the last has collected.
func (r *rejects) discard(runner *Runner) {
	if r == nil {
		return
	}
	if r.whole != nil {
		runner.store.Discard(context.WithoutCancel(runner.working), *r.whole) // what stays is swept when the store is opened next
	} else if r.spool != nil {
		r.spool.Abort()
	}
}

// maxNoted bounds how many of the records that a destination rejects are noted with it.
const maxNoted = 10_000

// note takes down which records an output has rejected, for an attempt that finds it applied.
func (w *works) note(j *job, output int, b *transform.Batch) {
	if _, ok := w.work[output].(connector.Noter); !ok {
		return
	}
	for k := range b.Records {
		if record := &b.Records[k]; record.Err != nil && len(w.refused[output]) < maxNoted {
			w.refused[output] = append(w.refused[output], j.rejects.short(w.plan.outputs[output].connection, record))
		}
	}
}

// conclude ends the run's writes with what became of its rejected records.
func (w *works) conclude(r *Runner, j *job) error {
	if err := w.keepNotes(j); err != nil {
		return err
	}
	return w.deliver(r, j)
}

// keepNotes keeps what was taken down with the run's writes.
func (w *works) keepNotes(j *job) error {
	for i, refused := range w.refused {
		if len(refused) == 0 {
			continue
		}
		note, err := json.Marshal(refused)
		if err == nil {
			err = w.work[i].(connector.Noter).Note(note)
		}
		if err != nil {
			return fail(j.ctx, w.plan.Name, w.plan.outputs[i].connection, err)
		}
		w.refused[i] = nil
	}
	return nil
}

// before is what an earlier attempt has noted of the records that a destination rejected, by their places.
type before map[place]Rejected

// place tells the records of a run apart.
type place struct {
	record int64 // from 1
	split  string
}

// noted returns what is noted about a run that was found applied.
func noted(work connector.Work) (before, error) {
	noter, ok := work.(connector.Noter)
	if !ok {
		return nil, nil
	}
	note, err := noter.Noted()
	if err != nil || note == nil {
		return nil, err
	}
	var list []Rejected
	if err := json.Unmarshal(note, &list); err != nil {
		return nil, Permanent(fmt.Errorf("read what is noted about rejected records: %w", err))
	}
	all := before{}
	for _, rejected := range list {
		all[place{rejected.Record, rejected.Split}] = rejected
	}
	return all, nil
}

// mark rejects the records of a batch that were rejected before.
func (b before) mark(batch *transform.Batch) {
	if len(b) == 0 {
		return
	}
	for k := range batch.Records {
		if rejected, ok := b[place{batch.Records[k].Index + 1, batch.Records[k].Split}]; ok {
			batch.Records[k].Err = rejected.fault()
		}
	}
}

// fault is why the record was rejected.
func (r *Rejected) fault() error {
	return &transform.Fault{Kind: KindInput, Step: r.Step, Field: r.Field, Reason: r.Reason}
}

// stepRejects is what failures call the part that writes rejected records to a destination.
const stepRejects = "on_reject.to"

// deliver hands the run's rejected records to their destination, when all are known. An attempt that finds what it would go with committed leaves it at that: it may know less
// of them than the one before.
func (w *works) deliver(r *Runner, j *job) error {
	if w.plan.rejected == nil || j.run.Rejected == 0 {
		return nil
	}
	work, err := w.forRejects(j)
	if err == nil && work != nil {
		err = r.deliver(work, j)
	}
	if err != nil {
		return fail(j.ctx, w.plan.Name, stepRejects, err)
	}
	return nil
}

// forRejects returns the work that takes the run's rejected records: that of the destinations on the same connection, or one that is committed before theirs, so that a run
// whose destinations are committed has delivered them. It returns nil when they are.
func (w *works) forRejects(j *job) (connector.Work, error) {
	to := w.plan.rejected
	if i := w.plan.joined; i >= 0 {
		if w.applied[i] {
			return nil, nil
		}
		return w.work[i], nil
	}
	if slices.Contains(w.applied, true) {
		return nil, nil
	}
	if w.rejects == nil {
		work, err := to.writer.Begin(w.ctx)
		if err != nil {
			return nil, err
		}
		w.rejects = work
	}
	paths, err := to.runPaths(j.env)
	if err != nil {
		return nil, err
	}
	run := connectorRun(j)
	run.ID[len(run.ID)-1] ^= 1 // beside the run's own on that connection
	if applied, err := w.rejects.Start(run, paths); applied || err != nil {
		return nil, err
	}
	return w.rejects, nil
}

// deliver writes a run's rejected records. One that the destination refuses ends the run: none may be missing there.
func (r *Runner) deliver(work connector.Work, j *job) error {
	body, err := j.rejects.body()
	if err != nil {
		return err
	}
	to := j.plan.rejected
	target := &to.targets[0]
	var all *transform.Shape
	if target.fill {
		names, err := r.columns(j.ctx, body)
		if err != nil {
			return Permanent(err)
		}
		all = transform.NewShape(names...)
	}
	var out rows
	return r.eachKept(j.ctx, body, func(b *transform.Batch) error {
		for i := range b.Records {
			if all != nil {
				b.Records[i].Value = filled(b.Records[i].Value, all)
			}
		}
		target.rows(j.env, to.encode, b, &out, nil)
		for i := range out.Records {
			if target.flat {
				out.Records[i].Value = each(out.Records[i].Value, cell)
			}
		}
		if err := to.hand(work, target, &out); err != nil {
			return err
		}
		out.settle(target, b)
		for i := range b.Records {
			if record := &b.Records[i]; record.Err != nil {
				f := fail(j.ctx, j.plan.Name, stepRejects, record.Err)
				f.Record, f.Line = record.Index+1, record.Line
				return f
			}
		}
		return nil
	})
}

// filled returns the object with all the names of a shape.
func filled(v transform.Value, all *transform.Shape) transform.Value {
	values := make([]transform.Value, all.Len())
	for i := range values {
		values[i] = v.Field(all.Name(i))
	}
	return transform.NewObject(all, values)
}
