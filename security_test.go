package integrator_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
)

// counter counts what is read of a body.
type counter struct {
	io.Reader
	read int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	return n, err
}

// endless is a body that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestBodyWithoutEndIsNotReadOn(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json, max_body: 1MiB}}
flows: {a: {from: {listener: a}, to: {connection: out, path: a.ndjson, format: ndjson}}}
connections: {out: {type: file, dir: out}}
users: {ops: {role: operator, password: password-ops}}
`)
	for name, r := range map[string]struct {
		path  string
		token string
		want  int
		most  int64 // bytes that the engine may take in; the rest is what the connection holds
	}{
		"listener":       {listeners + "/a", h.token("ops", "password-ops"), http.StatusRequestEntityTooLarge, 1 << 20},
		"token":          {"/rest/v1/token-auth/issue", "", http.StatusRequestEntityTooLarge, 8 << 10},
		"run by name":    {"/plugins/flows/rest/v1/flow-name/a/run", h.token("ops", "password-ops"), http.StatusOK, 0},
		"without proof":  {listeners + "/a", "", http.StatusUnauthorized, 0},
		"no such path":   {listeners + "/b", h.token("ops", "password-ops"), http.StatusNotFound, 0},
		"no such route":  {"/rest/v1/nothing", "", http.StatusNotFound, 0},
		"another method": {"/livez", "", http.StatusMethodNotAllowed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := &counter{Reader: endless{}}
			request, err := http.NewRequest("POST", "/", body)
			if err != nil {
				t.Fatal(err)
			}
			request.URL.Path, request.ContentLength = r.path, -1
			request.Header.Set("Authorization", "Bearer "+r.token)
			w := &recorder{header: http.Header{}}
			h.engine.Handler().ServeHTTP(w, request)
			if w.status != r.want {
				t.Errorf("status %d, want %d: %s", w.status, r.want, w.body.String())
			}
			if body.read > r.most+64<<10 {
				t.Errorf("%d bytes were read, of %d that are allowed", body.read, r.most)
			}
		})
	}
	if runs := h.get("/rest/v1/runs", h.token("ops", "password-ops")); !strings.Contains(runs.body, `"runs":[]`) {
		t.Errorf("something was stored: %s", runs.body)
	}
}

// TestLyingLength sends fewer bytes than the head promises, and hangs up.
func TestLyingLength(t *testing.T) {
	t.Parallel()
	h := start(t, quoteYAML)
	token := h.token("shop", "password-shop")
	for _, length := range []int{50, 100_000} { // held in memory, spooled
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s/quote HTTP/1.1\r\nHost: engine\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n{}", listeners, token, length)
		conn.(*net.TCPConn).CloseWrite()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		conn.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%d: status %d", length, response.StatusCode)
		}
	}
	if history := h.get("/rest/v1/runs", token); !strings.Contains(history.body, `"runs":[]`) {
		t.Errorf("a cut body was stored: %s", history.body)
	}
}

// TestHeadersOfAnswers fills values of a payload's path into an answer's header: what a header cannot hold is left out.
func TestHeadersOfAnswers(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: "/a/{x}", method: GET, mode: sync}}
flows: {a: {listener: a, respond: {headers: {X-Path: "${param.x}", X-Query: "${query.q}"}}}}
users: {ops: {role: operator, password: password-ops}}
`)
	token := h.token("ops", "password-ops")
	r := h.get(listeners+"/a/good?q=a%0d%0aX-Evil:%201", token)
	if r.status != 200 || r.header.Get("X-Path") != "good" || r.header.Get("X-Query") != "" || r.header.Get("X-Evil") != "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if log := h.log.String(); !strings.Contains(log, "X-Query") {
		t.Errorf("the log does not tell of the header: %s", log)
	}
	if r := h.get(listeners+"/a/a%0d%0ab", token); r.status != 404 {
		t.Errorf("control characters in a path: %d", r.status)
	}
}

// TestPayloadCannotSetEngineFields sends fields and headers that are named like the engine's own.
func TestPayloadCannotSetEngineFields(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: "/a/{store}", format: json}}
flows:
  a:
    from: {listener: a}
    steps: [{map: {run: run.number, store: param.store, theirs: this.run, user: message.user}}]
    to: {connection: out, path: "a-${run.number}.ndjson", format: ndjson}
users: {ops: {role: operator, password: password-ops}}
`)
	e := h.send("/a/berlin?store=x&run=9&user=root", h.token("ops", "password-ops"),
		`{"run": {"number": 99, "id": "../../x"}, "param": {"store": "evil"}, "message": {"user": "root"}, "status": "success", "connection": "other"}`)
	if got, want := h.read(fmt.Sprintf("out/a-%d.ndjson", e.Run.Number)),
		fmt.Sprintf(`{"run":%d,"store":"berlin","theirs":{"number":99,"id":"../../x"},"user":"ops"}`+"\n", e.Run.Number); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSecretsNeverComeOut plants a secret where it is used, lets everything fail with it, and looks for it in all that comes out.
func TestSecretsNeverComeOut(t *testing.T) {
	t.Parallel()
	const canary = `c4n&ry"<secret>+/ü`
	encoded := map[string]string{
		"as it is": canary, "query": url.QueryEscape(canary), "path": url.PathEscape(canary), "hex": hex.EncodeToString([]byte(canary)),
		"base64": base64.StdEncoding.EncodeToString([]byte(canary)), "basic": base64.StdEncoding.EncodeToString([]byte("user:" + canary)),
		"quoted": fmt.Sprintf("%q", canary),
	}
	said := errors.New("connect failed")
	for name, form := range encoded {
		said = fmt.Errorf("%w, %s: %s", said, name, form)
	}
	f := &flaky{fails: 99, err: connector.Permanent(said)}
	h := start(t, `
connections: {away: {type: flaky}}
listeners: {a: {path: /a, format: json, mode: sync}}
flows:
  a: {from: {listener: a}, to: {connection: away, table: t}}
  b: {to: {connection: away, table: t}}
users:
  shop: {role: api, password: "${secret.CANARY}", listeners: [a], flows: [b]}
  ops: {role: admin, password: password-ops}
`, func(c *integrator.Config) {
		c.Secrets = func(string) (string, bool) { return canary, true }
		c.Connectors = []connector.Kind{f.kind()}
	})
	shop, ops := h.token("shop", canary), h.token("ops", "password-ops")
	var out strings.Builder
	for _, token := range []string{shop, ops, "wrong"} {
		for _, r := range []reply{
			h.post(listeners+"/a", token, "{}"),
			h.post("/plugins/flows/rest/v1/flow-name/b/run", token, ""),
			h.get("/rest/v1/runs", token), h.get("/rest/v1/users", token), h.get("/rest/v1/users/shop", token),
			h.post("/rest/v1/token-auth/issue", "", `{"login": "shop", "password": "`+token+`"}`),
		} {
			fmt.Fprintln(&out, r.header, r.body)
		}
	}
	if _, err := integrator.New(integrator.Config{Dir: t.TempDir(), Secrets: func(string) (string, bool) { return canary, true },
		Definitions: definitionsOf("connections: {a: {type: \"${secret.A}\"}}\nlisteners: {b: {path: \"${secret.A}\"}}\nusers: {c: {role: \"${secret.A}\"}}")}); err != nil {
		fmt.Fprintln(&out, err)
	}
	h.stop()
	fmt.Fprintln(&out, h.log)
	for name, form := range encoded {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret comes out (%s):\n%s", name, out.String())
		}
	}
	for _, token := range []string{shop, ops} {
		if strings.Contains(h.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
}
