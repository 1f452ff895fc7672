// Package memstore keeps a store in memory, for tests and for engines whose runs may be forgotten. It keeps the whole contract of package
// store but one promise: nothing survives the process.
//
//	st := memstore.New()
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/internal/queue"
)

// Store is a store in memory.
type Store struct {
	mu       sync.Mutex
	closed   bool
	index    *queue.Index
	engine   *epoch
	epochs   int64
	next     int64
	versions int64
	messages map[uuid.UUID]*store.Message
	active   map[int64]store.Run
	settled  map[int64]store.Run
	begun    map[int64]int // attempts that have begun, by number
	attached map[int64][2]store.Body
	once     map[[2]string]usedOnce
	tidied   int // once-keys that were kept when those that are over were last forgotten
	catalog  map[[2]string]store.Entry
	numbers  map[[2]string]int64
	lasts    map[string]int64
	blobs    map[uuid.UUID][]byte
}

type usedOnce struct {
	once    store.Once
	receipt store.Receipt
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{index: queue.New(), next: 1, messages: map[uuid.UUID]*store.Message{}, active: map[int64]store.Run{}, settled: map[int64]store.Run{},
		attached: map[int64][2]store.Body{}, once: map[[2]string]usedOnce{}, catalog: map[[2]string]store.Entry{}, numbers: map[[2]string]int64{},
		lasts: map[string]int64{}, begun: map[int64]int{}, blobs: map[uuid.UUID][]byte{}}
}

// enter begins a method: it locks, and refuses when the context or the store has ended. The caller unlocks when there is no error.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

func cloneBody(b store.Body) store.Body {
	b.Inline = bytes.Clone(b.Inline)
	return b
}

func cloneMessage(m *store.Message) *store.Message {
	c := *m
	c.ReceivedAt = utc(m.ReceivedAt)
	c.Params, c.Query, c.Header = slices.Clone(m.Params), slices.Clone(m.Query), slices.Clone(m.Header)
	c.Body, c.Derived = cloneBody(m.Body), slices.Clone(m.Derived)
	return &c
}

func cloneRun(r store.Run) store.Run {
	r.Params = bytes.Clone(r.Params)
	r.Queued, r.Due, r.Started, r.Ended = utc(r.Queued), utc(r.Due), utc(r.Started), utc(r.Ended)
	return r
}

// utc returns the time as a store keeps it: the instant, without a zone and the reading of the monotonic clock.
func utc(t time.Time) time.Time { return t.UTC().Round(0) }

func entryOf(r store.Run) queue.Entry {
	return queue.Entry{Number: r.Number, Flow: r.FlowID, Due: r.Due, Order: r.Order}
}

// Health returns nil until the store is closed.
func (s *Store) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// Close ends the store; what it held is forgotten with it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// epoch is one engine's queue.
type epoch struct {
	*Store
	number int64
	left   bool
}

// Join begins an epoch.
func (s *Store) Join(ctx context.Context, engine string) (store.Queue, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if s.engine != nil {
		return nil, fmt.Errorf("join as %q: %w", engine, store.ErrInUse)
	}
	s.epochs++
	s.engine = &epoch{Store: s, number: s.epochs}
	now := utc(time.Now())
	for _, n := range s.index.Claimed() {
		run := s.active[n]
		run.Status, run.Epoch, run.Due = store.Queued, 0, now
		if s.begun[n] == run.Attempts {
			run.Crashes++
		} else {
			run.Attempts--
		}
		s.active[n] = run
		s.index.Requeue(entryOf(run))
	}
	clear(s.begun)
	return s.engine, nil
}

func (q *epoch) Epoch() int64 { return q.number }

func (q *epoch) enter(ctx context.Context) error {
	if err := q.Store.enter(ctx); err != nil {
		return err
	}
	if q.left {
		q.mu.Unlock()
		return fmt.Errorf("epoch %d has ended: %w", q.number, store.ErrClaimLost)
	}
	return nil
}

