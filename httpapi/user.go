package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/integrator-go/integrator/auth"
)

// maxUserBody bounds the body that makes a user, in bytes.
const maxUserBody = 64 << 10

// userBody is what PUT /rest/v1/users/{login} takes. Fields that are left out keep what the user has.
type userBody struct {
	Role      *auth.Role `json:"role,omitempty"`
	Password  string     `json:"password,omitempty"`
	Listeners *[]string  `json:"listeners,omitempty"`
	Flows     *[]string  `json:"flows,omitempty"`
	Networks  *[]string  `json:"networks,omitempty"`
	Disabled  *bool      `json:"disabled,omitempty"`
}

// userView is a user as the routes show it.
type userView struct {
	auth.User
	Owner string `json:"owner"`
}

// userEntry is a user in a list.
type userEntry struct {
	userView
	ETag string `json:"etag"`
}

func (h *handler) userView(u auth.User) userView {
	owner := OwnerHTTP
	if u.Defined {
		owner = h.engine.Owner("users", u.Login)
	}
	return userView{u, owner}
}

// shown is the user as it is answered.
func (v userView) shown() []byte {
	shown, _ := json.Marshal(v) // cannot fail
	return shown
}

func (h *handler) users(w http.ResponseWriter, r *http.Request, _ *call) error {
	views := []userEntry{}
	for _, u := range h.engine.Auth().Users() {
		view := h.userView(u)
		views = append(views, userEntry{view, etagOf(view.shown())})
	}
	writeJSON(w, http.StatusOK, map[string]any{"users": views})
	return nil
}

func (h *handler) user(w http.ResponseWriter, r *http.Request, c *call) error {
	u, err := h.engine.Auth().User(c.params["login"])
	if err != nil {
		return userProblem(err)
	}
	view := h.userView(u)
	return writeTagged(w, r, http.StatusOK, view.Owner, "", view.shown())
}

func (h *handler) putUser(w http.ResponseWriter, r *http.Request, c *call) error {
	text, err := h.readAll(w, r, maxUserBody)
	if err != nil {
		return err
	}
	var body userBody
	if err := decodeJSON(text, &body); err != nil {
		return err
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	login := c.params["login"]
	u, err := h.engine.Auth().User(login)
	status := http.StatusOK
	if errors.Is(err, auth.ErrNotFound) {
		u, status = auth.User{Login: login, Role: auth.API}, http.StatusCreated
		err = precondition(r, "")
	} else if err == nil {
		err = h.agree(r, u)
	}
	if err != nil {
		return userProblem(err)
	}
	if body.Role != nil {
		u.Role = *body.Role
	}
	for _, list := range []struct {
		from *[]string
		to   *[]string
	}{{body.Listeners, &u.Listeners}, {body.Flows, &u.Flows}, {body.Networks, &u.Networks}} {
		if list.from != nil {
			*list.to = *list.from
		}
	}
	if body.Disabled != nil {
		u.Disabled = *body.Disabled
	}
	if err := h.engine.Auth().Save(r.Context(), u, auth.Secret(body.Password)); err != nil {
		return userProblem(err)
	}
	return writeTagged(w, r, status, OwnerHTTP, "", h.userView(u).shown())
}

// agree refuses a change of a user that is not this API's, or of which the caller knows another version.
func (h *handler) agree(r *http.Request, u auth.User) error {
	if u.Defined {
		return auth.ErrDefined
	}
	return precondition(r, etagOf(h.userView(u).shown()))
}

func (h *handler) deleteUser(w http.ResponseWriter, r *http.Request, c *call) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	u, err := h.engine.Auth().User(c.params["login"])
	if err == nil {
		err = h.agree(r, u)
	}
	if err == nil {
		err = h.engine.Auth().Remove(r.Context(), u.Login)
	}
	if err != nil {
		return userProblem(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// keys is GET /rest/v1/users/{login}/keys: the user's API keys, without their text.
func (h *handler) keys(w http.ResponseWriter, r *http.Request, c *call) error {
	keys, err := h.engine.Auth().Keys(c.params["login"])
	if err != nil {
		return userProblem(err)
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": keys})
	return nil
}

// keyBody is what makes an API key.
type keyBody struct {
	Name    string     `json:"name"`
	Expires *time.Time `json:"expires,omitempty"` // nil: never
}

// newKey is an API key with its text.
type newKey struct {
	Key string `json:"key"`
	auth.APIKey
}

// addKey is POST /rest/v1/users/{login}/keys. Its answer is the only one that ever holds the key.
func (h *handler) addKey(w http.ResponseWriter, r *http.Request, c *call) error {
	text, err := h.readAll(w, r, maxUserBody)
	if err != nil {
		return err
	}
	var body keyBody
	if err := decodeJSON(text, &body); err != nil {
		return err
	}
	var expires time.Time
	if body.Expires != nil {
		expires = *body.Expires
	}
	key, made, err := h.engine.Auth().AddKey(r.Context(), c.params["login"], body.Name, expires)
	if err != nil {
		return userProblem(err)
	}
	h.engine.Logger().Info("an API key is made", "login", c.params["login"], "name", made.Name, "expires", made.Expires, "user", c.principal.Login)
	writeJSON(w, http.StatusCreated, newKey{key, made})
	return nil
}

// revokeKey is DELETE /rest/v1/users/{login}/keys/{key}.
func (h *handler) revokeKey(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := h.engine.Auth().RevokeKey(r.Context(), c.params["login"], c.params["key"]); err != nil {
		return userProblem(err)
	}
	h.engine.Logger().Info("an API key is revoked", "login", c.params["login"], "name", c.params["key"], "user", c.principal.Login)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// userProblem returns the answer to a change of users that was refused.
func userProblem(err error) error {
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return problem(http.StatusNotFound, "not-found", "Not found", "there is no such user")
	case errors.Is(err, auth.ErrDefined):
		return problem(http.StatusConflict, "read-only", "Read-only", err.Error())
	case errors.Is(err, auth.ErrConflict):
		return problem(http.StatusConflict, "conflict", "Changed in the meantime", "read the user again and repeat the change")
	case errors.Is(err, auth.ErrNoKey):
		return problem(http.StatusNotFound, "not-found", "Not found", err.Error())
	case errors.Is(err, auth.ErrExists):
		return problem(http.StatusConflict, "exists", "There already", err.Error())
	case errors.Is(err, auth.ErrKey):
		return problem(http.StatusUnprocessableEntity, "api-key", "Wrong key", err.Error())
	case errors.Is(err, auth.ErrUser):
		return problem(http.StatusUnprocessableEntity, "user", "Wrong user", err.Error())
	}
	return err
}
