package define

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// readJSON returns the document, which stands at a path so deep in a set; nil after a fault.
func (p *reader) readJSON(data []byte, at string, depth int) *node {
	if len(bytes.TrimSpace(data)) == 0 {
		return &node{kind: null}
	}
	r := &jsonReader{reader: p, data: data, line: 1, decoder: jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))}
	root, err := r.value(at, depth)
	if err == nil {
		if r.decoder.PeekKind() == 0 {
			if _, err = r.decoder.ReadToken(); err.Error() == "EOF" {
				return root
			}
		} else {
			r.seek(r.next())
			err = errors.New("a file holds one document")
		}
	}
	f := Fault{File: p.file, Line: r.line, Column: r.column(), Reason: err.Error()}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		r.seek(int(syntax.ByteOffset))
		f.Line, f.Column, f.Reason = r.line, r.column(), syntax.Err.Error()
	}
	p.faults = append(p.faults, f)
	return nil
}

// jsonReader turns JSON tokens into nodes and counts lines.
type jsonReader struct {
	*reader
	data    []byte
	decoder *jsontext.Decoder
	offset  int // where line and start are right
	line    int // from 1
	start   int // of the line
}

// next returns where the next token begins.
func (r *jsonReader) next() int {
	at := int(r.decoder.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	return at
}

// seek goes on to an offset.
func (r *jsonReader) seek(offset int) {
	for ; r.offset < min(offset, len(r.data)); r.offset++ {
		if r.data[r.offset] == '\n' {
			r.line, r.start = r.line+1, r.offset+1
		}
	}
}

// column returns the column of the offset, from 1.
func (r *jsonReader) column() int { return 1 + utf8.RuneCount(r.data[r.start:r.offset]) }

func (r *jsonReader) value(at string, depth int) (*node, error) {
	r.seek(r.next())
	n := &node{file: r.file, line: r.line, column: r.column()}
	if depth > maxDepth {
		r.faults = append(r.faults, n.fault(at, fmt.Sprintf("nested deeper than %d", maxDepth), ""))
		n.kind = refused
		return n, r.decoder.SkipValue()
	}
	token, err := r.decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		n.text = "null"
	case 't', 'f':
		n.kind, n.text = boolean, strconv.FormatBool(token.Bool())
	case '0':
		n.kind, n.text = number, token.String()
	case '"':
		n.kind, n.text, n.inset = text, token.String(), 1
	case '[':
		n.kind = list
		for r.decoder.PeekKind() != ']' {
			e, err := r.value(fmt.Sprintf("%s[%d]", at, len(n.nodes)), depth+1)
			if err != nil {
				return nil, err
			}
			n.nodes = append(n.nodes, e)
		}
		_, err = r.decoder.ReadToken()
	case '{':
		n.kind = object
		for err == nil && r.decoder.PeekKind() != '}' {
			err = r.member(n, at, depth)
		}
		if err == nil {
			_, err = r.decoder.ReadToken()
		}
	}
	return n, err
}

// member reads a name and its value into an object.
func (r *jsonReader) member(n *node, at string, depth int) error {
	r.seek(r.next())
	key := name{line: r.line, column: r.column()}
	token, err := r.decoder.ReadToken()
	if err != nil {
		return err
	}
	key.text = token.String()
	if depth == 0 && strings.HasPrefix(key.text, "x-") {
		return r.decoder.SkipValue()
	}
	read := false
	r.entry(n, at, key, func(at string) *node {
		read = true
		var value *node
		value, err = r.value(at, depth+1)
		return value
	})
	if !read {
		return r.decoder.SkipValue()
	}
	return err
}
