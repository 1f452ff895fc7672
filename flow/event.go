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

// Event is one of [Accepted], [Refused], [Started], [Delivered], [Settled], [Committed], [Checkpointed] and [FailStop].
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

// Delivered says that what was written to a connection was committed there: that of one run, of a part of it, or of several small runs.
type Delivered struct {
	Connection string
	Took       time.Duration // of the commit
	Err        error         // nil when it succeeded
}

// Committed says that the store has made what some callers wrote durable, in one commit. It is told of the store that an engine opens itself.
type Committed struct {
	Operations int // that were in it
	Took       time.Duration
}

// Checkpointed says that the store's database has what was in its journal. It is told of the store that an engine opens itself.
type Checkpointed struct {
	Journal int64 // bytes that were in it
	Took    time.Duration
}

// FailStop says that the engine takes no more work because its store failed.
type FailStop struct{ Err error }

func (Accepted) event()     {}
func (Refused) event()      {}
func (Started) event()      {}
func (Delivered) event()    {}
func (Settled) event()      {}
func (Committed) event()    {}
func (Checkpointed) event() {}
func (FailStop) event()     {}
