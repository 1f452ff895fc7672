package formfmt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/formfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

var text = transform.Untyped

// form is a record of names and values.
func form(fields ...any) transform.Value {
	v := transform.NewObject(transform.NewShape(), nil)
	for i := 0; i < len(fields); i += 2 {
		v = v.With(fields[i].(string), fields[i+1].(transform.Value))
	}
	return v
}

func list(values ...transform.Value) transform.Value { return transform.List(values) }

func format(t testing.TB, o formfmt.Options) transform.Format {
	f, err := formfmt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func harness(t testing.TB) transformtest.Harness {
	return transformtest.Harness{
		Format: format(t, formfmt.Options{}),
		Single: true,
		Encode: transform.EncodeOptions{As: "object"},
		Values: []transform.Value{
			form("id", text("1"), "name", text("Jürgen & Söhne = +1 %20"), "note", text("")),
			form("a", list(text("1"), text(""), text("3")), "b", text("2")),
			form("", text(""), "\uFEFF", text("\uFEFF"), "odd name\r\n\x00", text("\U0001F600*-._~!'()")),
			form("n", text("12345678901234567890"), "x", text("1e400"), "y", text("0123.10")),
			form("", text("")),
		},
		Refused: map[string]transform.Value{
			"an object":             form("a", form("b", text("1"))),
			"a list in a list":      form("a", list(list())),
			"an object in a list":   form("a", list(form())),
			"null in a list":        form("a", list(text("1"), transform.Null)),
			"no object":             text("text"),
			"bad UTF-8":             form("a", text("\xff")),
			"bad UTF-8 in a name":   form("\xff", text("a")),
			"a list of the records": list(form()),
		},
		Faults: map[string]string{
			"a percent sign":                 "a=1&b=100%",
			"a percent sign before others":   "a=1&b=%&c=2",
			"half an escape":                 "a=1&b=%e",
			"no hexadecimal digits":          "a=1&b=%zz",
			"an escape in a name":            "a=1&%2=1",
			"bad UTF-8":                      "a=\xff",
			"bad UTF-8 in escapes":           "a=%C3%A4%FF",
			"a cut character in escapes":     "a=%C3&b=%A4",
			"a character of both, cut":       "a=%C3\xff",
			"a line end":                     "a=1\nb=2",
			"two line ends behind":           "a=1\n\n",
			"NUL":                            "a=\x00",
			"a surrogate":                    "a=%ED%A0%80",
			"UTF-16":                         "\xff\xfea\x00=\x00",
			"an escape that needs two bytes": "a=%E2%82",
		},
		Limits: []transformtest.Limit{
			{Name: "value", Limits: transform.Limits{FieldBytes: 3}, Within: "a=123&b=%C3%A4x", Beyond: "a=1234"},
			{Name: "escaped value", Limits: transform.Limits{FieldBytes: 3}, Within: "a=%31%31%31", Beyond: "a=%31%31%31%31"},
			{Name: "name", Limits: transform.Limits{NameBytes: 3}, Within: "%31%31%31", Beyond: "1234"},
			{Name: "long name", Limits: transform.Limits{NameBytes: 3}, Within: "%31%31%31", Beyond: "1234567890123=1"},
			{Name: "values", Limits: transform.Limits{Fields: 2}, Within: "a&&a&", Beyond: "a&a&a"},
			{Name: "document", Limits: transform.Limits{RecordBytes: 7}, Within: "a=1&b=2\r\n", Beyond: "a=1&b=23"},
			{Name: "document before value", Limits: transform.Limits{RecordBytes: 7, FieldBytes: 1}, Within: "a=1&b=2", Beyond: "a=1&b=234567890"},
		},
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	transformtest.Run(t, harness(t))
}

func TestGolden(t *testing.T) {
	t.Parallel()
	transformtest.Golden(t, formfmt.Kind(), "testdata/*.txtar")
}

func FuzzDecode(f *testing.F) {
	h := harness(f)
	for _, c := range transformtest.Cases(f, formfmt.Kind(), "testdata/*.txtar") {
		f.Add(c.In)
	}
	for _, document := range h.Faults {
		f.Add([]byte(document))
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
		"a giant value":            {"a=", "x", transform.Limits{FieldBytes: 1 << 20}, 8 << 20},
		"a giant name":             {"", "x", transform.Limits{}, 1 << 20},
		"a million pairs":          {"", "a=1&", transform.Limits{}, block},
		"a million names":          {"", "a&", transform.Limits{}, block},
		"nothing but separators":   {"", "&", transform.Limits{RecordBytes: 1 << 20}, 2 << 20},
		"escapes":                  {"a=", "%41", transform.Limits{FieldBytes: 1 << 20}, 8 << 20},
		"a document that is large": {"", "a=12345678901234567890123456789012345678901234567890&", transform.Limits{RecordBytes: 64 << 10}, 2 * block},
		"NUL":                      {"a=1&b=", "\x00&", transform.Limits{}, block},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transformtest.Refuses(t, format(t, formfmt.Options{}), transform.DecodeOptions{Limits: c.limits}, c.head, c.tail, c.most)
		})
	}
}

func TestAFormIsOneRecord(t *testing.T) {
	t.Parallel()
	f := format(t, formfmt.Options{})
	if d := f.(transform.Describer).Describe(transform.DecodeOptions{}); !d.Single || !d.Untyped {
		t.Errorf("%+v", d)
	}
	for _, as := range []string{"array", "lines"} {
		if _, err := f.NewEncoder(nil, transform.EncodeOptions{As: as}); err == nil {
			t.Errorf("it is written as %s", as)
		}
	}
	two := []transform.Record{{Value: form("a", text("1"))}, {Value: form("a", text("2"))}}
	if got, _, err := transformtest.Encode(f, two, transform.EncodeOptions{}); err == nil {
		t.Errorf("two records are written: %s", got)
	}
	var fault *transform.DefinitionError
	if _, err := f.NewDecoder(strings.NewReader(""), transform.DecodeOptions{Records: "a[*]"}); !errors.As(err, &fault) {
		t.Errorf("records are picked: %v", err)
	}
}

func TestValuesOfOtherKinds(t *testing.T) {
	t.Parallel()
	v := form("t", transform.Bool(true), "n", transform.Number("1.50"), "s", transform.Text("ä b"), "x", transform.Null, "b", transform.Bytes("\xff\xfe"), "l", list(), "m", list(transform.Int(1), transform.Bool(false)))
	got, refused, err := transformtest.Encode(format(t, formfmt.Options{}), []transform.Record{{Value: v}}, transform.EncodeOptions{})
	if err != nil || refused != nil || got != "t=true&n=1.50&s=%C3%A4+b&b=%2F%2F4%3D&m=1&m=false" {
		t.Errorf("%v %v\n%s", err, refused, got)
	}
}
