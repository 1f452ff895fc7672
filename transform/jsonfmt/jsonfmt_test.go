package jsonfmt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

func object(fields ...any) transform.Value {
	v := transform.NewObject(transform.NewShape(), nil)
	for i := 0; i < len(fields); i += 2 {
		v = v.With(fields[i].(string), fields[i+1].(transform.Value))
	}
	return v
}

var values = []transform.Value{
	object("id", transform.Int(1), "name", transform.Text("Jürgen \"J\" O'Neil\r\n\t\\ \x01\u2028\U0001F600"), "none", transform.Null),
	object("big", transform.Number("12345678901234567890"), "huge", transform.Number("1e400"), "exact", transform.Number("-0.10"), "zero", transform.Number("-0")),
	object("list", transform.List([]transform.Value{transform.Bool(true), transform.List(nil), object(), transform.Null}), "", transform.Text("")),
	object("z", transform.Int(1), "a", object("z", transform.Bool(false), "a", transform.Text("order is kept"))),
	transform.Text("no object"),
	transform.List([]transform.Value{transform.Int(1)}),
	object("e\u0301", transform.Text("\u00e9"), "odd name.[0]", transform.Int(2)),
	transform.Int(7),
}

// bad are texts that are no JSON.
var bad = map[string]string{
	"not closed":                      "[{\"a\": 1,\n \"b\": [1, 2}",
	"a name twice":                    "[{\"a\": 1,\n \"a\": 2}]",
	"a name twice, escaped":           `[{"a": 1, "\u0061": 2}]`,
	"bad UTF-8":                       "[\"ä\xff\"]",
	"overlong UTF-8":                  "[\"\xc0\xaf\"]",
	"a surrogate in UTF-8":            "[\"\xed\xa0\x80\"]",
	"a cut character":                 "[\"\xe2\x82",
	"a lone high surrogate":           `["\ud83d"]`,
	"a lone low surrogate":            `["\ude00"]`,
	"two high surrogates":             `["\ud83d\ud83d"]`,
	"something behind":                "[]\n{}",
	"a comma behind the last":         "[1,]",
	"a comma behind the field":        `[{"a": 1,}]`,
	"no comma":                        "[1 2]",
	"no colon":                        `[{"a" 1}]`,
	"a name without quotes":           "[{a: 1}]",
	"single quotes":                   "['a']",
	"a character that is none of its": "😀",
	"a comment":                       "[1, // one\n 2]",
	"a leading zero":                  "[01]",
	"a plus sign":                     "[+1]",
	"a bare point":                    "[1.]",
	"no digit before the point":       "[.5]",
	"an empty exponent":               "[1e]",
	"NaN":                             "[NaN]",
	"a wrong literal":                 "[nul]",
	"upper case":                      "[True]",
	"a tab in a text":                 "[\"a\tb\"]",
	"an unknown escape":               `["\x41"]`,
	"a short escape":                  `["\u12"]`,
	"NUL":                             "[1\x00]",
	"a form feed":                     "[1,\f2]",
	"UTF-16":                          "\xff\xfe[\x001\x00]\x00",
	"nothing":                         "",
	"blanks":                          " \n ",
}

