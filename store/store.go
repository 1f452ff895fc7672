// Package store is the contract of the place where an engine keeps everything that must outlive a crash: definitions and users
// (the [Catalog]), accepted payloads and the runs that handle them (the [Queue]), what became of them ([History]) and large bodies
// ([Blobs]). boltstore keeps them in one file and a folder of blobs and is what an engine uses unless it is told otherwise; memstore keeps
// them in memory, for tests.
//
// A [Store] is one transaction domain: its four views are never mixed between back ends. The package flow decides what is to be
// written, a back end writes it atomically. Back ends pass storetest.Run.
//
// # What a back end promises
//
//   - A method that returns nil has made its writes durable: they survive a kill of the process and, as far as the medium keeps
//     what it has synced, a loss of power. A method that returns an error has written nothing, unless it is [ErrUnavailable] or
//     [ErrBroken]: then nobody knows, and a once-key tells.
//   - What is read was written so: every stored value carries a checksum that is verified on every read. A damaged value is
//     [ErrCorrupt], never delivered, and does not keep other values from being read.
//   - Every method is safe for concurrent use, returns early with the context's error when its context ends before the write began,
//     and returns [ErrClosed] after Close. A write that began is never half done.
//   - Returned values share no memory with the store; given values are not kept after the call.
//   - No read holds anything that a writer waits for longer than one page of results takes to copy.
//   - Times come back in UTC, to the nanosecond, between the years 1678 and 2262; the zero time stays zero. Empty and nil are the same.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
)

// Conditions that callers branch on. Back ends wrap them with what, where and why.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("changed by somebody else in the meantime") // a version did not match
	ErrOnce        = errors.New("the once-key was used for another body")   // Accept
	ErrClaimLost   = errors.New("the claim on the run was lost")            // Settle
	ErrErased      = errors.New("the payload was erased on request")        // OpenBody
	ErrInUse       = errors.New("in use by another engine")                 // opening, Join
	ErrClosed      = errors.New("closed")
	ErrUnavailable = errors.New("the store cannot be reached at the moment") // whether a write took effect is unknown; a once-key tells
	ErrFull        = errors.New("no room left; nothing was written")         // cleared when there is room again
	ErrBroken      = errors.New("the store failed and takes no more writes") // until it is opened again and has verified itself
	ErrCorrupt     = errors.New("a stored value is damaged")
)

// Store is one transaction domain.
type Store interface {
	// Join starts an engine's epoch and returns its queue. An exclusive store answers ErrInUse while another epoch is open; joining
	// it frees the claims that a crashed epoch left: those runs are queued again, due at once. A run that had begun (Queue.Begin) has
	// Crashes one higher; one that had only waited has not been attempted: its Attempts are one lower.
	Join(ctx context.Context, engine string) (Queue, error)

	History
	Catalog
	Blobs

	// Health returns nil while the store can accept, else why it cannot: ErrFull, ErrBroken, ErrUnavailable, ErrClosed.
	Health() error

	// Close releases everything. The second call does nothing.
	Close() error
}

// Message is one payload that a listener accepted. It never changes but for Erased and Derived.
type Message struct {
	ID         uuid.UUID // UUIDv7
	Listener   string
	User       string
	ReceivedAt time.Time
	Method     string
	Params     []Pair // of the path
	Query      []Pair
	Header     []Pair // without credentials
	Format     string // which of the listener's formats the payload is in, by its name there; "" where it has none
	Body       Body
	RejectsOf  int64 // not 0: the body holds the records that this run rejected, as package flow keeps them
	Erased     bool  // the body was erased on request; its size and checksum stay

	// Derived are the messages with RejectsOf a run of this one, also such as are gone. Kept by the store: what callers give is not looked at.
	Derived []uuid.UUID
}

// Pair is a name with its value.
type Pair struct{ Name, Value string }

// Body is a byte string: up to [InlineBytes] kept with what it belongs to, otherwise a blob.
type Body struct {
	Inline []byte
	Blob   uuid.UUID // not zero: the bytes are in this blob, and Inline is nil
	Size   int64
	SHA256 [32]byte
}

// Held is how many bytes are there: Size, or none of a body that was erased.
func (b Body) Held() int64 {
	if b.Blob != uuid.Nil {
		return b.Size
	}
	return int64(len(b.Inline))
}

// Limits of what is kept.
const (
	InlineBytes = 64 << 10 // up to this size a body is kept inline
	NameBytes   = 1024     // of a kind, a name, a scope
	KeyBytes    = 255      // of a once-key
)

