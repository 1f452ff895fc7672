// Package auth knows who may do what: users with a role and grants, passwords, the short-lived tokens that callers send, and the one table
// that decides about every route.
//
// Three names matter: [Service] keeps users, issues and verifies tokens; [Principal] is who calls; [Authorize] decides.
//
// # Security considerations
//
// API keys are 32 random bytes behind a prefix that scanners of leaks find; their SHA-256 is kept in their user's record, so that one write
// ends them with the user's password, its disabling or its removal. They fetch no tokens.
//
// Passwords are kept as argon2id PHC strings (RFC 9106; 19 MiB, 2 passes). An unknown login, a wrong password and a disabled user cost the same
// hash and get the same error. Hashes run two at a time, a bounded number waits, so a flood of logins costs neither memory nor the
// processor. A password that was right once is known in memory by a keyed hash and costs no other. After five misses of one account from one
// network further attempts from there wait, the right password's too; the account's owner elsewhere does not.
//
// Tokens carry a version, the key's number, the login, the user's generation, the expiry and when the password was given, under
// HMAC-SHA-256. Nothing in them is negotiable. A token that is good gets another one, for half a day after the password. The generation
// changes with password, role, grants and disabling, so that a change ends the tokens that are out. Keys sign for
// 30 days and verify for as long as what they signed lives. While a service lives its time never runs backwards: a token that has expired
// stays expired when the clock is set back. A service that starts believes the clock that it finds.
package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Conditions that callers branch on.
var (
	ErrNoCredentials = errors.New("no credentials")
	ErrInvalid       = errors.New("the credentials are wrong or have expired")
	ErrForbidden     = errors.New("not allowed")
	ErrBusy          = errors.New("too many logins wait already")
	ErrNotFound      = errors.New("no such user")
	ErrUser          = errors.New("the user cannot be saved as given") // login, password, role or networks do not fit
	ErrDefined       = errors.New("the user is made by the definitions and is changed there")
	ErrConflict      = errors.New("changed by somebody else in the meantime")
)

// ThrottledError says that an account gets no more attempts from a network for a while.
type ThrottledError struct{ RetryAfter time.Duration }

// Error says how long.
func (e *ThrottledError) Error() string {
	return "too many failed logins: wait " + e.RetryAfter.String()
}

// Role is what a user is.
type Role string

// The roles. See the table in [Authorize].
const (
	Viewer   Role = "viewer"
	API      Role = "api"
	Operator Role = "operator"
	Editor   Role = "editor"
	Admin    Role = "admin"
)

// Roles lists the roles.
var Roles = []Role{Viewer, API, Operator, Editor, Admin}

// Principal is who calls, authenticated.
type Principal struct {
	Login     string
	Role      Role
	Listeners []string // granted listeners, of role api: names, or beginnings followed by *
	Flows     []string // granted flows, of role api
	Password  bool     // the proof was a login with its password in the call itself: see [TakePassword]
}

// Verifier finds out who calls. A host gives its own in integrator.Config.Verifier. It is called when a request's header has arrived and before
// its body is read; it must not read the body. A token in the query of a listener that takes it there is in the header. Errors: ErrNoCredentials,
// ErrInvalid, ErrForbidden, *ThrottledError, ErrBusy; anything else is an internal error.
type Verifier interface {
	Verify(ctx context.Context, r *http.Request) (Principal, error)
}

// VerifierFunc makes a function a Verifier.
type VerifierFunc func(ctx context.Context, r *http.Request) (Principal, error)

// Verify calls f.
func (f VerifierFunc) Verify(ctx context.Context, r *http.Request) (Principal, error) {
	return f(ctx, r)
}

// Action is something that a caller wants to do.
type Action string

