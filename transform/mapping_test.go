package transform_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

// mapOf reads a map as a definition holds it.
func mapOf(t testing.TB, text string) transform.Map {
	t.Helper()
	var m transform.Map
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMap(t *testing.T) {
	t.Parallel()
	const document = `{"id": 7, "qty": 2, "price": 105.55, "note": null, "message": "hi", "customer": {"first": "Ada", "last": "Lovelace"},
		"lines": [{"sku": "a", "n": 1, "parts": [{"p": "x"}]}, {"sku": "b"}], "one": {"sku": "c"}}`
	for _, row := range []struct{ name, mapping, want string }{
		{"paths in the order of the map", `{"b": "qty", "a": "id"}`, `{"b":2,"a":7}`},
		{"expression", `{"total": "= qty * price"}`, `{"total":211.1}`},
		{"constants", `{"n": 1.50, "t": true, "z": null}`, `{"n":1.50,"t":true,"z":null}`},
		{"text", `{"currency": "= 'EUR'"}`, `{"currency":"EUR"}`},
		{"missing path", `{"x": "nothing"}`, `{"x":null}`},
		{"fallback", `{"note": "= note ?? ''"}`, `{"note":""}`},
		{"object", `{"name": {"given": "customer.first", "n": {"q": "qty"}}}`, `{"name":{"given":"Ada","n":{"q":2}}}`},
		{"list", `{"l": ["id", "= qty + 1", [true]]}`, `{"l":[7,3,[true]]}`},
		{"empty object and list", `{"o": {}, "l": []}`, `{"o":{},"l":[]}`},
		{"all of a list", `{"skus": "lines[*].sku", "one": "one[*].sku", "none": "note[*]"}`, `{"skus":["a","b"],"one":["c"],"none":[]}`},
		{"each", `{"l": {"each": "lines[*]", "map": {"s": "sku", "o": "parent.id", "i": "= index + 1", "d": "doc.qty"}}}`,
			`{"l":[{"s":"a","o":7,"i":1,"d":2},{"s":"b","o":7,"i":2,"d":2}]}`},
		{"each of one", `{"l": {"each": "one", "map": {"s": "sku"}}}`, `{"l":[{"s":"c"}]}`},
		{"each of nothing", `{"l": {"each": "note", "map": {"s": "sku"}}}`, `{"l":[]}`},
		{"each in each", `{"l": {"each": "lines[*]", "map": {"p": {"each": "parts[*]", "map": {"p": "p", "s": "parent.sku"}}}}}`,
			`{"l":[{"p":[{"p":"x","s":"a"}]},{"p":[]}]}`},
		{"each with the rest", `{"l": {"each": "lines[*]", "map": {"s": "sku", "*": "*"}}}`, `{"l":[{"s":"a","n":1,"parts":[{"p":"x"}]},{"s":"b"}]}`},
		{"rest", `{"number": "id", "qty": "= qty + 1", "*": "*"}`,
			`{"number":7,"qty":3,"price":105.55,"note":null,"message":"hi","customer":{"first":"Ada","last":"Lovelace"},"lines":[{"sku":"a","n":1,"parts":[{"p":"x"}]},{"sku":"b"}],"one":{"sku":"c"}}`},
		{"rest without what was read", `{"*": "*", "a": "= this.price", "b": "this.message", "c": {"d": "lines[0].sku"}, "e": "one.sku", "f": "= sum([qty])"}`,
			`{"id":7,"note":null,"customer":{"first":"Ada","last":"Lovelace"},"a":105.55,"b":"hi","c":{"d":"a"},"e":"c","f":2}`},
		{"the rest in its place", `{"z": "id", "*": "*", "qty": "= qty + 1"}`,
			`{"z":7,"price":105.55,"note":null,"message":"hi","customer":{"first":"Ada","last":"Lovelace"},"lines":[{"sku":"a","n":1,"parts":[{"p":"x"}]},{"sku":"b"}],"one":{"sku":"c"},"qty":3}`},
		{"rest alone", `{"*": "*"}`,
			`{"id":7,"qty":2,"price":105.55,"note":null,"message":"hi","customer":{"first":"Ada","last":"Lovelace"},"lines":[{"sku":"a","n":1,"parts":[{"p":"x"}]},{"sku":"b"}],"one":{"sku":"c"}}`},
		{"the engine's name wins", `{"m": "message.id", "f": "this.message"}`, `{"m":"m1","f":"hi"}`},
		{"odd name", `{"Cost Total $": "qty"}`, `{"Cost Total $":2}`},
		{"field named each", `{"each": "id"}`, `{"each":7}`},
		{"nothing", `{}`, `{}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := mapOf(t, row.mapping)
			compiled, err := transform.CompileMap(m, transform.CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			v := value(t, document)
			got, err := compiled.Apply(environment(t), &transform.Record{Value: v, Source: v})
			if err != nil {
				t.Fatal(err)
			}
			if shown(got) != row.want {
				t.Errorf("\n got %s\nwant %s", shown(got), row.want)
			}
			written, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(mapOf(t, string(written)))
			if diff := cmp.Diff(string(written), string(again)); diff != "" || err != nil {
				t.Errorf("read and written again (%v): %s", err, diff)
			}
		})
	}
}

func TestMapRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, mapping string
		untyped       bool
		want          []string // place, offset and reason of each fault
	}{
		{"expression without =", `{"total": "qty * price"}`, false, []string{"total@3: qty * price is no path (write = qty * price)"}},
		{"all faults", `{"a": "b c", "x": {"y": ["= 1 +", "ok"]}, "z": "= nope(1)"}`, false,
			[]string{`a@1: b c is no path`, `x.y[0]@`, `z@2: function "nope" is not known`}},
		{"fault in each", `{"l": {"each": "lines[*]", "map": {"s": "a b", "n": {"o": "= ("}}}}`, false, []string{"l.map.s@1: a b is no path", "l.map.n.o@"}},
		{"path of each", `{"l": {"each": "a b", "map": {}}}`, false, []string{"l.each@1: a b is no path"}},
		{"two untyped fields", `{"t": "= a + b"}`, true, []string{"t@4: a + b may add or join"}},
		{"rest of something", `{"*": "a"}`, false, []string{`["*"]@0: the field "*" can only be "*"`}},
		{"odd name", `{"Cost $": "a b"}`, false, []string{`["Cost $"]@1: a b is no path`}},
		{"no name", `{"": "a"}`, false, []string{`[""]@0: a field needs a name`}},
		{"modifier of GJSON", `{"a": {"gjson": "x|@reverse"}}`, false, []string{"a.gjson@0: modifiers"}},
		{"absolute XPath", `{"a": {"xpath": "count(/a)"}}`, false, []string{"a.xpath@0: an absolute XPath"}},
		{"XPath from the root", `{"a": {"xpath": "//a"}}`, false, []string{"a.xpath@0: an absolute XPath"}},
		{"XPath to a parent", `{"a": {"xpath": "b/../c"}}`, false, []string{"a.xpath@0: the record's element has no parent"}},
		{"XPath to an ancestor", `{"a": {"xpath": "ancestor::x"}}`, false, []string{"a.xpath@0: the record's element has no parent"}},
		{"XPath that does not compile", `{"a": {"xpath": "b["}}`, false, []string{"a.xpath@0: the XPath does not compile"}},
		{"GJSON in each", `{"l": {"each": "a", "map": {"x": {"gjson": "x"}}}}`, false, []string{"l@0: gjson and xpath read the record's own text"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := transform.CompileMap(mapOf(t, row.mapping), transform.CompileOptions{UntypedSource: row.untyped})
			joined, ok := err.(interface{ Unwrap() []error })
			if !ok {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, e := range joined.Unwrap() {
				var d *transform.DefinitionError
				if !errors.As(e, &d) {
					t.Fatalf("%T", e)
				}
				got = append(got, fmt.Sprintf("%s@%d%s", d.Path, d.Offset, strings.TrimPrefix(d.Error(), d.Path)))
			}
			for i, want := range row.want {
				if len(got) != len(row.want) || !strings.HasPrefix(got[i], want) {
					t.Fatalf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(row.want, "\n     "))
				}
			}
		})
	}
}

// TestMapInGo: a map made in Go has no JSON that refused it.
func TestMapInGo(t *testing.T) {
	t.Parallel()
	twice := transform.Map{{Name: "a", Term: transform.Term{Text: "x"}}, {Name: "a", Term: transform.Term{Text: "y"}}}
	for _, m := range []transform.Map{twice, {{Name: "o", Term: transform.Term{Object: twice}}}, {{Name: "e", Term: transform.Term{Each: "l", Object: twice}}}} {
		if _, err := transform.CompileMap(m, transform.CompileOptions{}); err == nil || !strings.Contains(err.Error(), `field "a" is there twice`) {
			t.Errorf("%s: got %v", m[0].Name, err)
		}
	}
}

func TestMapJSONRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, text, want string }{
		{"a path", `"id"`, "fields with their paths are expected"},
		{"a list", `["id"]`, "fields with their paths are expected"},
		{"null", `null`, "fields with their paths are expected"},
		{"empty path", `{"a": ""}`, "a: the path is empty (write = '' for an empty text)"},
		{"field twice", `{"a": "x", "b": {"c": "x", "c": "y"}}`, `b.c: field "c" is there twice`},
		{"each without fields", `{"l": {"each": "lines", "map": "sku"}}`, "l: each needs the path of a list, and map the fields"},
		{"each of no path", `{"l": {"each": 1, "map": {}}}`, "l: each needs the path of a list, and map the fields"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var m transform.Map
			if err := json.Unmarshal([]byte(row.text), &m); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestMapNeeds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, mapping string
		scope, raw    bool
		columns       []string
	}{
		{"fields", `{"a": "x", "b": "= y"}`, false, false, []string{"a", "b"}},
		{"parent", `{"a": "parent.x"}`, true, false, []string{"a"}},
		{"doc in an expression", `{"a": {"b": "= doc.x + 1"}}`, true, false, []string{"a"}},
		{"parent in each is the record", `{"a": {"each": "x", "map": {"b": "parent.y"}}}`, false, false, []string{"a"}},
		{"doc in each", `{"a": {"each": "x", "map": {"b": "doc.y"}}}`, true, false, []string{"a"}},
		{"doc in each in each", `{"a": {"each": "x", "map": {"b": {"each": "y", "map": {"c": "= doc.z"}}}}}`, true, false, []string{"a"}},
		{"gjson", `{"a": {"gjson": "x"}}`, false, true, []string{"a"}},
		{"xpath", `{"a": {"b": {"xpath": "x"}}}`, false, true, []string{"a"}},
		{"rest", `{"a": "x", "*": "*"}`, false, false, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m, err := transform.CompileMap(mapOf(t, row.mapping), transform.CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if m.NeedsScope() != row.scope || m.NeedsRaw() != row.raw {
				t.Errorf("scope %v, raw %v", m.NeedsScope(), m.NeedsRaw())
			}
			if diff := cmp.Diff(row.columns, m.Columns()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRawText(t *testing.T) {
	t.Parallel()
	const jsonText = `{"a": {"b.c": 1e2}, "list": [{"n": 1, "t": "x"}, {"n": 2, "t": "y"}], "long": 12345678901234567890, "o": {"z": 1, "a": [null, true]}}`
	const xmlText = `<p xmlns:h="urn:h" kind="k"><h:id type="MRN">4711</h:id><h:id type="SSN">1</h:id><name>Ada</name><n>2</n></p>`
	for _, row := range []struct{ name, term, raw, want string }{
		{"path of GJSON", `{"gjson": "a.b\\.c"}`, jsonText, "1e2"},
		{"digits of GJSON", `{"gjson": "long"}`, jsonText, "12345678901234567890"},
		{"query of GJSON", `{"gjson": "list.#(n==2).t"}`, jsonText, `"y"`},
		{"all of GJSON", `{"gjson": "list.#.t"}`, jsonText, `["x","y"]`},
		{"count of GJSON", `{"gjson": "list.#"}`, jsonText, "2"},
		{"object of GJSON", `{"gjson": "o"}`, jsonText, `{"z":1,"a":[null,true]}`},
		{"nothing of GJSON", `{"gjson": "nothing.x"}`, jsonText, "null"},
		{"GJSON without text", `{"gjson": "a"}`, "", "! gjson needs a record of a JSON payload"},
		{"text of XPath", `{"xpath": "name"}`, xmlText, `"Ada"`},
		{"attribute of XPath", `{"xpath": "@kind"}`, xmlText, `"k"`},
		{"condition of XPath", `{"xpath": "h:id[@type='SSN']"}`, xmlText, `"1"`},
		{"several of XPath", `{"xpath": "h:id/@type"}`, xmlText, `["MRN","SSN"]`},
		{"count of XPath", `{"xpath": "count(h:id)"}`, xmlText, "2"},
		{"text function of XPath", `{"xpath": "concat(name, '/..')"}`, xmlText, `"Ada/.."`},
		{"truth of XPath", `{"xpath": "name = 'Ada'"}`, xmlText, "true"},
		{"descendants of XPath", `{"xpath": ".//n"}`, xmlText, `"2"`},
		{"nothing of XPath", `{"xpath": "x"}`, xmlText, "null"},
		{"not a number of XPath", `{"xpath": "number(name)"}`, xmlText, "null"},
		{"XPath without text", `{"xpath": "a"}`, "", "! xpath needs a record of an XML payload"},
		{"XPath on a large record", `{"xpath": "a"}`, "<p>" + strings.Repeat(" ", 2<<20) + "</p>", "! larger than the 2 MiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m, err := transform.CompileMap(mapOf(t, `{"v": `+row.term+`}`), transform.CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			v, err := m.Apply(environment(t), &transform.Record{Raw: row.raw})
			got := shown(v.Field("v"))
			if err != nil {
				got = "! " + err.Error()
			}
			if got != row.want && !(err != nil && strings.Contains(got, strings.TrimPrefix(row.want, "! "))) {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// TestMapFault: the fault of a record names the field and holds no value.
func TestMapFault(t *testing.T) {
	t.Parallel()
	m, err := transform.CompileMap(mapOf(t, `{"ok": "id", "lines": {"each": "lines[*]", "map": {"n": "= sku * 2"}}}`), transform.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Apply(environment(t), &transform.Record{Value: value(t, `{"lines": [{"sku": "secret"}]}`)})
	var f *transform.Fault
	if !errors.As(err, &f) || f.Field != "lines" || f.Kind != "input" {
		t.Fatalf("got %#v", err)
	}
	if want := `"lines": * needs numbers, its left side is text`; f.Error() != want {
		t.Errorf("got %s, want %s", f, want)
	}
}

// TestMapWithoutRecord: a flow without a source maps its parameters.
func TestMapWithoutRecord(t *testing.T) {
	t.Parallel()
	m, err := transform.CompileMap(mapOf(t, `{"a": "param.store", "b": "id", "c": {"each": "param", "map": {"d": "day", "p": "parent.x"}}, "g": "= index"}`), transform.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.Apply(environment(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"a":"12","b":null,"c":[{"d":"2026-11-20","p":null}],"g":null}`; shown(v) != want {
		t.Errorf("got %s, want %s", shown(v), want)
	}
}
