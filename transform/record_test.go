package transform_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/transform"
)

// TestSharedRoot: documents of one form share their shape; foreign names, be they many or long, do not fill the memory, and do not keep
// others from sharing for long.
func TestSharedRoot(t *testing.T) {
	t.Parallel()
	var root transform.SharedRoot
	shape := func() *transform.Shape { return root.Shape().With("id").With("name") }
	if a, b := shape(), shape(); a != b {
		t.Error("two documents of one form have two shapes")
	}
	for name, foreign := range map[string]func(i int) string{
		"many": func(i int) string { return fmt.Sprint("x", i) },
		"long": func(i int) string { return strings.Repeat("x", 64<<10) + fmt.Sprint(i) },
	} {
		first := root.Shape()
		for i := 0; root.Shape() == first; i++ {
			if root.Shape().With(foreign(i)); i > 20_000 {
				t.Fatalf("%s: the root is never replaced", name)
			}
		}
		if a, b := shape(), shape(); a != b {
			t.Errorf("%s: after them, two documents of one form have two shapes", name)
		}
	}
}
