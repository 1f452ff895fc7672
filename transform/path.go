package transform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr/parser"
)

// DefinitionError is a piece of a definition that cannot work: where in its text, why, and what to write instead.
type DefinitionError struct {
	Path   string // place inside a larger definition, such as `total` in a map; "" for the text itself
	Offset int    // byte offset in the text
	Reason string
	Hint   string
}

// Error returns the place, the reason and the hint.
func (e *DefinitionError) Error() string {
	s := e.Reason
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Env is what a run's expressions see beside the record. It does not change while a run executes.
type Env struct {
	Param   Value
	Query   Late
	Header  Late // names are found in any case
	Message Late
	Run     Late
	Error   Value
	Now     time.Time      // start of the run's first attempt
	Zone    *time.Location // of dates; nil is UTC

	// Sights says which of the paths in CompileOptions.Paths have led somewhere; nil: nobody asks. The terms of one map are computed by one
	// goroutine at a time, those of different maps may be by several.
	Sights []Sight
}

// Late is a value that is made when it is asked for: most flows ask for few of those in [Env]. Without Make it is null. It is safe for
// concurrent use.
type Late struct {
	Make  func() Value
	once  sync.Once
	value Value
}

// Get returns the value, made once.
func (l *Late) Get() Value {
	if l.Make != nil {
		l.once.Do(func() { l.value = l.Make() })
	}
	return l.value
}

// Sight is what became of a path in the records so far.
type Sight uint8

const (
	Unseen Sight = iota // no record has told yet
	Missed              // the records that could tell have no such path
	Found               // some record has it
)

// Paths collects the paths that the maps of a flow read from records, so that a run can tell those that no record has. The zero value is
// ready.
type Paths struct{ texts []string }

// Len returns how many there are: the length of Env.Sights.
func (p *Paths) Len() int { return len(p.texts) }

// Missed returns the paths that records were asked for and that none of them has, each once.
func (p *Paths) Missed(sights []Sight) []string {
	var missed []string
	for i, text := range p.texts {
		if sights[i] == Missed && !slices.Contains(missed, text) {
			missed = append(missed, text)
		}
	}
	return missed
}

// root is what a path starts from.
type root uint8

const (
	rootThis root = iota
	rootParent
	rootDoc
	rootIndex
	rootParam
	rootQuery
	rootHeader
	rootMessage
	rootRun
	rootError
)

// roots are the names that are the engine's and win over fields.
var roots = map[string]root{"this": rootThis, "parent": rootParent, "doc": rootDoc, "index": rootIndex, "param": rootParam, "query": rootQuery,
	"header": rootHeader, "message": rootMessage, "run": rootRun, "error": rootError}

// rootSet is which roots something reads.
type rootSet uint16

func (s rootSet) with(r root) rootSet { return s | 1<<r }

func (s rootSet) without(r root) rootSet { return s &^ (1 << r) }

// needScope reports whether one of the roots is what encloses a record.
func (s rootSet) needScope() bool { return s&(1<<rootParent|1<<rootDoc) != 0 }

// of returns the root's value.
func (r root) of(env *Env, rec *Record) Value {
	switch r {
	case rootThis:
		if rec != nil {
			return rec.Value
		}
	case rootParent:
		if rec != nil && rec.Scope != nil {
			return rec.Scope.Parent
		}
	case rootDoc:
		if rec != nil && rec.Scope != nil {
			return rec.Scope.Doc
		}
		if rec != nil {
			return rec.Source
		}
	case rootIndex:
		if rec != nil {
			return rec.index()
		}
	case rootParam:
		return env.Param
	case rootQuery:
		return env.Query.Get()
	case rootHeader:
		return env.Header.Get()
	case rootMessage:
		return env.Message.Get()
	case rootRun:
		return env.Run.Get()
	case rootError:
		return env.Error
	}
	return Null
}

// Path leads from a record, or from one of the engine's names, to a value: `a.b`, `a[0]`, `a[*]`, `a["odd name"]`, `@attr`, `#text`,
// `header["X-Kind"]`. It never changes and is safe for concurrent use. The zero Path is `this`.
type Path struct {
	text  string
	root  root
	steps []pathStep
}

// pathStep goes to a field, to an element, or to all elements.
type pathStep struct {
	name  string
	index int
	kind  stepKind
	last  *atomic.Pointer[place] // where the field stood in the shape that was seen last
}

type stepKind uint8

const (
	stepField stepKind = iota
	stepIndex
	stepAll
)

type place struct {
	shape *Shape
	index int
}

// CompilePath reads a path and checks the names that it begins with. The error is a *DefinitionError.
func CompilePath(text string, options CompileOptions) (Path, error) {
	p, err := ParsePath(text)
	if err != nil || len(p.steps) == 0 || p.steps[0].kind != stepField {
		return p, err
	}
	for name, root := range roots {
		if root == p.root {
			if fault := options.unknown(name, p.steps[0].name); fault != nil {
				return p, fault
			}
		}
	}
	return p, nil
}

// ParsePath reads a path. The error is a *DefinitionError.
func ParsePath(text string) (Path, error) {
	p := Path{text: text}
	fail := func(offset int, reason, hint string) (Path, error) {
		return Path{}, &DefinitionError{Offset: offset, Reason: reason, Hint: hint}
	}
	noPath := func(offset int) (Path, error) {
		hint := "write = " + strings.TrimSpace(text)
		if _, err := parser.Parse(text); err != nil {
			hint = fmt.Sprintf("write [%q] for a field of this name", text)
		}
		return fail(offset, text+" is no path", hint)
	}
	if strings.TrimSpace(text) == "" {
		return fail(0, "the path is empty", "write the name of a field")
	}
	at, first := 0, true
	for at < len(text) {
		switch c := text[at]; {
		case c == '[':
			if quote := at + 1; quote < len(text) && (text[quote] == '"' || text[quote] == '\'') {
				closing := strings.Index(text[quote+1:], string(text[quote])+"]")
				if closing < 0 {
					return fail(at, "the name in brackets is not closed", `write ["odd name"]`)
				}
				p.steps = append(p.steps, fieldStep(text[quote+1:quote+1+closing]))
				at = quote + closing + 3
				first = false
				continue
			}
			end := strings.IndexByte(text[at:], ']')
			if end < 0 {
				return fail(at, "[ is not closed", "")
			}
			inner := text[at+1 : at+end]
			index, err := strconv.Atoi(inner)
			switch {
			case inner == "*":
				p.steps = append(p.steps, pathStep{kind: stepAll})
			case err == nil && '0' <= inner[0] && inner[0] <= '9':
				p.steps = append(p.steps, pathStep{kind: stepIndex, index: index})
			default:
				return fail(at+1, fmt.Sprintf("[%s] is neither a number, * nor a quoted name", inner), `write [0], [*] or ["odd name"]`)
			}
			at += end + 1
		case c == '.' && !first:
			at++
			n := nameLen(text[at:])
			if n == 0 {
				return noPath(at)
			}
			p.steps = append(p.steps, fieldStep(text[at:at+n]))
			at += n
		case first:
			n := nameLen(text)
			if n == 0 {
				return noPath(at)
			}
			name := text[:n]
			if r, ok := roots[name]; ok {
				p.root = r
			} else {
				p.steps = append(p.steps, fieldStep(name))
			}
			at = n
		default:
			return noPath(at)
		}
		first = false
	}
	return p, nil
}

func fieldStep(name string) pathStep {
	return pathStep{name: name, last: &atomic.Pointer[place]{}}
}

// nameLen returns the length of the name that text begins with: letters, digits, _ - $ and : inside, and @ or # in front.
func nameLen(text string) int {
	n := 0
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		ok := r == '_' || r == '$' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) ||
			n == 0 && (r == '@' || r == '#') || n > 0 && (r == '-' || r == ':')
		if !ok || r == utf8.RuneError {
			break
		}
		n += size
	}
	if text[:n] == "@" || text[:n] == "#" {
		return 0
	}
	return n
}

