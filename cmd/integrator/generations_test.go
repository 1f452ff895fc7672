package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const generationsDefinitions = `
connections:
  out:       {type: file, dir: out}
  warehouse: {type: sql, driver: sqlite, path: warehouse.db}
  held:      {type: http, url: %q}
listeners:
  load:       {path: /load, format: json, mode: sync}
  partial:    {path: /partial, format: json, mode: sync}
  strict:     {path: /strict, format: json, mode: sync}
  fails:      {path: /fails, format: json, mode: sync}
  slow:       {path: /slow, format: json, mode: sync, timeout: 100ms}
  endless:    {path: /endless, method: GET, mode: sync, timeout: 100ms}
  twice:      {path: /twice, format: csv}
  files:      {path: "/files/{name...}", method: [PUT, DELETE], mode: sync}
  literal:    {path: /shop/all/orders, format: json, mode: sync}
  orders:     {path: "/shop/{store}/orders", format: json}
  order-list: {path: "/shop/{store}/orders", method: GET, mode: sync, auth: basic, auth_in: query}
  quote:      {path: /quote, format: json, mode: sync}
  patients:   {path: /hl7/patient, format: {type: xml, records: /patients/patient}}
  unread:     {path: /unread, format: json}
flows:
  load-orders:
    from: {listener: orders, records: "orders[*]"}
    steps:
      - filter: "qty > 0"
      - map: {order_id: id, store: "= param.store", customer: "= customer.last + ', ' + customer.first", total: "= qty * price", note: "= note ?? ''"}
      - reject: {when: "total > 100000", reason: needs a person}
    to:
      - {connection: warehouse, table: orders, action: upsert, key: [order_id], create: true}
      - {connection: out, path: "orders-${run.id}.csv", format: csv}
    on_reject: {action: keep, max: 100}
  orders-of-a-store:
    listener: order-list
    from: {connection: warehouse, query: "select order_id, total from orders where store = :store order by order_id"}
    respond: {format: json}
  quote:
    from: {listener: quote}
    steps: [{map: {sku: sku, price: "= qty >= 10 ? 9.5 : 10"}}]
    respond: {status: 200, format: json, headers: {X-Quote: "1"}}
  load-patients:
    from: {listener: patients}
    to: {connection: out, path: "patients-${run.id}.ndjson", format: ndjson}
  export:
    from: {connection: warehouse, query: "select order_id, store, total from orders where store = :store order by order_id"}
    params: {store: text}
    to: {connection: out, path: "export-${param.store}-${run.id}.xml", format: {type: xml, root: orders, element: order}}
  load:     {from: {listener: load, records: "[*]"}, to: {connection: out, path: "load-${run.id}.ndjson", format: ndjson}}
  partial:  {from: {listener: partial, records: "[*]"}, steps: [{reject: {when: n > 1, reason: too many}}], on_reject: keep, to: {connection: out, path: "partial-${run.id}.ndjson", format: ndjson}}
  strict:   {from: {listener: strict, records: "[*]"}, steps: [{reject: {when: n > 1, reason: too many}}], to: {connection: out, path: "strict-${run.id}.ndjson", format: ndjson}}
  fails:    {from: {listener: fails}, to: {connection: warehouse, table: none}}
  slow:     {from: {listener: slow}, to: {connection: held, path: /slow}}
  endless:  {listener: endless, from: {connection: warehouse, query: "with recursive c(n) as (select 1 union all select n + 1 from c where n < 1000000000) select count(*) as n from c"}, respond: {}}
  first-of-two:  {from: {listener: twice}, to: {connection: out, path: "first-${run.id}.ndjson", format: ndjson}}
  second-of-two: {from: {listener: twice}, to: {connection: out, path: "second-${run.id}.ndjson", format: ndjson}}
  files:    {listener: files, steps: [{map: {name: name}}], respond: {}}
  literal:  {from: {listener: literal}, respond: {}}
  "über 100 %%":  {params: {n: int}, steps: [{reject: {when: n > 1, reason: too many}}], on_reject: keep, respond: {}}
  kept:     {to: {connection: held, path: /kept}}
  held:     {to: [{connection: held, path: /held}, {connection: out, path: held.ndjson, format: ndjson}]}
  broken:
    from: {connection: out, path: missing.csv, format: csv}
    to: {connection: out, path: never.csv, format: csv}
    retry: {attempts: 2, backoff: 1ms}
users:
  first:  {role: api, password: "${secret.SHOP}", listeners: ["*"], flows: ["*"]}
  second: {role: operator, password: "${secret.SHOP}"}
  root:   {role: admin, password: "${secret.SHOP}"}
  away:   {role: api, password: "${secret.SHOP}", networks: [10.0.0.0/8]}
  nobody: {role: api, password: "${secret.SHOP}"}
`

