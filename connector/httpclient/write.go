package httpclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// methods are the actions as calls.
var methods = map[string]string{
	"":       http.MethodPost,
	"insert": http.MethodPost,
	"upsert": http.MethodPut,
	"update": http.MethodPatch,
	"delete": http.MethodDelete,
}

var placeholder = regexp.MustCompile(`\$\{[^}]*\}`)

// PrepareWrite checks the destinations of a flow.
func (c *connection) PrepareWrite(targets []connector.Target) (connector.Writer, error) {
	var faults []error
	w := &writer{c: c}
	for i, t := range targets {
		fault := func(key, reason, hint string) {
			faults = append(faults, &connector.Fault{Target: i, Key: key, Reason: reason, Hint: hint})
		}
		method, known := methods[t.Action]
		if !known {
			fault("action", fmt.Sprintf("an API has no action %q", t.Action), "there are insert (POST), upsert (PUT), update (PATCH), delete (DELETE)")
		}
		if reason := checkPath(placeholder.ReplaceAllLiteralString(t.Path, "x")); t.Path != "" && reason != "" {
			fault("path", reason, "")
		}
		if t.Table != "" {
			fault("table", "an API has no tables", "write path")
		}
		if len(t.Key) > 0 {
			fault("key", "an API has no key", `say it in the path: "/orders/${record.id}"`)
		}
		if t.Create {
			fault("create", "an API is there or is not", "leave it out")
		}
		if t.Exists != "" {
			fault("exists", "this is for files", "leave it out")
		}
		if t.Commit > 0 {
			fault("commit", "each call takes effect by itself", "leave it out")
		}
		o := out{Target: t, method: method, what: strings.TrimSpace(method + " " + t.Path), format: t.Format}
		if o.format == nil {
			o.format = c.format
		}
		if o.Encode.As == "" { // one record is one document, where the format has such
			o.Encode.As = "object"
			if _, err := o.format.NewEncoder(io.Discard, o.Encode); err != nil {
				o.Encode.As = ""
			}
		}
		w.outs = append(w.outs, o)
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return w, nil
}

// maxPath bounds a path in bytes: servers take hardly more.
const maxPath = 8 << 10

// checkPath returns why a path cannot follow the connection's url, "" when it can.
func checkPath(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "the path begins with /: it follows the connection's url"
	}
	if len(path) > maxPath {
		return fmt.Sprintf("the path is longer than %d bytes", maxPath)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"#<>\\^`{|}", r) }) {
		return "the path holds a character that addresses do not have: write it percent-encoded"
	}
	names, _, _ := strings.Cut(path, "?")
	for name := range strings.SplitSeq(names, "/") {
		switch decoded, err := url.PathUnescape(name); {
		case err != nil:
			return "the path holds a % that begins no percent-encoding: write %25"
		case decoded == "." || decoded == "..":
			return "the path has . or .. for a name in it, which leads elsewhere"
		}
	}
	return ""
}

// writer writes a flow's destinations.
type writer struct {
	c    *connection
	outs []out
}

// out is one destination.
type out struct {
	connector.Target
	method string
	what   string // for messages
	format transform.Format
}

var (
	_ connector.ImmediateWriter = (*writer)(nil)
	_ connector.PathWriter      = (*writer)(nil)
	_ connector.PathWork        = (*work)(nil)
)

// MaxRuns is 1: calls of several runs would not be taken back together.
func (w *writer) MaxRuns() int { return 1 }

// Immediate says that a call takes effect when it is made.
func (w *writer) Immediate() {}

// PathValue percent-encodes everything that is not unreserved (RFC 3986 section 2.3), so that a value is part of one segment, or of one value behind the
// question mark.
func (w *writer) PathValue(value string) (string, error) {
	if value == "" {
		return "", &transform.Fault{Kind: "input", Reason: "a value that fills in the path is empty, or is none that text can be made of"}
	}
	var b strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String(), nil
}

// Begin starts a piece of work.
func (w *writer) Begin(ctx context.Context) (connector.Work, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &work{writer: w, ctx: ctx}, nil
}

// work is the calls of one run.
type work struct {
	*writer
	ctx   context.Context
	run   connector.Run
	paths []string
	sent  []sent // of each target
}

// sent is what was sent of the source's record that was sent last.
type sent struct {
	record string // its place; "": none yet
	calls  int
}

// Start begins the calls of a run. Nobody knows which of them an earlier attempt made: they are made again, under the same keys.
func (w *work) Start(run connector.Run, paths []string) (bool, error) {
	w.run, w.paths, w.sent = run, paths, make([]sent, len(w.outs))
	return false, w.ctx.Err()
}

// Write makes a call for each record, at the run's path.
func (w *work) Write(target int, b *transform.Batch) error {
	return w.write(target, b, func(int) string { return w.paths[target] })
}

// WriteAt makes a call for each record, at its path.
func (w *work) WriteAt(target int, b *transform.Batch, paths []string) error {
	return w.write(target, b, func(i int) string { return paths[i] })
}

func (w *work) write(target int, b *transform.Batch, path func(i int) string) error {
	for i := range b.Records {
		record := &b.Records[i]
		if record.Err != nil {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		err := w.send(target, record, path(i))
		if fault := (*transform.Fault)(nil); errors.As(err, &fault) {
			record.Err = fault
		} else if err != nil {
			return err
		}
	}
	return nil
}

// send makes the call of one record. A *transform.Fault rejects the record.
func (w *work) send(target int, record *transform.Record, path string) error {
	o := &w.outs[target]
	if reason := checkPath(path); path != "" && reason != "" {
		return &transform.Fault{Kind: "input", Reason: reason}
	}
	call := &call{what: o.what, method: o.method, url: w.c.base + path}
	if o.method != http.MethodDelete {
		body, err := o.encode(record)
		if err != nil {
			return err
		}
		call.body, call.mediaType = body, o.format.MediaType()
	}
	call.key = w.key(target, record, path, call.body)
	a, err := w.c.call(w.ctx, call)
	if err != nil || a.status < 300 {
		return err
	}
	return w.c.failed(a)
}

// encode returns a record as a document of its own.
func (o *out) encode(record *transform.Record) ([]byte, error) {
	var b bytes.Buffer
	encoder, err := o.format.NewEncoder(&b, o.Encode)
	if err != nil {
		return nil, connector.Permanent(err)
	}
	one := transform.Batch{Records: []transform.Record{*record}}
	if err := errors.Join(encoder.Encode(&one), encoder.Close()); err != nil {
		return nil, connector.Permanent(err)
	}
	return b.Bytes(), one.Records[0].Err
}

// key returns what the API tells the record's call by, the same in every attempt.
func (w *work) key(target int, record *transform.Record, path string, body []byte) string {
	place := record.Place()
	key := fmt.Sprintf("%s-%s", w.run.ID, place)
	if w.outs[target].Each {
		s := &w.sent[target]
		if s.record != place {
			*s = sent{record: place}
		}
		key += fmt.Sprintf(".%d", s.calls)
		s.calls++
	}
	if target > 0 {
		key += fmt.Sprintf("-%d", target+1)
	}
	if !w.outs[target].Fixed {
		hash := sha256.New()
		fmt.Fprintf(hash, "%s %s\n", w.outs[target].method, path)
		hash.Write(body)
		key += "-" + hex.EncodeToString(hash.Sum(nil)[:8])
	}
	return key
}

// Commit does nothing: the calls were made.
func (w *work) Commit() error { return w.ctx.Err() }

// Rollback does nothing: calls are not taken back.
func (w *work) Rollback() error { return nil }
