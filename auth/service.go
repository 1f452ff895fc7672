package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// User is who may call.
type User struct {
	Login     string   `json:"login"`
	Role      Role     `json:"role"`
	Listeners []string `json:"listeners,omitempty"` // grants of role api: names, or beginnings followed by *
	Flows     []string `json:"flows,omitempty"`
	Networks  []string `json:"networks,omitempty"` // addresses (CIDR) that may fetch tokens; empty: all
	Disabled  bool     `json:"disabled,omitempty"`
	Defined   bool     `json:"-"` // made by the definitions

	hash       string // PHC string, of stored users
	keyed      []byte // HMAC of the password, of defined users
	generation int64  // what tokens are bound to: changes with everything above
	version    int64
}

// UserDefinition is a user as the definitions have it.
type UserDefinition struct {
	Role      Role     `json:"role"`
	Password  Secret   `json:"password"`
	Listeners []string `json:"listeners" define:"one"`
	Flows     []string `json:"flows" define:"one"`
	Networks  []string `json:"networks" define:"one"`
}

// Options are the choices of a service; the zero value is all defaults.
type Options struct {
	TokenLife time.Duration    // of a token; 0 is 30s
	Now       func() time.Time // nil is time.Now
}

// Catalog is where users and keys are kept. Get's error wraps ErrNotFound, Put's ErrConflict when the version (0: there is none) does not
// match, as Delete's does.
type Catalog interface {
	Get(ctx context.Context, kind, name string) (value []byte, version int64, err error)
	List(ctx context.Context, kind string) (map[string][]byte, map[string]int64, error)
	Put(ctx context.Context, kind, name string, value []byte, version int64) (int64, error)
	Delete(ctx context.Context, kind, name string, version int64) error
}

// kindUser is the catalog's kind of users.
const kindUser = "user"

// maxLogin bounds a login in bytes.
const maxLogin = 255

// Service keeps users, issues tokens and verifies them. It is safe for concurrent use.
type Service struct {
	catalog Catalog
	life    time.Duration
	now     func() time.Time
	clock   clock
	ring    atomic.Pointer[ring]
	users   atomic.Pointer[directory]
	hasher  *hasher
	misses  throttle
	secret  []byte // keys the passwords of defined users; lives in memory only
	change  sync.Mutex
	defined []*User
}

// directory is the users at one moment.
type directory struct{ byLogin map[string]*User }

func (d *directory) find(login string) *User { return d.byLogin[login] }