const anOrder = `{"orders": [
	{"id": "%[1]s-1", "qty": 3, "price": 105.55, "customer": {"first": "Ada", "last": "Lovelace"}},
	{"id": "%[1]s-2", "qty": 0, "price": 1, "customer": {"first": "B", "last": "B"}},
	{"id": "%[1]s-3", "qty": 2, "price": 0.1, "customer": {"first": "Cyd", "last": "Ünï"}, "note": "fünf"},
	{"id": "%[1]s-4", "qty": 999999, "price": 1, "customer": {"first": "R", "last": "R"}}]}`

// caller is what both generations of clients are made of.
type caller struct {
	t     *testing.T
	base  string
	login string
}

// send sends a request under a proof, the whole value of the header Authorization, and returns the answer with its body.
func (c *caller) send(method, path, proof, body string) (*http.Response, string) {
	c.t.Helper()
	request, err := http.NewRequest(method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if proof != "" {
		request.Header.Set("Authorization", proof)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response, string(text)
}

// document is send for an answer of a known status that is JSON.
func (c *caller) document(method, path, proof, body string, status int, v any) {
	c.t.Helper()
	response, text := c.send(method, path, proof, body)
	if response.StatusCode != status {
		c.t.Fatalf("%s %s: %s, want %d: %s", method, path, response.Status, status, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

func (c *caller) issue() string {
	c.t.Helper()
	var issued struct{ Token string }
	c.document("POST", "/rest/v1/token-auth/issue", "", `{"login": "`+c.login+`", "password": "a long password"}`, 200, &issued)
	return "Bearer " + issued.Token
}

// firstGeneration fetches a token before every call, and knows the status of an answer and of a run.
type firstGeneration struct{ caller }

func (c *firstGeneration) push(method, path, payload string) (int, string) {
	c.t.Helper()
	response, text := c.send(method, "/plugins/schedules/rest/v1/httplistener"+path, c.issue(), payload)
	return response.StatusCode, text
}

type firstRun struct {
	Status    *int
	Exception *string
}

// run runs a flow; the answer has that HTTP status.
func (c *firstGeneration) run(flow, params string, httpStatus int) (int, string) {
	c.t.Helper()
	var run firstRun
	c.document("POST", "/plugins/flows/rest/v1/flow-name/"+url.PathEscape(flow)+"/run", c.issue(), params, httpStatus, &run)
	if run.Status == nil || run.Exception == nil {
		c.t.Fatalf("run %s: status or exception are missing", flow)
	}
	return *run.Status, *run.Exception
}

// sentences are what section A of the contract promises beyond what a client's day brings, one by one.
func (c *firstGeneration) sentences(dir string, held *heldAPI) {
	t := c.t
	const prefix, issue = "/plugins/schedules/rest/v1/httplistener", "/rest/v1/token-auth/issue"
	nobody := caller{t, c.base, "nobody"}
	var issued struct {
		Token     string
		ExpiresIn int `json:"expires_in"`
	}
	if c.document("POST", issue, "", `{"login": "first", "password": "a long password"}`, 200, &issued); issued.Token == "" || issued.ExpiresIn != 30 {
		t.Errorf("a token: %+v", issued)
	}
	if response, _ := c.send("POST", "/rest/v1/users/gone", c.issue(), "{}"); response.StatusCode != 405 {
		t.Errorf("another method: %s", response.Status)
	}
	root := caller{t, c.base, "root"}
	if response, text := root.send("PUT", "/rest/v1/users/gone", root.issue(), `{"role": "api", "password": "a long password", "disabled": true}`); response.StatusCode != 201 {
		t.Fatalf("make a user: %s %s", response.Status, text)
	}
	same := ""
	for _, login := range []string{"gone", "nowhere", "nobody"} { // disabled, unknown, a wrong password
		password := "a long password"
		if login == "nobody" {
			password = "another password"
		}
		response, text := c.send("POST", issue, "", `{"login": "`+login+`", "password": "`+password+`"}`)
		if text = errorID.ReplaceAllString(text, ""); same == "" {
			same = text
		}
		if response.StatusCode != 401 || text != same || response.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %s %s, want the same as %s", login, response.Status, text, same)
		}
	}
	guesses := 0
	for response := (*http.Response)(nil); response == nil || response.StatusCode == 401; guesses++ {
		if response, _ = c.send("POST", issue, "", `{"login": "guessed", "password": "wrong"}`); guesses > 10 || response.StatusCode == 429 && response.Header.Get("Retry-After") == "" {
			t.Fatalf("guess %d: %s", guesses, response.Status)
		}
	}
	if guesses != 6 {
		t.Errorf("guess %d was one too many", guesses)
	}
	for _, s := range []struct {
		name, method, path, proof, body string
		status                          int
		header, holds                   string
	}{
		{"the password is right and the address is not allowed", "POST", issue, "", `{"login": "away", "password": "a long password"}`, 403, "", ""},
		{"no object", "POST", issue, "", `"first"`, 400, "", ""},
		{"a field is missing", "POST", issue, "", `{"login": "first"}`, 400, "", ""},
		{"larger than 8 KiB", "POST", issue, "", `{"login": "` + strings.Repeat("x", 8<<10) + `"}`, 413, "", ""},
		{"a synchronous listener without an answer of its own", "POST", prefix + "/load", c.issue(), `[{"a": 1}, {"a": 2}]`, 200, "Location: /rest/v1/messages/", `"status":"success"}`},
		{"of many records some were rejected", "POST", prefix + "/partial", c.issue(), `[{"n": 1}, {"n": 2}]`, 200, "Integrator-Rejected: 1", `"status":"warning"`},
		{"every record was", "POST", prefix + "/partial", c.issue(), `[{"n": 2}, {"n": 3}]`, 422, "", `"rejects":[{"record":1`},
		{"one, where the flow stops", "POST", prefix + "/strict", c.issue(), `[{"n": 1}, {"n": 2}]`, 422, "", `"reason":"too many"`},
		{"it cannot be decoded", "POST", prefix + "/load", c.issue(), `[{"a": 1}`, 400, "", `"line":1`},
		{"a destination is at fault", "POST", prefix + "/fails", c.issue(), `{"a": 1}`, 500, "Content-Type: application/problem+json", `"flowName":"fails"`},
		{"still running after the listener's timeout", "POST", prefix + "/slow", c.issue(), `{"a": 1}`, 202, "Location: /rest/v1/messages/", `"status":"running"`},
		{"nothing was written and nothing will be", "GET", prefix + "/endless", c.issue(), "", 504, "", `"kind":"`},
		{"several flows on one listener", "POST", prefix + "/twice", c.issue(), "a\n1\n", 200, "Location: /rest/v1/messages/", `"runs":[{"flowName":"first-of-two",`},
		{"the rest of a path", "PUT", prefix + "/files/a/b%20c", c.issue(), "", 200, "", `{"name":"a/b c"}`},
		{"another method of it", "DELETE", prefix + "/files/x/", c.issue(), "", 200, "", `{"name":"x"}`},
		{"none of its methods", "POST", prefix + "/files/x", c.issue(), "", 405, "Allow: DELETE", ""},
		{"a literal wins over a parameter", "POST", prefix + "/shop/all/orders", c.issue(), `{"literal": true}`, 200, "", `{"literal":true}`},
		{"a slash at the end", "POST", prefix + "/quote/", c.issue(), `{"sku": "X"}`, 200, "", `"price":10`},
		{"any content type, and none", "POST", prefix + "/quote", c.issue(), `{"sku": "X"}`, 200, "", `"price":10`},
		{"no proof, known", "POST", prefix + "/quote", "", `{}`, 401, "WWW-Authenticate: Bearer", ""},
		{"no proof, unknown", "POST", prefix + "/nowhere/at/all", "", `{}`, 401, "WWW-Authenticate: Bearer", ""},
		{"no grant", "POST", prefix + "/quote", nobody.issue(), `{}`, 403, "", ""},
		{"a name in UTF-8, parameters in the query and in the body, which wins", "POST", "/plugins/flows/rest/v1/flow-name/%C3%BCber%20100%20%25/run?n=2", c.issue(), `{"n": 1}`, 200, "Content-Type: application/json", `{"status":0,"exception":""}`},
		{"with rejects", "POST", "/plugins/flows/rest/v1/flow-name/%C3%BCber%20100%20%25/run?n=2", c.issue(), "", 200, "", `"warning":"1 of 1 rejected: `},
		{"a parameter that is wrong", "POST", "/plugins/flows/rest/v1/flow-name/%C3%BCber%20100%20%25/run?n=x", c.issue(), "", 400, "", `{"status":1,"exception":"`},
		{"no flow", "POST", "/plugins/flows/rest/v1/flow-name/x/run", c.issue(), "", 404, "", `{"status":1,"exception":"flow \"x\" is not defined"}`},
		{"no proof", "POST", "/plugins/flows/rest/v1/flow-name/held/run", "", "", 401, "WWW-Authenticate: Bearer", `{"status":1,"exception":"`},
		{"no grant of a flow", "POST", "/plugins/flows/rest/v1/flow-name/held/run", nobody.issue(), "", 403, "", `{"status":1,"exception":"`},
		{"the user's document names no method", "GET", "/plugins/flows/rest/v1/flow-name/held/run", c.issue(), "", 405, "Allow: POST", `{"status":1,"exception":"`},
	} {
		response, text := c.send(s.method, s.path, s.proof, s.body)
		name, value, _ := strings.Cut(s.header, ": ")
		if response.StatusCode != s.status || !strings.HasPrefix(response.Header.Get(name), value) || !strings.Contains(text, s.holds) {
			t.Errorf("%s: %s, %s %q: %s, want %d, %s, %s", s.name, response.Status, name, response.Header.Values(name), text, s.status, s.header, s.holds)
		}
	}
	// A caller that hangs up cancels nothing.
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "POST", c.base+"/plugins/flows/rest/v1/flow-name/held/run", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", c.issue())
	go func() { <-held.called; hangUp() }()
	if _, err := http.DefaultClient.Do(request); err == nil {
		t.Error("the call that was hung up was answered")
	}
	close(held.release)
	for within := time.Now().Add(time.Minute); len(glob(t, dir, "held.ndjson")) == 0; {
		if time.Now().After(within) {
			t.Fatal("the run whose caller has gone was not carried out")
		}
	}
}

var errorID = regexp.MustCompile(`"errorId":"\w+"`)

// heldAPI holds the answers to its calls back.
type heldAPI struct {
	*httptest.Server
	called, release chan struct{} // /held is called; answers may go out
}

func newHeldAPI(t *testing.T) *heldAPI {
	api := &heldAPI{called: make(chan struct{}, 1), release: make(chan struct{})}
	api.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			api.called <- struct{}{}
		}
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/kept" {
			<-r.Context().Done()
			return
		}
		<-api.release
	}))
	t.Cleanup(api.Close)
	return api
}

