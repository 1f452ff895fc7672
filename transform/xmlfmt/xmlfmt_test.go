package xmlfmt_test

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/transformtest"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

func object(fields ...any) transform.Value {
	v := transform.NewObject(transform.NewShape(), nil)
	for i := 0; i < len(fields); i += 2 {
		value, ok := fields[i+1].(transform.Value)
		if !ok {
			value = transform.Untyped(fields[i+1].(string))
		}
		v = v.With(fields[i].(string), value)
	}
	return v
}

func list(values ...transform.Value) transform.Value { return transform.List(values) }

var text = transform.Untyped

// bad are texts that are no well-formed XML, or that are refused.
var bad = map[string]string{
	"nothing":                         "",
	"blanks":                          " \n",
	"text alone":                      "abc",
	"not closed":                      "<a>\n <b>x</b>",
	"another end tag":                 "<a>\n <b>x</c></a>",
	"an end tag alone":                "</a>",
	"two roots":                       "<a/>\n<b/>",
	"text behind":                     "<a/>\n b",
	"text before":                     "x<a/>",
	"CDATA behind":                    "<a/><![CDATA[x]]>",
	"a DOCTYPE":                       "<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>",
	"a billion laughs":                `<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><a>&b;</a>`,
	"an XInclude":                     "<a xmlns:xi='http://www.w3.org/2001/XInclude'>\n<b><xi:include href='file:///etc/passwd'/></b></a>",
	"an XInclude without attributes":  "<a xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include/></a>",
	"an XInclude without a prefix":    "<a><include xmlns='http://www.w3.org/2001/XInclude' href='file:///etc/passwd'/></a>",
	"a DOCTYPE inside":                "<a><!DOCTYPE a></a>",
	"an entity":                       "<a>&nbsp;</a>",
	"a bare ampersand":                "<a>b & c</a>",
	"a reference that never ends":     "<a>&amp</a>",
	"a reference to NUL":              "<a>&#0;</a>",
	"a reference to a surrogate":      "<a>&#xD800;</a>",
	"a reference too large":           "<a>&#x110000;</a>",
	"an empty reference":              "<a>&#;</a>",
	"an upper case X":                 "<a>&#X41;</a>",
	"a control character":             "<a>\x01</a>",
	"NUL":                             "<a>\x00</a>",
	"U+FFFF":                          "<a>\uffff</a>",
	"bad UTF-8":                       "<a>ä\xff</a>",
	"bad UTF-8 in a name":             "<a\xff/>",
	"bad UTF-8 in an attribute":       "<a b='\xff'/>",
	"bad UTF-8 in a comment":          "<a><!--\xff--></a>",
	"]]> in text":                     "<a>]]></a>",
	"-- in a comment":                 "<a><!-- a -- b --></a>",
	"a comment that ends ---":         "<a><!-- a ---></a>",
	"a comment that never ends":       "<a><!-- a -></a>",
	"an instruction named xml":        "<a><?xml version='1.0'?></a>",
	"an instruction of nothing":       "<?>",
	"an instruction without name":     "<a><? x?></a>",
	"a declaration behind a blank":    " <?xml version='1.0'?><a/>",
	"a declaration without version":   "<?xml encoding='UTF-8'?><a/>",
	"an unknown encoding":             "<?xml version='1.0' encoding='EBCDIC'?><a/>",
	"UTF-16 without a mark":           "<\x00a\x00/\x00>\x00",
	"half of a character of UTF-16":   "\xff\xfe<\x00a\x00>\x00\x00\xd8<\x00/\x00a\x00>\x00",
	"UTF-16 that is declared UTF-8":   "\xff\xfe" + wide("<?xml version='1.0' encoding='UTF-8'?><a/>"),
	"UTF-8 that is declared UTF-16":   "<?xml version='1.0' encoding='UTF-16'?><a/>",
	"a mark of UTF-8 and Latin 1":     "\uFEFF<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
	"no character of windows-1252":    "<?xml version='1.0' encoding='windows-1252'?><a>\x81</a>",
	"no character of US-ASCII":        "<?xml version='1.0' encoding='US-ASCII'?><a>ä</a>",
	"an attribute twice":              "<a b='1'\n b='2'/>",
	"an attribute twice, by name":     "<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>",
	"an attribute without quotes":     "<a b=1/>",
	"an attribute without value":      "<a b/>",
	"no space between attributes":     "<a b='1'c='2'/>",
	"< in an attribute":               "<a b='<'/>",
	"an undeclared prefix":            "<x:a/>",
	"an undeclared prefix within":     "<a x:b='1'/>",
	"a prefix out of scope":           "<a><b xmlns:x='u'/><x:c/></a>",
	"a prefix bound to nothing":       "<a xmlns:x=''/>",
	"two colons":                      "<a:b:c xmlns:a='u'/>",
	"a name that begins with a digit": "<1a/>",
	"a space before the name":         "< a/>",
	"a slash in a tag":                "<a / b='1'/>",
	"a space before >":                "<a/ >",
	"a declaration of markup":         "<a><!ELEMENT b></a>",
}

