// Package charset reads and writes documents of other character encodings than UTF-8, strictly: a byte that means nothing in an encoding is
// never taken for a character, and a character that an encoding lacks is never written as another one.
package charset

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"

	"github.com/integrator-go/integrator/transform"
)

// Charset is a character encoding: one of single bytes, or UTF-16. A nil Charset is UTF-8. It never changes.
type Charset struct {
	name   string
	chars  [256]rune               // by byte, of an encoding of single bytes; nothing where one means nothing
	encode func(rune) (byte, bool) // the other way round
	order  interface {             // of UTF-16; nil: single bytes
		binary.ByteOrder
		binary.AppendByteOrder
	}
	marked bool // UTF-16 whose order its byte order mark tells; written little-endian
}

// nothing is what a byte without a meaning stands for.
const nothing = utf8.RuneError

// invalid is the byte that is read in place of one without a meaning. It is in no UTF-8, so that who reads the text finds it there.
const invalid = 0xff

// ByteOrderMark is what a document in UTF-8 or UTF-16 may begin with.
const ByteOrderMark = "\uFEFF"

var (
	marked = &Charset{name: "utf-16", order: binary.LittleEndian, marked: true}
	little = &Charset{name: "utf-16le", order: binary.LittleEndian}
	big    = &Charset{name: "utf-16be", order: binary.BigEndian}
)

// dos are encodings that the WHATWG's index does not have.
var dos = map[string]*charmap.Charmap{"ibm437": charmap.CodePage437, "ibm850": charmap.CodePage850, "ibm852": charmap.CodePage852, "ibm858": charmap.CodePage858}

// Find returns the encoding of that name, in any case. There are UTF-8, UTF-16 and US-ASCII, the encodings of single bytes that the WHATWG's
// Encoding Standard has, under each of its labels, ISO-8859-1 and ISO-8859-9 as themselves, and the code pages 437, 850, 852 and 858.
func Find(name string) (c *Charset, ok bool) {
	name = strings.ToLower(name)
	switch name {
	case "utf-8", "utf8":
		return nil, true
	case marked.name:
		return marked, true
	case little.name:
		return little, true
	case big.name:
		return big, true
	case "us-ascii", "ascii":
		c := &Charset{name: "us-ascii", encode: func(r rune) (byte, bool) { return byte(r), r < utf8.RuneSelf }}
		for i := range c.chars {
			c.chars[i] = nothing
			if i < utf8.RuneSelf {
				c.chars[i] = rune(i)
			}
		}
		return c, true
	}
	page, ok := strings.CutPrefix(name, "cp")
	if ok {
		page = "ibm" + page
	} else {
		page = name
	}
	m := dos[page]
	if m == nil {
		e, _ := htmlindex.Get(name)
		if m, ok = e.(*charmap.Charmap); !ok {
			return nil, false
		}
		page, _ = htmlindex.Name(m)
		switch { // which browsers read as their supersets
		case m == charmap.Windows1252 && !strings.HasSuffix(name, "1252"):
			m, page = charmap.ISO8859_1, "iso-8859-1"
		case m == charmap.Windows1254 && !strings.HasSuffix(name, "1254"):
			m, page = charmap.ISO8859_9, "iso-8859-9"
		}
	}
	c = &Charset{name: page, encode: m.EncodeRune}
	for i := range c.chars {
		c.chars[i] = m.DecodeByte(byte(i))
	}
	return c, true
}

// Option returns the encoding that the option `encoding` of a format names; none is UTF-8. The error is a *transform.DefinitionError.
func Option(name string) (*Charset, error) {
	if name == "" {
		return nil, nil
	}
	c, ok := Find(name)
	if !ok {
		return nil, &transform.DefinitionError{Path: "encoding", Reason: fmt.Sprintf("the encoding %q is not known", name),
			Hint: "there are utf-8, utf-16, us-ascii, windows-1252 and other windows-…, iso-8859-1 to -16, ibm850 and other encodings of single bytes"}
	}
	return c, nil
}

// Marked returns the encoding that a document's byte order mark tells. UTF-16's is part of what it reads.
func Marked(begin string) (c *Charset, ok bool) {
	switch {
	case strings.HasPrefix(begin, ByteOrderMark):
		return nil, true
	case strings.HasPrefix(begin, "\xff\xfe"):
		return little, true
	case strings.HasPrefix(begin, "\xfe\xff"):
		return big, true
	}
	return nil, false
}

// Name returns the name that media types have for it.
func (c *Charset) Name() string {
	if c == nil {
		return "utf-8"
	}
	return c.name
}

// String returns the name for messages.
func (c *Charset) String() string {
	if name := c.Name(); !strings.HasPrefix(name, "windows") {
		return strings.ToUpper(name)
	}
	return c.name
}

// Wide reports whether it is UTF-16.
func (c *Charset) Wide() bool { return c != nil && c.order != nil }

