package fixedfmt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/fixedfmt"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// columns are of each type, with a gap before the last.
var columns = map[string]fixedfmt.Column{
	"id":    {At: "1-8"},
	"qty":   {At: "9-14 int", Pad: "0"},
	"price": {At: "15-20 decimal"},
	"day":   {At: "21-28 date yyyyMMdd"},
	"paid":  {At: "29", Type: "bool"},
	"note":  {At: "32-41 text"},
}

var shape = transform.NewShape("id", "qty", "price", "day", "paid", "note")

func row(id, qty, price, day, paid, note transform.Value) transform.Value {
	return transform.NewObject(shape, []transform.Value{id, qty, price, day, paid, note})
}

// of is a row of an id and a note.
func of(id, note transform.Value) transform.Value {
	return row(id, transform.Null, transform.Null, transform.Null, transform.Null, note)
}

var (
	untyped = transform.Untyped
	text    = transform.Text
	number  = transform.Number
	null    = transform.Null
)

func format(t testing.TB, o fixedfmt.Options) transform.Format {
	f, err := fixedfmt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func harness(t testing.TB, o fixedfmt.Options) transformtest.Harness {
	if o.Lines == nil {
		o.Columns = columns
	}
	return transformtest.Harness{
		Format: format(t, o),
		Values: []transform.Value{
			row(untyped("1"), number("12"), number("1.50"), text("2026-12-24"), transform.Bool(true), text("a note")),
			row(untyped("12345678"), number("-12345"), number("1e400"), text("1999-01-01"), transform.Bool(false), text(" blanks")),
			row(untyped("00012.10"), number("0"), number("-0.001"), null, null, text("1234567890")),
			of(null, null),
			of(untyped("Jürg M."), text("äöüß Çñ")),
			of(untyped("=1+2"), text("a  b,;\"'\t")),
		},
		Refused: map[string]transform.Value{
			"a list":                   of(untyped("1"), transform.List(nil)),
			"an object":                of(of(null, null), null),
			"another column":           of(untyped("1"), null).With("more", null),
			"a field without a name":   of(untyped("1"), null).With("", text("lost")),
			"no object":                text("text"),
			"NUL":                      of(untyped("a\x00"), null),
			"a line end":               of(untyped("a\nb"), null),
			"a carriage return":        of(null, text("\r")),
			"bad UTF-8":                of(untyped("\xff"), null),
			"text that is too long":    of(untyped("123456789"), null),
			"a number that is":         row(untyped("1"), number("1234567"), null, null, null, null),
			"a number with a fraction": row(untyped("1"), number("1.5"), null, null, null, null),
			"text for a number":        row(untyped("1"), null, text("1,5"), null, null, null),
			"a date in no ISO form":    row(untyped("1"), null, null, text("24.12.2026"), null, null),
			"a date with a time":       row(untyped("1"), null, null, text("2026-12-24T10:00:00Z"), null, null),
			"text for a bool":          row(untyped("1"), null, null, null, text("maybe"), null),
			"a byte order mark":        of(untyped("\uFEFF"), null),
		},
		Faults: map[string]string{
			"NUL":                           "1\nab\x00c\n",
			"bad UTF-8":                     "1\nab\xffc\n",
			"a cut character":               "ab\xc3",
			"half of a character of UTF-16": "\xff\xfei\x00\n\x001\x00\x00\xd8",
			"bad UTF-8 behind all columns":  strings.Repeat("ä", 80) + "\xff\n",
		},
		Limits: []transformtest.Limit{
			{Name: "line", Limits: transform.Limits{RecordBytes: 7}, Within: "1234567\r\n1", Beyond: "12345678\r\n1"},
			{Name: "line of UTF-8", Limits: transform.Limits{RecordBytes: 7}, Within: "123äö\n", Beyond: "1234äö\n"},
			{Name: "value", Limits: transform.Limits{FieldBytes: 6}, Within: "123456\n", Beyond: "1234567\n"},
			{Name: "value of UTF-8", Limits: transform.Limits{FieldBytes: 6}, Within: "äö34\n", Beyond: "äö345\n"},
		},
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]fixedfmt.Options{
		"UTF-8":                 {},
		"UTF-16, CR LF":         {Encoding: "utf-16", LineEnd: "crlf"},
		"lines in windows-1252": {Encoding: "windows-1252", Lines: map[string]fixedfmt.Line{"entry": {Starts: "ä1", Columns: moved()}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness(t, o)
			if name != "UTF-8" { // its documents are other ones
				h.Faults, h.Limits = nil, nil
			}
			if o.Lines != nil || o.Encoding == "utf-16" {
				delete(h.Refused, "a byte order mark") // which does not begin the line, or the document
			}
			if o.Encoding == "windows-1252" {
				h.Refused["a character that it lacks"] = of(untyped("\U0001F600"), null)
			}
			transformtest.Run(t, h)
		})
	}
}

// moved are the columns, further to the right.
func moved() map[string]fixedfmt.Column {
	places := map[string]string{"id": "3-10", "qty": "11-16 int", "price": "17-22 decimal", "day": "23-30 date yyyyMMdd", "paid": "31", "note": "34-43 text"}
	moved := map[string]fixedfmt.Column{}
	for name, c := range columns {
		c.At = places[name]
		moved[name] = c
	}
	return moved
}

func TestGolden(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, fixedfmt.Kind(), "testdata/*.txtar")
}

