package integrator_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/integrator-go/integrator"
)

const malformedYAML = `
connections: {out: {type: file, dir: out}}
listeners:
  quote:  {path: /quote, format: json, mode: sync, max_body: 64KiB}
  orders: {path: "/shop/{store}/orders", format: json, max_body: 64KiB}
  rows:   {path: /rows, format: csv, mode: sync, max_body: 64KiB}
  lines:  {path: /lines, format: ndjson, mode: sync, max_body: 64KiB}
  tree:   {path: /tree, format: {type: xml, records: /a/b}, mode: sync, method: [POST, PUT], max_body: 64KiB}
  query:  {path: /query, format: json, mode: sync, auth_in: query}
  basic:  {path: /basic, format: json, mode: sync, auth: basic}
  keyed:  {path: /keyed, format: json, idempotency: {key: "= header['X-Delivery'] ?? id"}}
  list:   {path: "/list/{of}", method: GET, mode: sync}
  rest:   {path: "/rest/{name...}", method: GET, mode: sync}
flows:
  quote:  {from: {listener: quote}, steps: [{map: {sku: sku, total: "= qty * 1.1"}}], respond: {headers: {X-Sku: "${header.x-sku}"}}}
  orders: {from: {listener: orders, records: "orders[*]"}, order_by: customer.id, steps: [{map: {id: id}}], to: {connection: out, path: "${run.id}.csv", format: csv}}
  rows:   {from: {listener: rows}, on_reject: keep, respond: {format: ndjson}}
  lines:  {from: {listener: lines}, on_reject: keep, respond: {}}
  tree:   {from: {listener: tree}, respond: {format: xml}}
  query:  {from: {listener: query}, respond: {}}
  basic:  {from: {listener: basic}, respond: {}}
  keyed:  {from: {listener: keyed}, to: {connection: out, path: "${run.id}.json", format: json}}
  list:   {listener: list, respond: {}}
  rest:   {listener: rest, respond: {}}
  named:  {params: {n: {type: int, required: true}, day: date}, respond: {}}
  free:   {respond: {}}
users:
  ops:  {role: admin, password: "${secret.CANARY}"}
  shop: {role: api, password: "${secret.CANARY}", listeners: [quote], flows: [free]}
`

// documented are the statuses that HTTP.md has for faults of a caller.
var documented = []int{200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429}

// raw is a request as bytes, which need not be one.
type raw struct {
	text string
	want []int // nil: any documented one
	own  bool  // net/http refuses it before any handler has it, in its own words
	cut  bool  // it ends before its framing says, and the connection with it
}

