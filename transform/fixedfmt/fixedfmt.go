// Package fixedfmt reads and writes text files whose values stand at fixed positions of a line, with lines of one sort or of several.
//
// Positions count characters from 1, both ends included. The blanks around a value are no part of it, but a column of type text keeps those
// before it; nothing but blanks is null. What stands behind a line's end is null too, and what no column covers is passed over. Values are untyped
// text unless their column has a type. A value that does not fit its type is a fault of that record; NUL and bytes that mean nothing in the
// encoding are faults of the document, each with its line and column. Lines end with LF, CR LF or CR; empty ones are passed over. A byte order
// mark is passed over; that of UTF-16 says how the document is read.
//
// Lines of several sorts are told apart by how they start, and one sort is the records. A record's parent is the last line before it of its
// sort's parent; a parent's own parent is its field `parent`, and the outermost of them is the document (`doc`). A line of no sort is a fault of
// that record, and so are records without the parent that they need: none is ever given to the wrong one, also not behind a line that could not
// be told.
//
// Written, each value fills its column: text from the left, numbers from the right, columns apart by blanks. What does not fit is a fault of
// that record. Empty text is written as blanks, which are read as null; blanks behind text are no other than those that fill its column.
//
// The three names that matter are [Kind], [Options] and [New]. The document streams by: one line, at most [transform.Limits].RecordBytes long,
// is held in memory, and one of each sort of its parents.
package fixedfmt

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
	"github.com/integrator-go/integrator/transform/internal/feed"
)

// Options are the choices of the format. Columns or Lines are required.
type Options struct {
	Columns  map[string]Column `json:"columns"`  // of documents with one sort of line
	Lines    map[string]Line   `json:"lines"`    // the sorts of lines, by name, of other documents
	Records  string            `json:"records"`  // the sort of line that is the records, required when there are several; that of a flow's `from` wins
	Encoding string            `json:"encoding"` // of characters: utf-8 (the default), utf-16, windows-1252, iso-8859-1 …; a byte order mark says more
	LineEnd  string            `json:"line_end"` // writing: lf (the default) or crlf
}

// Line is one sort of line.
type Line struct {
	Starts  string            `json:"starts"`  // what it starts with, required; of several that fit the longest does
	Parent  string            `json:"parent"`  // the sort of line that its lines stand below; "" is none
	Columns map[string]Column `json:"columns"` // none are needed for lines that nobody reads
}

// Column is where a value stands and what it is.
type Column struct {
	At    string `json:"at" define:"short"` // its positions, 3-24 or 5, required; its type may stand behind them: 25-32 date yyyyMMdd
	Type  string `json:"type"`              // see [transform.ParseColumn]; "" is text without a type
	Align string `json:"align"`             // where a shorter value stands: left, or right (the default for numbers); what stands right has no blanks of its own before it
	Pad   string `json:"pad"`               // writing: what fills a shorter value up: a blank (the default), or 0 before a number
}

// maxPosition is where a line ends that anybody could want.
const maxPosition = 1 << 20

// sort is a sort of line with checked columns.
type sort struct {
	name, starts string
	parent       *sort
	columns      []column // by position
	shape        *transform.Shape
	above        *transform.Shape // of a parent that has a parent: the last field is that one
	typed        bool             // a column has a type
	overlap      string           // why it is not written; "" when it is
}

// column is where a value stands: characters from 0, to is behind it.
type column struct {
	name         string
	from, to     int
	typed, zeros bool
	align        string
	transform.Column
}

// format is fixed-width text with checked options.
type format struct {
	sorts   []*sort // those that start with more come first
	records *sort
	charset *charset.Charset
	lineEnd string
}

var (
	_ transform.Describer = (*format)(nil)
	_ transform.Appender  = (*format)(nil)
)

// Kind makes formats of fixed positions from definitions.
func Kind() transform.FormatKind {
	return transform.FormatKind{Name: "fixed", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	}}
}

