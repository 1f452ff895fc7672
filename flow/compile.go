package flow

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/transform"
)

// Environment is what a flow's definition may refer to.
type Environment struct {
	// Connection returns the connection of that name; nil and true for one that is defined and has faults of its own.
	Connection func(name string) (connector.Connection, bool)

	// Listener returns what a flow needs to know of a listener; nil and true for one that is defined and has faults of its own.
	Listener func(name string) (*ListenerFacts, bool)

	// Format returns the format that ref names; path is the place of the definition, for faults.
	Format func(ref *transform.FormatRef, path string) (transform.Format, error)

	// Steps are the host's Go functions, by name.
	Steps map[string]transform.Func

	// Names returns the names of a kind ("connections", "listeners"), for hints.
	Names func(kind string) []string

	// Faulty reports whether what stands at path, or below it, has a fault that was told when it was read; nil: nothing has.
	Faulty func(path string) bool

	// Version is the hash of the set that the definition belongs to.
	Version string

	// Users counts the runs of the set's plans; nil: nobody counts.
	Users *Users
}

// ListenerFacts is what a flow needs to know of a listener that it reads or that starts it.
type ListenerFacts struct {
	Format transform.Format // nil: it takes no body that could be read
	Sync   bool
	Params []string // of its path
}

// Plan is a flow that is ready to run: compiled, checked, immutable, safe for concurrent use.
type Plan struct {
	Name     string
	ID       int64  // the flow's number
	Version  string // hash of the set of definitions that it was compiled from
	Listener string // the listener it reads, or that starts it; "" for none

	enabled    bool
	reads      bool // the listener's payload is the source
	zone       *time.Location
	params     map[string]Param
	source     source
	steps      []step
	outputs    []output
	answer     *answer
	rejects    rejectPolicy
	retry      Retry
	timeout    time.Duration
	maxRunning int
	group      int
	order      *Key             // nil: runs go at any time
	mapped     []string         // names of the records' fields after the steps, nil when unknown
	paths      *transform.Paths // that the maps read from records
	users      *Users
}

// source is where the records come from.
type source struct {
	format  transform.Format // of a payload
	options transform.DecodeOptions
	reader  connector.Reader // of a connection
	path    *template
	binds   map[string]*transform.Mapping // by name, of one field "value"
	single  bool                          // the source is one document, so that the answer is one object
}

// step is one compiled step with the name that faults carry.
type step struct {
	name string
	run  transform.Step
}

// output is a flow's destinations on one connection: one piece of work.
type output struct {
	connection string
	writer     connector.Writer
	targets    []target
	encode     func(string) (string, error) // a value that fills in a path
	immediate  bool                         // writes take effect when they are made
	commit     int64                        // records of the source after which a part is committed; 0: the run is one piece of work
}

type target struct {
	table   string
	action  string
	mapping *transform.Mapping // nil: the record as it is
	path    *template          // nil: no path
}

// answer is a compiled [Respond].
type answer struct {
	status  int
	empty   bool // the status has no body (RFC 9110 section 6.4.1)
	format  transform.Format
	as      string
	headers []header
}

type header struct {
	name  string
	value *template
}

// rejectPolicy is a compiled [OnReject].
type rejectPolicy struct {
	keep  bool
	max   int64   // -1: no bound
	share float64 // of all records; -1: no bound
}

// pure reports whether executing the plan changes nothing outside the engine.
func (p *Plan) pure() bool { return len(p.outputs) == 0 }

// every returns after how many records of the source a part of a run is committed; 0: runs are committed as a whole.
func (p *Plan) every() int64 {
	if p.pure() {
		return 0
	}
	return p.outputs[0].commit // the compiler lets one with parts stand alone
}

// resumes reports whether a run's next attempt goes on behind the parts that are committed: its source is the same in every attempt.
func (p *Plan) resumes() bool { return p.every() > 0 && p.source.reader == nil }

// inPlace reports whether runs that somebody waits for need not be in the queue.
func (p *Plan) inPlace() bool { return p.pure() && p.maxRunning == 0 }

// Enabled reports whether runs of the flow are started.
func (p *Plan) Enabled() bool { return p.enabled }

