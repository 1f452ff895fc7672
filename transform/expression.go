package transform

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/parser/lexer"

	"github.com/integrator-go/integrator/internal/nearest"
)

// Limits of expressions. A definition is trusted, the data that it meets is not: no record can make an expression cost more.
const (
	maxSource  = 4 << 10   // bytes of an expression
	maxNesting = 2         // predicates inside each other
	maxSteps   = 1_000_000 // steps of one evaluation, each some tens of nanoseconds
	maxMemory  = 16 << 20  // bytes that one evaluation makes
)

// CompileOptions say what an expression, a path or a map can count on.
type CompileOptions struct {
	// UntypedSource says that the records come from a format without types (CSV, XML): `a + b` of two fields is refused then, because
	// nobody can tell whether it adds or joins.
	UntypedSource bool

	// Paths takes down the paths that maps read from records; nil: nobody asks.
	Paths *Paths

	// Known holds, by "this", "param", "run" or "message", the names that can follow: any other is a fault. What is not in it is not known.
	Known map[string][]string
}

// unknown returns the fault of a name that cannot follow the root, nil when it can.
func (o *CompileOptions) unknown(root, name string) *DefinitionError {
	known, ok := o.Known[root]
	if !ok || slices.Contains(known, name) {
		return nil
	}
	what := root + " has no "
	if root == "this" {
		what = "the record has no field "
	}
	fault := &DefinitionError{Reason: what + strconv.Quote(name), Hint: "there is nothing in it"}
	if near := nearest.Name(name, known); near != "" {
		fault.Hint = "did you mean " + near + "?"
	} else if len(known) > 0 {
		fault.Hint = "there are " + strings.Join(known, ", ")
	}
	return fault
}

// Expression is a compiled expression. It never changes and is safe for concurrent use.
//
// The syntax is that of expr-lang; the meaning is this package's: numbers are exact, null passes through, names are fields unless ( follows
// them, and one evaluation has a budget.
type Expression struct {
	source string
	eval   eval
	roots  rootSet
	reads  []string // top-level fields of the record
}

// eval computes one node of an expression.
type eval func(m *machine) (Value, error)

// machine is the state of one evaluation.
type machine struct {
	env    *Env
	rec    *Record
	batch  *Batch // whose memory is used; nil: the collector's
	locals []Value
	frames []frame
	steps  int
	memory int
	args   []Value         // of the functions that are being called
	texts  [3]string       // arguments of a function of texts
	text   strings.Builder // digits that were calculated
}

// at begins an evaluation for another record, with a budget of its own.
func (m *machine) at(rec *Record) {
	m.rec, m.locals, m.frames, m.args, m.steps, m.memory = rec, m.locals[:0], m.frames[:0], m.args[:0], 0, 0
}

// values returns n values that are null.
func (m *machine) values(n int) []Value {
	if m.batch == nil {
		return make([]Value, n)
	}
	return m.batch.Values(n)
}

// frame is the element that a predicate looks at.
type frame struct {
	element Value
	index   int
}

var errBudget = errors.New("the expression takes more time or memory than one record may cost")

// spend counts work whose amount the data decides: the elements of a list, the length of a text. What the source alone decides is bounded
// by its length and costs nothing.
func (m *machine) spend(steps int) error {
	if m.steps += steps; m.steps > maxSteps {
		return errBudget
	}
	return nil
}

// spendText counts the work of going along so many bytes.
func (m *machine) spendText(bytes int) error { return m.spend(bytes / 64) }

// charge counts memory that the evaluation makes.
func (m *machine) charge(n int) error {
	if m.memory += n; m.memory > maxMemory {
		return errBudget
	}
	return nil
}

// take counts work and memory together.
func (m *machine) take(steps, bytes int) error {
	if err := m.spend(steps); err != nil {
		return err
	}
	return m.charge(bytes)
}

// object is NewObject in the machine's memory, and list is List.
func (m *machine) object(shape *Shape, values []Value) Value {
	if m.batch == nil {
		return NewObject(shape, values)
	}
	return m.batch.Object(shape, values)
}

