package jsonfmt

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/stack"
	"github.com/integrator-go/integrator/transform/internal/window"
	"github.com/integrator-go/integrator/transform/internal/word"
)

// scanner reads the values of a JSON text and checks every rule of RFC 8259 and RFC 7493 (unique names, no lone surrogates). It holds
// the token that it reads; texts without escapes are substrings of the window.
type scanner struct {
	*window.Window
	lastWins bool // names may come twice
	limits   transform.Limits
	root     *transform.Shape
	values   stack.Stack
	batch    func() *transform.Batch // in whose memory values are made
	depth    int
}

// unexpected returns the fault that something else than what is due begins here.
func (s *scanner) unexpected(due string) error {
	if s.At == len(s.Text) {
		return s.Fault(s.At, "the document ends early: %s is due", due)
	}
	for !utf8.FullRuneInString(s.Text[s.At:]) && !s.EOF {
		if err := s.Fill(); err != nil {
			return err
		}
	}
	r, size := utf8.DecodeRuneInString(s.Text[s.At:])
	if r == utf8.RuneError && size == 1 {
		return s.Fault(s.At, "this byte is no UTF-8: send the document as UTF-8")
	}
	return s.Fault(s.At, "%q stands where %s is due", r, due)
}

// more reads more of the token that begins at At, and returns where the place i of it has moved to.
func (s *scanner) more(i int, token string) (int, error) {
	if s.EOF {
		return 0, s.Fault(len(s.Text), "the document ends inside %s", token)
	}
	i -= s.At
	err := s.Fill()
	return i + s.At, err
}

// space passes over white space and returns the character behind it, 0 at the end of the document.
func (s *scanner) space() (byte, error) {
	if s.At < len(s.Text) && s.Text[s.At] > ' ' {
		return s.Text[s.At], s.Within(s.At)
	}
	return s.spaces()
}

func (s *scanner) spaces() (byte, error) {
	for {
		for ; s.At < len(s.Text); s.At++ {
			switch c := s.Text[s.At]; c {
			case ' ', '\t', '\n', '\r':
			default:
				return c, s.Within(s.At)
			}
		}
		if err := s.Within(s.At); err != nil || s.EOF {
			return 0, err
		}
		if err := s.Fill(); err != nil {
			return 0, err
		}
	}
}

// end checks that nothing follows the document.
func (s *scanner) end() error {
	if _, err := s.space(); err != nil {
		return err
	}
	if s.At < len(s.Text) {
		return s.Fault(s.At, "something follows the end of the document")
	}
	return nil
}

// value reads one value. Without build it only checks it, and what it returns means nothing. What omit leads to is left out.
func (s *scanner) value(build bool, omit transform.Selector) (transform.Value, error) {
	if len(omit) > 0 && omit[0].All {
		return transform.Null, s.Aside(s.At, s.skip)
	}
	c, err := s.space()
	if err != nil {
		return transform.Null, err
	}
	switch c {
	case '{':
		return s.object(build, omit)
	case '[':
		return s.list(build)
	case '"':
		end, escaped, err := s.text(s.limits.FieldBytes, "a text")
		if err != nil || !build {
			s.At = end
			return transform.Null, err
		}
		return transform.Text(s.take(end, escaped)), nil
	case 't':
		return transform.Bool(true), s.literal("true")
	case 'f':
		return transform.Bool(false), s.literal("false")
	case 'n':
		return transform.Null, s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number()
	}
	return transform.Null, s.unexpected("a value")
}

// skip reads a value that nobody asks for.
func (s *scanner) skip() error {
	_, err := s.value(false, nil)
	return err
}

// enter passes over the bracket that opens an object or a list.
func (s *scanner) enter() error {
	if s.depth == s.limits.Depth {
		return s.Fault(s.At, "nested deeper than %d", s.limits.Depth)
	}
	s.depth++
	s.At++
	return nil
}

