package boltstore_test

import (
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
	"github.com/integrator-go/integrator/store/storetest"
)

// harness keeps the folder of each store.
func harness() storetest.Harness {
	var folders sync.Map
	open := func(tb testing.TB, dir string) store.Store {
		tb.Helper()
		st, err := boltstore.Open(dir, nil)
		if err != nil {
			tb.Fatal(err)
		}
		folders.Store(st, dir)
		return st
	}
	folder := func(st store.Store) string {
		dir, _ := folders.Load(st)
		return dir.(string)
	}
	return storetest.Harness{
		New: func(tb testing.TB) store.Store { return open(tb, filepath.Join(tb.TempDir(), "new", "data")) },
		Reopen: func(tb testing.TB, st store.Store) store.Store {
			tb.Helper()
			if err := st.Close(); err != nil {
				tb.Fatal(err)
			}
			return open(tb, folder(st))
		},
		Damage: func(tb testing.TB, st store.Store, blob uuid.UUID) {
			tb.Helper()
			found, err := filepath.Glob(filepath.Join(folder(st), "blobs", "*", blob.String()))
			if err != nil || len(found) != 1 {
				tb.Fatal(found, err)
			}
			flip(tb, found[0], 100_000)
		},
		Exclusive: true,
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		acceptUntilKilled(dir)
	}
	flag.Set("rapid.checks", "25") // each step is synced; the flags of the command line, read after this, still hold
	os.Exit(m.Run())
}

func TestStore(t *testing.T) { storetest.Run(t, harness()) }
