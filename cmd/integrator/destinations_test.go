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
	"sync"
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
		connector.Noter
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
	return &lossyPart{Part: p, Undoer: p.(connector.Undoer), Noter: p.(connector.Noter)}, nil
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

func (p *lossyPart) Checkpoint(c connector.Checkpoint) error {
	if err := p.Part.Checkpoint(c); err != nil || !p.first {
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

// TestMadeTables lets destinations make their tables: columns are of the kinds of the map's values, and a key that many rows have is an index.
func TestMadeTables(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", strings.ReplaceAll(fmt.Sprintf(ordersYAML, "sql"), "action: ", "create: true, action: "))
	s.sent(`{"id": 1}`, "success 1 1 0") // an order without lines makes no table of lines
	s.sent(`{"id": 2, "customer": {"email": "a@b"}, "date": "2026-02-01", "lines": [{"sku": "x", "qty": 3, "price": 0.1}, {"sku": "y", "qty": 1.5, "price": 2}]}`, "success 1 1 0")
	s.sent(`{"id": 2, "lines": [{"sku": "x", "qty": 1, "price": 1}]}`, "success 1 1 0")
	s.want(allLines, "2 1 x 1 1")
	s.want("select name, lower(type), pk from pragma_table_info('order_lines')", "order_id numeric 0", "line numeric 0", "sku text 0", "qty numeric 0", "price numeric 0")
	s.want("select name, lower(type), pk from pragma_table_info('orders')", "id numeric 1", "customer text 0", "ordered_at text 0", "net numeric 0")
	s.want("select l.name, l.\"unique\", i.name from pragma_index_list('order_lines') l, pragma_index_info(l.name) i", "order_lines_by_order_id 0 order_id")
}

// TestRouting sends records to some destinations and not to others.
func TestRouting(t *testing.T) {
	t.Parallel()
	s := newShop(t, "create table small (n integer); create table large (n integer check (n <> 66)); create table parts (id integer, n integer, list text)", `
connections: {db: {type: sql, driver: sqlite, path: shop.db}, out: {type: file, dir: out}}
listeners: {orders: {path: /orders, format: json}}
flows:
  route:
    from: {listener: orders, records: "[*]"}
    steps: [{filter: "n != 0"}]
    to:
      - {connection: db, table: small, when: "n < 10", map: {n: n}}
      - {connection: db, table: large, when: "n >= 50", map: {n: n}}
      - {connection: out, path: "${run.id}.ndjson", format: ndjson, when: "even", map: {even: n}}
      - {connection: db, table: parts, each: "parts[*]", when: "this > parent.n", map: {id: parent.n, n: this, list: "= len(list(parent.parts))"}}
    on_reject: keep
`)
	run := s.sent(`[{"n": 0}, {"n": 1}, {"n": 20}, {"n": 66}, {"n": 4, "even": true}, {"n": 30, "even": true, "parts": [1, 31, 32]}, {"n": 31, "parts": 40}, {"n": 70},
		{"n": 41, "parts": [1]}, {"n": "many"}]`, "warning 10 5 2")
	s.want("select * from small order by n", "1", "4")
	s.want("select * from large order by n", "70")
	s.want("select * from parts order by id, n", "30 31 3", "30 32 3", "31 40 1")
	if d := cmp.Diff([]string{`{"even":4}` + "\n" + `{"even":30}` + "\n"}, s.files()); d != "" {
		t.Error(d)
	}
	for _, line := range []string{"db (insert small): 2 records", "db (insert large): 1 records", "db (insert parts): 3 records", "no destination took: 2 records"} {
		if log := s.log(run); !strings.Contains(log, line) {
			t.Errorf("the log does not say %q:\n%s", line, log)
		}
	}
}

// TestActionOfARecord lets each record say what becomes of its row.
func TestActionOfARecord(t *testing.T) {
	t.Parallel()
	s := newShop(t, "create table stock (sku text primary key, qty integer); insert into stock values ('a', 1), ('b', 2), ('c', 3)", `
connections: {db: {type: sql, driver: sqlite, path: shop.db}}
listeners: {orders: {path: /orders, format: json}}
flows:
  apply:
    from: {listener: orders, records: "[*]"}
    to: {connection: db, table: stock, key: [sku], action: "= op == 'D' ? 'delete' : op ?? 'upsert'", map: {sku: sku, qty: qty}}
    on_reject: keep
`)
	s.sent(`[{"sku": "a", "qty": 10}, {"op": "D", "sku": "b"}, {"op": "insert", "sku": "b", "qty": 20}, {"op": "insert", "sku": "c", "qty": 30}, {"op": "update", "sku": "a", "qty": 11},
		{"sku": "d", "qty": 40}, {"op": "D", "sku": "d"}, {"op": "replace", "sku": "c", "qty": 31}, {"op": "merge", "sku": "e"}, {"op": 7, "sku": "e"}, {"sku": "f", "qty": 1}]`, "warning 11 8 3")
	s.want("select * from stock order by sku", "a 11", "b 20", "c 31", "f 1")
	s.want("select count(*) from stock where sku = 'e'", "0")
}

// TestElementsInFiles writes a row for each element to files, where no header is repeated, and none for a record without elements.
func TestElementsInFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", `
connections: {out: {type: file, dir: out}}
listeners: {orders: {path: /orders, format: {type: xml, records: /orders/order}}}
flows:
  lines:
    from: {listener: orders}
    to:
      - {connection: out, path: "a-${run.number}.csv", format: csv, each: "line[*]", map: {order: "parent.@id", line: "= index + 1", sku: sku, note: "= upper(note)", of: doc.orders.shop}}
      - {connection: out, path: "b-${run.number}.ndjson", format: ndjson, each: "= filter(list(line), .qty > 1)"}
    on_reject: keep
`)
	s.sent(`<orders><shop>north</shop><order id="1"><line><sku>x</sku><qty>1</qty></line><line><sku>y</sku><qty>2</qty><note>n</note></line></order><order id="2"/>
		<order id="3"><line><sku>z</sku><qty>3</qty></line></order><order id="4"><line><sku>x</sku></line><line><note><b/></note></line></order></orders>`, "warning 4 2 1")
	want := []string{"order,line,sku,note,of\n1,1,x,,north\n1,2,y,N,north\n3,1,z,,north\n", `{"sku":"y","qty":"2","note":"n"}` + "\n" + `{"sku":"z","qty":"3"}` + "\n"}
	if d := cmp.Diff(want, s.files()); d != "" {
		t.Error(d)
	}
}

// TestDryRunOfOrders shows the rows that destinations would get, and touches none that are there.
func TestDryRunOfOrders(t *testing.T) {
	t.Parallel()
	definitions := strings.Replace(fmt.Sprintf(ordersYAML, "sql"), "    retry:", `      - {connection: db, table: log, key: [id], action: "= customer == nil ? 'delete' : 'upsert'", map: {id: id}}
    retry:`, 1)
	s := newShop(t, ordersTables+"; create table log (id integer primary key)", definitions)
	for body, want := range map[string]string{
		`{"id": 1, "customer": {"email": "a@b"}, "lines": [{"sku": "x", "qty": 3, "price": 0.1}, {"sku": "y", "qty": 1, "price": 2.50}]}`: `orders 1 [{"id":1,"customer":"a@b","ordered_at":null,"net":2.8}], ` +
			`order_lines 2 [{"order_id":1,"line":1,"sku":"x","qty":3,"price":0.1} {"order_id":1,"line":2,"sku":"y","qty":1,"price":2.50}], log 1 [{"id":1}]`,
		`{"id": 9}`: `orders 1 [{"id":9,"customer":null,"ordered_at":null,"net":0}], order_lines 0 [], log 1 [{"id":9}]`,
	} {
		run := s.sent(body, "success 1 1 0")
		s.exec("delete from orders; delete from order_lines; insert into order_lines values (9, 1, 'old', 1, 1)")
		previews, err := s.engine.DryReplay(t.Context(), run.Message)
		if err != nil || len(previews) != 1 {
			t.Fatal(previews, err)
		}
		var got []string
		for _, d := range previews[0].Destinations {
			got = append(got, fmt.Sprintf("%s %d %s", d.Where, d.Records, d.First))
		}
		if d := cmp.Diff(want, strings.Join(got, ", ")); d != "" {
			t.Error(d)
		}
		s.want(allLines, "9 1 old 1 1")
	}
}

// TestMapsOfDestinations has maps that pass the rest of a record or of an element, and that make lists of their own.
func TestMapsOfDestinations(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", `
connections: {out: {type: file, dir: out}}
listeners: {orders: {path: /orders, format: json}}
flows:
  lines:
    from: {listener: orders}
    to:
      - {connection: out, path: a.ndjson, format: ndjson, map: {number: id, "*": "*", skus: "lines[*].sku", first: {sku: "lines[0].sku", of: id}}}
      - {connection: out, path: b.ndjson, format: ndjson, each: "lines[*]", map: {order: parent.id, "*": "*", tags: {each: "tags[*]", map: {tag: this, of: parent.sku, at: index}}}}
      - {connection: out, path: c.ndjson, format: ndjson, each: "= first(sortBy(lines, .sku))", map: {order: parent.id, least: sku}}
`)
	s.sent(`{"id": 7, "by": "a@b", "lines": [{"sku": "y", "qty": 1, "tags": ["new", "red"]}, {"sku": "x", "qty": 2, "tags": []}]}`, "success 1 1 0")
	want := []string{`{"number":7,"by":"a@b","skus":["y","x"],"first":{"sku":"y","of":7}}` + "\n",
		`{"order":7,"sku":"y","qty":1,"tags":[{"tag":"new","of":"y","at":0},{"tag":"red","of":"y","at":1}]}` + "\n" + `{"order":7,"sku":"x","qty":2,"tags":[]}` + "\n",
		`{"order":7,"least":"x"}` + "\n"}
	if d := cmp.Diff(want, s.files()); d != "" {
		t.Error(d)
	}
}

// rejectsYAML loads numbers, and sends what is rejected on: %[1]s is the kind of the connection that is loaded, %[2]s where the rejects go,
// %[3]s the kind of another database, %[4]s further keys.
const rejectsYAML = `
connections:
  db:    {type: %[1]s, driver: sqlite, path: shop.db}
  out:   {type: file, dir: out}
  other: {type: %[3]s, driver: sqlite, path: other.db}
listeners: {orders: {path: /orders, format: json}}
flows:
  load:
    from: {listener: orders, records: "list[*]"}
    steps: [{reject: {when: "n in [3, 13]", reason: unlucky}}]
    to: {connection: db, table: numbers, map: {n: n}%[4]s}
    on_reject: {action: keep, max: 3, to: %[2]s}
    retry: {backoff: 1ms}
`

const (
	someNumbers = `{"of": "north", "list": [{"n": 1}, {"n": 3}, {"n": "x", "note": {"a": "=1"}}, {"n": 7}, {"n": 13}]}`
	numbers     = "select * from numbers order by n"
)

// TestRejectsGoOn sends rejected records to destinations of all kinds. They are there once, also when an answer to a commit was lost in between, and none are where a run has
// rejected nothing, or has failed.
func TestRejectsGoOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to     string
		commit string
		files  []string
		query  string
		rows   []string
	}{
		"csv": {to: `{connection: out, path: "rejects-${run.number}.csv", format: {type: csv, formula: escape}}`,
			files: []string{"n,note,_record,_line,_step,_field,_reason\n3,,2,1,step 1 (reject),\"\",unlucky\n13,,5,1,step 1 (reject),\"\",unlucky\nx,\"{\"\"a\"\":\"\"=1\"\"}\",3,1,db,n,\"a whole number is expected here, this is text\"\n"}},
		"ndjson": {to: `{connection: out, path: "rejects.ndjson", exists: append, format: ndjson, map: {n: n, why: _reason, of: doc.of}, when: "_step != 'db'"}`,
			files: []string{`{"n":3,"why":"unlucky","of":"north"}` + "\n" + `{"n":13,"why":"unlucky","of":"north"}` + "\n"}},
		"the same database": {to: `{connection: db, table: rejects, create: true, map: {run: run.number, n: n, record: _record, step: _step, field: _field}}`, query: "select * from rejects",
			rows: []string{"1 3 2 step 1 (reject) ", "1 13 5 step 1 (reject) ", "1 x 3 db n"}},
		"all fields of all": {to: `{connection: db, table: rejects, create: true}`, query: "select n, note, _record from rejects", rows: []string{"3 - 2", "13 - 5", `x {"a":"=1"} 3`}},
		"the same database, with the last part": {to: `{connection: db, table: rejects, create: true, map: {n: n}}`, commit: ", commit: 10", query: "select * from rejects",
			rows: []string{"3", "13", "x"}},
		"a file, after the last part": {to: `{connection: out, path: a.ndjson, format: ndjson, map: {n: n}}`, commit: ", commit: 4", files: []string{`{"n":3}` + "\n" + `{"n":"x"}` + "\n" + `{"n":13}` + "\n"}},
		"another database": {to: `{connection: other, table: rejects, create: true, map: {n: n, record: _record}}`, query: "select * from other.rejects",
			rows: []string{"3 2", "13 5", "x 3"}},
	} {
		for kind, other := range map[string]string{"sql": "lossy", "lossy": "sql"} {
			t.Run(name+" of "+kind, func(t *testing.T) {
				t.Parallel()
				s := newShop(t, "create table numbers (n integer check (n <> 100))", fmt.Sprintf(rejectsYAML, kind, c.to, other, c.commit))
				s.exec("attach '" + filepath.Join(s.dir, "other.db") + "' as other")
				s.db.SetMaxOpenConns(1) // the one that has attached it
				run := s.sent(someNumbers, "warning 5 2 3")
				if log := s.log(run); !strings.Contains(log, "rejected by db: 1 records") || !strings.Contains(log, "rejected by step 1 (reject): 2 records") {
					t.Errorf("the log does not tell of the rejects:\n%s", log)
				}
				check := func() {
					t.Helper()
					s.want(numbers, "1", "7")
					if d := cmp.Diff(c.files, s.files()); d != "" {
						t.Error(d)
					}
					if c.query != "" {
						s.want(c.query, c.rows...)
					}
				}
				check()
				s.sent(`{"list": [{"n": 3}, {"n": 3}, {"n": 3}, {"n": 3}]}`, "error 4 0 4")
				s.sent(`{"list": []}`, "success 0 0 0")
				check()
			})
		}
	}
}

// TestPartsOfOrders commits orders with their lines in parts: an order is never cut in two, and a run whose connection is lost goes on behind what is committed.
func TestPartsOfOrders(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sql", "lossy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			definitions := strings.NewReplacer("from: {listener: orders}", `from: {listener: orders, records: "[*]"}`, "table: orders, ", `table: orders, commit: 3, when: "id != 8", `,
				"map: {order_id", `when: "(sku ?? '') != 'none'", map: {order_id`, "retry: {", `on_reject: {action: keep, to: {connection: db, table: rejects, create: true, map: {id: id, reason: _reason}}}
    retry: {`).Replace(fmt.Sprintf(ordersYAML, kind))
			s := newShop(t, ordersTables, definitions)
			var orders []string
			for id := range 8 {
				lines := []string{}
				for line := range 4 * (id % 3) {
					lines = append(lines, fmt.Sprintf(`{"sku": "%d.%d", "qty": 1, "price": 2}`, id, line))
				}
				orders = append(orders, fmt.Sprintf(`{"id": %d, "lines": [%s]}`, id, strings.Join(lines, ", ")))
			}
			orders[4] = `{"id": 4, "lines": [{"sku": "4.0", "qty": 1, "price": 1}, {"sku": null, "qty": 1, "price": 1}]}`
			orders = append(orders, `{"id": 8, "lines": [{"qty": 1}, {"sku": "b"}]}`, `{"id": 8, "lines": []}`, `{"id": 5, "lines": [{"sku": "again", "qty": 1, "price": 3}, {"sku": "none", "qty": 0, "price": 3}]}`)
			s.sent("["+strings.Join(orders, ",")+"]", "warning 11 9 2")
			s.want("select id, net from orders order by id", "0 0", "1 8", "2 16", "3 0", "5 3", "6 0", "7 8", "9 1")
			s.want("select order_id, count(*), min(sku), max(line) from order_lines group by order_id", "1 4 1.0 4", "2 8 2.0 8", "5 1 again 1", "7 4 7.0 4", "9 1 old 1")
			const forbidden = "a rule of the database forbids this row"
			s.want("select id, reason from rejects", "4 element 2 of lines[*]: "+forbidden, "8 element 1 of lines[*]: "+forbidden)
			s.want("select records from integrator_parts order by records", "3", "6", "9")
		})
	}
}

// TestAllRowsOfARecordOrNone rejects rows of records: no other row of theirs is anywhere on the connection, whoever was at fault.
func TestAllRowsOfARecordOrNone(t *testing.T) {
	t.Parallel()
	const head = "{connection: db, table: heads, map: {id: id}}, "
	for name, to := range map[string]string{
		"the database, of one destination": `[{connection: db, table: rows, each: "list[*]", map: {id: parent.id, n: this}}]`,
		"the map":                          "[" + head + `{connection: db, table: rows, each: "list[*]", map: {id: parent.id, n: "= this == 99 ? len(this) : this"}}]`,
		"the condition":                    "[" + head + `{connection: db, table: rows, each: "list[*]", when: "this == 99 ? len(this) > 0 : true", map: {id: parent.id, n: this}}]`,
		"the action":                       "[" + head + `{connection: db, table: rows, each: "list[*]", key: id, action: "= this == 99 ? 'none' : 'insert'", map: {id: parent.id, n: this}}]`,
		"the list":                         "[" + head + `{connection: db, table: rows, each: "= any(list, # == 99) ? list(len(1)) : list", map: {id: parent.id, n: this}}]`,
		"another destination":              `[{connection: db, table: rows, each: "list[*]", map: {id: parent.id, n: this}}, {connection: db, table: rows, when: "id == 2", map: {id: id, n: "= 99"}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "create table rows (id integer, n integer check (n <> 99)); create table heads (id integer)", `
connections: {db: {type: sql, driver: sqlite, path: shop.db}}
listeners: {orders: {path: /orders, format: json}}
flows: {load: {from: {listener: orders, records: "[*]"}, on_reject: keep, to: `+to+"}}")
			s.sent(`[{"id": 1, "list": [1, 2]}, {"id": 2, "list": [3, 99, 4]}, {"id": 3, "list": [5]}]`, "warning 3 2 1")
			s.want("select * from rows order by n", "1 1", "1 2", "3 5")
			if strings.Contains(to, "heads") {
				s.want("select * from heads order by id", "1", "3")
			}
		})
	}
}