// New returns the format with these options. The error joins a *transform.DefinitionError for each option that is wrong.
func New(o Options) (transform.Format, error) {
	c := &compiler{}
	f := &format{lineEnd: "\n"}
	switch o.LineEnd {
	case "", "lf":
	case "crlf":
		f.lineEnd = "\r\n"
	default:
		c.fault("line_end", 0, fmt.Sprintf("%q is not known", o.LineEnd), "there are lf and crlf")
	}
	var err error
	if f.charset, err = charset.Option(o.Encoding); err != nil {
		c.faults = append(c.faults, err)
	}
	switch {
	case len(o.Columns) > 0 && len(o.Lines) > 0:
		c.fault("lines", 0, "there are columns already", "columns are for documents of one sort of line, lines for others")
	case len(o.Columns) > 0:
		if o.Records != "" {
			c.fault("records", 0, "the records are the lines, which are all of one sort", "leave records out")
		}
		f.records = c.sort("", Line{Columns: o.Columns})
		f.sorts = []*sort{f.records}
	case len(o.Lines) > 0:
		f.sorts = c.lines(o.Lines, f.charset)
		if name := o.Records; name != "" || len(f.sorts) == 1 {
			if f.records, err = f.find(cmp.Or(name, f.sorts[0].name)); err != nil {
				d := err.(*transform.DefinitionError)
				c.fault("records", 0, d.Reason, d.Hint)
			}
		} else {
			c.fault("records", 0, "nothing says which lines are the records", "name one of "+f.names(", "))
		}
	default:
		c.fault("", 0, "columns are missing", "write columns: {name: 1-20}, or lines for several sorts of lines")
	}
	if c.faults != nil {
		return nil, errors.Join(c.faults...)
	}
	return f, nil
}

// compiler collects what is wrong with the options.
type compiler struct{ faults []error }

func (c *compiler) fault(path string, offset int, reason, hint string) {
	c.faults = append(c.faults, &transform.DefinitionError{Path: path, Offset: offset, Reason: reason, Hint: hint})
}

// lines checks the sorts of lines.
func (c *compiler) lines(lines map[string]Line, encoding *charset.Charset) []*sort {
	var sorts []*sort
	byName, byStart := map[string]*sort{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		s := c.sort(name, lines[name])
		sorts, byName[name] = append(sorts, s), s
		at := "lines." + name + ".starts"
		switch before, twice := byStart[s.starts]; {
		case s.starts == "":
			c.fault("lines."+name, 0, "starts is missing: what the lines of this sort start with", "")
		case twice:
			c.fault(at, 0, fmt.Sprintf("%s starts with the same", before), "")
		case strings.ContainsAny(s.starts, "\x00\r\n") || !utf8.ValidString(s.starts):
			c.fault(at, 0, "no line starts with a line end, a NUL or what is no UTF-8", "")
		default:
			if r, lacks := encoding.Lacks(s.starts); lacks {
				c.fault(at, 0, fmt.Sprintf("%s has no character %q", encoding, r), "")
			}
		}
		byStart[s.starts] = name
	}
	for _, s := range sorts {
		if name := lines[s.name].Parent; name != "" {
			at := "lines." + s.name + ".parent"
			if s.parent = byName[name]; s.parent == nil {
				c.fault(at, 0, fmt.Sprintf("%q is no sort of line", name), "there are "+strings.Join(slices.Sorted(maps.Keys(lines)), ", "))
			}
		}
	}
	for _, s := range sorts {
		depth := 0
		for p := s.parent; p != nil && depth < len(sorts); p = p.parent {
			if depth++; p.parent != nil && p.above == nil {
				if p.shape.Index("parent") >= 0 {
					c.fault("lines."+p.name+".columns.parent", 0, "parent is the line above, which lines below this one see", "give the column another name")
					break
				}
				p.above = p.shape.With("parent")
			}
		}
		if depth == len(sorts) {
			c.fault("lines."+s.name+".parent", 0, "the parents go round in a circle", "")
		}
	}
	slices.SortStableFunc(sorts, func(a, b *sort) int { return cmp.Compare(len(b.starts), len(a.starts)) })
	return sorts
}

