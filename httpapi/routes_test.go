package httpapi

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/auth"
)

// open are the routes that ask for no token.
var open = []string{"POST /rest/v1/token-auth/issue", "GET /livez", "GET /readyz"}

// TestEveryRouteHasItsRow makes sure that no route is served which the authorisation table, its reviewed outcome or HTTP.md does not know.
func TestEveryRouteHasItsRow(t *testing.T) {
	t.Parallel()
	reviewed, err := os.ReadFile("../testdata/authorisation.txt")
	if err != nil {
		t.Fatal(err)
	}
	documented, err := os.ReadFile("../HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range New(nil).(*handler).routes {
		name := r.method + " " + r.pattern
		if r.action == "" && !slices.Contains(open, name) {
			t.Errorf("%s is open to everybody and not on the list of those that may be", name)
		}
		if r.action != "" && !slices.Contains(auth.Actions, r.action) {
			t.Errorf("%s has action %q, which the authorisation table does not know", name, r.action)
		}
		if operations[name].id == "" {
			t.Errorf("%s is not among the operations of the OpenAPI document", name)
		}
		if !strings.Contains(string(documented), name) {
			t.Errorf("%s is not in HTTP.md", name)
		}
		pattern := strings.NewReplacer("{flow}", "granted", "{login}", "owner", "{key}", "nightly", "{name}", "granted").Replace(r.pattern)
		if !slices.ContainsFunc(strings.Split(string(reviewed), "\n"), func(line string) bool {
			fields := strings.Fields(line)
			return len(fields) > 2 && fields[0] == r.method && fields[1] == pattern
		}) {
			t.Errorf("%s has no line in testdata/authorisation.txt", name)
		}
	}
}
