package flow

import (
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// ListenerFacts is what a flow needs to know of a listener that it reads or that starts it.
type ListenerFacts struct {
	Formats  []PayloadFormat // that payloads may be in; none: they cannot be read
	Sync     bool
	Params   []string         // of its path
	Declared map[string]Param // parameters that it declares
}

// params returns the names of the parameters that are known of every call.
func (f *ListenerFacts) params() []string {
	names := slices.Clone(f.Params)
	for name := range f.Declared {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// PayloadFormat is one of the formats that a listener's payloads may be in.
type PayloadFormat struct {
	Name string // in the listener's definition; what a message remembers
	transform.Format
}

// Type returns the format's media type without parameters, which payloads are told apart by: a charset tells nothing that the format does not know.
func (f PayloadFormat) Type() string {
	media, _, _ := mime.ParseMediaType(f.MediaType()) // without a type there is nothing to tell it by
	return media
}

// FormatFor returns which of the formats a Content-Type means: the first when it means none of them, and then false. There is one at least.
//
// A type means the format that writes it, else one that has the same name without text/, application/, x- and what stands before +: text/xml and
// application/fhir+xml are xml.
func FormatFor(formats []PayloadFormat, contentType string) (i int, fits bool) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, false
	}
	for _, same := range []func(string) string{func(media string) string { return media }, shortName} {
		i := slices.IndexFunc(formats, func(f PayloadFormat) bool { return f.Type() != "" && same(f.Type()) == same(media) })
		if i >= 0 {
			return i, true
		}
	}
	return 0, false
}

// shortName returns what is left of a media type without what makes no difference.
func shortName(media string) string {
	_, name, _ := strings.Cut(media, "/")
	if i := strings.LastIndexByte(name, '+'); i >= 0 {
		name = name[i+1:]
	}
	return strings.TrimPrefix(name, "x-")
}

// FormatOf returns the format that a message's payload is in: the one that was chosen when it was accepted, else what its Content-Type means among those of
// today; nil when there are none.
func FormatOf(formats []PayloadFormat, m *store.Message) transform.Format {
	if len(formats) == 0 {
		return nil
	}
	i := slices.IndexFunc(formats, func(f PayloadFormat) bool { return f.Name == m.Format })
	if i < 0 {
		contentType := ""
		if types := valuesOf(m.Header, "Content-Type"); types != nil {
			contentType = types[0]
		}
		i, _ = FormatFor(formats, contentType)
	}
	return formats[i].Format
}

// Wanted returns those of a listener's flows that want a message: without from.when, or with one that is true. It checks the parameters that they declare; the
// error is a *ParamError that names every fault.
func Wanted(m *store.Message, plans []*Plan) ([]*Plan, error) {
	if !slices.ContainsFunc(plans, func(p *Plan) bool { return p.when != nil || len(p.heard)+len(p.params) > 0 }) {
		return plans, nil
	}
	var wanted []*Plan
	var e ParamError
	for _, p := range plans {
		wants, err := p.wants(m)
		if err == nil && wants {
			wanted = append(wanted, p)
			_, err = p.paramsOf(m)
		}
		if faults, ok := err.(*ParamError); ok {
			e.Faults = append(e.Faults, faults.Faults...)
		} else if err != nil {
			return nil, err
		}
	}
	if e.Faults != nil {
		slices.Sort(e.Faults)
		return nil, &ParamError{slices.Compact(e.Faults)}
	}
	return wanted, nil
}

// wants decides from.when, which sees what the listener declares.
func (p *Plan) wants(m *store.Message) (bool, error) {
	if p.when == nil {
		return true, nil
	}
	params, err := ParamsOf(m, p.heard)
	if err != nil {
		return false, err
	}
	wants, err := p.when.EvalBool(callEnv(m, params), &transform.Record{})
	if err != nil {
		return false, &ParamError{[]string{fmt.Sprintf("flow %q cannot tell by its from.when whether it wants the payload: %v", p.Name, err)}}
	}
	return wants, nil
}

// paramsOf returns the parameters of a run that a message starts.
func (p *Plan) paramsOf(m *store.Message) ([]byte, error) { return ParamsOf(m, p.heard, p.params) }

// asIs is the format of payloads that are put into files as they are. What it calls records are pieces, of which nobody sees more than that they are bytes.
type asIs struct{}

// pieceBytes is how long a piece is.
const pieceBytes = 64 << 10

func (asIs) Check(r io.Reader, _ transform.DecodeOptions) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (asIs) NewDecoder(r io.Reader, _ transform.DecodeOptions) (transform.Decoder, error) {
	return &pieces{r: r, buffer: make([]byte, pieceBytes)}, nil
}

func (asIs) NewEncoder(w io.Writer, _ transform.EncodeOptions) (transform.Encoder, error) {
	return pieceWriter{w}, nil
}

func (asIs) MediaType() string { return "application/octet-stream" }

type pieces struct {
	r      io.Reader
	buffer []byte
}

func (p *pieces) Decode(b *transform.Batch) error {
	b.Records = b.Records[:0]
	n, err := io.ReadAtLeast(p.r, p.buffer, 1)
	if err != nil {
		return err
	}
	b.Records = append(b.Records, transform.Record{Value: transform.Bytes(string(p.buffer[:n]))})
	return nil
}

type pieceWriter struct{ w io.Writer }

func (p pieceWriter) Encode(b *transform.Batch) error {
	for i := range b.Records {
		if _, err := io.WriteString(p.w, b.Records[i].Value.Text()); err != nil {
			return err
		}
	}
	return nil
}

func (pieceWriter) Close() error { return nil }
