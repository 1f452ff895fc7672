package auth_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/auth"
)

func TestVerifyHeader(t *testing.T) {
	t.Parallel()
	s := service(t, newCatalog(), nil)
	s.SetDefined(shop)
	token := issue(t, s, "shop", "password-shop")
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	claims := part(`{"sub":"shop","exp":4102444800}`)
	for _, c := range []struct {
		name    string
		headers []string
		want    error
	}{
		{"as it was issued", []string{"Bearer " + token}, nil},
		{"the scheme in another case", []string{"bEARER " + token}, nil},
		{"more spaces", []string{"Bearer   " + token + " "}, nil},
		{"no header", nil, auth.ErrNoCredentials},
		{"an empty header", []string{""}, auth.ErrNoCredentials},
		{"no scheme", []string{token}, auth.ErrNoCredentials},
		{"another scheme", []string{"Basic " + token}, auth.ErrNoCredentials},
		{"a tab", []string{"Bearer\t" + token}, auth.ErrNoCredentials},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, auth.ErrNoCredentials},
		{"two headers, one empty", []string{"", "Bearer " + token}, auth.ErrNoCredentials},
		{"no token", []string{"Bearer"}, auth.ErrInvalid},
		{"an empty token", []string{"Bearer "}, auth.ErrInvalid},
		{"two tokens", []string{"Bearer " + token + " " + token}, auth.ErrInvalid},
		{"a list", []string{"Bearer " + token + ", Bearer " + token}, auth.ErrInvalid},
		{"a word", []string{"Bearer null"}, auth.ErrInvalid},
		{"padded", []string{"Bearer " + token + "="}, auth.ErrInvalid},
		{"with a line end within", []string{"Bearer " + token[:9] + "\n" + token[9:]}, auth.ErrInvalid},
		{"with a line end after it", []string{"Bearer " + token + "\r\n"}, auth.ErrInvalid},
		{"with a space within", []string{"Bearer " + token[:9] + " " + token[9:]}, auth.ErrInvalid},
		{"twice", []string{"Bearer " + token + token}, auth.ErrInvalid},
		{"with more after it", []string{"Bearer " + token + "AAAA"}, auth.ErrInvalid},
		{"JWT without algorithm", []string{"Bearer " + part(`{"alg":"none","typ":"JWT"}`) + "." + claims + "."}, auth.ErrInvalid},
		{"JWT of HS256 without key", []string{"Bearer " + part(`{"alg":"HS256","kid":"../../dev/null"}`) + "." + claims + "." + part(strings.Repeat("\x00", 32))}, auth.ErrInvalid},
		{"overlong", []string{"Bearer " + strings.Repeat("A", 1<<20)}, auth.ErrInvalid},
		{"overlong from the token", []string{"Bearer " + token + strings.Repeat("A", 1<<20)}, auth.ErrInvalid},
		{"a password", []string{"Bearer password-shop"}, auth.ErrInvalid},
	} {
		r := &http.Request{Header: http.Header{}}
		if c.headers != nil {
			r.Header["Authorization"] = c.headers
		}
		p, err := s.Verify(t.Context(), r)
		if !errors.Is(err, c.want) || (err == nil) != (p.Login == "shop") {
			t.Errorf("%s: %v, %v; want %v", c.name, p, err, c.want)
		}
	}
}

// TestTamperedToken changes every character into every other kind of character, and every bit, and cuts everywhere.
func TestTamperedToken(t *testing.T) {
	t.Parallel()
	for _, login := range []string{"shop", "shops", "shopss"} { // the last character holds 6, 4 and 2 bits
		t.Run(login, func(t *testing.T) {
			t.Parallel()
			s := service(t, newCatalog(), nil)
			s.SetDefined(map[string]auth.UserDefinition{login: shop["shop"]})
			token := issue(t, s, login, "password-shop")
			for i := range token {
				for c := range 256 {
					char := string([]byte{byte(c)})
					if tampered := token[:i] + char + token[i+1:]; tampered != token {
						ended(t, s, "tampered", tampered)
					}
					if i > 0 {
						ended(t, s, "inserted", token[:i]+char+token[i:])
					}
				}
				ended(t, s, "cut at its end", token[:i])
				ended(t, s, "without one", token[:i]+token[i+1:])
				if i > 0 {
					ended(t, s, "cut at its beginning", token[i:])
				}
			}
			raw, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil {
				t.Fatal(err)
			}
			for i := range raw {
				for bit := range 8 {
					raw[i] ^= 1 << bit
					ended(t, s, "one bit", base64.RawURLEncoding.EncodeToString(raw))
					raw[i] ^= 1 << bit
				}
			}
			good(t, s, "untouched", token)
		})
	}
}

func FuzzVerify(f *testing.F) {
	s := service(f, newCatalog(), nil)
	s.SetDefined(shop)
	token := issue(f, s, "shop", "password-shop")
	for _, seed := range []string{"", "Bearer", "Bearer " + token, "bearer  " + token + " ", "Basic c2hvcDpwYXNzd29yZA==", "Bearer " + token[:20], "Bearer eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := s.Verify(t.Context(), &http.Request{Header: http.Header{"Authorization": {header}}})
		switch {
		case err == nil:
			if scheme, rest, _ := strings.Cut(header, " "); !strings.EqualFold(scheme, "bearer") || strings.Trim(rest, " ") != token || p.Login != "shop" {
				t.Errorf("%q was taken for %v", header, p)
			}
		case !errors.Is(err, auth.ErrInvalid) && !errors.Is(err, auth.ErrNoCredentials):
			t.Errorf("%q: %v", header, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := service(b, newCatalog(), &auth.Options{TokenLife: time.Hour})
	s.SetDefined(shop)
	r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + issue(b, s, "shop", "password-shop")}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	s := service(b, newCatalog(), nil)
	s.SetDefined(shop)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Issue(b.Context(), "shop", "password-shop", here); err != nil {
			b.Fatal(err)
		}
	}
}
