package define

import (
	"path"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Masked is what stands for a secret that a definition holds in plain where the definition is shown.
const Masked = "***"

// ParseEntry reads one definition that stands for itself, JSON or YAML as Parse decides by the file's name, and returns the set of it alone. The
// error is Faults.
func ParseEntry(file, kind, entry string, data []byte) (*Tree, error) {
	p := &reader{file: file}
	var value *node
	if at := Join(kind, entry); file == "" || path.Ext(file) == ".json" {
		value = p.readJSON(data, at, 1)
	} else {
		value = p.readYAML(data, at, 1)
	}
	switch {
	case value == nil || value.kind == refused:
		return nil, p.faults.sorted()
	case value.kind == null: // nothing at all
		value = &node{kind: null, file: file, line: 1, column: 1}
	}
	return (&Tree{nil, p.faults}).with(kind, entry, value), nil
}

// with returns the set with a definition added or replaced; what it shares with t stays as it is.
func (t *Tree) with(kind, entry string, value *node) *Tree {
	root, section := &node{kind: object}, &node{kind: object}
	if t.root != nil {
		root = t.root.clone()
	}
	if held := root.get(kind); held != nil && held.kind == object {
		section = held.clone()
	}
	set := func(n *node, key name, value *node) {
		if i := n.index(key.text); i >= 0 {
			n.names[i], n.nodes[i] = key, value
			return
		}
		n.add(key, value)
	}
	set(section, name{entry, value.line, value.column}, value)
	set(root, name{text: kind}, section)
	return &Tree{root, t.faults}
}

// Without returns the set without a definition; t itself when it has none of that name.
func (t *Tree) Without(kind, entry string) *Tree {
	if t.entry(kind, entry) == nil {
		return t
	}
	root := t.root.clone()
	root.nodes[root.index(kind)] = root.get(kind).without(entry)
	return &Tree{root, t.faults}
}

// entry returns a definition, nil when there is none.
func (t *Tree) entry(kind, entry string) *node {
	if t == nil {
		return nil
	}
	return t.root.get(kind).get(entry)
}

// Has reports whether the set has a definition, and where: its file, "" when it is in none.
func (t *Tree) Has(kind, entry string) (file string, line int, ok bool) {
	section := (*node)(nil)
	if t != nil {
		section = t.root.get(kind)
	}
	n := section.get(entry)
	if n == nil {
		return "", 0, false
	}
	return n.file, section.names[section.index(entry)].line, true
}

// Entry returns a definition as JSON, as it was written, but with what stands in plain at secret places masked.
func (t *Tree) Entry(kind, entry string, secret func(path string) bool) []byte {
	n := t.entry(kind, entry)
	if n == nil {
		return nil
	}
	value := jsontext.Value(n.mapped(Join(kind, entry), func(n *node, at string) *node {
		if n.kind > text || n.kind == null || !secret(at) || isReference(n.text) {
			return n
		}
		return &node{kind: text, text: Masked}
	}).json(nil, 0))
	value.Indent(jsontext.WithIndent("  ")) // it is well-formed
	return value
}

// Unmask returns a set of one definition, as ParseEntry made it, with what o has at secret places where it says Masked, and whether there was such
// a place.
func (t *Tree) Unmask(kind, entry string, o *Tree, secret func(path string) bool) (unmasked *Tree, any bool) {
	held := map[string]string{}
	if n := o.entry(kind, entry); n != nil {
		n.mapped(Join(kind, entry), func(n *node, at string) *node {
			if n.kind <= text && secret(at) {
				held[at] = n.text
			}
			return n
		})
	}
	value := t.entry(kind, entry).mapped(Join(kind, entry), func(n *node, at string) *node {
		plain, ok := held[at]
		if n.kind != text || n.text != Masked || !ok {
			return n
		}
		any = true
		c := *n
		c.text = plain
		return &c
	})
	return t.with(kind, entry, value), any
}

// mapped returns the node with each scalar replaced by what f makes of it.
func (n *node) mapped(at string, f func(n *node, at string) *node) *node {
	if n.kind < list {
		return f(n, at)
	}
	c := *n
	c.nodes = make([]*node, len(n.nodes))
	for i, e := range n.nodes {
		c.nodes[i] = e.mapped(n.below(at, i), f)
	}
	return &c
}

// isReference reports whether a text is one ${…} without a value of its own.
func isReference(s string) bool {
	inner, ok := strings.CutPrefix(s, "${")
	inner, closed := strings.CutSuffix(inner, "}")
	return ok && closed && !strings.ContainsAny(inner, "{}?")
}

// Each calls visit with the kind and the name of every definition of the set.
func (t *Tree) Each(visit func(kind, name string)) {
	if t == nil {
		return
	}
	for i, section := range t.root.names {
		if n := t.root.nodes[i]; n.kind == object {
			for _, entry := range n.names {
				visit(section.text, entry.text)
			}
		}
	}
}

// Placeless returns the set with its definitions in no file: what was read from a request's body is not there any more.
func (t *Tree) Placeless() *Tree {
	if t == nil {
		return nil
	}
	root := t.root.clone()
	for i, section := range root.nodes {
		section = section.clone()
		for k, n := range section.nodes {
			if n.file != "" {
				section.names[k], section.nodes[k] = name{text: section.names[k].text}, n.placeless()
			}
		}
		root.nodes[i] = section
	}
	return &Tree{root, t.faults}
}

func (n *node) placeless() *node {
	c := &node{kind: n.kind, text: n.text}
	for i, e := range n.nodes {
		if n.kind == object {
			c.add(name{text: n.names[i].text}, e.placeless())
		} else {
			c.nodes = append(c.nodes, e.placeless())
		}
	}
	return c
}
