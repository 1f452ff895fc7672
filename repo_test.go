package integrator_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/transform"
)

const module = "github.com/integrator-go/integrator"

// layers is which of the project's own packages a package may import: those on a line know the ones that it names, and what is below
// internal/ is open to all. Packages further down a path count as their first element.
var layers = map[string][]string{
	"store":     {},
	"auth":      {},
	"transform": {},
	"connector": {"transform"},
	"flow":      {"store", "transform", "connector"},
	"listener":  {"store", "transform", "auth", "flow"},
	"httpapi":   {"store", "transform", "auth", "flow", "listener"},
	".":         {"store", "transform", "auth", "flow", "listener", "connector", "httpapi"},
	"cmd":       {".", "store", "transform", "auth", "flow", "listener", "connector", "httpapi"},
	"examples":  {".", "store", "transform", "auth", "flow", "listener", "connector", "httpapi"},
	"internal":  {"transform"},
	"bench":     {".", "store", "transform", "auth", "flow", "listener", "connector", "httpapi"}, // below internal, a module of its own
	"kill":      {".", "store", "transform", "auth", "flow", "connector"},                        // likewise
	"power":     {"store"},                                                                       // below internal, nobody imports it
}

// goFiles parses every Go file of the repository.
func goFiles(t *testing.T, visit func(name string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(name), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// part is the first element of a package's path below the module.
func part(dir string) string {
	if own, ok := strings.CutPrefix(dir, "internal/"); ok && (own == "bench" || own == "kill" || own == "power") {
		return own
	}
	first, _, _ := strings.Cut(dir, "/")
	return first
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	goFiles(t, func(name string, file *ast.File) {
		dir := path.Dir(name)
		from, ok := layers[part(dir)]
		if !ok {
			t.Errorf("%s is in no layer", name)
			return
		}
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			rest, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			to := part(strings.TrimPrefix(rest, "/"))
			if to == "" {
				to = "."
			}
			test := strings.HasSuffix(name, "_test.go")
			if strings.HasSuffix(imported, "test") && !test && !strings.HasSuffix(dir, "test") {
				t.Errorf("%s is no test and imports a suite, %s", name, imported)
			}
			if test || to == part(dir) || to == "internal" || slices.Contains(from, to) {
				continue
			}
			t.Errorf("%s imports %s: %s may know %v only", name, imported, part(dir), from)
		}
	})
}

// TestEveryPackageSaysWhatItIs wants a package comment that begins as Go's tools expect it.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	goFiles(t, func(name string, file *ast.File) {
		dir := path.Dir(name)
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		said[dir] = said[dir] || file.Doc != nil && (strings.HasPrefix(file.Doc.Text(), "Package "+file.Name.Name) || file.Name.Name == "main")
	})
	for dir, ok := range said {
		if !ok {
			t.Errorf("package %s has no comment", dir)
		}
	}
}

// TestModulesAgree wants the same Go version everywhere, the language's and not a patch release.
func TestModulesAgree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("**/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "go.mod", "cmd/integrator/go.mod", "connector/sqldb/sqlite/go.mod", "internal/bench/go.mod", "internal/kill/go.mod", "go.work") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\ngo 1.26.0\n") && !strings.HasPrefix(string(text), "go 1.26.0\n") {
			t.Errorf("%s does not say go 1.26.0", file)
		}
	}
}

// TestReadme keeps the README's code the code that is compiled and run: the Go block is part of examples/embed, the definitions compile.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, ok := strings.Cut(string(readme), "\n```"+language+"\n")
		text, _, closed := strings.Cut(rest, "\n```")
		if !ok || !closed {
			t.Fatalf("the README has no block of %s", language)
		}
		return text
	}
	embed, err := os.ReadFile("examples/embed/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var plain strings.Builder
	for line := range strings.Lines(string(embed)) {
		plain.WriteString(strings.TrimPrefix(line, "\t"))
	}
	if !strings.Contains(plain.String(), block("go")) {
		t.Error("the README's Go is not that of examples/embed/main.go")
	}
	definitions := fstest.MapFS{} // each block is a file of one folder
	for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		definitions[fmt.Sprintf("%d.yaml", i)] = &fstest.MapFile{Data: []byte(block[1])}
	}
	_, err = integrator.New(integrator.Config{Dir: t.TempDir(), Definitions: definitions,
		Secrets: func(string) (string, bool) { return "long enough", true }})
	var faults integrator.Faults
	if !errors.As(err, &faults) || len(faults) != 1 || !strings.Contains(faults[0].Reason, "sqlite") {
		t.Errorf("the README's definitions want the driver sqlite, which this module has not, and nothing else: %v", err)
	}
}

// TestNamedTestsAreThere makes sure that the tests which SECURITY.md and RELIABILITY.md name are there.
func TestNamedTestsAreThere(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	goFiles(t, func(name string, file *ast.File) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(name, "_test.go") {
				tests[f.Name.Name] = true
			}
		}
	})
	for _, document := range []string{"SECURITY.md", "RELIABILITY.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`).FindAllString(string(text), -1) {
			if !tests[name] {
				t.Errorf("%s names %s, which is no test", document, name)
			}
		}
	}
}

// TestFailpoints wants every point of package failpoint to be marked once, in the function that the list says, and no other.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	var marked []failpoint.Point
	goFiles(t, func(name string, file *ast.File) {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			in := file.Name.Name + "." + f.Name.Name
			if f.Recv != nil {
				receiver := f.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				in = fmt.Sprintf("%s.%v.%s", file.Name.Name, receiver, f.Name.Name)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(s.X) == "failpoint" && s.Sel.Name == "Hit" {
					point, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
					if err != nil {
						t.Error(err)
					}
					marked = append(marked, failpoint.Point{Name: point, In: in})
				}
				return true
			})
		}
	})
	byName := cmpopts.SortSlices(func(a, b failpoint.Point) bool { return a.Name < b.Name })
	if diff := cmp.Diff(failpoint.Points, marked, byName); diff != "" {
		t.Errorf("the list of points (-) and what is marked (+) differ:\n%s", diff)
	}
}

// TestFunctionsAreDocumented keeps the table of DEFINITIONS.md that of the expression language, whose examples are tests.
func TestFunctionsAreDocumented(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| function | gives | example |\n|---|---|---|\n")
	cell := strings.NewReplacer("|", "\\|")
	for _, f := range transform.Functions() {
		fmt.Fprintf(&table, "| `%s` | %s | `%s` is `%s` |\n", f.Name, cell.Replace(f.Does), cell.Replace(f.Example), cell.Replace(f.Result))
	}
	const name, begin, end = "DEFINITIONS.md", "## Functions\n\n", "\nOperators:"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	held, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("DEFINITIONS.md has no table of functions")
	}
	if *update {
		if err := os.WriteFile(name, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if held != table.String() {
		t.Error("the table of functions differs (go test -update writes it anew)")
	}
}
