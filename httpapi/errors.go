package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Problem is an answer of RFC 9457.
type Problem struct {
	Type    string `json:"type"` // urn:integrator:problem:<name>
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail,omitempty"`
	ErrorID string `json:"errorId"` // finds the call in the engine's log

	Line    int64           `json:"line,omitempty"` // of the fault in the payload, from 1
	Column  int64           `json:"column,omitempty"`
	Offset  *int64          `json:"offset,omitempty"` // in bytes, from 0
	Run     int64           `json:"auditId,omitempty"`
	Flow    string          `json:"flowName,omitempty"`
	Kind    string          `json:"kind,omitempty"` // failure kind of the run
	Rejects []flow.Rejected `json:"rejects,omitempty"`
	Faults  []faultView     `json:"faults,omitempty"` // of a definition, each with its place

	retryAfter time.Duration
	allow      []string
	unexpected error // what the log gets and the caller does not
}

func problem(status int, name, title, detail string) *Problem {
	return &Problem{Type: "urn:integrator:problem:" + name, Title: title, Status: status, Detail: detail}
}

// name is the last part of the problem's type.
func (p *Problem) name() string { return p.Type[len("urn:integrator:problem:"):] }

// Error returns the title and the detail.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// condition is what an error that callers branch on is answered with.
type condition struct {
	err    error
	status int
	name   string
	title  string
	detail string
	retry  time.Duration
}

// conditions is the one table from errors to answers. What is not in it is an internal error of which the caller learns the id only.
var conditions = []condition{
	{auth.ErrNoCredentials, 401, "unauthorized", "No valid credentials", "send Authorization: Bearer with a token of POST /rest/v1/token-auth/issue", 0},
	{auth.ErrInvalid, 401, "unauthorized", "No valid credentials", "the credentials are wrong or have expired: fetch a new token", 0},
	{auth.ErrForbidden, 403, "forbidden", "Not allowed", "this user may not do this", 0},
	{auth.ErrBusy, 503, "busy", "Too busy", "too many logins at this moment: try again", time.Second},
	{listener.ErrTooLarge, 413, "payload-too-large", "Too large", "the body is larger than is allowed here; a listener takes what max_body of its definition says", 0},
	{errTooSlow, 408, "too-slow", "Too slow", "the body came too slowly", 0},
	{errCut, 400, "payload-cut", "Cut off", "the body ended before its Content-Length", 0},
	{listener.ErrLength, 400, "payload-cut", "Cut off", "the body is not as long as its Content-Length", 0},
	{flow.ErrStopping, 503, "not-ready", "Not ready", "the engine is starting or stopping: try again", time.Second},
	{flow.ErrBusy, 503, "busy", "Too busy", "too many calls wait for their runs: try again", time.Second},
	{flow.ErrQueueFull, 503, "queue-full", "Too much waits", "too many runs wait already: nothing was stored; try again", time.Second},
	{listener.ErrBusy, 503, "busy", "Too busy", "too many payloads are being read: try again", time.Second},
	{flow.ErrOnceBusy, 409, "idempotency-key-busy", "First call still at work", "the first call with this idempotency key has not ended yet: ask again later", 0},
	{store.ErrOnce, 422, "idempotency-key-reused", "Key used for another call", "this idempotency key was used before with another body, path or query", 0},
	{flow.ErrNoFlow, 409, "nobody-reads", "No flow for it", "no enabled flow takes it today", 0},
	{flow.ErrActive, 409, "not-ended", "Not ended", "the run has not ended yet", 0},
	{flow.ErrNoRejects, 409, "no-rejects", "Nothing to replay", "the run has no rejected records, or has written nothing: replay the whole of it", 0},
	{flow.ErrTogether, 409, "not-alone", "Not to be replayed alone", "a step of the flow makes one record of several, or gathers those of several lists: replay the whole run", 0},
	{flow.ErrColumns, 422, "too-many-columns", "No table", "the rejected records have too many different fields for one table: ask for json", 0},
	{store.ErrErased, 410, "erased", "Erased", "the payload was erased on request", 0},
	{store.ErrNotFound, 404, "not-found", "Not found", "there is nothing here", 0},
	{store.ErrConflict, 409, "conflict", "Changed in the meantime", "read it again and repeat the change", 0},
	{store.ErrFull, 503, "store-full", "No room left", "the engine's disk is full: nothing was stored; try again later", 30 * time.Second},
	{store.ErrUnavailable, 503, "store-unavailable", "Not ready", "the engine's store cannot be reached: try again", 5 * time.Second},
	{store.ErrBroken, 503, "store-broken", "Not ready", "the engine's store failed: nothing was stored", 30 * time.Second},
	{store.ErrClosed, 503, "not-ready", "Not ready", "the engine is stopping: try again", time.Second},
}

