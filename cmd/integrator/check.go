package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"
)

type checkCommand struct {
	Dir     string `arg:"" optional:"" default:"." help:"Folder of the definitions (${default})."`
	Data    string `default:"data" placeholder:"DIR" help:"Folder of the store, where no definitions are (${default})."`
	Connect bool   `help:"Try the connections too."`
}

func (checkCommand) Help() string {
	return `Every fault is told on standard error as file:line:column with what to write instead, and the exit code is 2; a connection that --connect cannot use makes
it 1. Warnings do not change it.

Example:

    integrator check flows --connect`
}

// pingTimeout is what connections get to answer.
const pingTimeout = 10 * time.Second

func (c *checkCommand) Run(ctx context.Context) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := newEngine(setup{dir: c.Dir, data: c.Data, logger: logger})
	if err != nil {
		return err
	}
	warnings := engine.Warnings()
	inDir(c.Dir, warnings)
	for _, w := range warnings {
		fmt.Fprintf(os.Stderr, "%v: warning\n", &w)
	}
	if c.Connect {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		said, failed := engine.Ping(ctx), 0
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if err := said[name]; err != nil {
				failed++
				fmt.Fprintf(os.Stderr, "connection %s: %s\n", name, oneLine(err.Error()))
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d connections cannot be used", failed, len(said))
		}
	}
	d := engine.Definitions()
	if len(d.Flows) == 0 {
		fmt.Fprintf(os.Stderr, "integrator: %s defines no flow: is it the folder of the definitions?\n", c.Dir)
	}
	fmt.Printf("%s is in order: flows %d, listeners %d, connections %d, users %d\n", c.Dir, len(d.Flows), len(d.Listeners), len(d.Connections), len(d.Users))
	return nil
}
