package jsonfmt

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/integrator-go/integrator/transform"
)

// lines counts the lines of what is read from r, remembers where those begin that the decoder has not reached yet, and bounds how far
// the reader may run ahead of it.
type lines struct {
	r       io.Reader
	offset  int64   // bytes read
	pending []int64 // offsets behind newlines that were read and not passed
	line    int64   // of what was passed, from 1
	start   int64   // offset where that line begins
	passed  int64   // offset that was passed
	most    int64   // bytes that may be read beyond it
}

// errLong says that a piece of the document is longer than it may be.
var errLong = errors.New("too long")

func (l *lines) Read(p []byte) (int, error) {
	if l.offset-l.passed > l.most {
		return 0, errLong
	}
	n, err := l.r.Read(p)
	for rest := p[:n]; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		l.pending = append(l.pending, l.offset+int64(n-len(rest)))
	}
	l.offset += int64(n)
	return n, err
}

// pass moves on to an offset.
func (l *lines) pass(offset int64) {
	i := 0
	for i < len(l.pending) && l.pending[i] <= offset {
		l.line, l.start = l.line+1, l.pending[i]
		i++
	}
	l.pending = l.pending[i:]
	l.passed = offset
}

// source is a document being tokenized.
type source struct {
	lines
	tokens *jsontext.Decoder
	limits transform.Limits
}

func (f *format) source(r io.Reader, limits transform.Limits) *source {
	s := &source{lines: lines{r: r, line: 1}, limits: limits.WithDefaults()}
	s.most = int64(s.limits.FieldBytes) + readAhead
	s.tokens = jsontext.NewDecoder(&s.lines, jsontext.AllowDuplicateNames(f.options.DuplicateKeys == "last"))
	return s
}

// readAhead is what the tokenizer may have read beyond the piece it looks at.
const readAhead = 256 << 10

// token reads a token, within the limits.
func (s *source) token() (jsontext.Token, error) {
	s.pass(s.tokens.InputOffset())
	t, err := s.tokens.ReadToken()
	if err != nil {
		return t, err
	}
	depth := s.tokens.StackDepth()
	if depth > s.limits.Depth {
		return t, s.at(s.tokens.InputOffset()-1, fmt.Sprintf("nested deeper than %d", s.limits.Depth))
	}
	if k := t.Kind(); k != '"' && k != '0' || depth == 0 {
		return t, nil
	}
	size := s.tokens.InputOffset() - s.passed
	in, count := s.tokens.StackIndex(depth)
	switch {
	case in == '{' && count%2 == 1 && size > int64(s.limits.NameBytes)+2:
		return t, s.at(s.tokens.InputOffset()-size, fmt.Sprintf("a name is longer than %d bytes", s.limits.NameBytes))
	case in == '{' && count > 2*int64(s.limits.Fields):
		return t, s.at(s.tokens.InputOffset()-size, fmt.Sprintf("an object has more than %d fields", s.limits.Fields))
	}
	return t, nil
}

// value reads a value as it is written.
func (s *source) value() (jsontext.Value, error) {
	s.pass(s.tokens.InputOffset())
	s.most = int64(s.limits.RecordBytes) + readAhead
	defer func() { s.most = int64(s.limits.FieldBytes) + readAhead }()
	v, err := s.tokens.ReadValue()
	if errors.Is(err, errLong) {
		err = s.at(s.passed, fmt.Sprintf("the record is longer than %d bytes", s.limits.RecordBytes))
	}
	return v, err
}

// skip passes over a value.
func (s *source) skip() error {
	depth := s.tokens.StackDepth()
	for {
		if _, err := s.token(); err != nil {
			return err
		}
		if s.tokens.StackDepth() <= depth {
			return nil
		}
	}
}

// fault turns an error of the tokenizer into a document fault with its place, and leaves faults of the reader what they are.
func (s *source) fault(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntax):
		return s.at(syntax.ByteOffset, syntax.Err.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return s.at(s.offset, "the document ends early")
	case errors.Is(err, errLong):
		return s.at(s.passed, fmt.Sprintf("what begins here is longer than %d bytes", s.most-readAhead))
	}
	var placed *transform.SyntaxError
	if errors.As(err, &placed) {
		return placed
	}
	return fmt.Errorf("read json: %w", err)
}