// NeedsMark reports whether a document must begin with a byte order mark.
func (c *Charset) NeedsMark() bool { return c != nil && c.marked }

// Mistaken reports whether a document that begins with s would be taken to begin with a byte order mark.
func (c *Charset) Mistaken(s string) bool {
	switch {
	case s == "" || s[0] < utf8.RuneSelf || c.NeedsMark(): // which stands before it
		return false
	case c == nil:
		return strings.HasPrefix(s, ByteOrderMark)
	}
	var begin []byte
	for _, r := range s {
		if _, lacks := c.Lacks(string(r)); lacks || len(begin) >= len(ByteOrderMark) {
			break
		}
		begin = c.Append(begin, []byte(string(r)))
	}
	_, ok := Marked(string(begin))
	return ok
}

// Width returns how many bytes of a document became s.
func (c *Charset) Width(s string) int64 {
	switch {
	case c == nil:
		return int64(len(s))
	case c.order == nil:
		return int64(utf8.RuneCountInString(s))
	}
	n := int64(0)
	for _, r := range s {
		n += 2 * int64(utf16.RuneLen(r))
	}
	return n
}

// Lacks returns the first character of s that it lacks.
func (c *Charset) Lacks(s string) (r rune, lacks bool) {
	if c == nil || c.order != nil {
		return 0, false
	}
	for _, r := range s {
		if _, ok := c.encode(r); !ok {
			return r, true
		}
	}
	return 0, false
}

// Append appends a text, none of whose characters it lacks.
func (c *Charset) Append(b []byte, text []byte) []byte {
	switch {
	case c == nil:
		return append(b, text...)
	case c.order != nil:
		for _, r := range string(text) {
			if r1, r2 := utf16.EncodeRune(r); r1 != nothing {
				b = c.order.AppendUint16(b, uint16(r1))
				r = r2
			}
			b = c.order.AppendUint16(b, uint16(r))
		}
		return b
	}
	for _, r := range string(text) {
		char, _ := c.encode(r)
		b = append(b, char)
	}
	return b
}

// Writer returns a writer of texts. Each call writes whole characters, none of which the encoding lacks.
func (c *Charset) Writer(w io.Writer) io.Writer {
	if c == nil {
		return w
	}
	return &writer{w: w, charset: c}
}

type writer struct {
	w       io.Writer
	charset *Charset
	buf     []byte
}

func (w *writer) Write(text []byte) (int, error) {
	w.buf = w.charset.Append(w.buf[:0], text)
	if _, err := w.w.Write(w.buf); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Reader returns a reader of the text of a document. Bytes that mean nothing are no UTF-8 in it.
func (c *Charset) Reader(r io.Reader) io.Reader { return &reader{r: r, charset: c} }

type reader struct {
	r       io.Reader
	charset *Charset
	err     error
	buf     [16 << 10]byte
	raw     []byte // in buf: read and not decoded
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) < utf8.UTFMax {
		return 0, io.ErrShortBuffer
	}
	n, used := r.decode(p)
	r.raw = r.raw[used:]
	if n == 0 && r.err == nil {
		kept := copy(r.buf[:], r.raw) // of a character that goes on
		more := 0
		more, r.err = r.r.Read(r.buf[kept:])
		r.raw = r.buf[:kept+more]
		n, used = r.decode(p)
		r.raw = r.raw[used:]
	}
	if n > 0 && len(r.raw) > 0 {
		return n, nil
	}
	return n, r.err
}

// decode puts text into p, and returns how much and of how many bytes.
func (r *reader) decode(p []byte) (n, used int) {
	if r.charset.order != nil {
		return r.decodeWide(p)
	}
	for used < len(r.raw) && len(p)-n >= utf8.UTFMax {
		char := r.charset.chars[r.raw[used]]
		used++
		switch {
		case char < utf8.RuneSelf:
			p[n] = byte(char)
			n++
		case char == nothing:
			p[n] = invalid
			n++
		default:
			n += utf8.EncodeRune(p[n:], char)
		}
	}
	return n, used
}

func (r *reader) decodeWide(p []byte) (n, used int) {
	order := r.charset.order
	for used < len(r.raw) && len(p)-n >= utf8.UTFMax {
		rest := r.raw[used:]
		char, size, whole := rune(0), min(2, len(rest)), len(rest) >= 2
		if whole {
			char = rune(order.Uint16(rest))
		}
		if utf16.IsSurrogate(char) {
			if whole = len(rest) >= 4; whole {
				if pair := utf16.DecodeRune(char, rune(order.Uint16(rest[2:]))); pair != nothing {
					char, size = pair, 4
				}
			}
		}
		if !whole && r.err != io.EOF {
			break // it goes on
		}
		used += size
		if whole && !utf16.IsSurrogate(char) {
			n += utf8.EncodeRune(p[n:], char)
		} else {
			p[n] = invalid
			n++
		}
	}
	return n, used
}
