package transform

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"
)

// Kind says what a [Value] holds.
type Kind uint8

const (
	KindNull    Kind = iota // nothing; the kind of the zero Value
	KindBool                // true or false
	KindNumber              // a number, kept as the text it was written with
	KindText                // text that the source says is text
	KindUntyped             // text of a source without types (CSV, XML, forms): it counts as a number where one is due and it reads as one
	KindBytes               // raw bytes, as a BLOB column holds them
	KindObject              // named fields in order
	KindList                // values in order
)

// String returns the kind's name as messages use it.
func (k Kind) String() string {
	switch k {
	case KindNull:
		return "null"
	case KindBool:
		return "bool"
	case KindNumber:
		return "number"
	case KindText, KindUntyped:
		return "text"
	case KindBytes:
		return "bytes"
	case KindObject:
		return "object"
	case KindList:
		return "list"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Value is one value of a record: null, a bool, a number, text, bytes, an object or a list. The zero Value is null.
//
// Values never change: a step that changes a record gives it a new Value, and the old one, held by a reject or by another
// destination, stays what it was. So Values may be copied and read from several goroutines freely. Text may point into the buffer
// that a decoder read; who keeps a Value longer than its run calls [Value.Clone], so that it does not hold that buffer in memory.
type Value struct {
	_    [0]func()      // no ==, which would compare where texts lie
	at   unsafe.Pointer // the bytes of a text, or the *node of an object or list
	size uint64         // of the text in bytes, 0 for objects and lists; the kind is in the lowest byte
}

// A value is two words, because records are made of little else: half of what a string, a pointer and a kind take, and one pointer for the collector
// to follow. The functions below up to node are all that knows.

// scalar returns a value whose text is s.
func scalar(kind Kind, s string) Value {
	return Value{at: unsafe.Pointer(unsafe.StringData(s)), size: uint64(len(s))<<8 | uint64(kind)}
}

// whole returns a value that is made of others.
func whole(kind Kind, n *node) Value { return Value{at: unsafe.Pointer(n), size: uint64(kind)} }

// Kind says what the value holds.
func (v Value) Kind() Kind { return Kind(v.size) }

// Text returns text, untyped text, bytes, the digits of a number, "true" or "false"; "" for null, objects and lists.
func (v Value) Text() string { return unsafe.String((*byte)(v.at), v.size>>8) }

// same reports whether v and w lie in the same memory, so that they are equal; false says nothing.
func (v Value) same(w Value) bool { return v.at == w.at && v.size == w.size }

// node returns the body of an object or list, nil for everything else.
func (v Value) node() *node {
	if v.Kind() < KindObject {
		return nil
	}
	return (*node)(v.at)
}

// node is the body of an object (shape is set) or of a list (shape is nil).
type node struct {
	shape  *Shape
	values []Value
}

// Null is the null value, the same as the zero Value.
var Null = Value{}

// Bool returns a bool.
func Bool(b bool) Value {
	if b {
		return scalar(KindBool, "true")
	}
	return scalar(KindBool, "false")
}

// Text returns text. Decoders promise valid UTF-8; so does everything in this module that makes text.
func Text(s string) Value { return scalar(KindText, s) }

// Untyped returns text of a source that knows no types.
func Untyped(s string) Value { return scalar(KindUntyped, s) }

// Bytes returns raw bytes.
func Bytes(s string) Value { return scalar(KindBytes, s) }

// Int returns a number.
func Int(i int64) Value { return scalar(KindNumber, strconv.FormatInt(i, 10)) }

// Number returns the number that text writes, digit for digit. The text must be a number of RFC 8259 section 6; callers that are
// not sure ask [IsNumber] first.
func Number(text string) Value { return scalar(KindNumber, text) }

// List returns a list of values. It keeps the slice: the caller does not change it afterwards.
func List(values []Value) Value { return whole(KindList, &node{values: values}) }

// NewObject returns an object with the names of shape and one value for each of them. It keeps the slice: the caller does not change
// it afterwards. It panics when the counts differ.
func NewObject(shape *Shape, values []Value) Value {
	if len(values) != len(shape.names) {
		panic("transform: an object needs one value for each name of its shape")
	}
	return whole(KindObject, &node{shape: shape, values: values})
}

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.Kind() == KindNull }

// IsTrue reports whether the value is the bool true.
func (v Value) IsTrue() bool { return v.Kind() == KindBool && v.Text() == "true" }

// IsText reports whether the value is text, typed or not.
func (v Value) IsText() bool { return v.Kind() == KindText || v.Kind() == KindUntyped }

// Len returns the number of fields of an object or of values of a list; 0 for everything else.
func (v Value) Len() int {
	if n := v.node(); n != nil {
		return len(n.values)
	}
	return 0
}

// At returns the i-th value of a list or the value of the i-th field of an object. It panics when there is none.
func (v Value) At(i int) Value { return v.node().values[i] }

// Shape returns the names of an object's fields; nil when v is no object.
func (v Value) Shape() *Shape {
	if n := v.node(); n != nil {
		return n.shape
	}
	return nil
}

// Get returns the value of the field with that name; false when v is no object or has no such field.
func (v Value) Get(name string) (Value, bool) {
	if v.Kind() != KindObject {
		return Value{}, false
	}
	if i := v.node().shape.Index(name); i >= 0 {
		return v.node().values[i], true
	}
	return Value{}, false
}

// Field returns the value of the field with that name; null when there is none.
func (v Value) Field(name string) Value {
	f, _ := v.Get(name)
	return f
}

// With returns the object with that field replaced, or added at the end. Anything that is no object counts as one without fields.
func (v Value) With(name string, value Value) Value {
	if v.Kind() != KindObject {
		return NewObject(NewShape(name), []Value{value})
	}
	n := v.node()
	if i := n.shape.Index(name); i >= 0 {
		values := slices.Clone(n.values)
		values[i] = value
		return whole(KindObject, &node{shape: n.shape, values: values})
	}
	values := make([]Value, len(n.values)+1)
	copy(values, n.values)
	values[len(n.values)] = value
	return whole(KindObject, &node{shape: n.shape.With(name), values: values})
}

// Without returns the object without the named fields.
func (v Value) Without(names ...string) Value { return v.without(NewShape(), names) }

// without is Without with the root of the new object's shape.
func (v Value) without(root *Shape, names []string) Value {
	if v.Kind() != KindObject {
		return v
	}
	object := NewBuilder(root)
	for name, value := range v.Fields() {
		if !slices.Contains(names, name) {
			object.Add(name, value)
		}
	}
	return object.Object()
}

// Fields walks over an object's fields in order; it yields nothing for anything else.
func (v Value) Fields() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != KindObject {
			return
		}
		for i, name := range v.node().shape.names {
			if !yield(name, v.node().values[i]) {
				return
			}
		}
	}
}