func format(t testing.TB, o jsonfmt.Options) transform.Format {
	f, err := jsonfmt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func lines(t testing.TB, o jsonfmt.Options) transform.Format {
	f, err := jsonfmt.NewLines(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func documents(t testing.TB) transformtest.Harness {
	return transformtest.Harness{
		Format:  format(t, jsonfmt.Options{}),
		Decode:  transform.DecodeOptions{Records: "[*]"},
		Values:  values,
		Refused: map[string]transform.Value{"bad UTF-8": transform.Text("\xff"), "bad UTF-8 in a name": object("\xff", transform.Null)},
		Faults:  bad,
		Limits:  limits,
	}
}

var limits = []transformtest.Limit{
	{Name: "depth", Limits: transform.Limits{Depth: 3}, Within: `[{"a":[1]}]`, Beyond: `[{"a":[[1]]}]`},
	{Name: "field", Limits: transform.Limits{FieldBytes: 5}, Within: `["12345",12345]`, Beyond: `["123456"]`},
	{Name: "number", Limits: transform.Limits{FieldBytes: 5}, Within: `[12345]`, Beyond: `[123456]`},
	{Name: "name", Limits: transform.Limits{NameBytes: 5}, Within: `[{"12345":1}]`, Beyond: `[{"123456":1}]`},
	{Name: "fields", Limits: transform.Limits{Fields: 2}, Within: `[{"a":1,"b":2}]`, Beyond: `[{"a":1,"b":2,"c":3}]`},
	{Name: "record", Limits: transform.Limits{RecordBytes: 9}, Within: `[{"a":123}]`, Beyond: `[{"a":1234}]`},
	{Name: "record of blanks", Limits: transform.Limits{RecordBytes: 9}, Within: `[[1,    2]]`, Beyond: `[[1,           2]]`},
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	transformtest.Run(t, documents(t))
}

func newlineDelimited(t testing.TB) transformtest.Harness {
	h := documents(t)
	h.Format, h.Decode = lines(t, jsonfmt.Options{}), transform.DecodeOptions{}
	h.Faults = nil // a bad line is a fault of its record
	h.Limits = nil
	for _, l := range limits {
		cut := func(s string) string { return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]") }
		if l.Name != "number" && l.Name != "field" {
			l.Limits.Depth = max(0, l.Limits.Depth-1)
			l.Within, l.Beyond = cut(l.Within), cut(l.Beyond)
			h.Limits = append(h.Limits, l)
		}
	}
	return h
}

func TestLines(t *testing.T) {
	t.Parallel()
	transformtest.Run(t, newlineDelimited(t))
}

func BenchmarkDocuments(b *testing.B) { transformtest.Bench(b, documents(b)) }
func BenchmarkLines(b *testing.B)     { transformtest.Bench(b, newlineDelimited(b)) }

func TestGolden(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, jsonfmt.Kind(), "testdata/*.txtar")
}

func TestGoldenLines(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, jsonfmt.LinesKind(), "testdata/lines/*.txtar")
}

func FuzzDecode(f *testing.F) {
	for _, c := range transformtest.Cases(f, jsonfmt.Kind(), "testdata/*.txtar") {
		f.Add(c.In)
	}
	for _, document := range bad {
		f.Add([]byte(document))
	}
	for _, document := range corpus.JSONTestSuite.Seeds(f, "*.json") {
		f.Add(document)
	}
	list, whole, each := documents(f), documents(f), newlineDelimited(f)
	whole.Decode.Records, whole.Encode.As = "", "object"
	f.Fuzz(func(t *testing.T, document []byte) {
		accepted := list.Format.Check(bytes.NewReader(document), list.Decode) == nil
		bare := bytes.TrimPrefix(document, []byte("\uFEFF"))
		if depth(bare) < 200 && accepted != (strict(bare) == nil) {
			t.Fatalf("accepted: %v; another strict parser says %v", accepted, strict(bare))
		}
		transformtest.Fuzz(t, list, document)
		transformtest.Fuzz(t, whole, document)
		transformtest.Fuzz(t, each, document)
	})
}

// strict is what a parser of the same strictness says of a text.
func strict(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if _, err := d.ReadValue(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errors.New("something follows")
	}
	return nil
}

// depth is at least how deep a text is nested.
func depth(text []byte) int { return bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{")) }

func TestHostileDocumentsAreRefusedEarly(t *testing.T) {
	t.Parallel()
	const block = 128 << 10 // of what is read at once
	for name, c := range map[string]struct {
		head, tail string
		limits     transform.Limits
		records    string
		most       int64
	}{
		"lists in lists":        {"", "[", transform.Limits{}, "[*]", block},
		"objects in objects":    {"", `{"a":`, transform.Limits{}, "a[*]", block},
		"nested beside records": {`{"x":`, `[{"a":`, transform.Limits{}, "orders[*]", block},
		"a giant name":          {`{"`, "x", transform.Limits{}, "", 4 * block},
		"a giant text":          {`["`, "x", transform.Limits{FieldBytes: 1 << 20}, "[*]", 4 << 20},
		"a giant number":        {`[1`, "0", transform.Limits{}, "[*]", 4 * block},
		"a giant record":        {`[[`, "1,", transform.Limits{RecordBytes: 1 << 20}, "[*]", 4 << 20},
		"a record of blanks":    {`[[`, " ", transform.Limits{RecordBytes: 1 << 20}, "[*]", 4 << 20},
		"names without end":     {`{"a":1,`, `"\n`, transform.Limits{}, "", block},
		"something behind":      {`{}`, ` x`, transform.Limits{}, "", block},
		"bad UTF-8":             {`["`, "\xff", transform.Limits{}, "[*]", block},
		"a text cut by escapes": {`["`, `\u0041`, transform.Limits{FieldBytes: 1 << 20}, "[*]", 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := transform.DecodeOptions{Records: c.records, Limits: c.limits}
			transformtest.Refuses(t, format(t, jsonfmt.Options{}), o, c.head, c.tail, c.most)
		})
	}
	t.Run("a line without end", func(t *testing.T) {
		t.Parallel()
		o := transform.DecodeOptions{Limits: transform.Limits{RecordBytes: 1 << 20}}
		transformtest.Refuses(t, lines(t, jsonfmt.Options{}), o, "1\n2\n", "x", 4<<20)
	})
}

func TestObjectsOfMoreFieldsThanAllowed(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&b, `,"f%d":%d`, i, i)
	}
	document := "{" + b.String()[1:] + "}"
	h := documents(t)
	if err := h.Agree(document, transform.DecodeOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := transformtest.Decode(h.Format, strings.NewReader(document), transform.DecodeOptions{}); err == nil {
		t.Error("nothing is refused")
	}
	list, err := transformtest.Decode(h.Format, strings.NewReader(document), transform.DecodeOptions{Limits: transform.Limits{Fields: 10_001}})
	if err != nil || list[0].Value.Len() != 10_001 || list[0].Value.Field("f10000").Text() != "10000" {
		t.Error(err)
	}
}

// opened is a document opened again.
type opened struct {
	io.Reader
	open *int
}

func (o opened) Close() error { *o.open--; return nil }

func TestWhatScopeOpensIsClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		document, again string
		fault           bool
		decode          int // batches
	}{
		"read to the end":       {`{"a":[1,2],"b":3}`, `{"a":[1,2],"b":3}`, false, 3},
		"closed before the end": {`{"a":[1,2],"b":3}`, `{"a":[1,2],"b":3}`, false, 1},
		"closed at once":        {`{"a":[1,2],"b":3}`, `{"a":[1,2],"b":3}`, false, 0},
		"a fault":               {`{"a":[1,x],"b":3}`, `{"a":[1,2],"b":3}`, false, 3},
		"a fault when opened":   {`{"a":[1,2],"b":3}`, `{"a":[1,2],"b":`, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := 0
			o := transform.DecodeOptions{Records: "a[*]", Scope: true, Limits: transform.Limits{BatchSize: 1}, Reopen: func() (io.ReadCloser, error) {
				open++
				return opened{strings.NewReader(c.again), &open}, nil
			}}
			d, err := format(t, jsonfmt.Options{}).NewDecoder(strings.NewReader(c.document), o)
			if (err != nil) != c.fault {
				t.Fatal(err)
			}
			if d != nil {
				var b transform.Batch
				for range c.decode {
					_ = d.Decode(&b) // the fault is another test's
				}
				if err := d.(io.Closer).Close(); err != nil {
					t.Error(err)
				}
			}
			if open != 0 {
				t.Errorf("%d are open", open)
			}
		})
	}
	t.Run("not to be opened", func(t *testing.T) {
		t.Parallel()
		cause := errors.New("gone")
		o := transform.DecodeOptions{Records: "a[*]", Scope: true, Reopen: func() (io.ReadCloser, error) { return nil, cause }}
		if _, err := format(t, jsonfmt.Options{}).NewDecoder(strings.NewReader("{}"), o); !errors.Is(err, cause) {
			t.Error(err)
		}
		o.Reopen = nil
		if _, err := format(t, jsonfmt.Options{}).NewDecoder(strings.NewReader("{}"), o); err == nil {
			t.Error("Scope without Reopen is not refused")
		}
	})
}