func (q *epoch) Accept(ctx context.Context, a *store.Acceptance) (*store.Receipt, error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	if o := a.Once; o != nil {
		if err := o.Check(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if used, ok := q.once[[2]string{o.Scope, o.Key}]; ok && time.Now().Before(used.once.Until) {
			repeated, err := o.Used(used.once.BodyHash, &used.receipt)
			if err != nil {
				return nil, err
			}
			if repeated {
				receipt := used.receipt
				receipt.Runs = slices.Clone(receipt.Runs)
				receipt.Repeated = true
				return &receipt, nil
			}
		}
	}
	if of := q.sourceOf(a.Message); of != nil && of.Erased {
		return nil, fmt.Errorf("rejected records of run %d: %w", a.Message.RejectsOf, store.ErrErased)
	}
	receipt := &store.Receipt{}
	if a.Message == nil {
		for _, run := range a.Runs {
			if _, ok := q.messages[run.Message]; !ok && run.Message != uuid.Nil {
				return nil, fmt.Errorf("message %s: %w", run.Message, store.ErrNotFound)
			}
		}
	} else {
		receipt.Message = a.Message.ID
		q.add(a.Message)
	}
	var entries []queue.Entry
	for _, run := range a.Runs {
		run.Number = q.next
		q.next++
		entries = append(entries, entryOf(*run))
	}
	claim := q.index.Enter(entries...) && a.Claim
	for i, run := range a.Runs {
		if run.Bytes = 0; i == 0 && a.Message != nil {
			run.Bytes = a.Message.Body.Held()
		}
		run.Status, run.Epoch, run.Attempts = store.Queued, 0, 0
		if claim {
			run.Status, run.Epoch, run.Attempts = store.Running, q.number, 1
			q.index.Claim(entries[i])
		} else {
			run.Started, run.Version = time.Time{}, ""
			q.index.Queue(entries[i])
		}
		q.active[run.Number] = cloneRun(*run)
		receipt.Runs = append(receipt.Runs, store.ReceiptRun{Flow: run.Flow, FlowID: run.FlowID, Number: run.Number})
	}
	if o := a.Once; o != nil {
		kept := *receipt
		kept.Runs = slices.Clone(receipt.Runs)
		q.once[[2]string{o.Scope, o.Key}] = usedOnce{*o, kept}
		if len(q.once) > 2*q.tidied {
			maps.DeleteFunc(q.once, func(_ [2]string, u usedOnce) bool { return !time.Now().Before(u.once.Until) })
			q.tidied = len(q.once)
		}
	}
	return receipt, nil
}

// sourceOf returns the message of which another holds rejected records; nil when there is none, or it is gone.
func (s *Store) sourceOf(m *store.Message) *store.Message {
	if m == nil || m.RejectsOf == 0 {
		return nil
	}
	run, err := s.run(m.RejectsOf)
	if err != nil {
		return nil
	}
	return s.messages[run.Message]
}

// add stores a new message, and lets the one that it is derived from know.
func (s *Store) add(m *store.Message) {
	kept := cloneMessage(m)
	kept.Derived = nil
	s.messages[m.ID] = kept
	if of := s.sourceOf(m); of != nil {
		of.Derived = append(of.Derived, m.ID)
	}
}

func (q *epoch) Claim(ctx context.Context, want map[int64]store.Want, limit int, now time.Time) ([]store.Run, time.Time, error) {
	if err := q.enter(ctx); err != nil {
		return nil, time.Time{}, err
	}
	defer q.mu.Unlock()
	taken, next := q.index.Take(func(flow int64) int { return want[flow].Runs }, limit, now)
	var runs []store.Run
	for _, e := range taken {
		run := q.active[e.Number]
		run.Status, run.Epoch = store.Running, q.number
		run.Attempts++
		if run.Started.IsZero() {
			run.Started, run.Version = utc(now), want[run.FlowID].Version
		}
		q.active[e.Number] = run
		runs = append(runs, cloneRun(run))
	}
	return runs, next, nil
}

func (q *epoch) Begin(ctx context.Context, runs []store.Run) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.mu.Unlock()
	for _, run := range runs {
		q.begun[run.Number] = run.Attempts
	}
	return nil
}

