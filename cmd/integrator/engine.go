package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
)

// setup is what a command says about the engine it needs.
type setup struct {
	dir    string // of the definitions; "" for an engine without any
	data   string // of the store
	drain  time.Duration
	logger *slog.Logger
}

// drivers returns the databases that the command is linked with.
func drivers() []sqldb.Driver { return []sqldb.Driver{sqlite.Driver()} }

// newEngine returns an engine over the definitions. Faults name files as they are seen from the working directory.
func newEngine(s setup) (*integrator.Engine, error) {
	var engine *integrator.Engine
	config := integrator.Config{Dir: s.data, Logger: s.logger, Drivers: drivers(), Compressions: compressions(), Env: environment,
		Limits: integrator.Limits{DrainTimeout: s.drain},
		Verifier: auth.VerifierFunc(func(ctx context.Context, r *http.Request) (auth.Principal, error) {
			if cameThroughControl(ctx) {
				return auth.Principal{Login: controlLogin, Role: auth.Admin}, nil
			}
			users, err := engine.Auth()
			if err != nil {
				return auth.Principal{}, err
			}
			return users.Verify(ctx, r)
		})}
	if s.dir != "" {
		if info, err := os.Stat(s.dir); err != nil || !info.IsDir() {
			return nil, usagef("%s is no folder with definitions", s.dir)
		}
		config.Definitions, config.BaseDir = os.DirFS(s.dir), s.dir
		config.Secrets = func(name string) (string, bool) { return secret(s.dir, name, s.logger) }
	}
	var err error
	if engine, err = integrator.New(config); err != nil {
		return nil, inDir(s.dir, err)
	}
	return engine, nil
}

// secretPrefix begins the environment variables that hold secrets.
const secretPrefix = "INTEGRATOR_SECRET_"

// environment returns the value of ${env.NAME}: secrets are shown to nobody, so ${secret.NAME} alone names them.
func environment(name string) (string, bool) {
	if strings.HasPrefix(name, secretPrefix) {
		return "", false
	}
	return os.LookupEnv(name)
}

// inDir puts the folder before the files that faults name.
func inDir(dir string, err error) error {
	var faults integrator.Faults
	if errors.As(err, &faults) {
		for i := range faults {
			if faults[i].File != "" {
				faults[i].File = filepath.Join(dir, faults[i].File)
			}
		}
	}
	return err
}

// secret returns the value of ${secret.NAME}: of the environment, else of a file in the folder secrets beside the definitions, without the
// newline that editors put at its end.
func secret(dir, name string, logger *slog.Logger) (string, bool) {
	if value, ok := os.LookupEnv(secretPrefix + name); ok {
		return value, true
	}
	if !filepath.IsLocal(name) {
		return "", false
	}
	value, err := os.ReadFile(filepath.Join(dir, "secrets", name))
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			logger.Error("a secret cannot be read", "name", name, "error", err)
		}
		return "", false
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(value), "\n"), "\r"), true
}

// host is an engine at work, with its control socket.
type host struct {
	engine  *integrator.Engine
	control *control
	ended   chan struct{} // closed when the engine has ended, with err
	err     error
}

// start runs an engine and opens its control socket once it is ready. The error wraps store.ErrInUse when another process has the store.
func start(engine *integrator.Engine, data string, logger *slog.Logger) (*host, error) {
	h := &host{engine: engine, ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		h.err = engine.Run(context.Background())
	}()
	select {
	case <-engine.Ready():
	case <-h.ended:
		return nil, h.err
	}
	var err error
	if h.control, err = openControl(engine, data, logger); err != nil {
		engine.Close()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return h, nil
}

// stop ends the engine in order and returns what it ended with.
func (h *host) stop() error {
	h.control.refuse() // while the store is still held: the socket's name may be another process's afterwards
	h.engine.Close()
	<-h.ended
	h.control.close()
	return h.err
}
