package transform_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/transform"
)

// hostile is a document that makes expressions work: long lists, long texts, long numbers.
func hostile() transform.Value {
	var elements, numbers []transform.Value
	shape := transform.NewShape("a", "b", "t")
	for i := range 20_000 {
		elements = append(elements, transform.NewObject(shape, []transform.Value{transform.Int(int64(i)), transform.Untyped("1.5"), transform.Text(strings.Repeat("x", 1+i%7))}))
		numbers = append(numbers, transform.Number(strings.Repeat("7", 990)+fmt.Sprint(i)))
	}
	return transform.NewObject(transform.NewShape("list", "numbers", "text", "same", "number", "a", "b"), []transform.Value{
		transform.List(elements), transform.List(numbers), transform.Text(strings.Repeat("ab", 2<<20)), transform.Text(strings.Repeat("ab", 2<<20)),
		transform.Number("-" + strings.Repeat("3", 500) + "." + strings.Repeat("3", 499)), transform.Untyped("12.5"), transform.Int(3),
	})
}

// allocatedBy returns how many bytes f allocates. Nothing else may run meanwhile that allocates much: what it finds is an upper bound.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// expensive are expressions that would take very long, or all memory, without a budget.
var expensive = []string{
	"map(1..100000, text + text)",
	"map(list, join(list.t, text))",
	"map(1..1000000000, #)",
	"-9000000000000000000..9000000000000000000",
	"map(list, map(list, # == #))",
	"map(list, count(list, .a == 1))",
	"any(list, text == same and false)",
	"any(list, text contains 'abb')",
	"any(list, text matches '(a|b|ab)*c(a|b)*d')",
	"map(list, upper(text))",
	"map(list, text[1:])",
	"map(list, len(text))",
	"map(list, replace(text, 'a', 'aaaaaaaaaaaaaaaa'))",
	"replace(text, 'a', same)",
	"map(list, split(text, 'b'))",
	"split(text, 'a')",
	"join(map(list, text), text)",
	"concat(text, text, text, text, text, text, text, text, text)",
	"map(list, number * number)",
	"map(numbers, # * #)",
	"map(list, number / b)",
	"map(list, number % 0.7)",
	"map(list, number ^ 2)",
	"map(list, 1.000000001 ^ 100)",
	"map(list, -number)",
	"map(list, round(number, 300))",
	"map(list, sum(numbers))",
	"map(list, max(numbers))",
	"map(list, sort(numbers))",
	"sort(numbers)",
	"uniq(list)",
	"uniq(numbers)",
	"uniq(map(1..100000, 'x'))",
	"map(list, uniq(list))",
	"map(list, reverse(list))",
	"map(list, keys(#))",
	"map(list, list == list)",
	"map(list, # in list)",
	"sortBy(list, text)",
	"map(list, sortBy(list, .t))",
	"map(list, formatDate('2026-01-01', 'yyyy', .t))",
	"map(list, sha256(text))",
	"map(list, base64(text))",
	"map(list, {a: [#, #, #], b: {c: [#, #]}})",
	"filter(list, filter(list, true) == [])",
	"map(list, header['x'])",
	"let a = text + text; let b = a + a; let c = b + b; c + c",
	"map(list, " + strings.Repeat("not ", 900) + "true)",
	"map(list, #" + strings.Repeat(".a", 2000) + ")",
	strings.Repeat("-", 4000) + "number",
	strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000),
	strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
	"a" + strings.Repeat("*number", 500),
	"a" + strings.Repeat("/number", 500),
}

const (
	allowedMemory = 64 << 20
)

// evaluate runs an expression on the document and fails when it took too much.
func evaluate(t *testing.T, source string, rec *transform.Record, env *transform.Env) {
	t.Helper()
	e, err := transform.CompileExpression(source, transform.CompileOptions{})
	if err != nil {
		return
	}
	if allocated := allocatedBy(func() { e.Eval(env, rec) }); allocated > allowedMemory {
		t.Errorf("%.60s allocates %d MiB", source, allocated>>20)
	}
}

// TestBudget: what the data decides is bounded in time and memory. The time is seen by benchmarks and by the fuzzer's own limit.
//
// Not parallel: memory is measured for the whole process.
func TestBudget(t *testing.T) {
	env := environment(t)
	rec := &transform.Record{Value: hostile()}
	for _, source := range expensive {
		evaluate(t, source, rec, env)
	}
}

func FuzzExpression(f *testing.F) {
	for _, source := range expensive {
		f.Add(source)
	}
	for _, function := range transform.Functions() {
		f.Add(function.Example)
	}
	env := environment(f)
	rec := &transform.Record{Value: hostile()}
	// Time is looked at while fuzzing only: as a test it would depend on what else the machine does.
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	f.Fuzz(func(t *testing.T, source string) {
		fastest := time.Hour
		for range 3 { // what else the machine does is not the expression's fault
			began := time.Now()
			evaluate(t, source, rec, env)
			if fastest = min(fastest, time.Since(began)); fastest < time.Second || !fuzzing {
				return
			}
		}
		t.Errorf("%q takes %v", source, fastest)
	})
}

func BenchmarkBudget(b *testing.B) {
	env := environment(b)
	rec := &transform.Record{Value: hostile()}
	for _, source := range expensive {
		e, err := transform.CompileExpression(source, transform.CompileOptions{})
		if err != nil {
			continue
		}
		b.Run(fmt.Sprintf("%.40s", source), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Eval(env, rec)
			}
		})
	}
}
