package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
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

	version int64 // of a stored user
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
	TokenLife   time.Duration    // of a token, at least a millisecond; 0 is 30s
	RefreshLife time.Duration    // how long after the password tokens are refreshed; 0 is 12h
	Now         func() time.Time // the wall clock; nil is time.Now
}

// Catalog is where users and keys are kept. Get's error wraps ErrNotFound; Put's and Delete's wrap ErrConflict when the version (0: there is
// none) does not match, Delete's ErrNotFound when there is nothing.
type Catalog interface {
	Get(ctx context.Context, kind, name string) (value []byte, version int64, err error)
	List(ctx context.Context, kind string) (map[string][]byte, map[string]int64, error)
	Put(ctx context.Context, kind, name string, value []byte, version int64) (int64, error)
	Delete(ctx context.Context, kind, name string, version int64) error
}

// kindUser is the catalog's kind of users.
const kindUser = "user"

// Bounds of a login and of one grant in bytes, and of how many grants or networks a user has.
const (
	maxLogin = 255
	maxGrant = 1024
	maxList  = 1000
)

// Service keeps users, issues tokens and verifies them. It is safe for concurrent use.
type Service struct {
	catalog Catalog
	life    time.Duration
	refresh time.Duration
	clock   *clock
	hasher  *hasher
	misses  throttle
	secret  []byte // keys the passwords that are known to be right; lives in memory only

	rotating sync.Mutex // one change of the ring at a time
	ring     atomic.Pointer[ring]
	changing sync.Mutex // one change of the users at a time
	users    atomic.Pointer[directory]
}

// account is a user as the service holds it. It never changes, but that its password becomes known.
type account struct {
	User
	hash       string // PHC string, of stored users
	keys       []storedKey
	generation int64 // what tokens are bound to: another one with each change
	known      atomic.Pointer[[sha256.Size]byte]
}

// nobody is whom an unknown or disabled user is taken for.
var nobody = &account{}

// directory is the users at one moment.
type directory struct {
	defined, stored map[string]*account
	keys            map[[sha256.Size]byte]heldKey // API keys by their hashes
}

// find returns the user of that login, nil when there is none. The definitions win.
func (d *directory) find(login string) *account {
	if u := d.defined[login]; u != nil {
		return u
	}
	return d.stored[login]
}

// New returns a service over the users and keys in the catalog.
func New(ctx context.Context, catalog Catalog, options *Options) (*Service, error) {
	if options == nil {
		options = &Options{}
	}
	life, wall := cmp.Or(options.TokenLife, 30*time.Second), options.Now
	if life < time.Millisecond {
		return nil, errors.New("auth: TokenLife is below a millisecond")
	}
	if options.RefreshLife < 0 {
		return nil, errors.New("auth: RefreshLife is negative")
	}
	if wall == nil {
		wall = time.Now
	}
	s := &Service{catalog: catalog, life: life, refresh: cmp.Or(options.RefreshLife, 12*time.Hour), clock: newClock(wall), hasher: newHasher(), secret: newSecret()}
	s.misses = throttle{clock: s.clock, entries: map[place]misses{}}
	s.users.Store(newDirectory(nil, nil))
	return s, s.Reload(ctx)
}

// stored is a user as the catalog keeps it.
type stored struct {
	User
	Hash       string      `json:"hash"`
	Generation int64       `json:"generation"`
	Keys       []storedKey `json:"keys,omitempty"`
}

func (r *stored) account(login string, version int64) *account {
	u := &account{User: r.User, hash: r.Hash, keys: r.Keys, generation: r.Generation}
	u.Login, u.version = login, version
	return u
}

// Reload reads keys and users anew, after another engine on the same catalog changed some.
func (s *Service) Reload(ctx context.Context) error {
	s.rotating.Lock()
	err := s.loadRing(ctx)
	s.rotating.Unlock()
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.loadUsers(ctx)
}

