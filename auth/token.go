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
	"sync"
	"sync/atomic"
	"time"
)

// A token is base64url of: version 1, the key's number (4 bytes), expiry in Unix milliseconds (8), the user's generation (8), the login, and
// the HMAC-SHA-256 of all that.
const (
	tokenVersion = 1
	tokenHead    = 1 + 4 + 8 + 8
	macLength    = sha256.Size
	maxToken     = 4*(tokenHead+maxLogin+macLength)/3 + 4
)

var errToken = fmt.Errorf("token: %w", ErrInvalid)

// key signs tokens. Two are kept, so that tokens of the former one live out their time when a new one takes over.
type key struct {
	Number uint32    `json:"number"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`

	macs *sync.Pool
}

// keyLife is how long a key signs.
const keyLife = 30 * 24 * time.Hour

const (
	kindKey = "auth-key"
	keyName = "ring"
)

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

// ring is the keys, the newest first.
type ring struct {
	keys    []*key
	version int64
}

func newKey(number uint32, now time.Time) *key {
	k := &key{Number: number, Secret: make([]byte, 32), Made: now.UTC()}
	rand.Read(k.Secret) // never fails
	k.ready()
	return k
}

// loadRing reads the keys, and makes a new one when there is none or the newest is too old.
func (s *Service) loadRing(ctx context.Context) error {
	for range 3 { // another engine on the same store may make one at the same moment
		r := &ring{}
		value, version, err := s.catalog.Get(ctx, kindKey, keyName)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return fmt.Errorf("read the token keys: %w", err)
		default:
			if err := json.Unmarshal(value, &r.keys); err != nil {
				return errors.New("the stored token keys cannot be read")
			}
			for _, k := range r.keys {
				k.ready()
			}
			r.version = version
		}
		if now := s.now(); len(r.keys) == 0 || now.Sub(r.keys[0].Made) > keyLife {
			number := uint32(1)
			if len(r.keys) > 0 {
				number = r.keys[0].Number + 1
			}
			r.keys = append([]*key{newKey(number, now)}, r.keys...)
			r.keys = r.keys[:min(2, len(r.keys))]
			value, err := json.Marshal(r.keys)
			if err != nil {
				return err
			}
			if _, err := s.catalog.Put(ctx, kindKey, keyName, value, r.version); errors.Is(err, ErrConflict) {
				continue
			} else if err != nil {
				return fmt.Errorf("store the token keys: %w", err)
			}
		}
		s.ring.Store(r)
		return nil
	}
	return fmt.Errorf("store the token keys: %w", ErrConflict)
}

// clock never runs backwards.
type clock struct {
	now    func() time.Time
	latest atomic.Int64 // Unix milliseconds
}

func (c *clock) millis() int64 {
	now := c.now().UnixMilli()
	for {
		latest := c.latest.Load()
		if now <= latest {
			return latest
		}
		if c.latest.CompareAndSwap(latest, now) {
			return now
		}
	}
}

// mint makes a token for a user.
func (s *Service) mint(u *User, life time.Duration) string {
	k := s.ring.Load().keys[0]
	b := make([]byte, 0, tokenHead+len(u.Login)+macLength)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint32(b, k.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(s.clock.millis()+life.Milliseconds()))
	b = binary.BigEndian.AppendUint64(b, uint64(u.generation))
	b = append(b, u.Login...)
	return base64.RawURLEncoding.EncodeToString(k.sum(b, b))
}

// check returns the user that a token was made for.
func (s *Service) check(token string) (*User, error) {
	if len(token) > maxToken {
		return nil, errToken
	}
	var buffer [maxToken]byte
	raw, err := base64.RawURLEncoding.Strict().AppendDecode(buffer[:0], []byte(token))
	if err != nil || len(raw) <= tokenHead+macLength || raw[0] != tokenVersion {
		return nil, errToken
	}
	body, mac := raw[:len(raw)-macLength], raw[len(raw)-macLength:]
	number := binary.BigEndian.Uint32(body[1:])
	for _, k := range s.ring.Load().keys {
		if k.Number != number {
			continue
		}
		var sum [macLength]byte
		if subtle.ConstantTimeCompare(k.sum(sum[:0], body), mac) != 1 {
			return nil, errToken
		}
		if s.clock.millis() >= int64(binary.BigEndian.Uint64(body[5:])) {
			return nil, errToken
		}
		u := s.users.Load().find(string(body[tokenHead:]))
		if u == nil || u.Disabled || u.generation != int64(binary.BigEndian.Uint64(body[13:])) {
			return nil, errToken
		}
		return u, nil
	}
	return nil, errToken
}
