package jsonfmt

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
)

// parser makes values of JSON text that was validated already. Names are shared through shapes.
type parser struct {
	text   string
	at     int
	depth  int
	root   *transform.Shape // of the run
	limits transform.Limits
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// value reads one value. The only errors are those of limits.
func (p *parser) value() (transform.Value, error) {
	p.space()
	start := p.at
	switch p.text[p.at] {
	case '{':
		return p.object()
	case '[':
		return p.list()
	case '"':
		s, err := p.string(p.limits.FieldBytes)
		return transform.Text(s), err
	case 't':
		p.at += 4
		return transform.Bool(true), nil
	case 'f':
		p.at += 5
		return transform.Bool(false), nil
	case 'n':
		p.at += 4
		return transform.Null, nil
	}
	for p.at < len(p.text) && strings.IndexByte("+-.eE0123456789", p.text[p.at]) >= 0 {
		p.at++
	}
	if p.at-start > p.limits.NameBytes {
		return transform.Null, fmt.Errorf("a number is longer than %d digits", p.limits.NameBytes)
	}
	return transform.Number(p.text[start:p.at]), nil
}

func (p *parser) enter() error {
	if p.depth++; p.depth > p.limits.Depth {
		return fmt.Errorf("nested deeper than %d", p.limits.Depth)
	}
	p.at++
	p.space()
	return nil
}

func (p *parser) object() (transform.Value, error) {
	if err := p.enter(); err != nil {
		return transform.Null, err
	}
	object := transform.NewBuilder(p.root)
	for p.text[p.at] != '}' {
		name, err := p.string(p.limits.NameBytes)
		if err != nil {
			return transform.Null, err
		}
		p.space()
		p.at++ // :
		v, err := p.value()
		if err != nil {
			return transform.Null, err
		}
		if i := object.Index(name); i >= 0 {
			object.Set(i, v) // duplicates were allowed: the last wins
		} else {
			object.Add(name, v)
		}
		if object.Len() > p.limits.Fields {
			return transform.Null, fmt.Errorf("an object has more than %d fields", p.limits.Fields)
		}
		p.space()
		if p.text[p.at] == ',' {
			p.at++
			p.space()
		}
	}
	p.at++
	p.depth--
	return object.Object(), nil
}

func (p *parser) list() (transform.Value, error) {
	if err := p.enter(); err != nil {
		return transform.Null, err
	}
	var values []transform.Value
	for p.text[p.at] != ']' {
		v, err := p.value()
		if err != nil {
			return transform.Null, err
		}
		values = append(values, v)
		p.space()
		if p.text[p.at] == ',' {
			p.at++
			p.space()
		}
	}
	p.at++
	p.depth--
	return transform.List(values), nil
}

// string reads a string; without escapes it points into the text.
func (p *parser) string(limit int) (string, error) {
	p.at++
	start, escaped := p.at, false
	for {
		i := strings.IndexAny(p.text[p.at:], `"\`)
		p.at += i
		if p.text[p.at] == '"' {
			break
		}
		escaped = true
		p.at += 2
	}
	raw := p.text[start:p.at]
	p.at++
	if len(raw) > limit {
		return "", fmt.Errorf("a text is longer than %d bytes", limit)
	}
	if !escaped {
		return raw, nil
	}
	return unescape(raw), nil
}

// unescape resolves the escapes of RFC 8259 section 7.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) { // a pair: lone ones were refused
				r = utf16.DecodeRune(r, hex4(s[i+3:]))
				i += 6
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func hex4(s string) rune {
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}