func (m *machine) list(values []Value) Value {
	if m.batch == nil {
		return List(values)
	}
	return m.batch.List(values)
}

// CompileExpression compiles an expression, written without the = that introduces it elsewhere. The error is a *DefinitionError with the
// offset in source.
func CompileExpression(source string, options CompileOptions) (*Expression, error) {
	if len(source) > maxSource {
		return nil, &DefinitionError{Reason: fmt.Sprintf("the expression is longer than %d bytes", maxSource), Hint: "split it over several fields"}
	}
	if strings.TrimSpace(source) == "" {
		return nil, &DefinitionError{Reason: "the expression is empty"}
	}
	c := &compiler{source: source, options: options}
	parseable, err := c.takeNumbers(source)
	if err != nil {
		return nil, syntaxFault(source, err)
	}
	tree, err := parser.Parse(parseable)
	if err != nil {
		return nil, syntaxFault(source, err)
	}
	e := &Expression{source: source, eval: c.node(tree.Node)}
	if c.fault != nil {
		return nil, c.fault
	}
	e.roots, e.reads = c.roots, c.reads
	return e, nil
}

// unexpectedToken finds the token in what the parser says of it.
var unexpectedToken = regexp.MustCompile(`^unexpected token \w+\((".*")\)$`)

// syntaxFault is what the parser found wrong, with a hint for what other languages spell differently.
func syntaxFault(source string, err error) *DefinitionError {
	fault := &DefinitionError{Reason: err.Error()}
	var place *file.Error
	if errors.As(err, &place) {
		fault.Offset, fault.Reason = byteOffset(source, place.From), place.Message
	}
	if token := unexpectedToken.FindStringSubmatch(fault.Reason); token != nil {
		fault.Reason = token[1] + " is not expected here"
	}
	switch at := source[fault.Offset:]; {
	case fault.Reason == "unexpected token EOF":
		fault.Reason = "the expression ends where more is due"
	case strings.HasPrefix(at, "@"), strings.HasPrefix(at, "#"):
		fault.Hint = `write this["@name"] or this["#text"] for such a field`
	case strings.HasPrefix(at, "is "):
		fault.Hint = "write == nil, or != nil"
	case strings.HasPrefix(at, "="):
		fault.Hint = "write == to compare"
	case strings.HasPrefix(at, "&"):
		fault.Hint = "write and"
	case strings.HasPrefix(at, "|"):
		fault.Hint = "write or"
	case strings.HasPrefix(at, ">") && strings.HasSuffix(source[:fault.Offset], "<"):
		fault.Hint = "write != for not equal"
	case strings.Contains(source, "${"):
		fault.Hint = "write the name alone, as in param.day: ${…} is for text"
	}
	return fault
}

// takeNumbers notes the decimal number literals by their places and returns the source with zeros instead of them: the parser would round
// them, or refuse what is longer than a machine's numbers.
func (c *compiler) takeNumbers(source string) (string, error) {
	tokens, err := lexer.Lex(file.NewSource(source))
	if err != nil {
		return "", err
	}
	for _, t := range tokens {
		if !t.Is(lexer.Number) || len(t.Value) > 1 && t.Value[0] == '0' && strings.IndexByte("xXoObB", t.Value[1]) >= 0 {
			continue
		}
		if c.numbers == nil {
			c.numbers = map[int]string{}
		}
		c.numbers[t.From] = t.Value
		at := byteOffset(source, t.From)
		source = source[:at] + strings.Repeat("0", len(t.Value)) + source[at+len(t.Value):]
	}
	return source, nil
}

// byteOffset turns an offset in characters into one in bytes.
func byteOffset(s string, runes int) int {
	for i := range s {
		if runes == 0 {
			return i
		}
		runes--
	}
	return len(s)
}

// String returns the source.
func (e *Expression) String() string { return e.source }

// NeedsScope reports whether the expression reads parent or doc.
func (e *Expression) NeedsScope() bool { return e.roots.needScope() }

// NeedsDoc reports whether the expression reads doc.
func (e *Expression) NeedsDoc() bool { return e.roots&(1<<rootDoc) != 0 }

