package integrator_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/transform"
)

// TestFaults compiles definitions that cannot work: in the archive, each NAME.yaml is followed by NAME.want, the faults that are told. An
// empty want means that there are none.
func TestFaults(t *testing.T) {
	t.Parallel()
	const file = "testdata/faults.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		name := strings.TrimSuffix(archive.Files[i].Name, ".yaml")
		_, err := integrator.New(integrator.Config{Dir: t.TempDir(), Definitions: definitionsOf(string(archive.Files[i].Data)),
			Steps: map[string]transform.Func{"enrich": func(context.Context, *transform.Record) error { return nil }}})
		var faults integrator.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), "integrator.yaml:", "") + "\n"
		}
		if want := &archive.Files[i+1]; *update {
			want.Data = []byte(got)
		} else if got != string(want.Data) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want.Data)
		}
	}
	if *update {
		if err := os.WriteFile(file, bytes.TrimLeft(txtar.Format(archive), "\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