func BenchmarkFormat(b *testing.B) {
	transformtest.Bench(b, transformtest.Harness{Format: format(b, fixedfmt.Options{Columns: map[string]fixedfmt.Column{"id": {At: "1-8"}, "customer": {At: "9-38"}, "city": {At: "39-50"},
		"sku": {At: "51-60"}, "name": {At: "61-100"}, "qty": {At: "101-103"}, "price": {At: "104-112"}, "day": {At: "113-122"}, "paid": {At: "123-127"}, "note": {At: "128-140"}}})})
}

func FuzzDecode(f *testing.F) {
	h := harness(f, fixedfmt.Options{})
	for _, c := range transformtest.Cases(f, fixedfmt.Kind(), "testdata/*.txtar") {
		f.Add(c.In)
	}
	for _, document := range h.Faults {
		f.Add([]byte(document))
	}
	for _, document := range corpus.CSVSpectrum.Seeds(f, "*.csv") {
		f.Add(document)
	}
	sorts := transformtest.Harness{Format: format(f, fixedfmt.Options{Records: "c", Lines: map[string]fixedfmt.Line{
		"a": {Starts: "0", Columns: map[string]fixedfmt.Column{"x": {At: "1-3 int"}}},
		"b": {Starts: "1", Parent: "a", Columns: map[string]fixedfmt.Column{"x": {At: "2-9"}, "y": {At: "4-80 text"}}},
		"c": {Starts: "11", Parent: "b", Columns: map[string]fixedfmt.Column{"x": {At: "3-300 date"}}},
		"d": {Starts: " "}}}), Decode: transform.DecodeOptions{Scope: true, Raw: true}}
	f.Fuzz(func(t *testing.T, document []byte) {
		transformtest.Fuzz(t, h, document)
		if err := sorts.Agree(string(document), sorts.Decode); err != nil {
			t.Error(err)
		}
	})
}

