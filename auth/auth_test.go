package auth_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/auth"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestAuthorize writes down who may do what. A person reviews the golden file; code and file change together.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	resources := []struct {
		name string
		auth.Resource
	}{
		{"nothing known", auth.Resource{}},
		{"its own", auth.Resource{Listener: "other", Flow: "other", Owner: "caller"}},
		{"another's", auth.Resource{Listener: "other", Flow: "other", Owner: "another"}},
		{"nobody's", auth.Resource{Listener: "other", Flow: "other"}},
		{"granted", auth.Resource{Listener: "orders", Flow: "nightly", Owner: "another"}},
		{"granted *", auth.Resource{Listener: "shop-1", Flow: "export-1", Owner: "another"}},
		{"granted *, bare", auth.Resource{Listener: "shop-", Flow: "export-", Owner: "another"}},
		{"nearly granted", auth.Resource{Listener: "orders2", Flow: "Nightly", Owner: "another"}},
		{"the other's grant", auth.Resource{Listener: "nightly", Flow: "orders", Owner: "another"}},
	}
	roles := append([]auth.Role{"", "unknown"}, auth.Roles...)
	actions := append([]auth.Action{"", "unknown"}, auth.Actions...)
	words := map[auth.Decision]string{auth.Forbid: "-", auth.Allow: "allow", auth.Hide: "hide"}
	var got strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&got, "%-38s", cmp.Or(string(a), "no action"))
		for _, role := range roles {
			fmt.Fprintf(&got, " %8s", cmp.Or(string(role), "no role"))
		}
		got.WriteByte('\n')
		for _, r := range resources {
			line := fmt.Sprintf("  %-36s", r.name)
			for _, role := range roles {
				p := auth.Principal{Login: "caller", Role: role, Listeners: []string{"orders", "shop-*"}, Flows: []string{"nightly", "export-*"}}
				line += fmt.Sprintf(" %8s", words[auth.Authorize(p, a, r.Resource)])
			}
			got.WriteString(line + "\n")
		}
	}
	const file = "testdata/authorize.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, got.String())
	}
}

func TestAuthorizeWithoutGrants(t *testing.T) {
	t.Parallel()
	orders := auth.Resource{Listener: "orders", Flow: "orders"}
	for _, c := range []struct {
		name   string
		grants []string
		want   auth.Decision
	}{
		{"none", nil, auth.Forbid},
		{"an empty name", []string{""}, auth.Forbid},
		{"everything", []string{"*"}, auth.Allow},
		{"a beginning without *", []string{"ord"}, auth.Forbid},
		{"* as a letter", []string{"o*s"}, auth.Forbid},
	} {
		p := auth.Principal{Login: "caller", Role: auth.API, Listeners: c.grants, Flows: c.grants}
		for _, a := range []auth.Action{auth.ListenerCall, auth.FlowRun} {
			if got := auth.Authorize(p, a, orders); got != c.want {
				t.Errorf("%s, %s: %v, want %v", c.name, a, got, c.want)
			}
		}
		if got := auth.Authorize(p, auth.FlowRun, auth.Resource{Owner: "caller"}); got != auth.Forbid {
			t.Errorf("%s: a flow without a name: %v", c.name, got)
		}
	}
	nameless := auth.Principal{Role: auth.API}
	if got := auth.Authorize(nameless, auth.RunRead, auth.Resource{Flow: "nightly"}); got != auth.Hide {
		t.Errorf("nobody's run, for a caller without a login: %v", got)
	}
}
