package integrator_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
)

// TestRepeatedAfterAFailure repeats a synchronous call under its key: while the first is in flight it is 409, after a failure of the destination
// it runs again, after a success or a fault of its own input it is told what the first one was told.
func TestRepeatedAfterAFailure(t *testing.T) {
	t.Parallel()
	var away, writes atomic.Int64
	begun, release := make(chan struct{}), make(chan struct{})
	s := &scripted{write: func(b *transform.Batch) error {
		if b.Records[0].Value.Field("bad").IsTrue() {
			b.Records[0].Err = errors.New("no good")
			return nil
		}
		writes.Add(1)
		switch away.Load() {
		case 1:
			return errors.New("not now")
		case 2:
			close(begun)
			<-release
		}
		return nil
	}}
	h := start(t, strings.Replace(scriptedYAML, "format: json", "format: json, mode: sync, idempotency: {key: id}", 1), func(c *integrator.Config) {
		c.Connectors = []connector.Kind{s.kind()}
	})
	token := h.token("ops", "password-ops")
	send := func(body string) reply { return h.post(listeners+"/a", token, body) }
	want := func(what string, r reply, status int, runs int64) {
		t.Helper()
		if r.status != status || writes.Load() != runs {
			t.Errorf("%s: %d after %d writes, want %d after %d: %s", what, r.status, writes.Load(), status, runs, r.body)
		}
	}
	away.Store(1)
	want("the destination is away", send(`{"id": 1}`), 500, 1)
	want("it still is", send(`{"id": 1}`), 500, 2)
	want("another body under the key", send(`{"id": 1, "x": 1}`), 422, 2)
	away.Store(2)
	var group sync.WaitGroup
	group.Go(func() { want("it is slow", send(`{"id": 1}`), 200, 3) })
	<-begun
	want("the first is in flight", send(`{"id": 1}`), 409, 3)
	close(release)
	group.Wait()
	away.Store(0)
	want("it has been applied", send(`{"id": 1}`), 200, 3)
	want("bad input", send(`{"id": 2, "bad": true}`), 422, 3)
	runs := h.get("/rest/v1/runs", token).body
	want("the same bad input", send(`{"id": 2, "bad": true}`), 422, 3)
	if again := h.get("/rest/v1/runs", token).body; again != runs {
		t.Error("bad input ran again")
	}
}
