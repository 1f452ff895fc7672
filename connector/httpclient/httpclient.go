// Package httpclient writes records to HTTP APIs: connections of type http.
//
//	registry: {type: http, url: "https://registry.example.org/v1", auth: {type: bearer, token: "${secret.REGISTRY}"}}
//
// A destination makes one call for each record, one after the other in the records' order; the action is the method (insert is POST, upsert PUT, update
// PATCH, delete DELETE without a body), and the record, as JSON unless the destination names a format, the body. The status decides: 2xx is written,
// any other 4xx than 401, 408, 425 and 429 rejects the record, 401 and redirects end the run, and everything else is tried again, when Retry-After says so.
//
// What it promises: a record's call carries the same Idempotency-Key in every attempt of its run, "<run id>-<index of the record>", followed by -2 for a
// flow's second destination on the connection, and so on. Where the source may be another one in the next attempt (a query, a file), a hash of
// the call is part of the key, so that a key never stands for two records. An API that honours the key applies each record once; any other one at
// least once. Calls take effect when they are made: nothing is taken back when the run fails later. Two connections to one API have the same keys.
//
// # Security
//
// The host is the definition's alone: paths are joined behind it, values in them are percent-encoded, redirects are not followed, and proxies of
// the environment are not used. So credentials go to that host and nowhere else. The host may be a private one, as its definition is trusted; link-local
// and metadata addresses, which hand out a machine's own credentials, are refused when the connection is dialed, after the name was resolved.
// Answers are read to a bound, are never unpacked, and are shown to operators alone.
//
// The name that matters is [Kind].
package httpclient

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// options are a definition's keys.
type options struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers" define:"masked"`
	Auth    *credentials      `json:"auth"`
	Timeout time.Duration     `json:"timeout"` // of one call; 0 is 30s
}

// credentials are what the key auth holds.
type credentials struct {
	Type     string `json:"type"`
	Token    string `json:"token" define:"secret"`
	User     string `json:"user"`
	Password string `json:"password" define:"secret"`
}

const (
	defaultTimeout = 30 * time.Second
	idleTimeout    = 90 * time.Second
	idleMost       = 16 // connections that are kept open without a call
	maxHeader      = 64 << 10
	minSecret      = 8 // bytes from which on a header's value may be one
)

// Kind makes connections of type http: `{type: http, url: "https://api.example.org", auth: {type: bearer, token: "${secret.API}"}}`.
func Kind() connector.Kind {
	return connector.Kind{Name: "http", New: func(env connector.Env, decode func(any) error) (connector.Connection, error) {
		var o options
		if err := decode(&o); err != nil {
			return nil, err
		}
		c, err := newConnection(env, o)
		if err != nil {
			return nil, err
		}
		return c, nil
	}}
}

// connection is an API.
type connection struct {
	now     func() time.Time
	base    string // of every address: scheme, host and what stands before the paths
	header  http.Header
	secrets []string // that no answer is shown with
	timeout time.Duration
	format  transform.Format // of destinations that name none
	dialer  *net.Dialer
	client  *http.Client
}

var _ connector.Destination = (*connection)(nil)

