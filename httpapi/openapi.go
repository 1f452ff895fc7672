package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/listener"
)

// document is an OpenAPI document on its way.
type document struct {
	engine  Engine
	paths   map[string]object
	shapes  map[string]string // patterns by what they are without the names of their parameters
	schemas object
	basic   bool // some listener takes passwords
	query   bool // some listener takes tokens in the query
}

// openAPI is GET /openapi.json: the fixed routes that the caller's role may ever use, and the listeners that it may call; all of them for who may
// read definitions.
func (h *handler) openAPI(w http.ResponseWriter, r *http.Request, c *call) error {
	d := &document{engine: h.engine, paths: map[string]object{}, shapes: map[string]string{}, schemas: h.engine.DefinitionSchemas("#/components/schemas/")}
	for i := range h.routes {
		route := &h.routes[i]
		if route.action == "" || auth.Authorize(c.principal, route.action, auth.Resource{}) == auth.Allow {
			d.add(route.pattern, route.method, d.described(route))
		}
	}
	reader := auth.Authorize(c.principal, auth.DefinitionRead, auth.Resource{}) == auth.Allow
	for _, l := range h.engine.Listeners() {
		if l.HTTP() && l.Enabled() && len(l.Plans()) > 0 && (reader || auth.Authorize(c.principal, auth.ListenerCall, auth.Resource{Listener: l.Name}) == auth.Allow) {
			d.listener(l)
		}
	}
	problem := d.shape(problemType)
	schemes := object{"token": object{"type": "http", "scheme": "bearer", "description": "a token of POST /rest/v1/token-auth/issue, or an API key"}}
	if d.basic {
		schemes["basic"] = object{"type": "http", "scheme": "basic"}
	}
	if d.query {
		schemes["query"] = object{"type": "apiKey", "in": "query", "name": "Authorization", "description": "Bearer and the token"}
	}
	if !reader { // what is left has no use for them
		d.schemas = used(d.schemas, d.paths, problem)
	}
	prefix := "" // of a host that has the engine below one
	if whole, err := url.ParseRequestURI(r.RequestURI); err == nil {
		prefix = strings.TrimSuffix(strings.TrimSuffix(whole.EscapedPath(), "/"), "/openapi.json")
	}
	body, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{"title": "Integrator", "version": "1", "description": "What you may use of this engine, as it is defined now. Listeners are also served below " +
			listenerPrefixShort + "."},
		"servers":  []object{{"url": cmp.Or(prefix, "/")}},
		"security": []object{{"token": []string{}}},
		"paths":    d.paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": schemes,
			"responses":       object{"problem": object{"description": "What went wrong (RFC 9457)", "content": object{"application/problem+json": object{"schema": problem}}}},
		},
	})
	if err != nil {
		return fmt.Errorf("write the OpenAPI document: %w", err)
	}
	writeText(w, http.StatusOK, append(body, '\n'))
	return nil
}

// add adds an operation to a path.
func (d *document) add(pattern, method string, op object) {
	if d.paths[pattern] == nil {
		d.paths[pattern] = object{}
	}
	d.paths[pattern][strings.ToLower(method)] = op
}

// written is what the document takes of a listener's and a flow's definition, leniently: what is in force has been checked.
type written struct {
	Description string                     `json:"description"`
	Mode        string                     `json:"mode"`
	Format      json.RawMessage            `json:"format"`
	Params      map[string]json.RawMessage `json:"params"`
	Answer      *writtenAnswer             `json:"answer"`
	Respond     *writtenAnswer             `json:"respond"`
}

type writtenAnswer struct {
	Status json.RawMessage `json:"status"`
	Format json.RawMessage `json:"format"`
}

func (d *document) definition(kind, name string) (w written) {
	if held := d.engine.Definition(kind, name); held != nil {
		json.Unmarshal(held.JSON, &w) // what is not as it is expected here is left out
	}
	return w
}

