package transform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// Limits of expressions. A definition is trusted, the data that it meets is not: no record can make an expression cost more.
const (
	maxSource  = 4 << 10  // bytes of an expression
	maxNesting = 2        // predicates inside each other
	maxSteps   = 200_000  // operations of one evaluation
	maxMemory  = 16 << 20 // bytes that one evaluation makes
)

// CompileOptions say what an expression, a path or a map can count on.
type CompileOptions struct {
	// UntypedSource says that the records come from a format without types (CSV, XML): `a + b` of two fields is refused then, because
	// nobody can tell whether it adds or joins.
	UntypedSource bool
}

// Expression is a compiled expression. It never changes and is safe for concurrent use.
//
// The syntax is that of expr-lang; the meaning is this package's: numbers are exact, null passes through, names are fields unless ( follows
// them, and one evaluation has a budget.
type Expression struct {
	source string
	eval   eval
	scope  bool
	reads  []Path
}

// eval computes one node of an expression.
type eval func(m *machine) (Value, error)

// machine is the state of one evaluation.
type machine struct {
	env    *Env
	rec    *Record
	locals []Value
	frames []frame
	steps  int
	memory int
}

// frame is the element that a predicate looks at.
type frame struct {
	element Value
	index   int
}

var errBudget = errors.New("the expression takes more time or memory than one record may cost")

func (m *machine) step() error {
	if m.steps++; m.steps > maxSteps {
		return errBudget
	}
	return nil
}