func (c *firstGeneration) drive(dir string) {
	t := c.t
	// Orders are pushed, and pulled when they have arrived: this client has no other way to learn of it.
	if status, text := c.push("POST", "/shop/bonn/orders", fmt.Sprintf(anOrder, "bonn")); status != 200 {
		t.Fatalf("push: %d %s", status, text)
	}
	want := `[{"order_id":"bonn-1","total":316.65},{"order_id":"bonn-3","total":0.2}]`
	for within := time.Now().Add(time.Minute); ; {
		status, text := c.push("GET", "/shop/bonn/orders", "")
		if status == 200 && compact(text) == want {
			break
		}
		if status != 200 && status != 500 || time.Now().After(within) { // 500: there is no such table yet
			t.Fatalf("pull: %d %s", status, text)
		}
	}
	if status, text := c.push("POST", "/quote", `{"sku": "X", "qty": 12}`); status != 200 || compact(text) != `{"sku":"X","price":9.5}` {
		t.Errorf("quote: %d %s", status, text)
	}
	for _, bad := range []struct {
		path, payload string
		want          int
	}{
		{"/quote", `{"sku": `, 400}, {"/hl7/patient", "<patients><patient></patients>", 400}, {"/hl7/patient", "<!DOCTYPE x><patients/>", 400},
		{"/unread", `{}`, 404}, {"/none", `{}`, 404}, {"/shop/a/b/orders", `{}`, 404},
	} {
		if status, text := c.push("POST", bad.path, bad.payload); status != bad.want {
			t.Errorf("POST %s %s: %d, want %d: %s", bad.path, bad.payload, status, bad.want, text)
		}
	}
	if response, _ := c.send("POST", "/plugins/schedules/rest/v1/httplistener/quote", "Bearer none", "{}"); response.StatusCode != 401 {
		t.Errorf("a token that is none: %s", response.Status)
	}
	if status, exception := c.run("export?store=bonn", "", 404); status != 1 || exception == "" {
		t.Errorf("a flow that is not there: %d %q", status, exception)
	}
	if status, exception := c.run("broken", "", 200); status != 1 || !strings.Contains(exception, `flow "broken"`) {
		t.Errorf("a run that fails: %d %q", status, exception)
	}
	if status, exception := c.run("load-orders", "", 200); status != 1 || !strings.Contains(exception, "/shop/{store}/orders") {
		t.Errorf("a flow that reads a listener: %d %q", status, exception)
	}
	if status, exception := c.run("export", `{"stores": "bonn"}`, 400); status != 1 || !strings.Contains(exception, "stores") {
		t.Errorf("a parameter that the flow does not know: %d %q", status, exception)
	}
	if status, exception := c.run("export", `{"store": "bonn"}`, 200); status != 0 || exception != "" {
		t.Errorf("export: %d %q", status, exception)
	}
	if text := only(t, dir, "export-bonn-*.xml"); strings.Count(text, "<order>") != 2 || !strings.Contains(text, "<total>316.65</total>") {
		t.Errorf("the export: %s", text)
	}
}

