package csvfmt_test

import (
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// TestCSVSpectrum reads the documents of csv-spectrum as it says, and writes and reads them again.
func TestCSVSpectrum(t *testing.T) {
	t.Parallel()
	files := corpus.CSVSpectrum.Open(t)
	names, err := fs.Glob(files, "csvs/*.csv")
	if err != nil || len(names) != 12 {
		t.Fatalf("%d documents, %v", len(names), err)
	}
	for _, name := range names {
		name = strings.TrimSuffix(path.Base(name), ".csv")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := func(name string) string {
				text, err := fs.ReadFile(files, name)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			expected := read("json/" + name + ".json")
			if name == "location_coordinates" { // it has another telephone number there, and no list
				expected = "[" + strings.Replace(expected, "1234567890", "2095257564", 1) + "]"
			}
			var want []map[string]string
			if err := json.Unmarshal([]byte(expected), &want); err != nil {
				t.Fatal(err)
			}
			document := read("csvs/" + name + ".csv")
			h := transformtest.Harness{Format: format(t, csvfmt.Options{})}
			for range 2 {
				if err := h.Agree(document, h.Decode); err != nil {
					t.Error(err)
				}
				records, err := transformtest.Decode(h.Format, strings.NewReader(document), h.Decode)
				if err != nil {
					t.Fatal(err)
				}
				var got []map[string]string
				for _, r := range records {
					row := map[string]string{}
					for field, v := range r.Value.Fields() {
						if v.Kind() != transform.KindUntyped || r.Err != nil {
							t.Errorf("%s is %s, %v", field, transformtest.Show(v), r.Err)
						}
						row[field] = v.Text()
					}
					got = append(got, row)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s\n%s", diff, document)
				}
				if document, _, err = transformtest.Encode(h.Format, records, h.Encode); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
