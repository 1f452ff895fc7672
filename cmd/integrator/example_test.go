package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/store/memstore"
)

// examplePeople is a second file of definitions: who else calls, and a listener that nobody reads.
const examplePeople = `
listeners: {unread: {path: /unread, format: json}}
users:
  ops:    {role: operator, password: "${secret.SHOP_PASSWORD}"}
  nobody: {role: api, password: "${secret.SHOP_PASSWORD}"}
`

// exampleOrders is a payload with a line to load, one that the filter leaves out, one without typed text, and one that is rejected.
const exampleOrders = `{"orders": [
	{"id": "A-1", "qty": 3, "price": 105.55, "customer": {"first": "Ada", "last": "Lovelace"}},
	{"id": "A-2", "qty": 0, "price": 1, "customer": {"first": "B", "last": "B"}},
	{"id": "A-3", "qty": 2, "price": 0.1, "customer": {"first": "Cyd", "last": "Ünï"}, "note": "fünf"},
	{"id": "A-4", "qty": 999999, "price": 1, "customer": {"first": "R", "last": "R"}}]}`

// TestExample drives the example of the definitions, testdata/example/integrator.yaml, as a stranger would: the command serves it, and everything else goes
// through HTTP, the files and the database.
func TestExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("testdata/example/integrator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := newVictimOf(t, map[string]string{"integrator.yaml": string(example), "flows/people.yaml": examplePeople})
	s.start()
	base := "http://" + s.address
	shop, ops, nobody := caller{t, base, "shop"}, caller{t, base, "ops"}, caller{t, base, "nobody"}
	const prefix, alias = "/plugins/schedules/rest/v1/httplistener", "/rest/v1/httplistener"
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "warehouse.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := func() []string {
		t.Helper()
		found, err := db.Query("select order_id || '|' || store || '|' || customer || '|' || total || '|' || note from orders order by store, order_id")
		if err != nil {
			t.Fatal(err)
		}
		defer found.Close()
		var all []string
		for found.Next() {
			var row string
			if err := found.Scan(&row); err != nil {
				t.Fatal(err)
			}
			all = append(all, row)
		}
		return all
	}
	step := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			shop.t, ops.t, nobody.t = t, t, t
			f(t)
		})
	}
	// push sends orders and waits until their run has ended in the status.
	push := func(path, body, status string) (receipt exampleReceipt, m exampleMessage) {
		t.Helper()
		shop.document("POST", path, shop.issue(), body, 200, &receipt)
		return receipt, shop.settled(receipt, status)
	}

	step("before anything is there", func(t *testing.T) {
		if response, text := shop.send("GET", prefix+"/shop/berlin/orders", shop.issue(), ""); response.StatusCode != 500 || strings.Contains(text, "select") || strings.Contains(text, "warehouse.db") {
			t.Errorf("a query of a table that is not there: %s %s", response.Status, text)
		}
	})
	var orders exampleReceipt
	step("orders", func(t *testing.T) {
		receipt, m := push(prefix+"/shop/berlin/orders", exampleOrders, "warning")
		orders = receipt
		if receipt.Status != "received" || receipt.AuditID == 0 || receipt.FlowID == 0 || receipt.Runs != nil {
			t.Errorf("the receipt: %+v", receipt)
		}
		if r := m.Runs[0]; m.Listener != "orders" || m.User != "shop" || m.Bytes != len(exampleOrders) || r.FlowName != "load-orders" || r.Read != 4 || r.Rejected != 1 || r.Attempts != 1 || r.Exception != "" {
			t.Errorf("the message: %+v", m)
		}
		if got, want := rows(), []string{"A-1|berlin|Lovelace, Ada|316.65|", "A-3|berlin|Ünï, Cyd|0.2|fünf"}; !slices.Equal(got, want) {
			t.Errorf("the table: %q, want %q", got, want)
		}
		if got, want := only(t, s.dir, "orders-*.csv"), "order_id,store,customer,total,note\nA-1,berlin,\"Lovelace, Ada\",316.65,\"\"\nA-3,berlin,\"Ünï, Cyd\",0.2,fünf\n"; got != want {
			t.Errorf("the file: %q, want %q", got, want)
		}
		if files, _ := filepath.Glob(filepath.Join(s.dir, "out", "orders-*.csv")); !regexp.MustCompile(`orders-[0-9a-f-]{36}\.csv$`).MatchString(files[0]) {
			t.Errorf("the file's name: %v", files)
		}
	})
	step("what was rejected", func(t *testing.T) {
		var rejects []map[string]any
		ops.document("GET", fmt.Sprintf("/rest/v1/runs/%d/rejects?format=json", orders.AuditID), ops.issue(), "", 200, &rejects)
		if len(rejects) != 1 || rejects[0]["_step"] != "step 3 (reject)" || rejects[0]["_reason"] != "needs a person" || rejects[0]["id"] != "A-4" || rejects[0]["qty"] != 999999.0 {
			t.Errorf("the rejects have not the source's fields, or no reason: %v", rejects)
		}
	})
	step("orders again", func(t *testing.T) {
		push(alias+"/shop/berlin/orders/", `{"orders": [{"id": "A-1", "qty": 1, "price": 7.00, "customer": {"first": "Ada", "last": "King"}, "note": null}, {"id": "A-9"}]}`, "success")
		push(prefix+"/shop/k%C3%B6ln%20s%C3%BCd/orders", `{"orders": {"id": "K-1", "qty": 1, "price": 12345678901234567890.5, "customer": {"last": "One"}}}`, "warning")
		if got, want := rows(), []string{"A-1|berlin|King, Ada|7|", "A-3|berlin|Ünï, Cyd|0.2|fünf"}; !slices.Equal(got, want) {
			t.Errorf("the table, upserted: %q, want %q", got, want)
		}
		push(prefix+"/shop/k%C3%B6ln%20s%C3%BCd/orders", `{"orders": {"id": "K-1", "qty": 1, "price": 2, "customer": {"first": "Only", "last": "One"}}}`, "success")
		push(prefix+"/shop/berlin/orders", `{}`, "success")
	})
	step("more rejects than 100", func(t *testing.T) {
		var lines []string
		for n := range 102 {
			lines = append(lines, fmt.Sprintf(`{"id": "R-%d", "qty": %d, "price": 1, "customer": {"first": "R", "last": "R"}}`, n, 1+min(n, 1)*1000000))
		}
		files := len(glob(t, s.dir, "orders-*.csv"))
		before := rows()
		_, m := push(prefix+"/shop/berlin/orders", `{"orders": [`+strings.Join(lines, ",")+`]}`, "error")
		if r := m.Runs[0]; r.Written != 0 || !strings.Contains(r.Exception, `flow "load-orders"`) || !strings.Contains(r.Exception, "more than 100") {
			t.Errorf("the run: %+v", r)
		}
		if after := rows(); !slices.Equal(before, after) || len(glob(t, s.dir, "orders-*.csv")) != files {
			t.Errorf("something of it was written: %q", after)
		}
		push(prefix+"/shop/berlin/orders", `{"orders": [`+strings.Join(lines[1:101], ",")+`]}`, "warning") // 100 are borne
	})
	step("pull", func(t *testing.T) {
		for path, want := range map[string]string{
			prefix + "/shop/berlin/orders":                `[{"order_id":"A-1","total":7},{"order_id":"A-3","total":0.2}]`,
			alias + "/shop/k%C3%B6ln%20s%C3%BCd/orders":   `[{"order_id":"K-1","total":2}]`,
			prefix + "/shop/nowhere/orders":               `[]`,
			prefix + "/shop/x'%20or%20'1'='1/orders":      `[]`, // a bind, never text of the query
			prefix + "/shop/nowhere/orders?store=berlin":  `[]`, // a parameter of the path is never overridden
			prefix + "/shop/berlin/orders/?Authorization": `[{"order_id":"A-1","total":7},{"order_id":"A-3","total":0.2}]`,
		} {
			response, text := shop.send("GET", path, shop.issue(), "")
			if response.StatusCode != 200 || compact(text) != want || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s %s, want %s", path, response.Status, text, want)
			}
		}
	})
	step("quote", func(t *testing.T) {
		for body, want := range map[string]string{
			`{"sku": "X", "qty": 12}`:               `{"sku":"X","price":9.5,"currency":"EUR"}`,
			`{"qty": 10, "other": 1}`:               `{"sku":null,"price":9.5,"currency":"EUR"}`,
			`{"sku": 12345678901234567890.1}`:       `{"sku":12345678901234567890.1,"price":10,"currency":"EUR"}`,
			`{"sku": {"a": [1]}, "qty": null}`:      `{"sku":{"a":[1]},"price":10,"currency":"EUR"}`,
			"\ufeff" + `{"sku": "ü\u00fc","qty":9}`: `{"sku":"üü","price":10,"currency":"EUR"}`,
		} {
			response, text := shop.send("POST", prefix+"/quote", shop.issue(), body)
			if response.StatusCode != 200 || compact(text) != want || response.Header.Get("X-Quote") != "1" || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s %s, want %s", body, response.Status, text, want)
			}
		}
	})
	step("patients", func(t *testing.T) {
		var receipt exampleReceipt
		ops.document("POST", prefix+"/hl7/patient", ops.issue(), `<?xml version="1.0"?><patients><other/><patient id='007'><name>Ann</name></patient><patient id='8'><name>Bo &amp; C</name><name>D</name></patient></patients>`, 200, &receipt)
		ops.settled(receipt, "success")
		if got, want := only(t, s.dir, "patients-*.ndjson"), `{"@id":"007","name":"Ann"}`+"\n"+`{"@id":"8","name":["Bo & C","D"]}`+"\n"; got != want {
			t.Errorf("the file: %s, want %s", got, want)
		}
	})
	step("refused", func(t *testing.T) {
		token := map[string]string{"shop": shop.issue(), "ops": ops.issue(), "nobody": nobody.issue()}
		tampered := token["shop"][:len(token["shop"])-4] + "AAAA"
		const order, quote, patient = prefix + "/shop/berlin/orders", prefix + "/quote", prefix + "/hl7/patient"
		for _, c := range []struct {
			name, method, path, proof, body string
			status                          int
			header, holds                   string
		}{
			{"no token", "POST", quote, "", `{}`, 401, "WWW-Authenticate: Bearer", ""},
			{"no token, alias", "POST", alias + "/quote", "", `{}`, 401, "WWW-Authenticate: Bearer", ""},
			{"no token, no listener", "GET", prefix + "/none", "", "", 401, "WWW-Authenticate: Bearer", ""},
			{"tampered token", "POST", quote, tampered, `{}`, 401, "WWW-Authenticate: Bearer", ""},
			{"no scheme", "POST", quote, strings.TrimPrefix(token["shop"], "Bearer "), `{}`, 401, "", ""},
			{"a password where none is taken", "POST", quote, "Basic c2hvcDphIGxvbmcgcGFzc3dvcmQ=", `{}`, 401, "", ""},
			{"a token in the query where none is taken", "POST", quote + "?Authorization=" + url.QueryEscape(token["shop"]), "", `{}`, 401, "", ""},
			{"no grant at all", "POST", quote, token["nobody"], `{}`, 403, "", ""},
			{"not that grant", "POST", patient, token["shop"], `<patients/>`, 403, "", ""},
			{"no such listener", "POST", prefix + "/none", token["shop"], `{}`, 404, "", ""},
			{"the prefix alone", "POST", prefix, token["shop"], `{}`, 404, "", ""},
			{"one segment too many", "POST", prefix + "/shop/a/b/orders", token["shop"], `{}`, 404, "", ""},
			{"one too few", "POST", prefix + "/shop/orders", token["shop"], `{}`, 404, "", ""},
			{"an empty parameter", "POST", prefix + "/shop//orders", token["shop"], `{}`, 404, "", ""},
			{"another case", "POST", prefix + "/Quote", token["shop"], `{}`, 404, "", ""},
			{"nobody reads it", "POST", prefix + "/unread", token["ops"], `{}`, 404, "", ""},
			{"another method", "PUT", quote, token["shop"], `{}`, 405, "Allow: POST", ""},
			{"another method of two listeners", "DELETE", order, token["shop"], ``, 405, "Allow: GET", ""},
			{"JSON cut off", "POST", quote, token["shop"], `{"sku": `, 400, "Content-Type: application/problem+json", `"line":1,"column":9`},
			{"JSON too long", "POST", quote, token["shop"], `{"sku": 1}}`, 400, "", `"column":11`},
			{"no JSON at all", "POST", quote, token["shop"], ``, 400, "", ""},
			{"no UTF-8", "POST", quote, token["shop"], "{\"sku\": \"\xff\"}", 400, "", `"line":1`},
			{"a key twice", "POST", quote, token["shop"], `{"sku": 1, "sku": 2}`, 400, "", `"line":1`},
			{"JSON cut off, stored later", "POST", order, token["shop"], "{\n\"orders\": [1, 2}", 400, "", `"line":2`},
			{"XML that does not match", "POST", patient, token["ops"], `<patients><patient></patients>`, 400, "", `"line":1`},
			{"XML with entities", "POST", patient, token["ops"], `<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><patients><patient>&e;</patient></patients>`, 400, "", ""},
			{"text for a number", "POST", quote, token["shop"], `{"sku": "X", "qty": "many"}`, 422, "", `"rejects":[{"record":1`},
			{"dry run", "POST", quote + "?dry_run=true", token["shop"], `{}`, 400, "", ""},
			{"a message that is not", "GET", "/rest/v1/messages/01a212c2-2392-75e8-94bd-c80ddd6b62a6", token["shop"], "", 404, "", ""},
			{"a message of somebody else", "GET", "/rest/v1/messages/" + orders.MessageUUID, token["nobody"], "", 404, "", ""},
			{"history", "GET", "/rest/v1/users", token["shop"], "", 403, "", ""},
		} {
			response, text := shop.send(c.method, c.path, c.proof, c.body)
			name, value, _ := strings.Cut(c.header, ": ")
			if response.StatusCode != c.status || !strings.HasPrefix(response.Header.Get(name), value) || !strings.Contains(text, c.holds) {
				t.Errorf("%s: %s, %s %q: %s, want %d, %s, %s", c.name, response.Status, name, response.Header.Values(name), text, c.status, c.header, c.holds)
			}
			if c.status >= 400 && response.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: no problem document: %s", c.name, text)
			}
		}
		if got := rows(); len(got) != 3 {
			t.Errorf("something refused was loaded: %q", got)
		}
	})
	step("larger than 64 MiB", func(t *testing.T) {
		for _, length := range []int64{64<<20 + 1, -1} {
			request, err := http.NewRequest("POST", base+prefix+"/shop/berlin/orders", &blanks{left: 64<<20 + 1})
			if err != nil {
				t.Fatal(err)
			}
			request.ContentLength = length
			request.Header.Set("Authorization", shop.issue())
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != 413 {
				t.Errorf("length %d: %s", length, response.Status)
			}
		}
	})
	step("tokens", func(t *testing.T) {
		var first string
		for _, body := range []string{`{"login": "shop", "password": "wrong"}`, `{"login": "who", "password": "a long password"}`} {
			response, text := shop.send("POST", "/rest/v1/token-auth/issue", "", body)
			text = errorID.ReplaceAllString(text, "")
			if first == "" {
				first = text
			}
			if response.StatusCode != 401 || text != first {
				t.Errorf("%s: %s %s, want the same as %s", body, response.Status, text, first)
			}
		}
		for _, body := range []string{``, `{not json`, `[]`, `"shop"`, `{"login": "shop"}`, `{"login": 1, "password": "a long password"}`, `{"login": "shop", "password": null}`} {
			if response, text := shop.send("POST", "/rest/v1/token-auth/issue", "", body); response.StatusCode != 400 {
				t.Errorf("%s: %s %s", body, response.Status, text)
			}
		}
		if response, _ := shop.send("POST", "/rest/v1/token-auth/issue", "", `{"login": "shop", "password": "`+strings.Repeat("x", 8<<10)+`"}`); response.StatusCode != 413 {
			t.Errorf("more than 8 KiB: %s", response.Status)
		}
		if response, _ := shop.send("GET", "/rest/v1/token-auth/issue", "", ""); response.StatusCode != 405 {
			t.Errorf("GET: %s", response.Status)
		}
	})
	step("run by name", func(t *testing.T) {
		const run = "/plugins/flows/rest/v1/flow-name/nightly-export/run"
		first := &firstGeneration{caller: ops}
		day := time.Now().UTC().Format("2006-01-02") // of the run's start: one of two, at midnight
		if status, exception := first.run("nightly-export", "", 200); status != 0 || exception != "" {
			t.Fatalf("%d %q", status, exception)
		}
		const want = `<?xml version="1.0" encoding="UTF-8"?>
<orders>
<order><order_id>A-1</order_id><store>berlin</store><customer>King, Ada</customer><total>7</total><note></note></order>
<order><order_id>A-3</order_id><store>berlin</store><customer>Ünï, Cyd</customer><total>0.2</total><note>fünf</note></order>
<order><order_id>K-1</order_id><store>köln süd</store><customer>One, Only</customer><total>2</total><note></note></order>
</orders>
`
		if got := only(t, s.dir, "export-*.xml"); got != want {
			t.Errorf("the export: %s", got)
		}
		if names := glob(t, s.dir, "export-*.xml"); !strings.HasSuffix(names[0], "export-"+day+".xml") && !strings.HasSuffix(names[0], "export-"+time.Now().UTC().Format("2006-01-02")+".xml") {
			t.Errorf("the export is %s on %s", names[0], day)
		}
		for _, c := range []struct {
			flow, body, proof string
			http              int
			holds             string
		}{
			{"nightly-export", "", "", 401, ""},
			{"nightly-export", "", shop.issue(), 403, ""}, // flows: []
			{"no such", "", ops.issue(), 404, `flow "no such" is not defined`},
			{"load-orders", "", ops.issue(), 200, `"orders": send payloads to ` + prefix + "/shop/{store}/orders"},
			{"load-patients", "", ops.issue(), 200, prefix + "/hl7/patient"},
			{"orders-of-a-store", "", ops.issue(), 400, `"store" is required, as in the path of listener "order-list"`},
			{"nightly-export", `[]`, ops.issue(), 400, ""},
			{"nightly-export", `{"a": {"b": 1}}`, ops.issue(), 400, ""},
		} {
			var answer firstRun
			shop.document("POST", "/plugins/flows/rest/v1/flow-name/"+url.PathEscape(c.flow)+"/run", c.proof, c.body, c.http, &answer)
			if answer.Status == nil || *answer.Status != 1 || answer.Exception == nil || *answer.Exception == "" || !strings.Contains(*answer.Exception, c.holds) {
				t.Errorf("%s %s: %v %v, want %s", c.flow, c.body, answer.Status, answer.Exception, c.holds)
			}
		}
		if response, text := ops.send("GET", run, ops.issue(), ""); response.StatusCode != 405 || response.Header.Get("Allow") != "POST" || !strings.HasPrefix(text, `{"status":1,"exception":"`) {
			t.Errorf("GET: %s %s", response.Status, text)
		}
		if status, exception := first.run("orders-of-a-store", `{"store": "berlin", "more": 1}`, 200); status != 0 || exception != "" { // what the listener's path gives otherwise
			t.Errorf("a flow that a listener starts: %d %q", status, exception)
		}
		if status, exception := first.run("nightly-export", `{"unused": 1}`, 200); status != 0 || exception != "" { // it declares no parameters
			t.Errorf("with a parameter: %d %q", status, exception)
		}
	})
	step("second generation", func(t *testing.T) {
		second := &secondGeneration{caller: ops}
		var run secondRun
		second.document("POST", "/rest/v1/flows/flow-name/nightly-export/run", second.fresh(), "", 200, &run)
		if e := second.ended(run.FlowID, fmt.Sprintf("auditId=%d", run.AuditID)); run.Status != 0 || e.Status != "success" || e.Records != 3 {
			t.Errorf("%+v %+v", run, e)
		}
		if e := second.ended(orders.FlowID, "messageId="+orders.MessageUUID); e.Status != "warning" || e.Records != 4 || e.AuditID != orders.AuditID {
			t.Errorf("the orders: %+v", e)
		}
	})
	s.stop()
	if log := s.log.String(); strings.Contains(log, "a long password") || strings.Contains(log, `"sku"`) {
		t.Errorf("the log has what it must not have: %s", log)
	}
}

