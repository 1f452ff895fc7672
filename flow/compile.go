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

	// Named returns the set's own format of that name, the zero value when there is none; nil: the set has none.
	Named func(name string) transform.FormatRef

	// Steps are the host's Go functions, by name.
	Steps map[string]transform.Func

	// Lists are the set's named lists of steps.
	Lists map[string][]Step

	// Names returns the names of a kind ("connections", "listeners"), for hints.
	Names func(kind string) []string

	// Faulty reports whether what stands at path, or below it, has a fault that was told when it was read; nil: nothing has.
	Faulty func(path string) bool

	// Version is the hash of the set that the definition belongs to.
	Version string

	// Users counts the runs of the set's plans; nil: nobody counts.
	Users *Users
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
	heard      map[string]Param      // that the listener declares
	when       *transform.Expression // whether a payload is wanted; nil: each is
	pathParams []string              // of the path of the listener that starts the flow and does not feed it
	source     source
	steps      []step
	outputs    []output
	rejected   *output // where rejected records go: of one target; nil: nowhere
	joined     int     // index of the output whose work takes them too; -1: they are a piece of work of their own
	routed     bool    // each destination takes some records only, so that there may be some that none takes
	answer     *answer
	onError    []errorAnswer
	rejects    rejectPolicy
	retry      Retry
	timeout    time.Duration
	maxRunning int
	group      int
	order      *Key             // nil: runs go at any time
	mapped     []string         // names of the records' fields after the steps, nil when unknown
	paths      *transform.Paths // that the maps read from records
	gathers    string           // the first step that needs all records; "" when none does
	remade     string           // the first step whose records stand for several of the source; "" when there is none
	users      *Users
}

// source is where the records come from.
type source struct {
	formats []PayloadFormat // of a payload
	raw     bool            // the payload is put into files as it is
	options transform.DecodeOptions
	reader  connector.Reader // of a connection
	path    *template
	binds   map[string]*transform.Mapping // by name, of one field "value"
	single  bool                          // the source is one document, so that the answer is one object
	records string                        // the path of the records, "" where the document or its rows are
}

// step is one compiled step with the name that faults carry.
type step struct {
	name   string
	run    transform.Step
	gather transform.Gatherer // of a step over all records, in place of run
}

// output is a flow's destinations on one connection: one piece of work.
type output struct {
	connection string
	writer     connector.Writer
	targets    []target
	writes     int                          // how many targets the writer has
	encode     func(string) (string, error) // a value that fills in a path
	immediate  bool                         // writes take effect when they are made
	commit     int64                        // records of the source after which a part is committed; 0: the run is one piece of work
}

// target is one destination.
type target struct {
	table   string
	action  string
	at      int                // index of the writer's target
	each    *transform.Mapping // of one field, the list whose elements are the rows; nil: each record is one
	list    string             // its path
	when    *transform.Expression
	choose  *transform.Expression // the action of each row; nil: it is the same for all
	actions map[string]int        // with choose: indexes of the writer's targets
	clear   *transform.Mapping    // with each and action replace: the key, of a record that brings no rows; nil with any other
	clearAt int                   // index of the writer's target that deletes by it
	mapping *transform.Mapping    // nil: the record as it is
	path    *template             // nil: no path
	fill    bool                  // of rejected records: each has the fields of all
	flat    bool                  // and single values
}

// plain reports whether each record is one row, in all of its fields.
func (t *target) plain() bool { return t.each == nil && t.when == nil && t.choose == nil }

// rejectPolicy is a compiled [OnReject].
type rejectPolicy struct {
	keep  bool
	max   int64   // -1: no bound
	share float64 // of all records; -1: no bound
}

// pure reports whether executing the plan changes nothing outside the engine.
func (p *Plan) pure() bool { return len(p.outputs) == 0 && p.rejected == nil }

