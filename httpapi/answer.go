package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
)

// rejectedHeader says how many of many records were rejected.
const rejectedHeader = "Integrator-Rejected"

// answerListener writes what a call came to.
func (h *handler) answerListener(w http.ResponseWriter, r *http.Request, l *listener.Listener, by auth.Principal, answer *listener.Answer, err error) error {
	switch {
	case errors.Is(err, flow.ErrStillRuns):
		writeReceipt(w, http.StatusAccepted, answer.Receipt, "running", "")
		return nil
	case err != nil:
		return err
	case answer.Outcome == nil:
		h.answerReceipt(w, l, answer)
		return nil
	}
	outcome := answer.Outcome
	response, run := outcome.Response, &outcome.Run
	if response != nil {
		defer response.Close()
	}
	switch {
	case outcome.Failure != nil:
		return h.answerFailed(w, r, l, outcome, problemOfRun(run, outcome.Failure, outcome.Rejects), causesFor(by, run))
	case outcome.AllRejected():
		p := problem(http.StatusUnprocessableEntity, "rejected", "Records were rejected", fmt.Sprintf("%d of %d records were rejected", run.Rejected, run.Read))
		p.Run, p.Flow, p.Kind, p.Rejects = run.Number, run.Flow, flow.KindInput, outcome.Rejects
		return h.answerFailed(w, r, l, outcome, p, p.Detail)
	case run.Rejected > 0:
		w.Header().Set(rejectedHeader, strconv.FormatInt(run.Rejected, 10))
	}
	if response == nil {
		writeReceipt(w, http.StatusOK, answer.Receipt, run.Status.String(), warningOf(outcome))
		return nil
	}
	send(w, r, response, response.Status)
	return nil
}

// answerFailed writes what the flow's on_error says to a run that did not go well; without a word of it the problem is returned.
func (h *handler) answerFailed(w http.ResponseWriter, r *http.Request, l *listener.Listener, outcome *flow.Outcome, p *Problem, causes string) error {
	response, err := h.engine.Runner().OnError(outcome, causes)
	if err != nil {
		h.engine.Logger().Error("an error has no answer of its own: it could not be made", "listener", l.Name, "run", outcome.Run.Number, "error", err)
	}
	if response == nil {
		return p
	}
	defer response.Close()
	p.Status = cmp.Or(response.Status, p.Status)
	if response.HeadOnly() && !response.Empty() {
		setHeader(w.Header(), response.Header)
		return p
	}
	if p.Status >= http.StatusBadRequest {
		h.refused(r, l.Name, p)
	}
	send(w, r, response, p.Status)
	return nil
}

// setHeader sets what an answer's definition says. What else the answer varies with stays, and nobody keeps an answer unless the definition says so.
func setHeader(header, defined http.Header) {
	varies := slices.Concat(header["Vary"], defined["Vary"])
	maps.Copy(header, defined)
	if varies != nil {
		header["Vary"] = varies
	}
	if header["Cache-Control"] == nil {
		header.Set("Cache-Control", "no-store")
	}
	header.Set("X-Content-Type-Options", "nosniff")
}

// send writes an answer that is complete.
func send(w http.ResponseWriter, r *http.Request, response *flow.Response, status int) {
	header := w.Header()
	setHeader(header, response.Header)
	if response.Empty() {
		w.WriteHeader(status)
		return
	}
	header.Set("Content-Length", strconv.FormatInt(response.Size(), 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := response.WriteTo(w); err != nil {
		panic(http.ErrAbortHandler) // the head is out: only a broken connection tells the client that the body is not whole
	}
}

// asGet returns the method that a call is routed by: a HEAD is a GET of which only the head is answered.
func asGet(method string) string {
	if method == http.MethodHead {
		return http.MethodGet
	}
	return method
}

// stream is an answer that is sent while its run goes on.
type stream struct {
	w        http.ResponseWriter
	patience time.Duration // with a reader that takes nothing
	begun    bool
}

// begin is a flow.StreamFunc: it sends the head.
func (s *stream) begin(ctx context.Context, response *flow.Response) io.Writer {
	s.begun = true
	header := s.w.Header()
	setHeader(header, response.Header)
	s.w.WriteHeader(response.Status)
	control := http.NewResponseController(s.w)
	context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), context.Canceled) { // the run was stopped: nobody waits for its reader
			control.SetWriteDeadline(time.Now())
		}
	})
	return writerFunc(func(p []byte) (int, error) {
		if ctx.Err() == nil { // where it cannot be set, the host's server has to
			control.SetWriteDeadline(time.Now().Add(s.patience))
		}
		return s.w.Write(p)
	})
}

// end ends an answer of which a part is sent: only a broken connection tells the client that the body is not whole.
func (s *stream) end(answer *listener.Answer, err error) {
	if err != nil || answer.Outcome.Failure != nil {
		panic(http.ErrAbortHandler)
	}
	control := http.NewResponseController(s.w)
	control.SetWriteDeadline(time.Now().Add(s.patience)) // for what the server still holds
	control.Flush()                                      // a short body gets no length, which would leave no room for a trailer
	if n := answer.Outcome.Run.Rejected; n > 0 {
		s.w.Header().Set(http.TrailerPrefix+rejectedHeader, strconv.FormatInt(n, 10))
	}
}
