package httpapi

import (
	"encoding"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/integrator-go/integrator/auth"
)

// operation is what GET /openapi.json says of a route beside its method, its path and who may use it.
type operation struct {
	id      string
	does    string
	query   string // parameters: names, each followed by ":" and its type unless that is text
	body    any    // a value of the body's type, or schemaRef; nil: there is none, or what it holds is not looked at
	answers answers
}

// answers are values of the types that are answered, by status: a text names a media type, schemaRef a definition, nil is no body.
type answers map[int]any

// schemaRef is the component that says what a definition is.
type schemaRef string

// login is what a body of credentials has to be.
type login struct {
	Login    string `json:"login"`
	Password string `json:"password"`
}

// flat are parameters: an object whose values are single ones.
type flat map[string]any

// bulkAnswer is what routes about many runs answer.
type bulkAnswer struct {
	Replayed int       `json:"replayed,omitempty"`
	Canceled int       `json:"canceled,omitempty"`
	Skipped  int       `json:"skipped"`
	Failed   int       `json:"failed"`
	Runs     []doneRun `json:"runs"`
	After    int64     `json:"after,omitempty"`
}

const (
	pageQuery   = "flow status since:date-time limit:integer after:integer"
	tagsOfUsers = "If-Match, If-None-Match"
)

