package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/crypto/argon2"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
)

// catalog is a store's catalog as the package wants it.
type catalog struct {
	store *memstore.Store
	full  error // what Put returns, when it is set
}

func newCatalog() *catalog { return &catalog{store: memstore.New()} }

func named(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return auth.ErrNotFound
	case errors.Is(err, store.ErrConflict):
		return auth.ErrConflict
	}
	return err
}

func (c *catalog) Get(ctx context.Context, kind, name string) ([]byte, int64, error) {
	e, err := c.store.Get(ctx, kind, name)
	return e.Value, e.Version, named(err)
}

func (c *catalog) List(ctx context.Context, kind string) (map[string][]byte, map[string]int64, error) {
	entries, err := c.store.List(ctx, kind)
	values, versions := map[string][]byte{}, map[string]int64{}
	for _, e := range entries {
		values[e.Name], versions[e.Name] = e.Value, e.Version
	}
	return values, versions, err
}

func (c *catalog) Put(ctx context.Context, kind, name string, value []byte, version int64) (int64, error) {
	if c.full != nil {
		return 0, c.full
	}
	version, err := c.store.Put(ctx, store.Entry{Kind: kind, Name: name, Value: value, Version: version})
	return version, named(err)
}

func (c *catalog) Delete(ctx context.Context, kind, name string, version int64) error {
	return named(c.store.Delete(ctx, kind, name, version))
}

