// Package window gives a scanner of text the piece of a document that it looks at. The piece is one immutable string, so that what is
// found in it may be kept as substrings; where it ends too early, more is read behind it. The window knows where its places stand in the
// document, and bounds how long a record may be.
package window

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/charset"
)

// Window is a piece of a document. A scanner looks at Text from At on, and moves on by setting At.
type Window struct {
	Text  string
	At    int
	Sound int          // up to here Text is UTF-8; what stands there is no character, or the beginning of one that goes on behind Text
	EOF   bool         // Text ends where the document ends
	Wait  func() error // called before the reader is waited for, if set; its error is that of Fill

	format  string           // of faults
	charset *charset.Charset // that Text was decoded from
	r       io.Reader
	err     error // of r, behind Text
	offset  int64 // of Text in the text of the document
	mark    place // where lines were counted to: At or a place before it

	record record // that is read
	keep   int    // place in Text that must stay for it; -1: none

	// Pinned says that texts are held which are in no batch yet: the memory that they lie in is not used again.
	Pinned bool

	shelf *shelf // of the pieces of memory that Text is in; nil: each Text has its own
	piece *piece // that Text is in
}

// place is a place in Text whose line and column are known.
type place struct {
	at           int
	line, column int64 // from 1, the column in characters
	offset       int64 // in the bytes of the document
	cr           bool  // a CR stands before it, so that a LF belongs to the line end that was counted
}

type record struct {
	begins place
	offset int64  // where it begins in the text of the document
	most   uint64 // offset behind which it is too long
	limit  int
}

const (
	readSize      = 64 << 10
	maxEmptyReads = 100
)

// scratches are buffers of readSize that are read into before what came becomes text: most documents are much smaller than one.
var scratches = sync.Pool{New: func() any { return new([readSize]byte) }}

// New returns the window at the start of what r reads.
func New(format string, r io.Reader) *Window {
	w := Of(format, "", 1, 0)
	w.r, w.EOF = r, false
	return &w
}

// Of returns the window over a text that is there already: a line of a document.
func Of(format, text string, line, offset int64) Window {
	return Window{Text: text, Sound: sound(text, 0), EOF: true, format: format, offset: offset, mark: place{line: line, column: 1, offset: offset}, record: record{most: math.MaxUint64}, keep: -1}
}

// Line makes the window that over a line: a piece of w's text that begins at a place, as Of does.
func (w *Window) Line(over *Window, text string, at int, line, offset int64) {
	end := len(text)
	if at+end > w.Sound {
		end = sound(text, 0)
	}
	*over = Window{Text: text, Sound: end, EOF: true, format: w.format, offset: offset, mark: place{line: line, column: 1, offset: offset}, record: record{most: math.MaxUint64}, keep: -1}
}

// Lend makes texts lie in memory that is used again when the batches that have some of them, by Hold, are recycled. It is for scanners that keep
// no text over a Fill, or say so by Pinned.
func (w *Window) Lend() { w.shelf = &shelf{} }

// Hold lends Text to a batch, whose records have texts in it.
func (w *Window) Hold(b *transform.Batch) {
	if w.piece != nil {
		w.piece.lent.Add(1)
		b.Hold(w.piece)
	}
}

// Recode makes what comes behind At be read in another encoding.
func (w *Window) Recode(c *charset.Charset) {
	var behind io.Reader = failing{w.err}
	if w.err == nil {
		behind = w.r
	}
	w.mark = w.place(w.At)
	w.r, w.err = c.Reader(io.MultiReader(strings.NewReader(w.Text[w.At:]), behind)), nil
	w.Text, w.Sound, w.EOF, w.charset = w.Text[:w.At], min(w.Sound, w.At), false, c
}

// Charset returns the encoding of what stands at At.
func (w *Window) Charset() *charset.Charset { return w.charset }

// failing is a reader that has nothing but a fault.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Start reads the first bytes, and passes over a byte order mark.
func (w *Window) Start() error {
	if err := w.first(); err != nil {
		return err
	}
	if strings.HasPrefix(w.Text, charset.ByteOrderMark) {
		w.At = len(charset.ByteOrderMark)
		w.mark = place{at: w.At, line: 1, column: 1, offset: w.charset.Width(charset.ByteOrderMark)}
	}
	return nil
}