// sort checks one sort of line.
func (c *compiler) sort(name string, line Line) *sort {
	s := &sort{name: name, starts: line.Starts}
	path := "columns."
	if name != "" {
		path = "lines." + name + ".columns."
	}
	for _, name := range slices.Sorted(maps.Keys(line.Columns)) {
		if column, ok := c.column(path+name, line.Columns[name]); ok {
			column.name = name
			s.columns, s.typed = append(s.columns, column), s.typed || column.typed
		}
	}
	slices.SortStableFunc(s.columns, func(a, b column) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var names []string
	end, before := utf8.RuneCountInString(s.starts), fmt.Sprintf("what its lines start with, %q", s.starts)
	for _, column := range s.columns {
		if names = append(names, column.name); column.from < end && s.overlap == "" {
			s.overlap = fmt.Sprintf("column %q overlaps %s", column.name, before)
		}
		end, before = max(end, column.to), fmt.Sprintf("column %q", column.name)
	}
	s.shape = transform.NewShape(names...)
	return s
}

// column checks one column. Its faults are at path, or at the path of one of its keys.
func (c *compiler) column(path string, o Column) (column, bool) {
	before := len(c.faults)
	at, kind, inline := strings.Cut(strings.TrimSpace(o.At), " ")
	key, offset := ".type", 0
	if inline {
		key, offset = ".at", len(at)+1
	}
	first, last, both := strings.Cut(at, "-")
	if !both {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 31)
	to, err2 := strconv.ParseUint(last, 10, 31)
	switch {
	case o.At == "":
		c.fault(path, 0, "its position is missing", "write it as 3-24, from the first character to the last, which count from 1")
	case err != nil || err2 != nil || from < 1 || to < from:
		c.fault(path+".at", 0, fmt.Sprintf("%q is no position", at), "write it as 3-24, from the first character to the last, which count from 1")
	case to > maxPosition:
		c.fault(path+".at", 0, fmt.Sprintf("a line has %d characters at most", maxPosition), "")
	}
	if inline && o.Type != "" {
		c.fault(path+".type", 0, "a type stands behind the position already", "write it in one of the places")
	}
	parsed := column{from: int(from) - 1, to: int(to), align: o.Align}
	if kind = cmp.Or(kind, o.Type); kind != "" {
		parsed.typed = true
		if parsed.Column, err = transform.ParseColumn(kind); err != nil {
			d := err.(*transform.DefinitionError)
			c.fault(path+key, offset+d.Offset, d.Reason, d.Hint)
		}
	}
	switch o.Align {
	case "", "left", "right":
	default:
		c.fault(path+".align", 0, fmt.Sprintf("%q is not known", o.Align), "there are left and right")
	}
	switch {
	case o.Pad == "" || o.Pad == " ":
	case o.Pad != "0":
		c.fault(path+".pad", 0, fmt.Sprintf("a value is not filled up with %q", o.Pad), `there are " " and "0"`)
	case !parsed.IsNumber():
		c.fault(path+".pad", 0, "zeros are for numbers, and the column's type is none", "give it the type int or decimal")
	case o.Align == "left":
		c.fault(path+".align", 0, "zeros stand before a number, which then ends at the right", "leave align out")
	default:
		parsed.zeros = true
	}
	return parsed, len(c.faults) == before
}

// find returns the sort of line of that name.
func (f *format) find(name string) (*sort, error) {
	for _, s := range f.sorts {
		if s.name != name {
			continue
		}
		if len(s.columns) == 0 {
			return nil, &transform.DefinitionError{Reason: fmt.Sprintf("lines of the sort %s have no columns", name), Hint: "give it some"}
		}
		return s, nil
	}
	return nil, &transform.DefinitionError{Reason: fmt.Sprintf("%q is no sort of line", name), Hint: "there are " + f.names(", ")}
}

// names returns the names of the sorts of lines.
func (f *format) names(between string) string {
	var names []string
	for _, s := range f.sorts {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return strings.Join(names, between)
}

// chosen returns the sort of line that the records are.
func (f *format) chosen(o transform.DecodeOptions) (*sort, error) {
	switch {
	case o.Records == "":
		return f.records, nil
	case f.sorts[0].name == "":
		return nil, &transform.DefinitionError{Reason: "the records are the lines, which are all of one sort", Hint: "leave records out"}
	}
	return f.find(o.Records)
}

// Describe says that values have no types, unless the definition gives them some.
func (f *format) Describe(o transform.DecodeOptions) transform.Description {
	s, err := f.chosen(o)
	typed := err != nil
	for ; s != nil; s = s.parent {
		typed = typed || s.typed
	}
	return transform.Description{Untyped: !typed}
}

func (f *format) MediaType() string { return "text/plain; charset=" + f.charset.Name() }

func (f *format) Check(r io.Reader, o transform.DecodeOptions) error {
	s, err := f.scanner(r, o)
	if err != nil {
		return err
	}
	for {
		if err := s.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (f *format) NewDecoder(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
	s, err := f.scanner(r, o)
	if err != nil {
		return nil, err
	}
	return feed.New(s.limits, (&decoder{scanner: s, scope: o.Scope, raw: o.Raw}).decode), nil
}