func (s *scanner) object(build bool, omit transform.Selector) (transform.Value, error) {
	if err := s.enter(); err != nil {
		return transform.Null, err
	}
	fields, base := transform.NewShapeBuilder(s.root), s.values.Len()
	omitted := false
	for {
		name, i, err := s.member(&fields)
		if err != nil {
			return transform.Null, err
		}
		if i < 0 {
			break
		}
		var v transform.Value
		switch leads := len(omit) > 0 && name == omit[0].Name; {
		case leads && (len(omit) == 1 || omit[1].All):
			omitted = true
			err = s.Aside(s.At, s.skip)
		case leads:
			v, err = s.value(build, omit[1:])
		default:
			v, err = s.value(build, nil)
		}
		if err != nil {
			return transform.Null, err
		}
		switch {
		case !build:
		case base+i == s.values.Len():
			s.values.Push(v)
		default:
			s.values.Set(base+i, v) // duplicates were allowed: the last wins
		}
	}
	if !build {
		return transform.Null, nil
	}
	b := s.batch()
	object := b.Object(fields.Shape(), s.values.Take(base, b))
	if omitted {
		object = object.Without(omit[0].Name)
	}
	return object, nil
}

// member passes over what stands before the value of an object's next field. It returns the field's name and its place in fields, to
// which it is added; a place of -1 says that the object ended.
func (s *scanner) member(fields *transform.ShapeBuilder) (name string, place int, err error) {
	if name := fields.Next(); name != "" && s.expected(name, fields.Len()) {
		fields.Follow()
		return name, fields.Len() - 1, nil
	}
	c, err := s.space()
	switch {
	case err != nil:
		return "", 0, err
	case c == '}':
		s.depth--
		s.At++
		return "", -1, nil
	case fields.Len() == 0:
	case c != ',':
		return "", 0, s.unexpected("a comma or }")
	default:
		s.At++
		if c, err = s.space(); err != nil {
			return "", 0, err
		}
	}
	if c != '"' {
		return "", 0, s.unexpected("the name of a field")
	}
	end, escaped, err := s.text(s.limits.NameBytes, "a name")
	if err != nil {
		return "", 0, err
	}
	begins := s.At
	name = s.take(end, escaped)
	switch place = fields.Index(name); {
	case place >= 0 && !s.lastWins:
		return "", 0, s.Fault(begins, "the name %.100q comes twice in its object", name)
	case place < 0 && fields.Len() == s.limits.Fields:
		return "", 0, s.Fault(begins, "an object has more than %d fields", s.limits.Fields)
	case place < 0:
		place = fields.Len()
		fields.Add(name)
	}
	if c, err = s.space(); err != nil {
		return "", 0, err
	}
	if c != ':' {
		return "", 0, s.unexpected("a colon")
	}
	s.At++
	return name, place, nil
}

// expected passes over what stands before the value of an object's next field, when it is the name that is expected, written as most do.
func (s *scanner) expected(name string, before int) bool {
	rest := s.Text[s.At:]
	if before > 0 {
		if rest == "" || rest[0] != ',' {
			return false
		}
		if rest = rest[1:]; rest != "" && rest[0] == ' ' {
			rest = rest[1:]
		}
	}
	n := len(name)
	if len(rest) < n+len(`"":`) || rest[0] != '"' || rest[n+1] != '"' || rest[n+2] != ':' || rest[1:n+1] != name ||
		n > s.limits.NameBytes || before >= s.limits.Fields {
		return false
	}
	s.At = len(s.Text) - len(rest) + n + len(`"":`)
	return true
}

func (s *scanner) list(build bool) (transform.Value, error) {
	if err := s.enter(); err != nil {
		return transform.Null, err
	}
	base := s.values.Len()
	for first := true; ; first = false {
		more, err := s.element(first)
		switch {
		case err != nil:
			return transform.Null, err
		case !more && !build:
			return transform.Null, nil
		case !more:
			b := s.batch()
			return b.List(s.values.Take(base, b)), nil
		}
		v, err := s.value(build, nil)
		if err != nil {
			return transform.Null, err
		}
		if build {
			s.values.Push(v)
		}
	}
}

// element passes over what stands before a list's next value; false says that the list ended.
func (s *scanner) element(first bool) (bool, error) {
	c, err := s.space()
	switch {
	case err != nil:
		return false, err
	case c == ']':
		s.depth--
		s.At++
		return false, nil
	case first:
	case c != ',':
		return false, s.unexpected("a comma or ]")
	default:
		s.At++
	}
	return true, nil
}