// operations has a row for each fixed route.
var operations = func() map[string]operation {
	token := answers{200: tokenAnswer{}}
	started := answers{200: startAnswer{}}
	replayed := answers{200: receipt{}}
	list := func(name string, of any) reflect.Value { return reflect.ValueOf(map[string]any{name: of}) }
	rows := map[string]operation{
		"POST /rest/v1/token-auth/issue":                         {"issueToken", "Issues an access token for a login and its password", "", login{}, token},
		"POST /rest/v1/token-auth/refresh":                       {"refreshToken", "Issues a new token for one that is still good", "", nil, token},
		"POST /plugins/flows/rest/v1/flow-name/{flow}/run":       {"runFlow", "Runs a flow and waits for its end; parameters are in the body or the query", "dry_run:boolean", flat{}, answers{200: runAnswer{}, 404: runAnswer{}}},
		"POST /rest/v1/flows/flow-name/{flow}/run":               {"startFlow", "Starts a flow by name", "wait:boolean dry_run:boolean", flat{}, started},
		"POST /plugins/flows/rest/v1/flows/flow-name/{flow}/run": {"startFlowLegacy", "Starts a flow by name", "wait:boolean dry_run:boolean", flat{}, started},
		"POST /rest/v1/flows/{flowId}/run":                       {"startFlowByNumber", "Starts a flow by its number", "wait:boolean dry_run:boolean", flat{}, started},
		"GET /rest/v1/executions/{flowId}":                       {"listExecutions", "Runs of a flow, newest first", "auditId:integer messageId status limit:integer after:integer", nil, answers{200: []execution{}}},
		"GET /plugins/dashboard/rest/v1/flows/{flowId}":          {"listExecutionsLegacy", "Runs of a flow, newest first", "auditId:integer messageId status limit:integer after:integer", nil, answers{200: []execution{}}},
		"GET /rest/v1/executions/console/download":               {"downloadLog", "A run's log as a file", "flowId:integer auditId:integer", nil, answers{200: "text/plain"}},
		"GET /rest/v1/messages/{message}":                        {"getMessage", "What became of a payload", "", nil, answers{200: messageAnswer{}}},
		"GET /rest/v1/messages/{message}/body":                   {"getPayload", "The payload", "", nil, answers{200: "application/octet-stream"}},
		"DELETE /rest/v1/messages/{message}/body":                {"erasePayload", "Erases a payload for good; its history stays", "", nil, answers{204: nil}},
		"POST /rest/v1/messages/{message}/replay":                {"replayMessage", "New runs of the same payload with today's flows", "dry_run:boolean", nil, replayed},
		"GET /rest/v1/runs":                                      {"listRuns", "The history, newest first", pageQuery, nil, answers{200: runsAnswer{}}},
		"GET /rest/v1/runs/{run}":                                {"getRun", "One run", "", nil, answers{200: runView{}}},
		"GET /rest/v1/runs/{run}/rejects":                        {"getRejects", "The records that a run has rejected", "format", nil, answers{200: "application/x-ndjson"}},
		"POST /rest/v1/runs/{run}/rejects/replay":                {"replayRejects", "A new run of the records that a run has rejected", "dry_run:boolean", nil, replayed},
		"GET /rest/v1/runs/{run}/log":                            {"getLog", "What happened in a run", "", nil, answers{200: "text/plain"}},
		"POST /rest/v1/runs/{run}/replay":                        {"replayRun", "A new run of the same flow on the same payload or parameters", "dry_run:boolean", nil, replayed},
		"POST /rest/v1/runs/{run}/cancel": {"cancelRun", "Stops a run", "", nil, answers{202: struct {
			AuditID int64  `json:"auditId"`
			Status  string `json:"status"`
		}{}}},
		"POST /rest/v1/runs/replay":                {"replayRuns", "Replays the runs of a page, each once", pageQuery, nil, answers{200: bulkAnswer{}}},
		"POST /rest/v1/runs/cancel":                {"cancelRuns", "Stops the runs of a page", pageQuery, nil, answers{200: bulkAnswer{}}},
		"GET /rest/v1/users":                       {"listUsers", "Users, without anything secret", "", nil, answers{200: list("users", []userEntry{})}},
		"GET /rest/v1/users/{login}":               {"getUser", "A user", "", nil, answers{200: userView{}}},
		"PUT /rest/v1/users/{login}":               {"putUser", "Makes or changes a user; what is left out stays", tagsOfUsers, userBody{}, answers{200: userView{}, 201: userView{}}},
		"DELETE /rest/v1/users/{login}":            {"deleteUser", "Removes a user", tagsOfUsers, nil, answers{204: nil}},
		"GET /rest/v1/users/{login}/keys":          {"listKeys", "A user's API keys, without what they are", "", nil, answers{200: list("keys", []auth.APIKey{})}},
		"POST /rest/v1/users/{login}/keys":         {"addKey", "Makes an API key, which is shown this once", "", keyBody{}, answers{201: newKey{}}},
		"DELETE /rest/v1/users/{login}/keys/{key}": {"revokeKey", "Revokes an API key", "", nil, answers{204: nil}},
		"GET /metrics":                             {"getMetrics", "Metrics in the text format of Prometheus", "", nil, answers{200: "text/plain"}},
		"GET /livez":                               {"isAlive", "Whether the process is alive", "", nil, answers{200: map[string]string{}}},
		"GET /readyz":                              {"isReady", "Whether calls are taken, and what is not able to", "", nil, answers{200: map[string]string{}, 503: map[string]any{}}},
		"GET /openapi.json":                        {"getOpenAPI", "This document: what the caller may use, as it is defined now", "", nil, answers{200: map[string]any{}}},
	}
	for _, kind := range Kinds {
		one := strings.TrimSuffix(kind, "s")
		name := strings.ToUpper(one[:1]) + one[1:]
		all, path := "/rest/v1/"+kind, "/rest/v1/"+kind+"/{name}"
		rows["GET "+all] = operation{"list" + name + "s", "The " + kind + " that are defined", "", nil, answers{200: list(kind, []definitionView{})}}
		rows["GET "+path] = operation{"get" + name, "A " + one + " as it was defined", "", nil, answers{200: schemaRef(definitionSchemas[kind])}}
		rows["PUT "+path] = operation{"put" + name, "Makes or replaces a " + one, tagsOfUsers, schemaRef(definitionSchemas[kind]), answers{200: schemaRef(definitionSchemas[kind]), 201: schemaRef(definitionSchemas[kind])}}
		rows["DELETE "+path] = operation{"delete" + name, "Removes a " + one, tagsOfUsers, nil, answers{204: nil}}
	}
	return rows
}()

// definitionSchemas names the components that say what definitions are.
var definitionSchemas = map[string]string{"connections": "connector.Definition", "listeners": "listener.Definition", "flows": "flow.Definition", "schedules": "flow.ScheduleDefinition"}