// Outside returns the first name that the expression reads and that is none of the allowed ones: another of the engine's, or a field of the
// record; "" when there is none.
func (e *Expression) Outside(allowed ...string) string {
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		if e.roots&(1<<roots[name]) != 0 && !slices.Contains(allowed, name) {
			return name
		}
	}
	for _, field := range e.reads {
		if !slices.Contains(allowed, field) {
			return field
		}
	}
	return ""
}

// Eval computes the expression for a record. An error is about this record: its text holds no value of the data.
func (e *Expression) Eval(env *Env, rec *Record) (Value, error) {
	m := machine{env: env, rec: rec}
	return e.eval(&m)
}

// EvalBool computes a condition: null is false, anything but a bool an error.
func (e *Expression) EvalBool(env *Env, rec *Record) (bool, error) {
	return e.holds(&machine{env: env}, rec)
}

// holds is EvalBool on a machine that serves several records.
func (e *Expression) holds(m *machine, rec *Record) (bool, error) {
	m.at(rec)
	v, err := e.eval(m)
	if err != nil {
		return false, err
	}
	return condition(v)
}

func condition(v Value) (bool, error) {
	switch v.Kind() {
	case KindNull:
		return false, nil
	case KindBool:
		return v.IsTrue(), nil
	}
	return false, fmt.Errorf("a condition must be true or false, this is %s", v.Kind())
}

// compiler turns the syntax tree into closures. It keeps the first fault.
type compiler struct {
	source  string
	options CompileOptions
	numbers map[int]string // the number literals as written, by their place in characters
	fault   *DefinitionError
	locals  []string
	nesting int // of predicates
	nodes   int // compiled so far
	roots   rootSet
	reads   []string
}

func (c *compiler) fail(n ast.Node, reason, hint string) eval {
	if c.fault == nil {
		c.fault = &DefinitionError{Offset: byteOffset(c.source, n.Location().From), Reason: reason, Hint: hint}
	}
	return func(*machine) (Value, error) { return Null, nil }
}

func constantOf(v Value) eval { return func(*machine) (Value, error) { return v, nil } }

