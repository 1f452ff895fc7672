package transform

import "context"

type whenStep struct {
	name        string
	is          *Expression
	then, other []Step
}

// NewWhen returns a step that passes the records for which the expression is true through some steps, and all others through other ones. What they make of
// the records is in the records' order.
func NewWhen(name string, is *Expression, then, other []Step) Step {
	return &whenStep{name, is, then, other}
}

func (s *whenStep) Apply(ctx context.Context, env *Env, b *Batch) error {
	const rejected, yes, no = 0, 1, 2
	branch := func(r *Record) int {
		if r.Err != nil {
			return rejected
		}
		is, err := s.is.EvalBool(env, r)
		switch {
		case err != nil:
			r.Err = faultOf(s.name, err)
			return rejected
		case is:
			return yes
		}
		return no
	}
	var out []Record
	steps := [...][]Step{yes: s.then, no: s.other}
	following := rejected
	for at, next := 0, 0; at < len(b.Records); at = next {
		way := following
		if at == 0 {
			way = branch(&b.Records[0])
		}
		for next = at + 1; next < len(b.Records); next++ {
			if following = branch(&b.Records[next]); following != way {
				break
			}
		}
		some := Batch{Records: b.Records[at:next:next]}
		for _, step := range steps[way] {
			if err := step.Apply(ctx, env, &some); err != nil {
				return err
			}
		}
		out = append(out, some.Records...)
	}
	b.Records = out
	return nil
}
