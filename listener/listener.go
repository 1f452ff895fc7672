package listener

import (
	"cmp"
	"fmt"
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
	Name   string
	Sync   bool             // the answer is that of the run
	Format transform.Format // nil: payloads are stored as they are
	Check  bool             // the payload's syntax is checked before it is accepted

	Basic   bool // a login with its password is proof, as a token is
	InQuery bool // a token may be in the query

	MaxBody int64
	Timeout time.Duration

	definition Definition
	once       *flow.Key // nil: the sender's key alone
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
	l := &Listener{Name: name, definition: d, Sync: d.Mode == "sync", Check: d.Check != "none", Basic: d.http() && d.Auth == "basic", InQuery: d.http() && d.AuthIn == "query",
		MaxBody: cmp.Or(d.MaxBody, DefaultMaxBody), Timeout: cmp.Or(d.Timeout, DefaultTimeout), window: cmp.Or(d.Idempotency.Window, onceWindow)}
	var faults define.Faults
	fault := func(key string, offset int, reason, hint string) {
		faults = append(faults, define.Fault{Path: base + "." + key, Offset: offset, Reason: reason, Hint: hint})
	}
	oneOf := func(key, value string, names ...string) {
		if value != "" && !slices.Contains(names, value) {
			fault(key, 0, fmt.Sprintf("%s %q is not known", key, value), "there are "+strings.Join(names, ", "))
		}
	}
	kinds := []string{"http"}
	for _, kind := range env.Kinds {
		if kinds = append(kinds, kind.Name); kind.Name != d.Type {
			continue
		}
		env.Env.Name = name
		entry, err := kind.New(env.Env, env.Decode(name, engines))
		faults = append(faults, define.FaultsOf(base, err)...)
		l.entry = entry
	}
	oneOf("type", d.Type, kinds...)
	oneOf("mode", d.Mode, "async", "sync")
	oneOf("check", d.Check, "syntax", "none")
	methods := d.Method
	if d.http() {
		oneOf("auth", d.Auth, "bearer", "basic")
		oneOf("auth_in", d.AuthIn, "header", "query")
		if d.Path == "" {
			faults = append(faults, define.Lacks(define.Fault{Path: base, Reason: "a listener needs a path", Hint: "write path: /…"}, "path"))
		} else if segments, err := parsePattern(d.Path); err != nil {
			fault("path", err.Offset, err.Reason, err.Hint)
		} else {
			l.segments = segments
		}
		if len(methods) == 0 {
			methods = []string{"POST"}
		}
	}
	for i, m := range methods {
		switch upper := strings.ToUpper(m); upper {
		case "GET", "POST", "PUT", "PATCH", "DELETE":
			if slices.Contains(l.methods, upper) {
				fault(fmt.Sprintf("method[%d]", i), 0, upper+" is there twice", "")
			}
			l.methods = append(l.methods, upper)
		default:
			fault(fmt.Sprintf("method[%d]", i), 0, fmt.Sprintf("method %q is not known", m), "there are GET, POST, PUT, PATCH, DELETE")
		}
	}
	if d.Format != nil {
		f, err := env.Format(d.Format, base+".format")
		if err != nil {
			faults = append(faults, define.FaultsOf(base+".format", err)...)
		}
		l.Format = f
	}
	if d.Idempotency.Key != "" && faults == nil {
		key, err := flow.CompileKey(d.Idempotency.Key, l.Format, map[string][]string{"param": l.Facts().Params})
		faults = append(faults, define.FaultsOf(base+".idempotency.key", err)...)
		l.once = key
	}
	if d.http() {
		var more define.Faults
		l.rate, more = compileRate(d.Rate, base+".rate", env.Env.Now)
		faults = append(faults, more...)
	}
	if d.Idempotency.Window < 0 {
		fault("idempotency.window", 0, "a negative time means nothing here", "")
	}
	if d.MaxBody < 0 {
		fault("max_body", 0, "a negative size means nothing here", "")
	}
	if d.Timeout < 0 {
		fault("timeout", 0, "a negative time means nothing here", "")
	}
	if faults != nil {
		return nil, faults
	}
	return l, nil
}

// Enabled reports whether the listener takes calls.
func (l *Listener) Enabled() bool { return l.definition.Enabled == nil || *l.definition.Enabled }

// Facts returns what flows need to know of the listener.
func (l *Listener) Facts() *flow.ListenerFacts {
	facts := &flow.ListenerFacts{Format: l.Format, Sync: l.Sync}
	for _, s := range l.segments {
		if s.param {
			facts.Params = append(facts.Params, s.text)
		}
	}
	return facts
}

// Path returns the pattern as it was defined.
func (l *Listener) Path() string { return l.definition.Path }

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
