package integrator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const openYAML = `
vars: {base: orders}
formats: {lines: {type: csv, delimiter: ";"}}
connections: {out: {type: file, dir: out}}
listeners:
  orders:   {path: "/shop/{store}/${vars.base}", format: json}
  list:     {path: "/shop/{place}/orders", method: [GET, DELETE], mode: sync, auth: basic, auth_in: query}
  lines:    {path: "/lines/{rest...}", format: lines, method: [POST, PUT]}
  raw:      {path: /raw}
  off:      {path: /off, format: json, enabled: false}
  nobody:   {path: /nobody, format: json}
flows:
  orders: {description: orders become files, from: {listener: orders}, to: {connection: out, path: a.json, format: json}}
  list:   {listener: list, params: {since: {type: date, required: true}, limit: {type: int, default: 10, min: 1, max: 99}, sort: {enum: [up, down]}}, respond: {status: 203, format: xml}}
  lines:  {from: {listener: lines}, to: {connection: out, path: a.json, format: json}}
  raw:    {listener: raw, to: {connection: out, path: raw.json, format: json}}
users:
  root: {role: admin, password: password-root}
  look: {role: viewer, password: password-look}
  shop: {role: api, password: password-shop, listeners: [list]}
`

type openAPI struct {
	OpenAPI    string
	Servers    []struct{ URL string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]any
		SecuritySchemes map[string]any
	}
}

type operation struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   any
	}
	RequestBody struct {
		Required bool
		Content  map[string]any
	}
	Responses map[string]struct{ Content map[string]any }
	Security  []map[string][]string
}

