package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// listen takes a call of a user-defined listener; path is what follows the prefix. It sets name to the listener's as soon as it is known.
func (h *handler) listen(w http.ResponseWriter, r *http.Request, path string, name *string) error {
	router := h.engine.Router()
	if preflight(w, r, router, path) {
		return nil
	}
	l, params, allow := router.Match(asGet(r.Method), path)
	if l != nil {
		*name = l.Name
		l.AllowOrigin(w.Header(), r.Header.Get("Origin"))
	}
	if err := h.engine.Accepting(); err != nil {
		return err
	}
	// Without valid proof every path answers 401, known or not: so the route's own answers come after.
	principal, err := h.verifyListener(r, l, router.TakesBasic())
	if err != nil {
		if router.TakesBasic() && problemOf(err).Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="integrator", charset="UTF-8"`)
		}
		return err
	}
	if l == nil || !l.Listens() {
		return noListener(w, r, l, allow)
	}
	if err := authorize(principal, auth.ListenerCall, auth.Resource{Listener: l.Name}); err != nil {
		return err
	}
	c, err := callOf(w, r, l, principal.Login, params)
	if err != nil {
		return err
	}
	sent := stream{w: w, patience: l.Timeout}
	if l.Sync && r.Method != http.MethodHead && r.ProtoAtLeast(1, 1) { // before, a connection that breaks was how answers ended
		c.Stream = sent.begin
	}
	answer, err := h.engine.Receiver().Receive(r.Context(), l, c)
	if errors.Is(err, errTooSlow) && h.engine.Accepting() != nil {
		err = flow.ErrStopping // it was not given all of its time
	}
	failpoint.Hit("accept.answering")
	if sent.begun {
		sent.end(answer, err)
		return nil
	}
	return h.answerListener(w, r, l, principal, answer, err)
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

// noListener answers a call that no listener takes; allow are the methods that the path is waited for with.
func noListener(w http.ResponseWriter, r *http.Request, l *listener.Listener, allow []string) error {
	switch {
	case l != nil || len(allow) == 0:
		return store.ErrNotFound
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", strings.Join(allowed(allow, http.MethodOptions), ", "))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	allow = allowed(allow)
	p := problem(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", "this listener takes "+strings.Join(allow, ", "))
	p.allow = allow
	return p
}

// callOf makes the listener's call of a request that may be made, unless something is wrong with it that is known before the body is read.
func callOf(w http.ResponseWriter, r *http.Request, l *listener.Listener, user string, params []store.Pair) (*listener.Call, error) {
	if r.URL.RawQuery != "" {
		switch dry, err := boolOf("dry_run", r.URL.Query().Get("dry_run")); {
		case err != nil:
			return nil, err
		case dry:
			return nil, problem(http.StatusBadRequest, "parameters", "Wrong parameters",
				"a listener stores what it is sent: leave dry_run out; what stored payloads would do, their replay with ?dry_run=true says")
		}
	}
	if l.Sync {
		if err := l.Plans()[0].Acceptable(r.Header.Values("Accept")); err != nil {
			w.Header().Add("Vary", "Accept")
			return nil, err
		}
	}
	if err := l.Admit(user); err != nil {
		return nil, err
	}
	if err := identity(r); err != nil {
		return nil, err
	}
	if r.ContentLength > l.MaxBody {
		return nil, listener.ErrTooLarge
	}
	c := &listener.Call{User: user, Method: r.Method, Params: params, Query: queryPairs(r), Header: headerPairs(r.Header), Length: r.ContentLength}
	if r.ContentLength != 0 {
		c.Body = newBodyReader(w, r, l.MaxBody)
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		once, err := onceOf(key, user, l.Name)
		if err != nil {
			return nil, err
		}
		c.Once = once
	}
	return c, nil
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

// queryPairs returns the query without what is never a parameter.
func queryPairs(r *http.Request) []store.Pair {
	if r.URL.RawQuery == "" {
		return nil
	}
	var pairs []store.Pair
	for name, values := range r.URL.Query() {
		if flow.NeverParameter(name) {
			continue
		}
		for _, v := range values {
			pairs = append(pairs, store.Pair{Name: name, Value: strings.ToValidUTF8(v, "\uFFFD")})
		}
	}
	sortPairs(pairs)
	return pairs
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
