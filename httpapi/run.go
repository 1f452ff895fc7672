package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// runAnswer is the first generation's answer to a run by name.
type runAnswer struct {
	Status    int    `json:"status"` // 0: success, 1: anything else
	Exception string `json:"exception"`
	Warning   string `json:"warning,omitempty"`

	DryRun *flow.Preview `json:"dryRun,omitempty"` // what the run would do
}

const (
	runTimeout   = 60 * time.Second // how long a run by name is waited for
	maxParamBody = 1 << 20          // bytes
)

// runFlow is POST /plugins/flows/rest/v1/flow-name/{flow}/run.
func (h *handler) runFlow(w http.ResponseWriter, r *http.Request, c *call) error {
	name := c.params["flow"]
	plan, ok := h.engine.Plan(name)
	if err := authorize(c.principal, auth.FlowRun, auth.Resource{Flow: name}); err != nil {
		return err
	}
	if !ok || !plan.Enabled() {
		writeJSON(w, http.StatusNotFound, runAnswer{Status: 1, Exception: fmt.Sprintf("flow %q is not defined", name)})
		return nil
	}
	if plan.Reads() {
		writeJSON(w, http.StatusOK, runAnswer{Status: 1, Exception: h.whereToSend(plan)})
		return nil
	}
	s, preview, err := h.submission(w, r, c, plan)
	if err != nil {
		return err
	}
	if preview != nil {
		answer := runAnswer{Exception: preview.Exception, DryRun: preview}
		if answer.Exception != "" {
			answer.Status = 1
		}
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
	outcome, err := h.wait(r, s)
	switch {
	case errors.Is(err, flow.ErrStillRuns):
		writeJSON(w, http.StatusOK, runAnswer{Status: 1, Exception: fmt.Sprintf("run %d is still running", outcome.Run.Number)})
		return nil
	case err != nil:
		return err
	}
	answer := runAnswer{Exception: exceptionOf(c.principal, outcome), Warning: warningOf(outcome)}
	if outcome.Failure != nil {
		answer.Status = 1
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// startAnswer is the second generation's answer to a run by name or number. Its status is one of those below.
type startAnswer struct {
	FlowID      int64  `json:"flowId"`
	MessageUUID string `json:"messageUuid"` // always "": such a run has no payload
	AuditID     int64  `json:"auditId"`
	runAnswer
}

// What the second generation's status says. 3, was not running, is no answer to a run.
const (
	startStarted = 0
	startRunning = 1 // still, when the time to wait was over
	startSuccess = 4 // with rejected records too
	startError   = 5
)

// startEnded is the status of a run that has ended.
var startEnded = map[store.Status]int{store.Success: startSuccess, store.Warning: startSuccess, store.Error: startError, store.Canceled: 2}

// startFlow is POST /rest/v1/flows/flow-name/{flow}/run and POST /rest/v1/flows/{flowId}/run: the run is under way when it answers, or has
// ended with ?wait=true.
func (h *handler) startFlow(w http.ResponseWriter, r *http.Request, c *call) error {
	name, missing := c.params["flow"], fmt.Sprintf("flow %q is not defined", c.params["flow"])
	plan, ok := h.engine.Plan(name)
	if number, byNumber := c.params["flowId"]; byNumber {
		id, err := flowNumber(number)
		if err != nil {
			return err
		}
		if plan, ok = h.engine.PlanByID(id); ok {
			name = plan.Name
		} else {
			name, missing = "\x00", fmt.Sprintf("flow %d is not defined", id) // which is granted to those alone who may run every flow
		}
	}
	if err := authorize(c.principal, auth.FlowRun, auth.Resource{Flow: name}); err != nil {
		return err
	}
	if !ok || !plan.Enabled() {
		return problem(http.StatusNotFound, "not-found", "Not found", missing)
	}
	if plan.Reads() {
		return problem(http.StatusConflict, "reads-listener", "Nothing to read", h.whereToSend(plan))
	}
	wait, err := boolOf("wait", r.URL.Query().Get("wait"))
	if err != nil {
		return err
	}
	s, preview, err := h.submission(w, r, c, plan)
	if err != nil {
		return err
	}
	answer := startAnswer{FlowID: plan.ID}
	switch {
	case preview != nil:
		if answer.runAnswer = (runAnswer{Status: startSuccess, Exception: preview.Exception, DryRun: preview}); preview.Exception != "" {
			answer.Status = startError
		}
	case wait:
		outcome, err := h.wait(r, s)
		switch {
		case errors.Is(err, flow.ErrStillRuns):
			answer.Status = startRunning
		case err != nil:
			return err
		default:
			answer.runAnswer = runAnswer{Status: startEnded[outcome.Run.Status], Exception: exceptionOf(c.principal, outcome), Warning: warningOf(outcome)}
		}
		answer.AuditID = outcome.Run.Number
	default:
		receipt, err := h.engine.Runner().Submit(r.Context(), s)
		if err != nil {
			return err
		}
		answer.AuditID, answer.Status = receipt.Runs[0].Number, startStarted
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// flowNumber reads a flowId of a path.
func flowNumber(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, store.ErrNotFound
	}
	return n, nil
}

// whereToSend says why a flow cannot be run without a payload.
func (h *handler) whereToSend(plan *flow.Plan) string {
	text := fmt.Sprintf("flow %q reads listener %q", plan.Name, plan.Listener)
	if l, ok := h.engine.Listener(plan.Listener); ok && l.Path() != "" {
		text += ": send payloads to " + listenerPrefix + l.Path()
	}
	return text
}

// submission returns the run that a call asks for; with ?dry_run=true what it would do instead, to those alone who may see what is in the
// systems that the flow reads.
func (h *handler) submission(w http.ResponseWriter, r *http.Request, c *call, plan *flow.Plan) (s flow.Submission, preview *flow.Preview, err error) {
	given, err := h.parameters(w, r)
	if err != nil {
		return s, nil, err
	}
	params, err := plan.Parameters(given)
	if err != nil {
		return s, nil, err
	}
	s = flow.Submission{Plans: []*flow.Plan{plan}, Trigger: "name", User: c.principal.Login, Params: params, Detach: true}
	dry, err := boolOf("dry_run", r.URL.Query().Get("dry_run"))
	if err != nil || !dry {
		return s, nil, err
	}
	if err := authorize(c.principal, auth.RunReplay, auth.Resource{Flow: plan.Name}); err != nil {
		return s, nil, err
	}
	previews, err := h.engine.Runner().DryRun(r.Context(), s)
	if err != nil {
		return s, nil, err
	}
	return s, previews[0], nil
}

// wait carries out a run and waits for its end. What the flow answers is not for the routes that run it: they tell the status alone.
func (h *handler) wait(r *http.Request, s flow.Submission) (*flow.Outcome, error) {
	outcome, err := h.engine.Runner().Call(r.Context(), s, runTimeout)
	if err == nil && outcome.Response != nil {
		outcome.Response.Close()
	}
	return outcome, err
}

// warningOf says what is odd about a run that has ended well: records were rejected, or there were none where the definition looks for them.
func warningOf(outcome *flow.Outcome) string {
	run := &outcome.Run
	switch {
	case run.Status == store.Warning:
		return fmt.Sprintf("%d of %d rejected: see /rest/v1/runs/%d/rejects", run.Rejected, run.Read, run.Number)
	case outcome.Failure == nil && outcome.NoRecords != "":
		return "nothing was read: there are no records at " + outcome.NoRecords
	}
	return ""
}

// exceptionOf returns as much of an outcome's failure as the caller's role may know.
func exceptionOf(p auth.Principal, outcome *flow.Outcome) string {
	if outcome.Failure == nil {
		return ""
	}
	return exceptionFor(p, &outcome.Run)
}

// exceptionFor returns as much of a run's failure as the caller's role may know.
func exceptionFor(p auth.Principal, run *store.Run) string {
	if run.Exception == "" {
		return ""
	}
	text := causesFor(p, run)
	if run.ErrorID != "" {
		text += "\nerror id " + run.ErrorID
	}
	return text
}

// causesFor returns as much of the causes of a run's failure as the caller's role may know.
func causesFor(p auth.Principal, run *store.Run) string {
	if auth.Authorize(p, auth.RunException, auth.Resource{Flow: run.Flow, Owner: run.User}) == auth.Allow {
		return run.Exception
	}
	return run.Reason
}

// parameters returns the parameters of a call: those of the query, overruled by those of the body.
func (h *handler) parameters(w http.ResponseWriter, r *http.Request) (transform.Value, error) {
	body, err := h.readAll(w, r, maxParamBody)
	if err != nil {
		return transform.Null, err
	}
	inBody, err := flow.ParseParams(body)
	if err != nil {
		return transform.Null, err
	}
	params := transform.NewObject(transform.NewShape(), nil)
	for _, p := range queryPairs(r) {
		if _, twice := params.Get(p.Name); !twice { // the first of repeated ones
			params = params.With(p.Name, transform.Untyped(p.Value))
		}
	}
	for name, value := range inBody.Fields() {
		if !flow.NeverParameter(name) {
			params = params.With(name, value)
		}
	}
	return params, nil
}

func sortPairs(pairs []store.Pair) {
	slices.SortStableFunc(pairs, func(a, b store.Pair) int { return strings.Compare(a.Name, b.Name) })
}
