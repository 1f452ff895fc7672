package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/auth"
)

func addKey(t testing.TB, s *auth.Service, login, name string, expires time.Time) string {
	t.Helper()
	text, k, err := s.AddKey(t.Context(), login, name, expires)
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != name || !strings.HasSuffix(text, k.Ends) || len(k.Ends) != 4 || !k.Expires.Equal(expires) {
		t.Errorf("key %q: %+v", name, k)
	}
	return text
}

// machine keeps a user who calls with API keys.
func machine(t testing.TB) (*auth.Service, *catalog, auth.User) {
	t.Helper()
	c := newCatalog()
	s := service(t, c, nil)
	u := auth.User{Login: "machine", Role: auth.API, Listeners: []string{"orders"}}
	if err := s.Save(t.Context(), u, "password-machine"); err != nil {
		t.Fatal(err)
	}
	return s, c, u
}

func TestAPIKey(t *testing.T) {
	t.Parallel()
	s, c, u := machine(t)
	token := issue(t, s, "machine", "password-machine")
	key, hashes := addKey(t, s, "machine", "press", time.Time{}), s.HashesComputed()
	want := auth.Principal{Login: "machine", Role: auth.API, Listeners: []string{"orders"}}
	if got, err := verify(s, key); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if n := s.HashesComputed(); n != hashes {
		t.Errorf("%d hashes of passwords were computed", n-hashes)
	}
	good(t, s, "a token from before the key", token)
	good(t, service(t, c, nil), "the key, after a restart", key)
	if _, err := refresh(s, key, here); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("a token for the key: %v", err)
	}
	if _, _, err := s.Issue(t.Context(), "machine", key, here); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("the key as a password: %v", err)
	}
	for i := range key {
		ended(t, s, "one character is another", key[:i]+string(key[i]^1)+key[i+1:])
		ended(t, s, "cut", key[:i])
	}
	ended(t, s, "more behind it", key+"A")

	u.Role, u.Listeners = auth.Operator, nil
	if err := s.Save(t.Context(), u, ""); err != nil {
		t.Fatal(err)
	}
	ended(t, s, "a token, after another role", token)
	if got, err := verify(s, key); err != nil || got.Role != auth.Operator || got.Listeners != nil {
		t.Errorf("the key does not follow its user: %v %v", got, err)
	}
	u.Networks = []string{"198.51.100.0/24"}
	if err := s.Save(t.Context(), u, ""); err != nil {
		t.Fatal(err)
	}
	request := &http.Request{RemoteAddr: here, Header: http.Header{"Authorization": {"Bearer " + key}}}
	if _, err := s.Verify(t.Context(), request); !errors.Is(err, auth.ErrForbidden) {
		t.Errorf("from another network: %v", err)
	}
	request.RemoteAddr = "198.51.100.7:1"
	if _, err := s.Verify(t.Context(), request); err != nil {
		t.Errorf("from its own network: %v", err)
	}
}

func TestAPIKeyEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(ctx context.Context, s *auth.Service, u auth.User) error
	}{
		{"it is revoked", func(ctx context.Context, s *auth.Service, u auth.User) error {
			return s.RevokeKey(ctx, u.Login, "press")
		}},
		{"another password", func(ctx context.Context, s *auth.Service, u auth.User) error {
			return s.Save(ctx, u, "password-another")
		}},
		{"the same password once more", func(ctx context.Context, s *auth.Service, u auth.User) error {
			return s.Save(ctx, u, "password-machine")
		}},
		{"the user is disabled", func(ctx context.Context, s *auth.Service, u auth.User) error {
			u.Disabled = true
			return s.Save(ctx, u, "")
		}},
		{"disabled and enabled", func(ctx context.Context, s *auth.Service, u auth.User) error {
			disabled := u
			disabled.Disabled = true
			return errors.Join(s.Save(ctx, disabled, ""), s.Save(ctx, u, ""))
		}},
		{"removed", func(ctx context.Context, s *auth.Service, u auth.User) error { return s.Remove(ctx, u.Login) }},
		{"removed and made again", func(ctx context.Context, s *auth.Service, u auth.User) error {
			return errors.Join(s.Remove(ctx, u.Login), s.Save(ctx, u, "password-machine"))
		}},
		{"a user of the definitions has the login", func(_ context.Context, s *auth.Service, u auth.User) error {
			s.SetDefined(map[string]auth.UserDefinition{u.Login: shop["shop"]})
			return nil
		}},
		{"revoked in another engine", func(ctx context.Context, s *auth.Service, u auth.User) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, catalog, u := machine(t)
			key := addKey(t, s, "machine", "press", time.Time{})
			good(t, s, "before", key)
			if err := c.end(t.Context(), s, u); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(c.name, "another engine") {
				if err := service(t, catalog, nil).RevokeKey(t.Context(), "machine", "press"); err != nil {
					t.Fatal(err)
				}
				if err := s.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ended(t, s, "afterwards", key)
		})
	}
}

func TestAPIKeyExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var skew time.Duration
		c := newCatalog()
		s := service(t, c, &auth.Options{Now: func() time.Time { return time.Now().Add(skew) }})
		c.cheap(t, auth.User{Login: "machine", Role: auth.API}, "password")
		if err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		key, other := addKey(t, s, "machine", "an hour", time.Now().Add(time.Hour)), addKey(t, s, "machine", "ever", time.Time{})
		time.Sleep(time.Hour - time.Nanosecond)
		good(t, s, "in its hour", key)
		time.Sleep(time.Nanosecond)
		ended(t, s, "after its hour", key)
		skew = -time.Hour
		ended(t, s, "after the clock was set back", key)
		time.Sleep(10 * 365 * 24 * time.Hour)
		good(t, s, "one without an end", other)
	})
}

func TestAPIKeyRefuses(t *testing.T) {
	t.Parallel()
	s, catalog, _ := machine(t)
	s.SetDefined(shop)
	addKey(t, s, "machine", "press", time.Time{})
	for _, c := range []struct {
		name, login, key string
		expires          time.Time
		want             error
	}{
		{"the name is taken", "machine", "press", time.Time{}, auth.ErrExists},
		{"nobody", "who", "a", time.Time{}, auth.ErrNotFound},
		{"a user of the definitions", "shop", "a", time.Time{}, auth.ErrDefined},
		{"no name", "machine", "", time.Time{}, auth.ErrKey},
		{"a folder above", "machine", "..", time.Time{}, auth.ErrKey},
		{"a slash", "machine", "a/b", time.Time{}, auth.ErrKey},
		{"a backslash", "machine", `a\b`, time.Time{}, auth.ErrKey},
		{"a control character", "machine", "a\nb", time.Time{}, auth.ErrKey},
		{"a space at the end", "machine", "a ", time.Time{}, auth.ErrKey},
		{"no UTF-8", "machine", "\xff", time.Time{}, auth.ErrKey},
		{"overlong", "machine", strings.Repeat("a", 101), time.Time{}, auth.ErrKey},
		{"it is over", "machine", "a", time.Now().Add(-time.Second), auth.ErrKey},
	} {
		if text, k, err := s.AddKey(t.Context(), c.login, c.key, c.expires); !errors.Is(err, c.want) || text != "" || k != (auth.APIKey{}) {
			t.Errorf("%s: %q %v %v, want %v", c.name, text, k, err, c.want)
		}
	}
	for login, want := range map[string]error{"machine": auth.ErrNoKey, "who": auth.ErrNotFound, "shop": auth.ErrDefined} {
		if err := s.RevokeKey(t.Context(), login, "other"); !errors.Is(err, want) {
			t.Errorf("revoke a key of %s: %v, want %v", login, err, want)
		}
	}
	if _, err := s.Keys("who"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("keys of nobody: %v", err)
	}
	for i := range 99 {
		addKey(t, s, "machine", fmt.Sprint(i), time.Time{})
	}
	if _, _, err := s.AddKey(t.Context(), "machine", "one more", time.Time{}); !errors.Is(err, auth.ErrKey) {
		t.Errorf("the 101st: %v", err)
	}
	keys, err := s.Keys("machine")
	if err != nil || len(keys) != 100 || keys[0].Name != "0" || keys[99].Name != "press" {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	catalog.full = errors.New("full")
	if text, _, err := s.AddKey(t.Context(), "machine", "one more", time.Time{}); text != "" || err == nil {
		t.Errorf("a key that was not stored: %q %v", text, err)
	}
	if err := s.RevokeKey(t.Context(), "machine", "press"); !errors.Is(err, catalog.full) {
		t.Errorf("a change that was not stored: %v", err)
	}
	if keys, _ := s.Keys("machine"); len(keys) != 100 {
		t.Errorf("%d keys after it", len(keys))
	}
}

func BenchmarkVerifyAPIKey(b *testing.B) {
	s, _, _ := machine(b)
	r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + addKey(b, s, "machine", "press", time.Time{})}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
