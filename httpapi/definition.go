package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
)

// Kinds are the kinds of definitions that are made and changed at run time. Users are a fifth, kept by package auth.
var Kinds = []string{"connections", "flows", "listeners", "schedules"}

// Owners of definitions. What files and Go own is changed there alone.
const (
	OwnerFile = "file"
	OwnerGo   = "go"
	OwnerHTTP = "http"
)

// Definition is one definition as the routes show it.
type Definition struct {
	Name  string
	Owner string
	Place string // file:line of one that a file owns
	JSON  []byte // as it was written, secrets that stand in it in plain as ***
}

// definitions is the part of Engine that the definitions are read and changed through.
type definitions interface {
	// Owner returns who owns a definition, "" when there is none. It knows users of the definitions too.
	Owner(kind, name string) string

	// Definition returns a definition, nil when there is none.
	Definition(kind, name string) *Definition

	// Definitions returns the definitions of a kind by name.
	Definitions(kind string) []*Definition

	// Define makes or replaces a definition: it is in force and in the store when Define returns. file is a name for the body that says by its
	// extension what it is written in, and that the places of faults have. agree is asked with what is there, nil for nothing, and whether the
	// body has *** for secrets that are there; nothing else changes meanwhile. Errors: what agree returns, define.Faults.
	Define(ctx context.Context, kind, name, file string, body []byte, agree func(held *Definition, masked bool) error) (*Definition, error)

	// Undefine removes a definition. Errors: what agree returns, define.Faults of what refers to it.
	Undefine(ctx context.Context, kind, name string, agree func(held *Definition) error) error
}

// Bounds of the body of a definition and of its name, in bytes.
const (
	maxDefinition = 1 << 20
	maxName       = 255
)

// Names that bodies have in the places of faults: no file of definitions has them.
const (
	bodyJSON = "/body.json"
	bodyYAML = "/body.yaml"
)

// routesOf returns the routes of a kind of definitions.
func (h *handler) routesOf(kind string) []route {
	with := func(serve func(http.ResponseWriter, *http.Request, *call, string) error) func(http.ResponseWriter, *http.Request, *call) error {
		return func(w http.ResponseWriter, r *http.Request, c *call) error { return serve(w, r, c, kind) }
	}
	all, one := "/rest/v1/"+kind, "/rest/v1/"+kind+"/{name}"
	return []route{
		{method: "GET", pattern: all, action: auth.DefinitionRead, serve: with(h.definitions)},
		{method: "GET", pattern: one, action: auth.DefinitionRead, serve: with(h.definition)},
		{method: "PUT", pattern: one, action: auth.DefinitionWrite, serve: with(h.putDefinition)},
		{method: "DELETE", pattern: one, action: auth.DefinitionWrite, serve: with(h.deleteDefinition)},
	}
}

// definitionView is a definition in a list.
type definitionView struct {
	Name   string `json:"name"`
	FlowID int64  `json:"flowId,omitempty"` // of a flow
	Owner  string `json:"owner"`
	Place  string `json:"place,omitempty"` // file:line
	ETag   string `json:"etag"`
}

func (h *handler) definitions(w http.ResponseWriter, _ *http.Request, _ *call, kind string) error {
	views := []definitionView{}
	for _, d := range h.engine.Definitions(kind) {
		view := definitionView{Name: d.Name, Owner: d.Owner, Place: d.Place, ETag: etagOf(d.JSON)}
		if kind == "flows" {
			if p, ok := h.engine.Plan(d.Name); ok {
				view.FlowID = p.ID
			}
		}
		views = append(views, view)
	}
	writeJSON(w, http.StatusOK, map[string]any{kind: views})
	return nil
}

func (h *handler) definition(w http.ResponseWriter, r *http.Request, c *call, kind string) error {
	d := h.engine.Definition(kind, c.params["name"])
	if d == nil {
		return store.ErrNotFound
	}
	return writeTagged(w, r, http.StatusOK, d.Owner, d.Place, d.JSON)
}

func (h *handler) putDefinition(w http.ResponseWriter, r *http.Request, c *call, kind string) error {
	file, err := languageOf(r)
	if err != nil {
		return err
	}
	body, err := h.readAll(w, r, maxDefinition)
	if err != nil {
		return err
	}
	name, status := c.params["name"], http.StatusOK
	if len(name) > maxName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return problem(http.StatusUnprocessableEntity, "name", "Wrong name", fmt.Sprintf("a name has 1 to %d bytes of printable characters, and no space at its ends", maxName))
	}
	d, err := h.engine.Define(r.Context(), kind, name, file, body, func(held *Definition, masked bool) error {
		if held == nil {
			status = http.StatusCreated
			return precondition(r, "")
		}
		if err := writable(kind, held); err != nil {
			return err
		}
		if match := r.Header.Get("If-Match"); masked && (match == "" || match == "*") {
			return problem(http.StatusPreconditionRequired, "precondition-required", "Precondition required",
				"*** stands for a secret of the definition that you have read: send its ETag in If-Match, so that it is still the same one")
		}
		return precondition(r, etagOf(held.JSON))
	})
	if err != nil {
		return faultsProblem(err, problem(http.StatusUnprocessableEntity, "definition", "Wrong definition", ""))
	}
	h.engine.Logger().Info("a definition is changed", "kind", kind, "name", name, "new", status == http.StatusCreated, "user", c.principal.Login)
	return writeTagged(w, r, status, d.Owner, "", d.JSON)
}

