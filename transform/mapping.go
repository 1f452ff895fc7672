package transform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/antchfx/xmlquery"
	"github.com/antchfx/xpath"
	"github.com/tidwall/gjson"
)

// Map is what a person writes for the fields of an output: names with terms, in the order of the output.
type Map []MapField

// MapField is one field of a Map.
type MapField struct {
	Name string
	Term Term
}

// Term is what a person writes for one value. One of its fields is set; the zero Term is the constant null.
type Term struct {
	Text     string // a path, or after = an expression
	Constant Value  // a number, a bool or null as such
	Object   Map
	List     []Term
	Each     string // path of a list: Object is made for each of its elements
	GJSON    string // a GJSON path on the record's own text
	XPath    string // an XPath on the record's own element
}

// UnmarshalJSON reads a map, keeping the order of its fields.
func (m *Map) UnmarshalJSON(data []byte) error {
	t, err := parseTerm(data)
	if err != nil {
		return err
	}
	if t.Object == nil || t.Each != "" {
		return &DefinitionError{Reason: "fields with their paths are expected here", Hint: "write {name: path, other: = expression}"}
	}
	*m = t.Object
	return nil
}

// MarshalJSON writes the map as UnmarshalJSON reads it.
func (m Map) MarshalJSON() ([]byte, error) { return Term{Object: m}.MarshalJSON() }

// UnmarshalJSON reads a term.
func (t *Term) UnmarshalJSON(data []byte) error {
	parsed, err := parseTerm(data)
	*t = parsed
	return err
}

// MarshalJSON writes the term as UnmarshalJSON reads it.
func (t Term) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := t.write(&b)
	return b.Bytes(), err
}

