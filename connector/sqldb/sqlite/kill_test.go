package sqlite_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

var (
	kills  = flag.Int("kills", 8, "how many runs TestKill loads, and how often it kills the process that does")
	victim = flag.String("victim", "", "the folder that this process loads into, for TestKill")
)

const (
	killBatches = 8
	killRows    = 100 // in a batch
)

// TestKill kills processes that load one run after the other into a database and a folder, at random moments, and repeats each run until it
// is committed: then the rows are there once, and the files are whole. A process tells every step that it takes, which is how the parent
// chooses the moment.
func TestKill(t *testing.T) {
	if *victim != "" {
		beVictim(t, *victim)
		return
	}
	t.Parallel()
	base := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	runs := *kills
	for range *kills {
		loadUntil(t, base, runs, 1+random.IntN(2*(killBatches+6)))
	}
	loadUntil(t, base, runs, -1) // this one may live
	db := direct(t, base)
	want := []string{}
	for n := range runs {
		want = append(want, fmt.Sprintf("%d %d %d", n, killBatches*killRows, killBatches*killRows))
	}
	if got := query(t, db, "select run, count(*), count(distinct id) from t group by run order by run"); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("the table holds (run, rows, distinct rows) %v, expected %v", got, want)
	}
	for n := range runs {
		many := "many"
		if n > 0 {
			many = fmt.Sprintf("many-%d", n+1)
		}
		for _, name := range []string{"own-" + run(n).ID.String(), many} {
			b, err := os.ReadFile(filepath.Join(base, "out", name+".ndjson"))
			if err != nil {
				t.Error(err)
			} else if got := strings.Count(string(b), "\n"); got != killBatches*killRows {
				t.Errorf("%s has %d lines", name, got)
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(base, "out"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(filepath.Join(base, "out", "all.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	different := map[string]bool{}
	for line := range strings.Lines(string(all)) {
		different[line] = true
	}
	if lines := strings.Count(string(all), "\n"); lines != len(different) || lines != runs*killBatches*killRows {
		t.Errorf("all.ndjson has %d lines, %d of them different, of %d", lines, len(different), runs*killBatches*killRows)
	}
	if len(entries) != 2*runs+2 { // and the folder of notes
		t.Errorf("the folder holds %v", entries)
	}
}

// loadUntil starts a process that loads so many runs, and kills it after so many steps.
func loadUntil(t *testing.T, base string, runs, steps int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-victim="+base, fmt.Sprint("-kills=", runs))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if steps--; steps == 0 {
			killed = command.Process.Kill() == nil
		}
	}
	if err := command.Wait(); err != nil && !killed {
		t.Fatalf("a process ended by itself: %v", err)
	}
}

// beVictim does all runs, telling each step of those that are not applied everywhere.
func beVictim(t *testing.T, base string) {
	format := must(jsonfmt.NewLines(jsonfmt.Options{}))
	folder := must(file.Kind().New(connector.Env{Name: "out", BaseDir: base, Now: time.Now}, func(o any) error { return json.Unmarshal([]byte(`{"dir":"out"}`), o) }))
	writers := []connector.Writer{
		must(connect(t, base).(connector.Destination).PrepareWrite([]connector.Target{{Table: "t", Create: true}})),
		must(folder.(connector.Destination).PrepareWrite([]connector.Target{
			{Path: "own-${run.id}.ndjson", Format: format}, {Path: "many.ndjson", Exists: "unique", Format: format},
			{Path: "all.ndjson", Exists: "append", Format: format}})),
	}
	for n := range *kills {
		paths := [][]string{{""}, {"own-" + run(n).ID.String() + ".ndjson", "many.ndjson", "all.ndjson"}}
		var works []connector.Work
		var applied []bool
		for i, w := range writers {
			works = append(works, must(w.Begin(t.Context())))
			applied = append(applied, must(works[i].Start(run(n), paths[i])))
		}
		step := func() {
			if slices.Contains(applied, false) {
				os.Stdout.WriteString("step\n")
			}
		}
		step()
		for b := range killBatches {
			for i, work := range works {
				for target := range paths[i] {
					batch := &transform.Batch{}
					for r := range killRows {
						v := transform.Null.With("run", transform.Int(int64(n))).With("id", transform.Int(int64(b*killRows+r)))
						batch.Records = append(batch.Records, transform.Record{Value: v})
					}
					if applied[i] {
						continue
					}
					if err := work.Write(target, batch); err != nil {
						t.Fatal(err)
					}
				}
			}
			step()
		}
		for _, work := range works {
			step()
			if err := work.Commit(); err != nil {
				t.Fatal(err)
			}
			step()
		}
	}
}
