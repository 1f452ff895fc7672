package transform_test

import (
	"fmt"
	"testing"

	"github.com/integrator-go/integrator/transform"
)

const eightFields = `{"order_id": "id", "store": "= param.store", "customer": "= customer.last + ', ' + customer.first", "total": "= qty * price",
	"note": "= note ?? ''", "sku": "lines[0].sku", "lines": "lines[*].qty", "kind": "type"}`

func BenchmarkCompileMap(b *testing.B) {
	m := mapOf(b, eightFields)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := transform.CompileMap(m, transform.CompileOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyMap(b *testing.B) {
	m := mapping(b, `{"a": "qty", "b": "price", "c": "text", "d": "count", "e": "flag", "f": "customer.first", "g": "lines[0].sku", "h": "type",
		"total": "= qty * price", "name": "= customer.last + ', ' + customer.first"}`)
	rec, env := &transform.Record{Value: value(b, order)}, environment(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Apply(env, rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	e := condition(b, "qty * price")
	rec, env := &transform.Record{Value: untyped(value(b, row))}, environment(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Eval(env, rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile6000(b *testing.B) {
	sources := make([]string, 6000)
	for i := range sources {
		sources[i] = fmt.Sprintf("qty * price + %d > 100 ? 'large' : customer.last + ', ' + customer.first", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range sources {
			if _, err := transform.CompileExpression(s, transform.CompileOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
