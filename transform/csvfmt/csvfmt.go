// Package csvfmt reads and writes CSV (RFC 4180) and the dialects that differ in delimiter, quote, header, comments and encoding.
//
// It keeps what it reads: line ends inside quotes, blanks, digits. A cell without anything is null, a quoted empty one is empty text. Values are
// untyped text unless Options.Columns gives them types. A row with too many or too few cells, or a cell that does not fit its type, is a
// fault of that record; an open quote, text behind a closing quote, NUL, bytes that mean nothing in the encoding and a doubtful header are faults of the
// document, each with its line and column. Rows end with LF, CR LF or CR; blank lines are passed over, unless the document has one
// column only: there they are null. A byte order mark is passed over; that of UTF-16 says how the document is read.
//
// The three names that matter are [Kind], [Options] and [New]. The document streams by: one row, at most [transform.Limits].RecordBytes
// long, is held in memory.
package csvfmt

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
	"github.com/integrator-go/integrator/transform/internal/feed"
)

// Options are the choices of the format. The zero value is RFC 4180 with a header.
type Options struct {
	Delimiter string            `json:"delimiter"` // between cells, one ASCII character (,); auto: the document tells it by its first 8 KiB, and a comma is written
	Quote     string            `json:"quote"`     // one ASCII character ("), or none
	Header    *bool             `json:"header"`    // the first row holds the names; nil is true
	Names     []string          `json:"names"`     // of the columns, instead of those of the header; without both c1, c2 …
	Encoding  string            `json:"encoding"`  // of characters: utf-8 (the default), utf-16, windows-1252, iso-8859-1 …; a byte order mark says more
	Skip      int               `json:"skip"`      // reading: how many lines stand before the header
	Comment   string            `json:"comment"`   // one ASCII character; lines that begin with it are passed over. "" is none
	Ragged    string            `json:"ragged"`    // reading: rows with too few cells: reject (the default), or pad: the cells that are missing are null
	Null      string            `json:"null"`      // a cell of this text, not quoted, is null too; null is written as it
	Columns   map[string]string `json:"columns"`   // types of columns by name: see [transform.ParseColumn]
	Quoting   string            `json:"quoting"`   // writing: minimal (the default), all, or nonnumeric: all but numbers
	LineEnd   string            `json:"line_end"`  // writing: lf (the default) or crlf
	Formula   string            `json:"formula"`   // writing text that a spreadsheet would run: keep (the default), escape with ', or reject
}

// format is CSV with checked options.
type format struct {
	options   Options
	delimiter byte
	auto      bool // the document tells the delimiter
	quote     byte // 0: none
	comment   byte // 0: none
	header    bool
	charset   *charset.Charset
	columns   map[string]transform.Column
}

var (
	_ transform.Describer = (*format)(nil)
	_ transform.Appender  = (*format)(nil)
)

// Kind makes CSV formats from definitions.
func Kind() transform.FormatKind {
	return transform.FormatKind{Name: "csv", New: func(decode func(any) error) (transform.Format, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	}}
}