// Status says where a run stands: queued → running → success, warning, error or canceled; running → queued for a retry.
type Status uint8

const (
	Queued   Status = iota + 1 // waits for a worker or for its due time
	Running                    // claimed by an engine
	Success                    // ended well
	Warning                    // ended well, with rejected records
	Error                      // ended in failure; with its message kept, it is the dead letter
	Canceled                   // ended on request
)

var statusNames = [...]string{Queued: "queued", Running: "running", Success: "success", Warning: "warning", Error: "error", Canceled: "canceled"}

// String returns the status in words as the HTTP contract has them.
func (s Status) String() string {
	if int(s) < len(statusNames) && statusNames[s] != "" {
		return statusNames[s]
	}
	return "unknown"
}

// ParseStatus returns the status that String writes as s; false when there is none.
func ParseStatus(s string) (Status, bool) {
	for i, name := range statusNames {
		if name == s && name != "" {
			return Status(i), true
		}
	}
	return 0, false
}

// Settled reports whether the run has ended for good.
func (s Status) Settled() bool { return s >= Success }

// Run is one execution of a flow. Its fields are what history shows; the first block never changes after Accept.
type Run struct {
	ID      uuid.UUID // UUIDv7; the key that destinations dedupe by, the same in every attempt
	Number  int64     // handed out by Accept or NextNumber, rising, with gaps: the contract's auditId
	Parent  int64     // number of the run that this one replays or belongs to; 0 without
	Flow    string
	FlowID  int64
	Trigger string    // listener, name, schedule, replay, flow, go
	Message uuid.UUID // zero without a message
	User    string
	Params  []byte // JSON object of the parameters given by name; nil without
	Order   string // runs of one flow with the same order key run one after the other; "" runs at any time
	Queued  time.Time

	Scheduled time.Time // the due time that a schedule started it for; zero without

	Version   string // hash of the definitions pinned at the first attempt; "" before
	Status    Status
	Due       time.Time // not claimed before
	Started   time.Time // start of the first attempt, kept for later ones: what ${now} is; zero before
	Ended     time.Time
	Attempts  int   // begun so far, this one included
	Crashes   int   // attempts that had begun when the engine crashed
	Epoch     int64 // of the engine that has claimed it; 0 when none has
	Read      int64 // records of the source
	Written   int64 // of them, those that some destination has taken
	Rejected  int64
	Kind      string // failure kind: input, connection, refused, timeout, canceled, internal; "" without failure
	Exception string // chain of causes, one a line, secrets redacted: for those who operate the engine
	Reason    string // the part of it that any caller may know
	ErrorID   string // finds the failure in the logs

	// Bytes is what goes with the run: its rejects and its log once it is settled, and its message's body, which the first of the message's
	// runs has to its account. Kept by the store: what callers give is not looked at.
	Bytes int64
}

// Queue is an engine's part in the work: what it accepts, claims and settles during its epoch. Every method of an epoch that has ended
// (Leave, or the store was taken over) returns ErrClaimLost.
type Queue interface {
	// Epoch is the number of this epoch, rising.
	Epoch() int64

	// Accept stores one message with its runs and claims, all or nothing. It sets the Number and the Bytes of each run. Runs of an Acceptance with
	// Claim are born claimed: Running, Attempts 1, under this epoch; unless an earlier run of an order key of theirs is not settled:
	// then all of them are Queued. Calls that come together share a commit. When the once-key was used before, nothing is stored and
	// the receipt is the first one's, with Repeated set; when it was used for another body, ErrOnce (see [Once.Used]). Runs without
	// Message whose own Message is not there are ErrNotFound; a message of records that a run rejected whose own message was erased is
	// ErrErased.
	Accept(ctx context.Context, a *Acceptance) (*Receipt, error)

	// Claim marks due runs as Running under this epoch with Attempts one higher and returns them: of each flow (by FlowID) at most
	// want[flow].Runs, the longest due first, flows taking turns, also across calls; limit bounds all together. At a run's first
	// attempt it sets Started to now and Version to want[flow].Version; later attempts keep both. A run with an order key is passed over
	// while an earlier run of that flow and key is not settled. It returns when the next run becomes due of the flows that it has left
	// room for (zero: none is waiting but for its turn). It never waits for runs.
	Claim(ctx context.Context, want map[int64]Want, limit int, now time.Time) (runs []Run, next time.Time, err error)

	// Begin notes that runs which this epoch has claimed are being executed from now on, so that a crash counts for them and not for those
	// that wait beside them. The note outlives the process and need not outlive the machine: a loss of power is no fault of a run.
	Begin(ctx context.Context, runs []Run) error

	// Settle writes what became of runs, in one commit. A settlement with a settled status moves its run into the history; one with
	// Queued gives up the claim and queues it again for Due. A run that this epoch does not hold a claim on is left out and makes the
	// call return ErrClaimLost after all others are written. A settlement with Insert records a settled run that was never queued, under
	// a number of NextNumber, with its message when it has one. Rejects of a run whose message was erased meanwhile are erased too.
	Settle(ctx context.Context, settlements []*Settlement) error

	// NextNumber hands out the number of a run that will be settled with Insert. Unused numbers are gaps.
	NextNumber(ctx context.Context) (int64, error)

	// Cancel settles a queued run as Canceled. It answers false when the run is claimed: its engine must stop it. ErrNotFound when
	// the run is not active.
	Cancel(ctx context.Context, number int64, now time.Time) (canceled bool, err error)

	// Changed is signalled after something may have become claimable. It is a hint: signals merge, and may come for nothing.
	Changed() <-chan struct{}

	// Waiting returns how many runs are queued and claimed, all engines together.
	Waiting(ctx context.Context) (queued, running int64, err error)

	// Oldest returns the due time of the queued run that is due first, of all that wait for no earlier run of their order key; zero
	// without one.
	Oldest(ctx context.Context) (due time.Time, err error)

	// Leave ends the epoch. Claims that are left stay for the next Join to free as those of a crash. The second call does nothing.
	Leave() error
}