// secondGeneration refreshes its token, starts runs without waiting, and looks at their executions.
type secondGeneration struct {
	caller
	proof string
}

// fresh returns the proof of the next call.
func (c *secondGeneration) fresh() string {
	c.t.Helper()
	if c.proof == "" {
		c.proof = c.issue()
		return c.proof
	}
	var issued struct{ Token string }
	c.document("POST", "/rest/v1/token-auth/refresh", c.proof, "", 200, &issued)
	c.proof = "Bearer " + issued.Token
	return c.proof
}

type secondRun struct {
	FlowID, AuditID int64
	MessageUUID     string
	Status          int
	Exception       string
}

type secondExecution struct {
	AuditID, ParentAuditID, FlowID, EventID, Records int64
	Retries                                          int
	FlowName, EventName, MessageID, User             string
	Started, Ended                                   *int64
	Status, Exception                                string
}

// ended looks at the execution that the query names until it has ended.
func (c *secondGeneration) ended(flowID int64, query string) secondExecution {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		var found []secondExecution
		c.document("GET", fmt.Sprintf("/rest/v1/executions/%d?%s", flowID, query), c.fresh(), "", 200, &found)
		if len(found) != 1 {
			c.t.Fatalf("executions of flow %d, %s: %+v", flowID, query, found)
		}
		if e := found[0]; e.Status != "queued" && e.Status != "running" {
			if e.Started == nil || e.Ended == nil || *e.Ended < *e.Started || *e.Started < 1_500_000_000_000 {
				c.t.Errorf("times of an execution: %+v", e)
			}
			return e
		}
		if ctx.Err() != nil {
			c.t.Fatalf("run %d has not ended", found[0].AuditID)
		}
	}
}