// New returns the format with these options. The error is a *transform.DefinitionError that names the option.
func New(o Options) (transform.Format, error) {
	f := &format{options: o, delimiter: ',', quote: '"', header: o.Header == nil || *o.Header}
	fail := func(path, reason, hint string) (transform.Format, error) {
		return nil, &transform.DefinitionError{Path: path, Reason: reason, Hint: hint}
	}
	switch {
	case o.Delimiter == "auto":
		f.auto = true
	case o.Delimiter != "":
		if len(o.Delimiter) != 1 || o.Delimiter[0] >= 0x80 || o.Delimiter[0] < ' ' && o.Delimiter[0] != '\t' {
			return fail("delimiter", "a delimiter is one ASCII character", `write ";" or "\t", or auto`)
		}
		f.delimiter = o.Delimiter[0]
	}
	switch {
	case o.Quote == "none":
		f.quote = 0
	case o.Quote == "":
	case len(o.Quote) != 1 || o.Quote[0] >= 0x80 || o.Quote[0] <= ' ':
		return fail("quote", "a quote is one ASCII character", `write "'", or none`)
	default:
		f.quote = o.Quote[0]
	}
	ends := string(rune(f.delimiter))
	if f.auto {
		ends = delimiters
	}
	if f.quote != 0 && strings.IndexByte(ends, f.quote) >= 0 {
		return fail("quote", "the quote is the delimiter", "")
	}
	if o.Comment != "" {
		if len(o.Comment) != 1 || o.Comment[0] >= 0x80 || o.Comment[0] <= ' ' || strings.ContainsAny(o.Comment, ends) || o.Comment[0] == f.quote {
			return fail("comment", "a comment begins with one ASCII character, which is not the delimiter or the quote", `write "#"`)
		}
		f.comment = o.Comment[0]
	}
	if o.Skip < 0 {
		return fail("skip", "a negative number means nothing here", "")
	}
	var err error
	if f.charset, err = charset.Option(o.Encoding); err != nil {
		return nil, err
	}
	if r, lacks := f.charset.Lacks(o.Null); lacks {
		return fail("null", fmt.Sprintf("%s has no character %q", f.charset, r), "")
	}
	if strings.ContainsAny(o.Null, "\x00\n\r"+ends) || f.comment != 0 && strings.HasPrefix(o.Null, o.Comment) || f.quote != 0 && strings.IndexByte(o.Null, f.quote) >= 0 || !utf8.ValidString(o.Null) {
		return fail("null", "the text of null cells cannot hold a line end, a NUL, the delimiter or the quote, nor begin as a comment", "")
	}
	seen := map[string]bool{}
	for i, name := range o.Names {
		if seen[name] {
			return fail(fmt.Sprintf("names[%d]", i), fmt.Sprintf("%q stands here twice", name), "")
		}
		seen[name] = true
	}
	for _, choice := range []struct {
		key, value string
		known      []string
	}{
		{"quoting", o.Quoting, []string{"", "minimal", "all", "nonnumeric"}},
		{"ragged", o.Ragged, []string{"", "reject", "pad"}},
		{"line_end", o.LineEnd, []string{"", "lf", "crlf"}},
		{"formula", o.Formula, []string{"", "keep", "escape", "reject"}},
	} {
		if !slices.Contains(choice.known, choice.value) {
			return fail(choice.key, fmt.Sprintf("%q is not known", choice.value), "there are "+strings.Join(choice.known[1:], ", "))
		}
	}
	if (o.Quoting == "all" || o.Quoting == "nonnumeric") && f.quote == 0 {
		return fail("quoting", "there is no quote to write", "leave quote: none out")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Columns)) {
		column, err := transform.ParseColumn(o.Columns[name])
		if err != nil {
			d := err.(*transform.DefinitionError)
			d.Path = "columns." + name
			return nil, d
		}
		if f.columns == nil {
			f.columns = map[string]transform.Column{}
		}
		f.columns[name] = column
	}
	return f, nil
}

// Describe says that values have no types, unless the definition gives them some.
func (f *format) Describe(transform.DecodeOptions) transform.Description {
	return transform.Description{Untyped: len(f.columns) == 0}
}

func (f *format) MediaType() string { return "text/csv; charset=" + f.charset.Name() }

func (f *format) Check(r io.Reader, o transform.DecodeOptions) error {
	d, err := f.document(r, o)
	if err != nil {
		return err
	}
	for {
		if err := d.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (f *format) NewDecoder(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
	d, err := f.document(r, o)
	if err != nil {
		return nil, err
	}
	d.Lend()
	feed := feed.New(d.limits, (&decoder{document: d, raw: o.Raw}).decode)
	feed.Lend = d.Hold
	return feed, nil
}

func (f *format) document(r io.Reader, o transform.DecodeOptions) (*document, error) {
	if o.Records != "" {
		return nil, &transform.DefinitionError{Reason: "the records of CSV are its rows", Hint: "leave records out"}
	}
	return &document{scanner: newScanner(r, f, o.Limits.WithDefaults())}, nil
}
