package listener_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/transform"
)

// watched counts the blobs that are neither committed nor aborted, and those that were committed.
type watched struct {
	*memstore.Store
	open, committed atomic.Int64
	fault           error // of writing blobs
}

type watchedBlob struct {
	store.BlobWriter
	store *watched
	ended bool
}

func (w *watched) CreateBlob(ctx context.Context) (store.BlobWriter, error) {
	b, err := w.Store.CreateBlob(ctx)
	w.open.Add(1)
	return &watchedBlob{BlobWriter: b, store: w}, err
}

func (b *watchedBlob) Write(p []byte) (int, error) {
	if b.store.fault != nil {
		return 0, b.store.fault
	}
	return b.BlobWriter.Write(p)
}

func (b *watchedBlob) end() {
	if !b.ended {
		b.ended = true
		b.store.open.Add(-1)
	}
}

func (b *watchedBlob) Abort() error { b.end(); return b.BlobWriter.Abort() }

func (b *watchedBlob) Commit() (store.Body, error) {
	b.end()
	b.store.committed.Add(1)
	return b.BlobWriter.Commit()
}

// engine is a receiver with a real store and runner behind it.
type engine struct {
	*listener.Receiver
	store    *watched
	accepted atomic.Int64
	stop     func()
}

func start(t *testing.T, plans ...*flow.Plan) *engine {
	t.Helper()
	e := &engine{store: &watched{Store: memstore.New()}}
	runner := flow.NewRunner(flow.Options{Store: e.store, Plans: func() []*flow.Plan { return plans },
		Plan: func(_ context.Context, id int64, _ string) (*flow.Plan, error) {
			for _, p := range plans {
				if p.ID == id {
					return p, nil
				}
			}
			return nil, store.ErrNotFound
		},
		Observer: flow.ObserverFunc(func(event flow.Event) {
			if _, ok := event.(flow.Accepted); ok {
				e.accepted.Add(1)
			}
		})})
	queue, err := e.store.Join(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- runner.Run(ctx, queue, func() { close(ready) }) }()
	<-ready
	e.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(func() {
		e.stop()
		if n := e.store.open.Load(); n != 0 {
			t.Errorf("%d blobs were neither committed nor aborted", n)
		}
	})
	e.Receiver = listener.NewReceiver(runner, e.store, time.Now, 0)
	return e
}

// attach makes a listener with one flow.
func attach(t *testing.T, d listener.Definition, f flow.Definition, steps map[string]transform.Func) (*listener.Listener, *flow.Plan) {
	t.Helper()
	d.Path = "/shop/{store}"
	l := compile(t, "orders", d)
	plan, faults := flow.Compile("load", 3, "flows.load", f, flow.Environment{Format: formatOf, Steps: steps, Names: func(string) []string { return nil },
		Listener: func(name string) (*flow.ListenerFacts, bool) { return l.Facts(), name == "orders" }})
	if faults != nil {
		t.Fatal(faults)
	}
	if faults := l.Attach([]*flow.Plan{plan}); faults != nil {
		t.Fatal(faults)
	}
	return l, plan
}

var reads = flow.Definition{From: &flow.From{Listener: "orders"}}

