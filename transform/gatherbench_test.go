package transform_test

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/integrator-go/integrator/transform"
)

// BenchmarkGatherers measures steps over all records, per record, with all of them in memory and with nearly all in files.
func BenchmarkGatherers(b *testing.B) {
	by := mapping(b, `{"a": "a"}`)
	for _, row := range []struct {
		name string
		g    transform.Gatherer
	}{
		{"sort", transform.NewSort("sort", by, []transform.Direction{{}})},
		{"dedupe", transform.NewDedupe("dedupe", by, false)},
		{"last", transform.NewDedupe("dedupe", by, true)},
		{"aggregate", transform.NewAggregate("aggregate", mapping(b, `{"c": "c"}`), []transform.Fold{fold(b, "n", "count"), fold(b, "s", "sum(b)")})},
		{"groups", transform.NewAggregate("aggregate", by, []transform.Fold{fold(b, "n", "count"), fold(b, "s", "sum(b)")})},
	} {
		for name, memory := range map[string]int64{"memory": 1 << 30, "files": 8 << 20} {
			b.Run(row.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				random := rand.New(rand.NewPCG(1, 2))
				gathering := row.g.Gather(environment(b), transform.Space{Memory: memory, Dir: b.TempDir()})
				defer gathering.Close()
				shape := transform.NewShape("a", "b", "c", "text")
				records := make([]transform.Record, 0, 512)
				for n := 0; n < b.N; n += cap(records) {
					records = records[:0]
					for range cap(records) {
						v := transform.NewObject(shape, []transform.Value{transform.Int(random.Int64N(1 << 20)), transform.Number("12.50"), transform.Int(random.Int64N(100)), transform.Text("some text of a record")})
						records = append(records, transform.Record{Value: v, Source: v})
					}
					if err := gathering.Add(b.Context(), &transform.Batch{Records: records}); err != nil {
						b.Fatal(err)
					}
				}
				for {
					if err := gathering.Next(b.Context(), &transform.Batch{}); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
