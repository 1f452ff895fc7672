package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/store"
)

// BenchmarkListener measures p1 and p2 without a network: 64 callers of the engine's handler. On a machine with other work it is the
// processor time and the counts that can be compared.
func BenchmarkListener(b *testing.B) {
	slog.SetDefault(quiet)
	for _, one := range []struct{ name, definitions, path string }{{"p1", filtering, eventsRoute}, {"p2", quoting, quoteRoute}} {
		b.Run(one.name, func(b *testing.B) {
			dir := b.TempDir()
			if err := write(filepath.Join(dir, "flows", "flows.yaml"), []byte(one.definitions)); err != nil {
				b.Fatal(err)
			}
			wrote, err := withEngine(dir, integrator.Retention{Runs: -1}, func(ctx context.Context, engine *integrator.Engine, st store.Store) error {
				_, token, err := logIn(ctx, engine)
				if err != nil {
					return err
				}
				handler, body := engine.Handler(), payload(1024)
				var begun atomic.Int64
				var callers sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				worked := processorTime()
				for range 64 {
					callers.Go(func() {
						for begun.Add(1) <= int64(b.N) {
							r := httptest.NewRequest("POST", one.path, bytes.NewReader(body))
							r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "User-Agent": {"Go-http-client/1.1"}}
							w := httptest.NewRecorder()
							if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
								b.Error(w.Code, w.Body)
							}
						}
					})
				}
				callers.Wait()
				err = rest(ctx, engine, st)
				b.StopTimer()
				b.ReportMetric(float64((processorTime()-worked)/time.Nanosecond)/float64(b.N), "cpu-ns/op")
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/float64(wrote.Syncs), "op/sync")
			b.ReportMetric(float64(wrote.Journal)/float64(b.N), "journal-B/op")
		})
	}
}
