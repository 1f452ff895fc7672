package file_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
)

// append1 appends one record of a run to o.csv, in a connection of its own.
func append1(t *testing.T, dir string, n int, format transform.Format, value transform.Value) (applied bool, err error) {
	t.Helper()
	w := must(connect(t, dir, `{"dir": "."}`).(connector.Destination).PrepareWrite([]connector.Target{{Path: "o.csv", Exists: "append", Format: format}}))
	work := must(w.Begin(t.Context()))
	defer work.Rollback()
	if applied, err = work.Start(run(n), []string{"o.csv"}); err != nil {
		return applied, err
	}
	if !applied {
		if err := work.Write(0, &transform.Batch{Records: []transform.Record{{Value: value}}}); err != nil {
			return false, err
		}
	}
	return applied, work.Commit()
}

func row(v string) transform.Value { return object("v", transform.Text(v)) }

func wantFile(t *testing.T, dir, want string) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, dir)["o.csv"]); diff != "" {
		t.Errorf("o.csv (-expected +there):\n%s", diff)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	csv := must(csvfmt.New(csvfmt.Options{}))
	for _, c := range []struct {
		name   string
		format transform.Format
		before string // what the file holds
		value  func(n int) transform.Value
		final  bool // the second run is refused
		want   string
	}{
		{"one header for all", csv, "", func(n int) transform.Value { return row(string(rune('a' + n))) }, false, "v\na\nb\n"},
		{"lines", lines, "", func(n int) transform.Value { return object("n", transform.Int(int64(n))) }, false, "{\"n\":0}\n{\"n\":1}\n"},
		{"a file that was there", csv, "v\nz\n", func(n int) transform.Value { return row(string(rune('a' + n))) }, false, "v\nz\na\nb\n"},
		{"other columns", csv, "", func(n int) transform.Value { return object(string(rune('a'+n)), transform.Int(1)) }, true, "a\n1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.before != "" {
				if err := os.WriteFile(filepath.Join(dir, "o.csv"), []byte(c.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 2 {
				if applied, err := append1(t, dir, n, c.format, c.value(n)); applied || connector.IsPermanent(err) != (n == 1 && c.final) || err != nil && !c.final {
					t.Fatalf("run %d: applied %v, error %v", n, applied, err)
				}
			}
			if applied, err := append1(t, dir, 0, c.format, c.value(0)); !applied || err != nil {
				t.Errorf("the second attempt of the first run: applied %v, error %v", applied, err)
			}
			wantFile(t, dir, c.want)
		})
	}
}

// TestAppendToAnOpenLine has a file without a line end at its end.
func TestAppendToAnOpenLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "o.csv"), []byte("v\na"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := append1(t, dir, 1, must(csvfmt.New(csvfmt.Options{})), row("b")); !connector.IsPermanent(err) {
		t.Errorf("the error is %v", err)
	}
	wantFile(t, dir, "v\na")
}

// TestAppendAfterCrash takes back what a run's commit does last, as a crash would have: its note, the removal of its journal, and some of what it
// appended.
func TestAppendAfterCrash(t *testing.T) {
	t.Parallel()
	const crashed = "0198c5a0-0000-7000-8000-000000000002"
	note := regexp.MustCompile(`^\d+ ` + crashed)
	for _, c := range []struct {
		name string
		left int64 // bytes of the file
		more string
		want string // after another run has appended, and then the crashed one's next attempt
	}{
		{"before anything was appended", 10, "", text("a") + text("c") + text("b")},
		{"in the middle", 14, "", text("a") + text("c") + text("b")},
		{"before the note", 20, "", text("a") + text("c") + text("b")},
		{"and somebody else has appended", 20, text("x"), text("a") + text("b") + text("x") + text("c")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for n, v := range []string{"a", "b"} {
				if _, err := append1(t, dir, n+1, lines, row(v)); err != nil {
					t.Fatal(err)
				}
			}
			notes := must(filepath.Glob(filepath.Join(dir, ".integrator", "*")))
			removed := 0
			for _, name := range notes {
				if note.Match(must(os.ReadFile(name))) {
					removed++
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			if removed != 1 {
				t.Fatalf("%d of %v are the run's note", removed, notes)
			}
			journal := filepath.Join(dir, file.JournalOf("o.csv"))
			if _, err := os.Stat(journal); !os.IsNotExist(err) {
				t.Errorf("the journal of a run that was through is left: %v", err)
			}
			if err := os.WriteFile(journal, []byte(crashed+" 10 10\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, "o.csv")
			if err := os.Truncate(name, c.left); err != nil {
				t.Fatal(err)
			}
			f := must(os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0))
			if _, err := f.WriteString(c.more); err != nil {
				t.Fatal(err)
			}
			f.Close()
			for _, n := range []int{3, 2} {
				if applied, err := append1(t, dir, n, lines, row(string(rune('a'+n-1)))); err != nil || applied != (n == 2 && c.more != "") {
					t.Errorf("run %d: applied %v, error %v", n, applied, err)
				}
			}
			wantFile(t, dir, c.want)
			if temps := must(filepath.Glob(filepath.Join(dir, ".integrator-*"))); len(temps) > 0 {
				t.Errorf("left are %s", strings.Join(temps, ", "))
			}
		})
	}
}
