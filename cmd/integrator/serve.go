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
order: nothing new is taken, runs end within --drain, the rest goes on at the next start; the second signal ends at once.

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
	server := newServer(engine.Handler(), logger)
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return usagef("--tls-cert and --tls-key: %w", err)
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	listener = impatient{listener}
	defer listener.Close()
	var scraped net.Listener
	if c.Metrics != "" {
		if scraped, err = net.Listen("tcp", c.Metrics); err != nil {
			return err
		}
		defer scraped.Close()
	}
	h, err := start(engine, c.Data, logger)
	if err != nil {
		return c.inUse(err)
	}
	if scraped != nil {
		go metricsServer(engine, logger).Serve(impatient{scraped}) // ends with the listener
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
	listener.Close()
	err = h.stop()
	shutdown(server)
	return errors.Join(cause, err)
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
type impatient struct{ net.Listener }

func (l impatient) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return impatientConn{c}, err
}

// patienceForReaders is how long one write may take.
const patienceForReaders = 30 * time.Second

type impatientConn struct{ net.Conn }

func (c impatientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(patienceForReaders)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// newServer returns a server with its limits set. The time for bodies is the handler's to bound, that for answers the connection's.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)}
}