// listener adds a user-defined listener.
func (d *document) listener(l *listener.Listener) {
	def := d.definition("listeners", l.Name)
	does, params := []string{}, def.Params
	answer := def.Answer
	for _, p := range l.Plans() {
		f := d.definition("flows", p.Name)
		if f.Description != "" {
			does = append(does, f.Description)
		}
		for name, param := range f.Params {
			if _, ok := params[name]; !ok {
				if params == nil {
					params = map[string]json.RawMessage{}
				}
				params[name] = param
			}
		}
		if l.Sync && f.Respond != nil {
			answer = f.Respond
		}
	}
	pattern, parameters, inPath := listenerPrefix, []object{}, []string{}
	for segment := range strings.SplitSeq(strings.Trim(l.Path(), "/"), "/") {
		name, isParam := strings.CutPrefix(segment, "{")
		if !isParam {
			pattern += "/" + segment
			continue
		}
		name, rest := strings.CutSuffix(strings.TrimSuffix(name, "}"), "...")
		p := parameter(name, "path", true, object{"type": "string"})
		if schema, _ := paramSchema(params[name]); params[name] != nil {
			p["schema"] = schema
		}
		if rest {
			p["description"] = "the rest of the path, which may hold slashes"
		}
		parameters, inPath, pattern = append(parameters, p), append(inPath, name), pattern+"/{"+name+"}"
	}
	pattern = d.unify(pattern, parameters)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !slices.Contains(inPath, name) {
			schema, required := paramSchema(params[name])
			parameters = append(parameters, parameter(name, "query", required, schema))
		}
	}
	parameters = append(parameters, parameter("Idempotency-Key", "header", false, object{"type": "string", "minLength": 1, "maxLength": 255}))
	security := []object{{"token": []string{}}}
	if l.Basic {
		security, d.basic = append(security, object{"basic": []string{}}), true
	}
	if l.InQuery {
		security, d.query = append(security, object{"query": []string{}}), true
	}
	for _, method := range l.Methods() {
		op := object{"operationId": "listener." + l.Name + "." + method, "summary": "Listener " + l.Name, "tags": []string{"listeners"}, "parameters": parameters, "security": security,
			"responses": object{d.status(answer): object{"description": "The payload was taken", "content": d.answered(answer)}, "default": object{"$ref": "#/components/responses/problem"}}}
		if len(does) > 0 {
			op["description"] = strings.Join(does, "; ")
		}
		if types := d.mediaTypes(def.Format); types != nil && method != "GET" {
			op["requestBody"] = object{"required": true, "content": types}
		} else if method != "GET" && method != "DELETE" {
			op["requestBody"] = object{"content": object{"*/*": object{}}}
		}
		d.add(pattern, method, op)
	}
}

// unify returns the pattern of an earlier listener that differs in the names of its parameters alone, and gives the parameters these: a document
// may not have both.
func (d *document) unify(pattern string, parameters []object) string {
	shape := nameless(pattern)
	held, ok := d.shapes[shape]
	if !ok {
		d.shapes[shape] = pattern
		return pattern
	}
	for k, part := range slices.DeleteFunc(strings.Split(held, "/"), func(part string) bool { return !strings.HasPrefix(part, "{") }) {
		if name := part[1 : len(part)-1]; parameters[k]["name"] != name {
			parameters[k]["description"] = fmt.Sprintf("the listener calls it %s", parameters[k]["name"])
			parameters[k]["name"] = name
		}
	}
	return held
}

// nameless returns a pattern without the names of its parameters.
func nameless(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

// paramSchema returns the schema of a declared parameter, and whether it has to be there.
func paramSchema(written json.RawMessage) (schema object, required bool) {
	var p struct {
		Type     string   `json:"type"`
		Required bool     `json:"required"`
		Default  any      `json:"default"`
		Enum     []string `json:"enum"`
		Min      any      `json:"min"`
		Max      any      `json:"max"`
	}
	if json.Unmarshal(written, &p.Type) != nil {
		json.Unmarshal(written, &p)
	}
	schema = object{"type": "string"}
	switch p.Type {
	case "int":
		schema["type"] = "integer"
	case "decimal":
		schema["type"] = "number"
	case "bool":
		schema["type"] = "boolean"
	case "date":
		schema["format"] = "date"
	}
	if p.Default != nil {
		schema["default"] = p.Default
	}
	if p.Enum != nil {
		schema["enum"] = p.Enum
	}
	for key, bound := range map[string]any{"minimum": p.Min, "maximum": p.Max} {
		if n, ok := bound.(float64); ok {
			schema[key] = n
		}
	}
	return schema, p.Required
}

// mediaTypes returns the content of the formats that a definition names, one or a list; nil when it names none.
func (d *document) mediaTypes(format json.RawMessage) object {
	var formats []json.RawMessage
	if len(format) == 0 {
		return nil
	}
	if json.Unmarshal(format, &formats) != nil {
		formats = []json.RawMessage{format}
	}
	content := object{}
	for _, f := range formats {
		var named struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(f, &named.Type) != nil {
			json.Unmarshal(f, &named)
		}
		media, _, _ := strings.Cut(d.engine.MediaType(named.Type), ";")
		switch {
		case media == "":
			content["*/*"] = object{}
		case media == "application/json":
			content[media] = object{"schema": object{}}
		default:
			content[media] = object{"schema": object{"type": "string"}}
		}
	}
	return content
}

// status returns the status of an answer that goes well.
func (d *document) status(answer *writtenAnswer) string {
	if answer != nil {
		if n, err := strconv.Atoi(string(answer.Status)); err == nil && n != 0 {
			return strconv.Itoa(n)
		}
	}
	return "200"
}

// answered returns the content of an answer that goes well: the engine's receipt where the definitions give none.
func (d *document) answered(answer *writtenAnswer) object {
	if answer == nil {
		return d.content(receipt{})
	}
	if types := d.mediaTypes(answer.Format); types != nil {
		return types
	}
	return object{"application/json": object{"schema": object{}}}
}

var componentRef = regexp.MustCompile(`"#/components/schemas/([^"]+)"`)

// used returns the schemas that something refers to, directly or through others.
func used(schemas object, by ...any) object {
	kept := object{}
	for len(by) > 0 {
		text, _ := json.Marshal(by) // it is written as a whole in the end, where a fault is told
		by = nil
		for _, m := range componentRef.FindAllSubmatch(text, -1) {
			if name := string(m[1]); kept[name] == nil {
				kept[name] = schemas[name]
				by = append(by, schemas[name])
			}
		}
	}
	return kept
}
