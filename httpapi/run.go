package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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
		exception := fmt.Sprintf("flow %q reads listener %q", name, plan.Listener)
		if l, ok := h.engine.Listener(plan.Listener); ok && l.Path() != "" {
			exception += ": send payloads to " + listenerPrefix + l.Path()
		}
		writeJSON(w, http.StatusOK, runAnswer{Status: 1, Exception: exception})
		return nil
	}
	given, err := h.parameters(w, r)
	if err != nil {
		return err
	}
	params, err := plan.Parameters(given)
	if err != nil {
		return err
	}
	submission := flow.Submission{Plans: []*flow.Plan{plan}, Trigger: "name", User: c.principal.Login, Params: params, Detach: true}
	if dry, err := dryRunOf(r.URL.Query().Get("dry_run")); err != nil {
		return err
	} else if dry {
		return h.dryRunFlow(w, r, c, submission)
	}
	outcome, err := h.engine.Runner().Call(r.Context(), submission, runTimeout)
	switch {
	case errors.Is(err, flow.ErrStillRuns):
		writeJSON(w, http.StatusOK, runAnswer{Status: 1, Exception: fmt.Sprintf("run %d is still running", outcome.Run.Number)})
		return nil
	case err != nil:
		return err
	}
	if outcome.Response != nil {
		outcome.Response.Close() // this route answers the status alone
	}
	answer := runAnswer{}
	run := &outcome.Run
	if outcome.Failure != nil {
		answer.Status, answer.Exception = 1, exceptionFor(c.principal, run)
	} else if run.Rejected > 0 {
		answer.Warning = fmt.Sprintf("%d of %d rejected: see /rest/v1/runs/%d/rejects", run.Rejected, run.Read, run.Number)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// dryRunFlow answers what a run by name would do: to those alone who may see what is in the systems that it reads.
func (h *handler) dryRunFlow(w http.ResponseWriter, r *http.Request, c *call, s flow.Submission) error {
	if err := authorize(c.principal, auth.RunReplay, auth.Resource{Flow: s.Plans[0].Name}); err != nil {
		return err
	}
	previews, err := h.engine.Runner().DryRun(r.Context(), s)
	if err != nil {
		return err
	}
	answer := runAnswer{Exception: previews[0].Exception, DryRun: previews[0]}
	if answer.Exception != "" {
		answer.Status = 1
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// exceptionFor returns as much of a run's failure as the caller's role may know.
func exceptionFor(p auth.Principal, run *store.Run) string {
	if run.Exception == "" {
		return ""
	}
	text := run.Reason
	if auth.Authorize(p, auth.RunException, auth.Resource{Flow: run.Flow, Owner: run.User}) == auth.Allow {
		text = run.Exception
	}
	if run.ErrorID != "" {
		text += "\nerror id " + run.ErrorID
	}
	return text
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
		if !notParameter(name) {
			params = params.With(name, value)
		}
	}
	return params, nil
}

func sortPairs(pairs []store.Pair) {
	slices.SortStableFunc(pairs, func(a, b store.Pair) int { return strings.Compare(a.Name, b.Name) })
}