func TestReceive(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken connection")
	big := `{"a": "` + strings.Repeat("x", store.InlineBytes) + `"}`
	fits := `"` + strings.Repeat("x", store.InlineBytes-2) + `"`
	const unknown, right = -1, -2 // lengths
	syntax := new(listener.PayloadError)
	whole := func(r io.Reader) io.Reader { return r }
	cut := func(n int64) func(io.Reader) io.Reader {
		return func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, n), iotest.ErrReader(broken)) }
	}
	for _, c := range []struct {
		name   string
		format string
		check  string
		from   flow.Definition
		body   string
		length int64
		reader func(io.Reader) io.Reader
		want   error // nil: stored as it is
	}{
		{"small", "json", "", reads, `{"a": 1}`, right, whole, nil},
		{"small, not announced", "json", "", reads, `{"a": 1}`, unknown, whole, nil},
		{"a byte at a time", "json", "", reads, `{"a": 1}`, right, iotest.OneByteReader, nil},
		{"the last bytes with the end", "json", "", reads, `{"a": 1}`, right, iotest.DataErrReader, nil},
		{"as large as fits inline", "json", "", reads, fits, right, whole, nil},
		{"as large as fits inline, not announced", "json", "", reads, fits, unknown, whole, nil},
		{"a byte larger", "json", "", reads, fits + " ", right, whole, nil},
		{"a byte larger, not announced", "json", "", reads, fits + " ", unknown, iotest.DataErrReader, nil},
		{"large", "json", "", reads, big, right, iotest.HalfReader, nil},
		{"CSV", "csv", "", reads, "a,b\n1,2\n", right, whole, nil},
		{"XML", "xml", "", reads, "<a><b>1</b></a>", right, whole, nil},
		{"a ragged row is not the document's fault", "csv", "", reads, "a,b\n1\n", right, whole, nil},

		{"malformed", "json", "", reads, `{"a": }`, right, whole, syntax},
		{"malformed, not announced", "json", "", reads, `{"a": }`, unknown, whole, syntax},
		{"trailing data", "json", "", reads, `{"a": 1} x`, right, whole, syntax},
		{"empty", "json", "", reads, "", right, whole, syntax},
		{"empty, not announced", "json", "", reads, "", unknown, whole, syntax},
		{"malformed at the end of what is large", "json", "", reads, big + "}", right, whole, syntax},
		{"malformed at the end of what is large, not announced", "json", "", reads, big[:len(big)-1], unknown, whole, syntax},
		{"malformed at the start of what is large", "json", "", reads, "}" + big, right, whole, syntax},
		{"CSV with an open quote", "csv", "", reads, "a,b\n\"1,2\n", right, whole, syntax},
		{"XML with an open element", "xml", "", reads, "<a><b></a>", right, whole, syntax},
		{"XML with a DOCTYPE", "xml", "", reads, "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", right, whole, syntax},

		{"malformed, not checked", "json", "none", reads, `{"a": }`, right, whole, nil},
		{"empty, not checked", "json", "none", reads, "", right, whole, nil},
		{"large and malformed, not checked", "json", "none", reads, "}" + big, right, whole, nil},
		{"malformed, for a flow that does not read it", "json", "", flow.Definition{Listener: "orders"}, `{"a": }`, right, whole, nil},
		{"without a format", "", "", flow.Definition{Listener: "orders"}, "\x00\xff", right, whole, nil},

		{"cut", "json", "", reads, `{"a": 1}`, right, cut(4), broken},
		{"cut, not announced", "json", "", reads, `{"a": 1}`, unknown, cut(4), broken},
		{"cut before it begins", "json", "", reads, `{"a": 1}`, right, cut(0), broken},
		{"cut after what is well-formed", "json", "", reads, `{"a": 1}`, unknown, cut(8), broken},
		{"cut after what is well-formed, as announced", "json", "", reads, `{"a": 1}`, right, cut(8), broken},
		{"large and cut", "json", "", reads, big, right, cut(store.InlineBytes + 1), broken},
		{"large and cut, not checked", "json", "none", reads, big, unknown, cut(store.InlineBytes + 1), broken},
		{"malformed and cut later", "json", "none", reads, "}" + big, unknown, cut(store.InlineBytes + 1), broken},
		{"a reader that gives up", "json", "", reads, big, right, iotest.TimeoutReader, iotest.ErrTimeout},

		{"shorter than announced", "json", "", reads, `{"a": 1}`, 9, whole, listener.ErrLength},
		{"nothing, but announced", "json", "", reads, "", 9, whole, listener.ErrLength},
		{"longer than announced", "json", "", reads, `{"a": 1}   `, 8, whole, listener.ErrLength},
		{"something, but announced as nothing", "json", "", reads, `{"a": 1}`, 0, whole, listener.ErrLength},
		{"large and shorter than announced", "json", "", reads, big, int64(len(big)) + 1, whole, listener.ErrLength},
		{"large and longer than announced", "json", "", reads, big + " ", int64(len(big)), whole, listener.ErrLength},
		{"large and longer than announced, not checked", "json", "none", reads, big + " ", int64(len(big)), whole, listener.ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := listener.Definition{Check: c.check}
			if c.format != "" {
				d.Format = []transform.FormatRef{{Type: c.format}}
			}
			l, plan := attach(t, d, c.from, nil)
			e := start(t, plan)
			if c.length == right {
				c.length = int64(len(c.body))
			}
			answer, err := e.Receive(t.Context(), l, &listener.Call{User: "shop", Method: "POST", Params: []store.Pair{{Name: "store", Value: "north"}},
				Query: []store.Pair{{Name: "q", Value: "1"}}, Header: []store.Pair{{Name: "H", Value: "2"}}, Body: c.reader(strings.NewReader(c.body)), Length: c.length})
			if c.want != nil {
				var payload *listener.PayloadError
				var fault *transform.SyntaxError
				switch isPayload := errors.As(err, &payload); {
				case c.want == error(syntax):
					if !isPayload || !errors.As(err, &fault) {
						t.Errorf("the error is %v, want a *PayloadError with a *SyntaxError", err)
					}
				case isPayload || !errors.Is(err, c.want):
					t.Errorf("the error is %v, want %v", err, c.want)
				}
				if n := e.accepted.Load() + e.store.committed.Load(); n != 0 || answer != nil {
					t.Errorf("of a refused payload there are %v and %d messages and blobs", answer, n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			receipt := answer.Receipt
			if answer.Outcome != nil || len(receipt.Runs) != 1 || receipt.Runs[0].Flow != "load" || receipt.Runs[0].FlowID != 3 || receipt.Runs[0].Number == 0 || receipt.Repeated {
				t.Errorf("the receipt is %+v", receipt)
			}
			m, err := e.store.Message(t.Context(), receipt.Message)
			if err != nil {
				t.Fatal(err)
			}
			if m.Body.Size != int64(len(c.body)) || m.Body.SHA256 != sha256.Sum256([]byte(c.body)) || (e.store.committed.Load() == 1) != (len(c.body) > store.InlineBytes) {
				t.Errorf("stored are %d bytes, of %d, with %d blobs", m.Body.Size, len(c.body), e.store.committed.Load())
			}
			r, err := e.store.OpenBody(t.Context(), m.Body)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := iotest.TestReader(r, []byte(c.body)); err != nil {
				t.Error(err)
			}
			if m.ReceivedAt.IsZero() || m.ID.Version() != 7 {
				t.Errorf("received at %v as %v", m.ReceivedAt, m.ID)
			}
			m.ID, m.ReceivedAt, m.Body = [16]byte{}, time.Time{}, store.Body{}
			want := &store.Message{Listener: "orders", User: "shop", Method: "POST", Params: []store.Pair{{Name: "store", Value: "north"}}, Query: []store.Pair{{Name: "q", Value: "1"}},
				Header: []store.Pair{{Name: "H", Value: "2"}}, Format: c.format}
			if d := cmp.Diff(want, m); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReceiveWithoutBody(t *testing.T) {
	t.Parallel()
	l, plan := attach(t, listener.Definition{Method: []string{"GET"}}, flow.Definition{Listener: "orders"}, nil)
	e := start(t, plan)
	c := &listener.Call{User: "shop", Method: "GET", Length: -1}
	answer, err := e.Receive(t.Context(), l, c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.store.Message(t.Context(), answer.Receipt.Message)
	if err != nil || m.Body.Size != 0 || m.Body.SHA256 != sha256.Sum256(nil) {
		t.Errorf("%+v, %v", m, err)
	}
	l, plan = attach(t, listener.Definition{Format: []transform.FormatRef{{Type: "json"}}}, reads, nil)
	var payload *listener.PayloadError
	if _, err := start(t, plan).Receive(t.Context(), l, c); !errors.As(err, &payload) {
		t.Errorf("nothing, for a flow that reads JSON: %v", err)
	}
}

// TestReceiveFullStore: a store that takes no more is no fault of the payload.
func TestReceiveFullStore(t *testing.T) {
	t.Parallel()
	l, plan := attach(t, listener.Definition{Format: []transform.FormatRef{{Type: "json"}}}, reads, nil)
	e := start(t, plan)
	e.store.fault = store.ErrFull
	big := `"` + strings.Repeat("x", store.InlineBytes) + `"`
	for _, length := range []int64{-1, int64(len(big))} {
		var payload *listener.PayloadError
		if _, err := e.Receive(t.Context(), l, &listener.Call{Body: strings.NewReader(big), Length: length}); !errors.Is(err, store.ErrFull) || errors.As(err, &payload) {
			t.Errorf("length %d: %v", length, err)
		}
	}
}

// careless is a format of a host that checks as it likes.
type careless struct {
	transform.Format
	check func(io.Reader) error
}

func (f careless) Check(r io.Reader, _ transform.DecodeOptions) error { return f.check(r) }

func TestReceiveCarelessFormat(t *testing.T) {
	t.Parallel()
	_, plan := attach(t, listener.Definition{Format: []transform.FormatRef{{Type: "json"}}}, reads, nil)
	e := start(t, plan)
	big := bytes.Repeat([]byte("x"), 3*store.InlineBytes)
	withCheck := func(check func(io.Reader) error) *listener.Listener {
		l, faults := listener.Compile("orders", "listeners.orders", listener.Definition{Path: "/a", Format: []transform.FormatRef{{Type: "json"}}},
			listener.Environment{Format: func(ref *transform.FormatRef, path string) (transform.Format, error) {
				f, err := formatOf(ref, path)
				return careless{f, check}, err
			}})
		if faults != nil {
			t.Fatal(faults)
		}
		l.Attach([]*flow.Plan{plan})
		return l
	}
	l := withCheck(func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 2*store.InlineBytes); return err })
	answer, err := e.Receive(t.Context(), l, &listener.Call{Body: bytes.NewReader(big), Length: -1})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := e.store.Message(t.Context(), answer.Receipt.Message); err != nil || m.Body.Size != int64(len(big)) {
		t.Errorf("a format that does not read to the end cuts the payload: %v, %v", m.Body.Size, err)
	}
	l = withCheck(func(r io.Reader) error { io.CopyN(io.Discard, r, 2*store.InlineBytes); panic("careless") })
	defer func() {
		if recover() == nil {
			t.Error("the panic is gone")
		}
	}()
	e.Receive(t.Context(), l, &listener.Call{Body: bytes.NewReader(big), Length: -1})
}

func TestReceiveOnce(t *testing.T) {
	t.Parallel()
	l, plan := attach(t, listener.Definition{Format: []transform.FormatRef{{Type: "json"}}}, reads, nil)
	e := start(t, plan)
	call := func(body string) (*listener.Answer, error) {
		return e.Receive(t.Context(), l, &listener.Call{Body: strings.NewReader(body), Length: int64(len(body)),
			Once: &store.Once{Scope: "shop", Key: "1", Until: time.Now().Add(time.Hour)}})
	}
	first, err := call(`{"a": 1}`)
	if err != nil {
		t.Fatal(err)
	}
	second, err := call(`{"a": 1}`)
	if err != nil || !second.Receipt.Repeated || second.Receipt.Message != first.Receipt.Message || second.Receipt.Runs[0] != first.Receipt.Runs[0] {
		t.Errorf("the same again: %+v, %v; the first was %+v", second, err, first)
	}
	if answer, err := call(`{"a": 2}`); !errors.Is(err, store.ErrOnce) || answer != nil {
		t.Errorf("another body: %v, %v", answer, err)
	}
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d messages were stored", n)
	}
}

func TestReceiveStopping(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"async", "sync"} {
		l, plan := attach(t, listener.Definition{Mode: mode, Format: []transform.FormatRef{{Type: "json"}}}, reads, nil)
		e := start(t, plan)
		e.stop()
		if answer, err := e.Receive(t.Context(), l, &listener.Call{Body: strings.NewReader("{}"), Length: 2}); !errors.Is(err, flow.ErrStopping) || answer != nil {
			t.Errorf("%s: %v, %v", mode, answer, err)
		}
	}
}

func TestReceiveSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var release chan struct{}
		steps := map[string]transform.Func{"wait": func(ctx context.Context, r *transform.Record) error {
			if release != nil {
				<-release
			}
			return nil
		}}
		from := reads
		from.Steps, from.Respond = []flow.Step{{Go: "wait"}}, &flow.Respond{}
		l, plan := attach(t, listener.Definition{Mode: "sync", Format: []transform.FormatRef{{Type: "json"}}}, from, steps)
		e := start(t, plan)
		answer, err := e.Receive(t.Context(), l, &listener.Call{User: "shop", Body: strings.NewReader(`{"a": 1}`), Length: 8})
		if err != nil {
			t.Fatal(err)
		}
		run := answer.Outcome.Run
		if run.Status != store.Success || run.User != "shop" || answer.Receipt.Message != run.Message || answer.Receipt.Runs[0].Number != run.Number || answer.Receipt.Runs[0].FlowID != 3 {
			t.Errorf("%+v", answer)
		}
		if m, err := e.store.Message(t.Context(), answer.Receipt.Message); err != nil || m.Body.Size != 8 {
			t.Errorf("the message: %+v, %v", m, err)
		}
		var text strings.Builder
		if _, err := answer.Outcome.Response.WriteTo(&text); err != nil || strings.TrimSpace(text.String()) != `{"a":1}` {
			t.Errorf("the response: %q, %v", text.String(), err)
		}
		answer.Outcome.Response.Close()

		release = make(chan struct{})
		began := time.Now()
		answer, err = e.Receive(t.Context(), l, &listener.Call{Body: strings.NewReader(`{"a": 1}`), Length: 8, Once: &store.Once{Key: "1", Until: time.Now().Add(time.Hour)}})
		if !errors.Is(err, flow.ErrStillRuns) || answer.Receipt.Message == [16]byte{} || answer.Receipt.Runs[0].Number == 0 {
			t.Errorf("a run that takes longer: %+v, %v", answer, err)
		}
		if waited := time.Since(began); waited != listener.DefaultTimeout {
			t.Errorf("the call waited %v", waited)
		}
		close(release)
		e.stop()
	})
}
