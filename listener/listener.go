package listener

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/transform"
)

// Defaults of a definition.
const (
	DefaultMaxBody = 10 << 20         // bytes
	DefaultTimeout = 30 * time.Second // of a synchronous call
)

// Listener is a definition that is ready to take calls: compiled, checked, immutable.
type Listener struct {
	Name  string
	Sync  bool // the answer is that of the run
	Check bool // the payload's syntax is checked before it is accepted

	Basic   bool // a login with its password is proof, as a token is
	InQuery bool // a token may be in the query

	MaxBody int64
	Timeout time.Duration

	definition Definition
	formats    []flow.PayloadFormat // chosen by Content-Type; none: payloads are stored as they are
	params     map[string]flow.Param
	reply      *flow.Replier // nil: the engine's receipt
	cors       *cors         // nil: pages of other origins are not answered
	once       *flow.Key     // nil: the sender's key alone
	window     time.Duration
	rate       *rate      // nil: no bound
	entry      EntryPoint // nil: calls come over http
	segments   []segment
	methods    []string
	plans      []*flow.Plan // by name; set by Attach
}

// Environment is what a listener's definition may refer to.
type Environment struct {
	// Format returns the format that ref names; path is the place of the definition, for faults.
	Format func(ref *transform.FormatRef, path string) (transform.Format, error)

	// Kinds are the kinds of the host.
	Kinds []Kind

	// Decode returns the function that a kind reads the keys of the named listener with, all but those that are the engine's.
	Decode func(name string, engines []string) func(options any) error

	Env Env // for every entry point; its Name is set by Compile
}

// engines are the keys that a kind of the host does not read.
var engines = []string{"type", "format", "check", "mode", "timeout", "max_body", "enabled", "idempotency"}

// Compile checks a definition. Paths of faults begin with base.
func Compile(name, base string, d Definition, env Environment) (*Listener, define.Faults) {
	l := &Listener{Name: name, definition: d, Sync: d.Mode == "sync", Check: d.Check != "none", MaxBody: cmp.Or(d.MaxBody, DefaultMaxBody),
		Timeout: cmp.Or(d.Timeout, DefaultTimeout), window: cmp.Or(d.Idempotency.Window, onceWindow)}
	c := &compiler{l: l, d: &l.definition, base: base}
	kinds := []string{"http"}
	for _, kind := range env.Kinds {
		if kinds = append(kinds, kind.Name); kind.Name != d.Type {
			continue
		}
		env.Env.Name = name
		entry, err := kind.New(env.Env, env.Decode(name, engines))
		c.faults = append(c.faults, define.FaultsOf(base, err)...)
		l.entry = entry
	}
	c.oneOf("type", d.Type, kinds...)
	c.oneOf("mode", d.Mode, "async", "sync")
	c.oneOf("check", d.Check, "syntax", "none")
	c.methods()
	c.formats(env)
	if d.http() {
		c.http()
	}
	if d.Idempotency.Key != "" && c.faults == nil { // else it may be that of a parameter, or a format, that has a fault
		key, err := flow.CompileKey(d.Idempotency.Key, l.formats, map[string][]string{"param": l.known()})
		c.faults = append(c.faults, define.FaultsOf(base+".idempotency.key", err)...)
		l.once = key
	}
	if d.http() {
		rate, faults := compileRate(d.Rate, base+".rate", env.Env.Now)
		c.faults, l.rate = append(c.faults, faults...), rate
	}
	if d.Idempotency.Window < 0 {
		c.fault("idempotency.window", 0, "a negative time means nothing here", "")
	}
	if d.MaxBody < 0 {
		c.fault("max_body", 0, "a negative size means nothing here", "")
	}
	if d.Timeout < 0 {
		c.fault("timeout", 0, "a negative time means nothing here", "")
	}
	if c.faults != nil {
		return nil, c.faults
	}
	return l, nil
}

// compiler collects the faults of one definition.
type compiler struct {
	l      *Listener
	d      *Definition
	base   string // path of the definition
	faults define.Faults
}

func (c *compiler) fault(key string, offset int, reason, hint string) {
	c.faults = append(c.faults, define.Fault{Path: c.base + "." + key, Offset: offset, Reason: reason, Hint: hint})
}

func (c *compiler) oneOf(key, value string, names ...string) {
	if value != "" && !slices.Contains(names, value) {
		c.fault(key, 0, fmt.Sprintf("%s %q is not known", key, value), "there are "+strings.Join(names, ", "))
	}
}

// formats makes the formats of payloads, which a Content-Type must tell apart.
func (c *compiler) formats(env Environment) {
	for i := range c.d.Format {
		key := fmt.Sprintf("format[%d]", i)
		f, err := env.Format(&c.d.Format[i], c.base+"."+key)
		if err != nil {
			c.faults = append(c.faults, define.FaultsOf(c.base+"."+key, err)...)
			continue
		}
		one := flow.PayloadFormat{Name: c.d.Format[i].Type, Format: f}
		for _, other := range c.l.formats {
			if other.Type() == one.Type() {
				c.fault(key, 0, fmt.Sprintf("no Content-Type tells %s from %s", one.Name, other.Name), "give each a listener of its own")
			}
		}
		c.l.formats = append(c.l.formats, one)
	}
}

