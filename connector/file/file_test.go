package file_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/connectortest"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// lines is the format of these tests: a line for each record.
var lines = must(jsonfmt.NewLines(jsonfmt.Options{}))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// connect makes a connection as a definition does.
func connect(t testing.TB, base string, definition string) connector.Connection {
	t.Helper()
	env := connector.Env{Name: "out", BaseDir: base, Now: func() time.Time { return noon }}
	c, err := file.Kind().New(env, func(options any) error { return json.Unmarshal([]byte(definition), options) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func object(name string, v transform.Value) transform.Value { return transform.Null.With(name, v) }

// These tests run beside no others, because the suite looks for goroutines that are left.
func TestConnection(t *testing.T) { connectortest.Run(t, harness()) }

func TestAppendingConnection(t *testing.T) {
	h := harness()
	h.Target.Path, h.Target.Exists = "orders/all.ndjson", "append"
	h.Path = func(connector.Run) string { return "orders/all.ndjson" }
	h.TargetFaults = map[string]connector.Target{"exists": {Path: "a.json", Format: must(jsonfmt.New(jsonfmt.Options{})), Exists: "append"}}
	connectortest.Run(t, h)
}

func harness() connectortest.Harness {
	return connectortest.Harness{
		New: func(t *testing.T) connectortest.System {
			base := t.TempDir()
			return connectortest.System{
				Connect: func() connector.Connection { return connect(t, base, `{"dir": "a/b"}`) },
				Written: func(t *testing.T) []transform.Value {
					var list []transform.Value
					for name, text := range tree(t, filepath.Join(base, "a", "b")) {
						records, err := transformtest.Decode(lines, strings.NewReader(text), transform.DecodeOptions{})
						if err != nil {
							t.Errorf("%s: %v", name, err)
						}
						for _, r := range records {
							list = append(list, r.Value)
						}
					}
					return list
				},
			}
		},
		Target: connector.Target{Path: "orders/${run.id}.ndjson", Format: lines},
		Path:   func(run connector.Run) string { return "orders/" + run.ID.String() + ".ndjson" },
		Records: func(n int) []transform.Value {
			return []transform.Value{object("n", transform.Int(int64(n))), object("n", transform.Number("0.10")), object("n", transform.Text("é\"\n"))}
		},
		Unfit: object("n", transform.Text("\xff")),
		From:  &connector.ReadSpec{Path: "orders/${run.id}.ndjson", Format: lines},
		TargetFaults: map[string]connector.Target{
			"connection": {Format: lines},
			"path":       {Path: "../orders", Format: lines},
			"table":      {Path: "a", Format: lines, Table: "orders"},
			"action":     {Path: "a", Format: lines, Action: "upsert"},
			"key":        {Path: "a", Format: lines, Key: []string{"id"}},
			"create":     {Path: "a", Format: lines, Create: true},
			"commit":     {Path: "a", Format: lines, Commit: 10},
			"exists":     {Path: "a", Format: lines, Exists: "sometimes"},
		},
		ReadFaults: map[string]connector.ReadSpec{
			"connection": {Format: lines},
			"path":       {Path: "*.csv", Format: lines},
			"table":      {Table: "orders"},
			"query":      {Query: "select 1"},
		},
	}
}

// tree returns the files below a folder that are no notes and no leftovers.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		}
		b, err := os.ReadFile(path)
		found[strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(dir)+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// run is the n-th run; runs with higher numbers began later.
func run(n int) connector.Run {
	id := uuid.MustParse("0198c5a0-0000-7000-8000-000000000000")
	id[15] = byte(n)
	return connector.Run{ID: id, Number: int64(n), Flow: "orders", Attempt: 1, Time: noon}
}

// attempt writes the text v into one file of a run, up to the commit.
func attempt(t testing.TB, c connector.Connection, target connector.Target, r connector.Run, path, v string) (work connector.Work, applied bool, err error) {
	t.Helper()
	target.Format = lines
	w, err := c.(connector.Destination).PrepareWrite([]connector.Target{target})
	if err != nil {
		t.Fatal(err)
	}
	if work, err = w.Begin(t.Context()); err != nil {
		return nil, false, err
	}
	t.Cleanup(func() { work.Rollback() })
	if applied, err = work.Start(r, []string{path}); err != nil || applied {
		return work, applied, err
	}
	value := object("v", transform.Text(v))
	return work, false, work.Write(0, &transform.Batch{Records: []transform.Record{{Value: value}}})
}

// write is an attempt that commits.
func write(t testing.TB, c connector.Connection, target connector.Target, r connector.Run, path, v string) (applied bool, err error) {
	t.Helper()
	work, applied, err := attempt(t, c, target, r, path, v)
	if err == nil {
		err = work.Commit()
	}
	if work != nil {
		work.Rollback()
	}
	return applied, err
}

func text(v string) string { return fmt.Sprintf("{\"v\":%q}\n", v) }

// TestExists plays attempts of runs on one path, in order.
func TestExists(t *testing.T) {
	t.Parallel()
	type step struct {
		run     int
		v       string
		applied bool
		refused bool
		remove  string // a file that somebody takes away before
	}
	for _, c := range []struct {
		name   string
		exists string
		steps  []step
		want   map[string]string
	}{
		{"the last run's file stays", "", []step{{run: 1, v: "a"}, {run: 2, v: "b"}}, map[string]string{"o.csv": "b"}},
		{"an older run's retry puts nothing back", "replace", []step{{run: 2, v: "b"}, {run: 1, v: "a", applied: true}}, map[string]string{"o.csv": "b"}},
		{"nor does it when the file was taken away", "replace", []step{{run: 2, v: "b"}, {run: 1, v: "a", applied: true, remove: "o.csv"}}, map[string]string{}},
		{"a second attempt is applied", "replace", []step{{run: 1, v: "a"}, {run: 1, v: "a", applied: true}}, map[string]string{"o.csv": "a"}},
		{"fail keeps the file", "fail", []step{{run: 1, v: "a"}, {run: 2, v: "b", refused: true}}, map[string]string{"o.csv": "a"}},
		{"fail knows the run's own file", "fail", []step{{run: 1, v: "a"}, {run: 1, v: "a", applied: true}}, map[string]string{"o.csv": "a"}},
		{"fail writes when the file was taken away", "fail", []step{{run: 1, v: "a"}, {run: 2, v: "b", remove: "o.csv"}}, map[string]string{"o.csv": "b"}},
		{"unique finds names", "unique", []step{{run: 1, v: "a"}, {run: 2, v: "b"}, {run: 3, v: "c"}}, map[string]string{"o.csv": "a", "o-2.csv": "b", "o-3.csv": "c"}},
		{"unique knows the run's own file", "unique", []step{{run: 1, v: "a"}, {run: 2, v: "b"}, {run: 1, v: "a", applied: true}, {run: 2, v: "b", applied: true}}, map[string]string{"o.csv": "a", "o-2.csv": "b"}},
		{"unique takes a name that became free", "unique", []step{{run: 1, v: "a"}, {run: 2, v: "b"}, {run: 3, v: "c", remove: "o.csv"}}, map[string]string{"o.csv": "c", "o-2.csv": "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, s := range c.steps {
				if s.remove != "" {
					if err := os.Remove(filepath.Join(dir, s.remove)); err != nil {
						t.Fatal(err)
					}
				}
				conn := connect(t, dir, `{"dir": "."}`) // every attempt in a process of its own
				applied, err := write(t, conn, connector.Target{Path: "o.csv", Exists: c.exists}, run(s.run), "o.csv", s.v)
				if applied != s.applied || connector.IsPermanent(err) != s.refused || err != nil && !s.refused {
					t.Fatalf("step %d: applied %v, error %v", i, applied, err)
				}
			}
			want := map[string]string{}
			for name, v := range c.want {
				want[name] = text(v)
			}
			if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
				t.Errorf("(-expected +in the folder):\n%s", diff)
			}
		})
	}
}

// TestCrashBeforeRename is an attempt that noted its path and ended before its file was there: the note must harm nobody.
func TestCrashBeforeRename(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exists string
		runs   []int // which write then
		want   map[string]string
	}{
		{"replace", []int{4}, map[string]string{"o.csv": text("run 4")}},
		{"unique", []int{4, 5}, map[string]string{"o.csv": "another's", "o-2.csv": text("run 4"), "o-3.csv": text("run 5")}},
	} {
		t.Run(c.exists, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			conn := connect(t, dir, `{"dir": "."}`)
			target := connector.Target{Path: "o.csv", Exists: c.exists}
			if _, err := write(t, conn, target, run(5), "o.csv", "run 5"); err != nil {
				t.Fatal(err)
			}
			// What the disk holds after such a crash: the note of run 5, and at the path the file of somebody else.
			if err := os.WriteFile(filepath.Join(dir, "o.csv"), []byte("another's"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, n := range c.runs {
				if applied, err := write(t, conn, target, run(n), "o.csv", fmt.Sprint("run ", n)); err != nil || applied {
					t.Fatalf("run %d: applied %v, error %v", n, applied, err)
				}
			}
			if diff := cmp.Diff(c.want, tree(t, dir)); diff != "" {
				t.Errorf("(-expected +in the folder):\n%s", diff)
			}
		})
	}
}

func TestReadersSeeWholeFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conn := connect(t, dir, `{"dir": "."}`)
	if _, err := write(t, conn, connector.Target{Path: "o.csv"}, run(1), "o.csv", "first"); err != nil {
		t.Fatal(err)
	}
	work, _, err := attempt(t, conn, connector.Target{Path: "o.csv"}, run(2), "o.csv", strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir)["o.csv"]; got != text("first") {
		t.Errorf("before the commit the file holds %d bytes", len(got))
	}
	reader, err := os.Open(filepath.Join(dir, "o.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := work.Commit(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(reader); err != nil || string(b) != text("first") {
		t.Errorf("a reader from before the commit reads %d bytes, error %v", len(b), err)
	}
}

// TestPathsOutside wants what leads out of the folder refused for good, and nothing changed there.
func TestPathsOutside(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	dir := filepath.Join(base, "in")
	for _, d := range []string{outside, filepath.Join(dir, "sub")} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"folder": outside, "file": secret, "up": "..", "sub/up": "../.."} {
		if err := os.Symlink(to, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
	conn := connect(t, base, `{"dir": "in"}`)
	target := connector.Target{Path: "${param.p}"}
	final := func(err error) bool { return connector.IsPermanent(err) || inputFault(err) }
	for _, path := range []string{
		"", "/etc/passwd", "../outside/x", "sub/../../outside/x", "a//b", "./x", "sub/.", "..", "a\\b", "c:x", "a\x00b", "a\nb", ".hidden", "sub/.hidden",
		".integrator/x", "x.", "x ", "\xff", strings.Repeat("x", 201), strings.Repeat("x/", 2100) + "x",
		"folder/x", "up/x", "up/outside/x", "sub/up/outside/x",
	} {
		if _, err := write(t, conn, target, run(1), path, "v"); !final(err) {
			t.Errorf("writing %.40q: %v", path, err)
		}
		reader, err := conn.(connector.Source).PrepareRead(connector.ReadSpec{Path: "${param.p}", Format: lines})
		if err != nil {
			t.Fatal(err)
		}
		if path == "" {
			continue // the path of the definition
		}
		if records, err := reader.Open(t.Context(), connector.ReadRequest{Path: path}); !final(err) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading %.40q: %v", path, err)
			if err == nil {
				records.Close()
			}
		}
	}
	if _, err := write(t, conn, target, run(2), "file", "v"); err != nil { // the link itself is replaced
		t.Error(err)
	}
	if got := tree(t, outside); !cmp.Equal(got, map[string]string{"secret": "{}\n"}) {
		t.Errorf("outside the folder there is now %v", got)
	}
}

// inputFault reports whether a value of the run's input is at fault, so that no retry mends it.
func inputFault(err error) bool {
	fault := (*transform.Fault)(nil)
	return errors.As(err, &fault) && fault.Kind == "input"
}

func TestSourceIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o750); err != nil {
		t.Fatal(err)
	}
	reader, err := connect(t, dir, `{"dir": "."}`).(connector.Source).PrepareRead(connector.ReadSpec{Path: "a.csv", Format: lines})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Open(t.Context(), connector.ReadRequest{Path: "sub"}); !inputFault(err) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := reader.Open(t.Context(), connector.ReadRequest{Path: "none"}); !errors.Is(err, fs.ErrNotExist) || connector.IsPermanent(err) {
		t.Errorf("a file that may still come: %v", err)
	}
}

