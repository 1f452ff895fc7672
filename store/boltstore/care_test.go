package boltstore_test

import (
	"testing"

	"github.com/integrator-go/integrator/store/boltstore"
)

// look checks a store and returns its faults.
func look(t *testing.T, dir string) (*boltstore.Checked, []string) {
	t.Helper()
	var faults []string
	checked, err := boltstore.Check(t.Context(), dir, &boltstore.Watch{Fault: func(f boltstore.Fault) { faults = append(faults, f.String()) }})
	if err != nil {
		t.Fatal(err)
	}
	if checked.Faults != int64(len(faults)) {
		t.Errorf("%d faults were told of %d", len(faults), checked.Faults)
	}
	return checked, faults
}

func TestCheckOfAStoreInOrder(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 12, 400} {
		dir := t.TempDir()
		fill(t, dir, count)
		checked, faults := look(t, dir)
		if len(faults) > 0 {
			t.Errorf("%d messages: %q", count, faults[:min(len(faults), 10)])
		}
		t.Logf("%+v", *checked)
	}
}
