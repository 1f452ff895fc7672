package xmlfmt

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
	"github.com/integrator-go/integrator/transform/internal/window"
)

// kind says what a token is.
type kind uint8

const (
	startTag kind = iota
	endTag
	text
)

// scanner finds the tokens of a document and checks that it is well-formed. A token that the end of the window cuts is scanned again
// with more of it. Comments and processing instructions are checked and passed over.
type scanner struct {
	*window.Window
	limits transform.Limits

	includes bool // XInclude's namespace was declared somewhere

	// The token found last.
	kind    kind
	name    string      // of a tag
	attrs   []attribute // of a start tag, in the order they are written
	content string      // of a text, with references resolved
	begins  int         // where it begins in Text

	open     []element // the elements that are open
	owned    int       // how many of them own has copied
	bindings []binding // of prefixes to namespaces, the innermost last
	pending  bool      // an empty-element tag was given as a start tag: its end tag comes next
	started  bool
	root     bool // the root element was seen
}

type attribute struct{ name, value string }

type element struct {
	name     string
	bindings int // how many there were outside of it
}

type binding struct{ prefix, uri string }

const (
	xmlURI   = "http://www.w3.org/XML/1998/namespace"
	xmlnsURI = "http://www.w3.org/2000/xmlns/"

	includeURI = "http://www.w3.org/2001/XInclude"
)

func newScanner(r io.Reader, limits transform.Limits) *scanner {
	return &scanner{Window: window.New("xml", r), limits: limits}
}

// errMore says that a token goes on behind the text that was read.
var errMore = errors.New("the token goes on")

// start reads the beginning of the document: its encoding and its declaration.
func (s *scanner) start() error {
	if err := s.StartIn(nil); err != nil {
		return err
	}
	marked := s.At > 0
	if h := s.Text; !marked && len(h) > 1 && (h[0] == 0 || h[1] == 0) {
		return s.Fault(0, "the document is UTF-16 without a byte order mark: send it with one, or as UTF-8")
	}
	for len(s.Text)-s.At < len("<?xml ") && !s.EOF {
		if err := s.Fill(); err != nil {
			return err
		}
	}
	if rest := s.Text[s.At:]; !strings.HasPrefix(rest, "<?xml") || len(rest) > 5 && !isSpace(rest[5]) {
		return nil
	}
	for {
		end := strings.Index(s.Text[s.At:], "?>")
		if end > maxDeclaration || end < 0 && (s.EOF || len(s.Text)-s.At > maxDeclaration) {
			return s.Fault(s.At, "the XML declaration does not end")
		}
		if end >= 0 {
			return s.declaration(end, marked)
		}
		if err := s.Fill(); err != nil {
			return err
		}
	}
}

// maxDeclaration is how long the XML declaration may be.
const maxDeclaration = 4 << 10

// declaration reads the XML declaration that begins at At, behind a byte order mark when the document is marked, and changes to the encoding
// that it names.
func (s *scanner) declaration(end int, marked bool) error {
	text := s.Text[s.At : s.At+end]
	if !validDeclaration(text[len("<?xml"):]) {
		return s.Fault(s.At, `the XML declaration is not as <?xml version="1.0" encoding="UTF-8"?>`)
	}
	declared := pseudoAttribute(text, "encoding")
	encoding, ok := charset.Find(cmp.Or(declared, s.Charset().Name()))
	switch {
	case !ok:
		return s.Fault(s.At, "the encoding %.40q is not supported: send the document as UTF-8", declared)
	case encoding.Wide() != s.Charset().Wide() || marked && !encoding.Wide() && encoding != nil:
		return s.Fault(s.At, "the document is declared as %s and is %s", encoding, s.Charset())
	}
	s.At += end + len("?>")
	if encoding != nil && !encoding.Wide() {
		s.Recode(encoding)
	}
	return nil
}

