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

// TestEveryKeyOfTheLanguage: a key of the language works or is refused as one that is to come; none is unknown.
func TestEveryKeyOfTheLanguage(t *testing.T) {
	t.Parallel()
	for place, keys := range map[string]string{
		"":                                 "version settings vars formats connections listeners flows schedules users steps x-anything",
		"listeners: {l: {path: /l, K: 1}}": "type path method format strict_type check mode answer auth auth_in params idempotency timeout max_body rate cors keep enabled",
		"listeners: {l: {path: /l, idempotency: {K: 1}}}":     "key window",
		"listeners: {l: {path: /l, rate: {K: 1}}}":            "total user",
		"flows: {f: {K: 1}}":                                  "description enabled listener from params steps to respond on_reject on_error retry timeout max_running order_by group timezone",
		"flows: {f: {from: {K: 1}}}":                          "listener when records connection table query path format bind watermark",
		"flows: {f: {params: {p: {K: 1}}}}":                   "type required default enum min max",
		"flows: {f: {steps: [{K: 1}]}}":                       "filter map set drop rename reject validate split flatten nest lookup call dedupe sort aggregate join use flow when for_each go",
		"flows: {f: {to: [{K: 1}]}}":                          "connection table path action key map each when create commit exists format to subject attach",
		"flows: {f: {respond: {K: 1}}}":                       "status format headers body page stream",
		"flows: {f: {on_reject: {K: 1}}}":                     "action max to",
		"flows: {f: {retry: {K: 1}}}":                         "attempts backoff max_backoff",
		"schedules: {s: {K: 1}}":                              "flow cron every at timezone params if_missed overlap enabled",
		"users: {u: {K: 1}}":                                  "role password listeners flows networks",
		"connections: {c: {type: sql, driver: sqlite, K: 1}}": "path dsn host port database user password tls",
	} {
		for _, key := range strings.Fields(keys) {
			set := strings.ReplaceAll(place, "K: 1", key+": 1")
			if place == "" {
				set = key + ": {}"
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "set.yaml"), []byte(set+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := newEngine(setup{dir: dir, data: filepath.Join(dir, "data"), logger: slog.New(slog.DiscardHandler)}); err != nil && strings.Contains(err.Error(), "unknown key") {
				t.Errorf("%s: %v", set, err)
			}
		}
	}
}
