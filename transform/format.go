package transform

import (
	"fmt"
	"io"
)

// Format turns bytes into records and back: csv, json, xml … with its options. A Format is immutable and safe for concurrent use;
// each document gets a Decoder or Encoder of its own. Every implementation passes transformtest.Run.
//
// A format tells two sorts of fault apart. A document fault (not well-formed, an open quote, a wrong encoding) makes what follows
// unreadable: Decode and Check return it as a *[SyntaxError] and the whole payload is refused. A record fault (a row with too many
// cells, one bad line of NDJSON, a value that does not fit its declared type) concerns one record only: the decoder puts it into that
// Record's Err and goes on.
type Format interface {
	// Check reads r to its end and returns the first document fault, building nothing: nil means that a Decoder with the same
	// options will read to the end. It is what a listener does before it accepts a payload. Faults of r itself are returned as they are.
	Check(r io.Reader, options DecodeOptions) error

	// NewDecoder starts reading records from r. It may read from r at once, and returns a *SyntaxError when the start is unreadable
	// or the options cannot work with this format.
	NewDecoder(r io.Reader, options DecodeOptions) (Decoder, error)

	// NewEncoder starts writing records to w. Nothing needs to be written before the first batch or Close.
	NewEncoder(w io.Writer, options EncodeOptions) (Encoder, error)

	// MediaType is the Content-Type of what the encoder writes, with its charset where the type has one.
	MediaType() string
}

// MediaTyper is a format whose media type depends on how records become a document.
type MediaTyper interface {
	// MediaTypeOf is the Content-Type of what an encoder with these options writes.
	MediaTypeOf(options EncodeOptions) string
}

// MediaTypeOf returns the Content-Type of what the format's encoder writes with these options.
func MediaTypeOf(f Format, options EncodeOptions) string {
	if t, ok := f.(MediaTyper); ok {
		return t.MediaTypeOf(options)
	}
	return f.MediaType()
}

// Describer is a format that tells facts about its documents before it reads one. A flow asks when it is defined.
type Describer interface {
	Describe(options DecodeOptions) Description
}

// Description is what a [Describer] knows. The zero value knows nothing: many records, with types.
type Description struct {
	Single  bool // the document is one record
	Untyped bool // values are text without types

	Records string // the path of the records that the format's own options name; "" for none
}

// Decoder reads the records of one document. It is used by one goroutine. One that is an io.Closer too is closed when its reader stops
// before the end.
type Decoder interface {
	// Decode puts the next records into b, replacing what is there: at least one, at most the decoder's batch size. After the last
	// record it returns io.EOF and no records. A *SyntaxError ends the document for good; faults of the reader are returned wrapped.
	// It does not wait for a full batch when the reader has nothing more to give at the moment.
	Decode(b *Batch) error
}

// WholeDecoder is a [Decoder] that can put all records of its document into one batch: what Decode would give in several, without stopping in
// between. It is for documents that are small, takes the place of every call of Decode, and returns nil at the document's end. Records before a
// fault are in the batch.
type WholeDecoder interface {
	Decoder
	DecodeAll(b *Batch) error
}

// Encoder writes records as one document. It is used by one goroutine.
type Encoder interface {
	// Encode writes the batch's records. A record that the format cannot hold (an object in a CSV cell) gets its Err set and is left
	// out; an error of the writer is returned and ends the document. It may buffer what it has written; of the batch it keeps nothing.
	Encode(b *Batch) error

	// Close writes what ends the document and what is still buffered; without records an empty document of the format. It does not
	// close the writer.
	Close() error
}

// DecodeOptions are the wishes of one use of a format. The zero value reads the document as one record, or each row or line of a
// format that consists of rows.
type DecodeOptions struct {
	// Records is the path of the records inside the document (`orders[*]`, in XML also `/a/b`); "" is the format's own idea.
	Records string

	// Scope fills Record.Scope. A field of the enclosing element may stand after the list, so this needs Reopen.
	Scope bool

	// Reopen opens the same document once more from its start; nil when there is only the one reader. The caller of NewDecoder
	// closes nothing that Reopen returned: the decoder does, at the end or on a fault.
	Reopen func() (io.ReadCloser, error)

	// Raw fills Record.Raw with the record's own text.
	Raw bool

	// Limits bounds what the document may ask for.
	Limits Limits
}

// Limits bounds what one document may cost. Zero fields take the defaults that [Limits.WithDefaults] documents.
type Limits struct {
	Depth       int // nesting of objects, lists, elements (256)
	RecordBytes int // one record, and with Scope what encloses it, bytes of its text (64 MiB)
	FieldBytes  int // one value, bytes (16 MiB)
	NameBytes   int // one name, bytes (64 KiB)
	Fields      int // fields of one object, columns of one row (10,000)
	Attributes  int // attributes of one element (256)
	BatchSize   int // records in one batch (512)
	BatchBytes  int // source bytes in one batch, approximately (256 KiB): a batch ends at whichever comes first
}

// WithDefaults returns the limits with every zero field set to its default.
func (l Limits) WithDefaults() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.Depth, 256)
	set(&l.RecordBytes, 64<<20)
	set(&l.FieldBytes, 16<<20)
	set(&l.NameBytes, 64<<10)
	set(&l.Fields, 10_000)
	set(&l.Attributes, 256)
	set(&l.BatchSize, 512)
	set(&l.BatchBytes, 256<<10)
	return l
}

// Appender is a format whose documents can be continued: what several of its encoders wrote, one behind the other, is one document, when only the
// first one's head stands before it.
type Appender interface {
	// NewAppender starts writing records that continue a document; the error says why documents of these options cannot be.
	NewAppender(w io.Writer, options EncodeOptions) (AppendEncoder, error)
}

// AppendEncoder writes records that continue a document.
type AppendEncoder interface {
	Encoder

	// Head returns what a new document would begin with, such as the header of a table; it is known once Close has returned. nil: nothing.
	Head() []byte
}

// EncodeOptions are the wishes of one use of a format for writing. The zero value writes a document of many records.
type EncodeOptions struct {
	// Columns are the names of the fields when the flow knows them before the first record; nil when it does not. A format with a
	// header writes it from these, so that a document without records still has one.
	Columns []string

	// As is how records become a document where a format has a choice: "array" (the default), "object" (the one record itself; more
	// than one is an error) or "lines".
	As string
}

// SyntaxError is a document fault with its place. Line and Column count from 1, Column in characters; Offset counts bytes from 0;
// each is -1 or 0 where unknown. Reason never repeats more of the payload than one character or name.
type SyntaxError struct {
	Format string // "json", "csv", "xml"
	Line   int64
	Column int64
	Offset int64
	Reason string
}

// Error returns the place and the reason.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s: line %d, column %d: %s", e.Format, e.Line, e.Column, e.Reason)
}

// FormatKind makes formats of one type from their definition. Hosts add their own in integrator.Config.Formats.
type FormatKind struct {
	// Name is the definition's `type`.
	Name string

	// New makes a format. decode fills a pointer to a struct from the definition's other keys by their json tags, and answers every
	// unknown or ill-typed key as a fault at its place; a kind without options still calls it, with a pointer to an empty struct.
	// The engine also calls it with a decode that always fails, to learn what keys there are.
	New func(decode func(options any) error) (Format, error)
}

// FormatRef names a format where a definition uses one: a format of the set's own `formats`, or a kind with its options.
type FormatRef struct {
	Type    string         `json:"type" define:"short"`
	Options map[string]any `json:"-" define:"rest"`
}
