package httpclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/connectortest"
	"github.com/integrator-go/integrator/connector/httpclient"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/transformtest"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// connect makes a connection as a definition does.
func connect(t testing.TB, definition string) (connector.Connection, error) {
	t.Helper()
	env := connector.Env{Name: "api", Now: func() time.Time { return noon }}
	return httpclient.Kind().New(env, func(options any) error { return json.Unmarshal([]byte(definition), options) })
}

// api is a server that applies each key once and tells what it was sent. Its answers are up to answer.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []call
	applied map[string]call // by key
	answer  func(w http.ResponseWriter, c call)
}

type call struct {
	Method, URI, Body string
	header            http.Header
	from              string // address of the other side
}

func newAPI(t testing.TB, answer func(w http.ResponseWriter, c call)) *api {
	a := &api{applied: map[string]call{}, answer: answer}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := call{r.Method, r.RequestURI, string(body), r.Header, r.RemoteAddr}
	a.mu.Lock()
	a.calls = append(a.calls, c)
	a.mu.Unlock()
	if a.answer != nil {
		rw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if a.answer(rw, c); rw.status >= 300 {
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if _, twice := a.applied[key]; !twice {
			a.applied[key] = c
		}
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func object(pairs ...any) transform.Value {
	v := transform.Null
	for i := 0; i < len(pairs); i += 2 {
		v = v.With(pairs[i].(string), pairs[i+1].(transform.Value))
	}
	return v
}

// This test runs beside no other, because the suite looks for goroutines that are left.
func TestConnection(t *testing.T) {
	json := must(jsonfmt.New(jsonfmt.Options{}))
	connectortest.Run(t, connectortest.Harness{
		New: func(t *testing.T) connectortest.System {
			a := newAPI(t, func(w http.ResponseWriter, c call) {
				if strings.Contains(c.Body, "unfit") {
					w.WriteHeader(http.StatusUnprocessableEntity)
				}
			})
			return connectortest.System{
				Connect: func() connector.Connection {
					return must(connect(t, fmt.Sprintf(`{"url": %q, "headers": {"X-Tenant": "a"}}`, a.URL)))
				},
				Written: func(t *testing.T) []transform.Value {
					a.mu.Lock()
					defer a.mu.Unlock()
					var list []transform.Value
					for _, c := range a.applied {
						list = append(list, must(transformtest.Decode(json, strings.NewReader(c.Body), transform.DecodeOptions{}))[0].Value)
					}
					return list
				},
			}
		},
		Target: connector.Target{Path: "/orders/${run.id}", Fixed: true},
		Path:   func(run connector.Run) string { return "/orders/" + run.ID.String() },
		Records: func(n int) []transform.Value {
			return []transform.Value{object("n", transform.Int(int64(n))), object("n", transform.Number("0.10")), object("n", transform.Text("é\"\n"))}
		},
		Unfit: object("n", transform.Text("unfit")),
		TargetFaults: map[string]connector.Target{
			"path":   {Path: "orders"},
			"table":  {Path: "/a", Table: "orders"},
			"action": {Path: "/a", Action: "replace"},
			"key":    {Path: "/a", Key: []string{"id"}},
			"create": {Path: "/a", Create: true},
			"exists": {Path: "/a", Exists: "fail"},
			"commit": {Path: "/a", Commit: 10},
		},
		Forgets: true,
	})
}

// begun is a started work on the api, of a connection whose definition has more keys.
func begun(t testing.TB, url, more string, targets ...connector.Target) connector.PathWork {
	t.Helper()
	c, err := connect(t, fmt.Sprintf(`{"url": %q%s}`, url, more))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w, err := c.(connector.Destination).PrepareWrite(targets)
	if err != nil {
		t.Fatal(err)
	}
	work, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, len(targets))
	for i := range targets {
		paths[i] = targets[i].Path
	}
	run := connector.Run{ID: uuid.MustParse("0198c5a0-0000-7000-8000-000000000001"), Number: 1, Flow: "orders", Attempt: 1, Time: noon}
	if applied, err := work.Start(run, paths); err != nil || applied {
		t.Fatal(applied, err)
	}
	return work.(connector.PathWork)
}

func batch(values ...transform.Value) *transform.Batch {
	b := &transform.Batch{}
	for i, v := range values {
		b.Records = append(b.Records, transform.Record{Value: v, Index: int64(i)})
	}
	return b
}

// TestCalls looks at what is sent.
func TestCalls(t *testing.T) {
	t.Parallel()
	const run = "0198c5a0-0000-7000-8000-000000000001"
	for _, c := range []struct {
		name   string
		more   string // of the definition
		target connector.Target
		paths  []string
		want   []call
		header map[string]string // of the first call
	}{
		{name: "a post of JSON for each record", target: connector.Target{Path: "/orders", Fixed: true},
			want:   []call{{"POST", "/v1/orders", `{"id":"a","n":1.50}` + "\n", nil, ""}, {"POST", "/v1/orders", `{"id":"b","n":2}` + "\n", nil, ""}},
			header: map[string]string{"Content-Type": "application/json", "Idempotency-Key": run + "-0", "User-Agent": "integrator", "Authorization": ""}},
		{name: "an action is a method", target: connector.Target{Path: "/orders/x", Action: "upsert"}, paths: []string{"/orders/a", "/orders/b"},
			want: []call{{"PUT", "/v1/orders/a", `{"id":"a","n":1.50}` + "\n", nil, ""}, {"PUT", "/v1/orders/b", `{"id":"b","n":2}` + "\n", nil, ""}}},
		{name: "delete has no body", target: connector.Target{Path: "/orders/x?force=1", Action: "delete"},
			want:   []call{{"DELETE", "/v1/orders/x?force=1", "", nil, ""}, {"DELETE", "/v1/orders/x?force=1", "", nil, ""}},
			header: map[string]string{"Content-Type": ""}},
		{name: "without a path the url is called", target: connector.Target{Action: "update"},
			want: []call{{"PATCH", "/v1", `{"id":"a","n":1.50}` + "\n", nil, ""}, {"PATCH", "/v1", `{"id":"b","n":2}` + "\n", nil, ""}}},
		{name: "another format", target: connector.Target{Path: "/o", Format: must(csvfmt.New(csvfmt.Options{})), Encode: transform.EncodeOptions{Columns: []string{"id", "n"}}},
			want:   []call{{"POST", "/v1/o", "id,n\na,1.50\n", nil, ""}, {"POST", "/v1/o", "id,n\nb,2\n", nil, ""}},
			header: map[string]string{"Content-Type": "text/csv; charset=utf-8"}},
		{name: "a list of one", target: connector.Target{Path: "/o", Encode: transform.EncodeOptions{As: "array"}},
			want: []call{{"POST", "/v1/o", "[\n{\"id\":\"a\",\"n\":1.50}\n]\n", nil, ""}, {"POST", "/v1/o", "[\n{\"id\":\"b\",\"n\":2}\n]\n", nil, ""}}},
		{name: "bearer, and headers of the definition", more: `, "auth": {"type": "bearer", "token": "t0ken"}, "headers": {"content-type": "application/fhir+json", "X-Tenant": "a"}`,
			target: connector.Target{Path: "/o"}, want: []call{{"POST", "/v1/o", `{"id":"a","n":1.50}` + "\n", nil, ""}, {"POST", "/v1/o", `{"id":"b","n":2}` + "\n", nil, ""}},
			header: map[string]string{"Content-Type": "application/fhir+json", "X-Tenant": "a", "Authorization": "Bearer t0ken"}},
		{name: "basic", more: `, "auth": {"type": "basic", "user": "Aladdin", "password": "open sesame"}`,
			target: connector.Target{Path: "/o"}, want: []call{{"POST", "/v1/o", `{"id":"a","n":1.50}` + "\n", nil, ""}, {"POST", "/v1/o", `{"id":"b","n":2}` + "\n", nil, ""}},
			header: map[string]string{"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil)
			work := begun(t, a.URL+"/v1/", c.more, c.target)
			b := batch(object("id", transform.Text("a"), "n", transform.Number("1.50")), object("id", transform.Text("b"), "n", transform.Int(2)))
			var err error
			if c.paths == nil {
				err = work.Write(0, b)
			} else {
				err = work.WriteAt(0, b, c.paths)
			}
			if err = errors.Join(err, work.Commit()); err != nil || b.Records[0].Err != nil || b.Records[1].Err != nil {
				t.Fatal(err, b.Records)
			}
			for name, want := range c.header {
				if got := a.calls[0].header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			for i := range a.calls {
				a.calls[i].header, a.calls[i].from = nil, ""
			}
			if diff := cmp.Diff(c.want, a.calls, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("(-expected +called):\n%s", diff)
			}
		})
	}
}

// TestKeys looks at what a key tells apart: records, destinations and, where the source may have changed between attempts, contents.
func TestKeys(t *testing.T) {
	t.Parallel()
	keys := func(fixed bool, text string) (keys []string) {
		a := newAPI(t, nil)
		work := begun(t, a.URL, "", connector.Target{Path: "/a", Fixed: fixed}, connector.Target{Path: "/b", Fixed: fixed})
		for target := range 2 {
			if err := work.Write(target, batch(object("t", transform.Text(text)), object("t", transform.Text(text)))); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range a.calls {
			keys = append(keys, c.header.Get("Idempotency-Key"))
		}
		return keys
	}
	const run = "0198c5a0-0000-7000-8000-000000000001"
	if diff := cmp.Diff([]string{run + "-0", run + "-1", run + "-0-2", run + "-1-2"}, keys(true, "x")); diff != "" {
		t.Errorf("(-expected +sent):\n%s", diff)
	}
	if diff := cmp.Diff(keys(true, "x"), keys(true, "y")); diff != "" {
		t.Errorf("the key of a record is not that of its place:\n%s", diff)
	}
	first, again, other := keys(false, "x"), keys(false, "x"), keys(false, "y")
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the next attempt has other keys:\n%s", diff)
	}
	for _, key := range other {
		if slices.Contains(first, key) {
			t.Errorf("another record has the key %s too", key)
		}
	}
}

// TestKeysOfSplitRecords: records that a step has split off one of the source are told apart, and so are their rows.
func TestKeysOfSplitRecords(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	work := begun(t, a.URL, "", connector.Target{Path: "/a", Fixed: true}, connector.Target{Path: "/b", Fixed: true, Each: true})
	for target := range 2 {
		b := batch(transform.Text("a"), transform.Text("b"), transform.Text("b"))
		for i, split := range []string{"3", "4", "4"} {
			b.Records[i].Index, b.Records[i].Split = 7, split
		}
		if target == 0 {
			b.Records = b.Records[:2]
		}
		if err := work.Write(target, b); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, c := range a.calls {
		_, key, _ := strings.Cut(c.header.Get("Idempotency-Key"), "000000000001-")
		keys = append(keys, key)
	}
	if diff := cmp.Diff([]string{"7.3", "7.4", "7.3.0-2", "7.4.0-2", "7.4.1-2"}, keys); diff != "" {
		t.Errorf("(-expected +sent):\n%s", diff)
	}
}

// TestStatus looks at what an answer does to its record and its run.
func TestStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		retryAfter string
		location   string
		rejected   string        // the record's reason
		final      bool          // the run is not tried again
		after      time.Duration // before the next attempt
		says       string        // the error
	}{
		{status: 200}, {status: 201}, {status: 204},
		{status: 301, location: "/elsewhere", final: true, says: "redirects are not followed"},
		{status: 302, location: "/elsewhere", final: true, says: "redirects are not followed"},
		{status: 307, location: "/elsewhere", final: true, says: "redirects are not followed"},
		{status: 304, final: true, says: "304 Not Modified"},
		{status: 400, rejected: "the destination answered 400 Bad Request"},
		{status: 401, final: true, says: "it does not take the connection's credentials"},
		{status: 403, rejected: "the destination answered 403 Forbidden"},
		{status: 404, rejected: "the destination answered 404 Not Found"},
		{status: 409, rejected: "the destination answered 409 Conflict"},
		{status: 422, retryAfter: "5", rejected: "the destination answered 422 Unprocessable Entity"},
		{status: 499, rejected: "the destination answered 499"},
		{status: 408, says: "408 Request Timeout"},
		{status: 425, says: "425 Too Early"},
		{status: 429, retryAfter: "7", after: 7 * time.Second, says: "429 Too Many Requests"},
		{status: 429, retryAfter: "Sun, 01 Mar 2026 12:00:30 GMT", after: 30 * time.Second, says: "429"},
		{status: 429, retryAfter: "Sun, 01 Mar 2026 11:00:30 GMT", says: "429"},
		{status: 429, retryAfter: "soon", says: "429"},
		{status: 503, retryAfter: "99999999999", after: time.Hour, says: "503"},
		{status: 503, retryAfter: "-3", says: "503"},
		{status: 500, says: "POST /orders: the API answered 500 Internal Server Error: it is broken"},
		{status: 599, says: "599"},
	} {
		t.Run(fmt.Sprint(c.status, c.retryAfter), func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(w http.ResponseWriter, _ call) {
				for name, value := range map[string]string{"Retry-After": c.retryAfter, "Location": c.location} {
					if value != "" {
						w.Header().Set(name, value)
					}
				}
				w.WriteHeader(c.status)
				if c.status != 204 && c.status != 304 {
					io.WriteString(w, "it\nis broken")
				}
			})
			work := begun(t, a.URL, "", connector.Target{Path: "/orders"})
			b := batch(object("n", transform.Int(1)), object("n", transform.Int(2)))
			err := work.Write(0, b)
			ends := c.says != ""
			after, marked := connector.RetriedAfter(err)
			var fault *transform.Fault
			switch {
			case (err != nil) != ends || ends && !strings.Contains(err.Error(), c.says) || connector.IsPermanent(err) != c.final:
				t.Errorf("the error is %v", err)
			case after != c.after || marked != (c.after > 0):
				t.Errorf("the next attempt is after %s", after)
			case c.rejected == "" && b.Records[0].Err != nil:
				t.Errorf("the record is rejected: %v", b.Records[0].Err)
			case c.rejected != "" && (!errors.As(b.Records[0].Err, &fault) || fault.Kind != "refused" || fault.Reason != c.rejected):
				t.Errorf("the record's fault is %v", b.Records[0].Err)
			}
			want := 2
			if ends {
				want = 1
			}
			if len(a.calls) != want {
				t.Errorf("there were %d calls, want %d: %v", len(a.calls), want, a.calls)
			}
		})
	}
}