func TestWhatScopeLeavesOutDoesNotCount(t *testing.T) {
	t.Parallel()
	document := `{"shop":"a","orders":[` + strings.Repeat(`{"id":1},`, 1000) + `{"id":2}],"end":1}`
	o := transform.DecodeOptions{Records: "orders[*]", Scope: true, Limits: transform.Limits{RecordBytes: 64},
		Reopen: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(document)), nil }}
	list, err := transformtest.Decode(format(t, jsonfmt.Options{}), strings.NewReader(document), o)
	if err != nil || len(list) != 1001 || transformtest.Show(list[1000].Scope.Doc) != `{shop: "a", end: 1}` {
		t.Errorf("%d records, %v", len(list), err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	var fault *transform.DefinitionError
	if _, err := jsonfmt.New(jsonfmt.Options{DuplicateKeys: "first"}); !errors.As(err, &fault) || fault.Path != "duplicate_keys" {
		t.Error(err)
	}
	if _, err := format(t, jsonfmt.Options{}).NewEncoder(io.Discard, transform.EncodeOptions{As: "rows"}); err == nil {
		t.Error("records can be written as rows")
	}
}

// TestExpectedNames has faults behind names that came before: they are found as where a name comes for the first time.
func TestExpectedNames(t *testing.T) {
	t.Parallel()
	const good = `{"a":"x","b":1}`
	for _, bad := range []string{`{"a":"x","a":1}`, `{"a":"x",,"b":1}`, `{"a":"x" "b":1}`, `{"a":"x"`, `{"a":}`, `{,"a":1}`, `{"a":"x","b":01}`, "{\"a\":\"\xff\"}", "{\"a\":\"\xe6\x9d\"}", "{\"a\":\"\x01\"}", `{"a"x:1}`, `{"ax:1}`,
		`{"a":"x",}`, `{"a":"x","b":1}}`, `{"a":"\ud800"}`, `{"a":"x","b":1,"b":2}`, `{"a":"x","b"`} {
		fault := func(before string) (line int64, reason string) {
			f, err := jsonfmt.NewLines(jsonfmt.Options{})
			if err != nil {
				t.Fatal(err)
			}
			records, err := transformtest.Decode(f, strings.NewReader(before+"\n"+bad+"\n"), transform.DecodeOptions{})
			if err != nil || records[len(records)-1].Err == nil {
				t.Errorf("%q behind %q is accepted: %v", bad, before, err)
				return 0, ""
			}
			return records[len(records)-1].Line, records[len(records)-1].Err.Error()
		}
		line, first := fault("")
		lineAgain, again := fault(good + "\n" + good)
		if first != again || lineAgain != line+1 {
			t.Errorf("%q: first %s, then %s", bad, first, again)
		}
	}
}

// TestCharacters has characters of every block in a text, escaped in both cases and, where that may be, as itself; half of a surrogate pair is refused.
func TestCharacters(t *testing.T) {
	t.Parallel()
	f := format(t, jsonfmt.Options{})
	var all, itself, lower, upper strings.Builder
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			for _, document := range []string{fmt.Sprintf(`["\u%04x"]`, r), fmt.Sprintf(`["\u%04X\u0041"]`, r), fmt.Sprintf(`["\ud83d\u%04xx"]`, r), fmt.Sprintf(`{"\u%04x": 1}`, r)} {
				if ok := f.Check(strings.NewReader(document), transform.DecodeOptions{}) == nil; ok != (r >= 0xDC00 && strings.Contains(document, `\ud83d`)) {
					t.Errorf("%s is accepted: %v", document, ok)
				}
			}
			continue
		}
		if r > 0x3000 && 2 < r&0xFF && r&0xFF < 0xFD { // of a block one knows both ends
			continue
		}
		all.WriteRune(r)
		for _, units := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&lower, `\u%04x`, units)
			fmt.Fprintf(&upper, `\u%04X`, units)
		}
		if r < ' ' || r == '"' || r == '\\' {
			fmt.Fprintf(&itself, `\u%04x`, r)
		} else {
			itself.WriteRune(r)
		}
	}
	for _, s := range []string{itself.String(), lower.String(), upper.String()} {
		records, err := transformtest.Decode(f, strings.NewReader(`"`+s+`"`), transform.DecodeOptions{})
		if err != nil || records[0].Value.Text() != all.String() {
			t.Errorf("not every character comes as it is: %v", err)
		}
	}
}

// TestDepth is nested as deep as is allowed by default, and one deeper.
func TestDepth(t *testing.T) {
	t.Parallel()
	for _, part := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		for depth, want := range map[int]bool{256: true, 257: false} {
			document := strings.Repeat(part[0], depth) + "1" + strings.Repeat(part[1], depth)
			for _, h := range []transformtest.Harness{documents(t), newlineDelimited(t)} {
				h.Decode.Records = ""
				if err := h.Agree(document, h.Decode); err != nil {
					t.Error(err)
				}
				records, err := transformtest.Decode(h.Format, strings.NewReader(document), h.Decode)
				if ok := err == nil && records[0].Err == nil; ok != want {
					t.Errorf("%d deep: %v", depth, err)
				}
			}
		}
	}
}