func (s *scanner) literal(word string) error {
	for len(s.Text)-s.At < len(word) && !s.EOF {
		if err := s.Fill(); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(s.Text[s.At:], word) {
		return s.unexpected("a value")
	}
	s.At += len(word)
	return nil
}

func (s *scanner) number() (transform.Value, error) {
	i, limit := s.At, min(s.limits.NameBytes, s.limits.FieldBytes)
	for {
		for i < len(s.Text) && numeric[s.Text[i]] {
			i++
		}
		if i-s.At > limit {
			return transform.Null, s.Fault(s.At, "a number is longer than %d characters", limit)
		}
		if i < len(s.Text) || s.EOF {
			break
		}
		var err error
		if i, err = s.more(i, "a number"); err != nil {
			return transform.Null, err
		}
	}
	text := s.Text[s.At:i]
	if !transform.IsNumber(text) {
		return transform.Null, s.Fault(s.At, "what begins here is no number of JSON")
	}
	s.At = i
	return transform.Number(text), nil
}

// plain are the bytes of which texts consist without more ado, and numeric those of numbers.
var plain, numeric = func() (p, n [256]bool) {
	for c := ' '; c < 256; c++ {
		p[c] = c != '"' && c != '\\'
	}
	for _, c := range []byte("0123456789.-+eE") {
		n[c] = true
	}
	return p, n
}()

// text finds the end of the text in quotes that begins at At, behind its quote. Its own length is at most limit bytes.
func (s *scanner) text(limit int, what string) (end int, escaped bool, err error) {
	i := s.At + 1
	for {
		for i+word.Size <= s.Sound {
			w := word.At(s.Text, i)
			special := word.Below(w, ' ') | word.Same(w, quotes) | word.Same(w, backslashes)
			if special != 0 {
				i += word.First(special)
				break
			}
			i += word.Size
		}
		for i < s.Sound && plain[s.Text[i]] {
			i++
		}
		if i-s.At-1 > limit {
			return 0, false, s.Fault(s.At, "%s is longer than %d bytes", what, limit)
		}
		size, reason := 0, ""
		if i < len(s.Text) {
			switch c := s.Text[i]; {
			case c == '"':
				return i + 1, escaped, nil
			case c == '\\':
				escaped = true
				size, reason = escape(s.Text[i:])
			case c < ' ':
				reason = "a control character in a text is written as an escape, \\n or \\u0001"
			case !utf8.FullRuneInString(s.Text[i:]):
			default:
				var r rune
				if r, size = utf8.DecodeRuneInString(s.Text[i:]); r == utf8.RuneError && size == 1 {
					reason = "this byte is no UTF-8: send the document as UTF-8"
				}
			}
		}
		switch {
		case reason != "":
			return 0, false, s.Fault(i, "%s", reason)
		case size > 0:
			i += size
		default:
			if i, err = s.more(i, what); err != nil {
				return 0, false, err
			}
		}
	}
}

// take moves behind the text in quotes that ends at end, and returns what it stands for.
func (s *scanner) take(end int, escaped bool) string {
	text := s.Text[s.At+1 : end-1]
	s.At = end
	if escaped {
		return unescape(text)
	}
	return text
}

// escape returns the length of the escape that s begins with, 0 when s ends inside it, or what is wrong with it (RFC 8259 section 7).
func escape(s string) (size int, reason string) {
	if len(s) < 2 {
		return 0, ""
	}
	if s[1] != 'u' {
		if strings.IndexByte(`"\/bfnrt`, s[1]) < 0 {
			return 0, "the backslash begins no escape: one of its own is written twice"
		}
		return 2, ""
	}
	r, ok := hex4(s[2:])
	switch {
	case !ok && len(s) < 6:
		return 0, ""
	case !ok:
		return 0, "\\u is followed by four hexadecimal digits"
	case !utf16.IsSurrogate(r):
		return 6, ""
	}
	const lone = "half of a surrogate pair stands alone"
	if low := s[6:]; len(low) < 6 && strings.HasPrefix(`\u`, low[:min(2, len(low))]) {
		return 0, ""
	} else if second, ok := hex4(strings.TrimPrefix(low, `\u`)); !ok || !strings.HasPrefix(low, `\u`) || utf16.DecodeRune(r, second) == utf8.RuneError {
		return 0, lone
	}
	return 12, ""
}

// unescape resolves the escapes of a text that was checked.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return string(append(b, s...))
		}
		b = append(b, s[:i]...)
		size, c := 2, s[i+1]
		switch c {
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
			r, _ := hex4(s[i+2:])
			size = 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[i+8:])
				r, size = utf16.DecodeRune(r, low), 12
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, c)
		}
		s = s[i+size:]
	}
}

// hex4 reads the four hexadecimal digits that s begins with.
func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[:4]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
