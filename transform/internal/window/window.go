// Package window gives a scanner of text the piece of a document that it looks at. The piece is one immutable string, so that what is
// found in it may be kept as substrings; where it ends too early, more is read behind it.
package window

import (
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// Window is a piece of a document. A scanner looks at Text from At on, and moves on with Advance.
type Window struct {
	Text string
	At   int
	EOF  bool // Text ends where the document ends

	r       io.Reader
	scratch []byte
	offset  int64 // of Text in the document
	line    int64 // of At, from 1
	column  int64 // of At in characters, from 1
}

const (
	readSize      = 64 << 10
	byteOrderMark = "\uFEFF"
)

// New returns the window at the start of what r reads.
func New(r io.Reader) *Window { return &Window{r: r, line: 1, column: 1} }

// Start reads the first bytes, and passes over a byte order mark.
func (w *Window) Start() error {
	for len(w.Text) < len(byteOrderMark) && !w.EOF {
		if err := w.Fill(0); err != nil {
			return err
		}
	}
	if strings.HasPrefix(w.Text, byteOrderMark) {
		w.At = len(byteOrderMark)
	}
	return nil
}

// Fill reads more behind Text and lets go of what stands before keep, which is At or a place before it. Long pieces are read in
// growing portions, so that scanning them again costs a constant factor only. At the end of the document it sets EOF; other errors of the
// reader are returned as they are.
func (w *Window) Fill(keep int) error {
	rest := w.Text[keep:]
	least := 1
	if len(rest) > readSize {
		least = len(rest)
	}
	if size := max(readSize, least); len(w.scratch) < size {
		w.scratch = make([]byte, size)
	}
	n, err := io.ReadAtLeast(w.r, w.scratch, least)
	switch {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		w.EOF = true
	case err != nil:
		return err
	}
	w.offset += int64(keep)
	w.Text, w.At = rest+string(w.scratch[:n]), w.At-keep
	return nil
}

// Advance moves on to a place in Text. It does not split CR LF.
func (w *Window) Advance(to int) {
	w.line, w.column = w.after(to)
	w.At = to
}

// after returns line and column of a place in Text at or behind At.
func (w *Window) after(to int) (line, column int64) {
	passed := w.Text[w.At:to]
	line, column = w.line+int64(strings.Count(passed, "\n")), w.column
	last := strings.LastIndexByte(passed, '\n')
	if strings.IndexByte(passed, '\r') >= 0 { // a CR alone ends a line too
		for i := range len(passed) {
			if passed[i] == '\r' && (i+1 == len(passed) || passed[i+1] != '\n') {
				line, last = line+1, max(last, i)
			}
		}
	}
	if last >= 0 {
		column = 1
	}
	return line, column + int64(utf8.RuneCountInString(passed[last+1:]))
}

// Line returns the line of At, from 1.
func (w *Window) Line() int64 { return w.line }

// Offset returns how many bytes of the document stand before At.
func (w *Window) Offset() int64 { return w.offset + int64(w.At) }

// Position returns where a place of Text at or behind At stands in the document: line and column from 1, the column in characters,
// and the offset in bytes.
func (w *Window) Position(at int) (line, column, offset int64) {
	line, column = w.after(at)
	return line, column, w.offset + int64(at)
}