// Reads reports whether the flow's source is its listener's payload, so that it cannot be run without one.
func (p *Plan) Reads() bool { return p.reads }

// compiler collects the faults of one definition.
type compiler struct {
	env     Environment
	base    string // path of the definition
	faults  define.Faults
	plan    *Plan
	facts   *ListenerFacts // of the plan's listener; nil: nothing is known
	options transform.CompileOptions
}

// Compile checks a definition and makes its plan. It touches no system. The faults' paths begin with base, such as
// `flows.load-orders`; the plan is nil when there are any.
func Compile(name string, id int64, base string, d Definition, env Environment) (*Plan, define.Faults) {
	c := &compiler{env: env, base: base}
	c.plan = &Plan{Name: name, ID: id, Version: env.Version, enabled: d.Enabled == nil || *d.Enabled, zone: time.UTC, params: d.Params,
		timeout: d.Timeout, maxRunning: d.MaxRunning, group: cmp.Or(d.Group, 100), paths: &transform.Paths{}, users: env.Users}
	c.options.Paths = c.plan.paths
	c.options.Known = map[string][]string{"run": runNames, "message": messageNames}
	if len(d.Params) > 0 {
		c.options.Known["param"] = slices.Sorted(maps.Keys(d.Params))
	}
	c.name(name)
	c.zone(d.Timezone)
	c.declared(d.Params)
	c.limits(d)
	c.from(d)
	c.orderBy(d.OrderBy)
	c.steps(d.Steps)
	c.to(d.To)
	c.respond(d)
	c.onReject(d.OnReject)
	if len(d.To) == 0 && d.Respond == nil && !c.plan.reads && d.Listener == "" {
		c.fault("", 0, "the flow leads nowhere", "give it `to`, `respond` or both")
	}
	if c.faults != nil {
		return nil, c.faults
	}
	return c.plan, nil
}

func (c *compiler) fault(path string, offset int, reason, hint string) {
	if path != "" {
		path = c.base + "." + path
	} else {
		path = c.base
	}
	c.faults = append(c.faults, define.Fault{Path: path, Offset: offset, Reason: reason, Hint: hint})
}

// report adds the faults that err holds: definition errors at their places below path, anything else as one fault.
func (c *compiler) report(path string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.report(path, e)
		}
		return
	}
	var faults define.Faults
	var definition *transform.DefinitionError
	switch {
	case errors.As(err, &faults):
		c.faults = append(c.faults, faults...)
	case errors.As(err, &definition):
		if definition.Path != "" {
			path = define.Join(path, definition.Path)
		}
		c.fault(path, definition.Offset, definition.Reason, definition.Hint)
	default:
		c.fault(path, 0, err.Error(), "")
	}
}

func (c *compiler) unknown(path, what, name string) {
	names := c.env.Names(what + "s")
	hint := fmt.Sprintf("there are no %ss", what)
	if len(names) > 0 {
		hint = fmt.Sprintf("there are %s", strings.Join(names, ", "))
		if near := define.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
	}
	c.fault(path, 0, fmt.Sprintf("%s %q is not defined", what, name), hint)
}

func (c *compiler) name(name string) {
	switch _, err := strconv.ParseUint(name, 10, 64); {
	case name == "":
		c.fault("", 0, "a flow needs a name", "")
	case err == nil:
		c.fault("", 0, "a flow's name cannot be all digits: numbers stand for flows in routes", "")
	case strings.Contains(name, "/"):
		c.fault("", 0, "a flow's name cannot hold '/'", "")
	}
}

func (c *compiler) zone(name string) {
	if name == "" {
		return
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		c.fault("timezone", 0, fmt.Sprintf("time zone %q is not known", name), "write a name of the IANA database, such as Europe/Berlin")
		return
	}
	c.plan.zone = zone
}

func (c *compiler) limits(d Definition) {
	for path, n := range map[string]int{"max_running": d.MaxRunning, "group": d.Group, "retry.attempts": d.Retry.Attempts} {
		if n < 0 {
			c.fault(path, 0, "a negative number means nothing here", "")
		}
	}
	for path, n := range map[string]time.Duration{"timeout": d.Timeout, "retry.backoff": d.Retry.Backoff, "retry.max_backoff": d.Retry.MaxBackoff} {
		if n < 0 {
			c.fault(path, 0, "a negative time means nothing here", "")
		}
	}
	c.plan.retry = Retry{Attempts: cmp.Or(d.Retry.Attempts, 5), Backoff: cmp.Or(d.Retry.Backoff, time.Second), MaxBackoff: cmp.Or(d.Retry.MaxBackoff, 5*time.Minute)}
}

