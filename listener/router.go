package listener

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
)

// Router finds the listener of a call by method and path. It never changes and is safe for concurrent use.
type Router struct {
	root  node
	basic bool
}

// TakesBasic reports whether any listener takes a login with its password.
func (r *Router) TakesBasic() bool { return r.basic }

// node is one place in the tree of patterns; a literal segment wins over a parameter, a parameter over the rest of a path.
type node struct {
	literals map[string]*node
	param    *node
	rest     map[string]*Listener // by method: `{name...}`
	here     map[string]*Listener // by method
}

// segment is one part of a pattern.
type segment struct {
	text  string // literal text, or a parameter's name
	param bool
	rest  bool
}

// parsePattern reads `/shop/{store}/orders` or `/files/{path...}`. The fault has no path of its own.
func parsePattern(pattern string) ([]segment, *define.Fault) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, &define.Fault{Reason: "a listener's path begins with /", Hint: fmt.Sprintf("write /%s", pattern)}
	}
	for _, prefix := range []string{"/plugins/schedules/rest/v1/httplistener/", "/rest/v1/httplistener/"} {
		if rest, ok := strings.CutPrefix(pattern, prefix); ok {
			return nil, &define.Fault{Reason: "the path of a listener is what follows this prefix", Hint: "write /" + rest}
		}
	}
	if at := strings.IndexAny(pattern, "?#"); at >= 0 {
		return nil, &define.Fault{Offset: at, Reason: fmt.Sprintf("a path ends before a %c: a query is no part of it", pattern[at]), Hint: "values of the query are parameters without being named here"}
	}
	var segments []segment
	offset := 1
	names := map[string]bool{}
	parts := strings.Split(strings.TrimSuffix(pattern[1:], "/"), "/")
	for i, part := range parts {
		fault := func(reason, hint string) *define.Fault {
			return &define.Fault{Offset: offset, Reason: reason, Hint: hint}
		}
		name, isParam := strings.CutPrefix(part, "{")
		switch {
		case part == "":
			return nil, fault("a path has no empty segments", "write /name, or /{name...} for every path")
		case part == "*", part == "**", strings.HasPrefix(part, ":"):
			return nil, fault(fmt.Sprintf("%s is no parameter", part), "write {name}, or {name...} for the rest of the path")
		case isParam:
			if name, isParam = strings.CutSuffix(name, "}"); !isParam {
				return nil, fault("{ is not closed in this segment", "a parameter is a whole segment: /{name}/")
			}
			name, rest := strings.CutSuffix(name, "...")
			if rest && i != len(parts)-1 {
				return nil, fault("{"+name+"...} takes the rest of the path: it can only be the last segment", "")
			}
			if !validName(name) {
				return nil, fault(fmt.Sprintf("%q is no name of a parameter", name), "letters, digits, - and _ make names")
			}
			if names[name] {
				return nil, fault(fmt.Sprintf("parameter %q is there twice", name), "")
			}
			names[name] = true
			segments = append(segments, segment{text: name, param: true, rest: rest})
		case strings.ContainsAny(part, "{}"):
			return nil, fault("a parameter is a whole segment", "write /{name}/")
		case !plain(part):
			return nil, fault(fmt.Sprintf("segment %q can never be called", part), "paths hold no .., backslashes or control characters")
		default:
			segments = append(segments, segment{text: part})
		}
		offset += len(part) + 1
	}
	return segments, nil
}

func validName(name string) bool {
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return name != ""
}

// NewRouter returns a router for the listeners. Two listeners with the same method and equivalent patterns are a fault that names both.
func NewRouter(listeners []*Listener) (*Router, define.Faults) {
	r := &Router{}
	var faults define.Faults
	for _, l := range listeners {
		if l.entry != nil {
			continue
		}
		r.basic = r.basic || l.Basic
		at := &r.root
		last := &at.here
		for _, s := range l.segments {
			switch {
			case s.rest:
				last = &at.rest
				continue
			case s.param:
				if at.param == nil {
					at.param = &node{}
				}
				at = at.param
			default:
				if at.literals == nil {
					at.literals = map[string]*node{}
				}
				if at.literals[s.text] == nil {
					at.literals[s.text] = &node{}
				}
				at = at.literals[s.text]
			}
			last = &at.here
		}
		if *last == nil {
			*last = map[string]*Listener{}
		}
		for _, method := range l.methods {
			if other := (*last)[method]; other != nil {
				faults = append(faults, define.Fault{Path: define.Join("listeners", l.Name) + ".path",
					Reason: fmt.Sprintf("listener %q waits for %s on an equivalent path already (%s)", other.Name, method, other.definition.Path),
					Hint:   "give one of the two another path or method"})
				continue
			}
			(*last)[method] = l
		}
	}
	return r, faults
}

// Match returns the listener that waits for the method on the path, with the values of the path's parameters. The path is as it was
// sent, percent-encoded, below the listeners' prefix. When only other methods are waited for, the listener is nil and allow names
// them; when the path leads nowhere, both are empty.
func (r *Router) Match(method, escapedPath string) (l *Listener, params []store.Pair, allow []string) {
	segments, ok := split(escapedPath)
	if !ok {
		return nil, nil, nil
	}
	if l = r.root.find(method, segments, &allow); l == nil {
		slices.Sort(allow)
		return nil, nil, slices.Compact(allow)
	}
	for i, s := range l.segments {
		switch {
		case s.rest:
			params = append(params, store.Pair{Name: s.text, Value: strings.Join(segments[i:], "/")})
		case s.param:
			params = append(params, store.Pair{Name: s.text, Value: segments[i]})
		}
	}
	return l, params, nil
}

// find walks the tree; others collects the methods of the patterns that fit the path and wait for another method.
func (n *node) find(method string, segments []string, others *[]string) *Listener {
	if len(segments) == 0 {
		return choose(n.here, method, others)
	}
	if next := n.literals[segments[0]]; next != nil {
		if l := next.find(method, segments[1:], others); l != nil {
			return l
		}
	}
	if n.param != nil {
		if l := n.param.find(method, segments[1:], others); l != nil {
			return l
		}
	}
	return choose(n.rest, method, others)
}

func choose(listeners map[string]*Listener, method string, others *[]string) *Listener {
	l := listeners[method]
	if l == nil {
		*others = slices.AppendSeq(*others, maps.Keys(listeners))
	}
	return l
}

// split decodes a path once and returns its segments; false for paths that nobody may be led by: empty segments, `..`, separators or
// control characters in disguise, a second layer of percent-encoding, bytes that are no UTF-8. With and without a slash at the end
// are the same.
func split(escapedPath string) ([]string, bool) {
	escapedPath = strings.TrimPrefix(escapedPath, "/")
	escapedPath = strings.TrimSuffix(escapedPath, "/")
	segments := strings.Split(escapedPath, "/")
	for i, s := range segments {
		decoded := s
		if strings.Contains(s, "%") {
			var err error
			if decoded, err = url.PathUnescape(s); err != nil {
				return nil, false
			}
		}
		if !plain(decoded) {
			return nil, false
		}
		segments[i] = decoded
	}
	return segments, true
}

// plain reports whether a decoded segment is what it seems to be.
func plain(s string) bool {
	if s == "" || s == "." || s == ".." || !utf8.ValidString(s) {
		return false
	}
	for i, r := range s {
		switch {
		case r == '/', r == '\\', unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp): // controls, direction marks, line ends
			return false
		case r == 0x2024, r == 0x2044, r == 0x2215, r == 0xff0e, r == 0xff0f, r == 0xff3c: // look-alikes of . / \
			return false
		case r == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
