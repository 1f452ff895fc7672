// Command integrator runs the engine for people who write no Go: it serves definitions, runs flows, manages users, checks definitions and
// takes care of the store. `integrator --help` tells the rest.
//
// Whoever has the store open, a server or a command that found it free, answers on control.sock beside it; every other command speaks
// to that socket. Who may open the socket is decided by the permissions of its folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/integrator-go/integrator"
)

// Exit codes.
const (
	exitSuccess  = 0
	exitFailure  = 1
	exitUsage    = 2 // the command or the definitions are wrong
	exitRejected = 3 // the run finished, but records were rejected
	exitDamaged  = 4 // the store is damaged
)

// usageError marks what the caller has to write differently.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errRejected ends a run that rejected records; what there is to say has been said.
var errRejected = errors.New("records were rejected")

// errDamaged ends the check of a store that is damaged.
var errDamaged = errors.New("the store is damaged")

const description = `Takes payloads in over HTTP, keeps them, and turns them into rows, files and answers, as definitions in DIR say.

Exit codes: 0 success; 1 failure, such as a run that failed; 2 wrong usage or definitions; 3 a run that finished with rejected records;
4 a store that is damaged.`

type commands struct {
	Version kong.VersionFlag `help:"Print the version."`

	Serve   serveCommand   `cmd:"" help:"Serve the definitions in a folder."`
	Run     runCommand     `cmd:"" help:"Run a flow and wait for its end."`
	Convert convertCommand `cmd:"" help:"Convert a file from one format to another."`
	User    userCommands   `cmd:"" help:"Make and change users."`
	Replay  replayCommand  `cmd:"" help:"Run payloads and runs once more."`
	Cancel  cancelCommand  `cmd:"" help:"Stop runs."`
	Check   checkCommand   `cmd:"" help:"Check the definitions in a folder."`
	Schema  schemaCommand  `cmd:"" help:"Print the JSON Schema of definitions, for editors."`
	Store   storeCommands  `cmd:"" help:"Take care of the store: check, backup, compact, repair, stats."`
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		<-signals // the second one ends at once
		os.Exit(exitFailure)
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string) int {
	parser := kong.Must(&commands{}, kong.Name("integrator"), kong.Description(description), kong.Vars{"version": version()},
		kong.BindTo(ctx, (*context.Context)(nil)), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "integrator: %v (see integrator --help)\n", err)
		return exitUsage
	}
	return report(command.Run())
}

// report tells what went wrong on standard error and returns the exit code that it means.
func report(err error) int {
	var faults integrator.Faults
	switch {
	case err == nil:
		return exitSuccess
	case errors.Is(err, errRejected):
		return exitRejected
	case errors.As(err, &faults):
		fmt.Fprintln(os.Stderr, faults) // each names its place, as compilers do
		return exitUsage
	}
	fmt.Fprintln(os.Stderr, "integrator: "+oneLine(strings.TrimPrefix(err.Error(), "integrator: ")))
	var p *problem
	if errors.As(err, new(usageError)) || errors.As(err, &p) && p.status == http.StatusUnprocessableEntity {
		return exitUsage
	}
	if errors.Is(err, errDamaged) {
		return exitDamaged
	}
	return exitFailure
}

// oneLine returns a text as one line that a terminal shows as it is: it may hold what a payload brought.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ReplaceAll(strings.TrimSpace(text), "\n", ": "))
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("integrator %s (%s)", info.Main.Version, info.GoVersion)
}
