package flow

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// Records are kept as lines of JSON, so that a later run can read them as this one did: a record with its place, why it was rejected, and its
// source, or what encloses the records that follow. JSON does not tell text from text without a type and from bytes, so that what is written as a
// string begins with its kind.
const (
	keptText    = 't'
	keptUntyped = 'u'
	keptBytes   = 'B' // capitals are in base64
	oddText     = 'T' // no UTF-8
	oddUntyped  = 'U'
)

var (
	keptShape  = transform.NewShape("record", "line", "step", "field", "reason", "source", "raw")
	scopeShape = transform.NewShape("parent", "doc")
)

// constant formats: their options are known to be right.
var (
	keptLines = must(jsonfmt.NewLines(jsonfmt.Options{}))
	keptJSON  = must(jsonfmt.New(jsonfmt.Options{}))
	keptCSV   = must(csvfmt.New(csvfmt.Options{Formula: "escape"})) // people open it in a spreadsheet
)

func must(f transform.Format, err error) transform.Format {
	if err != nil {
		panic(err)
	}
	return f
}

func keptRecord(r *transform.Record, why Rejected) transform.Value {
	return transform.NewObject(keptShape, []transform.Value{transform.Int(why.Record), transform.Int(why.Line), transform.Text(why.Step), transform.Text(why.Field),
		transform.Text(why.Reason), keptValue(r.Source), transform.Text(r.Raw)})
}

func keptScope(s *transform.Scope) transform.Value {
	if s == nil {
		s = &transform.Scope{}
	}
	return transform.NewObject(scopeShape, []transform.Value{keptValue(s.Parent), keptValue(s.Doc)})
}

// keptValue returns the value with the kinds of its texts.
func keptValue(v transform.Value) transform.Value {
	var plain, odd string
	switch v.Kind() {
	case transform.KindText:
		plain, odd = string(keptText), string(oddText)
	case transform.KindUntyped:
		plain, odd = string(keptUntyped), string(oddUntyped)
	case transform.KindBytes:
		odd = string(keptBytes)
	default:
		return each(v, keptValue)
	}
	if plain != "" && utf8.ValidString(v.Text()) {
		return transform.Text(plain + v.Text())
	}
	return transform.Text(odd + base64.StdEncoding.EncodeToString([]byte(v.Text())))
}

// each returns the object or list of what change makes of its values; anything else as it is.
func each(v transform.Value, change func(transform.Value) transform.Value) transform.Value {
	if k := v.Kind(); k != transform.KindObject && k != transform.KindList {
		return v
	}
	values := make([]transform.Value, v.Len())
	for i := range values {
		values[i] = change(v.At(i))
	}
	if v.Kind() == transform.KindList {
		return transform.List(values)
	}
	return transform.NewObject(v.Shape(), values)
}

// valueKept returns what keptValue was given.
func valueKept(v transform.Value) transform.Value {
	if !v.IsText() || v.Text() == "" {
		return each(v, valueKept)
	}
	kind, text := v.Text()[0], v.Text()[1:]
	if kind == keptBytes || kind == oddText || kind == oddUntyped {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return transform.Null // impossible: it was written by keptValue and the store has verified it
		}
		text = string(raw)
	}
	switch kind {
	case keptUntyped, oddUntyped:
		return transform.Untyped(text)
	case keptBytes:
		return transform.Bytes(text)
	}
	return transform.Text(text)
}

// kept reads records that were kept. Each carries why it was rejected.
type kept struct {
	transform.Decoder
	body  io.Closer
	lines transform.Batch
	scope *transform.Scope
	whys  []Rejected // of the batch that was decoded last
}

func (r *Runner) openKept(ctx context.Context, b store.Body) (*kept, error) {
	body, err := r.store.OpenBody(ctx, b)
	if err != nil {
		return nil, err
	}
	const any = math.MaxInt // what has been a record may be one again
	decoder, err := keptLines.NewDecoder(body, transform.DecodeOptions{Limits: transform.Limits{Depth: 1 << 16, RecordBytes: any, FieldBytes: any, NameBytes: any, Fields: any}})
	if err != nil {
		body.Close()
		return nil, err
	}
	return &kept{Decoder: decoder, body: body}, nil
}

func (k *kept) Close() error {
	if c, ok := k.Decoder.(io.Closer); ok {
		c.Close() // it only releases memory
	}
	return k.body.Close()
}

// Decode reads records as their run's source gave them, with their places there.
func (k *kept) Decode(b *transform.Batch) error {
	b.Records, k.whys = b.Records[:0], k.whys[:0]
	for len(b.Records) == 0 {
		k.lines = transform.Batch{Records: k.lines.Records} // what is read points into the memory of its lines, and is let go with them
		if err := k.Decoder.Decode(&k.lines); err != nil {
			return err
		}
		for _, line := range k.lines.Records {
			v := line.Value
			if line.Err != nil {
				return fmt.Errorf("read a record that was kept: %w", line.Err)
			}
			if _, ok := v.Get("source"); !ok {
				k.scope = &transform.Scope{Parent: valueKept(v.Field("parent")), Doc: valueKept(v.Field("doc"))}
				continue
			}
			source := valueKept(v.Field("source"))
			why := Rejected{Record: whole(v.Field("record")), Line: whole(v.Field("line")), Step: v.Field("step").Text(), Field: v.Field("field").Text(), Reason: v.Field("reason").Text()}
			k.whys = append(k.whys, why)
			b.Records = append(b.Records, transform.Record{Value: source, Source: source, Scope: k.scope, Index: why.Record - 1, Line: why.Line, Raw: v.Field("raw").Text()})
		}
	}
	return nil
}

