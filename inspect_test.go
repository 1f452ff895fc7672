package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

func TestWarningsNameWhatNoFlowReads(t *testing.T) {
	t.Parallel()
	engine, err := integrator.New(integrator.Config{Dir: t.TempDir(), Definitions: definitionsOf(`connections:
  out: {type: file, dir: out}
listeners:
  read: {path: /read, format: json}
  starts: {path: /starts}
  unused: {path: /unused, format: json}
  paused: {path: /paused, format: json}
  off: {path: /off, format: json, enabled: false}
flows:
  a: {from: {listener: read}, to: {connection: out, path: a.json, format: json}}
  b: {listener: starts, to: {connection: out, path: b.json, format: json}}
  c: {enabled: false, from: {listener: paused}, to: {connection: out, path: c.json, format: json}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range engine.Warnings() {
		got = append(got, fmt.Sprintf("%s:%d:%d %s", w.File, w.Line, w.Column, w.Path))
	}
	want := []string{"integrator.yaml:6:3 listeners.unused", "integrator.yaml:7:3 listeners.paused"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestPingTriesEveryConnection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret-of-PLACE"), nil, 0o600); err != nil { // a file where a folder should be
		t.Fatal(err)
	}
	engine, err := integrator.New(integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir,
		Secrets: func(name string) (string, bool) { return "secret-of-" + name, true },
		Definitions: definitionsOf(`connections:
  good: {type: file, dir: out}
  bad: {type: file, dir: "${secret.PLACE}"}
`)})
	if err != nil {
		t.Fatal(err)
	}
	said := engine.Ping(context.Background())
	if len(said) != 2 || said["good"] != nil || said["bad"] == nil {
		t.Errorf("Ping: %v, want good to work and bad not to", said)
	}
	if strings.Contains(fmt.Sprint(said), "secret-of-PLACE") {
		t.Errorf("Ping tells a secret: %v", said)
	}
}

func TestPayloadRunsOneFlowOfAListener(t *testing.T) {
	t.Parallel()
	h := start(t, `connections:
  out: {type: file, dir: out}
listeners:
  orders: {path: "/shop/{store}/orders", format: json, max_body: 1KiB}
flows:
  keep:
    from: {listener: orders, records: "lines[*]"}
    steps:
      - reject: {when: "qty < 0", reason: negative}
      - map: {qty: qty, store: "= param.store", day: "= query.day"}
    to: {connection: out, path: kept.json, format: ndjson}
    on_reject: {action: keep, max: 10}
  other:
    from: {listener: orders}
    to: {connection: out, path: other.json, format: ndjson}
  plain:
    respond: {format: json}
`)
	payload := `{"lines": [{"qty":1}, {"qty":-1}]}` + strings.Repeat("\n", 2<<10) // more than max_body
	params := map[string]any{"store": "berlin", "day": "monday"}
	result, err := h.engine.RunPayload(context.Background(), "keep", params, strings.NewReader(payload))
	if err != nil || result.Err != nil {
		t.Fatalf("RunPayload: %v, %+v", err, result)
	}
	if result.Status != "warning" || result.Read != 2 || result.Written != 1 || result.Rejected != 1 || result.Rejects[0].Reason != "negative" {
		t.Errorf("result %+v, want a warning with 2 read, 1 written, 1 rejected as negative", result)
	}
	if got, want := h.read("out/kept.json"), "{\"qty\":1,\"store\":\"berlin\",\"day\":\"monday\"}\n"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "out/other.json")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the other flow of the listener ran too")
	}

	for _, c := range []struct {
		name, flow, payload string
		params              map[string]any
		want                func(error) bool
	}{
		{"no such flow", "nothing", "", nil, func(err error) bool { return errors.Is(err, store.ErrNotFound) }},
		{"a parameter of the path is missing", "keep", "", nil, func(err error) bool { return errors.As(err, new(*flow.ParamError)) }},
		{"a malformed payload", "keep", "{", params, func(err error) bool { return errors.As(err, new(*listener.PayloadError)) }},
		{"a flow that takes none", "plain", "", nil, func(err error) bool { return strings.Contains(err.Error(), "reads no listener") }},
	} {
		if _, err := h.engine.RunPayload(context.Background(), c.flow, c.params, strings.NewReader(c.payload)); err == nil || !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
