package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/listener"
)

// maxTokenBody bounds a request for a token in bytes.
const maxTokenBody = 8 << 10

// credentials are what a token is issued for.
type credentials struct {
	Login    *string `json:"login"`
	Password *string `json:"password"`
}

// tokenAnswer is a token with its life in seconds.
type tokenAnswer struct {
	Token     string `json:"token"`
	ExpiresIn int    `json:"expires_in"`
}

// issueToken is POST /rest/v1/token-auth/issue.
func (h *handler) issueToken(w http.ResponseWriter, r *http.Request, _ *call) error {
	if err := h.engine.Accepting(); err != nil {
		return err
	}
	body, err := h.readAll(w, r, maxTokenBody)
	if err != nil {
		return err
	}
	var given credentials
	if err := decodeJSON(body, &given); err != nil {
		return err
	}
	if given.Login == nil || given.Password == nil {
		return problem(http.StatusBadRequest, "malformed", "Malformed body", `the body is a JSON object with "login" and "password", both text`)
	}
	token, life, err := h.engine.Auth().Issue(r.Context(), *given.Login, *given.Password, r.RemoteAddr)
	if errors.Is(err, auth.ErrInvalid) {
		return problem(http.StatusUnauthorized, "unauthorized", "No valid credentials", "the login or the password is wrong, or the user is disabled")
	}
	if err != nil {
		return err
	}
	writeToken(w, token, life)
	return nil
}

func writeToken(w http.ResponseWriter, token string, life time.Duration) {
	writeJSON(w, http.StatusOK, tokenAnswer{token, int(math.Ceil(life.Seconds()))})
}

// refreshToken is POST /rest/v1/token-auth/refresh. The token is the call's own proof; a body is not looked at.
func (h *handler) refreshToken(w http.ResponseWriter, r *http.Request, _ *call) error {
	token, life, err := h.engine.Auth().Refresh(r.Context(), r)
	if err != nil {
		return err
	}
	writeToken(w, token, life)
	return nil
}

// readAll reads a small body.
func (h *handler) readAll(w http.ResponseWriter, r *http.Request, max int64) ([]byte, error) {
	if r.ContentLength > max {
		return nil, listener.ErrTooLarge
	}
	if err := identity(r); err != nil {
		return nil, err
	}
	return io.ReadAll(newBodyReader(w, r, max))
}

// identity refuses a body that is compressed.
func identity(r *http.Request) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return problem(http.StatusUnsupportedMediaType, "encoding", "Content encoding not supported", "send the body without Content-Encoding")
	}
	return nil
}

// decodeJSON reads one JSON object into v, strictly. Its errors never repeat the body.
func decodeJSON(body []byte, v any) error {
	malformed := problem(http.StatusBadRequest, "malformed", "Malformed body", "the body is not the JSON object that is expected here")
	// The tokenizer is stricter than encoding/json: names twice and text that is no UTF-8 are refused, so that nobody reads the body otherwise.
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '{' || !jsontext.Value(body).IsValid() {
		return malformed
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			malformed.Detail = "field " + kind.Field + " has another type than is expected"
		}
		return malformed
	}
	return nil
}
