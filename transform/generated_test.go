package transform_test

import (
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/fixedfmt"
	"github.com/integrator-go/integrator/transform/formfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

// TestMain makes what is drawn the same in every run of CI; on the command line -rapid.seed says otherwise.
func TestMain(m *testing.M) {
	if os.Getenv("CI") != "" {
		flag.Set("rapid.seed", "20261125")
	}
	os.Exit(m.Run())
}

// texts draws texts of characters that mean something somewhere, among others, but for those that are left out.
func texts(without string) *rapid.Generator[string] {
	telling := []rune("\x00\x01\x1f\t\n\r \"'<>&;,|#%+=:\\/[]{}-?!aZ09äß€\u0085\u00a0\u2028\ufeff\ufffd\ufffe\uffff\U0001F600\U0010FFFF\u0301\ud7ff\ue000")
	character := rapid.OneOf(rapid.SampledFrom(telling), rapid.SampledFrom(telling), rapid.Rune()).Filter(func(r rune) bool { return !strings.ContainsRune(without, r) })
	return rapid.StringOfN(character, 0, 40, -1)
}

// names draws different names.
func names(t *rapid.T, most int, name *rapid.Generator[string]) []string {
	return rapid.SliceOfNDistinct(name, 1, most, rapid.ID[string]).Draw(t, "names")
}

func generatedObject(names []string, value func(name string) transform.Value) transform.Value {
	var values []transform.Value
	for _, name := range names {
		values = append(values, value(name))
	}
	return transform.NewObject(transform.NewShape(names...), values)
}

// jsonValue draws whatever JSON holds.
func jsonValue(t *rapid.T, depth int) transform.Value {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return transform.Null
	case 1:
		return transform.Bool(rapid.Bool().Draw(t, "bool"))
	case 2:
		return transform.Number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,5})?`).Draw(t, "number"))
	case 3:
		return transform.Text(texts("").Draw(t, "text"))
	case 4:
		var list []transform.Value
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			list = append(list, jsonValue(t, depth-1))
		}
		return transform.List(list)
	}
	return generatedObject(names(t, 4, texts("")), func(string) transform.Value { return jsonValue(t, depth-1) })
}

// forbidden are characters that XML cannot hold.
const forbidden = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\ufffe\uffff"

// xmlValue draws what an element becomes: attributes come first, and text last; empty text and an empty object are null.
func xmlValue(t *rapid.T, depth int) transform.Value {
	filled := texts(forbidden).Filter(func(s string) bool { return s != "" })
	switch kinds := []string{"null", "text", "object"}; kinds[rapid.IntRange(0, min(2, depth)).Draw(t, "kind")] {
	case "null":
		return transform.Null
	case "text":
		return transform.Untyped(filled.Draw(t, "text"))
	}
	all := names(t, 4, rapid.StringMatching(`@?[A-Za-z_äß\x{FFFD}\x{10000}][A-Za-z0-9_.ä\x{301}-]{0,5}`))
	slices.SortStableFunc(all, func(a, b string) int { return strings.Index("@", b[:1]) - strings.Index("@", a[:1]) })
	children := all[len(all)-1][0] != '@'
	if rapid.Bool().Draw(t, "mixed") {
		all = append(all, "#text")
	}
	return generatedObject(all, func(name string) transform.Value {
		switch {
		case name == "#text" && children:
			return transform.Untyped(filled.Filter(func(s string) bool { return strings.Trim(s, " \t\r\n") != "" }).Draw(t, name))
		case name == "#text":
			return transform.Untyped(filled.Draw(t, name))
		case name[0] == '@':
			return transform.Untyped(texts(forbidden).Draw(t, name))
		}
		v := xmlValue(t, depth-1)
		if again := rapid.IntRange(0, 3).Draw(t, "again"); again > 1 {
			list := []transform.Value{v}
			for range again - 1 {
				list = append(list, xmlValue(t, depth-1))
			}
			v = transform.List(list)
		}
		return v
	})
}

// generators draw a format with options, and records that it holds exactly.
var generators = map[string]func(t *rapid.T) (transformtest.Harness, error){
	"json": func(t *rapid.T) (h transformtest.Harness, err error) {
		h.Decode.Records = "[*]"
		h.Format, err = jsonfmt.New(jsonfmt.Options{})
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			h.Values = append(h.Values, jsonValue(t, 3))
		}
		return h, err
	},
	"ndjson": func(t *rapid.T) (h transformtest.Harness, err error) {
		h.Format, err = jsonfmt.NewLines(jsonfmt.Options{})
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			h.Values = append(h.Values, jsonValue(t, 3))
		}
		return h, err
	},
	"csv": func(t *rapid.T) (h transformtest.Harness, err error) {
		o := csvfmt.Options{
			Delimiter: rapid.SampledFrom([]string{",", ";", "\t", "|", " ", "a"}).Draw(t, "delimiter"),
			Quote:     rapid.SampledFrom([]string{"\"", "'", "~"}).Draw(t, "quote"),
			Comment:   rapid.SampledFrom([]string{"", "#", "!"}).Draw(t, "comment"),
			Encoding:  rapid.SampledFrom([]string{"utf-8", "utf-16", "utf-16be"}).Draw(t, "encoding"),
			LineEnd:   rapid.SampledFrom([]string{"lf", "crlf"}).Draw(t, "line end"),
			Quoting:   rapid.SampledFrom([]string{"minimal", "all", "nonnumeric"}).Draw(t, "quoting"),
			Null:      rapid.SampledFrom([]string{"", "-", "NULL"}).Draw(t, "null"),
		}
		h.Format, err = csvfmt.New(o)
		cell := texts("\x00")
		if o.Null != "" { // there nothing between two delimiters is null, too, and so what is written for empty text
			cell = cell.Filter(func(s string) bool { return s != "" })
		}
		columns := names(t, 4, texts("\x00"))
		for range rapid.IntRange(0, 4).Draw(t, "records") {
			h.Values = append(h.Values, generatedObject(columns, func(string) transform.Value {
				if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
					return transform.Null
				}
				return transform.Untyped(cell.Draw(t, "cell"))
			}))
		}
		return h, err
	},
	"xml": func(t *rapid.T) (h transformtest.Harness, err error) {
		h.Format, err = xmlfmt.New(xmlfmt.Options{Records: "/records/record"})
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			h.Values = append(h.Values, xmlValue(t, 3))
		}
		return h, err
	},
	"fixed": func(t *rapid.T) (h transformtest.Harness, err error) {
		o := fixedfmt.Options{Columns: map[string]fixedfmt.Column{}, LineEnd: rapid.SampledFrom([]string{"lf", "crlf"}).Draw(t, "line end"),
			Encoding: rapid.SampledFrom([]string{"utf-8", "utf-16", "utf-16le"}).Draw(t, "encoding")}
		columns, at, widths := names(t, 4, texts("")), 1, map[string]int{}
		for _, name := range columns {
			at += rapid.IntRange(0, 2).Draw(t, "gap")
			widths[name] = rapid.IntRange(1, 12).Draw(t, "width")
			o.Columns[name] = fixedfmt.Column{At: strconv.Itoa(at) + "-" + strconv.Itoa(at+widths[name]-1), Type: "text"}
			at += widths[name]
		}
		h.Format, err = fixedfmt.New(o)
		for range rapid.IntRange(0, 4).Draw(t, "records") {
			h.Values = append(h.Values, generatedObject(columns, func(name string) transform.Value {
				cell := []rune(texts("\x00\r\n\ufeff\ufffe").Draw(t, name))
				text := strings.TrimRight(string(cell[:min(len(cell), widths[name])]), " ")
				if text == "" {
					return transform.Null
				}
				return transform.Text(text)
			}))
		}
		return h, err
	},
	"form": func(t *rapid.T) (h transformtest.Harness, err error) {
		h.Encode.As = "object"
		h.Format, err = formfmt.New(formfmt.Options{})
		h.Values = []transform.Value{generatedObject(names(t, 4, texts("")), func(string) transform.Value {
			var list []transform.Value
			for range rapid.IntRange(1, 3).Draw(t, "values") {
				list = append(list, transform.Untyped(texts("").Draw(t, "value")))
			}
			if len(list) == 1 {
				return list[0]
			}
			return transform.List(list)
		})}
		return h, err
	},
}

// TestGeneratedDocuments writes records that each format holds, and reads them again in every way.
func TestGeneratedDocuments(t *testing.T) {
	t.Parallel()
	for name, generate := range generators {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				h, err := generate(t)
				if err != nil {
					t.Fatal(err)
				}
				var records []transform.Record
				var want []string
				for _, v := range h.Values {
					records, want = append(records, transform.Record{Value: v}), append(want, transformtest.Show(v))
				}
				document, refused, err := transformtest.Encode(h.Format, records, h.Encode)
				if err != nil || len(refused) > 0 {
					t.Fatalf("%v %v", err, refused)
				}
				if err := h.Agree(document, h.Decode); err != nil {
					t.Fatalf("%v\n%q", err, document)
				}
				again, err := transformtest.Decode(h.Format, strings.NewReader(document), h.Decode)
				if err != nil {
					t.Fatalf("%v\n%q", err, document)
				}
				var got []string
				for _, r := range again {
					if got = append(got, transformtest.Show(r.Value)); r.Err != nil {
						t.Errorf("%v", r.Err)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("(-want +got):\n%s\n%q", diff, document)
				}
			})
		})
	}
}
