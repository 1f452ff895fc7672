package flow

import (
	"fmt"
	"net/http"

	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// Reply is the receipt that an asynchronous listener answers instead of the engine's own.
type Reply struct {
	Status  int               `json:"status"`                    // 200 to 299; 0 is 200
	Headers map[string]string `json:"headers" define:"template"` // beside Location and Content-Type, or instead of them
	Body    *transform.Term   `json:"body"`                      // text is answered as it is, anything else as JSON; nil: the engine's receipt
}

// Replier makes the answers that a [Reply] defines. It never changes and is safe for concurrent use.
type Replier struct {
	status  int
	headers []header
	body    *transform.Mapping // of one field "body"; nil: the engine's receipt
}

// CompileReply checks a reply. Paths of faults begin with base; params are the names of the parameters that a call has.
func CompileReply(d Reply, base string, params []string) (*Replier, define.Faults) {
	c := &compiler{base: base, plan: &Plan{}}
	c.options.Known = map[string][]string{"param": params, "run": {"number", "flow"}, "message": messageNames}
	r := &Replier{status: d.Status}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.status < 200 || r.status > 299 {
		c.fault("status", 0, fmt.Sprintf("the payload is stored, and %d would tell its sender something else", r.status), "write one from 200 to 299")
	}
	if d.Body != nil && r.Empty() {
		c.fault("body", 0, fmt.Sprintf("an answer with status %d has no body", r.status), "leave the body out, or write status: 200")
	}
	r.headers = c.headers("headers", d.Headers)
	if d.Body != nil {
		mapping, err := transform.CompileMap(transform.Map{{Name: "body", Term: *d.Body}}, c.options)
		switch {
		case err != nil:
			c.report("", err)
		case mapping.NeedsRecord():
			c.fault("body", 0, "nothing is read from the payload before it is answered", "there are param, header, query, message, and run with number and flow; a text is written \"= 'text'\"")
		}
		r.body = mapping
	}
	if c.faults != nil {
		return nil, c.faults
	}
	return r, nil
}

// Empty reports whether the status allows no body.
func (r *Replier) Empty() bool {
	return r.status == http.StatusNoContent || r.status == http.StatusResetContent
}

// Answer returns the answer to a message of which a receipt is there; params are those that the listener declares. A body of nil is the engine's receipt. A
// header whose value cannot be sent is left out, and leftOut told. The error says why the body cannot be made.
func (r *Replier) Answer(m *store.Message, params []byte, receipt *store.Receipt, leftOut func(header string, err error)) (status int, head http.Header, body []byte, err error) {
	env := callEnv(m, params)
	env.Run.Make = func() transform.Value {
		if len(receipt.Runs) == 0 {
			return transform.Null
		}
		return transform.NewObject(replyRun, []transform.Value{transform.Int(receipt.Runs[0].Number), transform.Text(receipt.Runs[0].Flow)})
	}
	head = http.Header{}
	if r.body != nil {
		made, err := r.body.Apply(env, nil)
		if err != nil {
			return 0, nil, nil, err
		}
		if v := made.Field("body"); v.IsText() || v.Kind() == transform.KindBytes {
			head.Set("Content-Type", "text/plain; charset=utf-8")
			body = append([]byte{}, v.Text()...)
		} else if body, err = jsonfmt.Append([]byte{}, v); err != nil {
			return 0, nil, nil, err
		} else {
			head.Set("Content-Type", "application/json")
		}
	}
	fillHeaders(head, r.headers, env, leftOut)
	return r.status, head, body, nil
}

var replyRun = transform.NewShape("number", "flow")
