package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"time"
)

// choice is how a command chooses runs.
type choice struct {
	Run    int64  `placeholder:"N" help:"One run, by its number: the auditId."`
	Flow   string `placeholder:"NAME" help:"Runs of a flow."`
	Status string `placeholder:"STATUS" help:"Runs with a status."`
	Since  string `placeholder:"TIME" help:"Runs queued since then: 2026-01-31T00:00:00Z, or an age such as 24h."`
	Limit  int    `placeholder:"N" help:"At most so many, the newest; without it all of them."`
}

// many reports whether runs are chosen by what they are.
func (c *choice) many() bool { return c.Flow != "" || c.Status != "" || c.Since != "" }

// query returns the choice as the routes about many runs take it.
func (c *choice) query() (url.Values, error) {
	query := url.Values{}
	for name, value := range map[string]string{"flow": c.Flow, "status": c.Status, "since": c.Since} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if age, err := time.ParseDuration(c.Since); err == nil {
		query.Set("since", time.Now().Add(-age).UTC().Format(time.RFC3339))
	} else if _, err := time.Parse(time.RFC3339, c.Since); err != nil && c.Since != "" {
		return nil, usagef("--since is a time such as 2026-01-31T00:00:00Z, or an age such as 24h")
	}
	if c.Limit < 0 {
		return nil, usagef("--limit is negative")
	}
	return query, nil
}

// doneRun is what became of one of many runs.
type doneRun struct {
	AuditID, ReplayedAs int64
	Skipped             bool
	Error               string
}

// each carries out a route about many runs page by page, and shows what became of each run.
func (c *choice) each(ctx context.Context, client *client, route string, show func(doneRun)) error {
	query, err := c.query()
	if err != nil {
		return err
	}
	for left := c.Limit; ; {
		page := 100
		if c.Limit > 0 {
			page = min(page, left)
		}
		query.Set("limit", strconv.Itoa(page))
		var answer struct {
			Runs  []doneRun
			After int64
		}
		if err := client.call(ctx, "POST", route, query, nil, &answer); err != nil {
			return err
		}
		for _, run := range answer.Runs {
			show(run)
		}
		left -= len(answer.Runs)
		if answer.After == 0 || c.Limit > 0 && left <= 0 {
			return nil
		}
		query.Set("after", strconv.FormatInt(answer.After, 10))
	}
}

type replayCommand struct {
	Message string `arg:"" optional:"" help:"The messageUuid of a receipt; leave it out where runs are chosen."`
	Dir     string `arg:"" optional:"" default:"." help:"Folder of the definitions, when no server runs (${default})."`
	Data    string `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`
	choice
	Rejects bool `help:"With --run: the records that the run has rejected."`
	DryRun  bool `help:"Show what the runs would do, as JSON, and write nothing."`
}

func (replayCommand) Help() string {
	return `Runs what was run before once more, with the definitions of today, and waits for the end: the flows that read a message's listener; the flow of a run (--run), on
its payload or with its parameters; or the records that it has rejected (--rejects). With --flow, --status or --since all runs that fit, those in error unless
--status says otherwise: each once, so that the command can be repeated. A server that runs is asked to do it. The exit code is 1 when a run fails, and 3 when
records were rejected.

Examples:

    integrator replay 01a212c2-2392-75e8-94bd-c80ddd6b62a6
    integrator replay --run 17 --dry-run
    integrator replay --flow load-orders --since 24h`
}

func (c *replayCommand) Run(ctx context.Context) error {
	chosen := c.choice.Run != 0 || c.many()
	if chosen && c.Message != "" { // it is the folder
		c.Message, c.Dir = "", c.Message
	}
	var route string
	switch {
	case c.Rejects && c.choice.Run == 0:
		return usagef("--rejects needs --run: whose rejected records")
	case c.choice.Run != 0 && c.many():
		return usagef("--run names the run: leave --flow, --status and --since out")
	case c.DryRun && c.many():
		return usagef("--dry-run shows one message or run")
	case c.choice.Run != 0 && c.Rejects:
		route = fmt.Sprintf("/rest/v1/runs/%d/rejects/replay", c.choice.Run)
	case c.choice.Run != 0:
		route = fmt.Sprintf("/rest/v1/runs/%d/replay", c.choice.Run)
	case c.Message == "" && !c.many():
		return usagef("say what: a message, --run, --flow, --status or --since")
	default:
		route = "/rest/v1/messages/" + c.Message + "/replay"
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return reach(ctx, setup{dir: c.Dir, data: c.Data, logger: logger}, func(client *client) error {
		switch {
		case c.DryRun:
			return dryRun(ctx, client, route)
		case c.many():
			return c.replayMany(ctx, client)
		}
		var receipt struct {
			AuditID int64
			Runs    []struct{ AuditID int64 }
		}
		if err := client.call(ctx, "POST", route, nil, nil, &receipt); err != nil {
			return err
		}
		started := []int64{receipt.AuditID}
		for i, run := range receipt.Runs {
			if i > 0 { // the first is at the top
				started = append(started, run.AuditID)
			}
		}
		return await(ctx, client, started, 0)
	})
}

// dryRun prints what a replay would do.
func dryRun(ctx context.Context, client *client, route string) error {
	var answer json.RawMessage
	if err := client.call(ctx, "POST", route, url.Values{"dry_run": {"true"}}, nil, &answer); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, answer, "", "  "); err != nil {
		return err
	}
	fmt.Println(text.String())
	return nil
}

