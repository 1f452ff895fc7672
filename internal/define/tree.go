package define

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/integrator-go/integrator/transform"
)

// Tree is a set of definitions as it was written. It never changes; nil is an empty set.
type Tree struct {
	root   *node
	faults Faults // of what can be read all the same; Decode returns them with its own
}

// kind says what a node is.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
	refused // what it stands for has a fault already
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a map of keys", "refused"}[k]
}

// node is a value with its place.
type node struct {
	kind   kind
	text   string // of scalars, as written; "" for a null that nobody wrote
	names  []name // of an object
	nodes  []*node
	places map[string]int // of an object of many entries, by name
	file   string
	line   int
	column int
	inset  int  // characters before the text's first one: a quote
	block  bool // a block scalar: the text begins on the next line
}

type name struct {
	text         string
	line, column int
}

func (n *node) fault(path, reason, hint string) Fault {
	return Fault{Path: path, File: n.file, Line: n.line, Column: n.column, Reason: reason, Hint: hint}
}

// at returns the line and column of an offset in a scalar's text.
func (n *node) at(offset int) (line, column int) {
	before := n.text[:min(offset, len(n.text))]
	if n.block {
		return n.line + 1 + strings.Count(before, "\n"), 1
	}
	return n.line, n.column + n.inset + utf8.RuneCountInString(before)
}

// child returns the node that one part of a path leads to, with its key when n is an object; nil when there is none. A single value stands
// for a list of one.
func (n *node) child(part string) (*node, *name) {
	if n.kind == list {
		if k, err := strconv.Atoi(part); err == nil && 0 <= k && k < len(n.nodes) {
			return n.nodes[k], nil
		}
		return nil, nil
	}
	if next := n.get(part); next != nil {
		return next, &n.names[n.index(part)]
	}
	if part == "0" {
		return n, nil
	}
	return nil, nil
}

func (n *node) get(name string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	if i := n.index(name); i >= 0 {
		return n.nodes[i]
	}
	return nil
}

// index returns the place of an object's entry, -1 when there is none.
func (n *node) index(entry string) int {
	if n.places != nil {
		if i, ok := n.places[entry]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(n.names, func(o name) bool { return o.text == entry })
}

// fewNames is up to how many entries an object is looked through for one.
const fewNames = 16

// add adds an entry to an object that nobody else has yet and that has none of that name.
func (n *node) add(entry name, value *node) {
	n.names, n.nodes = append(n.names, entry), append(n.nodes, value)
	switch {
	case n.places != nil:
		n.places[entry.text] = len(n.names) - 1
	case len(n.names) > fewNames:
		n.places = make(map[string]int, 2*len(n.names))
		for i, o := range n.names {
			n.places[o.text] = i
		}
	}
}

// clone returns a copy of an object whose entries can be added to and replaced.
func (n *node) clone() *node {
	c := *n
	c.names, c.nodes, c.places = slices.Clone(n.names), slices.Clone(n.nodes), maps.Clone(n.places)
	return &c
}

// below returns the path of the i-th value of an object or a list.
func (n *node) below(path string, i int) string {
	if n.kind == object {
		return Join(path, n.names[i].text)
	}
	return fmt.Sprintf("%s[%d]", path, i)
}

// without returns an object's copy without an entry that it has.
func (n *node) without(entry string) *node {
	c := &node{kind: n.kind, file: n.file, line: n.line, column: n.column}
	for i, o := range n.names {
		if o.text != entry {
			c.add(o, n.nodes[i])
		}
	}
	return c
}

// LoadOptions steer Load.
type LoadOptions struct {
	// Skip names folders, relative to the file system's root, that hold no definitions.
	Skip []string
}

// Load reads the definition files of a folder: *.yaml, *.yml and *.json at its top and below flows/. Left out are *_test.*, *.schema.*,
// names that begin with _ or . and folders named secrets, and the folders of file connections: the engine itself writes there. The error is Faults when a file
// cannot be read as what it is, or that of the file system; what else is wrong is found by Decode.
func Load(fsys fs.FS, options LoadOptions) (*Tree, error) {
	var files []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(p)
		hidden := p != "." && (base[0] == '_' || base[0] == '.')
		if d.IsDir() {
			if p != "." && (hidden || base == "secrets" || slices.Contains(options.Skip, p) || p != "flows" && !strings.HasPrefix(p, "flows/")) {
				return fs.SkipDir
			}
			return nil
		}
		ext := path.Ext(base)
		stem := strings.TrimSuffix(base, ext)
		if hidden || strings.HasSuffix(stem, "_test") || strings.HasSuffix(stem, ".schema") || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			return nil
		}
		files = append(files, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	trees := make([]*Tree, len(files)) // nil: the file's fault is in unread
	unread := make([]error, len(files))
	for i, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, fmt.Errorf("read the definitions: %w", err)
		}
		trees[i], unread[i] = Parse(file, data)
	}
	var fatal Faults
	written := folders(trees)
	for i, file := range files {
		if slices.ContainsFunc(written, func(dir string) bool { return strings.HasPrefix(file, dir+"/") }) {
			trees[i] = nil
		} else if unread[i] != nil {
			fatal = append(fatal, FaultsOf("", unread[i])...)
		}
	}
	merged, twice := Merge(trees...)
	if merged != nil {
		merged = &Tree{merged.root, append(twice, merged.faults...)}
	}
	if fatal != nil {
		if merged != nil {
			fatal = append(fatal, merged.faults...)
		}
		return nil, fatal.sorted()
	}
	return merged, nil
}

