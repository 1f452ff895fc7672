// Package integrator is an integration engine that is imported.
//
// Business systems push payloads (JSON, CSV, XML …) to HTTP paths that a person defined without code; each payload is on disk before
// it is acknowledged; a flow turns it into rows, files or answers. Flows also run by name, over HTTP and from Go. Definitions are YAML
// or JSON files, or the same structs in Go.
//
//	engine, err := integrator.New(integrator.Config{
//		Dir:         "data",
//		Definitions: os.DirFS("flows"),
//		Drivers:     []sqldb.Driver{sqlite.Driver()},
//	})
//	if err != nil {
//		return err // every fault of the definitions, each with file, line and column
//	}
//	go func() { done <- engine.Run(ctx) }()
//	mux.Handle("/", engine.Handler())
//
// # Words
//
// Each has one meaning, in code, files, routes and documents.
//
//   - A connection is a named, configured system to read from or write to: a folder, a database, an HTTP API.
//   - A format says how bytes become records and back: csv, json, xml … with options.
//   - A listener is a named entry point that waits for payloads: an HTTP path.
//   - A flow goes FROM a source, through steps, TO destinations, a response, or both. It has a name, a number that belongs to the name
//     for ever (flowId), and versions.
//   - A message is one payload that a listener accepted. It never changes.
//   - A run is one execution of one flow version; its number is the auditId. A run that ended in error with its message kept is the
//     dead letter.
//   - A record is one row or document inside a run.
//   - Users have a role and grants; a token is their short-lived proof, an API key a long-lived one.
//   - The store is where all of this lives.
//
// # Promises
//
// A payload that was acknowledged is never lost; it is applied once where the destination dedupes (SQL, files, APIs that honour the
// key of a call), at least once elsewhere. The package flow states what this means exactly.
package integrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/httpapi"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
	"github.com/integrator-go/integrator/transform"
)

// Config is what an engine is made of. Dir or Store is required; the zero value of everything else is safe.
type Config struct {
	// Dir is the folder of the engine's own store, made when it is missing, for this engine alone.
	Dir string

	// Store is used instead of a store in Dir. Who opened it closes it: the engine does not.
	Store store.Store

	// Definitions holds definition files: *.yaml, *.yml and *.json at its top and below flows/. Nil: no files.
	Definitions fs.FS

	// BaseDir is what relative paths in definitions are relative to; "" is the working directory.
	BaseDir string

	// Drivers are the databases that connections of type sql can use.
	Drivers []sqldb.Driver

	// Compressions are ways to pack files beside the built-in gzip.
	Compressions []file.Compression

	// Connectors are kinds of connections beside the built-in file, http and sql.
	Connectors []connector.Kind

	// Formats are kinds of formats beside the built-in json, ndjson, csv, fixed, form and xml.
	Formats []transform.FormatKind

	// Listeners are kinds of listeners beside the built-in http.
	Listeners []listener.Kind

	// Steps are Go functions that flows use by name: `- go: name`.
	Steps map[string]transform.Func

	// Verifier finds out who calls, instead of the engine's own tokens; nil: the engine's own.
	Verifier auth.Verifier

	// Secrets returns the value of ${secret.NAME}; nil: no secrets are known.
	Secrets func(name string) (string, bool)

	// Env returns the value of ${env.NAME}; nil: none is known. The library reads no environment of its own.
	Env func(name string) (string, bool)

	// Logger gets what operators should know; nil is slog.Default().
	Logger *slog.Logger

	// Clock returns the time of day; nil is time.Now. Durations do not depend on it.
	Clock func() time.Time

	// Observer is told what happens; nil: nobody is.
	Observer flow.Observer

	Auth      auth.Options
	Limits    Limits
	Retention Retention
}

// Limits bounds what an engine takes on. Zero fields take the defaults given here.
type Limits struct {
	Workers      int           // attempts of runs, or groups of small ones, at a time (16); as many again of flows that have none at work
	MaxWaiting   int           // calls that wait for their runs at a time (1024)
	MaxQueued    int           // runs that wait in the store before calls that would add to them are refused, about (1,000,000)
	MaxBodies    int           // bodies of listeners' calls that are read at a time (1024)
	StepMemory   int64         // bytes that each step over all records of a run (sort, dedupe, aggregate, nest) may keep in memory, about; what is more goes to temporary files (64 MiB)
	DrainTimeout time.Duration // what a stopping engine gives to runs before it interrupts them (20s)
}

