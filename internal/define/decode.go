package define

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DecodeOptions are what Decode needs beside the tree.
type DecodeOptions struct {
	// Lookup returns the value of ${env.NAME}, ${secret.NAME}, ${vars.NAME}; kind is the word before the point.
	Lookup func(kind, name string) (string, bool)

	// Secret is told the place of each value that is shown to nobody: a field tagged secret or masked, or of a type that can Reveal. Of those
	// tagged secret it is told what is written there too, so that it can be taken out of texts. Nil: nobody is told.
	Secret func(path, written string)

	// Ignore names keys at the top of what is decoded that belong to somebody else.
	Ignore []string
}

// Decode fills the struct that v points to from the whole set, strictly: unknown keys, wrong types and ${…} without a value are faults, and all
// of them are returned, with what the reading of the files found.
func (t *Tree) Decode(v any, options DecodeOptions) Faults {
	if t == nil {
		return nil
	}
	return append(slices.Clone(t.faults), decode(t.root, "", v, options)...)
}

// DecodeAt fills v from the entry that the names lead to; nothing when there is none.
func (t *Tree) DecodeAt(names []string, v any, options DecodeOptions) Faults {
	if t == nil {
		return nil
	}
	path := ""
	for _, name := range names {
		path = Join(path, name)
	}
	return t.DecodePath(path, v, options)
}

// DecodePath is DecodeAt with the path as faults have it.
func (t *Tree) DecodePath(path string, v any, options DecodeOptions) Faults {
	if t == nil {
		return nil
	}
	n := t.root
	for _, name := range split(path) {
		if n, _ = n.child(name); n == nil {
			return nil
		}
	}
	return decode(n, path, v, options)
}

func decode(n *node, path string, v any, options DecodeOptions) Faults {
	d := &decoder{options: options}
	if n.kind == text && reflect.TypeOf(v).Elem().Kind() == reflect.Struct {
		return nil // a bare name has no options
	}
	d.value(n, reflect.ValueOf(v).Elem(), path, tags{ignore: options.Ignore})
	return d.faults
}

type decoder struct {
	options DecodeOptions
	faults  Faults
}

// tags are what a field's tags ask for.
type tags struct {
	one, short, rest, template, expression, sql, size, secret, masked bool
	ignore                                                            []string
}

func tagsOf(f reflect.StructField) (t tags) {
	for word := range strings.SplitSeq(f.Tag.Get("define"), ",") {
		switch word {
		case "one":
			t.one = true
		case "short":
			t.short = true
		case "rest":
			t.rest = true
		case "template":
			t.template = true
		case "expression":
			t.expression = true
		case "sql":
			t.sql = true
		case "size":
			t.size = true
		case "secret":
			t.secret = true
		case "masked":
			t.masked = true
		}
	}
	return t
}

func (d *decoder) fault(n *node, path, reason, hint string) {
	d.faults = append(d.faults, n.fault(path, reason, hint))
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

func (d *decoder) value(n *node, v reflect.Value, path string, t tags) {
	if n.kind == refused {
		return
	}
	if v.Kind() == reflect.Pointer {
		if n.kind == null {
			d.fault(n, path, "a value is missing", "write one, or leave the key out")
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, t)
		return
	}
	if reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		d.own(n, v, path)
		return
	}
	if n.kind == null && v.Kind() != reflect.Interface && v.Kind() != reflect.Map {
		hint := "write one, or leave the key out"
		if v.Kind() == reflect.String {
			hint = `quote it if it is text: "#text", "null", ""`
		}
		d.fault(n, path, "a value is missing", hint)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, path, t)
	case reflect.Map:
		d.mapping(n, v, path, t)
	case reflect.Slice:
		d.list(n, v, path, t)
	case reflect.Interface:
		v.Set(reflect.ValueOf(d.generic(n, path)))
	case reflect.String:
		if n.kind == list || n.kind == object {
			d.fault(n, path, "text is expected here, this is "+n.kind.String(), "")
			return
		}
		if t.secret || t.masked || v.Type().Implements(revealerType) {
			d.secret(n, path, t)
		}
		if filled, ok := d.text(n, path, t); ok || !t.expression {
			v.SetString(filled)
		}
	case reflect.Bool:
		n, ok := d.scalar(n, path, t)
		if !ok {
			return
		}
		if n.kind != boolean {
			d.fault(n, path, "true or false is expected here, this is "+n.kind.String(), "write true or false, without quotes")
			return
		}
		v.SetBool(n.text == "true")
	case reflect.Int, reflect.Int64:
		if n, ok := d.scalar(n, path, t); ok {
			d.integer(n, v, path, t)
		}
	default:
		panic("define: no way to decode into " + v.Type().String())
	}
}

