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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/store/memstore"
)

// The tests of this file are named after the rules of the definitions' language; each row is a sentence of its rule.

// rule is one case: a synchronous listener with a flow of its own, and what a payload comes to.
type rule struct {
	name     string
	listener string // keys of the listener beside path and mode; "" is format: json
	from     string // keys of the flow's source beside the listener
	flow     string // the flow's other keys; "respond: {}" unless it has to or respond
	path     string // what follows the listener's path, with the query
	header   string
	body     string
	want     string // the answer without the space between its parts, or what it holds for a status of a fault
	status   int    // 0 is 200
	file     string // a file below the folder out, and
	holds    string // its text
}

// rules is an engine over the cases.
type rules struct {
	dir, base, token string
}

// play makes one set of the cases and more definitions, and plays each.
func play(t *testing.T, more string, cases []rule) *rules {
	t.Helper()
	var listeners, flows strings.Builder
	for i, c := range cases {
		keys, flow, method := c.listener, c.flow, "POST"
		if keys == "" {
			keys = "format: json"
		}
		if !strings.Contains(flow, "to:") && !strings.Contains(flow, "respond:") {
			flow += "\n    respond: {}"
		}
		if c.body == "" && !strings.Contains(keys, "format") {
			method = "GET"
		}
		fmt.Fprintf(&listeners, "  r%d: {path: \"/r%d/{p...}\", method: %s, mode: sync, %s}\n", i, i, method, keys)
		from := fmt.Sprintf("from: {listener: r%d%s}", i, c.from)
		if strings.Contains(c.from, "connection:") {
			from = fmt.Sprintf("listener: r%d\n    from: {%s}", i, strings.TrimPrefix(c.from, ", "))
		}
		fmt.Fprintf(&flows, "  f%d:\n    %s\n    %s\n", i, from, flow)
	}
	set := "connections:\n  out: {type: file, dir: out}\n  db: {type: sql, driver: sqlite, path: db.sqlite}\nlisteners:\n" + listeners.String() + "flows:\n" + flows.String() + "users: {ops: {role: operator, password: password-ops}}\n"
	r := serveRules(t, map[string]string{"cases.yaml": set, "more.yaml": more})
	for i, c := range cases {
		path := c.path
		if path == "" {
			path = "/x"
		}
		method := "POST"
		if c.body == "" && c.listener != "" && !strings.Contains(c.listener, "format") {
			method = "GET"
		}
		status, body := r.call(t, method, fmt.Sprintf("/rest/v1/httplistener/r%d%s", i, path), c.body, c.header)
		if want := max(c.status, 200); status != want || want < 400 && compact(body) != c.want || !strings.Contains(body, c.want) && compact(body) != c.want {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, body, want, c.want)
		}
		if c.file != "" {
			if text, err := os.ReadFile(filepath.Join(r.dir, "out", c.file)); err != nil || string(text) != c.holds {
				t.Errorf("%s: the file has %q (%v), want %q", c.name, text, err, c.holds)
			}
		}
	}
	return r
}