// request writes a request with a head that fits its body.
func request(method, path, body string, header ...string) string {
	lines := append([]string{method + " " + path + " HTTP/1.1", "Host: engine"}, header...)
	if body != "" || method == "POST" || method == "PUT" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// framed is request with a head whose framing is the header's own matter.
func framed(path, body string, header ...string) string {
	return strings.Join(append([]string{"POST " + path + " HTTP/1.1", "Host: engine"}, header...), "\r\n") + "\r\n\r\n" + body
}

const proof = "Authorization: Bearer ${token}"

// byHand are requests that somebody thought of.
func byHand() []raw {
	const l, quote, byName = listeners, listeners + "/quote", "/plugins/flows/rest/v1/flow-name"
	var all []raw
	add := func(status int, texts ...string) {
		for _, text := range texts {
			all = append(all, raw{text: text, want: []int{status}})
		}
	}
	own := func(texts ...string) {
		for _, text := range texts {
			all = append(all, raw{text: text, own: true})
		}
	}
	cut := func(texts ...string) {
		for _, text := range texts {
			all = append(all, raw{text: text, want: []int{400}, cut: true})
		}
	}
	// What is no request.
	own("\r\n\r\n", "GET\r\n\r\n", "GET /livez\r\n\r\n", "GET /livez HTTP/9.9\r\nHost: a\r\n\r\n", "GET /livez HTTP/1.1\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: engine\r\nbad header\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: engine\r\nX : 1\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: engine\r\nX: a\x00b\r\n\r\n",
		"GET /a%zz HTTP/1.1\r\nHost: engine\r\n\r\n", "GET /% HTTP/1.1\r\nHost: engine\r\n\r\n", "GET livez HTTP/1.1\r\nHost: engine\r\n\r\n", "G(T /livez HTTP/1.1\r\nHost: engine\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"GET /livez HTTP/1.1\r\nHost: engine\r\nX: "+strings.Repeat("x", 1<<20+8<<10)+"\r\n\r\n", // larger than net/http takes
		framed(quote, "{}", proof, "Content-Length: 2", "Content-Length: 3"), framed(quote, "{}", proof, "Content-Length: -1"), framed(quote, "{}", proof, "Content-Length: 2x"),
		framed(quote, "{}", proof, "Content-Length: 99999999999999999999"), framed(quote, "{}", proof, "Transfer-Encoding: gzip"), framed(quote, "{}", proof, "Transfer-Encoding: chunked, identity"),
		framed(quote, "{}", proof, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"))
	// Bodies that are framed wrongly.
	add(400, framed(quote, "zz\r\n{}\r\n0\r\n\r\n", proof, "Transfer-Encoding: chunked"), framed(quote, "-2\r\n{}\r\n0\r\n\r\n", proof, "Transfer-Encoding: chunked"),
		framed(quote, "2\r\n{}xx\r\n0\r\n\r\n", proof, "Transfer-Encoding: chunked"), framed(quote, "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", proof, "Transfer-Encoding: chunked"),
		framed(quote, "0\r\n\r\n", proof, "Transfer-Encoding: chunked"), framed(byName+"/free/run", "zz\r\n{}\r\n0\r\n\r\n", proof, "Transfer-Encoding: chunked"),
		framed("/rest/v1/token-auth/issue", "zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"))
	cut(framed(quote, "2\r\n{}\r\n", proof, "Transfer-Encoding: chunked"), framed(quote, "2", proof, "Transfer-Encoding: chunked"), framed(quote, `{"sku"`, proof, "Content-Length: 50"), framed(quote, "", proof, "Content-Length: 50"),
		framed(byName+"/free/run", "{", proof, "Content-Length: 9"), framed("/rest/v1/token-auth/issue", "{}", "Content-Length: 9"))
	add(200, framed(quote, "2;ext=1\r\n{}\r\n0\r\nTrailer: 1\r\n\r\n", proof, "Transfer-Encoding: chunked"))
	// Bodies that are larger than is allowed, told and not told.
	add(413, framed(quote, "{}", proof, "Content-Length: 70000"), framed(quote, "{}", proof, "Content-Length: 9223372036854775807"),
		framed(quote, "ffffff\r\n"+strings.Repeat(" ", 70<<10), proof, "Transfer-Encoding: chunked"), request("POST", "/rest/v1/token-auth/issue", `{"login": "`+strings.Repeat("x", 8<<10)+`"}`),
		framed(byName+"/free/run", "{}", proof, "Content-Length: 99999999"), framed("/rest/v1/flows/flow-name/free/run", "{}", proof, "Content-Length: 99999999"))
	// Encodings.
	for _, encoding := range []string{"gzip", "br", "deflate", "identity, gzip", "x", "gzip,gzip", "*", "gzip\t"} {
		add(415, request("POST", quote, "{}", proof, "Content-Encoding: "+encoding))
	}
	add(200, request("POST", quote, "{}", proof, "Content-Encoding: identity"), request("POST", quote, "{}", proof, "Content-Type: ;;;"), request("POST", quote, "{}", proof, "Content-Type: text/xml; charset=nothing"),
		request("POST", quote, "{}", proof, "Accept: nothing/at-all;q=x"), request("POST", quote, "{}", proof, "Expect: 100-continue"))
	// Proofs.
	for _, p := range []string{"", "Bearer", "Bearer ", "bearer${token}", "Bearer ${token} ${token}", "Bearer ${token}x", "Bearer ${token}.", "Bearer x.y.z", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic", "Basic !!!", "Basic YTpi",
		"Basic b3Bz", "Negotiate x", "Digest username=ops", "${token}", "Bearer " + strings.Repeat("A", 5000), "Bearer \xff\xfe", "Bearer ../../etc/passwd", "Bearer ' or 1=1 --"} {
		add(401, request("POST", quote, "{}", "Authorization: "+p), request("GET", "/rest/v1/runs", "", "Authorization: "+p), request("POST", byName+"/free/run", "", "Authorization: "+p), request("POST", "/rest/v1/token-auth/refresh", "", "Authorization: "+p))
	}
	add(401, request("POST", quote, "{}"), request("POST", quote, "{}", proof, proof), request("POST", quote+"?Authorization=Bearer%20${token}", "{}"), request("POST", l+"/query?Authorization=Bearer%20${token}", "{}", proof),
		request("POST", l+"/query?Authorization=Bearer%20${token}&Authorization=Bearer%20${token}", "{}"), request("POST", l+"/query?authorization=Bearer%20${token}", "{}"), request("POST", l+"/query?Authorization=Basic%20b3Bz", "{}"),
		request("POST", l+"/query?Authorization=%zz", "{}"), request("POST", l+"/nothing", "{}"), request("DELETE", l, ""), request("POST", l+"/basic", "{}", "Authorization: Basic bm9ib2R5OnBhc3N3b3Jk"))
	add(200, request("POST", quote, "{}", "Authorization: bEaReR ${token}"), request("POST", quote, "{}", "Authorization: Bearer  ${token}"), request("POST", l+"/query?Authorization=Bearer%20${token}", "{}"))
	add(403, request("POST", l+"/rows", "a\n1\n", "Authorization: Bearer ${shop}"), request("POST", byName+"/named/run", "", "Authorization: Bearer ${shop}"), request("GET", "/rest/v1/users", "", "Authorization: Bearer ${shop}"),
		request("POST", byName+"/none/run", "", "Authorization: Bearer ${shop}"), request("POST", "/rest/v1/flows/1/run", "", "Authorization: Bearer ${shop}"), request("GET", "/metrics", "", "Authorization: Bearer ${shop}"))
	// Paths.
	for _, path := range []string{"", "/", "/nothing", "//quote", "/quote//", "/./quote", "/x/../quote", "/%2e%2e/quote", "/%252e%252e", "/quote%2f", "/quote%00", "/%00", "/quote%20", "/Quote", "/quote;a=b", "/qu%6fte/x", "/quote%c0%af", "/%ff", "/shop/a%2fb/orders", "/shop/%0d%0a/orders",
		"/shop/../orders", "/shop/%2e/orders", "/shop//orders", "/shop/\u202e/orders", "/shop/" + strings.Repeat("x", 5000) + "/y/orders", "/" + strings.Repeat("a/", 3000), "/shop/a\\b/orders"} {
		add(404, request("POST", l+path, "{}", proof))
	}
	add(200, request("POST", l+"/qu%6fte", "{}", proof), request("POST", "/rest/v1/httplistener/quote/", "{}", proof), request("GET", l+"/rest/a/b%20c", "", proof), request("GET", l+"/list/%F0%9F%A6%86", "", proof))
	add(404, "GET / HTTP/1.1\r\nHost: engine\r\n\r\n", "GET //livez HTTP/1.1\r\nHost: engine\r\n\r\n", "GET /rest HTTP/1.1\r\nHost: engine\r\n\r\n", request("GET", "/rest/v1/../../livez", ""), request("GET", "/livez/x", ""),
		request("GET", "/plugins/schedules/rest/v1/httplistenerx/quote", ""), request("POST", "/rest/v1/flows/flow-name/a%2fb/run", "", proof), request("POST", byName+"/none/run", "", proof), request("POST", byName+"/%ff/run", "", proof), request("POST", byName+"//run", "", proof),
		request("POST", byName+"/free%00/run", "", proof), request("POST", byName+"/../flow-name/free/run", "", proof), request("POST", byName+"/free/run/x", "", proof), request("GET", "/console/", ""), request("GET", "/openapi.yaml", ""))
	// Methods.
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "BREW", "PROPFIND", "X-Y"} {
		if method == "CONNECT" {
			add(404, "CONNECT engine:80 HTTP/1.1\r\nHost: engine\r\n\r\n")
			continue
		}
		if method == "OPTIONS" {
			add(204, request(method, quote, "", proof))
		} else {
			add(405, request(method, quote, "", proof))
		}
		add(405, request(method, byName+"/free/run", "", proof), request(method, "/rest/v1/token-auth/issue", ""))
	}
	// Payloads.
	for _, body := range []string{"", " ", "{", "}", "[", "nul", "tru", `"`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1}{`, `{"a":1} x`, `{a:1}`, `{'a':1}`, `{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":NaN}`, `{"a":"\x"}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", "{\"a\":\"\n\"}",
		`{"a":1,"a":2}`, "\xef\xbb\xbf\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", "// c\n{}", strings.Repeat("[", 5000), strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), "{}\x00", "sku=1&qty=2", "<a/>"} {
		add(400, request("POST", quote, body, proof), request("POST", l+"/shop/a/orders", body, proof))
	}
	for _, body := range []string{`{"qty": "many"}`, `{"qty": {}}`, `{"qty": [1]}`, `{"qty": "1e999999999999"}`} {
		add(422, request("POST", quote, body, proof))
	}
	for _, body := range []string{"", "<a>", "<a></b>", "<a/><a/>", "text", "<a><b></a></b>", "<!DOCTYPE a><a/>", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, "<a>&nothing;</a>", "<a b=1/>", `<a b="1" b="2"/>`, "<a>\x01</a>", "<a>\xff</a>", `<?xml version="1.0" encoding="nothing"?><a/>`, "<a><![CDATA[</a>",
		"<a><!-- -- --></a>", "<x:a/>", "<a", "{}", strings.Repeat("<a>", 1000), `<a xmlns:x="u" x:b="1" xmlns:y="u" y:b="2"/>`, "<a>]]></a>"} {
		add(400, request("POST", l+"/tree", body, proof), request("PUT", l+"/tree", body, proof))
	}
	for _, body := range []string{"a,b\n1,\"open", "a,b\n1,\"x\"y\n", "a\n\xff\n", "a\n\x00\n", "a,a\n1,2\n", "\"", "a,b\n\"1\"2,3\n"} {
		add(400, request("POST", l+"/rows", body, proof))
	}
	add(200, request("POST", l+"/lines", "{\"a\":1}\n{\"a\":\n{\"a\":3}\n", proof), request("POST", l+"/rows", "a,b\n1\n1,2\n1,2,3\n", proof))
	// Idempotency keys.
	for _, key := range []string{`""`, strings.Repeat("k", 256), `"` + strings.Repeat("k", 256) + `"`, "a\tb"} {
		add(400, request("POST", quote, "{}", proof, "Idempotency-Key: "+key))
	}
	add(200, request("POST", l+"/shop/a/orders", `{"customer":{"id":1}}`, proof, "Idempotency-Key: k"), request("POST", l+"/shop/a/orders", `{"customer":{"id":1}}`, proof, `Idempotency-Key: "k"`))
	add(422, request("POST", l+"/shop/a/orders", `{"customer":{"id":2}}`, proof, "Idempotency-Key: k"), request("POST", l+"/shop/b/orders", `{"customer":{"id":1}}`, proof, "Idempotency-Key: k"), request("POST", l+"/shop/a/orders?x", `{"customer":{"id":1}}`, proof, "Idempotency-Key: k"),
		request("POST", l+"/keyed", `{}`, proof), request("POST", l+"/keyed", `{"id": ""}`, proof), request("POST", l+"/keyed", `{"id": [1]}`, proof), request("POST", l+"/keyed", `{"id": "`+strings.Repeat("x", 256)+`"}`, proof), request("POST", l+"/shop/a/orders", `{"customer":{"id":{}}}`, proof))
	add(400, request("POST", quote+"?dry_run=true", "{}", proof))
	// Runs by name and number, in both generations.
	for _, body := range []string{"{", "[1]", "1", `"n"`, "null", "n=1", `{"n": 1.5}`, `{"n": "x"}`, `{"n": true}`, `{"n": {}}`, `{"n": [1]}`, `{"m": 1, "n": 1}`, `{"n": 1, "day": "31.12.2026"}`, `{"n": 1, "n": 2}`, `{}`, "", "<n>1</n>", "{\"n\": \"\xff\"}"} {
		add(400, request("POST", byName+"/named/run", body, proof), request("POST", "/rest/v1/flows/flow-name/named/run?wait=true", body, proof))
	}
	for _, query := range []string{"?n=x", "?n=1&day=x", "?n=1&wait=maybe", "?n=1&m=2", "?n=", "?n=1&dry_run=1"} {
		if query != "?n=1&wait=maybe" {
			add(400, request("POST", byName+"/named/run"+query, "", proof))
		}
		add(400, request("POST", "/rest/v1/flows/flow-name/named/run"+query, "", proof))
	}
	add(200, request("POST", byName+"/quote/run", "", proof), request("POST", byName+"/free/run?a=%zz&b;c", "", proof), request("POST", byName+"/named/run?n=1&Authorization=x", "", proof), request("POST", byName+"/free/run", `{"a": 1e400, "": null}`, proof, "Content-Type: x"))
	add(409, request("POST", "/rest/v1/flows/flow-name/quote/run", "", proof))
	for _, id := range []string{"0", "-1", "x", "1.0", "0x1", "99999999999999999999", "%20", "%E2%91%A0", "1%00"} {
		add(404, request("POST", "/rest/v1/flows/"+id+"/run", "", proof), request("GET", "/rest/v1/executions/"+id, "", proof), request("GET", "/plugins/dashboard/rest/v1/flows/"+id, "", proof), request("GET", "/rest/v1/runs/"+id, "", proof),
			request("GET", "/rest/v1/runs/"+id+"/rejects", "", proof), request("GET", "/rest/v1/runs/"+id+"/log", "", proof), request("POST", "/rest/v1/runs/"+id+"/cancel", "", proof), request("POST", "/rest/v1/runs/"+id+"/replay", "", proof),
			request("GET", "/rest/v1/messages/"+id, "", proof), request("GET", "/rest/v1/messages/"+id+"/body", "", proof), request("DELETE", "/rest/v1/messages/"+id+"/body", "", proof), request("POST", "/rest/v1/messages/"+id+"/replay", "", proof))
	}
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?limit=99999999999999999999", "?after=x", "?status=nothing", "?flow=a&flow=b&limit=x", "?nothing=1", "?limit=1.5", "?limit=%ff", "?status=%00"} {
		add(400, request("GET", "/rest/v1/runs"+query, "", proof), request("GET", "/rest/v1/executions/1"+query, "", proof))
	}
	add(400, request("GET", "/rest/v1/runs?since=yesterday", "", proof), request("GET", "/rest/v1/executions/console/download", "", proof),
		request("POST", "/rest/v1/runs/replay", "", proof), request("POST", "/rest/v1/runs/cancel?status=success", "", proof), request("POST", "/rest/v1/runs/replay?since=x", "", proof))
	add(404, request("GET", "/rest/v1/executions/1?auditId=999999", "", proof), request("GET", "/rest/v1/executions/1?auditId=x", "", proof), request("GET", "/rest/v1/executions/console/download?auditId=x", "", proof), request("GET", "/rest/v1/executions/1?messageId=x", "", proof), request("GET", "/rest/v1/executions/console/download?flowId=1&auditId=999999", "", proof))
	// Users and keys.
	for _, body := range []string{"", "{", "[]", "null", `{"role": "god", "password": "long enough"}`, `{"role": 1}`, `{"role": "api"}`, `{"role": "api", "password": "short"}`, `{"roles": "api"}`, `{"role": "api", "password": "long enough", "networks": ["x"]}`,
		`{"role": "api", "password": "long enough", "listeners": "quote"}`, `{"role": "api", "role": "admin", "password": "long enough"}`} {
		all = append(all, raw{text: request("PUT", "/rest/v1/users/new", body, proof), want: []int{400, 422}})
	}
	all = append(all, raw{text: request("PUT", "/rest/v1/users/a%3Ab", `{"role": "api", "password": "long enough"}`, proof), want: []int{400, 422}}, raw{text: request("DELETE", "/rest/v1/users/none", "", proof), want: []int{404}},
		raw{text: request("PUT", "/rest/v1/users/ops", `{"role": "api"}`, proof), want: []int{409}}, raw{text: request("POST", "/rest/v1/users/ops/keys", `{"name": "a"}`, proof), want: []int{409}}, raw{text: request("POST", "/rest/v1/users/none/keys", `{"name": "a"}`, proof), want: []int{404}},
		raw{text: request("DELETE", "/rest/v1/users/ops/keys/a", "", proof), want: []int{404, 409}}, raw{text: request("POST", "/rest/v1/users/ops/keys", "{", proof), want: []int{400}})
	// Logins. Five misses of one account are enough for 429, so each has a login of its own.
	for i, body := range []string{"", "{", "[]", "null", "1", `"ops"`, `{}`, `{"login": "ops"}`, `{"password": "x"}`, `{"login": 1, "password": "x"}`, `{"login": "ops", "password": null}`, `{"login": ["ops"], "password": "x"}`, `{"login": "ops", "password": "x"} {}`,
		`{"login": "ops", "login": "shop", "password": "x"}`, "login=ops&password=x", "{\"login\": \"\xff\", \"password\": \"x\"}", strings.Repeat("[", 4000)} {
		add(400, request("POST", "/rest/v1/token-auth/issue", body, "X-Case: "+fmt.Sprint(i)))
	}
	for i, login := range []string{"", "' or 1=1 --", "a\\u0000b", "../../x", strings.Repeat("l", 4000), "\\ud83e\\udd86", "OPS", " ops"} {
		all = append(all, raw{text: request("POST", "/rest/v1/token-auth/issue", `{"login": "`+login+`", "password": "wrong"}`, "X-Case: "+fmt.Sprint(i)), want: []int{401}})
	}
	return all
}

// generated are requests from parts that chance puts together and damages.
func generated(random *rand.Rand, n int) []raw {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	methods := []string{"GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
	paths := []string{listeners + "/quote", listeners + "/rows", listeners + "/tree", listeners + "/lines", listeners + "/keyed", listeners + "/shop/x/orders", listeners + "/list/a", "/rest/v1/httplistener/rest/a/b", "/plugins/flows/rest/v1/flow-name/named/run",
		"/plugins/flows/rest/v1/flow-name/free/run", "/rest/v1/flows/flow-name/free/run", "/rest/v1/flows/1/run", "/rest/v1/executions/1", "/rest/v1/executions/console/download", "/plugins/dashboard/rest/v1/flows/2", "/rest/v1/runs", "/rest/v1/runs/1", "/rest/v1/runs/1/rejects",
		"/rest/v1/runs/1/log", "/rest/v1/runs/1/replay", "/rest/v1/runs/2/rejects/replay", "/rest/v1/messages/01a212c2-2392-75e8-94bd-c80ddd6b62a6", "/rest/v1/messages/01a212c2-2392-75e8-94bd-c80ddd6b62a6/body", "/rest/v1/users", "/rest/v1/users/shop", "/rest/v1/users/x/keys", "/metrics", "/livez", "/readyz"}
	bodies := []string{"", "{}", `{"sku": "X", "qty": 2}`, `{"n": 1}`, "a,b\n1,2\n", "<a><b>1</b></a>", `{"orders": [{"id": 1}], "customer": {"id": 7}}`, "{\"id\": 1}\n{\"id\": 2}\n", `{"role": "viewer"}`, `{"name": "k"}`}
	odd := []string{"%00", "%ff", "%2e%2e%2f", "/", "//", ";", "%0d%0a", "\u00e4", "'", "%", "{", "\\", "+", "..", "&&", "=", "%25", "#"}
	damage := func(s string, parts ...string) string {
		at := random.IntN(len(s) + 1)
		switch random.IntN(3) {
		case 0:
			return s[:at] + pick(parts...) + s[at:]
		case 1:
			return s[:at]
		default:
			return s[:at] + s[min(at+1, len(s)):]
		}
	}
	queries := []string{"", "", "?n=1", "?wait=true", "?wait=%00", "?auditId=1", "?flowId=1&auditId=1", "?limit=2&after=1", "?status=error", "?messageId=x", "?format=csv", "?dry_run=true", "?&&=&a=%zz", "?" + strings.Repeat("a=1&", 500)}
	headers := []string{"X-A: 1", "Content-Type: application/json", "Content-Type: \"", "Content-Encoding: gzip", "Content-Encoding: identity", "Idempotency-Key: " + strings.Repeat("k", 300), "Idempotency-Key: g", "Accept: text/csv", "If-Match: \"1\"", "Range: bytes=0-1", "Range: bytes=9-1",
		"Traceparent: x", "Expect: 100-continue", "Connection: close", "X-Delivery: 1", "Origin: http://evil.example", "Cookie: a=b", "X-Sku: \xff", "Transfer-Encoding: chunked", "X-HTTP-Method-Override: DELETE", "X-Forwarded-For: 127.0.0.1", "Upgrade: websocket", "Date: never", "TE: trailers", "X-Big: " + strings.Repeat("y", 30000)}
	var all []raw
	for range n {
		path, body := pick(paths...), pick(bodies...)
		if random.IntN(3) == 0 {
			path = "/" + strings.TrimPrefix(damage(path, odd...), "/")
		}
		if _, err := url.ParseRequestURI(path); err != nil || strings.ContainsAny(path, "#") { // it is net/http's matter
			path = url.PathEscape(path)
			path = "/" + path
		}
		if random.IntN(2) == 0 {
			body = damage(body, "\x00", "\xff", `"`, "{", "<", "&", "\n", "]]>", "1e9", strings.Repeat("[", 300))
		}
		var header []string
		if random.IntN(8) > 0 {
			header = append(header, pick(proof, proof, proof, "Authorization: Bearer ${shop}", "Authorization: Bearer x"))
		}
		for range random.IntN(3) {
			header = append(header, pick(headers...))
		}
		method := pick(methods...)
		if slices.Contains(header, "Transfer-Encoding: chunked") {
			all = append(all, raw{text: strings.Join(append([]string{method + " " + path + pick(queries...) + " HTTP/1.1", "Host: engine"}, slices.Compact(header)...), "\r\n") + "\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)})
			continue
		}
		all = append(all, raw{text: request(method, path+pick(queries...), body, header...)})
	}
	return all
}

// TestMalformedRequests sends what clients get wrong to one engine behind a server of net/http, byte by byte: each request is answered in a documented way and in
// the shape of its route, no answer tells what is nobody's business, nothing is the engine's fault, and afterwards the engine is what it was.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	const canary = "c4nary-password"
	h := start(t, malformedYAML, func(c *integrator.Config) {
		c.Secrets = func(string) (string, bool) { return canary, true }
	})
	users, err := h.engine.Auth()
	if err != nil {
		t.Fatal(err)
	}
	token := func(login string) string {
		token, _, err := users.Issue(t.Context(), login, canary, "203.0.113.9:1") // from where nobody guesses
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	if r := h.post(listeners+"/quote", token("ops"), `{"sku": "X", "qty": 10}`); r.status != 200 || strings.TrimSpace(r.body) != `{"sku":"X","total":11}` { // the first run
		t.Fatalf("%d %s", r.status, r.body)
	}
	const seed = 20260101
	requests := append(byHand(), generated(rand.New(rand.NewPCG(seed, seed)), 600)...)
	if len(requests) < 1000 {
		t.Errorf("%d requests", len(requests))
	}
	tokens := strings.NewReplacer("${token}", token("ops"), "${shop}", token("shop"))
	address, issued := strings.TrimPrefix(h.url, "http://"), time.Now()
	for i, r := range requests {
		if time.Since(issued) > 10*time.Second { // a token lives for 30 s
			tokens, issued = strings.NewReplacer("${token}", token("ops"), "${shop}", token("shop")), time.Now()
		}
		text := tokens.Replace(r.text)
		if fault := malformed(address, text, r, h.dir, canary); fault != "" {
			t.Errorf("request %d: %s\n%.300q", i, fault, r.text)
		}
	}
	if r := h.get("/readyz", ""); r.status != 200 {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
	if r := h.post(listeners+"/quote", token("ops"), `{"sku": "X", "qty": 10}`); r.status != 200 || strings.TrimSpace(r.body) != `{"sku":"X","total":11}` {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
	if e := h.send("/shop/a/orders", token("ops"), `{"customer": {"id": 7}, "orders": [{"id": 1}, {"id": 2}]}`); e.Run.Status.String() != "success" || h.read("out/"+e.Run.ID.String()+".csv") != "id\n1\n2\n" {
		t.Errorf("afterwards a run is %v: %s", e.Run.Status, e.Run.Exception)
	}
	for _, status := range []string{"queued", "running", "error"} {
		if r := h.get("/rest/v1/runs?status="+status, token("ops")); status != "error" && !strings.Contains(r.body, `"runs":[]`) {
			t.Errorf("runs are left in %s: %s", status, r.body)
		}
	}
	h.stop()
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "level=ERROR") && !strings.Contains(line, "kind=input") || strings.Contains(line, canary) || strings.Contains(line, "panic") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("the log has %q", line)
		}
	}
}

// malformed sends bytes and returns what is wrong with the answer, "" for nothing.
func malformed(address, text string, r raw, dir, canary string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(conn, text) // the server need not take all of it
		if r.cut {                 // a half-closed connection is one of a caller who has gone: so only then
			conn.(*net.TCPConn).CloseWrite()
		}
	}()
	defer func() { conn.Close(); <-sent }()
	method, path, _ := strings.Cut(text, " ")
	answer := bufio.NewReader(conn)
	response, err := http.ReadResponse(answer, &http.Request{Method: method})
	for err == nil && response.StatusCode == http.StatusContinue {
		response, err = http.ReadResponse(answer, &http.Request{Method: method})
	}
	if err != nil {
		return fmt.Sprintf("no answer: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the answer's body: %v", err)
	}
	status, header := response.StatusCode, response.Header
	says := fmt.Sprintf("%d %.400s", status, body)
	for _, secret := range []string{canary, dir, "goroutine ", ".go:", "/etc/passwd", "root:"} {
		if bytes.Contains(body, []byte(secret)) || strings.Contains(fmt.Sprint(header), secret) {
			return fmt.Sprintf("the answer tells of %q: %s", secret, says)
		}
	}
	switch {
	case r.own:
		if status < 400 || status > 505 || bytes.Contains(body, []byte("errorId")) {
			return "net/http should have refused it: " + says
		}
		return ""
	case r.want != nil && !slices.Contains(r.want, status):
		return fmt.Sprintf("%s, want %v", says, r.want)
	case !slices.Contains(documented, status):
		return "this status is not documented: " + says
	case header.Get("X-Content-Type-Options") != "nosniff" && len(body) > 0:
		return fmt.Sprintf("it may be sniffed: %s, %v", says, header)
	case status < 400:
		return ""
	case status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer "), status == 405 && header.Get("Allow") == "", status == 429 && header.Get("Retry-After") == "":
		return fmt.Sprintf("a header is missing: %s, %v", says, header)
	case method == "HEAD":
		return ""
	case strings.HasPrefix(path, "/plugins/flows/rest/v1/flow-name/"):
		var answer map[string]any
		if err := json.Unmarshal(body, &answer); err != nil || answer["status"] != 1.0 || answer["exception"] == "" || answer["exception"] == nil || len(answer) != 2 || header.Get("Content-Type") != "application/json" {
			return "this is not the first generation's shape: " + says
		}
		return ""
	}
	var problem struct {
		Type, Title, Detail, ErrorID string
		Status                       int
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Type == "" || problem.Title == "" || problem.Detail == "" || problem.ErrorID == "" || problem.Status != status || header.Get("Content-Type") != "application/problem+json" {
		return "this is no problem document: " + says
	}
	return ""
}