// Want is how many runs of a flow an engine has room for, and the definitions that a first attempt is pinned to.
type Want struct {
	Runs    int
	Version string
}

// Acceptance is what one accepted payload, or one call of a flow by name, stores.
type Acceptance struct {
	Message *Message // nil: runs without a message
	Runs    []*Run   // Number, Status, Attempts, Epoch, Bytes are set by Accept
	Claim   bool     // the runs are born claimed; the caller has set their Started and Version
	Once    *Once    // nil: no once-key
}

// Once makes an acceptance happen once. Keys of different scopes do not meet.
type Once struct {
	Scope    string    // who may repeat: a user and listener, a schedule, a folder; up to NameBytes
	Key      string    // 1 to KeyBytes
	BodyHash [32]byte  // what the first use stored; zero hashes match each other only
	Until    time.Time // the key is forgotten after

	// Instead is the number of a run that ended in a way which is not remembered: where it is the first of the key's receipt, the key counts
	// as not used, for the same body. 0: of none.
	Instead int64
}

// Used returns what an earlier use of the key means for this one: ErrOnce, or repeated when its receipt is the answer; else the key is free.
func (o *Once) Used(hash [32]byte, first *Receipt) (repeated bool, err error) {
	if hash != o.BodyHash {
		return false, ErrOnce
	}
	return o.Instead == 0 || len(first.Runs) == 0 || first.Runs[0].Number != o.Instead, nil
}

// Check reports a scope or key beyond its limits. Accept refuses it.
func (o *Once) Check() error {
	if len(o.Key) < 1 || len(o.Key) > KeyBytes {
		return fmt.Errorf("a once-key has 1 to %d bytes, not %d", KeyBytes, len(o.Key))
	}
	return checkName("the scope of a once-key", o.Scope)
}

// Receipt is what was accepted.
type Receipt struct {
	Message  uuid.UUID
	Runs     []ReceiptRun
	Repeated bool // an earlier acceptance with the same once-key
}

// ReceiptRun is one run of a receipt.
type ReceiptRun struct {
	Flow   string
	FlowID int64
	Number int64
}

// Settlement is what became of one run.
type Settlement struct {
	Run     Run
	Rejects Body     // rejected records; empty without, and with Queued
	Log     Body     // the run's log, inline with Queued; empty: what an earlier settlement of the run brought stays
	Insert  bool     // the run was never queued
	Message *Message // with Insert: its message
	Rides   bool     // nobody waits for it: it may share the commit of what is accepted within a moment
}