func (c *compiler) from(d Definition) {
	if d.Listener != "" {
		c.listener("listener", d.Listener)
	}
	from := d.From
	if from == nil {
		c.plan.source.single = true
		return
	}
	switch {
	case from.Listener != "" && from.Connection != "":
		c.fault("from", 0, "a flow reads a listener or a connection, not both", "")
	case from.Listener != "":
		c.fromListener(d)
	case from.Connection != "":
		c.fromConnection(from)
	default:
		c.fault("from", 0, "nothing is read", "give it `listener` or `connection`")
	}
}

func (c *compiler) fromListener(d Definition) {
	from := d.From
	for key, value := range map[string]string{"table": from.Table, "query": from.Query, "path": from.Path} {
		if value != "" {
			c.fault("from."+key, 0, "a listener's payload has no "+key, "write `connection` instead of `listener` to read from a system")
		}
	}
	if d.Listener != "" && d.Listener != from.Listener {
		c.fault("listener", 0, "the flow reads another listener than the one that starts it", "leave one of the two out")
	}
	c.plan.reads = true
	if c.listener("from.listener", from.Listener); c.facts == nil {
		return
	}
	if c.plan.source.format = c.facts.Format; from.Format != nil {
		c.plan.source.format = c.format("from.format", from.Format)
	}
	if c.plan.source.format == nil {
		c.fault("from", 0, fmt.Sprintf("listener %q has no format: its payload cannot be read", from.Listener), "give the listener a `format`")
		return
	}
	c.decode(from)
}

func (c *compiler) fromConnection(from *From) {
	source, ok := c.connection("from.connection", from.Connection).(connector.Source)
	if !ok {
		if connection, _ := c.env.Connection(from.Connection); connection != nil {
			c.fault("from.connection", 0, fmt.Sprintf("connection %q cannot be read from", from.Connection), "")
		}
		return
	}
	c.plan.source.path = c.template("from.path", from.Path, false)
	spec := connector.ReadSpec{Table: from.Table, Query: from.Query, Path: from.Path}
	if from.Format != nil {
		c.plan.source.format = c.format("from.format", from.Format)
		spec.Format = c.plan.source.format
	}
	c.decode(from)
	spec.Decode = c.plan.source.options
	reader, err := source.PrepareRead(spec)
	if err != nil {
		var fault *connector.Fault
		if errors.As(err, &fault) {
			c.fault("from."+fault.Key, fault.Offset, fault.Reason, fault.Hint)
		} else {
			c.report("from", err)
		}
		return
	}
	c.plan.source.reader = reader
	c.plan.source.binds = map[string]*transform.Mapping{}
	known := slices.Collect(maps.Keys(c.plan.params))
	if c.facts != nil {
		known = append(known, c.facts.Params...)
	}
	used := map[string]bool{}
	for _, bind := range reader.Binds() {
		used[bind.Name] = true
		if term, ok := from.Bind[bind.Name]; ok {
			mapping, err := transform.CompileMap(transform.Map{{Name: "value", Term: term}}, c.options)
			if err != nil {
				c.report("from.bind."+bind.Name, err)
				continue
			}
			c.plan.source.binds[bind.Name] = mapping
			continue
		}
		if !slices.Contains(known, bind.Name) {
			hint := "declare it under `params`, or name its value under `bind`"
			if near := define.Nearest(bind.Name, known); near != "" {
				hint = fmt.Sprintf("did you mean :%s?", near)
			}
			c.fault("from.query", bind.Offset, fmt.Sprintf("no parameter %q", bind.Name), hint)
		}
	}
	for name := range from.Bind {
		if !used[name] {
			c.fault("from.bind."+name, 0, fmt.Sprintf("the query has no :%s", name), "")
		}
	}
}

