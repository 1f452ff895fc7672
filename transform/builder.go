package transform

import "strings"

// Builder collects the fields of one object, and shares the shape of short ones. Builders of one run start from one root shape. A
// builder is used by one goroutine, for one object.
type Builder struct {
	shape  *Shape
	names  []string       // of an object with many fields, whose shape is its own
	places map[string]int // of the names
	values []Value
}

// sharedFields is how many fields an object may have for its shape to be shared: Shape.With copies the names.
const sharedFields = 64

// NewBuilder returns a builder of an object without fields.
func NewBuilder(root *Shape) Builder { return Builder{shape: root} }

// Len returns the number of fields.
func (b *Builder) Len() int { return len(b.values) }

// Index returns the place of the field with that name, -1 when there is none.
func (b *Builder) Index(name string) int {
	if b.names == nil {
		return b.shape.Index(name)
	}
	if i, ok := b.places[name]; ok {
		return i
	}
	return -1
}

// Add adds a field, whose name must not be among those there are.
func (b *Builder) Add(name string, v Value) {
	switch {
	case b.names == nil && len(b.values) < sharedFields:
		b.shape = b.shape.With(name)
	default:
		if b.names == nil {
			b.places = make(map[string]int, 2*sharedFields)
			for i := range b.shape.Len() {
				b.names = append(b.names, b.shape.Name(i))
				b.places[b.shape.Name(i)] = i
			}
		}
		name = strings.Clone(name)
		b.places[name] = len(b.names)
		b.names = append(b.names, name)
	}
	b.values = append(b.values, v)
}

// At returns the value of the i-th field.
func (b *Builder) At(i int) Value { return b.values[i] }

// Set replaces the value of the i-th field.
func (b *Builder) Set(i int, v Value) { b.values[i] = v }

// Object returns the object. The builder is not used afterwards.
func (b *Builder) Object() Value {
	if b.names != nil {
		b.shape = NewShape(b.names...)
	}
	return NewObject(b.shape, b.values)
}