// StartIn is Start of a document in some encoding, unless a byte order mark tells another one: no text begins as one of them by chance.
func (w *Window) StartIn(c *charset.Charset) error {
	if err := w.first(); err != nil {
		return err
	}
	if told, ok := charset.Marked(w.Text); ok {
		c = told
	} else if c.NeedsMark() && w.Text != "" {
		return w.Fault(0, "the document has no byte order mark, which would say what sort of UTF-16 it is: name the encoding utf-16le or utf-16be")
	}
	if c != nil {
		w.Recode(c)
	}
	return w.Start()
}

// first reads the first bytes: as many as a byte order mark has.
func (w *Window) first() error {
	for len(w.Text) < len(charset.ByteOrderMark) && !w.EOF {
		if err := w.Fill(); err != nil {
			return err
		}
	}
	return nil
}

// Fill reads more behind Text and lets go of what stands before At, or before the record that is kept. Long pieces are read in growing
// portions, so that scanning them again costs a constant factor only. At the end of the document it sets EOF; other faults of the
// reader are returned wrapped, once what was read before them has been given.
func (w *Window) Fill() error {
	if w.Wait != nil {
		if err := w.Wait(); err != nil {
			return err
		}
	}
	if w.err != nil && w.err != io.EOF {
		return w.fault()
	}
	keep := w.At
	if w.keep >= 0 {
		keep = w.keep
	}
	least := 1
	if unread := len(w.Text) - keep; unread > readSize {
		least = unread
	}
	behind := w.piece != nil && len(w.piece.bytes)-len(w.Text) >= max(least, readSize/4) // little was read: there is room for more
	if behind {
		keep = 0
	}
	if w.keep >= 0 {
		w.keep -= keep
	}
	rest := w.Text[keep:]
	piece := w.piece
	var scratch []byte // what is read
	switch {
	case behind:
		scratch = piece.bytes[len(rest):]
	case w.shelf != nil && w.Text != "": // a small document is in the first Text
		piece = w.shelf.take(len(rest) + max(least, readSize) + utf8.UTFMax) // a decoder needs room for a character
		scratch = piece.bytes[copy(piece.bytes, rest):]
	case least > readSize:
		scratch = make([]byte, least+utf8.UTFMax)
	default:
		pooled := scratches.Get().(*[readSize]byte)
		defer scratches.Put(pooled)
		scratch = pooled[:]
	}
	n := 0
	var whole text
	if r, ok := w.r.(*strings.Reader); ok && rest == "" && w.err == nil {
		r.WriteTo(&whole) // all of it, which is text already
		n, w.err = len(whole), io.EOF
	}
	for empty := 0; n < least && w.err == nil; {
		var more int
		more, w.err = w.r.Read(scratch[n:])
		n += more
		if more > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && w.err == nil {
			w.err = io.ErrNoProgress
		}
	}
	w.EOF = w.err == io.EOF
	if n == 0 && !w.EOF {
		return w.fault()
	}
	if w.mark.at < keep {
		w.mark = w.place(keep)
	}
	w.offset += int64(keep)
	w.mark.at -= keep
	w.At -= keep
	switch {
	case whole != "":
		w.Text = string(whole)
	case piece == nil:
		w.Text = rest + string(scratch[:n])
	default:
		w.Text = unsafe.String(unsafe.SliceData(piece.bytes), len(rest)+n) // what it shows is not written to while it is lent
		if w.piece != nil && w.piece != piece && !w.Pinned {
			w.piece.Release()
		}
		w.piece = piece
	}
	w.Sound = sound(w.Text, max(w.Sound-keep, 0))
	return nil
}

// text takes what a strings.Reader has without a copy.
type text string

func (t *text) Write(p []byte) (int, error) { return t.WriteString(string(p)) }

func (t *text) WriteString(s string) (int, error) {
	*t = text(s)
	return len(s), nil
}

