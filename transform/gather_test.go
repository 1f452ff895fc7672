package transform_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

func fold(t testing.TB, name, text string) transform.Fold {
	t.Helper()
	f, err := transform.CompileFold(name, text, transform.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// gathered runs a step over records in batches, and returns what it makes: those that go on at once, then the others.
func gathered(t testing.TB, g transform.Gatherer, space transform.Space, records []transform.Record) []transform.Record {
	t.Helper()
	gathering := g.Gather(environment(t), space)
	defer gathering.Close()
	var all []transform.Record
	for len(records) > 0 {
		n := min(7, len(records))
		b := &transform.Batch{Records: append([]transform.Record{}, records[:n]...)}
		records = records[n:]
		if err := gathering.Add(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Records...)
	}
	for {
		b := &transform.Batch{}
		err := gathering.Next(t.Context(), b)
		if err == io.EOF {
			return all
		}
		if err != nil || len(b.Records) == 0 || len(b.Records) > 512 {
			t.Fatalf("a batch of %d records: %v", len(b.Records), err)
		}
		all = append(all, b.Records...)
	}
}

// told is all of a record that a step may not lose.
func told(records []transform.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%s line %d: %s of %s %v", r.Place(), r.Line, typed(r.Value), typed(r.Source), r.Err))
	}
	return all
}

// typed shows a value with its kind.
func typed(v transform.Value) string {
	if v.Kind() != transform.KindObject && v.Kind() != transform.KindList {
		return fmt.Sprintf("%d%q", v.Kind(), v.Text())
	}
	var b strings.Builder
	if v.Kind() == transform.KindObject {
		for name, f := range v.Fields() {
			fmt.Fprintf(&b, "%s:%s ", name, typed(f))
		}
		return "{" + b.String() + "}"
	}
	for _, e := range v.Values() {
		b.WriteString(typed(e) + " ")
	}
	return "[" + b.String() + "]"
}

// someValue returns one of few values, so that many are alike.
func someValue(random *rand.Rand) transform.Value {
	switch random.IntN(12) {
	case 0:
		return transform.Null
	case 1:
		return transform.Bool(random.IntN(2) == 0)
	case 2:
		return transform.Number([]string{"1", "1.0", "10", "-1", "1e1", "0.5", "-0.05", "0", "-0", "99999999999999999999", "1e-30"}[random.IntN(11)])
	case 3, 4, 5:
		return transform.Int(random.Int64N(40) - 20)
	case 6:
		return transform.Bytes("\x00\xff")
	case 7, 8:
		return transform.Untyped([]string{"1", "1.0", "007", "abc", "", "-2"}[random.IntN(6)])
	default:
		return transform.Text([]string{"", "a", "ab", "a\x00", "a\x00b", "ä", "1", "b"}[random.IntN(8)])
	}
}

func someRecords(seed uint64, n int) []transform.Record {
	random := rand.New(rand.NewPCG(seed, 7))
	shape := transform.NewShape("a", "b", "n", "more")
	var records []transform.Record
	for i := range n {
		n := transform.Int(random.Int64N(1000))
		if random.IntN(4) == 0 {
			n = transform.Null
		}
		more := transform.List([]transform.Value{someValue(random), transform.NewObject(transform.NewShape("x", "y"+strconv.Itoa(i)), []transform.Value{someValue(random), transform.Null})})
		r := transform.Record{Value: transform.NewObject(shape, []transform.Value{someValue(random), someValue(random), n, more}), Index: int64(i / 2), Line: int64(i), Split: strconv.Itoa(i % 2)}
		r.Source = r.Value
		switch random.IntN(10) {
		case 0:
			r.Source = more
		case 1:
			r.Err = errors.New("before")
		case 2:
			r.Value = r.Value.With("a", more) // no key
		}
		records = append(records, r)
	}
	return records
}

// TestGatherersSpill: what a step over all records makes is the same whether it fits into memory or not.
func TestGatherersSpill(t *testing.T) {
	t.Parallel()
	keys := mapping(t, `{"a": "a", "b": "b"}`)
	sums := []transform.Fold{fold(t, "count", "count"), fold(t, "given", "count(n)"), fold(t, "sum", "= sum(n * 1.5)"), fold(t, "avg", "avg(n)"), fold(t, "least", "min(n)"),
		fold(t, "greatest", "max(n)"), fold(t, "first", "first(more)"), fold(t, "last", "last(n)"), fold(t, "different", "distinct(n)")}
	for name, g := range map[string]transform.Gatherer{
		"sort":        transform.NewSort("sort", keys, []transform.Direction{{}, {Descending: true}}),
		"sort nulls":  transform.NewSort("sort", keys, []transform.Direction{{Descending: true}, {NullsLast: true}}),
		"first":       transform.NewDedupe("dedupe", keys, false),
		"last":        transform.NewDedupe("dedupe", keys, true),
		"aggregate":   transform.NewAggregate("aggregate", keys, sums),
		"list":        transform.NewAggregate("aggregate", mapping(t, `{"n": "n"}`), []transform.Fold{fold(t, "all", "list(more)")}),
		"nest":        transform.NewNest("nest", mapping(t, `{"n": "n"}`), "all"),
		"of all":      transform.NewAggregate("aggregate", mapping(t, `{}`), sums),
		"many groups": transform.NewAggregate("aggregate", mapping(t, `{"i": "index", "n": "n"}`), sums),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 8, 3000} {
				records := someRecords(uint64(n), n)
				before := told(records)
				want := told(gathered(t, g, transform.Space{}, records))
				budgets := []int64{1, 3000, 40_000}
				switch name { // one group has to fit
				case "aggregate", "many groups", "of all":
					budgets = []int64{200_000}
				case "list", "nest":
					budgets = []int64{1_000_000}
				}
				for _, memory := range budgets {
					dir := t.TempDir()
					got := told(gathered(t, g, transform.Space{Memory: memory, Dir: dir}, records))
					if name == "first" || name == "last" { // rejected records may pass those that wait
						want, got = inOrder(want), inOrder(got)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%d records in %d bytes of memory:\n%.2000s", n, memory, diff)
					}
					if files, _ := os.ReadDir(dir); len(files) > 0 {
						t.Errorf("files stay: %v", files)
					}
				}
				if diff := cmp.Diff(before, told(records)); diff != "" {
					t.Errorf("the step changed what it was given:\n%s", diff)
				}
			}
		})
	}
}

