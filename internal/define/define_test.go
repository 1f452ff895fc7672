package define_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/transform"
)

// set is a small set of definitions with every sort of field that the loader knows.
type set struct {
	Version     int                   `json:"version"`
	Vars        map[string]string     `json:"vars"`
	Connections map[string]connection `json:"connections"`
	Listeners   map[string]listener   `json:"listeners"`
	Flows       map[string]flow       `json:"flows"`
	_           struct{}              `later:"schedules steps"`
}

type connection struct {
	Type    string         `json:"type"`
	Options map[string]any `json:"-" define:"rest"`
}

type listener struct {
	Path    string        `json:"path"`
	Method  []string      `json:"method" define:"one"`
	MaxBody int64         `json:"max_body" define:"size"`
	Timeout time.Duration `json:"timeout"`
	Enabled *bool         `json:"enabled"`
	Port    int           `json:"port"`
	_       struct{}      `later:"rate cors"`
}

type flow struct {
	Description string                    `json:"description"`
	From        *from                     `json:"from"`
	Steps       []step                    `json:"steps" define:"one"`
	Params      map[string]param          `json:"params"`
	Respond     *respond                  `json:"respond"`
	Bind        map[string]transform.Term `json:"bind"`
	To          []destination             `json:"to" define:"one"`
}

type from struct {
	Listener string `json:"listener"`
	Records  string `json:"records" define:"expression"`
	Query    string `json:"query" define:"sql"`
}

type step struct {
	Filter string            `json:"filter" define:"expression"`
	Map    transform.Map     `json:"map"`
	Rename map[string]string `json:"rename"`
	_      struct{}          `later:"lookup"`
}

type param struct {
	Type    string `json:"type" define:"short"`
	Default any    `json:"default"`
}

type respond struct {
	Status  int                  `json:"status"`
	Format  *transform.FormatRef `json:"format"`
	Headers map[string]string    `json:"headers" define:"template"`
}

type destination struct {
	Connection string `json:"connection"`
	Path       string `json:"path" define:"template"`
}

func lookup(kind, name string) (string, bool) {
	value, ok := map[string]string{"env.HOST": "db.example.org", "env.PORT": "5432", "env.ODD": "a${b}", "env.ON": "true", "env.LIMIT": "64MiB",
		"secret.DB": "s3cret", "vars.team": "loading"}[kind+"."+name]
	return value, ok
}

// decode reads a folder and fills a set from it; the faults are located.
func decode(fsys fs.FS) (set, define.Faults) {
	var s set
	tree, err := define.Load(fsys, define.LoadOptions{})
	if err != nil {
		return s, define.FaultsOf("", err)
	}
	return s, tree.Locate(tree.Decode(&s, define.DecodeOptions{Lookup: lookup}))
}

func file(text string) fs.FS {
	return fstest.MapFS{"set.yaml": &fstest.MapFile{Data: []byte(text)}}
}

var update = flag.Bool("update", false, "write what was found as what is wanted")

