package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// APIKey is a bearer token of a user that lives until its date or until somebody revokes it, for callers that cannot fetch tokens. It may
// do what its user may at the moment. A new password and disabling end it as well, as does removing the user.
type APIKey struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Ends    string    `json:"ends"`             // its last characters, to tell it from others
}

// Conditions of API keys.
var (
	ErrKey    = errors.New("the API key cannot be made as given") // its name or its time does not fit, there are too many, or the user is disabled
	ErrExists = errors.New("the user has an API key of that name already")
	ErrNoKey  = errors.New("the user has no API key of that name")
)

// An API key is its prefix, which tells people and scanners of leaks what it is and is in no token, and 32 random bytes.
const (
	apiKeyPrefix  = "integrator_"
	maxAPIKeys    = 100 // of one user
	maxAPIKeyName = 100 // bytes
	shownOfAPIKey = 4   // characters
)

var lengthOfAPIKey = len(apiKeyPrefix) + tokenEncoding.EncodedLen(32)

// storedKey is an API key as its user's record keeps it. There is nothing to guess in 32 random bytes, so a fast hash is enough.
type storedKey struct {
	APIKey
	Hash []byte `json:"hash"` // SHA-256 of its text
}

// heldKey is an API key as it is looked up.
type heldKey struct {
	user    *account
	expires time.Time
}

// newDirectory returns the users, with the API keys of those that the definitions do not replace.
func newDirectory(defined, stored map[string]*account) *directory {
	d := &directory{defined: defined, stored: stored, keys: map[[sha256.Size]byte]heldKey{}}
	for login, u := range stored {
		for _, k := range u.keys {
			if defined[login] == nil && len(k.Hash) == sha256.Size {
				d.keys[[sha256.Size]byte(k.Hash)] = heldKey{u, k.Expires}
			}
		}
	}
	return d
}

// checkKey returns the user of an API key that is used from an address. What is compared are hashes: the time that it takes tells nothing
// about keys.
func (s *Service) checkKey(text, remote string) (*account, error) {
	if len(text) != lengthOfAPIKey {
		return nil, errToken
	}
	k, ok := s.users.Load().keys[sha256.Sum256([]byte(text))]
	if !ok || k.user.Disabled || !k.expires.IsZero() && !s.clock.now().Before(k.expires) {
		return nil, errToken
	}
	if !k.user.mayCallFrom(addressOf(remote)) {
		return nil, ErrForbidden
	}
	return k.user, nil
}

// AddKey makes an API key for a stored user and returns its text, which nobody can be told again. A zero time is no end. Errors: ErrNotFound,
// ErrDefined, ErrKey; ErrExists when the user has a key of that name.
func (s *Service) AddKey(ctx context.Context, login, name string, expires time.Time) (text string, k APIKey, err error) {
	if strings.Trim(name, ".") == "" || len(name) > maxAPIKeyName || !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.ContainsAny(name, `/\\`) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", k, fmt.Errorf(`%w: a name has 1 to %d bytes of printable characters without / and \, not only dots, and no space at its ends`, ErrKey, maxAPIKeyName)
	}
	now := s.clock.now()
	if !expires.IsZero() && !expires.After(now) {
		return "", k, fmt.Errorf("%w: it expires before it begins", ErrKey)
	}
	text = apiKeyPrefix + tokenEncoding.EncodeToString(newSecret())
	k = APIKey{Name: name, Created: now, Expires: expires.UTC(), Ends: text[len(text)-shownOfAPIKey:]}
	hash := sha256.Sum256([]byte(text))
	err = s.changeKeys(ctx, login, func(u *account, keys []storedKey) ([]storedKey, error) {
		switch {
		case u.Disabled:
			return nil, fmt.Errorf("%w: the user is disabled", ErrKey)
		case slices.ContainsFunc(keys, func(k storedKey) bool { return k.Name == name }):
			return nil, ErrExists
		case len(keys) >= maxAPIKeys:
			return nil, fmt.Errorf("%w: a user has up to %d keys", ErrKey, maxAPIKeys)
		}
		return append(keys, storedKey{k, hash[:]}), nil
	})
	if err != nil {
		return "", APIKey{}, err
	}
	return text, k, nil
}

// RevokeKey ends an API key; ErrNoKey when the user has none of that name. Errors else: those of AddKey.
func (s *Service) RevokeKey(ctx context.Context, login, name string) error {
	return s.changeKeys(ctx, login, func(_ *account, keys []storedKey) ([]storedKey, error) {
		left := slices.DeleteFunc(keys, func(k storedKey) bool { return k.Name == name })
		if len(left) == len(keys) {
			return nil, ErrNoKey
		}
		return left, nil
	})
}

// Keys returns the API keys of a user by name, also those whose time is over; ErrNotFound when there is no such user.
func (s *Service) Keys(login string) ([]APIKey, error) {
	u := s.users.Load().find(login)
	if u == nil {
		return nil, ErrNotFound
	}
	keys := make([]APIKey, len(u.keys))
	for i, k := range u.keys {
		keys[i] = k.APIKey
	}
	slices.SortFunc(keys, func(a, b APIKey) int { return strings.Compare(a.Name, b.Name) })
	return keys, nil
}

// changeKeys stores a user with other API keys. Its tokens live on. change may use the list that it gets.
func (s *Service) changeKeys(ctx context.Context, login string, change func(*account, []storedKey) ([]storedKey, error)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	d := s.users.Load()
	if d.defined[login] != nil {
		return ErrDefined
	}
	held := d.stored[login]
	if held == nil {
		return ErrNotFound
	}
	keys, err := change(held, slices.Clone(held.keys))
	if err != nil {
		return err
	}
	return s.put(ctx, &stored{User: held.User, Hash: held.hash, Generation: held.generation, Keys: keys}, held.version)
}