// Retention says which ended runs are kept, with their payloads, rejected records and logs. What is kept no longer by one field goes, the
// longest ended first, within seconds and in small steps. Runs that have not ended stay, and payloads that one of them has. Zero fields take
// the defaults given here; a negative field lets nothing go.
type Retention struct {
	Runs  time.Duration // how long after their end (30 days); messages that no flow wanted as long after they came
	Count int64         // how many at most (no bound)
	Bytes int64         // how many bytes of payloads, rejected records and logs they may have together (no bound)
}

// Engine is an integration engine. It is safe for concurrent use.
type Engine struct {
	config  Config
	logger  *slog.Logger
	meter   *meter
	handler http.Handler

	mu       sync.Mutex // one change of definitions at a time
	set      atomic.Pointer[set]
	past     []string        // versions of sets that the store keeps beside the one in force, the last replaced at the end
	replaced chan struct{}   // signalled when a set is
	ended    bool            // Run has returned
	earlier  sync.Mutex      // guards formers
	formers  map[string]*set // earlier sets that runs are pinned to, by version
	secrets  secrets

	state   atomic.Pointer[state]
	ready   chan struct{}
	started atomic.Bool
	stop    context.CancelFunc
	stopped chan struct{}
	begin   sync.Mutex // guards stop and started against Close
}

// state is what exists while an engine runs.
type state struct {
	store    store.Store
	queue    store.Queue
	auth     *auth.Service
	runner   *flow.Runner
	receiver *listener.Receiver
	open     atomic.Bool     // calls are taken
	ctx      context.Context // of Run: it ends when the engine is to stop
}

// New checks the configuration and the definitions, and reports all faults together: those of definitions as [Faults]. It opens
// nothing, starts nothing and listens to nothing; an engine that is built and dropped leaves nothing behind.
func New(config Config) (*Engine, error) {
	wrong := config.validate()
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Observer == nil {
		config.Observer = flow.ObserverFunc(func(flow.Event) {})
	}
	config.Retention.Runs = cmp.Or(config.Retention.Runs, 30*24*time.Hour)
	e := &Engine{config: config, ready: make(chan struct{}), stopped: make(chan struct{}), replaced: make(chan struct{}, 1)}
	e.meter = newMeter(config.Observer)
	e.logger = slog.New(redactor{config.Logger.Handler(), &e.secrets})
	var own sources
	var err error
	if config.Definitions != nil {
		own.files, err = define.Load(config.Definitions, define.LoadOptions{Skip: skipped(config)})
	}
	if err == nil {
		err = e.apply(context.Background(), own, nil)
	}
	if wrong != nil {
		return nil, errors.Join(wrong, err)
	}
	if err != nil {
		return nil, err
	}
	e.handler = httpapi.New(surface{e})
	return e, nil
}

// validate returns everything that is wrong with the configuration beside the definitions.
func (c *Config) validate() error {
	var wrong []error
	add := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf("integrator: Config."+format, args...))
		}
	}
	add(c.Dir == "" && c.Store == nil, "Dir, the folder of the engine's store, or Store is required")
	add(c.Dir != "" && c.Store != nil, "Dir and Store are both set: leave one out")
	add(c.Limits.Workers < 0, "Limits.Workers is negative")
	add(c.Limits.MaxWaiting < 0, "Limits.MaxWaiting is negative")
	add(c.Limits.MaxQueued < 0, "Limits.MaxQueued is negative")
	add(c.Limits.MaxBodies < 0, "Limits.MaxBodies is negative")
	add(c.Limits.StepMemory < 0, "Limits.StepMemory is negative")
	add(c.Limits.DrainTimeout < 0, "Limits.DrainTimeout is negative")
	add(c.Auth.TokenLife < 0, "Auth.TokenLife is negative")
	add(c.Auth.RefreshLife < 0, "Auth.RefreshLife is negative")
	once := func(field string, taken ...string) func(name string) {
		seen := map[string]bool{"": true}
		for _, name := range taken {
			seen[name] = true
		}
		return func(name string) {
			add(seen[name], "%s: the name %q is empty or taken", field, name)
			seen[name] = true
		}
	}
	name := once("Drivers")
	for _, d := range c.Drivers {
		name(d.Name)
	}
	name = once("Compressions", "gzip", file.None)
	for _, p := range c.Compressions {
		name(p.Name)
		add(p.Extension == "" || p.NewReader == nil || p.NewWriter == nil, "Compressions: %q lacks an Extension, a NewReader or a NewWriter", p.Name)
	}
	name = once("Connectors", slices.Collect(maps.Keys((&Config{}).connectors()))...)
	for _, k := range c.Connectors {
		name(k.Name)
		add(k.New == nil, "Connectors: %q has no New", k.Name)
	}
	name = once("Formats", slices.Collect(maps.Keys((&Config{}).formats()))...)
	for _, k := range c.Formats {
		name(k.Name)
		add(k.New == nil, "Formats: %q has no New", k.Name)
	}
	name = once("Listeners", "http")
	for _, k := range c.Listeners {
		name(k.Name)
		add(k.New == nil, "Listeners: %q has no New", k.Name)
	}
	for step, f := range c.Steps {
		add(f == nil, "Steps: %q is nil", step)
	}
	return errors.Join(wrong...)
}

