package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
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

// definitions is what the server does; the verb is the address of the API that it calls. What arrives says its key and the run that brought it; rows have
// no key of the database's and files with exists: unique get a name each, so that what comes twice shows.
const definitions = `
connections:
  warehouse: {type: sql, driver: sqlite, path: warehouse.db}
  out:       {type: file, dir: out}
  grown:     {type: file, dir: grown}
  api:       {type: http, url: %q}
listeners:
  rows:  {path: /rows, format: json}
  files: {path: /files, format: json}
  both:  {path: /both, format: json}
  many:  {path: /many, format: json}
  flaky: {path: /flaky, format: json}
  slow:  {path: /slow, format: json}
  now:   {path: /now, format: json, mode: sync}
  ordered: {path: /ordered, format: json}
  append:  {path: /append, format: json}
  calls:   {path: /calls, format: json}
  parts:   {path: /parts, format: json}
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
  ordered:
    from: {listener: ordered}
    order_by: sender
    steps: [{go: stumble}, {map: {key: key, sender: sender, seq: seq, run: "= run.number"}}]
    to:
      - {connection: warehouse, table: ordered_rows, create: true}
      - {connection: grown, path: ordered.ndjson, format: ndjson, exists: append}
    retry: {attempts: 1000}
  append:
    from: {listener: append, records: "lines[*]"}
    steps: [{map: {key: key, n: n, run: "= run.number", pad: pad}}]
    to:
      - {connection: grown, path: append.ndjson, format: ndjson, exists: append}
      - {connection: grown, path: append.csv, format: csv, exists: append}
  calls:
    from: {listener: calls, records: "lines[*]"}
    to: {connection: api, path: "/runs/${run.number}/${record.n}", map: {key: key, n: n, run: "= run.number"}}
    retry: {attempts: 1000, backoff: 1ms, max_backoff: 10ms}
  parts:
    from: {listener: parts, records: "lines[*]"}
    steps: [{map: {key: key, n: n, run: "= run.number", message: "= message.id"}}, {go: fussy}]
    to: {connection: warehouse, table: parts_rows, create: true, commit: 20}
    on_reject: keep
  tick:
    steps: [{map: {key: "= run.due", run: "= run.number"}}]
    to: {connection: warehouse, table: tick_rows, create: true}
schedules:
  each-second: {flow: tick, every: 1s, overlap: queue}
`

// flowsOf is which flows read a listener.
var flowsOf = map[string][]string{"rows": {"rows"}, "files": {"files"}, "both": {"both"}, "many": {"many-a", "many-b"}, "flaky": {"flaky"}, "slow": {"slow"},
	"now": {"now"}, "ordered": {"ordered"}, "append": {"append"}, "calls": {"calls"}, "parts": {"parts"}}

// placesOf is where a flow writes: tables, folders of files, files that grow, and the API.
var placesOf = map[string][]string{"rows": {"rows"}, "files": {"own/", "unique/"}, "both": {"both_rows", "both/"}, "many-a": {"many_rows"}, "many-b": {"many/"},
	"flaky": {"flaky_rows"}, "slow": {"slow_rows"}, "now": {"now_rows"}, "tick": {"tick_rows"},
	"ordered": {"ordered_rows", "ordered.ndjson"}, "append": {"append.ndjson", "append.csv"}, "calls": {"api"}, "parts": {"parts_rows"}}

// serve serves the folder of a round until it reads a line. It prints its address once it takes calls. When its standard input ends, nobody is there any
// more who would stop it, and it exits at once.
func serve(dir string, retention time.Duration) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	anybody := auth.VerifierFunc(func(context.Context, *http.Request) (auth.Principal, error) {
		return auth.Principal{Login: "sender", Role: auth.Operator}, nil
	})
	engine, err := integrator.New(integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir, Definitions: os.DirFS(dir), Drivers: []sqldb.Driver{sqlite.Driver()},
		Steps: map[string]transform.Func{"stumble": stumble, "pause": pause, "fussy": fussy}, Verifier: anybody, Logger: logger, Retention: integrator.Retention{Runs: retention}})
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
	go func() { // as long as the process
		if line := bufio.NewScanner(os.Stdin); line.Scan() {
			stop()
			line.Scan()
		}
		os.Exit(1)
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
	case <-time.After(40 * time.Millisecond):
		return nil
	}
}

// fussy rejects some records of each message: in every attempt the same, and when they are replayed others of them.
func fussy(_ context.Context, r *transform.Record) error {
	if crc32.ChecksumIEEE([]byte(r.Value.Field("message").Text()+r.Value.Field("n").Text()))%10 == 0 {
		return errors.New("not today")
	}
	return nil
}
