package httpapi

import (
	"fmt"
	"net/http"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
)

// dryRun reads ?dry_run=, the one thing that the query of a replay may hold.
func dryRun(r *http.Request) (bool, error) {
	query := r.URL.Query()
	for name := range query {
		if name != "dry_run" {
			return false, problem(http.StatusBadRequest, "parameters", "Wrong parameters", "there is dry_run")
		}
	}
	return boolOf("dry_run", query.Get("dry_run"))
}

// boolOf reads a value of the query that says yes or no; without one it is no.
func boolOf(name, value string) (bool, error) {
	switch value {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, problem(http.StatusBadRequest, "parameters", "Wrong parameters", name+" must be true or false")
}

// replayed answers a replay: with the receipt of the new runs, or with what they would do.
func (h *handler) replayed(w http.ResponseWriter, r *http.Request, dry bool, s flow.Submission, replay func() (*store.Receipt, error)) error {
	if dry {
		previews, err := h.engine.Runner().DryRun(r.Context(), s)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]any{"dryRun": true, "runs": previews})
		return nil
	}
	receipt, err := replay()
	if err != nil {
		return err
	}
	writeReceipt(w, http.StatusOK, receipt, "received", "")
	return nil
}

// replay is POST /rest/v1/messages/{message}/replay: new runs of the same payload, for the flows that read its listener today.
func (h *handler) replay(w http.ResponseWriter, r *http.Request, c *call) error {
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	m, err := h.messageOf(r, c, auth.MessageReplay)
	if err != nil {
		return err
	}
	var readers []*flow.Plan
	if l, ok := h.engine.Listener(m.Listener); ok {
		readers = l.Plans()
	}
	s, err := h.engine.Runner().OfMessage(r.Context(), m, readers, c.principal.Login)
	if err != nil {
		return err
	}
	return h.replayed(w, r, dry, s, func() (*store.Receipt, error) { return h.engine.Runner().Replay(r.Context(), s) })
}

// replayRun is POST /rest/v1/runs/{run}/replay: the run's flow of today, on the same payload or with the same parameters.
func (h *handler) replayRun(w http.ResponseWriter, r *http.Request, c *call) error {
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	run, err := h.runOf(r, c, auth.RunReplay)
	if err != nil {
		return err
	}
	s, err := h.engine.Runner().OfRun(r.Context(), run, c.principal.Login)
	if err != nil {
		return err
	}
	return h.replayed(w, r, dry, s, func() (*store.Receipt, error) {
		return h.engine.Runner().ReplayRun(r.Context(), run, c.principal.Login)
	})
}

// replayRejects is POST /rest/v1/runs/{run}/rejects/replay: a new run of what the run has rejected.
func (h *handler) replayRejects(w http.ResponseWriter, r *http.Request, c *call) error {
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	run, err := h.runOf(r, c, auth.RunReplay)
	if err != nil {
		return err
	}
	s, err := h.engine.Runner().OfRejects(r.Context(), run, c.principal.Login)
	if err != nil {
		return err
	}
	return h.replayed(w, r, dry, s, func() (*store.Receipt, error) { return h.engine.Runner().Replay(r.Context(), s) })
}

// doneRun is what became of one of many runs.
type doneRun struct {
	AuditID    int64  `json:"auditId"`
	ReplayedAs int64  `json:"replayedAs,omitempty"`
	Skipped    bool   `json:"skipped,omitempty"`
	Error      string `json:"error,omitempty"`
}

// bulk answers what became of many runs: word names those of which something did. Nothing chosen by nothing would be everything.
func (h *handler) bulk(w http.ResponseWriter, r *http.Request, word string, allowed func(store.Status) bool, do func(store.RunFilter) ([]flow.Done, int64, error)) error {
	filter, undefined, err := h.filterOf(r, "flow", "status", "since", "limit", "after")
	if err != nil {
		return err
	}
	wrong := func(detail string) error {
		return problem(http.StatusBadRequest, "parameters", "Wrong parameters", detail)
	}
	switch {
	case undefined != "":
		return wrong(fmt.Sprintf("flow %q is not defined", undefined))
	case filter.FlowID == 0 && filter.Status == 0 && filter.Since.IsZero():
		return wrong("say which runs: flow, status or since")
	case filter.Status != 0 && !allowed(filter.Status):
		return wrong(fmt.Sprintf("runs with status %s cannot be %s", filter.Status, word))
	}
	done, after, err := do(filter)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	runs := []doneRun{}
	for _, d := range done {
		one := doneRun{AuditID: d.Run, ReplayedAs: d.As, Skipped: d.Skipped}
		switch {
		case d.Err != nil:
			p := problemOf(d.Err)
			if p.unexpected != nil {
				p.ErrorID = newErrorID()
				h.engine.Logger().Error("a run could not be "+word, "run", d.Run, "errorID", p.ErrorID, "error", p.unexpected)
				p.Detail += " (error id " + p.ErrorID + ")"
			}
			one.Error = p.Detail
			counts["failed"]++
		case d.Skipped:
			counts["skipped"]++
		default:
			counts[word]++
		}
		runs = append(runs, one)
	}
	answer := map[string]any{word: counts[word], "skipped": counts["skipped"], "failed": counts["failed"], "runs": runs}
	if after != 0 {
		answer["after"] = after
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// replayRuns is POST /rest/v1/runs/replay?flow=&status=&since=&limit=&after=: the runs of a page that were not replayed yet, the oldest first.
func (h *handler) replayRuns(w http.ResponseWriter, r *http.Request, c *call) error {
	return h.bulk(w, r, "replayed", store.Status.Settled, func(filter store.RunFilter) ([]flow.Done, int64, error) {
		return h.engine.Runner().ReplayRuns(r.Context(), filter, c.principal.Login)
	})
}

// cancelRuns is POST /rest/v1/runs/cancel?flow=&status=&since=&limit=&after=: the runs of a page that have not ended.
func (h *handler) cancelRuns(w http.ResponseWriter, r *http.Request, _ *call) error {
	return h.bulk(w, r, "canceled", func(s store.Status) bool { return !s.Settled() }, func(filter store.RunFilter) ([]flow.Done, int64, error) {
		return h.engine.Runner().CancelRuns(r.Context(), filter)
	})
}
