package httpclient

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/connector"
)

// This test is inside the package because it needs a resolver of its own.

// nameServer answers every question for an IPv4 address with the same one.
func nameServer(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			end := 12 // of the question: its name, type and class
			for end < n && b[end] != 0 {
				end += 1 + int(b[end])
			}
			end += 5
			answer := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, b[12:end]...)
			if b[end-3] == 1 { // type A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, address.AsSlice()...)
			}
			l.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", l.LocalAddr().String())
	}}
}

// TestAddressIsCheckedWhenDialed resolves a harmless name to addresses of all sorts.
func TestAddressIsCheckedWhenDialed(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
	for address, allowed := range map[string]bool{"127.0.0.1": true, "169.254.169.254": false, "169.254.1.1": false, "100.100.100.200": false, "0.0.0.0": false} {
		c, err := newConnection(connector.Env{Now: time.Now}, options{URL: "http://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()})
		if err != nil {
			t.Fatal(err)
		}
		c.base = strings.Replace(c.base, "127.0.0.1", "api.example.org", 1)
		c.dialer.Resolver = nameServer(t, netip.MustParseAddr(address))
		called = false
		err = c.Ping(t.Context())
		if (err == nil) != allowed || called != allowed || connector.IsPermanent(err) == allowed {
			t.Errorf("%s: called %v, error %v", address, called, err)
		}
		c.Close()
	}
}

func TestRefusedAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1": false, "::1": false, "10.0.0.1": false, "192.168.1.1": false, "172.16.0.1": false, "fd12:3456::1": false, "93.184.216.34": false, "2001:db8::1": false,
		"64:ff9b::a00:1": false, "::ffff:10.0.0.1": false,
		"169.254.169.254": true, "169.254.0.1": true, "fe80::1": true, "fe80::1%eth0": true, "fd00:ec2::254": true, "fd20:ce::254": true, "100.100.100.200": true,
		"168.63.129.16": true, "192.0.0.192": true, "fd00:42::42": true, "fd00:c1::a9fe:a9fe": true, "::ffff:169.254.169.254": true, "::a9fe:a9fe": true,
		"64:ff9b::a9fe:a9fe": true, "2002:a9fe:a9fe::": true, "0.0.0.0": true, "0.1.2.3": true, "::": true, "224.0.0.1": true, "255.255.255.255": true, "ff02::1": true,
	} {
		if got := refused(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: refused is %v", address, got)
		}
	}
}

// TestNoProxy sets the environment's proxies, so that it runs beside no other. They are no way around the check of addresses.
func TestNoProxy(t *testing.T) {
	called := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	c, err := newConnection(connector.Env{Now: time.Now}, options{URL: "http://api.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.dialer.Resolver = nameServer(t, netip.MustParseAddr("169.254.169.254"))
	if err := c.Ping(t.Context()); called || !connector.IsPermanent(err) {
		t.Errorf("the proxy was called: %v, error %v", called, err)
	}
}
