package flow

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Response is what a flow answers to the caller that waits for its run. It is complete before it is sent, so that its status and its
// body agree, unless its definition says stream. It is used by one goroutine at a time; Close releases it.
type Response struct {
	Status int // 0 in an answer of on_error: that of the problem
	Header http.Header

	plan    *answer
	format  int                            // of the plan's
	query   []store.Pair                   // of the call
	leftOut func(header string, err error) // told of a header that cannot be sent
	send    func() io.Writer               // sends the head and returns where the body goes; nil: it is kept
	sent    io.Writer                      // nil: it is kept
	encoder transform.Encoder
	records int64
	first   *transform.Record // that a body of its own may read
	last    transform.Value   // of a page
	memory  bytes.Buffer
	file    *os.File // set once the body has outgrown the memory
	size    int64
}

// StreamFunc sends the head of an answer and returns where its body goes, while the run goes on. ctx is the run's: its cause is not
// context.Canceled when the run was stopped. It is called by the goroutine that calls [Runner.Call].
type StreamFunc func(ctx context.Context, head *Response) io.Writer

// responseMemory is how large a response may grow in memory; what is larger goes to a temporary file.
const responseMemory = 256 << 10

func (r *Runner) newResponse(a *answer, m *store.Message, run *store.Run) *Response {
	number, flow := run.Number, run.Flow
	response := &Response{Status: a.status, Header: http.Header{}, plan: a, format: a.chosen(m), leftOut: func(header string, err error) {
		r.options.Logger.Warn("a header of an answer is left out", "flow", flow, "run", number, "header", header, "error", err)
	}}
	if m != nil {
		response.query = m.Query
	}
	return response
}

// endEnv is what an answer sees that is made when its run has ended.
func endEnv(p *Plan, m *store.Message, run *store.Run) *transform.Env {
	env := environment(p, m, run)
	env.Run.Make = func() transform.Value {
		return runValue(p, run).With("read", transform.Int(run.Read)).With("written", transform.Int(run.Written)).With("rejected", transform.Int(run.Rejected))
	}
	return env
}

// Write adds to the body.
func (r *Response) Write(p []byte) (int, error) {
	if r.sent != nil {
		n, err := r.sent.Write(p)
		if err != nil {
			err = fmt.Errorf("%w: %w", errCallerGone, err)
		}
		return n, err
	}
	r.size += int64(len(p))
	if r.file == nil && r.memory.Len()+len(p) <= responseMemory {
		return r.memory.Write(p)
	}
	if r.file == nil {
		file, err := os.CreateTemp("", "integrator-response-*")
		if err != nil {
			return 0, fmt.Errorf("spool the response: %w", err)
		}
		r.file = file
		os.Remove(file.Name()) // the open file is enough; where that fails, Close removes it
		if _, err := r.memory.WriteTo(file); err != nil {
			return 0, fmt.Errorf("spool the response: %w", err)
		}
	}
	return r.file.Write(p)
}

// begin makes the encoder, once; what is sent at once has its head from here on.
func (r *Response) begin(env *transform.Env) (err error) {
	if r.encoder != nil || r.plan.empty {
		return nil
	}
	if r.send != nil {
		r.head(env)
		r.sent = r.send()
	}
	format := &r.plan.formats[r.format]
	r.encoder, err = format.format.NewEncoder(r, format.options)
	return err
}

// head fills in the header.
func (r *Response) head(env *transform.Env) {
	if !r.plan.empty {
		r.Header.Set("Content-Type", r.plan.types[r.format])
	}
	if len(r.plan.formats) > 1 {
		r.Header.Set("Vary", "Accept")
	}
	fillHeaders(r.Header, r.plan.headers, env, r.leftOut)
	if r.plan.page != nil {
		r.link(env)
	}
}

// fillHeaders writes the headers of an answer. One whose value cannot be sent is left out rather than changed, and leftOut is told. What the definition says that the answer varies
// with is beside what the engine says.
func fillHeaders(head http.Header, headers []header, env *transform.Env, leftOut func(header string, err error)) {
	for _, h := range headers {
		value, err := h.value.fill(env, nil, headerValue)
		switch {
		case err != nil:
			leftOut(h.name, err)
		case http.CanonicalHeaderKey(h.name) == "Vary":
			head.Add("Vary", value)
		default:
			head.Set(h.name, value)
		}
	}
}

// link adds the link to the next page behind one that is full, as the answer or as it was read. It is relative to the call's own address, wherever a proxy has put that.
func (r *Response) link(env *transform.Env) {
	size, err := strconv.ParseInt(env.Param.Field(r.plan.page.Size).Text(), 10, 64)
	read, _ := strconv.ParseInt(env.Run.Get().Field("read").Text(), 10, 64)
	if err != nil || size <= 0 || max(r.records, read) < size || r.records == 0 { // what steps leave out was of the page too
		return
	}
	last := r.last.Field(r.plan.page.After)
	if k := last.Kind(); k == transform.KindNull || k == transform.KindObject || k == transform.KindList {
		r.leftOut("Link", fmt.Errorf("the last record of a full page has no single value in %s", r.plan.page.After))
		return
	}
	query := url.Values{}
	for _, p := range r.query { // which holds no proof of who calls
		query.Add(p.Name, p.Value)
	}
	query.Set("after", last.Text())
	r.Header.Add("Link", "<?"+query.Encode()+`>; rel="next"`)
}

