package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(driveFolder); folder != "" {
		exit(drive(folder, os.Getenv(driveLife)))
	}
	os.Exit(m.Run())
}

// try runs the command where there is a strace that may trace.
func try(t *testing.T, args ...string) {
	t.Helper()
	if err := exec.Command("strace", "-o", os.DevNull, "true").Run(); err != nil {
		if os.Getenv("INTEGRATOR_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var told strings.Builder
	err := do(args, &told)
	t.Log(told.String())
	if err != nil {
		t.Error(err)
	}
}

// TestPowerCut opens some images, and a store with flipped bits now and then. The command does it for longer.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	try(t, "-images", "400", "-flips", "100")
}

// TestMissingSyncsAreFound makes sure that the images find what they are for.
func TestMissingSyncsAreFound(t *testing.T) {
	t.Parallel()
	try(t, "-images", "4000", "-break", "all")
}
