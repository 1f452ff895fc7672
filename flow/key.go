package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Key finds in a call what it shares with others: the key that its runs keep their order by, or the once-key of a listener. It sees header,
// query, param and message, and of a payload of at most store.InlineBytes the document; where documents are rows, lines or picked records, the
// first of them. It never changes and is safe for concurrent use.
type Key struct {
	mapping *transform.Mapping // of one field
	formats []PayloadFormat    // that the payload may be in; none when the key is not in it
}

// KeyError says why a call has no key that could be used: nothing of it is stored. It may wrap a *transform.SyntaxError, and holds no value of
// the payload.
type KeyError struct {
	Reason string
	Err    error // nil: Reason says it all
}

// Error returns the reason.
func (e *KeyError) Error() string {
	if e.Err != nil {
		return e.Reason + ": " + e.Err.Error()
	}
	return e.Reason
}

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// CompileKey compiles a path, or an expression behind =. formats are those that the payload may be in; known is as in
// transform.CompileOptions. The error joins *transform.DefinitionError.
func CompileKey(text string, formats []PayloadFormat, known map[string][]string) (*Key, error) {
	options := transform.CompileOptions{Known: maps.Clone(known)}
	options.Known["run"], options.Known["message"] = nil, messageNames
	for _, f := range formats {
		if d, ok := f.Format.(transform.Describer); ok && d.Describe(transform.DecodeOptions{}).Untyped {
			options.UntypedSource = true
		}
	}
	mapping, err := transform.CompileMap(transform.Map{{Name: "key", Term: transform.Term{Text: text}}}, options)
	switch {
	case err != nil:
		var faults []error
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			fault := &transform.DefinitionError{Reason: e.Error()}
			errors.As(e, &fault)
			faults = append(faults, &transform.DefinitionError{Offset: fault.Offset, Reason: fault.Reason, Hint: fault.Hint})
		}
		return nil, errors.Join(faults...)
	case mapping.NeedsScope():
		return nil, &transform.DefinitionError{Reason: "parent and doc are not known when a payload is accepted", Hint: "the path leads from the whole document"}
	case !mapping.NeedsRecord():
		return &Key{mapping: mapping}, nil
	case len(formats) == 0:
		return nil, &transform.DefinitionError{Reason: "there is no payload that could be read", Hint: "write param.NAME, query.NAME or = header['NAME']"}
	}
	return &Key{mapping, formats}, nil
}

// Of returns the key of a call, "" when what it looks for is not there. m is nil without a payload; params are those of [Submission]. The
// error is a *KeyError.
func (k *Key) Of(m *store.Message, params []byte) (string, error) {
	var record transform.Record
	if k.formats != nil && m != nil {
		if m.Body.Blob != uuid.Nil {
			return "", &KeyError{Reason: fmt.Sprintf("the key is in the payload, which may have %d bytes at most for that", store.InlineBytes)}
		}
		if err := first(FormatOf(k.formats, m), m.Body.Inline, &record); err != nil {
			return "", &KeyError{Reason: "the key cannot be read from the payload", Err: err}
		}
	}
	found, err := k.mapping.Apply(callEnv(m, params), &record)
	if err != nil {
		return "", &KeyError{Reason: "the key cannot be computed", Err: err}
	}
	switch v := found.Field("key"); {
	case v.Kind() == transform.KindObject || v.Kind() == transform.KindList:
		return "", &KeyError{Reason: fmt.Sprintf("a key is one value, this is %s", v.Kind())}
	case len(v.Text()) > store.KeyBytes:
		return "", &KeyError{Reason: fmt.Sprintf("the key is longer than %d bytes", store.KeyBytes)}
	default:
		return v.Text(), nil
	}
}

// first reads the document, or the first of its records; an empty one leaves the record as it is.
func first(format transform.Format, body []byte, record *transform.Record) error {
	decoder, err := format.NewDecoder(bytes.NewReader(body), transform.DecodeOptions{Limits: transform.Limits{BatchSize: 1}})
	if err != nil {
		return err
	}
	if c, ok := decoder.(io.Closer); ok {
		defer c.Close() // it only releases memory
	}
	var b transform.Batch
	if err := decoder.Decode(&b); err != nil {
		if err == io.EOF {
			return nil
		}
		return err
	}
	*record = b.Records[0]
	return record.Err
}