func TestHostileDocumentsAreRefusedEarly(t *testing.T) {
	t.Parallel()
	const block = 128 << 10 // of what is read at once
	sorts := fixedfmt.Options{Records: "a", Lines: map[string]fixedfmt.Line{"a": {Starts: "1", Columns: map[string]fixedfmt.Column{"x": {At: "2"}}}, "b": {Starts: "2"}}}
	for name, c := range map[string]struct {
		options    fixedfmt.Options
		head, tail string
		limits     transform.Limits
		most       int64
	}{
		"a line without end":                {fixedfmt.Options{}, "1\n", "x", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
		"a line of blanks":                  {fixedfmt.Options{}, "1\n", " ", transform.Limits{RecordBytes: 64 << 10}, 2 * block},
		"a line of no sort":                 {sorts, "11\n", "x", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
		"a line that nobody reads":          {sorts, "11\n2", "x", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
		"NUL":                               {fixedfmt.Options{}, "1\n", "\x00", transform.Limits{}, block},
		"bytes without a meaning":           {fixedfmt.Options{Encoding: "windows-1252"}, "1\n", "\x81\n", transform.Limits{}, block},
		"a line without end in an encoding": {fixedfmt.Options{Encoding: "windows-1252"}, "1\n", "\x84", transform.Limits{RecordBytes: 1 << 20}, 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.options.Lines == nil {
				c.options.Columns = columns
			}
			transformtest.Refuses(t, format(t, c.options), transform.DecodeOptions{Limits: c.limits}, c.head, c.tail, c.most)
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	at := func(c fixedfmt.Column) fixedfmt.Options {
		return fixedfmt.Options{Columns: map[string]fixedfmt.Column{"a": c}}
	}
	lines := func(records string, lines map[string]fixedfmt.Line) fixedfmt.Options {
		return fixedfmt.Options{Lines: lines, Records: records}
	}
	x := map[string]fixedfmt.Column{"x": {At: "1-3"}}
	for name, c := range map[string]struct {
		options fixedfmt.Options
		path    string
		offset  int
	}{
		"nothing":                       {fixedfmt.Options{}, "", 0},
		"columns and lines":             {fixedfmt.Options{Columns: columns, Lines: map[string]fixedfmt.Line{"a": {Starts: "1"}}}, "lines", 0},
		"no line end":                   {fixedfmt.Options{Columns: columns, LineEnd: "cr"}, "line_end", 0},
		"no encoding":                   {fixedfmt.Options{Columns: columns, Encoding: "utf-9"}, "encoding", 0},
		"records of one sort":           {fixedfmt.Options{Columns: columns, Records: "a"}, "records", 0},
		"no position":                   {at(fixedfmt.Column{}), "columns.a", 0},
		"a word as a position":          {at(fixedfmt.Column{At: "int"}), "columns.a.at", 0},
		"a position from 0":             {at(fixedfmt.Column{At: "0-3"}), "columns.a.at", 0},
		"a position that goes back":     {at(fixedfmt.Column{At: "4-3"}), "columns.a.at", 0},
		"a position without end":        {at(fixedfmt.Column{At: "4-"}), "columns.a.at", 0},
		"a signed position":             {at(fixedfmt.Column{At: "+1-3"}), "columns.a.at", 0},
		"a position far away":           {at(fixedfmt.Column{At: "1-1048577"}), "columns.a.at", 0},
		"no type":                       {at(fixedfmt.Column{At: "1-3 integer"}), "columns.a.at", 4},
		"no type by itself":             {at(fixedfmt.Column{At: "1-3", Type: "integer"}), "columns.a.type", 0},
		"two types":                     {at(fixedfmt.Column{At: "1-3 int", Type: "int"}), "columns.a.type", 0},
		"a layout without sense":        {at(fixedfmt.Column{At: "1-8 date foo"}), "columns.a.at", 9},
		"no side":                       {at(fixedfmt.Column{At: "1-3", Align: "middle"}), "columns.a.align", 0},
		"an unknown filling":            {at(fixedfmt.Column{At: "1-3", Pad: "*"}), "columns.a.pad", 0},
		"zeros before text":             {at(fixedfmt.Column{At: "1-3", Pad: "0"}), "columns.a.pad", 0},
		"zeros behind a number":         {at(fixedfmt.Column{At: "1-3 int", Pad: "0", Align: "left"}), "columns.a.align", 0},
		"no start":                      {lines("a", map[string]fixedfmt.Line{"a": {Columns: x}}), "lines.a", 0},
		"a start twice":                 {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x}, "b": {Starts: "1"}}), "lines.b.starts", 0},
		"a line end to start with":      {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1\n", Columns: x}}), "lines.a.starts", 0},
		"a start that no document has":  {fixedfmt.Options{Encoding: "us-ascii", Lines: map[string]fixedfmt.Line{"a": {Starts: "ä", Columns: x}}}, "lines.a.starts", 0},
		"nobody knows which":            {lines("", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x}, "b": {Starts: "2", Columns: x}}), "records", 0},
		"records of no sort":            {lines("c", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x}}), "records", 0},
		"records without columns":       {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1"}}), "records", 0},
		"no parent":                     {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x, Parent: "b"}}), "lines.a.parent", 0},
		"its own parent":                {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x, Parent: "a"}}), "lines.a.parent", 0},
		"parents in a circle":           {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x, Parent: "b"}, "b": {Starts: "2", Parent: "a"}}), "lines.a.parent", 0},
		"a column of the parent's name": {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: x, Parent: "b"}, "b": {Starts: "2", Parent: "c", Columns: map[string]fixedfmt.Column{"parent": {At: "3"}}}, "c": {Starts: "3"}}), "lines.b.columns.parent", 0},
		"a column of a line":            {lines("a", map[string]fixedfmt.Line{"a": {Starts: "1", Columns: map[string]fixedfmt.Column{"x": {At: "x"}}}}), "lines.a.columns.x.at", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fixedfmt.New(c.options)
			var fault *transform.DefinitionError
			if !errors.As(err, &fault) || fault.Path != c.path || fault.Offset != c.offset || fault.Reason == "" {
				t.Errorf("%#v %v", fault, err)
			}
		})
	}
}

