package flow

import (
	"context"
	"encoding/json"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// Preview is what a run would do, as a dry run found out: it reads the source and passes the records through the steps and each destination's map. No
// destination is asked, so that what it would refuse (a type, a constraint) is not in it.
type Preview struct {
	Flow         string     `json:"flowName"`
	Read         int64      `json:"read"`
	Rejected     int64      `json:"rejected"`
	Destinations []Planned  `json:"destinations"`
	Respond      *Planned   `json:"respond,omitempty"`   // the records that are answered, or the one object in their place; nil: the flow answers nothing
	Rejects      []Rejected `json:"rejects,omitempty"`   // the first ones
	Missed       []string   `json:"missed,omitempty"`    // paths of the flow's maps that no record has
	Exception    string     `json:"exception,omitempty"` // why the run would fail: nothing of it would be written then
}

// Planned is what one destination would get.
type Planned struct {
	Connection string            `json:"connection,omitempty"`
	Action     string            `json:"action,omitempty"`
	Where      string            `json:"where,omitempty"` // the table, or the path
	Records    int64             `json:"records"`
	First      []json.RawMessage `json:"first"` // the first records, as JSON
}

// Bounds of a dry run.
const (
	dryTime    = 60 * time.Second // where the flow has no shorter time limit
	dryRecords = 20               // shown of each destination
	dryBytes   = 256 << 10        // of them
)

// DryRun finds out what a submission would do, run by run, without storing or writing anything: the runs have the number 0. Steps in Go are called as
// always. Errors are those of Call before a run begins; what makes a run fail is its Preview's Exception.
func (r *Runner) DryRun(ctx context.Context, s Submission) ([]*Preview, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.submitted.Done()
	leave, err := r.admit()
	if err != nil {
		return nil, err
	}
	defer leave()
	runs, err := r.runs(s)
	if err != nil {
		return nil, err
	}
	var previews []*Preview
	for i, plan := range s.Plans {
		j := r.newJob(plan, runs[i], s.Message)
		stop := context.AfterFunc(ctx, func() { j.cancel(errCallerGone) })
		previews = append(previews, r.preview(j))
		stop()
		j.cancel(nil)
		plan.users.leave()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return previews, nil
}

// preview carries out one attempt of a job whose destinations only watch.
func (r *Runner) preview(j *job) *Preview {
	limit := dryTime
	if j.plan.timeout > 0 {
		limit = min(limit, j.plan.timeout)
	}
	var stop context.CancelFunc
	j.ctx, stop = context.WithTimeoutCause(j.ctx, limit, errTimeLimit)
	defer stop()
	j.begin(r)
	j.rejects.kept = false // they are told alone
	w := &works{ctx: j.ctx, plan: j.plan, applied: make([]bool, len(j.plan.outputs))}
	var watches []*watch
	for _, o := range j.plan.outputs {
		some := make(watching, o.writes)
		for _, target := range o.targets {
			seen := &watch{whole: j.plan.source.raw}
			watches, some[target.at] = append(watches, seen), seen
			for _, at := range target.actions {
				some[at] = seen
			}
		}
		w.add(some, len(o.targets))
	}
	var answer watch
	var first *transform.Record // that a body of the answer's own may read
	own := j.plan.answer != nil && j.plan.answer.body != nil
	j.failed("", guard(func() error {
		if err := w.start(j); err != nil {
			return err
		}
		err := r.stream(j, func(b *transform.Batch) error {
			if err := w.write(j, b); err != nil {
				return err
			}
			if len(j.plan.outputs) == 0 {
				j.run.Written += int64(len(b.Records))
			}
			if !own {
				answer.see(b)
			} else if first == nil && len(b.Records) > 0 {
				record := b.Records[0]
				first = &record
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := j.finish(); err != nil || !own {
			return err
		}
		body, err := j.plan.answer.body.Apply(endEnv(j.plan, j.message, &j.run), first)
		if err != nil {
			return j.notWritten(err)
		}
		answer.see(&transform.Batch{Records: []transform.Record{{Value: body}}})
		return nil
	}))
	p := &Preview{Flow: j.plan.Name, Read: j.run.Read, Rejected: j.run.Rejected, Rejects: j.rejects.shown(), Missed: j.missed(), Destinations: []Planned{}}
	for i, d := range j.wrote {
		planned := watches[i].planned()
		planned.Connection, planned.Action, planned.Where = d.connection, d.action, d.where
		p.Destinations = append(p.Destinations, planned)
	}
	if j.plan.answer != nil {
		planned := answer.planned()
		p.Respond = &planned
	}
	if j.failure != nil {
		p.Exception = r.options.Redact(capped(j.failure.Exception()))
	}
	return p
}

// watch sees the records that a destination would get.
type watch struct {
	whole   bool // what is seen are the pieces of one payload
	records int64
	size    int
	first   []json.RawMessage
}

// planned returns what was seen.
func (w *watch) planned() Planned {
	return Planned{Records: w.records, First: append([]json.RawMessage{}, w.first...)}
}

func (w *watch) see(b *transform.Batch) {
	if w.whole {
		w.records = 1
		return
	}
	for _, record := range b.Records {
		if record.Err != nil {
			continue
		}
		if w.records++; len(w.first) == dryRecords || w.size > dryBytes {
			continue
		}
		if text, err := jsonfmt.Append(nil, record.Value); err == nil && w.size+len(text) <= dryBytes {
			w.first = append(w.first, text)
			w.size += len(text)
		}
	}
}

// watching is work on a connection that writes nothing: for each of the writer's targets what sees its records, nil for those that are no rows.
type watching []*watch

func (w watching) Start(connector.Run, []string) (bool, error) { return false, nil }
func (w watching) Commit() error                               { return nil }
func (w watching) Rollback() error                             { return nil }

func (w watching) WriteAt(target int, b *transform.Batch, _ []string) error {
	return w.Write(target, b)
}

func (w watching) Write(target int, b *transform.Batch) error {
	if seen := w[target]; seen != nil {
		seen.see(b)
	}
	return nil
}