// TestAnswersAreShownWithCare makes answers of all sorts: none is read without a bound, and none shows credentials.
func TestAnswersAreShownWithCare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, want string }{
		"text":        {"customer\r\n\tunknown\x1b[2J\u202e", "customer unknown [2J"},
		"long":        {strings.Repeat("x", 1<<20), strings.Repeat("x", 500)},
		"cut":         {strings.Repeat("é", 1<<20), strings.Repeat("é", 250)},
		"bytes":       {"ab\x00cd", ""},
		"bad":         {"a\xffb", "ab"},
		"token":       {"you sent s3cret-token", ""},
		"header":      {"you sent Bearer s3cret-token", ""},
		"far behind":  {strings.Repeat("x", 40_000) + "s3cret-token", ""},
		"own header":  {"you sent key-of-the-api", ""},
		"short value": {"1 is the version", "1 is the version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(w http.ResponseWriter, _ call) {
				w.WriteHeader(http.StatusConflict)
				io.WriteString(w, c.body)
			})
			work := begun(t, a.URL, `, "auth": {"type": "bearer", "token": "s3cret-token"}, "headers": {"X-Key": "key-of-the-api", "X-Version": "1"}`, connector.Target{Path: "/o"})
			b := batch(object("n", transform.Int(1)))
			if err := work.Write(0, b); err != nil {
				t.Fatal(err)
			}
			var fault *transform.Fault
			if !errors.As(b.Records[0].Err, &fault) {
				t.Fatalf("the record's error is %v", b.Records[0].Err)
			}
			want := "POST /o: the API answered 409 Conflict"
			if c.want != "" {
				want += ": " + c.want
			}
			if fault.Err.Error() != want {
				t.Errorf("got  %q\nwant %q", fault.Err, want)
			}
		})
	}
}