func (q *epoch) Settle(ctx context.Context, settlements []*store.Settlement) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.mu.Unlock()
	var lost []int64
	for _, t := range settlements {
		run := cloneRun(t.Run)
		held, ok := q.active[run.Number]
		run.Bytes = held.Bytes
		switch {
		case t.Insert:
			if t.Message != nil {
				q.add(t.Message)
				run.Bytes = t.Message.Body.Held()
			}
		case !ok || held.Status != store.Running || held.Epoch != q.number:
			lost = append(lost, run.Number)
			continue
		}
		run.Epoch = 0
		delete(q.begun, run.Number)
		if t.Rejects.Size > 0 || t.Log.Size > 0 {
			q.attached[run.Number] = [2]store.Body{cloneBody(t.Rejects), cloneBody(t.Log)}
			if m := q.messages[run.Message]; m != nil && m.Erased {
				q.eraseRejects(run.Number)
			}
		}
		if run.Status == store.Queued {
			q.active[run.Number] = run
			q.index.Requeue(entryOf(run))
			continue
		}
		q.end(run)
		q.index.Settle(entryOf(run))
	}
	if lost != nil {
		return fmt.Errorf("runs %v: %w", lost, store.ErrClaimLost)
	}
	return nil
}

// end moves a run to the settled ones. The caller holds the lock.
func (s *Store) end(run store.Run) {
	run.Bytes += s.attachedBytes(run.Number)
	delete(s.active, run.Number)
	s.settled[run.Number] = run
}

func (s *Store) attachedBytes(n int64) int64 {
	return s.attached[n][0].Held() + s.attached[n][1].Held()
}

func (q *epoch) NextNumber(ctx context.Context) (int64, error) {
	if err := q.enter(ctx); err != nil {
		return 0, err
	}
	defer q.mu.Unlock()
	q.next++
	return q.next - 1, nil
}

func (q *epoch) Cancel(ctx context.Context, n int64, now time.Time) (bool, error) {
	if err := q.enter(ctx); err != nil {
		return false, err
	}
	defer q.mu.Unlock()
	run, ok := q.active[n]
	if !ok {
		return false, fmt.Errorf("run %d: %w", n, store.ErrNotFound)
	}
	if run.Status == store.Running {
		return false, nil
	}
	run.Status, run.Ended, run.Kind = store.Canceled, utc(now), "canceled"
	q.end(run)
	q.index.Cancel(entryOf(run))
	return true, nil
}

func (q *epoch) Changed() <-chan struct{} { return q.index.Changed() }

func (q *epoch) Waiting(ctx context.Context) (queued, running int64, err error) {
	if err := q.enter(ctx); err != nil {
		return 0, 0, err
	}
	defer q.mu.Unlock()
	queued, running = q.index.Waiting()
	return queued, running, nil
}

func (q *epoch) Oldest(ctx context.Context) (time.Time, error) {
	if err := q.enter(ctx); err != nil {
		return time.Time{}, err
	}
	defer q.mu.Unlock()
	return q.index.Oldest(), nil
}

func (q *epoch) Leave() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.left {
		q.left = true
		q.engine = nil
	}
	return nil
}

// Message returns a message.
func (s *Store) Message(ctx context.Context, id uuid.UUID) (*store.Message, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m, ok := s.messages[id]
	if !ok {
		return nil, fmt.Errorf("message %s: %w", id, store.ErrNotFound)
	}
	return cloneMessage(m), nil
}

// all returns every run that keep says yes to, by number. The caller holds the lock.
func (s *Store) all(keep func(*store.Run) bool) []store.Run {
	var runs []store.Run
	for _, from := range []map[int64]store.Run{s.active, s.settled} {
		for _, run := range from {
			if keep(&run) {
				runs = append(runs, cloneRun(run))
			}
		}
	}
	slices.SortFunc(runs, func(a, b store.Run) int { return cmp.Compare(a.Number, b.Number) })
	return runs
}

// MessageRuns returns the runs of a message by number.
func (s *Store) MessageRuns(ctx context.Context, id uuid.UUID) ([]store.Run, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.all(func(r *store.Run) bool { return id != uuid.Nil && r.Message == id }), nil
}

// Run returns a run.
func (s *Store) Run(ctx context.Context, n int64) (*store.Run, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.run(n)
}

func (s *Store) run(n int64) (*store.Run, error) {
	run, ok := s.active[n]
	if !ok {
		run, ok = s.settled[n]
	}
	if !ok {
		return nil, fmt.Errorf("run %d: %w", n, store.ErrNotFound)
	}
	run = cloneRun(run)
	return &run, nil
}