// loadUsers reads the users. The caller holds s.changing.
func (s *Service) loadUsers(ctx context.Context) error {
	values, versions, err := s.catalog.List(ctx, kindUser)
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	users := make(map[string]*account, len(values))
	for login, value := range values {
		var r stored
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("stored user %q cannot be read", login)
		}
		users[login] = r.account(login, versions[login])
	}
	s.users.Store(newDirectory(s.users.Load().defined, users))
	return nil
}

// changed reads the users anew when a change met one of somebody else, so that the next attempt starts from what there is. It returns err.
// The caller holds s.changing.
func (s *Service) changed(ctx context.Context, err error) error {
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return errors.Join(err, s.loadUsers(ctx))
	}
	return err
}

// CheckDefinition returns what is wrong with a defined user: the key at fault and the reason.
func CheckDefinition(login string, d UserDefinition) (key, reason string) {
	if reason := checkLogin(login); reason != "" {
		return "", reason
	}
	if reason := checkRole(d.Role); reason != "" {
		return "role", reason
	}
	if reason := checkPassword(d.Password); reason != "" {
		return "password", reason
	}
	if reason := checkNetworks(d.Networks); reason != "" {
		return "networks", reason
	}
	return "", ""
}

// SetDefined brings the users of the definitions into force in place of earlier ones. Each has passed CheckDefinition. Their passwords come
// from secrets that the host holds anyway, so they are known from the start: many of them cost nothing.
func (s *Service) SetDefined(definitions map[string]UserDefinition) {
	root := s.ring.Load().Root
	users := make(map[string]*account, len(definitions))
	for login, d := range definitions {
		u := &account{User: User{Login: login, Role: d.Role, Listeners: d.Listeners, Flows: d.Flows, Networks: d.Networks, Defined: true}}
		u.known.Store(s.keyed(d.Password.Reveal()))
		// The same in every engine and after a restart for as long as the definition is: tokens stay good.
		mac := hmac.New(sha256.New, root)
		fmt.Fprintf(mac, "%q %q %q %q %q %q", login, d.Password.Reveal(), d.Role, d.Listeners, d.Flows, d.Networks)
		u.generation = int64(binary.BigEndian.Uint64(mac.Sum(nil)))
		users[login] = u
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.users.Store(newDirectory(users, s.users.Load().stored))
}

// keyed returns what is kept of a password that is known to be right.
func (s *Service) keyed(password string) *[sha256.Size]byte {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(password))
	return (*[sha256.Size]byte)(mac.Sum(nil))
}

func checkLogin(login string) string {
	if login == "" || len(login) > maxLogin || !utf8.ValidString(login) || strings.TrimSpace(login) != login || strings.ContainsAny(login, `/\:`) ||
		strings.ContainsFunc(login, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf(`a login has 1 to %d bytes of printable characters without /, \ and :, and no space at its ends`, maxLogin)
	}
	return ""
}

func checkRole(role Role) string {
	if role == "" {
		return "the role is missing: there are viewer, api, operator, editor, admin"
	}
	if !slices.Contains(Roles, role) {
		return fmt.Sprintf("role %q is not known: there are viewer, api, operator, editor, admin", role)
	}
	return ""
}

func checkGrants(grants []string) string {
	if len(grants) > maxList {
		return fmt.Sprintf("a user has up to %d grants", maxList)
	}
	for _, g := range grants {
		if g == "" || len(g) > maxGrant || !utf8.ValidString(g) || strings.Contains(g[:len(g)-1], "*") {
			return fmt.Sprintf("grant %q is neither a name nor the beginning of names followed by *", g[:min(len(g), 100)])
		}
	}
	return ""
}

func checkNetworks(networks []string) string {
	if len(networks) > maxList {
		return fmt.Sprintf("a user has up to %d networks", maxList)
	}
	for _, n := range networks {
		if p, err := netip.ParsePrefix(n); err != nil || p.Addr().Is4In6() {
			return fmt.Sprintf("network %q is not written as 10.0.0.0/8 or fd00::/8", n[:min(len(n), 100)])
		}
	}
	return ""
}