// secret notes a secret, which may not be what secrets are shown as.
func (d *decoder) secret(n *node, path string, t tags) {
	if n.text == Masked {
		d.fault(n, path, "*** is what a secret is shown as, and there is none here that it could stand for", "write the secret, best as ${secret.NAME}")
	}
	if d.options.Secret != nil {
		written := ""
		if t.secret {
			written = n.text
		}
		d.options.Secret(path, written)
	}
}

// scalar returns text with its ${…} filled in as what it is without quotes: a number where a number is due.
func (d *decoder) scalar(n *node, path string, t tags) (*node, bool) {
	if n.kind != text || !strings.Contains(n.text, "${") {
		return n, true
	}
	filled, ok := d.text(n, path, t)
	c := *n
	c.text, c.kind = filled, plain(filled)
	return &c, ok
}

// own lets a type read its own JSON.
func (d *decoder) own(n *node, v reflect.Value, path string) {
	if !d.complete(n, path) {
		return
	}
	before := len(d.faults)
	n = d.filled(n, path)
	told := slices.Clone(d.faults[before:])
	err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(n.json(nil, 0))
	for _, f := range Decisive(told, FaultsOf(path, err)) {
		if f.Path == path {
			f.File, f.Line, f.Column = n.file, n.line, n.column
		}
		d.faults = append(d.faults, f)
	}
}

// filled returns n, whose texts are expressions and paths, with their ${…} filled in.
func (d *decoder) filled(n *node, path string) *node {
	copied := *n
	if n.kind == text {
		filled, ok := d.text(n, path, tags{expression: true})
		if copied.text = filled; !ok { // its fault is told: nothing more is to be found in it
			copied.kind, copied.text = null, "null"
		}
	}
	copied.nodes = make([]*node, len(n.nodes))
	for i, child := range n.nodes {
		copied.nodes[i] = d.filled(child, n.below(path, i))
	}
	return &copied
}

// complete reports whether each value below n is written; an explicit null is one.
func (d *decoder) complete(n *node, path string) bool {
	whole := n.kind != refused
	if n.kind == null && n.text == "" {
		d.fault(n, path, "a value is missing", `quote it if it is text: "#text"; write null for the constant`)
		return false
	}
	for i, e := range n.nodes {
		whole = d.complete(e, n.below(path, i)) && whole
	}
	return whole
}

func (d *decoder) integer(n *node, v reflect.Value, path string, t tags) {
	if v.Type() == durationType {
		duration, err := time.ParseDuration(n.text)
		if days, ok := strings.CutSuffix(n.text, "d"); ok && err != nil {
			if count, e := strconv.Atoi(days); e == nil && count >= 0 && count < 100_000 {
				duration, err = time.Duration(count)*24*time.Hour, nil
			}
		}
		if err != nil || n.kind == number || duration < 0 {
			d.fault(n, path, "a time is expected here", "write it with its unit: 500ms, 30s, 5m, 2h, 7d")
			return
		}
		v.SetInt(int64(duration))
		return
	}
	digits, factor := n.text, int64(1)
	if t.size {
		for _, unit := range []struct {
			name  string
			bytes int64
		}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
			if rest, ok := strings.CutSuffix(n.text, unit.name); ok {
				digits, factor = strings.TrimSpace(rest), unit.bytes
				break
			}
		}
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case t.size && (err != nil || i < 0 || i > math.MaxInt64/factor || n.kind > text):
		d.fault(n, path, "a size is expected here", "write it as 64MiB, 10MB or a number of bytes")
	case err != nil && n.kind == number:
		d.fault(n, path, "a whole number that is not too large is expected here", "")
	case n.kind != number && !t.size:
		hint := ""
		if n.kind == text && err == nil {
			hint = "leave out the quotes"
		}
		d.fault(n, path, "a whole number is expected here, this is "+n.kind.String(), hint)
	default:
		v.SetInt(i * factor)
	}
}

