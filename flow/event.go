package flow

import (
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/store"
)

// Observer is told what happens in an engine. Observe is called from many goroutines, on the path of the work itself: it must not
// block and must not call the engine. Metrics and tracing are built on it.
type Observer interface {
	Observe(Event)
}

// ObserverFunc makes a function an Observer.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Event is one of [Accepted], [Refused], [Started], [Settled] and [FailStop].
type Event interface{ event() }

// Accepted says that a message, or a run without one, is stored durably.
type Accepted struct {
	Listener string    // "" for a run without a message
	Message  uuid.UUID // zero for a run without a message
	Flows    []string
	Bytes    int64
	Took     time.Duration // of the store's commit, waiting for it included
}

// Refused says that a call was answered with a status of 400 or more.
type Refused struct {
	Listener string // "" for other routes
	Status   int
	Reason   string // the problem's type, such as "payload-malformed"
}

// Started says that an attempt of a run begins.
type Started struct {
	Flow    string
	Run     int64
	Attempt int
	Waited  time.Duration // since the run became due
}

// Settled says that an attempt of a run has ended and that its outcome is stored. Run.Status is queued when it will be tried again.
type Settled struct {
	Run  store.Run
	Took time.Duration // of the attempt
}

// FailStop says that the engine takes no more work because its store failed.
type FailStop struct{ Err error }

func (Accepted) event() {}
func (Refused) event()  {}
func (Started) event()  {}
func (Settled) event()  {}
func (FailStop) event() {}
