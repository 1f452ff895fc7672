package integrator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator"
)

const hostileYAML = `
listeners:
  json:   {path: /json, format: json, mode: sync, max_body: 100GiB}
  ndjson: {path: /ndjson, format: ndjson, mode: sync, max_body: 100GiB}
  csv:    {path: /csv, format: csv, mode: sync, max_body: 100GiB}
  xml:    {path: /xml, format: xml, mode: sync, max_body: 100GiB}
  form:   {path: /form, format: form, mode: sync, max_body: 100GiB}
  fixed:  {path: /fixed, format: {type: fixed, columns: {a: 1-9}}, mode: sync, max_body: 100GiB}
flows:
  json:   {from: {listener: json, records: "[*]"}, respond: {}}
  ndjson: {from: {listener: ndjson}, respond: {}}
  csv:    {from: {listener: csv}, respond: {}}
  xml:    {from: {listener: xml, records: /a/b}, respond: {}}
  form:   {from: {listener: form}, respond: {}}
  fixed:  {from: {listener: fixed}, respond: {}}
users: {ops: {role: operator, password: password-ops}}
`

// repeated is a text again and again, without end.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		copied := copy(p[n:], r.text[r.at:])
		n, r.at = n+copied, (r.at+copied)%len(r.text)
	}
	return n, nil
}

// TestHostileBodiesAreRefusedEarly sends bodies without end of every format to listeners that would take a hundred GiB: each is refused with 400, with the
// place of its fault, as soon as it asks for more than any document may.
func TestHostileBodiesAreRefusedEarly(t *testing.T) {
	t.Parallel()
	h := start(t, hostileYAML, func(c *integrator.Config) { c.Auth.TokenLife = time.Hour })
	token := h.token("ops", "password-ops")
	const block, field, record = 256 << 10, 40 << 20, 140 << 20 // of what is read at once, and of the limits of a field and of a record with what is read beyond
	for name, c := range map[string]struct {
		listener, head, tail, encoding string
		want                           int
		most                           int64
	}{
		"lists in lists":         {"json", "", "[", "", 400, block},
		"objects in objects":     {"json", "", `[{"a":`, "", 400, block},
		"a giant text":           {"json", `["`, "x", "", 400, field},
		"a giant number":         {"json", `[1`, "0", "", 400, block},
		"a giant name":           {"json", `[{"`, "x", "", 400, block},
		"a line without end":     {"ndjson", "{}\n", "x", "", 400, record},
		"elements in elements":   {"xml", "", "<a>", "", 400, block},
		"attributes without end": {"xml", "<a ", "b='1' ", "", 400, block},
		"a giant element's text": {"xml", "<a><b>", "x", "", 400, field},
		"a giant element's name": {"xml", "<", "x", "", 400, block},
		"a billion laughs":       {"xml", `<!DOCTYPE a [<!ENTITY a "ha">`, `<!ENTITY b "&a;&a;">`, "", 400, block},
		"a million columns":      {"csv", "", "a,", "", 400, block},
		"a million cells":        {"csv", "a,b\n", "1,", "", 400, block},
		"an open quote":          {"csv", "a,b\n1,\"", "x\n", "", 400, field},
		"a giant cell":           {"csv", "a,b\n1,", "x", "", 400, field},
		"NUL":                    {"csv", "a,b\n", "\x00", "", 400, block},
		"a million values":       {"form", "", "a=1&", "", 400, block},
		"a giant value":          {"form", "a=", "x", "", 400, 3 * field},
		"a line of blanks":       {"fixed", "1\n", " ", "", 400, record},
		"packed":                 {"json", "\x1f\x8b", "\x00", "gzip", 415, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endless := io.MultiReader(strings.NewReader(c.head), &repeated{text: strings.Repeat(c.tail, 4<<10)})
			body := &counter{Reader: io.LimitReader(endless, c.most+block)} // where nothing is refused, the test ends all the same
			request, err := http.NewRequest("POST", listeners+"/"+c.listener, body)
			if err != nil {
				t.Fatal(err)
			}
			request.ContentLength = -1
			request.Header.Set("Authorization", "Bearer "+token)
			if c.encoding != "" {
				request.Header.Set("Content-Encoding", c.encoding)
			}
			w := &recorder{header: http.Header{}}
			h.engine.Handler().ServeHTTP(w, request)
			var problem struct{ Detail string }
			if err := json.Unmarshal(w.body.Bytes(), &problem); err != nil || w.status != c.want || c.want == 400 && !strings.Contains(problem.Detail, "line ") {
				t.Errorf("status %d, want %d: %.300s", w.status, c.want, w.body.String())
			}
			if body.read > c.most {
				t.Errorf("%d bytes were read, at most %d are due", body.read, c.most)
			}
		})
	}
}