func format(t testing.TB, o xmlfmt.Options) transform.Format {
	f, err := xmlfmt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func harness(t testing.TB) transformtest.Harness {
	return transformtest.Harness{
		Format: format(t, xmlfmt.Options{Records: "/records/record", Namespaces: map[string]string{"x": "urn:x"}, Lists: []string{"always"}}),
		Values: []transform.Value{
			object("id", "12345678901234567890", "name", "Jürgen & <Söhne> \"x\" 'y' ]]> \U0001F600", "none", transform.Null),
			object("@id", "1", "@text", "a\r\nb\tc \"d\" <&>", "#text", " kept\r\n text "),
			object("line", list(object("n", "1"), text("two"), transform.Null), "always", list(text("one"))),
			text("only text"),
			transform.Null,
			object("@xml:lang", "de", "x:a", object("@x:b", "1", "x:c", "2")),
			object("größe", " ", "a.b-c_d", "1e400"),
			object("z", "1", "a", object("z", "2", "a", "3")),
		},
		Refused: map[string]transform.Value{
			"a control character":       object("a", "\x01"),
			"NUL in an attribute":       object("@a", "\x00"),
			"bad UTF-8":                 object("a", "\xff"),
			"a blank in a name":         object("a b", "1"),
			"an empty name":             object("", "1"),
			"an undeclared prefix":      object("y:a", "1"),
			"a list in a list":          object("a", list(list(text("1")))),
			"an object as attribute":    object("@a", object()),
			"a list as text":            object("#text", list()),
			"< in a name":               object("a><b", "1"),
			"a prefix bound to nothing": object("@xmlns:y", "", "y:a", "1"),
			"XML's own prefix":          object("@xmlns:xmlns", "urn:y"),
			"a declaration undone":      object("@xmlns:y", transform.Null, "y:a", "1"),
		},
		Faults: bad,
		Limits: []transformtest.Limit{
			{Name: "depth", Limits: transform.Limits{Depth: 3}, Within: "<records><record><a/></record></records>", Beyond: "<records><record><a><b/></a></record></records>"},
			{Name: "depth outside of records", Limits: transform.Limits{Depth: 3}, Within: "<a><b><c/></b></a>", Beyond: "<a><b><c><d/></c></b></a>"},
			{Name: "text", Limits: transform.Limits{FieldBytes: 12}, Within: "<a>123456789012</a>", Beyond: "<a>1234567890123</a>"},
			{Name: "attribute", Limits: transform.Limits{FieldBytes: 13}, Within: "<a b='1234'/>", Beyond: "<a b='12345'/>"},
			{Name: "pieces of text", Limits: transform.Limits{FieldBytes: 10}, Within: "<records><record>12345<!---->67890</record></records>", Beyond: "<records><record>12345<!---->678901</record></records>"},
			{Name: "comment", Limits: transform.Limits{FieldBytes: 12}, Within: "<a><!--12345--></a>", Beyond: "<a><!--123456--></a>"},
			{Name: "record", Limits: transform.Limits{RecordBytes: 27}, Within: "<records>" + "<record><a>1</a>  </record>" + "</records>", Beyond: "<records>" + "<record><a>12</a>  </record>" + "</records>"},
			{Name: "name", Limits: transform.Limits{NameBytes: 7}, Within: "<records a23456='1'/>", Beyond: "<records a2345678='1'/>"},
			{Name: "attributes", Limits: transform.Limits{Attributes: 2}, Within: "<a b='' c=''/>", Beyond: "<a b='' c='' d=''/>"},
			{Name: "namespaces in force", Limits: transform.Limits{Attributes: 2}, Within: "<a xmlns:b='1' xmlns:c='2'><b/></a>", Beyond: "<a xmlns:b='1' xmlns:c='2'><b xmlns:d='3'/></a>"},
			{Name: "children", Limits: transform.Limits{Fields: 2}, Within: "<records><record a='1'><b/><b/></record></records>", Beyond: "<records><record a='1'><b/><c/></record></records>"},
		},
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	transformtest.Run(t, harness(t))
}

func TestGolden(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, xmlfmt.Kind(), "testdata/*.txtar")
}

func BenchmarkFormat(b *testing.B) { transformtest.Bench(b, harness(b)) }

func FuzzDecode(f *testing.F) {
	h := harness(f)
	for _, c := range transformtest.Cases(f, xmlfmt.Kind(), "testdata/*.txtar") {
		f.Add(c.In)
	}
	for _, document := range h.Faults {
		f.Add([]byte(document))
	}
	for _, l := range h.Limits {
		f.Add([]byte(l.Within))
	}
	for _, document := range corpus.XML.Seeds(f, "*.xml") {
		bare, _ := withoutDoctype(document)
		f.Add(bare)
	}
	f.Fuzz(func(t *testing.T, document []byte) { transformtest.Fuzz(t, h, document) })
}

func TestHostileDocumentsAreRefusedEarly(t *testing.T) {
	t.Parallel()
	const block = 128 << 10 // of what is read at once
	for name, c := range map[string]struct {
		head, tail string
		limits     transform.Limits
		most       int64
	}{
		"nested elements":         {"", "<a>", transform.Limits{}, block},
		"nested beside records":   {"<records><x>", "<a><b>", transform.Limits{}, block},
		"attributes without end":  {"<a ", "b='1' ", transform.Limits{}, block},
		"namespaces without end":  {"<a ", "xmlns:b='1' ", transform.Limits{}, block},
		"a giant name":            {"<", "x", transform.Limits{}, 4 * block},
		"a giant attribute name":  {"<a ", "x", transform.Limits{}, 4 * block},
		"a giant name that ends":  {"</", "x", transform.Limits{}, block},
		"a giant attribute":       {"<a b='", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a giant text":            {"<a>", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a giant text in pieces":  {"<records><record>", "xxx<!---->", transform.Limits{FieldBytes: 1 << 20}, 8 << 20},
		"a giant comment":         {"<!--", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a giant CDATA section":   {"<a><![CDATA[", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a giant instruction":     {"<?x ", "x", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
		"a declaration that goes": {"<?xml ", "x", transform.Limits{}, block},
		"a giant record":          {"<records><record>", "<a/>", transform.Limits{RecordBytes: 1 << 20}, 4 << 20},
		"a DOCTYPE":               {"<!DOCTYPE a [", "<!ENTITY a 'b'>", transform.Limits{}, block},
		"an entity":               {"<a>", "&lol;<b/>", transform.Limits{}, block},
		"spaces in a tag":         {"<a", " ", transform.Limits{FieldBytes: 1 << 20}, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transformtest.Refuses(t, harness(t).Format, transform.DecodeOptions{Limits: c.limits}, c.head, c.tail, c.most)
		})
	}
}

// It is not parallel: it looks at what the process allocates.
func TestTextAmongManyChildrenIsCheap(t *testing.T) {
	document := "<a>" + strings.Repeat("text<b/>\n", 100_000) + "</a>"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	list, err := transformtest.Decode(format(t, xmlfmt.Options{}), strings.NewReader(document), transform.DecodeOptions{})
	runtime.ReadMemStats(&after)
	if err != nil || len(list) != 1 || list[0].Value.Field("a").Field("b").Len() != 100_000 {
		t.Fatal(err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 100<<20 {
		t.Errorf("%d bytes of XML took %d bytes of memory", len(document), allocated)
	}
}

func TestWhatScopeLeavesOutDoesNotCount(t *testing.T) {
	t.Parallel()
	document := `<shop name="a">` + strings.Repeat(`<order id="1"/>`, 1000) + `<end>1</end></shop>`
	o := transform.DecodeOptions{Records: "/shop/order", Scope: true, Limits: transform.Limits{RecordBytes: 64},
		Reopen: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(document)), nil }}
	list, err := transformtest.Decode(format(t, xmlfmt.Options{}), strings.NewReader(document), o)
	if err != nil || len(list) != 1000 || transformtest.Show(list[999].Scope.Doc) != `{shop: {@name: 'a', end: '1'}}` {
		t.Errorf("%d records, %v", len(list), err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options xmlfmt.Options
		path    string
	}{
		"no path":               {xmlfmt.Options{Records: "/a//b"}, "records"},
		"a predicate":           {xmlfmt.Options{Records: "/a/b[1]"}, "records"},
		"a list of no element":  {xmlfmt.Options{Records: "[*]"}, "records"},
		"no name of the root":   {xmlfmt.Options{Root: "a b"}, "root"},
		"an undeclared prefix":  {xmlfmt.Options{Element: "x:b"}, "element"},
		"a prefix of XML's own": {xmlfmt.Options{Namespaces: map[string]string{"xml": "urn:x"}}, "namespaces.xml"},
		"a prefix without URI":  {xmlfmt.Options{Namespaces: map[string]string{"x": ""}}, "namespaces.x"},
		"a prefix with colon":   {xmlfmt.Options{Namespaces: map[string]string{"x:y": "urn:x"}}, "namespaces.x:y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := xmlfmt.New(c.options)
			var fault *transform.DefinitionError
			if !errors.As(err, &fault) || fault.Path != c.path || fault.Reason == "" {
				t.Errorf("%#v", err)
			}
		})
	}
}

// wide is a text of ASCII in UTF-16, little-endian.
func wide(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}

// TestExpectedElements has faults in elements that came before: they are found as in those that come for the first time.
func TestExpectedElements(t *testing.T) {
	t.Parallel()
	const good = "<r><b>x</b> <c>y</c></r>"
	for _, bad := range []string{"<r><b>\uFFFE</b></r>", "<r><b>\uFFFF</b></r>", "<r><b>\xff</b></r>", "<r><b>\x01</b></r>", "<r><b>]]></b></r>", "<r><b>x</c></r>", "<r><b>&x;</b></r>", "<r><b>x</b><c>y</b></r>",
		"<r><b>\xe6\x9d</b></r>", "<r><b>x</b>\x0c<c>y</c></r>", "<r><b>x</b", "<r><b>x</b></r", "<r><b><</b></r>", "<r><b>x</b><b:c>y</b:c></r>"} {
		fault := func(before string) transform.SyntaxError {
			f, err := xmlfmt.New(xmlfmt.Options{Records: "/a/r"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = transformtest.Decode(f, strings.NewReader("<a>"+before+"\n"+bad+"\n</a>"), transform.DecodeOptions{})
			var fault *transform.SyntaxError
			if !errors.As(err, &fault) {
				t.Errorf("%q behind %q is accepted: %v", bad, before, err)
				return transform.SyntaxError{}
			}
			return *fault
		}
		first, again := fault(""), fault(good+good)
		first.Offset, again.Offset = 0, 0
		if first != again {
			t.Errorf("%q: first %v, then %v", bad, &first, &again)
		}
	}
}

// TestCharacters has characters of every block that XML holds in text and in attributes, as itself and by a reference, and others, which are refused.
func TestCharacters(t *testing.T) {
	t.Parallel()
	f := format(t, xmlfmt.Options{})
	var all, itself, references strings.Builder
	for r := rune(1); r <= utf8.MaxRune; r++ {
		if r > 0x3000 && 2 < r&0xFF && r&0xFF < 0xFD { // of a block one knows both ends
			continue
		}
		reference := fmt.Sprintf("&#x%x;", r)
		switch ok := r == '\t' || r == '\n' || r == '\r' || ' ' <= r && r <= 0xD7FF || 0xE000 <= r && r <= 0xFFFD || 0x10000 <= r; { // section 2.2
		case !ok:
			for _, document := range []string{"<a>" + string(r) + "</a>", "<a b='" + string(r) + "'/>", "<a>" + reference + "</a>", "<a b='" + reference + "'/>", "<a><!--" + string(r) + "--></a>", "<a><![CDATA[" + string(r) + "]]></a>", "<a><?b " + string(r) + "?></a>"} {
				if utf8.ValidRune(r) || strings.Contains(document, "&") {
					if err := f.Check(strings.NewReader(document), transform.DecodeOptions{}); err == nil {
						t.Errorf("%q is accepted", document)
					}
				}
			}
		case ok:
			all.WriteRune(r)
			references.WriteString(reference)
			if strings.ContainsRune("\t\n\r&<>\"'", r) {
				itself.WriteString(reference)
			} else {
				itself.WriteRune(r)
			}
		}
	}
	for _, s := range []string{itself.String(), references.String()} {
		records, err := transformtest.Decode(f, strings.NewReader("<a b='"+s+"'>"+s+"</a>"), transform.DecodeOptions{Limits: transform.Limits{FieldBytes: 64 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		if v := records[0].Value.Field("a"); v.Field("@b").Text() != all.String() || v.Field("#text").Text() != all.String() {
			t.Error("not every character comes as it is")
		}
	}
}

// TestNames has names that begin with and hold the characters at both ends of what section 2.3 allows, and those beside them.
func TestNames(t *testing.T) {
	t.Parallel()
	f := format(t, xmlfmt.Options{})
	begin := regexp.MustCompile(`^[A-Z_a-z\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{2FF}\x{370}-\x{37D}\x{37F}-\x{1FFF}\x{200C}-\x{200D}\x{2070}-\x{218F}\x{2C00}-\x{2FEF}\x{3001}-\x{D7FF}\x{F900}-\x{FDCF}\x{FDF0}-\x{FFFD}\x{10000}-\x{EFFFF}]$`)
	within := regexp.MustCompile(`^[-.0-9\x{B7}\x{0300}-\x{036F}\x{203F}-\x{2040}]$`)
	for _, at := range []rune{'-', '.', '0', '9', 'A', 'Z', '_', 'a', 'z', 0xB7, 0xC0, 0xD6, 0xD8, 0xF6, 0xF8, 0x2FF, 0x300, 0x36F, 0x370, 0x37D, 0x37F, 0x1FFF, 0x200C, 0x200D, 0x203F, 0x2040, 0x2070, 0x218F, 0x2C00, 0x2FEF, 0x3001, 0xD7FF, 0xF900, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0xEFFFF} {
		for _, r := range []rune{at - 1, at, at + 1} {
			if !utf8.ValidRune(r) || strings.ContainsRune("/:@", r) { // which say something else
				continue
			}
			c := string(r)
			first := begin.MatchString(c)
			for document, want := range map[string]bool{"<" + c + "/>": first, "<a" + c + "/>": first || within.MatchString(c), "<a " + c + "='1'/>": first, "<a><?a" + c + "?></a>": first || within.MatchString(c)} {
				if err := f.Check(strings.NewReader(document), transform.DecodeOptions{}); (err == nil) != want {
					t.Errorf("%q: %v", document, err)
				}
			}
			_, refused, err := transformtest.Encode(f, []transform.Record{{Value: object("a"+c, "1")}}, transform.EncodeOptions{})
			if err != nil || (len(refused) == 0) != (first || within.MatchString(c)) {
				t.Errorf("%q is written: %v, %v", "a"+c, len(refused) == 0, err)
			}
		}
	}
}