func (s *source) at(offset int64, reason string) *transform.SyntaxError {
	s.pass(offset)
	return &transform.SyntaxError{Format: "json", Line: s.line, Column: offset - s.start + 1, Offset: offset, Reason: reason}
}

// end checks that nothing follows the document.
func (s *source) end() error {
	_, err := s.tokens.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err == nil:
		return s.at(s.tokens.InputOffset()-1, "something follows the end of the document")
	}
	return s.fault(err)
}

// check reads the rest of the document.
func (s *source) check() error {
	for first := true; ; first = false {
		before := s.tokens.InputOffset()
		token, err := s.token()
		switch {
		case err == io.EOF && first:
			return s.at(before, "the document is empty")
		case err == io.EOF:
			return nil
		case err != nil:
			return s.fault(err)
		}
		if !first && s.tokens.StackDepth() == 0 && token.Kind() != '}' && token.Kind() != ']' {
			return s.at(before, "something follows the end of the document")
		}
		if s.tokens.StackDepth() == 0 {
			return s.end()
		}
	}
}

// decoder reads the selected records of one document.
type decoder struct {
	*source
	root     *transform.Shape
	options  transform.DecodeOptions
	selector transform.Selector
	next     func() (*transform.Record, error, bool)
	stop     func()
	done     error
	index    int64
	scopes   *scopes
}

func (f *format) decoder(r io.Reader, options transform.DecodeOptions, selector transform.Selector) *decoder {
	d := &decoder{source: f.source(r, options.Limits), root: transform.NewShape(), options: options, selector: selector}
	d.next, d.stop = iter.Pull2(d.records)
	return d
}

// Decode fills b with the next records.
func (d *decoder) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	if d.done != nil {
		return d.done
	}
	begin := d.tokens.InputOffset()
	for len(b.Records) < d.limits.BatchSize && d.tokens.InputOffset()-begin < int64(d.limits.BatchBytes) {
		record, err, ok := d.next()
		if !ok {
			err = io.EOF
		}
		if err != nil {
			d.done = err
			d.Close()
			break
		}
		b.Records = append(b.Records, *record)
	}
	if len(b.Records) == 0 {
		return d.done
	}
	return nil
}

// Close releases what an unfinished decoder holds; after the end it does nothing.
func (d *decoder) Close() error {
	d.done = cmp.Or(d.done, io.EOF)
	d.stop()
	d.scopes.close()
	return nil
}

// records walks through the document and yields what is selected, and at the end the fault if there is one.
func (d *decoder) records(yield func(*transform.Record, error) bool) {
	switch d.tokens.PeekKind() {
	case 0:
		if _, err := d.tokens.ReadToken(); err == io.EOF {
			yield(nil, d.at(d.offset, "the document is empty"))
		} else {
			yield(nil, d.fault(err))
		}
		return
	}
	stopped := errors.New("stopped")
	err := d.walk(d.selector, func(r *transform.Record) error {
		if !yield(r, nil) {
			return stopped
		}
		return nil
	})
	if err == nil {
		err = d.end()
	}
	if err != nil && err != stopped {
		yield(nil, err)
	}
}

func (d *decoder) walk(steps transform.Selector, emit func(*transform.Record) error) error {
	if len(steps) == len(d.selector.Enclosing()) && d.scopes != nil {
		if err := d.scopes.advance(); err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		return d.record(emit)
	}
	kind := d.tokens.PeekKind()
	step := steps[0]
	switch {
	case step.All && kind == '[', !step.All && kind == '{':
	case step.All && kind != 'n':
		return d.walk(steps[1:], emit) // one value counts as a list of one
	default:
		if err := d.skip(); err != nil {
			return d.fault(err)
		}
		return nil
	}
	if _, err := d.tokens.ReadToken(); err != nil {
		return d.fault(err)
	}
	for {
		kind := d.tokens.PeekKind()
		if kind == ']' || kind == '}' {
			_, err := d.tokens.ReadToken()
			if err != nil {
				return d.fault(err)
			}
			return nil
		}
		if step.All {
			if err := d.walk(steps[1:], emit); err != nil {
				return err
			}
			continue
		}
		name, err := d.token()
		if err != nil {
			return d.fault(err)
		}
		if name.String() == step.Name {
			err = d.walk(steps[1:], emit)
		} else if err = d.skip(); err != nil {
			err = d.fault(err)
		}
		if err != nil {
			return err
		}
	}
}

