package integrator_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store/memstore"
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
`, func(c *integrator.Config) { c.Auth.TokenLife = time.Hour }) // other tests may come between
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

// TestLogsHoldNoControlCharacters sends what would move a terminal's cursor or begin a line of the log wherever a caller's text may be logged.
func TestLogsHoldNoControlCharacters(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[31mred\x07\nlevel=ERROR msg=forged"
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners: {a: {path: "/a/{x}", format: json}}
flows:
  a: {from: {listener: a}, to: {connection: out, path: "${param.x}.ndjson", format: ndjson}}
  b: {from: {connection: out, path: "${param.name}.json", format: json}, respond: {}}
users: {ops: {role: admin, password: password-ops}}
`)
	token := h.token("ops", "password-ops")
	escaped := url.PathEscape(evil)
	inJSON, err := json.Marshal(map[string]string{"login": evil, "password": evil, "name": evil})
	if err != nil {
		t.Fatal(err)
	}
	h.post("/rest/v1/token-auth/issue", "", string(inJSON))
	h.post(listeners+"/a/"+escaped, token, "{}")
	h.post(listeners+"/a/x?q="+url.QueryEscape(evil), token, string(inJSON), "Idempotency-Key: "+url.QueryEscape(evil))
	h.post("/plugins/flows/rest/v1/flow-name/"+escaped+"/run", token, "")
	h.post("/plugins/flows/rest/v1/flow-name/b/run", token, string(inJSON))
	h.call("PUT", "/rest/v1/users/"+escaped, token, strings.NewReader(`{"role": "api", "password": "long enough"}`))
	h.get("/rest/v1/runs?flow="+url.QueryEscape(evil), token)
	h.stop()
	for line := range strings.Lines(h.log.String()) {
		if strings.HasPrefix(line, "level=ERROR msg=forged") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("the log holds %q", line)
		}
	}
}

