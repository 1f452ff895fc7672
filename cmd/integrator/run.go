package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"

	"github.com/integrator-go/integrator/flow"
)

type runCommand struct {
	Flow  string            `arg:"" help:"Name of the flow."`
	Dir   string            `arg:"" optional:"" default:"." help:"Folder of the definitions (${default}); a server that holds the store runs its own."`
	Input string            `placeholder:"FILE" help:"Payload of a flow that reads a listener; - is standard input."`
	Param map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A parameter of the flow or of its listener's path; repeat for more."`
	Data  string            `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`
}

func (runCommand) Help() string {
	return `What the flow answers goes to standard output, counts and the first rejected records to standard error. When no server holds the store it is
opened here, and runs that an earlier stop interrupted go on beside this one.

Exit codes: 0 success; 1 the run failed; 2 wrong usage or definitions; 3 it finished, but records were rejected.

Example:

    integrator run load-orders flows --input orders.json --param store=berlin`
}

func (c *runCommand) Run(ctx context.Context) error {
	route := "/control/flows/" + c.Flow + "/run"
	var payload io.Reader
	var size int64
	if c.Input != "" {
		file := os.Stdin
		if c.Input != "-" {
			var err error
			if file, err = os.Open(c.Input); err != nil {
				return usagef("--input: %w", err)
			}
			defer file.Close()
		}
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		payload, route = file, "/control/flows/"+c.Flow+"/payload"
	}
	query := url.Values{}
	for name, value := range c.Param {
		query.Set(name, value)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return reach(ctx, setup{dir: c.Dir, data: c.Data, logger: logger}, func(client *client) error {
		meter := startMeter(os.Stderr, c.Flow, payload, size)
		var o outcome
		err := client.call(ctx, "POST", route, query, meter.reader(), &o)
		meter.stop()
		if ctx.Err() != nil {
			return errors.New("interrupted: a run that writes ends by itself, or goes on when the store is next opened with its definitions")
		}
		if err != nil {
			return err
		}
		return c.show(ctx, client, &o)
	})
}

// show prints how the run ended and returns the error that the exit code comes from.
func (c *runCommand) show(ctx context.Context, client *client, o *outcome) error {
	switch {
	case o.Refused != "" && o.Usage:
		return usagef("%s", o.Refused)
	case o.Refused != "":
		return errors.New(o.Refused)
	}
	if _, err := os.Stdout.Write(o.Response); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "run %d: %s: %d read, %d written, %d rejected\n", o.Run, o.Status, o.Read, o.Written, o.Rejected)
	showRejects(o.Rejects, o.Rejected)
	switch {
	case o.Status == "error", o.Status == "canceled":
		// The history has the chain of causes with secrets taken out.
		var run struct{ Exception string }
		if err := client.call(ctx, "GET", "/rest/v1/runs/"+strconv.FormatInt(o.Run, 10), nil, nil, &run); err != nil {
			return fmt.Errorf("run %d failed, and why cannot be read: %w", o.Run, err)
		}
		return errors.New(run.Exception)
	case o.Rejected > 0:
		return errRejected
	}
	return nil
}

// showRejects prints the first rejected records of all of them.
func showRejects(first []flow.Rejected, all int64) {
	for _, r := range first {
		place := "record " + strconv.FormatInt(r.Record, 10)
		if r.Line > 0 {
			place += ", line " + strconv.FormatInt(r.Line, 10)
		}
		if r.Field != "" {
			place += ", " + r.Field
		}
		fmt.Fprintf(os.Stderr, "  %s: %s: %s\n", place, r.Step, oneLine(r.Reason))
	}
	if more := all - int64(len(first)); more > 0 {
		fmt.Fprintf(os.Stderr, "  and %d more\n", more)
	}
}