func (c *compiler) node(n ast.Node) eval {
	c.nodes++
	switch n := n.(type) {
	case *ast.NilNode:
		return constantOf(Null)
	case *ast.BoolNode:
		return constantOf(Bool(n.Value))
	case *ast.StringNode:
		return constantOf(Text(n.Value))
	case *ast.IntegerNode:
		if written, ok := c.numbers[n.Location().From]; ok {
			return c.number(n, written)
		}
		return constantOf(Int(int64(n.Value)))
	case *ast.FloatNode:
		return c.number(n, c.numbers[n.Location().From])
	case *ast.IdentifierNode:
		return c.name(n)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.ChainNode:
		return c.node(n.Node)
	case *ast.SliceNode:
		return c.slice(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.MapNode:
		return c.object(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.BuiltinNode:
		return c.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(n, callee.Value, n.Arguments)
		}
		return c.fail(n, "values have no methods", "write function(value)")
	case nil:
		return constantOf(Null)
	}
	return c.fail(n, "this cannot be used in an expression", "")
}

// number compiles a number literal, digit for digit.
func (c *compiler) number(n ast.Node, written string) eval {
	digits := strings.TrimSuffix(strings.ReplaceAll(written, "_", ""), ".")
	if strings.HasPrefix(digits, ".") {
		digits = "0" + digits
	}
	digits = plainNumber(digits)
	if _, err := ParseDecimal(digits); err != nil {
		return c.fail(n, err.Error(), "")
	}
	return constantOf(Number(digits))
}

func (c *compiler) name(n *ast.IdentifierNode) eval {
	if i := slices.Index(c.locals, n.Value); i >= 0 {
		return func(m *machine) (Value, error) { return m.locals[i], nil }
	}
	if r, ok := roots[n.Value]; ok {
		c.roots = c.roots.with(r)
		return func(m *machine) (Value, error) { return r.of(m.env, m.rec), nil }
	}
	if fault := c.options.unknown("this", n.Value); fault != nil {
		return c.fail(n, fault.Reason, fault.Hint)
	}
	s := fieldStep(n.Value)
	c.reads = append(c.reads, n.Value)
	return func(m *machine) (Value, error) {
		if m.rec == nil {
			return Null, nil
		}
		return s.field(m.rec.Value), nil
	}
}

func (c *compiler) pointer(n *ast.PointerNode) eval {
	switch n.Name {
	case "":
		return func(m *machine) (Value, error) { return m.frames[len(m.frames)-1].element, nil }
	case "index":
		return func(m *machine) (Value, error) { return Int(int64(m.frames[len(m.frames)-1].index)), nil }
	}
	return c.fail(n, "#"+n.Name+" is not known", "there are # and #index")
}

func (c *compiler) member(n *ast.MemberNode) eval {
	of := c.node(n.Node)
	root := ""
	if identifier, ok := n.Node.(*ast.IdentifierNode); ok {
		root = identifier.Value
	}
	if property, ok := n.Property.(*ast.StringNode); ok {
		name := property.Value
		if _, is := roots[root]; is && !slices.Contains(c.locals, root) {
			if fault := c.options.unknown(root, name); fault != nil {
				return c.fail(n, fault.Reason, fault.Hint)
			}
		}
		switch root {
		case "header":
			return func(m *machine) (Value, error) {
				header := m.env.Header.Get()
				return fold(header, name), m.spend(header.Len())
			}
		case "this":
			c.reads = append(c.reads, name)
		}
		s := fieldStep(name)
		return func(m *machine) (Value, error) {
			v, err := of(m)
			return s.field(v), err
		}
	}
	key := c.node(n.Property)
	return func(m *machine) (Value, error) {
		v, err := of(m)
		if err != nil {
			return Null, err
		}
		k, err := key(m)
		if err != nil {
			return Null, err
		}
		if root == "header" && k.IsText() {
			return fold(v, k.Text()), m.spend(v.Len())
		}
		return m.element(v, k)
	}
}

// element returns v[k].
func (m *machine) element(v, k Value) (Value, error) {
	switch v.Kind() {
	case KindNull:
		return Null, nil
	case KindObject:
		if k.IsNull() {
			return Null, nil
		}
		return v.Field(k.Text()), nil
	case KindList:
		d, ok := m.number(k)
		i, whole := d.Int()
		if !ok || !whole {
			return Null, errors.New("a list's element is found by a whole number")
		}
		if i < 0 {
			i += v.Len()
		}
		if i < 0 || i >= v.Len() {
			return Null, nil
		}
		return v.At(i), nil
	}
	if d, ok := m.number(k); ok && d.Sign() == 0 {
		return v, nil // one-or-many: the first of one
	}
	return Null, nil
}

func (c *compiler) slice(n *ast.SliceNode) eval {
	of, from, to := c.node(n.Node), c.node(n.From), c.node(n.To)
	return func(m *machine) (Value, error) {
		v, err := of(m)
		if err != nil || v.IsNull() {
			return Null, err
		}
		length := v.Len()
		if v.IsText() {
			length = utf8.RuneCountInString(v.Text())
		} else if v.Kind() != KindList {
			return Null, fmt.Errorf("a part can be taken of text and lists, not of %s", v.Kind())
		}
		if err := m.spendText(len(v.Text())); err != nil {
			return Null, err
		}
		bound := func(e eval, otherwise int) (int, error) {
			b, err := e(m)
			if err != nil || b.IsNull() {
				return otherwise, err
			}
			d, ok := m.number(b)
			i, whole := d.Int()
			if !ok || !whole {
				return 0, errors.New("the bounds of a part are whole numbers")
			}
			if i < 0 {
				i += length
			}
			return min(max(i, 0), length), nil
		}
		low, err := bound(from, 0)
		if err != nil {
			return Null, err
		}
		high, err := bound(to, length)
		if err != nil {
			return Null, err
		}
		high = max(low, high)
		if v.IsText() {
			part := v.Text()[byteOffset(v.Text(), low):]
			return Text(part[:byteOffset(part, high-low)]), nil
		}
		return List(v.node().values[low:high:high]), nil
	}
}

func (c *compiler) unary(n *ast.UnaryNode) eval {
	of := c.node(n.Node)
	switch n.Operator {
	case "not", "!":
		return func(m *machine) (Value, error) {
			v, err := of(m)
			if err != nil {
				return Null, err
			}
			is, err := condition(v)
			return Bool(!is), err
		}
	case "-", "+":
		negative := n.Operator == "-"
		return func(m *machine) (Value, error) {
			v, err := of(m)
			if err != nil || v.IsNull() {
				return Null, err
			}
			d, ok := m.number(v)
			if !ok {
				return Null, fmt.Errorf("%s needs a number, this is %s", n.Operator, describe(v))
			}
			if negative {
				d = d.Neg()
			}
			return m.give(d)
		}
	}
	return c.fail(n, "operator "+n.Operator+" is not known", "")
}

func (c *compiler) conditional(n *ast.ConditionalNode) eval {
	cond, yes, no := c.node(n.Cond), c.node(n.Exp1), c.node(n.Exp2)
	return func(m *machine) (Value, error) {
		v, err := cond(m)
		if err != nil {
			return Null, err
		}
		is, err := condition(v)
		if err != nil {
			return Null, err
		}
		if is {
			return yes(m)
		}
		return no(m)
	}
}

func (c *compiler) array(n *ast.ArrayNode) eval {
	elements := make([]eval, len(n.Nodes))
	for i, e := range n.Nodes {
		elements[i] = c.node(e)
	}
	return func(m *machine) (Value, error) {
		if err := m.charge(32 * len(elements)); err != nil {
			return Null, err
		}
		values := make([]Value, len(elements))
		for i, e := range elements {
			var err error
			if values[i], err = e(m); err != nil {
				return Null, err
			}
		}
		return List(values), nil
	}
}

func (c *compiler) object(n *ast.MapNode) eval {
	shape := NewShape()
	var fields []eval
	for _, p := range n.Pairs {
		pair := p.(*ast.PairNode)
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			return c.fail(p, "the names of an object are written out", "")
		}
		if shape.Index(key.Value) >= 0 {
			return c.fail(p, fmt.Sprintf("name %q is there twice", key.Value), "")
		}
		shape = shape.With(key.Value)
		fields = append(fields, c.node(pair.Value))
	}
	return func(m *machine) (Value, error) {
		if err := m.charge(32 * len(fields)); err != nil {
			return Null, err
		}
		values := make([]Value, len(fields))
		for i, f := range fields {
			var err error
			if values[i], err = f(m); err != nil {
				return Null, err
			}
		}
		return NewObject(shape, values), nil
	}
}

