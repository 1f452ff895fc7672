package transform

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"

	"github.com/integrator-go/integrator/internal/nearest"
)

// Function describes one function of the expression language.
type Function struct {
	Name    string
	Does    string
	Example string // an expression
	Result  string // what it gives, as JSON
}

// function is a function of values. Null as its first argument gives null unless nulls is set.
type function struct {
	Function
	min, max int // number of arguments; max -1: any
	nulls    bool
	call     func(m *machine, args []Value) (Value, error) // does not keep args
}

// dateFunction is a function of a text, a layout that is written out, and perhaps a zone.
type dateFunction struct {
	Function
	call func(s string, layout Layout, zone *time.Location, zoned bool) (string, error)
}

// predicate is a function of a list and an expression over its elements.
type predicate struct {
	Function
	optional bool // without an expression the elements themselves count
	call     func(m *machine, list Value, test func(i int, element Value) (Value, error)) (Value, error)
}

// Functions returns the functions of the expression language by name.
func Functions() []Function {
	var all []Function
	for _, f := range functions {
		all = append(all, f.Function)
	}
	for _, f := range dateFunctions {
		all = append(all, f.Function)
	}
	for _, p := range predicates {
		all = append(all, p.Function)
	}
	slices.SortFunc(all, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// call compiles a call of a function.
func (c *compiler) call(n ast.Node, name string, arguments []ast.Node) eval {
	if i := slices.IndexFunc(predicates, func(p predicate) bool { return p.Name == name }); i >= 0 {
		if _, ok := n.(*ast.BuiltinNode); ok {
			return c.predicate(n, predicates[i], arguments)
		}
	}
	if i := slices.IndexFunc(dateFunctions, func(f dateFunction) bool { return f.Name == name }); i >= 0 {
		return c.dates(n, dateFunctions[i], arguments)
	}
	i := slices.IndexFunc(functions, func(f function) bool { return f.Name == name })
	if i < 0 {
		hint := "see the list of functions"
		if near := nearest.Name(name, functionNames()); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		return c.fail(n, fmt.Sprintf("function %q is not known", name), hint)
	}
	f := functions[i]
	if len(arguments) < f.min || f.max >= 0 && len(arguments) > f.max {
		return c.fail(n, fmt.Sprintf("%s takes another number of arguments", name), "for example "+f.Example)
	}
	if f.Name == "replace" || f.Name == "split" {
		if s, ok := arguments[1].(*ast.StringNode); ok && s.Value == "" {
			return c.fail(arguments[1], name+" needs a text to look for", "")
		}
	}
	return c.valuesFirst(arguments, f.nulls, f.call)
}

// valuesFirst evaluates the arguments and then calls f, which does not keep the slice; null as the first gives null unless nulls is set.
func (c *compiler) valuesFirst(arguments []ast.Node, nulls bool, f func(m *machine, args []Value) (Value, error)) eval {
	evals := make([]eval, len(arguments))
	for i, a := range arguments {
		evals[i] = c.node(a)
	}
	return func(m *machine) (Value, error) {
		base := len(m.args)
		for _, e := range evals {
			v, err := e(m)
			if err != nil {
				return Null, err
			}
			m.args = append(m.args, v)
		}
		args := m.args[base:]
		m.args = m.args[:base] // an error ends the evaluation, and what is on the stack with it
		if !nulls && len(args) > 0 && args[0].IsNull() {
			return Null, nil
		}
		return f(m, args)
	}
}

// dates compiles a call of a date function. Its zone is the third argument, or else the flow's.
func (c *compiler) dates(n ast.Node, f dateFunction, arguments []ast.Node) eval {
	if len(arguments) < 2 || len(arguments) > 3 {
		return c.fail(n, f.Name+" takes another number of arguments", "for example "+f.Example)
	}
	pattern, ok := arguments[1].(*ast.StringNode)
	if !ok {
		return c.fail(arguments[1], "a layout is written out: data is never compiled", "for example "+f.Example)
	}
	layout, err := ParseLayout(pattern.Value)
	if err != nil {
		return c.fail(arguments[1], err.Error(), "for example "+f.Example)
	}
	var fixed *time.Location
	if len(arguments) == 3 {
		if zone, ok := arguments[2].(*ast.StringNode); ok {
			if fixed, err = time.LoadLocation(zone.Value); err != nil {
				return c.fail(arguments[2], fmt.Sprintf("the time zone %q is not known", zone.Value), "for example Europe/Berlin")
			}
		}
	}
	return c.valuesFirst(arguments, false, func(m *machine, args []Value) (Value, error) {
		s, err := m.textOf(f.Name, args[0])
		if err != nil {
			return Null, err
		}
		zone := m.zone()
		if fixed != nil {
			zone = fixed
		} else if len(args) == 3 {
			if err := m.spend(2000); err != nil { // the zone is read from a file
				return Null, err
			}
			if zone, err = time.LoadLocation(args[2].Text()); err != nil {
				return Null, fmt.Errorf("%s: the time zone is not known", f.Name)
			}
		}
		out, err := f.call(s, layout, zone, len(args) == 3)
		return Text(out), err
	})
}

func (c *compiler) predicate(n ast.Node, p predicate, arguments []ast.Node) eval {
	if len(arguments) == 0 || len(arguments) > 2 || len(arguments) < 2 && !p.optional {
		return c.fail(n, p.Name+" takes another number of arguments", "for example "+p.Example)
	}
	list := c.node(arguments[0])
	var body eval
	before := c.nodes
	if len(arguments) == 2 {
		inner, ok := arguments[1].(*ast.PredicateNode)
		if !ok {
			return c.fail(n, p.Name+" needs an expression over the elements", "for example "+p.Example)
		}
		if c.nesting++; c.nesting > maxNesting {
			return c.fail(n, fmt.Sprintf("expressions over lists can be nested %d deep", maxNesting), "split the work over several fields")
		}
		body = c.node(inner.Node)
		c.nesting--
	}
	cost := 1 + c.nodes - before // of one element
	return func(m *machine) (Value, error) {
		v, err := list(m)
		if err != nil {
			return Null, err
		}
		return p.call(m, v, func(i int, element Value) (Value, error) {
			if err := m.spend(cost); err != nil {
				return Null, err
			}
			if body == nil {
				return element, nil
			}
			m.frames = append(m.frames, frame{element, i})
			result, err := body(m)
			m.frames = m.frames[:len(m.frames)-1]
			return result, err
		})
	}
}

func functionNames() []string {
	var names []string
	for _, f := range Functions() {
		names = append(names, f.Name)
	}
	return names
}

// texts makes a function of one to three texts, which does not keep the slice.
func texts(name, does, example, result string, arity int, f func(s []string) (string, error)) function {
	return function{Function: Function{name, does, example, result}, min: arity, max: arity, call: func(m *machine, args []Value) (Value, error) {
		s := m.texts[:len(args)]
		size := 0
		for i, a := range args {
			var err error
			if s[i], err = m.textOf(name, a); err != nil {
				return Null, err
			}
			size += len(s[i])
		}
		if err := m.charge(2 * size); err != nil {
			return Null, err
		}
		out, err := f(s)
		if err != nil {
			return Null, err
		}
		return Text(out), m.charge(len(out))
	}}
}

// numbers makes a function of one number.
func numbers(name, does, example, result string, f func(d Decimal) Decimal) function {
	return function{Function: Function{name, does, example, result}, min: 1, max: 1, call: func(m *machine, args []Value) (Value, error) {
		d, ok := m.number(args[0])
		if !ok {
			return Null, fmt.Errorf("%s needs a number, this is %s", name, describe(args[0]))
		}
		return m.give(f(d))
	}}
}

// lists makes a function of one list, or of one value as a list of one. f does not change the values.
func lists(name, does, example, result string, f func(m *machine, values []Value) (Value, error)) function {
	return function{Function: Function{name, does, example, result}, min: 1, max: 1, call: func(m *machine, args []Value) (Value, error) {
		if args[0].Kind() == KindList {
			return f(m, args[0].node().values)
		}
		return f(m, slices.Clone(args))
	}}
}

// copied is a list function's own copy of the values.
func (m *machine) copied(values []Value) ([]Value, error) {
	if err := m.spend(len(values)); err != nil {
		return nil, err
	}
	return slices.Clone(values), m.charge(32 * len(values))
}

// sorted returns values in the order of their keys. Equal keys keep their order.
func (m *machine) sorted(name string, values, keys []Value) (Value, error) {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	if err := m.charge(40 * len(values)); err != nil {
		return Null, err
	}
	var fault error
	slices.SortStableFunc(order, func(a, b int) int {
		if fault != nil {
			return 0
		}
		var order int
		order, fault = m.compare(keys[a], keys[b])
		return order
	})
	if fault != nil {
		return Null, fmt.Errorf("%s: %w", name, fault)
	}
	out := make([]Value, len(values))
	for i, at := range order {
		out[i] = values[at]
	}
	return List(out), nil
}

// extreme finds the least or greatest of its arguments, or of the list that is its one argument; nulls do not count.
func extreme(name, does, example, result string, want int) function {
	return function{Function: Function{name, does, example, result}, min: 1, max: -1, nulls: true, call: func(m *machine, args []Value) (Value, error) {
		values := List(args)
		if len(args) == 1 {
			values = args[0]
		}
		best := Null
		for _, v := range values.Values() {
			if err := m.spend(1); err != nil {
				return Null, err
			}
			if v.IsNull() {
				continue
			}
			if best.IsNull() {
				best = v
				continue
			}
			order, err := m.compare(v, best)
			if err != nil {
				return Null, fmt.Errorf("%s: %w", name, err)
			}
			if order == want {
				best = v
			}
		}
		return best, nil
	}}
}

var functions []function

// The table is filled here because its functions lead back to it.
func init() {
	functions = []function{
		texts("upper", "the text in capital letters", `upper('abc')`, `"ABC"`, 1, func(s []string) (string, error) { return strings.ToUpper(s[0]), nil }),
		texts("lower", "the text in small letters", `lower('ABC')`, `"abc"`, 1, func(s []string) (string, error) { return strings.ToLower(s[0]), nil }),
		texts("trim", "the text without white space around it", `trim(' a ')`, `"a"`, 1, func(s []string) (string, error) { return strings.TrimSpace(s[0]), nil }),
		texts("replace", "the text with each place of one part replaced by another", `replace('a-b-c', '-', '+')`, `"a+b+c"`, 3, func(s []string) (string, error) {
			if s[1] == "" {
				return "", errors.New("replace needs a text to look for")
			}
			if n := strings.Count(s[0], s[1]); n*len(s[2]) > maxMemory {
				return "", errBudget
			}
			return strings.ReplaceAll(s[0], s[1], s[2]), nil
		}),
		texts("base64", "the text's bytes in base64 (RFC 4648 section 4)", `base64('hi')`, `"aGk="`, 1, func(s []string) (string, error) {
			return base64.StdEncoding.EncodeToString([]byte(s[0])), nil
		}),
		texts("fromBase64", "the text that base64 stands for", `fromBase64('aGk=')`, `"hi"`, 1, func(s []string) (string, error) {
			b, err := base64.StdEncoding.DecodeString(s[0])
			if err != nil {
				return "", errors.New("this is no base64")
			}
			return strings.ToValidUTF8(string(b), "\uFFFD"), nil
		}),
		texts("sha256", "the SHA-256 of the text's bytes, in hexadecimal digits", `sha256('')`, `"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`, 1, func(s []string) (string, error) {
			sum := sha256.Sum256([]byte(s[0]))
			return hex.EncodeToString(sum[:]), nil
		}),
		{Function{"concat", "the texts one after the other; null counts as no text", `concat('a', 1, nil)`, `"a1"`}, 1, -1, true, func(m *machine, args []Value) (Value, error) {
			var b strings.Builder
			for _, a := range args {
				if a.IsNull() {
					continue
				}
				s, err := m.textOf("concat", a)
				if err != nil {
					return Null, err
				}
				if err := m.charge(len(s)); err != nil {
					return Null, err
				}
				b.WriteString(s)
			}
			return Text(b.String()), nil
		}},
		{Function{"split", "the parts of a text between separators", `split('a,b', ',')`, `["a","b"]`}, 2, 2, false, func(m *machine, args []Value) (Value, error) {
			s, err := m.textOf("split", args[0])
			if err != nil {
				return Null, err
			}
			separator, err := m.textOf("split", args[1])
			if err != nil {
				return Null, err
			}
			if separator == "" {
				return Null, errors.New("split needs a separator")
			}
			n := strings.Count(s, separator) + 1
			if err := m.charge(32 * n); err != nil {
				return Null, err
			}
			values := make([]Value, 0, n)
			for part := range strings.SplitSeq(s, separator) {
				values = append(values, Text(part))
			}
			return List(values), nil
		}},
		{Function{"join", "the texts of a list with a separator between them", `join(['a', 'b'], '-')`, `"a-b"`}, 2, 2, false, func(m *machine, args []Value) (Value, error) {
			separator, err := m.textOf("join", args[1])
			if err != nil {
				return Null, err
			}
			var b strings.Builder
			for i, v := range args[0].Values() {
				s, err := m.textOf("join", v)
				if err != nil {
					return Null, err
				}
				if err := m.charge(len(s) + len(separator)); err != nil {
					return Null, err
				}
				if i > 0 {
					b.WriteString(separator)
				}
				b.WriteString(s)
			}
			return Text(b.String()), nil
		}},
		{Function{"len", "how many characters a text has, elements a list, fields an object", `len('äb')`, `2`}, 1, 1, false, func(m *machine, args []Value) (Value, error) {
			switch v := args[0]; v.Kind() {
			case KindList, KindObject:
				return Int(int64(v.Len())), nil
			case KindText, KindUntyped:
				return Int(int64(utf8.RuneCountInString(v.Text()))), m.spendText(len(v.Text()))
			}
			return Null, fmt.Errorf("len needs text, a list or an object, this is %s", args[0].Kind())
		}},
		{Function{"number", "the number that a text writes", `number('1.50')`, `1.50`}, 1, 1, false, func(m *machine, args []Value) (Value, error) {
			if args[0].Kind() == KindNumber {
				return args[0], nil
			}
			s, err := m.textOf("number", args[0])
			if err != nil {
				return Null, err
			}
			if _, err := ParseDecimal(s); err != nil {
				return Null, fmt.Errorf("number: %w", err)
			}
			return Number(s), nil
		}},
		{Function{"text", "the value as text", `text(1.50)`, `"1.50"`}, 1, 1, false, func(m *machine, args []Value) (Value, error) {
			s, err := m.textOf("text", args[0])
			return Text(s), err
		}},
		{Function{"bool", "true for true, 'true', 1, '1', 'yes'; false for their opposites", `bool('yes')`, `true`}, 1, 1, false, func(_ *machine, args []Value) (Value, error) {
			for _, word := range []string{"true", "1", "yes", "y"} {
				if strings.EqualFold(args[0].Text(), word) {
					return Bool(true), nil
				}
			}
			for _, word := range []string{"false", "0", "no", "n"} {
				if strings.EqualFold(args[0].Text(), word) {
					return Bool(false), nil
				}
			}
			return Null, errors.New("bool needs true or false, yes or no, 1 or 0")
		}},
		{Function{"list", "the value as a list: a list as it is, null empty, anything else as a list of one", `list('a')`, `["a"]`}, 1, 1, true, func(_ *machine, args []Value) (Value, error) {
			switch args[0].Kind() {
			case KindList:
				return args[0], nil
			case KindNull:
				return List(nil), nil
			}
			return List(slices.Clone(args)), nil
		}},
		{Function{"coalesce", "the first argument that is not null", `coalesce(nil, 'a')`, `"a"`}, 1, -1, true, func(_ *machine, args []Value) (Value, error) {
			for _, a := range args {
				if !a.IsNull() {
					return a, nil
				}
			}
			return Null, nil
		}},
		numbers("abs", "the number without its sign", `abs(-1.5)`, `1.5`, func(d Decimal) Decimal {
			if d.Sign() < 0 {
				return d.Neg()
			}
			return d
		}),
		numbers("floor", "the greatest whole number that is not above", `floor(1.5)`, `1`, Decimal.Floor),
		numbers("ceil", "the least whole number that is not below", `ceil(1.5)`, `2`, Decimal.Ceil),
		{Function{"round", "the number rounded to places after the point, half away from zero", `round(2.675, 2)`, `2.68`}, 1, 2, false, func(m *machine, args []Value) (Value, error) {
			d, ok := m.number(args[0])
			places := 0
			if len(args) == 2 {
				p, isNumber := m.number(args[1])
				n, whole := p.Int()
				ok, places = ok && isNumber && whole, n
			}
			if !ok {
				return Null, errors.New("round needs a number and a whole number of places")
			}
			return m.give(d.Round(places))
		}},
		extreme("min", "the least of its arguments, or of a list", `min([2, 1])`, `1`, -1),
		extreme("max", "the greatest of its arguments, or of a list", `max(1, 2)`, `2`, 1),
		lists("first", "the first element, null when there is none", `first([1, 2])`, `1`, func(_ *machine, v []Value) (Value, error) {
			if len(v) == 0 {
				return Null, nil
			}
			return v[0], nil
		}),
		lists("last", "the last element, null when there is none", `last([1, 2])`, `2`, func(_ *machine, v []Value) (Value, error) {
			if len(v) == 0 {
				return Null, nil
			}
			return v[len(v)-1], nil
		}),
		lists("reverse", "the elements from the last to the first", `reverse([1, 2])`, `[2,1]`, func(m *machine, v []Value) (Value, error) {
			v, err := m.copied(v)
			slices.Reverse(v)
			return List(v), err
		}),
		lists("sort", "the elements in order, numbers by value, texts by code point", `sort([2, 1])`, `[1,2]`, func(m *machine, v []Value) (Value, error) {
			return m.sorted("sort", v, v)
		}),
		lists("uniq", "the elements without repetitions", `uniq([1, 2, 1])`, `[1,2]`, func(m *machine, v []Value) (Value, error) {
			var out []Value
			alike := map[string][]Value{} // what can be equal, by what equality goes by
			for _, e := range v {
				class := e.Text()
				if d, ok := m.number(e); ok {
					class = d.shortest().String()
				}
				if err := m.take(1, 96+len(class)); err != nil {
					return Null, err
				}
				repeated := false
				for _, o := range alike[class] {
					same, err := m.equal(o, e)
					if err != nil {
						return Null, err
					}
					repeated = repeated || same
				}
				if !repeated {
					out, alike[class] = append(out, e), append(alike[class], e)
				}
			}
			return List(out), nil
		}),
		{Function{"keys", "the names of an object's fields", `keys({a: 1})`, `["a"]`}, 1, 1, false, func(m *machine, args []Value) (Value, error) {
			var out []Value
			for name := range args[0].Fields() {
				out = append(out, Text(name))
			}
			return List(out), m.take(len(out), 32*len(out))
		}},
		{Function{"values", "the values of an object's fields", `values({a: 1})`, `[1]`}, 1, 1, false, func(m *machine, args []Value) (Value, error) {
			var out []Value
			for _, v := range args[0].Fields() {
				out = append(out, v)
			}
			return List(out), m.take(len(out), 32*len(out))
		}},
		{Function{"now", "when the run's first attempt began, in the flow's time zone", `len(now()) > 19`, `true`}, 0, 0, true, func(m *machine, _ []Value) (Value, error) {
			return Text(isoTime(m.env.Now.In(m.zone()), true)), nil
		}},
		{Function{"today", "the day when the run's first attempt began, in the flow's time zone", `len(today())`, `10`}, 0, 0, true, func(m *machine, _ []Value) (Value, error) {
			return Text(isoTime(m.env.Now.In(m.zone()), false)), nil
		}},
	}
}

func (m *machine) zone() *time.Location {
	if m.env.Zone == nil {
		return time.UTC
	}
	return m.env.Zone
}

var dateFunctions = []dateFunction{
	{Function{"date", "a date or time read in a layout, in ISO 8601; a zone is for times that name none", `date('31.12.2026', 'dd.MM.yyyy')`, `"2026-12-31"`},
		func(s string, layout Layout, zone *time.Location, _ bool) (string, error) {
			t, err := layout.Parse(s, zone)
			if err != nil {
				return "", errors.New("date: the text does not have the layout " + layout.String())
			}
			return isoTime(t, layout.hasTime), nil
		}},
	{Function{"formatDate", "an ISO 8601 date or time written in a layout, in the zone given or else its own", `formatDate('2026-12-31', 'dd.MM.yy')`, `"31.12.26"`},
		func(s string, layout Layout, zone *time.Location, zoned bool) (string, error) {
			t, err := parseISO(s, zone)
			if err != nil {
				return "", errors.New("formatDate needs a date such as 2026-12-31 or a time such as 2026-12-31T10:00:00Z")
			}
			if zoned {
				t = t.In(zone)
			}
			return layout.Format(t), nil
		}},
}

// counting makes a predicate of how many elements the test is true for.
func counting(name, does, example, result string, finish func(hits, all int) Value) predicate {
	return predicate{Function: Function{name, does, example, result}, optional: name == "count",
		call: func(m *machine, list Value, test func(int, Value) (Value, error)) (Value, error) {
			hits, all := 0, 0
			for i, v := range list.Values() {
				result, err := test(i, v)
				if err != nil {
					return Null, err
				}
				is, err := condition(result)
				if err != nil {
					return Null, err
				}
				if all++; is {
					hits++
				}
			}
			return finish(hits, all), nil
		}}
}

// finding makes a predicate of the elements that the test is true for, at most so many (-1: all).
func finding(name, does, example, result string, f func(hits []Value, places []int) Value, most int) predicate {
	return predicate{Function: Function{name, does, example, result}, call: func(m *machine, list Value, test func(int, Value) (Value, error)) (Value, error) {
		var hits []Value
		var places []int
		for i, v := range list.Values() {
			result, err := test(i, v)
			if err != nil {
				return Null, err
			}
			is, err := condition(result)
			if err != nil {
				return Null, err
			}
			if is {
				if err := m.charge(80); err != nil {
					return Null, err
				}
				if hits, places = append(hits, v), append(places, i); len(hits) == most {
					break
				}
			}
		}
		return f(hits, places), nil
	}}
}

var predicates = []predicate{
	counting("all", "whether it is true for every element", `all([1, 2], # > 0)`, `true`, func(hits, all int) Value { return Bool(hits == all) }),
	counting("any", "whether it is true for an element", `any([1, 2], # > 1)`, `true`, func(hits, _ int) Value { return Bool(hits > 0) }),
	counting("none", "whether it is true for no element", `none([1, 2], # > 2)`, `true`, func(hits, _ int) Value { return Bool(hits == 0) }),
	counting("one", "whether it is true for exactly one element", `one([1, 2], # > 1)`, `true`, func(hits, _ int) Value { return Bool(hits == 1) }),
	counting("count", "for how many elements it is true", `count([1, 2, 3], # > 1)`, `2`, func(hits, _ int) Value { return Int(int64(hits)) }),
	finding("filter", "the elements that it is true for", `filter([1, 2, 3], # > 1)`, `[2,3]`, func(hits []Value, _ []int) Value { return List(hits) }, -1),
	finding("find", "the first element that it is true for, null when there is none", `find([1, 2, 3], # > 1)`, `2`, func(hits []Value, _ []int) Value {
		if len(hits) == 0 {
			return Null
		}
		return hits[0]
	}, 1),
	finding("findIndex", "the position of the first element that it is true for, null when there is none", `findIndex([1, 2, 3], # > 1)`, `1`, func(_ []Value, places []int) Value {
		if len(places) == 0 {
			return Null
		}
		return Int(int64(places[0]))
	}, 1),
	finding("findLast", "the last element that it is true for, null when there is none", `findLast([1, 2, 3], # > 1)`, `3`, func(hits []Value, _ []int) Value {
		if len(hits) == 0 {
			return Null
		}
		return hits[len(hits)-1]
	}, -1),
	{Function: Function{"map", "what it gives for each element", `map([1, 2], # * 2)`, `[2,4]`}, call: func(m *machine, list Value, test func(int, Value) (Value, error)) (Value, error) {
		var out []Value
		for i, v := range list.Values() {
			result, err := test(i, v)
			if err != nil {
				return Null, err
			}
			if err := m.charge(64); err != nil {
				return Null, err
			}
			out = append(out, result)
		}
		return List(out), nil
	}},
	{Function: Function{"sum", "the sum of the elements, or of what it gives for each; nulls do not count", `sum([{q: 2, p: 0.1}], .q * .p)`, `0.2`}, optional: true, call: func(m *machine, list Value, test func(int, Value) (Value, error)) (Value, error) {
		total := Decimal{}
		for i, v := range list.Values() {
			result, err := test(i, v)
			if err != nil {
				return Null, err
			}
			if result.IsNull() {
				continue
			}
			d, ok := m.number(result)
			if !ok {
				return Null, fmt.Errorf("sum needs numbers, this is %s", describe(result))
			}
			if total.big != nil {
				if err := m.spend(int(total.big.NumDigits())); err != nil {
					return Null, err
				}
			}
			if total, err = total.Add(d); err != nil {
				return Null, err
			}
		}
		return total.Value(), nil
	}},
	{Function: Function{"sortBy", "the elements in the order of what it gives for each", `sortBy([{a: 2}, {a: 1}], .a)`, `[{"a":1},{"a":2}]`}, call: func(m *machine, list Value, test func(int, Value) (Value, error)) (Value, error) {
		var values, keys []Value
		for i, v := range list.Values() {
			key, err := test(i, v)
			if err != nil {
				return Null, err
			}
			if err := m.charge(64); err != nil {
				return Null, err
			}
			values, keys = append(values, v), append(keys, key)
		}
		return m.sorted("sortBy", values, keys)
	}},
}
