// Package connector holds what reads from and writes to other systems: the contract of a connection, and below this folder its kinds
// (file, sqldb …).
//
// A [Kind] makes a [Connection] from its definition. A connection that flows read from is also a [Source], one that they write to is
// also a [Destination]. Both are asked twice: Prepare… when a flow is compiled (no input or output; everything that can be known to be
// wrong is said here), then Open or Begin for each run.
//
// The promise that every destination keeps, as far as the system behind it allows: a run's writes take effect once, together, when
// its work is committed, and a second attempt of a run that was committed finds out (Work.Start answers true) and writes nothing. A
// [PartWriter] keeps the same promise for each part of a run whose definition asks for parts.
package connector

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/transform"
)

// Kind makes connections of one type. Hosts add their own in integrator.Config.Connectors.
type Kind struct {
	// Name is the definition's `type`.
	Name string

	// New makes a connection. It opens nothing. decode fills a pointer to a struct from the definition's other keys by their json
	// tags, and answers every unknown or ill-typed key as a fault at its place. The engine also calls it with a decode that always fails, to
	// learn what keys there are. A field tagged `define:"secret"` is shown to nobody.
	New func(env Env, decode func(options any) error) (Connection, error)
}

// Env is what the engine gives to every connection it makes.
type Env struct {
	Name    string           // the connection's name, for messages
	BaseDir string           // what relative paths in the definition are relative to
	Now     func() time.Time // the engine's clock
}

// Connection is a named, configured system. It is safe for concurrent use, opens what it needs when it is first used, and
// survives its system's absence: a later use tries again. Every implementation passes connectortest.Run.
type Connection interface {
	// Ping tries whether the system can be reached and used.
	Ping(ctx context.Context) error

	// Close releases what was opened. The engine calls it when no run uses the connection any more. A run that was on its way then may use it
	// once more: that opens it again, and the engine closes it again.
	Close() error
}

// Source is a connection that flows read from.
type Source interface {
	Connection

	// PrepareRead checks a flow's `from` without touching the system. Faults name the key at fault: see [Fault].
	PrepareRead(spec ReadSpec) (Reader, error)
}

// ReadSpec is a flow's `from` on a connection: which part of the system the records are.
type ReadSpec struct {
	Table  string
	Query  string
	Path   string // may hold ${…}: filled in for each run by the flow, which hands the result to Open
	Format transform.Format
	Decode transform.DecodeOptions
}

// Reader opens the source that a flow reads, once for each attempt of a run. It is safe for concurrent use.
type Reader interface {
	// Binds returns the names that the query wants values for, in the order of their first use, with their byte offsets in
	// ReadSpec.Query; none for sources without a query.
	Binds() []Bind

	// Open starts reading. Decode of what it returns ends early with ctx's error when ctx ends. The caller closes it.
	Open(ctx context.Context, request ReadRequest) (Records, error)
}

// Bind is a name in a query that stands for a value.
type Bind struct {
	Name   string
	Offset int
}

// ReadRequest is one run's use of a Reader.
type ReadRequest struct {
	Path  string                                     // ReadSpec.Path with its ${…} filled in
	Value func(name string) (transform.Value, error) // the value of a bind; its error is a fault of the run's input
}

// Records is an open source: a decoder that wants to be closed.
type Records interface {
	transform.Decoder
	Close() error
}

// Destination is a connection that flows write to.
type Destination interface {
	Connection

	// PrepareWrite checks all of a flow's destinations on this connection, in their order, without touching the system. They are
	// written in one piece of work. Faults name the target and the key at fault: see [Fault].
	PrepareWrite(targets []Target) (Writer, error)
}

// Target is one destination of a flow.
type Target struct {
	Table   string
	Path    string   // may hold ${…}: filled in by the flow for each run, or, with ${record.…} in it, for each record: see PathWriter
	Action  string   // insert (the default), upsert, update, delete, replace: the rows of a key become those that the last record of the source brings for it
	Each    bool     // a record of the source may be several in Write, one after the other, each with its Place
	Key     []string // columns that tell rows apart
	Create  bool     // make the table or the folder when it is missing
	Exists  string   // files: replace (the default), append, fail, unique
	Commit  int      // records of the source after which a part of the run is committed; 0: the run is committed as a whole
	Columns []string // names of the records' fields when the flow knows them, nil when it does not
	Fixed   bool     // the source is the same in every attempt of a run, so that a record's Place tells it from all others
	Format  transform.Format
	Encode  transform.EncodeOptions
	Raw     bool // the records are pieces of a payload that is written as it is
}

// Writer writes a flow's destinations on one connection. It is safe for concurrent use.
type Writer interface {
	// MaxRuns is how many runs may share one Work; at least 1.
	MaxRuns() int

	// Begin starts a piece of work. ctx bounds it all: when it ends before Commit, nothing takes effect, and calls return its error.
	Begin(ctx context.Context) (Work, error)
}