// Values walks over a list's values in order. A value that is no list is walked over as if it were a list of one, and null as an
// empty one, so that one-or-many never matters to who reads.
func (v Value) Values() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		switch v.Kind() {
		case KindNull:
		case KindList:
			for i, e := range v.node().values {
				if !yield(i, e) {
					return
				}
			}
		default:
			yield(0, v)
		}
	}
}

// Clone returns a deep copy that shares no memory with v.
func (v Value) Clone() Value {
	n := v.node()
	if n == nil {
		return scalar(v.Kind(), strings.Clone(v.Text()))
	}
	values := make([]Value, len(n.values))
	for i, e := range n.values {
		values[i] = e.Clone()
	}
	return whole(v.Kind(), &node{shape: n.shape, values: values})
}

// IsNumber reports whether s is a number of RFC 8259 section 6, no more and no less: no blanks, no leading zeros, no plus sign.
func IsNumber(s string) bool {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	whole := i
	i = digits(s, i)
	if i == whole || s[whole] == '0' && i > whole+1 {
		return false
	}
	if i < len(s) && s[i] == '.' {
		point := i + 1
		if i = digits(s, point); i == point {
			return false
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		exponent := i
		if i = digits(s, i); i == exponent {
			return false
		}
	}
	return i == len(s)
}

// digits returns where the digits that stand at s[i:] end.
func digits(s string, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}

// Shape is the list of field names that the objects of one form share. Shapes never change and are safe for concurrent use; two
// objects that were built by the same decoder with the same names in the same order have the same *Shape, so that what was found out
// for one of them (where a field stands) holds for all.
type Shape struct {
	names    []string
	index    map[string]int // set for long shapes only
	children atomic.Pointer[[]*Shape]
	family   *family
	simple   bool // the last name is simple
}

// simpleName reports whether a name is written as it is in every format: letters of ASCII, digits, _ and - behind the first.
func simpleName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '_', i > 0 && ('0' <= c && c <= '9' || c == '-'):
		default:
			return false
		}
	}
	return name != ""
}

// family bounds what one tree of shapes remembers: input with ever new names must not fill the memory.
type family struct {
	shapes atomic.Int64 // remembered, or made beside those that are
	bytes  atomic.Int64 // of names and lists of them, approximately
}

// SharedRoot is a root of shapes for all decoders of a format: small documents of one form then have their shapes in common, and none has to
// learn its names anew. When it has been filled with names it is replaced. The zero value is ready; it is safe for concurrent use.
type SharedRoot struct{ shape atomic.Pointer[Shape] }

// maxShared is how many bytes of names a root may hold before it is replaced.
const maxShared = 1 << 20

