package boltstore

import (
	"context"
	"os"
	"time"

	"github.com/integrator-go/integrator/store"
)

// Stats is what a store holds.
type Stats struct {
	FileBytes    int64 // of the database file
	FreeBytes    int64 // of them, in pages that hold nothing: Compact gives them back
	Messages     int64
	Runs         map[store.Status]int64 // by status; those that are there
	OldestQueued time.Time              // of the runs that are queued, when the first was; zero without one
	Blobs        int64                  // large bodies
	BlobBytes    int64                  // of their files
	Damaged      int64                  // values that could not be read; their rows are not counted
}

// Stats looks through the store, which goes on working. It takes as long as reading all runs.
func (s *Store) Stats(ctx context.Context) (*Stats, error) {
	stats := &Stats{Runs: map[store.Status]int64{}}
	count := map[string]func(key []byte, held any){
		string(bucketMessages): func([]byte, any) { stats.Messages++ },
		string(bucketBlobs): func(key []byte, _ any) {
			stats.Blobs++
			if info, err := os.Stat(s.blobPath(idOf(key))); err == nil {
				stats.BlobBytes += info.Size()
			}
		},
	}
	run := func(_ []byte, held any) {
		r := held.(*store.Run)
		stats.Runs[r.Status]++
		if r.Status == store.Queued && (stats.OldestQueued.IsZero() || r.Queued.Before(stats.OldestQueued)) {
			stats.OldestQueued = r.Queued
		}
	}
	count[string(bucketActive)], count[string(bucketHistory)] = run, run
	for i := range buckets {
		b := &buckets[i]
		add := count[string(b.name)]
		if add == nil {
			continue
		}
		err := s.rows(ctx, b.name, func(key, value []byte) error {
			held, err := b.unseal(key, value)
			if err != nil {
				stats.Damaged++
				return nil
			}
			add(key, held)
			return nil
		}, func() error { return nil })
		if err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(s.path())
	if err != nil {
		return nil, err
	}
	stats.FileBytes = info.Size()
	free := s.db.Stats()
	stats.FreeBytes = int64(free.FreePageN+free.PendingPageN) * int64(s.db.Info().PageSize)
	return stats, nil
}
