package integrator_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/integrator-go/integrator"
)

// TestSchemaSaysWhatTheSourceSays keeps the descriptions of the schema the comments of the structs that it is made of, and its lists of values those of
// fields that are there.
func TestSchemaSaysWhatTheSourceSays(t *testing.T) {
	t.Parallel()
	var schema struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(integrator.Schema(integrator.Config{}), &schema); err != nil {
		t.Fatal(err)
	}
	said, fields := map[string]string{}, map[string]bool{}
	note := func(key, name string, comments ...*ast.CommentGroup) {
		for _, c := range comments {
			text, _, _ := strings.Cut(c.Text(), "\n\n") // the first paragraph: what follows is for programmers
			text = regexp.MustCompile("^"+name+" (is |are )?").ReplaceAllString(strings.Join(strings.Fields(text), " "), "")
			if text = strings.TrimSuffix(text, "."); text != "" {
				said[key] = text
			}
		}
	}
	goFiles(t, func(name string, file *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		dir := path.Base(path.Dir(name))
		if dir == "." {
			dir = file.Name.Name
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				typed, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				of, ok := typed.Type.(*ast.StructType)
				key := dir + "." + typed.Name.Name
				if _, used := schema.Defs[key]; !ok || !used && !strings.EqualFold(typed.Name.Name, "options") && key != "integrator.Definitions" {
					continue
				}
				note(key, typed.Name.Name, g.Doc, typed.Doc)
				for _, f := range of.Fields.List {
					if f.Tag == nil || reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json") == "" {
						continue
					}
					fields[key+"."+f.Names[0].Name] = true
					note(key+"."+f.Names[0].Name, f.Names[0].Name, f.Doc, f.Comment)
				}
			}
		}
	})
	var lines strings.Builder
	for _, key := range slices.Sorted(maps.Keys(said)) {
		fmt.Fprintf(&lines, "%s\t%s\n", key, said[key])
	}
	golden(t, "internal/define/comments.txt", lines.String())
	source, err := os.ReadFile("internal/define/schema.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t"(\w+\.\w+\.\w+)":`).FindAllStringSubmatch(string(source), -1) {
		if !fields[m[1]] {
			t.Errorf("the schema lists values of %s, which is no field", m[1])
		}
	}
}
