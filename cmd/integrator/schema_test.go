package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/store/memstore"
)

// definitionsSchema compiles the schema that the command prints.
func definitionsSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(integrator.Schema(integrator.Config{Drivers: drivers()})))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("definitions.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("definitions.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate returns what the schema says of definitions in YAML.
func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err, text)
	}
	return schema.Validate(document)
}

// schemaYAML has every sort of value that definitions hold.
const schemaYAML = `
version: 1
x-shared: {anything: [1]}
vars: {team: loading, port: 80}
formats:
  strikes: {type: csv, delimiter: ";", columns: {id: int, flown: date dd.MM.yyyy}}
connections:
  out:       {type: file, dir: out}
  warehouse: {type: sql, driver: sqlite, path: warehouse.db}
  registry:  {type: http, url: "https://registry.example.org", headers: {X-Team: "${vars.team}"}, auth: {type: bearer, token: "${secret.REGISTRY}"}, timeout: 5s}
listeners:
  orders:
    path: /shop/{store}/orders
    method: POST
    format: json
    mode: async
    max_body: 64MiB
    idempotency: {key: "= header['X-Id']", window: 7d}
    rate: 100/s
  price-quote: {path: /quote, format: json, mode: sync, enabled: "${env.ON}", max_body: 1000}
  patients:    {path: /hl7/patient, format: {type: xml, records: /patients/patient}, rate: {total: 10/s, user: 1/s}}
  order-list:  {path: "/shop/{store}/orders", method: [GET, put], mode: sync}
  strikes:     {path: /strikes, format: strikes}
flows:
  load-orders:
    description: each order line becomes a row
    from: {listener: orders, records: "orders[*]"}
    params: {n: int, m: {type: text, enum: [a, b], default: a}}
    steps:
      - filter: "qty > 0"
      - map:
          order_id: id
          total:    "= qty * price"
          lines:    {each: lines, map: {sku: sku, nothing: null, list: [1, a, true]}}
      - reject: {when: "total > 100000", reason: needs a person}
      - drop: total
    to:
      - {connection: warehouse, table: orders, action: upsert, key: [order_id], create: true}
      - {connection: out, path: "orders-${run.id}.csv", format: {type: csv, header: false}}
    on_reject: {action: keep, max: 100}
    retry: {attempts: 5, backoff: 1s, max_backoff: 5m}
  quote: {from: {listener: price-quote}, steps: {drop: [a]}, respond: {status: 200, format: {type: json, as: lines}, headers: {X-Quote: 1}}, on_reject: stop}
  parts: {from: {listener: strikes}, to: {connection: warehouse, table: strikes, action: upsert, key: id, create: true, commit: 500}}
  nightly-export:
    from: {connection: warehouse, query: "select * from orders"}
    to: {connection: out, path: "export-${now:yyyy-MM-dd}.xml", format: {type: xml, root: orders, element: order, lists: line}}
schedules:
  export-at-two: {flow: nightly-export, cron: "0 2 * * *", timezone: Europe/Berlin, if_missed: run-once, overlap: skip, params: {n: 1}}
  often: {flow: nightly-export, every: 15m}
users:
  shop: {role: api, password: "${secret.SHOP_PASSWORD}", listeners: [orders, price-quote, order-list], flows: []}
`

func TestSchema(t *testing.T) {
	t.Parallel()
	schema := definitionsSchema(t)
	if err := validate(t, schema, schemaYAML); err != nil {
		t.Errorf("the schema refuses definitions that are right: %v", err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if err := validate(t, schema, block[1]); err != nil {
			t.Errorf("the schema refuses the README's definitions: %v", err)
		}
	}
	for wrong, at := range map[string]string{
		"listners: {}": "listners",
		"listeners: {a: {path: /a, fromat: json}}":                                 "/listeners/a",
		"listeners: {a: {path: /a, mode: both}}":                                   "/listeners/a/mode",
		"listeners: {a: {path: /a, timeout: 30}}":                                  "/listeners/a/timeout",
		"listeners: {a: {path: /a, max_body: lots}}":                               "/listeners/a/max_body",
		"listeners: {a: {path: [a]}}":                                              "/listeners/a/path",
		"connections: {a: {type: ftp}}":                                            "/connections/a/type",
		"connections: {a: {dir: out}}":                                             "/connections/a",
		"connections: {a: {type: file, path: out}}":                                "/connections/a",
		"connections: {a: {type: sql, driver: oracle, path: a.db}}":                "/connections/a/driver",
		"connections: {a: {type: http, url: 'http://a', auth: {type: magic}}}":     "/connections/a/auth/type",
		"flows: {a: {form: {}}}":                                                   "/flows/a",
		"flows: {a: {steps: [{fliter: a}]}}":                                       "/flows/a/steps",
		"flows: {a: {steps: [{map: [a]}]}}":                                        "/flows/a/steps",
		"flows: {a: {to: {conection: a}}}":                                         "/flows/a/to",
		"flows: {a: {to: {connection: a, format: {type: csv, delimitre: ','}}}}":   "/flows/a/to",
		"flows: {a: {to: {connection: a, format: {type: strikes, header: true}}}}": "/flows/a/to",
		"flows: {a: {retry: {attempts: many}}}":                                    "/flows/a/retry/attempts",
		"flows: {a: {on_reject: {action: ignore}}}":                                "/flows/a/on_reject",
		"schedules: {a: {flow: a, overlap: queued}}":                               "/schedules/a/overlap",
		"schedules: {a: {flow: a, every: soon}}":                                   "/schedules/a/every",
		"users: {a: {role: god}}":                                                  "/users/a/role",
	} {
		if err := validate(t, schema, wrong); err == nil || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// TestOpenAPI reads the document of a server as generators of clients do.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(schemaYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := integrator.New(integrator.Config{Store: memstore.New(), BaseDir: dir, Definitions: os.DirFS(dir), Drivers: drivers(), Env: func(string) (string, bool) { return "true", true },
		Secrets: func(string) (string, bool) { return "long enough", true },
		Verifier: auth.VerifierFunc(func(context.Context, *http.Request) (auth.Principal, error) {
			return auth.Principal{Login: "a", Role: auth.Admin}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(context.Background()) }()
	<-engine.Ready()
	w := httptest.NewRecorder()
	engine.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	document, err := libopenapi.NewDocument(w.Body.Bytes())
	if err != nil {
		t.Fatal(err, w.Body)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		t.Error(err)
	}
	if path, ok := model.Model.Paths.PathItems.Get("/plugins/schedules/rest/v1/httplistener/shop/{store}/orders"); !ok || path.Post == nil {
		t.Error("the listeners are not in the document")
	}
	engine.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