// listener makes the plan one of a listener, whose path's parameters are known then.
func (c *compiler) listener(path, name string) {
	facts, ok := c.env.Listener(name)
	if !ok {
		c.unknown(path, "listener", name)
	}
	if c.plan.Listener = name; facts == nil {
		return
	}
	c.facts = facts
	c.options.Known["param"] = append(slices.Clone(facts.Params), slices.Sorted(maps.Keys(c.plan.params))...)
	for name := range c.plan.params {
		if slices.Contains(facts.Params, name) && c.plan.params[name].Default != nil {
			c.fault("params."+name+".default", 0, "a parameter of the listener's path is always given", "leave the default out")
		}
	}
}

// orderBy compiles what the runs keep their order by.
func (c *compiler) orderBy(text string) {
	if text == "" || c.plan.Listener != "" && c.facts == nil {
		return
	}
	var payload transform.Format
	if c.facts != nil {
		payload = cmp.Or(c.plan.source.format, c.facts.Format)
	}
	key, err := CompileKey(text, payload, c.options.Known)
	if err != nil {
		c.report("order_by", err)
	}
	c.plan.order = key
}

// decode settles how the source's format is used, and what its records are.
func (c *compiler) decode(from *From) {
	s := &c.plan.source
	s.options.Records = from.Records
	if s.format == nil {
		if from.Records != "" {
			c.fault("from.records", 0, "the source's records are rows: nothing is to be picked from them", "leave `records` out")
		}
		return
	}
	// A decoder over nothing tells whether the path fits the format.
	decoder, err := s.format.NewDecoder(strings.NewReader(""), s.options)
	if closer, ok := decoder.(io.Closer); ok && err == nil {
		closer.Close()
	}
	if definition := (*transform.DefinitionError)(nil); errors.As(err, &definition) {
		c.report("from.records", err)
	}
	if d, ok := s.format.(transform.Describer); ok {
		description := d.Describe(s.options)
		s.single, c.options.UntypedSource = description.Single, description.Untyped
	}
}

func (c *compiler) connection(path, name string) connector.Connection {
	connection, ok := c.env.Connection(name)
	if !ok {
		c.unknown(path, "connection", name)
		return nil
	}
	return connection
}

func (c *compiler) format(path string, ref *transform.FormatRef) transform.Format {
	format, err := c.env.Format(ref, c.base+"."+path)
	if err != nil {
		c.report(path, err)
		return nil
	}
	return format
}

// as returns how a format in use makes one document of many records, "" when the definition does not say.
func (c *compiler) as(path string, ref *transform.FormatRef) string {
	switch as := ref.Options["as"]; as {
	case nil:
		return ""
	case "array", "object", "lines":
		return as.(string)
	default:
		c.fault(path+".as", 0, fmt.Sprintf("as %q is not known", as), "there are array, object, lines")
		return ""
	}
}

func (c *compiler) template(path, text string, record bool) *template {
	if text == "" {
		return nil
	}
	t, err := parseTemplate(text, c.options, record)
	if err != nil {
		c.report(path, err)
		return nil
	}
	return t
}

func (c *compiler) expression(path, text string) *transform.Expression {
	e, err := transform.CompileExpression(text, c.options)
	if err != nil {
		c.report(path, err)
		return nil
	}
	c.needs(e.NeedsScope(), false)
	return e
}

func (c *compiler) mapping(path string, m transform.Map) *transform.Mapping {
	mapping, err := transform.CompileMap(m, c.options)
	if err != nil {
		c.report(path, err)
		return nil
	}
	c.needs(mapping.NeedsScope(), mapping.NeedsRaw())
	return mapping
}

func (c *compiler) needs(scope, raw bool) {
	c.plan.source.options.Scope = c.plan.source.options.Scope || scope
	c.plan.source.options.Raw = c.plan.source.options.Raw || raw
}