// folders returns the folders of the file connections in the trees.
func folders(trees []*Tree) []string {
	var dirs []string
	for _, t := range trees {
		if t == nil {
			continue
		}
		connections := t.root.get("connections")
		if connections == nil {
			continue
		}
		for _, c := range connections.nodes {
			if dir := c.get("dir"); dir != nil && dir.text != "" {
				dirs = append(dirs, path.Clean(dir.text))
			}
		}
	}
	return dirs
}

// Parse reads one document: JSON when the file's name says so or it has none, YAML otherwise. The error is Faults.
func Parse(file string, data []byte) (*Tree, error) {
	p := &reader{file: file}
	var root *node
	if file == "" || path.Ext(file) == ".json" {
		root = p.readJSON(data, "", 0)
	} else {
		root = p.readYAML(data, "", 0)
	}
	switch {
	case root == nil:
		return nil, p.faults.sorted()
	case root.kind == null:
		root = &node{kind: object, file: file, line: 1, column: 1}
	case root.kind == refused:
		return nil, p.faults.sorted()
	case root.kind != object:
		f := root.fault("", "a file of definitions is a map of keys, this is "+root.kind.String(), "begin with connections:, listeners: or flows:")
		return nil, append(p.faults, f).sorted()
	}
	return &Tree{root, p.faults}, nil
}

// reader turns a file into nodes.
type reader struct {
	file   string
	faults Faults
	nodes  int                 // read so far
	shared map[*yaml.Node]bool // anchored below x- keys
}

const (
	maxDepth = 64
	maxNodes = 1 << 20 // of one file, with what aliases repeat
)

// entry adds an entry to an object, or a fault when it has one of that name.
func (p *reader) entry(n *node, at string, key name, read func(at string) *node) {
	at = Join(at, key.text)
	if i := n.index(key.text); i >= 0 {
		p.faults = append(p.faults, Fault{Path: at, File: p.file, Line: key.line, Column: key.column,
			Reason: fmt.Sprintf("key %q is there twice, first in line %d", key.text, n.names[i].line)})
		return
	}
	n.add(key, read(at))
}

// readYAML returns the document, which stands at a path so deep in a set; nil after a fault that leaves none.
func (p *reader) readYAML(data []byte, at string, depth int) *node {
	if !utf8.Valid(data) {
		p.faults = append(p.faults, notUTF8(p.file, data))
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return &node{kind: null}
	}
	if err == nil {
		if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
			p.faults = append(p.faults, Fault{File: p.file, Line: max(1, second.Line), Column: max(1, second.Column), Reason: "a file holds one document", Hint: "leave --- out"})
			return nil
		}
		return p.read(document.Content[0], at, depth)
	}
	p.faults = append(p.faults, p.syntaxFault(data, err))
	return nil
}

// notUTF8 finds the first byte that is no text.
func notUTF8(file string, data []byte) Fault {
	f := Fault{File: file, Line: 1, Column: 1, Reason: "this is no UTF-8", Hint: "save the file as UTF-8"}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if f.Column++; r == '\n' {
			f.Line, f.Column = f.Line+1, 1
		}
		data = data[size:]
	}
	return f
}

// syntaxFault is what the YAML parser found wrong, with what people most often meant.
func (p *reader) syntaxFault(data []byte, err error) Fault {
	f := Fault{File: p.file, Line: 1, Column: 1, Reason: err.Error()}
	var place *yaml.LoadError
	if !errors.As(err, &place) {
		return f
	}
	at := place.Mark
	f.Reason = place.Message
	switch {
	case strings.Contains(f.Reason, "end of stream"):
		at, f.Hint = place.ContextMark, "close the quote"
	case strings.Contains(f.Reason, "expected ',' or"):
		at, f.Hint = place.ContextMark, "close the bracket, write a comma between what it holds, or quote text that holds a bracket"
	case strings.Contains(f.Reason, "cannot start any token"):
		f.Hint = "quote text that begins with @, % or `"
		if lines := bytes.Split(data, []byte("\n")); at.Line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[at.Line-1], " "), []byte("\t")) {
			f.Hint = "indent with blanks, not with tabs"
		}
	case strings.Contains(f.Reason, "mapping values are not allowed"):
		f.Hint = "quote text that holds a colon before a blank"
	case strings.Contains(f.Reason, "alphabetic or numeric character"):
		f.Hint = "quote text that begins with * or &"
	case strings.Contains(f.Reason, "expected key"):
		f.Hint = "keep one indentation; quote text that begins with {, [ or a quote"
	}
	f.Line, f.Column = max(1, at.Line), max(1, at.Column)
	return f
}

func (p *reader) read(y *yaml.Node, at string, depth int) *node {
	n := &node{file: p.file, line: y.Line, column: y.Column}
	refuse := func(reason, hint string) *node {
		n.kind = refused
		p.faults = append(p.faults, n.fault(at, reason, hint))
		return n
	}
	p.nodes++
	switch {
	case depth > maxDepth:
		return refuse(fmt.Sprintf("nested deeper than %d", maxDepth), "")
	case p.nodes == maxNodes:
		return refuse(fmt.Sprintf("the file has more than %d values", maxNodes), "")
	case p.nodes > maxNodes:
		n.kind = refused
		return n
	case y.Kind == yaml.AliasNode && p.shared[y.Alias]:
		return p.read(y.Alias, at, depth+1)
	case y.Kind == yaml.AliasNode:
		return refuse("*"+y.Value+" is an alias, which definitions use for what stands below an x- key only", "quote it if it is text")
	case y.Anchor != "" && !p.shared[y]:
		return refuse("&"+y.Anchor+" is an anchor, which definitions use below x- keys only", "quote it if it is text")
	case y.Style&yaml.TaggedStyle != 0:
		return refuse(y.Tag+" is a tag, which definitions do not use", "quote it if it is text")
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = object
		for i := 0; i+1 < len(y.Content); i += 2 {
			key, value := y.Content[i], y.Content[i+1]
			if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
				n.line, n.column = key.Line, key.Column
				return refuse("a key is text", "quote it")
			}
			if depth == 0 && strings.HasPrefix(key.Value, "x-") {
				p.share(value)
				continue
			}
			p.entry(n, at, name{key.Value, key.Line, key.Column}, func(at string) *node { return p.read(value, at, depth+1) })
		}
	case yaml.SequenceNode:
		n.kind = list
		for i, e := range y.Content {
			n.nodes = append(n.nodes, p.read(e, fmt.Sprintf("%s[%d]", at, i), depth+1))
		}
	default:
		n.text = y.Value
		switch {
		case y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
			n.kind, n.inset = text, 1
		case y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
			n.kind, n.block = text, true
		default:
			n.kind = plain(y.Value)
		}
	}
	return n
}

// plain returns the kind of a scalar that is written without quotes.
func plain(s string) kind {
	switch {
	case s == "" || s == "null" || s == "~" || s == "Null" || s == "NULL":
		return null
	case s == "true" || s == "false":
		return boolean
	case transform.IsNumber(s):
		return number
	}
	return text
}

// share notes the anchors below an x- key.
func (p *reader) share(y *yaml.Node) {
	if y.Anchor != "" {
		if p.shared == nil {
			p.shared = map[*yaml.Node]bool{}
		}
		p.shared[y] = true
	}
	for _, e := range y.Content {
		p.share(e)
	}
}

// Merge returns the sets together. A name that two of them define is a fault.
func Merge(trees ...*Tree) (*Tree, Faults) {
	var faults Faults
	merged := combine(trees, func(kind string, at name, file string, held *node) bool {
		where := "in Go"
		if held.file != "" {
			where = fmt.Sprintf("in %s:%d", held.file, held.line)
		}
		faults = append(faults, Fault{Path: Join(kind, at.text), File: file, Line: at.line, Column: at.column,
			Reason: fmt.Sprintf("%q is defined already, %s", at.text, where), Hint: "names are unique for each kind"})
		return false
	})
	return merged, faults
}

// Override returns both sets together; where both define a name, o's definition counts.
func (t *Tree) Override(o *Tree) *Tree {
	return combine([]*Tree{t, o}, func(string, name, string, *node) bool { return true })
}

