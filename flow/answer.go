package flow

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/internal/accept"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// answer is a compiled [Respond], or an [ErrorRespond].
type answer struct {
	status  int  // 0: whoever sends it knows
	empty   bool // the status has no body (RFC 9110 section 6.4.1)
	formats []answerFormat
	types   []string // their media types
	headers []header
	body    *transform.Mapping // nil: the run's records
	page    *Page
	stream  bool
}

// answerFormat is a format that an answer may have.
type answerFormat struct {
	format  transform.Format
	options transform.EncodeOptions
}

type header struct {
	name  string
	value *template
}

// errorAnswer is a compiled [OnError].
type errorAnswer struct {
	kinds  []string // nil: any
	answer *answer
}

// AcceptError says that a flow answers in none of the formats that its caller takes.
type AcceptError struct {
	There []string // the media types that it can answer in
}

// Error names what there is.
func (e *AcceptError) Error() string { return "there are " + strings.Join(e.There, ", ") }

// Acceptable returns nil when the flow can answer as the values of the header Accept ask for, else an *AcceptError. Who answers in one format alone
// answers in it whatever is asked for.
func (p *Plan) Acceptable(values []string) error {
	if p.answer == nil || p.answer.choose(values) >= 0 {
		return nil
	}
	return &AcceptError{p.answer.types}
}

// choose returns which of the formats the caller wants, -1 for none of several.
func (a *answer) choose(values []string) int {
	if len(a.formats) < 2 {
		return 0
	}
	return accept.Choose(values, a.types)
}

// keeps reports whether the answer's end is made of a record that was answered, or read, before.
func (a *answer) keeps() bool { return a != nil && (a.body != nil || a.page != nil) }

// chosen returns which of the formats the call wants that a message came with; the first for one that wants none, or without a message.
func (a *answer) chosen(m *store.Message) int {
	var values []string
	if len(a.formats) > 1 && m != nil {
		for _, p := range m.Header {
			if strings.EqualFold(p.Name, "Accept") {
				values = append(values, p.Value)
			}
		}
	}
	return max(0, a.choose(values)) // who wants none was refused before, or gets what there is for an error
}

// What an answer that is made when the run has ended finds in run beyond runNames, and that of on_error in error.
var (
	counterNames = []string{"read", "written", "rejected"}
	errorNames   = []string{"kind", "reason", "flow", "step", "record", "line", "id", "faults"}
	errorShape   = transform.NewShape(errorNames...)
	faultShape   = transform.NewShape("record", "line", "step", "field", "reason")
)

func (c *compiler) respond(d Definition) {
	r := d.Respond
	if r == nil {
		return
	}
	if c.facts != nil && !c.facts.Sync {
		c.fault("respond", 0, fmt.Sprintf("nobody waits for the answer: listener %q is asynchronous", c.plan.Listener), "write `mode: sync` on the listener")
	}
	a := c.answer("respond", r, nil)
	a.status, a.page, a.stream = cmp.Or(a.status, http.StatusOK), r.Page, r.Stream
	c.page(r)
	if r.Stream {
		c.streams(d)
	}
	c.plan.answer = a
}

// answer compiles an answer. errors are the names that its body and its headers find in error; nil: nothing has failed.
func (c *compiler) answer(path string, r *Respond, errors []string) *answer {
	a := &answer{status: r.Status}
	if r.Status != 0 && (r.Status < 200 || r.Status > 599) {
		c.fault(path+".status", 0, fmt.Sprintf("%d is no status of an answer", r.Status), "write one from 200 to 599")
	}
	if a.empty = slices.Contains([]int{204, 205, 304}, r.Status); a.empty {
		for key, there := range map[string]bool{"format": r.Format != nil, "body": r.Body != nil, "stream": r.Stream} {
			if there {
				c.fault(path+"."+key, 0, fmt.Sprintf("an answer with status %d has no body", r.Status), "leave it out, or write status: 200")
			}
		}
	}
	options := c.options
	defer func() { c.options = options }()
	c.options.Known = maps.Clone(options.Known)
	if !r.Stream { // else it is begun before the counters are known
		c.options.Known["run"] = append(slices.Clone(runNames), counterNames...)
	}
	c.options.Known["error"] = errors
	c.formats(a, path, r, errors == nil)
	a.headers = c.headers(path+".headers", r.Headers)
	if r.Body != nil {
		c.body(a, path+".body", r, errors == nil)
	}
	return a
}