// problemOf returns the answer to an error.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var payload *listener.PayloadError
	var key *flow.KeyError
	var syntax *transform.SyntaxError
	if malformed := errors.As(err, &syntax); errors.As(err, &payload) || malformed && errors.As(err, &key) {
		p := problem(http.StatusBadRequest, "payload-malformed", "Malformed payload", err.Error())
		if malformed {
			p.Detail = syntax.Error()
			p.Line, p.Column, p.Offset = syntax.Line, syntax.Column, &syntax.Offset
		}
		return p
	}
	if errors.As(err, &key) {
		return problem(http.StatusUnprocessableEntity, "key", "No key", key.Error())
	}
	var unacceptable *flow.AcceptError
	if errors.As(err, &unacceptable) {
		return problem(http.StatusNotAcceptable, "not-acceptable", "Not acceptable", unacceptable.Error())
	}
	var params *flow.ParamError
	if errors.As(err, &params) {
		return problem(http.StatusBadRequest, "parameters", "Wrong parameters", params.Error())
	}
	if errors.As(err, &syntax) {
		return problem(http.StatusBadRequest, "malformed", "Malformed body", syntax.Error())
	}
	var throttled *auth.ThrottledError
	if errors.As(err, &throttled) {
		p := problem(http.StatusTooManyRequests, "throttled", "Too many failed logins", "wait before the next attempt")
		p.retryAfter = throttled.RetryAfter
		return p
	}
	var other *listener.TypeError
	if errors.As(err, &other) {
		return problem(http.StatusUnsupportedMediaType, "media-type", "Content-Type refused", other.Error())
	}
	var many *listener.RateError
	if errors.As(err, &many) {
		p := problem(http.StatusTooManyRequests, "rate", "Too many calls", "this listener takes no more calls at the moment: come again after Retry-After")
		p.retryAfter = many.RetryAfter
		return p
	}
	for _, c := range conditions {
		if errors.Is(err, c.err) {
			p := problem(c.status, c.name, c.title, c.detail)
			if p.retryAfter = c.retry; c.status >= 500 {
				p.unexpected = err
			}
			return p
		}
	}
	p = problem(http.StatusInternalServerError, "internal", "Internal error", "the engine's log has more under this error id")
	p.unexpected = err
	return p
}

// problemOfRun returns the answer to a synchronous call whose run failed. The caller sees the public words only.
func problemOfRun(run *store.Run, failure *flow.Failure, rejects []flow.Rejected) *Problem {
	var p *Problem
	var syntax *transform.SyntaxError
	switch {
	case errors.As(failure, &syntax):
		p = problem(http.StatusBadRequest, "payload-malformed", "Malformed payload", run.Reason)
		p.Line, p.Column, p.Offset = syntax.Line, syntax.Column, &syntax.Offset
	case run.Kind == flow.KindInput && failure.Record == 0 && errors.Is(failure, fs.ErrNotExist): // a file that the caller has named
		p = problem(http.StatusNotFound, "not-found", "Not found", run.Reason)
	case run.Kind == flow.KindRefused && failure.Record == 0 && errors.Is(failure, fs.ErrExist):
		p = problem(http.StatusConflict, "exists", "There already", run.Reason)
	case run.Kind == flow.KindInput, run.Kind == flow.KindRefused && failure.Record > 0: // one of the caller's records, and not the call
		p = problem(http.StatusUnprocessableEntity, "rejected", "Records were rejected", run.Reason)
		p.Rejects = rejects
	case run.Kind == flow.KindTimeout:
		p = problem(http.StatusGatewayTimeout, "timeout", "The run took too long", run.Reason)
	case run.Kind == flow.KindCanceled:
		p = problem(http.StatusConflict, "canceled", "The run was canceled", run.Reason)
	default:
		p = problem(http.StatusInternalServerError, "run-failed", "The run failed", run.Reason)
	}
	p.Run, p.Flow, p.Kind, p.ErrorID = run.Number, run.Flow, run.Kind, run.ErrorID
	return p
}

// answerError writes the problem, in the shape of the route's generation, and logs what the caller does not learn.
func (h *handler) answerError(w http.ResponseWriter, r *http.Request, listener string, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	}
	p := problemOf(err)
	h.refused(r, listener, p)
	header := w.Header()
	if p.Status == http.StatusUnauthorized {
		header["Www-Authenticate"] = append([]string{`Bearer realm="integrator"`}, header["Www-Authenticate"]...)
	}
	if p.allow != nil {
		for _, m := range p.allow {
			header.Add("Allow", m)
		}
	}
	if p.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusRequestTimeout {
		header.Set("Connection", "close") // the rest of the body is not read
	}
	if firstGeneration(r) {
		writeJSON(w, p.Status, runAnswer{Status: 1, Exception: fmt.Sprintf("%s (error id %s)", p.Detail, p.ErrorID)})
		return
	}
	header.Set("Content-Type", "application/problem+json")
	writeJSON(w, p.Status, p)
}

// refused logs a problem, and what the caller does not learn of it, and counts it.
func (h *handler) refused(r *http.Request, listener string, p *Problem) {
	if p.ErrorID == "" {
		p.ErrorID = newErrorID()
	}
	level := slog.LevelDebug
	attrs := []any{"method", r.Method, "status", p.Status, "problem", p.name(), "errorID", p.ErrorID}
	if listener != "" {
		attrs = append(attrs, "listener", listener)
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity: // a payload that somebody misses
		level = slog.LevelInfo
		attrs = append(attrs, "detail", p.Detail)
	}
	if p.unexpected != nil {
		attrs = append(attrs, "error", p.unexpected)
		if p.Status >= 500 {
			level = slog.LevelError
		}
	}
	h.engine.Logger().Log(r.Context(), level, "refused", attrs...)
	h.engine.Observe(flow.Refused{Listener: listener, Status: p.Status, Reason: p.name()})
}

func newErrorID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// writeJSON writes v as the whole answer. A fault of the connection is the client's to notice.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // impossible: only our own structs are written
	}
	writeText(w, status, append(body, '\n'))
}

// writeText answers with JSON that is written already.
func writeText(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	values := []string{strconv.Itoa(len(body)), "no-store", "nosniff", "application/json"}
	header["Content-Length"], header["X-Content-Type-Options"] = values[0:1:1], values[2:3:3]
	if header["Cache-Control"] == nil { // a definition may say something else
		header["Cache-Control"] = values[1:2:2]
	}
	if header.Get("Content-Type") == "" {
		header["Content-Type"] = values[3:]
	}
	w.WriteHeader(status)
	w.Write(body)
}
