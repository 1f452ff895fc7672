package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// shop is an engine whose listener `orders` takes payloads, with a database beside it.
type shop struct {
	t       *testing.T
	dir     string
	engine  *integrator.Engine
	db      *sql.DB
	token   string
	settled chan store.Run
}

// newShop starts an engine over definitions, after the database has what tables makes.
func newShop(t *testing.T, tables, definitions string) *shop {
	t.Helper()
	s := &shop{t: t, dir: t.TempDir(), settled: make(chan store.Run, 100)}
	var err error
	if s.db, err = sql.Open("sqlite", "file:"+filepath.Join(s.dir, "shop.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.exec(tables)
	s.engine, err = integrator.New(integrator.Config{Store: memstore.New(), BaseDir: s.dir, Drivers: []sqldb.Driver{sqlite.Driver()}, Connectors: []connector.Kind{lossy},
		Definitions: fstest.MapFS{"shop.yaml": {Data: []byte(definitions)}, "ops.yaml": {Data: []byte("users: {ops: {role: admin, password: a long password}}")}},
		Logger:      slog.New(slog.DiscardHandler), Observer: flow.ObserverFunc(func(e flow.Event) {
			if e, ok := e.(flow.Settled); ok && e.Run.Status.Settled() {
				s.settled <- e.Run
			}
		})})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(context.Background()) }()
	t.Cleanup(func() {
		s.engine.Close()
		if err := <-done; err != nil {
			t.Errorf("the engine ended with: %v", err)
		}
	})
	select {
	case <-s.engine.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	var answer struct{ Token string }
	if err := json.Unmarshal(s.call("POST", "/rest/v1/token-auth/issue", `{"login": "ops", "password": "a long password"}`), &answer); err != nil {
		t.Fatal(err)
	}
	s.token = answer.Token
	return s
}

func (s *shop) call(method, path, body string) []byte {
	s.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+s.token)
	answer := httptest.NewRecorder()
	s.engine.Handler().ServeHTTP(answer, request)
	if answer.Code >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
	return answer.Body.Bytes()
}

// send sends a payload to the listener `orders`, and waits until its run has ended.
func (s *shop) send(body string) store.Run {
	s.t.Helper()
	s.call(http.MethodPost, "/plugins/schedules/rest/v1/httplistener/orders", body)
	return <-s.settled
}

// sent checks how a payload ends: "status read written rejected".
func (s *shop) sent(body, want string) store.Run {
	s.t.Helper()
	run := s.send(body)
	if got := fmt.Sprint(run.Status, " ", run.Read, " ", run.Written, " ", run.Rejected); got != want {
		s.t.Errorf("%s\nends in %s, expected %s\n%s\n%s", body, got, want, run.Exception, s.log(run))
	}
	return run
}

func (s *shop) log(run store.Run) string {
	s.t.Helper()
	log, err := s.engine.RunLog(s.t.Context(), run.Number)
	if err != nil {
		s.t.Fatal(err)
	}
	return log
}

func (s *shop) exec(text string) {
	s.t.Helper()
	if _, err := s.db.Exec(text); err != nil {
		s.t.Fatal(err)
	}
}

// want checks what a query finds, a row each, its values with blanks between them.
func (s *shop) want(query string, want ...string) {
	s.t.Helper()
	rows, err := s.db.Query(query)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	got := []string{}
	for rows.Next() {
		cells, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range cells {
			targets[i] = &cells[i]
		}
		if err := rows.Scan(targets...); err != nil {
			s.t.Fatal(err)
		}
		var line []string
		for _, cell := range cells {
			if !cell.Valid {
				cell.String = "-"
			}
			line = append(line, cell.String)
		}
		got = append(got, strings.Join(line, " "))
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		s.t.Errorf("%s (-expected +found):\n%s", query, d)
	}
}

// files returns the files of the folder out, by what they hold.
func (s *shop) files() []string {
	s.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(s.dir, "out", "[^.]*"))
	var all []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// lossy is a database whose first commit of each run is made, and then told as a connection that was lost: as if the engine had crashed in between.
var lossy = connector.Kind{Name: "lossy", New: func(env connector.Env, decode func(any) error) (connector.Connection, error) {
	c, err := sqldb.Kind(sqlite.Driver()).New(env, decode)
	if err != nil {
		return nil, err
	}
	return lossyConnection{c.(connector.Destination)}, nil
}}

type (
	lossyConnection struct{ connector.Destination }
	lossyWriter     struct{ connector.PartWriter }
	lossyPart       struct {
		connector.Part
		connector.Undoer
		first bool
	}
)

func (c lossyConnection) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	w, err := c.Destination.PrepareWrite(targets)
	if err != nil {
		return nil, err
	}
	return lossyWriter{w.(connector.PartWriter)}, nil
}