// Runs returns a page of runs, newest first.
func (s *Store) Runs(ctx context.Context, f store.RunFilter) ([]store.Run, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	runs := s.all(func(r *store.Run) bool {
		return (f.FlowID == 0 || r.FlowID == f.FlowID) && (f.Status == 0 || r.Status == f.Status) && (f.User == "" || r.User == f.User) &&
			!r.Queued.Before(f.Since) && (f.Before == 0 || r.Number < f.Before)
	})
	slices.Reverse(runs)
	return runs[:min(len(runs), cmp.Or(max(f.Limit, 0), 100))], nil
}

// Attachments returns what a run was settled with.
func (s *Store) Attachments(ctx context.Context, n int64) (rejects, log store.Body, err error) {
	if err := s.enter(ctx); err != nil {
		return rejects, log, err
	}
	defer s.mu.Unlock()
	if _, err := s.run(n); err != nil {
		return rejects, log, err
	}
	a := s.attached[n]
	return cloneBody(a[0]), cloneBody(a[1]), nil
}

// Erase removes a message's body.
func (s *Store) Erase(ctx context.Context, id uuid.UUID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	m, ok := s.messages[id]
	if !ok {
		return fmt.Errorf("message %s: %w", id, store.ErrNotFound)
	}
	s.erase(m)
	return nil
}

func (s *Store) erase(m *store.Message) {
	delete(s.blobs, m.Body.Blob)
	m.Body.Inline, m.Body.Blob, m.Erased = nil, uuid.Nil, true
	for _, run := range s.all(func(r *store.Run) bool { return r.Message == m.ID }) {
		s.eraseRejects(run.Number)
		if run.Bytes = 0; run.Status.Settled() {
			run.Bytes = s.attachedBytes(run.Number)
			s.settled[run.Number] = run
		} else {
			s.active[run.Number] = run
		}
	}
	for _, id := range m.Derived {
		if d := s.messages[id]; d != nil {
			s.erase(d)
		}
	}
}

func (s *Store) eraseRejects(n int64) {
	if a, ok := s.attached[n]; ok {
		delete(s.blobs, a[0].Blob)
		a[0].Inline, a[0].Blob = nil, uuid.Nil
		s.attached[n] = a
	}
}

// Kept returns how much there is of settled runs.
func (s *Store) Kept(ctx context.Context) (store.Kept, error) {
	if err := s.enter(ctx); err != nil {
		return store.Kept{}, err
	}
	defer s.mu.Unlock()
	return s.kept(), nil
}

func (s *Store) kept() store.Kept {
	kept := store.Kept{Runs: int64(len(s.settled))}
	for _, run := range s.settled {
		kept.Bytes += run.Bytes
	}
	return kept
}

// Prune removes what need not be kept.
func (s *Store) Prune(ctx context.Context, keep store.Keep, limit int) (removed int, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	old := s.all(func(r *store.Run) bool { return r.Status.Settled() })
	slices.SortStableFunc(old, func(a, b store.Run) int { return a.Ended.Compare(b.Ended) })
	for kept := s.kept(); removed < min(len(old), limit) && keep.Over(old[removed].Ended, kept); removed++ {
		run := s.settled[old[removed].Number] // it may have inherited from one before it
		kept = s.remove(run, kept)
	}
	for id, m := range s.messages {
		if removed < limit && m.ReceivedAt.Before(keep.Since) && len(s.all(func(r *store.Run) bool { return r.Message == id })) == 0 {
			delete(s.blobs, m.Body.Blob)
			delete(s.messages, id)
			removed++
		}
	}
	return removed, nil
}

// remove forgets a settled run, and its message when that has no other. It returns what is kept then.
func (s *Store) remove(run store.Run, kept store.Kept) store.Kept {
	body := run.Bytes - s.attachedBytes(run.Number)
	for _, b := range s.attached[run.Number] {
		delete(s.blobs, b.Blob)
	}
	delete(s.attached, run.Number)
	delete(s.settled, run.Number)
	kept.Runs--
	kept.Bytes -= run.Bytes
	m := s.messages[run.Message]
	if m == nil {
		return kept
	}
	others := s.all(func(r *store.Run) bool { return r.Message == run.Message })
	if len(others) == 0 {
		delete(s.blobs, m.Body.Blob)
		delete(s.messages, run.Message)
		return kept
	}
	heir := others[0]
	heir.Bytes += body
	if heir.Status.Settled() {
		s.settled[heir.Number] = heir
		kept.Bytes += body
	} else {
		s.active[heir.Number] = heir
	}
	return kept
}

