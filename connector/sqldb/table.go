package sqldb

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// table is what a target looks like in the database.
type table struct {
	target   *connector.Target
	columns  map[string]Class
	known    []string // the columns in order
	layouts  map[*transform.Shape]*layout
	bringing bringing // with action replace
	saved    bringing // what it was at the last savepoint
}

// bringing is which keys the rows of a source's record have brought so far, whose former rows are deleted. The rows of one record come one after the other.
type bringing struct {
	record int64 // its index
	keys   map[string]bool
}

// new reports whether the record brings a key for the first time.
func (b *bringing) new(record int64, key string) bool {
	if b.record != record {
		clear(b.keys)
	}
	if b.keys == nil {
		b.keys = map[string]bool{}
	}
	b.record = record
	before := b.keys[key]
	b.keys[key] = true
	return !before
}

func (b bringing) clone() bringing { return bringing{b.record, maps.Clone(b.keys)} }

// open looks at a target's table, and makes it from the records when the definition says so. It returns none when nothing is there that could be deleted.
func (w *work) open(t *connector.Target, records []*transform.Record) (*table, error) {
	columns, err := w.columns(t.Table)
	if err != nil {
		return nil, err
	}
	if len(columns) == 0 {
		if !t.Create {
			return nil, connector.Permanent(fmt.Errorf("table %q does not exist: make it, or write create: true", t.Table))
		}
		if t.Action == "delete" {
			return nil, nil
		}
		if err := w.create(t, records); err != nil {
			return nil, err
		}
		if columns, err = w.columns(t.Table); err != nil {
			return nil, err
		}
	}
	found := &table{target: t, columns: map[string]Class{}, layouts: map[*transform.Shape]*layout{}}
	for _, c := range columns {
		found.columns[c.Name] = c.Class
		found.known = append(found.known, c.Name)
	}
	for _, k := range t.Key {
		if _, ok := found.columns[k]; !ok {
			return nil, connector.Permanent(errors.New(found.unknown(k)))
		}
	}
	return found, nil
}

// columns returns the columns of a table, none when there is no such table.
func (w *work) columns(table string) ([]Column, error) {
	columns, err := w.Columns(w.ctx, w.tx, table)
	if err != nil {
		return nil, w.fault(fmt.Sprintf("look at table %q", table), err)
	}
	return columns, nil
}

func (t *table) unknown(name string) string {
	return fmt.Sprintf("table %q has no column %q: it has %s%s", t.target.Table, name, strings.Join(t.known, ", "), meant(name, t.known))
}

// create makes the table from the names and kinds of the first records.
func (w *work) create(t *connector.Target, records []*transform.Record) error {
	names := slices.Clone(t.Columns)
	classes := map[string]Class{}
	for _, r := range records {
		for name, v := range r.Value.Fields() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			classes[name] = common(classes[name], classOf(v))
		}
	}
	for _, k := range t.Key {
		if !slices.Contains(names, k) {
			return connector.Permanent(fmt.Errorf("table %q cannot be made: no record has the key %q", t.Table, k))
		}
	}
	var text strings.Builder
	text.WriteString("create table " + w.Quote(t.Table) + " (")
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
		text.WriteString(w.Quote(name) + " " + w.TypeOf(class))
		if slices.Contains(t.Key, name) {
			text.WriteString(" not null")
		}
	}
	many := t.Action == "replace" && t.Each // rows of a key
	if len(t.Key) > 0 && !many {
		text.WriteString(", primary key (" + w.list(t.Key) + ")")
	}
	text.WriteString(")")
	statements := []string{text.String()}
	if many {
		statements = append(statements, "create index "+w.Quote(t.Table+"_by_"+strings.Join(t.Key, "_"))+" on "+w.Quote(t.Table)+" ("+w.list(t.Key)+")")
	}
	for _, statement := range statements {
		if _, err := w.tx.ExecContext(w.ctx, statement); err != nil {
			return w.fault(fmt.Sprintf("make table %q", t.Table), err)
		}
	}
	return nil
}

// classOf is the class of the column that a new table gets for a value.
func classOf(v transform.Value) Class {
	switch v.Kind() {
	case transform.KindNull:
		return Any
	case transform.KindNumber:
		if _, err := number(v.Text()); err != nil {
			return Decimal
		}
		return Numeric
	case transform.KindBool:
		return Boolean
	case transform.KindBytes:
		return Blob
	}
	return Text
}

// common is the class of a column for values of both classes.
func common(a, b Class) Class {
	switch {
	case a == b, b == Any:
		return a
	case a == Any:
		return b
	case a == Numeric && b == Decimal, a == Decimal && b == Numeric:
		return Decimal
	}
	return Text
}