// record reads the value that comes next and emits it.
func (d *decoder) record(emit func(*transform.Record) error) error {
	raw, err := d.value()
	if err != nil {
		return d.fault(err)
	}
	start := d.tokens.InputOffset() - int64(len(raw))
	d.pass(start)
	text := string(raw)
	p := parser{text: text, root: d.root, limits: d.limits}
	value, err := p.value()
	if err != nil {
		return d.at(start+int64(p.at), err.Error())
	}
	r := &transform.Record{Value: value, Source: value, Index: d.index, Line: d.line}
	d.index++
	if d.options.Raw {
		r.Raw = text
	}
	if d.scopes != nil {
		r.Scope = d.scopes.now
	}
	return emit(r)
}

// scopes runs ahead of a decoder over the same document and knows what encloses the records that come next.
type scopes struct {
	doc     transform.Value
	parents *decoder // of the enclosing elements; nil when the document's own object is the only one
	list    string   // name of the innermost list, left out of its element
	now     *transform.Scope
	batch   transform.Batch
	used    int
	closers []io.Closer
}

// scopes prepares what DecodeOptions.Scope asks for.
func (f *format) scopes(options transform.DecodeOptions, selector transform.Selector) (*scopes, error) {
	if options.Reopen == nil {
		return nil, errors.New("jsonfmt: Scope needs Reopen")
	}
	s := &scopes{}
	open := func() (io.Reader, error) {
		r, err := options.Reopen()
		if err == nil {
			s.closers = append(s.closers, r)
		}
		return r, err
	}
	inner := transform.DecodeOptions{Limits: options.Limits}
	r, err := open()
	if err != nil {
		return nil, err
	}
	outline := f.source(r, options.Limits)
	if s.doc, err = outline.outline(selector, transform.NewShape()); err != nil {
		s.close()
		return nil, err
	}
	enclosing := selector.Enclosing()
	if len(selector) > len(enclosing) && !selector[len(enclosing)].All {
		s.list = selector[len(enclosing)].Name
	}
	if r, err = open(); err != nil {
		s.close()
		return nil, err
	}
	s.parents = f.decoder(r, inner, enclosing)
	return s, nil
}

// outline reads a document leaving out what the selector's first list holds.
func (s *source) outline(selector transform.Selector, root *transform.Shape) (transform.Value, error) {
	if len(selector) == 0 || selector[0].All || s.tokens.PeekKind() != '{' {
		err := s.skip()
		if err != nil {
			err = s.fault(err)
		}
		return transform.Null, err
	}
	if _, err := s.tokens.ReadToken(); err != nil {
		return transform.Null, s.fault(err)
	}
	object := transform.NewObject(root, nil)
	for s.tokens.PeekKind() != '}' {
		token, err := s.token()
		if err != nil {
			return transform.Null, s.fault(err)
		}
		name := token.String()
		var v transform.Value
		if name == selector[0].Name {
			last := len(selector) == 1 || selector[1].All
			if v, err = s.outline(selector[1:], root); err != nil {
				return transform.Null, err
			}
			if last {
				continue
			}
		} else {
			raw, err := s.value()
			if err != nil {
				return transform.Null, s.fault(err)
			}
			p := parser{text: string(raw), root: root, limits: s.limits}
			if v, err = p.value(); err != nil {
				return transform.Null, s.at(s.tokens.InputOffset(), err.Error())
			}
		}
		object = object.With(name, v)
	}
	if _, err := s.tokens.ReadToken(); err != nil {
		return transform.Null, s.fault(err)
	}
	return object, nil
}