// cheap keeps a user whose password hash costs next to nothing: for tests that need many.
func (c *catalog) cheap(t *testing.T, u auth.User, password string) {
	t.Helper()
	salt := []byte("12345678")
	hash := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	b64 := base64.RawStdEncoding
	value, err := json.Marshal(struct {
		auth.User
		Hash string `json:"hash"`
	}{u, fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", b64.EncodeToString(salt), b64.EncodeToString(hash))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "user", u.Login, value, 0); err != nil {
		t.Fatal(err)
	}
}

func service(t testing.TB, c auth.Catalog, options *auth.Options) *auth.Service {
	t.Helper()
	s, err := auth.New(t.Context(), c, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const here = "192.0.2.1:1234"

func issue(t testing.TB, s *auth.Service, login, password string) string {
	t.Helper()
	token, _, err := s.Issue(t.Context(), login, password, here)
	if err != nil {
		t.Fatalf("a token for %s: %v", login, err)
	}
	return token
}

func verify(s *auth.Service, token string) (auth.Principal, error) {
	return s.Verify(context.Background(), &http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
}

func good(t *testing.T, s *auth.Service, what, token string) {
	t.Helper()
	if _, err := verify(s, token); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func ended(t *testing.T, s *auth.Service, what, token string) {
	t.Helper()
	if _, err := verify(s, token); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("%s: the error is %v, want ErrInvalid", what, err)
	}
}

// keyOf returns the part of a token that numbers the key.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw[1:5])
}

var shop = map[string]auth.UserDefinition{"shop": {Role: auth.API, Password: "password-shop", Listeners: []string{"orders"}, Flows: []string{"nightly-*"}}}

func TestIssue(t *testing.T) {
	t.Parallel()
	c := newCatalog()
	s := service(t, c, nil)
	for _, u := range []struct {
		auth.User
		password auth.Secret
	}{
		{auth.User{Login: "stored", Role: auth.Operator}, "password-stored"},
		{auth.User{Login: "off", Role: auth.API, Disabled: true}, "password-off"},
	} {
		if err := s.Save(t.Context(), u.User, u.password); err != nil {
			t.Fatal(err)
		}
	}
	s.SetDefined(map[string]auth.UserDefinition{
		"shop": shop["shop"],
		"far":  {Role: auth.API, Password: "password-far", Networks: []string{"203.0.113.0/24", "fe80::/10"}},
	})
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		name, login, password, remote string
		want                          error
		hashes                        int64
	}{
		{"a stored user", "stored", "password-stored", here, nil, 1},
		{"once more", "stored", "password-stored", here, nil, 0},
		{"a wrong password of one who was right before", "stored", "password-wrong", here, auth.ErrInvalid, 1},
		{"a defined user", "shop", "password-shop", here, nil, 0},
		{"a wrong password of a defined user", "shop", "password-stored", here, auth.ErrInvalid, 1},
		{"no password", "shop", "", here, auth.ErrInvalid, 1},
		{"the beginning of the password", "shop", "password-sho", here, auth.ErrInvalid, 1},
		{"a password that is too long", "shop", long, here, auth.ErrInvalid, 1},
		{"an unknown login", "nobody", "password-shop", here, auth.ErrInvalid, 1},
		{"another case of the login", "Shop", "password-shop", here, auth.ErrInvalid, 1},
		{"no login", "", "password-shop", here, auth.ErrInvalid, 1},
		{"a login that is too long", long, "password-shop", here, auth.ErrInvalid, 1},
		{"a disabled user", "off", "password-off", here, auth.ErrInvalid, 1},
		{"from a network that is not allowed", "far", "password-far", here, auth.ErrForbidden, 0},
		{"wrong from a network that is not allowed", "far", "password-wrong", here, auth.ErrInvalid, 1},
		{"from one that is", "far", "password-far", "203.0.113.9:1", nil, 0},
		{"without a port", "far", "password-far", "203.0.113.9", nil, 0},
		{"in IPv6 notation", "far", "password-far", "[::ffff:203.0.113.9]:1", nil, 0},
		{"with a zone", "far", "password-far", "[fe80::1%eth0]:1", nil, 0},
		{"from nowhere", "far", "password-far", "@", auth.ErrForbidden, 0},
		{"from nowhere, when all are allowed", "shop", "password-shop", "", nil, 0},
	} {
		before := s.HashesComputed()
		token, life, err := s.Issue(t.Context(), c.login, c.password, c.remote)
		if hashes := s.HashesComputed() - before; !errors.Is(err, c.want) || (token == "") != (c.want != nil) || hashes != c.hashes {
			t.Errorf("%s: %v after %d hashes, token %q; want %v after %d", c.name, err, hashes, token, c.want, c.hashes)
		}
		if c.want == auth.ErrInvalid && err.Error() != auth.ErrInvalid.Error() {
			t.Errorf("%s: the error says more than others do: %v", c.name, err)
		}
		if err == nil && life != 30*time.Second {
			t.Errorf("%s: the token lives %v", c.name, life)
		}
	}
	want := auth.Principal{Login: "shop", Role: auth.API, Listeners: []string{"orders"}, Flows: []string{"nightly-*"}}
	got, err := verify(s, issue(t, s, "shop", "password-shop"))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var skew time.Duration
		s := service(t, newCatalog(), &auth.Options{Now: func() time.Time { return time.Now().Add(skew) }})
		s.SetDefined(shop)
		token := issue(t, s, "shop", "password-shop")
		time.Sleep(30*time.Second - time.Nanosecond)
		good(t, s, "just before 30 s", token)
		time.Sleep(time.Nanosecond)
		ended(t, s, "after 30 s", token)
		skew = -time.Hour
		ended(t, s, "after the clock was set back", token)
		token = issue(t, s, "shop", "password-shop")
		good(t, s, "made with the clock set back", token)
		time.Sleep(30 * time.Second)
		ended(t, s, "made with the clock set back, after 30 s", token)
		token = issue(t, s, "shop", "password-shop")
		skew = time.Hour
		ended(t, s, "after the clock was set forward", token)
	})
}

// refresh asks for a new token with a held one.
func refresh(s *auth.Service, held, from string) (string, error) {
	token, _, err := s.Refresh(context.Background(), &http.Request{RemoteAddr: from, Header: http.Header{"Authorization": {"Bearer " + held}}})
	return token, err
}

// TestRefresh makes a chain of tokens: it lives as long as each is refreshed in time, and ends half a day after the password.
func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := service(t, newCatalog(), nil)
		s.SetDefined(shop)
		token := issue(t, s, "shop", "password-shop")
		began, hashes := time.Now(), s.HashesComputed()
		for time.Since(began) < 12*time.Hour {
			next, err := refresh(s, token, here)
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			good(t, s, "a token that was refreshed", next)
			time.Sleep(20 * time.Second)
			token = next
		}
		good(t, s, "the last token", token)
		if _, err := refresh(s, token, here); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("half a day after the password: %v", err)
		}
		if n := s.HashesComputed(); n != hashes {
			t.Errorf("%d hashes were computed", n-hashes)
		}
	})
}

func TestRefreshRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := service(t, newCatalog(), &auth.Options{RefreshLife: time.Minute})
		user := auth.User{Login: "away", Role: auth.API, Networks: []string{"192.0.2.0/24"}}
		if err := s.Save(t.Context(), user, "password-away"); err != nil {
			t.Fatal(err)
		}
		token := issue(t, s, "away", "password-away")
		for _, c := range []struct {
			name, token, from string
			want              error
		}{
			{"as it should be", token, here, nil},
			{"from elsewhere", token, "198.51.100.1:1", auth.ErrForbidden},
			{"tampered", token + "AAAA", here, auth.ErrInvalid},
			{"none", "", here, auth.ErrInvalid},
		} {
			if _, err := refresh(s, c.token, c.from); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		if _, _, err := s.Refresh(t.Context(), &http.Request{}); !errors.Is(err, auth.ErrNoCredentials) {
			t.Errorf("without a header: %v", err)
		}
		time.Sleep(30 * time.Second)
		if _, err := refresh(s, token, here); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("expired: %v", err)
		}
		token = issue(t, s, "away", "password-away")
		user.Disabled = true
		if err := s.Save(t.Context(), user, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := refresh(s, token, here); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("disabled: %v", err)
		}
	})
}

// TestTakePassword: a password in the call is proof where the context says so, under the rules of a login.
func TestTakePassword(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.cheap(t, auth.User{Login: "stored", Role: auth.Viewer, Networks: []string{"192.0.2.0/24"}}, "pass:word")
		c.cheap(t, auth.User{Login: "off", Role: auth.Viewer, Disabled: true}, "password")
		s := service(t, c, nil)
		s.SetDefined(shop)
		token := issue(t, s, "shop", "password-shop")
		taking := auth.TakePassword(t.Context())
		basic := func(login, password string) string {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
		}
		for _, c := range []struct {
			name, header, from string
			ctx                context.Context
			want               auth.Principal
			err                error
		}{
			{"a password", basic("shop", "password-shop"), here, taking, auth.Principal{Login: "shop", Role: auth.API, Listeners: []string{"orders"}, Flows: []string{"nightly-*"}, Password: true}, nil},
			{"a password with a colon", basic("stored", "pass:word"), here, taking, auth.Principal{Login: "stored", Role: auth.Viewer, Password: true}, nil},
			{"a token", "Bearer " + token, here, taking, auth.Principal{Login: "shop", Role: auth.API, Listeners: []string{"orders"}, Flows: []string{"nightly-*"}}, nil},
			{"where none is taken", basic("shop", "password-shop"), here, t.Context(), auth.Principal{}, auth.ErrNoCredentials},
			{"from another network", basic("stored", "pass:word"), "198.51.100.1:1", taking, auth.Principal{}, auth.ErrForbidden},
			{"a wrong one", basic("shop", "password-stored"), here, taking, auth.Principal{}, auth.ErrInvalid},
			{"a disabled user", basic("off", "password"), here, taking, auth.Principal{}, auth.ErrInvalid},
			{"nobody", basic("who", "password"), here, taking, auth.Principal{}, auth.ErrInvalid},
			{"without a colon", "Basic " + base64.StdEncoding.EncodeToString([]byte("shop")), here, taking, auth.Principal{}, auth.ErrInvalid},
			{"no base64", "Basic shop:password-shop", here, taking, auth.Principal{}, auth.ErrInvalid},
			{"empty", "Basic ", here, taking, auth.Principal{}, auth.ErrInvalid},
			{"another scheme", "Digest x", here, taking, auth.Principal{}, auth.ErrNoCredentials},
		} {
			got, err := s.Verify(c.ctx, &http.Request{RemoteAddr: c.from, Header: http.Header{"Authorization": {c.header}}})
			if d := cmp.Diff(c.want, got); d != "" || !errors.Is(err, c.err) {
				t.Errorf("%s: %v, want %v %s", c.name, err, c.err, d)
			}
		}
		request := &http.Request{RemoteAddr: here, Header: http.Header{"Authorization": {basic("stored", "wrong")}}}
		var err error
		for range 6 {
			_, err = s.Verify(taking, request)
		}
		if !errors.As(err, new(*auth.ThrottledError)) {
			t.Errorf("the sixth wrong password: %v", err)
		}
	})
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		for _, login := range []string{"shop", "other"} {
			c.cheap(t, auth.User{Login: login, Role: auth.API}, "password-"+login)
		}
		var skew time.Duration
		s := service(t, c, &auth.Options{Now: func() time.Time { return time.Now().Add(skew) }})
		attempt := func(login, password, remote string) (wait time.Duration) {
			t.Helper()
			before := s.HashesComputed()
			_, _, err := s.Issue(t.Context(), login, password, remote)
			var throttled *auth.ThrottledError
			switch {
			case errors.As(err, &throttled):
				if s.HashesComputed() != before {
					t.Errorf("a refused attempt cost a hash")
				}
				return throttled.RetryAfter
			case password == "wrong" && !errors.Is(err, auth.ErrInvalid), password != "wrong" && err != nil:
				t.Errorf("%s from %s: %v", login, remote, err)
			}
			return 0
		}
		wants := func(what string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s: wait %v, want %v", what, got, want)
			}
		}
		for i := range 5 {
			wants(fmt.Sprint("miss ", i+1), attempt("shop", "wrong", here), 0)
		}
		for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			wait *= time.Second
			wants("the right password", attempt("shop", "password-shop", here), wait)
			wants("from the same network", attempt("shop", "wrong", "192.0.2.77:1"), wait)
			wants("another account", attempt("other", "password-other", here), 0)
			wants("another network", attempt("shop", "password-shop", "192.0.3.1:1"), 0)
			time.Sleep(wait - time.Nanosecond)
			wants("just before", attempt("shop", "wrong", here), 1)
			time.Sleep(time.Nanosecond)
			wants("after the wait", attempt("shop", "wrong", here), 0)
		}
		skew = -time.Hour
		wants("the clock set back", attempt("shop", "wrong", here), time.Minute)
		time.Sleep(time.Minute)
		wants("the right password after the wait", attempt("shop", "password-shop", here), 0)
		wants("a miss after it", attempt("shop", "wrong", here), 0)
		wants("misses are not cleared by a success", attempt("shop", "password-shop", here), time.Minute)
		time.Sleep(15*time.Minute + 1)
		for i := range 5 {
			wants(fmt.Sprint("after a quiet quarter of an hour, miss ", i+1), attempt("shop", "wrong", here), 0)
		}
		wants("and again", attempt("shop", "wrong", here), time.Second)
		for i := range 5 {
			wants(fmt.Sprint("IPv6, miss ", i+1), attempt("shop", "wrong", fmt.Sprintf("[2001:db8::%d]:1", i)), 0)
		}
		wants("the same /64", attempt("shop", "password-shop", "[2001:db8::ffff:1%eth0]:1"), time.Second)
		wants("another /64", attempt("shop", "password-shop", "[2001:db8:0:1::1]:1"), 0)
	})
}

