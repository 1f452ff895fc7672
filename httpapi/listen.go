package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// receipt is the default answer of a listener.
type receipt struct {
	MessageUUID string       `json:"messageUuid"`
	AuditID     int64        `json:"auditId"`
	FlowID      int64        `json:"flowId"`
	Status      string       `json:"status"`
	Runs        []receiptRun `json:"runs,omitempty"` // when several flows read the listener
}

type receiptRun struct {
	FlowName string `json:"flowName"`
	FlowID   int64  `json:"flowId"`
	AuditID  int64  `json:"auditId"`
}

// listen takes a call of a user-defined listener; path is what follows the prefix. It sets name to the listener's as soon as it is known.
func (h *handler) listen(w http.ResponseWriter, r *http.Request, path string, name *string) error {
	if err := h.engine.Accepting(); err != nil {
		return err
	}
	// Without valid proof every path answers 401, known or not: so the route's own answers come after.
	router := h.engine.Router()
	l, params, allow := router.Match(r.Method, path)
	if l != nil {
		*name = l.Name
	}
	principal, err := h.verifyListener(r, l, router.TakesBasic())
	if err != nil {
		if router.TakesBasic() && problemOf(err).Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="integrator", charset="UTF-8"`)
		}
		return err
	}
	switch {
	case l == nil && len(allow) > 0:
		p := problem(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", "this listener takes "+strings.Join(allow, ", "))
		p.allow = allow
		return p
	case l == nil, !l.Enabled(), len(l.Plans()) == 0:
		return store.ErrNotFound
	}
	if err := authorize(principal, auth.ListenerCall, auth.Resource{Listener: l.Name}); err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		switch dry, err := boolOf("dry_run", r.URL.Query().Get("dry_run")); {
		case err != nil:
			return err
		case dry:
			return problem(http.StatusBadRequest, "parameters", "Wrong parameters",
				"a listener stores what it is sent: leave dry_run out; what stored payloads would do, their replay with ?dry_run=true says")
		}
	}
	if err := l.Admit(principal.Login); err != nil {
		return err
	}
	c := &listener.Call{User: principal.Login, Method: r.Method, Params: params, Query: queryPairs(r), Header: headerPairs(r.Header), Length: r.ContentLength}
	if err := identity(r); err != nil {
		return err
	}
	if r.ContentLength > l.MaxBody {
		return listener.ErrTooLarge
	}
	if r.ContentLength != 0 {
		c.Body = newBodyReader(w, r, l.MaxBody)
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if c.Once, err = onceOf(key, principal.Login, l.Name); err != nil {
			return err
		}
	}
	answer, err := h.engine.Receiver().Receive(r.Context(), l, c)
	if errors.Is(err, errTooSlow) && h.engine.Accepting() != nil {
		err = flow.ErrStopping // it was not given all of its time
	}
	failpoint.Hit("accept.answering")
	return h.answerListener(w, l, answer, err)
}

// crossOrigin refuses what a page of another origin makes a browser send. It matters where the browser adds the proof by itself.
var crossOrigin = http.NewCrossOriginProtection()

// verifyListener returns who calls a listener, l, or one that is not there. Where any listener takes passwords (basic), they are looked at on every path,
// so that nothing tells a stranger which paths there are.
func (h *handler) verifyListener(r *http.Request, l *listener.Listener, basic bool) (auth.Principal, error) {
	proof := r
	if l != nil && l.InQuery {
		var err error
		if proof, err = fromQuery(r); err != nil {
			return auth.Principal{}, err
		}
	}
	if basic {
		proof = proof.WithContext(auth.TakePassword(proof.Context()))
	}
	principal, err := h.verify(proof)
	switch {
	case err != nil || !principal.Password:
		return principal, err
	case l != nil && !l.Basic:
		return auth.Principal{}, auth.ErrNoCredentials
	}
	effective := *r
	effective.Method = http.MethodPost // a GET of a listener may change as much as a POST
	if crossOrigin.Check(&effective) != nil {
		return auth.Principal{}, auth.ErrForbidden
	}
	return principal, nil
}

// fromQuery returns the request with the bearer token of its query in its header. A password does not belong there.
func fromQuery(r *http.Request) (*http.Request, error) {
	given := r.URL.Query()["Authorization"]
	if given == nil {
		return r, nil
	}
	if scheme, _, _ := strings.Cut(given[0], " "); len(given) > 1 || r.Header["Authorization"] != nil || !strings.EqualFold(scheme, "Bearer") {
		return nil, auth.ErrNoCredentials
	}
	proof := r.Clone(r.Context())
	proof.Header.Set("Authorization", given[0])
	return proof, nil
}

// answerListener writes what a call came to.
func (h *handler) answerListener(w http.ResponseWriter, l *listener.Listener, answer *listener.Answer, err error) error {
	switch {
	case errors.Is(err, flow.ErrStillRuns):
		writeReceipt(w, http.StatusAccepted, answer.Receipt, "running")
		return nil
	case err != nil:
		return err
	case answer.Outcome == nil:
		writeReceipt(w, http.StatusOK, answer.Receipt, "received")
		return nil
	}
	outcome := answer.Outcome
	if outcome.Response != nil {
		defer outcome.Response.Close()
	}
	if outcome.Failure != nil {
		return problemOfRun(&outcome.Run, outcome.Failure, outcome.Rejects)
	}
	run := &outcome.Run
	if run.Rejected > 0 {
		if run.Rejected == run.Read { // not one record was fit
			p := problem(http.StatusUnprocessableEntity, "rejected", "Records were rejected", fmt.Sprintf("%d of %d records were rejected", run.Rejected, run.Read))
			p.Run, p.Flow, p.Kind, p.Rejects = run.Number, run.Flow, flow.KindInput, outcome.Rejects
			return p
		}
		w.Header().Set("Integrator-Rejected", strconv.FormatInt(run.Rejected, 10))
	}
	response := outcome.Response
	if response == nil {
		writeReceipt(w, http.StatusOK, answer.Receipt, run.Status.String())
		return nil
	}
	header := w.Header()
	for name, values := range response.Header {
		header[name] = values
	}
	if response.Empty() {
		w.WriteHeader(response.Status)
		return nil
	}
	header.Set("Content-Length", strconv.FormatInt(response.Size(), 10))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(response.Status)
	if _, err := response.WriteTo(w); err != nil {
		panic(http.ErrAbortHandler) // the head is out: only a broken connection tells the client that the body is not whole
	}
	return nil
}

func writeReceipt(w http.ResponseWriter, status int, stored *store.Receipt, word string) {
	r := receipt{MessageUUID: stored.Message.String(), Status: word}
	if stored.Message == uuid.Nil {
		r.MessageUUID = ""
	} else {
		w.Header().Set("Location", "/rest/v1/messages/"+r.MessageUUID)
	}
	for i, run := range stored.Runs {
		if i == 0 {
			r.AuditID, r.FlowID = run.Number, run.FlowID
		}
		if len(stored.Runs) > 1 {
			r.Runs = append(r.Runs, receiptRun{run.Flow, run.FlowID, run.Number})
		}
	}
	if r.Runs != nil {
		writeJSON(w, status, r)
		return
	}
	text := append(make([]byte, 0, 128), `{"messageUuid":"`...) // as encoding/json writes it
	text = append(append(text, r.MessageUUID...), `","auditId":`...)
	text = append(strconv.AppendInt(text, r.AuditID, 10), `,"flowId":`...)
	text = append(strconv.AppendInt(text, r.FlowID, 10), `,"status":"`...)
	writeText(w, status, append(append(text, word...), "\"}\n"...))
}

// queryPairs returns the query without what is never a parameter.
func queryPairs(r *http.Request) []store.Pair {
	if r.URL.RawQuery == "" {
		return nil
	}
	var pairs []store.Pair
	for name, values := range r.URL.Query() {
		if notParameter(name) {
			continue
		}
		for _, v := range values {
			pairs = append(pairs, store.Pair{Name: name, Value: strings.ToValidUTF8(v, "\uFFFD")})
		}
	}
	sortPairs(pairs)
	return pairs
}

// notParameter names query values that steer the call itself, or prove who calls.
func notParameter(name string) bool {
	return strings.EqualFold(name, "Authorization") || name == "wait" || name == "dry_run"
}

// headerPairs returns the header without credentials.
func headerPairs(header http.Header) []store.Pair {
	pairs := make([]store.Pair, 0, len(header))
	for name, values := range header {
		switch name {
		case "Authorization", "Cookie", "Proxy-Authorization":
			continue
		}
		for _, v := range values {
			pairs = append(pairs, store.Pair{Name: name, Value: strings.ToValidUTF8(v, "\uFFFD")})
		}
	}
	sortPairs(pairs)
	return pairs
}

// onceOf reads an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), quoted or bare.
func onceOf(key, user, listener string) (*store.Once, error) {
	if bare, ok := strings.CutPrefix(key, `"`); ok {
		if bare, ok = strings.CutSuffix(bare, `"`); ok {
			key = bare
		}
	}
	if key == "" || len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, problem(http.StatusBadRequest, "idempotency-key", "Wrong Idempotency-Key", "the key has 1 to 255 bytes and no control characters")
	}
	return &store.Once{Scope: "listener\x00" + user + "\x00" + listener, Key: key}, nil
}
