package define

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/integrator-go/integrator/transform"
)

// Tree is a set of definitions as it was written. It never changes; nil is an empty set.
type Tree struct{ root *node }

// kind says what a node is.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a map of keys"}[k]
}

// node is a value with its place.
type node struct {
	kind   kind
	text   string // of scalars, as written
	names  []name // of an object
	nodes  []*node
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

func (n *node) get(name string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	for i := range n.names {
		if n.names[i].text == name {
			return n.nodes[i]
		}
	}
	return nil
}

// with returns a copy of an object with an entry replaced or added.
func (n *node) with(entry name, value *node) *node {
	c := *n
	c.names, c.nodes = slices.Clone(n.names), slices.Clone(n.nodes)
	for i := range c.names {
		if c.names[i].text == entry.text {
			c.nodes[i] = value
			return &c
		}
	}
	c.names, c.nodes = append(c.names, entry), append(c.nodes, value)
	return &c
}

// LoadOptions steer Load.
type LoadOptions struct {
	// Skip names folders, relative to the file system's root, that hold no definitions.
	Skip []string
}

// Load reads the definition files of a folder: *.yaml, *.yml and *.json at its top and below flows/. Left out are *_test.*, names that begin
// with _ or . and folders named secrets. The error is Faults, or that of the file system.
func Load(fsys fs.FS, options LoadOptions) (*Tree, error) {
	var files []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(p)
		hidden := p != "." && (base[0] == '_' || base[0] == '.')
		if d.IsDir() {
			if hidden || base == "secrets" || slices.Contains(options.Skip, p) || p != "." && p != "flows" && !strings.HasPrefix(p, "flows/") {
				return fs.SkipDir
			}
			return nil
		}
		ext := path.Ext(base)
		if hidden || strings.HasSuffix(strings.TrimSuffix(base, ext), "_test") || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			return nil
		}
		files = append(files, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	var trees []*Tree
	var faults Faults
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, fmt.Errorf("read the definitions: %w", err)
		}
		t, err := Parse(file, data)
		if err != nil {
			faults = append(faults, FaultsOf("", err)...)
			continue
		}
		trees = append(trees, t)
	}
	// A folder that the engine itself writes to holds no definitions.
	var merged *Tree
	folders := folders(trees)
	for _, t := range trees {
		file := t.root.file
		if slices.ContainsFunc(folders, func(dir string) bool { return strings.HasPrefix(file, dir+"/") }) {
			continue
		}
		var more Faults
		merged, more = merged.Merge(t)
		faults = append(faults, more...)
	}
	if faults != nil {
		return nil, faults.sorted()
	}
	return merged, nil
}