// TestGuessesAtOnce: attempts that are under way together get no more guesses than those that come one by one.
func TestGuessesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.cheap(t, auth.User{Login: "shop", Role: auth.API}, "password-shop")
		s := service(t, c, nil)
		release := s.OccupyHasher()
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { s.Issue(t.Context(), "shop", "wrong", here) })
		}
		synctest.Wait()
		release()
		group.Wait()
		if n := s.HashesComputed(); n < 5 || n > 6 {
			t.Errorf("100 attempts at once had %d guesses, want 5, or 6 when the last two met", n)
		}
	})
}

func TestLoginFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.cheap(t, auth.User{Login: "stored", Role: auth.API}, "password-stored")
		s := service(t, c, nil)
		s.SetDefined(shop)
		issue(t, s, "stored", "password-stored")
		release := s.OccupyHasher()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range auth.HashesWaiting {
			group.Go(func() {
				if _, _, err := s.Issue(ctx, fmt.Sprint("flood-", i), "wrong", here); !errors.Is(err, context.Canceled) {
					t.Errorf("a caller that has gone: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, _, err := s.Issue(t.Context(), "one-more", "wrong", here); !errors.Is(err, auth.ErrBusy) {
			t.Errorf("one more: %v", err)
		}
		issue(t, s, "shop", "password-shop")
		issue(t, s, "stored", "password-stored")
		before := s.HashesComputed()
		cancel()
		group.Wait()
		release()
		if n := s.HashesComputed() - before; n != 0 {
			t.Errorf("%d hashes for callers that have gone", n)
		}
		if _, _, err := s.Issue(t.Context(), "flood-1", "wrong", here); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("after the flood: %v", err)
		}
	})
}