// The actions.
const (
	TokenRefresh    Action = "token.refresh"
	ListenerCall    Action = "listener.call"
	FlowRun         Action = "flow.run"
	MessageRead     Action = "message.read"
	MessageBody     Action = "message.body"
	MessageErase    Action = "message.erase" // its payload, for good
	MessageReplay   Action = "message.replay"
	RunList         Action = "run.list"
	RunRead         Action = "run.read"
	RunException    Action = "run.exception" // the whole chain of causes
	RunRejects      Action = "run.rejects"
	RunLog          Action = "run.log" // which has the whole chain of causes
	RunReplay       Action = "run.replay"
	RunCancel       Action = "run.cancel"
	DefinitionRead  Action = "definition.read" // connections, listeners, flows, schedules, without secrets
	DefinitionWrite Action = "definition.write"
	OpenAPIRead     Action = "openapi.read" // what of the API the caller may use
	MetricsRead     Action = "metrics.read"
	UserRead        Action = "user.read"
	UserWrite       Action = "user.write"
)

// Actions lists the actions.
var Actions = []Action{TokenRefresh, ListenerCall, FlowRun, MessageRead, MessageBody, MessageErase, MessageReplay, RunList, RunRead, RunException, RunRejects, RunLog, RunReplay, RunCancel, DefinitionRead, DefinitionWrite, OpenAPIRead, MetricsRead, UserRead, UserWrite}

// Resource is what an action is about. The zero Resource means that nothing is known yet: Authorize then answers whether the role can ever do
// it.
type Resource struct {
	Listener string
	Flow     string
	Owner    string // login of the user whose message or run it is; "" is nobody's, as a schedule's
}

// Decision is the answer to an action.
type Decision int

const (
	Forbid Decision = iota // the caller may know that it is there, and may not do this
	Allow
	Hide // for this caller it is not there
)

// scope is whose resources a role may act on.
type scope int

const (
	none    scope = iota
	own           // the caller's own messages and runs
	granted       // listeners and flows that were granted
	all
)

// table is the one place that says which role may do what.
var table = map[Action]map[Role]scope{
	TokenRefresh:    {API: all, Operator: all, Editor: all, Admin: all, Viewer: all},
	ListenerCall:    {API: granted, Operator: all, Editor: all, Admin: all},
	FlowRun:         {API: granted, Operator: all, Editor: all, Admin: all},
	MessageRead:     {API: own, Operator: all, Editor: all, Admin: all, Viewer: all},
	MessageBody:     {API: own, Operator: all, Editor: all, Admin: all},
	MessageErase:    {Operator: all, Editor: all, Admin: all},
	MessageReplay:   {Operator: all, Editor: all, Admin: all},
	RunList:         {API: own, Operator: all, Editor: all, Admin: all, Viewer: all},
	RunRead:         {API: own, Operator: all, Editor: all, Admin: all, Viewer: all},
	RunException:    {Operator: all, Editor: all, Admin: all},
	RunRejects:      {API: own, Operator: all, Editor: all, Admin: all},
	RunLog:          {Operator: all, Editor: all, Admin: all},
	RunReplay:       {Operator: all, Editor: all, Admin: all},
	RunCancel:       {Operator: all, Editor: all, Admin: all},
	DefinitionRead:  {Operator: all, Editor: all, Admin: all, Viewer: all},
	DefinitionWrite: {Editor: all, Admin: all},
	OpenAPIRead:     {API: all, Operator: all, Editor: all, Admin: all, Viewer: all},
	MetricsRead:     {Operator: all, Editor: all, Admin: all, Viewer: all},
	UserRead:        {Admin: all},
	UserWrite:       {Admin: all},
}

// Authorize decides whether the caller may act on the resource. What an api user does not own is hidden from it; a listener or flow without
// a grant is forbidden.
func Authorize(p Principal, a Action, r Resource) Decision {
	whose := table[a][p.Role]
	if whose == all || whose != none && r == (Resource{}) {
		return Allow
	}
	switch whose {
	case own:
		if r.Owner != "" && r.Owner == p.Login {
			return Allow
		}
		return Hide
	case granted:
		if a == ListenerCall && covers(p.Listeners, r.Listener) || a == FlowRun && covers(p.Flows, r.Flow) {
			return Allow
		}
	}
	return Forbid
}

// covers reports whether one of the grants, names or beginnings followed by *, is for the name.
func covers(grants []string, name string) bool {
	return name != "" && slices.ContainsFunc(grants, func(grant string) bool {
		if prefix, ok := strings.CutSuffix(grant, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return grant == name
	})
}