// FuzzRequests sends anything to the handler: no input of a caller causes a panic or a 5xx.
func FuzzRequests(f *testing.F) {
	for _, seed := range []struct{ method, path, header, body string }{
		{"POST", "/rest/v1/token-auth/issue", "", `{"login": "ops", "password": "password-ops"}`},
		{"POST", listeners + "/quote", "Idempotency-Key: 1", `{"sku": "X", "qty": 1}`},
		{"POST", listeners + "/rows", "Content-Type: text/csv", "a,b\n1,2\n"},
		{"POST", listeners + "/tree", "", "<a><b>1</b></a>"},
		{"POST", "/plugins/flows/rest/v1/flow-name/named/run?n=1", "", `{"n": 2}`},
		{"POST", "/rest/v1/flows/flow-name/named/run?wait=true", "", `{"n": 2}`},
		{"POST", "/rest/v1/flows/1/run?wait=false&n=3", "", ""},
		{"GET", "/rest/v1/executions/1?auditId=1&messageId=01a212c2-2392-75e8-94bd-c80ddd6b62a6&status=success", "", ""},
		{"GET", "/rest/v1/executions/console/download?flowId=1&auditId=1", "", ""},
		{"POST", "/rest/v1/token-auth/refresh", "", ""},
		{"POST", "/rest/v1/httplistener/quote?Authorization=Bearer%20x", "Authorization: Basic b3BzOnBhc3N3b3JkLW9wcw==", `{"sku": "X"}`},
		{"POST", "/rest/v1/users/ops/keys", "", `{"name": "a", "expires": "2999-01-31T00:00:00Z"}`},
		{"DELETE", "/rest/v1/users/ops/keys/a", "", ""},
		{"GET", "/rest/v1/runs?limit=1&status=error&since=2026-01-01T00:00:00Z", "", ""},
		{"GET", "/rest/v1/runs/1/rejects", "", ""},
		{"POST", "/rest/v1/runs/1/cancel", "", ""},
		{"GET", "/rest/v1/messages/01a212c2-2392-75e8-94bd-c80ddd6b62a6/body", "Range: bytes=0-1", ""},
		{"PUT", "/rest/v1/users/x", "If-Match: 1", `{"role": "api", "password": "long enough"}`},
		{"DELETE", "/rest/v1/users/%2e%2e", "", ""},
		{"GET", "/openapi.json", "", ""},
		{"GET", "/rest/v1/flows/quote", "If-None-Match: *", ""},
		{"PUT", "/rest/v1/listeners/made", "Content-Type: application/json", `{"path": "/made/{x}", "format": {"type": "csv"}, "timeout": "5s"}`},
		{"PUT", "/rest/v1/flows/made", "If-Match: \"x\"", "from: {listener: none}\nsteps: [{map: {a: '= b + ${env.C}'}}, {filter: a > 1}]\nto: {connection: out, path: '${run.id}'}"},
		{"PUT", "/rest/v1/schedules/made", "", "{flow: none, cron: '0 2 * * *', params: {a: 1}}"},
		{"PUT", "/rest/v1/connections/made", "", "{type: http, url: 'http://127.0.0.1:9', auth: {type: basic, user: '***', password: '***'}}"},
		{"DELETE", "/rest/v1/listeners/made", "If-Match: *", ""},
		{"OPTIONS", "*", "Content-Encoding: gzip", "\x1f\x8b"},
		{"OPTIONS", listeners + "/several/1", "Access-Control-Request-Method: PUT", ""},
		{"PUT", listeners + "/several/1?since=2026-01-31&x=1", "Content-Type: application/a+xml; charset=utf-8", "<a>1</a>"},
		{"PUT", listeners + "/several/a?since=&since=", "X-Event: 1", `{"a": 1}`},
		{"HEAD", listeners + "/upload/a", "", ""},
		{"POST", listeners + "/upload/.a%20", "", "\x00"},
	} {
		f.Add(seed.method, seed.path, seed.header, seed.body)
	}
	engine, err := integrator.New(integrator.Config{Store: memstore.New(), BaseDir: f.TempDir(), Logger: slog.New(slog.DiscardHandler), Definitions: definitionsOf(`
connections: {out: {type: file, dir: out}}
listeners:
  quote: {path: /quote, format: json, mode: sync, auth: basic, auth_in: query}
  rows:  {path: /rows, format: csv, mode: sync}
  tree:  {path: "/tree", format: xml, mode: sync}
  several:
    path: "/several/{id}"
    method: PUT
    format: [json, csv, xml]
    params: {id: {type: int, max: 9}, since: date}
    cors: "*"
    answer: {status: 201, headers: {X-A: "${header.a}${query.x}"}, body: {id: "= param.id / query.x", since: param.since, run: run.number}}
  upload: {path: "/upload/{name...}", method: [GET, POST], mode: sync}
flows:
  several: {from: {listener: several, when: "number(header['X-Event'] ?? 1) > 0 and param.id > 1"}}
  upload:  {from: {listener: upload}, to: {connection: out, path: "${param.name}.bin"}}
  quote: {from: {listener: quote}, steps: [{map: {sku: sku, total: "= qty * 1.1"}}], on_reject: keep, respond: {headers: {X-A: "${header.a}"}}}
  rows:  {from: {listener: rows}, respond: {format: ndjson}}
  tree:  {from: {listener: tree}, respond: {format: xml}}
  named: {params: {n: int}, respond: {}}
users: {ops: {role: admin, password: password-ops}}
`)})
	if err != nil {
		f.Fatal(err)
	}
	go engine.Run(f.Context())
	<-engine.Ready()
	f.Cleanup(func() { engine.Close() })
	users, err := engine.Auth()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path, header, body string) {
		target, err := url.ParseRequestURI(path)
		if err != nil || len(body) > 1<<20 {
			t.Skip()
		}
		token, _, err := users.Issue(t.Context(), "ops", "password-ops", "203.0.113.9:1")
		if err != nil {
			t.Fatal(err)
		}
		request := (&http.Request{Method: method, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Host: "engine",
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), RemoteAddr: "127.0.0.1:1"}).WithContext(t.Context())
		request.Header.Set("Authorization", "Bearer "+token)
		if name, value, ok := strings.Cut(header, ":"); ok {
			request.Header.Set(name, strings.TrimSpace(value))
		}
		w := &recorder{header: http.Header{}}
		engine.Handler().ServeHTTP(w, request)
		if w.status < 200 || w.status >= 500 {
			t.Errorf("%s %s: %d %s", method, path, w.status, w.body.String())
		}
		if w.status >= 400 && w.header.Get("Content-Type") != "application/problem+json" && !strings.HasPrefix(path, "/plugins/flows/") {
			t.Errorf("%s %s: %d is no problem document: %s", method, path, w.status, w.body.String())
		}
	})
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