func TestChangesEndTokens(t *testing.T) {
	t.Parallel()
	save := func(change func(*auth.User), password auth.Secret) func(*testing.T, *auth.Service) {
		return func(t *testing.T, s *auth.Service) {
			u, err := s.User("stored")
			if err != nil {
				t.Fatal(err)
			}
			change(&u)
			if err := s.Save(t.Context(), u, password); err != nil {
				t.Fatal(err)
			}
		}
	}
	define := func(change func(*auth.UserDefinition)) func(*testing.T, *auth.Service) {
		return func(t *testing.T, s *auth.Service) {
			d := shop["shop"]
			change(&d)
			s.SetDefined(map[string]auth.UserDefinition{"shop": d})
		}
	}
	remove := func(t *testing.T, s *auth.Service) {
		if err := s.Remove(t.Context(), "stored"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, login string
		change      func(*testing.T, *auth.Service)
	}{
		{"password", "stored", save(func(*auth.User) {}, "password-other")},
		{"role", "stored", save(func(u *auth.User) { u.Role = auth.Viewer }, "")},
		{"grants", "stored", save(func(u *auth.User) { u.Listeners = nil }, "")},
		{"networks", "stored", save(func(u *auth.User) { u.Networks = []string{"10.0.0.0/8"} }, "")},
		{"disabled", "stored", save(func(u *auth.User) { u.Disabled = true }, "")},
		{"removed", "stored", remove},
		{"removed and made again", "stored", func(t *testing.T, s *auth.Service) {
			u, _ := s.User("stored")
			remove(t, s)
			if err := s.Save(t.Context(), auth.User{Login: u.Login, Role: u.Role, Listeners: u.Listeners}, "password-stored"); err != nil {
				t.Fatal(err)
			}
		}},
		{"defined over it", "stored", func(t *testing.T, s *auth.Service) {
			s.SetDefined(map[string]auth.UserDefinition{"stored": {Role: auth.API, Password: "password-stored", Listeners: []string{"orders"}}})
		}},
		{"defined password", "shop", define(func(d *auth.UserDefinition) { d.Password = "password-other" })},
		{"defined role", "shop", define(func(d *auth.UserDefinition) { d.Role = auth.Admin })},
		{"defined grants", "shop", define(func(d *auth.UserDefinition) { d.Listeners = []string{"orders", "more"} })},
		{"defined grants in another list", "shop", define(func(d *auth.UserDefinition) { d.Listeners, d.Flows = d.Flows, d.Listeners })},
		{"defined no more", "shop", func(t *testing.T, s *auth.Service) { s.SetDefined(nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			catalog := newCatalog()
			catalog.cheap(t, auth.User{Login: "stored", Role: auth.API, Listeners: []string{"orders"}}, "password-stored")
			s := service(t, catalog, nil)
			s.SetDefined(shop)
			token := issue(t, s, c.login, "password-"+c.login)
			s.SetDefined(shop)
			good(t, s, "before", token)
			c.change(t, s)
			ended(t, s, "after", token)
			if c.name == "defined over it" {
				s.SetDefined(nil)
				good(t, s, "the definition is gone", token)
			}
		})
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	c := newCatalog()
	c.cheap(t, auth.User{Login: "stored", Role: auth.API}, "password-stored")
	s := service(t, c, nil)
	s.SetDefined(shop)
	stored, defined := issue(t, s, "stored", "password-stored"), issue(t, s, "shop", "password-shop")
	s = service(t, c, nil)
	good(t, s, "a stored user's token", stored)
	ended(t, s, "a defined user's token before the definitions are in force", defined)
	s.SetDefined(shop)
	good(t, s, "a defined user's token", defined)
	ended(t, service(t, newCatalog(), nil), "at another engine", stored)
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	t.Run("tokens live out their time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := service(t, newCatalog(), &auth.Options{TokenLife: 70 * day})
			s.SetDefined(shop)
			first := issue(t, s, "shop", "password-shop")
			numbers := map[string]bool{keyOf(t, first): true}
			for range 69 {
				time.Sleep(day)
				good(t, s, "the first token", first)
				numbers[keyOf(t, issue(t, s, "shop", "password-shop"))] = true
			}
			if len(numbers) != 3 {
				t.Errorf("%d keys have signed in 69 days, want 3", len(numbers))
			}
			time.Sleep(day)
			ended(t, s, "the first token after its life", first)
			s.SetDefined(shop)
			good(t, s, "defined anew under another key", issue(t, s, "shop", "password-shop"))
		})
	})
	t.Run("two engines on one catalog", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCatalog()
			a, b := service(t, c, nil), service(t, c, nil)
			a.SetDefined(shop)
			time.Sleep(31 * day)
			b.SetDefined(shop)
			good(t, b, "the new key of the other engine", issue(t, a, "shop", "password-shop"))
			good(t, a, "the same key here", issue(t, b, "shop", "password-shop"))
			late := service(t, c, nil)
			late.SetDefined(shop)
			good(t, a, "of an engine that started later", issue(t, late, "shop", "password-shop"))
		})
	})
	t.Run("many callers at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCatalog()
			services := []*auth.Service{service(t, c, nil), service(t, c, nil), service(t, c, nil)}
			for _, s := range services {
				s.SetDefined(shop)
			}
			time.Sleep(31 * day)
			var group sync.WaitGroup
			for i := range 30 {
				group.Go(func() {
					s := services[i%len(services)]
					token, _, err := s.Issue(t.Context(), "shop", "password-shop", here)
					if err != nil {
						t.Error(err)
					}
					good(t, s, "while the key changes", token)
				})
			}
			group.Wait()
			token := issue(t, services[0], "shop", "password-shop")
			for _, s := range services {
				good(t, s, "afterwards", token)
			}
		})
	})
	t.Run("the catalog is full", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCatalog()
			s := service(t, c, nil)
			s.SetDefined(shop)
			c.full = store.ErrFull
			time.Sleep(59 * day)
			good(t, s, "the old key signs on", issue(t, s, "shop", "password-shop"))
			time.Sleep(day)
			if _, _, err := s.Issue(t.Context(), "shop", "password-shop", here); !errors.Is(err, store.ErrFull) {
				t.Errorf("and at last no more: %v", err)
			}
			c.full = nil
			good(t, s, "when there is room again", issue(t, s, "shop", "password-shop"))
		})
	})
	t.Run("a key of the future", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCatalog()
			wrong := service(t, c, &auth.Options{Now: func() time.Time { return time.Now().Add(365 * day) }})
			wrong.SetDefined(shop)
			before := issue(t, wrong, "shop", "password-shop")
			right := service(t, c, nil)
			right.SetDefined(shop)
			if after := issue(t, right, "shop", "password-shop"); keyOf(t, after) == keyOf(t, before) {
				t.Error("a key that was made in the future signs until then")
			}
			time.Sleep(time.Hour)
			ended(t, right, "a token of the wrong clock", before)
		})
	})
}

