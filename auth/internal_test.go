package auth

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestForgedToken signs with the engine's own key what the engine would not issue: only that shows that each field is looked at.
func TestForgedToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k := &key{Number: 7, Secret: newSecret(), Made: now}
	former := &key{Number: 6, Secret: newSecret(), Made: now.Add(-keyLife), Ends: now.Add(time.Hour)}
	over := &key{Number: 5, Secret: newSecret(), Made: now.Add(-2 * keyLife), Ends: now.Add(-time.Nanosecond)}
	s := &Service{clock: newClock(func() time.Time { return now })}
	s.ring.Store(&ring{Keys: []*key{k, former, over}})
	for _, k := range s.ring.Load().Keys {
		k.ready()
	}
	long := strings.Repeat("x", maxLogin)
	users := map[string]*account{}
	for _, login := range []string{"shop", long, long + "x", ""} {
		users[login] = &account{User: User{Login: login, Role: API}, generation: -3}
	}
	users["off"] = &account{User: User{Login: "off", Role: API, Disabled: true}, generation: -3}
	s.users.Store(&directory{stored: users})
	type fields struct {
		version    byte
		number     uint32
		expiry     time.Time
		since      int64
		generation int64
		login      string
		signer     *key
	}
	for _, c := range []struct {
		name   string
		change func(*fields)
		good   bool
	}{
		{"as issued", func(*fields) {}, true},
		{"the longest login", func(f *fields) { f.login = long }, true},
		{"a login that is too long", func(f *fields) { f.login = long + "x" }, false},
		{"no login", func(f *fields) { f.login = "" }, false},
		{"unknown login", func(f *fields) { f.login = "shop2" }, false},
		{"disabled user", func(f *fields) { f.login = "off" }, false},
		{"version 0", func(f *fields) { f.version = 0 }, false},
		{"version 2", func(f *fields) { f.version = 2 }, false},
		{"expired", func(f *fields) { f.expiry = now }, false},
		{"expired long ago", func(f *fields) { f.expiry = time.UnixMilli(0) }, false},
		{"expiry below zero", func(f *fields) { f.expiry = time.UnixMilli(-1) }, false},
		{"another generation", func(f *fields) { f.generation = -2 }, false},
		{"unknown key", func(f *fields) { f.number = 8 }, false},
		{"key 0", func(f *fields) { f.number = 0 }, false},
		{"a former key", func(f *fields) { f.number, f.signer = 6, former }, true},
		{"a former key whose time is over", func(f *fields) { f.number, f.signer = 5, over }, false},
		{"another key's signature", func(f *fields) { f.signer = former }, false},
	} {
		f := fields{version: 1, number: 7, expiry: now.Add(time.Minute), since: now.UnixMilli(), generation: -3, login: "shop", signer: k}
		c.change(&f)
		b := append([]byte{}, f.version)
		b = binary.BigEndian.AppendUint32(b, f.number)
		b = binary.BigEndian.AppendUint64(b, uint64(f.expiry.UnixMilli()))
		b = binary.BigEndian.AppendUint64(b, uint64(f.since))
		b = binary.BigEndian.AppendUint64(b, uint64(f.generation))
		b = append(b, f.login...)
		u, login, err := s.check(t.Context(), tokenEncoding.EncodeToString(f.signer.sum(b, b)))
		if (err == nil) != c.good || err == nil && (u.Login != f.login || login.UnixMilli() != f.since) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestThrottleFlood: whoever floods the throttle with other names does not get his target's misses forgotten.
func TestThrottleFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := &throttle{clock: newClock(time.Now), entries: map[place]misses{}}
		address := netip.MustParseAddr("192.0.2.1")
		target := placeOf("target", address)
		for range 7 {
			throttle.miss(target)
		}
		time.Sleep(time.Second) // the target is the oldest
		for i := range maxThrottled + 50 {
			for range 1 + i%3 {
				throttle.miss(placeOf(fmt.Sprint("flood-", i), address))
			}
		}
		if n := len(throttle.entries); n != maxThrottled {
			t.Errorf("%d places are remembered, want %d", n, maxThrottled)
		}
		if err := throttle.allowed(target); err == nil {
			t.Error("the target's misses were forgotten")
		}
		time.Sleep(forgetAfter + 1)
		throttle.miss(placeOf("later", address))
		if n := len(throttle.entries); n != 1 {
			t.Errorf("%d places are remembered after all but one were idle", n)
		}
	})
}

// TestThrottleHoldsLittle: a remembered name keeps nothing else in memory, and no more of an overlong one than tells it from others.
func TestThrottleHoldsLittle(t *testing.T) {
	t.Parallel()
	throttle := &throttle{clock: newClock(time.Now), entries: map[place]misses{}}
	throttle.miss(placeOf(strings.Repeat("x", 1<<20), netip.Addr{}))
	for p := range throttle.entries {
		if len(p.login) > maxLogin+1 {
			t.Errorf("%d bytes of a login are remembered", len(p.login))
		}
	}
}

func FuzzParsePHC(f *testing.F) {
	hash, err := hashPassword("password")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{hash, "", "$", "$$$$$", hash[:len(hash)-1], hash + "=", hash + "\n", strings.Replace(hash, "19456", "+19456", 1),
		strings.Replace(hash, "p=1", "p=1x", 1), strings.Replace(hash, "p=1", "p=256", 1), strings.Replace(hash, "t=2", "t=0", 1),
		strings.Replace(hash, "m=19456", "m=4294967295", 1), strings.Replace(hash, "m=19456", "m=4294967296", 1), strings.Replace(hash, "argon2id", "argon2i", 1),
		strings.Replace(hash, "v=19", "v=16", 1), strings.Replace(hash, "t=2", "t=02", 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Errorf("%q was read as %q", s, p)
		}
		if p.memory > maxHashMemory || p.time > maxHashTime || p.threads > maxHashThreads || p.memory == 0 || p.time == 0 || p.threads == 0 {
			t.Errorf("%q asks for too much", s)
		}
	})
}

func TestParsePHCRefuses(t *testing.T) {
	t.Parallel()
	hash, err := hashPassword("password")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsePHC(hash); err != nil {
		t.Errorf("%q: %v", hash, err)
	}
	for _, c := range [][2]string{{"argon2id", "argon2i"}, {"v=19", "v=16"}, {"m=19456", "m=7"}, {"m=19456", "m=262145"}, {"m=19456", "m=+19456"}, {"t=2", "t=0"}, {"t=2", "t=17"},
		{"t=2", "t=02"}, {"p=1", "p=0"}, {"p=1", "p=1 "}, {"p=1", "p=257"}, {",p=1", ""}, {"$argon", "x$argon"}} {
		if changed := strings.Replace(hash, c[0], c[1], 1); changed == hash {
			t.Errorf("%q is not in the hash", c[0])
		} else if _, err := parsePHC(changed); err == nil {
			t.Errorf("%q was read", changed)
		}
	}
}
