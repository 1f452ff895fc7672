package accept_test

import (
	"testing"

	"github.com/integrator-go/integrator/internal/accept"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	offered := []string{"application/json", "text/csv; charset=utf-8", "application/xml; charset=utf-8"}
	for _, c := range []struct {
		name   string
		accept []string
		want   int
	}{
		{"nothing is asked for", nil, 0},
		{"empty", []string{""}, 0},
		{"nothing that can be read", []string{"json, ;q=1, */json, text/csv;q=2, text/csv;q=x, text/csv;q=NaN"}, 0},
		{"anything", []string{"*/*"}, 0},
		{"one of them", []string{"text/csv"}, 1},
		{"in any case", []string{"TEXT/CSV"}, 1},
		{"a type with any subtype", []string{"text/*"}, 1},
		{"the first of equals is ours, not the caller's", []string{"text/csv, application/json"}, 0},
		{"weights", []string{"application/json;q=0.5, text/csv;q=0.8, application/xml;q=0.1"}, 1},
		{"weights in several lines", []string{"application/json;q=0.5", "application/xml"}, 2},
		{"the specific range says more than the general one", []string{"*/*, application/json;q=0.1, text/csv;q=0.2"}, 2},
		{"nothing but one", []string{"application/json;q=0, */*;q=0.1"}, 1},
		{"one of a type is refused", []string{"application/*, application/json;q=0"}, 2},
		{"a browser", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, 2},
		{"none", []string{"text/html, image/*"}, -1},
		{"none, by weight", []string{"*/*;q=0"}, -1},
		{"a parameter that it has", []string{"text/csv;charset=UTF-8"}, 1},
		{"a charset that it is in", []string{"application/json; charset=utf-8"}, 0},
		{"a charset that it is not in", []string{"text/csv;charset=latin1"}, -1},
		{"a parameter that it has not", []string{"application/json;profile=a"}, -1},
		{"with parameters before without", []string{"text/csv;q=0.1, text/csv;charset=utf-8;q=0.9, application/json;q=0.5"}, 1},
	} {
		if got := accept.Choose(c.accept, offered); got != c.want {
			t.Errorf("%s: %q chooses %d, want %d", c.name, c.accept, got, c.want)
		}
	}
	if got := accept.Choose([]string{"*/*"}, []string{"odd;;", "text/csv"}); got != 1 {
		t.Errorf("an offer that is none: %d", got)
	}
}