func TestSave(t *testing.T) {
	t.Parallel()
	c := newCatalog()
	s := service(t, c, nil)
	s.SetDefined(shop)
	api := func(change func(*auth.User)) auth.User {
		u := auth.User{Login: "new", Role: auth.API}
		change(&u)
		return u
	}
	for _, c := range []struct {
		name     string
		user     auth.User
		password auth.Secret
		want     error
	}{
		{"no password for a new user", api(func(u *auth.User) {}), "", auth.ErrUser},
		{"short password", api(func(u *auth.User) {}), "1234567", auth.ErrUser},
		{"long password", api(func(u *auth.User) {}), auth.Secret(strings.Repeat("x", 1025)), auth.ErrUser},
		{"no role", api(func(u *auth.User) { u.Role = "" }), "password", auth.ErrUser},
		{"unknown role", api(func(u *auth.User) { u.Role = "Admin" }), "password", auth.ErrUser},
		{"no login", api(func(u *auth.User) { u.Login = "" }), "password", auth.ErrUser},
		{"long login", api(func(u *auth.User) { u.Login = strings.Repeat("x", 256) }), "password", auth.ErrUser},
		{"login with a slash", api(func(u *auth.User) { u.Login = "a/b" }), "password", auth.ErrUser},
		{"login with a backslash", api(func(u *auth.User) { u.Login = `a\b` }), "password", auth.ErrUser},
		{"login as a listener's", api(func(u *auth.User) { u.Login = "listener:orders" }), "password", auth.ErrUser},
		{"login with a space at its end", api(func(u *auth.User) { u.Login = "a " }), "password", auth.ErrUser},
		{"login with a control character", api(func(u *auth.User) { u.Login = "a\x1b[2J" }), "password", auth.ErrUser},
		{"login with a direction mark", api(func(u *auth.User) { u.Login = "a\u202eb" }), "password", auth.ErrUser},
		{"login that is no text", api(func(u *auth.User) { u.Login = "a\xff" }), "password", auth.ErrUser},
		{"empty grant", api(func(u *auth.User) { u.Listeners = []string{""} }), "password", auth.ErrUser},
		{"grant with * within", api(func(u *auth.User) { u.Flows = []string{"a*b"} }), "password", auth.ErrUser},
		{"grant with two *", api(func(u *auth.User) { u.Flows = []string{"a**"} }), "password", auth.ErrUser},
		{"too many grants", api(func(u *auth.User) { u.Flows = make([]string, 1001) }), "password", auth.ErrUser},
		{"an address as network", api(func(u *auth.User) { u.Networks = []string{"10.0.0.1"} }), "password", auth.ErrUser},
		{"IPv4 in IPv6 notation as network", api(func(u *auth.User) { u.Networks = []string{"::ffff:10.0.0.0/104"} }), "password", auth.ErrUser},
		{"no network", api(func(u *auth.User) { u.Networks = []string{""} }), "password", auth.ErrUser},
		{"a defined user", auth.User{Login: "shop", Role: auth.Admin}, "password", auth.ErrDefined},
	} {
		if err := s.Save(t.Context(), c.user, c.password); !errors.Is(err, c.want) || strings.Contains(err.Error(), "1234567") {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if users := s.Users(); len(users) != 1 {
		t.Errorf("refused users are there: %v", users)
	}
	given := auth.User{Login: "new", Role: auth.API, Listeners: []string{"*"}, Flows: []string{"a*"}, Networks: []string{"192.0.2.0/24"}}
	if err := s.Save(t.Context(), given, "password-new"); err != nil {
		t.Fatal(err)
	}
	issue(t, s, "new", "password-new")
	given.Listeners[0] = "changed"
	u, err := s.User("new")
	if err != nil || u.Listeners[0] != "*" {
		t.Errorf("the caller's slice is the service's: %v, %v", u, err)
	}
	u.Disabled, u.Flows = true, nil
	if err := s.Save(t.Context(), u, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), u, ""); !errors.Is(err, auth.ErrConflict) {
		t.Errorf("a user that was changed since it was read: %v", err)
	}
	u, _ = s.User("new")
	u.Disabled = false
	if err := s.Save(t.Context(), u, ""); err != nil {
		t.Fatal(err)
	}
	issue(t, s, "new", "password-new") // the password was kept
	s = service(t, c, nil)
	issue(t, s, "new", "password-new")
	s.SetDefined(shop)
	want := []auth.User{
		{Login: "new", Role: auth.API, Listeners: []string{"*"}, Networks: []string{"192.0.2.0/24"}},
		{Login: "shop", Role: auth.API, Listeners: []string{"orders"}, Flows: []string{"nightly-*"}, Defined: true},
	}
	if d := cmp.Diff(want, s.Users(), cmpopts.IgnoreUnexported(auth.User{})); d != "" {
		t.Error(d)
	}
	for login, want := range map[string]error{"shop": auth.ErrDefined, "nobody": auth.ErrNotFound, "new": nil} {
		if err := s.Remove(t.Context(), login); !errors.Is(err, want) {
			t.Errorf("remove %s: %v, want %v", login, err, want)
		}
	}
	if _, err := s.User("new"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("a removed user: %v", err)
	}
}

func TestTwoServicesOneCatalog(t *testing.T) {
	t.Parallel()
	c := newCatalog()
	c.cheap(t, auth.User{Login: "shop", Role: auth.API}, "password-shop")
	a, b := service(t, c, nil), service(t, c, nil)
	token := issue(t, b, "shop", "password-shop")
	if err := a.Save(t.Context(), auth.User{Login: "shop", Role: auth.API, Disabled: true}, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(t.Context(), auth.User{Login: "shop", Role: auth.Viewer}, ""); !errors.Is(err, auth.ErrConflict) {
		t.Fatalf("a change on top of one that was not seen: %v", err)
	}
	ended(t, b, "the conflict shows what there is", token)
	u, err := b.User("shop")
	if err != nil || !u.Disabled {
		t.Errorf("after the conflict: %v, %v", u, err)
	}
	if err := b.Save(t.Context(), auth.User{Login: "shop", Role: auth.Viewer}, ""); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
	if err := a.Remove(t.Context(), "shop"); !errors.Is(err, auth.ErrConflict) {
		t.Errorf("remove what was changed: %v", err)
	}
	if err := a.Remove(t.Context(), "shop"); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
	if err := b.Remove(t.Context(), "shop"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("remove what is gone: %v", err)
	}
	if _, err := b.User("shop"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("what is gone: %v", err)
	}
	c.cheap(t, auth.User{Login: "late", Role: auth.API}, "password-late")
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	issue(t, b, "late", "password-late")
}

// TestStoredSecrets: what the catalog holds does not say a password.
func TestStoredSecrets(t *testing.T) {
	t.Parallel()
	c := newCatalog()
	s := service(t, c, nil)
	if err := s.Save(t.Context(), auth.User{Login: "shop", Role: auth.API}, "canary-password"); err != nil {
		t.Fatal(err)
	}
	key := addKey(t, s, "shop", "press", time.Time{})
	s.SetDefined(map[string]auth.UserDefinition{"defined": {Role: auth.API, Password: "canary-password"}})
	for _, kind := range []string{"user", "auth-key"} {
		values, _, err := c.List(t.Context(), kind)
		if err != nil || len(values) != 1 {
			t.Fatal(values, err)
		}
		for name, value := range values {
			if strings.Contains(string(value), "canary") || strings.Contains(string(value), key[:len(key)-4]) || strings.Contains(string(value), key[len("integrator_"):len(key)-4]) || strings.Contains(string(value), base64.StdEncoding.EncodeToString([]byte("canary-password"))) {
				t.Errorf("%s %s: %s", kind, name, value)
			}
		}
	}
	if text := fmt.Sprintf("%+v %v", s.Users(), s); strings.Contains(text, "canary") || strings.Contains(text, "argon2") {
		t.Errorf("users print %s", text)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		life    time.Duration
		refresh time.Duration
		kind    string
		value   string
		message string
	}{
		"a negative life":     {life: -1, message: "TokenLife"},
		"a life of no length": {life: time.Microsecond, message: "TokenLife"},
		"a negative time":     {refresh: -1, message: "RefreshLife"},
		"damaged keys":        {kind: "auth-key", value: "[", message: "keys cannot be read"},
		"no keys":             {kind: "auth-key", value: "{}", message: "keys cannot be read"},
		"a damaged user":      {kind: "user", value: `{"hash": 1, "password": "canary"}`, message: `user "ring" cannot be read`},
		"no catalog":          {ctx: canceled, message: "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			catalog := newCatalog()
			if c.kind != "" {
				if _, err := catalog.Put(t.Context(), c.kind, "ring", []byte(c.value), 0); err != nil {
					t.Fatal(err)
				}
			}
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			_, err := auth.New(c.ctx, catalog, &auth.Options{TokenLife: c.life, RefreshLife: c.refresh})
			if err == nil || !strings.Contains(err.Error(), c.message) || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is %v, want one with %q", err, c.message)
			}
		})
	}
}

func TestCheckDefinition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		login string
		d     auth.UserDefinition
		key   string
		right bool
	}{
		{"shop", shop["shop"], "", true},
		{"a/b", shop["shop"], "", false},
		{"shop", auth.UserDefinition{Password: "password"}, "role", false},
		{"shop", auth.UserDefinition{Role: auth.API, Password: "short"}, "password", false},
		{"shop", auth.UserDefinition{Role: auth.API}, "password", false},
		{"shop", auth.UserDefinition{Role: auth.API, Password: "password", Networks: []string{"x"}}, "networks", false},
	} {
		if key, reason := auth.CheckDefinition(c.login, c.d); key != c.key || (reason == "") != c.right {
			t.Errorf("%s %v: %q %q", c.login, c.d, key, reason)
		}
	}
}
