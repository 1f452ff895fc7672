package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuickstart(t *testing.T) {
	t.Parallel()
	keep := filepath.Join(t.TempDir(), "kept")
	var out strings.Builder
	if err := quickstart(context.Background(), &out, keep); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"flow load-earthquakes ends in success: read 1707, written 128, rejected 0",
		"flow clean-strikes ends in warning: read 10000, written 9945, rejected 55",
		"it cost something and damaged nothing",
		"flow load-airports ends in success: read 3376, written 3376, rejected 0",
		`{"status":0,"exception":""}`,
		"table earthquakes, 128 rows:\n    6.4  22km NNE of Hualian, Taiwan\n",
		"table airports, 3376 rows:\n    00M  Thigpen, Bay Springs\n",
		"file out/summary.csv, 4 lines:\n    magnitude,earthquakes,for_example\n",
		"summary           by name",
		"All of it is in " + keep,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output has no %q", want)
		}
	}
	for _, name := range []string{"flows/integrator.yaml", "flows/desk.db", "input/strikes.csv"} {
		if _, err := os.Stat(filepath.Join(keep, name)); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
