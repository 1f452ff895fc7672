package jsonfmt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// left says what becomes of the documents that JSONTestSuite leaves to the parser: "" is accepted, else the reason why not.
var left = map[string]string{
	"i_number_double_huge_neg_exp.json":       "",
	"i_number_huge_exp.json":                  "",
	"i_number_neg_int_huge_exp.json":          "",
	"i_number_pos_double_huge_exp.json":       "",
	"i_number_real_neg_overflow.json":         "",
	"i_number_real_pos_overflow.json":         "",
	"i_number_real_underflow.json":            "",
	"i_number_too_big_neg_int.json":           "",
	"i_number_too_big_pos_int.json":           "",
	"i_number_very_big_negative_int.json":     "",
	"i_structure_UTF-8_BOM_empty_object.json": "",

	"i_object_key_lone_2nd_surrogate.json":                "half of a surrogate pair",
	"i_string_1st_surrogate_but_2nd_missing.json":         "half of a surrogate pair",
	"i_string_1st_valid_surrogate_2nd_invalid.json":       "half of a surrogate pair",
	"i_string_incomplete_surrogate_and_escape_valid.json": "half of a surrogate pair",
	"i_string_incomplete_surrogate_pair.json":             "half of a surrogate pair",
	"i_string_incomplete_surrogates_escape_valid.json":    "half of a surrogate pair",
	"i_string_invalid_lonely_surrogate.json":              "half of a surrogate pair",
	"i_string_invalid_surrogate.json":                     "half of a surrogate pair",
	"i_string_inverted_surrogates_U+1D11E.json":           "half of a surrogate pair",
	"i_string_lone_second_surrogate.json":                 "half of a surrogate pair",

	"i_string_UTF-16LE_with_BOM.json":              "no UTF-8",
	"i_string_UTF-8_invalid_sequence.json":         "no UTF-8",
	"i_string_UTF8_surrogate_U+D800.json":          "no UTF-8",
	"i_string_invalid_utf-8.json":                  "no UTF-8",
	"i_string_iso_latin_1.json":                    "no UTF-8",
	"i_string_lone_utf8_continuation_byte.json":    "no UTF-8",
	"i_string_not_in_unicode_range.json":           "no UTF-8",
	"i_string_overlong_sequence_2_bytes.json":      "no UTF-8",
	"i_string_overlong_sequence_6_bytes.json":      "no UTF-8",
	"i_string_overlong_sequence_6_bytes_null.json": "no UTF-8",
	"i_string_truncated-utf-8.json":                "no UTF-8",

	"i_string_utf16BE_no_BOM.json": "'\\x00' stands where a value is due",
	"i_string_utf16LE_no_BOM.json": "'\\x00' stands where a value is due",

	"i_structure_500_nested_arrays.json": "nested deeper than 256",
}

// twice are the documents with a name that comes twice, which is refused unless duplicate_keys says otherwise.
var twice = []string{"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}

// TestJSONTestSuite holds both formats to the documents of JSONTestSuite.
func TestJSONTestSuite(t *testing.T) {
	t.Parallel()
	files := corpus.JSONTestSuite.Open(t)
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	whole, each := documents(t), newlineDelimited(t)
	whole.Decode.Records, whole.Encode.As = "", "object"
	lenient := format(t, jsonfmt.Options{DuplicateKeys: "last"})
	count := map[byte]int{}
	for _, name := range names {
		count[name[0]]++
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			t.Parallel()
			document, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range []transformtest.Harness{whole, each} {
				if err := h.Agree(string(document), h.Decode); err != nil {
					t.Error(err)
				}
			}
			want, ok := left[name]
			switch {
			case name[0] == 'n':
				want = "it is no JSON"
			case name[0] == 'i' && !ok:
				t.Error("nobody has said what becomes of it")
			case slices.Contains(twice, name):
				want = "comes twice"
				if err := lenient.Check(bytes.NewReader(document), transform.DecodeOptions{}); err != nil {
					t.Errorf("with duplicate_keys: last it is %v", err)
				}
			}
			records, err := transformtest.Decode(whole.Format, bytes.NewReader(document), whole.Decode)
			var syntax *transform.SyntaxError
			switch {
			case want == "" && err != nil:
				t.Fatal(err)
			case want != "" && !errors.As(err, &syntax):
				t.Fatalf("it is accepted: %v", err)
			case want != "" && name[0] != 'n' && !strings.Contains(syntax.Reason, want):
				t.Error(err)
			case want == "":
				if got := transformtest.Show(records[0].Value); got != standard(t, document) {
					t.Errorf("it is %s, and %s to the standard library", got, standard(t, document))
				}
			}
			if line := bytes.TrimSuffix(document, []byte("\n")); bytes.IndexByte(line, '\n') < 0 && len(bytes.TrimLeft(line, " \uFEFF")) > 0 {
				asLine(t, each, document, records, err)
			}
		})
	}
	if diff := cmp.Diff(map[byte]int{'y': 95, 'n': 188, 'i': 35}, count); diff != "" {
		t.Errorf("its documents are other ones (-want +got):\n%s", diff)
	}
}

// asLine wants the document to be the same as a line: one record, which has a fault where the document has one.
func asLine(t *testing.T, h transformtest.Harness, document []byte, whole []transform.Record, fault error) {
	t.Helper()
	records, err := transformtest.Decode(h.Format, bytes.NewReader(document), h.Decode)
	switch {
	case err != nil || len(records) != 1 || (records[0].Err != nil) != (fault != nil):
		t.Errorf("as a line it is %d records, %v", len(records), err)
	case fault == nil && transformtest.Show(records[0].Value) != transformtest.Show(whole[0].Value):
		t.Errorf("as a line it is %s", transformtest.Show(records[0].Value))
	}
}

// standard is the document as the standard library reads it, shown like a value of ours.
func standard(t *testing.T, document []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(document, []byte("\uFEFF"))))
	d.UseNumber()
	var value func(token json.Token) transform.Value
	next := func() json.Token {
		token, err := d.Token()
		if err != nil && err != io.EOF {
			t.Fatalf("the standard library refuses it: %v", err)
		}
		return token
	}
	value = func(token json.Token) transform.Value {
		switch token := token.(type) {
		case bool:
			return transform.Bool(token)
		case json.Number:
			return transform.Number(token.String())
		case string:
			return transform.Text(token)
		case json.Delim:
			var list []transform.Value
			v := transform.NewObject(transform.NewShape(), nil)
			for d.More() {
				if token == '{' {
					v = v.With(next().(string), value(next()))
				} else {
					list = append(list, value(next()))
				}
			}
			if next(); token == '[' {
				v = transform.List(list)
			}
			return v
		}
		return transform.Null
	}
	return transformtest.Show(value(next()))
}