// Users returns all users by login, without anything secret.
func (s *Service) Users() []User {
	d := s.users.Load()
	all := maps.Clone(d.stored)
	maps.Copy(all, d.defined)
	users := make([]User, 0, len(all))
	for _, login := range slices.Sorted(maps.Keys(all)) {
		users = append(users, all[login].public())
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

func (u *account) public() User {
	public := u.User
	public.Listeners, public.Flows, public.Networks = slices.Clone(u.Listeners), slices.Clone(u.Flows), slices.Clone(u.Networks)
	return public
}

// Save makes or changes a user: the role, the grants, the networks and whether it is disabled are taken from u. An empty password keeps
// the one there is; a new user needs one. Tokens that are out end, and with a new password, or when
// u is disabled, its API keys. When u came from User or Users and was changed since, the error is
// ErrConflict.
func (s *Service) Save(ctx context.Context, u User, password Secret) error {
	for _, reason := range []string{checkLogin(u.Login), checkRole(u.Role), checkGrants(u.Listeners), checkGrants(u.Flows), checkNetworks(u.Networks)} {
		if reason != "" {
			return fmt.Errorf("%w: %s", ErrUser, reason)
		}
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	d := s.users.Load()
	if d.defined[u.Login] != nil {
		return ErrDefined
	}
	var version int64
	r := stored{User: u, Generation: int64(binary.BigEndian.Uint64(newSecret()))}
	held := d.stored[u.Login]
	if held != nil {
		r.Hash, version = held.hash, held.version
	}
	if u.version != 0 && u.version != version {
		return fmt.Errorf("store user %q: %w", u.Login, ErrConflict)
	}
	if password != "" || held == nil {
		hash, err := hashPassword(password)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUser, err)
		}
		r.Hash = hash
	}
	if held != nil && password == "" && !u.Disabled {
		r.Keys = held.keys
	}
	return s.put(ctx, &r, version)
}

// put stores a user in place of the one of that version. The caller holds s.changing.
func (s *Service) put(ctx context.Context, r *stored, version int64) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if version, err = s.catalog.Put(ctx, kindUser, r.Login, value, version); err != nil {
		return s.changed(ctx, fmt.Errorf("store user %q: %w", r.Login, err))
	}
	d := s.users.Load()
	next := r.account(r.Login, version)
	next.User = next.public() // shares nothing with the caller
	users := maps.Clone(d.stored)
	users[r.Login] = next
	s.users.Store(newDirectory(d.defined, users))
	return nil
}

// Remove removes a user. Its tokens and API keys end.
func (s *Service) Remove(ctx context.Context, login string) error {
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
	if err := s.catalog.Delete(ctx, kindUser, login, held.version); err != nil {
		return s.changed(ctx, fmt.Errorf("remove user %q: %w", login, err))
	}
	users := maps.Clone(d.stored)
	delete(users, login)
	s.users.Store(newDirectory(d.defined, users))
	return nil
}

// Issue returns a token for a login and its password, and how long it lives. remote is the caller's address, host:port or host. Errors:
// ErrInvalid for whatever is wrong with the credentials, *ThrottledError, ErrBusy, and ErrForbidden when they are right but this user may not
// have tokens from there.
func (s *Service) Issue(ctx context.Context, login, password, remote string) (token string, life time.Duration, err error) {
	u, err := s.login(ctx, login, password, remote)
	if err != nil {
		return "", 0, err
	}
	if token, err = s.mint(ctx, u, time.Time{}); err != nil {
		return "", 0, err
	}
	return token, s.life, nil
}

// login returns the user of a login and its password. Errors: those of Issue.
func (s *Service) login(ctx context.Context, login, password, remote string) (*account, error) {
	address := addressOf(remote)
	from := placeOf(login, address)
	if err := s.misses.allowed(from); err != nil {
		return nil, err
	}
	u := s.users.Load().find(login)
	if u == nil || u.Disabled || len(password) > maxPassword {
		u, password = nobody, password[:min(len(password), maxPassword)]
	}
	// Whatever is wrong, it costs one hash. What was right once costs none: a flood of logins does not keep out who logs in all the time.
	mac := s.keyed(password)
	if known := u.known.Load(); known == nil || !hmac.Equal(known[:], mac[:]) {
		leave, err := s.hasher.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		if err := s.misses.allowed(from); err != nil { // attempts that came together
			return nil, err
		}
		if !s.hasher.matches(u.hash, password) {
			s.misses.miss(from)
			return nil, ErrInvalid
		}
		u.known.Store(mac)
	}
	if !u.mayCallFrom(address) {
		return nil, ErrForbidden
	}
	return u, nil
}

