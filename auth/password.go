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
	minPassword   = 8
	maxPassword   = 1024
	maxHashMemory = 256 << 10
	maxHashTime   = 16
)

// HashPassword returns the PHC string of a password: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func HashPassword(password string) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", fmt.Errorf("a password has %d to %d bytes", minPassword, maxPassword)
	}
	salt := make([]byte, saltLength)
	rand.Read(salt) // never fails
	hash := argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashThreads, hashLength)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashThreads, b64.EncodeToString(salt), b64.EncodeToString(hash)), nil
}

// phc is a parsed PHC string.
type phc struct {
	memory, time uint32
	threads      uint8
	salt, hash   []byte
}

var errPHC = errors.New("the stored hash is no argon2id PHC string of this engine")

func parsePHC(s string) (p phc, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, errPHC
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); n != 3 || err != nil {
		return p, errPHC
	}
	if p.memory < 8 || p.memory > maxHashMemory || p.time < 1 || p.time > maxHashTime || p.threads < 1 || p.threads > 16 {
		return p, errPHC
	}
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return p, errPHC
	}
	if p.hash, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.hash) < 16 || len(p.hash) > 64 {
		return p, errPHC
	}
	return p, nil
}

// hasher computes hashes, a few at a time, so that memory and processor stay with who works.
type hasher struct {
	slots    chan struct{}
	waiting  atomic.Int64
	computed atomic.Int64
	dummy    phc
}

const (
	hashesAtOnce  = 2
	hashesWaiting = 256
)

func newHasher() *hasher {
	h := &hasher{slots: make(chan struct{}, hashesAtOnce)}
	h.dummy = phc{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLength), hash: make([]byte, hashLength)}
	rand.Read(h.dummy.hash) // never fails
	return h
}

// verify reports whether the password is the one that was hashed. An empty or unreadable hash costs the same and is never right.
func (h *hasher) verify(ctx context.Context, encoded, password string) (bool, error) {
	p, err := parsePHC(encoded)
	known := err == nil
	if !known {
		p = h.dummy
	}
	if h.waiting.Add(1) > hashesWaiting {
		h.waiting.Add(-1)
		return false, ErrBusy
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	h.computed.Add(1)
	sum := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(sum, p.hash) == 1 && known, nil
}