// replayMany replays the runs that were chosen.
func (c *replayCommand) replayMany(ctx context.Context, client *client) error {
	var started []int64
	skipped, failed := 0, 0
	err := c.each(ctx, client, "/rest/v1/runs/replay", func(run doneRun) {
		switch {
		case run.Error != "":
			failed++
			fmt.Fprintf(os.Stderr, "run %d: %s\n", run.AuditID, oneLine(run.Error))
		case run.Skipped:
			skipped++
		default:
			fmt.Fprintf(os.Stderr, "run %d is replayed as run %d\n", run.AuditID, run.ReplayedAs)
			started = append(started, run.ReplayedAs)
		}
	})
	fmt.Fprintf(os.Stderr, "%d replayed, %d were before, %d could not be\n", len(started), skipped, failed)
	if err != nil {
		return err
	}
	return await(ctx, client, started, failed)
}

// lookAgain is the pause between two looks at runs that have not ended.
const lookAgain = 100 * time.Millisecond

// await waits for the end of runs and tells it; failed is how many have failed before.
func await(ctx context.Context, client *client, runs []int64, failed int) error {
	var rejected int64
	for _, number := range runs {
		var run struct {
			FlowName, Status, Exception string
			Read, Written, Rejected     int64
		}
		for {
			if err := client.call(ctx, "GET", fmt.Sprintf("/rest/v1/runs/%d", number), nil, nil, &run); err != nil && ctx.Err() == nil {
				return err
			}
			if run.Status != "" && run.Status != "queued" && run.Status != "running" {
				break
			}
			select {
			case <-ctx.Done():
				return errors.New("interrupted: the runs go on when the store is next opened with its definitions")
			case <-time.After(lookAgain):
			}
		}
		fmt.Fprintf(os.Stderr, "run %d of flow %s: %s: %d read, %d written, %d rejected\n", number, run.FlowName, run.Status, run.Read, run.Written, run.Rejected)
		rejected += run.Rejected
		if run.Status != "success" && run.Status != "warning" {
			failed++
			fmt.Fprintln(os.Stderr, "  "+oneLine(run.Exception))
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of the runs failed", failed)
	case rejected > 0:
		return errRejected
	}
	return nil
}

type cancelCommand struct {
	Dir  string `arg:"" optional:"" default:"." help:"Folder of the definitions, when no server runs (${default})."`
	Data string `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`
	choice
}

func (cancelCommand) Help() string {
	return `Stops a run (--run), or all that fit --flow, --status and --since: those that are queued or running. A run that is being executed ends as soon as it notices, and what
it wrote is rolled back. A server that runs is asked to do it.

Example:

    integrator cancel --flow load-orders --status queued`
}

func (c *cancelCommand) Run(ctx context.Context) error {
	if (c.choice.Run != 0) == c.many() {
		return usagef("say which: --run alone, or --flow, --status and --since")
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return reach(ctx, setup{dir: c.Dir, data: c.Data, logger: logger}, func(client *client) error {
		if c.choice.Run != 0 {
			return client.call(ctx, "POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", c.choice.Run), nil, nil, nil)
		}
		canceled, failed := 0, 0
		err := c.each(ctx, client, "/rest/v1/runs/cancel", func(run doneRun) {
			switch {
			case run.Error != "":
				failed++
				fmt.Fprintf(os.Stderr, "run %d: %s\n", run.AuditID, oneLine(run.Error))
			case !run.Skipped:
				canceled++
			}
		})
		fmt.Fprintf(os.Stderr, "%d canceled\n", canceled)
		if err == nil && failed > 0 {
			err = fmt.Errorf("%d could not be canceled", failed)
		}
		return err
	})
}