// Work is a set of writes that takes effect together. It is used by one goroutine, and ends with Commit or Rollback; Rollback after
// Commit does nothing.
//
// For each run: Start, then Write any number of times. Commit makes the writes of all started runs permanent together with the runs'
// ids. When any call but Commit fails, nothing of the work takes effect after Rollback; when Commit fails, it may or may not have
// taken effect, and a new attempt's Start tells.
type Work interface {
	// Start begins a run's writes. Paths holds each target's path with its ${…} filled in ("" where it has none). It answers true
	// when this run was committed before: the caller writes nothing for it.
	Start(run Run, paths []string) (applied bool, err error)

	// Write writes the batch's records to the target with that index in PrepareWrite. A record that does not fit (wrong type, a
	// constraint of the destination) gets its Err set to a *transform.Fault and is left out; any other fault is returned: see [Permanent]. A Work
	// that keeps nothing of the batch behind Write, no value and no text, says so by being a [transform.Borrower]: that saves most of the memory.
	Write(target int, b *transform.Batch) error

	// Commit makes the writes permanent.
	Commit() error

	// Rollback undoes them and releases what the work held. It is safe to call at any time.
	Rollback() error
}

// Undoer is a Work that can take back a batch. Flows with several destinations on a connection use it so that a record which one of them
// rejects is in none.
type Undoer interface {
	Work

	// Save marks the point that Undo goes back to, in place of an earlier one.
	Save() error

	// Undo takes back what was written since Save. What follows is written as if that had never been.
	Undo() error
}

// Noter is a Work that keeps a note about a run beside its writes. Flows use it for what became of the run's records: an attempt that finds the run applied cannot tell
// which of them the system has rejected.
type Noter interface {
	Work

	// Note keeps a note about the run that was started last, once, and commits it with the run's writes. It may be forgotten a day after that.
	Note(note []byte) error

	// Noted returns the note about the run that was started last and found applied; nil when there is none.
	Noted() ([]byte, error)
}

// PartWriter is a Writer that can commit a run in parts: what Target.Commit asks for. Flows refuse it on other Writers when they are
// compiled.
type PartWriter interface {
	Writer

	// BeginPart starts a piece of work that holds one run at most, and that may be committed as a part of it.
	BeginPart(ctx context.Context) (Part, error)
}

// Part is a Work that may hold a part of a run. Each part of a run is a Part of its own, one after the other; the one that ends with
// Commit is the last, and from then on the run is found applied.
type Part interface {
	Work

	// Checkpoints calls each with the checkpoints of the parts of the started run that were committed before, in the order of their
	// positions, until each fails. Those of a run that is applied may be missing.
	Checkpoints(each func(Checkpoint) error) error

	// Checkpoint ends the work instead of Commit: it makes the writes permanent together with c, and the run stays unfinished. A
	// position that the run has a checkpoint of is refused, because another attempt of the run has committed that part; nothing of this
	// one takes effect then. The zero Checkpoint makes the writes permanent and notes nothing.
	Checkpoint(c Checkpoint) error
}

// Checkpoint is how far a run has come of which a part is committed.
type Checkpoint struct {
	Position int64  // what became of the source's records with a lower Index is decided
	Note     []byte // the flow's own
}

// ImmediateWriter is a Writer whose writes take effect when they are made, and stay when the work is rolled back: the exception to what is said of Work. Flows
// hand it one record at a time, so that nothing is written behind a record that ends the run. Another attempt of a run makes the same writes again.
type ImmediateWriter interface {
	Writer

	// Immediate does nothing.
	Immediate()
}

// PathWriter is a Writer whose targets may have another path for each record: those with ${record.…} in them. Flows refuse it on other Writers
// when they are compiled. Its works are PathWorks.
type PathWriter interface {
	Writer

	// PathValue returns the value of a ${…}, whether of the run or of a record, as it stands in a path. A value that can be no part of one is a
	// *transform.Fault.
	PathValue(value string) (string, error)
}

// PathWork is a Work of a PathWriter.
type PathWork interface {
	Work

	// WriteAt is Write for a target with a path for each record: paths[i] is that of the batch's i-th. The path in Start is "" then.
	WriteAt(target int, b *transform.Batch, paths []string) error
}

// Run tells a destination who writes.
type Run struct {
	ID      uuid.UUID // the same in every attempt: what destinations dedupe by; that of a work with a run's rejected records alone differs in the last bit
	Number  int64
	Flow    string
	Attempt int
	Time    time.Time // start of the run's first attempt, what ${now} is
}

// Fault is a definition that a connection cannot carry out: which target, which key, why, and what to write instead.
type Fault struct {
	Target int    // index in PrepareWrite; 0 for PrepareRead
	Key    string // the key of the definition at fault, such as "table" or "query"
	Offset int    // byte offset in the key's text, 0 when it is all of it
	Reason string
	Hint   string
}

// Error returns the key and the reason.
func (f *Fault) Error() string {
	s := f.Key + ": " + f.Reason
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// permanent marks an error that no retry mends.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as the destination's final no (kind refused): the run is not retried. Errors that are not marked count as
// connection faults and are retried by the flow's policy. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether err, or what it wraps, was marked by [Permanent].
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

// retryAfter marks an error after which a system wants to be left alone for a while.
type retryAfter struct {
	error
	after time.Duration
}

func (r retryAfter) Unwrap() error { return r.error }

// RetryAfter marks err as passing: the run is tried again after d, within the flow's number of attempts. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return retryAfter{err, max(d, 0)}
}

// RetriedAfter returns the time that err, or what it wraps, was marked with by [RetryAfter]; false when it was not.
func RetriedAfter(err error) (time.Duration, bool) {
	var r retryAfter
	ok := errors.As(err, &r)
	return r.after, ok
}