func (c *compiler) steps(steps []Step) {
	for i, s := range steps {
		path := fmt.Sprintf("steps[%d]", i)
		var set []string
		mark := func(is bool, name string) {
			if is {
				set = append(set, name)
			}
		}
		mark(s.Filter != "", "filter")
		mark(s.Map != nil, "map")
		mark(s.Set != nil, "set")
		mark(s.Drop != nil, "drop")
		mark(s.Rename != nil, "rename")
		mark(s.Reject != nil, "reject")
		mark(s.Go != "", "go")
		if len(set) == 0 && c.env.Faulty != nil && c.env.Faulty(c.base+"."+path) {
			continue
		}
		if len(set) != 1 {
			reason := "a step needs one of filter, map, set, drop, rename, reject, go"
			if len(set) > 1 {
				reason = "this is more than one step: " + strings.Join(set, ", ")
			}
			c.fault(path, 0, reason, "write each step as a list item of its own")
			continue
		}
		name := fmt.Sprintf("step %d (%s)", i+1, set[0])
		path += "." + set[0]
		var run transform.Step
		switch set[0] {
		case "filter":
			if e := c.expression(path, s.Filter); e != nil {
				run = transform.NewFilter(name, e)
			}
		case "map":
			if m := c.mapping(path, s.Map); m != nil {
				run = transform.NewMap(name, m)
				c.fields(m.Columns())
				c.options.UntypedSource = false // fields are what the map made of them
			}
		case "set":
			if m := c.mapping(path, s.Set); m != nil {
				run = transform.NewSet(name, m)
				if c.plan.mapped != nil {
					c.fields(union(c.plan.mapped, m.Columns()))
				}
				c.options.UntypedSource = false
			}
		case "drop":
			run = transform.NewDrop(s.Drop...)
			if c.plan.mapped != nil {
				c.fields(without(c.plan.mapped, s.Drop))
			}
		case "rename":
			run = transform.NewRename(s.Rename)
			c.renamed(s.Rename)
			seen := map[string]string{}
			for _, to := range slices.Sorted(maps.Keys(s.Rename)) {
				if other, twice := seen[s.Rename[to]]; twice {
					c.fault(path+"."+to, 0, fmt.Sprintf("field %q is renamed twice, to %s and to %s", s.Rename[to], other, to), "use `map` or `set` to copy a field")
				}
				seen[s.Rename[to]] = to
			}
		case "reject":
			if s.Reject.When == "" {
				c.fault(path, 0, "reject needs a condition", "write {when: …, reason: …}")
			} else if e := c.expression(path+".when", s.Reject.When); e != nil {
				run = transform.NewReject(name, e, cmp.Or(s.Reject.Reason, "rejected by the condition "+s.Reject.When))
			}
		case "go":
			f, ok := c.env.Steps[s.Go]
			if !ok {
				names := slices.Sorted(maps.Keys(c.env.Steps))
				hint := "the host gives Go functions by name in Config.Steps"
				if near := define.Nearest(s.Go, names); near != "" {
					hint = fmt.Sprintf("did you mean %s?", near)
				}
				c.fault(path, 0, fmt.Sprintf("no Go function %q", s.Go), hint)
				continue
			}
			run = transform.NewFunc(name, f)
			c.fields(nil)
		}
		if run != nil {
			c.plan.steps = append(c.plan.steps, step{name, run})
		}
	}
}

// fields notes which fields the records have from here on; nil: nobody knows.
func (c *compiler) fields(names []string) {
	if c.plan.mapped = names; names == nil {
		delete(c.options.Known, "this")
	} else {
		c.options.Known["this"] = names
	}
}

// renamed notes new names of fields.
func (c *compiler) renamed(names map[string]string) {
	if c.plan.mapped == nil {
		return
	}
	fields := slices.Clone(c.plan.mapped)
	for to, from := range names {
		if i := slices.Index(c.plan.mapped, from); i >= 0 {
			fields[i] = to
		}
	}
	c.fields(fields)
}

func union(a, b []string) []string {
	return append(slices.Clone(a), slices.DeleteFunc(slices.Clone(b), func(name string) bool { return slices.Contains(a, name) })...)
}

func without(names, dropped []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(dropped, n) })
}

