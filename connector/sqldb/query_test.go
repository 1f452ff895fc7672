package sqldb // what a query becomes is seen by databases only, and those are other modules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

var numbered = Dialect{Placeholder: func(n int) string { return fmt.Sprintf("$%d", n) }}

// queries are texts with what they become when the binds a and b are 1 and 2 and all others null, or with their fault.
var queries = []struct {
	name, text string
	want       string // "" when there is a fault
	args       []any
	fault      string // its offset and reason
}{
	{"no binds", "select 1", "select 1", nil, ""},
	{"binds", "select :a, :b,:a", "select $1, $2,$3", []any{int64(1), int64(2), int64(1)}, ""},
	{"a bind that is null", "select :z", "select $1", []any{nil}, ""},
	{"a bind at the end of a word", "where x=:a", "where x=$1", []any{int64(1)}, ""},
	{"names with digits", "select :a1", "select $1", []any{nil}, ""},
	{"names with letters of all languages", "select :größe", "select $1", []any{nil}, ""},
	{"a colon and a digit", "select a[1:2]", "select a[1:2]", nil, ""},
	{"a colon alone", "select : , :", "select : , :", nil, ""},
	{"casts", "select x::text, :a::int, x:::a", "select x::text, $1::int, x::$2", []any{int64(1), int64(1)}, ""},
	{"an assignment", "set @x := :a", "set @x := $1", []any{int64(1)}, ""},
	{"quotes", `select ':a', ":a", ` + "`:a`", `select ':a', ":a", ` + "`:a`", nil, ""},
	{"doubled quotes", `select 'it''s :a', "a"":a"`, `select 'it''s :a', "a"":a"`, nil, ""},
	{"a comment to the end of its line", "select 1 -- :a 'x\n, :b", "select 1 -- :a 'x\n, $1", []any{int64(2)}, ""},
	{"a comment at the end", "select 1 --:a", "select 1 --:a", nil, ""},
	{"a comment in between", "select /* :a ' [[ */ :b", "select /* :a ' [[ */ $1", []any{int64(2)}, ""},
	{"an optional part", "select 1 [[ where a = :a ]] x", "select 1  where a = $1  x", []any{int64(1)}, ""},
	{"an optional part left out", "select 1 [[ where a = :a and z = :z ]]x", "select 1 x", nil, ""},
	{"each optional part for itself", "[[:z]][[:a]][[:b]]", "$1$2", []any{int64(1), int64(2)}, ""},
	{"brackets in quotes", "select '[[', ']]'", "select '[[', ']]'", nil, ""},
	{"single brackets", "select a[1]", "select a[1]", nil, ""},
	{"an open quote", "select 'a", "", nil, "7 a quote is not closed"},
	{"an open name", `select "a`, "", nil, "7 a quote is not closed"},
	{"an open comment", "select /* a", "", nil, "7 a comment is not closed"},
	{"an open part", "select [[ :a", "", nil, "7 [[ is not closed"},
	{"a part in a part", "[[ :a [[ :b ]] ]]", "", nil, "6 [[ stands inside another [["},
	{"an end without a part", "select ]]", "", nil, "7 ]] closes nothing"},
	{"a part without a bind", "x [[ and ':a' ]]", "", nil, "2 a part in [[ ]] needs a bind: it is left out when the bind is null"},
	{"a value in the text", "select ${param.a}", "", nil, "7 ${…} is refused in SQL"},
}

func values(name string) transform.Value {
	return map[string]transform.Value{"a": transform.Int(1), "b": transform.Int(2)}[name]
}

func TestQuery(t *testing.T) {
	t.Parallel()
	for _, c := range queries {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, fault := parseQuery(c.text)
			if fault != nil {
				if got := fmt.Sprint(fault.Offset, " ", fault.Reason); got != c.fault {
					t.Errorf("the fault is %q, expected %q", got, c.fault)
				}
				return
			}
			text, args, err := q.build(&numbered, func(name string) (transform.Value, error) { return values(name), nil })
			if text != c.want || err != nil || c.fault != "" {
				t.Errorf("%q, error %v, expected %q", text, err, c.want+c.fault)
			}
			if diff := cmp.Diff(c.args, args); diff != "" {
				t.Errorf("arguments (-expected +got):\n%s", diff)
			}
		})
	}
}

// FuzzQuery wants every text read without loss: with each bind written as it was, a query without optional parts is the text itself.
func FuzzQuery(f *testing.F) {
	for _, c := range queries {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, fault := parseQuery(text)
		if fault != nil {
			if fault.Reason == "" || fault.Offset < 0 || fault.Offset >= len(text) {
				t.Errorf("%q: %+v", text, fault)
			}
			return
		}
		var whole strings.Builder
		optional := false
		for _, p := range q.parts {
			optional = optional || p.optional != 0
			if p.bind == "" {
				whole.WriteString(p.text)
				continue
			}
			whole.WriteString(":" + p.bind)
			if text[p.offset:p.offset+1+len(p.bind)] != ":"+p.bind {
				t.Errorf("%q: bind %q is not at %d", text, p.bind, p.offset)
			}
		}
		if !optional && whole.String() != text {
			t.Errorf("%q was read as %q", text, whole.String())
		}
		_, args, err := q.build(&numbered, func(string) (transform.Value, error) { return transform.Int(7), nil })
		binds := 0
		for _, p := range q.parts {
			if p.bind != "" {
				binds++
			}
		}
		if err != nil || len(args) != binds {
			t.Errorf("%q: %d binds, %d arguments, error %v", text, binds, len(args), err)
		}
	})
}
