package main

import (
	"path/filepath"
	"testing"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/storetest"
)

// TestJournal is the whole test of a store: the suite, and how to make and reopen one.
func TestJournal(t *testing.T) {
	t.Parallel()
	open := func(tb testing.TB, dir string) store.Store {
		st, err := OpenJournal(dir)
		if err != nil {
			tb.Fatal(err)
		}
		return st
	}
	storetest.Run(t, storetest.Harness{
		Exclusive: true,
		New:       func(tb testing.TB) store.Store { return open(tb, tb.TempDir()) },
		Reopen: func(tb testing.TB, st store.Store) store.Store {
			if err := st.Close(); err != nil {
				tb.Fatal(err)
			}
			return open(tb, filepath.Dir(st.(*Journal).file.Name()))
		},
	})
}

func Example() {
	main()
	// Output: [{"Flow":"note","FlowID":1,"Number":1}]
}