func (c *compiler) let(n *ast.VariableDeclaratorNode) eval {
	if _, ok := roots[n.Name]; ok || slices.Contains(c.locals, n.Name) {
		return c.fail(n, fmt.Sprintf("name %q is taken already", n.Name), "")
	}
	value := c.node(n.Value)
	c.locals = append(c.locals, n.Name)
	i := len(c.locals) - 1
	in := c.node(n.Expr)
	c.locals = c.locals[:i]
	return func(m *machine) (Value, error) {
		v, err := value(m)
		if err != nil {
			return Null, err
		}
		m.locals = append(m.locals[:min(i, len(m.locals))], v)
		return in(m)
	}
}

// isField reports whether the node is nothing but the path of a field.
func (c *compiler) isField(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		_, engine := roots[n.Value]
		return n.Value == "this" || n.Value == "parent" || n.Value == "doc" || !engine && !slices.Contains(c.locals, n.Value)
	case *ast.PointerNode:
		return n.Name == ""
	case *ast.MemberNode:
		return c.isField(n.Node)
	case *ast.ChainNode:
		return c.isField(n.Node)
	}
	return false
}

func (c *compiler) binary(n *ast.BinaryNode) eval {
	left, right := c.node(n.Left), c.node(n.Right)
	_, leftNil := n.Left.(*ast.NilNode)
	_, rightNil := n.Right.(*ast.NilNode)
	switch n.Operator {
	case "and", "&&", "or", "||":
		decides := n.Operator == "or" || n.Operator == "||"
		return func(m *machine) (Value, error) {
			for _, e := range [2]eval{left, right} {
				v, err := e(m)
				if err != nil {
					return Null, err
				}
				is, err := condition(v)
				if err != nil {
					return Null, err
				}
				if is == decides {
					return Bool(decides), nil
				}
			}
			return Bool(!decides), nil
		}
	case "??":
		return func(m *machine) (Value, error) {
			v, err := left(m)
			if err != nil || !v.IsNull() {
				return v, err
			}
			return right(m)
		}
	case "==", "!=":
		want := n.Operator == "=="
		if leftNil || rightNil {
			return c.both(left, right, func(_ *machine, a, b Value) (Value, error) { return Bool((a.IsNull() && b.IsNull()) == want), nil })
		}
		return c.both(left, right, func(m *machine, a, b Value) (Value, error) {
			if a.IsNull() || b.IsNull() {
				return Bool(false), nil
			}
			same, err := m.equal(a, b)
			return Bool(same == want), err
		})
	case "matches":
		if pattern, ok := n.Right.(*ast.StringNode); ok {
			re, err := regexp.Compile(pattern.Value)
			if err != nil {
				return c.fail(n.Right, "the regular expression does not compile: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "RE2 syntax")
			}
			states := regexpStates(pattern.Value)
			return func(m *machine) (Value, error) {
				v, err := left(m)
				if err != nil || v.IsNull() {
					return Bool(false), err
				}
				if !v.IsText() && v.Kind() != KindNumber {
					return Null, fmt.Errorf("matches needs text, this is %s", v.Kind())
				}
				if err := m.spend(len(v.Text()) * states / 32); err != nil { // each state may look at each character
					return Null, err
				}
				return Bool(re.MatchString(v.Text())), nil
			}
		}
		return c.fail(n.Right, "a regular expression is written out: data is never compiled", "")
	}
	if n.Operator == "+" && c.options.UntypedSource && c.isField(n.Left) && c.isField(n.Right) {
		a, b := fieldText(n.Left), fieldText(n.Right)
		return c.fail(n, fmt.Sprintf("%s + %s may add or join: the source knows no types", a, b), fmt.Sprintf("write number(%s) + number(%s) or concat(%s, %s)", a, b, a, b))
	}
	operation, ok := operators[n.Operator]
	if !ok {
		return c.fail(n, "operator "+n.Operator+" is not known", "")
	}
	return c.both(left, right, operation)
}

func (c *compiler) both(left, right eval, operation func(m *machine, a, b Value) (Value, error)) eval {
	return func(m *machine) (Value, error) {
		a, err := left(m)
		if err != nil {
			return Null, err
		}
		b, err := right(m)
		if err != nil {
			return Null, err
		}
		return operation(m, a, b)
	}
}

// regexpStates returns how many states a regular expression that compiles has.
func regexpStates(pattern string) int {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return maxSource
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return maxSource
	}
	return len(program.Inst)
}

