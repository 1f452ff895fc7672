package formfmt

import (
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// scanner finds the pairs of a document. A pair that the end of the window cuts is scanned again with more of it.
type scanner struct {
	*window.Window
	limits transform.Limits
	keep   bool   // the text of the document
	raw    string // it, at the end
	size   int64  // of it
}

// most is how long the escapes of one byte may be.
const most = len("%XX")

// pairs calls add with each name and its value, up to the end of the document.
func (s *scanner) pairs(add func(name, value string)) error {
	if err := s.Start(); err != nil {
		return err
	}
	s.Begin(s.At, s.limits.RecordBytes, s.keep)
	for count := 0; ; {
		rest := s.Text[s.At:]
		end := strings.IndexByte(rest, '&')
		whole := end >= 0
		if !whole { // what is behind it may be the line end behind the document
			end, whole = len(strings.TrimSuffix(strings.TrimSuffix(rest, "\n"), "\r")), s.EOF
		}
		pair := rest[:end]
		name, value, both := strings.Cut(pair, "=")
		if err := s.bounded(s.At, name, s.limits.NameBytes, "name"); err != nil {
			return err
		}
		at := s.At + len(name) + len("=")
		if err := s.bounded(at, value, s.limits.FieldBytes, "value"); both && err != nil {
			return err
		}
		if err := s.Within(s.At + end); err != nil {
			return err
		}
		if !whole {
			if err := s.Fill(); err != nil {
				return err
			}
			continue
		}
		if pair != "" {
			if count++; count > s.limits.Fields {
				return s.Fault(s.At, "the form has more than %d values", s.limits.Fields)
			}
			var err error
			if name, err = s.unescape(s.At, name, s.limits.NameBytes, "name"); err != nil {
				return err
			}
			if value, err = s.unescape(at, value, s.limits.FieldBytes, "value"); err != nil {
				return err
			}
			add(name, value)
		}
		if end == len(rest) || rest[end] != '&' { // the last one
			s.At += end
			if s.keep {
				s.raw = s.Kept()
			}
			var err error
			s.size, err = s.Finish(s.At)
			return err
		}
		s.At += end + len("&")
	}
}

// bounded returns the fault that what begins at a place is too long whatever its escapes stand for.
func (s *scanner) bounded(at int, escaped string, limit int, what string) error {
	if len(escaped)/most <= limit {
		return nil
	}
	if err := s.Within(at + most*(limit+1)); err != nil {
		return err
	}
	return s.tooLong(at, limit, what)
}

func (s *scanner) tooLong(at, limit int, what string) error {
	return s.Fault(at, "the %s that begins here is longer than %d bytes", what, limit)
}

// unescape returns what a name or value stands for, which begins at a place.
func (s *scanner) unescape(at int, escaped string, limit int, what string) (string, error) {
	var b strings.Builder
	plain := 0 // what is not yet in b begins here
	for i := 0; i < len(escaped); {
		switch c := escaped[i]; {
		case c == '+':
			b.WriteString(escaped[plain:i])
			b.WriteByte(' ')
			i++
			plain = i
		case c == '%':
			char, ok := byte(0), false
			if i+most <= len(escaped) {
				char, ok = unhex(escaped[i+1], escaped[i+2])
			}
			if !ok {
				return "", s.Fault(at+i, "two hexadecimal digits follow a percent sign: write %%25 for the sign itself")
			}
			b.WriteString(escaped[plain:i])
			b.WriteByte(char)
			i += most
			plain = i
		case c < ' ' || c == 0x7f:
			return "", s.Fault(at+i, "a control character stands here as it is: write %%%02X", c)
		default:
			i++
		}
	}
	text := escaped
	if b.Len() > 0 {
		b.WriteString(escaped[plain:])
		text = b.String()
	}
	if len(text) > limit {
		return "", s.tooLong(at, limit, what)
	}
	if !utf8.ValidString(text) {
		return "", s.noUTF8(at, escaped, text)
	}
	return text, nil
}

// noUTF8 returns the fault where a text that escapes stand for is no UTF-8.
func (s *scanner) noUTF8(at int, escaped, text string) error {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		for range size {
			if escaped[0] == '%' {
				at, escaped = at+most, escaped[most:]
			} else {
				at, escaped = at+1, escaped[1:]
			}
		}
		i += size
	}
	if escaped[0] == '%' {
		return s.Fault(at, "this escape gives no UTF-8")
	}
	return s.NoCharacter(at)
}

// unhex returns the byte that two hexadecimal digits write.
func unhex(high, low byte) (byte, bool) {
	h, ok := digit(high)
	l, both := digit(low)
	return h<<4 | l, ok && both
}

func digit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
