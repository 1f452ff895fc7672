// Package sqlite is the SQLite driver of connector/sqldb, in pure Go (modernc.org/sqlite).
//
//	integrator.Config{Drivers: []sqldb.Driver{sqlite.Driver()}}
//
// A connection has `driver: sqlite` and the `path` of its file, which is made when it is missing; its folder is not. The file is opened in WAL mode with
// synchronous=FULL, so that a commit survives a loss of power; foreign keys are checked; a writer waits up to ten seconds for another one.
// A connection with a `dsn` is opened as that says. A query whose context ends is stopped while it looks for its first row and between rows;
// the driver cannot stop it while it looks for a later one.
//
// Numbers keep their value: a new table gets a column of type DECIMAL TEXT where the first records hold numbers that SQLite would round, and
// a number that a column would round is rejected. SQLite's driver reads text in columns declared DATE, DATETIME and TIMESTAMP as times: they
// come out as RFC 3339 has them.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"github.com/integrator-go/integrator/connector/sqldb"
)

// Driver returns the driver.
func Driver() sqldb.Driver {
	return sqldb.Driver{Name: "sqlite", Open: open, Dialect: sqldb.Dialect{
		Quote:       func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` },
		Placeholder: func(int) string { return "?" },
		MaxArgs:     32_000,
		TypeOf:      typeOf,
		Upsert:      upsert,
		Classify:    classify,
		Columns:     columns,
		ClassOf:     classOf,
	}}
}

func open(c sqldb.Config) (*sql.DB, error) {
	dsn := c.DSN
	if dsn == "" {
		if _, err := os.Stat(filepath.Dir(c.Path)); err != nil { // SQLite would only say that it cannot open the file
			return nil, fmt.Errorf("the folder of the database is missing: %w", err)
		}
		q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
		dsn = (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(c.Path)}).EscapedPath(), RawQuery: q.Encode()}).String()
	}
	db, err := sql.Open("sqlite", dsn)
	if err == nil && c.DSN == "" {
		db.Ping() // one alone switches a fresh file to WAL mode: two at once are refused without waiting. Who uses the database is told of faults
	}
	return db, err
}

func typeOf(c sqldb.Class) string {
	switch c {
	case sqldb.Integer:
		return "INTEGER"
	case sqldb.Numeric:
		return "NUMERIC"
	case sqldb.Decimal:
		return "DECIMAL TEXT"
	case sqldb.Boolean:
		return "BOOLEAN"
	case sqldb.Date:
		return "DATE"
	case sqldb.Timestamp:
		return "TIMESTAMP"
	case sqldb.Blob:
		return "BLOB"
	}
	return "TEXT"
}

// classOf follows SQLite's rules of type affinity (https://www.sqlite.org/datatype3.html, section 3.1), with names that people use for
// truth values and times before them.
func classOf(declared string) sqldb.Class {
	t := strings.ToUpper(declared)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(t, p) })
	}
	switch {
	case has("BOOL"):
		return sqldb.Boolean
	case has("TIMESTAMP", "DATETIME"):
		return sqldb.Timestamp
	case t == "DATE":
		return sqldb.Date
	case has("INT"):
		return sqldb.Integer
	case t == "DECIMAL TEXT": // SQLite keeps it as the text that it is
		return sqldb.Decimal
	case has("CHAR", "CLOB", "TEXT"):
		return sqldb.Text
	case has("BLOB"):
		return sqldb.Blob
	case t == "":
		return sqldb.Any
	}
	return sqldb.Numeric
}

func upsert(columns, key []string, quote func(string) string) string {
	var keys, set []string
	for _, k := range key {
		keys = append(keys, quote(k))
	}
	for _, c := range columns {
		if !slices.Contains(key, c) {
			set = append(set, quote(c)+" = excluded."+quote(c))
		}
	}
	action := " do nothing"
	if set != nil {
		action = " do update set " + strings.Join(set, ", ")
	}
	return " on conflict (" + strings.Join(keys, ", ") + ")" + action
}

// Result codes of SQLite (https://www.sqlite.org/rescode.html).
const (
	codeError      = 1
	codeTooBig     = 18
	codeConstraint = 19
	codeMismatch   = 20
	codeMisuse     = 21
	codeAuth       = 23
	codeRange      = 25
	codeNotADB     = 26
	codeReadOnly   = 8
)

func classify(err error) sqldb.Fault {
	var fault *sqlite.Error
	if !errors.As(err, &fault) {
		return sqldb.FaultConnection
	}
	switch fault.Code() & 0xff {
	case codeConstraint, codeMismatch, codeTooBig:
		return sqldb.FaultRecord
	case codeError, codeMisuse, codeAuth, codeRange, codeNotADB, codeReadOnly:
		return sqldb.FaultPermanent
	}
	return sqldb.FaultConnection
}

func columns(ctx context.Context, tx *sql.Tx, table string) ([]sqldb.Column, error) {
	rows, err := tx.QueryContext(ctx, "select name, type from pragma_table_info(?)", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []sqldb.Column
	for rows.Next() {
		var name, declared string
		if err := rows.Scan(&name, &declared); err != nil {
			return nil, fmt.Errorf("read the columns: %w", err)
		}
		found = append(found, sqldb.Column{Name: name, Class: classOf(declared)})
	}
	return found, rows.Err()
}
