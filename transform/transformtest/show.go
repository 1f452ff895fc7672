package transformtest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// Show writes a value with its kinds: {a: null, b: 1.50, c: "text", d: 'untyped', e: [true, bytes "x"]}.
func Show(v transform.Value) string {
	var b strings.Builder
	show(&b, v)
	return b.String()
}

func show(b *strings.Builder, v transform.Value) {
	switch v.Kind() {
	case transform.KindNull:
		b.WriteString("null")
	case transform.KindText:
		b.WriteString(strconv.Quote(v.Text()))
	case transform.KindUntyped:
		quoted := strconv.Quote(v.Text())
		b.WriteString("'" + strings.ReplaceAll(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), "'", `\'`) + "'")
	case transform.KindBytes:
		b.WriteString("bytes " + strconv.Quote(v.Text()))
	case transform.KindObject:
		b.WriteByte('{')
		separator := ""
		for name, field := range v.Fields() {
			b.WriteString(separator)
			if strings.ContainsAny(name, "{}[]:,'\"\\ ") || name == "" || strconv.Quote(name) != `"`+name+`"` {
				name = strconv.Quote(name)
			}
			b.WriteString(name + ": ")
			show(b, field)
			separator = ", "
		}
		b.WriteByte('}')
	case transform.KindList:
		b.WriteByte('[')
		for i, e := range v.Values() {
			if i > 0 {
				b.WriteString(", ")
			}
			show(b, e)
		}
		b.WriteByte(']')
	default:
		b.WriteString(v.Text())
	}
}

// ShowRecord writes a record on one line: where it begins, what it holds, what encloses it, its text, and why it is rejected.
func ShowRecord(r transform.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d line %d: ", r.Index, r.Line)
	show(&b, r.Value)
	if r.Scope != nil {
		fmt.Fprintf(&b, "\n\tparent %s doc %s", Show(r.Scope.Parent), Show(r.Scope.Doc))
	}
	if r.Raw != "" {
		fmt.Fprintf(&b, "\n\traw %s", strconv.Quote(r.Raw))
	}
	if r.Err != nil {
		fmt.Fprintf(&b, "\n\trejected: %v", r.Err)
	}
	return b.String()
}