// New returns a service over the users and keys in the catalog.
func New(ctx context.Context, catalog Catalog, options *Options) (*Service, error) {
	if options == nil {
		options = &Options{}
	}
	s := &Service{catalog: catalog, life: cmp.Or(options.TokenLife, 30*time.Second), now: options.Now, hasher: newHasher(), secret: make([]byte, 32)}
	if s.life < 0 {
		return nil, errors.New("auth: TokenLife is negative")
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.clock.now = s.now
	s.misses.now = s.now
	rand.Read(s.secret) // never fails
	if err := s.loadRing(ctx); err != nil {
		return nil, err
	}
	return s, s.Reload(ctx)
}

// stored is a user as the catalog keeps it.
type stored struct {
	User
	Hash       string `json:"hash"`
	Generation int64  `json:"generation"`
}

// Reload reads the users anew.
func (s *Service) Reload(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	return s.reload(ctx)
}

func (s *Service) reload(ctx context.Context) error {
	values, versions, err := s.catalog.List(ctx, kindUser)
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	d := &directory{byLogin: make(map[string]*User, len(values))}
	for login, value := range values {
		var u stored
		if err := json.Unmarshal(value, &u); err != nil {
			return fmt.Errorf("stored user %q cannot be read", login)
		}
		user := u.User
		user.Login, user.hash, user.generation, user.version = login, u.Hash, u.Generation, versions[login]
		d.byLogin[login] = &user
	}
	for _, u := range s.defined { // the definitions win
		d.byLogin[u.Login] = u
	}
	s.users.Store(d)
	return nil
}

// CheckDefinition returns what is wrong with a defined user: the key at fault and the reason.
func CheckDefinition(login string, d UserDefinition) (key, reason string) {
	if err := checkLogin(login); err != nil {
		return "", err.Error()
	}
	if !slices.Contains(Roles, d.Role) {
		return "role", fmt.Sprintf("role %q is not known: there are viewer, api, operator, editor, admin", d.Role)
	}
	if n := len(d.Password); n < minPassword || n > maxPassword {
		return "password", fmt.Sprintf("a password has %d to %d bytes", minPassword, maxPassword)
	}
	if err := checkNetworks(d.Networks); err != nil {
		return "networks", err.Error()
	}
	return "", ""
}

// SetDefined brings the users of the definitions into force in place of earlier ones. Their passwords come from secrets that the host
// holds anyway, so a keyed hash in memory is kept instead of argon2id: a start with many of them costs nothing.
func (s *Service) SetDefined(ctx context.Context, definitions map[string]UserDefinition) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.defined = nil
	for login, d := range definitions {
		u := &User{Login: login, Role: d.Role, Listeners: d.Listeners, Flows: d.Flows, Networks: d.Networks, Defined: true}
		u.keyed = s.keyed(d.Password.Reveal())
		// The generation is the same in every engine and after a restart as long as the definition is: tokens stay good.
		sum := sha256.New()
		fmt.Fprintf(sum, "%q %q %q %q %q", login, d.Role, d.Listeners, d.Flows, d.Networks)
		mac := hmac.New(sha256.New, s.ring.Load().keys[0].Secret)
		mac.Write([]byte(d.Password.Reveal()))
		mac.Write(sum.Sum(nil))
		u.generation = int64(binary.BigEndian.Uint64(mac.Sum(nil)))
		s.defined = append(s.defined, u)
	}
	return s.reload(ctx)
}

func (s *Service) keyed(password string) []byte {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

func checkLogin(login string) error {
	if login == "" || len(login) > maxLogin || !utf8.ValidString(login) || strings.ContainsFunc(login, func(r rune) bool { return !unicode.IsPrint(r) }) ||
		strings.ContainsAny(login, "/\\") {
		return fmt.Errorf("a login has 1 to %d bytes of printable characters without / and \\", maxLogin)
	}
	return nil
}

func checkNetworks(networks []string) error {
	for _, n := range networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fmt.Errorf("network %q is not written as 10.0.0.0/8", n)
		}
	}
	return nil
}

// Users returns all users by login, without anything secret.
func (s *Service) Users() []User {
	var users []User
	d := s.users.Load()
	for _, login := range slices.Sorted(maps.Keys(d.byLogin)) {
		users = append(users, d.byLogin[login].public())
	}
	return users
}

// User returns a user, without anything secret; ErrNotFound when there is none.
func (s *Service) User(login string) (User, error) {
	if u := s.users.Load().find(login); u != nil {
		return u.public(), nil
	}
	return User{}, ErrNotFound
}

func (u *User) public() User {
	return User{Login: u.Login, Role: u.Role, Listeners: slices.Clone(u.Listeners), Flows: slices.Clone(u.Flows), Networks: slices.Clone(u.Networks),
		Disabled: u.Disabled, Defined: u.Defined}
}