// fieldText writes a field as the definition did.
func fieldText(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.PointerNode:
		return "#"
	case *ast.ChainNode:
		return fieldText(n.Node)
	case *ast.MemberNode:
		if p, ok := n.Property.(*ast.StringNode); ok {
			return below(fieldText(n.Node), p.Value)
		}
	}
	return "a field"
}

// operators are those that evaluate both sides.
var operators = map[string]func(m *machine, a, b Value) (Value, error){
	"+":  plus,
	"-":  arithmetic("-", Decimal.Sub),
	"*":  arithmetic("*", Decimal.Mul),
	"/":  arithmetic("/", Decimal.Quo),
	"%":  arithmetic("%", Decimal.Rem),
	"^":  arithmetic("^", power),
	"**": arithmetic("**", power),
	"<":  comparison("<", func(c int) bool { return c < 0 }),
	"<=": comparison("<=", func(c int) bool { return c <= 0 }),
	">":  comparison(">", func(c int) bool { return c > 0 }),
	">=": comparison(">=", func(c int) bool { return c >= 0 }),
	"in": func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Bool(false), nil
		}
		if b.Kind() == KindObject {
			_, ok := b.Get(a.Text())
			return Bool(ok && a.IsText()), nil
		}
		for _, e := range b.Values() {
			if same, err := m.equal(a, e); same || err != nil {
				return Bool(same), err
			}
		}
		return Bool(false), nil
	},
	"contains":   textTest("contains", strings.Contains),
	"startsWith": textTest("startsWith", strings.HasPrefix),
	"endsWith":   textTest("endsWith", strings.HasSuffix),
	"..": func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Null, nil
		}
		x, ok1 := m.number(a)
		y, ok2 := m.number(b)
		low, whole1 := x.Int()
		high, whole2 := y.Int()
		if !ok1 || !ok2 || !whole1 || !whole2 {
			return Null, errors.New(".. needs two whole numbers")
		}
		if high < low {
			return List(nil), nil
		}
		if uint(high)-uint(low) > maxSteps { // the difference may be more than an int holds
			return Null, errBudget
		}
		n := high - low + 1
		if err := m.take(n, 48*n); err != nil {
			return Null, err
		}
		values := make([]Value, 0, n)
		for i := low; i <= high; i++ {
			values = append(values, Int(int64(i)))
		}
		return List(values), nil
	},
}

