package integrator_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/httpapi"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestAuthorisation calls every route as every role, for things that are the caller's own or granted to it and for others. The golden file
// is the table that a person reviews; a route without a line in it fails a test of package httpapi.
func TestAuthorisation(t *testing.T) {
	t.Parallel()
	var users strings.Builder
	for _, role := range auth.Roles {
		fmt.Fprintf(&users, "  %s: {role: %s, password: password-%s, listeners: [granted], flows: [granted]}\n", role, role, role)
	}
	h := start(t, `
listeners:
  granted: {path: /granted, format: json, mode: sync}
  other:   {path: /other, format: json, mode: sync}
flows:
  granted-listener: {from: {listener: granted}, respond: {}}
  other-listener:   {from: {listener: other}, respond: {}}
  granted:          {respond: {}}
  other:            {respond: {}}
users:
  owner: {role: operator, password: password-owner}
`+users.String())
	owner := h.token("owner", "password-owner")
	h.post(listeners+"/other", owner, "{}")
	foreign := h.events.settled(1)
	var got strings.Builder
	fmt.Fprintf(&got, "%-6s %-64s %8s", "", "", "nobody")
	for _, role := range auth.Roles {
		fmt.Fprintf(&got, " %8s", role)
	}
	got.WriteByte('\n')
	numbers := map[string]int64{}
	for _, name := range []string{"granted", "other"} {
		numbers[name] = decode[struct{ FlowID int64 }](t, h.post("/rest/v1/flows/flow-name/"+name+"/run?wait=true", owner, "").body).FlowID
	}
	// what says which thing the path names: the caller's "own", the flow that is "granted", the "other" one, or "", somebody else's.
	line := func(method, path, what string) {
		own := what == "own"
		label, _, _ := strings.Cut(path, "?")
		if what != "" {
			label += " (" + what + ")"
		}
		fmt.Fprintf(&got, "%-6s %-64s %8d", method, label, h.call(method, path, "", nil).status)
		for _, role := range auth.Roles {
			token := h.token(string(role), "password-"+string(role))
			run, message, flowID := foreign.Run.Number, foreign.Run.Message.String(), cmp.Or(numbers[what], foreign.Run.FlowID)
			if own {
				run, message = 0, ""
				if reply := h.post(listeners+"/granted", token, "{}"); reply.status == 200 {
					settled := last[flow.Settled](h.events)
					run, message, flowID = settled.Run.Number, settled.Run.Message.String(), settled.Run.FlowID
				}
			}
			target := strings.NewReplacer("{run}", fmt.Sprint(run), "{message}", message, "{flowId}", fmt.Sprint(flowID)).Replace(path)
			if own && run == 0 {
				fmt.Fprintf(&got, " %8s", "-")
				continue
			}
			var body string
			if method == "POST" || method == "PUT" {
				body = "{}"
			}
			fmt.Fprintf(&got, " %8d", h.call(method, target, token, strings.NewReader(body)).status)
		}
		got.WriteByte('\n')
	}
	line("POST", "/rest/v1/token-auth/issue", "")
	line("POST", "/rest/v1/token-auth/refresh", "")
	for _, name := range []string{"granted", "other"} {
		line("POST", listeners+"/"+name, "")
		line("POST", "/rest/v1/httplistener/"+name, "")
		line("POST", "/plugins/flows/rest/v1/flow-name/"+name+"/run", "")
		line("POST", "/rest/v1/flows/flow-name/"+name+"/run?wait=true", "")
		line("POST", "/plugins/flows/rest/v1/flows/flow-name/"+name+"/run?wait=true", "")
		line("POST", "/rest/v1/flows/{flowId}/run?wait=true", name)
	}
	for _, what := range []string{"own", ""} {
		line("GET", "/rest/v1/messages/{message}", what)
		line("GET", "/rest/v1/messages/{message}/body", what)
		line("POST", "/rest/v1/messages/{message}/replay", what)
		line("DELETE", "/rest/v1/messages/{message}/body", what)
		line("GET", "/rest/v1/executions/{flowId}?auditId={run}", what)
		line("GET", "/plugins/dashboard/rest/v1/flows/{flowId}?auditId={run}", what)
		line("GET", "/rest/v1/executions/console/download?flowId={flowId}&auditId={run}", what)
		line("GET", "/rest/v1/runs/{run}", what)
		line("GET", "/rest/v1/runs/{run}/rejects", what)
		line("POST", "/rest/v1/runs/{run}/replay", what)
		line("POST", "/rest/v1/runs/{run}/rejects/replay", what)
		line("GET", "/rest/v1/runs/{run}/log", what)
		line("POST", "/rest/v1/runs/{run}/cancel", what)
	}
	line("GET", "/rest/v1/runs", "")
	line("POST", "/rest/v1/runs/replay", "")
	line("POST", "/rest/v1/runs/cancel", "")
	line("GET", "/rest/v1/users", "")
	line("GET", "/rest/v1/users/owner", "")
	line("PUT", "/rest/v1/users/owner", "")
	line("DELETE", "/rest/v1/users/owner", "")
	line("GET", "/rest/v1/users/owner/keys", "")
	line("POST", "/rest/v1/users/owner/keys", "")
	line("DELETE", "/rest/v1/users/owner/keys/nightly", "")
	for _, kind := range httpapi.Kinds {
		line("GET", "/rest/v1/"+kind, "")
		line("GET", "/rest/v1/"+kind+"/granted", "")
		line("PUT", "/rest/v1/"+kind+"/granted", "")
		line("DELETE", "/rest/v1/"+kind+"/granted", "")
	}
	line("GET", "/metrics", "")
	line("GET", "/openapi.json", "")
	line("GET", "/livez", "")
	line("GET", "/readyz", "")
	golden(t, "testdata/authorisation.txt", got.String())
}

// golden compares text with a file, or writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n got:\n%s\nwant:\n%s", file, got, want)
	}
}