// folders returns the folders of the file connections in the trees.
func folders(trees []*Tree) []string {
	var dirs []string
	for _, t := range trees {
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

var errorLine = regexp.MustCompile(`line (\d+)(?:, column (\d+))?`)

// Parse reads one document, YAML or JSON. The error is Faults.
func Parse(file string, data []byte) (*Tree, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return &Tree{&node{kind: object, file: file, line: 1, column: 1}}, nil
	}
	if err != nil {
		f := Fault{File: file, Line: 1, Column: 1, Reason: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := errorLine.FindStringSubmatch(err.Error()); m != nil {
			f.Line, _ = strconv.Atoi(m[1])
			if m[2] != "" {
				f.Column, _ = strconv.Atoi(m[2])
			}
		}
		return nil, Faults{f}
	}
	p := &reader{file: file}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		p.faults = append(p.faults, Fault{File: file, Line: max(1, second.Line), Column: max(1, second.Column), Reason: "a file holds one document", Hint: "leave --- out"})
	}
	root := p.read(document.Content[0], "", 0)
	switch {
	case p.faults != nil:
	case root.kind == null:
		root = &node{kind: object, file: file, line: 1, column: 1}
	case root.kind != object:
		p.faults = append(p.faults, root.fault("", "a file of definitions is a map of keys, this is "+root.kind.String(), "begin with connections:, listeners: or flows:"))
	}
	if p.faults != nil {
		return nil, p.faults.sorted()
	}
	return &Tree{root}, nil
}

// reader turns YAML nodes into nodes of a tree.
type reader struct {
	file   string
	faults Faults
}

const maxDepth = 64

func (p *reader) read(y *yaml.Node, at string, depth int) *node {
	n := &node{file: p.file, line: y.Line, column: y.Column}
	refuse := func(reason, hint string) *node {
		p.faults = append(p.faults, n.fault(at, reason, hint))
		return n
	}
	switch {
	case depth > maxDepth:
		return refuse(fmt.Sprintf("nested deeper than %d", maxDepth), "")
	case y.Kind == yaml.AliasNode:
		return refuse("*"+y.Value+" is an alias, which definitions do not use", "quote it if it is text")
	case y.Anchor != "":
		return refuse("&"+y.Anchor+" is an anchor, which definitions do not use", "quote it if it is text")
	case y.Style&yaml.TaggedStyle != 0:
		return refuse(y.Tag+" is a tag, which definitions do not use", "quote it if it is text")
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = object
		for i := 0; i+1 < len(y.Content); i += 2 {
			key := y.Content[i]
			if key.Kind != yaml.ScalarNode {
				return refuse("a key is text", "quote it")
			}
			if depth == 0 && strings.HasPrefix(key.Value, "x-") {
				continue
			}
			if n.get(key.Value) != nil {
				first := n.names[slices.IndexFunc(n.names, func(o name) bool { return o.text == key.Value })]
				p.faults = append(p.faults, Fault{Path: Join(at, key.Value), File: p.file, Line: key.Line, Column: key.Column,
					Reason: fmt.Sprintf("key %q is there twice, first in line %d", key.Value, first.line)})
				continue
			}
			n.names = append(n.names, name{key.Value, key.Line, key.Column})
			n.nodes = append(n.nodes, p.read(y.Content[i+1], Join(at, key.Value), depth+1))
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
		case y.Value == "" || y.Value == "null" || y.Value == "~" || y.Value == "Null" || y.Value == "NULL":
			n.kind = null
		case y.Value == "true" || y.Value == "false":
			n.kind = boolean
		case transform.IsNumber(y.Value):
			n.kind = number
		default:
			n.kind = text
		}
	}
	return n
}

// Merge returns both sets together. A name that both define is a fault.
func (t *Tree) Merge(o *Tree) (*Tree, Faults) {
	var faults Faults
	merged := t.combine(o, func(kind string, at name, file string, held *node) bool {
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
	return t.combine(o, func(string, name, string, *node) bool { return true })
}

// combine merges; twice is asked whether o's entry replaces one that t has.
func (t *Tree) combine(o *Tree, twice func(kind string, at name, file string, held *node) bool) *Tree {
	if t == nil {
		return o
	}
	if o == nil {
		return t
	}
	root := t.root
	for i, section := range o.root.names {
		value, held := o.root.nodes[i], root.get(section.text)
		if held == nil || held.kind != object || value.kind != object {
			root = root.with(section, value)
			continue
		}
		for k, entry := range value.names {
			if other := held.get(entry.text); other != nil && !twice(section.text, entry, value.file, other) {
				continue
			}
			held = held.with(entry, value.nodes[k])
		}
		root = root.with(section, held)
	}
	return &Tree{root}
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
	quote := func(s string) {
		q, _ := json.Marshal(s) // cannot fail
		b = append(b, q...)
	}
	switch n.kind {
	case null:
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
			var next *node
			if n.kind == list {
				if k, err := strconv.Atoi(part); err == nil && k < len(n.nodes) {
					next = n.nodes[k]
				}
			} else if next = n.get(part); next != nil {
				k := slices.IndexFunc(n.names, func(o name) bool { return o.text == part })
				key = &n.names[k]
			} else if part == "0" {
				continue // a single value stands for a list
			}
			if next == nil {
				whole = false
				break
			}
			n = next
		}
		f.File, f.Line, f.Column = n.file, n.line, n.column
		scalar := n.kind != list && n.kind != object
		switch {
		case whole && scalar && n.block:
			before := n.text[:min(f.Offset, len(n.text))]
			f.Line += 1 + strings.Count(before, "\n")
			f.Column = 1
		case whole && scalar:
			f.Column += n.inset + len([]rune(n.text[:min(f.Offset, len(n.text))]))
		case key != nil && n.file != "":
			f.Line, f.Column = key.line, key.column
		}
	}
	return faults.sorted()
}
