// Package transformtest is the suite that every transform.Format passes, with golden cases and fuzzing helpers for those who write one.
//
// The three names that matter are [Run], [Harness] and [Golden]:
//
//	func TestFormat(t *testing.T) {
//		transformtest.Run(t, transformtest.Harness{Format: format, Values: []transform.Value{…}, Faults: map[string]string{…}})
//	}
package transformtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/transform"
)

// Harness is a format with what it declares about itself.
type Harness struct {
	Format transform.Format

	// Decode and Encode make records of what the encoder writes, and the other way round. Zero values are those of the format.
	Decode transform.DecodeOptions
	Encode transform.EncodeOptions

	// Values are records that the format holds exactly, at least four, which fit into one document.
	Values []transform.Value

	// Single says that a document is one record: each of Values is a document of its own.
	Single bool

	// Refused are records that it cannot hold, by name.
	Refused map[string]transform.Value

	// Faults are documents with a document fault, by name.
	Faults map[string]string

	// Limits are documents that keep to a limit and that do not.
	Limits []Limit
}

// Limit is a case of a limit.
type Limit struct {
	Name           string
	Limits         transform.Limits
	Within, Beyond string
}

// Run checks that the format keeps the contract of transform.Format.
func Run(t *testing.T, h Harness) {
	if len(h.Values) < 4 {
		t.Fatal("the harness needs at least four values")
	}
	if !h.Single {
		run(t, h)
		return
	}
	for i, v := range h.Values {
		one := h
		one.Values = []transform.Value{v}
		t.Run(fmt.Sprintf("document %d", i), func(t *testing.T) { run(t, one) })
	}
}

func run(t *testing.T, h Harness) {
	document, refused, err := Encode(h.Format, records(h.Values), h.Encode)
	if err != nil || len(refused) > 0 {
		t.Fatalf("the harness's values cannot be encoded: %v %v", err, refused)
	}
	s := &suite{h, document}
	for _, c := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"what is encoded is decoded again", (*suite).roundTrip},
		{"records that do not fit are refused alone", (*suite).refusals},
		{"rejected records are not encoded", (*suite).rejected},
		{"no records make an empty document", (*suite).empty},
		{"batches keep to their size", (*suite).batches},
		{"any reader gives the same", (*suite).readers},
		{"records go on before the reader is waited for", (*suite).waiting},
		{"faults of the reader come back", (*suite).readerFaults},
		{"faults of the writer come back", (*suite).writerFaults},
		{"document faults have a place, the same for Check and Decode", (*suite).faults},
		{"Check agrees with Decode on every beginning of a document", (*suite).beginnings},
		{"values stay valid", (*suite).validity},
		{"the memory of batches is used again", (*suite).recycled},
		{"one format serves many goroutines", (*suite).concurrency},
		{"limits hold", (*suite).limits},
		{"a byte order mark is passed over", (*suite).byteOrderMark},
		{"a decoder can be closed at any time", (*suite).closing},
		{"a document is continued", (*suite).continued},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(s, t)
		})
	}
}

type suite struct {
	Harness
	document string
}

func records(values []transform.Value) []transform.Record {
	var list []transform.Record
	for i, v := range values {
		list = append(list, transform.Record{Value: v, Source: v, Index: int64(i)})
	}
	return list
}

func shown(values []transform.Value) []string {
	var lines []string
	for _, v := range values {
		lines = append(lines, Show(v))
	}
	return lines
}

func values(list []transform.Record) []transform.Value {
	var all []transform.Value
	for _, r := range list {
		all = append(all, r.Value)
	}
	return all
}

// decode reads a document that must be right.
func (s *suite) decode(t *testing.T, r io.Reader, o transform.DecodeOptions) []transform.Record {
	t.Helper()
	list, err := Decode(s.Format, r, o)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	return list
}

func (s *suite) roundTrip(t *testing.T) {
	list := s.decode(t, strings.NewReader(s.document), s.Decode)
	if diff := cmp.Diff(shown(s.Values), shown(values(list))); diff != "" {
		t.Errorf("(-encoded +decoded):\n%s\n%s", diff, s.document)
	}
	for i, r := range list {
		if r.Index != int64(i) || r.Err != nil || Show(r.Source) != Show(r.Value) {
			t.Errorf("record %d has index %d, error %v, source %s", i, r.Index, r.Err, Show(r.Source))
		}
	}
	if err := s.Format.Check(strings.NewReader(s.document), s.Decode); err != nil {
		t.Errorf("Check refuses what the encoder wrote: %v", err)
	}
	again, _, err := Encode(s.Format, list, s.Encode)
	if err != nil || again != s.document {
		t.Errorf("encoded once more (%v) the document is another one:\n%s\nand was\n%s", err, again, s.document)
	}
	for _, as := range []string{"", "array", "object", "lines"} {
		options := transform.EncodeOptions{As: as}
		if _, err := s.Format.NewEncoder(io.Discard, options); err != nil {
			continue
		}
		if mediaType := transform.MediaTypeOf(s.Format, options); as == "" && mediaType != s.Format.MediaType() {
			t.Errorf("the media type of a document of records is %s, and the format's is %s", mediaType, s.Format.MediaType())
		} else if _, _, err := mime.ParseMediaType(mediaType); err != nil {
			t.Errorf("the media type of records as %q is %q: %v", as, mediaType, err)
		}
	}
}

