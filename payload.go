package integrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// Replay runs the flows that read a message's listener today on its payload once more, and returns the receipt of the new runs, which name the
// last run before them as their parent. Rejected records that were replayed are a message too: of their own flow. The error wraps store.ErrNotFound
// for a message that is not there or that no enabled flow takes, and store.ErrErased when its payload was erased.
func (e *Engine) Replay(ctx context.Context, message uuid.UUID) (*store.Receipt, error) {
	return with(e, fmt.Sprintf("replay message %s", message), func(s *state) (*store.Receipt, error) {
		submission, err := e.ofMessage(ctx, s, message)
		if err != nil {
			return nil, err
		}
		return s.runner.Replay(ctx, submission)
	})
}

// with returns what f makes of the running engine; the error says what was being done.
func with[T any](e *Engine, doing string, f func(*state) (T, error)) (T, error) {
	s, err := e.state.Load(), flow.ErrStopping
	if s != nil {
		var made T
		if made, err = f(s); err == nil {
			return made, nil
		}
	}
	var none T
	return none, fmt.Errorf("integrator: %s: %w", doing, err)
}

// ofMessage returns what replays a message.
func (e *Engine) ofMessage(ctx context.Context, s *state, message uuid.UUID) (flow.Submission, error) {
	m, err := s.store.Message(ctx, message)
	if err != nil {
		return flow.Submission{}, err
	}
	return s.runner.OfMessage(ctx, m, e.readers(m), "")
}

// readers returns the flows that read a message's listener today.
func (e *Engine) readers(m *store.Message) []*flow.Plan {
	if l := e.set.Load().listeners[m.Listener]; l != nil {
		return l.Plans()
	}
	return nil
}

// RunPayload runs a flow that reads a listener on a payload, as if it had been sent there, and waits for its end. The payload is this
// flow's alone, whoever else reads the listener, and may be larger than the listener's max_body. Params fill the parameters of the
// listener's path; the others count as the query. What is returned means what it does for RunFlow; a malformed payload is the error itself,
// a *listener.PayloadError, and leaves no run.
func (e *Engine) RunPayload(ctx context.Context, name string, params map[string]any, payload io.Reader) (*Result, error) {
	fail := func(err error) (*Result, error) { return nil, fmt.Errorf("integrator: run flow %q: %w", name, err) }
	s, set := e.state.Load(), e.set.Load()
	if s == nil {
		return fail(flow.ErrStopping)
	}
	plan, ok := set.plans[name]
	if !ok || !plan.Enabled() {
		return fail(fmt.Errorf("it is not defined: %w", store.ErrNotFound))
	}
	if !plan.Reads() {
		return fail(errors.New("it reads no listener and takes no payload"))
	}
	own := *set.listeners[plan.Listener] // read by this flow alone, and waited for
	own.Sync, own.Timeout = true, maxWait
	own.Attach([]*flow.Plan{plan})
	call := &listener.Call{Body: payload, Length: -1, Anew: true}
	if methods := own.Methods(); len(methods) > 0 {
		call.Method = methods[0]
	}
	inPath := own.Facts().Params
	var wrong flow.ParamError
	for _, param := range inPath {
		if _, ok := params[param]; !ok {
			wrong.Faults = append(wrong.Faults, fmt.Sprintf("%q is required", param))
		}
	}
	for param, value := range params {
		v, err := paramOf(value)
		if err != nil {
			wrong.Faults = append(wrong.Faults, fmt.Sprintf("%q: %v", param, err))
			continue
		}
		pair := store.Pair{Name: param, Value: v.Text()}
		if slices.Contains(inPath, param) {
			call.Params = append(call.Params, pair)
		} else {
			call.Query = append(call.Query, pair)
		}
	}
	if wrong.Faults != nil {
		return fail(&wrong)
	}
	answer, err := s.receiver.Receive(ctx, &own, call)
	if err != nil {
		return fail(err)
	}
	return resultOf(answer.Outcome)
}
