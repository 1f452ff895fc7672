package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// serving is what a server reports once it takes calls.
type serving struct {
	Addr  string
	Token string // of the engine alone
}

// ended is what an engine reports once it has stopped.
type ended struct {
	Syncs   int64 // of its store
	Journal int64 // bytes that went through the journal
}

// serveBare serves a handler that reads the body and answers as many bytes as its argument says.
func serveBare(args []string, c *control) error {
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	answer := bytes.Repeat([]byte("x"), size)
	return serve(c, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(answer)
	}))
}

// What an engine is started with, beside its folder.
const (
	called  = "called"  // calls will come: there is a user, with a token
	pruning = "pruning" // runs that ended more than 30 days ago are removed
)

// login and password are those of the user who calls.
const (
	login    = "bench"
	password = "a long password"
)

// serveEngine serves the definitions in the folder flows of the folder that is its first argument, with a store beside them.
func serveEngine(args []string, c *control) error {
	retention := integrator.Retention{Runs: -1}
	if slices.Contains(args, pruning) {
		retention.Runs = kept
	}
	wrote, err := withEngine(args[0], retention, func(ctx context.Context, engine *integrator.Engine, st store.Store) (err error) {
		token := ""
		if slices.Contains(args, called) {
			if _, token, err = logIn(ctx, engine); err != nil {
				return err
			}
		}
		return errors.Join(serve(c, token, engine.Handler()), rest(ctx, engine, st))
	})
	return errors.Join(err, c.report(wrote))
}