// continued writes each record with an encoder of its own, behind one head: the same document as at once.
func (s *suite) continued(t *testing.T) {
	format, ok := s.Format.(transform.Appender)
	if !ok {
		t.Skip("nothing continues its documents")
	}
	var head string
	var document strings.Builder
	for i, v := range s.Values {
		e, err := format.NewAppender(&document, s.Encode)
		if err != nil {
			t.Skipf("nothing continues its documents: %v", err)
		}
		if err := errors.Join(e.Encode(&transform.Batch{Records: records([]transform.Value{v})}), e.Close()); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			head = string(e.Head())
		} else if head != string(e.Head()) {
			t.Skipf("record %d begins a document with %q, and the first one with %q", i, e.Head(), head)
		}
	}
	if got := head + document.String(); got != s.document {
		t.Errorf("the document is\n%s\nand at once\n%s", got, s.document)
	}
}

func (s *suite) refusals(t *testing.T) {
	for name, v := range s.Refused {
		t.Run(name, func(t *testing.T) {
			want := s.Values[:min(2, len(s.Values))]
			at := len(want) - 1 // before the last one
			mixed := records(slices.Insert(slices.Clone(want), at, v))
			document, refused, err := Encode(s.Format, mixed, s.Encode)
			if err != nil {
				t.Fatal(err)
			}
			var fault *transform.Fault
			if len(refused) != 1 || refused[0].Index != int64(at) || !errors.As(refused[0].Err, &fault) || fault.Reason == "" {
				t.Fatalf("refused: %v", refused)
			}
			got := values(s.decode(t, strings.NewReader(document), s.Decode))
			if diff := cmp.Diff(shown(want), shown(got)); diff != "" {
				t.Errorf("the records around it (-want +got):\n%s", diff)
			}
		})
	}
}

