package flow

import (
	"context"
	"io"
	"slices"

	"github.com/integrator-go/integrator/transform"
)

// pass is the way of one attempt's records through the steps. It is used by one goroutine.
type pass struct {
	job       *job
	out       func(*transform.Batch) error
	gathering []transform.Gathering // of each step; nil: it keeps nothing
}

// manyRecords is how many records a batch may hold behind a step that makes several of one; what is more goes on as several batches.
const manyRecords = 1024

func (r *Runner) pass(j *job, out func(*transform.Batch) error) *pass {
	p := &pass{job: j, out: out, gathering: make([]transform.Gathering, len(j.plan.steps))}
	for i, s := range j.plan.steps {
		if s.gather != nil {
			p.gathering[i] = s.gather.Gather(j.env, r.options.Space)
		}
	}
	return p
}

// take passes a batch of the source through the steps.
func (p *pass) take(b *transform.Batch) error { return p.from(0, b) }

// from passes a batch through the steps from the i-th on.
func (p *pass) from(i int, b *transform.Batch) error {
	j := p.job
	for ; i < len(j.plan.steps); i++ {
		s := &j.plan.steps[i]
		before := len(b.Records)
		var err error
		if g := p.gathering[i]; g != nil {
			err = g.Add(j.ctx, b)
		} else {
			err = s.run.Apply(j.ctx, j.env, b)
		}
		if err != nil {
			return fail(j.ctx, j.plan.Name, s.name, err)
		}
		if len(b.Records) <= max(before, manyRecords) {
			continue
		}
		for some := range slices.Chunk(b.Records, manyRecords) {
			if err := context.Cause(j.ctx); err != nil {
				return fail(j.ctx, j.plan.Name, s.name, err)
			}
			if err := p.from(i+1, &transform.Batch{Records: some}); err != nil {
				return err
			}
		}
		return nil
	}
	return p.out(b)
}

// end says that the source has ended: steps give what they have kept, those before first.
func (p *pass) end() error {
	j := p.job
	for i, g := range p.gathering {
		for g != nil {
			b := &transform.Batch{}
			err := context.Cause(j.ctx)
			if err == nil {
				err = g.Next(j.ctx, b)
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return fail(j.ctx, j.plan.Name, j.plan.steps[i].name, err)
			}
			if err := p.from(i+1, b); err != nil {
				return err
			}
		}
		if g != nil {
			g.Close()
		}
	}
	return nil
}

// close releases what the steps hold.
func (p *pass) close() {
	for _, g := range p.gathering {
		if g != nil {
			g.Close()
		}
	}
}
