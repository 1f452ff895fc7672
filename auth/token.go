package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"
)

// A token is base64url of: version 1, the key's number (4 bytes), expiry in Unix milliseconds (8), the time of the login that it goes back to
// (8), the user's generation (8), the login, and the HMAC-SHA-256 of all that.
const (
	tokenVersion = 1
	tokenHead    = 1 + 4 + 8 + 8 + 8
	macLength    = sha256.Size
	maxRawToken  = tokenHead + maxLogin + macLength
)

var (
	tokenEncoding = base64.RawURLEncoding.Strict()
	errToken      = fmt.Errorf("token: %w", ErrInvalid)
)

// key signs tokens.
type key struct {
	Number uint32    `json:"number"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`
	Ends   time.Time `json:"ends,omitzero"` // of a former key: when what it signed is over

	macs *sync.Pool
}

// keyLife is how long a key signs. keyGrace is for engines on the same store whose clocks are behind: they sign with a former key a
// little longer.
const (
	keyLife  = 30 * 24 * time.Hour
	keyGrace = 10 * time.Minute
)

const (
	kindKey = "auth-key"
	keyName = "ring"
)

func newSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return secret
}

func (k *key) ready() {
	secret := k.Secret
	k.macs = &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}
}

// sum appends the MAC of data to b.
func (k *key) sum(b, data []byte) []byte {
	mac := k.macs.Get().(hash.Hash)
	mac.Reset()
	mac.Write(data)
	b = mac.Sum(b)
	k.macs.Put(mac)
	return b
}

// due reports whether the key has signed long enough. One of the future was made by a wrong clock, and has as well.
func (k *key) due(now time.Time) bool { return now.Sub(k.Made).Abs() >= keyLife }

// ring is the keys of all engines on one catalog. It never changes.
type ring struct {
	Keys []*key `json:"keys"` // the newest first: it signs; tokens of former ones live out their time
	Root []byte `json:"root"` // the same for ever: keys what must not change with the keys

	version int64
}

// find returns the key of that number, nil when there is none any more.
func (r *ring) find(number uint32, now time.Time) *key {
	for _, k := range r.Keys {
		if k.Number == number && (k.Ends.IsZero() || now.Before(k.Ends)) {
			return k
		}
	}
	return nil
}

// rotate puts a new key in front. Tokens live at most life.
func (r *ring) rotate(now time.Time, life time.Duration) {
	number := uint32(1)
	if len(r.Keys) > 0 {
		number = r.Keys[0].Number + 1
		r.Keys[0].Ends = now.Add(life + keyGrace)
	}
	r.Keys = slices.DeleteFunc(r.Keys, func(k *key) bool { return !now.Before(k.Ends) })
	r.Keys = slices.Insert(r.Keys, 0, &key{Number: number, Secret: newSecret(), Made: now})
}

// loadRing reads the keys, and makes a new one when there is none or the newest is due. The caller holds s.rotating.
func (s *Service) loadRing(ctx context.Context) error {
	for range 3 { // another engine on the same catalog may make one at the same moment
		r := &ring{}
		value, version, err := s.catalog.Get(ctx, kindKey, keyName)
		switch {
		case errors.Is(err, ErrNotFound):
			r.Root = newSecret()
		case err != nil:
			return fmt.Errorf("read the token keys: %w", err)
		default:
			if err := json.Unmarshal(value, r); err != nil || len(r.Keys) == 0 {
				return errors.New("the stored token keys cannot be read")
			}
			r.version = version
		}
		if now := s.clock.now(); len(r.Keys) == 0 || r.Keys[0].due(now) {
			r.rotate(now, s.life)
			value, err := json.Marshal(r)
			if err != nil {
				return err
			}
			if _, err := s.catalog.Put(ctx, kindKey, keyName, value, r.version); errors.Is(err, ErrConflict) {
				continue
			} else if err != nil {
				return fmt.Errorf("store the token keys: %w", err)
			}
		}
		for _, k := range r.Keys {
			k.ready()
		}
		s.ring.Store(r)
		return nil
	}
	return fmt.Errorf("store the token keys: %w", ErrConflict)
}

// keys returns the ring, with a new key in front when the newest is due. While the catalog takes no new one the old one signs on, as long
// again as it should have.
func (s *Service) keys(ctx context.Context, now time.Time) (*ring, error) {
	r := s.ring.Load()
	if !r.Keys[0].due(now) || !s.rotating.TryLock() {
		return r, nil
	}
	defer s.rotating.Unlock()
	if err := s.loadRing(ctx); err != nil && now.Sub(r.Keys[0].Made) >= 2*keyLife {
		return nil, err
	}
	return s.ring.Load(), nil
}

// mint makes a token for a user who has given the password at that time; the zero time is now.
func (s *Service) mint(ctx context.Context, u *account, login time.Time) (string, error) {
	now := s.clock.now()
	if login.IsZero() {
		login = now
	}
	r, err := s.keys(ctx, now)
	if err != nil {
		return "", err
	}
	var buffer [maxRawToken]byte
	b := append(buffer[:0], tokenVersion)
	b = binary.BigEndian.AppendUint32(b, r.Keys[0].Number)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(s.life).UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(login.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(u.generation))
	b = append(b, u.Login...)
	return tokenEncoding.EncodeToString(r.Keys[0].sum(b, b)), nil
}

// check returns the user that a token was made for, and when that one gave the password.
func (s *Service) check(ctx context.Context, token string) (u *account, login time.Time, err error) {
	if len(token) > tokenEncoding.EncodedLen(maxRawToken) {
		return nil, login, errToken
	}
	raw := make([]byte, 0, tokenEncoding.DecodedLen(len(token))+macLength) // with room for the sum
	raw, err = tokenEncoding.AppendDecode(raw, []byte(token))
	if err != nil || len(raw) <= tokenHead+macLength || raw[0] != tokenVersion || tokenEncoding.EncodedLen(len(raw)) != len(token) { // the decoder skips line ends
		return nil, login, errToken
	}
	now := s.clock.now()
	r, err := s.keys(ctx, now)
	if err != nil {
		return nil, login, err
	}
	body, mac := raw[:len(raw)-macLength], raw[len(raw)-macLength:]
	k := r.find(binary.BigEndian.Uint32(body[1:]), now)
	if k == nil || subtle.ConstantTimeCompare(k.sum(raw, body)[len(raw):], mac) != 1 || now.UnixMilli() >= int64(binary.BigEndian.Uint64(body[5:])) {
		return nil, login, errToken
	}
	u = s.users.Load().find(string(body[tokenHead:]))
	if u == nil || u.Disabled || u.generation != int64(binary.BigEndian.Uint64(body[21:])) {
		return nil, login, errToken
	}
	return u, time.UnixMilli(int64(binary.BigEndian.Uint64(body[13:]))), nil
}