// http compiles what listeners of http alone have.
func (c *compiler) http() {
	l, d := c.l, c.d
	c.oneOf("auth", d.Auth, "bearer", "basic")
	c.oneOf("auth_in", d.AuthIn, "header", "query")
	l.Basic, l.InQuery, l.params = d.Auth == "basic", d.AuthIn == "query", d.Params
	if d.Path == "" {
		c.faults = append(c.faults, define.Lacks(define.Fault{Path: c.base, Reason: "a listener needs a path", Hint: "write path: /…"}, "path"))
	} else if segments, err := parsePattern(d.Path); err != nil {
		c.fault("path", err.Offset, err.Reason, err.Hint)
	} else {
		l.segments = segments
	}
	c.faults = append(c.faults, flow.CheckParams(d.Params, c.base+".params", l.Facts().Params)...)
	if d.StrictType && len(d.Format) == 0 {
		c.fault("strict_type", 0, "the listener has no format: no Content-Type is better than another", "give it a `format`, or leave strict_type out")
	}
	var faults define.Faults
	if d.Answer != nil {
		l.reply, faults = flow.CompileReply(*d.Answer, c.base+".answer", l.known())
		if c.faults = append(c.faults, faults...); l.Sync {
			c.fault("answer", 0, "a synchronous listener answers what its flow responds", "write `respond` on the flow")
		}
	}
	l.cors, faults = compileCORS(d.CORS, c.base+".cors", l.methods, l.Basic)
	c.faults = append(c.faults, faults...)
}

func (c *compiler) methods() {
	methods := c.d.Method
	if len(methods) == 0 && c.d.http() {
		methods = []string{"POST"}
	}
	for i, m := range methods {
		key := fmt.Sprintf("method[%d]", i)
		switch upper := strings.ToUpper(m); upper {
		case "GET", "POST", "PUT", "PATCH", "DELETE":
			if slices.Contains(c.l.methods, upper) {
				c.fault(key, 0, upper+" is there twice", "")
			}
			c.l.methods = append(c.l.methods, upper)
		default:
			c.fault(key, 0, fmt.Sprintf("method %q is not known", m), "there are GET, POST, PUT, PATCH, DELETE")
		}
	}
}

// known returns the names of the parameters that a call may have.
func (l *Listener) known() []string {
	names := append(l.Facts().Params, slices.Sorted(maps.Keys(l.params))...)
	slices.Sort(names)
	return slices.Compact(names)
}

// Enabled reports whether the listener takes calls.
func (l *Listener) Enabled() bool { return l.definition.Enabled == nil || *l.definition.Enabled }

// Listens reports whether a call has anybody to go to.
func (l *Listener) Listens() bool { return l.Enabled() && len(l.plans) > 0 }

// Facts returns what flows need to know of the listener.
func (l *Listener) Facts() *flow.ListenerFacts {
	facts := &flow.ListenerFacts{Formats: l.formats, Sync: l.Sync, Declared: l.params}
	for _, s := range l.segments {
		if s.param {
			facts.Params = append(facts.Params, s.text)
		}
	}
	return facts
}

// Path returns the pattern as it was defined.
func (l *Listener) Path() string { return l.definition.Path }

// HTTP reports whether the listener's calls come over HTTP: whether it is of the built-in kind.
func (l *Listener) HTTP() bool { return l.entry == nil }

// Methods returns the methods that the listener waits for.
func (l *Listener) Methods() []string { return slices.Clone(l.methods) }

// Plans returns the flows that each payload is for, by name.
func (l *Listener) Plans() []*flow.Plan { return l.plans }

// Attach gives the listener the enabled flows that read it or that it starts. It belongs to compiling a set: nobody calls it later. A
// synchronous listener has exactly one.
func (l *Listener) Attach(plans []*flow.Plan) define.Faults {
	slices.SortFunc(plans, func(a, b *flow.Plan) int { return strings.Compare(a.Name, b.Name) })
	l.plans = plans
	if l.Sync && len(plans) > 1 {
		return define.Faults{{Path: define.Join("listeners", l.Name),
			Reason: fmt.Sprintf("a synchronous listener has one flow that answers, this one has %d: %s and %s", len(plans), plans[0].Name, plans[1].Name),
			Hint:   "write mode: async, or give the flows listeners of their own"}}
	}
	return nil
}

// reads reports whether a flow makes records of the payload.
func (l *Listener) reads() bool {
	for _, p := range l.plans {
		if p.Reads() {
			return true
		}
	}
	return false
}