// number returns the number that a value is or, untyped, reads as. Reading a long one counts as work: who reads many looks at the budget.
func (m *machine) number(v Value) (Decimal, bool) {
	if v.Kind() != KindNumber && v.Kind() != KindUntyped {
		return Decimal{}, false
	}
	if len(v.Text()) > 18 {
		m.steps += min(len(v.Text()), 2*maxDigits)
	}
	d, err := ParseDecimal(v.Text())
	return d, err == nil
}

// describe says what a value is without saying what it holds.
func describe(v Value) string {
	if v.Kind() == KindUntyped {
		return "text that reads as no number"
	}
	return v.Kind().String()
}

// plus adds numbers and joins text.
func plus(m *machine, a, b Value) (Value, error) {
	if a.IsNull() || b.IsNull() {
		return Null, nil
	}
	if a.Kind() == KindUntyped && b.Kind() == KindUntyped {
		return Null, errors.New("+ of two untyped fields may add or join: write number(a) + number(b) or concat(a, b)")
	}
	if a.Kind() == KindText || b.Kind() == KindText {
		x, ok1 := scalarText(a)
		y, ok2 := scalarText(b)
		if !ok1 || !ok2 {
			return Null, fmt.Errorf("+ cannot join %s and %s", a.Kind(), b.Kind())
		}
		if err := m.charge(len(x) + len(y)); err != nil {
			return Null, err
		}
		return Text(x + y), nil
	}
	return arithmetic("+", Decimal.Add)(m, a, b)
}

// scalarText returns the text of a value that has one.
func scalarText(v Value) (string, bool) {
	switch v.Kind() {
	case KindText, KindUntyped, KindNumber, KindBool:
		return v.Text(), true
	}
	return "", false
}

func arithmetic(operator string, f func(a, b Decimal) (Decimal, error)) func(*machine, Value, Value) (Value, error) {
	return func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Null, nil
		}
		x, ok := m.number(a)
		if !ok {
			return Null, fmt.Errorf("%s needs numbers, its left side is %s", operator, describe(a))
		}
		y, ok := m.number(b)
		if !ok {
			return Null, fmt.Errorf("%s needs numbers, its right side is %s", operator, describe(b))
		}
		d, err := f(x, y)
		if err != nil {
			return Null, err
		}
		return m.give(d)
	}
}

// give returns a number that was calculated.
func (m *machine) give(d Decimal) (Value, error) {
	if d.big != nil {
		v := d.Value()
		return v, m.take(len(v.Text()), len(v.Text()))
	}
	var digits [24]byte
	v := Number(m.keep(d.appendTo(digits[:0])))
	return v, m.take(0, len(v.Text()))
}

