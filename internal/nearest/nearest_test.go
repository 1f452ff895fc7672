package nearest_test

import (
	"testing"

	"github.com/integrator-go/integrator/internal/nearest"
)

func TestName(t *testing.T) {
	t.Parallel()
	names := []string{"from", "to", "steps", "respond", "description", "env", "max_body"}
	for _, row := range []struct{ name, given, want string }{
		{"letter missing", "descripton", "description"},
		{"letter too much", "stepps", "steps"},
		{"wrong letter", "respand", "respond"},
		{"swapped letters", "form", "from"},
		{"swapped letters of a short name", "evn", "env"},
		{"another case", "From", "from"},
		{"another sign", "max-body", "max_body"},
		{"its beginning", "env", "env"},
		{"more behind it", "responding", "respond"},
		{"less of it", "desc", "description"},
		{"another end", "stepwise", "steps"},
		{"alike in part alone", "fraud", ""},
		{"the same beginning", "max_size", "max_body"},
		{"another beginning", "top_body", ""},
		{"one of two letters", "tu", "to"},
		{"too short to tell", "t", ""},
		{"like none", "zzzzzz", ""},
		{"empty", "", ""},
		{"long", "a very long name that is like none of them", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := nearest.Name(row.given, names); got != row.want {
				t.Errorf("nearest to %q is %q, want %q", row.given, got, row.want)
			}
		})
	}
	if got := nearest.Name("from", nil); got != "" {
		t.Errorf("of no names it is %q", got)
	}
}