// inOrder returns records with those that are rejected behind the others.
func inOrder(all []string) []string {
	var fit, rejected []string
	for _, r := range all {
		if strings.HasSuffix(r, " <nil>") {
			fit = append(fit, r)
		} else {
			rejected = append(rejected, r)
		}
	}
	return append(fit, rejected...)
}

// TestSortIsTheLanguages: what the language can compare is sorted as it compares it, whatever is between.
func TestSortIsTheLanguages(t *testing.T) {
	t.Parallel()
	var records []transform.Record
	for _, r := range someRecords(5, 2000) {
		if k := r.Value.Field("a").Kind(); r.Err == nil && k != transform.KindList {
			records = append(records, r)
		}
	}
	order := transform.NewShape("x", "y")
	less := condition(t, "x < y")
	for _, descending := range []bool{false, true} {
		sorted := gathered(t, transform.NewSort("sort", mapping(t, `{"a": "a"}`), []transform.Direction{{Descending: descending}}), transform.Space{Memory: 10_000, Dir: t.TempDir()}, records)
		if len(sorted) != len(records) {
			t.Fatalf("%d records, want %d", len(sorted), len(records))
		}
		last := map[string]*transform.Record{}
		for i := range sorted {
			r := &sorted[i]
			class := r.Value.Field("a").Kind().String()
			if v := r.Value.Field("a"); v.Kind() == transform.KindUntyped && transform.IsNumber(v.Text()) {
				class = "number"
			}
			if p := last[class]; p != nil {
				x, y := p.Value.Field("a"), r.Value.Field("a")
				if descending {
					x, y = y, x
				}
				wrong, err := less.EvalBool(environment(t), &transform.Record{Value: transform.NewObject(order, []transform.Value{y, x})})
				if wrong || err != nil && class != "bytes" {
					t.Errorf("descending %v: %s before %s, %v", descending, typed(p.Value.Field("a")), typed(r.Value.Field("a")), err)
				}
				if x.Kind() == y.Kind() && x.Text() == y.Text() && p.Line > r.Line {
					t.Errorf("line %d is before %d, which is alike", p.Line, r.Line)
				}
			}
			last[class] = r
		}
	}
}