// TestProofsAreKeptNowhere sends proofs in the query and as passwords: no log, answer or file of the store has them.
func TestProofsAreKeptNowhere(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners:
  query:    {path: /query, format: json, auth_in: query}
  password: {path: /password, format: json, auth: basic}
flows:
  query:    {from: {listener: query}, steps: [{map: {query: "= query", header: "= header"}}], to: {connection: out, path: "out-${run.id}.ndjson", format: ndjson}}
  password: {from: {listener: password}, steps: [{map: {query: "= query", header: "= header"}}], to: {connection: out, path: "out-${run.id}.ndjson", format: ndjson}}
users: {shop: {role: operator, password: "${secret.SHOP}"}}`)
	token := h.token("shop", "secret-of-SHOP")
	basic := base64.StdEncoding.EncodeToString([]byte("shop:secret-of-SHOP"))
	var answers strings.Builder
	for _, c := range []struct{ path, header string }{
		{"/query?Authorization=Bearer%20" + token, "X-Call: 1"},
		{"/query?authorization=Bearer%20" + token, "Authorization: Bearer " + token}, // no proof, and no parameter either
		{"/password", "Authorization: Basic " + basic},
		{"/password?Authorization=Basic%20" + basic, "Authorization: Basic " + basic},
	} {
		r := h.post(listeners+c.path, "", `{"a": 1}`, c.header)
		if r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", c.path, r.status, r.body)
		}
		e := h.events.settled(decode[receipt](t, r.body).AuditID)
		run := fmt.Sprint(e.Run.Number)
		answers.WriteString(r.body + h.get("/rest/v1/messages/"+e.Run.Message.String(), token).body + h.get("/rest/v1/runs/"+run, token).body + h.get("/rest/v1/runs/"+run+"/log", token).body)
	}
	for _, c := range []string{"/query?Authorization=Bearer%20" + token + "x", "/none?Authorization=Bearer%20" + token, "/password?Authorization=Basic%20" + basic} {
		answers.WriteString(h.post(listeners+c, "", `{"a": 1}`).body)
	}
	h.stop()
	kept := map[string]string{"the log": h.log.String(), "an answer": answers.String()}
	err := filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		kept[path] = string(text)
		return err
	})
	if files, _ := filepath.Glob(filepath.Join(h.dir, "out", "out-*")); err != nil || len(files) != 4 || !strings.Contains(kept[files[0]], "X-Call") {
		t.Fatalf("the files were not read: %v, %v", files, err)
	}
	for where, text := range kept {
		for _, canary := range []string{token, basic, "secret-of-SHOP"} {
			if strings.Contains(text, canary) {
				t.Errorf("%s has %s", where, canary)
			}
		}
	}
}

// TestChallenge: a stranger learns which proofs there are, and not which paths.
func TestChallenge(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners:
  token:    {path: /token, format: json, mode: sync}
  password: {path: /password, format: json, mode: sync, auth: basic}
flows:
  token:    {from: {listener: token}, respond: {}}
  password: {from: {listener: password}, respond: {}}
users: {shop: {role: operator, password: password-shop}}`)
	errorID := regexp.MustCompile(`"errorId":"\w+"`)
	for _, header := range []string{"X-No: proof", "Authorization: Bearer x", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("shop:wrong"))} {
		var first string
		for _, path := range []string{"/token", "/password", "/none"} {
			r := h.post(listeners+path, "", "{}", header)
			challenge := r.header.Values("WWW-Authenticate")
			if want := []string{`Bearer realm="integrator"`, `Basic realm="integrator", charset="UTF-8"`}; r.status != 401 || !slices.Equal(challenge, want) {
				t.Errorf("%s, %s: %d, challenge %q, want %q", path, header, r.status, challenge, want)
			}
			if body := errorID.ReplaceAllString(r.body, ""); first == "" {
				first = body
			} else if body != first {
				t.Errorf("%s, %s: %s, elsewhere %s", path, header, body, first)
			}
		}
	}
	if challenge := h.get("/rest/v1/runs", "").header.Values("WWW-Authenticate"); len(challenge) != 1 {
		t.Errorf("another route: challenge %q", challenge)
	}
	limited := false
	for range 2 { // on any path: none tells by the time that it takes whether it looks at passwords
		for _, path := range []string{"/token", "/password", "/none"} {
			r := h.post(listeners+path, "", "{}", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("shop:wrong")))
			limited = limited || r.status == 429
		}
	}
	if !limited {
		t.Error("passwords can be guessed without end")
	}
}