// String returns the path as it was written.
func (p Path) String() string { return p.text }

// Top returns the name of the top-level field of the record that the path reads; false when it reads none or the whole record.
func (p Path) Top() (string, bool) {
	if p.root != rootThis || len(p.steps) == 0 || p.steps[0].kind != stepField {
		return "", false
	}
	return p.steps[0].name, true
}

// Last returns the name of the field that the path leads to; false when it leads to none: to the record, an element or all of a list.
func (p Path) Last() (string, bool) {
	if n := len(p.steps); n > 0 && p.steps[n-1].kind == stepField {
		return p.steps[n-1].name, true
	}
	return "", false
}

// Eval returns the value that the path leads to from the record; null when it leads nowhere. rec may be nil for paths that start from
// one of the engine's names.
func (p Path) Eval(env *Env, rec *Record) Value {
	v := p.root.of(env, rec)
	if p.root == rootHeader && len(p.steps) > 0 && p.steps[0].kind == stepField {
		return walk(fold(v, p.steps[0].name), p.steps[1:])
	}
	return walk(v, p.steps)
}

// see notes whether the path, the i-th of Paths, leads somewhere in the record. v is what it leads to.
func (p *Path) see(env *Env, i int, rec *Record, v Value) {
	if env == nil || i >= len(env.Sights) || env.Sights[i] == Found {
		return
	}
	sight := Found
	if v.Kind() == KindNull || v.Kind() == KindList {
		sight = look(rec.Value, p.steps)
	}
	env.Sights[i] = max(env.Sights[i], sight)
}

