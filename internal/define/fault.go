// Package define loads definitions: it reads YAML and JSON files into a tree that knows where everything stands, fills Go structs from it
// strictly, and tells every fault with its place.
//
// [Load] reads files, [FromGo] takes structs, both give a [Tree]; [Tree.Decode] fills structs by their json tags and the tags that flow.Definition
// describes. Whoever checks further what was decoded reports [Fault] values with the path in the tree, and [Tree.Locate] finds the lines.
package define

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/integrator-go/integrator/internal/nearest"
	"github.com/integrator-go/integrator/transform"
)

// Fault is one thing that is wrong in a set of definitions.
type Fault struct {
	Path   string // place in the set, such as flows.load-orders.steps[0].filter
	Offset int    // byte offset in the text that stands there
	File   string // "" for definitions made in Go
	Line   int    // from 1; 0 without a file
	Column int    // from 1
	Reason string
	Hint   string // what to write instead; may be ""

	lacks string // keys of which one is missing where Path leads, with blanks between them
}

// Lacks returns a fault as one that says that one of keys is missing where its path leads.
func Lacks(f Fault, keys ...string) Fault {
	f.lacks = strings.Join(keys, " ")
	return f
}

// Decisive returns what was found in addition to read, what was found when the definitions were read, without what only follows from that: another
// word about the same text, and a key that is missing because it is misspelt or has no good value.
func Decisive(read, more Faults) Faults {
	return slices.DeleteFunc(more, func(f Fault) bool {
		return slices.ContainsFunc(read, func(r Fault) bool {
			if r.Path == f.Path && f.Offset == 0 {
				return true
			}
			rest, below := strings.CutPrefix(r.Path, f.Path)
			for key := range strings.FieldsSeq(f.lacks) {
				if below && (r.Path == Join(f.Path, key) || strings.HasPrefix(r.Path, Join(f.Path, key)+".") || strings.HasPrefix(r.Path, Join(f.Path, key)+"[") ||
					r.Hint == didYouMean(key) && len(split(rest)) == 1) {
					return true
				}
			}
			return false
		})
	})
}

// didYouMean is the hint of a misspelt name.
func didYouMean(name string) string { return "did you mean " + name + "?" }

// Error returns the place, the reason and the hint.
func (f *Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Reason)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// Faults is everything that is wrong in a set, as one error.
type Faults []Fault

// Error returns all faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// sorted orders faults by place and leaves out repetitions.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	return slices.CompactFunc(f, func(a, b Fault) bool { return a == b })
}

// FaultsOf returns the faults that an error holds, at path: those of the loader as they are, definition errors at their places below path,
// anything else as one fault.
func FaultsOf(path string, err error) Faults {
	var faults Faults
	var definition *transform.DefinitionError
	joined, several := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case several:
		for _, e := range joined.Unwrap() {
			faults = append(faults, FaultsOf(path, e)...)
		}
		return faults
	case errors.As(err, &faults):
		return faults
	case errors.As(err, &definition):
		if definition.Path != "" {
			path = Below(path, definition.Path)
		}
		return Faults{{Path: path, Offset: definition.Offset, Reason: definition.Reason, Hint: definition.Hint}}
	}
	return Faults{{Path: path, Reason: err.Error()}}
}

// Join returns the path of the entry of that name below path.
func Join(path, name string) string {
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || r == '-' || r == '*' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
	switch {
	case !plain:
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// Below joins two paths.
func Below(path, rest string) string {
	if path == "" || strings.HasPrefix(rest, "[") {
		return path + rest
	}
	return path + "." + rest
}

// split takes a path apart into names and, as numbers, places in lists.
func split(path string) []string {
	var parts []string
	for path != "" {
		switch {
		case path[0] == '.':
			path = path[1:]
		case strings.HasPrefix(path, `["`):
			quoted, err := strconv.QuotedPrefix(path[1:])
			if err != nil {
				return parts
			}
			name, _ := strconv.Unquote(quoted)
			parts = append(parts, name)
			path = strings.TrimPrefix(path[1+len(quoted):], "]")
		case path[0] == '[':
			index, rest, _ := strings.Cut(path[1:], "]")
			parts = append(parts, index)
			path = rest
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			parts = append(parts, path[:end])
			path = path[end:]
		}
	}
	return parts
}

// Nearest returns the name that is most like the given one, "" when none is like it.
func Nearest(name string, names []string) string { return nearest.Name(name, names) }
