package xmlfmt

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform/internal/word"
)

// Classes of ASCII characters in names; those beyond ASCII are looked up by isNameStart and isNamePart.
const (
	nameStart = 1 << iota
	namePart
)

var ascii = func() (t [128]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', c == ':':
			t[c] = nameStart | namePart
		case '0' <= c && c <= '9', c == '-', c == '.':
			t[c] = namePart
		}
	}
	return t
}()

// isNameStart is NameStartChar of XML 1.0 (fifth edition), section 2.3, beyond ASCII.
func isNameStart(r rune) bool {
	switch {
	case 0xC0 <= r && r <= 0x2FF:
		return r != 0xD7 && r != 0xF7
	case 0x370 <= r && r <= 0x1FFF:
		return r != 0x37E
	case r == 0x200C, r == 0x200D, 0x2070 <= r && r <= 0x218F, 0x2C00 <= r && r <= 0x2FEF, 0x3001 <= r && r <= 0xD7FF,
		0xF900 <= r && r <= 0xFDCF, 0xFDF0 <= r && r <= 0xFFFD, 0x10000 <= r && r <= 0xEFFFF:
		return true
	}
	return false
}

// isNamePart is NameChar, beyond ASCII.
func isNamePart(r rune) bool {
	return isNameStart(r) || r == 0xB7 || 0x300 <= r && r <= 0x36F || r == 0x203F || r == 0x2040
}

// nameEnd returns how long the Name is that s begins with; 0 when it begins with none.
func nameEnd(s string) int {
	i := 0
	for i < len(s) {
		c := s[i]
		if c < utf8.RuneSelf {
			if want := uint8(namePart); ascii[c]&want == 0 || i == 0 && ascii[c]&nameStart == 0 {
				break
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if size == 1 || i == 0 && !isNameStart(r) || !isNamePart(r) {
			break
		}
		i += size
	}
	return i
}

// checkName returns why a name cannot be that of an element or attribute with namespaces (QName), "" when it can.
func checkName(name string) string {
	if name == "" {
		return "a name is missing"
	}
	if nameEnd(name) != len(name) {
		return fmt.Sprintf("%q is no name of an XML element", name)
	}
	return checkColon(name)
}

// checkColon returns why a name of XML is none with namespaces, "" when it is one.
func checkColon(name string) string {
	if i := strings.IndexByte(name, ':'); i >= 0 {
		if local := name[i+1:]; i == 0 || nameEnd(local) == 0 || strings.IndexByte(local, ':') >= 0 {
			return fmt.Sprintf("%q has a colon where no prefix ends", name)
		}
	}
	return ""
}

// badChar returns the place of the first character that XML cannot hold (section 2.2, Char), -1 when there is none.
func badChar(s string) int {
	for i := 0; i < len(s); {
		if i+word.Size <= len(s) {
			if w := word.At(s, i); word.Below(w, ' ')|word.High(w) == 0 {
				i += word.Size
				continue
			}
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == 0xFFFE || r == 0xFFFF {
			return i
		}
		i += size
	}
	return -1
}

// plain are the bytes of which text consists without more ado, where it is UTF-8: no <, & or ], no control characters but for tabs and line feeds, not
// the byte that U+FFFE and U+FFFF begin with.
var plain = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = c != '<' && c != '&' && c != ']' && c != 0xEF
	}
	t['\t'], t['\n'] = true, true
	return t
}()

var tags, references, brackets, last = word.Of('<'), word.Of('&'), word.Of(']'), word.Of(0xEF)

// plainEnd returns the place of the first byte of s, from i on, that is not plain; len(s) when all are.
func plainEnd(s string, i int) int {
	for i < len(s) {
		if i+word.Size <= len(s) {
			w := word.At(s, i)
			special := word.Below(w, ' ') | word.Same(w, tags) | word.Same(w, references) | word.Same(w, brackets) | word.Same(w, last)
			if special == 0 {
				i += word.Size
				continue
			}
			i += word.First(special)
		}
		if !plain[s[i]] {
			return i
		}
		i++
	}
	return i
}

func validText(s string) bool { return badChar(s) < 0 }

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// blank reports whether s is white space alone.
func blank(s string) bool {
	for i := range len(s) {
		if !isSpace(s[i]) {
			return false
		}
	}
	return true
}
