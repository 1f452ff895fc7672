package main

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/integrator-go/integrator"
)

var update = flag.Bool("update", false, "write what is told as what is wanted")

// TestMistakes compiles what strangers get wrong, as `integrator check` does: the folders of testdata/mistakes.txtar. Every fault of a set is told at once, at its place.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const golden = "testdata/mistakes.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	place := regexp.MustCompile(`^[\w/]+\.(yaml|json):\d+:\d+: .`)
	base, cases := t.TempDir(), 0
	for i, f := range archive.Files {
		name, path, _ := strings.Cut(f.Name, "/")
		dir := filepath.Join(base, name)
		if path != "want" {
			file := filepath.Join(dir, filepath.FromSlash(path))
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, f.Data, 0o600)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cases++
		_, err := newEngine(setup{dir: dir, data: filepath.Join(dir, "data"), logger: slog.New(slog.DiscardHandler)})
		var faults integrator.Faults
		if !errors.As(err, &faults) {
			t.Errorf("%s: %v, want faults", name, err)
			continue
		}
		got := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "") + "\n"
		for line := range strings.Lines(got) {
			if !place.MatchString(line) {
				t.Errorf("%s: a fault without a place, or with more than a line: %s", name, line)
			}
		}
		if *update {
			archive.Files[i].Data = []byte(got)
		} else if got != string(f.Data) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, f.Data)
		}
	}
	if cases < 60 {
		t.Errorf("%d cases", cases)
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