// TestPathValues fills values into a path that do their best to lead elsewhere.
func TestPathValues(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	c := must(connect(t, fmt.Sprintf(`{"url": %q}`, a.URL+"/v1")))
	t.Cleanup(func() { c.Close() })
	w := must(c.(connector.Destination).PrepareWrite([]connector.Target{{Path: "/orders/${record.id}"}})).(connector.PathWriter)
	work := must(w.Begin(t.Context())).(connector.PathWork)
	if _, err := work.Start(connector.Run{}, []string{""}); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"a-Z_0.~":         "/v1/orders/a-Z_0.~",
		"a/../b":          "/v1/orders/a%2F..%2Fb",
		"x?admin=1&y#z":   "/v1/orders/x%3Fadmin%3D1%26y%23z",
		"%2e%2e":          "/v1/orders/%252e%252e",
		"é \x00\r\nHost:": "/v1/orders/%C3%A9%20%00%0D%0AHost%3A",
		"@evil.example":   "/v1/orders/%40evil.example",
		"..":              "",
		".":               "",
		"":                "",
	} {
		b := batch(object("id", transform.Text(value)))
		text, err := w.PathValue(value)
		if err != nil {
			b.Records[0].Err = err
		}
		a.calls = nil
		if err := work.WriteAt(0, b, []string{"/orders/" + text}); err != nil {
			t.Fatal(err)
		}
		var fault *transform.Fault
		switch {
		case want == "" && (!errors.As(b.Records[0].Err, &fault) || fault.Kind != "input" || len(a.calls) != 0):
			t.Errorf("%q: %v, calls %v", value, b.Records[0].Err, a.calls)
		case want != "" && (len(a.calls) != 1 || a.calls[0].URI != want):
			t.Errorf("%q: %v, calls %v", value, b.Records[0].Err, a.calls)
		}
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ definition, path, secret string }{
		"no url":               {`{}`, "url", ""},
		"no address":           {`{"url": "api"}`, "url", ""},
		"another scheme":       {`{"url": "ftp://api"}`, "url", ""},
		"no host":              {`{"url": "http:///v1"}`, "url", ""},
		"credentials":          {`{"url": "https://u:s3cret@api"}`, "url", "s3cret"},
		"unreadable":           {`{"url": "https://api:s3cret"}`, "url", "s3cret"},
		"query":                {`{"url": "https://api?key=s3cret"}`, "url", "s3cret"},
		"fragment":             {`{"url": "https://api#a"}`, "url", ""},
		"dots":                 {`{"url": "https://api/a/../b"}`, "url", ""},
		"metadata":             {`{"url": "http://169.254.169.254/latest"}`, "url", ""},
		"metadata of IPv6":     {`{"url": "http://[fd00:ec2::254]"}`, "url", ""},
		"metadata in IPv6":     {`{"url": "http://[::ffff:a9fe:a9fe]"}`, "url", ""},
		"metadata behind 64":   {`{"url": "http://[64:ff9b::a9fe:a9fe]"}`, "url", ""},
		"metadata in 6to4":     {`{"url": "http://[2002:a9fe:a9fe::1]"}`, "url", ""},
		"link-local":           {`{"url": "http://[fe80::1%25eth0]"}`, "url", ""},
		"any address":          {`{"url": "http://0.0.0.0:80"}`, "url", ""},
		"name of a header":     {`{"url": "https://api", "headers": {"X Y": "a"}}`, `headers["X Y"]`, ""},
		"value of a header":    {`{"url": "https://api", "headers": {"X": "s3cret\r\n"}}`, "headers.X", "s3cret"},
		"the engine's header":  {`{"url": "https://api", "headers": {"idempotency-key": "a"}}`, "headers.idempotency-key", ""},
		"host":                 {`{"url": "https://api", "headers": {"host": "a"}}`, "headers.host", ""},
		"two credentials":      {`{"url": "https://api", "headers": {"authorization": "s3cret"}, "auth": {"type": "bearer", "token": "t"}}`, "headers.authorization", "s3cret"},
		"auth without a type":  {`{"url": "https://api", "auth": {}}`, "auth", ""},
		"auth of another type": {`{"url": "https://api", "auth": {"type": "digest"}}`, "auth.type", ""},
		"no token":             {`{"url": "https://api", "auth": {"type": "bearer"}}`, "auth", ""},
		"too much":             {`{"url": "https://api", "auth": {"type": "bearer", "token": "t", "password": "s3cret"}}`, "auth.password", "s3cret"},
		"no password":          {`{"url": "https://api", "auth": {"type": "basic", "user": "u"}}`, "auth", ""},
		"colon":                {`{"url": "https://api", "auth": {"type": "basic", "user": "u:v", "password": "s3cret"}}`, "auth.user", "s3cret"},
		"line end":             {`{"url": "https://api", "auth": {"type": "bearer", "token": "s3cret\n"}}`, "auth.token", "s3cret"},
	} {
		_, err := connect(t, c.definition)
		var fault *transform.DefinitionError
		if !errors.As(err, &fault) || fault.Path != c.path || fault.Reason == "" || c.secret != "" && strings.Contains(fmt.Sprint(err, fault.Hint), c.secret) {
			t.Errorf("%s: %v, want a fault of %s", name, err, c.path)
		}
	}
	for _, url := range []string{"http://127.0.0.1:1", "http://10.0.0.5", "http://[::1]:1", "http://erp:8080/v1/", "https://api.example.org"} {
		if _, err := connect(t, fmt.Sprintf(`{"url": %q}`, url)); err != nil {
			t.Errorf("%s, a host that is written, is refused: %v", url, err)
		}
	}
	told := errors.New("unknown key")
	if _, err := httpclient.Kind().New(connector.Env{}, func(any) error { return told }); err != told {
		t.Errorf("an error of decode became %v", err)
	}
	var all interface{ Unwrap() []error }
	if _, err := connect(t, `{"auth": {}, "headers": {"": ""}}`); !errors.As(err, &all) || len(all.Unwrap()) != 3 {
		t.Errorf("not every fault is told at once: %v", err)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	for status, ok := range map[int]bool{200: true, 204: true, 403: true, 404: true, 405: true, 301: false, 401: false, 500: false, 503: false} {
		a := newAPI(t, func(w http.ResponseWriter, _ call) { w.WriteHeader(status) })
		c := must(connect(t, fmt.Sprintf(`{"url": %q}`, a.URL+"/v1")))
		if err := c.Ping(t.Context()); (err == nil) != ok {
			t.Errorf("%d: %v", status, err)
		}
		if a.calls[0].Method != "HEAD" || a.calls[0].URI != "/v1" {
			t.Errorf("the call is %v", a.calls[0])
		}
		a.Close()
		if err := c.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "/v1") {
			t.Errorf("nobody is there: %v", err)
		}
		c.Close()
	}
}