// keep returns a short text as a string. Many of them share a piece of memory, which lives as long as one of them does.
func (m *machine) keep(text []byte) string {
	if m.batch == nil {
		return string(text)
	}
	if m.text.Cap()-m.text.Len() < len(text) {
		size := min(2*m.text.Cap(), 4096)
		m.text.Reset()
		m.text.Grow(max(size, 64, len(text)))
	}
	before := m.text.Len()
	m.text.Write(text)
	return m.text.String()[before:]
}

func power(base, exponent Decimal) (Decimal, error) {
	n, whole := exponent.Int()
	if !whole || n < 0 || n > maxDigits {
		return Decimal{}, errors.New("an exponent is a whole number from 0 to 1000")
	}
	result := DecimalOf(1)
	var err error
	for bit := 1 << bits.Len(uint(n)) >> 1; bit > 0 && err == nil; bit >>= 1 {
		if result, err = result.Mul(result); err == nil && n&bit != 0 {
			result, err = result.Mul(base)
		}
	}
	return result, err
}

func comparison(operator string, test func(int) bool) func(*machine, Value, Value) (Value, error) {
	return func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Bool(false), nil
		}
		order, err := m.compare(a, b)
		if err != nil {
			return Null, fmt.Errorf("%s: %w", operator, err)
		}
		return Bool(test(order)), nil
	}
}

// compare orders two values that are not null: numbers by value, texts by their bytes (which is their order of code points).
func (m *machine) compare(a, b Value) (int, error) {
	if err := m.spendText(64 + min(len(a.Text()), len(b.Text()))); err != nil {
		return 0, err
	}
	x, aNumber := m.number(a)
	y, bNumber := m.number(b)
	switch {
	case aNumber && bNumber:
		return x.Cmp(y), nil
	case a.IsText() && b.IsText(), a.Kind() == KindBool && b.Kind() == KindBool:
		return strings.Compare(a.Text(), b.Text()), nil
	}
	return 0, fmt.Errorf("%s and %s have no order", describe(a), describe(b))
}

// equal reports whether two values are the same: numbers by value, an untyped value with a number by what it reads as.
func (m *machine) equal(a, b Value) (bool, error) {
	if err := m.spendText(64 + min(len(a.Text()), len(b.Text()))); err != nil {
		return false, err
	}
	switch {
	case a.Kind() == b.Kind() && a.Kind() == KindNumber && a.Text() == b.Text():
		return true, nil
	case a.Kind() == KindNumber || b.Kind() == KindNumber:
		x, ok1 := m.number(a)
		y, ok2 := m.number(b)
		return ok1 && ok2 && x.Cmp(y) == 0, nil
	case a.IsText() && b.IsText():
		return a.Text() == b.Text(), nil
	case a.Kind() != b.Kind() || a.Len() != b.Len():
		return false, nil
	case a.Kind() == KindObject:
		for name, v := range a.Fields() {
			w, ok := b.Get(name)
			if !ok {
				return false, nil
			}
			if same, err := m.equal(v, w); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case a.Kind() == KindList:
		for i, v := range a.node().values {
			if same, err := m.equal(v, b.node().values[i]); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return a.Text() == b.Text(), nil
}

func textTest(operator string, test func(s, part string) bool) func(*machine, Value, Value) (Value, error) {
	return func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Bool(false), nil
		}
		x, ok1 := scalarText(a)
		y, ok2 := scalarText(b)
		if !ok1 || !ok2 {
			return Null, fmt.Errorf("%s needs text, not %s and %s", operator, a.Kind(), b.Kind())
		}
		return Bool(test(x, y)), m.spendText(len(x))
	}
}

// textOf returns an argument as text; the name is the function's.
func (m *machine) textOf(name string, v Value) (string, error) {
	s, ok := scalarText(v)
	if !ok {
		return "", fmt.Errorf("%s needs text, this is %s", name, v.Kind())
	}
	return s, m.spendText(64 + len(s))
}