func TestGathererRejects(t *testing.T) {
	t.Parallel()
	by := mapping(t, `{"a": "a"}`)
	for name, row := range map[string]struct {
		g    transform.Gatherer
		of   []string
		want []string
	}{
		"sort by a list": {transform.NewSort("sort 1", by, []transform.Direction{{}}), []string{`{"a":2}`, `{"a":[]}`, `{"a":1}`},
			[]string{`! sort 1: "a": a list or an object has no order and is no key: take one value of it`, `{"a":1}`, `{"a":2}`}},
		"sort by what fails": {transform.NewSort("sort 1", mapping(t, `{"= a * 2": "= a * 2"}`), []transform.Direction{{}}), []string{`{"a":"x"}`, `{"a":1}`},
			[]string{`! sort 1: "= a * 2": * needs numbers, its left side is text`, `{"a":1}`}},
		"dedupe by an object": {transform.NewDedupe("dedupe 1", by, false), []string{`{"a":{}}`, `{"a":1}`},
			[]string{`! dedupe 1: "a": a list or an object has no order and is no key: take one value of it`, `{"a":1}`}},
		"keys that are one": {transform.NewDedupe("dedupe 1", by, false), []string{`{"a":1}`, `{"a":"1"}`, `{"a":1.0}`, `{"a":"1.0"}`, `{"a":true}`, `{"a":"true"}`, `{"a":null}`, `{}`, `{"a":"null"}`, `{"a":""}`},
			[]string{`{"a":1}`, `{"a":"1.0"}`, `{"a":true}`, `{"a":"true"}`, `{"a":null}`, `{"a":"null"}`, `{"a":""}`}},
		"sum of text": {transform.NewAggregate("aggregate 1", by, []transform.Fold{fold(t, "n", "count"), fold(t, "s", "sum(b)")}), []string{`{"a":1,"b":"x"}`, `{"a":1,"b":2}`},
			[]string{`! aggregate 1: "s": sum needs numbers, this is text`, `{"a":1,"n":1,"s":2}`}},
		"least of lists": {transform.NewAggregate("aggregate 1", by, []transform.Fold{fold(t, "s", "min(b)")}), []string{`{"a":1,"b":[]}`},
			[]string{`! aggregate 1: "s": a list or an object has no order and is no key: take one value of it`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var records []transform.Record
			for i, text := range row.of {
				v := value(t, text)
				records = append(records, transform.Record{Value: v, Source: v, Index: int64(i)})
			}
			var got []string
			for _, r := range gathered(t, row.g, transform.Space{}, records) {
				if r.Err != nil {
					got = append(got, "! "+r.Err.Error())
				} else {
					got = append(got, shown(r.Value))
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompileFold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"count": "", "= count": "", "count()": "", "=sum( qty )": "", "max(a ?? b)": "",
		"sum":             "0 sum needs an expression",
		"= sum()":         "2 sum needs an expression",
		"qty":             "0 a field of an aggregate is a function of the group's records",
		"total(qty)":      "0 a field of an aggregate is a function of the group's records",
		"= sum(qty) * 2":  "2 a field of an aggregate is a function of the group's records",
		"= sum(qty +)":    "10 the expression ends where more is due",
		"sum(a) + sum(b)": "5 \")\" is not expected here",
	} {
		_, err := transform.CompileFold("f", text, transform.CompileOptions{})
		got := ""
		if d := (*transform.DefinitionError)(nil); errors.As(err, &d) {
			got = fmt.Sprint(d.Offset, " ", d.Reason)
		}
		if got != want && (want == "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestLargeGroup: one group that does not fit is an error, not memory without end.
func TestLargeGroup(t *testing.T) {
	t.Parallel()
	g := transform.NewNest("nest 1", mapping(t, `{"a": "a"}`), "all").Gather(environment(t), transform.Space{Memory: 20_000, Dir: t.TempDir()})
	defer g.Close()
	for range 1000 {
		v := value(t, `{"a":1,"b":"some text"}`)
		if err := g.Add(t.Context(), &transform.Batch{Records: []transform.Record{{Value: v, Source: v}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Next(t.Context(), &transform.Batch{}); err == nil || !strings.Contains(err.Error(), "take more than the 20000 bytes of memory") {
		t.Errorf("got %v", err)
	}
}

// TestGathererCanceled: a run that is cancelled gets nothing more.
func TestGathererCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	for _, g := range []transform.Gatherer{transform.NewSort("sort", mapping(t, `{"a": "a"}`), []transform.Direction{{}}), transform.NewDedupe("dedupe", mapping(t, `{"a": "a"}`), true)} {
		gathering := g.Gather(environment(t), transform.Space{Dir: t.TempDir()})
		defer gathering.Close()
		b := &transform.Batch{Records: someRecords(1, 10)}
		if err := gathering.Add(ctx, b); err != nil {
			t.Fatal(err)
		}
		cancel(gone)
		if err := gathering.Next(ctx, &transform.Batch{}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		ctx, cancel = context.WithCancelCause(t.Context())
	}
	cancel(nil)
}

// TestGatherersMemory: the memory that a step takes does not depend on how many records there are. It is not parallel: it measures the process.
func TestGatherersMemory(t *testing.T) {
	by := mapping(t, `{"a": "a"}`)
	for name, g := range map[string]transform.Gatherer{
		"sort": transform.NewSort("sort", by, []transform.Direction{{}}), "dedupe": transform.NewDedupe("dedupe", by, false),
		"aggregate": transform.NewAggregate("aggregate", by, []transform.Fold{fold(t, "n", "count"), fold(t, "d", "distinct(b)")}),
	} {
		gathering := g.Gather(environment(t), transform.Space{Memory: 1 << 20, Dir: t.TempDir()})
		text, random := strings.Repeat("x", 100), rand.New(rand.NewPCG(1, 2))
		held := func() uint64 {
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return stats.HeapAlloc
		}
		before, most := held(), uint64(0)
		shape := transform.NewShape("a", "b")
		for i := range 80 {
			b := &transform.Batch{}
			for range 500 {
				v := transform.NewObject(shape, []transform.Value{transform.Int(random.Int64()), transform.Text(text)})
				b.Records = append(b.Records, transform.Record{Value: v, Source: v})
			}
			if err := gathering.Add(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if i%20 == 0 {
				most = max(most, held())
			}
		}
		for i := 0; ; i++ {
			err := gathering.Next(t.Context(), &transform.Batch{})
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if i%20 == 0 {
				most = max(most, held())
			}
		}
		gathering.Close()
		if most > before && most-before > 6<<20 {
			t.Errorf("%s: %d KiB are held", name, (most-before)>>10)
		}
	}
}