// advance moves on to the next enclosing element.
func (s *scopes) advance() error {
	if s.used == len(s.batch.Records) {
		s.used = 0
		if err := s.parents.Decode(&s.batch); err != nil {
			if err == io.EOF {
				err = errors.New("jsonfmt: the document read a second time is another one")
			}
			return err
		}
	}
	parent := s.batch.Records[s.used].Value
	s.used++
	if s.list != "" {
		parent = parent.Without(s.list)
	}
	s.now = &transform.Scope{Parent: parent, Doc: s.doc}
	return nil
}

func (s *scopes) close() {
	if s == nil {
		return
	}
	if s.parents != nil {
		s.parents.Close()
	}
	for _, c := range s.closers {
		c.Close()
	}
	s.closers = nil
}

// lineDecoder reads newline-delimited JSON: a record a line.
type lineDecoder struct {
	format  *format
	r       *bufio.Reader
	root    *transform.Shape
	path    *transform.Path
	options transform.DecodeOptions
	limits  transform.Limits
	line    int64
	offset  int64
	index   int64
	pending []transform.Record // of a line that holds several
	done    error
}

// readLine returns the next line without its end. The slice is valid until the next call.
func (d *lineDecoder) readLine() ([]byte, error) {
	var long []byte
	for {
		part, err := d.r.ReadSlice('\n')
		d.offset += int64(len(part))
		if len(long)+len(part) > d.limits.RecordBytes {
			return nil, &transform.SyntaxError{Format: "ndjson", Line: d.line + 1, Column: 1, Offset: d.offset - int64(len(long)+len(part)),
				Reason: fmt.Sprintf("the line is longer than %d bytes", d.limits.RecordBytes)}
		}
		switch {
		case err == bufio.ErrBufferFull:
			long = append(long, part...)
			continue
		case err == io.EOF && len(long)+len(part) == 0:
			return nil, io.EOF
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("read ndjson: %w", err)
		}
		d.line++
		if long != nil {
			part = append(long, part...)
		}
		return bytes.TrimRight(part, "\r\n"), nil
	}
}

// Decode fills b with the next records.
func (d *lineDecoder) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	size := 0
	for d.done == nil && len(b.Records) < d.limits.BatchSize && size < d.limits.BatchBytes {
		if len(d.pending) > 0 {
			b.Records, d.pending = append(b.Records, d.pending[0]), d.pending[1:]
			continue
		}
		line, err := d.readLine()
		if err != nil {
			d.done = err
			break
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		size += len(line)
		b.Records = d.records(b.Records, line)
	}
	if len(b.Records) == 0 {
		return d.done
	}
	return nil
}

// records appends the records of one line.
func (d *lineDecoder) records(to []transform.Record, line []byte) []transform.Record {
	text := string(line)
	r := transform.Record{Index: d.index, Line: d.line}
	if d.options.Raw {
		r.Raw = text
	}
	if err := d.format.valid(line, d.limits); err != nil {
		r.Value = transform.Text(string(bytes.ToValidUTF8(line[:min(len(line), 1024)], []byte("\uFFFD"))))
		r.Source = r.Value
		r.Err = &transform.Fault{Kind: "input", Step: "decode", Reason: err.Error(), Err: err}
		d.index++
		return append(to, r)
	}
	p := parser{text: text, root: d.root, limits: d.limits}
	value, err := p.value()
	if err != nil {
		r.Err = &transform.Fault{Kind: "input", Step: "decode", Reason: err.Error(), Err: err}
	}
	r.Value, r.Source = value, value
	if d.path == nil || err != nil {
		d.index++
		return append(to, r)
	}
	for _, v := range d.path.Eval(&transform.Env{}, &r).Values() {
		one := r
		one.Value, one.Source, one.Index = v, v, d.index
		d.index++
		if len(to) < d.limits.BatchSize {
			to = append(to, one)
		} else {
			d.pending = append(d.pending, one)
		}
	}
	return to
}

// valid checks one JSON text.
func (f *format) valid(text []byte, limits transform.Limits) error {
	err := f.source(bytes.NewReader(text), limits).check()
	var syntax *transform.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("column %d: %s", syntax.Column, syntax.Reason)
	}
	return err
}