// pseudoAttribute returns the value of an attribute of the XML declaration.
func pseudoAttribute(declaration, name string) string {
	_, rest, _ := strings.Cut(declaration, name)
	rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " \t\r\n"), "=")
	if !ok {
		return ""
	}
	rest = strings.TrimLeft(rest, " \t\r\n")
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	value, _, _ := strings.Cut(rest[1:], rest[:1])
	return value
}

// validDeclaration checks what stands between <?xml and ?> (section 2.8, XMLDecl).
func validDeclaration(s string) bool {
	for i, known := range []string{"version", "encoding", "standalone"} {
		trimmed := strings.TrimLeft(s, " \t\r\n")
		rest, ok := strings.CutPrefix(trimmed, known)
		if !ok {
			if i == 0 {
				return false
			}
			continue
		}
		if len(trimmed) == len(s) {
			return false // no space before it
		}
		rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t\r\n"), "=")
		if !ok {
			return false
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" || rest[0] != '"' && rest[0] != '\'' {
			return false
		}
		value, after, ok := strings.Cut(rest[1:], rest[:1])
		if !ok || !validDeclared(known, value) {
			return false
		}
		s = after
	}
	return blank(s)
}

func validDeclared(name, value string) bool {
	switch name {
	case "version":
		digits, ok := strings.CutPrefix(value, "1.")
		return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
	case "encoding":
		for i, c := range []byte(value) {
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
			if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '.' || c == '_' || c == '-')) {
				return false
			}
		}
		return value != ""
	}
	return value == "yes" || value == "no"
}

// next finds the next token. It returns io.EOF behind the document.
func (s *scanner) next() error {
	if !s.started {
		s.started = true
		if err := s.start(); err != nil {
			return err
		}
	}
	if s.pending {
		s.pending = false
		s.kind = endTag
		s.close()
		return nil
	}
	for {
		s.begins = s.At
		found, err := s.scan()
		if err == errMore {
			found = false
			if err = s.within(len(s.Text)); err == nil {
				s.own()
				err = s.Fill()
			}
		} else if err == nil {
			err = s.within(s.At)
		}
		if err != nil || found {
			return err
		}
	}
}

// own makes copies of what is known of the open elements: the memory of the text that it comes from may be used again.
func (s *scanner) own() {
	for i := s.owned; i < len(s.open); i++ {
		s.open[i].name = strings.Clone(s.open[i].name)
		for k := s.open[i].bindings; k < len(s.bindings); k++ {
			s.bindings[k] = binding{strings.Clone(s.bindings[k].prefix), strings.Clone(s.bindings[k].uri)}
		}
	}
	s.owned = len(s.open)
}

// within returns the fault that the token is too long if it reaches to end. What a token holds is looked at after that.
func (s *scanner) within(end int) error {
	if end-s.begins > s.limits.FieldBytes {
		return s.tooLong()
	}
	return nil
}

func (s *scanner) tooLong() error {
	return s.Fault(s.begins, "what begins here is longer than %d bytes", s.limits.FieldBytes)
}

// more says that the token goes on, or that it cannot because the document ends.
func (s *scanner) more(what string) error {
	if s.EOF {
		return s.fault(len(s.Text), "the document ends inside "+what)
	}
	return errMore
}

// scan reads one piece of the document; found is false when it is one that nobody asks for.
func (s *scanner) scan() (found bool, err error) {
	rest := s.Text[s.At:]
	switch {
	case rest == "":
		if !s.EOF {
			return false, errMore
		}
		switch {
		case len(s.open) > 0:
			return false, s.fault(s.At, fmt.Sprintf("the document ends before </%s>", s.open[len(s.open)-1].name))
		case !s.root:
			return false, s.fault(s.At, "the document is empty")
		}
		return false, io.EOF
	case rest[0] != '<':
		return s.text(rest)
	case !s.EOF && (beginsWith("<![CDATA[", rest) || beginsWith("<!DOCTYPE", rest) || beginsWith("<!--", rest)):
		return false, errMore
	case strings.HasPrefix(rest, "</"):
		return true, s.endTag(rest)
	case strings.HasPrefix(rest, "<!--"):
		return false, s.comment(rest)
	case strings.HasPrefix(rest, "<![CDATA["):
		return s.cdata(rest)
	case strings.HasPrefix(rest, "<!DOCTYPE"):
		return false, s.fault(s.At, "a DOCTYPE is refused: leave it out and write entities as characters")
	case strings.HasPrefix(rest, "<!"):
		return false, s.fault(s.At, "<! begins neither a comment nor a CDATA section")
	case strings.HasPrefix(rest, "<?"):
		return false, s.instruction(rest)
	}
	return true, s.startTag(rest)
}