// History answers what happened. Runs that are still active are read from the queue, so that a run is found in every state.
type History interface {
	Message(ctx context.Context, id uuid.UUID) (*Message, error)

	// MessageRuns returns the runs of a message by number; none is no error.
	MessageRuns(ctx context.Context, id uuid.UUID) ([]Run, error)

	Run(ctx context.Context, number int64) (*Run, error)

	// Runs returns a page of runs, newest first.
	Runs(ctx context.Context, filter RunFilter) ([]Run, error)

	// Attachments returns the rejects and the log that a run was settled with, of one that is active the log of its earlier attempts.
	Attachments(ctx context.Context, number int64) (rejects, log Body, err error)

	// Erase removes for good a message's body, the rejects of its runs, and the same of the messages derived from it; the messages and
	// their history stay, and what was erased keeps its size and checksum. Erasing again does nothing.
	Erase(ctx context.Context, id uuid.UUID) error

	// Kept returns how much there is of settled runs. It looks at none of them.
	Kept(ctx context.Context) (Kept, error)

	// Prune removes settled runs that need not be kept, the longest ended first, at most limit of them, with their attachments, and
	// each message that has no run left; a body whose message has one is from then on to the account of the first that is left. Then, within
	// the limit, it removes messages that no run ever had, which came before keep.Since. It returns how many runs and how many of such messages it
	// removed, together; when there are none, it writes nothing. Active runs and their messages stay.
	Prune(ctx context.Context, keep Keep, limit int) (removed int, err error)
}

// Kept is how much there is of settled runs.
type Kept struct {
	Runs  int64
	Bytes int64 // the sum of their Bytes
}

// Keep says which settled runs are kept: those that no field excludes. Zero fields exclude none.
type Keep struct {
	Since time.Time // those that ended at or after
	Runs  int64     // so many at most: the last ended
	Bytes int64     // as many as have so many bytes together at most: the last ended
}

// Over reports whether a run that ended then, the longest ended of what there is, goes.
func (k Keep) Over(ended time.Time, there Kept) bool {
	return ended.Before(k.Since) || k.Runs > 0 && there.Runs > k.Runs || k.Bytes > 0 && there.Bytes > k.Bytes
}

// RunFilter chooses runs. Zero fields do not restrict.
type RunFilter struct {
	FlowID int64
	Status Status
	User   string
	Since  time.Time // queued at or after
	Before int64     // numbers below: the cursor
	Limit  int       // at most; 0 is 100
}

// Catalog keeps small named values with versions: definitions, users, keys, settings. Kinds and names are any bytes, up to NameBytes
// each.
type Catalog interface {
	// Get returns the entry or ErrNotFound.
	Get(ctx context.Context, kind, name string) (Entry, error)

	// List returns the entries of a kind by name.
	List(ctx context.Context, kind string) ([]Entry, error)

	// Put stores the value if the entry's version is still the given one (0: there is no such entry), else ErrConflict. It returns
	// the new version, which is never one that the name had before, also across Delete.
	Put(ctx context.Context, e Entry) (version int64, err error)

	// Delete removes the entry if its version is still the given one, else ErrConflict; ErrNotFound when there is none.
	Delete(ctx context.Context, kind, name string, version int64) error

	// Numbers returns the numbers that belong to the names among their kind for ever. Names that are new get the next ones, from 1, in
	// their order.
	Numbers(ctx context.Context, kind string, names ...string) ([]int64, error)
}

// CheckName reports a kind or name beyond its limits. Put and Numbers refuse it.
func CheckName(kind, name string) error {
	if err := checkName("a kind", kind); err != nil {
		return err
	}
	return checkName("a name", name)
}

func checkName(what, name string) error {
	if len(name) > NameBytes {
		return fmt.Errorf("%s has up to %d bytes, not %d", what, NameBytes, len(name))
	}
	return nil
}

// Entry is one value of the catalog.
type Entry struct {
	Kind    string
	Name    string
	Value   []byte
	Version int64
}

// Blobs keeps large bodies, one file or object each, each owned by the one message or run that refers to it.
type Blobs interface {
	// CreateBlob starts a body. Its bytes are durable when Commit returns; a body that nothing refers to when the store is next
	// opened is swept away.
	CreateBlob(ctx context.Context) (BlobWriter, error)

	// Discard removes a committed body that nothing stored refers to; one that something refers to stays. It does nothing for inline bodies.
	Discard(ctx context.Context, b Body) error

	// OpenBody opens a body, inline or blob, for reading from its start. Damage is ErrCorrupt before a damaged byte is returned;
	// ErrErased and ErrNotFound as they are.
	OpenBody(ctx context.Context, b Body) (io.ReadSeekCloser, error)
}

// BlobWriter writes one body. It is used by one goroutine, and ended by Commit or Abort. After a Write that failed Commit fails as well.
type BlobWriter interface {
	io.Writer

	// Commit makes the bytes durable and returns the body that refers to them.
	Commit() (Body, error)

	// Abort throws the bytes away; after Commit it does nothing.
	Abort() error
}