func (c *secondGeneration) drive(dir string) {
	t := c.t
	var receipt struct {
		MessageUUID     string
		FlowID, AuditID int64
	}
	c.document("POST", "/rest/v1/httplistener/shop/kiel/orders", c.fresh(), fmt.Sprintf(anOrder, "kiel"), 200, &receipt)
	e := c.ended(receipt.FlowID, "messageId="+receipt.MessageUUID)
	if e.Status != "warning" || e.Records != 4 || e.FlowName != "load-orders" || e.EventName != "orders" || e.User != "second" || e.AuditID != receipt.AuditID || e.MessageID != receipt.MessageUUID {
		t.Errorf("the execution of a payload: %+v", e)
	}
	// Proofs for senders that have no token: a password, and an API key in the query.
	want := `[{"order_id":"kiel-1","total":316.65},{"order_id":"kiel-3","total":0.2}]`
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(c.login+":a long password"))
	if response, text := c.send("GET", "/rest/v1/httplistener/shop/kiel/orders", basic, ""); response.StatusCode != 200 || compact(text) != want {
		t.Errorf("pull with a password: %s %s", response.Status, text)
	}
	root := caller{t, c.base, "root"}
	var made struct{ Key string }
	if response, text := root.send("PUT", "/rest/v1/users/machine", root.issue(), `{"role": "api", "password": "another password", "listeners": ["order-list"]}`); response.StatusCode != 201 {
		t.Fatalf("make a user: %s %s", response.Status, text)
	}
	root.document("POST", "/rest/v1/users/machine/keys", root.issue(), `{"name": "press"}`, 201, &made)
	pull := "/rest/v1/httplistener/shop/kiel/orders?Authorization=" + url.QueryEscape("Bearer "+made.Key)
	if response, text := c.send("GET", pull, "", ""); response.StatusCode != 200 || compact(text) != want {
		t.Errorf("pull with an API key: %s %s", response.Status, text)
	}
	if response, text := root.send("DELETE", "/rest/v1/users/machine/keys/press", root.issue(), ""); response.StatusCode != 204 {
		t.Errorf("revoke a key: %s %s", response.Status, text)
	}
	if response, _ := c.send("GET", pull, "", ""); response.StatusCode != 401 {
		t.Errorf("pull with an API key that was revoked: %s", response.Status)
	}
	// A run that is started, and one that is waited for: by both names, and by number.
	var run secondRun
	c.document("POST", "/rest/v1/flows/flow-name/export/run?store=kiel", c.fresh(), "", 200, &run)
	if run.Status != 0 {
		t.Errorf("a run that was started: %+v", run)
	}
	if e := c.ended(run.FlowID, fmt.Sprintf("auditId=%d", run.AuditID)); e.Status != "success" || e.Records != 2 || e.Exception != "" || e.MessageID != "" || e.Retries != 0 {
		t.Errorf("its execution: %+v", e)
	}
	if text := only(t, dir, "export-kiel-*.xml"); strings.Count(text, "<order>") != 2 {
		t.Errorf("the export: %s", text)
	}
	audits := []int64{run.AuditID}
	for _, path := range []string{"/plugins/flows/rest/v1/flows/flow-name/export/run", fmt.Sprintf("/rest/v1/flows/%d/run", run.FlowID)} {
		var waited secondRun
		c.document("POST", path+"?wait=true", c.fresh(), `{"store": "kiel"}`, 200, &waited)
		if waited.Status != 4 || waited.FlowID != run.FlowID || slices.Contains(audits, waited.AuditID) || waited.Exception != "" {
			t.Errorf("%s: %+v", path, waited)
		}
		audits = append(audits, waited.AuditID)
	}
	var all []secondExecution
	c.document("GET", fmt.Sprintf("/plugins/dashboard/rest/v1/flows/%d?status=success", run.FlowID), c.fresh(), "", 200, &all)
	own := slices.DeleteFunc(all, func(e secondExecution) bool { return e.User != "second" })
	if len(own) != 3 || own[0].AuditID != audits[2] || own[2].AuditID != audits[0] {
		t.Errorf("its executions, newest first: %+v, want %v", own, audits)
	}
	// A run that fails is tried again unless somebody waits for it; its log tells.
	c.document("POST", "/rest/v1/flows/flow-name/broken/run?wait=true", c.fresh(), "", 200, &run)
	if run.Status != 5 || !strings.Contains(run.Exception, "missing.csv") {
		t.Errorf("a run that fails: %+v", run)
	}
	c.document("POST", "/rest/v1/flows/flow-name/broken/run", c.fresh(), "", 200, &run)
	if e := c.ended(run.FlowID, fmt.Sprintf("auditId=%d", run.AuditID)); e.Status != "error" || e.Retries != 1 || !strings.Contains(e.Exception, "missing.csv") {
		t.Errorf("its execution: %+v", e)
	}
	response, log := c.send("GET", fmt.Sprintf("/rest/v1/executions/console/download?flowId=%d&auditId=%d", run.FlowID, run.AuditID), c.fresh(), "")
	if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Disposition"), "attachment") || !strings.Contains(log, "missing.csv") {
		t.Errorf("its log: %s %s", response.Status, log)
	}
	// What is wrong is a problem document.
	for path, status := range map[string]int{"/rest/v1/flows/flow-name/none/run": 404, "/rest/v1/flows/flow-name/load-orders/run": 409, "/rest/v1/flows/flow-name/export/run?wait=maybe": 400} {
		response, text := c.send("POST", path, c.fresh(), "")
		if response.StatusCode != status || response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s %s, want %d", path, response.Status, text, status)
		}
	}
	c.document("POST", "/rest/v1/httplistener/hl7/patient", c.fresh(), `<patients><patient id="007"><name>Ann</name></patient><patient id="8"><name>Bo &amp; C</name></patient></patients>`, 200, &receipt)
	if e := c.ended(receipt.FlowID, fmt.Sprintf("auditId=%d", receipt.AuditID)); e.Status != "success" || e.Records != 2 {
		t.Errorf("patients: %+v", e)
	}
	if text := only(t, dir, "patients-*.ndjson"); text != `{"@id":"007","name":"Ann"}`+"\n"+`{"@id":"8","name":"Bo & C"}`+"\n" {
		t.Errorf("patients: %s", text)
	}
}