// Get returns an entry of the catalog.
func (s *Store) Get(ctx context.Context, kind, name string) (store.Entry, error) {
	if err := s.enter(ctx); err != nil {
		return store.Entry{}, err
	}
	defer s.mu.Unlock()
	e, ok := s.catalog[[2]string{kind, name}]
	if !ok {
		return e, fmt.Errorf("%s %q: %w", kind, name, store.ErrNotFound)
	}
	e.Value = bytes.Clone(e.Value)
	return e, nil
}

// List returns the entries of a kind by name.
func (s *Store) List(ctx context.Context, kind string) ([]store.Entry, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var entries []store.Entry
	for key, e := range s.catalog {
		if key[0] == kind {
			e.Value = bytes.Clone(e.Value)
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// Put stores an entry.
func (s *Store) Put(ctx context.Context, e store.Entry) (int64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if err := store.CheckName(e.Kind, e.Name); err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	key := [2]string{e.Kind, e.Name}
	if s.catalog[key].Version != e.Version {
		return 0, fmt.Errorf("%s %q: %w", e.Kind, e.Name, store.ErrConflict)
	}
	s.versions++
	e.Version = s.versions
	e.Value = bytes.Clone(e.Value)
	s.catalog[key] = e
	return e.Version, nil
}

// Delete removes an entry.
func (s *Store) Delete(ctx context.Context, kind, name string, version int64) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	key := [2]string{kind, name}
	e, ok := s.catalog[key]
	switch {
	case !ok:
		return fmt.Errorf("%s %q: %w", kind, name, store.ErrNotFound)
	case e.Version != version:
		return fmt.Errorf("%s %q: %w", kind, name, store.ErrConflict)
	}
	delete(s.catalog, key)
	return nil
}

// Numbers returns the numbers that belong to names.
func (s *Store) Numbers(ctx context.Context, kind string, names ...string) ([]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for _, name := range names {
		if err := store.CheckName(kind, name); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	numbers := make([]int64, len(names))
	for i, name := range names {
		key := [2]string{kind, name}
		if s.numbers[key] == 0 {
			s.lasts[kind]++
			s.numbers[key] = s.lasts[kind]
		}
		numbers[i] = s.numbers[key]
	}
	return numbers, nil
}

// blobWriter collects one body.
type blobWriter struct {
	s     *Store
	bytes bytes.Buffer
	ended bool
}

// CreateBlob starts a body.
func (s *Store) CreateBlob(ctx context.Context) (store.BlobWriter, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return &blobWriter{s: s}, nil
}

func (w *blobWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errEnded
	}
	return w.bytes.Write(p)
}

var errEnded = errors.New("store: the body has ended already")

func (w *blobWriter) Commit() (store.Body, error) {
	if w.ended {
		return store.Body{}, errEnded
	}
	if err := w.s.enter(context.Background()); err != nil {
		return store.Body{}, err
	}
	defer w.s.mu.Unlock()
	w.ended = true
	id, err := uuid.NewV7()
	if err != nil {
		return store.Body{}, fmt.Errorf("make an id: %w", err)
	}
	w.s.blobs[id] = w.bytes.Bytes()
	return store.Body{Blob: id, Size: int64(w.bytes.Len()), SHA256: sha256.Sum256(w.bytes.Bytes())}, nil
}

func (w *blobWriter) Abort() error {
	w.ended = true
	return nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Discard removes a body that nothing refers to.
func (s *Store) Discard(ctx context.Context, b store.Body) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if m.Body.Blob == b.Blob {
			return nil
		}
	}
	for _, attached := range s.attached {
		if attached[0].Blob == b.Blob || attached[1].Blob == b.Blob {
			return nil
		}
	}
	delete(s.blobs, b.Blob)
	return nil
}

// OpenBody opens a body.
func (s *Store) OpenBody(ctx context.Context, b store.Body) (io.ReadSeekCloser, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	data := b.Inline
	if b.Blob != uuid.Nil {
		var ok bool
		if data, ok = s.blobs[b.Blob]; !ok {
			return nil, fmt.Errorf("large body %s: %w", b.Blob, store.ErrNotFound)
		}
	}
	if int64(len(data)) != b.Size {
		return nil, store.ErrErased
	}
	return reader{bytes.NewReader(data)}, nil
}
