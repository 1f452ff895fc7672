package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/store"
)

// execution is a run as the second generation of clients reads it.
type execution struct {
	AuditID       int64  `json:"auditId"`
	ParentAuditID int64  `json:"parentAuditId"`
	Retries       int    `json:"retries"` // attempts behind the first
	FlowID        int64  `json:"flowId"`
	FlowName      string `json:"flowName"`
	EventID       int64  `json:"eventId"`   // always 0: what starts runs has a name and no number
	EventName     string `json:"eventName"` // the listener that took the payload, else the run's trigger
	MessageID     string `json:"messageId"` // "" without a payload
	User          string `json:"user"`
	Started       *int64 `json:"started"` // Unix milliseconds; null: it has not
	Ended         *int64 `json:"ended"`
	Records       int64  `json:"records"` // read
	Status        string `json:"status"`
	Exception     string `json:"exception"`
}

// milliseconds returns nil for the zero time.
func milliseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixMilli()
	return &n
}

// executions is GET /rest/v1/executions/{flowId}?auditId=|messageId=|status=: runs of a flow, newest first. A run or a message that is named
// has to be there; else nothing found is an empty list.
func (h *handler) executions(w http.ResponseWriter, r *http.Request, c *call) error {
	flowID, err := flowNumber(c.params["flowId"])
	if err != nil {
		return err
	}
	filter, _, err := h.filterOf(r, "auditId", "messageId", "status", "limit", "after")
	if err != nil {
		return err
	}
	filter.FlowID, filter.User = flowID, ownOnly(c.principal)
	query := r.URL.Query()
	var message uuid.UUID
	if id := query.Get("messageId"); id != "" {
		if message, err = uuid.Parse(id); err != nil {
			return store.ErrNotFound
		}
	}
	var runs []store.Run
	switch auditID := query.Get("auditId"); {
	case auditID != "":
		run, err := h.runNumbered(r, c, auditID, auth.RunRead)
		if err != nil {
			return err
		}
		if run.FlowID != flowID || message != uuid.Nil && run.Message != message {
			return store.ErrNotFound
		}
		runs = []store.Run{*run}
	case message != uuid.Nil:
		all, err := h.engine.Store().MessageRuns(r.Context(), message)
		if err != nil {
			return err
		}
		for _, run := range all {
			if run.FlowID == flowID && authorize(c.principal, auth.RunRead, auth.Resource{Flow: run.Flow, Owner: run.User}) == nil {
				runs = append(runs, run)
			}
		}
		if runs == nil {
			return store.ErrNotFound
		}
	default:
		if runs, err = h.engine.Store().Runs(r.Context(), filter); err != nil {
			return err
		}
	}
	answer := []execution{}
	for i := range runs {
		if run := &runs[i]; filter.Status == 0 || run.Status == filter.Status {
			e, err := h.executionOf(r, c, run)
			if err != nil {
				return err
			}
			answer = append(answer, e)
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (h *handler) executionOf(r *http.Request, c *call, run *store.Run) (execution, error) {
	e := execution{AuditID: run.Number, ParentAuditID: run.Parent, Retries: max(run.Attempts-1, 0), FlowID: run.FlowID, FlowName: run.Flow, EventName: run.Trigger,
		User: run.User, Started: milliseconds(run.Started), Ended: milliseconds(run.Ended), Records: run.Read, Status: run.Status.String(),
		Exception: exceptionFor(c.principal, run)}
	if run.Message == uuid.Nil {
		return e, nil
	}
	e.MessageID = run.Message.String()
	switch m, err := h.engine.Store().Message(r.Context(), run.Message); {
	case err == nil:
		e.EventName = m.Listener
	case !errors.Is(err, store.ErrNotFound): // a run that is executed in place is stored with its message when it ends
		return e, err
	}
	return e, nil
}

// executionLog is GET /rest/v1/executions/console/download?flowId=&auditId=.
func (h *handler) executionLog(w http.ResponseWriter, r *http.Request, c *call) error {
	query := r.URL.Query()
	for name := range query {
		if name != "flowId" && name != "auditId" {
			return problem(http.StatusBadRequest, "parameters", "Wrong parameters", "there are flowId and auditId")
		}
	}
	if query.Get("auditId") == "" {
		return problem(http.StatusBadRequest, "parameters", "Wrong parameters", "auditId is missing")
	}
	run, err := h.runNumbered(r, c, query.Get("auditId"), auth.RunLog)
	if err != nil {
		return err
	}
	if id := query.Get("flowId"); id != "" && id != strconv.FormatInt(run.FlowID, 10) {
		return store.ErrNotFound
	}
	return h.sendLog(w, r, run)
}
