package define

import (
	_ "embed"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/integrator-go/integrator/transform"
)

// SchemaKinds are the kinds that a struct with a `rest` field may be of, told apart by its key `type`.
type SchemaKinds struct {
	Options  map[string]reflect.Type // structs of the kinds' own keys, by kind
	Required bool                    // `type` has to be written, as one of these
	Others   bool                    // other types are names that the set gives
	Extra    map[string]any          // schemas of keys that somebody else reads, whatever the kind
}

// SchemaOptions steer Schemas.
type SchemaOptions struct {
	// Kinds are those of each struct with a `rest` field.
	Kinds map[reflect.Type]SchemaKinds
}

// Schemas returns the JSON Schemas (2020-12) of structs as Decode fills them, by "package.Type", with those of all that they hold; references begin
// with base, such as "#/$defs/". They refuse what Decode refuses for its keys and types; what texts mean is beyond them.
func Schemas(base string, options SchemaOptions, types ...reflect.Type) map[string]any {
	s := &schemas{base: base, options: options, made: map[string]any{}}
	for _, t := range types {
		s.ref(t)
	}
	return s.made
}

type schemas struct {
	base    string
	options SchemaOptions
	made    map[string]any
}

type schema = map[string]any

// comments holds a line for each type and field that a person writes: its key, a tab, and its comment in the source. A test keeps it.
//
//go:embed comments.txt
var comments string

var documented = sync.OnceValue(func() map[string]string {
	said := map[string]string{}
	for line := range strings.Lines(comments) {
		key, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		said[key] = text
	}
	return said
})

// values are the texts that a field may have, in words. What ends with … may have others.
var values = map[string]string{
	"listener.Definition.Method":       "GET POST PUT PATCH DELETE …",
	"listener.Definition.Check":        "syntax none",
	"listener.Definition.Mode":         "async sync",
	"listener.Definition.AuthIn":       "header query",
	"flow.Param.Type":                  "text int decimal bool date",
	"flow.Destination.Action":          "insert upsert update delete replace …",
	"flow.Destination.Exists":          "replace append fail unique",
	"flow.OnReject.Action":             "stop keep",
	"flow.ScheduleDefinition.IfMissed": "run-once skip",
	"flow.ScheduleDefinition.Overlap":  "skip queue",
	"auth.UserDefinition.Role":         "viewer api operator editor admin",
	"httpclient.credentials.Type":      "bearer basic",
	"csvfmt.Options.Quoting":           "minimal all",
	"csvfmt.Options.LineEnd":           "lf crlf",
	"csvfmt.Options.Formula":           "keep escape reject",
	"jsonfmt.Options.DuplicateKeys":    "refuse last",
}

// filled is text in which something is filled in when it is loaded.
func filled() schema { return schema{"type": "string", "pattern": `\$\{`} }

// pattern is text of a form, or such that it is filled in.
func pattern(p string) schema { return schema{"type": "string", "pattern": p + `|\$\{`} }

func anyOf(of ...any) schema { return schema{"anyOf": of} }

func scalar() schema { return schema{"type": []string{"string", "number", "boolean"}} }

func keyOf(t reflect.Type) string { return path.Base(t.PkgPath()) + "." + t.Name() }

// ref returns a reference to a struct's schema, which it makes when there is none.
func (s *schemas) ref(t reflect.Type) schema {
	key := keyOf(t)
	if _, ok := s.made[key]; !ok {
		s.made[key] = nil // it may hold itself
		s.made[key] = s.object(t, key)
	}
	return schema{"$ref": s.base + key}
}

// described adds what is said of a type ("flow.Definition") or a field ("flow.Definition.Steps") to its schema.
func described(of schema, key string) schema {
	if said := documented()[key]; said != "" {
		of["description"] = said
	}
	return of
}

// properties adds those of a struct.
func (s *schemas) properties(to schema, t reflect.Type) (short reflect.StructField, rest bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tags := tagsOf(f)
		if tags.short {
			short = f
		}
		rest = rest || tags.rest
		if name := f.Tag.Get("json"); !tags.rest && f.Name != "_" && name != "" && name != "-" {
			key := keyOf(t) + "." + f.Name
			to[name] = described(s.value(f.Type, tags, key), key)
		}
	}
	return short, rest
}