// TestFaults reads the folders of testdata/faults.txtar: files named CASE/FILE, and in CASE/want every fault in order.
func TestFaults(t *testing.T) {
	t.Parallel()
	const golden = "testdata/faults.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]fstest.MapFS{}
	for i, f := range archive.Files {
		name, path, _ := strings.Cut(f.Name, "/")
		if path != "want" {
			if folders[name] == nil {
				folders[name] = fstest.MapFS{}
			}
			folders[name][path] = &fstest.MapFile{Data: f.Data}
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, faults := decode(folders[name])
			got := faults.Error() + "\n"
			if len(faults) == 0 {
				got = ""
			}
			if *update {
				archive.Files[i].Data = []byte(got)
				return
			}
			if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	yes := true
	for _, row := range []struct {
		name, text string
		want       set
	}{
		{"empty", "", set{}},
		{"comment only", "# nothing yet\n", set{}},
		{"section without entries", "flows:\n", set{}},
		{"scalars as written", "vars: {zeros: 0123, decimals: 1.10, digits: 12345678901234567890123, yes: yes, hex: 0x1F, day: 2026-01-02, time: 12:30, bool: true}",
			set{Vars: map[string]string{"zeros": "0123", "decimals": "1.10", "digits": "12345678901234567890123", "yes": "yes", "hex": "0x1F", "day": "2026-01-02",
				"time": "12:30", "bool": "true"}}},
		{"quoted", `vars: {a: "null", b: '', c: "#text", d: "~"}`, set{Vars: map[string]string{"a": "null", "b": "", "c": "#text", "d": "~"}}},
		{"block", "vars:\n  a: |\n    one\n    two\n  b: >-\n    one\n    two\n", set{Vars: map[string]string{"a": "one\ntwo\n", "b": "one two"}}},
		{"one for a list", "listeners: {a: {method: GET}, b: {method: [GET, POST]}}",
			set{Listeners: map[string]listener{"a": {Method: []string{"GET"}}, "b": {Method: []string{"GET", "POST"}}}}},
		{"sizes", "listeners: {a: {max_body: 64MiB}, b: {max_body: 10MB}, c: {max_body: 512}, d: {max_body: 2 GiB}, e: {max_body: 7B}}",
			set{Listeners: map[string]listener{"a": {MaxBody: 64 << 20}, "b": {MaxBody: 10e6}, "c": {MaxBody: 512}, "d": {MaxBody: 2 << 30}, "e": {MaxBody: 7}}}},
		{"durations", "listeners: {a: {timeout: 500ms}, b: {timeout: 1h30m}, c: {timeout: 7d}, d: {timeout: 0s}}",
			set{Listeners: map[string]listener{"a": {Timeout: 500 * time.Millisecond}, "b": {Timeout: 90 * time.Minute}, "c": {Timeout: 7 * 24 * time.Hour}, "d": {}}}},
		{"environment with default", "vars: {a: \"${env.HOST}:${env.NONE ?? '80'}\", b: '${env.NONE ?? x}'}", set{Vars: map[string]string{"a": "db.example.org:80", "b": "x"}}},
		{"environment as number, size and bool", "listeners: {a: {port: '${env.PORT}', enabled: '${env.ON}', max_body: '${env.LIMIT}', timeout: \"${env.NONE ?? '5s'}\"}}",
			set{Listeners: map[string]listener{"a": {Port: 5432, Enabled: &yes, MaxBody: 64 << 20, Timeout: 5 * time.Second}}}},
		{"secret and variable", "vars: {a: '${secret.DB}', b: '${vars.team}'}", set{Vars: map[string]string{"a": "s3cret", "b": "loading"}}},
		{"literal", "vars: {a: '$${env.HOST} $$ $ {x}'}", set{Vars: map[string]string{"a": "${env.HOST} $$ $ {x}"}}},
		{"template is the run's", "flows: {a: {to: {path: 'o-$${x}-${run.id}-${env.HOST}-${now:yyyy}-${env.ODD}'}}}",
			set{Flows: map[string]flow{"a": {To: []destination{{Path: "o-$${x}-${run.id}-db.example.org-${now:yyyy}-a$${b}"}}}}}},
		{"environment in SQL", "flows: {a: {from: {query: 'select * from ${vars.team}'}}}", set{Flows: map[string]flow{"a": {From: &from{Query: "select * from loading"}}}}},
		{"variable in an expression", "flows: {a: {steps: {filter: 'a == \"${vars.team}\"'}}}", set{Flows: map[string]flow{"a": {Steps: []step{{Filter: `a == "loading"`}}}}}},
		{"variable in a term", "flows: {a: {bind: {x: \"= '${vars.team}'\"}}}", set{Flows: map[string]flow{"a": {Bind: map[string]transform.Term{"x": {Text: "= 'loading'"}}}}}},
		{"short", "flows: {a: {params: {day: date, n: {type: int, default: 0123}, b: {default: false}}}}",
			set{Flows: map[string]flow{"a": {Params: map[string]param{"day": {Type: "date"}, "n": {Type: "int", Default: "0123"}, "b": {Default: false}}}}}},
		{"constant null", "flows: {a: {bind: {x: null, y: ~}}}", set{Flows: map[string]flow{"a": {Bind: map[string]transform.Term{"x": {}, "y": {}}}}}},
		{"x keys", "x-any: &a {b: !tag [c, *a]}\nx-list: [null, {}]\nvars: {a: b}", set{Vars: map[string]string{"a": "b"}}},
		{"alias of what stands below an x key", "x-common: &c {path: /a, method: [GET, &m POST]}\nlisteners: {a: *c, b: {method: *m}}",
			set{Listeners: map[string]listener{"a": {Path: "/a", Method: []string{"GET", "POST"}}, "b": {Method: []string{"POST"}}}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, faults := decode(file(row.text))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(set{}, listener{}, flow{}, step{}, transform.Value{}), cmp.Comparer(func(a, b transform.Value) bool { return a.Kind() == b.Kind() && a.Text() == b.Text() })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRest: keys that belong to somebody else are kept as written.
func TestRest(t *testing.T) {
	t.Parallel()
	s, faults := decode(file("connections: {db: {type: sql, port: 0123, tls: true, list: [1.10, {a: null}], dsn: '${secret.DB}'}}"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if got, want := fmt.Sprint(s.Connections["db"].Options), "map[dsn:${secret.DB} list:[1.10 map[a:<nil>]] port:0123 tls:true]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	folder := fstest.MapFS{}
	for name, text := range map[string]string{
		"a.yaml": "vars: {a: a.yaml}", "b.yml": "vars: {b: b.yml}\nconnections: {out: {type: file, dir: flows/out}}", "c.json": `{"vars": {"c": "c.json"}}`,
		"flows/d.yaml": "vars: {d: flows/d.yaml}", "flows/deep/er/e.yml": "vars: {e: flows/deep/er/e.yml}", "latest.yaml": "vars: {f: latest.yaml}",
		// None of these is read: each would be a fault.
		"a_test.yaml": "[", "integrator.schema.json": "[", "flows/b_test.json": "[", "_draft.yaml": "[", ".hidden.yaml": "[", "flows/_old/x.yaml": "[", "flows/.git/x.yaml": "[",
		"secrets/x.yaml": "[", "flows/secrets/x.yaml": "[", "data/x.yaml": "[", "flows/data/x.yaml": "[", "other/x.yaml": "[", "readme.md": "[",
		"a.yaml.bak": "[", "flows/out/orders.json": "[1]", "flows/out/deep/orders.yaml": "[",
	} {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := define.Load(folder, define.LoadOptions{Skip: []string{"data", "flows/data"}})
	if err != nil {
		t.Fatal(err)
	}
	var s set
	if faults := tree.Decode(&s, define.DecodeOptions{}); len(faults) > 0 {
		t.Fatal(faults)
	}
	want := map[string]string{"a": "a.yaml", "b": "b.yml", "c": "c.json", "d": "flows/d.yaml", "e": "flows/deep/er/e.yml", "f": "latest.yaml"}
	if diff := cmp.Diff(want, s.Vars); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e", "f"}, tree.Names("vars")); diff != "" {
		t.Error(diff)
	}
}

func TestLoadNothing(t *testing.T) {
	t.Parallel()
	tree, err := define.Load(fstest.MapFS{}, define.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var s set
	if faults := tree.Decode(&s, define.DecodeOptions{}); faults != nil || string(tree.JSON()) != "{}" || tree.Names("flows") != nil {
		t.Errorf("got %v, %s", faults, tree.JSON())
	}
}

// TestHash: the same set has the same form, whatever files and notation it came from; a secret is not in it.
func TestHash(t *testing.T) {
	t.Parallel()
	load := func(files map[string]string) *define.Tree {
		folder := fstest.MapFS{}
		for name, text := range files {
			folder[name] = &fstest.MapFile{Data: []byte(text)}
		}
		tree, err := define.Load(folder, define.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	one := load(map[string]string{"set.yaml": `
x-note: ignored
version: 1
vars:
  b: 1.10
  a: '${secret.DB}' # not to be seen
flows:
  load:
    steps:
      - map: {z: "x", a: = 0.10, odd: "tab\t, \U0001F600, \x7f, \u2028, <&>"}
`})
	const canonical = `{"flows":{"load":{"steps":[{"map":{"z":"x","a":"= 0.10","odd":"tab\t, 😀, ` + "\x7f, \u2028" + `, <&>"}}]}},"vars":{"a":"${secret.DB}","b":1.10},"version":1}`
	if got := string(one.JSON()); got != canonical {
		t.Errorf("\n got %s\nwant %s", got, canonical)
	}
	for name, other := range map[string]*define.Tree{
		"several files": load(map[string]string{"a.yaml": "version: 1\nvars: {a: '${secret.DB}'}", "flows/b.yaml": "vars: {b: 1.10}\nversion: 1",
			"flows/c.yaml": "flows: {load: {steps: [{map: {z: x, a: = 0.10, odd: \"tab\\t, \\U0001F600, \\x7f, \\u2028, <&>\"}}]}}"}),
		"JSON": load(map[string]string{"set.json": "{\n\t\"version\": 1, \"x-note\": [1],\n\t\"vars\": {\"a\": \"${secret.DB}\", \"b\": 1.10},\n" +
			"\t\"flows\": {\"load\": {\"steps\": [{\"map\": {\"z\": \"x\", \"a\": \"= 0.10\", \"odd\": \"tab\\t, \\ud83d\\ude00, \\u007f, \\u2028, <&>\"}}]}}}"}),
	} {
		if other.Hash() != one.Hash() {
			t.Errorf("%s is %s", name, other.JSON())
		}
	}
	again, err := define.Parse("", one.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != one.Hash() {
		t.Errorf("read again it is %s", again.JSON())
	}
	if other := load(map[string]string{"set.yaml": "version: 1\nvars: {b: 1.1, a: '${secret.DB}'}"}); other.Hash() == one.Hash() {
		t.Error("1.10 and 1.1 are told apart")
	}
}

// TestFromGo: structs become what files would have said.
func TestFromGo(t *testing.T) {
	t.Parallel()
	no := false
	s := set{
		Version:     1,
		Vars:        map[string]string{"b": "x", "a": ""},
		Connections: map[string]connection{"db": {Type: "sql", Options: map[string]any{"port": 5432, "tls": true}}},
		Listeners:   map[string]listener{"l": {Path: "/l", Method: []string{"GET"}, MaxBody: 1 << 20, Timeout: 90 * time.Second, Enabled: &no}},
		Flows: map[string]flow{"f": {Steps: []step{{Map: transform.Map{{Name: "z", Term: transform.Term{Text: "y"}}, {Name: "a", Term: transform.Term{}}}}},
			Params: map[string]param{"p": {Default: "0123"}}, Respond: &respond{Format: &transform.FormatRef{Type: "csv", Options: map[string]any{"delimiter": ";"}}}}},
	}
	tree, err := define.FromGo(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"connections":{"db":{"type":"sql","port":5432,"tls":true}},` +
		`"flows":{"f":{"steps":[{"map":{"z":"y","a":null}}],"params":{"p":{"default":"0123"}},"respond":{"format":{"type":"csv","delimiter":";"}}}},` +
		`"listeners":{"l":{"path":"/l","method":["GET"],"max_body":1048576,"timeout":"1m30s","enabled":false}},"vars":{"a":"","b":"x"},"version":1}`
	if got := string(tree.JSON()); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	var again set
	if faults := tree.Decode(&again, define.DecodeOptions{}); len(faults) > 0 {
		t.Fatal(faults)
	}
	second, err := define.FromGo(again)
	if err != nil {
		t.Fatal(err)
	}
	if second.Hash() != tree.Hash() {
		t.Errorf("decoded it is %s", second.JSON())
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	parse := func(file, text string) *define.Tree {
		tree, err := define.Parse(file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	files := parse("a.yaml", "version: 1\nflows: {a: {description: file}}\nvars:")
	inGo := parse("", `{"version": 1, "flows": {"a": {"description": "Go"}, "b": {}}, "vars": {"x": "1"}}`)
	merged, faults := define.Merge(files, inGo)
	if want := `flows.a: "a" is defined already, in a.yaml:2 (names are unique for each kind)`; len(faults) != 1 || faults.Error() != want {
		t.Errorf("got %v, want %s", faults, want)
	}
	if want := `{"flows":{"a":{"description":"file"},"b":{}},"vars":{"x":"1"},"version":1}`; string(merged.JSON()) != want {
		t.Errorf("merged %s, want %s", merged.JSON(), want)
	}
	if want := `{"flows":{"a":{"description":"Go"},"b":{}},"vars":{"x":"1"},"version":1}`; string(files.Override(inGo).JSON()) != want {
		t.Errorf("overridden %s, want %s", files.Override(inGo).JSON(), want)
	}
	var none *define.Tree
	if none.Override(files) != files || files.Override(none) != files {
		t.Error("nothing changes a set")
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	tree, err := define.Parse("a.yaml", []byte(`flows:
  "odd.name":
    to: {path: "out"}
    steps:
    - filter: "qty > x"
    - filter: |
        a and
        b or
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, path   string
		offset       int
		line, column int
	}{
		{"key", `flows["odd.name"]`, 0, 2, 3},
		{"offset in quoted text", `flows["odd.name"].steps[0].filter`, 6, 5, 22},
		{"offset in a block", `flows["odd.name"].steps[1].filter`, 7, 8, 1},
		{"single value for a list", `flows["odd.name"].to[0].path`, 0, 3, 17},
		{"what is missing is at what encloses it", `flows["odd.name"].steps[0].map.a`, 0, 5, 7},
		{"nothing of it is there", "listeners.x", 0, 1, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			faults := tree.Locate(define.Faults{{Path: row.path, Offset: row.offset, Reason: "x"}})
			if f := faults[0]; f.File != "a.yaml" || f.Line != row.line || f.Column != row.column {
				t.Errorf("at %s:%d:%d, want %d:%d", f.File, f.Line, f.Column, row.line, row.column)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/faults.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(strings.HasSuffix(file.Name, ".json"), file.Data)
	}
	f.Add(false, []byte("x: &a [1]\ny: [*a, *a]"))
	f.Add(true, []byte(`{"a": {"b": [1e5, null, "\ud83d\ude00"]}}`))
	f.Fuzz(func(t *testing.T, inJSON bool, data []byte) {
		name := "a.yaml"
		if inJSON {
			name = "a.json"
		}
		tree, err := define.Parse(name, data)
		if err != nil {
			for _, fault := range define.FaultsOf("", err) {
				if fault.Line < 1 || fault.Column < 1 || fault.Reason == "" {
					t.Fatalf("%#v", fault)
				}
			}
			return
		}
		var s set
		faults := tree.Locate(tree.Decode(&s, define.DecodeOptions{Lookup: lookup}))
		for _, fault := range faults {
			if fault.Line < 1 || fault.Column < 1 {
				t.Fatalf("%#v", fault)
			}
		}
		again, err := define.Parse("", tree.JSON())
		if err != nil {
			t.Fatalf("%s: %v", tree.JSON(), err)
		}
		if again.Hash() != tree.Hash() {
			t.Fatalf("%s becomes %s", tree.JSON(), again.JSON())
		}
	})
}

// TestMergeOfManyFilesIsLinear merges twice as many files for twice the memory. It is not parallel: it counts what is allocated.
func TestMergeOfManyFilesIsLinear(t *testing.T) {
	allocated := func(files int) uint64 {
		trees := make([]*define.Tree, files)
		for i := range trees {
			tree, err := define.Parse("a.yaml", fmt.Appendf(nil, "flows: {f%d: {description: one of many}}", i))
			if err != nil {
				t.Fatal(err)
			}
			trees[i] = tree
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		merged, faults := define.Merge(trees...)
		runtime.ReadMemStats(&after)
		if len(faults) > 0 || len(merged.Names("flows")) != files {
			t.Fatalf("merged %d, faults %v", len(merged.Names("flows")), faults)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	if one, two := allocated(2000), allocated(4000); two > 3*one {
		t.Errorf("%d bytes for 2000 files, %d for 4000", one, two)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	secret := func(path string) bool { return path == "connections.a.token" || path == "connections.a.keys[0]" }
	entry := func(kind, name, text string) *define.Tree {
		tree, err := define.ParseEntry("/body.yaml", kind, name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	first := entry("connections", "a", "{type: x, token: plain, keys: [one, two], user: '***'}")
	shown := func(tree *define.Tree) string {
		return strings.Join(strings.Fields(string(tree.Entry("connections", "a", secret))), "")
	}
	if got := shown(first); got != `{"type":"x","token":"***","keys":["***","two"],"user":"***"}` {
		t.Errorf("shown is %s", got)
	}
	for written, want := range map[string]string{`"${secret.A}"`: "${secret.A}", `"${env.A ?? 'plain'}"`: "***", `"${env.A}plain"`: "***", "12": "***", "'${a} ${b}'": "***"} {
		if got := shown(entry("connections", "a", "{token: "+written+"}")); got != `{"token":"`+want+`"}` {
			t.Errorf("%s is shown as %s", written, got)
		}
	}
	second, masked := entry("connections", "a", "{token: '***', keys: ['***', '***'], user: me}").Unmask("connections", "a", first, secret)
	if got := string(second.JSON()); !masked || got != `{"connections":{"a":{"token":"plain","keys":["one","***"],"user":"me"}}}` {
		t.Errorf("unmasked is %s, %v", got, masked)
	}
	if _, masked := entry("connections", "b", "{token: '***'}").Unmask("connections", "b", first, secret); masked {
		t.Error("another definition's secret was taken")
	}
	both := first.Override(entry("flows", "f", "{description: x}")).Override(entry("flows", "g", "{}"))
	without := both.Without("flows", "f")
	if got := string(without.JSON()); got != `{"connections":{"a":{"type":"x","token":"plain","keys":["one","two"],"user":"***"}},"flows":{"g":{}}}` || len(both.Names("flows")) != 2 {
		t.Errorf("without one it is %s, with it %s", got, both.JSON())
	}
	if both.Without("flows", "none") != both {
		t.Error("a set without what is not there is another one")
	}
	if file, line, ok := both.Has("flows", "f"); !ok || file != "/body.yaml" || line != 1 {
		t.Errorf("it is at %s:%d", file, line)
	}
	if file, _, ok := both.Placeless().Has("flows", "f"); !ok || file != "" || string(both.Placeless().JSON()) != string(both.JSON()) {
		t.Errorf("without its place it is at %q: %s", file, both.Placeless().JSON())
	}
	for text, want := range map[string]string{"": "flows.f", "{a: 1, a: 2}": "body.yaml:1:8: flows.f.a: key \"a\" is there twice", "{a: [": "/body.yaml:2:1: did not find", "- &x 1": "flows.f[0]"} {
		tree, err := define.ParseEntry("/body.yaml", "flows", "f", []byte(text))
		if err == nil {
			err = tree.Decode(&set{}, define.DecodeOptions{})
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
