package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// Cost of a password's hash (RFC 9106 names the parameters; the numbers are OWASP's for argon2id).
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashThreads = 1
	hashLength  = 32
	saltLength  = 16
)

// Bounds of a password in bytes, and of what a stored hash may ask for.
const (
	minPassword    = 8
	maxPassword    = 1024
	maxHashMemory  = 256 << 10
	maxHashTime    = 16
	maxHashThreads = 16
)

// checkPassword returns why a password cannot be one, "" when it can.
func checkPassword(password Secret) string {
	if n := len(password); n < minPassword || n > maxPassword {
		return fmt.Sprintf("a password has %d to %d bytes", minPassword, maxPassword)
	}
	return ""
}

// hashPassword returns the PHC string of a password: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func hashPassword(password Secret) (string, error) {
	if reason := checkPassword(password); reason != "" {
		return "", errors.New(reason)
	}
	p := phc{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLength)}
	rand.Read(p.salt) // never fails
	p.hash = p.sum(password.Reveal(), hashLength)
	return p.String(), nil
}

// phc is a parsed PHC string.
type phc struct {
	memory, time uint32
	threads      uint8
	salt, hash   []byte
}

// String returns the one text that parsePHC reads as p.
func (p *phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads, b64.EncodeToString(p.salt), b64.EncodeToString(p.hash))
}

// sum hashes a password with p's parameters and salt.
func (p *phc) sum(password string, length int) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(length))
}

var errPHC = errors.New("the stored hash is no argon2id PHC string of this engine")

func parsePHC(s string) (*phc, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return nil, errPHC
	}
	p := &phc{}
	var err error
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return nil, errPHC
	}
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return nil, errPHC
	}
	if p.hash, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return nil, errPHC
	}
	if p.memory < 8 || p.memory > maxHashMemory || p.time < 1 || p.time > maxHashTime || p.threads < 1 || p.threads > maxHashThreads ||
		len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64 || p.String() != s {
		return nil, errPHC
	}
	return p, nil
}

// hasher computes hashes, a few at a time, so that memory and processor stay with who works.
type hasher struct {
	slots    chan struct{}
	waiting  atomic.Int64
	computed atomic.Int64 // shows that whatever is wrong costs the same
	dummy    *phc
}

const (
	hashesAtOnce  = 2
	hashesWaiting = 256
)

func newHasher() *hasher {
	h := &hasher{slots: make(chan struct{}, hashesAtOnce)}
	h.dummy = &phc{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLength), hash: make([]byte, hashLength)}
	rand.Read(h.dummy.hash) // never fails
	return h
}

// enter waits for its turn to compute a hash. The caller calls leave after that.
func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	if h.waiting.Add(1) > hashesWaiting {
		h.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// matches reports whether the password is the one that was hashed. An empty or unreadable hash costs the same and is never right.
func (h *hasher) matches(encoded, password string) bool {
	p, err := parsePHC(encoded)
	if err != nil {
		p = h.dummy
	}
	h.computed.Add(1)
	return subtle.ConstantTimeCompare(p.sum(password, len(p.hash)), p.hash) == 1 && err == nil
}