// beginsWith reports whether rest is what begins a longer mark, which may go on behind the window.
func beginsWith(mark, rest string) bool { return len(rest) < len(mark) && mark[:len(rest)] == rest }

// text reads characters up to the next tag.
func (s *scanner) text(rest string) (bool, error) {
	if len(s.open) == 0 {
		after := strings.TrimLeft(rest, " \t\r\n")
		s.At += len(rest) - len(after)
		s.begins = s.At
		switch {
		case after != "" && after[0] != '<':
			return false, s.fault(s.At, "text stands outside the root element")
		case after == "" && !s.EOF:
			return false, errMore
		}
		return false, nil
	}
	if end := plainEnd(rest, 0); end < len(rest) && rest[end] == '<' && s.At+end <= s.Sound {
		if err := s.within(s.At + end); err != nil {
			return false, err
		}
		s.kind, s.content = text, rest[:end]
		s.At += end
		return true, nil
	}
	end := strings.IndexByte(rest, '<')
	if end < 0 {
		if !s.EOF {
			return false, errMore
		}
		end = len(rest)
	}
	if err := s.within(s.At + end); err != nil {
		return false, err
	}
	raw := rest[:end]
	if i := strings.Index(raw, "]]>"); i >= 0 {
		return false, s.fault(s.At+i, "]]> cannot be part of text: write ]]&gt;")
	}
	content, err := s.resolve(raw, s.At, false)
	if err != nil {
		return false, err
	}
	s.kind, s.content = text, content
	s.At += end
	return true, nil
}

// resolve returns text or an attribute's value with references resolved and line ends normalised. at is where it stands.
func (s *scanner) resolve(raw string, at int, value bool) (string, error) {
	if i := badChar(raw); i >= 0 {
		return "", s.badChar(at + i)
	}
	if strings.IndexByte(raw, '&') < 0 && strings.IndexByte(raw, '\r') < 0 && !(value && strings.ContainsAny(raw, "\n\t")) {
		return raw, nil
	}
	special := "&\r"
	if value {
		special = "&\r\n\t"
	}
	i := strings.IndexAny(raw, special)
	b := make([]byte, 0, len(raw))
	for start := 0; ; {
		b = append(b, raw[start:i]...)
		switch raw[i] {
		case '&':
			semicolon := strings.IndexByte(raw[i:], ';') // a reference that goes on far is read once, or is a fault
			if semicolon < 0 || semicolon > 64 && raw[i+1] != '#' {
				return "", s.fault(at+i, "& begins no reference: write &amp;")
			}
			r, reason := reference(raw[i+1 : i+semicolon])
			if reason != "" {
				return "", s.fault(at+i, reason)
			}
			b = utf8.AppendRune(b, r)
			i += semicolon
		case '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
			if value {
				b = append(b, ' ')
			} else {
				b = append(b, '\n')
			}
		default:
			b = append(b, ' ')
		}
		start = i + 1
		next := strings.IndexAny(raw[start:], special)
		if next < 0 {
			return string(append(b, raw[start:]...)), nil
		}
		i = start + next
	}
}