func TestAllOptionsThatAreWrongAreTold(t *testing.T) {
	t.Parallel()
	_, err := fixedfmt.New(fixedfmt.Options{Encoding: "x", LineEnd: "x", Columns: map[string]fixedfmt.Column{"a": {At: "x", Align: "x"}, "b": {At: "1 int", Pad: "x"}}})
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 5 {
		t.Error(err)
	}
}

func TestRecordsOfASortAreChosenWhereTheyAreRead(t *testing.T) {
	t.Parallel()
	f := format(t, fixedfmt.Options{Records: "entry", Lines: map[string]fixedfmt.Line{
		"account": {Starts: "01", Columns: map[string]fixedfmt.Column{"iban": {At: "3-24"}}},
		"entry":   {Starts: "20", Parent: "account", Columns: map[string]fixedfmt.Column{"cents": {At: "3-17 int"}}},
		"end":     {Starts: "99"},
	}})
	const document = "01DE1\n20123\n99\n01DE2\n"
	got, err := transformtest.Decode(f, strings.NewReader(document), transform.DecodeOptions{Records: "account"})
	if err != nil || len(got) != 2 || transformtest.Show(got[1].Value) != "{iban: 'DE2'}" {
		t.Errorf("%v %v", got, err)
	}
	for records, untyped := range map[string]bool{"": false, "entry": false, "account": true} {
		if d := f.(transform.Describer).Describe(transform.DecodeOptions{Records: records}); d.Untyped != untyped || d.Single {
			t.Errorf("records %q: %+v", records, d)
		}
	}
	for _, records := range []string{"other", "end", "entry[*]"} {
		o := transform.DecodeOptions{Records: records}
		var fault *transform.DefinitionError
		if _, err := f.NewDecoder(strings.NewReader(document), o); !errors.As(err, &fault) {
			t.Errorf("records %q: %v", records, err)
		}
		if err := f.Check(strings.NewReader(document), o); !errors.As(err, &fault) {
			t.Errorf("records %q: %v", records, err)
		}
	}
}

func TestWhatIsReadOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options fixedfmt.Options
		encode  transform.EncodeOptions
	}{
		"columns that overlap":       {fixedfmt.Options{Columns: map[string]fixedfmt.Column{"a": {At: "1-9"}, "b": {At: "3-4"}, "c": {At: "12"}}}, transform.EncodeOptions{}},
		"a column in the start":      {fixedfmt.Options{Lines: map[string]fixedfmt.Line{"a": {Starts: "20", Columns: map[string]fixedfmt.Column{"a": {At: "2-9"}}}}}, transform.EncodeOptions{}},
		"lines of several sorts":     {fixedfmt.Options{Records: "a", Lines: map[string]fixedfmt.Line{"a": {Starts: "20", Columns: map[string]fixedfmt.Column{"a": {At: "3"}}}, "b": {Starts: "3"}}}, transform.EncodeOptions{}},
		"one object":                 {fixedfmt.Options{Columns: columns}, transform.EncodeOptions{As: "object"}},
		"a field without any column": {fixedfmt.Options{Columns: columns}, transform.EncodeOptions{Columns: []string{"id", "other"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := format(t, c.options)
			if _, err := f.NewEncoder(nil, c.encode); err == nil {
				t.Error("an encoder is made")
			}
			if _, err := f.(transform.Appender).NewAppender(nil, c.encode); err == nil {
				t.Error("an appender is made")
			}
			if _, err := transformtest.Decode(f, strings.NewReader("20 4567890123\n"), transform.DecodeOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
