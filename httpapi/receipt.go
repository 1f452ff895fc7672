package httpapi

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/integrator-go/integrator/listener"
)

// answerReceipt answers a call whose payload is stored and whose runs nobody waits for: as the listener's definition says, else with a receipt.
func (h *handler) answerReceipt(w http.ResponseWriter, l *listener.Listener, answer *listener.Answer) {
	word := "received"
	if len(answer.Receipt.Runs) == 0 {
		word = "ignored"
	}
	warn := func(what string, err error) {
		h.engine.Logger().Warn("an answer is not as it is defined", "listener", l.Name, "what", what, "message", answer.Receipt.Message, "error", err)
	}
	status, head, body, err := l.Reply(answer, warn)
	if err != nil { // the payload is stored all the same: its sender learns that
		warn("body", err)
		status = http.StatusOK
	} else if status == 0 {
		status = http.StatusOK
	}
	header := w.Header()
	for name, values := range head {
		if name == "Vary" { // beside what the engine's own says
			values = append(header[name], values...)
		}
		header[name] = values
	}
	switch {
	case status == http.StatusNoContent || status == http.StatusResetContent:
		setLocation(header, answer.Receipt)
		w.WriteHeader(status)
	case body == nil:
		writeReceipt(w, status, answer.Receipt, word, "")
	default:
		setLocation(header, answer.Receipt)
		header.Set("Content-Length", strconv.Itoa(len(body)))
		header.Set("X-Content-Type-Options", "nosniff")
		if header["Cache-Control"] == nil {
			header.Set("Cache-Control", "no-store")
		}
		w.WriteHeader(status)
		w.Write(body) // a fault of the connection is the client's to notice
	}
}

// preflight answers a browser's question whether a script of a page may make a call: without proof, which browsers send with the call itself. It
// answers false, and the question is one that nobody has asked, unless a listener is there that is for such calls.
func preflight(w http.ResponseWriter, r *http.Request, router *listener.Router, path string) bool {
	if r.Method != http.MethodOptions {
		return false
	}
	method, origin := r.Header.Get("Access-Control-Request-Method"), r.Header.Get("Origin")
	if method == "" || origin == "" {
		return false
	}
	l, _, _ := router.Match(asGet(method), path)
	if l == nil || !l.AllowPreflight(w.Header(), origin) {
		return false
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowed returns the methods that a path takes, with those that follow from them.
func allowed(methods []string, more ...string) []string {
	if slices.Contains(methods, http.MethodGet) {
		more = append(more, http.MethodHead)
	}
	methods = append(slices.Clone(methods), more...)
	slices.Sort(methods)
	return methods
}
