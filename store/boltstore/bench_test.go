package boltstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
	"github.com/integrator-go/integrator/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Bench(b, harness()) }

// BenchmarkShared measures how many accepts of 64 callers share a commit. Syncs of checkpoints are counted too.
func BenchmarkShared(b *testing.B) {
	var syncs atomic.Int64
	st, err := boltstore.Open(b.TempDir(), &boltstore.Options{OnCommit: func(int, time.Duration) { syncs.Add(1) },
		OnCheckpoint: func(int64, time.Duration) { syncs.Add(2) }})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	q, err := st.Join(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	before := syncs.Load()
	b.ResetTimer()
	const callers = 64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for range b.N/callers + min(1, max(0, b.N%callers-i)) {
				if _, err := q.Accept(b.Context(), &store.Acceptance{Runs: []*store.Run{{FlowID: 1}}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(syncs.Load()-before)/float64(b.N), "syncs/op")
}

// BenchmarkOpen measures how long it takes until the store of a crashed engine takes work again, with b.N runs queued.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	q, err := st.Join(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	for left := b.N; left > 0; left -= 1000 {
		a := &store.Acceptance{}
		for range min(left, 1000) {
			a.Runs = append(a.Runs, &store.Run{Flow: "orders", FlowID: 1, Trigger: "listener", User: "ann", Queued: time.Now(), Due: time.Now()})
		}
		if _, err := q.Accept(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if st, err = boltstore.Open(dir, nil); err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Join(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
}