// encode adds records to the body, unless it has a body of its own.
func (r *Response) encode(env *transform.Env, b *transform.Batch) error {
	if r.plan.body != nil {
		return nil
	}
	if err := r.begin(env); err != nil || r.encoder == nil {
		return err
	}
	return r.encoder.Encode(b)
}

// saw notes what the answer's end says of the records that are in it.
func (r *Response) saw(b *transform.Batch) {
	if len(b.Records) == 0 {
		return
	}
	if r.plan.body != nil && r.first == nil {
		first := b.Records[0]
		r.first = &first
	}
	r.records += int64(len(b.Records))
	r.last = b.Records[len(b.Records)-1].Value
}

// finish completes the answer. env is that of the run's end.
func (r *Response) finish(env *transform.Env) error {
	if err := r.begin(env); err != nil {
		return err
	}
	if r.plan.body != nil {
		value, err := r.plan.body.Apply(env, r.first)
		if err != nil {
			return err
		}
		b := &transform.Batch{Records: []transform.Record{{Value: value}}}
		if err := r.encoder.Encode(b); err != nil {
			return err
		}
		if err := b.Records[0].Err; err != nil {
			return err
		}
	}
	if r.send == nil {
		r.head(env)
	}
	if r.encoder == nil {
		return nil
	}
	return r.encoder.Close()
}

// unsent reports whether the answer would be sent at once and has not begun: there is still time to say something else.
func (r *Response) unsent() bool { return r.send != nil && r.sent == nil }

// Empty reports whether the status allows no body.
func (r *Response) Empty() bool { return r.plan.empty }

// HeadOnly reports whether the definition gives a status and headers alone: that of an on_error without a body.
func (r *Response) HeadOnly() bool { return r.encoder == nil }

// Size returns the length of the body in bytes.
func (r *Response) Size() int64 { return r.size }

// WriteTo sends the body. It can be called once.
func (r *Response) WriteTo(w io.Writer) (int64, error) {
	if r.file == nil {
		return r.memory.WriteTo(w)
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read the spooled response: %w", err)
	}
	return io.Copy(w, r.file)
}

// Close releases the body. The second call does nothing.
func (r *Response) Close() {
	if r.file != nil {
		r.file.Close()
		os.Remove(r.file.Name())
		r.file = nil
	}
}

// allRejected reports whether not one record of a run was fit.
func allRejected(run *store.Run) bool {
	return run.Rejected > 0 && run.Rejected == run.Read && run.Written == 0
}

// AllRejected reports whether the run succeeded without one record that was fit.
func (o *Outcome) AllRejected() bool { return o.Failure == nil && allRejected(&o.Run) }

// OnError returns what the flow's on_error answers to a run that failed, or that rejected all of its records; nil when it says nothing to that.
// exception is as much of the causes as the caller may know, in the form of store.Run's Exception and Reason. The error says why the answer cannot be
// made. The receiver closes the response.
func (r *Runner) OnError(o *Outcome, exception string) (*Response, error) {
	if o.plan == nil { // nobody wants the repetition of a call that failed
		return nil, nil
	}
	kind := cmp.Or(o.Run.Kind, KindInput)
	i := slices.IndexFunc(o.plan.onError, func(h errorAnswer) bool { return h.kinds == nil || slices.Contains(h.kinds, kind) })
	if i < 0 {
		return nil, nil
	}
	env := endEnv(o.plan, o.message, &o.Run)
	env.Error = o.errorValue(kind, exception)
	response := r.newResponse(o.plan.onError[i].answer, o.message, &o.Run)
	if response.plan.body == nil {
		response.head(env)
		response.Header.Del("Content-Type") // the problem document's
		return response, nil
	}
	if err := response.finish(env); err != nil {
		response.Close()
		return nil, fmt.Errorf("on_error of flow %q: %w", o.Run.Flow, err)
	}
	return response, nil
}

// errorValue is what the body of an on_error finds in error.
func (o *Outcome) errorValue(kind, exception string) transform.Value {
	head, reason, causes := strings.Cut(exception, "\n")
	if !causes { // the place, and the words for the kind
		reason = strings.TrimSpace(head[strings.LastIndex(head, ": ")+1:])
	}
	if step, rest, ok := strings.Cut(reason, ": "); ok && strings.HasPrefix(head, fmt.Sprintf("flow %q: %s: ", o.Run.Flow, step)) {
		reason = rest // the step has a name of its own
	}
	text := func(s string) transform.Value {
		if s == "" {
			return transform.Null
		}
		return transform.Text(s)
	}
	number := func(n int64) transform.Value {
		if n == 0 {
			return transform.Null
		}
		return transform.Int(n)
	}
	var place Failure
	if o.Failure != nil {
		place = *o.Failure
	}
	faults := make([]transform.Value, len(o.Rejects))
	for i, r := range o.Rejects {
		faults[i] = transform.NewObject(faultShape, []transform.Value{number(r.Record), number(r.Line), text(r.Step), text(r.Field), text(r.Reason)})
	}
	return transform.NewObject(errorShape, []transform.Value{text(kind), text(reason), text(o.Run.Flow), text(place.Step), number(place.Record), number(place.Line),
		text(o.Run.ErrorID), transform.List(faults)})
}
