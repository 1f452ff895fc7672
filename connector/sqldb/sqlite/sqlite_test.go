package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/connectortest"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const definition = `{"driver": "sqlite", "path": "odd #1?%41 name.db"}`

// newConnection makes a connection as a definition does, with a clock of its own.
func newConnection(t testing.TB, now func() time.Time, base, definition string) connector.Connection {
	t.Helper()
	env := connector.Env{Name: "db", BaseDir: base, Now: now}
	c, err := sqldb.Kind(sqlite.Driver()).New(env, func(options any) error { return json.Unmarshal([]byte(definition), options) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connectAt makes a connection that is closed when the test ends.
func connectAt(t testing.TB, now func() time.Time, base, definition string) connector.Connection {
	t.Helper()
	c := newConnection(t, now, base, definition)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func connect(t testing.TB, base string) connector.Connection {
	t.Helper()
	return connectAt(t, func() time.Time { return noon }, base, definition)
}

// direct opens the same file without the engine.
func direct(t testing.TB, base string) *sql.DB {
	t.Helper()
	db, err := sqlite.Driver().Open(sqldb.Config{Path: filepath.Join(base, "odd #1?%41 name.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, statements string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// query returns rows as lines.
func query(t testing.TB, db *sql.DB, text string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range cells {
			targets[i] = &cells[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, cell := range cells {
			if !cell.Valid {
				cell.String = "null"
			}
			line = append(line, cell.String)
		}
		lines = append(lines, strings.Join(line, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// records reads records that are written as lines of JSON.
func records(t testing.TB, lines string) []transform.Record {
	t.Helper()
	format, err := jsonfmt.NewLines(jsonfmt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := transformtest.Decode(format, strings.NewReader(lines), transform.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func run(n int) connector.Run {
	id := uuid.MustParse("0198c5a0-0000-7000-8000-000000000000")
	id[14], id[15] = byte(n>>8), byte(n)
	return connector.Run{ID: id, Number: int64(n), Flow: "orders", Attempt: 1, Time: noon}
}

// load writes a batch to each target in one run and commits; it returns the records with their faults.
func load(t testing.TB, c connector.Connection, n int, targets []connector.Target, batches ...[]transform.Record) error {
	t.Helper()
	w, err := c.(connector.Destination).PrepareWrite(targets)
	if err != nil {
		t.Fatal(err)
	}
	work, err := w.Begin(t.Context())
	if err != nil {
		return err
	}
	defer work.Rollback()
	if _, err := work.Start(run(n), make([]string, len(targets))); err != nil {
		return err
	}
	for i, b := range batches {
		if err := work.Write(i%len(targets), &transform.Batch{Records: b}); err != nil {
			return err
		}
	}
	return work.Commit()
}

// read returns a table or the answer of a query.
func read(t testing.TB, c connector.Connection, spec connector.ReadSpec, binds map[string]transform.Value) ([]transform.Value, error) {
	t.Helper()
	reader, err := c.(connector.Source).PrepareRead(spec)
	if err != nil {
		t.Fatal(err)
	}
	open, err := reader.Open(t.Context(), connector.ReadRequest{Value: func(name string) (transform.Value, error) { return binds[name], nil }})
	if err != nil {
		return nil, err
	}
	defer open.Close()
	var list []transform.Value
	var b transform.Batch
	for {
		err := open.Decode(&b)
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		for _, r := range b.Records {
			list = append(list, r.Value)
		}
	}
}

// all is read where nothing can go wrong.
func all(t testing.TB, c connector.Connection, spec connector.ReadSpec) []transform.Value {
	t.Helper()
	list, err := read(t, c, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func shown(values []transform.Value) []string {
	lines := []string{}
	for _, v := range values {
		lines = append(lines, transformtest.Show(v))
	}
	return lines
}

// faults returns the reject reasons of records, "" for those that were written.
func faults(list []transform.Record) []string {
	var all []string
	for _, r := range list {
		var fault *transform.Fault
		switch {
		case r.Err == nil:
			all = append(all, "")
		case errors.As(r.Err, &fault):
			all = append(all, fault.Kind+" "+fault.Error())
		default:
			all = append(all, "no fault: "+r.Err.Error())
		}
	}
	return all
}

// This test runs beside no other, because the suite looks for goroutines that are left.
func TestConnection(t *testing.T) {
	connectortest.Run(t, connectortest.Harness{
		New: func(t *testing.T) connectortest.System {
			base := t.TempDir()
			db := direct(t, base)
			execute(t, db, "create table orders (id integer, total numeric, note text)")
			return connectortest.System{
				Connect: func() connector.Connection {
					return newConnection(t, func() time.Time { return noon }, base, definition)
				},
				Written: func(t *testing.T) []transform.Value {
					return all(t, connect(t, base), connector.ReadSpec{Table: "orders"})
				},
			}
		},
		Target: connector.Target{Table: "orders"},
		Records: func(n int) []transform.Value {
			var list []transform.Value
			for i := range 3 {
				list = append(list, transform.Null.With("id", transform.Int(int64(10*n+i))).With("total", transform.Number("316.65")).With("note", transform.Text("it's \"é\"\n")))
			}
			return list
		},
		Unfit:   transform.Null.With("id", transform.Int(1)).With("total", transform.Text("many")).With("note", transform.Null),
		Replace: connector.Target{Table: "orders", Action: "replace", Key: []string{"note"}, Each: true},
		From:    &connector.ReadSpec{Table: "orders"},
		TargetFaults: map[string]connector.Target{
			"connection": {},
			"table":      {Table: "Integrator_Runs"},
			"path":       {Table: "a", Path: "a.csv"},
			"format":     {Table: "a", Format: must(jsonfmt.New(jsonfmt.Options{}))},
			"exists":     {Table: "a", Exists: "fail"},
			"action":     {Table: "a", Action: "merge", Key: []string{"id"}},
			"key":        {Table: "a", Key: []string{"id"}, Columns: []string{"ids"}},
		},
		ReadFaults: map[string]connector.ReadSpec{
			"connection": {},
			"table":      {Table: "a\x00b"},
			"path":       {Path: "a.csv"},
			"query":      {Query: "select 'a"},
			"format":     {Table: "a", Format: must(jsonfmt.New(jsonfmt.Options{}))},
		},
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestActions plays loads of rows {k, v} into a table that holds 1 a, 2 b.
func TestActions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, action string
		key          []string
		load         string
		want         []string
		faults       []string
	}{
		{"insert", "", nil, `{"k":3,"v":"c"}`, []string{"1 a", "2 b", "3 c"}, []string{""}},
		{"insert of a key that is there", "insert", nil, `{"k":3,"v":"c"}` + "\n" + `{"k":1,"v":"x"}` + "\n" + `{"k":4,"v":"d"}`, []string{"1 a", "2 b", "3 c", "4 d"},
			[]string{"", "refused db: a rule of the database forbids this row", ""}},
		{"upsert, the last of a key wins", "upsert", []string{"k"}, `{"k":3,"v":"c"}` + "\n" + `{"k":1,"v":"x"}` + "\n" + `{"k":3,"v":"d"}`, []string{"1 x", "2 b", "3 d"}, []string{"", "", ""}},
		{"upsert of nothing but the key", "upsert", []string{"k"}, `{"k":1}` + "\n" + `{"k":3}`, []string{"1 a", "2 b", "3 null"}, []string{"", ""}},
		{"upsert keeps the columns that are not written", "upsert", []string{"k"}, `{"k":1}`, []string{"1 a", "2 b"}, []string{""}},
		{"update, the last of a key wins", "update", []string{"k"}, `{"v":"x","k":1}` + "\n" + `{"v":"y","k":1}` + "\n" + `{"v":"z","k":9}`, []string{"1 y", "2 b"}, []string{"", "", ""}},
		{"update of nothing but the key", "update", []string{"k"}, `{"k":1}`, []string{"1 a", "2 b"}, []string{""}},
		{"delete needs the key only", "delete", []string{"k"}, `{"k":1,"what":"ever"}` + "\n" + `{"k":9}`, []string{"2 b"}, []string{"", ""}},
		{"replace", "replace", []string{"k"}, `{"k":1,"v":"x"}` + "\n" + `{"k":3}`, []string{"1 x", "2 b", "3 null"}, []string{"", ""}},
		{"replace, the last of a key wins", "replace", []string{"k"}, `{"k":1,"v":"x"}` + "\n" + `{"k":3,"v":"y"}` + "\n" + `{"k":1,"v":"z"}`, []string{"1 z", "2 b", "3 y"}, []string{"", "", ""}},
		{"a rejected replace keeps the former row", "replace", []string{"k"}, `{"k":1,"v":"forbidden"}` + "\n" + `{"k":2,"v":"y"}`, []string{"1 a", "2 y"},
			[]string{"refused db: a rule of the database forbids this row", ""}},
		{"a key that is null", "upsert", []string{"k"}, `{"k":null,"v":"x"}` + "\n" + `{"v":"x"}`, []string{"1 a", "2 b"},
			[]string{`refused db: "k": it is part of the key and null`, `refused db: "k": it is part of the key, and the record has no such field`}},
		{"a field without a column", "", nil, `{"k":3,"w":"c"}` + "\n" + `{"k":4,"v":"d"}`, []string{"1 a", "2 b", "4 d"},
			[]string{`refused db: "w": table "t" has no column "w": it has k, v`, ""}},
		{"no row at all", "", nil, `{}` + "\n" + `{"k":3,"v":"c"}` + "\n" + `[1]`, []string{"1 a", "2 b", "3 c"},
			[]string{"refused db: a row needs fields, and this record has none", "", "refused db: a row needs fields, and this record has none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			db := direct(t, base)
			execute(t, db, "create table t (k integer primary key, v text check (v <> 'forbidden')); insert into t values (1, 'a'), (2, 'b')")
			list := records(t, c.load)
			if err := load(t, connect(t, base), 1, []connector.Target{{Table: "t", Action: c.action, Key: c.key}}, list); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, query(t, db, "select * from t order by k")); diff != "" {
				t.Errorf("(-expected +in the table):\n%s", diff)
			}
			if diff := cmp.Diff(c.faults, faults(list)); diff != "" {
				t.Errorf("faults (-expected +got):\n%s", diff)
			}
		})
	}
}

// TestReplaceInSomeBatches replaces all rows of an order once, although the lines that one record of the source brings come in several batches.
func TestReplaceInSomeBatches(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	execute(t, db, "create table lines (order_id integer, line integer); insert into lines values (1, 10), (1, 11), (2, 20)")
	targets := []connector.Target{{Table: "lines", Action: "replace", Key: []string{"order_id"}}}
	err := load(t, connect(t, base), 1, targets, records(t, `{"order_id":1,"line":12}`), records(t, `{"order_id":1.0,"line":13}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 12", "1 13", "2 20"}, query(t, db, "select * from lines order by 1, 2")); diff != "" {
		t.Errorf("(-expected +in the table):\n%s", diff)
	}
}

// TestReplaceOfManyRows lets records bring several rows for a few keys again and again, some of them at fault: in the end a key has the rows that the last
// record has brought for it, whatever statements they were in.
func TestReplaceOfManyRows(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	execute(t, db, "create table t (k integer, v integer not null)")
	shape := transform.NewShape("k", "v")
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		want, before := map[string][]string{}, []string{"1 -1", "1 -2", "9 -9"}
		execute(t, db, "delete from t; insert into t values (1, -1), (1, -2), (9, -9)")
		for _, row := range before {
			want[row[:1]] = append(want[row[:1]], row)
		}
		var batches [][]transform.Record
		value, index := 0, int64(0)
		for range 1 + random.IntN(3) {
			var b []transform.Record
			for range random.IntN(60) {
				brought := map[string][]string{}
				for range random.IntN(4) {
					value++
					k, v := 1+random.IntN(5), transform.Int(int64(value))
					row := transform.NewObject(shape, []transform.Value{transform.Int(int64(k)), v})
					if random.IntN(100) < []int{0, 2, 10}[seed%3] {
						row = row.With("v", transform.Null)
					} else {
						brought[fmt.Sprint(k)] = append(brought[fmt.Sprint(k)], fmt.Sprint(k, " ", value))
					}
					b = append(b, transform.Record{Value: row, Index: index})
				}
				maps.Copy(want, brought)
				index++
			}
			batches = append(batches, b)
		}
		if err := load(t, connect(t, base), 1+int(seed), []connector.Target{{Table: "t", Action: "replace", Key: []string{"k"}, Each: true}}, batches...); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			all = append(all, want[k]...)
		}
		if diff := cmp.Diff(all, query(t, db, "select * from t order by k, abs(v)")); diff != "" {
			t.Fatalf("seed %d (-expected +in the table):\n%s", seed, diff)
		}
	}
}

// TestUndo takes back tables that were made and rows that were replaced: what follows finds them as they were.
func TestUndo(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	execute(t, db, "create table lines (order_id integer, line integer); insert into lines values (1, 10), (2, 20), (3, 30)")
	w := must(connect(t, base).(connector.Destination).PrepareWrite([]connector.Target{
		{Table: "lines", Action: "replace", Key: []string{"order_id"}}, {Table: "made", Create: true}}))
	work := must(w.Begin(t.Context())).(connector.Undoer)
	defer work.Rollback()
	must(work.Start(run(1), []string{"", ""}))
	write := func(target int, lines string) {
		t.Helper()
		if err := work.Write(target, &transform.Batch{Records: records(t, lines)}); err != nil {
			t.Fatal(err)
		}
	}
	step := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	write(0, `{"order_id":1,"line":11}`)
	step(work.Save)
	write(0, `{"order_id":1,"line":12}`+"\n"+`{"order_id":2,"line":21}`)
	write(1, `{"text":"a"}`)
	step(work.Undo)
	write(0, `{"order_id":1,"line":13}`+"\n"+`{"order_id":2,"line":22}`)
	write(1, `{"number":1}`)
	step(work.Save)
	write(1, `{"number":2}`)
	step(work.Undo)
	write(1, `{"number":3}`)
	step(work.Commit)
	if diff := cmp.Diff([]string{"1 11", "1 13", "2 22", "3 30"}, query(t, db, "select * from lines order by 1, 2")); diff != "" {
		t.Errorf("(-expected +in the table):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1", "3"}, query(t, db, "select number from made order by 1")); diff != "" {
		t.Errorf("(-expected +in the new table):\n%s", diff)
	}
}

// TestRejectsBetweenManyRows has rows at fault in every place of wide statements: each is found alone and the others are written.
func TestRejectsBetweenManyRows(t *testing.T) {
	t.Parallel()
	const rows = 200
	for _, bad := range [][]int{{0}, {rows - 1}, {31, 32}, {1, 64, 150}} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			db := direct(t, base)
			execute(t, db, "create table t (k integer primary key, v integer not null)")
			var text strings.Builder
			isBad := map[int]bool{}
			for _, i := range bad {
				isBad[i] = true
			}
			for i := range rows {
				v := "1"
				if isBad[i] {
					v = "null"
				}
				fmt.Fprintf(&text, `{"k":%d,"v":%s}`+"\n", i, v)
			}
			list := records(t, text.String())
			if err := load(t, connect(t, base), 1, []connector.Target{{Table: "t"}}, list); err != nil {
				t.Fatal(err)
			}
			for i, r := range list {
				if (r.Err != nil) != isBad[i] {
					t.Errorf("record %d: %v", i, r.Err)
				}
			}
			if got := query(t, db, "select count(*) from t"); got[0] != fmt.Sprint(rows-len(bad)) {
				t.Errorf("%s rows were written", got)
			}
		})
	}
}

// TestTransactionThatTheDatabaseEnds wants nothing written when a constraint rolls the whole transaction back by itself.
func TestTransactionThatTheDatabaseEnds(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	execute(t, db, "create table t (k integer primary key on conflict rollback)")
	c := connect(t, base)
	if err := load(t, c, 1, []connector.Target{{Table: "t"}}, records(t, `{"k":1}`), records(t, `{"k":1}`), records(t, `{"k":2}`)); err == nil {
		t.Error("the load succeeds")
	}
	if got := query(t, db, "select * from t"); len(got) > 0 {
		t.Errorf("the table holds %v", got)
	}
	if err := load(t, c, 1, []connector.Target{{Table: "t"}}, records(t, `{"k":3}`)); err != nil {
		t.Errorf("the connection is of no use afterwards: %v", err)
	}
}

func TestSeveralTargetsAreOneTransaction(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	execute(t, db, "create table head (id integer primary key); create table line (head integer not null references head(id) deferrable initially deferred, n integer)")
	c := connect(t, base)
	targets := []connector.Target{{Table: "head"}, {Table: "line"}}
	if err := load(t, c, 1, targets, records(t, `{"id":1}`), records(t, `{"head":1,"n":1}`)); err != nil {
		t.Fatal(err)
	}
	err := load(t, c, 2, targets, records(t, `{"id":2}`), records(t, `{"head":3,"n":1}`))
	if !connector.IsPermanent(err) {
		t.Errorf("a rule that is broken at the commit: %v", err)
	}
	if err := load(t, c, 3, targets, records(t, `{"id":4}`), records(t, `{"head":4,"n":1}`)); err != nil {
		t.Errorf("the connection is of no use afterwards: %v", err)
	}
	if diff := cmp.Diff([]string{"1 1", "4 1"}, query(t, db, "select head.id, n from head left join line on head.id = line.head order by 1")); diff != "" {
		t.Errorf("(-expected +in the tables):\n%s", diff)
	}
}

// TestValues writes a value to a column and reads it again.
func TestValues(t *testing.T) {
	t.Parallel()
	text, untyped, number := transform.Text, transform.Untyped, transform.Number
	for _, c := range []struct {
		name   string
		column string
		value  transform.Value
		want   string // "" when the record is rejected
	}{
		{"null", "integer", transform.Null, "null"},
		{"integer", "integer", transform.Int(5), "5"},
		{"largest integer", "integer", number("9223372036854775807"), "9223372036854775807"},
		{"integer that is too large", "integer", number("9223372036854775808"), ""},
		{"integer with an exponent", "integer", number("1e3"), "1000"},
		{"whole number with a fraction", "integer", number("5.0"), "5"},
		{"fraction for an integer", "integer", number("5.5"), ""},
		{"text of an integer", "bigint", untyped("-42"), "-42"},
		{"leading zeros", "integer", untyped("007"), ""},
		{"blanks", "integer", untyped(" 7"), ""},
		{"words for an integer", "integer", text("seven"), ""},
		{"empty text for an integer", "integer", text(""), ""},
		{"bool for an integer", "integer", transform.Bool(true), ""},
		{"decimal", "numeric", number("316.65"), "316.65"},
		{"a tenth", "real", number("0.1"), "0.1"},
		{"decimal text", "decimal(10,2)", untyped("316.65"), "316.65"},
		{"smallest double", "double", number("5e-324"), "0." + strings.Repeat("0", 323) + "5"},
		{"number that would be rounded", "numeric", number("12345678901234567890"), ""},
		{"fraction that would be rounded", "numeric", number("0.12345678901234567891"), ""},
		{"number beyond a double", "numeric", number("1e400"), ""},
		{"seventeen digits that a double keeps", "numeric", number("0.30000000000000004"), "0.30000000000000004"},
		{"integer in a numeric column", "numeric", number("9007199254740993"), "9007199254740993"},
		{"any digits as exact text", "decimal text", number("12345678901234567890.10"), "12345678901234567890.10"},
		{"any digits as text", "text", number("12345678901234567890.10"), `"12345678901234567890.10"`},
		{"text", "text", text("it's; drop table t --\n\x00 é 🙂"), `"it's; drop table t --\n\x00 é 🙂"`},
		{"text in varchar", "varchar(3)", text("longer"), `"longer"`},
		{"digits as text", "text", untyped("007"), `"007"`},
		{"object as text", "text", transform.Null.With("a", number("1.0")), `"{\"a\":1.0}"`},
		{"bytes as text", "text", transform.Bytes("\xff"), ""},
		{"true", "boolean", transform.Bool(true), "true"},
		{"text of false", "bool", untyped("false"), "false"},
		{"one is true", "boolean", number("1"), "true"},
		{"two is nothing", "boolean", number("2"), ""},
		{"date", "date", untyped("2026-02-28"), `"2026-02-28"`},
		{"no date", "date", untyped("2026-02-30"), ""},
		{"time with a zone", "timestamp", text("2026-02-28T10:00:00.5+02:00"), `"2026-02-28T10:00:00.5+02:00"`},
		{"no time", "datetime", text("yesterday"), ""},
		{"bytes", "blob", transform.Bytes("\x00\xff"), `bytes "\x00\xff"`},
		{"text as bytes", "blob", text("ab"), `bytes "ab"`},
		{"number for bytes", "blob", number("1"), ""},
		{"anything", "", text("007"), `"007"`},
		{"a number of any length in any column", "", number("0.12345678901234567891"), `"0.12345678901234567891"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			execute(t, direct(t, base), `create table t ("a ""b""" `+c.column+")")
			conn := connect(t, base)
			list := []transform.Record{{Value: transform.Null.With(`a "b"`, c.value)}}
			if err := load(t, conn, 1, []connector.Target{{Table: "t"}}, list); err != nil {
				t.Fatal(err)
			}
			got := shown(all(t, conn, connector.ReadSpec{Query: `select "a ""b""" as v from t`}))
			var fault *transform.Fault
			if c.want == "" {
				if !errors.As(list[0].Err, &fault) || fault.Field != `a "b"` || fault.Kind != "refused" || len(got) > 0 {
					t.Errorf("the fault is %+v, the table holds %v", list[0].Err, got)
				}
				return
			}
			if diff := cmp.Diff([]string{"{v: " + c.want + "}"}, got); diff != "" || list[0].Err != nil {
				t.Errorf("fault %v (-expected +read):\n%s", list[0].Err, diff)
			}
		})
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	c := connect(t, base)
	list := records(t, `{"id":"x","n":null,"d":1.5,"big":1,"b":true,"mixed":1}
{"id":"y","n":2,"d":0.1,"big":12345678901234567890.5,"b":null,"mixed":"z","late \"one\"":316.65}`)
	list = append([]transform.Record{{Value: transform.Null.With("not", transform.Int(1)), Err: errors.New("rejected")}}, list...)
	target := connector.Target{Table: `odd "table"; --`, Create: true, Key: []string{"id"}, Action: "upsert"}
	if err := load(t, c, 1, []connector.Target{target}, list[:1], list); err != nil {
		t.Fatal(err)
	}
	got := shown(all(t, c, connector.ReadSpec{Table: target.Table}))
	want := []string{
		`{id: "x", n: null, d: 1.5, big: 1, b: true, mixed: "1", "late \"one\"": null}`,
		`{id: "y", n: 2, d: 0.1, big: 12345678901234567890.5, b: null, mixed: "z", "late \"one\"": 316.65}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-expected +read):\n%s", diff)
	}
}

// TestDefinitionsThatCannotWork wants a final no, with what is there instead.
func TestDefinitionsThatCannotWork(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	execute(t, direct(t, base), "create table t (id integer, amount integer)")
	c := connect(t, base)
	for _, row := range []struct {
		name   string
		target connector.Target
		says   string
	}{
		{"no table", connector.Target{Table: "orders"}, "create: true"},
		{"no column", connector.Target{Table: "t", Columns: []string{"id", "amuont"}}, `did you mean "amount"?`},
		{"no key column", connector.Target{Table: "t", Action: "delete", Key: []string{"idd"}}, `did you mean "id"?`},
		{"no rule for the key", connector.Target{Table: "t", Action: "upsert", Key: []string{"id"}}, "ON CONFLICT"},
		{"a new table without its key", connector.Target{Table: "new", Create: true, Key: []string{"nr"}}, `key "nr"`},
	} {
		field := "amount"
		if row.target.Columns != nil {
			field = "amuont"
		}
		list := []transform.Record{{Value: transform.Null.With("id", transform.Int(1)).With(field, transform.Int(2))}}
		if err := load(t, c, 1, []connector.Target{row.target}, list); !connector.IsPermanent(err) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestManyShapes(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	db := direct(t, base)
	var columns []string
	for i := range 100 {
		columns = append(columns, fmt.Sprintf("c%d integer", i))
	}
	execute(t, db, "create table t ("+strings.Join(columns, ", ")+")")
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, `{"c%d":1}`+"\n", i%100)
	}
	if err := load(t, connect(t, base), 1, []connector.Target{{Table: "t"}}, records(t, text.String())); err != nil {
		t.Fatal(err)
	}
	if got := query(t, db, "select count(*), sum(c0), sum(c99) from t"); got[0] != "300 3 3" {
		t.Errorf("the table holds %v", got)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	execute(t, direct(t, base), "create table t (id integer, store text); insert into t values (1, 'a'), (2, 'b'), (3, 'a')")
	c := connect(t, base)
	text := "select id, ':no' as x -- :no\n from t where id <> :id /* :no */ [[ and store = :store ]] [[ and id < :most and id < :most ]] order by id"
	for _, row := range []struct {
		name  string
		binds map[string]transform.Value
		want  []string
	}{
		{"all", map[string]transform.Value{"id": transform.Int(3), "store": transform.Text("a"), "most": transform.Untyped("2")}, []string{`{id: 1, x: ":no"}`}},
		{"some", map[string]transform.Value{"id": transform.Untyped("3")}, []string{`{id: 1, x: ":no"}`, `{id: 2, x: ":no"}`}},
		{"a value is no SQL", map[string]transform.Value{"id": transform.Int(0), "store": transform.Text("a' or '1'='1")}, []string{}},
		{"null is equal to nothing", nil, []string{}},
	} {
		got, err := read(t, c, connector.ReadSpec{Query: text}, row.binds)
		if diff := cmp.Diff(row.want, shown(got)); diff != "" || err != nil {
			t.Errorf("%s: error %v (-expected +read):\n%s", row.name, err, diff)
		}
	}
	if _, err := read(t, c, connector.ReadSpec{Query: "select 1 as a, 2 as a"}, nil); !connector.IsPermanent(err) {
		t.Errorf("two columns of one name: %v", err)
	}
	if _, err := read(t, c, connector.ReadSpec{Table: "none"}, nil); !connector.IsPermanent(err) {
		t.Errorf("no such table: %v", err)
	}
	if _, err := read(t, c, connector.ReadSpec{Query: "select :a"}, map[string]transform.Value{"a": transform.List(nil)}); !connector.IsPermanent(err) {
		t.Errorf("a list for a bind: %v", err)
	}
}

// TestCancelReachesTheDriver ends a query that would look for its first row for hours: the test ends when it does.
func TestCancelReachesTheDriver(t *testing.T) {
	t.Parallel()
	const endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n where x < 0"
	reader, err := connect(t, t.TempDir()).(connector.Source).PrepareRead(connector.ReadSpec{Query: endless})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel) // while Open is in the driver, most often
	if _, err := reader.Open(ctx, connector.ReadRequest{}); !errors.Is(err, context.Canceled) || connector.IsPermanent(err) {
		t.Errorf("Open: %v", err)
	}
}

// TestBusyDatabase has another process's transaction in the way: what waits for it is told when its context ends, and it is no final no.
func TestBusyDatabase(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	tx, err := direct(t, base).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	w, err := connect(t, base).(connector.Destination).PrepareWrite([]connector.Target{{Table: "t", Create: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel) // while Begin waits, most often
	if _, err := w.Begin(ctx); !errors.Is(err, context.Canceled) || connector.IsPermanent(err) {
		t.Errorf("Begin: %v", err)
	}

	path, _ := json.Marshal("file:" + filepath.Join(base, "busy.db") + "?_txlock=immediate")
	impatient := connectAt(t, func() time.Time { return noon }, base, fmt.Sprintf(`{"driver": "sqlite", "dsn": %s}`, path))
	first, err := impatient.(connector.Destination).PrepareWrite([]connector.Target{{Table: "t", Create: true}})
	if err != nil {
		t.Fatal(err)
	}
	work, err := first.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer work.Rollback()
	if _, err := first.Begin(t.Context()); err == nil || connector.IsPermanent(err) {
		t.Errorf("a database that is locked is no reason to give up: %v", err)
	}
}

// TestFreshDatabaseTakesAllAtOnce has many begin on databases that are not there yet: SQLite refuses at once, without waiting, when two
// switch a file to WAL mode at the same time.
func TestFreshDatabaseTakesAllAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		c := connect(t, t.TempDir())
		var group sync.WaitGroup
		for n := range 8 {
			group.Go(func() {
				if err := load(t, c, n, []connector.Target{{Table: "t", Create: true}}, records(t, `{"id": 1}`)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

// TestOldRunsAreForgotten wants the table of applied runs pruned, and never before the engine has been up for a while.
func TestOldRunsAreForgotten(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	now := noon
	var c connector.Connection
	runs := 0
	after := func(d time.Duration, rows string) {
		t.Helper()
		now = now.Add(d)
		runs++
		if err := load(t, c, runs, []connector.Target{{Table: "t", Create: true}}, records(t, `{"a":1}`)); err != nil {
			t.Fatal(err)
		}
		if got := query(t, direct(t, base), "select count(*) from integrator_runs"); got[0] != rows {
			t.Errorf("after run %d there are %s rows, expected %s", runs, got[0], rows)
		}
	}
	start := func() { c = connectAt(t, func() time.Time { return now }, base, definition) }
	start()
	after(0, "1")
	after(20*24*time.Hour, "2")
	after(11*24*time.Hour, "2") // without the first
	after(time.Minute, "3")
	start()
	after(60*24*time.Hour, "4") // the engine was away: nothing is forgotten at once
	after(time.Hour, "2")       // but now
}

// TestOldPartsAreForgotten wants the parts of an applied run gone after a day, and those of one that may still go on kept as long as any run.
func TestOldPartsAreForgotten(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	now := noon
	c := connectAt(t, func() time.Time { return now }, base, definition)
	w := must(c.(connector.Destination).PrepareWrite([]connector.Target{{Table: "t", Create: true, Commit: 10}}))
	part := func(n int, position int64) {
		t.Helper()
		part := must(w.(connector.PartWriter).BeginPart(t.Context()))
		defer part.Rollback()
		must(part.Start(run(n), []string{""}))
		end := part.Commit
		if position > 0 {
			end = func() error { return part.Checkpoint(connector.Checkpoint{Position: position}) }
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(rows ...string) {
		t.Helper()
		if diff := cmp.Diff(rows, query(t, direct(t, base), "select substr(run_id, -1), records from integrator_parts order by run_id, records")); diff != "" {
			t.Errorf("parts (-expected +got):\n%s", diff)
		}
	}
	part(1, 10)
	part(1, 20)
	part(2, 10)
	part(1, 0)
	now = now.Add(23 * time.Hour)
	part(3, 10)
	want("1 10", "1 20", "2 10", "3 10")
	now = now.Add(2 * time.Hour)
	part(3, 20)
	want("2 10", "3 10", "3 20")
	now = now.Add(30*24*time.Hour - 2*time.Hour)
	part(4, 0)
	want("3 10", "3 20")
}

func TestPragmas(t *testing.T) {
	t.Parallel()
	db := direct(t, t.TempDir())
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "10000", "foreign_keys": "1"} {
		if got := query(t, db, "pragma "+pragma); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %v, expected %s", pragma, got, want)
		}
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	for definition, key := range map[string]string{
		`{"path": "a.db"}`: "driver", `{"driver": "postgres", "path": "a.db"}`: "driver", `{"driver": "sqlite"}`: "path",
		`{"driver": "sqlite", "path": "a.db", "dsn": "file:a.db"}`: "dsn",
	} {
		var fault *connector.Fault
		_, err := sqldb.Kind(sqlite.Driver()).New(connector.Env{}, func(options any) error { return json.Unmarshal([]byte(definition), options) })
		if !errors.As(err, &fault) || fault.Key != key {
			t.Errorf("%s: %v", definition, err)
		}
	}
}

func TestFolderIsMissing(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	c := connectAt(t, func() time.Time { return noon }, base, `{"driver": "sqlite", "path": "later/test.db"}`)
	if err := c.Ping(t.Context()); !errors.Is(err, os.ErrNotExist) || connector.IsPermanent(err) {
		t.Errorf("Ping: %v", err)
	}
	if err := os.Mkdir(filepath.Join(base, "later"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("when the folder is there: %v", err)
	}
}