// rest returns when no run is at work and none is due. Those of the calls are the newest.
func rest(ctx context.Context, engine *integrator.Engine, st store.Store) error {
	for {
		var metrics bytes.Buffer
		if err := engine.WriteMetrics(ctx, &metrics); err != nil {
			return err
		}
		queued, err := st.Runs(ctx, store.RunFilter{Status: store.Queued, Limit: 1})
		if err != nil {
			return err
		}
		if bytes.Contains(metrics.Bytes(), []byte("\nintegrator_runs_running 0\n")) && (len(queued) == 0 || queued[0].Due.After(time.Now())) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// logIn makes a user who may call all listeners, and issues a token.
func logIn(ctx context.Context, engine *integrator.Engine) (users *auth.Service, token string, err error) {
	if users, err = engine.Auth(); err != nil {
		return nil, "", err
	}
	if err := users.Save(ctx, auth.User{Login: login, Role: auth.API, Listeners: []string{"*"}}, password); err != nil {
		return nil, "", err
	}
	token, _, err = users.Issue(ctx, login, password, "127.0.0.1:1")
	return users, token, err
}

// withEngine runs an engine while do does something with it, and returns what its store wrote.
func withEngine(dir string, retention integrator.Retention, do func(context.Context, *integrator.Engine, store.Store) error) (wrote ended, err error) {
	var syncs, journal atomic.Int64
	st, err := boltstore.Open(filepath.Join(dir, "data"), &boltstore.Options{
		OnCommit:     func(int, time.Duration) { syncs.Add(1) },
		OnCheckpoint: func(size int64, _ time.Duration) { syncs.Add(2); journal.Add(size) }, // the database's pages, then the page that makes them valid
	})
	if err != nil {
		return wrote, err
	}
	defer func() {
		err = errors.Join(err, st.Close())
		wrote = ended{syncs.Load(), journal.Load()}
	}()
	engine, err := integrator.New(integrator.Config{Store: st, Definitions: os.DirFS(filepath.Join(dir, "flows")), BaseDir: dir,
		Auth: auth.Options{TokenLife: time.Hour}, Limits: integrator.Limits{MaxQueued: 2 * manyRuns}, Retention: retention})
	if err != nil {
		return wrote, err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	over := make(chan error, 1)
	go func() { over <- engine.Run(ctx) }()
	select {
	case <-engine.Ready():
	case err := <-over:
		return wrote, err
	}
	err = do(ctx, engine, st)
	stop()
	return wrote, errors.Join(err, <-over)
}

func serve(c *control, token string, handler http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	defer server.Close()
	go server.Serve(l) // ends with the server
	if err := c.report(serving{l.Addr().String(), token}); err != nil {
		return err
	}
	c.wait()
	return nil
}

// load is a client and what it sends.
type load struct {
	url   string
	token string
	body  []byte
	check func(answer []byte) error // nil: the status says enough

	answered atomic.Int64 // calls that were answered with 200
}

// drive sends calls over a number of connections for a time, each the next one when it has its answer. It returns answers a second.
func (l *load) drive(connections int, length time.Duration) (float64, error) {
	transport := l.transport(connections)
	defer transport.CloseIdleConnections()
	before, began := l.answered.Load(), time.Now()
	var group sync.WaitGroup
	faults := make(chan error, connections)
	for range connections {
		group.Go(func() {
			for time.Since(began) < length {
				if err := l.call(transport); err != nil {
					faults <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(faults)
	if err := <-faults; err != nil {
		return 0, err
	}
	return float64(l.answered.Load()-before) / time.Since(began).Seconds(), nil
}

// transport keeps a number of connections.
func (l *load) transport(connections int) *http.Transport {
	return &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true}
}

func (l *load) call(transport *http.Transport) error {
	request, err := http.NewRequest("POST", l.url, bytes.NewReader(l.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if l.token != "" {
		request.Header.Set("Authorization", "Bearer "+l.token)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", l.url, response.Status, answer)
	}
	if l.check != nil {
		if err := l.check(answer); err != nil {
			return err
		}
	}
	l.answered.Add(1)
	return nil
}

// pair is an engine and a bare handler that answers as many bytes, both serving.
type pair struct {
	dir          string
	engine, bare *process
	toEngine     *load
	toBare       *load
}

// routes of the engine
const (
	listenerRoute = "/rest/v1/httplistener"
	tokenRoute    = "/rest/v1/token-auth/issue"
)

// startEngine starts an engine, and returns it with a load of calls of a path.
func (c *config) startEngine(dir, path string, body []byte, with ...string) (*process, *load, error) {
	p, err := c.start("engine", append([]string{dir, called}, with...)...)
	if err != nil {
		return nil, nil, err
	}
	var at serving
	if err := p.read(&at); err != nil {
		return nil, nil, err
	}
	return p, &load{url: "http://" + at.Addr + path, token: at.Token, body: body}, nil
}

// startPair starts both, over definitions; the calls are of a path.
func (c *config) startPair(dir, definitions, path string, body []byte) (p *pair, err error) {
	if err := write(filepath.Join(dir, "flows", "flows.yaml"), []byte(definitions)); err != nil {
		return nil, err
	}
	p = &pair{dir: dir}
	if p.engine, p.toEngine, err = c.startEngine(dir, path, body); err != nil {
		return nil, err
	}
	var at serving
	size := 0
	p.toEngine.check = func(answer []byte) error { size = len(answer); return nil }
	if err := p.toEngine.call(&http.Transport{DisableKeepAlives: true}); err != nil {
		return nil, errors.Join(err, p.engine.stop())
	}
	p.toEngine.check = nil
	if p.bare, err = c.start("bare", strconv.Itoa(size)); err != nil {
		return nil, errors.Join(err, p.engine.stop())
	}
	if err := p.bare.read(&at); err != nil {
		return nil, errors.Join(err, p.engine.stop())
	}
	p.toBare = &load{url: "http://" + at.Addr + "/", body: body}
	return p, nil
}

// compare measures bare, engine, bare over a number of connections.
func (p *pair) compare(c *config, connections int, goal float64) error {
	over := func(l *load) func() (float64, error) {
		return func() (float64, error) { return l.drive(connections, c.length) }
	}
	before := [2]float64{p.engine.processor(), p.bare.processor()} // what a start takes is no call's
	all, err := alternate(c.rounds, side{"bare handler", over(p.toBare)}, side{"engine", over(p.toEngine)}, side{"bare handler again", over(p.toBare)})
	if err != nil {
		return err
	}
	tell("bare handler", all[0], "calls/s")
	tell("engine", all[1], "calls/s")
	judge("engine / bare handler", all[1].over(mean(all[0], all[2])), "", atLeast(goal))
	tell("control: bare handler / bare handler", all[2].over(all[0]), "")
	work := func(before float64, p *process, l *load) float64 {
		return (p.processor() - before) / float64(l.answered.Load()) * 1e6
	}
	row("processor time of a call, engine and bare handler", fmt.Sprintf("%.1f and %.1f µs", work(before[0], p.engine, p.toEngine), work(before[1], p.bare, p.toBare)))
	row("peak memory of engine and bare handler", fmt.Sprintf("%.0f and %.0f MiB", p.engine.memory("VmHWM"), p.bare.memory("VmHWM")))
	return nil
}

// stop ends both. It returns what the engine's store wrote.
func (p *pair) stop() (wrote ended, err error) {
	wrote, err = p.engine.end()
	return wrote, errors.Join(err, p.bare.stop())
}

// payload is an order as JSON, of about a size in bytes: ten fields and a nested list.
func payload(size int) []byte {
	type line struct {
		SKU   string  `json:"sku"`
		Qty   int     `json:"qty"`
		Price float64 `json:"price"`
	}
	order := struct {
		ID       int    `json:"id"`
		Customer string `json:"customer"`
		City     string `json:"city"`
		Country  string `json:"country"`
		Currency string `json:"currency"`
		Date     string `json:"date"`
		Status   string `json:"status"`
		Priority int    `json:"priority"`
		Note     string `json:"note"`
		Lines    []line `json:"lines"`
	}{4711, "Ada Lovelace", "London", "GB", "GBP", "2026-03-04", "open", 3, "leave at the \"back\" door", nil}
	for i := 0; ; i++ {
		order.Lines = append(order.Lines, line{fmt.Sprintf("A-%06d", i*7919), i%9 + 1, float64(i*125%10000) / 100})
		if text, err := json.Marshal(order); err != nil || len(text) >= size-20 {
			return text
		}
	}
}

// write writes a file, making its folder.
func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o640)
}
