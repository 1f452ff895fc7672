package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/internal/nearest"
	"github.com/integrator-go/integrator/transform"
)

const (
	appliedTable = "integrator_runs"  // the ids of the runs whose writes are in the database
	partsTable   = "integrator_parts" // the parts of runs that were committed one by one, and notes about runs at position 0; made when there is one
)

const (
	maxRuns    = 100                 // in one transaction
	maxRows    = 64                  // in one statement: wider ones gain nothing, and take longer to prepare
	maxLayouts = 32                  // of a table, each with its prepared statements
	keepRuns   = 30 * 24 * time.Hour // in the engine's own tables
	keepParts  = 24 * time.Hour      // of a run that is applied: it is settled at once, or soon after a crash
	pruneEvery = time.Hour
)

// PrepareWrite checks the destinations of a flow.
func (c *connection) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	var faults []error
	fault := func(i int, key, reason, hint string) {
		faults = append(faults, &connector.Fault{Target: i, Key: key, Reason: reason, Hint: hint})
	}
	targets = slices.Clone(targets)
	for i := range targets {
		t := &targets[i]
		if t.Table == "" {
			fault(i, "connection", "a destination in a database needs a table", "write table: name")
		} else if err := checkName(t.Table); err != nil {
			fault(i, "table", err.Error(), "")
		} else if strings.EqualFold(t.Table, appliedTable) || strings.EqualFold(t.Table, partsTable) {
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
		switch t.Action = cmp.Or(t.Action, "insert"); t.Action {
		case "insert":
		case "upsert", "update", "delete", "replace":
			if len(t.Key) == 0 {
				fault(i, "action", t.Action+" needs a key: the columns that tell rows apart", "write key: [id]")
			}
		default:
			fault(i, "action", fmt.Sprintf("%q is not known", t.Action), "there are insert, upsert, update, delete, replace")
		}
		for n, k := range t.Key {
			if slices.Contains(t.Key[:n], k) {
				fault(i, "key", fmt.Sprintf("%q is named twice", k), "name each column once")
			}
			if t.Columns != nil && !slices.Contains(t.Columns, k) {
				fault(i, "key", fmt.Sprintf("no field %q is written", k), "the fields are "+strings.Join(t.Columns, ", ")+meant(k, t.Columns))
			}
		}
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return &writer{c, targets}, nil
}

// meant names the nearest of the names that there are.
func meant(name string, names []string) string {
	if near := nearest.Name(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// writer writes a flow's destinations.
type writer struct {
	c       *connection
	targets []connector.Target
}

var (
	_ connector.PartWriter = (*writer)(nil)
	_ connector.Undoer     = (*work)(nil)
	_ connector.Noter      = (*work)(nil)
)

// MaxRuns is how many runs may share a transaction.
func (w *writer) MaxRuns() int { return maxRuns }

// Begin starts a transaction.
func (w *writer) Begin(ctx context.Context) (connector.Work, error) { return w.BeginPart(ctx) }

// BeginPart starts a transaction.
func (w *writer) BeginPart(ctx context.Context) (connector.Part, error) {
	db, err := w.c.use()
	if err != nil {
		return nil, err
	}
	marked, prune := w.c.marks() // before the transaction, which may not see what another has made meanwhile
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, w.c.fault(ctx, "begin a transaction", err)
	}
	work := &work{writer: w, Dialect: &w.c.driver.Dialect, ctx: ctx, tx: tx, tables: make([]*table, len(w.targets)), statements: map[string]*sql.Stmt{}, prune: prune}
	if !marked {
		if err := work.make(appliedTable, "run_id char(36) not null primary key, flow varchar(255), applied_at varchar(40)"); err != nil {
			work.Rollback()
			return nil, err
		}
	}
	return work, nil
}

// work is one transaction.
type work struct {
	*writer
	*Dialect
	ctx        context.Context
	tx         *sql.Tx
	tables     []*table // by target, read when it is first written
	statements map[string]*sql.Stmt
	args       []any         // of a portion, used again by the next
	current    connector.Run // started last
	saved      bool          // there is a savepoint for Undo
	opened     []int         // targets whose tables were looked at since then
	runs       []connector.Run
	prune      bool // this transaction forgets old runs
	ended      bool
}

func (w *work) fault(doing string, err error) error { return w.c.fault(w.ctx, doing, err) }

// make makes one of the engine's own tables when it is missing.
func (w *work) make(table, columns string) error {
	found, err := w.columns(table)
	if err != nil || len(found) > 0 {
		return err
	}
	if _, err = w.tx.ExecContext(w.ctx, "create table "+w.Quote(table)+" ("+columns+")"); err != nil {
		return w.fault("make table "+table, err)
	}
	return nil
}

// Start begins a run's writes.
func (w *work) Start(run connector.Run, _ []string) (bool, error) {
	w.current = run
	var one int
	err := w.tx.QueryRowContext(w.ctx, "select 1 from "+w.Quote(appliedTable)+" where run_id = "+w.Placeholder(1), run.ID.String()).Scan(&one)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		w.c.setMarked(false) // somebody may have dropped the table
		return false, w.fault("look up the run", err)
	}
	for _, t := range w.tables {
		if t != nil {
			t.bringing = bringing{}
		}
	}
	w.runs = append(w.runs, run)
	return false, nil
}

// Write writes the batch's records.
func (w *work) Write(target int, b *transform.Batch) error {
	var records []*transform.Record
	for i := range b.Records {
		r := &b.Records[i]
		if r.Err != nil {
			continue
		}
		if r.Value.Kind() != transform.KindObject || r.Value.Len() == 0 {
			r.Err = &transform.Fault{Kind: "refused", Step: w.c.name, Reason: "a row needs fields, and this record has none"}
			continue
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil
	}
	t := w.tables[target]
	if t == nil {
		var err error
		if t, err = w.open(&w.targets[target], records); t == nil || err != nil {
			return err
		}
		w.tables[target], w.opened = t, append(w.opened, target)
	}
	for rest := records; len(rest) > 0; { // records of one shape share statements
		shape := rest[0].Value.Shape()
		n := 1
		for n < len(rest) && rest[n].Value.Shape() == shape {
			n++
		}
		if err := w.write(t, shape, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// write writes records of one shape.
func (w *work) write(t *table, shape *transform.Shape, records []*transform.Record) error {
	l, err := t.layout(w, shape)
	if err != nil {
		return err
	}
	p := portion{table: t, layout: l, args: w.args[:0]}
	for _, r := range records {
		if p.args, r.Err = l.append(p.args, r.Value); r.Err == nil {
			p.records = append(p.records, r)
		}
	}
	w.args = p.args
	if len(p.records) == 0 {
		return nil
	}
	return w.try(&p, 0, len(p.records))
}

// portion is records of one layout with their arguments.
type portion struct {
	*table
	*layout
	records []*transform.Record
	args    []any // len(names) for each record
}

// of returns the arguments of the records from lo up to hi.
func (p *portion) of(lo, hi int) []any { return p.args[lo*len(p.names) : hi*len(p.names)] }

// try writes the records from lo up to hi. When a rule of the database forbids it, nothing of it stays and each half is tried, until the
// record at fault stands alone. A savepoint keeps the transaction usable, in databases too that spoil it after a fault.
func (w *work) try(p *portion, lo, hi int) error {
	if err := w.run("savepoint "+savepoint, nil); err != nil {
		return w.fault("write", err)
	}
	before := p.bringing.clone()
	err := w.exec(p, lo, hi)
	if err == nil {
		if err := w.run("release savepoint "+savepoint, nil); err != nil {
			return w.fault("write", err)
		}
		return nil
	}
	doing := fmt.Sprintf("table %q: %s", p.target.Table, p.target.Action)
	if w.ctx.Err() != nil || w.Classify(err) != FaultRecord {
		return w.fault(doing, err)
	}
	for _, text := range []string{"rollback to savepoint " + savepoint, "release savepoint " + savepoint} {
		if err := w.run(text, nil); err != nil {
			return w.fault(doing, err)
		}
	}
	p.bringing = before
	if hi-lo == 1 {
		p.records[lo].Err = &transform.Fault{Kind: "refused", Step: w.c.name, Reason: "a rule of the database forbids this row", Err: err}
		return nil
	}
	middle := lo + (hi-lo)/2
	if err := w.try(p, lo, middle); err != nil {
		return err
	}
	return w.try(p, middle, hi)
}

const (
	savepoint = "integrator"       // around a statement
	batch     = "integrator_batch" // of Save
)

// Save sets a savepoint.
func (w *work) Save() error {
	for _, t := range w.tables {
		if t != nil {
			t.saved = t.bringing.clone()
		}
	}
	if w.opened = nil; w.saved {
		if err := w.run("release savepoint "+batch, nil); err != nil {
			return w.fault("set a savepoint", err)
		}
	}
	if err := w.run("savepoint "+batch, nil); err != nil {
		return w.fault("set a savepoint", err)
	}
	w.saved = true
	return nil
}

// Undo goes back to the savepoint. Tables that were made since are gone.
func (w *work) Undo() error {
	for _, t := range w.tables {
		if t != nil {
			t.bringing = t.saved.clone()
		}
	}
	for _, target := range w.opened {
		for _, l := range w.tables[target].layouts {
			w.forget(l.texts)
		}
		w.tables[target] = nil
	}
	w.opened = nil
	if err := w.run("rollback to savepoint "+batch, nil); err != nil {
		return w.fault("go back to a savepoint", err)
	}
	return nil
}

// exec writes the records from lo up to hi.
func (w *work) exec(p *portion, lo, hi int) error {
	switch p.target.Action {
	case "update", "delete":
		for i := lo; i < hi; i++ {
			if err := w.run(p.text(w, 1), p.byKey(p.of(i, i+1))); err != nil {
				return err
			}
		}
		return nil
	case "replace":
		return w.replace(p, lo, hi)
	}
	return w.insert(p, lo, hi)
}

// replace deletes the rows of each key that a record of the source brings, before its own are inserted: those of the last record stay. Rows of several records are inserted
// together while they have different keys.
func (w *work) replace(p *portion, lo, hi int) error {
	remove := "delete from " + w.Quote(p.target.Table) + " where " + w.where(p.target.Key, 0)
	waiting := map[string]bool{} // keys of the rows from lo on, which are not inserted yet
	for i := lo; i < hi; i++ {
		key := p.keyOf(p.of(i, i+1))
		mark := fmt.Sprintf("%#v", key)
		if p.bringing.new(p.records[i].Index, mark) {
			if waiting[mark] {
				if err := w.insert(p, lo, i); err != nil {
					return err
				}
				clear(waiting)
				lo = i
			}
			if err := w.run(remove, key); err != nil {
				return err
			}
		}
		waiting[mark] = true
	}
	return w.insert(p, lo, hi)
}

// insert inserts the records from lo up to hi.
func (w *work) insert(p *portion, lo, hi int) error {
	width := 1 // a power of two, so that few statements serve every number of records
	for limit := min(maxRows, w.MaxArgs/len(p.names)); 2*width <= limit; {
		width *= 2
	}
	for ; lo < hi; lo += width {
		for width > hi-lo {
			width /= 2
		}
		if err := w.run(p.text(w, width), p.of(lo, lo+width)); err != nil {
			return err
		}
	}
	return nil
}

// run runs a statement that is prepared once for the transaction.
func (w *work) run(text string, args []any) error {
	prepared := w.statements[text]
	if prepared == nil {
		var err error
		if prepared, err = w.tx.PrepareContext(w.ctx, text); err != nil {
			return err
		}
		w.statements[text] = prepared
	}
	_, err := prepared.ExecContext(w.ctx, args...)
	return err
}

// forget closes prepared statements.
func (w *work) forget(texts map[int]string) {
	for _, text := range texts {
		if prepared := w.statements[text]; prepared != nil {
			prepared.Close() // what it did is done
			delete(w.statements, text)
		}
	}
}

// Commit notes the runs and commits.
func (w *work) Commit() error {
	now := w.c.now().UTC().Format(time.RFC3339)
	for _, run := range w.runs {
		if err := w.mark("note the run", appliedTable, []string{"run_id", "flow", "applied_at"}, run.ID.String(), run.Flow, now); err != nil {
			return err
		}
	}
	return w.end()
}

// Checkpoints reads the parts of the run that was started.
func (w *work) Checkpoints(each func(connector.Checkpoint) error) error {
	return w.notes("records > 0", each)
}

// notes reads what is noted about the run that was started, where the condition holds.
func (w *work) notes(condition string, each func(connector.Checkpoint) error) error {
	const doing = "look up the parts of the run"
	if found, err := w.columns(partsTable); err != nil || len(found) == 0 {
		return err
	}
	rows, err := w.tx.QueryContext(w.ctx, "select records, note from "+w.Quote(partsTable)+" where run_id = "+w.Placeholder(1)+" and "+condition+" order by records", w.current.ID.String())
	if err != nil {
		return w.fault(doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var c connector.Checkpoint
		if err := rows.Scan(&c.Position, &c.Note); err != nil {
			return w.fault(doing, err)
		}
		if err := each(c); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return w.fault(doing, err)
	}
	return nil
}

// Checkpoint notes a part of the run and commits.
func (w *work) Checkpoint(c connector.Checkpoint) error {
	failpoint.Hit("part.noting")
	if c.Position > 0 {
		if err := w.keep("note a part of the run", c); err != nil {
			return err
		}
	}
	if err := w.end(); err != nil {
		return err
	}
	failpoint.Hit("part.committed")
	return nil
}

// keep adds a note about the run that was started.
func (w *work) keep(doing string, c connector.Checkpoint) error {
	columns := "run_id char(36) not null, records bigint not null, note " + w.TypeOf(Blob) + ", applied_at varchar(40), primary key (run_id, records)"
	if err := w.make(partsTable, columns); err != nil {
		return err
	}
	names, now := []string{"run_id", "records", "note", "applied_at"}, w.c.now().UTC().Format(time.RFC3339)
	return w.mark(doing, partsTable, names, w.current.ID.String(), c.Position, c.Note, now)
}

// Note keeps a note about the run.
func (w *work) Note(note []byte) error {
	return w.keep("note what became of the run's records", connector.Checkpoint{Note: note})
}

// Noted returns the note about the run.
func (w *work) Noted() (note []byte, err error) {
	err = w.notes("records = 0", func(c connector.Checkpoint) error {
		note = c.Note
		return nil
	})
	return note, err
}

// mark adds a row to one of the engine's own tables.
func (w *work) mark(doing, table string, names []string, args ...any) error {
	err := w.run(w.sql(&connector.Target{Table: table}, names, 1), args)
	if err != nil && w.Classify(err) == FaultRecord {
		return fmt.Errorf("%s: another attempt of it is on its way: %w", doing, err)
	}
	if err != nil {
		return w.fault(doing, err)
	}
	return nil
}

// end forgets old runs when it is time to, and commits.
func (w *work) end() error {
	if w.prune {
		if err := w.forgetRuns(); err != nil {
			return w.fault("forget old runs", err)
		}
	}
	w.ended = true
	failpoint.Hit("sql.committing")
	if err := w.tx.Commit(); err != nil {
		return w.fault("commit", err)
	}
	failpoint.Hit("sql.committed")
	w.c.setMarked(true)
	return nil
}

// forgetRuns deletes old rows of the engine's own tables. A run's id is older than its row and orders by time, so that the key leads to the
// old ones.
func (w *work) forgetRuns() error {
	now := w.c.now().UTC()
	before := func(keep time.Duration) (id, applied any) {
		t := now.Add(-keep)
		return fmt.Sprintf("%08x-%04x", t.UnixMilli()>>16, t.UnixMilli()&0xffff), t.Format(time.RFC3339)
	}
	where := func(n int) string { return "run_id < " + w.Placeholder(n) + " and applied_at < " + w.Placeholder(n+1) }
	runID, runTime := before(keepRuns)
	found, err := w.columns(partsTable)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		partID, partTime := before(keepParts)
		text := "delete from " + w.Quote(partsTable) + " where " + where(1) + " or " + where(3) + " and run_id in (select run_id from " + w.Quote(appliedTable) + ")"
		if err := w.run(text, []any{runID, runTime, partID, partTime}); err != nil {
			return err
		}
	}
	return w.run("delete from "+w.Quote(appliedTable)+" where "+where(1), []any{runID, runTime})
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
