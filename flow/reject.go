package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// Rejected is one rejected record in short, as answers to callers show it.
type Rejected struct {
	Record int64  `json:"record"` // from 1
	Line   int64  `json:"line,omitempty"`
	Step   string `json:"step"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
}

// firstRejects is how many rejected records an answer shows.
const firstRejects = 10

// rejects collects the rejected records of one attempt, in the form that kept reads.
type rejects struct {
	redact  func(string) string
	kept    bool // they are counted alone, if not
	ctx     context.Context
	store   store.Blobs
	spool   *store.Spool // from the first one on that is kept
	encoder transform.Encoder
	batch   transform.Batch
	scope   *transform.Scope // of the record before
	first   []Rejected
	note    func(Rejected)   // is told each of them; nil: nobody is
	count   map[string]int64 // by step
	steps   []string         // in the order of their first reject, some at most
}

// maxRejectSteps bounds how many steps are told apart: a Go step may name itself as it likes.
const maxRejectSteps = 100

func newRejects(ctx context.Context, r *Runner) *rejects {
	return &rejects{redact: r.options.Redact, kept: true, ctx: ctx, store: r.store}
}

// abort throws away what is kept, unless body was called.
func (r *rejects) abort() {
	if r != nil && r.spool != nil {
		r.spool.Abort()
	}
}

func (r *rejects) add(step string, record *transform.Record) error {
	rejected := Rejected{Record: record.Index + 1, Line: record.Line, Step: step, Reason: record.Err.Error()}
	var fault *transform.Fault
	if errors.As(record.Err, &fault) {
		rejected.Field, rejected.Reason = fault.Field, fault.Reason
		if fault.Step != "" {
			rejected.Step = fault.Step
		}
	}
	rejected.Reason = r.redact(rejected.Reason)
	if r.note != nil {
		r.note(rejected)
	}
	if len(r.first) < firstRejects {
		r.first = append(r.first, rejected)
	}
	if r.count == nil {
		r.count = map[string]int64{}
	}
	if _, counted := r.count[rejected.Step]; !counted && len(r.steps) < maxRejectSteps {
		r.steps = append(r.steps, rejected.Step)
		r.count[rejected.Step] = 0
	}
	if _, counted := r.count[rejected.Step]; counted {
		r.count[rejected.Step]++
	}
	if !r.kept {
		return nil
	}
	return r.keep(record, rejected)
}

// keep writes a record.
func (r *rejects) keep(record *transform.Record, rejected Rejected) error {
	if r.encoder == nil {
		r.spool = store.NewSpool(context.WithoutCancel(r.ctx), r.store) // what a run rejected before it was stopped is kept too
		encoder, err := keptLines.NewEncoder(r.spool, transform.EncodeOptions{})
		if err != nil {
			return err
		}
		r.encoder = encoder
	}
	r.batch.Records = r.batch.Records[:0]
	if record.Scope != r.scope {
		r.scope = record.Scope
		r.batch.Records = append(r.batch.Records, transform.Record{Value: keptScope(record.Scope)})
	}
	r.batch.Records = append(r.batch.Records, transform.Record{Value: keptRecord(record, rejected)})
	if err := r.encoder.Encode(&r.batch); err != nil {
		return err
	}
	for _, line := range r.batch.Records {
		if line.Err != nil {
			return fmt.Errorf("keep a rejected record: %w", line.Err)
		}
	}
	return nil
}

// body ends the collection and returns what is to be stored.
func (r *rejects) body() (store.Body, error) {
	if r == nil || r.encoder == nil {
		return store.Body{}, nil
	}
	if err := r.encoder.Close(); err != nil {
		return store.Body{}, err
	}
	return r.spool.Body()
}
