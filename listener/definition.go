package listener

import (
	"time"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/transform"
)

// Definition is a listener as a person writes it. See flow.Definition for the tags.
type Definition struct {
	Type    string                `json:"type"` // http (the default), or a kind of the host
	Path    string                `json:"path" define:"expression"`
	Method  []string              `json:"method" define:"one"`    // empty is POST
	Format  []transform.FormatRef `json:"format" define:"one"`    // chosen by Content-Type, the first when none fits; empty: bodies are stored as they are
	Check   string                `json:"check"`                  // syntax (the default), none
	Mode    string                `json:"mode"`                   // async (the default), sync
	Timeout time.Duration         `json:"timeout"`                // how long a synchronous call waits; 0 is 30s
	MaxBody int64                 `json:"max_body" define:"size"` // bytes; 0 is 10 MiB
	Enabled *bool                 `json:"enabled"`                // nil is true

	Idempotency Idempotency `json:"idempotency"`

	// Of http alone.
	Auth       string                `json:"auth"`        // bearer (the default), basic: a login with its password too
	AuthIn     string                `json:"auth_in"`     // header (the default), query: a bearer token may be there too
	Rate       Rate                  `json:"rate"`        // how many calls are taken
	StrictType bool                  `json:"strict_type"` // a body with a Content-Type of none of the formats is refused
	Params     map[string]flow.Param `json:"params"`      // of the query, or types of those in the path
	Answer     *flow.Reply           `json:"answer"`      // an asynchronous listener's own receipt; nil is the engine's
	CORS       *CORS                 `json:"cors"`        // whose pages may call by a script; nil: nobody's

	Options map[string]any `json:"-" define:"rest"` // of a kind of the host
	_       struct{}       `later:"keep connection unique after"`
}

// Idempotency says what makes a call one that was there before.
type Idempotency struct {
	Key    string        `json:"key" define:"expression"` // a path, or an expression behind =, for calls without the header Idempotency-Key; "": the header alone
	Window time.Duration `json:"window"`                  // how long keys are remembered; 0 is 24h
}

// Rate bounds how many calls are taken: "100/s", "600/m", "5000/h". As many may come at once; what is used up comes back evenly. "" is no bound.
type Rate struct {
	Total string `json:"total" define:"short"` // of all callers together
	User  string `json:"user"`                 // of each user
}

// http reports whether the listener is of the built-in kind.
func (d *Definition) http() bool { return d.Type == "" || d.Type == "http" }

// TakesRest tells the loader that only kinds of the host have keys of their own.
func (d *Definition) TakesRest() bool { return !d.http() }