// sound returns up to where a text is UTF-8, which it is up to a place.
func sound(text string, from int) int {
	end := len(text)
	for i := end - 1; i >= max(from, end-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				end = i
			}
			break
		}
	}
	if utf8.ValidString(text[from:end]) {
		return end
	}
	for from < end {
		r, size := utf8.DecodeRuneInString(text[from:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		from += size
	}
	return from
}

func (w *Window) fault() error { return fmt.Errorf("read %s: %w", w.format, w.err) }

// place returns where a place of Text at or behind the mark stands.
func (w *Window) place(at int) place {
	p := w.mark
	passed := w.Text[p.at:at]
	p.at, p.offset = at, p.offset+w.charset.Width(passed)
	if !p.cr && strings.IndexByte(passed, '\r') < 0 {
		if last := strings.LastIndexByte(passed, '\n'); last >= 0 {
			p.line, p.column = p.line+int64(strings.Count(passed, "\n")), 1
			passed = passed[last+1:]
		}
		p.column += int64(utf8.RuneCountInString(passed))
		return p
	}
	for _, c := range passed {
		switch {
		case c == '\n' && p.cr:
		case c == '\n' || c == '\r': // a CR alone ends a line too
			p.line, p.column = p.line+1, 1
		default:
			p.column++
		}
		p.cr = c == '\r'
	}
	return p
}

// Offset returns how many bytes of the document's text stand before At.
func (w *Window) Offset() int64 { return w.offset + int64(w.At) }

// Begin notes that a record begins at a place, which is At or before it and not before what the last Fill kept. Of its text at most
// limit bytes are read; with keep all of it stays in the window.
func (w *Window) Begin(at, limit int, keep bool) (line int64) {
	w.mark = w.place(at)
	offset := w.offset + int64(at)
	w.record = record{w.mark, offset, uint64(offset) + uint64(limit), limit}
	if keep {
		w.keep = at
	}
	return w.mark.line
}

// BeginLine is Begin of a record behind one that took a line: the text is not looked at again.
func (w *Window) BeginLine(at, limit int) (line int64) {
	w.mark = place{at: at, line: w.mark.line + 1, column: 1, offset: w.mark.offset + w.charset.Width(w.Text[w.mark.at:at])}
	offset := w.offset + int64(at)
	w.record = record{w.mark, offset, uint64(offset) + uint64(limit), limit}
	return w.mark.line
}

// Kept returns the text of the record so far.
func (w *Window) Kept() string { return w.Text[w.keep:w.At] }

// Aside runs read in the middle of a record; what lies between that place and where it leads to does not count for the record.
func (w *Window) Aside(at int, read func() error) error {
	most, from := w.record.most, w.offset+int64(at)
	w.record.most = math.MaxUint64
	err := read()
	w.record.most = most + uint64(w.Offset()-from)
	return err
}

// Within returns the fault that the record is too long if it reaches to at.
func (w *Window) Within(at int) error {
	if uint64(w.offset+int64(at)) <= w.record.most {
		return nil
	}
	return w.tooLong()
}

func (w *Window) tooLong() error {
	return w.syntax(w.record.begins, fmt.Sprintf("the record is longer than %d bytes", w.record.limit))
}

// Finish notes that the record ends at a place, and returns its length.
func (w *Window) Finish(at int) (size int64, err error) {
	err = w.Within(at)
	w.record.most, w.keep = math.MaxUint64, -1
	return w.offset + int64(at) - w.record.offset, err
}

// Fault returns a document fault at a place of Text, which is At or behind it, or behind the beginning of the record or of what the last
// Fill kept. Behind the end of what the record may be it is that fault, however much was read at once.
func (w *Window) Fault(at int, format string, args ...any) error {
	if err := w.Within(at); err != nil {
		return err
	}
	return w.syntax(w.place(at), fmt.Sprintf(format, args...))
}

// NoCharacter returns the fault that a byte means nothing in the document's encoding.
func (w *Window) NoCharacter(at int) error {
	if w.charset == nil {
		return w.Fault(at, "this byte is no UTF-8: send the document as UTF-8, or declare its encoding")
	}
	return w.Fault(at, "this means nothing in %s: the document is damaged or in another encoding", w.charset)
}

func (w *Window) syntax(p place, reason string) error {
	return &transform.SyntaxError{Format: w.format, Line: p.line, Column: p.column, Offset: p.offset, Reason: reason}
}
