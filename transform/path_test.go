package transform_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

func TestPath(t *testing.T) {
	t.Parallel()
	v := value(t, `{
		"a": {"b": {"c": 1}, "odd name": 2, "x]y": 3, "-": 4}, "list": [{"n": 1, "in": [1, 2]}, {"n": 2}, {"n": null, "in": 3}],
		"one": {"n": 5}, "none": null, "@id": "x", "p": {"@kind": "k", "#text": "inside"}, "header": "a field",
		"ns:name": 6, "order-id": 7, "größe": 8, "Cost Total $": 9, "0": 10
	}`)
	rec := &transform.Record{Value: v, Source: v, Index: 2}
	env := environment(t)
	for _, row := range []struct{ name, path, want string }{
		{"field", "order-id", "7"},
		{"fields", "a.b.c", "1"},
		{"letters of other languages", "größe", "8"},
		{"prefix of XML", "ns:name", "6"},
		{"digit", "0", "10"},
		{"odd name", `a["odd name"]`, "2"},
		{"odd name in single quotes", `a['odd name']`, "2"},
		{"odd name with brackets", `a["x]y"]`, "3"},
		{"odd name first", `["Cost Total $"]`, "9"},
		{"odd name of this", `this["Cost Total $"]`, "9"},
		{"attribute", "@id", `"x"`},
		{"attribute of a child", "p.@kind", `"k"`},
		{"text beside children", "p.#text", `"inside"`},
		{"element", "list[1].n", "2"},
		{"element that is not there", "list[3].n", "null"},
		{"first of one", "one[0].n", "5"},
		{"second of one", "one[1].n", "null"},
		{"all of many", "list[*].n", "[1,2,null]"},
		{"all of one", "one[*].n", "[5]"},
		{"all of nothing", "none[*].n", "[]"},
		{"all of what is missing", "nothing[*]", "[]"},
		{"an element without the field adds nothing", "list[*].in[0]", "[1,3]"},
		{"all of all", "list[*].in[*]", "[1,2,3]"},
		{"through null", "none.x.y", "null"},
		{"through a number", "order-id.x", "null"},
		{"through a list", "list.n", "null"},
		{"missing", "nothing", "null"},
		{"this", "this.a.b.c", "1"},
		{"the engine's name wins", "header", `{"X-GitHub-Event":"push","Accept":"*/*"}`},
		{"a field of the engine's name", "this.header", `"a field"`},
		{"header in any case", `header["x-GITHUB-event"]`, `"push"`},
		{"index", "index", "2"},
		{"param", "param.store", `"12"`},
		{"query", "query.page", `"2"`},
		{"run", "run.number", "17"},
		{"message", "message.id", `"m1"`},
		{"doc without records is the document", "doc.a.b.c", "1"},
		{"parent of the document", "parent.a", "null"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, err := transform.ParsePath(row.path)
			if err != nil {
				t.Fatal(err)
			}
			if got := shown(p.Eval(env, rec)); got != row.want {
				t.Errorf("%s is %s, want %s", row.path, got, row.want)
			}
			if p.String() != row.path {
				t.Errorf("%s is written %s", row.path, p)
			}
		})
	}
}

func TestPathRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, path string
		offset     int
		want       string
	}{
		{"expression", "qty * price", 3, "qty * price is no path (write = qty * price)"},
		{"expression without blanks", "qty*price", 3, "(write = qty*price)"},
		{"function", "upper(name)", 5, "(write = upper(name))"},
		{"constant text", "'EUR'", 0, "(write = 'EUR')"},
		{"fallback", "note ?? ''", 4, "(write = note ?? '')"},
		{"element from the end", "a[-1]", 2, "[-1] is neither a number, * nor a quoted name"},
		{"element with a sign", "a[+1]", 2, "[+1] is neither"},
		{"name without quotes", "a[b]", 2, `write [0], [*] or ["odd name"]`},
		{"name with a blank", "Cost Total $", 4, `write ["Cost Total $"] for a field of this name`},
		{"open bracket", "a[0", 1, "[ is not closed"},
		{"open name", `a["b]`, 1, "the name in brackets is not closed"},
		{"point at the end", "a.", 2, "is no path"},
		{"two points", "a..b", 2, "is no path"},
		{"point first", ".a", 0, "is no path"},
		{"empty", "", 0, "the path is empty"},
		{"blank", "  ", 0, "the path is empty"},
		{"XPath", "/a/b", 0, "is no path"},
		{"template", "${param.x}", 1, "is no path"},
		{"sign alone", "@", 0, "is no path"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := transform.ParsePath(row.path)
			var d *transform.DefinitionError
			if !errors.As(err, &d) {
				t.Fatalf("got %v", err)
			}
			if d.Offset != row.offset || !strings.Contains(d.Error(), row.want) {
				t.Errorf("got %q at %d, want %q at %d", d, d.Offset, row.want, row.offset)
			}
		})
	}
}

