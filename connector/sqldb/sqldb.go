// Package sqldb reads from and writes to SQL databases. A [Driver] is a value that a host lists in integrator.Config.Drivers; connector/sqldb/sqlite
// and its siblings return one. [Kind] makes connections of type sql over them.
//
// What it promises: all destinations of a flow on one connection are one transaction; the run's id is written in that transaction (table
// integrator_runs), so that a second attempt of a committed run writes nothing. Values are placeholders only. Names of tables and columns
// must exist in the database when the run starts, or are created from the flow's definition; they are quoted by the dialect and never taken
// from a payload unchecked. A record that does not fit its columns is rejected alone, with the column and the reason.
//
// With commit in a definition, a run is several transactions, one after the other; each but the last adds a row to the table integrator_parts,
// which is made when it is needed. A part is committed once, whoever tries it again. The flow's note about a run is a row there too.
//
// Rows of the two tables are deleted after thirty days, parts of runs that are applied after one day; never in the first hour after the
// connection was opened, so that runs which wait since a crash come first. A run that is executed again later than that writes again.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/nearest"
	"github.com/integrator-go/integrator/transform"
)

// Driver is one kind of database.
type Driver struct {
	// Name is the definition's `driver`.
	Name string

	// Open returns the database. It connects to nothing yet.
	Open func(Config) (*sql.DB, error)

	// Dialect is how the database wants to be spoken to.
	Dialect Dialect
}

// Config is what a definition says about a database.
type Config struct {
	Path string // of the file, absolute or relative to the working directory
	DSN  string // instead of everything else, in the driver's own form
}

// Fault says what an error of a driver means.
type Fault int

const (
	FaultConnection Fault = iota // the database cannot be reached, or is busy: try again
	FaultRecord                  // this row breaks a rule of the database, or a value is none that it takes
	FaultPermanent               // the statement cannot work
)

// Dialect is how a kind of database wants to be spoken to. All fields are required.
type Dialect struct {
	Quote       func(name string) string                                      // an identifier
	Placeholder func(n int) string                                            // the n-th argument, from 1
	MaxArgs     int                                                           // of one statement
	TypeOf      func(Class) string                                            // column type for a new table
	Upsert      func(columns, key []string, quote func(string) string) string // what follows INSERT … VALUES …
	Classify    func(error) Fault

	// Columns returns the columns of a table in order; none when there is no such table.
	Columns func(ctx context.Context, tx *sql.Tx, table string) ([]Column, error)

	// ClassOf returns the class of a column's declared type.
	ClassOf func(declared string) Class
}

// Column is a column of a table.
type Column struct {
	Name  string
	Class Class
}

// options are a definition's keys.
type options struct {
	Driver string `json:"driver"`
	Path   string `json:"path"`
	DSN    string `json:"dsn" define:"secret"`

	_ struct{} `later:"host port database user password tls"`
}

// Kind makes connections of type sql over the drivers.
func Kind(drivers ...Driver) connector.Kind {
	return connector.Kind{Name: "sql", New: func(env connector.Env, decode func(any) error) (connector.Connection, error) {
		var o options
		if err := decode(&o); err != nil {
			return nil, err
		}
		var names []string
		for _, d := range drivers {
			if d.Name == o.Driver {
				return open(d, env, o)
			}
			names = append(names, d.Name)
		}
		hint := "import github.com/integrator-go/integrator/connector/sqldb/" + o.Driver + " and list its Driver() in Config.Drivers"
		if near := nearest.Name(o.Driver, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		if o.Driver == "" {
			return nil, &connector.Fault{Key: "driver", Reason: "a driver is missing", Hint: "write one of " + strings.Join(names, ", ")}
		}
		return nil, &connector.Fault{Key: "driver", Reason: fmt.Sprintf("driver %q is not linked in", o.Driver), Hint: hint}
	}}
}

func open(d Driver, env connector.Env, o options) (connector.Connection, error) {
	switch {
	case o.Path == "" && o.DSN == "":
		return nil, &connector.Fault{Key: "path", Reason: "the database's file is missing", Hint: "write path: warehouse.db"}
	case o.Path != "" && o.DSN != "":
		return nil, &connector.Fault{Key: "dsn", Reason: "path and dsn say the same twice", Hint: "leave one out"}
	}
	if o.Path != "" && !filepath.IsAbs(o.Path) {
		o.Path = filepath.Join(env.BaseDir, o.Path)
	}
	return &connection{name: env.Name, now: env.Now, driver: d, config: Config{Path: o.Path, DSN: o.DSN}}, nil
}

// connection is a database of a definition.
type connection struct {
	name   string
	now    func() time.Time
	driver Driver
	config Config

	mu     sync.Mutex
	db     *sql.DB
	marked bool      // the table of applied runs exists
	pruned time.Time // when its old rows were deleted last
}

var (
	_ connector.Source      = (*connection)(nil)
	_ connector.Destination = (*connection)(nil)
)

// use returns the open database.
func (c *connection) use() (*sql.DB, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		db, err := c.driver.Open(c.config)
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		c.db = db
	}
	return c.db, nil
}

// Ping tries to reach the database.
func (c *connection) Ping(ctx context.Context) error {
	db, err := c.use()
	if err != nil {
		return err
	}
	return db.PingContext(ctx)
}

// Close closes the database. A later use opens it again.
func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil
	}
	err := c.db.Close()
	c.db, c.marked = nil, false
	return err
}

// marks reports whether the table of applied runs is there, and whether old rows are to be deleted now.
func (c *connection) marks() (there, prune bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); c.pruned.IsZero() {
		c.pruned = now // not at once: runs that wait for their second attempt come first
	} else if now.Sub(c.pruned) >= pruneEvery {
		c.pruned, prune = now, true
	}
	return c.marked, prune
}