// Refresh returns a token like that of Issue for the bearer token of a request, while that one is good. It makes a chain of tokens that goes back
// to a password, and ends it [Options].RefreshLife after that. Errors: those of Verify; ErrInvalid when the chain has ended, ErrForbidden
// when the user may not have tokens from there.
func (s *Service) Refresh(ctx context.Context, r *http.Request) (token string, life time.Duration, err error) {
	scheme, held := credentials(r)
	if !strings.EqualFold(scheme, "Bearer") {
		return "", 0, ErrNoCredentials
	}
	u, login, err := s.check(ctx, held)
	if err != nil {
		return "", 0, err
	}
	if !u.mayCallFrom(addressOf(r.RemoteAddr)) {
		return "", 0, ErrForbidden
	}
	if s.clock.now().Sub(login) >= s.refresh {
		return "", 0, errToken
	}
	if token, err = s.mint(ctx, u, login); err != nil {
		return "", 0, err
	}
	return token, s.life, nil
}

func (u *User) mayCallFrom(address netip.Addr) bool {
	return len(u.Networks) == 0 || slices.ContainsFunc(u.Networks, func(n string) bool {
		prefix, err := netip.ParsePrefix(n)
		return err == nil && prefix.Contains(address)
	})
}

// addressOf returns the address of a caller; the zero address when there is none, as over a Unix socket. How it is written does not matter: the
// same address in IPv6 notation, or with a zone, is the same.
func addressOf(remote string) netip.Addr {
	a, err := netip.ParseAddr(remote)
	if err != nil {
		ap, _ := netip.ParseAddrPort(remote)
		a = ap.Addr()
	}
	return a.Unmap().WithZone("")
}

// credentials returns the scheme of a request's one Authorization header, and what follows it.
func credentials(r *http.Request) (scheme, rest string) {
	if headers := r.Header["Authorization"]; len(headers) == 1 {
		scheme, rest, _ = strings.Cut(headers[0], " ")
	}
	return scheme, strings.Trim(rest, " ")
}

type takePassword struct{}

// TakePassword returns a context in which [Service.Verify] takes a login with its password too (RFC 7617), under the rules of
// [Service.Issue]. Principal.Password says then that they were the proof.
func TakePassword(ctx context.Context) context.Context {
	return context.WithValue(ctx, takePassword{}, true)
}

// Verify returns who sent a request with a bearer token (RFC 6750 section 2.1): one of Issue or an API key.
// ErrForbidden says that the key is used from where its user may not call.
func (s *Service) Verify(ctx context.Context, r *http.Request) (Principal, error) {
	scheme, token := credentials(r)
	var u *account
	var err error
	byPassword := false
	switch {
	case strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(token, apiKeyPrefix):
		u, err = s.checkKey(token, r.RemoteAddr)
	case strings.EqualFold(scheme, "Bearer"):
		u, _, err = s.check(ctx, token)
	case strings.EqualFold(scheme, "Basic") && ctx.Value(takePassword{}) != nil:
		login, password, ok := r.BasicAuth()
		if !ok {
			return Principal{}, ErrInvalid
		}
		byPassword = true
		u, err = s.login(ctx, login, password, r.RemoteAddr)
	default:
		err = ErrNoCredentials
	}
	if err != nil {
		return Principal{}, err
	}
	return Principal{Login: u.Login, Role: u.Role, Listeners: u.Listeners, Flows: u.Flows, Password: byPassword}, nil
}

var _ Verifier = (*Service)(nil)
