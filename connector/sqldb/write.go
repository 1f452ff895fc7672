package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/nearest"
	"github.com/integrator-go/integrator/transform"
)

// appliedTable holds the ids of the runs whose writes are in the database.
const appliedTable = "integrator_runs"

const (
	maxRuns          = 100 // in one transaction
	rowsPerStatement = 50
)

// PrepareWrite checks the destinations of a flow.
func (c *connection) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	var faults []error
	fault := func(i int, key, reason, hint string) {
		faults = append(faults, &connector.Fault{Target: i, Key: key, Reason: reason, Hint: hint})
	}
	for i, t := range targets {
		if t.Table == "" {
			fault(i, "connection", "a destination in a database needs a table", "write table: name")
		} else if err := checkName(t.Table); err != nil {
			fault(i, "table", err.Error(), "")
		} else if strings.EqualFold(t.Table, appliedTable) {
			fault(i, "table", "this table is the engine's own", "choose another name")
		}
		if t.Path != "" {
			fault(i, "path", "a database has no files", "write table")
		}
		if t.Format != nil {
			fault(i, "format", "rows need no format", "leave it out")
		}
		if t.Exists != "" {
			fault(i, "exists", "exists is for files", "leave it out")
		}
		if t.Action != "insert" && len(t.Key) == 0 {
			fault(i, "action", t.Action+" needs a key: the columns that tell rows apart", "write key: [id]")
		}
		for _, k := range t.Key {
			if t.Columns != nil && !slices.Contains(t.Columns, k) {
				hint := "the fields are " + strings.Join(t.Columns, ", ")
				if near := nearest.Name(k, t.Columns); near != "" {
					hint = "did you mean " + near + "?"
				}
				fault(i, "key", fmt.Sprintf("no field %q is written", k), hint)
			}
		}
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return &writer{c: c, targets: slices.Clone(targets)}, nil
}

// writer writes a flow's destinations.
type writer struct {
	c       *connection
	targets []connector.Target
}

// MaxRuns is how many runs may share a transaction.
func (w *writer) MaxRuns() int { return maxRuns }

// Begin starts a transaction.
func (w *writer) Begin(ctx context.Context) (connector.Work, error) {
	db, err := w.c.use()
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, w.c.fault(fmt.Errorf("begin a transaction: %w", err))
	}
	work := &work{w: w, ctx: ctx, tx: tx, tables: make([]*table, len(w.targets)), statements: map[string]*sql.Stmt{}}
	if err := work.mark(); err != nil {
		tx.Rollback()
		return nil, err
	}
	return work, nil
}

// work is one transaction.
type work struct {
	w          *writer
	ctx        context.Context
	tx         *sql.Tx
	tables     []*table // by target, read when it is first written
	statements map[string]*sql.Stmt
	runs       []connector.Run
	made       bool // this transaction makes the table of applied runs
	ended      bool
}

// table is what a target looks like in the database.
type table struct {
	columns  map[string]Column
	names    []string
	replaced map[string]bool // keys whose rows were deleted for the run, with action replace
}

func (w *work) quote(name string) string { return w.w.c.driver.Dialect.Quote(name) }

func (w *work) placeholder(n int) string { return w.w.c.driver.Dialect.Placeholder(n) }

// mark makes the table of applied runs when it is missing.
func (w *work) mark() error {
	w.w.c.mu.Lock()
	marked := w.w.c.marked
	w.w.c.mu.Unlock()
	if marked {
		return nil
	}
	_, err := w.tx.ExecContext(w.ctx, "create table if not exists "+w.quote(appliedTable)+" (run_id char(36) not null primary key, flow varchar(255), applied_at varchar(40))")
	if err != nil {
		return w.w.c.fault(fmt.Errorf("make table %s: %w", appliedTable, err))
	}
	w.made = true
	return nil
}

