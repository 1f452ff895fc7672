package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/transform"
)

// definitions is what the server does. What arrives says its key and the run that brought it; rows have no key of the database's and
// files with exists: unique get a name each, so that what comes twice shows.
const definitions = `
connections:
  warehouse: {type: sql, driver: sqlite, path: warehouse.db}
  out:       {type: file, dir: out}
listeners:
  rows:  {path: /rows, format: json}
  files: {path: /files, format: json}
  both:  {path: /both, format: json}
  many:  {path: /many, format: json}
  flaky: {path: /flaky, format: json}
  slow:  {path: /slow, format: json}
  now:   {path: /now, format: json, mode: sync}
flows:
  rows:
    from: {listener: rows}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: warehouse, table: rows, create: true}
  files:
    from: {listener: files}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to:
      - {connection: out, path: "own/${run.id}.ndjson", format: ndjson}
      - {connection: out, path: "unique/${message.id}.ndjson", format: ndjson, exists: unique}
  both:
    from: {listener: both}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to:
      - {connection: warehouse, table: both_rows, create: true}
      - {connection: out, path: "both/${message.id}.ndjson", format: ndjson, exists: unique}
  many-a:
    from: {listener: many}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: warehouse, table: many_rows, create: true}
  many-b:
    from: {listener: many}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: out, path: "many/${run.id}.ndjson", format: ndjson}
  flaky:
    from: {listener: flaky}
    steps: [{go: stumble}, {map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: warehouse, table: flaky_rows, create: true}
    retry: {attempts: 1000}
  slow:
    from: {listener: slow}
    steps: [{go: pause}, {map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: warehouse, table: slow_rows, create: true}
    max_running: 1
  now:
    from: {listener: now}
    steps: [{map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to: {connection: warehouse, table: now_rows, create: true}
  tick:
    steps: [{map: {key: "= run.due", run: "= run.number"}}]
    to: {connection: warehouse, table: tick_rows, create: true}
schedules:
  each-second: {flow: tick, every: 1s, overlap: queue}
`

// flowsOf is which flows read a listener.
var flowsOf = map[string][]string{"rows": {"rows"}, "files": {"files"}, "both": {"both"}, "many": {"many-a", "many-b"}, "flaky": {"flaky"}, "slow": {"slow"},
	"now": {"now"}}

// placesOf is where a flow writes: tables, and folders of files.
var placesOf = map[string][]string{"rows": {"rows"}, "files": {"own/", "unique/"}, "both": {"both_rows", "both/"}, "many-a": {"many_rows"}, "many-b": {"many/"},
	"flaky": {"flaky_rows"}, "slow": {"slow_rows"}, "now": {"now_rows"}, "tick": {"tick_rows"}}

// serve serves the folder of a round until its standard input ends. It prints its address once it takes calls.
func serve(dir string, retention time.Duration) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	anybody := auth.VerifierFunc(func(context.Context, *http.Request) (auth.Principal, error) {
		return auth.Principal{Login: "sender", Role: auth.Operator}, nil
	})
	engine, err := integrator.New(integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir, Definitions: os.DirFS(dir), Drivers: []sqldb.Driver{sqlite.Driver()},
		Steps: map[string]transform.Func{"stumble": stumble, "pause": pause}, Verifier: anybody, Logger: logger, Retention: integrator.Retention{Runs: retention}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	select {
	case <-engine.Ready():
	case err := <-ended:
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	go http.Serve(listener, engine.Handler()) // ends with the listener
	fmt.Println(listener.Addr())
	go func() { // until the other side wants the end
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return <-ended
}

// stumble fails at times, and wants to be tried again soon.
func stumble(context.Context, *transform.Record) error {
	if rand.IntN(4) == 0 {
		return flow.RetryAfter(errors.New("stumbled"), time.Duration(rand.IntN(30))*time.Millisecond)
	}
	return nil
}

// pause takes a while, so that there is something to cancel.
func pause(ctx context.Context, _ *transform.Record) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}
