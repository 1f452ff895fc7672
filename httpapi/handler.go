// Package httpapi is the engine's one http.Handler: routes, answers, problem documents.
//
// It works at `/` and below a prefix (http.StripPrefix), beside a host's own routes, and with any server: what it needs of the
// connection goes through http.ResponseController. It never redirects, because a redirect drops the body.
//
// Three names matter: [New] makes the handler, [Engine] is what it needs, [Problem] is how errors are answered (RFC 9457). What a
// client is promised is written down in the project's HTTP contract; the order of work for a payload is route, authenticate,
// authorise, limits, read and check, store, answer.
package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// Engine is what the handler needs of an engine.
type Engine interface {
	// Accepting returns nil when calls can be taken, else why not.
	Accepting() error

	// Health names each part of the engine that is not able to work, with why; it is empty when all are.
	Health() map[string]string

	Auth() *auth.Service
	Verifier() auth.Verifier
	Router() *listener.Router
	Receiver() *listener.Receiver
	Runner() *flow.Runner
	Store() store.Store

	// Plan returns the flow of that name in the set in force; false when there is none.
	Plan(name string) (*flow.Plan, bool)

	// PlanByID returns the flow of that number in the set in force; false when there is none.
	PlanByID(id int64) (*flow.Plan, bool)

	// Listener returns the listener of that name in the set in force; false when there is none.
	Listener(name string) (*listener.Listener, bool)

	definitions

	// Listeners returns the listeners in force by name.
	Listeners() []*listener.Listener

	// MediaType returns the Content-Type of a format that a listener or a flow in force names, by that name; "" when none does.
	MediaType(format string) string

	// DefinitionSchemas returns JSON Schemas of definitions, by the names of definitionSchemas and those that they refer to below base. The map is the
	// caller's.
	DefinitionSchemas(base string) map[string]any

	// WriteMetrics writes the metrics in the text format of Prometheus.
	WriteMetrics(ctx context.Context, w io.Writer) error

	Observe(flow.Event)
	Logger() *slog.Logger
}

// handler serves the routes of one engine.
type handler struct {
	engine   Engine
	routes   []route
	changing sync.Mutex // one change of a user over HTTP at a time
}

// route is one fixed route. Segments in braces are parameters.
type route struct {
	method  string
	pattern string
	action  auth.Action // what the caller must be allowed to do; "" is open to everybody
	serve   func(w http.ResponseWriter, r *http.Request, c *call) error
	parts   []string
}

// call is one authorised call of a fixed route.
type call struct {
	principal auth.Principal
	params    map[string]string
}

// Prefixes of the listeners' paths, of both generations.
const (
	listenerPrefix      = "/plugins/schedules/rest/v1/httplistener"
	listenerPrefixShort = "/rest/v1/httplistener"
)

// New returns the handler of an engine. It can be used before the engine runs: until then calls are answered with 503.
func New(engine Engine) http.Handler {
	h := &handler{engine: engine}
	h.routes = []route{
		{method: "POST", pattern: "/rest/v1/token-auth/issue", serve: h.issueToken},
		{method: "POST", pattern: "/rest/v1/token-auth/refresh", action: auth.TokenRefresh, serve: h.refreshToken},
		{method: "POST", pattern: "/plugins/flows/rest/v1/flow-name/{flow}/run", action: auth.FlowRun, serve: h.runFlow},
		{method: "POST", pattern: "/rest/v1/flows/flow-name/{flow}/run", action: auth.FlowRun, serve: h.startFlow},
		{method: "POST", pattern: "/plugins/flows/rest/v1/flows/flow-name/{flow}/run", action: auth.FlowRun, serve: h.startFlow},
		{method: "POST", pattern: "/rest/v1/flows/{flowId}/run", action: auth.FlowRun, serve: h.startFlow},
		{method: "GET", pattern: "/rest/v1/executions/{flowId}", action: auth.RunList, serve: h.executions},
		{method: "GET", pattern: "/plugins/dashboard/rest/v1/flows/{flowId}", action: auth.RunList, serve: h.executions},
		{method: "GET", pattern: "/rest/v1/executions/console/download", action: auth.RunLog, serve: h.executionLog},
		{method: "GET", pattern: "/rest/v1/messages/{message}", action: auth.MessageRead, serve: h.message},
		{method: "GET", pattern: "/rest/v1/messages/{message}/body", action: auth.MessageBody, serve: h.messageBody},
		{method: "DELETE", pattern: "/rest/v1/messages/{message}/body", action: auth.MessageErase, serve: h.erase},
		{method: "POST", pattern: "/rest/v1/messages/{message}/replay", action: auth.MessageReplay, serve: h.replay},
		{method: "GET", pattern: "/rest/v1/runs", action: auth.RunList, serve: h.runs},
		{method: "GET", pattern: "/rest/v1/runs/{run}", action: auth.RunRead, serve: h.run},
		{method: "GET", pattern: "/rest/v1/runs/{run}/rejects", action: auth.RunRejects, serve: h.rejects},
		{method: "POST", pattern: "/rest/v1/runs/replay", action: auth.RunReplay, serve: h.replayRuns},
		{method: "POST", pattern: "/rest/v1/runs/cancel", action: auth.RunCancel, serve: h.cancelRuns},
		{method: "POST", pattern: "/rest/v1/runs/{run}/replay", action: auth.RunReplay, serve: h.replayRun},
		{method: "POST", pattern: "/rest/v1/runs/{run}/rejects/replay", action: auth.RunReplay, serve: h.replayRejects},
		{method: "GET", pattern: "/rest/v1/runs/{run}/log", action: auth.RunLog, serve: h.runLog},
		{method: "POST", pattern: "/rest/v1/runs/{run}/cancel", action: auth.RunCancel, serve: h.cancel},
		{method: "GET", pattern: "/rest/v1/users", action: auth.UserRead, serve: h.users},
		{method: "GET", pattern: "/rest/v1/users/{login}", action: auth.UserRead, serve: h.user},
		{method: "PUT", pattern: "/rest/v1/users/{login}", action: auth.UserWrite, serve: h.putUser},
		{method: "DELETE", pattern: "/rest/v1/users/{login}", action: auth.UserWrite, serve: h.deleteUser},
		{method: "GET", pattern: "/rest/v1/users/{login}/keys", action: auth.UserRead, serve: h.keys},
		{method: "POST", pattern: "/rest/v1/users/{login}/keys", action: auth.UserWrite, serve: h.addKey},
		{method: "DELETE", pattern: "/rest/v1/users/{login}/keys/{key}", action: auth.UserWrite, serve: h.revokeKey},
		{method: "GET", pattern: "/metrics", action: auth.MetricsRead, serve: h.metrics},
		{method: "GET", pattern: "/openapi.json", action: auth.OpenAPIRead, serve: h.openAPI},
		{method: "GET", pattern: "/livez", serve: h.live},
		{method: "GET", pattern: "/readyz", serve: h.ready},
	}
	for _, kind := range Kinds {
		h.routes = append(h.routes, h.routesOf(kind)...)
	}
	for i := range h.routes {
		h.routes[i].parts = strings.Split(h.routes[i].pattern[1:], "/")
	}
	return h
}