func (s *schemas) object(t reflect.Type, key string) schema {
	properties := schema{}
	short, rest := s.properties(properties, t)
	made := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if kinds := s.options.Kinds[t]; rest {
		made = s.kinds(key, properties, kinds)
	}
	if short.Name != "" {
		made = anyOf(properties[short.Tag.Get("json")], made)
	}
	return described(made, key)
}

// kinds returns the schema of a struct whose other keys depend on its type.
func (s *schemas) kinds(key string, properties schema, kinds SchemaKinds) schema {
	names := slices.Sorted(maps.Keys(kinds.Options))
	if !kinds.Others && kinds.Required {
		properties["type"] = described(schema{"enum": names}, key+".Type")
	} else if len(names) > 0 {
		properties["type"] = described(schema{"type": "string", "examples": names}, key+".Type")
	}
	maps.Copy(properties, kinds.Extra)
	closed := func(properties schema) schema {
		return schema{"properties": properties, "additionalProperties": false}
	}
	var all []any
	for _, name := range names {
		own := maps.Clone(properties)
		s.properties(own, kinds.Options[name])
		s.made[key+"."+name] = closed(own)
		all = append(all, schema{"if": schema{"properties": schema{"type": schema{"const": name}}, "required": []string{"type"}}, "then": schema{"$ref": s.base + key + "." + name}})
	}
	other := schema{}
	if len(names) > 0 {
		other["type"] = schema{"not": schema{"enum": names}}
	}
	made := schema{"type": "object", "properties": schema{"type": properties["type"]}, "allOf": append(all, schema{"if": schema{"properties": other}, "then": closed(properties)})}
	if kinds.Required {
		made["required"] = []string{"type"}
	}
	return made
}

// value returns the schema of a value of a field, as decoder.value reads it.
func (s *schemas) value(t reflect.Type, tags tags, key string) schema {
	switch {
	case t.Kind() == reflect.Pointer:
		return s.value(t.Elem(), tags, key)
	case t == reflect.TypeFor[transform.Map]():
		s.term()
		return schema{"type": "object", "additionalProperties": schema{"$ref": s.base + "term"}}
	case t == reflect.TypeFor[transform.Term]():
		s.term()
		return schema{"$ref": s.base + "term"}
	case reflect.PointerTo(t).Implements(unmarshalerType):
		return schema{} // its own business
	case t == durationType:
		return pattern(`^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^[0-9]+d$`)
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.ref(t)
	case reflect.Map:
		return schema{"type": []string{"object", "null"}, "additionalProperties": s.value(t.Elem(), tags, key)}
	case reflect.Slice:
		inner := tags
		inner.one = false
		element := s.value(t.Elem(), inner, key)
		list := schema{"type": "array", "items": element}
		if tags.one {
			return anyOf(element, list)
		}
		return list
	case reflect.String:
		words := strings.Fields(values[key])
		switch {
		case len(words) == 0:
			return scalar()
		case words[len(words)-1] == "…":
			return schema{"type": "string", "examples": words[:len(words)-1]}
		}
		return anyOf(schema{"enum": words}, filled())
	case reflect.Bool:
		return anyOf(schema{"type": "boolean"}, filled())
	case reflect.Int, reflect.Int64:
		if tags.size {
			return anyOf(schema{"type": "integer", "minimum": 0}, pattern(`^[0-9]+ *([KMG]iB|[kKMG]?B)?$`))
		}
		return anyOf(schema{"type": "integer"}, filled())
	case reflect.Interface:
		return scalar()
	}
	panic("define: no schema for " + t.String())
}

// term adds the schema of what a map gives a field.
func (s *schemas) term() {
	s.made["term"] = schema{
		"description": "bare text is a path, text behind = an expression, a number, true, false or null that constant; {each: path, map: {…}} an object for each element",
		"anyOf": []any{
			schema{"type": []string{"string", "number", "boolean", "null"}},
			schema{"type": "array", "items": schema{"$ref": s.base + "term"}},
			schema{"type": "object", "additionalProperties": schema{"$ref": s.base + "term"}},
		}}
}