// reference returns the character that the reference between & and ; stands for (sections 4.1 and 4.6), or why it stands for none.
func reference(name string) (rune, string) {
	switch name {
	case "lt":
		return '<', ""
	case "gt":
		return '>', ""
	case "amp":
		return '&', ""
	case "apos":
		return '\'', ""
	case "quot":
		return '"', ""
	}
	digits, numeric := strings.CutPrefix(name, "#")
	if !numeric {
		return 0, fmt.Sprintf("the entity %.40q is not known: write the character, or &#…;", name)
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || strings.ContainsAny(digits, "+_") || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) || badChar(string(rune(n))) >= 0 {
		return 0, "the reference stands for no character of XML"
	}
	return rune(n), ""
}

func (s *scanner) badChar(at int) error {
	if r, size := utf8.DecodeRuneInString(s.Text[at:]); r == utf8.RuneError && size == 1 {
		if err := s.within(at); err != nil {
			return err
		}
		return s.NoCharacter(at)
	}
	return s.fault(at, "a control character cannot be part of XML")
}

// comment passes over <!-- … -->.
func (s *scanner) comment(rest string) error {
	body := rest[len("<!--"):]
	end := strings.Index(body, "--")
	if end < 0 || end+2 == len(body) {
		return s.more("a comment")
	}
	at := s.At + len("<!--")
	if err := s.within(at + end + len("-->")); err != nil {
		return err
	}
	if body[end+2] != '>' {
		return s.fault(at+end, "-- cannot be part of a comment")
	}
	if i := badChar(body[:end]); i >= 0 {
		return s.badChar(at + i)
	}
	s.At = at + end + len("-->")
	return nil
}

// cdata reads <![CDATA[ … ]]>.
func (s *scanner) cdata(rest string) (bool, error) {
	if len(s.open) == 0 {
		return false, s.fault(s.At, "a CDATA section stands outside the root element")
	}
	body := rest[len("<![CDATA["):]
	end := strings.Index(body, "]]>")
	if end < 0 {
		return false, s.more("a CDATA section")
	}
	at := s.At + len("<![CDATA[")
	if err := s.within(at + end + len("]]>")); err != nil {
		return false, err
	}
	if i := badChar(body[:end]); i >= 0 {
		return false, s.badChar(at + i)
	}
	s.kind, s.content = text, strings.ReplaceAll(strings.ReplaceAll(body[:end], "\r\n", "\n"), "\r", "\n")
	s.At = at + end + len("]]>")
	return true, nil
}

// instruction passes over <?target … ?>.
func (s *scanner) instruction(rest string) error {
	body, _, ended := strings.Cut(rest[len("<?"):], "?>")
	if !ended {
		return s.more("a processing instruction")
	}
	if err := s.within(s.At + len("<?") + len(body) + len("?>")); err != nil {
		return err
	}
	n := nameEnd(body)
	switch {
	case n == 0 || strings.IndexByte(body[:n], ':') >= 0:
		return s.fault(s.At, "a processing instruction begins with its target")
	case strings.EqualFold(body[:n], "xml"):
		return s.fault(s.At, "an XML declaration stands at the very start of a document")
	case n < len(body) && !isSpace(body[n]):
		return s.fault(s.At+2+n, "a space is missing behind the target of a processing instruction")
	}
	if i := badChar(body); i >= 0 {
		return s.badChar(s.At + 2 + i)
	}
	s.At += len("<?") + len(body) + len("?>")
	return nil
}

// qname reads the name at rest[i:] and returns its end.
func (s *scanner) qname(rest string, i int, what string) (int, error) {
	n := nameEnd(rest[i:])
	if n > s.limits.NameBytes {
		return 0, s.fault(s.At+i, fmt.Sprintf("a name is longer than %d bytes", s.limits.NameBytes))
	}
	if i+n == len(rest) || !utf8.FullRuneInString(rest[i+n:]) && !s.EOF {
		return 0, s.more("a tag")
	}
	if n == 0 {
		return 0, s.fault(s.At+i, "the name of "+what+" is missing")
	}
	if reason := checkColon(rest[i : i+n]); reason != "" {
		return 0, s.fault(s.At+i, reason)
	}
	return i + n, nil
}

func skipSpace(rest string, i int) int {
	for i < len(rest) && isSpace(rest[i]) {
		i++
	}
	return i
}