// document reads an OpenAPI document and tells what is wrong with its structure.
func document(t *testing.T, text string) (d openAPI) {
	t.Helper()
	var whole any
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		t.Fatal(err)
	}
	d = decode[openAPI](t, text)
	for _, m := range regexp.MustCompile(`"\$ref":"#/([^"]*)"`).FindAllStringSubmatch(text, -1) {
		at := whole
		for part := range strings.SplitSeq(m[1], "/") {
			at, _ = at.(map[string]any)[part]
		}
		if at == nil {
			t.Errorf("%s leads nowhere", m[1])
		}
	}
	ids, shapes := map[string]string{}, map[string]string{}
	variable := regexp.MustCompile(`\{([^}]*)\}`)
	for path, item := range d.Paths {
		if other, twice := shapes[variable.ReplaceAllString(path, "{}")]; twice {
			t.Errorf("%s and %s are the same path", path, other)
		}
		shapes[variable.ReplaceAllString(path, "{}")] = path
		for method, op := range item {
			at := method + " " + path
			if other, twice := ids[op.OperationID]; twice || op.OperationID == "" {
				t.Errorf("%s and %s are both operation %q", at, other, op.OperationID)
			}
			ids[op.OperationID] = at
			if len(op.Responses) == 0 {
				t.Errorf("%s answers nothing", at)
			}
			var inPath, want []string
			seen := map[string]bool{}
			for _, p := range op.Parameters {
				if seen[p.In+p.Name] || p.Schema == nil {
					t.Errorf("%s: parameter %s is there twice, or has no schema", at, p.Name)
				}
				seen[p.In+p.Name] = true
				if p.In == "path" {
					if inPath = append(inPath, p.Name); !p.Required {
						t.Errorf("%s: parameter %s of the path is not required", at, p.Name)
					}
				}
			}
			for _, m := range variable.FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			if !slices.Equal(inPath, want) {
				t.Errorf("%s declares %v", at, inPath)
			}
			for _, s := range op.Security {
				for name := range s {
					if d.Components.SecuritySchemes[name] == nil {
						t.Errorf("%s is secured by %s, which is nothing", at, name)
					}
				}
			}
		}
	}
	return d
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := start(t, openYAML)
	root := h.token("root", "password-root")
	if r := h.put("listeners/made", root, `{path: /made, format: json, mode: sync}`); r.status != http.StatusCreated {
		t.Fatalf("%d %s", r.status, r.body)
	}
	h.put("flows/made", root, `{from: {listener: made}, respond: {}}`)
	whole := h.get("/openapi.json", root)
	d := document(t, whole.body)
	if whole.header.Get("Content-Type") != "application/json" || d.OpenAPI != "3.1.0" || len(d.Servers) != 1 || d.Servers[0].URL != "/" {
		t.Errorf("%v %s %v", whole.header, d.OpenAPI, d.Servers)
	}

	// Every fixed route is there, as HTTP.md has them, and every listener that takes calls.
	var want []string
	documented, err := os.ReadFile("HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`(GET|POST|PUT|DELETE) (/[^`? ]+)").FindAllStringSubmatch(string(documented), -1) {
		if !strings.Contains(m[2], "httplistener") {
			want = append(want, m[1]+" "+m[2])
		}
	}
	for _, route := range []string{"POST /shop/{store}/orders", "GET /shop/{store}/orders", "DELETE /shop/{store}/orders", "POST /lines/{rest}", "PUT /lines/{rest}", "POST /raw", "POST /made"} {
		method, path, _ := strings.Cut(route, " ")
		want = append(want, method+" "+listeners+path)
	}
	var got []string
	for path, item := range d.Paths {
		for method := range item {
			// Which listener gives a shared path its names is said by their names' order.
			got = append(got, strings.ToUpper(method)+" "+strings.ReplaceAll(path, "/shop/{place}/", "/shop/{store}/"))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("routes (-expected +documented):\n%s", diff)
	}

	// Bodies and answers are the structs that are read and written.
	user, _ := json.Marshal(d.Components.Schemas["userBody"])
	run, _ := json.Marshal(d.Components.Schemas["messageRun"].(map[string]any)["properties"].(map[string]any)["nextAttempt"])
	if strings.Contains(string(user), "required") || !strings.Contains(string(user), `"role":{"type":"string"}`) || string(run) != `{"format":"date-time","type":"string"}` {
		t.Errorf("a user's body is %s, a time %s", user, run)
	}

	// What a listener's definition and its flow say.
	list := d.Paths[listeners+"/shop/{place}/orders"]["get"]
	var parameters []string
	for _, p := range list.Parameters {
		schema, _ := json.Marshal(p.Schema)
		parameters = append(parameters, p.In+" "+p.Name+" "+string(schema))
	}
	if diff := cmp.Diff([]string{`path place {"type":"string"}`, `query limit {"default":10,"maximum":99,"minimum":1,"type":"integer"}`, `query since {"format":"date","type":"string"}`,
		`query sort {"enum":["up","down"],"type":"string"}`, `header Idempotency-Key {"maxLength":255,"minLength":1,"type":"string"}`}, parameters); diff != "" {
		t.Errorf("parameters:\n%s", diff)
	}
	if list.Responses["203"].Content["application/xml"] == nil || len(list.Security) != 3 || list.RequestBody.Content != nil {
		t.Errorf("the listener is %+v", list)
	}
	if lines := d.Paths[listeners+"/lines/{rest}"]["put"]; lines.RequestBody.Content["text/csv"] == nil || !lines.RequestBody.Required || lines.Responses["200"].Content["application/json"] == nil {
		t.Errorf("the listener is %+v", lines)
	}

	// An api user sees its own listener and nothing of others.
	own := h.get("/openapi.json", h.token("shop", "password-shop")).body
	for path := range document(t, own).Paths {
		if strings.HasPrefix(path, listeners) && path != listeners+"/shop/{place}/orders" || strings.HasPrefix(path, "/rest/v1/users") || strings.HasPrefix(path, "/rest/v1/connections") {
			t.Errorf("an api user sees %s", path)
		}
	}
	for _, word := range []string{"made", "/raw", "flow.Definition", "orders become files"} {
		if strings.Contains(own, word) {
			t.Errorf("an api user sees %q", word)
		}
	}
	look := document(t, h.get("/openapi.json", h.token("look", "password-look")).body)
	if look.Paths[listeners+"/raw"] == nil || look.Paths["/rest/v1/flows/{name}"]["get"].OperationID == "" || look.Paths["/rest/v1/flows/{name}"]["put"].OperationID != "" {
		t.Error("who reads definitions does not see what they say")
	}

	// Below a prefix of the host's.
	mux := http.NewServeMux()
	mux.Handle("/in/here/", http.StripPrefix("/in/here", h.engine.Handler()))
	request := httptest.NewRequest("GET", "/in/here/openapi.json", nil)
	request.Header.Set("Authorization", "Bearer "+root)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, request)
	if d := document(t, w.Body.String()); len(d.Servers) != 1 || d.Servers[0].URL != "/in/here" {
		t.Errorf("below a prefix the server is %v", d.Servers)
	}
}
