package sqldb

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// query is SQL with binds `:name` and parts in [[ ]] that are left out when a bind in them is null.
type query struct {
	parts []part
}

// part is text, or a bind; optional numbers the [[ ]] that it stands in, from 1.
type part struct {
	text     string
	bind     string
	offset   int
	optional int
}

// parseQuery finds the binds outside quotes, comments and `::`. The fault is without a target and a key.
func parseQuery(sql string) (*query, *connector.Fault) {
	q := &query{}
	fault := func(at int, reason, hint string) (*query, *connector.Fault) {
		return nil, &connector.Fault{Offset: at, Reason: reason, Hint: hint}
	}
	start, optional, groups, opened := 0, 0, 0, 0
	flush := func(end int) {
		if end > start {
			q.parts = append(q.parts, part{text: sql[start:end], optional: optional})
		}
		start = end
	}
	for i := 0; i < len(sql); {
		rest := sql[i:]
		switch c := sql[i]; {
		case c == '\'' || c == '"' || c == '`':
			end := closing(rest, c)
			if end < 0 {
				return fault(i, "a quote is not closed", "")
			}
			i += end
		case strings.HasPrefix(rest, "--"):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				i += n
			} else {
				i = len(sql)
			}
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				return fault(i, "a comment is not closed", "")
			}
			i += n + 2
		case strings.HasPrefix(rest, "${"):
			return fault(i, "${…} is refused in SQL", "write a bind such as :name")
		case strings.HasPrefix(rest, "[["):
			if optional != 0 {
				return fault(i, "[[ stands inside another [[", "")
			}
			flush(i)
			groups++
			optional, opened = groups, i
			i += 2
			start = i
		case strings.HasPrefix(rest, "]]"):
			if optional == 0 {
				return fault(i, "]] closes nothing", "")
			}
			flush(i)
			if !q.binds(optional) {
				return fault(opened, "a part in [[ ]] needs a bind: it is left out when the bind is null", "")
			}
			optional = 0
			i += 2
			start = i
		case strings.HasPrefix(rest, "::"):
			i += 2
		case c == ':' && len(rest) > 1 && isNameStart(rest[1]):
			n := 1
			for n < len(rest) && (isNameStart(rest[n]) || '0' <= rest[n] && rest[n] <= '9') {
				n++
			}
			flush(i)
			q.parts = append(q.parts, part{bind: rest[1:n], offset: i, optional: optional})
			i += n
			start = i
		default:
			i++
		}
	}
	if optional != 0 {
		return fault(opened, "[[ is not closed", "")
	}
	flush(len(sql))
	return q, nil
}

// closing returns the length of the quoted text that s begins with; a doubled quote stands for itself.
func closing(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return i + 1
	}
	return -1
}

func isNameStart(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf
}

// binds reports whether the optional part has a bind.
func (q *query) binds(optional int) bool {
	for _, p := range q.parts {
		if p.optional == optional && p.bind != "" {
			return true
		}
	}
	return false
}

// build returns the SQL of one use, with the driver's placeholders, and its arguments.
func (q *query) build(d *Dialect, value func(name string) (transform.Value, error)) (string, []any, error) {
	left, values := map[int]bool{}, map[string]transform.Value{}
	for _, p := range q.parts {
		if p.bind == "" {
			continue
		}
		v, err := value(p.bind)
		if err != nil {
			return "", nil, fmt.Errorf("bind :%s: %w", p.bind, err)
		}
		if values[p.bind] = v; v.IsNull() && p.optional != 0 {
			left[p.optional] = true
		}
	}
	var b strings.Builder
	var args []any
	for _, p := range q.parts {
		switch {
		case left[p.optional]:
		case p.bind == "":
			b.WriteString(p.text)
		default:
			arg, err := argument(values[p.bind])
			if err != nil {
				return "", nil, fmt.Errorf("bind :%s: %w", p.bind, err)
			}
			args = append(args, arg)
			b.WriteString(d.Placeholder(len(args)))
		}
	}
	return b.String(), args, nil
}