func (d *decoder) list(n *node, v reflect.Value, path string, t tags) {
	nodes := n.nodes
	if n.kind != list {
		if !t.one {
			d.fault(n, path, "a list is expected here, this is "+n.kind.String(), "")
			return
		}
		nodes = []*node{n}
	}
	out := reflect.MakeSlice(v.Type(), len(nodes), len(nodes))
	inner := t
	inner.one, inner.ignore = false, nil
	for i, e := range nodes {
		d.value(e, out.Index(i), fmt.Sprintf("%s[%d]", path, i), inner)
	}
	v.Set(out)
}

func (d *decoder) mapping(n *node, v reflect.Value, path string, t tags) {
	if n.kind == null {
		return // a section without entries
	}
	if n.kind != object {
		d.fault(n, path, "a map of keys is expected here, this is "+n.kind.String(), "")
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.names)))
	for i, name := range n.names {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(n.nodes[i], e, Join(path, name.text), t)
		v.SetMapIndex(reflect.ValueOf(name.text).Convert(v.Type().Key()), e)
	}
}

func (d *decoder) object(n *node, v reflect.Value, path string, t tags) {
	type field struct {
		value reflect.Value
		tags  tags
	}
	fields := map[string]field{}
	var names, later []string
	var rest reflect.Value
	var short *field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Name == "_" {
			later = strings.Fields(f.Tag.Get("later"))
			continue
		}
		tags := tagsOf(f)
		entry := field{v.Field(i), tags}
		if tags.short {
			short = &entry
		}
		if tags.rest {
			rest = v.Field(i)
			continue
		}
		if name := f.Tag.Get("json"); name != "" && name != "-" {
			fields[name] = entry
			names = append(names, name)
		}
	}
	if n.kind != object {
		if short == nil || n.kind == list && short.value.Kind() != reflect.Slice {
			d.fault(n, path, "a map of keys is expected here, this is "+n.kind.String(), "its keys are "+strings.Join(names, ", "))
			return
		}
		d.value(n, short.value, path, short.tags)
		return
	}
	for i, name := range n.names {
		if f, ok := fields[name.text]; ok {
			d.value(n.nodes[i], f.value, Join(path, name.text), f.tags)
		}
	}
	if r, ok := v.Addr().Interface().(interface{ TakesRest() bool }); ok && !r.TakesRest() {
		rest = reflect.Value{}
	}
	for i, name := range n.names {
		at := Join(path, name.text)
		_, ok := fields[name.text]
		switch {
		case ok:
		case slices.Contains(t.ignore, name.text):
		case slices.Contains(later, name.text):
			d.faults = append(d.faults, Fault{Path: at, File: n.nodes[i].file, Line: name.line, Column: name.column, Reason: fmt.Sprintf("key %q is not supported yet", name.text)})
		case name.text == "<<":
			d.faults = append(d.faults, Fault{Path: at, File: n.nodes[i].file, Line: name.line, Column: name.column, Reason: "definitions have no merge keys", Hint: "write the keys here, or let the whole value be an alias"})
		case rest.IsValid():
			if rest.IsNil() {
				rest.Set(reflect.ValueOf(map[string]any{}))
			}
			rest.Interface().(map[string]any)[name.text] = n.nodes[i].raw()
		default:
			hint := "there are " + strings.Join(names, ", ")
			if near := Nearest(name.text, append(slices.Clone(names), later...)); near != "" {
				hint = didYouMean(near)
			}
			d.faults = append(d.faults, Fault{Path: at, File: n.nodes[i].file, Line: name.line, Column: name.column, Reason: fmt.Sprintf("unknown key %q", name.text), Hint: hint})
		}
	}
}