// TestUntakenAfterAll counts the records that no destination took, whatever an earlier attempt has written of the others.
func TestUntakenAfterAll(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]string{"a part": ", commit: 4", "the whole": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "create table small (n integer)", `
connections: {db: {type: lossy, driver: sqlite, path: shop.db}}
listeners: {orders: {path: /orders, format: json}}
flows: {load: {from: {listener: orders, records: "[*]"}, to: {connection: db, table: small, when: "n < 3"`+commit+`}, retry: {backoff: 1ms}}}
`)
			run := s.sent(`[{"n": 1}, {"n": 3}, {"n": 4}, {"n": 2}, {"n": 5}, {"n": 0}]`, "success 6 3 0")
			if log := s.log(run); run.Attempts != 2 || !strings.Contains(log, "no destination took: 3 records") {
				t.Errorf("attempt %d:\n%s", run.Attempts, log)
			}
			s.want("select * from small order by n", "0", "1", "2")
		})
	}
}

// TestRejectsBesideFiles sends rejected records to the folder that the others go to, also where the flow has no other destination and where a record cannot be
// written there.
func TestRejectsBesideFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to, rejects, ends string
		files             []string
	}{
		"a file beside another": {`to: {connection: out, path: "a.ndjson", exists: append, format: ndjson}, `, `{connection: out, path: "b.ndjson", exists: append, format: ndjson, map: {n: n}}`,
			"warning 3 2 1", []string{`{"n":1}` + "\n" + `{"n":2}` + "\n", `{"n":"x"}` + "\n"}},
		"a file alone": {``, `{connection: out, path: "b.ndjson", format: ndjson, map: {n: n, at: _record}}`, "warning 3 2 1", []string{`{"n":"x","at":2}` + "\n"}},
		"refused": {`to: {connection: out, path: "a.ndjson", format: ndjson}, `, `{connection: out, path: "b.csv", format: csv, map: {n: {a: 1}, why: "= len(1)"}}`,
			"error 3 0 1", nil},
		"no such table": {`to: {connection: out, path: "a.ndjson", format: ndjson}, `, `{connection: db, table: nowhere}`, "error 3 0 1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "", `
connections: {out: {type: file, dir: out}, db: {type: sql, driver: sqlite, path: shop.db}}
listeners: {orders: {path: /orders, format: json}}
flows: {load: {from: {listener: orders, records: "[*]"}, steps: [{reject: {when: "n == 'x'", reason: no number}}], `+c.to+"on_reject: {action: keep, to: "+c.rejects+"}}}")
			run := s.sent(`[{"n": 1}, {"n": "x"}, {"n": 2}]`, c.ends)
			if run.Status == store.Error && !strings.HasPrefix(run.Exception, `flow "load": on_reject.to`) {
				t.Errorf("exception:\n%s", run.Exception)
			}
			if d := cmp.Diff(c.files, s.files()); d != "" {
				t.Error(d)
			}
		})
	}
}

const killedOrders = `
connections: {db: {type: sql, driver: sqlite, path: warehouse.db}, out: {type: file, dir: out}}
listeners: {orders: {path: /orders, format: json}}
flows:
  load-a:
    from: {listener: orders, records: "[*]"}
    to:                                                                                  # insert without a key: twice would show
      - {connection: db, table: heads_a, map: {id: id}}
      - {connection: db, table: lines_a, each: "lines[*]", action: replace, key: [id], map: {id: parent.id, n: this}}
    on_reject: {action: keep, to: {connection: db, table: rejects_a, map: {id: id}}}
  load-b:
    from: {listener: orders, records: "[*]"}
    to:
      - {connection: db, table: heads_b, map: {id: id}}
      - {connection: db, table: lines_b, each: "lines[*]", action: replace, key: [id], map: {id: parent.id, n: this}}
    on_reject: {action: keep, to: {connection: out, path: rejects.ndjson, exists: append, format: ndjson, map: {id: id}}}
users: {shop: {role: operator, password: "${secret.SHOP}"}}
`

// TestKilledInOrders kills the server while it loads orders with their lines, one of each payload with a line at fault. In the end every other order is there once with all
// of its lines, and those at fault are where the rejects go, once each.
func TestKilledInOrders(t *testing.T) {
	t.Parallel()
	const payloads, orders, clients, kills = 80, 4, 4, 2 // with three a run that is at work each time would be given up
	s := newVictim(t, killedOrders)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "warehouse.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, x := range []string{"a", "b"} {
		if _, err := db.Exec(strings.ReplaceAll("create table heads_x (id integer); create table lines_x (id integer, n integer check (n <> 99)); create table rejects_x (id integer)", "_x", "_"+x)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(query string) (n int) {
		t.Helper()
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.start()
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for p := client; p < payloads; p += clients {
				var text []string
				for o := range orders {
					last := 3
					if o == p%orders {
						last = 99
					}
					text = append(text, fmt.Sprintf(`{"id": %d, "lines": [1, 2, %d]}`, p*orders+o, last))
				}
				s.send(fmt.Sprint(p), "["+strings.Join(text, ",")+"]")
			}
		})
	}
	for kill := range kills {
		for want := (kill + 1) * payloads * (orders - 1) / (kills + 1); count("select count(*) from heads_a") < want; {
		}
		s.kill()
		s.start()
	}
	group.Wait()
	for ended := 0; ended < 2*payloads; {
		status, answer, err := s.call("GET", "/rest/v1/runs?limit=1000", "", "")
		var page struct {
			Runs []struct {
				Status, Exception       string
				Read, Written, Rejected int
			}
		}
		if err != nil || status != http.StatusOK || json.Unmarshal(answer, &page) != nil {
			t.Fatalf("history: %d %s %v", status, answer, err)
		}
		ended = 0
		for _, run := range page.Runs {
			switch {
			case run.Status == "queued" || run.Status == "running":
				continue
			case run.Status != "warning" || run.Read != orders || run.Written != orders-1 || run.Rejected != 1:
				t.Fatalf("a run: %+v", run)
			}
			ended++
		}
	}
	for _, x := range []string{"a", "b"} {
		const good = payloads * (orders - 1)
		for query, want := range map[string]int{"select count(*) from heads_x": good, "select count(distinct id) from heads_x": good, "select count(*) from lines_x": 3 * good,
			"select count(*) from (select id, n from lines_x intersect select id, n from heads_x, (select 1 n union select 2 union select 3))": 3 * good} {
			if got := count(strings.ReplaceAll(query, "_x", "_"+x)); got != want {
				t.Errorf("%s of %s is %d, want %d", query, x, got, want)
			}
		}
	}
	if rows, different := count("select count(*) from rejects_a"), count("select count(distinct id) from rejects_a"); rows != payloads || different != payloads {
		t.Errorf("the table of rejects has %d rows, %d of them different, want %d", rows, different, payloads)
	}
	file, err := os.ReadFile(filepath.Join(s.dir, "out", "rejects.ndjson"))
	different := map[string]bool{}
	for line := range strings.Lines(string(file)) {
		different[line] = true
	}
	if err != nil || strings.Count(string(file), "\n") != payloads || len(different) != payloads {
		t.Errorf("the file of rejects has %d lines, %d of them different, want %d (%v)", strings.Count(string(file), "\n"), len(different), payloads, err)
	}
	s.stop()
}