// Shape returns the root to begin a document with.
func (r *SharedRoot) Shape() *Shape {
	if s := r.shape.Load(); s != nil && s.family.bytes.Load() < maxShared && s.family.shapes.Load() < maxFamily {
		return s
	}
	s := NewShape()
	r.shape.Store(s)
	return s
}

const (
	maxFamily      = 10_000 // shapes remembered below one root
	maxChildren    = 64     // shapes remembered directly below one shape
	linearShapeLen = 8      // up to here a search along the names is faster than a map
)

// NewShape returns the root of a new tree of shapes with these names, which must differ from each other. A decoder makes one root
// for each run and derives its shapes from it with [Shape.With].
func NewShape(names ...string) *Shape {
	return newShape(slices.Clone(names), &family{})
}

func newShape(names []string, f *family) *Shape {
	s := &Shape{names: names, family: f}
	if len(names) > linearShapeLen {
		s.index = make(map[string]int, len(names))
		for i, n := range names {
			s.index[n] = i
		}
	}
	return s
}

// Len returns the number of names.
func (s *Shape) Len() int { return len(s.names) }

// Name returns the i-th name.
func (s *Shape) Name(i int) string { return s.names[i] }

// Index returns the position of the name, -1 when there is none.
func (s *Shape) Index(name string) int {
	if s.index != nil {
		if i, ok := s.index[name]; ok {
			return i
		}
		return -1
	}
	for i, n := range s.names {
		if n == name {
			return i
		}
	}
	return -1
}

// With returns the shape with one more name at its end, which must not be among its names yet. Asked again it returns the same
// *Shape, as long as its tree has room to remember it.
func (s *Shape) With(name string) *Shape {
	children := s.children.Load()
	if children != nil {
		for _, c := range *children {
			if c.names[len(c.names)-1] == name {
				return c
			}
		}
	}
	names := make([]string, len(s.names)+1)
	copy(names, s.names)
	names[len(s.names)] = strings.Clone(name)
	c := newShape(names, s.family)
	c.simple = simpleName(name)
	if s.family.shapes.Add(1) <= maxFamily && (children == nil || len(*children) < maxChildren) {
		s.family.bytes.Add(int64(len(name) + 16*len(names)))
		var more []*Shape
		if children != nil {
			more = slices.Clone(*children)
		}
		more = append(more, c)
		s.children.CompareAndSwap(children, &more) // lost: another goroutine remembered one first; c is as good, only not shared
	}
	return c
}

// Record is one row or document on its way through a run.
type Record struct {
	Value  Value  // what steps see as `this`; an object nearly always
	Source Value  // the record as it was decoded, for a reject's source fields
	Scope  *Scope // what encloses the record in its document; nil when it encloses itself
	Index  int64  // position in the run's source, from 0
	Split  string // position in the lists along which steps have split the source's record, from 0, as in "3" or "3.2"; "": it was not split
	Line   int64  // line of the source where the record starts, from 1; 0 where lines mean nothing
	Raw    string // the record's own text in the source, when DecodeOptions.Raw asked for it
	Err    error  // set: the record is rejected for this reason, most often a *Fault
}

// Place tells the record from all others of its run: its index, and behind a point where it was split off.
func (r *Record) Place() string {
	place := strconv.FormatInt(r.Index, 10)
	if r.Split != "" {
		place += "." + r.Split
	}
	return place
}

// index is the record's position among those that it is one of: in the list that it was split off, or in the run's source.
func (r *Record) index() Value {
	if r.Split == "" {
		return Int(r.Index)
	}
	return Number(r.Split[strings.LastIndexByte(r.Split, '.')+1:])
}

// SourceScope returns the scope that the source gave the record, however often it was split since.
func (r *Record) SourceScope() *Scope {
	s := r.Scope
	for split := r.Split; split != "" && s != nil; {
		s = s.outer
		split = split[:max(0, strings.LastIndexByte(split, '.'))]
	}
	return s
}

// Scope is what stands around the records of one list in a document.
type Scope struct {
	Parent Value // the element that encloses the list, without the list
	Doc    Value // the whole document without its record list

	outer *Scope // of the record that a step has split
}

// Fault says why a record was rejected.
type Fault struct {
	Kind   string // failure kind: input, refused
	Step   string // where: "decode", a step such as "map" or "reject 3", or a destination's connection
	Field  string // the field or column at fault; "" when it is the whole record
	Reason string // what is wrong and what would be right, without payload values
	Err    error  // cause, may be nil
}

// Error returns the reason with the place before it.
func (f *Fault) Error() string {
	var b strings.Builder
	if f.Step != "" {
		b.WriteString(f.Step + ": ")
	}
	if f.Field != "" {
		b.WriteString(strconv.Quote(f.Field) + ": ")
	}
	b.WriteString(f.Reason)
	return b.String()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }
