package integrator

import (
	"context"
	"errors"
	"sync"

	"github.com/integrator-go/integrator/internal/define"
)

// Definitions returns the definitions in force. They are shared: the caller changes nothing in them.
func (e *Engine) Definitions() Definitions { return e.set.Load().definitions }

// Warnings returns what the definitions in force may say but hardly mean, each with its place: a listener that no enabled flow reads.
func (e *Engine) Warnings() Faults {
	s := e.set.Load()
	var warnings Faults
	for name, l := range s.listeners {
		if l.Enabled() && len(l.Plans()) == 0 {
			warnings = append(warnings, Fault{Path: define.Join("listeners", name), Reason: "no enabled flow reads this listener: it answers 404",
				Hint: "a flow reads it with from: {listener: " + name + "}"})
		}
	}
	return s.tree.Locate(warnings)
}

// Ping tries every connection in force at the same time and returns what each said, by name: nil when it can be used. No secret is in the
// errors' text. Nothing stays open when the engine does not run.
func (e *Engine) Ping(ctx context.Context) map[string]error {
	s := e.set.Load()
	if e.state.Load() == nil {
		defer s.close(e.logger)
	}
	said := make(map[string]error, len(s.connections))
	var mu sync.Mutex
	var group sync.WaitGroup
	for name, connection := range s.connections {
		group.Go(func() {
			err := connection.Ping(ctx)
			if err != nil {
				err = errors.New(e.secrets.redact(err.Error()))
			}
			mu.Lock()
			said[name] = err
			mu.Unlock()
		})
	}
	group.Wait()
	return said
}
