package httpapi

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/accept"
	"github.com/integrator-go/integrator/store"
)

// messageAnswer is what GET /rest/v1/messages/{message} says.
type messageAnswer struct {
	MessageUUID string       `json:"messageUuid"`
	Listener    string       `json:"listener"`
	User        string       `json:"user"`
	ReceivedAt  time.Time    `json:"receivedAt"`
	Bytes       int64        `json:"bytes"`
	SHA256      string       `json:"sha256"`
	Erased      bool         `json:"erased,omitempty"`
	RejectsOf   int64        `json:"rejectsOf,omitempty"` // the run that rejected what it holds
	Status      string       `json:"status"`
	Runs        []messageRun `json:"runs"`
}

// messageRun is a run as its message shows it.
type messageRun struct {
	AuditID     int64      `json:"auditId"`
	FlowName    string     `json:"flowName"`
	Status      string     `json:"status"`
	Attempts    int        `json:"attempts"`
	NextAttempt *time.Time `json:"nextAttempt,omitempty"`
	Read        int64      `json:"read"`
	Written     int64      `json:"written"`
	Rejected    int64      `json:"rejected"`
	Exception   string     `json:"exception"`
}

// runView is a run as the history shows it.
type runView struct {
	AuditID       int64      `json:"auditId"`
	ParentAuditID int64      `json:"parentAuditId,omitempty"`
	RunUUID       string     `json:"runUuid"`
	FlowID        int64      `json:"flowId"`
	FlowName      string     `json:"flowName"`
	Trigger       string     `json:"trigger"`
	MessageUUID   string     `json:"messageUuid,omitempty"`
	User          string     `json:"user,omitempty"`
	Version       string     `json:"version,omitempty"`
	Status        string     `json:"status"`
	Queued        time.Time  `json:"queued"`
	Started       *time.Time `json:"started,omitempty"`
	Ended         *time.Time `json:"ended,omitempty"`
	NextAttempt   *time.Time `json:"nextAttempt,omitempty"`
	Attempts      int        `json:"attempts"`
	Read          int64      `json:"read"`
	Written       int64      `json:"written"`
	Rejected      int64      `json:"rejected"`
	Kind          string     `json:"kind,omitempty"`
	Exception     string     `json:"exception,omitempty"`
	ErrorID       string     `json:"errorId,omitempty"`
}

func viewOf(p auth.Principal, run *store.Run) runView {
	v := runView{AuditID: run.Number, ParentAuditID: run.Parent, RunUUID: run.ID.String(), FlowID: run.FlowID, FlowName: run.Flow, Trigger: run.Trigger,
		User: run.User, Version: run.Version, Status: run.Status.String(), Queued: run.Queued, Started: instant(run.Started), Ended: instant(run.Ended),
		NextAttempt: nextAttempt(run), Attempts: run.Attempts, Read: run.Read, Written: run.Written, Rejected: run.Rejected, Kind: run.Kind,
		Exception: exceptionFor(p, run), ErrorID: run.ErrorID}
	if run.Message != uuid.Nil {
		v.MessageUUID = run.Message.String()
	}
	return v
}

// instant returns nil for the zero time, which means that it has not happened.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func nextAttempt(run *store.Run) *time.Time {
	if run.Status != store.Queued || run.Attempts == 0 {
		return nil
	}
	return instant(run.Due)
}

