package define

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// FromGo returns the set that a struct holds: the inverse of Decode. Zero fields are left out.
func FromGo(v any) (*Tree, error) {
	n, err := encode(reflect.ValueOf(v), "")
	if err != nil {
		return nil, err
	}
	if n == nil {
		n = &node{kind: object}
	}
	return &Tree{root: n}, nil
}

var (
	marshalerType = reflect.TypeFor[json.Marshaler]()
	revealerType  = reflect.TypeFor[revealer]()
)

// revealer is a secret that its definition holds in plain.
type revealer interface{ Reveal() string }

// encode returns the node of a value, nil for a zero value.
func encode(v reflect.Value, path string) (*node, error) {
	if !v.IsValid() || v.IsZero() {
		return nil, nil
	}
	if s, ok := v.Interface().(revealer); ok {
		return &node{kind: text, text: s.Reveal()}, nil
	}
	if v.Type() == durationType {
		return &node{kind: text, text: time.Duration(v.Int()).String()}, nil
	}
	if number, ok := v.Interface().(json.Number); ok {
		return parsed([]byte(number.String()), path)
	}
	if v.Type().Implements(marshalerType) {
		data, err := json.Marshal(v.Interface())
		if err != nil {
			return nil, Faults{{Path: path, Reason: err.Error()}}
		}
		return parsed(data, path)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		inner := v.Elem()
		n, err := encode(inner, path)
		if n == nil && err == nil { // a pointer to a zero value says that value
			n = zero(inner)
		}
		return n, err
	case reflect.Struct:
		return encodeStruct(v, path)
	case reflect.Map:
		n := &node{kind: object}
		keys := slices.Sorted(maps.Keys(keysOf(v)))
		for _, key := range keys {
			e, err := encode(v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key())), Join(path, key))
			if err != nil {
				return nil, err
			}
			if e == nil {
				e = zero(v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key())))
			}
			n.add(name{text: key}, e)
		}
		return n, nil
	case reflect.Slice:
		n := &node{kind: list}
		for i := range v.Len() {
			e, err := encode(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			if err != nil {
				return nil, err
			}
			if e == nil {
				e = zero(v.Index(i))
			}
			n.nodes = append(n.nodes, e)
		}
		return n, nil
	case reflect.String:
		return &node{kind: text, text: v.String()}, nil
	case reflect.Bool:
		return &node{kind: boolean, text: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &node{kind: number, text: strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Float64:
		return &node{kind: number, text: strconv.FormatFloat(v.Float(), 'f', -1, 64)}, nil
	}
	return nil, Faults{{Path: path, Reason: "a definition cannot hold a " + v.Type().String()}}
}

func keysOf(v reflect.Value) map[string]bool {
	keys := map[string]bool{}
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}

// zero is the node of a zero value that stands for itself.
func zero(v reflect.Value) *node {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return &node{kind: null}
	}
	switch v.Kind() {
	case reflect.String:
		return &node{kind: text}
	case reflect.Bool:
		return &node{kind: boolean, text: "false"}
	case reflect.Int, reflect.Int64, reflect.Float64:
		return &node{kind: number, text: "0"}
	case reflect.Slice:
		return &node{kind: list}
	}
	return &node{kind: object}
}

func encodeStruct(v reflect.Value, path string) (*node, error) {
	n := &node{kind: object}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if tagsOf(f).rest {
			rest, err := encode(v.Field(i), path)
			if err != nil {
				return nil, err
			}
			if rest != nil {
				for k, entry := range rest.names {
					n.add(entry, rest.nodes[k])
				}
			}
			continue
		}
		key := f.Tag.Get("json")
		if key == "" || key == "-" {
			continue
		}
		e, err := encode(v.Field(i), Join(path, key))
		if err != nil {
			return nil, err
		}
		if e != nil {
			n.add(name{text: key}, e)
		}
	}
	return n, nil
}

// parsed reads the JSON that a type wrote of itself.
func parsed(data []byte, path string) (*node, error) {
	p := &reader{}
	n := p.readJSON(data, "", 0)
	for i := range p.faults {
		p.faults[i].Path = Below(path, p.faults[i].Path)
	}
	if p.faults != nil {
		return nil, p.faults
	}
	return n, nil
}