// TestTimeout calls an API that never answers.
func TestTimeout(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	a := newAPI(t, func(http.ResponseWriter, call) { <-never })
	defer close(never)
	work := begun(t, a.URL, `, "timeout": 1000000`, connector.Target{Path: "/o"})
	err := work.Write(0, batch(object("n", transform.Int(1))))
	if !errors.Is(err, context.DeadlineExceeded) || connector.IsPermanent(err) || !strings.Contains(err.Error(), "POST /o: no answer within 1ms") {
		t.Errorf("the error is %v", err)
	}
}

// TestAnswerWithoutEnd has an answer that is not read on.
func TestAnswerWithoutEnd(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	sent := make(chan int, 1)
	a := newAPI(t, func(w http.ResponseWriter, _ call) {
		n := 0
		for chunk := make([]byte, 1<<20); n < most; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		sent <- n
	})
	work := begun(t, a.URL, "", connector.Target{Path: "/o"})
	if err := work.Write(0, batch(object("n", transform.Int(1)))); err != nil {
		t.Fatal(err)
	}
	if n := <-sent; n == most {
		t.Error("the answer was read to its end")
	}
}

// TestCanceledCall ends a run in the middle of its call.
func TestCanceledCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	never := make(chan struct{})
	a := newAPI(t, func(http.ResponseWriter, call) {
		cancel(errors.New("somebody stopped it"))
		<-never
	})
	defer close(never)
	c := must(connect(t, fmt.Sprintf(`{"url": %q}`, a.URL)))
	defer c.Close()
	work := must(must(c.(connector.Destination).PrepareWrite([]connector.Target{{}})).Begin(ctx))
	if _, err := work.Start(connector.Run{}, []string{""}); err != nil {
		t.Fatal(err)
	}
	if err := work.Write(0, batch(object("n", transform.Int(1)))); err != context.Canceled {
		t.Errorf("the error is %v, not that of the context", err)
	}
}

// TestCloseClosesIdleConnections waits until the API sees its connection end.
func TestCloseClosesIdleConnections(t *testing.T) {
	t.Parallel()
	states := make(chan http.ConnState, 10)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) { states <- state }
	server.Start()
	defer server.Close()
	c := must(connect(t, fmt.Sprintf(`{"url": %q}`, server.URL)))
	if err := errors.Join(c.Ping(t.Context()), c.Close()); err != nil {
		t.Fatal(err)
	}
	for <-states != http.StateClosed {
	}
}

// TestConnectionsAreUsedAgain makes many calls with answers that have to be read first.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(w http.ResponseWriter, _ call) { w.Write(bytes.Repeat([]byte("x"), 10_000)) })
	work := begun(t, a.URL, "", connector.Target{Path: "/o"})
	for range 10 {
		if err := work.Write(0, batch(object("n", transform.Int(1)))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range a.calls {
		if c.from != a.calls[0].from {
			t.Error("calls one after the other came over several connections")
		}
	}
}