// messageOf returns the message that the path names, if the caller may know of it.
func (h *handler) messageOf(r *http.Request, c *call, action auth.Action) (*store.Message, error) {
	id, err := uuid.Parse(c.params["message"])
	if err != nil {
		return nil, store.ErrNotFound
	}
	m, err := h.engine.Store().Message(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return m, authorize(c.principal, action, auth.Resource{Listener: m.Listener, Owner: m.User})
}

func (h *handler) message(w http.ResponseWriter, r *http.Request, c *call) error {
	m, err := h.messageOf(r, c, auth.MessageRead)
	if err != nil {
		return err
	}
	runs, err := h.engine.Store().MessageRuns(r.Context(), m.ID)
	if err != nil {
		return err
	}
	answer := messageAnswer{MessageUUID: m.ID.String(), Listener: m.Listener, User: m.User, ReceivedAt: m.ReceivedAt.UTC(), Bytes: m.Body.Size,
		SHA256: hex.EncodeToString(m.Body.SHA256[:]), Erased: m.Erased, RejectsOf: m.RejectsOf, Status: worst(runs), Runs: []messageRun{}}
	for i := range runs {
		run := &runs[i]
		answer.Runs = append(answer.Runs, messageRun{AuditID: run.Number, FlowName: run.Flow, Status: run.Status.String(), Attempts: run.Attempts,
			NextAttempt: nextAttempt(run), Read: run.Read, Written: run.Written, Rejected: run.Rejected, Exception: exceptionFor(c.principal, run)})
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// worst is the status of a message: received until all of its runs have settled, then the worst of them.
func worst(runs []store.Run) string {
	if len(runs) == 0 {
		return "ignored"
	}
	rank := map[store.Status]int{store.Success: 0, store.Warning: 1, store.Canceled: 2, store.Error: 3}
	status := store.Success
	for _, run := range runs {
		if !run.Status.Settled() {
			return "received"
		}
		if rank[run.Status] > rank[status] {
			status = run.Status
		}
	}
	return status.String()
}

func (h *handler) messageBody(w http.ResponseWriter, r *http.Request, c *call) error {
	m, err := h.messageOf(r, c, auth.MessageBody)
	if err != nil {
		return err
	}
	if m.Erased {
		return store.ErrErased
	}
	if m.RejectsOf != 0 {
		return h.show(w, "ndjson", func(w io.Writer) error { return h.engine.Runner().ShowKept(r.Context(), w, m.Body, "ndjson") })
	}
	return h.sendBody(w, r, m.Body, "application/octet-stream")
}

// erase is DELETE /rest/v1/messages/{message}/body: the payload goes for good, its history stays.
func (h *handler) erase(w http.ResponseWriter, r *http.Request, c *call) error {
	m, err := h.messageOf(r, c, auth.MessageErase)
	if err != nil {
		return err
	}
	if err := h.engine.Store().Erase(r.Context(), m.ID); err != nil {
		return err
	}
	h.engine.Logger().Info("a payload is erased", "message", m.ID, "user", c.principal.Login)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// sendBody sends a stored body. Its bytes are a stranger's: nothing may take them for a page.
func (h *handler) sendBody(w http.ResponseWriter, r *http.Request, b store.Body, mediaType string) error {
	body, err := h.engine.Store().OpenBody(r.Context(), b)
	if err != nil {
		return err
	}
	defer body.Close()
	header := w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	header.Set("Content-Disposition", "attachment")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the head is out
	}
	return nil
}

// runOf returns the run that the path names, if the caller may know of it.
func (h *handler) runOf(r *http.Request, c *call, action auth.Action) (*store.Run, error) {
	return h.runNumbered(r, c, c.params["run"], action)
}

// runNumbered returns the run of that number, if the caller may know of it.
func (h *handler) runNumbered(r *http.Request, c *call, text string, action auth.Action) (*store.Run, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number <= 0 {
		return nil, store.ErrNotFound
	}
	run, err := h.engine.Store().Run(r.Context(), number)
	if errors.Is(err, store.ErrNotFound) {
		if active, ok := h.engine.Runner().Active(number); ok {
			run, err = &active, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return run, authorize(c.principal, action, auth.Resource{Flow: run.Flow, Owner: run.User})
}

func (h *handler) run(w http.ResponseWriter, r *http.Request, c *call) error {
	run, err := h.runOf(r, c, auth.RunRead)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, viewOf(c.principal, run))
	return nil
}

// filterOf reads the query of routes about many runs: flow, status, since, limit, after. Of others than those of the route's own (names) there are
// none. It tells which flow was named that is not defined.
func (h *handler) filterOf(r *http.Request, names ...string) (filter store.RunFilter, undefined string, err error) {
	query := r.URL.Query()
	filter.Limit = 100
	wrong := func(name, want string) (store.RunFilter, string, error) {
		return filter, "", problem(http.StatusBadRequest, "parameters", "Wrong parameters", name+" must be "+want)
	}
	for name := range query {
		if !slices.Contains(names, name) {
			last := len(names) - 1
			return filter, "", problem(http.StatusBadRequest, "parameters", "Wrong parameters", "there are "+strings.Join(names[:last], ", ")+" and "+names[last])
		}
	}
	if name := query.Get("flow"); name != "" {
		plan, ok := h.engine.Plan(name)
		if !ok {
			filter.FlowID, undefined = -1, name // which no run has
		} else {
			filter.FlowID = plan.ID
		}
	}
	if s := query.Get("status"); s != "" {
		status, ok := store.ParseStatus(s)
		if !ok {
			return wrong("status", "one of queued, running, success, warning, error, canceled")
		}
		filter.Status = status
	}
	if s := query.Get("since"); s != "" {
		since, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return wrong("since", "a time as 2026-01-31T00:00:00Z")
		}
		filter.Since = since
	}
	for name, field := range map[string]func(int64){"limit": func(n int64) { filter.Limit = int(min(n, flow.MaxBulk)) }, "after": func(n int64) { filter.Before = n }} {
		if s := query.Get(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n <= 0 {
				return wrong(name, "a whole number above 0")
			}
			field(n)
		}
	}
	return filter, undefined, nil
}

// ownOnly returns whose runs a caller sees that sees its own alone; "" for everybody's.
func ownOnly(p auth.Principal) string {
	if auth.Authorize(p, auth.RunRead, auth.Resource{Owner: "\x00somebody else"}) != auth.Allow {
		return p.Login
	}
	return ""
}

// runsAnswer is a page of the history.
type runsAnswer struct {
	Runs  []runView `json:"runs"`
	After int64     `json:"after,omitempty"` // of the next page; absent on the last
}

// runs is GET /rest/v1/runs?flow=&status=&since=&limit=&after=: newest first; `after` is the last number of the page before.
func (h *handler) runs(w http.ResponseWriter, r *http.Request, c *call) error {
	filter, _, err := h.filterOf(r, "flow", "status", "since", "limit", "after") // an api user learns nothing about what is defined
	if err != nil {
		return err
	}
	filter.User = ownOnly(c.principal)
	runs, err := h.engine.Store().Runs(r.Context(), filter)
	if err != nil {
		return err
	}
	answer := runsAnswer{Runs: []runView{}}
	for i := range runs {
		answer.Runs = append(answer.Runs, viewOf(c.principal, &runs[i]))
	}
	if len(runs) == filter.Limit {
		answer.After = runs[len(runs)-1].Number
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (h *handler) rejects(w http.ResponseWriter, r *http.Request, c *call) error {
	run, err := h.runOf(r, c, auth.RunRejects)
	if err != nil {
		return err
	}
	format, err := rejectFormat(r)
	if err != nil {
		return err
	}
	return h.show(w, format, func(w io.Writer) error {
		err := h.engine.Runner().Rejects(r.Context(), w, run.Number, format)
		if errors.Is(err, store.ErrNotFound) { // it is executed in place, and nothing is stored of it yet
			return nil
		}
		return err
	})
}

// rejectFormat returns the format that a call wants: ?format= says so, else Accept, else it is ndjson.
func rejectFormat(r *http.Request) (string, error) {
	query := r.URL.Query()
	for name := range query {
		if name != "format" {
			return "", problem(http.StatusBadRequest, "parameters", "Wrong parameters", "there is format")
		}
	}
	if format := query.Get("format"); format != "" {
		if flow.RejectTypes[format] == "" {
			return "", problem(http.StatusBadRequest, "parameters", "Wrong parameters", "format must be one of ndjson, json, csv")
		}
		return format, nil
	}
	formats := []string{"ndjson", "json", "csv"}
	var types []string
	for _, name := range formats {
		types = append(types, flow.RejectTypes[name])
	}
	chosen := accept.Choose(r.Header.Values("Accept"), types)
	if chosen < 0 {
		return "", &flow.AcceptError{There: types}
	}
	return formats[chosen], nil
}

// show sends what write makes of rejected records. Its bytes are a stranger's: nothing may take them for a page.
func (h *handler) show(w http.ResponseWriter, format string, write func(io.Writer) error) error {
	begun := false
	begin := func() {
		if begun {
			return
		}
		begun = true
		header := w.Header()
		header.Set("Content-Type", flow.RejectTypes[format])
		header.Set("Content-Disposition", "attachment")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
	}
	err := write(writerFunc(func(p []byte) (int, error) {
		begin()
		return w.Write(p)
	}))
	if err != nil && !begun {
		return err
	}
	if begin(); err != nil {
		panic(http.ErrAbortHandler) // the head is out
	}
	return nil
}

// writerFunc makes a function an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// runLog is GET /rest/v1/runs/{run}/log: what happened in the run, over all of its attempts.
func (h *handler) runLog(w http.ResponseWriter, r *http.Request, c *call) error {
	run, err := h.runOf(r, c, auth.RunLog)
	if err != nil {
		return err
	}
	return h.sendLog(w, r, run)
}

func (h *handler) sendLog(w http.ResponseWriter, r *http.Request, run *store.Run) error {
	text, err := h.engine.Runner().Log(r.Context(), run.Number)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=run-%d.log", run.Number))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	io.WriteString(w, text) // a fault of the connection is the client's to notice
	return nil
}

func (h *handler) cancel(w http.ResponseWriter, r *http.Request, c *call) error {
	run, err := h.runOf(r, c, auth.RunCancel)
	if err != nil {
		return err
	}
	err = h.engine.Runner().Cancel(r.Context(), run.Number)
	if errors.Is(err, store.ErrNotFound) {
		return problem(http.StatusConflict, "not-active", "Nothing to cancel", "the run has ended already")
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]any{"auditId": run.Number, "status": "canceling"})
	return nil
}