// ServeHTTP answers one call.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bound(w, r)
	var listener string
	if err := h.serve(w, r, &listener); err != nil {
		h.answerError(w, r, listener, err)
	}
}

// serve answers the call, or returns why not. It sets listener when the call is one of a listener.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, listener *string) error {
	path := r.URL.EscapedPath()
	for _, prefix := range []string{listenerPrefix, listenerPrefixShort} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
			return h.listen(w, r, rest, listener)
		}
	}
	found, params, allow := h.find(r.Method, path)
	if found == nil {
		if len(allow) > 0 {
			p := problem(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", "this route takes "+strings.Join(allow, ", "))
			p.allow = allow
			return p
		}
		return store.ErrNotFound
	}
	c := &call{params: params}
	if found.action != "" {
		if err := h.engine.Accepting(); err != nil {
			return err
		}
		principal, err := h.verify(r)
		if err != nil {
			return err
		}
		c.principal = principal
		if err := authorize(principal, found.action, auth.Resource{}); err != nil {
			return err
		}
	}
	return found.serve(w, r, c)
}

// verify returns who calls.
func (h *handler) verify(r *http.Request) (auth.Principal, error) {
	principal, err := h.engine.Verifier().Verify(r.Context(), r)
	if err == nil && principal.Login == "" { // it would own what nobody owns
		err = errors.New("the verifier returned a principal without a login")
	}
	return principal, err
}

// find returns the fixed route of a call, or the methods that the path knows.
func (h *handler) find(method, escapedPath string) (found *route, params map[string]string, allow []string) {
	parts := strings.Split(strings.TrimPrefix(escapedPath, "/"), "/")
	if len(parts) > 1 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1] // with and without a slash at the end are the same
	}
	for i := range h.routes {
		values, ok := h.routes[i].match(parts)
		switch {
		case !ok:
		case h.routes[i].method == method, h.routes[i].method == "GET" && method == "HEAD":
			return &h.routes[i], values, nil
		case !slices.Contains(allow, h.routes[i].method):
			allow = append(allow, h.routes[i].method)
		}
	}
	return nil, nil, allow
}

func (r *route) match(parts []string) (map[string]string, bool) {
	if len(parts) != len(r.parts) {
		return nil, false
	}
	var values map[string]string
	for i, part := range r.parts {
		if part[0] != '{' {
			if part != parts[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(parts[i])
		if err != nil || value == "" || value == "." || value == ".." || !utf8.ValidString(value) || strings.ContainsAny(value, "/\\\x00") {
			return nil, false
		}
		if values == nil {
			values = map[string]string{}
		}
		values[part[1:len(part)-1]] = value
	}
	return values, true
}

// authorize turns a decision into the answer that it means.
func authorize(p auth.Principal, action auth.Action, resource auth.Resource) error {
	switch auth.Authorize(p, action, resource) {
	case auth.Allow:
		return nil
	case auth.Hide:
		return store.ErrNotFound
	default:
		return auth.ErrForbidden
	}
}

// firstGeneration reports whether the route answers errors in the shape of its own generation.
func firstGeneration(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/plugins/flows/rest/v1/flow-name/")
}

func (h *handler) metrics(w http.ResponseWriter, r *http.Request, _ *call) error {
	var text bytes.Buffer
	if err := h.engine.WriteMetrics(r.Context(), &text); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(text.Bytes()) // a fault of the connection is the client's to notice
	return nil
}

func (h *handler) live(w http.ResponseWriter, r *http.Request, _ *call) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	return nil
}

func (h *handler) ready(w http.ResponseWriter, r *http.Request, _ *call) error {
	if faults := h.engine.Health(); len(faults) > 0 {
		w.Header().Set("Retry-After", "1")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "faults": faults})
		return nil
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}