// look reports whether v has what the steps lead to. Where a value on the way is null, or a list empty or short, nobody can tell.
func look(v Value, steps []pathStep) Sight {
	for i := range steps {
		switch s := &steps[i]; {
		case v.Kind() == KindNull:
			return Unseen
		case s.kind == stepField:
			field, ok := v.Get(s.name)
			if !ok {
				return Missed
			}
			v = field
		case s.kind == stepIndex && v.Kind() == KindList:
			if s.index >= v.Len() {
				return Unseen
			}
			v = v.At(s.index)
		case s.kind == stepAll:
			best := Unseen
			for _, element := range v.Values() {
				best = max(best, look(element, steps[i+1:]))
			}
			return best
		}
	}
	return Found
}

// fold returns the field of that name in any case.
func fold(v Value, name string) Value {
	if found, ok := v.Get(name); ok {
		return found
	}
	for n, found := range v.Fields() {
		if strings.EqualFold(n, name) {
			return found
		}
	}
	return Null
}

func walk(v Value, steps []pathStep) Value {
	for i := range steps {
		switch s := &steps[i]; s.kind {
		case stepField:
			v = s.field(v)
		case stepIndex:
			if v.Kind() == KindList {
				if s.index >= v.Len() {
					return Null
				}
				v = v.At(s.index)
			} else if s.index > 0 {
				return Null
			} // [0] of one value is that value
		case stepAll:
			var all []Value
			all = collect(all, v, steps[i+1:])
			return List(all)
		}
	}
	return v
}

// collect appends what the steps lead to from each element of v.
func collect(all []Value, v Value, steps []pathStep) []Value {
	for _, element := range v.Values() {
		all = reach(all, element, steps)
	}
	return all
}

func reach(all []Value, v Value, steps []pathStep) []Value {
	for i := range steps {
		switch s := &steps[i]; s.kind {
		case stepAll:
			return collect(all, v, steps[i+1:])
		case stepField:
			f, ok := v.Get(s.name)
			if !ok {
				return all // an element without the field adds nothing
			}
			v = f
		default:
			v = walk(v, steps[i:i+1])
		}
	}
	return append(all, v)
}

// field returns the field's value, looking first where it stood in the shape that was seen last.
func (s *pathStep) field(v Value) Value {
	if v.Kind() != KindObject {
		return Null
	}
	shape := v.node().shape
	if p := s.last.Load(); p != nil && p.shape == shape {
		if p.index < 0 {
			return Null
		}
		return v.node().values[p.index]
	}
	i := shape.Index(s.name)
	s.last.Store(&place{shape, i})
	if i < 0 {
		return Null
	}
	return v.node().values[i]
}