// every returns after how many records of the source a part of a run is committed; 0: runs are committed as a whole.
func (p *Plan) every() int64 {
	if len(p.outputs) == 0 {
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
	element bool           // what is compiled sees the elements of a list
	options transform.CompileOptions
	using   []string                         // the named lists of steps that are compiled, each inside the one before
	added   int                              // steps so far
	inside  bool                             // of a when
	reread  func() (connector.Reader, error) // prepares the source anew, for what is compiled behind it wants more of its format; nil: there is none
}

// Compile checks a definition and makes its plan. It touches no system. The faults' paths begin with base, such as
// `flows.load-orders`; the plan is nil when there are any.
func Compile(name string, id int64, base string, d Definition, env Environment) (*Plan, define.Faults) {
	c := &compiler{env: env, base: base}
	c.plan = &Plan{Name: name, ID: id, Version: env.Version, enabled: d.Enabled == nil || *d.Enabled, zone: time.UTC, params: d.Params,
		timeout: d.Timeout, maxRunning: d.MaxRunning, group: cmp.Or(d.Group, 100), paths: &transform.Paths{}, users: env.Users}
	c.options.Paths = c.plan.paths
	c.options.Known = map[string][]string{"run": runNames, "message": messageNames, "error": nil}
	if len(d.Params) > 0 {
		c.options.Known["param"] = slices.Sorted(maps.Keys(d.Params))
	}
	c.name(name)
	c.zone(d.Timezone)
	c.limits(d)
	c.from(d)
	c.declared(d.Params)
	c.orderBy(d.OrderBy)
	c.steps("steps", "step ", d.Steps)
	c.onReject(d.OnReject)
	c.to(d.To, d.OnReject.To)
	c.respond(d)
	c.onError(d.OnError)
	if len(d.To) == 0 && d.Respond == nil && !c.plan.reads && d.Listener == "" {
		c.lacks("", "the flow leads nowhere", "give it `to`, `respond` or both", "to", "respond", "from", "listener")
	}
	if o := c.plan.source.options; c.reread != nil && (o.Scope || o.Raw) {
		var err error
		if c.plan.source.reader, err = c.reread(); err != nil {
			c.report("from", err)
		}
	}
	if c.faults != nil {
		return nil, c.faults
	}
	return c.plan, nil
}

func (c *compiler) fault(path string, offset int, reason, hint string) {
	if path != "" {
		path = define.Below(c.base, path)
	} else {
		path = c.base
	}
	c.faults = append(c.faults, define.Fault{Path: path, Offset: offset, Reason: reason, Hint: hint})
}

// faulty reports whether what stands at path, or below it, had a fault when it was read.
func (c *compiler) faulty(path string) bool {
	return c.env.Faulty != nil && c.env.Faulty(define.Below(c.base, path))
}

// lacks adds a fault of a key that is missing.
func (c *compiler) lacks(path, reason, hint string, keys ...string) {
	c.fault(path, 0, reason, hint)
	last := len(c.faults) - 1
	c.faults[last] = define.Lacks(c.faults[last], keys...)
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
			path = define.Below(path, definition.Path)
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
		c.lacks("from", "nothing is read", "give it `listener` or `connection`", "listener", "connection")
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
	c.plan.reads, c.plan.pathParams = true, nil
	if c.listener("from.listener", from.Listener); c.facts == nil {
		return
	}
	c.when(from.When)
	formats := c.facts.Formats
	if from.Format != nil {
		f := c.format("from.format", from.Format)
		if f == nil {
			return
		}
		formats = []PayloadFormat{{from.Format.Type, f}}
	}
	if len(formats) == 0 {
		c.asIs(d)
		return
	}
	c.plan.source.formats = formats
	c.decode(from, formats...)
}

// when compiles what a flow wants a payload by.
func (c *compiler) when(text string) {
	if text == "" {
		return
	}
	e, err := transform.CompileExpression(text, transform.CompileOptions{Known: map[string][]string{"param": c.facts.params()}})
	if err != nil {
		c.report("from.when", err)
		return
	}
	if name := e.Outside("header", "param"); name != "" {
		c.fault("from.when", 0, fmt.Sprintf("%s is not known when it is decided whether a payload is wanted, before it is read", name),
			"there are header, and param with what the listener's path and its params say; a filter step sees the records")
	}
	c.plan.when = e
}

// asIs makes the flow one that puts its payload into files, as it is: nothing can be read of it.
func (c *compiler) asIs(d Definition) {
	wants := ""
	for i, to := range d.To {
		for _, key := range []struct {
			is   bool
			name string
		}{{to.Table != "", "table"}, {to.Format != nil, "format"}, {to.Map != nil, "map"}, {to.Key != nil, "key"}, {to.Each != "", "each"},
			{to.When != "", "when"}, {to.Action != "", "action"}} {
			if key.is && wants == "" {
				wants = fmt.Sprintf("to[%d].%s", i, key.name)
			}
		}
	}
	switch {
	case len(d.Steps) > 0:
		wants = "steps"
	case d.From.Records != "":
		wants = "from.records"
	case d.Respond != nil:
		wants = "respond"
	case d.OnReject.To != nil:
		wants = "on_reject.to"
	case len(d.To) == 0:
		wants = "a flow without `to`"
	}
	c.plan.source.raw, c.plan.source.formats = true, []PayloadFormat{{Format: asIs{}}}
	if wants != "" {
		c.fault("from", 0, fmt.Sprintf("listener %q has no format: its payload cannot be read, and %s would need that", d.From.Listener, wants),
			"give the listener a `format`; without one a payload is put into a file as it is: write to: {connection: …, path: …} and nothing else")
	}
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
	if from.When != "" {
		c.fault("from.when", 0, "it is about payloads of a listener", "leave it out, or write a filter step")
	}
	spec := connector.ReadSpec{Table: from.Table, Query: from.Query, Path: from.Path}
	var formats []PayloadFormat
	if from.Format != nil {
		if spec.Format = c.format("from.format", from.Format); spec.Format != nil {
			formats = []PayloadFormat{{from.Format.Type, spec.Format}}
		}
	}
	c.decode(from, formats...)
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
	if spec.Format != nil {
		c.reread = func() (connector.Reader, error) {
			spec.Decode = c.plan.source.options
			return source.PrepareRead(spec)
		}
	}
	c.plan.source.binds = map[string]*transform.Mapping{}
	known := slices.Collect(maps.Keys(c.plan.params))
	if c.facts != nil {
		known = append(known, c.facts.params()...)
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
	c.facts, c.plan.heard = facts, facts.Declared
	if !c.plan.reads {
		c.plan.pathParams = facts.Params
	}
	c.options.Known["param"] = union(facts.params(), slices.Sorted(maps.Keys(c.plan.params)))
}

// declared checks the flow's own parameters.
func (c *compiler) declared(params map[string]Param) {
	var inPath []string
	if c.facts != nil {
		inPath = c.facts.Params
	}
	c.faults = append(c.faults, CheckParams(params, c.base+".params", inPath)...)
}

// orderBy compiles what the runs keep their order by.
func (c *compiler) orderBy(text string) {
	if text == "" || c.plan.Listener != "" && c.facts == nil {
		return
	}
	var payload []PayloadFormat
	if c.facts != nil && !c.plan.source.raw {
		if payload = c.plan.source.formats; payload == nil {
			payload = c.facts.Formats
		}
	}
	key, err := CompileKey(text, payload, c.options.Known)
	if err != nil {
		c.report("order_by", err)
	}
	c.plan.order = key
}

// decode settles how the source's formats are used, and what its records are: a flow is right for each of them.
func (c *compiler) decode(from *From, formats ...PayloadFormat) {
	s := &c.plan.source
	s.options.Records = from.Records
	if len(formats) == 0 {
		if from.Records != "" {
			c.fault("from.records", 0, "the source's records are rows: nothing is to be picked from them", "leave `records` out")
		}
		return
	}
	s.single = true
	for _, f := range formats {
		// A decoder over nothing tells whether the path fits the format.
		decoder, err := f.NewDecoder(strings.NewReader(""), s.options)
		if closer, ok := decoder.(io.Closer); ok && err == nil {
			closer.Close()
		}
		if definition := (*transform.DefinitionError)(nil); errors.As(err, &definition) {
			if fault := *definition; len(formats) > 1 {
				fault.Reason = fmt.Sprintf("a payload may be %s, and there %s", f.Name, fault.Reason)
				err = &fault
			}
			c.report("from.records", err)
		}
		var description transform.Description
		if d, ok := f.Format.(transform.Describer); ok {
			description = d.Describe(s.options)
		}
		s.single, c.options.UntypedSource = s.single && description.Single, c.options.UntypedSource || description.Untyped
		s.records = cmp.Or(from.Records, s.records, description.Records)
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
	as := ref.Options["as"]
	if as == nil && c.env.Named != nil {
		as = c.env.Named(ref.Type).Options["as"]
	}
	switch as {
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

// expression compiles a condition. It is an expression with the = that introduces one elsewhere, and without it.
func (c *compiler) expression(path, text string) *transform.Expression {
	bare := text
	if rest, ok := strings.CutPrefix(strings.TrimLeft(text, " "), "="); ok && !strings.HasPrefix(rest, "=") {
		bare = rest
	}
	e, err := transform.CompileExpression(bare, c.options)
	if definition := (*transform.DefinitionError)(nil); errors.As(err, &definition) {
		definition.Offset += len(text) - len(bare)
	}
	if err != nil {
		c.report(path, err)
		return nil
	}
	c.sees(path, e)
	return e
}

// sees notes what an expression reads of what encloses the record.
func (c *compiler) sees(path string, e *transform.Expression) {
	if c.behind(path, e.NeedsScope(), e.NeedsDoc(), false); c.element {
		c.needs(e.NeedsDoc(), false)
	} else {
		c.needs(e.NeedsScope(), false)
	}
}

func (c *compiler) mapping(path string, m transform.Map) *transform.Mapping {
	mapping, err := transform.CompileMap(m, c.options)
	if err != nil {
		c.report(path, err)
		return nil
	}
	if mapping.NeedsRaw() && len(c.plan.source.formats) > 1 {
		c.fault(path, 0, "gjson and xpath look into the text of one format, and the listener takes several", "write paths, or give each format a listener of its own")
	}
	if c.behind(path, mapping.NeedsScope(), mapping.NeedsDoc(), mapping.NeedsRaw()); !c.element {
		c.needs(mapping.NeedsScope(), mapping.NeedsRaw())
		return mapping
	}
	if c.needs(mapping.NeedsDoc(), false); mapping.NeedsRaw() {
		c.fault(path, 0, "gjson and xpath read the record's own text, which an element of it has not", "use them in a step before")
	}
	return mapping
}

func (c *compiler) needs(scope, raw bool) {
	c.plan.source.options.Scope = c.plan.source.options.Scope || scope
	c.plan.source.options.Raw = c.plan.source.options.Raw || raw
}

// steps adds the steps of a list, which stands at base and whose steps are called after what stands before their numbers.
func (c *compiler) steps(base, before string, steps []Step) {
	for i, s := range steps {
		path := fmt.Sprintf("%s[%d]", base, i)
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
		mark(s.Split != "", "split")
		mark(s.Flatten != nil, "flatten")
		mark(s.Nest != nil, "nest")
		mark(s.Sort != nil, "sort")
		mark(s.Dedupe != nil, "dedupe")
		mark(s.Aggregate != nil, "aggregate")
		mark(s.When != nil, "when")
		mark(s.Use != "", "use")
		if len(set) == 0 && c.faulty(path) {
			continue
		}
		if len(set) != 1 {
			reason := "a step needs one of filter, map, set, drop, rename, reject, split, flatten, nest, sort, dedupe, aggregate, when, use, go"
			if len(set) > 1 {
				reason = "this is more than one step: " + strings.Join(set, ", ")
			}
			c.fault(path, 0, reason, "write each step as a list item of its own")
			continue
		}
		c.added++
		number := fmt.Sprint(before, i+1)
		name := fmt.Sprintf("%s (%s)", number, set[0])
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
				c.lacks(path, "reject needs a condition", "write {when: …, reason: …}", "when")
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
		case "split":
			run = c.split(name, path, s.Split)
		case "flatten":
			run = c.flatten(name, path, s.Flatten)
		case "nest":
			c.gather(name, path, true, c.nest(name, path, s.Nest))
		case "sort":
			c.gather(name, path, false, c.sort(name, path, s.Sort))
		case "dedupe":
			c.gather(name, path, false, c.dedupe(name, path, s.Dedupe))
		case "aggregate":
			c.gather(name, path, true, c.aggregate(name, path, s.Aggregate))
		case "when":
			run = c.whenever(number, path, s.When)
		case "use":
			c.use(number, path, s.Use)
		}
		if run != nil {
			c.plan.steps = append(c.plan.steps, step{name: name, run: run})
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

// written is what a flow writes on one connection.
type written struct {
	connection connector.Destination
	output     *output
	specs      []connector.Target
	places     []string // of their definitions
}

func (w *written) add(t target, specs []connector.Target, place string) {
	w.output.targets = append(w.output.targets, t.moved(len(w.specs)))
	w.take(specs, place)
}

func (w *written) take(specs []connector.Target, place string) {
	for _, spec := range specs {
		w.specs, w.places = append(w.specs, spec), append(w.places, place)
	}
}

// moved returns the target with its writer's targets behind n others.
func (t target) moved(n int) target {
	t.at += n
	t.clearAt += n
	for action := range t.actions {
		t.actions[action] += n
	}
	return t
}

// to compiles the destinations, and the one of rejected records.
func (c *compiler) to(destinations []Destination, rejected *Destination) {
	connections := map[string]*written{}
	var order []*written
	for i, d := range destinations {
		place := fmt.Sprintf("to[%d]", i)
		connection, t, specs := c.destination(place, d, c.plan.mapped)
		if connection == nil {
			continue // it would repeat what was said
		}
		w := connections[d.Connection]
		if w == nil {
			w = &written{connection: connection, output: &output{connection: d.Connection}}
			connections[d.Connection], order = w, append(order, w)
		}
		w.add(t, specs, place)
	}
	late := c.toRejected(rejected, connections)
	for _, w := range order {
		if c.prepare(w) {
			c.parts(w, destinations, len(order))
			c.plan.outputs = append(c.plan.outputs, *w.output)
		}
	}
	if late != nil && c.prepare(late) {
		c.plan.rejected = late.output
	}
	if r := c.plan.rejected; r != nil && c.plan.joined >= 0 {
		w := connections[r.connection]
		c.plan.joined, r.encode, r.immediate = slices.Index(order, w), w.output.encode, w.output.immediate
	}
	c.plan.routed = len(c.plan.outputs) > 0
	for _, o := range c.plan.outputs {
		for _, t := range o.targets {
			c.plan.routed = c.plan.routed && (t.each != nil || t.when != nil)
		}
	}
}

// toRejected compiles the destination of rejected records. Rows of a table on a connection that the flow writes to are written in the same piece of work; of anything else it
// returns a piece of work of its own.
func (c *compiler) toRejected(d *Destination, connections map[string]*written) *written {
	const place = "on_reject.to"
	if d == nil {
		return nil
	}
	if !c.plan.rejects.keep {
		c.fault(place, 0, "with stop the first rejected record ends the run, and nothing is written", "write action: keep beside to")
	}
	if d.Commit != 0 {
		c.fault(place+".commit", 0, "rejected records are written when all others are", "leave it out")
	}
	outer, element := c.options, c.element
	c.options.Known = maps.Clone(outer.Known)
	delete(c.options.Known, "this") // a rejected record has its source's fields, and what enclosed it there
	delete(c.options.Known, "parent")
	c.element = false
	whole := *d
	whole.Commit = 0
	connection, t, specs := c.destination(place, whole, nil)
	c.options, c.element = outer, element
	if connection == nil {
		return nil
	}
	t.fill = specs[0].Format == nil && d.Table != "" || specs[0].Format != nil && specs[0].Format.MediaType() == keptCSV.MediaType()
	t.flat = t.fill && specs[0].Format != nil
	if w := connections[d.Connection]; w != nil && d.Table != "" {
		c.plan.rejected = &output{connection: d.Connection, targets: []target{t.moved(len(w.specs))}}
		w.take(specs, place)
		return nil
	}
	c.plan.joined = -1
	late := &written{connection: connection, output: &output{connection: d.Connection}}
	late.add(t, specs, place)
	return late
}

// prepare lets the connection check what is written to it; false when something of it is wrong.
func (c *compiler) prepare(w *written) bool {
	writer, err := w.connection.PrepareWrite(w.specs)
	if err != nil {
		c.reportTargets(w.places, err)
		return false
	}
	w.output.writer, w.output.writes = writer, len(w.specs)
	c.writer(w)
	c.plan.group = min(c.plan.group, writer.MaxRuns())
	return true
}

// actions are what a destination may do with a record.
var actions = []string{"insert", "upsert", "update", "delete", "replace"}

// destination compiles one destination, and returns what its connection is asked to write; no connection when there are faults. columns are the
// names of the records' fields, nil when unknown.
func (c *compiler) destination(place string, d Destination, columns []string) (connector.Destination, target, []connector.Target) {
	before := len(c.faults)
	if d.Connection == "" {
		c.lacks(place, "a destination needs a connection", "", "connection")
		return nil, target{}, nil
	}
	connection := c.connection(place+".connection", d.Connection)
	if connection == nil {
		return nil, target{}, nil
	}
	destination, ok := connection.(connector.Destination)
	if !ok {
		c.fault(place+".connection", 0, fmt.Sprintf("connection %q cannot be written to", d.Connection), "")
		return nil, target{}, nil
	}
	outer, element := c.options, c.element
	defer func() { c.options, c.element = outer, element }()
	t := target{table: d.Table, action: cmp.Or(d.Action, "insert"), list: d.Each}
	if d.Each != "" {
		t.each = c.mapping(place, transform.Map{{Name: "each", Term: transform.Term{Text: d.Each}}})
		c.elements(columns)
		columns = nil
	}
	if d.When != "" {
		t.when = c.expression(place+".when", d.When)
	}
	choice, chosen := strings.CutPrefix(d.Action, "=")
	switch {
	case chosen:
		if t.choose = c.expression(place+".action", choice); t.choose == nil {
			c.faults[len(c.faults)-1].Offset++ // behind the =
		}
	case !slices.Contains(actions, t.action):
		c.fault(place+".action", 0, fmt.Sprintf("action %q is not known", d.Action), "there are "+strings.Join(actions, ", "))
	}
	t.path = c.template(place+".path", d.Path, true)
	if d.Map != nil {
		if t.mapping = c.mapping(place+".map", d.Map); t.mapping != nil {
			columns = t.mapping.Columns()
		}
	}
	spec := connector.Target{Table: d.Table, Path: d.Path, Action: t.action, Each: d.Each != "", Key: d.Key, Create: d.Create, Exists: d.Exists, Commit: d.Commit, Columns: columns,
		Fixed: c.plan.source.reader == nil}
	spec.Encode.Columns = columns
	if d.Format != nil {
		spec.Format, spec.Encode.As = c.format(place+".format", d.Format), c.as(place+".format", d.Format)
		c.writes(place+".format", spec.Format, spec.Encode)
	} else if c.plan.source.raw {
		spec.Format, spec.Raw = asIs{}, true
	}
	if d.Commit < 0 {
		c.fault(place+".commit", 0, "a negative number means nothing here", "")
	}
	specs := []connector.Target{spec}
	faulty := len(c.faults) > before || c.faulty(place)
	switch {
	case faulty:
	case chosen:
		specs = c.choice(place, destination, spec, &t)
	case t.each != nil && t.action == "replace" && len(d.Key) > 0:
		if t.clear = c.clear(place, d); t.clear != nil {
			t.clearAt = 1
			spec.Action, spec.Columns = "delete", d.Key
			specs = append(specs, spec)
		}
	}
	if faulty || len(c.faults) > before { // the connection would repeat what was said
		return nil, target{}, nil
	}
	return destination, t, specs
}

// elements lets what is compiled next see the elements of a list of records with these fields, nil when they are unknown.
func (c *compiler) elements(columns []string) {
	c.element = true
	c.options.Known = maps.Clone(c.options.Known)
	delete(c.options.Known, "this")
	if columns != nil {
		c.options.Known["parent"] = columns
	}
}

// choice makes a target of each action that the connection takes: the record's is found when it is written.
func (c *compiler) choice(place string, connection connector.Destination, spec connector.Target, t *target) (specs []connector.Target) {
	t.actions = map[string]int{}
	var refused error
	for _, action := range actions {
		again := action == "insert" && spec.Commit > 0 && !spec.Fixed // see parts
		if again || action == "replace" && spec.Each {                // nobody could tell for a record without rows
			continue
		}
		spec.Action = action
		if _, err := connection.PrepareWrite([]connector.Target{spec}); err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		t.actions[action] = len(specs)
		specs = append(specs, spec)
	}
	if len(specs) < 2 {
		c.reportTargets([]string{place}, refused)
	}
	return specs
}

// clear compiles the key of a record that brings no rows: it must not come from one.
func (c *compiler) clear(place string, d Destination) *transform.Mapping {
	var key transform.Map
	for _, name := range d.Key {
		i := slices.IndexFunc(d.Map, func(f transform.MapField) bool { return f.Name == name })
		if i >= 0 {
			if one, err := transform.CompileMap(d.Map[i:i+1], c.options); err == nil && !one.NeedsElement() { // an error was told
				key = append(key, d.Map[i])
				continue
			}
		}
		c.fault(place+".key", 0, fmt.Sprintf("a record without elements in %s replaces its rows too, and its %q would come from one", d.Each, name),
			fmt.Sprintf("map it from the record: {%[1]s: parent.%[1]s}", name))
	}
	if len(key) < len(d.Key) {
		return nil
	}
	options := c.options
	options.Paths = nil // they are told of by the map
	mapping, err := transform.CompileMap(key, options)
	if err != nil {
		c.report(place+".map", err)
	}
	return mapping
}

// writer settles what the writer of a connection makes of paths and records: what values in paths look like, whether each record may have a
// path of its own, and whether it is written when it is handed over.
func (c *compiler) writer(w *written) {
	o := w.output
	o.encode = fileName
	_, o.immediate = o.writer.(connector.ImmediateWriter)
	writer, ok := o.writer.(connector.PathWriter)
	if ok {
		o.encode = writer.PathValue
	}
	if o.immediate && c.plan.source.raw {
		c.fault(w.places[0], 0, fmt.Sprintf("a payload that cannot be read is put into a file, and connection %q has none", o.connection), "give the listener a `format`")
	}
	for _, t := range o.targets {
		if !ok && t.path != nil && t.path.record {
			c.fault(w.places[t.at]+".path", 0, fmt.Sprintf("a destination on connection %q has one path for the whole run", o.connection),
				"leave ${record.…} out; there are param, header, query, run, message and now")
		}
	}
}

// parts settles after how many records the destinations of a connection are committed.
func (c *compiler) parts(w *written, destinations []Destination, connections int) {
	o := w.output
	var own []string // places of the destinations, and no others
	for i, d := range destinations {
		place := fmt.Sprintf("to[%d]", i)
		if !slices.Contains(w.places, place) {
			continue
		}
		if own = append(own, place); d.Commit == 0 {
			continue
		}
		path := place + ".commit"
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
	if o.commit != 0 && c.plan.gathers != "" {
		c.fault(own[0]+".commit", 0, fmt.Sprintf("%s needs all records of the run before it gives the first of many, so that no part of the run is done before its end", c.plan.gathers),
			"leave commit out")
	}
	if o.commit == 0 || c.plan.source.reader == nil {
		return
	}
	for i, t := range o.targets {
		if t.action == "insert" {
			c.fault(own[i]+".commit", 0, "another attempt reads the source from its first record, and insert would write the parts twice that are committed",
				"write action: upsert and a key, or leave commit out")
		}
	}
}

// reportTargets adds the faults of a connection's targets, each once: one destination may be several of them.
func (c *compiler) reportTargets(places []string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.reportTargets(places, e)
		}
		return
	}
	before := len(c.faults)
	var fault *connector.Fault
	if errors.As(err, &fault) {
		c.fault(places[fault.Target]+"."+fault.Key, fault.Offset, fault.Reason, fault.Hint)
	} else {
		c.report(places[0], err)
	}
	if len(c.faults) == before+1 && slices.Contains(c.faults[:before], c.faults[before]) {
		c.faults = c.faults[:before]
	}
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
