// Command bench measures the engine against references: `go run ./internal/bench [case …]`, from the root of the repository; -list names
// the cases.
//
// The speed of a machine drifts, so that ratios of one run are what counts: in each round a case runs the reference, the engine, and the
// reference again. The ratio of the two references is the control: what it differs from 1 is noise. What the sides made is compared, or
// counted where it arrived. Servers and conversions are processes of their own, started by the program from itself; traffic stays on
// the loopback interface.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	dir     string // scratch folder of the run
	rounds  int
	length  time.Duration // of one measurement of a server
	large   bool
	duckdb  string
	profile string
}

// benchmark is one of the cases.
type benchmark struct {
	name, about string
	run         func(*config) error
}

// cases are what can be measured.
var cases = []benchmark{
	{"p1", "asynchronous listener, synced before the answer, against a bare net/http handler and the disk's own sync rate", asynchronous},
	{"p2", "synchronous flow with history, against a bare net/http handler", synchronous},
	{"p3", "tokens for a user who has logged in before, against a bare net/http handler; the check of a token", tokens},
	{"p4", "CSV to NDJSON from file to file with a map of ten fields, against encoding/csv and maps, and against DuckDB", csvToLines.convert},
	{"p5", "NDJSON to CSV from file to file, against encoding/json and maps, and against DuckDB", linesToCSV.convert},
	{"p6", "XML to NDJSON from file to file, against encoding/xml", xmlToLines.convert},
	{"p8", "time from the start of the process until calls are taken, and memory at rest", ready},
	{"p9", "latency of acceptance with many listeners, queued runs and ended runs, against an empty store", growth},
	{"p10", "size and modules of a program that imports the root module alone", embed},
	{"prune", "latency of acceptance while very many runs are pruned, and after that", bulkPrune},
}

// roles are the parts that the program plays as a process of its own.
var roles = map[string]func(args []string, c *control) error{
	"bare":           serveBare,
	"engine":         serveEngine,
	"convert-engine": convertWithEngine,
	"convert-csv":    convertWith("csv", "ndjson", convertCSV),
	"convert-ndjson": convertWith("ndjson", "csv", convertLines),
	"convert-xml":    convertWith("xml", "ndjson", convertXML),
	"verify":         verifyTokens,
}

// quiet is what engines log to.
var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

func main() {
	slog.SetDefault(quiet)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var c config
	list := flag.Bool("list", false, "name the cases")
	role := flag.String("role", "", "play a `part` of a case; for the program's own use")
	parent := flag.String("dir", "", "make the scratch folder in this `folder`; its disk is what is measured")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds of each measurement")
	flag.DurationVar(&c.length, "length", 2*time.Second, "of one measurement of a server")
	flag.BoolVar(&c.large, "large", false, "p4, p5, p6: also a file of 2 GB; p8: also 1,000,000 queued runs; p9: 10,000,000 ended runs; prune: 2,000,000 runs")
	flag.StringVar(&c.duckdb, "duckdb", "", "p4, p5: a `folder` in which `npm install @duckdb/node-api` was done")
	flag.StringVar(&c.profile, "profile", "", "write profiles of the processes, .cpu and .allocs, into this `folder`")
	flag.Parse()
	if *role != "" {
		return play(*role, flag.Args(), c.profile)
	}
	if *list {
		for _, one := range cases {
			fmt.Printf("%-5s %s\n", one.name, one.about)
		}
		return nil
	}
	names := flag.Args()
	for _, name := range names {
		if !slices.ContainsFunc(cases, func(one benchmark) bool { return one.name == name }) {
			return fmt.Errorf("%s is no case: -list names them", name)
		}
	}
	if c.profile != "" {
		var err error
		if c.profile, err = filepath.Abs(c.profile); err != nil {
			return err
		}
		if err := os.MkdirAll(c.profile, 0o750); err != nil {
			return err
		}
	}
	var err error
	if c.dir, err = os.MkdirTemp(*parent, "integrator-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	fmt.Printf("%s, %s/%s, %d processors (%s), scratch folder %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), c.dir)
	for _, one := range cases {
		if len(names) > 0 && !slices.Contains(names, one.name) {
			continue
		}
		fmt.Printf("\n%s  %s\n", one.name, one.about)
		if err := one.run(&c); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

// play plays a part of a case until its standard input ends.
func play(role string, args []string, profile string) error {
	if profile != "" {
		name := filepath.Join(profile, fmt.Sprintf("%s-%d", role, os.Getpid()))
		processor, err := os.Create(name + ".cpu")
		if err != nil {
			return err
		}
		defer processor.Close()
		memory, err := os.Create(name + ".allocs")
		if err != nil {
			return err
		}
		defer memory.Close()
		defer pprof.Lookup("allocs").WriteTo(memory, 0)
		if err := pprof.StartCPUProfile(processor); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return roles[role](args, &control{json.NewEncoder(os.Stdout), os.Stdin})
}

// processor is the model of the machine's processor, as far as the system tells.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(text), "model name")
	model, _, _ := strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	return model
}
