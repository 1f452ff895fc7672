package csvfmt_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/transformtest"
)

var shape = transform.NewShape("id", "odd name $", "note")

func row(id, name, note transform.Value) transform.Value {
	return transform.NewObject(shape, []transform.Value{id, name, note})
}

var (
	text  = transform.Untyped
	empty = transform.Untyped("")
)

func format(t testing.TB, o csvfmt.Options) transform.Format {
	f, err := csvfmt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func harness(t testing.TB, o csvfmt.Options) transformtest.Harness {
	return transformtest.Harness{
		Format: format(t, o),
		Values: []transform.Value{
			row(text("1"), text("plain"), transform.Null),
			row(text("12345678901234567890"), text("1e400"), text("0123.10")),
			row(text("CR LF\r\ninside\rquotes\n"), text(`a "quoted" 'word'`), text("a,b;c\td|e")),
			row(transform.Null, empty, text(" blanks ")),
			row(transform.Null, transform.Null, transform.Null),
			row(text("Jürgen \U0001F600"), text("\uFEFF"), text("=1+2")),
			row(text("#1"), text("#"), text("a#b")),
			row(text(`"`), text(`""`), text("NULL")),
		},
		Refused: map[string]transform.Value{
			"a list":          row(text("1"), transform.List(nil), empty),
			"an object":       row(text("1"), row(empty, empty, empty), empty),
			"another column":  row(text("1"), empty, empty).With("more", empty),
			"no object":       text("text"),
			"NUL":             row(text("a\x00"), empty, empty),
			"bad UTF-8":       row(text("\xff"), empty, empty),
			"a list as a row": transform.List([]transform.Value{text("1")}),
		},
		Faults: map[string]string{
			"an open quote":                 "id,name\n1,\"abc\n2,x\n",
			"text behind a quote":           "id,name\n1,\"abc\"d\n",
			"an open quote before others":   "id,name\n1,\"abc\n2,\"x\"\n",
			"NUL":                           "id,name\n1,a\x00b\n",
			"NUL in quotes":                 "id,name\n1,\"a\n\x00b\"\n",
			"bad UTF-8":                     "id,name\n1,ä\xff\n",
			"a cut character":               "id,name\n1,ä\xc3",
			"half of a character of UTF-16": "\xff\xfei\x00\n\x001\x00\x00\xd8",
			"an odd byte of UTF-16":         "\xff\xfei\x00\n\x001",
			"a column twice":                "id,name,id\n1,2,3\n",
			"a made-up name twice":          "c2,\n1,2\n",
		},
		Limits: []transformtest.Limit{
			{Name: "cell", Limits: transform.Limits{FieldBytes: 5}, Within: "a,b\n12345,\"12345\"\n", Beyond: "a,b\n1,123456\n"},
			{Name: "quoted cell", Limits: transform.Limits{FieldBytes: 5}, Within: "a,b\n1,\"\"\"\"\"1\"\n", Beyond: "a,b\n1,\"\"\"\"\"\"\"\"\n"},
			{Name: "open quote", Limits: transform.Limits{FieldBytes: 5}, Within: "a\n\"1\n2\n3\"", Beyond: "a\n\"1\n2\n3\n4\n"},
			{Name: "row", Limits: transform.Limits{RecordBytes: 7}, Within: "a,b\r\n123,456\r\n", Beyond: "a,b\r\n1234,456\r\n"},
			{Name: "columns", Limits: transform.Limits{Fields: 2}, Within: "a,b\n1,2\n", Beyond: "a,b,c\n"},
			{Name: "name", Limits: transform.Limits{NameBytes: 2}, Within: "ab,b\n", Beyond: "abc,b\n"},
		},
	}
}

// dialects are options with which everything that CSV can hold is held.
var dialects = map[string]csvfmt.Options{
	"RFC 4180":               {},
	"semicolon and CRLF":     {Delimiter: ";", LineEnd: "crlf"},
	"tab, all quoted":        {Delimiter: "\t", Quoting: "all"},
	"pipe, single quote":     {Delimiter: "|", Quote: "'"},
	"null is a word":         {Null: "NULL"},
	"no header":              {Header: new(bool), Names: shapeNames},
	"all but numbers quoted": {Quoting: "nonnumeric"},
	"comments":               {Comment: "#"},
	"UTF-16":                 {Encoding: "utf-16"},
}

var shapeNames = []string{"id", "odd name $", "note"}

func TestFormat(t *testing.T) {
	t.Parallel()
	for name, o := range dialects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness(t, o)
			if name != "RFC 4180" { // its documents are in another dialect
				h.Faults, h.Limits = nil, nil
			}
			if o.Null != "" {
				h.Values = h.Values[:5] // what stands in quotes is no null, but a plain empty cell is one too
			}
			transformtest.Run(t, h)
		})
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, csvfmt.Kind(), "testdata/*.txtar")
}

