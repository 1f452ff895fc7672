package transform_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/transform"
)

// order is what most expressions here are about.
const order = `{
	"qty": 3, "price": 105.55, "text": "abc", "word": "5", "none": null, "flag": true, "empty": "",
	"list": [3, 1, 2], "lines": [{"qty": 2, "price": 0.1, "sku": "a"}, {"qty": 1, "price": 10, "sku": "b"}],
	"other": [{"qty": 2, "price": 0.10, "sku": "a"}, {"qty": 1, "price": 10.0, "sku": "b"}],
	"customer": {"first": "Ada", "last": "Lovelace"},
	"type": "t", "count": 7, "first": "f", "header": "a field", "in": "keyword", "Cost Total $": 9.99,
	"big": 12345678901234567890, "long": 12345678901234567890123, "huge": 1e400,
	"id": [{"@type": "MRN", "#text": "4711"}, {"@type": "SSN", "#text": "1"}], "one": {"@type": "MRN", "#text": "4712"}
}`

// row is order as a format without types has it.
const row = `{"qty": "3", "price": "105.55", "a": "1", "b": "2.0", "two": "2", "word": "abc", "zeros": "007", "empty": "", "none": null}`

// value reads JSON, numbers digit for digit.
func value(t testing.TB, text string) transform.Value {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	v, err := read(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func read(d *json.Decoder) (transform.Value, error) {
	token, err := d.Token()
	switch token := token.(type) {
	case bool:
		return transform.Bool(token), err
	case string:
		return transform.Text(token), err
	case json.Number:
		return transform.Number(token.String()), err
	case json.Delim:
		var names []string
		var values []transform.Value
		for d.More() {
			if token == '{' {
				name, err := d.Token()
				if err != nil {
					return transform.Null, err
				}
				names = append(names, name.(string))
			}
			v, err := read(d)
			if err != nil {
				return transform.Null, err
			}
			values = append(values, v)
		}
		if _, err := d.Token(); err != nil || token == '[' {
			return transform.List(values), err
		}
		return transform.NewObject(transform.NewShape(names...), values), nil
	}
	return transform.Null, err
}

// untyped is a value whose texts have no type, as CSV and XML give them.
func untyped(v transform.Value) transform.Value {
	switch v.Kind() {
	case transform.KindText:
		return transform.Untyped(v.Text())
	case transform.KindList:
		var values []transform.Value
		for _, e := range v.Values() {
			values = append(values, untyped(e))
		}
		return transform.List(values)
	case transform.KindObject:
		out := transform.NewObject(transform.NewShape(), nil)
		for name, e := range v.Fields() {
			out = out.With(name, untyped(e))
		}
		return out
	}
	return v
}

// shown is a value as JSON.
func shown(v transform.Value) string {
	var parts []string
	switch v.Kind() {
	case transform.KindNull:
		return "null"
	case transform.KindBool, transform.KindNumber:
		return v.Text()
	case transform.KindList:
		for _, e := range v.Values() {
			parts = append(parts, shown(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case transform.KindObject:
		for name, e := range v.Fields() {
			parts = append(parts, strconv.Quote(name)+":"+shown(e))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return strconv.Quote(v.Text())
}

// environment is a run's.
func environment(t testing.TB) *transform.Env {
	t.Helper()
	late := func(document string) transform.Late {
		v := value(t, document)
		return transform.Late{Make: func() transform.Value { return v }}
	}
	return &transform.Env{
		Param:   value(t, `{"day": "2026-11-20", "store": "12"}`),
		Query:   late(`{"page": "2"}`),
		Header:  late(`{"X-GitHub-Event": "push", "Accept": "*/*"}`),
		Message: late(`{"id": "m1"}`),
		Run:     late(`{"id": "r1", "number": 17}`),
		Error:   value(t, `{"kind": "input"}`),
		Now:     time.Date(2026, 11, 20, 23, 30, 0, 0, time.UTC),
		Zone:    berlin(t),
	}
}

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// result is what an expression gives for a record: JSON, or ! and the error.
func result(t testing.TB, source string, env *transform.Env, rec *transform.Record, options transform.CompileOptions) string {
	t.Helper()
	e, err := transform.CompileExpression(source, options)
	if err != nil {
		return "!! " + err.Error()
	}
	v, err := e.Eval(env, rec)
	if err != nil {
		return "! " + err.Error()
	}
	return shown(v)
}

// evaluation is one row: what an expression gives. A result that begins with ! is part of the error of one record, with !! of one when the
// expression is defined.
type evaluation struct{ name, source, want string }

func evaluations(t *testing.T, rec *transform.Record, options transform.CompileOptions, rows []evaluation) {
	t.Helper()
	env := environment(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := result(t, row.source, env, rec, options)
			if got != row.want && !(strings.HasPrefix(row.want, "!") && strings.HasPrefix(got, strings.Fields(row.want)[0]+" ") &&
				strings.Contains(got, strings.TrimLeft(row.want, "! "))) {
				t.Errorf("%s\n got %s\nwant %s", row.source, got, row.want)
			}
		})
	}
}

func TestExpression(t *testing.T) {
	t.Parallel()
	v := value(t, order)
	rec := &transform.Record{Value: v, Source: v, Index: 4, Scope: &transform.Scope{Parent: value(t, `{"id": "p"}`), Doc: value(t, `{"id": "d"}`)}}
	evaluations(t, rec, transform.CompileOptions{}, []evaluation{
		// Numbers are exact.
		{"product of a decimal", "qty * price", "316.65"},
		{"tenths", "0.1 + 0.2", "0.3"},
		{"difference", "0.3 - 0.1", "0.2"},
		{"tiny square", "1e-10 * 1e-10", "0.00000000000000000001"},
		{"twenty digits", "big + 1", "12345678901234567891"},
		{"twenty-three digits", "long + 1", "12345678901234567890124"},
		{"literal of twenty digits", "12345678901234567890 + 1", "12345678901234567891"},
		{"negative literal of twenty digits", "-12345678901234567890", "-12345678901234567890"},
		{"literal with many decimals", "0.1234567890123456789012345", "0.1234567890123456789012345"},
		{"literal beyond floats", "1e400 == huge", "true"},
		{"literal with _", "1_000.5 + 0", "1000.5"},
		{"literal that begins with a point", ".5 + 0", "0.5"},
		{"literal before a range", "1..3", "[1,2,3]"},
		{"decimal before a range", "[1.5, 2][0:1]", "[1.5]"},
		{"hexadecimal literal", "0x10 + 0", "16"},
		{"a literal keeps its digits", "1.50", "1.50"},
		{"exact division", "1 / 8", "0.125"},
		{"division without end", "1 / 3", "0.3333333333333333333333333333333333"},
		{"division keeps long integers", "123456789012345678901234567890123456789012 / 2", "61728394506172839450617283945061728394506"},
		{"cents", "123456 / 100", "1234.56"},
		{"division by zero", "1 / 0", "! division by zero"},
		{"remainder", "7 % 3", "1"},
		{"remainder has the sign of the dividend", "-7 % 3", "-1"},
		{"remainder of decimals", "0.7 % 0.2", "0.1"},
		{"remainder of nothing", "1 % 0", "! division by zero"},
		{"power", "2 ^ 100", "1267650600228229401496703205376"},
		{"power with **", "1.1 ** 2", "1.21"},
		{"power of nothing", "0 ^ 0", "1"},
		{"power too large", "10 ^ 1001", "! an exponent"},
		{"product too long", "huge * huge * huge", "! too large"},
		{"minus", "-price", "-105.55"},
		{"rounding half away from zero", "round(2.675, 2)", "2.68"},
		{"rounding of a negative half", "round(-2.5)", "-3"},
		{"rounding before the point", "round(1250, -2)", "1300"},
		{"rounding to nothing", "round(5, -1000)", "0"},
		{"floor below zero", "floor(-1.5)", "-2"},
		{"ceil below zero", "ceil(-1.5)", "-1"},
		{"abs", "abs(-12345678901234567890)", "12345678901234567890"},
		{"sum", "sum(list)", "6"},
		{"sum with an expression", "sum(lines, .qty * .price)", "10.2"},
		{"sum over nothing", "sum(none)", "0"},
		{"min and max", "[min(list), max(list), min(2, 1.0), max(big, long)]", "[1,3,1.0,12345678901234567890123]"},
		{"sort by value", "sort([10, 9, 1e1, 0.5])", "[0.5,9,10,1e1]"},
		{"sort of what has no order", "sort([1, 'a'])", "! no order"},
		{"comparison of long numbers", "long > big", "true"},
		{"an index that was calculated", "list[20 / 20]", "1"},
		{"an index that ends in zeros", "(1..30)[200 / 10]", "21"},
		{"arithmetic needs numbers", "qty * text", "! right side is text"},
		{"typed text is no number", "word * 2", "! left side is text"},
		{"a bool is no number", "flag + 1", "! left side is bool"},

		// == and order.
		{"numbers equal by value", "1.0 == 1", "true"},
		{"different digits", "price != 105.550", "false"},
		{"typed text and a number", "word == 5", "false"},
		{"texts", "text == 'abc'", "true"},
		{"lists", "lines == other", "true"},
		{"objects in any order", "{a: 1, b: 2} == {b: 2.0, a: 1}", "true"},
		{"objects that differ", "{a: 1} == {a: 1, b: nil}", "false"},
		{"texts in order", "'a' < 'b'", "true"},
		{"text and number have no order", "text < 1", "! no order"},
		{"between", "1 < qty and qty <= 3", "true"},

		// Null.
		{"missing field", "nothing", "null"},
		{"through null", "none.a.b", "null"},
		{"through a missing field", "nothing.a[0].b", "null"},
		{"arithmetic", "none + 1", "null"},
		{"product", "qty * none", "null"},
		{"joined text", "'a' + none", "null"},
		{"negative", "-none", "null"},
		{"comparison", "none < 1", "false"},
		{"comparison the other way", "none >= 1", "false"},
		{"unequal", "none != 1", "false"},
		{"equal", "none == 0", "false"},
		{"two nulls in fields", "none == nothing", "false"},
		{"test for null", "none == nil", "true"},
		{"test for not null", "qty != nil", "true"},
		{"condition", "none ? 1 : 2", "2"},
		{"and", "none and true", "false"},
		{"or", "none or true", "true"},
		{"not", "not none", "true"},
		{"function", "upper(none)", "null"},
		{"range", "1..none", "null"},
		{"slice", "none[0:1]", "null"},
		{"in", "none in [1]", "false"},
		{"fallback", "none ?? 'x'", `"x"`},
		{"fallback is not for empty text", "empty ?? 'x'", `""`},
		{"fallback of a chain", "nothing.a ?? none ?? 3", "3"},
		{"fallback binds tighter than +", "'a' + (none ?? 'b')", `"ab"`},
		{"a number is no condition", "qty ? 1 : 2", "! a condition must be true or false"},
		{"text is no condition", "not text", "! a condition must be true or false"},

		// Names.
		{"this", "this.qty", "3"},
		{"parent", "parent.id", `"p"`},
		{"doc", "doc.id", `"d"`},
		{"index", "index + 1", "5"},
		{"param", "param.day", `"2026-11-20"`},
		{"query", "query.page", `"2"`},
		{"message", "message.id", `"m1"`},
		{"run", "run.number", "17"},
		{"error", "error.kind", `"input"`},
		{"header ignores case", "header['x-github-event']", `"push"`},
		{"header by a name that is calculated", "header['x-github-' + 'EVENT']", `"push"`},
		{"header with a point", "header.ACCEPT", `"*/*"`},
		{"missing header", "header['X-No']", "null"},
		{"a field with a name of the engine", "this.header", `"a field"`},
		{"odd name", `this["Cost Total $"] * 2`, "19.98"},
		{"keyword as a name", "this['in']", `"keyword"`},
		{"field type", "type", `"t"`},
		{"field count", "count + 1", "8"},
		{"field first", "first", `"f"`},
		{"field and function of one name", "first(list) + count", "10"},
		{"function that is none", "typ(1)", "!! function \"typ\" is not known"},
		{"function with a nearest name", "roud(1.5)", "!! did you mean round?"},
		{"function of the library that is left out", "reduce(list, #acc + #)", "!! not known"},
		{"functions of data", "customer.first()", "!! values have no methods"},
		{"text of several fields", "customer.last + ', ' + customer.first", `"Lovelace, Ada"`},
		{"text and number", "'no ' + qty", `"no 3"`},

		// Lists.
		{"element", "list[0]", "3"},
		{"element from the end", "list[-1]", "2"},
		{"element that is not there", "list[3]", "null"},
		{"field of a list", "list['a']", "null"},
		{"element of a place that is no number", "list[text]", "! whole number"},
		{"find with attributes", "find(list(id), #['@type'] == 'MRN')['#text']", `"4711"`},
		{"find in one", "find(list(one), #['@type'] == 'MRN')['#text']", `"4712"`},
		{"one or many", "map(one, #['#text'])", `["4712"]`},
		{"the first of one", "customer[0] == nil", "true"},
		{"index of an element", "map(list, #index)", "[0,1,2]"},
		{"expressions in each other", "map(lines, sum(lines, .qty))", "[3,3]"},
		{"expressions too deep in each other", "map(list, map(list, map(list, #)))", "!! nested 2 deep"},
		{"a condition over lists", "any(lines, .sku == 'b' and .qty == 1)", "true"},
		{"sortBy", "map(sortBy(lines, .qty), .sku)", `["b","a"]`},
		{"uniq by value", "uniq([1, 1.0, 'a', '1', 'a'])", `[1,"a","1"]`},
		{"reverse leaves its list", "[reverse(list), list]", "[[2,1,3],[3,1,2]]"},
		{"sort leaves its list", "[sort(list), list]", "[[1,2,3],[3,1,2]]"},
		{"range the wrong way", "3..1", "[]"},
		{"part of a list", "list[1:]", "[1,2]"},
		{"part of a text", "'äöü'[1:2]", `"ö"`},
		{"part of a text from its end", "'äöü'[-1:]", `"ü"`},
		{"part beyond its end", "'äöü'[2:9]", `"ü"`},
		{"in a list", "qty in [1, 3]", "true"},
		{"in an object", "'last' in customer", "true"},
		{"pipe", "list | sort() | first()", "1"},

		// The rest of the language.
		{"let", "let x = qty * 2; x + 1", "7"},
		{"let in let", "let x = (let y = 2; y * y); let z = x + 1; x + z", "9"},
		{"let must not hide the engine's names", "let header = 1; header", "!! taken already"},
		{"condition", "qty >= 10 ? 9.5 : 10", "10"},
		{"object and list", "{a: [1, {b: qty}]}", `{"a":[1,{"b":3}]}`},
		{"object with a name twice", "{a: 1, a: 2}", "!! twice"},
		{"object with a name of the data", "{(text): 1}", "!! written out"},
		{"contains", "text contains 'b'", "true"},
		{"not startsWith", "text not startsWith 'b'", "true"},
		{"matches", "text matches '^[a-c]+$'", "true"},
		{"a pattern of the data", "text matches text", "!! data is never compiled"},
		{"a pattern that does not compile", "text matches '('", "!! does not compile"},
		{"a layout of the data", "date(text, text)", "!! data is never compiled"},
		{"a layout that is none", "date(text, 'YYYY')", "!! letter 'Y'"},
		{"a zone that is none", "date(text, 'yyyy', 'Europe/Berlitz')", "!! is not known"},
		{"number of arguments", "upper()", "!! for example upper('abc')"},
		{"date", "date('31.12.2026', 'dd.MM.yyyy')", `"2026-12-31"`},
		{"date that does not exist", "date('30.02.2026', 'dd.MM.yyyy')", "! does not have the layout dd.MM.yyyy"},
		{"date in another layout", "date('2026-12-31', 'dd.MM.yyyy')", "! does not have the layout"},
		{"time in the flow's zone", "date('31.12.2026 10:00', 'dd.MM.yyyy HH:mm')", `"2026-12-31T10:00:00+01:00"`},
		{"time in a zone", "date('31.12.2026 10:00', 'dd.MM.yyyy HH:mm', 'UTC')", `"2026-12-31T10:00:00Z"`},
		{"time in another zone", "formatDate('2026-07-01T22:30:00Z', 'dd.MM.yyyy HH:mm', 'Europe/Berlin')", `"02.07.2026 00:30"`},
		{"now in the flow's zone", "now()", `"2026-11-21T00:30:00+01:00"`},
		{"today in the flow's zone", "today()", `"2026-11-21"`},

		// Refusals with hints.
		{"one = to compare", "qty = 3", "!! write == to compare"},
		{"<> to compare", "qty <> 3", "!! write != for not equal"},
		{"${} in an expression", "${param.day}", "!! write the name alone"},
		{"empty", " ", "!! empty"},
		{"open parenthesis", "(1", "!! "},
		{"too long", strings.Repeat("1+", 2048) + "1", "!! longer than 4096 bytes"},
	})
}

func TestExpressionUntyped(t *testing.T) {
	t.Parallel()
	v := untyped(value(t, row))
	evaluations(t, &transform.Record{Value: v, Source: v}, transform.CompileOptions{UntypedSource: true}, []evaluation{
		{"product", "qty * price", "316.65"},
		{"difference", "price - qty", "102.55"},
		{"quotient", "price / a", "105.55"},
		{"remainder", "qty % two", "1"},
		{"less by value, not by letter", "qty < 12", "true"},
		{"two fields in order by value", "a < b", "true"},
		{"at least", "qty >= 3", "true"},
		{"== with a number", "b == 2", "true"},
		{"!= with a number", "b != 2", "false"},
		{"== of text that reads as no number", "word == 2", "false"},
		{"== with text", "qty == '3'", "true"},
		{"== with text is by letter", "b == '2'", "false"},
		{"== of two fields is by letter", "b == two", "false"},
		{"in numbers", "b in [1, 2]", "true"},
		{"leading zeros are no number", "zeros == 7", "false"},
		{"sum", "sum([a, b])", "3"},
		{"sort", "sort(['10', '9'])", `["10","9"]`},
		{"sort by value", "sort([price, qty, a])", `["1","3","105.55"]`},
		{"uniq with numbers", "uniq([b, 2, two])", `["2.0","2"]`},
		{"max", "max(a, qty, two)", `"3"`},
		{"minus", "-qty", "-3"},
		{"arithmetic of text that is none", "word * 2", "! left side is text that reads as no number"},
		{"order of text that is none", "word > 2", "! no order"},
		{"empty text is no number", "empty * 2", "! left side is text"},
		{"null", "none * 2", "null"},
		{"number + a constant", "qty + 1", "4"},
		{"text + a constant", "word + 'd'", `"abcd"`},
		{"word + number", "word + 1", "! left side is text that reads as no number"},
		{"number()", "number(a) + number(b)", "3"},
		{"concat()", "concat(a, b)", `"12.0"`},
		{"a name is no field", "let x = 1; x + qty", "4"},
		{"two fields", "a + b", "!! write number(a) + number(b) or concat(a, b)"},
		{"two fields of objects", "this.a + doc.b", "!! write number(this.a) + number(doc.b)"},
		{"two fields with odd names", `this["Cost $"] + a`, `!! number(this["Cost $"]) + number(a)`},
		{"two fields among others", "a + b + 1", "!! may add or join"},
		{"two fields of elements", "map(list, .a + .b)", "!! number(#.a) + number(#.b)"},
		{"two fields that may be missing", "a?.x + b", "!! may add or join"},
		{"two fields behind other things", "(a ?? 0) + (b ?? 0)", "! write number(a) + number(b)"},
	})
}

// TestExpressionWithoutRecord is what a flow without a source evaluates.
func TestExpressionWithoutRecord(t *testing.T) {
	t.Parallel()
	evaluations(t, nil, transform.CompileOptions{}, []evaluation{
		{"parameter", "param.store", `"12"`},
		{"field", "qty", "null"},
		{"this", "this.qty", "null"},
		{"doc", "doc.a", "null"},
	})
}

// TestFunctions evaluates the example of each function that the documentation shows.
func TestFunctions(t *testing.T) {
	t.Parallel()
	env := environment(t)
	seen := ""
	for _, f := range transform.Functions() {
		if f.Name <= seen {
			t.Errorf("%s stands behind %s", f.Name, seen)
		}
		seen = f.Name
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(f.Example, f.Name+"(") || f.Does == "" {
				t.Errorf("the example %s is not about %s", f.Example, f.Name)
			}
			if got := result(t, f.Example, env, nil, transform.CompileOptions{}); got != f.Result {
				t.Errorf("%s gives %s, its documentation says %s", f.Example, got, f.Result)
			}
		})
	}
}

// TestFaultOffset: a fault of a definition points to where it is in the text, in bytes.
func TestFaultOffset(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, source, at string }{
		{"unknown function", "'ä' + upp(1)", "upp"},
		{"syntax", "'ä' * * 2", "* 2"},
		{"pattern", "a matches '('", "'('"},
		{"layout", "date(a, 'YY')", "'YY'"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := transform.CompileExpression(row.source, transform.CompileOptions{})
			var d *transform.DefinitionError
			if !errors.As(err, &d) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(row.source[d.Offset:], row.at) {
				t.Errorf("points to %q, want %q", row.source[d.Offset:], row.at)
			}
		})
	}
}
