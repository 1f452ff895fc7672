package integrator_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
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
	fmt.Fprintf(&got, "%-6s %-60s %8s", "", "", "nobody")
	for _, role := range auth.Roles {
		fmt.Fprintf(&got, " %8s", role)
	}
	got.WriteByte('\n')
	line := func(method, path string, own bool) {
		fmt.Fprintf(&got, "%-6s %-60s %8d", method, strings.TrimSuffix(path+map[bool]string{true: " (own)"}[own], " "), h.call(method, path, "", nil).status)
		for _, role := range auth.Roles {
			token := h.token(string(role), "password-"+string(role))
			run, message := foreign.Run.Number, foreign.Run.Message.String()
			if own {
				run, message = 0, ""
				if reply := h.post(listeners+"/granted", token, "{}"); reply.status == 200 {
					settled := last[flow.Settled](h.events)
					run, message = settled.Run.Number, settled.Run.Message.String()
				}
			}
			target := strings.NewReplacer("{run}", fmt.Sprint(run), "{message}", message).Replace(path)
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
	line("POST", "/rest/v1/token-auth/issue", false)
	for _, name := range []string{"granted", "other"} {
		line("POST", listeners+"/"+name, false)
		line("POST", "/rest/v1/httplistener/"+name, false)
		line("POST", "/plugins/flows/rest/v1/flow-name/"+name+"/run", false)
	}
	for _, own := range []bool{true, false} {
		line("GET", "/rest/v1/messages/{message}", own)
		line("GET", "/rest/v1/messages/{message}/body", own)
		line("POST", "/rest/v1/messages/{message}/replay", own)
		line("DELETE", "/rest/v1/messages/{message}/body", own)
		line("GET", "/rest/v1/runs/{run}", own)
		line("GET", "/rest/v1/runs/{run}/rejects", own)
		line("POST", "/rest/v1/runs/{run}/replay", own)
		line("POST", "/rest/v1/runs/{run}/rejects/replay", own)
		line("GET", "/rest/v1/runs/{run}/log", own)
		line("POST", "/rest/v1/runs/{run}/cancel", own)
	}
	line("GET", "/rest/v1/runs", false)
	line("POST", "/rest/v1/runs/replay", false)
	line("POST", "/rest/v1/runs/cancel", false)
	line("GET", "/rest/v1/users", false)
	line("GET", "/rest/v1/users/owner", false)
	line("PUT", "/rest/v1/users/owner", false)
	line("DELETE", "/rest/v1/users/owner", false)
	line("GET", "/metrics", false)
	line("GET", "/livez", false)
	line("GET", "/readyz", false)
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
