package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// controlLogin is who calls through the control socket. No user can have this login: it has a slash.
const controlLogin = "control/socket"

// throughControl marks the contexts of requests that came through the control socket.
type throughControl struct{}

func cameThroughControl(ctx context.Context) bool { return ctx.Value(throughControl{}) != nil }

func controlPath(data string) string { return filepath.Join(data, "control.sock") }

// control serves the engine's handler on the control socket, where every caller is an administrator, and beside it the runs that commands
// wait for.
type control struct {
	listener net.Listener
	server   *http.Server
}

// maxSocketPath is how long the path of a socket may be on every system that has them.
const maxSocketPath = 103

// openControl opens the socket. The caller has the store open: a socket file that is there is a dead process's.
func openControl(engine *integrator.Engine, data string, logger *slog.Logger) (*control, error) {
	path := controlPath(data)
	if len(path) > maxSocketPath {
		return nil, usagef("the path %s has more than %d bytes: give --data relative to the working directory, or a shorter one", path, maxSocketPath)
	}
	// The folder is closed to others before the socket exists, so that nobody can connect before the socket has its own mode.
	if err := os.Chmod(data, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /control/flows/{flow}/run", func(w http.ResponseWriter, r *http.Request) { runFlow(w, r, engine, nil) })
	routes.HandleFunc("POST /control/flows/{flow}/payload", func(w http.ResponseWriter, r *http.Request) { runFlow(w, r, engine, r.Body) })
	routes.HandleFunc("POST /control/store/backup", func(w http.ResponseWriter, r *http.Request) {
		onStore(w, engine, func(st *boltstore.Store) (any, error) { return st.Backup(r.Context(), r.URL.Query().Get("to"), nil) })
	})
	routes.HandleFunc("GET /control/store/stats", func(w http.ResponseWriter, r *http.Request) {
		onStore(w, engine, func(st *boltstore.Store) (any, error) { return st.Stats(r.Context()) })
	})
	routes.Handle("/", engine.Handler())
	c := &control{listener: listener, server: newServer(routes, logger)}
	c.server.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.Background(), throughControl{}, true)
	}
	go c.server.Serve(listener) // ends with refuse
	return c, nil
}

// refuse takes no more connections and removes the socket.
func (c *control) refuse() { c.listener.Close() }

// lastAnswers is how long answers may take to leave once the engine has stopped.
const lastAnswers = 5 * time.Second

// close lets the last answers leave.
func (c *control) close() { shutdown(c.server) }

// shutdown ends a server whose engine has stopped.
func shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.Close()
	}
}

// outcome is how a run ended, or why there was none, as it crosses the control socket.
type outcome struct {
	Run      int64
	Status   string
	Read     int64
	Written  int64
	Rejected int64
	Rejects  []flow.Rejected
	Response []byte

	Refused string // why there was no run; "" when there was one
	Usage   bool   // the caller has to ask differently
}

// runFlow runs a flow for a command and answers an outcome. Parameters are in the query.
func runFlow(w http.ResponseWriter, r *http.Request, engine *integrator.Engine, payload io.Reader) {
	name, params := r.PathValue("flow"), map[string]any{}
	for param, values := range r.URL.Query() {
		params[param] = values[0]
	}
	d, defined := engine.Definitions().Flows[name]
	reads := d.From != nil && d.From.Listener != ""
	var result *integrator.Result
	var err error
	switch {
	case reads && payload == nil:
		err = usagef("flow %q reads listener %q: give its payload with --input", name, d.From.Listener)
	case defined && !reads && payload != nil:
		err = usagef("flow %q reads no listener: leave --input out", name)
	case payload != nil:
		result, err = engine.RunPayload(r.Context(), name, params, payload)
	default:
		result, err = engine.RunFlow(r.Context(), name, params)
	}
	var answer outcome
	if err != nil {
		answer.Refused = err.Error()
		answer.Usage = errors.As(err, new(usageError)) || errors.As(err, new(*flow.ParamError)) || errors.Is(err, store.ErrNotFound)
	} else {
		answer = outcome{Run: result.Run, Status: result.Status, Read: result.Read, Written: result.Written, Rejected: result.Rejected,
			Rejects: result.Rejects, Response: result.Response}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) // a caller that is gone misses nothing
}

// onStore does something with the engine's store for a command, and answers what comes of it or a problem document.
func onStore(w http.ResponseWriter, engine *integrator.Engine, do func(*boltstore.Store) (any, error)) {
	st, err := engine.Store()
	var answer any
	if err == nil {
		answer, err = do(st.(*boltstore.Store)) // the command's engines have no other
	}
	if err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		answer = problem{Detail: err.Error()}
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	json.NewEncoder(w).Encode(answer) // a caller that is gone misses nothing
}

// client speaks to whoever holds the store.
type client struct{ http http.Client }

func newClient(data string) *client {
	return &client{http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", controlPath(data))
	}}}}
}

// answers reports whether somebody serves the control socket.
func answers(ctx context.Context, data string) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", controlPath(data))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// reach calls use with a client of the process that holds the store: a server, or this one when the store is free.
func reach(ctx context.Context, s setup, use func(*client) error) error {
	c := newClient(s.data)
	defer c.http.CloseIdleConnections()
	if answers(ctx, s.data) {
		return use(c)
	}
	engine, err := newEngine(s)
	if err != nil {
		return err
	}
	h, err := start(engine, s.data, s.logger)
	switch {
	case errors.Is(err, store.ErrInUse) && answers(ctx, s.data): // it has come up in the meantime
		return use(c)
	case err != nil:
		return err
	}
	return errors.Join(use(c), h.stop())
}

// call sends a request and reads the answer into v, unless v is nil. A problem document is the error, as a *problem.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body io.Reader, v any) error {
	address := url.URL{Scheme: "http", Host: "control", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("speak to the engine: %w", errors.Unwrap(err)) // without the address, which is ours
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		p := &problem{status: response.StatusCode}
		if err := json.NewDecoder(response.Body).Decode(p); err != nil {
			return fmt.Errorf("the engine answered %s", response.Status)
		}
		return p
	}
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	return nil
}

// problem is an answer of RFC 9457.
type problem struct {
	status int
	Detail string
}

func (p *problem) Error() string { return p.Detail }

// user is a user as the routes show it.
type user struct {
	Login     string   `json:"login"`
	Role      string   `json:"role"`
	Listeners []string `json:"listeners"`
	Flows     []string `json:"flows"`
	Networks  []string `json:"networks"`
	Disabled  bool     `json:"disabled"`
	Owner     string   `json:"owner"`
}

func userRoute(login string) string { return "/rest/v1/users/" + login }

func (c *client) user(ctx context.Context, login string) (u user, err error) {
	return u, c.call(ctx, "GET", userRoute(login), nil, nil, &u)
}

func (c *client) users(ctx context.Context) ([]user, error) {
	var list struct{ Users []user }
	err := c.call(ctx, "GET", "/rest/v1/users", nil, nil, &list)
	return list.Users, err
}

// change writes the given fields of a user.
func (c *client) change(ctx context.Context, login string, fields map[string]any) error {
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return c.call(ctx, "PUT", userRoute(login), nil, bytes.NewReader(body), nil)
}