func (t Term) write(b *bytes.Buffer) error {
	text := func(s string) {
		quoted, _ := json.Marshal(s) // cannot fail
		b.Write(quoted)
	}
	switch {
	case t.Text != "":
		text(t.Text)
	case t.GJSON != "":
		b.WriteString(`{"gjson":`)
		text(t.GJSON)
		b.WriteByte('}')
	case t.XPath != "":
		b.WriteString(`{"xpath":`)
		text(t.XPath)
		b.WriteByte('}')
	case t.Each != "":
		b.WriteString(`{"each":`)
		text(t.Each)
		b.WriteString(`,"map":`)
		if err := (Term{Object: t.Object}).write(b); err != nil {
			return err
		}
		b.WriteByte('}')
	case t.Object != nil:
		b.WriteByte('{')
		for i, f := range t.Object {
			if i > 0 {
				b.WriteByte(',')
			}
			text(f.Name)
			b.WriteByte(':')
			if err := f.Term.write(b); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case t.List != nil:
		b.WriteByte('[')
		for i, e := range t.List {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := e.write(b); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case t.Constant.Kind() == KindNull:
		b.WriteString("null")
	case t.Constant.Kind() == KindNumber || t.Constant.Kind() == KindBool:
		b.WriteString(t.Constant.Text())
	default:
		return fmt.Errorf("transform: a constant can be a number, a bool or null, not %s", t.Constant.Kind())
	}
	return nil
}

func parseTerm(data []byte) (Term, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	t, err := readTerm(d, "")
	if err != nil {
		return t, err
	}
	if _, err := d.Token(); err != io.EOF {
		return t, &DefinitionError{Reason: "something follows the value"}
	}
	return t, nil
}

func readTerm(d *json.Decoder, path string) (Term, error) {
	token, err := d.Token()
	if err != nil {
		return Term{}, &DefinitionError{Path: path, Reason: err.Error()}
	}
	switch token := token.(type) {
	case string:
		if token == "" {
			return Term{}, &DefinitionError{Path: path, Reason: "the path is empty", Hint: "write = '' for an empty text"}
		}
		return Term{Text: token}, nil
	case json.Number:
		return Term{Constant: Number(token.String())}, nil
	case bool:
		return Term{Constant: Bool(token)}, nil
	case json.Delim:
		if token == '[' {
			list := []Term{}
			for d.More() {
				e, err := readTerm(d, path+"["+strconv.Itoa(len(list))+"]")
				if err != nil {
					return Term{}, err
				}
				list = append(list, e)
			}
			d.Token()
			return Term{List: list}, nil
		}
		return readObject(d, path)
	}
	return Term{}, nil
}

func readObject(d *json.Decoder, path string) (Term, error) {
	object := Map{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return Term{}, &DefinitionError{Path: path, Reason: err.Error()}
		}
		name := token.(string)
		term, err := readTerm(d, below(path, name))
		if err != nil {
			return Term{}, err
		}
		if slices.ContainsFunc(object, func(f MapField) bool { return f.Name == name }) {
			return Term{}, &DefinitionError{Path: below(path, name), Reason: fmt.Sprintf("field %q is there twice", name)}
		}
		object = append(object, MapField{name, term})
	}
	d.Token()
	if len(object) == 1 && object[0].Term.Text != "" {
		switch object[0].Name {
		case "gjson":
			return Term{GJSON: object[0].Term.Text}, nil
		case "xpath":
			return Term{XPath: object[0].Term.Text}, nil
		}
	}
	each := slices.IndexFunc(object, func(f MapField) bool { return f.Name == "each" })
	inner := slices.IndexFunc(object, func(f MapField) bool { return f.Name == "map" })
	if len(object) == 2 && each >= 0 && inner >= 0 {
		t := Term{Each: object[each].Term.Text, Object: object[inner].Term.Object}
		if t.Each == "" || t.Object == nil || object[inner].Term.Each != "" {
			return Term{}, &DefinitionError{Path: path, Reason: "each needs the path of a list, and map the fields for its elements", Hint: "write {each: lines[*], map: {sku: sku}}"}
		}
		return t, nil
	}
	return Term{Object: object}, nil
}

// below joins a path and a name as definitions' faults have them.
func below(path, name string) string {
	if nameLen(name) != len(name) || name == "" {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// Mapping is a compiled [Map]. It never changes and is safe for concurrent use.
type Mapping struct {
	names  []string
	fields []eval
	copies []copied // by field
	shape  *Shape
	rest   bool     // "*": "*"
	before int      // fields that stand before the rest
	lead   *Shape   // of them
	read   []string // top-level fields that a rest leaves out
	roots  rootSet
	raw    bool
}

// CompileMap compiles a map. The error joins a *DefinitionError for every fault, with paths below the map.
func CompileMap(m Map, options CompileOptions) (*Mapping, error) {
	c := &mapCompiler{options: options}
	compiled := c.mapping("", m)
	if c.faults != nil {
		return nil, errors.Join(c.faults...)
	}
	return compiled, nil
}

// Columns returns the names of the output's fields in order; nil when they depend on the records.
func (m *Mapping) Columns() []string {
	if m.rest {
		return nil
	}
	return slices.Clone(m.names)
}

// NeedsScope reports whether the map reads parent or doc.
func (m *Mapping) NeedsScope() bool { return m.roots.needScope() }

// NeedsDoc reports whether the map reads doc.
func (m *Mapping) NeedsDoc() bool { return m.roots&(1<<rootDoc) != 0 }

// NeedsElement reports whether the map reads anything of the record itself, rather than of what encloses it.
func (m *Mapping) NeedsElement() bool {
	return m.rest || m.raw || len(m.read) > 0 || m.roots&(1<<rootThis|1<<rootIndex) != 0
}

// NeedsRecord reports whether the map reads anything of the record.
func (m *Mapping) NeedsRecord() bool {
	return m.rest || m.raw || len(m.read) > 0 || m.roots&(1<<rootThis|1<<rootParent|1<<rootDoc|1<<rootIndex) != 0
}

// NeedsRaw reports whether the map reads the record's own text.
func (m *Mapping) NeedsRaw() bool { return m.raw }

// Apply returns the output's fields for a record, which may be nil for a map that reads none. The error is a *Fault that names the field.
func (m *Mapping) Apply(env *Env, rec *Record) (Value, error) {
	state := mapper{mapping: m, machine: machine{env: env}}
	values, err := state.values(rec)
	if err != nil {
		return Null, err
	}
	return m.object(nil, rootThis.of(env, rec), values), nil
}

// ApplyAll makes the value of each record of the batch what the map says, in the batch's memory. A record that it cannot be made for keeps its
// value and gets its Err set, a *Fault that names the field; those that are rejected already stay as they are.
func (m *Mapping) ApplyAll(env *Env, b *Batch) {
	state := newMapper(m, env, b)
	for i := range b.Records {
		if r := &b.Records[i]; r.Err == nil {
			r.Err = state.apply(r)
		}
	}
}

// copied is a field of a map that is nothing but a top-level field of the record.
type copied struct {
	name  string // "": it is computed
	sight int    // its place in Env.Sights
}

// mapper applies a map to the records of one batch. Where fields are copied from is found once for all records of a shape.
type mapper struct {
	mapping *Mapping
	machine machine
	many    bool   // it is worth while to look for places
	shape   *Shape // of the record before; nil: places means nothing
	places  []int  // of the fields in records of the shape
}

// What is in mapper.places beside places.
const (
	absent   = -1 // the record has no such field
	computed = -2
)

// manyRecords is how many records make it worth while to look for places: what computes a field remembers where it found it last.
const manyRecords = 4

func newMapper(m *Mapping, env *Env, b *Batch) *mapper {
	return &mapper{mapping: m, machine: machine{env: env, batch: b}, many: len(b.Records) >= manyRecords}
}

// apply makes the record's value what the map says.
func (m *mapper) apply(r *Record) error {
	values, err := m.values(r)
	if err == nil {
		r.Value = m.mapping.object(m.machine.batch, r.Value, values)
	}
	return err
}

// values computes the fields. Each has a budget of steps of its own, and all together one of memory.
func (m *mapper) values(rec *Record) ([]Value, error) {
	m.machine.at(rec)
	values := m.machine.values(len(m.mapping.fields))
	var from []Value
	if m.many && rec.Value.Kind() == KindObject {
		if from = rec.Value.node().values; rec.Value.node().shape != m.shape {
			m.find(rec.Value.node().shape)
		}
	}
	for i, f := range m.mapping.fields {
		if from != nil && m.places[i] != computed {
			if at := m.places[i]; at != absent {
				values[i] = from[at]
			}
			continue
		}
		v, err := f(&m.machine)
		if err != nil {
			return nil, &Fault{Kind: "input", Field: m.mapping.names[i], Reason: err.Error(), Err: err}
		}
		values[i] = v
		m.machine.steps = 0
	}
	return values, nil
}

// find notes where the fields that are copied stand in a shape, and that records have them.
func (m *mapper) find(shape *Shape) {
	m.shape, m.places = shape, m.places[:0]
	for _, c := range m.mapping.copies {
		at := computed
		if c.name != "" {
			at = shape.Index(c.name)
			if sights := m.machine.env.Sights; c.sight < len(sights) {
				sights[c.sight] = max(sights[c.sight], []Sight{Missed, Found}[min(at+1, 1)])
			}
		}
		m.places = append(m.places, at)
	}
}

// object returns the fields as an object, with the rest of the record where the map asks for it. b may be nil.
func (m *Mapping) object(b *Batch, record Value, values []Value) Value {
	switch {
	case !m.rest && b != nil:
		return b.Object(m.shape, values)
	case !m.rest:
		return NewObject(m.shape, values)
	}
	object := NewBuilder(m.lead)
	object.values = slices.Clone(values[:m.before])
	for name, v := range record.Fields() {
		if m.shape.Index(name) < 0 && !slices.Contains(m.read, name) {
			object.Add(name, v)
		}
	}
	for i := m.before; i < len(values); i++ {
		object.Add(m.names[i], values[i])
	}
	return object.Object()
}

// mapCompiler compiles terms and collects their faults.
type mapCompiler struct {
	options CompileOptions
	faults  []error
	current *Mapping // whose terms are compiled
	copied  copied   // what the path compiled last is
}

// mapping compiles the fields of a map that stands at path.
func (c *mapCompiler) mapping(path string, m Map) *Mapping {
	outer := c.current
	defer func() { c.current = outer }()
	compiled := &Mapping{}
	c.current = compiled
	if i := slices.IndexFunc(m, func(f MapField) bool { return f.Name == "*" }); i >= 0 {
		if m[i].Term.Text != "*" {
			c.fault(below(path, "*"), 0, `the field "*" can only be "*": all fields that nothing has read`, "")
		}
		compiled.rest, compiled.before = true, i
		m = slices.Delete(slices.Clone(m), i, i+1)
	}
	compiled.names, compiled.fields, compiled.copies = c.fields(path, m)
	if c.faults == nil {
		compiled.shape = NewShape(compiled.names...)
		compiled.lead = NewShape(compiled.names[:compiled.before]...)
	}
	return compiled
}

// fields compiles named terms.
func (c *mapCompiler) fields(path string, m Map) (names []string, fields []eval, copies []copied) {
	for _, f := range m {
		at := below(path, f.Name)
		if f.Name == "" {
			c.fault(at, 0, "a field needs a name", "")
		}
		if slices.Contains(names, f.Name) {
			c.fault(at, 0, fmt.Sprintf("field %q is there twice", f.Name), "")
		}
		c.copied = copied{}
		names, fields = append(names, f.Name), append(fields, c.term(at, f.Term))
		if f.Term.Text == "" {
			c.copied = copied{} // it is of a term inside
		}
		copies = append(copies, c.copied)
	}
	return names, fields, copies
}

func (c *mapCompiler) fault(path string, offset int, reason, hint string) {
	c.faults = append(c.faults, &DefinitionError{Path: path, Offset: offset, Reason: reason, Hint: hint})
}

// report adds the fault of a text that stands at path; shift is where the text begins in what was written.
func (c *mapCompiler) report(path string, shift int, err error) eval {
	d := &DefinitionError{Reason: err.Error()}
	errors.As(err, &d)
	c.fault(path, d.Offset+shift, d.Reason, d.Hint)
	return constantOf(Null)
}

// note takes down what a term reads.
func (c *mapCompiler) note(roots rootSet, fields ...string) {
	c.current.roots |= roots
	for _, name := range fields {
		if !slices.Contains(c.current.read, name) {
			c.current.read = append(c.current.read, name)
		}
	}
}

// path reads a path and notes what it reads.
func (c *mapCompiler) path(text string) (Path, error) {
	p, err := CompilePath(text, c.options)
	if err != nil {
		return p, err
	}
	c.note(rootSet(0).with(p.root))
	if top, ok := p.Top(); ok {
		c.note(0, top)
	}
	return p, nil
}

func (c *mapCompiler) term(path string, t Term) eval {
	switch {
	case t.GJSON != "":
		return c.gjson(path, t.GJSON)
	case t.XPath != "":
		return c.xpath(path, t.XPath)
	case t.Each != "":
		return c.each(path, t)
	case t.Object != nil:
		names, fields, _ := c.fields(path, t.Object)
		if c.faults != nil {
			return constantOf(Null)
		}
		shape := NewShape(names...)
		return func(m *machine) (Value, error) {
			values, err := evaluate(m, fields)
			if err != nil {
				return Null, err
			}
			return m.object(shape, values), nil
		}
	case t.List != nil:
		elements := make([]eval, len(t.List))
		for i, e := range t.List {
			elements[i] = c.term(path+"["+strconv.Itoa(i)+"]", e)
		}
		return func(m *machine) (Value, error) {
			values, err := evaluate(m, elements)
			if err != nil {
				return Null, err
			}
			return m.list(values), nil
		}
	case t.Text == "":
		return constantOf(t.Constant)
	}
	if source, ok := strings.CutPrefix(t.Text, "="); ok {
		e, err := CompileExpression(source, c.options)
		if err != nil {
			return c.report(path, 1, err)
		}
		c.note(e.roots, e.reads...)
		return e.eval
	}
	p, err := c.path(t.Text)
	if err != nil {
		return c.report(path, 0, err)
	}
	if p.root != rootThis {
		return func(m *machine) (Value, error) { return p.Eval(m.env, m.rec), nil }
	}
	sight := math.MaxInt
	if paths := c.options.Paths; paths != nil {
		sight = paths.Len()
		paths.texts = append(paths.texts, t.Text)
	}
	if len(p.steps) == 1 && p.steps[0].kind == stepField {
		c.copied = copied{p.steps[0].name, sight}
	}
	return func(m *machine) (Value, error) {
		if m.rec == nil {
			return Null, nil
		}
		v := walk(m.rec.Value, p.steps)
		p.see(m.env, sight, m.rec, v)
		return v, nil
	}
}

// each makes an object for each element of a list: there `this` is the element, and `parent` the record.
func (c *mapCompiler) each(path string, t Term) eval {
	p, err := c.path(t.Each)
	if err != nil {
		return c.report(below(path, "each"), 0, err)
	}
	outer := c.options.Known
	c.options.Known = maps.Clone(outer)
	delete(c.options.Known, "this") // it is the element
	inner := c.mapping(below(path, "map"), t.Object)
	c.options.Known = outer
	c.note(inner.roots.without(rootParent))
	if inner.raw {
		c.fault(path, 0, "gjson and xpath read the record's own text, which an element of it has not", "use them outside of each")
	}
	return func(m *machine) (Value, error) {
		elements := p.Eval(m.env, m.rec)
		doc := rootDoc.of(m.env, m.rec)
		var out []Value
		// The elements share the budget of the field that they are made for.
		state := machine{env: m.env, batch: m.batch, steps: m.steps, memory: m.memory}
		for i, element := range elements.Values() {
			if err := state.take(1+len(inner.fields), 64+32*len(inner.fields)); err != nil {
				return Null, err
			}
			state.rec = &Record{Value: element, Source: element, Index: int64(i), Scope: &Scope{Parent: rootThis.of(m.env, m.rec), Doc: doc}}
			values, err := evaluate(&state, inner.fields)
			if err != nil {
				return Null, err
			}
			out = append(out, inner.object(m.batch, element, values))
		}
		m.steps, m.memory = state.steps, state.memory
		return List(out), nil
	}
}

// evaluate computes several terms.
func evaluate(m *machine, terms []eval) ([]Value, error) {
	values := m.values(len(terms))
	for i, f := range terms {
		var err error
		if values[i], err = f(m); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// gjson compiles a GJSON path. It sees the record's own text, which the decoder has validated.
func (c *mapCompiler) gjson(path, text string) eval {
	if strings.ContainsAny(text, "@|!") {
		c.fault(below(path, "gjson"), 0, "modifiers (@ | !) of GJSON are not supported", "write an expression for what the modifier would do")
	}
	c.current.raw = true
	return func(m *machine) (Value, error) {
		if m.rec == nil || m.rec.Raw == "" {
			return Null, errors.New("gjson needs a record of a JSON payload")
		}
		return fromGJSON(gjson.Get(m.rec.Raw, text), 0), nil
	}
}

func fromGJSON(r gjson.Result, depth int) Value {
	switch r.Type {
	case gjson.True, gjson.False:
		return Bool(r.Type == gjson.True)
	case gjson.Number:
		return Number(r.Raw)
	case gjson.String:
		return Text(r.Str)
	case gjson.JSON:
		if depth > 256 { // the decoder's own limit comes first
			return Null
		}
		if r.IsArray() {
			var values []Value
			r.ForEach(func(_, v gjson.Result) bool {
				values = append(values, fromGJSON(v, depth+1))
				return true
			})
			return List(values)
		}
		var names []string
		var values []Value
		r.ForEach(func(k, v gjson.Result) bool {
			names, values = append(names, k.Str), append(values, fromGJSON(v, depth+1))
			return true
		})
		return NewObject(NewShape(names...), values)
	}
	return Null
}

// What an XPath outside of its text literals must not hold: the step to a parent, and a path from the root.
var (
	xpathLiteral  = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	xpathUpward   = regexp.MustCompile(`\.\.|\b(parent|ancestor|ancestor-or-self)\s*::`)
	xpathAbsolute = regexp.MustCompile(`(^|[(\[,|=<>+]|\b(and|or|div|mod)\s)\s*/`)
)

// maxXPathText bounds the record's own text that an XPath sees, in bytes: its tree takes many times the memory.
const maxXPathText = 2 << 20

// xpath compiles an XPath. It sees the record's own element and nothing above it.
func (c *mapCompiler) xpath(path, text string) eval {
	at := below(path, "xpath")
	compiled, err := xpath.Compile(text)
	outside := xpathLiteral.ReplaceAllString(text, "''")
	switch {
	case err != nil:
		c.fault(at, 0, "the XPath does not compile: "+err.Error(), "")
	case xpathAbsolute.MatchString(outside):
		c.fault(at, 0, "an absolute XPath would leave the record", "begin with . or a name")
	case xpathUpward.MatchString(outside):
		c.fault(at, 0, "the record's element has no parent here", "use parent in an expression")
	}
	c.current.raw = true
	return func(m *machine) (Value, error) {
		if m.rec == nil || m.rec.Raw == "" {
			return Null, errors.New("xpath needs a record of an XML payload")
		}
		if len(m.rec.Raw) > maxXPathText {
			return Null, errors.New("the record is larger than the 2 MiB that xpath takes: use a path or an expression")
		}
		doc, err := xmlquery.Parse(strings.NewReader(m.rec.Raw))
		if err != nil {
			return Null, errors.New("xpath cannot read the record's element")
		}
		element := doc.SelectElement("*")
		if element == nil {
			return Null, nil
		}
		switch result := compiled.Evaluate(xmlquery.CreateXPathNavigator(element)).(type) {
		case *xpath.NodeIterator:
			var values []Value
			for result.MoveNext() {
				values = append(values, Untyped(result.Current().Value()))
			}
			switch len(values) {
			case 0:
				return Null, nil
			case 1:
				return values[0], nil
			}
			return List(values), nil
		case string:
			return Untyped(result), nil
		case bool:
			return Bool(result), nil
		case float64:
			text := strconv.FormatFloat(result, 'f', -1, 64)
			if !IsNumber(text) {
				return Null, nil
			}
			return Number(text), nil
		}
		return Null, nil
	}
}