// skipped returns the folders below the definitions that hold no definitions.
func skipped(config Config) []string {
	if config.Dir == "" {
		return nil
	}
	base, err1 := filepath.Abs(config.BaseDir)
	dir, err2 := filepath.Abs(config.Dir)
	if rel, err := filepath.Rel(base, dir); err1 == nil && err2 == nil && err == nil && filepath.IsLocal(rel) {
		return []string{filepath.ToSlash(rel)}
	}
	return nil
}

// Run opens the store, takes up the runs that an earlier engine left, and works until ctx ends or Close is called; then it stops in
// order and returns nil. It returns the cause when the engine cannot start or its store fails. It runs once.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.begin.Lock()
	again := e.started.Swap(true)
	if !again {
		e.stop = cancel
	}
	e.begin.Unlock()
	if again {
		return errors.New("integrator: an engine runs once, and this one has")
	}
	defer close(e.stopped)
	err := e.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (e *Engine) run(ctx context.Context) (err error) {
	st := e.config.Store
	if st == nil {
		opened, openErr := boltstore.Open(e.config.Dir, &boltstore.Options{
			OnCorrupt:    func(err error) { e.logger.Error("a stored value is damaged", "error", err) },
			OnCommit:     func(n int, took time.Duration) { e.meter.Observe(flow.Committed{Operations: n, Took: took}) },
			OnCheckpoint: func(n int64, took time.Duration) { e.meter.Observe(flow.Checkpointed{Journal: n, Took: took}) },
		})
		if openErr != nil {
			return fmt.Errorf("integrator: %w", openErr)
		}
		defer func() { err = errors.Join(err, opened.Close()) }()
		st = opened
	}
	queue, err := st.Join(ctx, "engine")
	if err != nil {
		return fmt.Errorf("integrator: join the store: %w", err)
	}
	defer queue.Leave()
	s := &state{store: st, queue: queue, ctx: ctx}
	space := transform.Space{Memory: e.config.Limits.StepMemory}
	if e.config.Dir != "" {
		space.Dir = filepath.Join(e.config.Dir, "spill")
		if err := os.RemoveAll(space.Dir); err != nil { // of an engine that was killed when it had just made a file
			return fmt.Errorf("integrator: %w", err)
		}
	}
	options := e.config.Auth
	options.Now = e.config.Clock
	if s.auth, err = auth.New(ctx, catalog{st}, &options); err != nil {
		return fmt.Errorf("integrator: read the users: %w", err)
	}
	s.runner = flow.NewRunner(flow.Options{Store: st, Plan: e.plan, Plans: e.plans, Logger: e.logger, Observer: e.meter, Now: e.config.Clock,
		Redact: e.secrets.redact, Workers: e.config.Limits.Workers, MaxWaiting: e.config.Limits.MaxWaiting,
		MaxQueued: e.config.Limits.MaxQueued, DrainTimeout: e.config.Limits.DrainTimeout, Space: space})
	s.receiver = listener.NewReceiver(s.runner, st, e.config.Clock, e.config.Limits.MaxBodies)
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ended = true
		e.set.Load().deafen()
		e.set.Load().close(e.logger)
	}()
	if err := e.begins(ctx, s); err != nil {
		return fmt.Errorf("integrator: %w", err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	working, stop := context.WithCancel(ctx)
	defer stop() // also when the runner ends by itself, because its store failed
	group.Go(func() { e.prune(working, st) })
	group.Go(func() { e.forget(working, st) })
	defer s.open.Store(false)
	return s.runner.Run(ctx, queue, func() {
		s.open.Store(true)
		context.AfterFunc(ctx, func() { s.open.Store(false) })
		close(e.ready)
	})
}

// begins brings the definitions into force, with those of the store.
func (e *Engine) begins(ctx context.Context, s *state) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.Store(s)
	set := e.set.Load()
	stored, err := e.load(ctx, s.store)
	if err != nil {
		return err
	}
	if stored == nil {
		if err := e.prepare(ctx, s.store, set); err != nil {
			return err
		}
		e.activate(s, set)
		return nil
	}
	own := set.sources
	own.stored = stored
	e.hidden(own)
	err = e.apply(ctx, own, nil)
	var faults Faults
	if errors.As(err, &faults) { // New has taken those of files and Go
		return append(faults, Fault{Reason: "the definitions made over HTTP, which the store keeps, do not fit those of files and Go any more", Hint: "one of a file takes the place of one of the same name"})
	}
	return err
}

