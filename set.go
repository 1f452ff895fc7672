package integrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/connector/httpclient"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/fixedfmt"
	"github.com/integrator-go/integrator/transform/formfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

// Definitions is a set of definitions in Go: the same as in files. Every map goes by name.
type Definitions struct {
	Version     int                                `json:"version"` // 0 and 1 are the only one there is
	Vars        map[string]string                  `json:"vars"`    // values of ${vars.NAME}
	Formats     map[string]transform.FormatRef     `json:"formats"`
	Connections map[string]connector.Definition    `json:"connections"`
	Listeners   map[string]listener.Definition     `json:"listeners"`
	Flows       map[string]flow.Definition         `json:"flows"`
	Schedules   map[string]flow.ScheduleDefinition `json:"schedules"`
	Users       map[string]auth.UserDefinition     `json:"users"`
	Steps       map[string][]flow.Step             `json:"steps"` // lists of steps, for `use`
	_           struct{}                           `later:"settings"`
}

// Fault is one thing that is wrong in a set of definitions, with its place.
type Fault = define.Fault

// Faults is everything that is wrong in a set of definitions, as one error.
type Faults = define.Faults

// set is the definitions that are in force at one moment, compiled. It never changes.
type set struct {
	sources     sources
	tree        *define.Tree
	version     string
	definitions Definitions
	connections map[string]connector.Connection
	listeners   map[string]*listener.Listener
	plans       map[string]*flow.Plan
	byID        map[int64]*flow.Plan // filled when the set comes into force
	router      *listener.Router
	schedules   []*flow.Schedule
	users       *flow.Users                 // runs that use the connections
	formats     map[string]transform.Format // that listeners and flows name
	secrets     map[string]bool             // paths of what is shown to nobody
	deafen      func()                      // ends the entry points of the listeners and waits for them; set when the set comes into force
}

// compile checks a set and makes its parts. base, when it is set, lends the connections of the set in force.
func (e *Engine) compile(tree *define.Tree, base *set) (*set, error) {
	s := &set{tree: tree, version: tree.Hash(), users: &flow.Users{}, secrets: map[string]bool{}, formats: map[string]transform.Format{}, deafen: func() {}, connections: map[string]connector.Connection{}, listeners: map[string]*listener.Listener{},
		plans: map[string]*flow.Plan{}}
	options := define.DecodeOptions{Lookup: e.lookup(tree), Secret: func(path, written string) {
		s.secrets[path] = true
		if !strings.Contains(written, "${") {
			e.secrets.add(written)
		}
	}}
	faults := tree.Decode(&s.definitions, options)
	if s.definitions.Version > 1 {
		faults = append(faults, Fault{Path: "version", Reason: "this engine reads version 1"})
	}
	c := &setCompiler{engine: e, set: s, options: options, read: slices.Clone(faults)}
	if base != nil {
		s.connections, s.users = base.connections, base.users
	} else {
		faults = append(faults, c.connections()...)
	}
	faults = append(faults, c.formats()...)
	faults = append(faults, c.listeners()...)
	faults = append(faults, c.flows()...)
	faults = append(faults, c.schedules()...)
	faults = append(faults, c.users()...)
	faults = append(slices.Clone(c.read), define.Decisive(c.read, faults[len(c.read):])...)
	router, conflicts := listener.NewRouter(slices.SortedFunc(maps.Values(s.listeners), func(a, b *listener.Listener) int { return strings.Compare(a.Name, b.Name) }))
	s.router, faults = router, append(faults, conflicts...)
	if len(faults) > 0 {
		if base == nil {
			s.close(e.logger)
		}
		faults = tree.Locate(faults)
		for i := range faults {
			faults[i].Reason, faults[i].Hint = e.secrets.redact(faults[i].Reason), e.secrets.redact(faults[i].Hint)
		}
		return nil, faults
	}
	return s, nil
}

