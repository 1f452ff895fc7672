package listener

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/internal/define"
)

// CORS says whose pages may call a listener by a script, with a token that the script has: cookies and passwords that a browser adds by itself are no proof from there.
type CORS struct {
	Origins []string      `json:"origins" define:"one,short"` // https://shop.example, http://localhost:3000; "*" is every page; "off" is none
	Headers []string      `json:"headers" define:"one"`       // that calls may have beside those which the engine reads
	Expose  []string      `json:"expose" define:"one"`        // that scripts may read beside those which the engine writes
	MaxAge  time.Duration `json:"max_age"`                    // how long a browser need not ask again; 0 is 10m
}

// cors is a compiled CORS.
type cors struct {
	origins []string // nil: every one
	headers string
	expose  string
	methods string
	maxAge  string
}

// Headers that the engine reads and writes.
var (
	corsHeaders = []string{"Authorization", "Content-Type", "Idempotency-Key", "Traceparent"}
	corsExpose  = []string{"Location", "Retry-After", "Integrator-Rejected"}
)

// compileCORS checks a definition; nil is off.
func compileCORS(d *CORS, path string, methods []string, basic bool) (*cors, define.Faults) {
	if d == nil || len(d.Origins) == 1 && d.Origins[0] == "off" {
		return nil, nil
	}
	var faults define.Faults
	fault := func(key, reason, hint string) {
		faults = append(faults, define.Fault{Path: path + key, Reason: reason, Hint: hint})
	}
	if len(d.Origins) == 0 {
		fault("", "whose pages may call is missing", "write origins: [https://shop.example]")
	}
	c := &cors{origins: d.Origins, maxAge: "600"}
	for i, origin := range d.Origins {
		key := fmt.Sprintf(".origins[%d]", i)
		switch reason := originFault(origin); {
		case origin != "*":
			if reason != "" {
				fault(key, fmt.Sprintf("%q is no origin: %s", origin, reason), "write it as browsers send it: https://shop.example, http://localhost:3000")
			}
		case basic:
			fault(key, "a listener that takes passwords is not for every page", "name the origins, or leave auth: basic out")
		case len(d.Origins) > 1:
			fault(key, "* is every page", "write it alone, or leave it out")
		default:
			c.origins = nil
		}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"headers", d.Headers}, {"expose", d.Expose}} {
		for i, name := range list.names {
			if name == "*" || !flow.ValidHeaderName(name) { // where * is every header
				fault(fmt.Sprintf(".%s[%d]", list.key, i), fmt.Sprintf("%q is no name of a header", name), "")
			}
		}
	}
	switch {
	case d.MaxAge < 0:
		fault(".max_age", "a negative time means nothing here", "")
	case d.MaxAge > 0:
		c.maxAge = strconv.FormatInt(int64(d.MaxAge/time.Second), 10)
	}
	c.headers, c.expose = strings.Join(slices.Concat(corsHeaders, d.Headers), ", "), strings.Join(slices.Concat(corsExpose, d.Expose), ", ")
	if slices.Contains(methods, "GET") {
		methods = append(slices.Clone(methods), "HEAD")
	}
	c.methods = strings.Join(methods, ", ")
	return c, faults
}

// originFault returns why no browser would send the text as an origin; "" when one would.
func originFault(origin string) string {
	u, err := url.Parse(origin)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "it is http:// or https:// and a host"
	case origin != u.Scheme+"://"+u.Host:
		return "nothing follows the host and its port"
	case origin != strings.ToLower(origin):
		return "it is in small letters"
	case strings.Contains(u.Host, "*"):
		return "each is written out"
	case u.Scheme == "http" && u.Port() == "80", u.Scheme == "https" && u.Port() == "443", strings.HasSuffix(u.Host, ":"):
		return "a port that follows from http or https is left out"
	}
	return ""
}

// allow returns what Access-Control-Allow-Origin says to a page; "" where the listener is not for it.
func (c *cors) allow(origin string) string {
	switch {
	case c == nil:
		return ""
	case c.origins == nil:
		return "*"
	case slices.Contains(c.origins, origin):
		return origin
	}
	return ""
}

// AllowOrigin writes what lets a script of the origin read the answer to its call, whatever that is; nothing where the listener is not for it.
func (l *Listener) AllowOrigin(h http.Header, origin string) {
	if l.cors == nil || !l.Listens() {
		return
	}
	if l.cors.origins != nil {
		h.Add("Vary", "Origin") // for other origins the answer is another one
	}
	if allowed := l.cors.allow(origin); allowed != "" {
		h.Set("Access-Control-Allow-Origin", allowed)
		h.Set("Access-Control-Expose-Headers", l.cors.expose)
	}
}

// AllowPreflight writes what lets a browser send the call that a script of the origin wants to make; false: the listener is not for it, and nothing is written.
func (l *Listener) AllowPreflight(h http.Header, origin string) bool {
	allowed := l.cors.allow(origin)
	if allowed == "" || !l.Listens() {
		return false
	}
	h.Set("Access-Control-Allow-Origin", allowed)
	h.Set("Access-Control-Allow-Methods", l.cors.methods)
	h.Set("Access-Control-Allow-Headers", l.cors.headers)
	h.Set("Access-Control-Max-Age", l.cors.maxAge)
	h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	return true
}