// Ready is closed once calls are taken.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Close stops a running engine and waits until it has stopped. Calling it again, or without Run, does nothing.
func (e *Engine) Close() error {
	e.begin.Lock()
	running, stop := e.started.Swap(true), e.stop
	e.begin.Unlock()
	if running && stop != nil {
		stop()
		<-e.stopped
	}
	return nil
}

// Handler returns the handler of all routes. It works before, during and after Run: while the engine does not run, calls are answered
// with 503.
func (e *Engine) Handler() http.Handler { return e.handler }

// RunFlow runs a flow and waits for its end. Params are its parameters: text, numbers, bools. Result.Err is nil when the run succeeded; the
// error of RunFlow itself says that it could not be started, or that ctx ended first: a run with destinations goes on then.
func (e *Engine) RunFlow(ctx context.Context, name string, params map[string]any) (*Result, error) {
	s := e.state.Load()
	if s == nil {
		return nil, fmt.Errorf("integrator: run flow %q: %w", name, flow.ErrStopping)
	}
	return e.runFlow(ctx, s, name, params)
}

// Auth returns the service that keeps the engine's users and issues their tokens: to make, change and list users from Go. Until Ready is
// closed there is none, and the error is flow.ErrStopping.
func (e *Engine) Auth() (*auth.Service, error) {
	if s := e.state.Load(); s != nil {
		return s.auth, nil
	}
	return nil, fmt.Errorf("integrator: users: %w", flow.ErrStopping)
}

// Store returns the store that the engine works on, for what its operator does beside it, such as boltstore's Backup. Until Ready is closed there
// is none, and the error is flow.ErrStopping. Who opened it closes it.
func (e *Engine) Store() (store.Store, error) {
	if s := e.state.Load(); s != nil {
		return s.store, nil
	}
	return nil, fmt.Errorf("integrator: store: %w", flow.ErrStopping)
}

// prune removes what need not be kept: a page at a time, between which others have the store for most of the time.
func (e *Engine) prune(ctx context.Context, st store.Store) {
	keep := store.Keep{Runs: max(e.config.Retention.Count, 0), Bytes: max(e.config.Retention.Bytes, 0)}
	age := e.config.Retention.Runs
	if age < 0 && keep == (store.Keep{}) {
		return
	}
	const page, pause, share, look, failed = 50, time.Millisecond, 4, 10 * time.Second, time.Minute
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		if age >= 0 {
			keep.Since = e.config.Clock().Add(-age)
		}
		removed, err := st.Prune(ctx, keep, page)
		next := look
		switch {
		case err != nil:
			if next = failed; ctx.Err() == nil {
				e.logger.Warn("old runs could not be removed", "error", err, "again", next)
			}
		case removed == page: // there may be more
			next = max(pause, (share-1)*time.Since(began))
		}
		timer.Reset(next)
	}
}