// lookup returns the values of ${…} that are known when definitions are loaded.
func (e *Engine) lookup(tree *define.Tree) func(kind, name string) (string, bool) {
	var vars struct {
		Vars map[string]string `json:"vars"`
	}
	tree.DecodeAt([]string{"vars"}, &vars.Vars, define.DecodeOptions{Lookup: e.outside})
	return func(kind, name string) (string, bool) {
		if kind == "vars" {
			v, ok := vars.Vars[name]
			return v, ok
		}
		return e.outside(kind, name)
	}
}

// outside asks the host.
func (e *Engine) outside(kind, name string) (string, bool) {
	switch {
	case kind == "env" && e.config.Env != nil:
		return e.config.Env(name)
	case kind == "secret" && e.config.Secrets != nil:
		value, ok := e.config.Secrets(name)
		e.secrets.add(value)
		return value, ok
	}
	return "", false
}

// setCompiler compiles the parts of one set.
type setCompiler struct {
	engine  *Engine
	set     *set
	options define.DecodeOptions
	read    Faults              // found when the definitions were read
	sorted  map[string][]string // names by kind, as far as somebody asked
}

// names returns the names of a kind.
func (c *setCompiler) names(kind string) []string {
	names, ok := c.sorted[kind]
	if !ok {
		if c.sorted == nil {
			c.sorted = map[string][]string{}
		}
		names = c.set.tree.Names(kind)
		c.sorted[kind] = names
	}
	return names
}

