package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/internal/failpoint"
)

// TestKilled kills a server once at each point and ten times at random moments. The command does it for longer.
func TestKilled(t *testing.T) {
	t.Parallel()
	var told strings.Builder
	err := run([]string{"-kills", strconv.Itoa(len(failpoint.Points) + 10)}, &told)
	t.Log(told.String())
	if err != nil {
		t.Error(err)
	}
}

// TestFaultsFit wants the text that each fault replaces to be there.
func TestFaultsFit(t *testing.T) {
	t.Parallel()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if _, err := f.apply(root); err != nil {
			t.Error(err)
		}
	}
}

// TestFaultsAreFound makes sure that the kills find what they are for. It takes minutes, and is not parallel: two servers that are killed
// would only wait for each other.
func TestFaultsAreFound(t *testing.T) {
	if os.Getenv("INTEGRATOR_REQUIRE_ALL") == "" {
		t.Skip("INTEGRATOR_REQUIRE_ALL is not set")
	}
	var told strings.Builder
	err := run([]string{"-break", "all", "-kills", "360", "-round", "60"}, &told)
	t.Log(told.String())
	if err != nil {
		t.Error(err)
	}
}
