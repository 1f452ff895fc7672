package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"
)

type replayCommand struct {
	Message string `arg:"" help:"The messageUuid of a receipt."`
	Dir     string `arg:"" optional:"" default:"." help:"Folder of the definitions, when no server runs (${default})."`
	Data    string `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`
}

func (replayCommand) Help() string {
	return `Runs the flows that read the message's listener today on its payload once more, and waits for their end. A server that runs is asked to do it. The exit
code is 1 when a run fails, and 3 when records were rejected.

Example:

    integrator replay 01a212c2-2392-75e8-94bd-c80ddd6b62a6`
}

// lookAgain is the pause between two looks at runs that have not ended.
const lookAgain = 100 * time.Millisecond

func (c *replayCommand) Run(ctx context.Context) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return reach(ctx, setup{dir: c.Dir, data: c.Data, logger: logger}, func(client *client) error {
		var receipt struct {
			AuditID int64
			Runs    []struct{ AuditID int64 }
		}
		path := "/rest/v1/messages/" + c.Message
		if err := client.call(ctx, "POST", path+"/replay", nil, nil, &receipt); err != nil {
			return err
		}
		started := []int64{receipt.AuditID}
		for _, run := range receipt.Runs {
			started = append(started, run.AuditID)
		}
		var message struct {
			Status string
			Runs   []struct {
				AuditID                     int64
				FlowName, Status, Exception string
				Read, Written, Rejected     int64
			}
		}
		for {
			if err := client.call(ctx, "GET", path, nil, nil, &message); err != nil {
				return err
			}
			if message.Status != "received" {
				break
			}
			select {
			case <-ctx.Done():
				return errors.New("interrupted: the runs go on when the store is next opened with its definitions")
			case <-time.After(lookAgain):
			}
		}
		var failed, rejected int64
		for _, run := range message.Runs {
			if !slices.Contains(started, run.AuditID) {
				continue
			}
			fmt.Fprintf(os.Stderr, "run %d of flow %s: %s: %d read, %d written, %d rejected\n", run.AuditID, run.FlowName, run.Status, run.Read, run.Written, run.Rejected)
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
	})
}