// startTag reads <name attributes> or <name attributes/>.
func (s *scanner) startTag(rest string) error {
	if s.root && len(s.open) == 0 {
		return s.fault(s.At, "a second element follows the root element")
	}
	i, err := s.qname(rest, 1, "an element")
	if err != nil {
		return err
	}
	name := rest[1:i]
	s.attrs = s.attrs[:0]
	empty := false
	for {
		space := skipSpace(rest, i)
		if space == len(rest) || rest[space] == '/' && space+1 == len(rest) {
			return s.more("a tag")
		}
		if rest[space] == '>' {
			i = space + 1
			break
		}
		if rest[space] == '/' {
			if rest[space+1] != '>' {
				return s.fault(s.At+space, "/ in a tag stands before > only")
			}
			i, empty = space+2, true
			break
		}
		if space == i {
			return s.fault(s.At+i, "a space is missing before an attribute")
		}
		if i, err = s.attr(rest, space); err != nil {
			return err
		}
		if len(s.attrs) > s.limits.Attributes {
			return s.fault(s.At, fmt.Sprintf("the element has more than %d attributes", s.limits.Attributes))
		}
	}
	if err := s.within(s.At + i); err != nil {
		return err
	}
	if len(s.open) >= s.limits.Depth {
		return s.fault(s.At, fmt.Sprintf("nested deeper than %d", s.limits.Depth))
	}
	s.open = append(s.open, element{name, len(s.bindings)})
	if err := s.namespaces(name); err != nil {
		return err
	}
	s.kind, s.name, s.root, s.pending = startTag, name, true, empty
	s.At += i
	return nil
}

// attr reads the attribute at rest[i:].
func (s *scanner) attr(rest string, i int) (int, error) {
	begins := i
	i, err := s.qname(rest, i, "an attribute")
	if err != nil {
		return 0, err
	}
	name := rest[begins:i]
	i = skipSpace(rest, i)
	if i == len(rest) {
		return 0, s.more("a tag")
	}
	if rest[i] != '=' {
		return 0, s.fault(s.At+i, fmt.Sprintf("the attribute %s has no value", name))
	}
	i = skipSpace(rest, i+1)
	if i == len(rest) {
		return 0, s.more("a tag")
	}
	quote := rest[i : i+1]
	if quote != `"` && quote != "'" {
		return 0, s.fault(s.At+i, "an attribute's value stands in quotes")
	}
	i++
	raw, _, closed := strings.Cut(rest[i:], quote)
	if k := strings.IndexByte(raw, '<'); k >= 0 {
		return 0, s.fault(s.At+i+k, "< cannot be part of an attribute's value: write &lt;, or close the quote")
	}
	if !closed {
		return 0, s.more("an attribute's value")
	}
	if err := s.within(s.At + i + len(raw) + 1); err != nil {
		return 0, err
	}
	value, err := s.resolve(raw, s.At+i, true)
	if err != nil {
		return 0, err
	}
	s.attrs = append(s.attrs, attribute{name, value})
	return i + len(raw) + 1, nil
}

