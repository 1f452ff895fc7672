package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/integrator-go/integrator/auth"
)

// maxUserBody bounds the body that makes a user, in bytes.
const maxUserBody = 64 << 10

// userBody is what PUT /rest/v1/users/{login} takes. Fields that are left out keep what the user has.
type userBody struct {
	Role      *auth.Role `json:"role"`
	Password  string     `json:"password"`
	Listeners *[]string  `json:"listeners"`
	Flows     *[]string  `json:"flows"`
	Networks  *[]string  `json:"networks"`
	Disabled  *bool      `json:"disabled"`
}

// userView is a user as the routes show it.
type userView struct {
	auth.User
	Defined bool `json:"defined,omitempty"` // made by the definitions, changed only there
}

func (h *handler) users(w http.ResponseWriter, r *http.Request, _ *call) error {
	views := []userView{}
	for _, u := range h.engine.Auth().Users() {
		views = append(views, userView{u, u.Defined})
	}
	writeJSON(w, http.StatusOK, map[string]any{"users": views})
	return nil
}

func (h *handler) user(w http.ResponseWriter, r *http.Request, c *call) error {
	u, err := h.engine.Auth().User(c.params["login"])
	if err != nil {
		return userProblem(err)
	}
	writeJSON(w, http.StatusOK, userView{u, u.Defined})
	return nil
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
	login := c.params["login"]
	u, err := h.engine.Auth().User(login)
	status := http.StatusOK
	if errors.Is(err, auth.ErrNotFound) {
		u, status = auth.User{Login: login, Role: auth.API}, http.StatusCreated
	} else if err != nil {
		return err
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
	writeJSON(w, status, userView{User: u})
	return nil
}

func (h *handler) deleteUser(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := h.engine.Auth().Remove(r.Context(), c.params["login"]); err != nil {
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

// addKey is POST /rest/v1/users/{login}/keys. Its answer is the only one that ever holds the key.
func (h *handler) addKey(w http.ResponseWriter, r *http.Request, c *call) error {
	text, err := h.readAll(w, r, maxUserBody)
	if err != nil {
		return err
	}
	var body struct {
		Name    string     `json:"name"`
		Expires *time.Time `json:"expires"` // nil: never
	}
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
	writeJSON(w, http.StatusCreated, struct {
		Key string `json:"key"`
		auth.APIKey
	}{key, made})
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
		return problem(http.StatusConflict, "defined-in-files", "Read-only", err.Error())
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