// TestPagesOfOtherOrigins: a page elsewhere learns nothing of an engine, may not make a browser send passwords to it, and nothing that a browser fetches by itself changes anything.
func TestPagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners:
  token:    {path: /token, format: json}
  password: {path: /password, format: json, auth: basic, method: [POST, PUT, DELETE, PATCH, GET]}
flows:
  token:    {from: {listener: token}, to: {connection: out, path: "${run.id}.json", format: json}}
  password: {listener: password, to: {connection: out, path: "${run.id}.json", format: json}}
  named:    {to: {connection: out, path: "${run.id}.json", format: json}}
users: {ops: {role: admin, password: password-ops}}
`)
	token := h.token("ops", "password-ops")
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ops:password-ops"))
	const elsewhere = "Origin: https://evil.example"
	for _, path := range []string{listeners + "/token", listeners + "/password", listeners + "/none", "/rest/v1/token-auth/issue", "/plugins/flows/rest/v1/flow-name/named/run", "/rest/v1/runs", "/livez", "/none"} {
		for _, method := range []string{"OPTIONS", "GET", "POST"} {
			r := h.call(method, path, "", nil, elsewhere, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
			if method == "OPTIONS" && r.status < 400 {
				t.Errorf("a preflight of %s is answered with %d", path, r.status)
			}
			for name := range r.header {
				if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
					t.Errorf("%s %s: %s: %v", method, path, name, r.header[name])
				}
			}
			if r.body != "" && (r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s %s may be sniffed or kept: %v", method, path, r.header)
			}
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "GET"} { // what a browser adds by itself
		for _, header := range []string{elsewhere, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
			if r := h.call(method, listeners+"/password", "", strings.NewReader("{}"), basic, header); r.status != http.StatusForbidden {
				t.Errorf("%s with a password, %s: %d %s", method, header, r.status, r.body)
			}
		}
	}
	before := h.get("/rest/v1/runs", token).body
	if !strings.Contains(before, `"runs":[]`) {
		t.Errorf("something ran: %s", before)
	}
	if r := h.post(listeners+"/token", token, "{}", elsewhere, "Sec-Fetch-Site: cross-site"); r.status != http.StatusOK { // a token is given on purpose
		t.Errorf("with a token: %d %s", r.status, r.body)
	}
	run := h.events.settled(1)
	before = h.get("/rest/v1/runs", token).body + h.get("/rest/v1/users", token).body
	for _, path := range []string{"/rest/v1/runs/1/cancel", "/rest/v1/runs/1/replay", "/rest/v1/runs/replay?flow=token", "/rest/v1/runs/1/rejects/replay", "/rest/v1/messages/" + run.Run.Message.String() + "/replay",
		"/plugins/flows/rest/v1/flow-name/named/run", "/rest/v1/flows/1/run", "/rest/v1/token-auth/refresh", "/rest/v1/executions/1", "/rest/v1/runs/1", "/rest/v1/runs/1/log", "/rest/v1/users/ops", "/rest/v1/messages/" + run.Run.Message.String() + "/body", "/metrics", "/readyz"} {
		if r := h.get(path, token); r.status >= 500 {
			t.Errorf("GET %s: %d", path, r.status)
		}
	}
	if after := h.get("/rest/v1/runs", token).body + h.get("/rest/v1/users", token).body; after != before {
		t.Errorf("a GET changed something: %s, before %s", after, before)
	}
}

// TestFormulasInRejects: what a spreadsheet would run is text in rejected records that are asked for as CSV, names of fields among them.
func TestFormulasInRejects(t *testing.T) {
	t.Parallel()
	h := start(t, `
listeners: {a: {path: /a, format: json, mode: sync}}
flows: {a: {from: {listener: a, records: "[*]"}, steps: [{reject: {when: "true", reason: "=1+1"}}], on_reject: keep, respond: {}}}
users: {ops: {role: operator, password: password-ops}}
`)
	token := h.token("ops", "password-ops")
	h.post(listeners+"/a", token, `[{"a": "=cmd|'/c calc'!A1", "@b": "+1", "-c": "\t=x", "d": -5}]`)
	const want = `a,'@b,'-c,d,_record,_line,_step,_field,_reason
'=cmd|'/c calc'!A1,'+1,'	=x,-5,1,1,step 1 (reject),"",'=1+1
`
	if r := h.get("/rest/v1/runs/1/rejects?format=csv", token); r.status != 200 || r.body != want {
		t.Errorf("%d %s, want %s", r.status, r.body, want)
	}
}