// exampleReceipt is what an asynchronous listener answers.
type exampleReceipt struct {
	MessageUUID     string
	AuditID, FlowID int64
	Status          string
	Runs            []json.RawMessage
}

// exampleMessage is what became of a payload.
type exampleMessage struct {
	Listener, User, Status string
	Bytes                  int
	Runs                   []struct {
		FlowName, Status, Exception       string
		Attempts, Read, Written, Rejected int
	}
}

// settled waits until the runs of a payload have ended.
func (c *caller) settled(receipt exampleReceipt, status string) (m exampleMessage) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for m.Status = "received"; m.Status == "received"; {
		if ctx.Err() != nil {
			c.t.Fatalf("message %s has not settled", receipt.MessageUUID)
		}
		c.document("GET", "/rest/v1/messages/"+receipt.MessageUUID, c.issue(), "", 200, &m)
	}
	if m.Status != status || len(m.Runs) != 1 || m.Runs[0].Status != status {
		c.t.Errorf("the message is in %s, want %s: %+v", m.Status, status, m.Runs)
	}
	return m
}

// blanks are as many of them as are left.
type blanks struct{ left int }

func (b *blanks) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	for i := range p[:n] {
		p[i] = ' '
	}
	b.left -= n
	return n, nil
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "out", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestExampleAtTwo lets the night pass in which the example exports its orders: at two o'clock in Berlin, once.
func TestExampleAtTwo(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("testdata/example/integrator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // it is midnight in London
		dir := t.TempDir()
		engine, err := integrator.New(integrator.Config{Store: memstore.New(), BaseDir: dir, Definitions: fstest.MapFS{"integrator.yaml": {Data: example}},
			Drivers: []sqldb.Driver{sqlite.Driver()}, Secrets: func(string) (string, bool) { return "a long password", true }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- engine.Run(context.Background()) }()
		<-engine.Ready()
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db"))
		if err == nil {
			_, err = db.Exec("create table orders (order_id text primary key, total numeric); insert into orders values ('N-1', 1.5)")
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "out", "export-2000-01-01.xml")
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it was exported before two: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), "<order><order_id>N-1</order_id><total>1.5</total></order>") {
			t.Errorf("at two: %s, %v", text, err)
		}
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
		time.Sleep(22 * time.Hour)
		synctest.Wait()
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it was exported twice in a night: %v", err)
		}
		engine.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestReadme does what the README's examples say, in one engine: it loads a file with several values in a cell, twice, and makes definitions over HTTP.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	definitions := fstest.MapFS{"editor.yaml": {Data: []byte("users: {ed: {role: editor, password: a long password}}")}}
	for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		definitions[fmt.Sprintf("%d.yaml", i)] = &fstest.MapFile{Data: []byte(block[1])}
	}
	dir := t.TempDir()
	engine, err := integrator.New(integrator.Config{Dir: filepath.Join(dir, "data"), BaseDir: dir, Definitions: definitions, Drivers: []sqldb.Driver{sqlite.Driver()},
		Secrets: func(string) (string, bool) { return "a long password", true }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(context.Background()) }()
	<-engine.Ready()
	defer func() {
		engine.Close()
		if err := <-done; err != nil {
			t.Errorf("the engine ended with %v", err)
		}
	}()

	for _, upload := range []string{"sku;tags\na;red|round\nb;blue\n", "sku,tags\na,red|flat\n"} {
		if result, err := engine.RunPayload(t.Context(), "stock", nil, strings.NewReader(upload)); err != nil || result.Err != nil {
			t.Fatalf("%v %+v", err, result)
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tags string
	if err := db.QueryRow("select group_concat(sku || ' ' || tag, ', ' order by sku, tag) from tags").Scan(&tags); err != nil || tags != "a flat, a red, b blue" {
		t.Errorf("the tags are %q: %v", tags, err)
	}

	server := httptest.NewServer(engine.Handler())
	defer server.Close()
	ed := caller{t, server.URL, "ed"}
	puts := regexp.MustCompile(`curl -X PUT .* 127\.0\.0\.1:8080(/\S+) --data-binary '(.*)'`).FindAllStringSubmatch(string(readme), -1)
	for _, put := range puts {
		if response, text := ed.send("PUT", put[1], ed.issue(), put[2]); response.StatusCode != 201 {
			t.Errorf("%s: %s %s", put[0], response.Status, text)
		}
	}
	if response, text := ed.send("POST", "/rest/v1/httplistener/greet", ed.issue(), `{"name": "Ada"}`); len(puts) != 2 || response.StatusCode != 200 || compact(text) != `{"hello":"Ada"}` {
		t.Errorf("what was made over HTTP answers %s %s", response.Status, text)
	}
}
