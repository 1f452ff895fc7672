package transform

import "strings"

// ShapeBuilder collects the names of one object's fields, and shares the shape of short ones. The builders of one run start from one
// root shape. A builder is used by one goroutine.
type ShapeBuilder struct {
	shape  *Shape
	names  []string       // of an object with many fields, whose shape is its own
	places map[string]int // of the names
}

// sharedFields is how many fields an object may have for its shape to be shared: Shape.With copies the names.
const sharedFields = 64

// NewShapeBuilder returns a builder without names.
func NewShapeBuilder(root *Shape) ShapeBuilder { return ShapeBuilder{shape: root} }

// Len returns the number of names.
func (b *ShapeBuilder) Len() int {
	if b.names != nil {
		return len(b.names)
	}
	return b.shape.Len()
}

// Index returns the place of the name, -1 when there is none.
func (b *ShapeBuilder) Index(name string) int {
	if b.names == nil {
		return b.shape.Index(name)
	}
	if i, ok := b.places[name]; ok {
		return i
	}
	return -1
}

// Next returns the name that an object of this form is most likely to have next: what followed when the names so far were met first. It is one
// of letters, digits, _ and - that every format writes as it is, and not among the names there are; "" when there is none. [ShapeBuilder.Follow]
// adds it.
func (b *ShapeBuilder) Next() string {
	if b.names != nil {
		return ""
	}
	children := b.shape.children.Load()
	if children == nil || !(*children)[0].simple {
		return ""
	}
	next := (*children)[0].names
	return next[len(next)-1]
}

// Follow adds the name that Next has returned.
func (b *ShapeBuilder) Follow() { b.shape = (*b.shape.children.Load())[0] }

// Add adds a name, which must not be among those there are.
func (b *ShapeBuilder) Add(name string) {
	if b.names == nil && b.shape.Len() < sharedFields {
		b.shape = b.shape.With(name)
		return
	}
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

// Shape returns the shape with the names in the order they were added.
func (b *ShapeBuilder) Shape() *Shape {
	if b.names != nil {
		return NewShape(b.names...)
	}
	return b.shape
}

// Builder collects the fields of one object. A builder is used by one goroutine, for one object.
type Builder struct {
	names  ShapeBuilder
	values []Value
}

// NewBuilder returns a builder of an object without fields.
func NewBuilder(root *Shape) Builder { return Builder{names: NewShapeBuilder(root)} }

// Index returns the place of the field with that name, -1 when there is none.
func (b *Builder) Index(name string) int { return b.names.Index(name) }

// Add adds a field, whose name must not be among those there are.
func (b *Builder) Add(name string, v Value) {
	b.names.Add(name)
	b.values = append(b.values, v)
}

// Object returns the object. The builder is not used afterwards.
func (b *Builder) Object() Value { return NewObject(b.names.Shape(), b.values) }
