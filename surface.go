package integrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/httpapi"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// surface is the engine as the HTTP handler sees it.
type surface struct{ e *Engine }

var _ httpapi.Engine = surface{}

func (s surface) Accepting() error {
	if running := s.e.state.Load(); running == nil || !running.open.Load() {
		return flow.ErrStopping
	}
	return nil
}

func (s surface) Health() map[string]string {
	faults := map[string]string{}
	if err := s.Accepting(); err != nil {
		faults["engine"] = err.Error()
	} else if err := s.e.state.Load().store.Health(); err != nil {
		faults["store"] = "it takes no writes" // strangers ask: the chain of causes is for the log
		for _, condition := range []error{store.ErrFull, store.ErrBroken, store.ErrUnavailable, store.ErrClosed} {
			if errors.Is(err, condition) {
				faults["store"] = condition.Error()
			}
		}
		s.e.logger.Warn("not ready", "error", err)
	}
	return faults
}

func (s surface) Auth() *auth.Service          { return s.e.state.Load().auth }
func (s surface) Router() *listener.Router     { return s.e.set.Load().router }
func (s surface) Receiver() *listener.Receiver { return s.e.state.Load().receiver }
func (s surface) Runner() *flow.Runner         { return s.e.state.Load().runner }
func (s surface) Store() store.Store           { return s.e.state.Load().store }
func (s surface) Logger() *slog.Logger         { return s.e.logger }
func (s surface) Observe(event flow.Event)     { s.e.meter.Observe(event) }

func (s surface) WriteMetrics(ctx context.Context, w io.Writer) error {
	return s.e.WriteMetrics(ctx, w)
}

func (s surface) Verifier() auth.Verifier {
	if s.e.config.Verifier != nil {
		return s.e.config.Verifier
	}
	return s.Auth()
}

func (s surface) Plan(name string) (*flow.Plan, bool) {
	p, ok := s.e.set.Load().plans[name]
	return p, ok
}

func (s surface) PlanByID(id int64) (*flow.Plan, bool) {
	p, ok := s.e.set.Load().byID[id]
	return p, ok
}

func (s surface) Listener(name string) (*listener.Listener, bool) {
	l, ok := s.e.set.Load().listeners[name]
	return l, ok
}

func (s surface) Listeners() []*listener.Listener {
	return slices.SortedFunc(maps.Values(s.e.set.Load().listeners), func(a, b *listener.Listener) int { return strings.Compare(a.Name, b.Name) })
}

func (s surface) MediaType(format string) string {
	if f := s.e.set.Load().formats[format]; f != nil {
		return f.MediaType()
	}
	return ""
}

func (s surface) DefinitionSchemas(base string) map[string]any {
	return s.e.config.known(define.Schemas(base, s.e.config.schemaOptions(), reflect.TypeFor[connector.Definition](), reflect.TypeFor[listener.Definition](),
		reflect.TypeFor[flow.Definition](), reflect.TypeFor[flow.ScheduleDefinition]()))
}

// Result is how a run by name ended.
type Result struct {
	Run      int64  // number of the run
	Status   string // success, warning, error or canceled
	Read     int64  // records of the source
	Written  int64  // of them, those that some destination has taken
	Rejected int64
	Rejects  []flow.Rejected // the first of them
	Missed   []string        // paths of the flow's maps that no record has: misspelt ones, perhaps
	Response []byte          // what the flow answers; nil when it answers nothing
	Err      error           // nil when the run succeeded; else a *flow.Failure
}

// maxWait bounds a wait for a run that has no bound of its own.
const maxWait = 365 * 24 * time.Hour

func (e *Engine) runFlow(ctx context.Context, s *state, name string, params map[string]any) (*Result, error) {
	fail := func(err error) (*Result, error) { return nil, fmt.Errorf("integrator: run flow %q: %w", name, err) }
	submission, err := e.submission(name, params)
	if err != nil {
		return fail(err)
	}
	outcome, err := s.runner.Call(ctx, submission, maxWait)
	if err != nil {
		return fail(err)
	}
	return resultOf(outcome)
}

// submission returns what runs a flow by name.
func (e *Engine) submission(name string, params map[string]any) (s flow.Submission, err error) {
	plan, ok := e.set.Load().plans[name]
	if !ok || !plan.Enabled() {
		return s, fmt.Errorf("it is not defined: %w", store.ErrNotFound)
	}
	if plan.Reads() {
		return s, fmt.Errorf("it reads listener %q: send the payload there", plan.Listener)
	}
	given := transform.NewObject(transform.NewShape(), nil)
	for key, value := range params {
		v, err := paramOf(value)
		if err != nil {
			return s, fmt.Errorf("parameter %q: %w", key, err)
		}
		given = given.With(key, v)
	}
	checked, err := plan.Parameters(given)
	return flow.Submission{Plans: []*flow.Plan{plan}, Trigger: "go", Params: checked}, err
}

// resultOf returns how a run ended, with its answer read into memory.
func resultOf(outcome *flow.Outcome) (*Result, error) {
	run := outcome.Run
	result := &Result{Run: run.Number, Status: run.Status.String(), Read: run.Read, Written: run.Written, Rejected: run.Rejected, Rejects: outcome.Rejects, Missed: outcome.Missed}
	if outcome.Failure != nil {
		result.Err = outcome.Failure
	}
	if r := outcome.Response; r != nil {
		defer r.Close()
		var body strings.Builder
		if _, err := r.WriteTo(&body); err != nil {
			return nil, fmt.Errorf("integrator: read the answer of run %d: %w", run.Number, err)
		}
		result.Response = []byte(body.String())
	}
	return result, nil
}

// paramOf returns a Go value as a value of a record.
func paramOf(value any) (transform.Value, error) {
	switch v := value.(type) {
	case nil:
		return transform.Null, nil
	case string:
		return transform.Text(v), nil
	case bool:
		return transform.Bool(v), nil
	case int:
		return transform.Int(int64(v)), nil
	case int64:
		return transform.Int(v), nil
	case time.Time:
		return transform.Text(v.Format(time.RFC3339Nano)), nil
	}
	text := fmt.Sprint(value)
	if transform.IsNumber(text) {
		return transform.Number(text), nil
	}
	return transform.Null, errors.New("a parameter is text, a number, a bool or a time")
}

// catalog is the store's catalog as the package auth wants it.
type catalog struct{ store store.Store }

func (c catalog) Get(ctx context.Context, kind, name string) ([]byte, int64, error) {
	e, err := c.store.Get(ctx, kind, name)
	return e.Value, e.Version, authError(err)
}

func (c catalog) List(ctx context.Context, kind string) (map[string][]byte, map[string]int64, error) {
	entries, err := c.store.List(ctx, kind)
	values, versions := map[string][]byte{}, map[string]int64{}
	for _, e := range entries {
		values[e.Name], versions[e.Name] = e.Value, e.Version
	}
	return values, versions, err
}

func (c catalog) Put(ctx context.Context, kind, name string, value []byte, version int64) (int64, error) {
	version, err := c.store.Put(ctx, store.Entry{Kind: kind, Name: name, Value: value, Version: version})
	return version, authError(err)
}

func (c catalog) Delete(ctx context.Context, kind, name string, version int64) error {
	return authError(c.store.Delete(ctx, kind, name, version))
}

// authError gives the store's conditions the names of package auth.
func authError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return auth.ErrNotFound
	case errors.Is(err, store.ErrConflict):
		return auth.ErrConflict
	}
	return err
}