func newConnection(env connector.Env, o options) (*connection, error) {
	var faults []error
	fault := func(path, reason, hint string) {
		faults = append(faults, &transform.DefinitionError{Path: path, Reason: reason, Hint: hint})
	}
	c := &connection{now: env.Now, header: http.Header{}, timeout: cmp.Or(o.Timeout, defaultTimeout)}
	var reason, hint string
	if c.base, reason, hint = checkURL(o.URL); reason != "" {
		fault("url", reason, hint)
	}
	for name, value := range o.Headers {
		path := define.Join("headers", name)
		switch canonical := http.CanonicalHeaderKey(name); {
		case !validName(name):
			fault(path, "this is no name of a header", "")
		case slices.Contains(ownHeaders, canonical):
			fault(path, "the header "+canonical+" is the engine's own", "leave it out")
		case canonical == "Authorization" && o.Auth != nil:
			fault(path, "the header and auth say the same twice", "leave one out")
		case !validValue(value):
			fault(path, "the value holds control characters", "a secret that ends with a line end, perhaps")
		default:
			c.header.Set(canonical, value)
			if len(value) >= minSecret {
				c.secrets = append(c.secrets, value)
			}
		}
	}
	if o.Auth != nil {
		o.Auth.check(c, fault)
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	var err error
	if c.format, err = jsonfmt.New(jsonfmt.Options{}); err != nil {
		return nil, err
	}
	c.dialer = &net.Dialer{Timeout: c.timeout, ControlContext: control}
	c.client = &http.Client{
		Transport: &http.Transport{DialContext: c.dialer.DialContext, TLSHandshakeTimeout: c.timeout, MaxIdleConnsPerHost: idleMost, IdleConnTimeout: idleTimeout,
			MaxResponseHeaderBytes: maxHeader, DisableCompression: true}, // and no Proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// check reports what is wrong with the credentials, or makes them a header.
func (a *credentials) check(c *connection, fault func(path, reason, hint string)) {
	given := func(kind string, keys map[string]string) {
		for _, key := range []string{"token", "user", "password"} {
			value := map[string]string{"token": a.Token, "user": a.User, "password": a.Password}[key]
			hint, wanted := keys[key]
			switch {
			case wanted && value == "":
				fault("auth", fmt.Sprintf("auth of type %s needs a %s", kind, key), hint)
			case !wanted && value != "":
				fault("auth."+key, fmt.Sprintf("auth of type %s has no %s", kind, key), "leave it out")
			case !validValue(value):
				fault("auth."+key, "it holds control characters", "a secret that ends with a line end, perhaps")
			}
		}
	}
	switch a.Type {
	case "bearer":
		given("bearer", map[string]string{"token": `write token: "${secret.API}"`})
		c.header.Set("Authorization", "Bearer "+a.Token)
		c.secrets = append(c.secrets, a.Token)
	case "basic":
		given("basic", map[string]string{"user": "write user: loader", "password": `write password: "${secret.API}"`})
		if strings.Contains(a.User, ":") {
			fault("auth.user", "a user's name cannot hold a colon here (RFC 7617 section 2)", "")
		}
		encoded := base64.StdEncoding.EncodeToString([]byte(a.User + ":" + a.Password))
		c.header.Set("Authorization", "Basic "+encoded)
		c.secrets = append(c.secrets, a.Password, encoded)
	case "":
		fault("auth", "the type is missing", "there are bearer and basic")
	default:
		fault("auth.type", fmt.Sprintf("type %q is not known", a.Type), "there are bearer and basic")
	}
}

// ownHeaders are what the engine or the protocol decides.
var ownHeaders = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect", "Accept-Encoding",
	"Proxy-Authorization", "Proxy-Connection", "Idempotency-Key"}

// validName reports whether a header can have the name (RFC 9110 section 5.6.2).
func validName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// validValue reports whether a header can hold the value (RFC 9110 section 5.5).
func validValue(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// checkURL returns what addresses begin with, or why the url is none. A url may hold what is secret, so that no reason repeats it.
func checkURL(text string) (base, reason, hint string) {
	const example = "write url: https://api.example.org/v1"
	if text == "" {
		return "", "the url is missing", example
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", "this is no address of an API", example
	case u.User != nil:
		return "", "credentials do not belong into the url", `write auth: {type: basic, user: loader, password: "${secret.API}"}`
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", "the url ends with its path", "write what follows in the destination's path"
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil && refused(address) {
		return "", "the host is a link-local or metadata address, which gives away this machine's own credentials", "write the API's name"
	}
	base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.EscapedPath(), "/")
	if reason := checkPath(u.EscapedPath()); u.Path != "" && reason != "" {
		return "", reason, ""
	}
	return base, "", ""
}

// refusedAddresses are what no connection is made to: link-local addresses, and those outside of them at which clouds answer with a machine's
// own credentials; addresses that mean this host, or many.
var refusedAddresses = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::/32"),       // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),    // Google Cloud
	netip.MustParsePrefix("fd00:42::42/128"),     // Scaleway
	netip.MustParsePrefix("fd00:c1::a9fe:0/112"), // Oracle Cloud
	netip.MustParsePrefix("ff00::/8"),
}

// translated are the prefixes behind which an IPv6 address holds an IPv4 one, and at which byte it stands there.
var translated = map[netip.Prefix]int{
	netip.MustParsePrefix("::/96"):        12, // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"): 12, // NAT64
	netip.MustParsePrefix("2002::/16"):    2,  // 6to4
}

// refused reports whether no connection is made to the address.
func refused(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if slices.ContainsFunc(refusedAddresses, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	for prefix, at := range translated {
		if b := a.As16(); a.Is6() && prefix.Contains(a) && a != netip.IPv6Loopback() && refused(netip.AddrFrom4([4]byte(b[at:at+4]))) {
			return true
		}
	}
	return false
}

// Ping asks the API's address for its head. Any answer but 401 and those of servers in trouble says that it can be used.
func (c *connection) Ping(ctx context.Context) error {
	a, err := c.call(ctx, &call{what: "HEAD", method: http.MethodHead, url: c.base})
	if err != nil {
		return err
	}
	if a.status < 300 || a.status >= 400 && a.status < 500 && a.status != http.StatusUnauthorized {
		return nil
	}
	return c.failed(a)
}

// Close closes the connections that no call uses.
func (c *connection) Close() error {
	c.client.CloseIdleConnections()
	return nil
}
