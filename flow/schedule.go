package flow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// ScheduleDefinition is when a flow runs by the clock, as a person writes it: one of cron, every and at.
type ScheduleDefinition struct {
	Flow     string         `json:"flow"`
	Enabled  *bool          `json:"enabled"`   // nil is true
	Cron     string         `json:"cron"`      // minute, hour, day of the month, month, day of the week; or @daily …
	Every    time.Duration  `json:"every"`     // from midnight of 1 January 1970 on, UTC
	At       string         `json:"at"`        // once: 2026-12-24T18:00:00
	Timezone string         `json:"timezone"`  // of cron and at; "" is UTC
	Params   map[string]any `json:"params"`    // of the flow
	IfMissed string         `json:"if_missed"` // run-once (the default): what was due while the engine did not run is made up for by one run · skip
	Overlap  string         `json:"overlap"`   // skip (the default): not while its earlier run is queued or running · queue
}

// Schedule is a definition that is ready: compiled, checked, immutable.
type Schedule struct {
	Name string

	plan   *Plan
	params []byte
	next   func(after time.Time) time.Time // zero: never again
	spec   string                          // what is asked for, in words that change with it
	skip   bool                            // what was missed
	queue  bool                            // behind an earlier run
}

// CompileSchedule checks a definition; plan returns the flow of a name, nil and true for one that has faults of its own. The schedule is nil
// when there are faults, and when the definition is not enabled.
func CompileSchedule(name, base string, d ScheduleDefinition, plan func(name string) (*Plan, bool), flows []string) (*Schedule, define.Faults) {
	var faults define.Faults
	fault := func(key, reason, hint string) {
		path := base
		if key != "" {
			path += "." + key
		}
		faults = append(faults, define.Fault{Path: path, Reason: reason, Hint: hint})
	}
	s := &Schedule{Name: name, skip: d.IfMissed == "skip", queue: d.Overlap == "queue"}
	zone := time.UTC
	if d.Timezone != "" {
		var err error
		if zone, err = time.LoadLocation(d.Timezone); err != nil || d.Timezone == "Local" {
			fault("timezone", fmt.Sprintf("time zone %q is not known", d.Timezone), "write a name of the IANA database, such as Europe/Berlin")
			zone = time.UTC
		}
	}
	given := 0
	if d.Cron != "" {
		given++
		if c, err := parseCron(d.Cron); err != nil {
			fault("cron", err.Error(), "")
		} else {
			s.next = func(t time.Time) time.Time { return c.next(t.In(zone)) }
		}
	}
	if d.Every != 0 {
		given++
		if d.Every < time.Second {
			fault("every", "the shortest interval is a second", "")
		} else {
			s.next = func(t time.Time) time.Time {
				return time.Unix(0, 0).Add(t.Sub(time.Unix(0, 0)).Truncate(d.Every) + d.Every)
			}
		}
	}
	if d.At != "" {
		given++
		if at, err := atTime(d.At, zone); err != nil {
			fault("at", "this is no time", "write it as 2026-12-24T18:00:00")
		} else {
			s.next = func(t time.Time) time.Time {
				if at.After(t) {
					return at
				}
				return time.Time{}
			}
		}
	}
	switch {
	case given == 0:
		fault("", "a schedule needs one of cron, every and at", `write cron: "0 2 * * *", every: 15m or at: 2026-12-24T18:00`)
		faults[len(faults)-1] = define.Lacks(faults[len(faults)-1], "cron", "every", "at")
	case given > 1:
		fault("", "a schedule has one of cron, every and at, this one has more", "give the others schedules of their own")
	}
	for key, value := range map[string][3]string{"if_missed": {d.IfMissed, "run-once", "skip"}, "overlap": {d.Overlap, "skip", "queue"}} {
		if value[0] != "" && value[0] != value[1] && value[0] != value[2] {
			fault(key, fmt.Sprintf("%s %q is not known", key, value[0]), fmt.Sprintf("there are %s, %s", value[1], value[2]))
		}
	}
	p, defined := plan(d.Flow)
	switch {
	case d.Flow == "":
		fault("", "a schedule needs a flow", "write flow: NAME")
		faults[len(faults)-1] = define.Lacks(faults[len(faults)-1], "flow")
	case !defined:
		hint := "there are " + strings.Join(flows, ", ")
		if near := define.Nearest(d.Flow, flows); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		} else if len(flows) == 0 {
			hint = "there are no flows"
		}
		fault("flow", fmt.Sprintf("flow %q is not defined", d.Flow), hint)
	case p == nil: // its own faults are told
	case p.Reads():
		fault("flow", fmt.Sprintf("flow %q reads listener %q: it runs when a payload comes", d.Flow, p.Listener), "")
	default:
		s.plan = p
		params := transform.NewObject(transform.NewShape(), nil)
		for key, value := range d.Params {
			params = params.With(key, constant(value))
		}
		var err error
		if s.params, err = p.Parameters(params); err != nil {
			fault("params", err.Error(), "")
		}
	}
	s.spec = fmt.Sprintf("%s %s %s %s", d.Cron, d.Every, d.At, d.Timezone)
	if faults != nil || d.Enabled != nil && !*d.Enabled || s.plan == nil || !s.plan.Enabled() {
		return nil, faults
	}
	return s, nil
}

