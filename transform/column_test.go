package transform_test

import (
	"testing"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/transformtest"
)

func TestWhatAColumnWritesItReads(t *testing.T) {
	t.Parallel()
	text, number := transform.Text, transform.Number
	for name, c := range map[string]struct {
		column string
		value  transform.Value
		want   string // "" is an error
	}{
		"a number":                    {"int", number("-12"), "-12"},
		"text that is one":            {"int", text("12"), "12"},
		"a fraction":                  {"int", number("1.0"), ""},
		"a decimal":                   {"decimal", number("1.50"), "1.50"},
		"text that is no decimal":     {"decimal", text("1,5"), ""},
		"true":                        {"bool", transform.Bool(true), "1"},
		"false":                       {"bool", transform.Bool(false), "0"},
		"text that is no bool":        {"bool", text("x"), ""},
		"text":                        {"text", text("12 "), "12 "},
		"a date":                      {"date dd.MM.yyyy", text("2026-12-24"), "24.12.2026"},
		"a time":                      {"date yyyyMMddHHmm", text("2026-12-24T10:30:00Z"), "202612241030"},
		"SQL's time":                  {"date yyyy-MM-dd HH:mm:ss", text("2026-12-24 10:30:00"), "2026-12-24 10:30:00"},
		"a time with a zone":          {"date yyyy-MM-dd HH:mm XXX", text("2026-12-24T10:30:00+01:00"), "2026-12-24 10:30 +01:00"},
		"a zone that is left out":     {"date yyyyMMddHHmm", text("2026-12-24T10:30:00+01:00"), ""},
		"a time that is left out":     {"date", text("2026-12-24T10:30:00Z"), ""},
		"midnight that is left out":   {"date", text("2026-12-24T00:00:00Z"), "2026-12-24"},
		"seconds that are left out":   {"date yyyyMMddHHmm", text("2026-12-24T10:30:01Z"), ""},
		"a year of this century":      {"date yyMMdd", text("2026-12-24"), "261224"},
		"a century that is left out":  {"date yyMMdd", text("1926-12-24"), ""},
		"a date in the column's form": {"date yyMMdd", text("261224"), ""},
		"a number for a date":         {"date yyyy", number("2026"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			column, err := transform.ParseColumn(c.column)
			if err != nil {
				t.Fatal(err)
			}
			got, err := column.Text(c.value)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
			if err == nil {
				read, err := column.Value(got)
				again, _ := column.Text(read)
				if err != nil || again != got {
					t.Errorf("read it is %s (%v) and written %q", transformtest.Show(read), err, again)
				}
			}
		})
	}
}
