package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// TestRunLog follows a run that fails once, is interrupted by a stop, and ends in another engine: its log tells all of it.
func TestRunLog(t *testing.T) {
	t.Parallel()
	dir, begun := t.TempDir(), make(chan struct{})
	var calls atomic.Int64
	s := &scripted{}
	s.write = func(b *transform.Batch) error {
		switch calls.Add(1) {
		case 1:
			return errors.New("dial secret-of-HOST:\n2026-01-01T00:00:00Z forged")
		case 2:
			ctx := *s.begun.Load().(*context.Context)
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}
		b.Records[1].Err = &transform.Fault{Reason: "no such customer"}
		return nil
	}
	yaml := `
connections: {away: {type: scripted}}
listeners: {a: {path: /a, format: json}}
vars: {host: "${secret.HOST}"}
flows: {a: {from: {listener: a, records: "[*]"}, to: {connection: away, table: customers, action: upsert}, on_reject: keep, retry: {backoff: 1ms}}}
users: {ops: {role: operator, password: "${secret.HOST}"}}
`
	with := func(c *integrator.Config) { c.Connectors = []connector.Kind{s.kind()}; c.Limits.DrainTimeout = 1 }
	first := startIn(t, dir, yaml, with)
	r := first.post(listeners+"/a", first.token("ops", "secret-of-HOST"), `[{"n":1},{"n":2}]`)
	run := decode[receipt](t, r.body).AuditID
	<-begun
	first.stop()
	second := startIn(t, dir, yaml, with)
	second.events.settled(run)
	log := second.get(fmt.Sprintf("/rest/v1/runs/%d/log", run), second.token("ops", "secret-of-HOST"))
	if log.status != 200 || log.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("%d %v", log.status, log.header)
	}
	at := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z `)
	got := regexp.MustCompile(`error id \w+`).ReplaceAllString(at.ReplaceAllString(log.body, "AT "), "error id ID")
	want := `AT attempt 1 begins
AT fails (connection, error id ID), with 2 read and 0 rejected: flow "a": away: connection
    dial ***:
    2026-01-01T00:00:00Z forged
AT is tried again at *, because the failure may pass (connection)
AT attempt 2 begins
AT interrupted by the engine's stop; the attempt does not count
AT attempt 2 begins
AT ends in warning: read 2, written 1, rejected 1
AT   away (upsert customers): 1 records
AT   rejected by away: 1 records
`
	if !glob(want, got) {
		t.Errorf("the log is\n%s\nand not\n%s", got, want)
	}
	inGo, err := second.engine.RunLog(t.Context(), run)
	if err != nil || inGo != log.body {
		t.Errorf("in Go it is %v\n%s", err, inGo)
	}
	if _, err := second.engine.RunLog(t.Context(), 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the log of a run that is not there: %v", err)
	}
}

// TestRunLogIsBounded lets thousands of records say much: how the run began and how it ended is kept.
func TestRunLogIsBounded(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json}}
connections: {out: {type: file, dir: out}}
flows: {a: {from: {listener: a, records: "[*]"}, steps: [{go: talk}], to: {connection: out, path: "a.json", format: json}, on_reject: keep}}
users: {ops: {role: operator, password: password-ops}}
`, func(c *integrator.Config) {
		c.Steps = map[string]transform.Func{"talk": func(context.Context, *transform.Record) error { return errors.New(strings.Repeat("é", 20_000)) }}
	})
	e := h.send("/a", h.token("ops", "password-ops"), "["+strings.Repeat("{},", 999)+"{}]")
	line := fmt.Sprintf("msg=run flow=a flowID=%d run=%d runID=%s status=warning trigger=listener attempt=1 read=1000 written=0 rejected=1000 took=",
		e.Run.FlowID, e.Run.Number, e.Run.ID)
	if log := h.log.String(); !strings.Contains(log, line) || !strings.Contains(log, "message="+e.Run.Message.String()+" user=ops") {
		t.Errorf("the engine's log does not say %s:\n%s", line, log)
	}
	log, err := h.engine.RunLog(t.Context(), e.Run.Number)
	if err != nil || len(log) > 64<<10 {
		t.Errorf("%d bytes, %v", len(log), err)
	}
	for _, want := range []string{"attempt 1 begins", "lines are left out here", "ends in warning: read 1000, written 0, rejected 1000", "rejected by step 1 (go): 1000 records"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}
