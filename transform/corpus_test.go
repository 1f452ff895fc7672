package transform_test

import (
	"encoding/json"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/fixedfmt"
	"github.com/integrator-go/integrator/transform/formfmt"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

// holder is a format with what it cannot hold.
type holder struct {
	name   string
	format transform.Format
	decode transform.DecodeOptions
	encode transform.EncodeOptions
	single bool
	null   bool // empty text comes back as null

	blanks bool // as do blanks behind text

	refuses func(s string) bool
}

// reads is what text comes back as.
func (h *holder) reads(s string) string {
	if h.blanks {
		return strings.TrimRight(s, " ")
	}
	return s
}

// holders are all formats, as they write the field s, and in XML the attribute @s too.
func holders(t testing.TB) []holder {
	must := func(f transform.Format, err error) transform.Format {
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	never := func(string) bool { return false }
	text := func(at string) fixedfmt.Column { return fixedfmt.Column{At: at, Type: "text"} }
	return []holder{
		{name: "json", format: must(jsonfmt.New(jsonfmt.Options{})), decode: transform.DecodeOptions{Records: "[*]"}, refuses: never},
		{name: "ndjson", format: must(jsonfmt.NewLines(jsonfmt.Options{})), refuses: never},
		{name: "csv", format: must(csvfmt.New(csvfmt.Options{})), refuses: func(s string) bool { return strings.Contains(s, "\x00") }},
		{name: "csv, semicolons", format: must(csvfmt.New(csvfmt.Options{Delimiter: ";", Quote: "'", LineEnd: "crlf", Quoting: "all"})), refuses: func(s string) bool { return strings.Contains(s, "\x00") }},
		{name: "csv, UTF-16", format: must(csvfmt.New(csvfmt.Options{Encoding: "utf-16"})), refuses: func(s string) bool { return strings.Contains(s, "\x00") }},
		{name: "xml", format: must(xmlfmt.New(xmlfmt.Options{Records: "/records/record"})), null: true, refuses: func(s string) bool {
			return strings.ContainsFunc(s, func(r rune) bool { // section 2.2, Char
				return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
			})
		}},
		{name: "fixed", format: must(fixedfmt.New(fixedfmt.Options{Columns: map[string]fixedfmt.Column{"id": {At: "1-6"}, "s": text("7-4000"), "@s": text("4001-8000")}})), null: true, blanks: true, refuses: func(s string) bool {
			return strings.ContainsAny(s, "\x00\r\n")
		}},
		{name: "form", format: must(formfmt.New(formfmt.Options{})), encode: transform.EncodeOptions{As: "object"}, single: true, refuses: never},
	}
}

// pass writes the records and reads them again. It returns them, in the places that they had, and which were refused.
func (h *holder) pass(t *testing.T, records []transform.Record) (again []transform.Record, refused map[string]bool) {
	t.Helper()
	refused = map[string]bool{}
	step := 1
	if !h.single {
		step = len(records)
	}
	for i := 0; i < len(records); i += step {
		document, not, err := transformtest.Encode(h.format, records[i:i+step], h.encode)
		if err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		for _, r := range not {
			refused[r.Value.Field("id").Text()] = true
		}
		if h.single && len(not) > 0 {
			continue
		}
		part, err := transformtest.Decode(h.format, strings.NewReader(document), h.decode)
		if err != nil {
			t.Fatalf("%s: what was written cannot be read: %v", h.name, err)
		}
		again = append(again, part...)
	}
	return again, refused
}

// ours are texts that have been somebody's trouble.
var ours = []string{"", " ", "  ", "\t", "\n", "\r", "\r\n", "\n\r", " x", "x ", "\tx\t", "\nx\n", "\rx", "\"", "\"\"", "'", "a\"b", "\"a\"", "a,b", "a;b", "a|b", "a\tb", "#", "#x", "\\", "\\n", "\\u0041", "]]>", "<![CDATA[x]]>", "<!-- x -->", "<?x?>",
	"&amp;", "&#65;", "&", "<", ">", "a=b&c=d", "+", "%", "%41", "%zz", "null", "NULL", "true", "0", "-0", "007", "1e400", "NaN", "Infinity", "0x10", "=1+1", "@SUM(1)", "-1", "\x00", "a\x00b", "\x01", "\x08\x0b\x0c\x1b", "\x7f", "\u0080\u009f", "\u0085",
	"\u00a0", "\u2028", "\u2029", "\u200b", "\u3000", "\ufeff", "\ufeffx", "x\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0001F600", "\U0010FFFF", "e\u0301", "\u00e9", "\u202e", "\ud7ff\ue000", "${secret}", "{{x}}", "../../etc/passwd", strings.Repeat("x", 3000), strings.Repeat("ä\n", 900)}

// TestNaughtyStrings passes texts through every format, and from there through every other one: they come back byte by byte, or the record is refused
// because the format cannot hold it. Two differences are documented: empty text is null to XML and to lines of fixed positions, and those know no blanks
// behind text.
func TestNaughtyStrings(t *testing.T) {
	t.Parallel()
	t.Run("ours", func(t *testing.T) {
		t.Parallel()
		passAll(t, ours)
	})
	t.Run("the Big List", func(t *testing.T) {
		t.Parallel()
		text, err := fs.ReadFile(corpus.Naughty.Open(t), "blns.json")
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		if err := json.Unmarshal(text, &list); err != nil || len(list) < 400 {
			t.Fatalf("%d strings, %v", len(list), err)
		}
		passAll(t, list)
	})
}

func passAll(t *testing.T, list []string) {
	shape := transform.NewShape("id", "s", "@s")
	var records []transform.Record
	for i, s := range list {
		if !utf8.ValidString(s) {
			t.Fatalf("%q is no text", s)
		}
		v := transform.Text(s)
		records = append(records, transform.Record{Value: transform.NewObject(shape, []transform.Value{transform.Text(strconv.Itoa(i)), v, v})})
	}
	same := func(t *testing.T, records []transform.Record, by ...holder) {
		t.Helper()
		for _, r := range records {
			i, err := strconv.Atoi(r.Value.Field("id").Text())
			if err != nil || r.Err != nil {
				t.Fatalf("%s: %v", transformtest.ShowRecord(r), r.Err)
			}
			want, null := list[i], false
			for _, h := range by {
				want, null = h.reads(want), null || h.null
			}
			for _, name := range []string{"s", "@s"} {
				v := r.Value.Field(name)
				if text := v.Kind() == transform.KindText || v.Kind() == transform.KindUntyped; v.Text() != want || !text && !(null && want == "" && v.IsNull()) {
					t.Errorf("%s of %d: %q has become %s", name, i, list[i], transformtest.Show(v))
				}
			}
		}
	}
	all := holders(t)
	for _, from := range all {
		first, refused := from.pass(t, records)
		for i, s := range list {
			if refused[strconv.Itoa(i)] != from.refuses(s) {
				t.Errorf("%s refuses %q: %v", from.name, s, !from.refuses(s))
			}
		}
		if len(first)+len(refused) != len(list) {
			t.Errorf("%s: %d records of %d, and %d refused", from.name, len(first), len(list), len(refused))
		}
		same(t, first, from)
		for _, to := range all {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				second, refused := to.pass(t, first)
				if len(second)+len(refused) != len(first) {
					t.Errorf("%d records of %d, and %d refused", len(second), len(first), len(refused))
				}
				for _, r := range first {
					id := r.Value.Field("id").Text()
					i, _ := strconv.Atoi(id)
					if refused[id] != to.refuses(list[i]) {
						t.Errorf("%q is refused: %v", list[i], refused[id])
					}
				}
				same(t, second, from, to)
			})
		}
	}
}

// TestNaughtyNames has the texts as names of fields: they come back as they were, or the record is refused.
func TestNaughtyNames(t *testing.T) {
	t.Parallel()
	for _, h := range holders(t) {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range ours {
				r := transform.Record{Value: transform.NewObject(transform.NewShape("id", s), []transform.Value{transform.Text("1"), transform.Text("x")})}
				document, refused, err := transformtest.Encode(h.format, []transform.Record{r}, h.encode)
				if err != nil {
					t.Fatal(err)
				}
				if len(refused) > 0 {
					if lax := h.name == "json" || h.name == "ndjson" || h.single; lax || strings.HasPrefix(h.name, "csv") && !h.refuses(s) {
						t.Errorf("%q is refused: %v", s, refused[0].Err)
					}
					continue
				}
				again, err := transformtest.Decode(h.format, strings.NewReader(document), h.decode)
				if err != nil || len(again) != 1 || again[0].Err != nil || again[0].Value.Len() != 2 || again[0].Value.Field(s).Text() != "x" {
					t.Errorf("%q: %v %v\n%s", s, again, err, document)
				}
			}
		})
	}
}