func (w lossyWriter) Begin(ctx context.Context) (connector.Work, error) { return w.BeginPart(ctx) }

func (w lossyWriter) BeginPart(ctx context.Context) (connector.Part, error) {
	p, err := w.PartWriter.BeginPart(ctx)
	if err != nil {
		return nil, err
	}
	return &lossyPart{Part: p, Undoer: p.(connector.Undoer)}, nil
}

var errLost = errors.New("the connection was lost")

func (p *lossyPart) Start(run connector.Run, paths []string) (bool, error) {
	p.first = run.Attempt == 1
	return p.Part.Start(run, paths)
}

func (p *lossyPart) Commit() error {
	if err := p.Part.Commit(); err != nil || !p.first {
		return err
	}
	return errLost
}

func (p *lossyPart) Write(target int, b *transform.Batch) error { return p.Part.Write(target, b) }
func (p *lossyPart) Rollback() error                            { return p.Part.Rollback() }

const ordersTables = `
create table orders (id integer primary key, customer text, ordered_at text, net decimal(12, 2) check (net < 1000));
create table order_lines (order_id integer, line integer, sku text not null, qty integer, price decimal(12, 2), primary key (order_id, line));
insert into orders values (9, 'old', '2026-01-01', 1);
insert into order_lines values (9, 1, 'old', 1, 1)`

// ordersYAML is the first of the eight jobs, but for the driver.
const ordersYAML = `
connections: {db: {type: %s, driver: sqlite, path: shop.db}}
listeners: {orders: {path: /orders, format: json}}
flows:
  load-order:                        # 1: header and lines; no ` + "`records`" + `: the document is the record; one connection = one transaction, in this order
    from: {listener: orders}
    to:
      - {connection: db, table: orders, action: upsert, key: [id], map: {id: id, customer: customer.email, ordered_at: date, net: "= sum(lines, .qty * .price)"}}
      - {connection: db, table: order_lines, each: "lines[*]", action: replace, key: [order_id], map: {order_id: parent.id, line: "= index + 1", sku: sku, qty: qty, price: price}}
    retry: {backoff: 1ms}
`

const (
	allOrders = "select * from orders order by id"
	allLines  = "select * from order_lines order by order_id, line"
)

// TestHeaderAndLines delivers orders again and again: a header is never without its lines, nor lines without their header.
func TestHeaderAndLines(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sql", "lossy"} { // a lost answer changes nothing
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, ordersTables, fmt.Sprintf(ordersYAML, kind))
			oldOrder, oldLine := "9 old 2026-01-01 1", "9 1 old 1 1"
			for range 2 {
				s.sent(`{"id": 1, "customer": {"email": "a@b"}, "date": "2026-02-01", "lines": [{"sku": "x", "qty": 3, "price": 0.1}, {"sku": "y", "qty": 1, "price": 2.50}]}`, "success 1 1 0")
				s.want(allOrders, "1 a@b 2026-02-01 2.8", oldOrder)
				s.want(allLines, "1 1 x 3 0.1", "1 2 y 1 2.5", oldLine)
			}
			// Fewer lines than before, and one line that is no list.
			s.sent(`{"id": 1, "customer": {"email": "c@d"}, "date": "2026-02-02", "lines": {"sku": "z", "qty": 2, "price": 1}}`, "success 1 1 0")
			s.want(allOrders, "1 c@d 2026-02-02 2", oldOrder)
			s.want(allLines, "1 1 z 2 1", oldLine)
			// A line at fault in the last place, in its type, in the table's rules, and a header at fault: nothing of it stays.
			for _, bad := range []string{
				`{"id": 1, "lines": [{"sku": "n", "qty": 1, "price": 1}, {"sku": "m", "qty": "many", "price": 1}]}`,
				`{"id": 1, "lines": [{"sku": "n", "qty": 1, "price": 1}, {"qty": 1, "price": 1}]}`,
				`{"id": 1, "lines": [{"sku": "n", "qty": 1000, "price": 1}]}`,
				`{"id": null, "lines": [{"sku": "n", "qty": 1, "price": 1}]}`,
			} {
				run := s.sent(bad, "error 1 0 1")
				if run.Kind != flow.KindInput && run.Kind != flow.KindRefused {
					t.Errorf("%s: kind %s", bad, run.Kind)
				}
				s.want(allOrders, "1 c@d 2026-02-02 2", oldOrder)
				s.want(allLines, "1 1 z 2 1", oldLine)
			}
			// No lines any more, in both of the ways to say so.
			s.sent(`{"id": 1, "customer": {"email": "c@d"}, "lines": []}`, "success 1 1 0")
			s.sent(`{"id": 9}`, "success 1 1 0")
			s.want(allLines)
			s.want(allOrders, "1 c@d - 0", "9 - - 0")
			s.want("select count(*), count(distinct run_id) from integrator_runs", "5 5")
		})
	}
}