func (s *suite) rejected(t *testing.T) {
	list := records(slices.Insert(slices.Clone(s.Values), len(s.Values)-1, s.Values[0]))
	list[len(s.Values)-1].Err = errors.New("rejected by a step")
	document, _, err := Encode(s.Format, list, s.Encode)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown(s.Values), shown(values(s.decode(t, strings.NewReader(document), s.Decode)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func (s *suite) empty(t *testing.T) {
	document, _, err := Encode(s.Format, nil, s.Encode)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Format.Check(strings.NewReader(document), s.Decode); err != nil {
		t.Errorf("Check refuses the empty document %q: %v", document, err)
	}
	if list := s.decode(t, strings.NewReader(document), s.Decode); len(list) > 0 && !s.Single {
		t.Errorf("the empty document %q has %d records", document, len(list))
	}
}

func (s *suite) batches(t *testing.T) {
	for name, c := range map[string]struct {
		limits transform.Limits
		most   int
	}{
		"two records": {transform.Limits{BatchSize: 2}, 2},
		"one byte":    {transform.Limits{BatchBytes: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := s.Decode
			o.Limits = c.limits
			d, err := s.Format.NewDecoder(strings.NewReader(s.document), o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			var b transform.Batch
			for {
				err := d.Decode(&b)
				if err == io.EOF {
					break
				}
				if err != nil || len(b.Records) == 0 || len(b.Records) > c.most {
					t.Fatalf("a batch of %d records, %v", len(b.Records), err)
				}
				for _, r := range b.Records {
					if r.Index != int64(len(got)) {
						t.Errorf("record %d has index %d", len(got), r.Index)
					}
					got = append(got, Show(r.Value))
				}
			}
			if diff := cmp.Diff(shown(s.Values), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := d.Decode(&b); err != io.EOF || len(b.Records) > 0 {
				t.Errorf("behind the end: %d records, %v", len(b.Records), err)
			}
		})
	}
}

func (s *suite) readers(t *testing.T) {
	o := s.Decode
	o.Raw = true
	want := showAll(s.decode(t, strings.NewReader(s.document), o))
	for name, slow := range map[string]func(io.Reader) io.Reader{
		"a byte at a time":      iotest.OneByteReader,
		"half of what is asked": iotest.HalfReader,
		"the end with the data": iotest.DataErrReader,
		"empty reads":           func(r io.Reader) io.Reader { return &hesitant{r: r} },
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, showAll(s.decode(t, slow(strings.NewReader(s.document)), o))); diff != "" {
				t.Errorf("(-at once +slowly):\n%s", diff)
			}
			if err := s.Format.Check(slow(strings.NewReader(s.document)), o); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// hesitant gives nothing at every second read.
type hesitant struct {
	r     io.Reader
	empty bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.empty = !h.empty; h.empty {
		return 0, nil
	}
	return h.r.Read(p[:min(len(p), 7)])
}

func (s *suite) waiting(t *testing.T) {
	if s.Single {
		t.Skip("the only record ends where the document does")
	}
	most := len(s.document) * 3 / 4
	second := false // the reader was asked for more
	r := io.MultiReader(strings.NewReader(s.document[:most]), reader(func([]byte) (int, error) { second = true; return 0, io.EOF }),
		strings.NewReader(s.document[most:]))
	d, err := s.Format.NewDecoder(r, s.Decode)
	if err != nil {
		t.Fatal(err)
	}
	var b transform.Batch
	if err := d.Decode(&b); err != nil || second {
		t.Fatalf("with three quarters of the document read: %v, and more was asked for: %v", err, second)
	}
	got := len(b.Records)
	for err == nil {
		err = d.Decode(&b)
		got += len(b.Records)
	}
	if err != io.EOF || got != len(s.Values) {
		t.Errorf("%d records of %d, %v", got, len(s.Values), err)
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

func (s *suite) readerFaults(t *testing.T) {
	for _, cause := range []error{errors.New("the line is dead"), io.ErrUnexpectedEOF} {
		for _, after := range []int{0, len(s.document) / 2, len(s.document)} {
			t.Run(fmt.Sprintf("%v after %d bytes", cause, after), func(t *testing.T) {
				broken := func() io.Reader {
					return io.MultiReader(strings.NewReader(s.document[:after]), iotest.ErrReader(cause))
				}
				list, err := Decode(s.Format, broken(), s.Decode)
				if syntax := (*transform.SyntaxError)(nil); !errors.Is(err, cause) || errors.As(err, &syntax) {
					t.Errorf("Decode: %v", err)
				}
				if want := shown(s.Values)[:len(list)]; !slices.Equal(want, shown(values(list))) {
					t.Errorf("the records before it are not those of the document: %s", shown(values(list)))
				}
				err = s.Format.Check(broken(), s.Decode)
				if syntax := (*transform.SyntaxError)(nil); !errors.Is(err, cause) || errors.As(err, &syntax) {
					t.Errorf("Check: %v", err)
				}
			})
		}
	}
}

func (s *suite) writerFaults(t *testing.T) {
	cause := errors.New("the disk is full")
	e, err := s.Format.NewEncoder(writer(func([]byte) (int, error) { return 0, cause }), s.Encode)
	if err != nil {
		t.Fatal(err)
	}
	if err = e.Encode(&transform.Batch{Records: records(s.Values)}); err == nil {
		err = e.Close()
	}
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func (s *suite) faults(t *testing.T) {
	for name, document := range s.Faults {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(s.Format, strings.NewReader(document), s.Decode)
			var fault *transform.SyntaxError
			if !errors.As(err, &fault) {
				t.Fatalf("Decode: %v", err)
			}
			if fault.Line < 1 || fault.Column < 1 || fault.Offset < -1 || fault.Offset > int64(len(document)) || fault.Reason == "" || fault.Format == "" {
				t.Errorf("%#v", fault)
			}
			if err := s.Agree(document, s.Decode); err != nil {
				t.Error(err)
			}
			d, err := s.Format.NewDecoder(strings.NewReader(document), s.Decode)
			if err != nil {
				return
			}
			var b transform.Batch
			for err == nil {
				err = d.Decode(&b)
			}
			if again := d.Decode(&b); again != err || len(b.Records) > 0 {
				t.Errorf("asked once more: %d records, %v", len(b.Records), again)
			}
		})
	}
}

// Agree returns how Check, Decode, at once and a byte at a time, and DecodeAll disagree about a document; nil when they do not.
func (h *Harness) Agree(document string, o transform.DecodeOptions) error {
	whole, err := Decode(h.Format, strings.NewReader(document), o)
	slow, slowErr := Decode(h.Format, iotest.OneByteReader(strings.NewReader(document)), o)
	for who, other := range map[string]error{
		"Check":                    h.Format.Check(strings.NewReader(document), o),
		"Check, a byte at a time":  h.Format.Check(iotest.OneByteReader(strings.NewReader(document)), o),
		"Decode, a byte at a time": slowErr,
	} {
		if showFault(other) != showFault(err) {
			return fmt.Errorf("%s says %q, Decode says %q", who, showFault(other), showFault(err))
		}
	}
	if !slices.Equal(showAll(whole), showAll(slow)) {
		return fmt.Errorf("read a byte at a time the records are others:\n%s", cmp.Diff(showAll(whole), showAll(slow)))
	}
	d, startErr := h.Format.NewDecoder(strings.NewReader(document), o)
	if all, ok := d.(transform.WholeDecoder); ok && startErr == nil {
		var b transform.Batch
		if allErr := all.DecodeAll(&b); showFault(allErr) != showFault(err) || !slices.Equal(showAll(whole), showAll(b.Records)) {
			return fmt.Errorf("DecodeAll says %q, Decode says %q:\n%s", showFault(allErr), showFault(err), cmp.Diff(showAll(whole), showAll(b.Records)))
		}
	}
	return nil
}

func (s *suite) beginnings(t *testing.T) {
	for i := range s.document {
		if err := s.Agree(s.document[:i], s.Decode); err != nil {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
}

func (s *suite) validity(t *testing.T) {
	o := s.Decode
	o.Limits.BatchSize, o.Raw = 1, true
	buffer := &reused{r: strings.NewReader(s.document)}
	d, err := s.Format.NewDecoder(buffer, o)
	if err != nil {
		t.Fatal(err)
	}
	var b transform.Batch
	var then []string
	var list []transform.Record
	for d.Decode(&b) == nil {
		then = append(then, showAll(b.Records)...)
		list = append(list, b.Records...)
	}
	if diff := cmp.Diff(then, showAll(list)); diff != "" {
		t.Errorf("(-when decoded +at the end):\n%s", diff)
	}
}

// recycled decodes into three batches by turns, and looks at each only when the memory of the one before it has been used again: no record of a batch
// may be in the memory of another one, however the reader cuts the document.
func (s *suite) recycled(t *testing.T) {
	o := s.Decode
	for cut := range 40 {
		o.Limits.BatchSize = 1 + cut%3
		d, err := s.Format.NewDecoder(&pieces{strings.NewReader(s.document), 1 + cut*cut}, o)
		if err != nil {
			t.Fatal(err)
		}
		var batches [3]transform.Batch
		var got []string
		show := func(i int) {
			for _, r := range batches[i%3].Records {
				got = append(got, Show(r.Value))
			}
			batches[i%3].Recycle()
		}
		i := 0
		for ; ; i++ { // the batch i-2 is recycled and decoded into before i-1 is looked at
			if err := d.Decode(&batches[i%3]); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if i >= 2 {
				show(i - 2)
			}
		}
		for k := max(0, i-2); k < i; k++ {
			show(k)
		}
		if diff := cmp.Diff(shown(s.Values), got); diff != "" {
			t.Fatalf("in pieces of %d bytes (-want +got):\n%s", 1+cut*cut, diff)
		}
	}
}

// pieces reads so many bytes at a time.
type pieces struct {
	r    io.Reader
	most int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.most)]) }

// reused reads little at a time, and spoils all of the buffer that it is given, as a reader may: what was read into it before is gone.
type reused struct{ r io.Reader }

func (r *reused) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return r.r.Read(p[:min(len(p), 64)])
}

func (s *suite) concurrency(t *testing.T) {
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 10 {
				list, err := Decode(s.Format, strings.NewReader(s.document), s.Decode)
				if err != nil {
					t.Error(err)
				}
				if text, _, err := Encode(s.Format, list, s.Encode); err != nil || text != s.document {
					t.Errorf("%v\n%s", err, text)
				}
				if err := s.Format.Check(strings.NewReader(s.document), s.Decode); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

func (s *suite) limits(t *testing.T) {
	for _, l := range s.Limits {
		t.Run(l.Name, func(t *testing.T) {
			o := s.Decode
			o.Limits = l.Limits
			for _, document := range []string{l.Within, l.Beyond} {
				if err := s.Agree(document, o); err != nil {
					t.Errorf("%.60q…: %v", document, err)
				}
			}
			if err := fault(Decode(s.Format, strings.NewReader(l.Within), o)); err != nil {
				t.Errorf("within the limit: %v", err)
			}
			if err := fault(Decode(s.Format, strings.NewReader(l.Beyond), o)); err == nil {
				t.Error("beyond the limit nothing is refused")
			}
		})
	}
}

// fault returns the fault of a document or of one of its records.
func fault(list []transform.Record, err error) error {
	for _, r := range list {
		if r.Err != nil {
			return r.Err
		}
	}
	return err
}

func (s *suite) byteOrderMark(t *testing.T) {
	if _, params, _ := mime.ParseMediaType(s.Format.MediaType()); params["charset"] != "" && params["charset"] != "utf-8" {
		t.Skip("the documents are not in UTF-8")
	}
	marked := "\uFEFF" + s.document
	if diff := cmp.Diff(showAll(s.decode(t, strings.NewReader(s.document), s.Decode)), showAll(s.decode(t, strings.NewReader(marked), s.Decode))); diff != "" {
		t.Errorf("(-without +with):\n%s", diff)
	}
	if err := s.Agree(marked, s.Decode); err != nil {
		t.Error(err)
	}
}

func (s *suite) closing(t *testing.T) {
	o := s.Decode
	o.Limits.BatchSize = 1
	for after := range min(3, len(s.Values)+1) {
		d, err := s.Format.NewDecoder(strings.NewReader(s.document), o)
		if err != nil {
			t.Fatal(err)
		}
		closer, ok := d.(io.Closer)
		if !ok {
			t.Skip("the decoder is no io.Closer")
		}
		var b transform.Batch
		for range after {
			if err := d.Decode(&b); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := d.Decode(&b); err == nil || len(b.Records) > 0 {
			t.Errorf("closed it gave %d records, %v", len(b.Records), err)
		}
	}
}

// Fuzz is the body of a fuzz target: it decodes any document, and tells what breaks the contract. Besides what [Harness.Agree] says,
// what was decoded, encoded and decoded again must be what it was.
func Fuzz(t *testing.T, h Harness, document []byte) {
	o := h.Decode
	o.Limits = transform.Limits{Depth: 8, RecordBytes: 256, FieldBytes: 64, NameBytes: 16, Fields: 8, Attributes: 4, BatchSize: 3}
	if err := h.Agree(string(document), o); err != nil {
		t.Fatal(err)
	}
	list, _ := Decode(h.Format, bytes.NewReader(document), h.Decode)
	list = slices.DeleteFunc(list, func(r transform.Record) bool { return r.Err != nil })
	text, refused, err := Encode(h.Format, list, h.Encode)
	if err != nil || len(refused) > 0 || len(list) == 0 {
		return // it can be read and not be written, such as NUL in JSON's texts as XML
	}
	again, err := Decode(h.Format, strings.NewReader(text), h.Decode)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v\n%q", err, text)
	}
	if want, got := shown(values(list)), shown(values(again)); !slices.Equal(want, got) {
		t.Fatalf("written and read again (-before +after):\n%s\n%q", cmp.Diff(want, got), text)
	}
}

// Bench measures a format in bytes of its documents: decoding, checking and encoding orders of ten fields.
func Bench(b *testing.B, h Harness) {
	shape := transform.NewShape("id", "customer", "city", "sku", "name", "qty", "price", "day", "paid", "note")
	var many []transform.Record
	for i := range 10_000 {
		number := func(format string, args ...any) transform.Value {
			return transform.Number(fmt.Sprintf(format, args...))
		}
		v := transform.NewObject(shape, []transform.Value{number("%d", 100_000+i), transform.Text(fmt.Sprintf("Customer %d, Ltd", i%997)), transform.Text("Zürich"),
			transform.Text(fmt.Sprintf("SKU-%06d", i%5003)), transform.Text("a thing with a name of usual length"), number("%d", i%17), number("%d.%02d", i%613, i%100),
			transform.Text("2026-01-02"), transform.Bool(i%3 == 0), transform.Null})
		many = append(many, transform.Record{Value: v})
	}
	document, _, err := Encode(h.Format, many, h.Encode)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil && err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
	run("decode", func() error {
		d, err := h.Format.NewDecoder(strings.NewReader(document), h.Decode)
		for batch := (transform.Batch{}); err == nil; {
			err = d.Decode(&batch)
		}
		return err
	})
	run("check", func() error { return h.Format.Check(strings.NewReader(document), h.Decode) })
	run("encode", func() error {
		e, err := h.Format.NewEncoder(io.Discard, h.Encode)
		for batch := range slices.Chunk(many, 512) {
			if err == nil {
				err = e.Encode(&transform.Batch{Records: batch})
			}
		}
		if err != nil {
			return err
		}
		return e.Close()
	})
}