func whole(v transform.Value) (n int64) {
	fmt.Sscan(v.Text(), &n) // it was written from one
	return n
}

// again reads kept records as the source of a new run. What could not be decoded then is no record now: it is rejected for the same reason.
type again struct{ *kept }

func (a again) Decode(b *transform.Batch) error {
	if err := a.kept.Decode(b); err != nil {
		return err
	}
	for i := range b.Records {
		if why := a.whys[i]; why.Step == stepDecode {
			b.Records[i].Err = &transform.Fault{Kind: KindInput, Step: stepDecode, Field: why.Field, Reason: why.Reason}
		}
	}
	return nil
}

var _ connector.Records = again{}

// stepDecode is what rejects call the part that reads the source.
const stepDecode = "decode"

// RejectTypes are the media types of the formats that [Runner.Rejects] writes, by name.
var RejectTypes = map[string]string{"ndjson": keptLines.MediaType(), "json": keptJSON.MediaType(), "csv": keptCSV.MediaType()}

// rejectNames are the fields that rejects have beside those of the source. A field of the source that has such a name is not shown.
var rejectNames = []string{"_record", "_line", "_step", "_field", "_reason"}

// ErrColumns says that rejects have too many different fields for a table.
var ErrColumns = errors.New("the rejected records have too many different fields for one table")

// Rejects writes the rejected records of a run that has ended: as ndjson, json or csv, each with its source's fields and _record, _line, _step,
// _field and _reason. Nothing is written before the first record has been read. In csv what is no single value is JSON, and text that a spreadsheet
// would run begins with '. The error wraps store.ErrNotFound when there is no such run; ErrColumns is of csv.
func (r *Runner) Rejects(ctx context.Context, w io.Writer, number int64, format string) error {
	body, _, err := r.store.Attachments(ctx, number)
	if err != nil {
		return err
	}
	return r.ShowKept(ctx, w, body, format)
}

// ShowKept is [Runner.Rejects] for a body that holds rejected records: one of a message that has RejectsOf.
func (r *Runner) ShowKept(ctx context.Context, w io.Writer, body store.Body, format string) error {
	f, ok := map[string]transform.Format{"ndjson": keptLines, "json": keptJSON, "csv": keptCSV}[format]
	if !ok {
		return fmt.Errorf("rejects are written as %v, not as %q", slices.Sorted(maps.Keys(RejectTypes)), format)
	}
	var options transform.EncodeOptions
	if format == "csv" {
		var err error
		if options.Columns, err = r.columns(ctx, body); err != nil {
			return err
		}
	}
	encoder, err := f.NewEncoder(w, options)
	if err != nil {
		return err
	}
	err = r.eachKept(ctx, body, func(b *transform.Batch) error {
		if format == "csv" {
			for i := range b.Records {
				b.Records[i].Value = each(b.Records[i].Value, cell)
			}
		}
		if err := encoder.Encode(b); err != nil {
			return err
		}
		for _, record := range b.Records {
			if record.Err != nil {
				return fmt.Errorf("write a rejected record as %s: %w", format, record.Err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return encoder.Close()
}

// eachKept shows the records of a body, batch after batch.
func (r *Runner) eachKept(ctx context.Context, body store.Body, show func(*transform.Batch) error) error {
	if body.Size == 0 {
		return nil
	}
	source, err := r.openKept(ctx, body)
	if err != nil {
		return err
	}
	defer source.Close()
	for {
		var b transform.Batch
		if err := source.Decode(&b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for i, why := range source.whys {
			v := b.Records[i].Value
			if v.Kind() != transform.KindObject {
				v = transform.NewObject(transform.NewShape("_value"), []transform.Value{v})
			}
			values := []transform.Value{transform.Int(why.Record), transform.Int(why.Line), transform.Text(why.Step), transform.Text(why.Field), transform.Text(why.Reason)}
			for n, name := range rejectNames {
				v = v.With(name, values[n])
			}
			b.Records[i].Value = v
		}
		if err := show(&b); err != nil {
			return err
		}
	}
}

// columns returns the names of all fields, those of the source first, in the order of their first use.
func (r *Runner) columns(ctx context.Context, body store.Body) ([]string, error) {
	const most = 10_000
	names, known := []string{}, map[string]bool{}
	err := r.eachKept(ctx, body, func(b *transform.Batch) error {
		for _, record := range b.Records {
			for name := range record.Value.Fields() {
				if !known[name] && !slices.Contains(rejectNames, name) {
					known[name], names = true, append(names, name)
				}
			}
			if len(names) > most {
				return ErrColumns
			}
		}
		return nil
	})
	return append(names, rejectNames...), err
}

// cell returns what a table shows of a value.
func cell(v transform.Value) transform.Value {
	if k := v.Kind(); k != transform.KindObject && k != transform.KindList {
		return v
	}
	text, err := jsonfmt.Append(nil, v)
	if err != nil {
		return transform.Null
	}
	return transform.Text(string(text))
}