func (c *compiler) to(destinations []Destination) {
	type group struct {
		connection connector.Destination
		targets    []connector.Target
		indexes    []int
	}
	groups := map[string]*group{}
	var order []string
	outputs := map[string]*output{}
	for i, d := range destinations {
		path, before := fmt.Sprintf("to[%d]", i), len(c.faults)
		if d.Connection == "" {
			c.fault(path, 0, "a destination needs a connection", "")
			continue
		}
		connection := c.connection(path+".connection", d.Connection)
		if connection == nil {
			continue
		}
		destination, ok := connection.(connector.Destination)
		if !ok {
			c.fault(path+".connection", 0, fmt.Sprintf("connection %q cannot be written to", d.Connection), "")
			continue
		}
		switch d.Action {
		case "", "insert", "upsert", "update", "delete", "replace":
		default:
			c.fault(path+".action", 0, fmt.Sprintf("action %q is not known", d.Action), "there are insert, upsert, update, delete, replace")
		}
		spec := connector.Target{Table: d.Table, Path: d.Path, Action: cmp.Or(d.Action, "insert"), Key: d.Key, Create: d.Create, Exists: d.Exists, Commit: d.Commit, Columns: c.plan.mapped,
			Fixed: c.plan.source.reader == nil}
		compiled := target{table: d.Table, action: spec.Action, path: c.template(path+".path", d.Path, true)}
		if d.Map != nil {
			if compiled.mapping = c.mapping(path+".map", d.Map); compiled.mapping != nil {
				spec.Columns = compiled.mapping.Columns()
			}
		}
		spec.Encode.Columns = spec.Columns
		if d.Format != nil {
			spec.Format, spec.Encode.As = c.format(path+".format", d.Format), c.as(path+".format", d.Format)
			c.writes(path+".format", spec.Format, spec.Encode)
		}
		if d.Commit < 0 {
			c.fault(path+".commit", 0, "a negative number means nothing here", "")
		}
		if len(c.faults) > before {
			continue // the connection would repeat what was said
		}
		g := groups[d.Connection]
		if g == nil {
			g = &group{connection: destination}
			groups[d.Connection], outputs[d.Connection] = g, &output{connection: d.Connection}
			order = append(order, d.Connection)
		}
		g.targets, g.indexes = append(g.targets, spec), append(g.indexes, i)
		outputs[d.Connection].targets = append(outputs[d.Connection].targets, compiled)
	}
	for _, name := range order {
		writer, err := groups[name].connection.PrepareWrite(groups[name].targets)
		if err != nil {
			c.reportTargets(groups[name].indexes, err)
			continue
		}
		outputs[name].writer = writer
		c.writer(groups[name].indexes, outputs[name])
		c.parts(groups[name].indexes, destinations, outputs[name], len(order))
		c.plan.outputs = append(c.plan.outputs, *outputs[name])
		c.plan.group = min(c.plan.group, writer.MaxRuns())
	}
}

// writer settles what the writer of a connection makes of paths and records: what values in paths look like, whether each record may have a
// path of its own, and whether it is written when it is handed over.
func (c *compiler) writer(indexes []int, o *output) {
	o.encode = fileName
	_, o.immediate = o.writer.(connector.ImmediateWriter)
	writer, ok := o.writer.(connector.PathWriter)
	if ok {
		o.encode = writer.PathValue
	}
	for i, t := range o.targets {
		if !ok && t.path != nil && t.path.record {
			c.fault(fmt.Sprintf("to[%d].path", indexes[i]), 0, fmt.Sprintf("a destination on connection %q has one path for the whole run", o.connection),
				"leave ${record.…} out; there are param, header, query, run, message and now")
		}
	}
}

// parts settles after how many records the destinations of a connection are committed.
func (c *compiler) parts(indexes []int, destinations []Destination, o *output, connections int) {
	for _, i := range indexes {
		d := destinations[i]
		if d.Commit == 0 {
			continue
		}
		path := fmt.Sprintf("to[%d].commit", i)
		if _, ok := o.writer.(connector.PartWriter); !ok {
			c.fault(path, 0, fmt.Sprintf("connection %q commits a run as a whole", o.connection), "leave it out")
		}
		if o.commit != 0 && o.commit != int64(d.Commit) {
			c.fault(path, 0, fmt.Sprintf("the destinations on connection %q are committed together, after every %d records", o.connection, o.commit),
				"write the same number, or leave it out here")
		}
		if connections > 1 {
			c.fault(path, 0, "a run that is committed in parts goes on behind the last one, and the flow's other connections would lack what was before",
				"leave commit out, or give each connection a flow of its own")
		}
		o.commit = int64(d.Commit)
	}
	if o.commit == 0 || c.plan.source.reader == nil {
		return
	}
	for _, i := range indexes {
		if action := destinations[i].Action; action == "" || action == "insert" {
			c.fault(fmt.Sprintf("to[%d].commit", i), 0, "another attempt reads the source from its first record, and insert would write the parts twice that are committed",
				"write action: upsert and a key, or leave commit out")
		}
	}
}