func (c *connection) setMarked(marked bool) {
	c.mu.Lock()
	c.marked = marked
	c.mu.Unlock()
}

// fault returns an error of the driver as what it means: the end of ctx, a final no, or a fault that a retry may mend.
func (c *connection) fault(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if c.driver.Dialect.Classify(err) == FaultConnection {
		return err
	}
	return connector.Permanent(err)
}

// queryFault is fault where a query failed: a value that the database does not take, in one with binds, is a fault of the input.
func (c *connection) queryFault(ctx context.Context, doing string, err error, bound bool) error {
	if bound && ctx.Err() == nil && c.driver.Dialect.Classify(err) == FaultRecord {
		return &transform.Fault{Kind: "input", Reason: "the database takes no such value for a parameter of the query", Err: fmt.Errorf("%s: %w", doing, err)}
	}
	return c.fault(ctx, doing, err)
}

// PrepareRead checks a query or a table.
func (c *connection) PrepareRead(spec connector.ReadSpec) (connector.Reader, error) {
	switch {
	case spec.Path != "":
		return nil, &connector.Fault{Key: "path", Reason: "a database has no files", Hint: "write table or query"}
	case spec.Format != nil:
		return nil, &connector.Fault{Key: "format", Reason: "rows need no format", Hint: "leave it out"}
	case spec.Query != "" && spec.Table != "":
		return nil, &connector.Fault{Key: "table", Reason: "table and query are two sources", Hint: "leave one out"}
	case spec.Query == "" && spec.Table == "":
		return nil, &connector.Fault{Key: "connection", Reason: "nothing is read from it", Hint: "write table or query"}
	case spec.Table != "":
		if err := checkName(spec.Table); err != nil {
			return nil, &connector.Fault{Key: "table", Reason: err.Error()}
		}
		return &reader{c: c, query: &query{parts: []part{{text: "select * from " + c.driver.Dialect.Quote(spec.Table)}}}, limits: spec.Decode.Limits.WithDefaults()}, nil
	}
	q, fault := parseQuery(spec.Query)
	if fault != nil {
		fault.Key = "query"
		return nil, fault
	}
	return &reader{c: c, query: q, limits: spec.Decode.Limits.WithDefaults()}, nil
}

// checkName refuses what can be no identifier.
func checkName(name string) error {
	if name == "" || len(name) > 128 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("this is no name of a table or column")
	}
	return nil
}

// reader runs a query.
type reader struct {
	c      *connection
	query  *query
	limits transform.Limits
}

// Binds returns the binds of the query.
func (r *reader) Binds() []connector.Bind {
	var binds []connector.Bind
	seen := map[string]bool{}
	for _, p := range r.query.parts {
		if p.bind != "" && !seen[p.bind] {
			seen[p.bind] = true
			binds = append(binds, connector.Bind{Name: p.bind, Offset: p.offset})
		}
	}
	return binds
}

// Open runs the query.
func (r *reader) Open(ctx context.Context, request connector.ReadRequest) (connector.Records, error) {
	db, err := r.c.use()
	if err != nil {
		return nil, err
	}
	text, args, err := r.query.build(&r.c.driver.Dialect, request.Value)
	if err != nil {
		return nil, connector.Permanent(err)
	}
	found, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, r.c.queryFault(ctx, "query", err, len(args) > 0)
	}
	columns, err := found.ColumnTypes()
	if err != nil {
		found.Close()
		return nil, r.c.fault(ctx, "query", err)
	}
	rs := &rows{c: r.c, ctx: ctx, rows: found, limits: r.limits, bound: len(args) > 0}
	names := make([]string, len(columns))
	seen := map[string]bool{}
	for i, column := range columns {
		names[i] = column.Name()
		if seen[names[i]] {
			found.Close()
			return nil, connector.Permanent(fmt.Errorf("query: two columns are named %q: name one with AS", names[i]))
		}
		seen[names[i]] = true
		rs.classes = append(rs.classes, r.c.driver.Dialect.ClassOf(column.DatabaseTypeName()))
	}
	rs.shape = transform.NewShape(names...)
	rs.cells = make([]any, len(names))
	rs.targets = make([]any, len(names))
	for i := range rs.cells {
		rs.targets[i] = &rs.cells[i]
	}
	return rs, nil
}

// rows are the records of a query.
type rows struct {
	c       *connection
	ctx     context.Context
	rows    *sql.Rows
	shape   *transform.Shape
	classes []Class
	cells   []any
	targets []any
	limits  transform.Limits
	bound   bool // the query has binds
	index   int64
}

// Decode fills b with the next rows.
func (r *rows) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if err := r.ctx.Err(); err != nil {
		return err
	}
	for size := 0; len(b.Records) < r.limits.BatchSize && size < r.limits.BatchBytes && r.rows.Next(); {
		if err := r.rows.Scan(r.targets...); err != nil {
			return r.c.fault(r.ctx, fmt.Sprintf("query: row %d", r.index+1), err)
		}
		values := make([]transform.Value, len(r.cells))
		for i, cell := range r.cells {
			values[i] = scanned(cell, r.classes[i])
			size += len(values[i].Text())
		}
		v := transform.NewObject(r.shape, values)
		b.Records = append(b.Records, transform.Record{Value: v, Source: v, Index: r.index})
		r.index++
	}
	if err := r.rows.Err(); err != nil {
		return r.c.queryFault(r.ctx, "query", err, r.bound)
	}
	if len(b.Records) == 0 {
		return io.EOF
	}
	return nil
}

// Close ends the query.
func (r *rows) Close() error { return r.rows.Close() }