func (w *work) list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = w.Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// layout is how records of one shape are written to a table.
type layout struct {
	step    string         // whose faults are these
	refused error          // why no record of this shape fits
	names   []string       // the columns that are written
	at      []int          // where their values stand in the record
	classes []Class        // what the columns hold
	inKey   []bool         // whether they are part of the key
	key     []int          // the key's places in names
	texts   map[int]string // the statements, by number of rows
}

// layout finds out how records of a shape are written. Fields that the flow's definition names must have a column; fields that the payload
// brings along and that have none are the record's fault.
func (t *table) layout(w *work, shape *transform.Shape) (*layout, error) {
	if l := t.layouts[shape]; l != nil {
		return l, nil
	}
	l := &layout{step: w.c.name, texts: map[int]string{}}
	for i := range shape.Len() {
		name := shape.Name(i)
		inKey := slices.Contains(t.target.Key, name)
		if t.target.Action == "delete" && !inKey {
			continue
		}
		class, ok := t.columns[name]
		if !ok && slices.Contains(t.target.Columns, name) {
			return nil, connector.Permanent(errors.New(t.unknown(name)))
		}
		if !ok {
			l.refused = cmp.Or(l.refused, l.fault(name, t.unknown(name)))
		}
		l.names, l.at, l.classes, l.inKey = append(l.names, name), append(l.at, i), append(l.classes, class), append(l.inKey, inKey)
	}
	for _, k := range t.target.Key {
		i := slices.Index(l.names, k)
		if i < 0 {
			l.refused = cmp.Or(l.refused, l.fault(k, "it is part of the key, and the record has no such field"))
		}
		l.key = append(l.key, i)
	}
	if len(t.layouts) == maxLayouts { // records whose fields differ without end must not fill the memory with statements
		for _, old := range t.layouts {
			w.forget(old.texts)
		}
		clear(t.layouts)
	}
	t.layouts[shape] = l
	return l, nil
}

func (l *layout) fault(field, reason string) error {
	return &transform.Fault{Kind: "refused", Step: l.step, Field: field, Reason: reason}
}

// append adds a record's arguments, or says why the record does not fit.
func (l *layout) append(args []any, record transform.Value) ([]any, error) {
	if l.refused != nil {
		return args, l.refused
	}
	full := args
	for i, name := range l.names {
		arg, err := convert(l.classes[i], record.At(l.at[i]))
		if err == nil && arg == nil && l.inKey[i] {
			err = errors.New("it is part of the key and null")
		}
		if err != nil {
			return args, l.fault(name, err.Error())
		}
		full = append(full, arg)
	}
	return full, nil
}

// keyOf returns the key's values among the arguments of a record.
func (l *layout) keyOf(args []any) []any {
	key := make([]any, len(l.key))
	for i, at := range l.key {
		key[i] = args[at]
	}
	return key
}

// byKey returns a record's arguments for update and delete: what is set, then the key.
func (l *layout) byKey(args []any) []any {
	ordered := make([]any, 0, len(args))
	for i, arg := range args {
		if !l.inKey[i] {
			ordered = append(ordered, arg)
		}
	}
	return append(ordered, l.keyOf(args)...)
}

// text returns the statement that writes a number of rows.
func (p *portion) text(w *work, rows int) string {
	text := p.texts[rows]
	if text == "" {
		text = w.sql(p.target, p.names, rows)
		p.texts[rows] = text
	}
	return text
}

// sql returns the statement that writes rows with values for these columns.
func (w *work) sql(t *connector.Target, names []string, rows int) string {
	table := w.Quote(t.Table)
	switch t.Action {
	case "delete":
		return "delete from " + table + " where " + w.where(t.Key, 0)
	case "update":
		var set []string
		for _, name := range names {
			if !slices.Contains(t.Key, name) {
				set = append(set, w.Quote(name)+" = "+w.Placeholder(len(set)+1))
			}
		}
		after := len(set)
		if after == 0 { // nothing but the key: the row stays what it is
			set = []string{w.Quote(t.Key[0]) + " = " + w.Quote(t.Key[0])}
		}
		return "update " + table + " set " + strings.Join(set, ", ") + " where " + w.where(t.Key, after)
	}
	var b strings.Builder
	b.WriteString("insert into " + table + " (" + w.list(names) + ") values ")
	for i := range rows * len(names) {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%len(names) == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString(w.Placeholder(i + 1))
	}
	b.WriteString(")")
	if t.Action == "upsert" {
		b.WriteString(w.Upsert(names, t.Key, w.Quote))
	}
	return b.String()
}

// where compares columns with the arguments that follow the first few.
func (w *work) where(columns []string, after int) string {
	terms := make([]string, len(columns))
	for i, c := range columns {
		terms[i] = w.Quote(c) + " = " + w.Placeholder(after+i+1)
	}
	return strings.Join(terms, " and ")
}
