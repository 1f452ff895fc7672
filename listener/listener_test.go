package listener_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

func formatOf(ref *transform.FormatRef, path string) (transform.Format, error) {
	switch ref.Type {
	case "json":
		return jsonfmt.New(jsonfmt.Options{})
	case "csv":
		return csvfmt.New(csvfmt.Options{})
	case "xml":
		return xmlfmt.New(xmlfmt.Options{Records: "/a/b"})
	}
	return nil, define.Faults{{Path: path + ".type", Reason: "unknown"}}
}

func TestCompileDefaults(t *testing.T) {
	t.Parallel()
	l := compile(t, "orders", listener.Definition{Path: "/shop/{store}/{rest...}", Format: []transform.FormatRef{{Type: "json"}}})
	if l.Sync || !l.Check || !l.Enabled() || l.MaxBody != 10<<20 || l.Timeout != 30*time.Second || len(l.Facts().Formats) != 1 {
		t.Errorf("%+v", l)
	}
	if d := cmp.Diff([]string{"POST"}, l.Methods()); d != "" {
		t.Error(d)
	}
	if facts := l.Facts(); facts.Sync || cmp.Diff([]string{"store", "rest"}, facts.Params) != "" {
		t.Errorf("%+v", facts)
	}
	off := false
	l = compile(t, "orders", listener.Definition{Type: "http", Path: "/a", Method: []string{"get", "Put"}, Mode: "sync", Check: "none", MaxBody: 1, Timeout: 2, Enabled: &off})
	if !l.Sync || l.Check || l.Enabled() || l.MaxBody != 1 || l.Timeout != 2 || l.Facts().Formats != nil || !l.Facts().Sync {
		t.Errorf("%+v", l)
	}
	if d := cmp.Diff([]string{"GET", "PUT"}, l.Methods()); d != "" {
		t.Error(d)
	}
}

func TestCompileTellsEveryFault(t *testing.T) {
	t.Parallel()
	_, faults := listener.Compile("x", "listeners.x", listener.Definition{Type: "ftp", Path: "a", Method: []string{"POST", "post", "BREW"}, Format: []transform.FormatRef{{Type: "yaml"}},
		Mode: "maybe", Check: "some", MaxBody: -1, Timeout: -1}, listener.Environment{Format: formatOf})
	want := `listeners.x.type: type "ftp" is not known (there are http)
listeners.x.mode: mode "maybe" is not known (there are async, sync)
listeners.x.check: check "some" is not known (there are syntax, none)
listeners.x.method[1]: POST is there twice
listeners.x.method[2]: method "BREW" is not known (there are GET, POST, PUT, PATCH, DELETE)
listeners.x.format[0].type: unknown
listeners.x.max_body: a negative size means nothing here
listeners.x.timeout: a negative time means nothing here`
	if d := cmp.Diff(want, faults.Error()); d != "" {
		t.Error(d)
	}
	_, faults = listener.Compile("x", "listeners.x", listener.Definition{}, listener.Environment{})
	if d := cmp.Diff("listeners.x: a listener needs a path (write path: /…)", faults.Error()); d != "" {
		t.Error(d)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode  string
		plans int
		fault string
	}{
		{"async", 0, ""}, {"async", 2, ""}, {"sync", 0, ""}, {"sync", 1, ""},
		{"sync", 3, "listeners.x: a synchronous listener has one flow that answers, this one has 3: a and b"},
	} {
		l := compile(t, "x", listener.Definition{Path: "/x", Mode: c.mode})
		plans := []*flow.Plan{{Name: "c"}, {Name: "a"}, {Name: "b"}}[:c.plans]
		faults := l.Attach(plans)
		if (faults == nil) != (c.fault == "") || faults != nil && !strings.HasPrefix(faults.Error(), c.fault) {
			t.Errorf("%s with %d: %v, want %q", c.mode, c.plans, faults, c.fault)
		}
		var names []string
		for _, p := range l.Plans() {
			names = append(names, p.Name)
		}
		if c.plans == 2 && fmt.Sprint(names) != "[a c]" {
			t.Errorf("flows are %v, want them by name", names)
		}
	}
}
