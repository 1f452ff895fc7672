package transform_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

func condition(t testing.TB, source string) *transform.Expression {
	t.Helper()
	e, err := transform.CompileExpression(source, transform.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mapping(t testing.TB, text string) *transform.Mapping {
	t.Helper()
	m, err := transform.CompileMap(mapOf(t, text), transform.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStep(t *testing.T) {
	t.Parallel()
	function := func(f func(r *transform.Record) error) transform.Step {
		return transform.NewFunc("go twice", func(_ context.Context, r *transform.Record) error { return f(r) })
	}
	for _, row := range []struct {
		name    string
		step    transform.Step
		records []string
		want    []string // what is left: JSON, or ! and the fault
	}{
		{"filter", transform.NewFilter("filter", condition(t, "qty > 1")), []string{`{"qty":1}`, `{"qty":2}`, `{"qty":3}`}, []string{`{"qty":2}`, `{"qty":3}`}},
		{"filter leaves out null", transform.NewFilter("filter", condition(t, "qty > 1")), []string{`{"qty":null}`, `{}`}, nil},
		{"filter rejects what does not fit", transform.NewFilter("filter 2", condition(t, "qty > 1")), []string{`{"qty":"x"}`, `{"qty":2}`},
			[]string{`! filter 2: >: text and number have no order`, `{"qty":2}`}},
		{"filter that is no condition", transform.NewFilter("filter", condition(t, "qty")), []string{`{"qty":1}`}, []string{`! filter: a condition must be true or false, this is number`}},
		{"map", transform.NewMap("map", mapping(t, `{"b": "a", "c": "= a + 1"}`)), []string{`{"a":1,"x":0}`}, []string{`{"b":1,"c":2}`}},
		{"map rejects", transform.NewMap("map", mapping(t, `{"c": "= a * 2"}`)), []string{`{"a":"x"}`}, []string{`! map: "c": * needs numbers, its left side is text`}},
		{"set", transform.NewSet("set", mapping(t, `{"a": "= a + 1", "b": "a"}`)), []string{`{"a":1,"x":0}`}, []string{`{"a":2,"x":0,"b":1}`}},
		{"set on what is no object", transform.NewSet("set", mapping(t, `{"a": "= 1"}`)), []string{`"x"`}, []string{`{"a":1}`}},
		{"drop", transform.NewDrop("a", "c", "no"), []string{`{"a":1,"b":2,"c":3}`, `{"b":1}`, `[1]`}, []string{`{"b":2}`, `{"b":1}`, `[1]`}},
		{"rename in place", transform.NewRename(map[string]string{"new": "old", "a": "b", "b": "a"}), []string{`{"a":1,"old":2,"b":3}`}, []string{`{"b":1,"new":2,"a":3}`}},
		{"rename to a name that is there", transform.NewRename(map[string]string{"a": "b"}), []string{`{"a":1,"b":3}`, `{"b":3}`},
			[]string{`! rename: "a": the record has a field of this name already`, `{"a":3}`}},
		{"rename what is missing", transform.NewRename(map[string]string{"a": "b"}), []string{`{"c":1}`, `7`}, []string{`{"c":1}`, `7`}},
		{"split", transform.NewSplit("split", mapping(t, `{"list": "l[*]"}`)), []string{`{"l":[1,{"a":2}]}`, `{"l":[]}`, `{}`, `{"l":3}`}, []string{`1`, `{"a":2}`, `3`}},
		{"split rejects", transform.NewSplit("split 2", mapping(t, `{"list": "= filter(l, # > 1)"}`)), []string{`{"l":["x"]}`, `{"l":[1,2]}`},
			[]string{`! split 2: "list": >: text and number have no order`, `2`}},
		{"flatten", transform.NewFlatten("flatten", ".", 0), []string{`{"a":{"b":{"c":1},"d":[{"e":2}]},"f":{}}`, `[1]`}, []string{`{"a.b.c":1,"a.d":[{"e":2}],"f":null}`, `[1]`}},
		{"flatten so far", transform.NewFlatten("flatten", "_", 1), []string{`{"a":{"b":{"c":1}}}`}, []string{`{"a_b":{"c":1}}`}},
		{"flatten to a name that is there", transform.NewFlatten("flatten 1", "_", 0), []string{`{"a":{"b":1},"a_b":2}`}, []string{`! flatten 1: "a_b": the record has two fields of this name when it is flat`}},
		{"flatten to long names", transform.NewFlatten("flatten 1", strings.Repeat("_", 4<<10), 0), []string{`{"a":{"b":1}}`},
			[]string{`! flatten 1: names of nested fields would be longer than 4096 bytes together`}},
		{"when", transform.NewWhen("when", condition(t, "n > 1"), []transform.Step{transform.NewSplit("split", mapping(t, `{"l": "= [n, 0]"}`))}, []transform.Step{transform.NewFilter("filter", condition(t, "n > 0"))}),
			[]string{`{"n":2}`, `{"n":3}`, `{"n":1}`, `{"n":0}`, `{}`, `{"n":"x"}`, `{"n":4}`}, []string{`2`, `0`, `3`, `0`, `{"n":1}`, `! when: >: text and number have no order`, `4`, `0`}},
		{"when alone", transform.NewWhen("when", condition(t, "n > 1"), nil, []transform.Step{transform.NewReject("reject", condition(t, "n == 0"), "nothing")}),
			[]string{`{"n":2}`, `{"n":0}`, `{"n":2}`}, []string{`{"n":2}`, `! reject: nothing`, `{"n":2}`}},
		{"reject", transform.NewReject("reject 3", condition(t, "total > 100"), "needs a person"), []string{`{"total":101}`, `{"total":100}`, `{}`},
			[]string{`! reject 3: needs a person`, `{"total":100}`, `{}`}},
		{"Go function", function(func(r *transform.Record) error {
			r.Value = r.Value.With("n", transform.Int(2))
			return nil
		}), []string{`{"a":1}`}, []string{`{"a":1,"n":2}`}},
		{"Go function that leaves out", function(func(*transform.Record) error { return fmt.Errorf("not this one: %w", transform.ErrDrop) }), []string{`{}`}, nil},
		{"Go function that rejects", function(func(*transform.Record) error { return errors.New("no stock") }), []string{`{}`}, []string{"! go twice: the Go function refused the record"}},
		{"Go function with a fault of its own", function(func(*transform.Record) error { return &transform.Fault{Field: "sku", Reason: "unknown"} }), []string{`{}`},
			[]string{`! go twice: "sku": unknown`}},
		{"Go function that panics", function(func(r *transform.Record) error {
			if r.Value.Len() == 0 {
				panic("no fields")
			}
			return nil
		}), []string{`{}`, `{"a":1}`}, []string{"! go twice: the Go function panicked", `{"a":1}`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			// A record that is rejected already passes through every step as it is.
			rejected := transform.Record{Value: value(t, `{"rejected":true}`), Err: errors.New("before")}
			batch := &transform.Batch{Records: []transform.Record{rejected}}
			for _, text := range row.records {
				v := value(t, text)
				batch.Records = append(batch.Records, transform.Record{Value: v, Source: v})
			}
			if err := row.step.Apply(t.Context(), environment(t), batch); err != nil {
				t.Fatal(err)
			}
			if r := batch.Records[0]; r.Err.Error() != "before" || shown(r.Value) != `{"rejected":true}` {
				t.Errorf("the rejected record became %s, %v", shown(r.Value), r.Err)
			}
			var got []string
			for _, r := range batch.Records[1:] {
				if r.Err == nil {
					got = append(got, shown(r.Value))
					continue
				}
				var f *transform.Fault
				if !errors.As(r.Err, &f) || f.Kind != "input" {
					t.Errorf("rejected with %#v", r.Err)
				}
				if shown(r.Source) != shown(r.Value) {
					t.Errorf("rejected as %s, read as %s", shown(r.Value), shown(r.Source))
				}
				got = append(got, "! "+r.Err.Error())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSplitTwice: an element knows where it comes from, and what encloses it, however often it was split off.
func TestSplitTwice(t *testing.T) {
	t.Parallel()
	v := value(t, `{"id":7,"orders":[{"lines":["a"]},{"lines":["b","c"]}]}`)
	scope := &transform.Scope{Parent: value(t, `"outer"`), Doc: value(t, `"doc"`)}
	b := &transform.Batch{Records: []transform.Record{{Value: v, Source: v, Scope: scope, Index: 4, Line: 9, Raw: "raw"}}}
	for _, step := range []transform.Step{transform.NewSplit("split", mapping(t, `{"list": "orders"}`)), transform.NewSplit("split", mapping(t, `{"list": "lines[*]"}`)),
		transform.NewFilter("filter", condition(t, "this != 'a'"))} {
		if err := step.Apply(t.Context(), environment(t), b); err != nil {
			t.Fatal(err)
		}
	}
	seen := mapping(t, `{"this": "this", "parent": "parent", "doc": "doc", "index": "index"}`)
	var got []string
	for i := range b.Records {
		r := &b.Records[i]
		made, err := seen.Apply(environment(t), r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d %s", r.Place(), r.Line, shown(made)))
		if r.SourceScope() != scope || shown(r.Source) != shown(v) || r.Raw != "" {
			t.Errorf("record %s does not know its source's record", r.Place())
		}
	}
	want := []string{`4.1.0 9 {"this":"b","parent":{"lines":["b","c"]},"doc":"doc","index":0}`, `4.1.1 9 {"this":"c","parent":{"lines":["b","c"]},"doc":"doc","index":1}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestGoFunctionCanceled: a run that is cancelled does not go on to the next batch.
func TestGoFunctionCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	step := transform.NewFunc("go", func(context.Context, *transform.Record) error { return nil })
	if err := step.Apply(ctx, environment(t), &transform.Batch{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestWideRecords: a step over records with very many fields, each record with names of its own, takes memory in proportion.
func TestWideRecords(t *testing.T) {
	t.Parallel()
	const width = 10_000
	batch := &transform.Batch{}
	for i := range 3 {
		var b strings.Builder
		for n := range width {
			fmt.Fprintf(&b, `"f%d_%d":%d,`, n, i, n)
		}
		batch.Records = append(batch.Records, transform.Record{Value: value(t, "{"+b.String()+`"last":1}`)})
	}
	steps := []transform.Step{transform.NewDrop("f0_0"), transform.NewRename(map[string]string{"end": "last"}), transform.NewMap("map", mapping(t, `{"x": "end", "*": "*"}`))}
	allocated := allocatedBy(func() {
		for _, s := range steps {
			if err := s.Apply(t.Context(), environment(t), batch); err != nil {
				t.Fatal(err)
			}
		}
	})
	for i, r := range batch.Records {
		if want := width + 1 - (1-min(i, 1))*1; r.Err != nil || r.Value.Len() != want || shown(r.Value.Field("x")) != "1" {
			t.Errorf("record %d: %d fields, want %d, %v", i, r.Value.Len(), want, r.Err)
		}
	}
	if limit := uint64(len(steps) * len(batch.Records) * width * 1000); allocated > limit {
		t.Errorf("%d bytes allocated, want at most %d", allocated, limit)
	}
}

// TestMapOfManyRecords makes the same of many records of several forms at once as of each alone, in memory that is used again and again.
func TestMapOfManyRecords(t *testing.T) {
	t.Parallel()
	m := mapping(t, `{"a": "qty", "b": "customer.first", "c": "= qty * 2", "d": "nothing", "e": {"f": "qty", "g": ["text", 1]}, "h": {"each": "lines", "map": {"sku": "sku"}}, "*": "*"}`)
	plain := mapping(t, `{"a": "qty", "c": "= upper(text)", "d": "nothing"}`)
	var all []transform.Value
	for _, text := range []string{order, `{"text": "x", "qty": 3, "new": {"a": [1, {"b": null}]}}`, `{}`, `{"qty": null}`, `[1, 2]`, `null`, `"text"`} {
		for range 3 {
			all = append(all, value(t, text))
		}
	}
	var b transform.Batch
	for round := range 10 {
		for _, m := range []*transform.Mapping{m, plain} {
			b.Recycle()
			for i := range all {
				v := all[i*(round+1)%len(all)]
				b.Records = append(b.Records, transform.Record{Value: v, Source: v, Index: int64(i)})
			}
			m.ApplyAll(&transform.Env{}, &b)
			for i := range b.Records {
				got := &b.Records[i]
				want, err := m.Apply(&transform.Env{}, &transform.Record{Value: got.Source, Source: got.Source, Index: got.Index})
				if (err != nil) != (got.Err != nil) || err == nil && shown(want) != shown(got.Value) {
					t.Errorf("round %d, record %d: %s, %v\nalone: %s, %v", round, i, shown(got.Value), got.Err, shown(want), err)
				}
			}
		}
	}
}
