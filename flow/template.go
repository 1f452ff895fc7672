package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// template is text with ${…} that each run fills in: ${param.x}, ${header.x}, ${run.id}, ${message.id}, ${now:yyyy-MM-dd}; or each record,
// with ${record.x} in it.
type template struct {
	parts  []part
	record bool
}

// part is literal text, or a value of the run or of a record.
type part struct {
	text   string
	path   *transform.Path
	layout *transform.Layout // of now
	field  string            // of a record: what stands in the braces
}

// parseTemplate parses text; the error joins a *transform.DefinitionError for each fault, with its offset in it. record says that ${record.x} may stand in it.
func parseTemplate(text string, options transform.CompileOptions, record bool) (*template, error) {
	t := &template{}
	var faults []error
	literal := func(s string) {
		if s != "" {
			t.parts = append(t.parts, part{text: s})
		}
	}
	for rest := text; ; {
		open := strings.Index(rest, "${")
		if open < 0 {
			literal(rest)
			return t, errors.Join(faults...)
		}
		if open > 0 && rest[open-1] == '$' { // $${ is a literal ${
			literal(rest[:open-1] + "${")
			rest = rest[open+2:]
			continue
		}
		literal(rest[:open])
		offset := len(text) - len(rest) + open
		inner, after, closed := strings.Cut(rest[open+2:], "}")
		if !closed {
			faults = append(faults, &transform.DefinitionError{Offset: offset, Reason: "${ is not closed", Hint: "write $${ for the characters themselves"})
			return nil, errors.Join(faults...)
		}
		p, err := parsePart(strings.TrimSpace(inner), options, record)
		if err != nil {
			err.Offset += offset + 2
			faults = append(faults, err)
		}
		t.record = t.record || p.field != ""
		t.parts = append(t.parts, p)
		rest = after
	}
}

// runRoots are what the paths of a run begin with.
var runRoots = []string{"param", "header", "query", "run", "message"}

func parsePart(inner string, options transform.CompileOptions, record bool) (part, *transform.DefinitionError) {
	name, layout, isTime := strings.Cut(inner, ":")
	if name == "now" {
		if !isTime {
			return part{}, &transform.DefinitionError{Reason: "now needs a layout", Hint: "write ${now:yyyy-MM-dd}"}
		}
		l, err := transform.ParseLayout(layout)
		if err != nil {
			return part{}, &transform.DefinitionError{Offset: len("now:"), Reason: err.Error()}
		}
		return part{layout: &l}, nil
	}
	root, _, _ := strings.Cut(inner, ".")
	root, _, _ = strings.Cut(root, "[")
	path, field := inner, ""
	switch {
	case record && root == "record":
		if path, field = "this"+strings.TrimPrefix(inner, root), inner; path == "this" {
			return part{}, &transform.DefinitionError{Reason: "a record is no text", Hint: "write ${record.id}, with one of its fields"}
		}
	case !slices.Contains(runRoots, root):
		return part{}, &transform.DefinitionError{Reason: fmt.Sprintf("${%s} is not known when a run starts", inner),
			Hint: "there are param, header, query, run, message and now"}
	}
	p, err := transform.CompilePath(path, options)
	if definition := (*transform.DefinitionError)(nil); errors.As(err, &definition) {
		if definition.Offset > 0 { // it is about a part of the path
			definition.Offset += len(inner) - len(path)
		}
		if strings.HasPrefix(definition.Hint, "write = ") {
			definition.Hint = "${…} holds a path alone: what is to be computed is a field of the record, or a parameter with a default"
		}
		return part{}, definition
	} else if err != nil {
		return part{}, &transform.DefinitionError{Reason: err.Error()}
	}
	return part{path: &p, field: field}, nil
}

// fill returns the text with each value passed through encode, which refuses what the place cannot hold. record is nil for a template that
// a run fills in.
func (t *template) fill(env *transform.Env, record *transform.Record, encode func(string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		value := p.text
		if p.path != nil || p.layout != nil {
			if p.layout != nil {
				value = p.layout.Format(env.Now.In(env.Zone))
			} else {
				value = p.path.Eval(env, record).Text()
			}
			var err error
			if value, err = encode(value); err != nil {
				if fault := (*transform.Fault)(nil); p.field != "" && errors.As(err, &fault) {
					fault.Field = p.field
				}
				return "", err
			}
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// given reports whether values of the call are part of the text; nil is no text.
func (t *template) given() bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p part) bool { return p.path != nil })
}

// fileName is the encoding of a value inside a file's path: names are never changed silently, so what cannot be part of a name
// refuses the run.
func fileName(value string) (string, error) {
	if value == "" || value == "." || strings.Contains(value, "..") || strings.ContainsAny(value, "/\\\x00") {
		return "", &transform.Fault{Kind: KindInput, Reason: `a value that fills in the path is empty or holds /, \ or ..: it can be no part of a file's name`}
	}
	return value, nil
}

// headerValue is the encoding of a value inside a response header (RFC 9110 section 5.5).
func headerValue(value string) (string, error) {
	for _, r := range value {
		if r < ' ' && r != '\t' || r == 0x7f {
			return "", fmt.Errorf("a value that fills in the header holds control characters")
		}
	}
	return value, nil
}
