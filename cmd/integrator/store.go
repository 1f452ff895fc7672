package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

type storeCommands struct {
	Data string `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`

	Check   storeCheck   `cmd:"" help:"Look for damage in everything that is stored."`
	Backup  storeBackup  `cmd:"" help:"Copy the store, also while a server works on it."`
	Compact storeCompact `cmd:"" help:"Give back the room that removed runs have left."`
	Repair  storeRepair  `cmd:"" help:"Rescue what is intact in a damaged store."`
	Stats   storeStats   `cmd:"" help:"Tell how much is stored and what waits."`
}

// offline does what needs a store that nobody has open, with a meter for it.
func (c *storeCommands) offline(what string, do func(*meter, *boltstore.Watch) error) error {
	m := startMeter(os.Stderr, what, nil, 0)
	err := do(m, &boltstore.Watch{Progress: m.read.Store})
	m.stop()
	return c.explain(err)
}

func (c *storeCommands) explain(err error) error {
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("%s: %w: stop the integrator that works on it first", c.Data, store.ErrInUse)
	case errors.Is(err, store.ErrNotFound):
		return usagef("there is no store in %s: give its folder with --data", c.Data)
	}
	return err
}

// online asks whoever has the store open, or opens it and does it here.
func (c *storeCommands) online(ctx context.Context, ask func(*client) error, do func(*boltstore.Store) error) error {
	remote := func() error {
		client := newClient(c.Data)
		defer client.http.CloseIdleConnections()
		return ask(client)
	}
	if answers(ctx, c.Data) {
		return remote()
	}
	st, err := boltstore.Open(c.Data, &boltstore.Options{MustExist: true})
	switch {
	case errors.Is(err, store.ErrInUse) && answers(ctx, c.Data): // it has come up in the meantime
		return remote()
	case err != nil:
		return c.explain(err)
	}
	return errors.Join(do(st), st.Close())
}

type storeCheck struct{}

func (storeCheck) Help() string {
	return `Reads everything, changes nothing, and tells each fault on standard output. The store must not be open: of a server's, check a backup.

Exit codes: 0 the store is in order; 1 it could not be checked; 4 it is damaged.

Example:

    integrator store check --data data`
}

func (storeCheck) Run(ctx context.Context, c *storeCommands) error {
	return c.offline("check", func(m *meter, watch *boltstore.Watch) error {
		watch.Fault = func(f boltstore.Fault) { m.say(oneLine(f.String())) }
		checked, err := boltstore.Check(ctx, c.Data, watch)
		if err != nil {
			return err
		}
		if checked.Faults > 0 {
			return fmt.Errorf("%s: %w: %d faults; rescue what is intact with integrator store repair", c.Data, errDamaged, checked.Faults)
		}
		m.say(fmt.Sprintf("%s is in order: %d rows, %d large bodies, %.1f MB", c.Data, checked.Rows, checked.Blobs, float64(checked.Bytes)/1e6))
		return nil
	})
}

type storeBackup struct {
	To string `arg:"" placeholder:"DIR" help:"Folder to make; it must not exist."`
}

func (storeBackup) Help() string {
	return `The backup is a store as it was at one moment, with all large bodies, synced and checked. A server goes on while it is made, and writes it itself. To
restore, give a copy of the folder as --data.

Example:

    integrator store backup backups/monday`
}

func (b *storeBackup) Run(ctx context.Context, c *storeCommands) error {
	to, err := filepath.Abs(b.To) // a server has a working directory of its own
	if err != nil {
		return err
	}
	m := startMeter(os.Stderr, "backup", nil, 0)
	var checked *boltstore.Checked
	err = c.online(ctx, func(client *client) error {
		return client.call(ctx, "POST", "/control/store/backup", url.Values{"to": {to}}, nil, &checked)
	}, func(st *boltstore.Store) (err error) {
		checked, err = st.Backup(ctx, to, &boltstore.Watch{Progress: m.read.Store})
		return err
	})
	m.stop()
	if err == nil {
		fmt.Printf("%s is a backup of %s: %d rows, %d large bodies, %.1f MB\n", b.To, c.Data, checked.Rows, checked.Blobs, float64(checked.Bytes)/1e6)
	}
	return err
}

type storeCompact struct{}

func (storeCompact) Help() string {
	return `Copies every value into a fresh file, verifies it, and puts it in the place of the old one. The store must not be open, there must be room for both
files, and a damaged store is left as it is.

Example:

    integrator store compact`
}

func (storeCompact) Run(ctx context.Context, c *storeCommands) error {
	return c.offline("compact", func(m *meter, watch *boltstore.Watch) error {
		sizes, err := boltstore.Compact(ctx, c.Data, watch)
		if err == nil {
			m.say(fmt.Sprintf("%s has %.1f MB, it had %.1f MB", c.Data, float64(sizes.After)/1e6, float64(sizes.Before)/1e6))
		}
		return err
	})
}

type storeRepair struct{}

func (storeRepair) Help() string {
	return `Brings every intact value into a fresh file, and mends what refers to the rest: runs whose payload is intact go on at the next start, others end in
error. The old file, damaged values and bodies are put aside in a folder damaged-TIME, whose report.txt names each. The store must not be open.

Example:

    integrator store repair --data data`
}

func (storeRepair) Run(ctx context.Context, c *storeCommands) error {
	return c.offline("repair", func(m *meter, watch *boltstore.Watch) error {
		r, err := boltstore.Repair(ctx, c.Data, watch)
		if err != nil {
			return err
		}
		if r.Faults == 0 {
			m.say(fmt.Sprintf("%s is in order: %d rows", c.Data, r.Rows))
			return nil
		}
		m.say(fmt.Sprintf("%s is repaired: %d rows, %d faults; %s has what was put aside, and report.txt", c.Data, r.Rows, r.Faults, r.Aside))
		if r.Failed > 0 {
			m.say(fmt.Sprintf("runs that ended in error because of it: %d", r.Failed))
		}
		for _, id := range r.Replay {
			m.say(fmt.Sprintf("intact, without its run; to run it again: integrator replay %s", id))
		}
		return nil
	})
}

type storeStats struct{}

func (storeStats) Help() string {
	return `Reads all runs. A server that works on the store is asked.

Example:

    integrator store stats`
}

func (storeStats) Run(ctx context.Context, c *storeCommands) error {
	var stats *boltstore.Stats
	err := c.online(ctx, func(client *client) error {
		return client.call(ctx, "GET", "/control/store/stats", nil, nil, &stats)
	}, func(st *boltstore.Store) (err error) {
		stats, err = st.Stats(ctx)
		return err
	})
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	row("file", "%.1f MB, %.1f MB of it free", float64(stats.FileBytes)/1e6, float64(stats.FreeBytes)/1e6)
	row("large bodies", "%d, %.1f MB", stats.Blobs, float64(stats.BlobBytes)/1e6)
	row("messages", "%d", stats.Messages)
	for status := store.Queued; status <= store.Canceled; status++ {
		row("runs "+status.String(), "%d", stats.Runs[status])
	}
	if !stats.OldestQueued.IsZero() {
		row("oldest queued", "%s", stats.OldestQueued.Format(time.RFC3339))
	}
	if stats.Damaged > 0 {
		row("damaged", "%d values: see integrator store check", stats.Damaged)
	}
	return table.Flush()
}