// Start begins a run's writes.
func (w *work) Start(run connector.Run, _ []string) (bool, error) {
	var one int
	err := w.tx.QueryRowContext(w.ctx, "select 1 from "+w.quote(appliedTable)+" where run_id = "+w.placeholder(1), run.ID.String()).Scan(&one)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, w.w.c.fault(fmt.Errorf("look up the run: %w", err))
	}
	for _, t := range w.tables {
		if t != nil {
			t.replaced = nil
		}
	}
	w.runs = append(w.runs, run)
	return false, nil
}

// Write writes the batch's records.
func (w *work) Write(target int, b *transform.Batch) error {
	t := &w.w.targets[target]
	if len(b.Records) == 0 {
		return nil
	}
	if w.tables[target] == nil {
		found, err := w.table(t, b)
		if err != nil {
			return err
		}
		w.tables[target] = found
	}
	for rest := b.Records; len(rest) > 0; { // records of one shape share statements
		shape := rest[0].Value.Shape()
		n := 1
		for n < len(rest) && rest[n].Value.Shape() == shape {
			n++
		}
		if err := w.write(t, w.tables[target], shape, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// table reads the target's columns, and makes the table when the definition says so.
func (w *work) table(t *connector.Target, b *transform.Batch) (*table, error) {
	columns, err := w.columns(t.Table)
	if err != nil {
		return nil, err
	}
	if len(columns) == 0 {
		if !t.Create {
			return nil, connector.Permanent(fmt.Errorf("table %q does not exist: make it, or write create: true", t.Table))
		}
		if err := w.create(t, b); err != nil {
			return nil, err
		}
		if columns, err = w.columns(t.Table); err != nil {
			return nil, err
		}
	}
	found := &table{columns: map[string]Column{}}
	for _, c := range columns {
		found.columns[c.Name] = c
		found.names = append(found.names, c.Name)
	}
	for _, k := range t.Key {
		if _, ok := found.columns[k]; !ok {
			return nil, w.unknown(t, found, k)
		}
	}
	return found, nil
}

func (w *work) columns(table string) ([]Column, error) {
	columns, err := w.w.c.driver.Dialect.Columns(w.ctx, w.tx, table)
	if err != nil {
		return nil, w.w.c.fault(fmt.Errorf("look at table %q: %w", table, err))
	}
	return columns, nil
}

func (w *work) unknown(t *connector.Target, found *table, name string) error {
	hint := "it has " + strings.Join(found.names, ", ")
	if near := nearest.Name(name, found.names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return connector.Permanent(fmt.Errorf("table %q has no column %q: %s", t.Table, name, hint))
}

// create makes the table from the names and kinds of the first records.
func (w *work) create(t *connector.Target, b *transform.Batch) error {
	names := slices.Clone(t.Columns)
	classes := map[string]Class{}
	for _, r := range b.Records {
		for name, v := range r.Value.Fields() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			if c := classOf(v); classes[name] == Any {
				classes[name] = c
			} else if c != Any && c != classes[name] {
				classes[name] = Text
			}
		}
	}
	for _, k := range t.Key {
		if !slices.Contains(names, k) {
			return connector.Permanent(fmt.Errorf("table %q cannot be made: no record has the key %q", t.Table, k))
		}
	}
	if len(names) == 0 {
		return connector.Permanent(fmt.Errorf("table %q cannot be made: the records have no fields", t.Table))
	}
	var text strings.Builder
	text.WriteString("create table " + w.quote(t.Table) + " (")
	for i, name := range names {
		if err := checkName(name); err != nil {
			return connector.Permanent(fmt.Errorf("table %q cannot be made: column %d: %w", t.Table, i+1, err))
		}
		class := classes[name]
		if class == Any {
			class = Text
		}
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(w.quote(name) + " " + w.w.c.driver.Dialect.TypeOf(class))
		if slices.Contains(t.Key, name) {
			text.WriteString(" not null")
		}
	}
	if len(t.Key) > 0 {
		text.WriteString(", primary key (" + w.list(t.Key) + ")")
	}
	text.WriteString(")")
	if _, err := w.tx.ExecContext(w.ctx, text.String()); err != nil {
		return w.w.c.fault(fmt.Errorf("make table %q: %w", t.Table, err))
	}
	return nil
}

// classOf is the class of the column that a new table gets for a value.
func classOf(v transform.Value) Class {
	switch v.Kind() {
	case transform.KindNull:
		return Any
	case transform.KindNumber:
		return Numeric
	case transform.KindBool:
		return Boolean
	case transform.KindBytes:
		return Blob
	}
	return Text
}

func (w *work) list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = w.quote(n)
	}
	return strings.Join(quoted, ", ")
}

// row is a record with its arguments.
type row struct {
	record *transform.Record
	args   []any
}

// write writes records of one shape.
func (w *work) write(t *connector.Target, found *table, shape *transform.Shape, records []transform.Record) error {
	names := make([]string, 0, len(found.columns))
	if shape != nil {
		for i := range shape.Len() {
			if _, ok := found.columns[shape.Name(i)]; !ok {
				return w.unknown(t, found, shape.Name(i))
			}
			names = append(names, shape.Name(i))
		}
	}
	for _, k := range t.Key {
		if !slices.Contains(names, k) {
			return connector.Permanent(fmt.Errorf("table %q: the records have no field %q, which is part of the key", t.Table, k))
		}
	}
	var ready []row
	for i := range records {
		if records[i].Err != nil {
			continue
		}
		args, fault := w.arguments(t, found, names, &records[i])
		if fault != nil {
			records[i].Err = fault
			continue
		}
		ready = append(ready, row{&records[i], args})
	}
	most := min(rowsPerStatement, w.w.c.driver.Dialect.MaxArgs/max(1, len(names)))
	if t.Action == "update" || t.Action == "delete" {
		most = 1
	}
	if t.Action == "replace" {
		if err := w.clear(t, found, names, ready); err != nil {
			return err
		}
	}
	for len(ready) > 0 {
		n := len(ready)
		if n >= most {
			n = most
		} else if n > 1 && most > 1 && n < 8 {
			n = 1 // few rows: the statement for one is prepared anyway
		}
		if err := w.exec(t, names, ready[:n]); err != nil {
			return err
		}
		ready = ready[n:]
	}
	return nil
}

func (w *work) arguments(t *connector.Target, found *table, names []string, r *transform.Record) ([]any, error) {
	if r.Value.Kind() != transform.KindObject {
		return nil, &transform.Fault{Kind: "refused", Step: w.w.c.name, Reason: "a row needs fields, this record is " + r.Value.Kind().String()}
	}
	args := make([]any, len(names))
	for i, name := range names {
		arg, err := convert(found.columns[name].Class, r.Value.At(i))
		if err == nil && arg == nil && slices.Contains(t.Key, name) {
			err = errors.New("it is part of the key and null")
		}
		if err != nil {
			return nil, &transform.Fault{Kind: "refused", Step: w.w.c.name, Field: name, Reason: err.Error()}
		}
		args[i] = arg
	}
	return args, nil
}

// clear deletes the rows that the load's keys had before, once for each key and run.
func (w *work) clear(t *connector.Target, found *table, names []string, ready []row) error {
	if found.replaced == nil {
		found.replaced = map[string]bool{}
	}
	for _, r := range ready {
		key := make([]any, len(t.Key))
		for i, k := range t.Key {
			key[i] = r.args[slices.Index(names, k)]
		}
		mark := fmt.Sprintf("%#v", key)
		if found.replaced[mark] {
			continue
		}
		found.replaced[mark] = true
		if _, err := w.statement("delete from "+w.quote(t.Table)+" where "+w.where(t.Key, 0), key); err != nil {
			return w.w.c.fault(fmt.Errorf("table %q: delete what is replaced: %w", t.Table, err))
		}
	}
	return nil
}

// where compares columns with the arguments that follow the first few.
func (w *work) where(columns []string, after int) string {
	terms := make([]string, len(columns))
	for i, c := range columns {
		terms[i] = w.quote(c) + " = " + w.placeholder(after+i+1)
	}
	return strings.Join(terms, " and ")
}

// exec writes rows in one statement; when that fails because of a row, each row on its own.
func (w *work) exec(t *connector.Target, names []string, rows []row) error {
	text, args := w.sql(t, names, rows)
	_, err := w.statement(text, args)
	if err == nil {
		return nil
	}
	if w.ctx.Err() != nil || w.w.c.driver.Dialect.Classify(err) != FaultRecord {
		return w.w.c.fault(fmt.Errorf("table %q: %s: %w", t.Table, t.Action, err))
	}
	if len(rows) == 1 {
		rows[0].record.Err = &transform.Fault{Kind: "refused", Step: w.w.c.name, Reason: "a rule of the database forbids this row", Err: err}
		return nil
	}
	for i := range rows {
		if err := w.exec(t, names, rows[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// sql returns the statement for rows and its arguments.
func (w *work) sql(t *connector.Target, names []string, rows []row) (string, []any) {
	table := w.quote(t.Table)
	switch t.Action {
	case "update", "delete":
		var set []string
		var args, key []any
		for i, name := range names {
			if slices.Contains(t.Key, name) {
				continue
			}
			if t.Action == "update" {
				args = append(args, rows[0].args[i])
				set = append(set, w.quote(name)+" = "+w.placeholder(len(args)))
			}
		}
		for _, k := range t.Key {
			key = append(key, rows[0].args[slices.Index(names, k)])
		}
		where := " where " + w.where(t.Key, len(args))
		if t.Action == "delete" {
			return "delete from " + table + where, key
		}
		if set == nil { // nothing but the key: the row stays what it is
			set = []string{w.quote(t.Key[0]) + " = " + w.quote(t.Key[0])}
		}
		return "update " + table + " set " + strings.Join(set, ", ") + where, append(args, key...)
	}
	var b strings.Builder
	b.WriteString("insert into " + table + " (" + w.list(names) + ") values ")
	args := make([]any, 0, len(rows)*len(names))
	for i, r := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for k := range names {
			if k > 0 {
				b.WriteString(", ")
			}
			args = append(args, r.args[k])
			b.WriteString(w.placeholder(len(args)))
		}
		b.WriteByte(')')
	}
	if t.Action == "upsert" {
		b.WriteString(w.w.c.driver.Dialect.Upsert(names, t.Key, w.quote))
	}
	return b.String(), args
}

// statement runs a statement, prepared once for the transaction.
func (w *work) statement(text string, args []any) (sql.Result, error) {
	prepared := w.statements[text]
	if prepared == nil {
		var err error
		if prepared, err = w.tx.PrepareContext(w.ctx, text); err != nil {
			return nil, err
		}
		w.statements[text] = prepared
	}
	return prepared.ExecContext(w.ctx, args...)
}

// Commit notes the runs and commits.
func (w *work) Commit() error {
	now := time.Now().UTC().Format(time.RFC3339)
	for _, run := range w.runs {
		text := "insert into " + w.quote(appliedTable) + " (run_id, flow, applied_at) values (" + w.placeholder(1) + ", " + w.placeholder(2) + ", " + w.placeholder(3) + ")"
		if _, err := w.statement(text, []any{run.ID.String(), run.Flow, now}); err != nil {
			return w.w.c.fault(fmt.Errorf("note the run: %w", err))
		}
	}
	w.ended = true
	if err := w.tx.Commit(); err != nil {
		return w.w.c.fault(fmt.Errorf("commit: %w", err))
	}
	if w.made {
		w.w.c.mu.Lock()
		w.w.c.marked = true
		w.w.c.mu.Unlock()
	}
	return nil
}

// Rollback undoes the transaction.
func (w *work) Rollback() error {
	if w.ended {
		return nil
	}
	w.ended = true
	if err := w.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