func (c *compiler) reportTargets(indexes []int, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.reportTargets(indexes, e)
		}
		return
	}
	var fault *connector.Fault
	if errors.As(err, &fault) {
		c.fault(fmt.Sprintf("to[%d].%s", indexes[fault.Target], fault.Key), fault.Offset, fault.Reason, fault.Hint)
		return
	}
	c.report(fmt.Sprintf("to[%d]", indexes[0]), err)
}

func (c *compiler) respond(d Definition) {
	r := d.Respond
	if r == nil {
		return
	}
	a := &answer{status: cmp.Or(r.Status, 200)}
	if a.status < 200 || a.status > 599 {
		c.fault("respond.status", 0, fmt.Sprintf("%d is no status of an answer", a.status), "write one from 200 to 599")
	}
	if a.empty = slices.Contains([]int{204, 205, 304}, a.status); a.empty && r.Format != nil {
		c.fault("respond.format", 0, fmt.Sprintf("an answer with status %d has no body", a.status), "leave the format out, or write status: 200")
	}
	ref := r.Format
	if ref == nil {
		ref = &transform.FormatRef{Type: "json"}
	}
	if a.format = c.format("respond.format", ref); a.format != nil {
		a.as = c.answerAs(a.format, ref)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		path := define.Join("respond.headers", name)
		if !validHeaderName(name) {
			c.fault(path, 0, "this is no name of a header", "")
			continue
		}
		if t := c.template(path, r.Headers[name], false); t != nil {
			a.headers = append(a.headers, header{name, t})
		}
	}
	if c.facts != nil && !c.facts.Sync {
		c.fault("respond", 0, fmt.Sprintf("nobody waits for the answer: listener %q is asynchronous", c.plan.Listener), "write `mode: sync` on the listener")
	}
	c.plan.answer = a
}

// answerAs returns how the records become one document: as the definition says; else one document is answered for one, where the format can,
// and a list of them for several.
func (c *compiler) answerAs(f transform.Format, ref *transform.FormatRef) string {
	if as := c.as("respond.format", ref); as != "" {
		c.writes("respond.format", f, transform.EncodeOptions{As: as})
		return as
	}
	if c.plan.source.single {
		if _, err := f.NewEncoder(io.Discard, transform.EncodeOptions{As: "object"}); err == nil {
			return "object"
		}
	}
	c.writes("respond.format", f, transform.EncodeOptions{As: "array"})
	return "array"
}

// writes checks that a format can write with the options.
func (c *compiler) writes(path string, f transform.Format, options transform.EncodeOptions) {
	if f == nil {
		return
	}
	if _, err := f.NewEncoder(io.Discard, options); err != nil {
		c.report(path, err)
	}
}

func validHeaderName(name string) bool {
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)) {
			return false
		}
	}
	return name != ""
}

func (c *compiler) onReject(d OnReject) {
	p := rejectPolicy{max: -1, share: -1}
	switch d.Action {
	case "", "stop":
		if d.Max != "" {
			c.fault("on_reject.max", 0, "with stop the first rejected record ends the run", "write action: keep beside max")
		}
	case "keep":
		p.keep = true
	default:
		c.fault("on_reject.action", 0, fmt.Sprintf("action %q is not known", d.Action), "there are stop, keep")
	}
	if share, ok := strings.CutSuffix(d.Max, "%"); ok {
		f, err := strconv.ParseFloat(share, 64)
		if err != nil || f < 0 || f > 100 {
			c.fault("on_reject.max", 0, "a share goes from 0% to 100%", "")
		}
		p.share = f / 100
	} else if d.Max != "" {
		n, err := strconv.ParseInt(d.Max, 10, 64)
		if err != nil || n < 0 {
			c.fault("on_reject.max", 0, "this is no count of records", "write a number, or a share such as 5%")
		}
		p.max = n
	}
	c.plan.rejects = p
}