// serveRules runs an engine over files of definitions until the test ends.
func serveRules(t *testing.T, files map[string]string) *rules {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	r := &rules{dir: t.TempDir()}
	engine, err := integrator.New(integrator.Config{Store: memstore.New(), BaseDir: r.dir, Definitions: fsys, Drivers: []sqldb.Driver{sqlite.Driver()}, Logger: slog.New(slog.DiscardHandler), Auth: auth.Options{TokenLife: time.Hour},
		Env: func(name string) (string, bool) { return "value of " + name, name != "NONE" }, Secrets: func(string) (string, bool) { return "a long password", true }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(context.Background()) }()
	<-engine.Ready()
	server := httptest.NewServer(engine.Handler())
	r.base = server.URL
	t.Cleanup(func() {
		server.Close()
		engine.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	users, err := engine.Auth()
	if err != nil {
		t.Fatal(err)
	}
	if r.token, _, err = users.Issue(t.Context(), "ops", "password-ops", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rules) call(t *testing.T, method, path, body, header string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	if name, value, ok := strings.Cut(header, ": "); ok {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSuffix(string(text), "\n")
}

// refused compiles a set that cannot be and returns its faults.
func refused(t *testing.T, set string) string {
	t.Helper()
	_, err := integrator.New(integrator.Config{Dir: t.TempDir(), Definitions: fstest.MapFS{"set.yaml": {Data: []byte(set)}}, Drivers: []sqldb.Driver{sqlite.Driver()}})
	var faults integrator.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("%v, want faults of\n%s", err, set)
	}
	return faults.Error()
}

const xmlPatients = `format: {type: xml, records: /patients/patient}`

func TestRuleRecords(t *testing.T) {
	t.Parallel()
	const orders = `{"shop": "b", "groups": [{"g": 1, "lines": [{"n": 1}, {"n": 2}]}, {"g": 2, "lines": {"n": 3}}, {"g": 3}]}`
	play(t, "", []rule{
		{name: "without records the document is the record", flow: `steps: [{map: {a: shop, n: "= len(groups)"}}]`, body: orders, want: `{"a":"b","n":3}`},
		{name: "records are picked", from: `, records: "groups[*]"`, flow: `steps: [{map: {g: g}}]`, body: orders, want: `[{"g":1},{"g":2},{"g":3}]`},
		{name: "this, parent, doc and index", from: `, records: "groups[*].lines[*]"`, flow: `steps: [{map: {this: this, parent: parent.g, doc: doc.shop, index: index}}]`, body: orders,
			want: `[{"this":{"n":1},"parent":1,"doc":"b","index":0},{"this":{"n":2},"parent":1,"doc":"b","index":1},{"this":{"n":3},"parent":2,"doc":"b","index":2}]`},
		{name: "doc is without the record list", from: `, records: "groups[*]"`, flow: `steps: [{map: {doc: doc}}]`, body: `{"a": 1, "groups": [{"g": 1}], "z": 2}`, want: `[{"doc":{"a":1,"z":2}}]`},
		{name: "a document that is a list", from: `, records: "[*]"`, flow: `steps: [{map: {a: a}}]`, body: `[{"a": 1}, {"a": 2}]`, want: `[{"a":1},{"a":2}]`},
		{name: "one is as many", from: `, records: "groups[*]"`, flow: `steps: [{map: {g: g}}]`, body: `{"groups": {"g": 7}}`, want: `[{"g":7}]`},
		{name: "attributes, text beside children, repeated elements", listener: xmlPatients, body: `<patients><patient id="1" x:type="t" xmlns:x="u">a<n>1</n><n>2</n>b</patient></patients>`, want: `[{"@id":"1","@x:type":"t","n":["1","2"],"#text":"ab"}]`},
		{name: "paths of attributes and text", listener: xmlPatients, flow: `steps: [{map: {id: "@id", t: "n.#text", a: "n.@a"}}]`, body: `<patients><patient id="1"><n a="2">x<y/></n></patient></patients>`, want: `[{"id":"1","t":"x","a":"2"}]`},
		{name: "[*] over nothing, one and many", listener: xmlPatients, flow: `steps: [{map: {n: "n[*]", first: "n[0]", count: "= len(list(n))"}}]`, body: `<patients><patient/><patient><n>1</n></patient><patient><n>1</n><n>2</n></patient></patients>`,
			want: `[{"n":[],"first":null,"count":0},{"n":["1"],"first":"1","count":1},{"n":["1","2"],"first":"1","count":2}]`},
		{name: "a name of lists", listener: `format: {type: xml, records: /patients/patient, lists: [n]}`, body: `<patients><patient><n>1</n></patient></patients>`, want: `[{"n":["1"]}]`},
		{name: "each makes a list of one", listener: xmlPatients, flow: `steps: [{map: {n: {each: "n[*]", map: {v: this}}}}]`, body: `<patients><patient><n>1</n></patient></patients>`, want: `[{"n":[{"v":"1"}]}]`},
	})
}

func TestRuleTypes(t *testing.T) {
	t.Parallel()
	const csv = "format: csv"
	play(t, "formats: {typed: {type: csv, delimiter: \";\", columns: {qty: int, day: date dd.MM.yyyy, cost: decimal, ok: bool}}}\n", []rule{
		{name: "what reads as a number counts as one", listener: csv, flow: `steps: [{map: {a: "= a * 2", b: "= a - 1", c: "= a / 4", d: "= a % 3", e: "= a < 10", f: "= a >= 9", g: "= a == 9", h: "= a == '9'"}}]`, body: "a\n9\n", want: `[{"a":18,"b":8,"c":2.25,"d":0,"e":true,"f":true,"g":true,"h":true}]`},
		{name: "numbers are compared as numbers", listener: csv, flow: `steps: [{map: {a: "= a < b", b: "= a == 1", c: "= number(a) + number(b)", d: "= concat(a, b)"}}]`, body: "a,b\n1.0,10\n", want: `[{"a":true,"b":true,"c":11,"d":"1.010"}]`},
		{name: "text stays text", listener: csv, body: "a,b\n007,1e5\n", want: `[{"a":"007","b":"1e5"}]`},
		{name: "+ adds numbers and joins text", flow: `steps: [{map: {a: "= a + 1", b: "= b + 'x'"}}]`, body: `{"a": 1.5, "b": "b"}`, want: `{"a":2.5,"b":"bx"}`},
		{name: "columns give types", listener: "format: typed", body: "qty;day;cost;ok;note\n5;31.12.2026;1.50;true;x\n", want: `[{"qty":5,"day":"2026-12-31","cost":1.50,"ok":true,"note":"x"}]`},
		{name: "what is not of its type is rejected", listener: "format: typed", flow: "on_reject: keep", body: "qty;day;cost;ok\n1.5;31.12.2026;1;true\n2;31.02.2026;1;true\n3;01.02.2026;x;true\n4;01.02.2026;1;1x\n4;01.02.2026;1;false\n", want: `[{"qty":4,"day":"2026-02-01","cost":1,"ok":false}]`},
		{name: "an empty cell is null, a quoted one is not", listener: csv, body: "a,b\n,\"\"\n", want: `[{"a":null,"b":""}]`},
		{name: "through null is null", flow: `steps: [{map: {a: a.b.c, b: "a.b[0].c", c: "= a?.b", d: "= a.b.c ?? 'x'"}}]`, body: `{"a": null}`, want: `{"a":null,"b":null,"c":null,"d":"x"}`},
		{name: "arithmetic with null is null", flow: `steps: [{map: {a: "= a + 1", b: "= a * 2", c: "= -a", d: "= 'x' + a"}}]`, body: `{}`, want: `{"a":null,"b":null,"c":null,"d":null}`},
		{name: "a comparison with null is false", flow: `steps: [{map: {a: "= a < 1", b: "= a >= 1", c: "= 1 > a", d: "= a == nil", e: "= a != nil"}}]`, body: `{}`, want: `{"a":false,"b":false,"c":false,"d":true,"e":false}`},
		{name: "a null condition is false", from: `, records: "[*]"`, flow: "steps: [{filter: a}, {reject: {when: b}}]", body: `[{"a": true}, {"a": null}, {}]`, want: `[{"a":true}]`},
		{name: "a condition may begin with =", from: `, records: "[*]"`, flow: `steps: [{filter: "= a > 1"}, {reject: {when: "=a == 3"}}]` + "\n    on_reject: keep", body: `[{"a": 1}, {"a": 2}, {"a": 3}]`, want: `[{"a":2}]`},
		{name: "a condition that is none rejects the record", flow: `steps: [{filter: "a"}]`, body: `{"a": "yes"}`, want: `"step":"step 1 (filter)"`, status: 422},
		{name: "what does not fit rejects the record", flow: `steps: [{map: {a: "= a * 2"}}]`, body: `{"a": "two"}`, want: `"field":"a"`, status: 422},
		{name: "digits survive", flow: `steps: [{map: {a: a, b: "= b * 3", c: c, d: "= d + 1"}}]`, body: `{"a": 1.10, "b": 105.55, "c": 12345678901234567890.123, "d": 123456789012345678901234}`, want: `{"a":1.10,"b":316.65,"c":12345678901234567890.123,"d":123456789012345678901235}`},
	})
	for _, plus := range []string{"a + b", "a + b + c", "1 < a + b", "upper(a + b)"} {
		if got := refused(t, fmt.Sprintf("listeners: {l: {path: /l, format: csv, mode: sync}}\nflows: {f: {from: {listener: l}, steps: [{map: {x: \"= %s\"}}], respond: {}}}\n", plus)); !strings.Contains(got, "write number(a) + number(b) or concat(a, b)") {
			t.Errorf("%s: %s", plus, got)
		}
	}
}

func TestRulePathOrExpressionOrText(t *testing.T) {
	t.Parallel()
	play(t, "", []rule{
		{name: "bare text is a path", flow: `steps: [{map: {a: b.c, b: "b[\"odd name\"]", c: "l[1]", d: "l[*]", e: "o[*].x"}}]`, body: `{"b": {"c": 1, "odd name": 2}, "l": [3, 4], "o": [{"x": 5}, {}, {"x": 6}]}`, want: `{"a":1,"b":2,"c":4,"d":[3,4],"e":[5,6]}`},
		{name: "= makes an expression", flow: `steps: [{map: {a: "= b.c + 1", b: "='x'", c: "=   b.c == 1"}}]`, body: `{"b": {"c": 1}}`, want: `{"a":2,"b":"x","c":true}`},
		{name: "a number, a boolean and null are constants", flow: `steps: [{map: {a: 1.50, b: true, c: null, d: -3, e: 12345678901234567890123, f: ~}}]`, body: `{}`, want: `{"a":1.50,"b":true,"c":null,"d":-3,"e":12345678901234567890123,"f":null}`},
		{name: "a quoted number is a path", flow: `steps: [{map: {a: "1"}}]`, body: `{"1": "one"}`, want: `{"a":"one"}`},
		{name: "elsewhere text is text", flow: `steps: [{reject: {when: "true", reason: a.b}}]`, body: `{"a": {"b": 1}}`, want: `"reason":"a.b"`, status: 422},
		{name: "GJSON on the source's own text", flow: `steps: [{map: {a: {gjson: "l.#(n>1).n"}, b: {gjson: l.#}}}]`, body: `{"l": [{"n": 1}, {"n": 2}]}`, want: `{"a":2,"b":2}`},
		{name: "XPath on the record's element", listener: xmlPatients, flow: `steps: [{map: {a: {xpath: "n[@k='2']"}, b: {xpath: "count(n)"}}}]`, body: `<patients><patient><n k="1">x</n><n k="2">y</n></patient></patients>`, want: `[{"a":"y","b":2}]`},
	})
}

func TestRuleNames(t *testing.T) {
	t.Parallel()
	play(t, "", []rule{
		{name: "the engine's names win", flow: `steps: [{map: {index: index, param: param.p, header: "= header['X-Test']", message: message.user, run: "= run.flow == 'f0'"}}]`, header: "X-Test: t",
			body: `{"index": 9, "param": {"p": 9}, "header": {"X-Test": 9}, "message": {"user": 9}, "run": {"flow": 9}}`, want: `{"index":0,"param":"x","header":"t","message":"ops","run":true}`},
		{name: "a field of such a name is this.name", flow: `steps: [{map: {a: this.header, b: this.run.flow, c: "this[\"index\"]", d: "= this.param + 1"}}]`, body: `{"header": 1, "run": {"flow": 2}, "index": 3, "param": 4}`, want: `{"a":1,"b":2,"c":3,"d":5}`},
		{name: "an odd name is this[…]", flow: `steps: [{map: {a: "this[\"Cost Total $\"]", b: "= this[\"Cost Total $\"] * 2", c: "[\"Cost Total $\"]"}}]`, body: `{"Cost Total $": 5}`, want: `{"a":5,"b":10,"c":5}`},
		{name: "a name is a function only before (", flow: `steps: [{map: {a: "= type + count + first", b: "= len(map) + filter", c: "= upper(upper)", d: now, e: "= date"}}]`, body: `{"type": 1, "count": 2, "first": 3, "map": [1], "filter": 1, "upper": "u", "now": 4, "date": 5}`, want: `{"a":6,"b":2,"c":"U","d":4,"e":5}`},
		{name: "header ignores case", flow: `steps: [{map: {a: "= header['x-tEST']", b: "header[\"X-TEST\"]", c: header.x-test, d: header.none}}]`, header: "X-Test: t", body: `{}`, want: `{"a":"t","b":"t","c":"t","d":null}`},
	})
}

func TestRuleMap(t *testing.T) {
	t.Parallel()
	play(t, "", []rule{
		{name: "no map: all fields pass", body: `{"z": 1, "a": {"b": [null, true]}}`, want: `{"z":1,"a":{"b":[null,true]}}`},
		{name: "a map lists the output exactly, in order", flow: "steps: [{map: {z: a, a: z}}]", body: `{"a": 1, "z": 2, "b": 3}`, want: `{"z":1,"a":2}`},
		{name: "the rest of the fields", flow: `steps: [{map: {id: a, "*": "*", total: "= b * 2", d: x.y}}]`, body: `{"a": 1, "b": 2, "c": 3, "d": 4, "x": {"y": 5, "z": 6}, "e": 7}`, want: `{"id":1,"c":3,"e":7,"total":4,"d":5}`},
		{name: "objects, lists and each", flow: `steps: [{map: {o: {a: a, b: {c: "= a + 1"}}, l: [a, 2, "= 'x'"], e: {each: "l[*]", map: {n: n, of: parent.a, i: index}}}}]`, body: `{"a": 1, "l": [{"n": 1}, {"n": 2}]}`, want: `{"o":{"a":1,"b":{"c":2}},"l":[1,2,"x"],"e":[{"n":1,"of":1,"i":0},{"n":2,"of":1,"i":1}]}`},
		{name: "rename: the new name is on the left", flow: "steps: [{rename: {id: nr, name: id}}]", body: `{"nr": 1, "id": "x", "z": 2}`, want: `{"id":1,"name":"x","z":2}`},
		{name: "set sees the record as it was", flow: `steps: [{set: {a: b, b: a, c: "= a + b"}}]`, body: `{"a": 1, "b": 2}`, want: `{"a":2,"b":1,"c":3}`},
		{name: "drop", flow: "steps: [{drop: [a, none]}, {drop: c}]", body: `{"a": 1, "b": 2, "c": 3}`, want: `{"b":2}`},
		{name: "a destination has fields of its own", flow: "to: {connection: out, path: own.csv, format: csv, map: {n: a}}\n    respond: {}", body: `{"a": 1, "b": 2}`, want: `{"a":1,"b":2}`, file: "own.csv", holds: "n\n1\n"},
	})
}

func TestRuleReferences(t *testing.T) {
	t.Parallel()
	file := func(path string) string {
		return `to: {connection: out, path: "` + path + `", format: ndjson}` + "\n    respond: {}"
	}
	play(t, "vars: {region: north, nested: \"${env.HOST}\"}\n", []rule{
		{name: "env, vars and defaults, when loaded", flow: `steps: [{map: {a: "= '${env.HOST}'", b: "= '${vars.region}'", c: "= '${env.NONE ?? 'none'}'", d: "= '${vars.nested}'"}}]`, body: `{}`, want: `{"a":"value of HOST","b":"north","c":"none","d":"value of HOST"}`},
		{name: "param, header and query, when a run starts", flow: file("${param.p}-${header.x-test}-${query.q}.json"), path: "/a%20b?q=ü", header: "X-Test: t", body: `{"a":1}`, want: `{"a":1}`, file: "a b-t-ü.json", holds: `{"a":1}` + "\n"},
		{name: "a literal ${", flow: file("$${x}$.json"), body: `{}`, want: `{}`, file: "${x}$.json", holds: "{}\n"},
		{name: "a value with /", flow: file("${param.p}.json"), path: "/a/b", body: `{}`, want: "it can be no part of a file's name", status: 422},
		{name: "a value with \\", flow: file("${header.x-test}.json"), header: `X-Test: a\b`, body: `{}`, want: "it can be no part of a file's name", status: 422},
		{name: "a value with ..", flow: file("${param.p}.json"), path: "/a..b", body: `{}`, want: "it can be no part of a file's name", status: 422},
		{name: "an empty value", flow: file("${header.x-none}.json"), body: `{}`, want: "it can be no part of a file's name", status: 422},
		{name: "a header of the answer", flow: `respond: {headers: {X-A: "${param.p}"}}`, body: `{}`, want: `{}`},
	})
	for _, layout := range []string{"${now}", "${now:}", "${now:YYYY}", "${now:hello}"} {
		if got := refused(t, "connections: {out: {type: file, dir: out}}\nflows: {f: {to: {connection: out, path: \"a"+layout+"\", format: json}}}\n"); !strings.Contains(got, "layout") {
			t.Errorf("%s: %s", layout, got)
		}
	}
}

func TestRuleParameters(t *testing.T) {
	t.Parallel()
	r := play(t, "flows: {typed: {params: {day: {type: date, required: true}, n: {type: int, default: 3, min: 1, max: 5}, mode: {enum: [full, delta]}}, to: {connection: out, path: \"typed-${param.day}.ndjson\", format: ndjson}}}\n", []rule{
		{name: "a parameter of the path is never overridden", flow: "steps: [{map: {p: param.p}}]", path: "/path?p=query", body: `{"p": "body"}`, want: `{"p":"path"}`},
		{name: "what is not declared is in query alone", flow: "steps: [{map: {b: query.q, c: \"= param\"}}]", path: "/x?q=1&q=2", body: `{}`, want: `{"b":"1","c":{"p":"x"}}`},
		{name: "Authorization, wait and dry_run are none", flow: "steps: [{map: {q: \"= query\"}}]", path: "/x?Authorization=a&authorization=b&wait=true&q=1", body: `{}`, want: `{"q":{"q":"1"}}`},
		{name: "nor are headers with proofs", flow: "steps: [{map: {a: header.authorization, c: header.cookie}}]", header: "Cookie: a=b", body: `{}`, want: `{"a":null,"c":null}`},
	})
	const run = "/plugins/flows/rest/v1/flow-name/typed/run"
	for _, c := range []struct{ body, want string }{
		{`{}`, `"day" is required`},
		{`{"day": null}`, `"day" is required`},
		{`{"day": "31.12.2026"}`, `"day" must be a date as 2026-01-31`},
		{`{"day": "2026-01-01", "n": 6, "mode": "x", "m": 1}`, `"m" is not declared (there are day, mode, n); "mode" must be one of full, delta; "n" must be at most 5`},
		{`{"day": "2026-01-01", "n": "2.5"}`, `"n" must be a whole number`},
	} {
		status, body := r.call(t, "POST", run, c.body, "")
		var answer struct {
			Status    int
			Exception string
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 400 || answer.Status != 1 || !strings.Contains(answer.Exception, c.want) {
			t.Errorf("%s: %d %s, want %s", c.body, status, body, c.want)
		}
	}
	if status, body := r.call(t, "POST", run+"?day=2026-02-01&n=1&wait=true", `{"n": 2}`, ""); status != 200 || !strings.Contains(body, `"status":0`) {
		t.Errorf("%d %s", status, body)
	}
	if text, err := os.ReadFile(filepath.Join(r.dir, "out", "typed-2026-02-01.ndjson")); err != nil || string(text) != `{"day":"2026-02-01","n":2}`+"\n" {
		t.Errorf("%s %v", text, err)
	}
}

// database makes tables in the database of the cases.
func database(t *testing.T, dir, statements string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db.sqlite")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	return db
}

// list returns the rows of a query, cells with | between them.
func list(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		cells, at := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range cells {
			at[i] = &cells[i]
		}
		if err := rows.Scan(at...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(cells))
		for i, c := range cells {
			if row[i] = c.String; !c.Valid {
				row[i] = "null"
			}
		}
		all = append(all, strings.Join(row, "|"))
	}
	return strings.Join(all, " ")
}

func TestRuleSQL(t *testing.T) {
	t.Parallel()
	const flows = `
listeners:
  orders:  {path: /orders, format: json, mode: sync}
  list:    {path: "/list/{min}", method: GET, mode: sync}
  bound:   {path: "/bound/{min}", method: GET, mode: sync}
  quoted:  {path: "/quoted/{min}", method: GET, mode: sync}
  twice:   {path: /twice, format: json, mode: sync}
  replace: {path: /replace, format: json, mode: sync}
  delete:  {path: /delete, format: json, mode: sync}
  update:  {path: /update, format: json, mode: sync}
connections: {db: {type: sql, driver: sqlite, path: db.sqlite}}
flows:
  orders:
    from: {listener: orders}
    to:
      - {connection: db, table: orders, action: upsert, key: id, map: {id: id, note: note}}
      - {connection: db, table: audit, map: {order_id: id, mark: mark}}
  list:
    listener: list
    params: {note: text}
    from: {connection: db, query: "select id, note from orders where id >= :min [[and note = :note]] order by id"}
    respond: {}
  bound:
    listener: bound
    from: {connection: db, query: "select id from orders where id = :wanted", bind: {wanted: "= number(param.min) + 1"}}
    respond: {}
  quoted:
    listener: quoted
    from: {connection: db, query: "select id, ':min' as a, 'it''s :min' as b /* :none */, cast(:min as text) as c from orders where id = 1 -- :nothing"}
    respond: {}
  twice:   {from: {listener: twice, records: "[*]"}, to: {connection: db, table: t, action: upsert, key: [id]}}
  replace: {from: {listener: replace, records: "[*]"}, to: {connection: db, table: t, action: replace, key: [grp]}}
  delete:  {from: {listener: delete, records: "[*]"}, to: {connection: db, table: t, action: delete, key: [id]}}
  update:  {from: {listener: update, records: "[*]"}, to: {connection: db, table: t, action: update, key: [id], map: {id: id, v: v}}, on_reject: keep}
users: {ops: {role: operator, password: password-ops}}
`
	r := serveRules(t, map[string]string{"set.yaml": flows})
	db := database(t, r.dir, "create table orders (id integer primary key, note text); create table audit (order_id integer not null, mark text check (mark <> 'bad')); create table t (id integer primary key, grp text, v numeric)")
	post := func(path, body string, status int) {
		t.Helper()
		if got, answer := r.call(t, "POST", "/rest/v1/httplistener/"+path, body, ""); got != status {
			t.Errorf("%s %s: %d %s, want %d", path, body, got, answer, status)
		}
	}
	get := func(path, want string) {
		t.Helper()
		if status, answer := r.call(t, "GET", "/rest/v1/httplistener/"+path, "", ""); status != 200 || compact(answer) != want {
			t.Errorf("%s: %d %s, want %s", path, status, answer, want)
		}
	}
	post("orders", `{"id": 1, "note": "a", "mark": "good"}`, 200)
	post("orders", `{"id": 2, "note": "b'; drop table orders; --", "mark": "good"}`, 200)
	post("orders", `{"id": 3, "note": "never", "mark": "bad"}`, 422) // one transaction, in listed order
	post("orders", `{"id": 1, "note": null, "mark": "again"}`, 200)
	if got := list(t, db, "select id, note from orders order by id") + " / " + list(t, db, "select order_id, mark from audit order by rowid"); got != "1|null 2|b'; drop table orders; -- / 1|good 2|good 1|again" {
		t.Errorf("the tables: %s", got)
	}
	get("list/0", `[{"id":1,"note":null},{"id":2,"note":"b'; drop table orders; --"}]`) // the optional part is left out
	get("list/2", `[{"id":2,"note":"b'; drop table orders; --"}]`)
	get("bound/1", `[{"id":2}]`)
	get("quoted/7", `[{"id":1,"a":":min","b":"it's :min","c":"7"}]`)
	post("twice", `[{"id": 1, "grp": "x", "v": 1}, {"id": 2, "grp": "x", "v": 2}, {"id": 1, "grp": "y", "v": 3}]`, 200)
	if got := list(t, db, "select id, grp, v from t order by id"); got != "1|y|3 2|x|2" { // the last wins
		t.Errorf("the same key twice: %s", got)
	}
	post("replace", `[{"id": 6, "grp": "x", "v": 6}, {"id": 8, "grp": "z", "v": 8}, {"id": 7, "grp": "x", "v": 7}]`, 200)
	if got := list(t, db, "select id, grp, v from t order by id"); got != "1|y|3 7|x|7 8|z|8" {
		t.Errorf("replaced: %s", got)
	}
	post("update", `[{"id": 7, "v": 70}]`, 200)
	post("delete", `[{"id": 8}, {"id": 99}]`, 200)
	if got := list(t, db, "select id, grp, v from t order by id"); got != "1|y|3 7|x|70" {
		t.Errorf("updated and deleted: %s", got)
	}
}

func TestRuleTextToColumns(t *testing.T) {
	t.Parallel()
	r := serveRules(t, map[string]string{"set.yaml": `
listeners: {rows: {path: /rows, format: csv, mode: sync}}
connections: {db: {type: sql, driver: sqlite, path: db.sqlite}}
flows: {rows: {from: {listener: rows}, to: {connection: db, table: t}, on_reject: keep}}
users: {ops: {role: operator, password: password-ops}}
`})
	db := database(t, r.dir, "create table t (i integer, d decimal(10,2), b boolean, day date, ts timestamp, s text)")
	body := "i,d,b,day,ts,s\n" +
		"1,1.50,true,2026-12-31,2026-12-31T10:00:00Z,007\n" +
		",,,,,\n" +
		"1.5,,,,,\n" + "x,,,,,\n" + ",1;5,,,,\n" + ",,maybe,,,\n" + ",,,31.12.2026,,\n" + ",,,2026-02-30,,\n" + ",,,,soon,\n" + "\" 1\",,,,,\n"
	status, answer := r.call(t, "POST", "/rest/v1/httplistener/rows", body, "")
	var receipt struct{ AuditID int64 }
	if err := json.Unmarshal([]byte(answer), &receipt); err != nil || status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	if got := list(t, db, "select i, d, b, day, s, typeof(i), typeof(s) from t"); got != "1|1.5|1|2026-12-31T00:00:00Z|007|integer|text null|null|null|null|null|null|null" {
		t.Errorf("the table: %s", got)
	}
	status, answer = r.call(t, "GET", fmt.Sprintf("/rest/v1/runs/%d/rejects?format=json", receipt.AuditID), "", "")
	var rejects []struct {
		Record int    `json:"_record"`
		Line   int    `json:"_line"`
		Field  string `json:"_field"`
		Reason string `json:"_reason"`
	}
	if err := json.Unmarshal([]byte(answer), &rejects); err != nil || status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	want := []string{"i", "i", "d", "b", "day", "day", "ts", "i"}
	if len(rejects) != len(want) {
		t.Fatalf("%d rejects, want %d: %s", len(rejects), len(want), answer)
	}
	for n, reject := range rejects {
		if reject.Record != n+3 || reject.Line != n+4 || reject.Field != want[n] || reject.Reason == "" {
			t.Errorf("reject %d: %+v, want record %d of column %s", n, reject, n+3, want[n])
		}
	}
}

// TestRuleFailures: failures have kinds, and problem documents and the history name the same.
func TestRuleFailures(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	no := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer no.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }))
	defer slow.Close()
	r := serveRules(t, map[string]string{"set.yaml": fmt.Sprintf(`
connections:
  gone: {type: http, url: %q}
  no:   {type: http, url: %q}
  slow: {type: http, url: %q}
  db:   {type: sql, driver: sqlite, path: db.sqlite}
listeners:
  decode:   {path: /decode, format: json, mode: sync, check: none}
  reject:   {path: /reject, format: json, mode: sync}
  type:     {path: /type, format: json, mode: sync}
  gone:     {path: /gone, format: json, mode: sync}
  no:       {path: /no, format: json, mode: sync}
  table:    {path: /table, format: json, mode: sync}
  slow:     {path: /slow, format: json, mode: sync}
  row:      {path: /row, format: json, mode: sync}
flows:
  decode: {from: {listener: decode}, respond: {}}
  reject: {from: {listener: reject}, steps: [{reject: {when: "true"}}], respond: {}}
  type:   {from: {listener: type}, steps: [{map: {a: "= a * 1"}}], respond: {}}
  gone:   {from: {listener: gone}, to: {connection: gone, path: /a}}
  no:     {from: {listener: "no"}, to: {connection: "no", path: /a}}
  table:  {from: {listener: table}, to: {connection: db, table: none}}
  row:    {from: {listener: row}, to: {connection: db, table: strict}}
  slow:   {from: {listener: slow}, to: {connection: slow, path: /a}, timeout: 50ms}
users: {ops: {role: operator, password: password-ops}}
`, gone.URL, no.URL, slow.URL)})
	database(t, r.dir, "create table strict (a integer check (a <> 7))")
	for _, c := range []struct {
		path, body string
		status     int
		kind       string
	}{
		{"decode", `{"a": `, 400, "input"}, {"reject", `{}`, 422, "input"}, {"type", `{"a": "x"}`, 422, "input"},
		{"gone", `{}`, 500, "connection"}, {"no", `{}`, 500, "refused"}, {"table", `{"a": 1}`, 500, "refused"}, {"row", `{"a": "x"}`, 422, "refused"}, {"row", `{"a": 7}`, 422, "refused"}, {"row", `{"a": 1, "unknown": 2}`, 422, "refused"}, {"row", `{"unknown": 2}`, 422, "refused"}, {"row", `{}`, 422, "refused"}, {"row", `[]`, 422, "refused"}, {"row", `7`, 422, "refused"}, {"row", `{"a": {"b": 1}}`, 422, "refused"}, {"row", `{"a; drop table strict": 1}`, 422, "refused"}, {"slow", `{}`, 504, "timeout"},
	} {
		status, body := r.call(t, "POST", "/rest/v1/httplistener/"+c.path, c.body, "")
		var problem struct {
			Kind    string
			AuditID int64
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != c.status || problem.Kind != c.kind {
			t.Errorf("%s: %d %s, want %d and kind %s", c.path, status, body, c.status, c.kind)
		}
		if _, body := r.call(t, "GET", fmt.Sprintf("/rest/v1/runs/%d", problem.AuditID), "", ""); !strings.Contains(body, `"kind":"`+c.kind+`"`) || !strings.Contains(body, `"attempts":1`) {
			t.Errorf("%s: the history says %s", c.path, body)
		}
	}
}

// TestRuleSeveralFlows: an asynchronous listener may have several flows, each with a run of its own.
func TestRuleSeveralFlows(t *testing.T) {
	t.Parallel()
	r := serveRules(t, map[string]string{"set.yaml": `
connections: {out: {type: file, dir: out}}
listeners: {l: {path: /l, format: json}}
flows:
  b: {from: {listener: l}, to: {connection: out, path: "b-${run.number}.ndjson", format: ndjson}}
  a: {from: {listener: l, records: "lines[*]"}, steps: [{reject: {when: n > 1}}], to: {connection: out, path: "a-${run.number}.ndjson", format: ndjson}}
  c: {from: {listener: l}, enabled: false, to: {connection: out, path: "c.ndjson", format: ndjson}}
users: {ops: {role: operator, password: password-ops}}
`})
	status, body := r.call(t, "POST", "/rest/v1/httplistener/l", `{"lines": [{"n": 1}, {"n": 2}]}`, "")
	var receipt struct {
		MessageUUID     string
		AuditID, FlowID int64
		Runs            []struct {
			FlowName        string
			FlowID, AuditID int64
		}
	}
	if err := json.Unmarshal([]byte(body), &receipt); err != nil || status != 200 || len(receipt.Runs) != 2 || receipt.Runs[0].FlowName != "a" || receipt.Runs[1].FlowName != "b" || receipt.AuditID != receipt.Runs[0].AuditID || receipt.FlowID != receipt.Runs[0].FlowID {
		t.Fatalf("the receipt: %d %s", status, body)
	}
	var message struct {
		Status string
		Runs   []struct{ FlowName, Status string }
	}
	for message.Status = "received"; message.Status == "received"; {
		_, body = r.call(t, "GET", "/rest/v1/messages/"+receipt.MessageUUID, "", "")
		if err := json.Unmarshal([]byte(body), &message); err != nil {
			t.Fatal(body, err)
		}
	}
	if message.Status != "error" || len(message.Runs) != 2 || message.Runs[0].Status != "error" || message.Runs[1].Status != "success" { // the worst of them
		t.Errorf("the message: %s", body)
	}
}

func TestRuleRespond(t *testing.T) {
	t.Parallel()
	play(t, "formats: {lines: {type: json, as: lines}, list: {type: json, as: array}}\n", []rule{
		{name: "one document answers one object", body: `{"a": 1}`, want: `{"a":1}`},
		{name: "every other source an array", from: `, records: "[*]"`, body: `[{"a": 1}]`, want: `[{"a":1}]`},
		{name: "of nothing an empty one", from: `, records: "[*]"`, body: `[]`, want: `[]`},
		{name: "a query is a list", listener: "timeout: 5s", from: `, connection: db, query: "select 1 as a"`, want: `[{"a":1}]`},
		{name: "as array", flow: "respond: {format: {type: json, as: array}}", body: `{"a": 1}`, want: `[{"a":1}]`},
		{name: "as object", from: `, records: "[*]"`, flow: "respond: {format: {type: json, as: object}}", body: `[{"a": 1}]`, want: `{"a":1}`},
		{name: "as lines", from: `, records: "[*]"`, flow: "respond: {format: {type: json, as: lines}}", body: `[{"a": 1}, {"a": 2}]`, want: "{\"a\":1}\n{\"a\":2}"},
		{name: "as a format of the set's own says", from: `, records: "[*]"`, flow: "respond: {format: lines}", body: `[{"a": 1}, {"a": 2}]`, want: "{\"a\":1}\n{\"a\":2}"},
		{name: "as a format of the set's own says, for one", flow: "respond: {format: list}", body: `{"a": 1}`, want: `[{"a":1}]`},
		{name: "what is said where it is used comes first", from: `, records: "[*]"`, flow: "respond: {format: {type: lines, as: array}}", body: `[{"a": 1}]`, want: `[{"a":1}]`},
		{name: "with to it leaves after the commit", flow: "to: {connection: out, path: committed.ndjson, format: ndjson}\n    respond: {}", body: `{"a": 1}`, want: `{"a":1}`, file: "committed.ndjson", holds: "{\"a\":1}\n"},
	})
}

// TestRuleLoading loads a folder as a person may leave it.
func TestRuleLoading(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := "this: [is no definition"
	for name, text := range map[string]string{
		"main.yaml":             "vars: {a: 0123, b: 1.10, c: 12345678901234567890123, d: 1e3, e: true, f: 2026-01-02, g: 0x1F, h: 1_000, i: yes}\nconnections: {files: {type: file, dir: flows/files}, other: {type: file, dir: ./elsewhere}}\nx-note: {anything: [at, all]}\n",
		"more.yml":              "flows: {b: {respond: {}}}\n",
		"third.json":            `{"flows": {"c": {"respond": {}}}}`,
		"flows/a.yaml":          "flows:\n  a:\n    steps: [{map: {a: \"= '${vars.a}'\", b: \"= '${vars.b}'\", c: \"= '${vars.c}'\", d: \"= '${vars.d}'\", e: \"= '${vars.e}'\", f: \"= '${vars.f}'\", g: \"= '${vars.g}'\", h: \"= '${vars.h}'\", i: \"= '${vars.i}'\"}}]\n    to: {connection: other, path: out.ndjson, format: ndjson}\n",
		"flows/deep/er/d.yaml":  "flows: {d: {respond: {}}}\n",
		"flows/e_test.yaml":     broken,
		"main_test.json":        broken,
		"_draft.yaml":           broken,
		".hidden.yaml":          broken,
		"flows/_drafts/x.yaml":  broken,
		"flows/.git/x.yaml":     broken,
		"flows/files/x.yaml":    broken,
		"flows/secrets/x.yaml":  broken,
		"secrets/x.yaml":        broken,
		"elsewhere/x.yaml":      broken,
		"data/x.yaml":           broken,
		"docs/x.yaml":           broken,
		"README.md":             broken,
		"flows/notes.yaml.orig": broken,
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := newEngine(setup{dir: dir, data: filepath.Join(dir, "data"), logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(context.Background()) }()
	<-engine.Ready()
	for _, flow := range []string{"a", "b", "c", "d"} {
		if result, err := engine.RunFlow(t.Context(), flow, nil); err != nil {
			t.Errorf("flow %s: %+v %v", flow, result, err)
		}
	}
	engine.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	const want = `{"a":"0123","b":"1.10","c":"12345678901234567890123","d":"1e3","e":"true","f":"2026-01-02","g":"0x1F","h":"1_000","i":"yes"}` + "\n"
	if text, err := os.ReadFile(filepath.Join(dir, "elsewhere", "out.ndjson")); err != nil || string(text) != want { // scalars as written; beside the definitions
		t.Errorf("%s %v, want %s", text, err, want)
	}
}

// TestCallersDataIsNobodysFault sends all sorts of documents through to all sorts of destinations and answers: what one of them cannot take is the
// caller's 422, or is taken; it is never answered as a fault of the definition or the engine.
func TestCallersDataIsNobodysFault(t *testing.T) {
	t.Parallel()
	var listeners, flows strings.Builder
	outputs := []string{
		"to: {connection: out, path: a.csv, format: csv}", "to: {connection: out, path: b.xml, format: {type: xml, root: rows, element: row}}", "to: {connection: out, path: c.ndjson, format: ndjson}",
		"to: {connection: out, path: d.json, format: json}", "to: {connection: out, path: e.csv, format: {type: csv, formula: reject}}", "to: {connection: out, path: f.csv, exists: append, format: csv}",
		"to: {connection: out, path: g.json, format: {type: json, as: object}}", "to: {connection: db, table: t}", "to: {connection: db, table: t, action: upsert, key: [id]}", "to: {connection: db, table: t, action: replace, key: [id]}",
		"to: {connection: db, table: t, action: delete, key: [id]}", "to: {connection: db, table: t, action: update, key: [id]}", "to: {connection: db, table: made, create: true}", "to: {connection: db, table: t, commit: 2}",
		"to: {connection: api, path: \"/a/${record.id}\", action: upsert}", "respond: {}", "respond: {format: csv}", "respond: {format: xml}", "respond: {format: ndjson}", "respond: {headers: {X-A: \"${header.x-a}\"}}",
		"steps: [{map: {a: a.b.c, b: \"= id + 1\", c: \"= upper(name)\", d: {each: \"id[*]\", map: {x: this}}}}]\n    respond: {}", "steps: [{set: {n: \"= number(id)\", d: \"= date(name, 'dd.MM.yyyy')\", s: \"= sum(list(id), #)\"}}]\n    on_reject: keep\n    respond: {}",
		"steps: [{map: {\"*\": \"*\", id: id}}, {rename: {id: name}}, {drop: [a]}]\n    to: {connection: out, path: h.csv, format: csv}", "order_by: id\n    to: {connection: out, path: \"i-${run.id}.csv\", format: csv}",
	}
	for i, o := range outputs {
		fmt.Fprintf(&listeners, "  one%d: {path: /one%d, format: json, mode: sync}\n  many%d: {path: /many%d, format: json, mode: sync}\n", i, i, i, i)
		fmt.Fprintf(&flows, "  one%d:\n    from: {listener: one%d}\n    %s\n  many%d:\n    from: {listener: many%d, records: \"[*]\"}\n    %s\n", i, i, o, i, i, o)
	}
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer api.Close()
	r := serveRules(t, map[string]string{"set.yaml": fmt.Sprintf("connections: {out: {type: file, dir: out}, db: {type: sql, driver: sqlite, path: db.sqlite}, api: {type: http, url: %q}}\nlisteners:\n%sflows:\n%susers: {ops: {role: operator, password: password-ops}}\n",
		api.URL, listeners.String(), flows.String())})
	database(t, r.dir, "create table t (id integer primary key, name text not null default 'x' check (length(name) < 100), a numeric)")
	wide := "{"
	for n := range 2000 {
		wide += fmt.Sprintf(`"f%d":%d,`, n, n)
	}
	records := []string{
		`{"id": 1, "name": "a", "a": 1.5}`, `{"id": 1, "name": "b"}`, `{}`, `{"id": null}`, `{"": 1}`, `{"a b": 1, "<x>": 2, "1a": 3, "a:b": 4, "@id": 5, "#text": 6, "xmlns": "u", "@xmlns:q": "v"}`, `{"id": {"x": {"y": []}}}`, `{"id": [1, [2, {"a": 3}]]}`, `{"id": []}`,
		`{"id": "x"}`, `{"id": 1.5}`, `{"id": 1e400}`, `{"id": 12345678901234567890123}`, `{"id": true, "name": false}`, `{"name": "` + strings.Repeat("n", 200) + `"}`, `{"name": "a\u0000b\u0001\ufffe"}`, `{"name": "=cmd|'/c calc'!A1"}`, `{"name": "a,\"b\"\r\n;c"}`,
		`{"id": "../../x", "name": ".."}`, `{"ID": 1, "Id": 2, "id": 3}`, `{"id": 1, "t; drop table t": 2, "a\"b": 3, "rowid": 4}`, `1`, `"text"`, `null`, `true`, `[]`, `[[]]`, `[1, "a", null]`, wide[:len(wide)-1] + "}", strings.Repeat(`{"id":`, 200) + "1" + strings.Repeat("}", 200),
		`{"id": 9223372036854775808}`, `{"id": -0}`, `{"a": 0.1e-300}`, `{"name": "\u202e\ud83e\udd86"}`, `{"id": 2, "name": null}`, `{"` + strings.Repeat("k", 1000) + `": 1}`,
	}
	for i, o := range outputs {
		for _, record := range records {
			if status, body := r.call(t, "POST", fmt.Sprintf("/rest/v1/httplistener/one%d", i), record, ""); status >= 500 {
				t.Errorf("%s, %.100s: %d %s", o, record, status, body)
			}
		}
		for n := range records { // together with one that is good, and with the next
			body := "[" + records[0] + "," + records[n] + "," + records[(n+1)%len(records)] + "]"
			if status, answer := r.call(t, "POST", fmt.Sprintf("/rest/v1/httplistener/many%d", i), body, ""); status >= 500 {
				t.Errorf("%s, many, %.100s: %d %s", o, body, status, answer)
			}
		}
	}
}