// combine merges; twice is asked whether an entry replaces one that an earlier set has.
func combine(trees []*Tree, twice func(kind string, at name, file string, held *node) bool) *Tree {
	trees = slices.DeleteFunc(slices.Clone(trees), func(t *Tree) bool { return t == nil })
	if len(trees) < 2 {
		return append(trees, nil)[0]
	}
	merged := &Tree{root: trees[0].root.clone(), faults: slices.Clone(trees[0].faults)}
	root := merged.root
	own := map[string]bool{} // sections that are copies by now
	for _, t := range trees[1:] {
		merged.faults = append(merged.faults, t.faults...)
		for i, section := range t.root.names {
			value, k := t.root.nodes[i], root.index(section.text)
			if k < 0 {
				root.add(section, value)
				continue
			}
			held := root.nodes[k]
			switch {
			case held.kind == null:
				root.nodes[k] = value
			case value.kind == null:
			case held.kind == object && value.kind == object:
				if !own[section.text] {
					held, own[section.text] = held.clone(), true
					root.nodes[k] = held
				}
				for j, entry := range value.names {
					if at := held.index(entry.text); at < 0 {
						held.add(entry, value.nodes[j])
					} else if twice(section.text, entry, value.file, held.nodes[at]) {
						held.names[at], held.nodes[at] = entry, value.nodes[j]
					}
				}
			case held.kind == value.kind && held.text == value.text && held.nodes == nil: // such as version: 1
			case twice("", section, value.file, held):
				root.nodes[k] = value
			}
		}
	}
	return merged
}

// Names returns the names that are defined of a kind.
func (t *Tree) Names(kind string) []string {
	if t == nil {
		return nil
	}
	var names []string
	if section := t.root.get(kind); section != nil {
		for _, n := range section.names {
			names = append(names, n.text)
		}
	}
	slices.Sort(names)
	return names
}

// JSON returns the set in one form whatever files it came from: kinds and names sorted, below them as written, ${…} as it stands.
func (t *Tree) JSON() []byte {
	if t == nil {
		return []byte("{}")
	}
	return t.root.json(nil, 2)
}

// Hash returns the SHA-256 of JSON in hexadecimal digits.
func (t *Tree) Hash() string {
	sum := sha256.Sum256(t.JSON())
	return hex.EncodeToString(sum[:])
}

// json appends the node; the names of the outermost levels are sorted.
func (n *node) json(b []byte, sortedLevels int) []byte {
	quote := func(s string) { b, _ = jsontext.AppendQuote(b, s) } // what is no UTF-8 is replaced
	switch n.kind {
	case null, refused:
		return append(b, "null"...)
	case boolean, number:
		return append(b, n.text...)
	case text:
		quote(n.text)
		return b
	case list:
		b = append(b, '[')
		for i, e := range n.nodes {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.json(b, 0)
		}
		return append(b, ']')
	}
	order := make([]int, len(n.names))
	for i := range order {
		order[i] = i
	}
	if sortedLevels > 0 {
		slices.SortFunc(order, func(x, y int) int { return strings.Compare(n.names[x].text, n.names[y].text) })
	}
	b = append(b, '{')
	for k, i := range order {
		if k > 0 {
			b = append(b, ',')
		}
		quote(n.names[i].text)
		b = append(b, ':')
		b = n.nodes[i].json(b, sortedLevels-1)
	}
	return append(b, '}')
}

// filledWhenLoaded finds the references whose values stand in a text that is decoded.
var filledWhenLoaded = regexp.MustCompile(`\$\{\s*(env|secret|vars)\.`)

// Locate fills in file, line and column of faults from their paths. A path that leads nowhere is at the last place that exists on its way.
func (t *Tree) Locate(faults Faults) Faults {
	for i := range faults {
		f := &faults[i]
		if t == nil || f.File != "" {
			continue
		}
		n, whole := t.root, true
		var key *name
		for _, part := range split(f.Path) {
			next, at := n.child(part)
			if next == nil {
				whole = false
				break
			}
			if next != n {
				n, key = next, at
			}
		}
		f.File, f.Line, f.Column = n.file, n.line, n.column
		scalar := n.kind < list
		switch {
		case whole && scalar && filledWhenLoaded.MatchString(n.text): // offsets count in what was filled in
		case whole && scalar:
			f.Line, f.Column = n.at(f.Offset)
		case key != nil && n.file != "":
			f.Line, f.Column = key.line, key.column
		}
	}
	return faults.sorted()
}
