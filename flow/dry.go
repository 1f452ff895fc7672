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
	Respond      *Planned   `json:"respond,omitempty"`   // nil: the flow answers nothing
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
	w := &works{plan: j.plan, applied: make([]bool, len(j.plan.outputs))}
	var watches []*watch
	for _, o := range j.plan.outputs {
		some := make([]watch, len(o.targets))
		for i := range some {
			watches = append(watches, &some[i])
		}
		w.work = append(w.work, watching{some})
		w.scratch = append(w.scratch, make([]transform.Batch, len(o.targets))...)
	}
	var answer watch
	j.failed("", guard(func() error {
		if err := w.start(j); err != nil {
			return err
		}
		err := r.stream(j, func(b *transform.Batch) error {
			if err := w.write(j, b); err != nil {
				return err
			}
			answer.see(b)
			return nil
		})
		if err != nil {
			return err
		}
		return j.finish()
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
	records int64
	size    int
	first   []json.RawMessage
}

// planned returns what was seen.
func (w *watch) planned() Planned {
	return Planned{Records: w.records, First: append([]json.RawMessage{}, w.first...)}
}

func (w *watch) see(b *transform.Batch) {
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

// watching is work on a connection that writes nothing.
type watching struct{ targets []watch }

func (w watching) Start(connector.Run, []string) (bool, error) { return false, nil }
func (w watching) Commit() error                               { return nil }
func (w watching) Rollback() error                             { return nil }

func (w watching) WriteAt(target int, b *transform.Batch, _ []string) error {
	return w.Write(target, b)
}

func (w watching) Write(target int, b *transform.Batch) error {
	w.targets[target].see(b)
	return nil
}