func TestSelector(t *testing.T) {
	t.Parallel()
	all := transform.SelectorStep{All: true}
	into := func(name string) transform.SelectorStep { return transform.SelectorStep{Name: name} }
	for _, row := range []struct {
		name, text string
		want       transform.Selector
		lists      int
		enclosing  transform.Selector
	}{
		{"document", "", nil, 0, nil},
		{"list", "orders[*]", transform.Selector{into("orders"), all}, 1, nil},
		{"document that is a list", "[*]", transform.Selector{all}, 1, nil},
		{"deep list", "data.orders[*]", transform.Selector{into("data"), into("orders"), all}, 1, transform.Selector{into("data")}},
		{"list in a list", "a[*].b[*]", transform.Selector{into("a"), all, into("b"), all}, 2, transform.Selector{into("a"), all}},
		{"list of lists", "[*][*]", transform.Selector{all, all}, 2, transform.Selector{all}},
		{"one object", "data.order", transform.Selector{into("data"), into("order")}, 0, transform.Selector{into("data")}},
		{"odd name", `["odd name"][*]`, transform.Selector{into("odd name"), all}, 1, nil},
		{"name of the engine", "this.message[*]", transform.Selector{into("message"), all}, 1, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := transform.ParseSelector(row.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			if got.Lists() != row.lists {
				t.Errorf("%d lists, want %d", got.Lists(), row.lists)
			}
			if enclosing := got.Enclosing(); len(enclosing)+len(row.enclosing) > 0 && !cmp.Equal(row.enclosing, enclosing) {
				t.Errorf("enclosed by %v, want %v", enclosing, row.enclosing)
			}
		})
	}
}

func TestSelectorRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, text, want string }{
		{"element", "orders[0]", "(write [*])"},
		{"expression", "filter(orders, .x)", "the path of records is as in orders[*]"},
		{"name of the engine", "message[*]", "write this.message[*] for a field of that name"},
		{"open", "[", "the path of records is as in orders[*]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := transform.ParseSelector(row.text); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"a.b[0][*]", `a["odd name"]`, "header['x']", "@id.#text", "qty * price", "a[", "größe", "[*]", `["`, "a.\xff"} {
		f.Add(seed)
	}
	v := value(f, order)
	rec := &transform.Record{Value: v, Source: v}
	env := environment(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := transform.ParsePath(text)
		if err != nil {
			if _, ok := err.(*transform.DefinitionError); !ok {
				t.Fatalf("%T is no definition error", err)
			}
			return
		}
		p.Eval(env, rec)
		again, err := transform.ParsePath(p.String())
		if err != nil || shown(again.Eval(env, rec)) != shown(p.Eval(env, rec)) {
			t.Fatalf("%q and %q are different paths (%v)", text, p, err)
		}
	})
}

func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"", "orders[*]", "[*]", "a[*].b[*]", `["odd name"]`, "a[0]", "this"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := transform.ParseSelector(text)
		if err != nil {
			return
		}
		if enclosing := s.Enclosing(); len(enclosing) > len(s) || enclosing.Lists() > s.Lists() {
			t.Fatalf("%v encloses %v", enclosing, s)
		}
	})
}
