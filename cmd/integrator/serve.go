package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/store"
)

type serveCommand struct {
	Dir       string        `arg:"" optional:"" default:"." help:"Folder of the definitions (${default})."`
	Addr      string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to listen (${default})."`
	Data      string        `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`
	TLSCert   string        `name:"tls-cert" and:"tls" placeholder:"FILE" help:"Certificate chain, PEM: serve HTTPS."`
	TLSKey    string        `name:"tls-key" and:"tls" placeholder:"FILE" help:"Its key, PEM."`
	Metrics   string        `placeholder:"HOST:PORT" help:"Where to serve metrics, at /metrics, to whoever asks; nowhere unless told."`
	Drain     time.Duration `default:"20s" placeholder:"TIME" help:"What runs get to end in when the server stops (${default})."`
	LogFormat string        `default:"text" enum:"text,json" placeholder:"FORMAT" help:"Of the log on standard error: text or json (${default})."`
	LogLevel  slog.Level    `default:"info" placeholder:"LEVEL" help:"Of the log: debug, info, warn or error (${default})."`
}

func (serveCommand) Help() string {
	return `Secrets come from the environment (INTEGRATOR_SECRET_NAME), else from the file secrets/NAME beside the definitions. SIGTERM or Ctrl-C stops in
order: nothing new is taken, callers are told so, runs end within --drain, the rest goes on at the next start; the second signal ends at once.

Example:

    integrator serve flows --addr 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem`
}

func (c *serveCommand) Run(ctx context.Context) error {
	logger := c.logger()
	engine, err := newEngine(setup{dir: c.Dir, data: c.Data, drain: c.Drain, logger: logger})
	if err != nil {
		return err
	}
	if answers(ctx, c.Data) {
		return c.inUse(store.ErrInUse)
	}
	var stopping atomic.Bool
	server := newServer(parting(engine.Handler(), &stopping), logger)
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return usagef("--tls-cert and --tls-key: %w", err)
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
	listener, err := listen(c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	var scraped *impatient
	if c.Metrics != "" {
		if scraped, err = listen(c.Metrics); err != nil {
			return err
		}
		defer scraped.Close()
	}
	h, err := start(engine, c.Data, logger)
	if err != nil {
		return c.inUse(err)
	}
	if scraped != nil {
		go metricsServer(engine, logger).Serve(scraped) // ends with the listener
	}
	failed := make(chan error, 1)
	go func() { // ends with the listener
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	if err := c.welcome(h, listener); err != nil {
		logger.Warn("the users cannot be listed", "error", err)
	}
	var cause error
	select {
	case <-ctx.Done():
		logger.Info("stopping")
	case <-h.ended:
	case cause = <-failed:
	}
	// Nobody is cut off: while the engine stops, and for a moment more, calls are answered with 503, and each answer ends its connection.
	stopping.Store(true)
	linger := time.After(lastCalls)
	err = h.stop()
	if cause == nil {
		<-linger
	}
	listener.hurry(time.Now().Add(lastBytes))
	shutdown(server)
	return errors.Join(cause, err)
}

// Times of a stop. Bodies that have not come within lastBytes after the engine has stopped are answered with 503 too.
const (
	lastCalls = 200 * time.Millisecond
	lastBytes = 2 * time.Second
)

// parting ends each connection with its next answer once the server is stopping: a client that is told sends nothing into a connection that is
// about to be closed.
func parting(handler http.Handler, stopping *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// metricsServer serves metrics and nothing else.
func metricsServer(engine *integrator.Engine, logger *slog.Logger) *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if err := engine.WriteMetrics(r.Context(), w); err != nil {
			logger.Warn("metrics could not be written", "error", err)
		}
	})
	return newServer(routes, logger)
}

// inUse says whose store it is that cannot be opened.
func (c *serveCommand) inUse(err error) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%s: %w: stop the integrator that works on it, or give another --data", c.Data, store.ErrInUse)
	}
	return err
}

// welcome tells where the server listens, and how to make the first user.
func (c *serveCommand) welcome(h *host, listener net.Listener) error {
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	fmt.Printf("integrator listens on %s://%s\n", scheme, listener.Addr())
	users, err := h.engine.Auth()
	if err == nil && len(users.Users()) == 0 {
		fmt.Printf("There is no user yet, so nobody can call. Make one: integrator user add LOGIN --role admin --data %s\n", c.Data)
	}
	return err
}

func (c *serveCommand) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// impatient gives up connections whose other end reads nothing for a while: a server's own limit would count from the request on, and a
// synchronous answer may be long in coming.
type impatient struct {
	net.Listener
	mu    sync.Mutex
	conns map[*impatientConn]bool
	last  time.Time // nothing is read after; zero: no such time
}

func listen(address string) (*impatient, error) {
	l, err := net.Listen("tcp", address)
	return &impatient{Listener: l, conns: map[*impatientConn]bool{}}, err
}

func (l *impatient) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &impatientConn{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return c, nil
}

// hurry lets nothing be read after the time.
func (l *impatient) hurry(last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = last
	for c := range l.conns {
		c.Conn.SetReadDeadline(last) // one that is closed reads nothing more
	}
}

// patienceForReaders is how long one write may take.
const patienceForReaders = 30 * time.Second

type impatientConn struct {
	net.Conn
	listener *impatient
}

func (c *impatientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(patienceForReaders)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *impatientConn) SetReadDeadline(t time.Time) error {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if last := c.listener.last; !last.IsZero() && (t.IsZero() || t.After(last)) {
		t = last
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *impatientConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// newServer returns a server with its limits set. The time for bodies is the handler's to bound, that for answers the connection's.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)}
}