// user is whose runs those of the schedule are.
func (s *Schedule) user() string { return "schedule:" + s.Name }

func atTime(text string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("no time")
}

// RunSchedules starts runs by the clock until ctx ends. Each schedule's last due time is kept in the store, and a run carries a once-key of its
// schedule and due time, so that nothing runs twice for one due time, also after a crash.
func (r *Runner) RunSchedules(ctx context.Context, schedules []*Schedule) {
	select {
	case <-r.begun:
	case <-ctx.Done():
		return
	}
	if err := r.forgetSchedules(ctx, schedules); err != nil && ctx.Err() == nil {
		r.options.Logger.Warn("what former schedules left could not be removed", "error", err)
	}
	for {
		next := r.options.Now().Add(time.Minute) // the clock may be set: it is looked at again
		for _, s := range schedules {
			due, err := r.tick(ctx, s)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				r.options.Logger.Error("a schedule could not be looked at; it is tried again", "schedule", s.Name, "error", err)
				due = r.options.Now().Add(time.Second)
			}
			if !due.IsZero() && due.Before(next) {
				next = due
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(next.Sub(r.options.Now()), time.Millisecond)):
		}
	}
}

const (
	kindSchedule = "schedule"
	late         = time.Minute        // from which on a due time counts as missed
	ahead        = time.Hour          // how far the last due time may lie in the future
	onceFor      = 7 * 24 * time.Hour // how long a due time's once-key is remembered: until its schedule's state is stored, most of all
)

// scheduleState is what the store keeps of a schedule.
type scheduleState struct {
	Spec string    `json:"spec"` // of what Last is the last due time
	Last time.Time `json:"last"`
}

// tick starts a run when the schedule is due, and returns when it is due next, zero when never again.
func (r *Runner) tick(ctx context.Context, s *Schedule) (time.Time, error) {
	now := r.options.Now()
	state := scheduleState{Spec: s.spec, Last: now}
	entry, err := r.store.Get(ctx, kindSchedule, s.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s.next(now), r.remember(ctx, s, store.Entry{}, state)
	case err != nil:
		return time.Time{}, err
	}
	var held scheduleState
	if err := json.Unmarshal(entry.Value, &held); err != nil || held.Spec != s.spec { // another schedule of this name: from now on
		return s.next(now), r.remember(ctx, s, entry, state)
	}
	if held.Last.Sub(now) > ahead {
		r.options.Logger.Warn("a schedule ran ahead of the clock, which was set back; it goes on from now", "schedule", s.Name, "last", held.Last)
		return s.next(now), r.remember(ctx, s, entry, state)
	}
	due := s.next(held.Last)
	if due.IsZero() || due.After(now) {
		return due, nil
	}
	for later := s.next(due); !later.IsZero() && !later.After(now); later = s.next(due) {
		due = later // what was missed before is made up for by one run
	}
	if err := r.fire(ctx, s, due, now); err != nil {
		return time.Time{}, err
	}
	failpoint.Hit("tick.stored")
	state.Last = due
	err = r.remember(ctx, s, entry, state)
	failpoint.Hit("tick.remembered")
	return s.next(due), err
}

// fire starts the run of a due time, unless the schedule says otherwise.
func (r *Runner) fire(ctx context.Context, s *Schedule, due, now time.Time) error {
	skipped := func(reason string) error {
		r.options.Logger.Warn("a schedule's due time is passed over", "schedule", s.Name, "flow", s.plan.Name, "due", due, "reason", reason)
		return nil
	}
	if s.skip && now.Sub(due) > late {
		return skipped("it was missed")
	}
	if !s.queue {
		for _, status := range []store.Status{store.Queued, store.Running} {
			runs, err := r.store.Runs(ctx, store.RunFilter{User: s.user(), Status: status, Limit: 1})
			if err != nil {
				return err
			}
			if len(runs) > 0 {
				return skipped(fmt.Sprintf("run %d has not ended", runs[0].Number))
			}
		}
	}
	failpoint.Hit("tick.due")
	_, err := r.Submit(ctx, Submission{Plans: []*Plan{s.plan}, Trigger: "schedule", User: s.user(), Params: s.params, Scheduled: due,
		Once: &store.Once{Scope: kindSchedule + "\x00" + s.Name, Key: due.UTC().Format(time.RFC3339), Until: now.Add(onceFor)}})
	return err
}

func (r *Runner) remember(ctx context.Context, s *Schedule, held store.Entry, state scheduleState) error {
	value, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = r.store.Put(ctx, store.Entry{Kind: kindSchedule, Name: s.Name, Value: value, Version: held.Version})
	return err
}

// forgetSchedules removes the states of schedules that are not there any more: one that comes back begins anew.
func (r *Runner) forgetSchedules(ctx context.Context, schedules []*Schedule) error {
	entries, err := r.store.List(ctx, kindSchedule)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, s := range schedules {
		there[s.Name] = true
	}
	for _, e := range entries {
		if !there[e.Name] {
			err = cmp.Or(err, r.store.Delete(ctx, kindSchedule, e.Name, e.Version))
		}
	}
	return err
}