// object is a part of the document.
type object = map[string]any

// described returns what the document says of a fixed route.
func (d *document) described(r *route) object {
	op := operations[r.method+" "+r.pattern]
	parameters := []object{}
	for _, part := range r.parts {
		if part[0] == '{' {
			parameters = append(parameters, parameter(part[1:len(part)-1], "path", true, object{"type": "string"}))
		}
	}
	if op.query == tagsOfUsers {
		for name := range strings.SplitSeq(op.query, ", ") {
			parameters = append(parameters, parameter(name, "header", false, object{"type": "string"}))
		}
	} else {
		for word := range strings.FieldsSeq(op.query) {
			name, kind, _ := strings.Cut(word, ":")
			schema := object{"type": "string"}
			switch kind {
			case "integer", "boolean":
				schema["type"] = kind
			case "date-time":
				schema["format"] = kind
			}
			parameters = append(parameters, parameter(name, "query", false, schema))
		}
	}
	made := object{"operationId": op.id, "summary": op.does, "responses": object{}}
	if len(parameters) > 0 {
		made["parameters"] = parameters
	}
	if op.body != nil {
		_, optional := op.body.(flat)
		made["requestBody"] = object{"required": !optional, "content": d.content(op.body)}
	}
	responses := object{"default": object{"$ref": "#/components/responses/problem"}}
	for status, of := range op.answers {
		response := object{"description": http.StatusText(status)}
		if of != nil {
			response["content"] = d.content(of)
		}
		responses[strconv.Itoa(status)] = response
	}
	made["responses"] = responses
	if r.action == "" {
		made["security"] = []object{}
	}
	return made
}

func parameter(name, in string, required bool, schema object) object {
	p := object{"name": name, "in": in, "schema": schema}
	if required {
		p["required"] = true
	}
	return p
}

// content returns the media types of a body.
func (d *document) content(of any) object {
	switch of := of.(type) {
	case string:
		return object{of: object{"schema": object{"type": "string"}}}
	case schemaRef:
		ref := object{"schema": object{"$ref": "#/components/schemas/" + string(of)}}
		return object{"application/json": ref, "application/yaml": ref}
	case reflect.Value: // an object of one list
		properties, required := object{}, []string{}
		for name, list := range of.Interface().(map[string]any) {
			properties[name], required = d.shape(reflect.TypeOf(list)), append(required, name)
		}
		return object{"application/json": object{"schema": object{"type": "object", "properties": properties, "required": required}}}
	}
	return object{"application/json": object{"schema": d.shape(reflect.TypeOf(of))}}
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	rawType     = reflect.TypeFor[json.RawMessage]()
	textType    = reflect.TypeFor[encoding.TextMarshaler]()
	problemType = reflect.TypeFor[Problem]()
)

// shape returns the schema of a type as encoding/json writes it. Named structs are components.
func (d *document) shape(t reflect.Type) object {
	switch {
	case t.Kind() == reflect.Pointer:
		inner := d.shape(t.Elem())
		if kind, ok := inner["type"].(string); ok {
			inner["type"] = []string{kind, "null"}
		}
		return inner
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == rawType:
		return object{}
	case t.Implements(textType):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Slice:
		return object{"type": "array", "items": d.shape(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": "object", "additionalProperties": d.shape(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return d.fields(t)
		}
		if _, ok := d.schemas[t.Name()]; !ok {
			d.schemas[t.Name()] = nil // it may hold itself
			d.schemas[t.Name()] = d.fields(t)
		}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Interface:
		return object{}
	}
	return object{"type": "string"}
}

func (d *document) fields(t reflect.Type) object {
	properties, required := object{}, []string{}
	var add func(t reflect.Type)
	add = func(t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "":
				add(f.Type)
			case name == "" || name == "-":
			default:
				of := f.Type
				if !strings.Contains(options, "omit") {
					required = append(required, name)
				} else if of.Kind() == reflect.Pointer { // nil is left out
					of = of.Elem()
				}
				properties[name] = d.shape(of)
			}
		}
	}
	add(t)
	made := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		made["required"] = required
	}
	return made
}