// faulty reports whether reading found a fault at path or below it.
func (c *setCompiler) faulty(path string) bool {
	return slices.ContainsFunc(c.read, func(f Fault) bool {
		rest, ok := strings.CutPrefix(f.Path, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// connectors returns the kinds of connections by name.
func (c *Config) connectors() map[string]connector.Kind {
	kinds := map[string]connector.Kind{}
	for _, k := range append([]connector.Kind{file.Kind(c.Compressions...), httpclient.Kind(), sqldb.Kind(c.Drivers...)}, c.Connectors...) {
		kinds[k.Name] = k
	}
	return kinds
}

func (c *setCompiler) connections() (faults Faults) {
	kinds := c.engine.config.connectors()
	for name, d := range c.set.definitions.Connections {
		path := define.Join("connections", name)
		kind, ok := kinds[d.Type]
		if !ok {
			faults = append(faults, unknownKind(path, "type", "kind of connection", d.Type, slices.Sorted(maps.Keys(kinds))))
			continue
		}
		env := connector.Env{Name: name, BaseDir: c.engine.config.BaseDir, Now: c.engine.config.Clock}
		connection, err := kind.New(env, c.decode([]string{"connections", name}, "type"))
		if err != nil {
			faults = append(faults, faultsOfKind(path, err)...)
			continue
		}
		c.set.connections[name] = connection
	}
	return faults
}

// decode returns the function that a kind reads its own keys with: all but the others.
func (c *setCompiler) decode(names []string, others ...string) func(any) error {
	options := c.options
	options.Ignore = others
	return func(v any) error {
		if faults := c.set.tree.DecodeAt(names, v, options); len(faults) > 0 {
			return faults
		}
		return nil
	}
}

// faultsOfKind places what a kind said about its definition.
func faultsOfKind(path string, err error) Faults {
	var fault *connector.Fault
	if errors.As(err, &fault) {
		return Faults{{Path: define.Join(path, fault.Key), Offset: fault.Offset, Reason: fault.Reason, Hint: fault.Hint}}
	}
	return define.FaultsOf(path, err)
}

func unknownKind(path, key, what, name string, names []string) Fault {
	f := Fault{Path: path + "." + key, Reason: fmt.Sprintf("%s %q is not known", what, name), Hint: "there are " + strings.Join(names, ", ")}
	if name == "" {
		f.Path, f.Reason = path, fmt.Sprintf("%s is missing", key)
		return define.Lacks(f, key)
	} else if near := define.Nearest(name, names); near != "" {
		f.Hint = fmt.Sprintf("did you mean %s?", near)
	}
	return f
}

// formats returns the kinds of formats by name.
func (c *Config) formats() map[string]transform.FormatKind {
	kinds := map[string]transform.FormatKind{}
	builtIn := []transform.FormatKind{jsonfmt.Kind(), jsonfmt.LinesKind(), csvfmt.Kind(), fixedfmt.Kind(), formfmt.Kind(), xmlfmt.Kind()}
	for _, k := range append(builtIn, c.Formats...) {
		kinds[k.Name] = k
	}
	return kinds
}

// formats checks the set's own formats, used or not.
func (c *setCompiler) formats() (faults Faults) {
	kinds := c.engine.config.formats()
	for name, ref := range c.set.definitions.Formats {
		path := define.Join("formats", name)
		if _, taken := kinds[name]; taken {
			faults = append(faults, Fault{Path: path, Reason: fmt.Sprintf("%s is a kind of format already", name), Hint: "give this one a name of its own"})
			continue
		}
		if _, err := c.makeFormat(kinds, &ref, path); err != nil {
			faults = append(faults, define.FaultsOf(path, err)...)
		}
		if as, given := ref.Options["as"]; given && as != "array" && as != "object" && as != "lines" {
			faults = append(faults, Fault{Path: path + ".as", Reason: fmt.Sprintf("as %q is not known", as), Hint: "there are array, object, lines"})
		}
	}
	return faults
}

// format returns the format that a definition names: one of the set's own, or a kind with its options.
func (c *setCompiler) format(ref *transform.FormatRef, path string) (transform.Format, error) {
	f, err := c.chosenFormat(ref, path)
	if err == nil {
		c.set.formats[ref.Type] = f
	}
	return f, err
}

func (c *setCompiler) chosenFormat(ref *transform.FormatRef, path string) (transform.Format, error) {
	named, ok := c.set.definitions.Formats[ref.Type]
	if !ok {
		return c.makeFormat(c.engine.config.formats(), ref, path)
	}
	for key := range ref.Options {
		if key != "as" {
			return nil, Faults{{Path: define.Join(path, key), Reason: fmt.Sprintf("format %s is defined under formats: its options stand there", ref.Type)}}
		}
	}
	return c.makeFormat(c.engine.config.formats(), &named, define.Join("formats", ref.Type))
}

// makeFormat makes a format from the options at path.
func (c *setCompiler) makeFormat(kinds map[string]transform.FormatKind, ref *transform.FormatRef, path string) (transform.Format, error) {
	kind, ok := kinds[ref.Type]
	if !ok {
		names := slices.Sorted(maps.Keys(kinds))
		if !strings.HasPrefix(path, "formats") { // whose own are made of kinds alone
			names = append(names, slices.Sorted(maps.Keys(c.set.definitions.Formats))...)
		}
		return nil, Faults{unknownKind(path, "type", "format", ref.Type, names)}
	}
	options := c.options
	options.Ignore = []string{"type", "as"}
	f, err := kind.New(func(v any) error {
		if faults := c.set.tree.DecodePath(path, v, options); len(faults) > 0 {
			return faults
		}
		return nil
	})
	if err != nil {
		return nil, faultsOfKind(path, err)
	}
	return f, nil
}

func (c *setCompiler) listeners() (faults Faults) {
	config := &c.engine.config
	env := listener.Environment{Format: c.format, Kinds: config.Listeners, Env: listener.Env{BaseDir: config.BaseDir, Now: config.Clock, Logger: c.engine.logger},
		Decode: func(name string, engines []string) func(any) error {
			return c.decode([]string{"listeners", name}, engines...)
		}}
	for name, d := range c.set.definitions.Listeners {
		l, more := listener.Compile(name, define.Join("listeners", name), d, env)
		if more != nil {
			faults = append(faults, more...)
			continue
		}
		c.set.listeners[name] = l
	}
	return faults
}

func (c *setCompiler) flows() (faults Faults) {
	named := func(name string) transform.FormatRef { return c.set.definitions.Formats[name] }
	lists := c.set.definitions.Steps
	env := flow.Environment{Steps: c.engine.config.Steps, Lists: lists, Version: c.set.version, Users: c.set.users, Format: c.format, Named: named, Names: c.names, Faulty: c.faulty,
		Connection: func(name string) (connector.Connection, bool) {
			_, defined := c.set.definitions.Connections[name]
			return c.set.connections[name], defined
		},
		Listener: func(name string) (*flow.ListenerFacts, bool) {
			_, defined := c.set.definitions.Listeners[name]
			if l := c.set.listeners[name]; l != nil {
				return l.Facts(), defined
			}
			return nil, defined
		}}
	for name := range lists { // used or not; what follows from the records of a flow is found with it
		_, more := flow.Compile("steps", 0, define.Join("steps", name), flow.Definition{Steps: []flow.Step{{Use: name}}, Respond: &flow.Respond{}}, env)
		faults = append(faults, more...)
	}
	attached := map[string][]*flow.Plan{}
	for name, d := range c.set.definitions.Flows {
		p, more := flow.Compile(name, 0, define.Join("flows", name), d, env)
		if more != nil {
			for _, f := range more {
				if !slices.Contains(faults, f) { // several flows may use the same steps
					faults = append(faults, f)
				}
			}
			continue
		}
		c.set.plans[name] = p
		if p.Listener != "" && p.Enabled() {
			attached[p.Listener] = append(attached[p.Listener], p)
		}
	}
	for name, l := range c.set.listeners {
		faults = append(faults, l.Attach(attached[name])...)
	}
	return faults
}

func (c *setCompiler) schedules() (faults Faults) {
	plan := func(name string) (*flow.Plan, bool) {
		_, defined := c.set.definitions.Flows[name]
		return c.set.plans[name], defined
	}
	for name, d := range c.set.definitions.Schedules {
		s, more := flow.CompileSchedule(name, define.Join("schedules", name), d, plan, c.names("flows"))
		if faults = append(faults, more...); s != nil {
			c.set.schedules = append(c.set.schedules, s)
		}
	}
	return faults
}

func (c *setCompiler) users() (faults Faults) {
	for login, d := range c.set.definitions.Users {
		path := define.Join("users", login)
		if key, reason := auth.CheckDefinition(login, d); reason != "" {
			f := Fault{Path: path, Reason: reason}
			var roles []string
			for _, role := range auth.Roles {
				roles = append(roles, string(role))
			}
			near := define.Nearest(string(d.Role), roles)
			switch {
			case key == "role" && d.Role == "", key == "password" && d.Password.Reveal() == "":
				f = define.Lacks(f, key)
			case key == "role" && near != "":
				f.Path, f.Hint = path+".role", fmt.Sprintf("did you mean %s?", near)
			case key != "":
				f.Path += "." + key
			}
			faults = append(faults, f)
		}
		for key, grants := range map[string][]string{"listeners": d.Listeners, "flows": d.Flows} {
			for i, grant := range grants {
				if _, ok := slices.BinarySearch(c.names(key), grant); ok || strings.HasSuffix(grant, "*") {
					continue
				}
				f := Fault{Path: fmt.Sprintf("%s.%s[%d]", define.Join("users", login), key, i), Reason: fmt.Sprintf("%q is none of the %s", grant, key)}
				if grant == "all" || grant == "any" {
					f.Hint = `write "*" for all of them`
				} else if near := define.Nearest(grant, c.names(key)); near != "" {
					f.Hint = fmt.Sprintf("did you mean %s?", near)
				}
				faults = append(faults, f)
			}
		}
	}
	return faults
}

// close closes the set's connections.
func (s *set) close(logger *slog.Logger) {
	for name, c := range s.connections {
		if err := c.Close(); err != nil {
			logger.Warn("a connection could not be closed", "connection", name, "error", err)
		}
	}
}

// apply compiles the definitions and, when the engine runs, brings them into force once keep has kept what of them is to be kept; nil: nothing. The
// caller holds e.mu, or is New.
func (e *Engine) apply(ctx context.Context, next sources, keep func() error) error {
	if e.ended {
		return fmt.Errorf("integrator: define: %w", flow.ErrStopping)
	}
	tree, faults := next.merge()
	if len(faults) > 0 {
		return faults
	}
	s, err := e.compile(tree, nil)
	if err != nil {
		return err
	}
	s.sources = next
	former := e.set.Load()
	if running := e.state.Load(); running == nil {
		e.set.Store(s)
	} else {
		if err = e.prepare(ctx, running.store, s); err == nil && keep != nil {
			err = keep()
		}
		if err != nil {
			s.close(e.logger)
			return err
		}
		if keep != nil {
			s.sources.stored = next.stored.Placeless()
			s.tree, _ = s.sources.merge()
		}
		e.activate(running, s)
	}
	if former != nil {
		former.users.Retire(func() { former.close(e.logger) })
	}
	return nil
}

// prepare gives the flows of a set their numbers and keeps the set for runs that are pinned to it.
func (e *Engine) prepare(ctx context.Context, st store.Store, s *set) error {
	if err := e.number(ctx, st, s); err != nil {
		return err
	}
	_, err := st.Put(ctx, store.Entry{Kind: kindSet, Name: s.version, Value: s.tree.JSON()})
	if err != nil && !errors.Is(err, store.ErrConflict) { // a conflict: it is kept already
		return fmt.Errorf("keep the definitions: %w", err)
	}
	return nil
}

// activate brings a set into force. The caller holds e.mu.
func (e *Engine) activate(running *state, s *set) {
	running.auth.SetDefined(s.definitions.Users)
	former := e.set.Load()
	former.deafen()
	e.set.Store(s)
	if former.version != s.version {
		e.past = slices.DeleteFunc(append(e.past, former.version), func(version string) bool { return version == s.version })
		select {
		case e.replaced <- struct{}{}:
		default: // forget has not looked at the one before yet
		}
	}
	e.earlier.Lock()
	clear(e.formers) // they are made over the connections that were today's
	e.earlier.Unlock()
	s.deafen = e.listen(running, s)
	running.runner.Look()
}

// listen runs the set's schedules and the entry points of its listeners that some flow reads. The function that it returns ends them.
func (e *Engine) listen(running *state, s *set) (deafen func()) {
	ctx, cancel := context.WithCancel(running.ctx)
	var group sync.WaitGroup
	for _, l := range s.listeners {
		if l.Enabled() && len(l.Plans()) > 0 {
			group.Go(func() { l.Listen(ctx, running.receiver, e.logger) })
		}
	}
	group.Go(func() { running.runner.RunSchedules(ctx, s.schedules) })
	return func() {
		cancel()
		group.Wait()
	}
}

const (
	kindSet  = "definitions"
	kindFlow = "flow"
)

// number gives the flows their numbers, new ones in the order of their names.
func (e *Engine) number(ctx context.Context, st store.Store, s *set) error {
	names := slices.Sorted(maps.Keys(s.plans))
	numbers, err := st.Numbers(ctx, kindFlow, names...)
	if err != nil {
		return fmt.Errorf("number the flows: %w", err)
	}
	s.byID = make(map[int64]*flow.Plan, len(s.plans))
	for i, name := range names {
		p := s.plans[name]
		p.ID = numbers[i]
		s.byID[p.ID] = p
	}
	return nil
}

// plan returns a flow as the set of a version defines it.
func (e *Engine) plan(ctx context.Context, id int64, version string) (*flow.Plan, error) {
	s := e.set.Load()
	if version != "" && version != s.version {
		former, err := e.former(ctx, version)
		if err != nil {
			return nil, err
		}
		s = former
	}
	if p := s.byID[id]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("flow number %d in definitions %.12s: %w", id, version, store.ErrNotFound)
}

// former compiles a set that was in force before, over today's connections.
func (e *Engine) former(ctx context.Context, version string) (*set, error) {
	e.earlier.Lock()
	defer e.earlier.Unlock()
	if s := e.formers[version]; s != nil {
		return s, nil
	}
	today := e.set.Load()
	st := e.state.Load().store
	entry, err := st.Get(ctx, kindSet, version)
	if err != nil {
		return nil, fmt.Errorf("definitions %.12s: %w", version, err)
	}
	tree, err := define.Parse("", entry.Value)
	if err != nil {
		return nil, fmt.Errorf("definitions %.12s: %w", version, err)
	}
	s, err := e.compile(tree, today)
	if err != nil {
		return nil, fmt.Errorf("definitions %.12s, which the run is pinned to, do not compile any more: %w", version, err)
	}
	if err := e.number(ctx, st, s); err != nil {
		return nil, err
	}
	if e.set.Load() != today {
		return s, nil // not kept: it is made over connections that are not today's any more
	}
	if len(e.formers) >= maxFormers {
		clear(e.formers)
	}
	if e.formers == nil {
		e.formers = map[string]*set{}
	}
	e.formers[version] = s
	return s, nil
}

// maxPast is how many sets the store keeps that are not in force any more, beside those that active runs are pinned to: what was received
// before a set was replaced may have its runs stored after. Some more may be there until it is worth to look.
const maxPast = 64

// forget removes sets from the store that nothing needs any more: each is as large as all definitions together, and each change makes one.
func (e *Engine) forget(ctx context.Context, st store.Store) {
	entries, err := st.List(ctx, kindSet)
	if err != nil {
		e.logger.Warn("earlier definitions could not be read", "error", err)
		return
	}
	e.mu.Lock()
	for _, entry := range entries {
		if entry.Name != e.set.Load().version && !slices.Contains(e.past, entry.Name) {
			e.past = slices.Insert(e.past, 0, entry.Name)
		}
	}
	e.mu.Unlock()
	for {
		if err := e.forgetPast(ctx, st); err != nil && ctx.Err() == nil {
			e.logger.Warn("earlier definitions could not be removed", "error", err)
		}
		select {
		case <-e.replaced:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) forgetPast(ctx context.Context, st store.Store) error {
	e.mu.Lock()
	past := slices.Clone(e.past)
	e.mu.Unlock()
	if len(past) < maxPast+maxPast/4 {
		return nil
	}
	pinned := map[string]bool{}
	for _, status := range []store.Status{store.Queued, store.Running, store.Queued} { // one that ran may be queued again meanwhile
		for before := int64(0); ; {
			runs, err := st.Runs(ctx, store.RunFilter{Status: status, Before: before, Limit: 1000})
			if err != nil {
				return err
			}
			if len(runs) == 0 {
				break
			}
			for i := range runs {
				pinned[runs[i].Version] = true
			}
			before = runs[len(runs)-1].Number
		}
	}
	for _, version := range past[:len(past)-maxPast] {
		if pinned[version] {
			continue
		}
		if err := e.forgetSet(ctx, st, version); err != nil {
			return err
		}
	}
	return nil
}

// forgetSet removes a set, unless it is in force again.
func (e *Engine) forgetSet(ctx context.Context, st store.Store, version string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.past, version)
	if i < 0 {
		return nil
	}
	entry, err := st.Get(ctx, kindSet, version)
	if err == nil {
		err = st.Delete(ctx, kindSet, version, entry.Version)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	e.past = slices.Delete(e.past, i, i+1)
	return nil
}

// maxFormers is how many earlier sets are kept compiled.
const maxFormers = 8

// plans returns the enabled flows.
func (e *Engine) plans() []*flow.Plan {
	var plans []*flow.Plan
	for _, p := range e.set.Load().plans {
		if p.Enabled() {
			plans = append(plans, p)
		}
	}
	return plans
}