// charge counts memory that the evaluation makes.
func (m *machine) charge(n int) error {
	if m.memory += n; m.memory > maxMemory {
		return errBudget
	}
	return nil
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
	tree, err := parser.Parse(source)
	if err != nil {
		var syntax *file.Error
		if errors.As(err, &syntax) {
			return nil, &DefinitionError{Offset: byteOffset(source, syntax.From), Reason: syntax.Message}
		}
		return nil, &DefinitionError{Reason: err.Error()}
	}
	c := &compiler{source: source, options: options}
	e := &Expression{source: source, eval: c.node(tree.Node)}
	if c.fault != nil {
		return nil, c.fault
	}
	e.scope, e.reads = c.scope, c.reads
	return e, nil
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
func (e *Expression) NeedsScope() bool { return e.scope }

// Eval computes the expression for a record. An error is about this record: its text holds no value of the data.
func (e *Expression) Eval(env *Env, rec *Record) (Value, error) {
	m := machine{env: env, rec: rec}
	return e.eval(&m)
}

// EvalBool computes a condition: null is false, anything but a bool an error.
func (e *Expression) EvalBool(env *Env, rec *Record) (bool, error) {
	v, err := e.Eval(env, rec)
	if err != nil {
		return false, err
	}
	return condition(v)
}

func condition(v Value) (bool, error) {
	switch v.kind {
	case KindNull:
		return false, nil
	case KindBool:
		return v.IsTrue(), nil
	}
	return false, fmt.Errorf("a condition must be true or false, this is %s", v.kind)
}

// compiler turns the syntax tree into closures. It keeps the first fault.
type compiler struct {
	source  string
	options CompileOptions
	fault   *DefinitionError
	locals  []string
	nesting int
	scope   bool
	reads   []Path
}

func (c *compiler) fail(n ast.Node, reason, hint string) eval {
	if c.fault == nil {
		c.fault = &DefinitionError{Offset: byteOffset(c.source, n.Location().From), Reason: reason, Hint: hint}
	}
	return func(*machine) (Value, error) { return Null, nil }
}

func constantOf(v Value) eval { return func(*machine) (Value, error) { return v, nil } }

func (c *compiler) node(n ast.Node) eval {
	switch n := n.(type) {
	case *ast.NilNode:
		return constantOf(Null)
	case *ast.BoolNode:
		return constantOf(Bool(n.Value))
	case *ast.StringNode:
		return constantOf(Text(n.Value))
	case *ast.IntegerNode:
		return constantOf(Int(int64(n.Value)))
	case *ast.FloatNode:
		return c.float(n)
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

// float takes a number's digits from the source: they are exact there.
func (c *compiler) float(n *ast.FloatNode) eval {
	from := byteOffset(c.source, n.Location().From)
	text := c.source[from:]
	end := 0
	for end < len(text) && (strings.IndexByte("0123456789._", text[end]) >= 0 || (text[end] == 'e' || text[end] == 'E') ||
		(text[end] == '+' || text[end] == '-') && end > 0 && (text[end-1] == 'e' || text[end-1] == 'E')) {
		end++
	}
	text = strings.ReplaceAll(text[:end], "_", "")
	if strings.HasPrefix(text, ".") {
		text = "0" + text
	}
	d, err := ParseDecimal(strings.TrimSuffix(text, "."))
	if err != nil {
		return c.fail(n, err.Error(), "")
	}
	return constantOf(d.Value())
}

func (c *compiler) name(n *ast.IdentifierNode) eval {
	if i := slices.Index(c.locals, n.Value); i >= 0 {
		return func(m *machine) (Value, error) { return m.locals[i], nil }
	}
	if r, ok := roots[n.Value]; ok {
		c.scope = c.scope || r == rootParent || r == rootDoc
		return func(m *machine) (Value, error) { return r.of(m.env, m.rec), nil }
	}
	s := fieldStep(n.Value)
	c.reads = append(c.reads, Path{text: n.Value, steps: []pathStep{s}})
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
	root, isRoot := n.Node.(*ast.IdentifierNode)
	if property, ok := n.Property.(*ast.StringNode); ok {
		name := property.Value
		if isRoot && root.Value == "header" {
			return func(m *machine) (Value, error) { return fold(m.env.Header, name), nil }
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
		if isRoot && root.Value == "header" && k.IsText() {
			return fold(v, k.text), nil
		}
		return element(v, k)
	}
}

// element returns v[k].
func element(v, k Value) (Value, error) {
	switch v.kind {
	case KindNull:
		return Null, nil
	case KindObject:
		return v.Field(k.text), nil
	case KindList:
		d, ok := number(k)
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
	if d, ok := number(k); ok && d.Sign() == 0 {
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
		var runes []rune
		length := v.Len()
		if v.IsText() {
			if err := m.charge(4 * len(v.text)); err != nil {
				return Null, err
			}
			runes = []rune(v.text)
			length = len(runes)
		} else if v.kind != KindList {
			return Null, fmt.Errorf("a part can be taken of text and lists, not of %s", v.kind)
		}
		bound := func(e eval, otherwise int) (int, error) {
			b, err := e(m)
			if err != nil || b.IsNull() {
				return otherwise, err
			}
			d, ok := number(b)
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
		if runes != nil {
			return Text(string(runes[low:high])), nil
		}
		if v.IsText() {
			return Text(""), nil
		}
		return List(v.node.values[low:high:high]), nil
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
			d, ok := number(v)
			if !ok {
				return Null, fmt.Errorf("%s needs a number, this is %s", n.Operator, describe(v))
			}
			if negative {
				d = d.Neg()
			}
			return d.Value(), nil
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
		pair, ok := p.(*ast.PairNode)
		key, isText := pair.Key.(*ast.StringNode)
		if !ok || !isText {
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
func isField(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		_, engine := roots[n.Value]
		return !engine || n.Value == "this" || n.Value == "parent" || n.Value == "doc"
	case *ast.PointerNode:
		return n.Name == ""
	case *ast.MemberNode:
		return isField(n.Node)
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
		return c.both(left, right, func(_ *machine, a, b Value) (Value, error) {
			if a.IsNull() || b.IsNull() {
				return Bool(false), nil
			}
			return Bool(equal(a, b) == want), nil
		})
	case "matches":
		if pattern, ok := n.Right.(*ast.StringNode); ok {
			re, err := regexp.Compile(pattern.Value)
			if err != nil {
				return c.fail(n.Right, "the regular expression does not compile: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "RE2 syntax")
			}
			return func(m *machine) (Value, error) {
				v, err := left(m)
				if err != nil || v.IsNull() {
					return Bool(false), err
				}
				if !v.IsText() && v.kind != KindNumber {
					return Null, fmt.Errorf("matches needs text, this is %s", v.kind)
				}
				return Bool(re.MatchString(v.text)), nil
			}
		}
		return c.fail(n.Right, "a regular expression is written out: data is never compiled", "")
	}
	if n.Operator == "+" && c.options.UntypedSource && isField(n.Left) && isField(n.Right) {
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
		if err := m.step(); err != nil {
			return Null, err
		}
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

// fieldText writes a field as the definition did.
func fieldText(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.MemberNode:
		if p, ok := n.Property.(*ast.StringNode); ok {
			return fieldText(n.Node) + "." + p.Value
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
		if b.kind == KindObject {
			_, ok := b.Get(a.text)
			return Bool(ok && a.IsText()), nil
		}
		for _, e := range b.Values() {
			if err := m.step(); err != nil {
				return Null, err
			}
			if equal(a, e) {
				return Bool(true), nil
			}
		}
		return Bool(false), nil
	},
	"contains":   textTest("contains", strings.Contains),
	"startsWith": textTest("startsWith", strings.HasPrefix),
	"endsWith":   textTest("endsWith", strings.HasSuffix),
	"..": func(m *machine, a, b Value) (Value, error) {
		x, ok1 := number(a)
		y, ok2 := number(b)
		low, whole1 := x.Int()
		high, whole2 := y.Int()
		if !ok1 || !ok2 || !whole1 || !whole2 {
			return Null, errors.New(".. needs two whole numbers")
		}
		if high < low {
			return List(nil), nil
		}
		if high-low > maxSteps {
			return Null, errBudget
		}
		if err := m.charge(48 * (high - low + 1)); err != nil {
			return Null, err
		}
		values := make([]Value, 0, high-low+1)
		for i := low; i <= high; i++ {
			values = append(values, Int(int64(i)))
		}
		return List(values), nil
	},
}

// number returns the number that a value is or, untyped, reads as.
func number(v Value) (Decimal, bool) {
	if v.kind != KindNumber && v.kind != KindUntyped {
		return Decimal{}, false
	}
	d, err := ParseDecimal(v.text)
	return d, err == nil
}

// describe says what a value is without saying what it holds.
func describe(v Value) string {
	if v.kind == KindUntyped {
		return "text that reads as no number"
	}
	return v.kind.String()
}

// plus adds numbers and joins text.
func plus(m *machine, a, b Value) (Value, error) {
	if a.IsNull() || b.IsNull() {
		return Null, nil
	}
	if a.kind == KindUntyped && b.kind == KindUntyped {
		return Null, errors.New("+ of two untyped fields may add or join: write number(a) + number(b) or concat(a, b)")
	}
	if a.kind == KindText || b.kind == KindText {
		x, ok1 := scalarText(a)
		y, ok2 := scalarText(b)
		if !ok1 || !ok2 {
			return Null, fmt.Errorf("+ cannot join %s and %s", a.kind, b.kind)
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
	switch v.kind {
	case KindText, KindUntyped, KindNumber, KindBool:
		return v.text, true
	}
	return "", false
}

func arithmetic(operator string, f func(a, b Decimal) (Decimal, error)) func(*machine, Value, Value) (Value, error) {
	return func(_ *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Null, nil
		}
		x, ok := number(a)
		if !ok {
			return Null, fmt.Errorf("%s needs numbers, its left side is %s", operator, describe(a))
		}
		y, ok := number(b)
		if !ok {
			return Null, fmt.Errorf("%s needs numbers, its right side is %s", operator, describe(b))
		}
		d, err := f(x, y)
		if err != nil {
			return Null, err
		}
		return d.Value(), nil
	}
}

func power(base, exponent Decimal) (Decimal, error) {
	n, whole := exponent.Int()
	if !whole || n < 0 || n > maxDigits {
		return Decimal{}, errors.New("an exponent is a whole number from 0 to 1000")
	}
	result := DecimalOf(1)
	for range n {
		var err error
		if result, err = result.Mul(base); err != nil {
			return Decimal{}, err
		}
	}
	return result, nil
}

func comparison(operator string, test func(int) bool) func(*machine, Value, Value) (Value, error) {
	return func(_ *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Bool(false), nil
		}
		order, err := compare(a, b)
		if err != nil {
			return Null, fmt.Errorf("%s: %w", operator, err)
		}
		return Bool(test(order)), nil
	}
}

// compare orders two values that are not null: numbers by value, texts by their bytes (which is their order of code points).
func compare(a, b Value) (int, error) {
	x, aNumber := number(a)
	y, bNumber := number(b)
	switch {
	case aNumber && bNumber:
		return x.Cmp(y), nil
	case a.IsText() && b.IsText():
		return strings.Compare(a.text, b.text), nil
	case a.kind == KindBool && b.kind == KindBool:
		return strings.Compare(a.text, b.text), nil
	}
	return 0, fmt.Errorf("%s and %s have no order", describe(a), describe(b))
}

// equal reports whether two values are the same: numbers by value, an untyped value with a number by what it reads as.
func equal(a, b Value) bool {
	if a.kind == KindNumber || b.kind == KindNumber {
		x, ok1 := number(a)
		y, ok2 := number(b)
		return ok1 && ok2 && x.Cmp(y) == 0
	}
	if a.IsText() && b.IsText() {
		return a.text == b.text
	}
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case KindObject:
		if a.Len() != b.Len() {
			return false
		}
		for name, v := range a.Fields() {
			w, ok := b.Get(name)
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	case KindList:
		return slices.EqualFunc(a.node.values, b.node.values, equal)
	}
	return a.text == b.text
}

func textTest(operator string, test func(s, part string) bool) func(*machine, Value, Value) (Value, error) {
	return func(m *machine, a, b Value) (Value, error) {
		if a.IsNull() || b.IsNull() {
			return Bool(false), nil
		}
		x, ok1 := scalarText(a)
		y, ok2 := scalarText(b)
		if !ok1 || !ok2 {
			return Null, fmt.Errorf("%s needs text, not %s and %s", operator, a.kind, b.kind)
		}
		m.steps += len(x) / 256 // long texts count as the time they take
		return Bool(test(x, y)), m.step()
	}
}

// text returns the argument as text for functions; the name is for the message.
func text(name string, v Value) (string, error) {
	s, ok := scalarText(v)
	if !ok {
		return "", fmt.Errorf("%s needs text, this is %s", name, v.kind)
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%s needs valid UTF-8", name)
	}
	return s, nil
}
