package integrator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// TestStepsAreDocumented runs the examples of DEFINITIONS.md: steps, the records they are given, and what they make of them.
func TestStepsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("DEFINITIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "| step | of | makes |\n|---|---|---|\n")
	if !ok {
		t.Fatal("DEFINITIONS.md has no examples of steps")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	row := regexp.MustCompile("^\\| `(.*)` \\| `(.*)` \\| `(.*)` \\|$")
	var yaml, flows strings.Builder
	yaml.WriteString("listeners:\n")
	var rows [][]string
	for i, line := range strings.Split(table, "\n") {
		cells := row.FindStringSubmatch(line)
		if cells == nil {
			t.Fatalf("this is no example: %s", line)
		}
		rows = append(rows, cells)
		steps := regexp.MustCompile(`, (map|set|filter|sort): `).ReplaceAllString(cells[1], "}, {$1: ")
		fmt.Fprintf(&yaml, "  l%d: {path: /%d, format: json, mode: sync}\n", i, i)
		fmt.Fprintf(&flows, "  f%d: {from: {listener: l%d, records: \"[*]\"}, steps: [{%s}], respond: {}}\n", i, i, steps)
	}
	h := start(t, yaml.String()+"flows:\n"+flows.String()+"users:\n  ops: {role: operator, password: password-ops}\n")
	token := h.token("ops", "password-ops")
	for i, cells := range rows {
		t.Run(cells[1], func(t *testing.T) {
			var want, got bytes.Buffer
			if err := json.Compact(&want, []byte(cells[3])); err != nil {
				t.Fatal(err)
			}
			answer := h.post(fmt.Sprintf("%s/%d", listeners, i), token, cells[2])
			if err := json.Compact(&got, []byte(answer.body)); err != nil || got.String() != want.String() {
				t.Errorf("of %s it makes %d %s, documented is %s", cells[2], answer.status, answer.body, want.String())
			}
		})
	}
}

// TestSplitInParts commits a load whose records are split in parts, one of which fails: no record is in two parts, and each counts once, however many of its elements are rejected.
func TestSplitInParts(t *testing.T) {
	t.Parallel()
	l := &ledger{
		commit: func(n int) (before, after error) {
			if n == 2 {
				after = errors.New("connection reset")
			}
			return nil, after
		},
		write: func(r *transform.Record) error {
			if n := r.Value.Field("n").Text(); n == "3" || n == "103" || n == "104" {
				return &transform.Fault{Kind: "refused", Step: "away", Reason: "unlucky"}
			}
			return nil
		},
	}
	yaml := strings.Replace(partsYAML, `[{go: check}, {filter: "n % 5 != 0"}]`, `[{split: "= [n, n + 100]"}, {map: {n: this}}]`, 1)
	yaml = strings.Replace(yaml, "commit: 10", "commit: 3", 1)
	inBubble(t, yaml, func(b *bubble) {
		token := b.login()
		e := b.events.settled(decode[receipt](t, b.must("POST", listeners+"/a", token, numbered(7)).body).AuditID)
		if d := cmp.Diff([]string{"0 100 1 101 2 102", "4 5 105", "6 106"}, l.commits); d != "" {
			t.Errorf("commits (-expected +got):\n%s", d)
		}
		if e.Run.Status != store.Warning || e.Run.Read != 7 || e.Run.Written != 11 || e.Run.Rejected != 2 || e.Run.Attempts != 2 {
			t.Errorf("the run is %v after %d attempts: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Attempts, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
		}
		const rejects = `{"n":3,"_record":4,"_line":1,"_step":"away","_field":"","_reason":"unlucky"}
{"n":4,"_record":5,"_line":1,"_step":"away","_field":"","_reason":"unlucky"}
`
		if got := b.must("GET", fmt.Sprintf("/rest/v1/runs/%d/rejects", e.Run.Number), token, "").body; got != rejects {
			t.Errorf("rejects:\n%s", cmp.Diff(rejects, got))
		}
	}, func(c *integrator.Config) { c.Connectors = []connector.Kind{l.kind()} })
}

// TestGatherInPartsIsRefused: no part of a run is done before a step over all records has seen the last one.
func TestGatherInPartsIsRefused(t *testing.T) {
	t.Parallel()
	l := &ledger{}
	_, err := integrator.New(integrator.Config{Store: memstore.New(), Connectors: []connector.Kind{l.kind()},
		Definitions: definitionsOf(strings.Replace(partsYAML, `{go: check}`, `{sort: n}`, 1))})
	const want = "flows.load.to[0].commit: step 1 (sort) needs all records of the run before it gives the first of many"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

// TestGatherLargePayloads: what does not fit into a step's memory comes out all the same, and leaves no file.
func TestGatherLargePayloads(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: ndjson, mode: sync, max_body: 64MiB}}
flows:
  a:
    from: {listener: a}
    steps:
      - sort: {by: n, order: desc}
      - dedupe: id
      - aggregate: {by: [id], fields: {n: max(n)}}
      - aggregate: {fields: {ids: count, last: last(id), sum: sum(n), first: first(n)}}
    respond: {}
users:
  ops: {role: operator, password: password-ops}
`, func(c *integrator.Config) { c.Limits.StepMemory = 50_000 })
	var body strings.Builder
	const records = 20_000
	for n := range records {
		fmt.Fprintf(&body, "{\"id\": %d, \"n\": %d}\n", n%5000, n)
	}
	want := fmt.Sprintf(`{"ids":5000,"last":0,"sum":%d,"first":%d}`, 5000*(15000+19999)/2, records-1)
	if r := h.post(listeners+"/a", h.token("ops", "password-ops"), body.String()); !strings.Contains(r.body, want) {
		t.Errorf("%d %s, want %s", r.status, r.body, want)
	}
	if files, err := os.ReadDir(filepath.Join(h.dir, "data", "spill")); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}

// TestGatherHalfASource: of a source that fails in the middle nothing is made, in small runs and in large ones.
func TestGatherHalfASource(t *testing.T) {
	t.Parallel()
	l := &ledger{}
	var seen atomic.Int64
	h := start(t, `
connections: {away: {type: ledger}}
listeners: {a: {path: /a, format: json, check: none}}
flows:
  a:
    from: {listener: a, records: "[*]"}
    steps: [{aggregate: {fields: {n: count}}}, {go: seen}]
    to: {connection: away, table: t}
users:
  ops: {role: operator, password: password-ops}
`, func(c *integrator.Config) {
		c.Connectors = []connector.Kind{l.kind()}
		c.Steps = map[string]transform.Func{"seen": func(context.Context, *transform.Record) error {
			seen.Add(1)
			return nil
		}}
	})
	token := h.token("ops", "password-ops")
	for _, n := range []int{10, 50_000} {
		whole := numbered(n)
		if e := h.send("/a", token, whole[:len(whole)-1]); e.Run.Status != store.Error || e.Run.Written != 0 {
			t.Errorf("the run of half of %d records is %v, and has written %d", n, e.Run.Status, e.Run.Written)
		}
		if e := h.send("/a", token, whole); e.Run.Status != store.Success || e.Run.Written != 1 {
			t.Errorf("the run of %d records is %v, and has written %d: %s", n, e.Run.Status, e.Run.Written, e.Run.Exception)
		}
	}
	h.stop()
	if n := seen.Load(); n != 2 {
		t.Errorf("%d records are made of two whole sources and two halves", n)
	}
	if d := cmp.Diff([]string{"10", "50000"}, l.commits); d != "" {
		t.Errorf("commits (-expected +got):\n%s", d)
	}
}

// memo is a destination that knows what it has applied, and loses the answer to its first commit.
type memo struct {
	rows  []string
	note  []byte
	known bool
}

func (m *memo) kind() connector.Kind {
	return connector.Kind{Name: "memo", New: func(_ connector.Env, decode func(any) error) (connector.Connection, error) {
		return m, decode(&struct{}{})
	}}
}

func (m *memo) Ping(context.Context) error                                { return nil }
func (m *memo) Close() error                                              { return nil }
func (m *memo) PrepareWrite([]connector.Target) (connector.Writer, error) { return m, nil }
func (m *memo) MaxRuns() int                                              { return 1 }
func (m *memo) Begin(context.Context) (connector.Work, error)             { return m, nil }
func (m *memo) Start(connector.Run, []string) (bool, error)               { return m.known, nil }
func (m *memo) Rollback() error                                           { return nil }
func (m *memo) Note(note []byte) error                                    { m.note = note; return nil }
func (m *memo) Noted() ([]byte, error)                                    { return m.note, nil }

func (m *memo) Commit() error {
	before := m.known
	if m.known = true; !before {
		return errors.New("connection reset")
	}
	return nil
}

func (m *memo) Write(_ int, b *transform.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		m.rows = append(m.rows, r.Value.Text())
		if r.Value.Text() == "b" {
			r.Err = &transform.Fault{Kind: "refused", Step: "away", Reason: "unlucky"}
		}
	}
	return nil
}

// TestSplitFoundApplied loses the answer to a run's commit: the next attempt knows which elements were rejected, and that the others were not.
func TestSplitFoundApplied(t *testing.T) {
	t.Parallel()
	m := &memo{}
	inBubble(t, `
connections: {away: {type: memo}}
listeners: {a: {path: /a, format: json}}
flows:
  load:
    from: {listener: a}
    steps: [{split: list}]
    to: {connection: away, table: t}
    on_reject: keep
    retry: {backoff: 1s}
users: {ops: {role: operator, password: password-ops}}
`, func(b *bubble) {
		e := b.events.settled(decode[receipt](t, b.must("POST", listeners+"/a", b.login(), `{"list": ["a", "b", "c", "b"]}`).body).AuditID)
		if e.Run.Status != store.Warning || e.Run.Attempts != 2 || e.Run.Read != 1 || e.Run.Written != 2 || e.Run.Rejected != 1 {
			t.Errorf("the run is %v after %d attempts: read %d, written %d, rejected %d: %s", e.Run.Status, e.Run.Attempts, e.Run.Read, e.Run.Written, e.Run.Rejected, e.Run.Exception)
		}
		if got := strings.Join(m.rows, " "); got != "a b c b" {
			t.Errorf("written is %s", got)
		}
	}, func(c *integrator.Config) { c.Connectors = []connector.Kind{m.kind()} })
}