func (h *handler) deleteDefinition(w http.ResponseWriter, r *http.Request, c *call, kind string) error {
	name := c.params["name"]
	err := h.engine.Undefine(r.Context(), kind, name, func(held *Definition) error {
		if held == nil {
			return store.ErrNotFound
		}
		if err := writable(kind, held); err != nil {
			return err
		}
		return precondition(r, etagOf(held.JSON))
	})
	if err != nil {
		return faultsProblem(err, problem(http.StatusUnprocessableEntity, "in-use", "Others refer to it", ""))
	}
	h.engine.Logger().Info("a definition is removed", "kind", kind, "name", name, "user", c.principal.Login)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// languageOf returns the name of a body of a definition, by its Content-Type. YAML is also what has no type worth the name: curl's for data, none.
func languageOf(r *http.Request) (file string, err error) {
	header := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(header)
	switch {
	case header == "", err == nil && slices.Contains([]string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/x-www-form-urlencoded",
		"application/octet-stream"}, kind), err == nil && strings.HasSuffix(kind, "+yaml"):
		return bodyYAML, nil
	case err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")):
		return bodyJSON, nil
	}
	return "", problem(http.StatusUnsupportedMediaType, "media-type", "Content-Type refused", "send a definition as application/json or application/yaml")
}

// writable refuses to change what is not owned by this API.
func writable(kind string, held *Definition) error {
	what := strings.TrimSuffix(kind, "s")
	switch held.Owner {
	case OwnerFile:
		return problem(http.StatusConflict, "read-only", "Read-only", fmt.Sprintf("%s %q is defined in %s: change it there", what, held.Name, held.Place))
	case OwnerGo:
		return problem(http.StatusConflict, "read-only", "Read-only", fmt.Sprintf("%s %q is defined in Go by the program that the engine is part of", what, held.Name))
	}
	return nil
}

// etagOf returns the entity tag of what is shown. Secrets are not part of it, so that nobody can try guesses on it.
func etagOf(shown []byte) string {
	sum := sha256.Sum256(shown)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// precondition checks If-Match and If-None-Match of a change; tag is that of what is there, "" when there is nothing.
func precondition(r *http.Request, tag string) error {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	if len(match) > 0 && !matches(match, tag, false) || len(none) > 0 && matches(none, tag, true) {
		detail := "there is another version of it by now: read it again and repeat the change"
		if len(none) > 0 {
			detail = "it is there already"
		} else if tag == "" {
			detail = "it is not there"
		}
		return problem(http.StatusPreconditionFailed, "precondition-failed", "Precondition failed", detail)
	}
	return nil
}

// matches reports whether a header's list of entity tags has the tag; * has any but none. Weak tags count where weak is set.
func matches(header []string, tag string, weak bool) bool {
	if tag == "" {
		return false
	}
	for t := range strings.SplitSeq(strings.Join(header, ","), ",") {
		t = strings.TrimSpace(t)
		if weak {
			t = strings.TrimPrefix(t, "W/")
		}
		if t == "*" || t == tag {
			return true
		}
	}
	return false
}

// writeTagged answers with JSON under its entity tag; a caller that reads, with 304 when it has that, or 412 when it wants another one.
func writeTagged(w http.ResponseWriter, r *http.Request, status int, owner, place string, body []byte) error {
	tag, header, reads := etagOf(body), w.Header(), r.Method == "GET" || r.Method == "HEAD"
	if match := r.Header.Values("If-Match"); reads && len(match) > 0 && !matches(match, tag, false) {
		return precondition(r, tag)
	}
	header.Set("ETag", tag)
	header.Set("Integrator-Owner", owner)
	if place != "" {
		header.Set("Integrator-Place", place)
	}
	if none := r.Header.Values("If-None-Match"); reads && matches(none, tag, true) {
		header.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	writeText(w, status, append(slices.Clip(body), '\n'))
	return nil
}

// faultView is a fault of a definition as problems have it.
type faultView struct {
	Path   string `json:"path"`
	File   string `json:"file,omitempty"` // of one that is not in the request's body
	Line   int    `json:"line,omitempty"` // in the body or the file, from 1; without one it is in a definition of another request or in Go
	Column int    `json:"column,omitempty"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// faultsProblem returns the answer to a change whose definitions have faults: p, with them.
func faultsProblem(err error, p *Problem) error {
	var faults define.Faults
	if !errors.As(err, &faults) {
		return err
	}
	for _, f := range faults {
		view := faultView{Path: f.Path, File: f.File, Line: f.Line, Column: f.Column, Reason: f.Reason, Hint: f.Hint}
		switch f.File {
		case bodyJSON, bodyYAML:
			f.File, view.File = "body", ""
		case "":
			view.Line, view.Column = 0, 0
		}
		if p.Faults = append(p.Faults, view); p.Detail == "" {
			p.Detail = f.Error()
		}
	}
	if n := len(faults) - 1; n > 0 {
		p.Detail += fmt.Sprintf("; and %d more in faults", n)
	}
	return p
}