// namespaces notes the declarations of the start tag and checks that prefixes are bound and attributes differ.
func (s *scanner) namespaces(name string) error {
	prefixed := strings.IndexByte(name, ':') >= 0
	for _, a := range s.attrs {
		prefix, ok := declares(a.name)
		if !ok {
			prefixed = prefixed || strings.IndexByte(a.name, ':') >= 0
			continue
		}
		reason := ""
		switch {
		case prefix == "xmlns" || a.value == xmlnsURI:
			reason = "the namespace xmlns is XML's own and is not declared"
		case (prefix == "xml") != (a.value == xmlURI):
			reason = "the prefix xml and its namespace belong to each other"
		case prefix != "" && a.value == "":
			reason = fmt.Sprintf("the prefix %s is bound to nothing", prefix)
		}
		if reason != "" {
			return s.fault(s.At, reason)
		}
		if len(s.bindings) == s.limits.Attributes {
			return s.fault(s.At, fmt.Sprintf("more than %d namespace declarations are in force", s.limits.Attributes))
		}
		s.bindings = append(s.bindings, binding{prefix, a.value})
		s.includes = s.includes || a.value == includeURI
	}
	if s.includes {
		prefix, _, ok := strings.Cut(name, ":")
		if !ok {
			prefix = ""
		}
		if s.lookup(prefix) == includeURI {
			return s.fault(s.At, "an XInclude is refused: send the document whole")
		}
	}
	if prefixed {
		for i := -1; i < len(s.attrs); i++ {
			n := name
			if i >= 0 {
				n = s.attrs[i].name
			}
			prefix, _, ok := strings.Cut(n, ":")
			if !ok || prefix == "xml" || i >= 0 && prefix == "xmlns" {
				continue
			}
			if s.lookup(prefix) == "" {
				return s.fault(s.At, fmt.Sprintf("the prefix %s is not declared", prefix))
			}
		}
	}
	return s.unique(prefixed)
}

// declares returns the prefix that the attribute declares, "" for the default namespace.
func declares(name string) (prefix string, ok bool) {
	if name == "xmlns" {
		return "", true
	}
	return strings.CutPrefix(name, "xmlns:")
}

// lookup returns the namespace that a prefix is bound to, "" for none.
func (s *scanner) lookup(prefix string) string {
	for i := len(s.bindings) - 1; i >= 0; i-- {
		if s.bindings[i].prefix == prefix {
			return s.bindings[i].uri
		}
	}
	return ""
}

// unique checks that no attribute comes twice, also under different prefixes of one namespace.
func (s *scanner) unique(prefixed bool) error {
	if len(s.attrs) < 2 {
		return nil
	}
	if !prefixed && len(s.attrs) <= 8 {
		for i := range s.attrs {
			for _, b := range s.attrs[i+1:] {
				if s.attrs[i].name == b.name {
					return s.fault(s.At, fmt.Sprintf("the attribute %s comes twice", b.name))
				}
			}
		}
		return nil
	}
	seen := make(map[[2]string]bool, len(s.attrs))
	for _, a := range s.attrs {
		key := [2]string{"", a.name}
		if prefix, local, ok := strings.Cut(a.name, ":"); ok && prefix != "xmlns" && prefix != "xml" {
			key = [2]string{s.lookup(prefix), local}
		}
		if seen[key] {
			return s.fault(s.At, fmt.Sprintf("the attribute %s comes twice", a.name))
		}
		seen[key] = true
	}
	return nil
}

// endTag reads </name>.
func (s *scanner) endTag(rest string) error {
	if len(s.open) == 0 {
		return s.fault(s.At, "an end tag stands outside the root element")
	}
	want := s.open[len(s.open)-1].name
	if after, ok := strings.CutPrefix(rest[len("</"):], want); ok && after != "" && after[0] == '>' {
		s.kind = endTag
		s.At += len("</>") + len(want)
		s.close()
		return nil
	}
	i, err := s.qname(rest, 2, "an element")
	if err != nil {
		return err
	}
	if rest[2:i] != want {
		return s.fault(s.At, fmt.Sprintf("</%.100s> does not close <%.100s>", rest[2:i], want))
	}
	i = skipSpace(rest, i)
	if i == len(rest) {
		return s.more("a tag")
	}
	if rest[i] != '>' {
		return s.fault(s.At+i, "> is missing in an end tag")
	}
	s.kind = endTag
	s.At += i + 1
	s.close()
	return nil
}

// close closes the innermost element.
func (s *scanner) close() {
	top := s.open[len(s.open)-1]
	s.name, s.open, s.bindings = top.name, s.open[:len(s.open)-1], s.bindings[:top.bindings]
	s.owned = min(s.owned, len(s.open))
}

// fault returns a document fault at a place of the token.
func (s *scanner) fault(at int, reason string) error {
	if err := s.within(at); err != nil {
		return err // which comes first, however much was read at once
	}
	return s.Fault(at, "%s", reason)
}