// Save makes or changes a user: the role, the grants, the networks and whether it is disabled are taken from u. An empty password keeps
// the one there is; a new user needs one. Tokens that are out end.
func (s *Service) Save(ctx context.Context, u User, password Secret) error {
	if err := checkLogin(u.Login); err != nil {
		return fmt.Errorf("%w: %w", ErrUser, err)
	}
	if !slices.Contains(Roles, u.Role) {
		return fmt.Errorf("%w: role %q is not known: there are viewer, api, operator, editor, admin", ErrUser, u.Role)
	}
	if err := checkNetworks(u.Networks); err != nil {
		return fmt.Errorf("%w: %w", ErrUser, err)
	}
	s.change.Lock()
	defer s.change.Unlock()
	held := s.users.Load().find(u.Login)
	if held != nil && held.Defined {
		return ErrDefined
	}
	record := stored{User: u, Generation: s.clock.millis()}
	var version int64
	if held != nil {
		record.Hash, version = held.hash, held.version
		record.Generation = max(record.Generation, held.generation+1)
	}
	if password != "" || held == nil {
		hash, err := HashPassword(password.Reveal())
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUser, err)
		}
		record.Hash = hash
	}
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if _, err := s.catalog.Put(ctx, kindUser, u.Login, value, version); err != nil {
		return fmt.Errorf("store user %q: %w", u.Login, err)
	}
	return s.reload(ctx)
}

// Remove removes a user. Tokens that are out end.
func (s *Service) Remove(ctx context.Context, login string) error {
	s.change.Lock()
	defer s.change.Unlock()
	held := s.users.Load().find(login)
	switch {
	case held == nil:
		return ErrNotFound
	case held.Defined:
		return ErrDefined
	}
	if err := s.catalog.Delete(ctx, kindUser, login, held.version); err != nil {
		return fmt.Errorf("remove user %q: %w", login, err)
	}
	return s.reload(ctx)
}

// Issue returns a token for a login and its password, and how long it lives. remote is the caller's address, host:port or host. Errors:
// ErrInvalid for whatever is wrong with the credentials, *ThrottledError, ErrBusy, and ErrForbidden when they are right but this user may not
// have tokens from there.
func (s *Service) Issue(ctx context.Context, login, password, remote string) (token string, life time.Duration, err error) {
	address := addressOf(remote)
	if err := s.misses.allowed(login, address); err != nil {
		return "", 0, err
	}
	u := s.users.Load().find(login)
	right, err := s.right(ctx, u, password)
	if err != nil {
		return "", 0, err
	}
	if !right {
		s.misses.miss(login, address)
		return "", 0, ErrInvalid
	}
	s.misses.hit(login, address)
	if !u.mayCallFrom(address) {
		return "", 0, ErrForbidden
	}
	return s.mint(u, s.life), s.life, nil
}

// right reports whether the password is the user's. Whatever is wrong, it costs the same hash.
func (s *Service) right(ctx context.Context, u *User, password string) (bool, error) {
	if len(password) > maxPassword {
		password = password[:maxPassword] // longer ones are never right, and cost no more
		u = nil
	}
	if u != nil && u.keyed != nil && hmac.Equal(s.keyed(password), u.keyed) {
		return true, nil
	}
	hash := ""
	if u != nil && !u.Disabled {
		hash = u.hash
	}
	return s.hasher.verify(ctx, hash, password)
}

func (u *User) mayCallFrom(address netip.Addr) bool {
	return len(u.Networks) == 0 || slices.ContainsFunc(u.Networks, func(n string) bool {
		prefix, err := netip.ParsePrefix(n)
		return err == nil && prefix.Contains(address)
	})
}

func addressOf(remote string) netip.Addr {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr().Unmap()
	}
	a, _ := netip.ParseAddr(remote) // the zero address when there is none, as over a Unix socket
	return a.Unmap()
}

// Verify returns who sent a request with a bearer token (RFC 6750 section 2.1).
func (s *Service) Verify(_ context.Context, r *http.Request) (Principal, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return Principal{}, ErrNoCredentials
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, ErrNoCredentials
	}
	u, err := s.check(strings.TrimSpace(token))
	if err != nil {
		return Principal{}, err
	}
	return Principal{Login: u.Login, Role: u.Role, Listeners: u.Listeners, Flows: u.Flows}, nil
}

var _ Verifier = (*Service)(nil)