// raw returns a node as Go values without filling anything in.
func (n *node) raw() any {
	switch n.kind {
	case null:
		return nil
	case boolean:
		return n.text == "true"
	case number:
		return json.Number(n.text)
	case text:
		return n.text
	case list:
		values := make([]any, len(n.nodes))
		for i, e := range n.nodes {
			values[i] = e.raw()
		}
		return values
	}
	values := make(map[string]any, len(n.names))
	for i, name := range n.names {
		values[name.text] = n.nodes[i].raw()
	}
	return values
}

// generic is raw for a field of any type.
func (d *decoder) generic(n *node, path string) any {
	if n.kind == list || n.kind == object {
		d.fault(n, path, "a single value is expected here, this is "+n.kind.String(), "")
		return ""
	}
	if v := n.raw(); v != nil {
		return v
	}
	d.fault(n, path, "a value is missing", "quote it if it is text")
	return ""
}

// text returns a scalar with the ${…} filled in that are known when it is loaded; false after a fault.
func (d *decoder) text(n *node, path string, t tags) (filled string, ok bool) {
	if !strings.Contains(n.text, "${") {
		return n.text, true
	}
	var b strings.Builder
	before := len(d.faults)
	for rest := n.text; ; {
		open := strings.Index(rest, "${")
		if open < 0 {
			b.WriteString(rest)
			return b.String(), len(d.faults) == before
		}
		offset := len(n.text) - len(rest) + open
		fault := func(reason, hint string) {
			f := n.fault(path, reason, hint)
			f.Line, f.Column = n.at(offset)
			d.faults = append(d.faults, f)
		}
		if open > 0 && rest[open-1] == '$' {
			keep := rest[:open-1] + "${"
			if t.template { // the run resolves it
				keep = rest[:open] + "${"
			}
			b.WriteString(keep)
			rest = rest[open+2:]
			continue
		}
		b.WriteString(rest[:open])
		inner, after, closed := strings.Cut(rest[open+2:], "}")
		if !closed {
			fault("${ is not closed", "write $${ for the characters themselves")
			return b.String(), false
		}
		rest = after
		reference, otherwise, hasDefault := strings.Cut(inner, "??")
		kind, name, _ := strings.Cut(strings.TrimSpace(reference), ".")
		known := kind == "env" || kind == "secret" || kind == "vars"
		switch {
		case t.sql && (!known || kind == "secret"):
			fault(fmt.Sprintf("${%s} is refused in SQL", inner), "write a bind such as :name; only env and vars are filled in here")
		case t.expression && (!known || kind == "secret"):
			hint := "only env and vars are filled in here"
			if !known {
				hint = "write " + strings.TrimSpace(inner) + " itself; " + hint
			}
			fault(fmt.Sprintf("${%s} is refused in an expression or a path", inner), hint)
		case !known && t.template:
			b.WriteString("${" + inner + "}")
		case !known:
			hint := "there are env, secret and vars here"
			if near := Nearest(kind, []string{"env", "secret", "vars"}); near != "" {
				hint = didYouMean(near)
			}
			fault(fmt.Sprintf("${%s} is not known here", inner), hint)
		default:
			value, ok := "", false
			if d.options.Lookup != nil {
				value, ok = d.options.Lookup(kind, name)
			}
			if !ok && hasDefault {
				value, ok = unquote(strings.TrimSpace(otherwise)), true
			}
			if !ok {
				fault(fmt.Sprintf("%s %s is not set", map[string]string{"env": "environment variable", "secret": "secret", "vars": "variable"}[kind], name), missingHint(kind, name))
			}
			if t.template { // a run finds no ${ in it
				value = strings.ReplaceAll(value, "${", "$${")
			}
			b.WriteString(value)
		}
	}
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func missingHint(kind, name string) string {
	switch kind {
	case "secret":
		return "a host gives it by Config.Secrets; the command takes the environment variable INTEGRATOR_SECRET_" + name + ", else the file secrets/" + name
	case "vars":
		return "define it under vars"
	}
	return "set it, or write ${env." + name + " ?? 'default'}"
}