// formats compiles the formats of an answer, of the run's records or of one object.
func (c *compiler) formats(a *answer, path string, r *Respond, records bool) {
	refs, single := r.Format, c.plan.source.single || r.Body != nil
	if refs == nil {
		refs = []transform.FormatRef{{Type: "json"}}
	}
	for i := range refs {
		at := fmt.Sprintf("%s.format[%d]", path, i)
		f := c.format(at, &refs[i])
		if f == nil {
			continue
		}
		options := transform.EncodeOptions{As: c.answerAs(at, f, &refs[i], single)}
		if records && r.Body == nil {
			options.Columns = c.plan.mapped
		}
		mediaType := transform.MediaTypeOf(f, options)
		if slices.Contains(a.types, mediaType) {
			c.fault(at, 0, fmt.Sprintf("another format is of type %s as well: no Accept tells them apart", mediaType), "leave one of them out")
		}
		a.formats, a.types = append(a.formats, answerFormat{f, options}), append(a.types, mediaType)
	}
}

// answerAs returns how the records become one document: as the definition says; else one document is answered for one, where the format can,
// and a list of them for several.
func (c *compiler) answerAs(path string, f transform.Format, ref *transform.FormatRef, single bool) string {
	if as := c.as(path, ref); as != "" {
		c.writes(path, f, transform.EncodeOptions{As: as})
		return as
	}
	if single {
		if _, err := f.NewEncoder(io.Discard, transform.EncodeOptions{As: "object"}); err == nil {
			return "object"
		}
	}
	c.writes(path, f, transform.EncodeOptions{As: "array"})
	return "array"
}

// Headers that say how and when the answer is sent, which is not for a definition to say.
var connectionHeaders = []string{"Connection", "Content-Length", "Date", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// headers compiles the headers of an answer.
func (c *compiler) headers(path string, headers map[string]string) (compiled []header) {
	var seen []string
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at := define.Join(path, name)
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !ValidHeaderName(name):
			c.fault(at, 0, "this is no name of a header", "")
			continue
		case slices.Contains(connectionHeaders, canonical):
			c.fault(at, 0, canonical+" says how the answer is sent, which the server knows", "leave it out")
		case slices.Contains(seen, canonical):
			c.fault(at, 0, canonical+" is there twice", "names of headers are the same in any case")
		}
		seen = append(seen, canonical)
		if _, err := headerValue(headers[name]); err != nil {
			c.fault(at, 0, "the value of a header holds no control characters", "write it in one line")
		}
		if t := c.template(at, headers[name], false); t != nil {
			compiled = append(compiled, header{name, t})
		}
	}
	return compiled
}

// body compiles a body of the answer's own. It is made once: a record to read from there is only where the source is one document.
func (c *compiler) body(a *answer, path string, r *Respond, records bool) {
	if r.Stream {
		c.fault(path, 0, "a body of its own is made when the run has ended, and stream sends before", "leave one of the two out")
	}
	if !records || !c.plan.source.single {
		c.options.Paths = nil
	}
	if a.body = c.mapping(path, r.Body); a.body == nil || !a.body.NeedsRecord() {
		return
	}
	switch {
	case !records:
		c.fault(path, 0, "it reads a record, and what has failed is the run", "there are error, run, param, query, header and message; error.faults has the first rejected records")
	case !c.plan.source.single:
		c.fault(path, 0, "it reads a record, and is made once for all of them", "there are run, param, query, header and message; a `map` among the steps makes fields of each record")
	}
}