// sentences are what section B promises beyond what a client's day brings.
func (c *secondGeneration) sentences() {
	t := c.t
	// A run that is canceled while somebody waits for it.
	answered := make(chan secondRun, 1)
	waiting := c.fresh()
	go func() {
		var run secondRun
		response, text := c.send("POST", "/rest/v1/flows/flow-name/kept/run?wait=true", waiting, "")
		if err := json.Unmarshal([]byte(text), &run); err != nil || response.StatusCode != 200 {
			t.Errorf("a run that is canceled: %s %s", response.Status, text)
		}
		answered <- run
	}()
	var page struct {
		Runs []struct{ AuditID, FlowID int64 }
	}
	for within := time.Now().Add(time.Minute); len(page.Runs) == 0; {
		if c.document("GET", "/rest/v1/runs?flow=kept&status=running", c.issue(), "", 200, &page); time.Now().After(within) {
			t.Fatal("the run does not begin")
		}
	}
	run := page.Runs[0]
	var running []secondExecution
	c.document("GET", fmt.Sprintf("/rest/v1/executions/%d?status=running", run.FlowID), c.fresh(), "", 200, &running)
	if len(running) != 1 || running[0].Status != "running" || running[0].Ended != nil || running[0].Started == nil {
		t.Errorf("its execution: %+v", running)
	}
	if response, text := c.send("POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", run.AuditID), c.fresh(), ""); response.StatusCode/100 != 2 {
		t.Errorf("cancel: %s %s", response.Status, text)
	}
	if got := <-answered; got.Status != 2 || got.AuditID != run.AuditID {
		t.Errorf("a run that was canceled: %+v", got)
	}
	if e := c.ended(run.FlowID, fmt.Sprintf("auditId=%d", run.AuditID)); e.Status != "canceled" {
		t.Errorf("its execution: %+v", e)
	}
	// What replays a run names it.
	var receipt exampleReceipt
	c.document("POST", "/rest/v1/httplistener/hl7/patient", c.fresh(), `<patients/>`, 200, &receipt)
	c.ended(receipt.FlowID, fmt.Sprintf("auditId=%d", receipt.AuditID))
	var again exampleReceipt
	c.document("POST", fmt.Sprintf("/rest/v1/runs/%d/replay", receipt.AuditID), c.fresh(), "", 200, &again)
	if e := c.ended(again.FlowID, fmt.Sprintf("auditId=%d", again.AuditID)); e.ParentAuditID != receipt.AuditID || e.Status != "success" {
		t.Errorf("the execution of a replay: %+v", e)
	}
	// API keys: with an expiry date or without, shown once.
	root := caller{t, c.base, "root"}
	if response, text := root.send("PUT", "/rest/v1/users/press", root.issue(), `{"role": "api", "password": "another password", "listeners": ["quote"]}`); response.StatusCode != 201 {
		t.Fatalf("make a user: %s %s", response.Status, text)
	}
	var made struct{ Key, Expires string }
	root.document("POST", "/rest/v1/users/press/keys", root.issue(), `{"name": "until", "expires": "2999-01-31T00:00:00Z"}`, 201, &made)
	for _, path := range []string{"/rest/v1/users/press/keys", "/rest/v1/users/press", "/rest/v1/users"} {
		if response, text := root.send("GET", path, root.issue(), ""); response.StatusCode != 200 || strings.Contains(text, made.Key) {
			t.Errorf("%s shows the key again: %s %s", path, response.Status, text)
		}
	}
	if response, text := root.send("POST", "/rest/v1/users/press/keys", root.issue(), `{"name": "past", "expires": "2001-01-31T00:00:00Z"}`); response.StatusCode != 422 && response.StatusCode != 400 {
		t.Errorf("a key that has expired: %s %s", response.Status, text)
	}
	quote := "/rest/v1/httplistener/quote"
	if response, text := c.send("POST", quote, "Bearer "+made.Key, `{"sku": "X"}`); response.StatusCode != 200 {
		t.Errorf("a call under a key: %s %s", response.Status, text)
	}
	if response, _ := c.send("POST", quote+"?Authorization="+url.QueryEscape("Bearer "+made.Key), "", `{"sku": "X"}`); response.StatusCode != 401 {
		t.Errorf("a key in the query of a listener that takes none there: %s", response.Status)
	}
	if response, _ := c.send("POST", quote, "Basic "+base64.StdEncoding.EncodeToString([]byte("second:a long password")), `{"sku": "X"}`); response.StatusCode != 401 {
		t.Errorf("a password for a listener that takes none: %s", response.Status)
	}
	if response, _ := c.send("POST", "/rest/v1/token-auth/refresh", "Bearer "+made.Key, ""); response.StatusCode != 401 && response.StatusCode != 403 {
		t.Errorf("a token for a key: %s", response.Status)
	}
}

// compact returns JSON without the space between its parts, anything else as it is.
func compact(text string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return text
	}
	return b.String()
}

// only returns the text of the one file in the folder out that fits the pattern.
func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "out", pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %s: %v", pattern, files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGenerations lets a client of each generation drive the same server at the same time, through nothing but HTTP.
func TestGenerations(t *testing.T) {
	t.Parallel()
	held := newHeldAPI(t)
	s := newVictim(t, fmt.Sprintf(generationsDefinitions, held.URL))
	s.start()
	t.Run("clients", func(t *testing.T) {
		t.Run("first", func(t *testing.T) {
			t.Parallel()
			first := &firstGeneration{caller{t, "http://" + s.address, "first"}}
			first.drive(s.dir)
			first.sentences(s.dir, held)
		})
		t.Run("second", func(t *testing.T) {
			t.Parallel()
			second := &secondGeneration{caller: caller{t, "http://" + s.address, "second"}}
			second.drive(s.dir)
			second.sentences()
		})
	})
	s.stop()
	if log := s.log.String(); strings.Contains(log, "a long password") || strings.Contains(log, "integrator_") {
		t.Errorf("the log has a secret: %s", log)
	}
}