func BenchmarkFormat(b *testing.B) { transformtest.Bench(b, harness(b, csvfmt.Options{})) }

func FuzzDecode(f *testing.F) {
	h := harness(f, csvfmt.Options{})
	for _, c := range transformtest.Cases(f, csvfmt.Kind(), "testdata/*.txtar") {
		f.Add(c.In)
	}
	for _, document := range h.Faults {
		f.Add([]byte(document))
	}
	for _, document := range corpus.CSVSpectrum.Seeds(f, "*.csv") {
		f.Add(document)
	}
	dialect := transformtest.Harness{Format: format(f, csvfmt.Options{Delimiter: "auto", Comment: "#", Skip: 1, Ragged: "pad"})}
	f.Fuzz(func(t *testing.T, document []byte) {
		transformtest.Fuzz(t, h, document)
		if err := dialect.Agree(string(document), transform.DecodeOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestHostileDocumentsAreRefusedEarly(t *testing.T) {
	t.Parallel()
	const block = 128 << 10 // of what is read at once
	for name, c := range map[string]struct {
		head, tail string
		limits     transform.Limits
		most       int64
	}{
		"an open quote":         {"a,b\n1,\"", "x\n", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"doubled quotes":        {"a,b\n1,\"", `""`, transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a giant cell":          {"a,b\n1,", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a million columns":     {"a,b\n", "1,", transform.Limits{}, block},
		"a million names":       {"", ",", transform.Limits{}, block},
		"a row without end":     {"a,b\n", "1234567890,", transform.Limits{RecordBytes: 64 << 10}, 2 * block},
		"NUL":                   {"a,b\n", "\x00", transform.Limits{}, block},
		"a giant name":          {"", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"quotes in one cell":    {"a,b\n1,\"", "\"\"\n", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
		"a comment without end": {"#", "x", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transformtest.Refuses(t, format(t, csvfmt.Options{Comment: "#"}), transform.DecodeOptions{Limits: c.limits}, c.head, c.tail, c.most)
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options csvfmt.Options
		path    string
	}{
		"two characters":                    {csvfmt.Options{Delimiter: "::"}, "delimiter"},
		"no ASCII":                          {csvfmt.Options{Delimiter: "ä"}, "delimiter"},
		"a line end":                        {csvfmt.Options{Delimiter: "\n"}, "delimiter"},
		"a word as a quote":                 {csvfmt.Options{Quote: "double"}, "quote"},
		"a blank as a quote":                {csvfmt.Options{Quote: " "}, "quote"},
		"quote and delimiter":               {csvfmt.Options{Delimiter: "'", Quote: "'"}, "quote"},
		"a delimiter in null":               {csvfmt.Options{Null: "a,b"}, "null"},
		"a quote in null":                   {csvfmt.Options{Null: `"`}, "null"},
		"a line end in null":                {csvfmt.Options{Null: "\r"}, "null"},
		"a comment without sense":           {csvfmt.Options{Comment: "//"}, "comment"},
		"a comment that is a delimiter":     {csvfmt.Options{Comment: ";", Delimiter: "auto"}, "comment"},
		"a comment that is the quote":       {csvfmt.Options{Comment: "'", Quote: "'"}, "comment"},
		"null as a comment":                 {csvfmt.Options{Comment: "#", Null: "#N/A"}, "null"},
		"a quote that may be the delimiter": {csvfmt.Options{Delimiter: "auto", Quote: "|"}, "quote"},
		"fewer lines than none":             {csvfmt.Options{Skip: -1}, "skip"},
		"unknown ragged rows":               {csvfmt.Options{Ragged: "cut"}, "ragged"},
		"numbers unquoted without quote":    {csvfmt.Options{Quote: "none", Quoting: "nonnumeric"}, "quoting"},
		"no encoding":                       {csvfmt.Options{Encoding: "utf-9"}, "encoding"},
		"an encoding of Japanese":           {csvfmt.Options{Encoding: "shift_jis"}, "encoding"},
		"null in no encoding":               {csvfmt.Options{Encoding: "iso-8859-1", Null: "€"}, "null"},
		"a name twice":                      {csvfmt.Options{Names: []string{"a", "b", "a"}}, "names[2]"},
		"unknown quoting":                   {csvfmt.Options{Quoting: "some"}, "quoting"},
		"unknown line end":                  {csvfmt.Options{LineEnd: "cr"}, "line_end"},
		"unknown formula":                   {csvfmt.Options{Formula: "run"}, "formula"},
		"all quoted without quote":          {csvfmt.Options{Quote: "none", Quoting: "all"}, "quoting"},
		"no type":                           {csvfmt.Options{Columns: map[string]string{"a": "integer"}}, "columns.a"},
		"a layout without sense":            {csvfmt.Options{Columns: map[string]string{"a": "date foo"}}, "columns.a"},
		"a layout for a number":             {csvfmt.Options{Columns: map[string]string{"a": "int 5"}}, "columns.a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := csvfmt.New(c.options)
			var fault *transform.DefinitionError
			if !errors.As(err, &fault) || fault.Path != c.path || fault.Reason == "" {
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"windows-1252", "cp850"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness(t, csvfmt.Options{Encoding: name})
			h.Values, h.Faults, h.Limits = append(h.Values[:5:5], row(text("Jürgen"), text("ß"), text("ñ"))), nil, nil
			h.Refused["a character that it lacks"] = row(text("1"), text("\U0001F600"), empty)
			transformtest.Run(t, h)
		})
	}
}

func TestTextThatWouldNeedQuotesIsRefusedWithoutThem(t *testing.T) {
	t.Parallel()
	f := format(t, csvfmt.Options{Quote: "none", Delimiter: ";"})
	values := []string{"plain", "a;b", `say "hi"`, "a\nb"}
	var records []transform.Record
	for _, s := range values {
		records = append(records, transform.Record{Value: row(text("1"), text(s), transform.Null)})
	}
	got, refused, err := transformtest.Encode(f, records, transform.EncodeOptions{})
	if err != nil || len(refused) != 2 || got != "id;odd name $;note\n1;plain;\n1;say \"hi\";\n" {
		t.Errorf("%v, %d refused\n%s", err, len(refused), got)
	}
}

func TestALineThatIsSkippedKeepsToTheLimit(t *testing.T) {
	t.Parallel()
	f := format(t, csvfmt.Options{Skip: 2, Delimiter: "auto"})
	transformtest.Refuses(t, f, transform.DecodeOptions{Limits: transform.Limits{RecordBytes: 1 << 20}}, "a\n", "x", 4<<20)
}

func TestAReaderThatFailsInsideOfACharacterIsNoDocumentFault(t *testing.T) {
	t.Parallel()
	f := format(t, csvfmt.Options{Encoding: "utf-16le"})
	for _, begin := range []string{"a\x00\n\x00b", "a\x00\n\x00\x3d\xd8", "a\x00\n\x00\x3d\xd8\x00"} {
		cause := errors.New("the line is dead")
		err := f.Check(io.MultiReader(strings.NewReader(begin), iotest.ErrReader(cause)), transform.DecodeOptions{})
		if !errors.Is(err, cause) {
			t.Errorf("%q: %v", begin, err)
		}
	}
}