// page checks that a full page can say what the next one begins behind.
func (c *compiler) page(r *Respond) {
	if r.Page == nil {
		return
	}
	for key, there := range map[string]bool{"body": r.Body != nil, "stream": r.Stream} {
		if there {
			c.fault("respond.page", 0, fmt.Sprintf("whether a page is full is known at its end, which %s leaves no room for", key), "leave one of the two out")
		}
	}
	for key, name := range map[string]string{"size": r.Page.Size, "after": "after"} {
		param, ok := c.declaration(name)
		switch {
		case name == "":
			c.fault("respond.page", 0, "the parameter is missing that says how many records a page has", "write {size: limit, after: id}")
		case !ok:
			c.fault("respond.page."+key, 0, fmt.Sprintf("no parameter %q is declared", name), "declare it under `params`: the link to the next page sets `after`")
		case key == "after" && c.facts != nil && slices.Contains(c.facts.Params, name):
			c.fault("respond.page", 0, "parameter \"after\" is in the listener's path, which the query of a link never overrides", "give the one in the path another name")
		case key == "size" && param.Type != "int":
			c.fault("respond.page.size", 0, fmt.Sprintf("parameter %q is no whole number", name), "write its type: int")
		}
	}
	switch field := r.Page.After; {
	case field == "":
		c.fault("respond.page", 0, "the field is missing whose value the next page begins behind", "write {size: limit, after: id}")
	case c.plan.mapped != nil && !slices.Contains(c.plan.mapped, field):
		c.fault("respond.page.after", 0, fmt.Sprintf("the answer has no field %q", field), "there are "+strings.Join(c.plan.mapped, ", "))
	}
}

// declaration returns the parameter of that name, which the flow declares or its listener.
func (c *compiler) declaration(name string) (Param, bool) {
	p, ok := c.plan.params[name]
	if !ok {
		p, ok = c.plan.heard[name]
	}
	return p, ok
}

// streams checks that an answer can be sent while its run goes on: what runs only answers to the call that waits for it.
func (c *compiler) streams(d Definition) {
	const at = "respond.stream"
	switch {
	case len(d.To) > 0:
		c.fault(at, 0, "an answer beside `to` is sent when everything is committed", "leave one of the two out")
	case d.OnReject.To != nil:
		c.fault(at, 0, "an answer beside `on_reject.to` is sent when the rejected records are delivered", "leave one of the two out")
	case d.MaxRunning > 0 || d.OrderBy != "":
		c.fault(at, 0, "runs that wait for others are stored, and their answer with them", "leave max_running and order_by out, or stream")
	}
}

func (c *compiler) onError(handlers []OnError) {
	if handlers == nil {
		return
	}
	if c.plan.Listener == "" || c.facts != nil && !c.facts.Sync {
		c.fault("on_error", 0, "nobody waits for the answer: it is given to calls of a synchronous listener", "leave it out, or let a listener with `mode: sync` start the flow")
	}
	all := false // kinds are answered for
	for i, h := range handlers {
		path := fmt.Sprintf("on_error[%d]", i)
		if all {
			c.fault(path, 0, "nothing is left for it: the one before takes every kind", "the first that fits is taken")
		}
		all = all || h.Kind == nil
		for k, kind := range h.Kind {
			if publicKinds[kind] == "" {
				c.fault(fmt.Sprintf("%s.kind[%d]", path, k), 0, fmt.Sprintf("kind %q is not known", kind), "there are input, connection, refused, timeout, canceled, internal")
			}
		}
		r := h.Respond
		if r.Status == 0 && r.Headers == nil && r.Body == nil && (c.env.Faulty == nil || !c.env.Faulty(c.base+"."+path)) {
			c.fault(path, 0, "it answers what would be answered without it", "write respond: {status: …, body: {…}}")
		}
		if r.Body == nil && r.Format != nil {
			c.fault(path+".respond.format", 0, "without a body the answer is the problem document", "write a body")
		}
		if r.Body == nil && 200 <= r.Status && r.Status < 400 && r.Status != http.StatusNoContent {
			c.fault(path+".respond", 0, fmt.Sprintf("a problem document has no status %d", r.Status), "write a body")
		}
		a := c.answer(path+".respond", &Respond{Status: r.Status, Format: r.Format, Headers: r.Headers, Body: r.Body}, errorNames)
		c.plan.onError = append(c.plan.onError, errorAnswer{h.Kind, a})
	}
}

// ValidHeaderName reports whether a text can be a header's name (RFC 9110 section 5.6.2).
func ValidHeaderName(name string) bool {
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)) {
			return false
		}
	}
	return name != ""
}