func TestTwoDestinationsOnePath(t *testing.T) {
	t.Parallel()
	w, err := connect(t, t.TempDir(), `{"dir": "."}`).(connector.Destination).PrepareWrite([]connector.Target{
		{Path: "${param.a}", Format: lines}, {Path: "${param.b}", Format: lines}})
	if err != nil {
		t.Fatal(err)
	}
	work, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer work.Rollback()
	if _, err := work.Start(run(1), []string{"x", "x"}); !inputFault(err) {
		t.Errorf("two destinations write one file: %v", err)
	}
}

// TestWhatTheFormatCannotWrite is no fault of the disk, so no retry mends it.
func TestWhatTheFormatCannotWrite(t *testing.T) {
	t.Parallel()
	one, rows := must(jsonfmt.New(jsonfmt.Options{})), must(csvfmt.New(csvfmt.Options{Formula: "reject"}))
	w, err := connect(t, t.TempDir(), `{"dir": "."}`).(connector.Destination).PrepareWrite([]connector.Target{
		{Path: "o.json", Format: one, Encode: transform.EncodeOptions{As: "object"}}, {Path: "r.csv", Format: rows, Encode: transform.EncodeOptions{Columns: []string{"=a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	work, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer work.Rollback()
	if _, err := work.Start(run(1), []string{"o.json", "r.csv"}); err != nil {
		t.Fatal(err)
	}
	two := &transform.Batch{Records: []transform.Record{{Value: object("a", transform.Int(1))}, {Value: object("a", transform.Int(2))}}}
	if err := work.Write(0, two); err != nil || two.Records[0].Err != nil || two.Records[1].Err == nil { // it is the record that is one too many
		t.Errorf("two records in a document of one: %v, %v", err, two.Records)
	}
	if err := work.Write(1, &transform.Batch{Records: []transform.Record{{Value: object("=a", transform.Int(1))}}}); !connector.IsPermanent(err) {
		t.Errorf("a column of the definition that would be a formula: %v", err)
	}
}

// TestLeftovers wants old files of crashed attempts removed, and young ones, which may be somebody's, kept.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conn := connect(t, dir, `{"dir": "."}`)
	for _, n := range []int{1, 2} { // two attempts that ended without a rollback
		if _, _, err := attempt(t, conn, connector.Target{Path: "sub/o.csv"}, run(n), "sub/o.csv", "v"); err != nil {
			t.Fatal(err)
		}
	}
	hidden := func() []string {
		entries, err := os.ReadDir(filepath.Join(dir, "sub"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
		return names
	}
	before := hidden()
	if len(before) != 2 {
		t.Fatalf("the attempts left %v", before)
	}
	for i, age := range []time.Duration{25 * time.Hour, time.Hour} {
		if err := os.Chtimes(filepath.Join(dir, "sub", before[i]), noon.Add(-age), noon.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := write(t, connect(t, dir, `{"dir": "."}`), connector.Target{Path: "sub/o.csv"}, run(3), "sub/o.csv", "v"); err != nil {
		t.Fatal(err)
	}
	if after := hidden(); !slices.Equal(after, before[1:]) {
		t.Errorf("left are %v of %v", after, before)
	}
	if _, err := write(t, connect(t, dir, `{"dir": "."}`), connector.Target{Path: "sub/o.csv"}, run(2), "sub/o.csv", "v"); err != nil {
		t.Fatal(err)
	}
	if after := hidden(); len(after) != 0 {
		t.Errorf("the run's own second attempt leaves %v", after)
	}
}

func TestFolderThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	conn := connect(t, base, `{"dir": "out"}`)
	for n := range 2 {
		if _, err := write(t, conn, connector.Target{Path: "o.csv"}, run(n), "o.csv", "v"); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, filepath.Join(base, "out")); len(got) != 1 {
			t.Fatalf("the folder holds %v", got)
		}
		if err := os.RemoveAll(filepath.Join(base, "out")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	var fault *connector.Fault
	if _, err := file.Kind().New(connector.Env{}, func(any) error { return nil }); !errors.As(err, &fault) || fault.Key != "dir" {
		t.Errorf("without dir: %v", err)
	}
	told := errors.New("unknown key")
	if _, err := file.Kind().New(connector.Env{}, func(any) error { return told }); err != told {
		t.Errorf("an error of decode became %v", err)
	}
}
