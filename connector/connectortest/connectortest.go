// Package connectortest is the suite that every connection passes: what connector.Source and connector.Destination promise, as tests.
//
// The two names that matter are [Run] and [Harness]:
//
//	func TestConnection(t *testing.T) {
//		connectortest.Run(t, connectortest.Harness{New: newSystem, Target: target, Records: records})
//	}
package connectortest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// Harness is a kind of connection with what it declares about itself.
type Harness struct {
	// New makes a system that is empty and of its own, for one case.
	New func(t *testing.T) System

	// Target is a destination that adds each run's records to what is there.
	Target connector.Target

	// Path fills in Target.Path for a run; nil when it has none.
	Path func(run connector.Run) string

	// Records are what the n-th run writes, at least two; no two runs write the same.
	Records func(n int) []transform.Value

	// Unfit is a record that the destination rejects alone; null when there is no such record.
	Unfit transform.Value

	// From reads what the first run wrote, in its order; nil for a connection that is no source. Its path is the run's when there is one.
	From *connector.ReadSpec

	// Replace is a destination with action replace, Each and a key that has the same value in all Records; the zero Target for a connection that
	// replaces nothing.
	Replace connector.Target

	// TargetFaults and ReadFaults are definitions that the connection refuses, by the key that they have wrong.
	TargetFaults map[string]connector.Target
	ReadFaults   map[string]connector.ReadSpec

	// Forgets says that the system cannot remember which runs were committed: a second attempt writes again.
	Forgets bool
}

// System is what connections lead to.
type System struct {
	// Connect makes one more connection to the system. The suite closes it.
	Connect func() connector.Connection

	// Written returns the records that anyone can see in the system, in any order.
	Written func(t *testing.T) []transform.Value
}

// Run checks that the connection keeps the contract. It must not run beside other tests, because it looks for goroutines that are left.
func Run(t *testing.T, h Harness) {
	before := goleak.IgnoreCurrent()
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if _, ok := h.New(t).Connect().(connector.Source); c.source && (!ok || h.From == nil) {
					t.Skip("the connection is no source")
				}
				c.run(t, h)
			})
		}
	})
	if err := goleak.Find(before); err != nil {
		t.Errorf("after every connection was closed: %v", err)
	}
}

var cases = []struct {
	name   string
	source bool
	run    func(*testing.T, Harness)
}{
	{"faults name the key", false, faults},
	{"the system answers a ping", false, ping},
	{"a commit makes a run's records visible", false, commit},
	{"a rollback leaves nothing", false, rollback},
	{"a run without records can be committed", false, empty},
	{"a second attempt finds the first applied", false, applied},
	{"an attempt that was abandoned is repeated", false, abandoned},
	{"several runs share one work", false, group},
	{"a group finds the runs that were applied", false, groupAgain},
	{"rejected records are left out", false, rejected},
	{"a record that does not fit is rejected alone", false, unfit},
	{"nothing happens under a context that has ended", false, canceled},
	{"a context that ends undoes the work", false, canceledAtWork},
	{"several goroutines write at the same time", false, concurrent},
	{"a connection that was closed opens again", false, closed},
	{"what was written since a point is taken back", false, undo},
	{"records are written at paths of their own", false, ownPaths},
	{"a note stays with its run", false, noted},
	{"a key has the rows of the last record that brings it", false, replaced},
	{"a part of a run stays, and the run is not applied", false, parts},
	{"a part that was abandoned leaves nothing", false, partAbandoned},
	{"a part is committed once", false, partTwice},
	{"a part without a position is not remembered", false, partForgotten},
	{"parts of several runs do not mix", false, partsOfRuns},
	{"what was written is read in its order", true, read},
	{"several readers read at the same time", true, readers},
	{"reading ends with its context", true, readCanceled},
	{"a reader that stops early is closed", true, readPart},
}

// run is the n-th run of a case. Its id is the same in every attempt.
func run(n int) connector.Run {
	id := uuid.MustParse("0198c5a0-0000-7000-8000-000000000000")
	id[14], id[15] = byte(n>>8), byte(n)
	return connector.Run{ID: id, Number: int64(n + 1), Flow: "suite", Attempt: 1, Time: time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)}
}

// fixture is one connection to a system of its own, with a writer.
type fixture struct {
	Harness
	System
	t       *testing.T
	writer  connector.Writer
	written map[connector.Work]int64 // records, which is the index of the next one
}

func newFixture(t *testing.T, h Harness) *fixture {
	t.Helper()
	f := &fixture{Harness: h, System: h.New(t), t: t, written: map[connector.Work]int64{}}
	f.writer = f.newWriter()
	return f
}

// connect makes a connection that is closed when the case ends.
func (f *fixture) connect() connector.Connection {
	c := f.Connect()
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Errorf("Close: %v", err)
		}
	})
	return c
}

// newWriter makes a writer of a connection of its own.
func (f *fixture) newWriter() connector.Writer {
	f.t.Helper()
	w, err := f.connect().(connector.Destination).PrepareWrite([]connector.Target{f.Target})
	if err != nil {
		f.t.Fatalf("PrepareWrite: %v", err)
	}
	if w.MaxRuns() < 1 {
		f.t.Fatalf("MaxRuns is %d, and there is at least one run in a work", w.MaxRuns())
	}
	return w
}

func (f *fixture) begin(ctx context.Context, w connector.Writer) connector.Work {
	f.t.Helper()
	work, err := w.Begin(ctx)
	if err != nil {
		f.t.Fatalf("Begin: %v", err)
	}
	f.t.Cleanup(func() { work.Rollback() }) // what a case left open
	return work
}

// paths are the run's paths, as a flow hands them over.
func (f *fixture) paths(r connector.Run) []string {
	if f.Path == nil {
		return []string{""}
	}
	return []string{f.Path(r)}
}

func (f *fixture) start(work connector.Work, n int) bool {
	f.t.Helper()
	applied, err := work.Start(run(n), f.paths(run(n)))
	if err != nil {
		f.t.Fatalf("Start: %v", err)
	}
	return applied
}

func (f *fixture) write(work connector.Work, values []transform.Value) []transform.Record {
	f.t.Helper()
	b := batch(values)
	for i := range b.Records {
		b.Records[i].Index += f.written[work]
	}
	f.written[work] += int64(len(values))
	if err := work.Write(0, b); err != nil {
		f.t.Fatalf("Write: %v", err)
	}
	return b.Records
}

func batch(values []transform.Value) *transform.Batch {
	b := &transform.Batch{}
	for i, v := range values {
		b.Records = append(b.Records, transform.Record{Value: v, Source: v, Index: int64(i)})
	}
	return b
}

func (f *fixture) commit(work connector.Work) {
	f.t.Helper()
	if err := work.Commit(); err != nil {
		f.t.Fatalf("Commit: %v", err)
	}
}

// apply writes and commits runs, each in a work of its own.
func (f *fixture) apply(w connector.Writer, numbers ...int) {
	f.t.Helper()
	for _, n := range numbers {
		work := f.begin(f.t.Context(), w)
		if f.start(work, n) {
			f.t.Fatalf("run %d was applied before it began", n)
		}
		f.write(work, f.Records(n))
		f.commit(work)
	}
}

// wantYet is want while a work is open or was rolled back: where writes take effect at once, nobody can tell.
func (f *fixture) wantYet(numbers ...int) {
	f.t.Helper()
	if _, immediate := f.writer.(connector.ImmediateWriter); !immediate {
		f.want(numbers...)
	}
}

// want checks that the system holds the records of these runs and nothing else.
func (f *fixture) want(numbers ...int) {
	f.t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, shown(f.Records(n))...)
	}
	got := shown(f.Written(f.t))
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("records of runs %v (-expected +in the system):\n%s", numbers, diff)
	}
}

func shown(values []transform.Value) []string {
	var list []string
	for _, v := range values {
		list = append(list, transformtest.Show(v))
	}
	return list
}

func faults(t *testing.T, h Harness) {
	c := h.New(t).Connect()
	defer c.Close()
	check := func(kind, key string, target int, err error) {
		t.Helper()
		var fault *connector.Fault
		switch {
		case err == nil:
			t.Errorf("a %s whose %s is wrong is not refused", kind, key)
		case !errors.As(err, &fault):
			t.Errorf("%s of a %s: the error is no *connector.Fault: %v", key, kind, err)
		case fault.Key != key || fault.Target != target:
			t.Errorf("%s of a %s, target %d: the fault names %q of target %d", key, kind, target, fault.Key, fault.Target)
		case fault.Reason == "":
			t.Errorf("%s of a %s: the fault has no reason", key, kind)
		}
	}
	for key, target := range h.TargetFaults {
		_, err := c.(connector.Destination).PrepareWrite([]connector.Target{h.Target, target})
		check("destination", key, 1, err)
	}
	for key, spec := range h.ReadFaults {
		_, err := c.(connector.Source).PrepareRead(spec)
		check("source", key, 0, err)
	}
}

func ping(t *testing.T, h Harness) {
	c := h.New(t).Connect()
	for range 2 {
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("Ping: %v", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func commit(t *testing.T, h Harness) {
	f := newFixture(t, h)
	f.want()
	work := f.begin(t.Context(), f.writer)
	if f.start(work, 0) {
		t.Fatal("a new run was applied before")
	}
	for _, v := range f.Records(0) { // a batch each
		f.write(work, []transform.Value{v})
	}
	f.wantYet()
	f.commit(work)
	f.want(0)
	if err := work.Rollback(); err != nil {
		t.Errorf("Rollback after Commit: %v", err)
	}
	f.want(0)
	f.apply(f.writer, 1, 2)
	f.want(0, 1, 2)
}

func rollback(t *testing.T, h Harness) {
	f := newFixture(t, h)
	f.apply(f.writer, 0)
	work := f.begin(t.Context(), f.writer)
	f.start(work, 1)
	f.write(work, f.Records(1))
	for range 2 {
		if err := work.Rollback(); err != nil {
			t.Errorf("Rollback: %v", err)
		}
	}
	f.wantYet(0)
	if err := f.begin(t.Context(), f.writer).Rollback(); err != nil {
		t.Errorf("Rollback of a work without runs: %v", err)
	}
	f.apply(f.writer, 1)
	f.want(0, 1)
}

func empty(t *testing.T, h Harness) {
	f := newFixture(t, h)
	work := f.begin(t.Context(), f.writer)
	f.start(work, 0)
	f.commit(work)
	f.want()
	if work = f.begin(t.Context(), f.writer); !f.Forgets && !f.start(work, 0) {
		t.Error("the second attempt does not find the first applied")
	}
}

func applied(t *testing.T, h Harness) {
	if h.Forgets {
		t.Skip("the system cannot remember runs")
	}
	f := newFixture(t, h)
	f.apply(f.writer, 0)
	for name, w := range map[string]connector.Writer{"the same connection": f.writer, "another connection": f.newWriter()} {
		work := f.begin(t.Context(), w)
		if !f.start(work, 0) {
			t.Errorf("%s: Start does not find the run applied", name)
		}
		f.commit(work)
	}
	f.want(0)
}

func abandoned(t *testing.T, h Harness) {
	f := newFixture(t, h)
	work := f.begin(t.Context(), f.writer)
	f.start(work, 0)
	f.write(work, f.Records(0)[:1])
	work.Rollback()
	f.apply(f.newWriter(), 0)
	f.want(0)
}

// members are the numbers of as many runs as share a work, four at most.
func (f *fixture) members() []int {
	if f.writer.MaxRuns() == 1 {
		f.t.Skip("a work has one run")
	}
	var numbers []int
	for n := range min(4, f.writer.MaxRuns()) {
		numbers = append(numbers, n)
	}
	return numbers
}

func group(t *testing.T, h Harness) {
	f := newFixture(t, h)
	numbers := f.members()
	for _, end := range []string{"rollback", "commit"} {
		work := f.begin(t.Context(), f.writer)
		for _, n := range numbers {
			f.start(work, n)
			f.write(work, f.Records(n))
		}
		f.wantYet()
		if end == "rollback" {
			work.Rollback()
			f.wantYet()
		} else {
			f.commit(work)
			f.want(numbers...)
		}
	}
}

func groupAgain(t *testing.T, h Harness) {
	f := newFixture(t, h)
	numbers := f.members()
	if h.Forgets {
		t.Skip("the system cannot remember runs")
	}
	f.apply(f.writer, numbers[1])
	work := f.begin(t.Context(), f.writer)
	for _, n := range numbers {
		if got := f.start(work, n); got != (n == numbers[1]) {
			t.Errorf("run %d: Start answers %v", n, got)
		} else if !got {
			f.write(work, f.Records(n))
		}
	}
	f.commit(work)
	f.want(numbers...)
	work = f.begin(t.Context(), f.writer)
	for _, n := range numbers {
		if !f.start(work, n) {
			t.Errorf("run %d is not found applied", n)
		}
	}
}

func rejected(t *testing.T, h Harness) {
	f := newFixture(t, h)
	work := f.begin(t.Context(), f.writer)
	f.start(work, 0)
	values := f.Records(0)
	b := batch(append(slices.Clone(f.Records(1)), values...))
	reason := errors.New("rejected before")
	for i := range b.Records[:len(b.Records)-len(values)] {
		b.Records[i].Err = reason
	}
	if err := work.Write(0, b); err != nil {
		t.Fatalf("Write: %v", err)
	}
	if err := b.Records[0].Err; err != reason {
		t.Errorf("the reason of a rejected record became %v", err)
	}
	f.commit(work)
	f.want(0)
}

func unfit(t *testing.T, h Harness) {
	if h.Unfit.IsNull() {
		t.Skip("every record fits")
	}
	f := newFixture(t, h)
	work := f.begin(t.Context(), f.writer)
	f.start(work, 0)
	values := f.Records(0)
	list := f.write(work, slices.Concat(values[:1], []transform.Value{f.Unfit}, values[1:], []transform.Value{f.Unfit}))
	for i, r := range list {
		bad := i == 1 || i == len(list)-1
		var fault *transform.Fault
		switch {
		case !bad && r.Err != nil:
			t.Errorf("record %d fits and is rejected: %v", i, r.Err)
		case bad && !errors.As(r.Err, &fault):
			t.Errorf("record %d does not fit, and its Err is no *transform.Fault: %v", i, r.Err)
		case bad && (fault.Kind == "" || fault.Reason == ""):
			t.Errorf("record %d: the fault lacks its kind or reason: %+v", i, fault)
		}
	}
	f.commit(work)
	f.want(0)
}

func canceled(t *testing.T, h Harness) {
	f := newFixture(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	work, err := f.writer.Begin(ctx)
	if err == nil {
		defer work.Rollback()
		if _, err = work.Start(run(0), f.paths(run(0))); err == nil {
			err = work.Write(0, batch(f.Records(0)))
		}
	}
	if !errors.Is(err, context.Canceled) || connector.IsPermanent(err) {
		t.Errorf("the error is %v, not that of the context", err)
	}
	f.want()
}

func canceledAtWork(t *testing.T, h Harness) {
	f := newFixture(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	work := f.begin(ctx, f.writer)
	f.start(work, 0)
	f.write(work, f.Records(0))
	cancel()
	if err := work.Write(0, batch(f.Records(0))); !errors.Is(err, context.Canceled) || connector.IsPermanent(err) {
		t.Errorf("Write: the error is %v, not that of the context", err)
	}
	if err := work.Commit(); err == nil {
		t.Error("Commit succeeds after its context ended")
	}
	if err := work.Rollback(); err != nil {
		t.Errorf("Rollback: %v", err)
	}
	f.wantYet()
	f.apply(f.writer, 0)
	f.want(0)
}

func concurrent(t *testing.T, h Harness) {
	f := newFixture(t, h)
	var group sync.WaitGroup
	var numbers []int
	for n := range 8 {
		numbers = append(numbers, n)
		group.Go(func() {
			work, err := f.writer.Begin(t.Context())
			if err != nil {
				t.Errorf("Begin: %v", err)
				return
			}
			defer work.Rollback()
			_, startErr := work.Start(run(n), f.paths(run(n)))
			if startErr != nil {
				t.Errorf("Start: %v", startErr)
				return
			}
			if err := errors.Join(work.Write(0, batch(f.Records(n))), work.Commit()); err != nil {
				t.Errorf("run %d: %v", n, err)
			}
		})
	}
	group.Wait()
	f.want(numbers...)
}

func closed(t *testing.T, h Harness) {
	f := newFixture(t, h)
	c := f.connect()
	w, err := c.(connector.Destination).PrepareWrite([]connector.Target{f.Target})
	if err != nil {
		t.Fatal(err)
	}
	f.apply(w, 0)
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	f.apply(w, 1)
	f.want(0, 1)
}

func undo(t *testing.T, h Harness) {
	f := newFixture(t, h)
	work, ok := f.begin(t.Context(), f.writer).(connector.Undoer)
	if !ok {
		t.Skip("the connection takes nothing back")
	}
	save := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	f.start(work, 0)
	values := f.Records(0)
	save(work.Save)
	f.write(work, f.Records(1))
	save(work.Undo)
	f.write(work, f.Records(2))
	save(work.Undo) // to the same point
	f.write(work, values[:1])
	save(work.Save)
	save(work.Save)
	f.write(work, values[1:])
	save(work.Undo)
	f.write(work, values[1:])
	f.wantYet()
	f.commit(work)
	f.want(0)
}

func noted(t *testing.T, h Harness) {
	f := newFixture(t, h)
	begin := func(n int) (connector.Noter, bool) {
		t.Helper()
		work, ok := f.begin(t.Context(), f.writer).(connector.Noter)
		if !ok {
			t.Skip("the connection keeps no notes")
		}
		return work, f.start(work, n)
	}
	note := func(work connector.Noter, text string) {
		t.Helper()
		if err := work.Note([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	work, _ := begin(0)
	note(work, "of an attempt that was rolled back")
	work.Rollback()
	work, _ = begin(0)
	f.write(work, f.Records(0))
	note(work, "first \x00\xff")
	if f.writer.MaxRuns() > 1 {
		f.start(work, 1)
		f.write(work, f.Records(1))
		note(work, "second")
		f.start(work, 2)
	}
	f.commit(work)
	for n, want := range []string{"first \x00\xff", "second", ""} {
		if n > 0 && f.writer.MaxRuns() == 1 {
			break
		}
		work, applied := begin(n)
		got, err := work.Noted()
		if !applied || err != nil || string(got) != want {
			t.Errorf("run %d: applied %v, noted %q, error %v; the note was %q", n, applied, got, err, want)
		}
		if part, ok := work.(connector.Part); ok {
			err := part.Checkpoints(func(c connector.Checkpoint) error { return errors.New("a note is no checkpoint") })
			if err != nil {
				t.Error(err)
			}
		}
		work.Rollback()
	}
}

func replaced(t *testing.T, h Harness) {
	if h.Replace.Action == "" {
		t.Skip("the connection replaces nothing")
	}
	f := newFixture(t, h)
	remove := h.Replace // of a record that brings no rows
	remove.Action, remove.Columns = "delete", h.Replace.Key
	w, err := f.connect().(connector.Destination).PrepareWrite([]connector.Target{h.Replace, remove})
	if err != nil {
		t.Fatal(err)
	}
	work := f.begin(t.Context(), w)
	start := func(n int) {
		t.Helper()
		if _, err := work.Start(run(n), append(f.paths(run(n)), f.paths(run(n))...)); err != nil {
			t.Fatal(err)
		}
	}
	bring := func(index int64, values []transform.Value) {
		t.Helper()
		b := batch(values)
		for i := range b.Records {
			b.Records[i].Index = index
		}
		if err := work.Write(0, b); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			if r.Err != nil {
				t.Errorf("record %d is rejected: %v", index, r.Err)
			}
		}
	}
	start(0)
	bring(0, f.Records(0))
	bring(1, f.Records(1)[:1])
	bring(1, f.Records(1)[1:])
	if undoer, ok := work.(connector.Undoer); ok {
		if err := undoer.Save(); err != nil {
			t.Fatal(err)
		}
		bring(2, f.Records(2))
		if err := undoer.Undo(); err != nil {
			t.Fatal(err)
		}
	}
	f.commit(work)
	f.want(1)
	work = f.begin(t.Context(), w)
	start(1)
	bring(0, f.Records(2))
	if w.MaxRuns() > 1 {
		start(2)
		bring(0, f.Records(3)) // another run's record of the same place
	} else {
		bring(1, f.Records(3))
	}
	f.commit(work)
	f.want(3)
	work = f.begin(t.Context(), w)
	start(3)
	key := transform.Null
	for _, name := range h.Replace.Key {
		key = key.With(name, f.Records(3)[0].Field(name))
	}
	if err := work.Write(1, batch([]transform.Value{key})); err != nil {
		t.Fatal(err)
	}
	f.commit(work)
	f.want()
}

func ownPaths(t *testing.T, h Harness) {
	f := newFixture(t, h)
	writer, ok := f.writer.(connector.PathWriter)
	if !ok {
		t.Skip("a target has one path")
	}
	for _, value := range []string{"a", "é /?#%&..", "\x00\xff"} {
		if text, err := writer.PathValue(value); err == nil && text == "" {
			t.Errorf("the value %q is nothing in a path", value)
		}
	}
	var fault *transform.Fault
	if text, err := writer.PathValue(""); !errors.As(err, &fault) {
		t.Errorf("no value at all is %q in a path: %v", text, err)
	}
	path, values := f.paths(run(0))[0], append(f.Records(1), f.Records(0)...)
	work := f.begin(t.Context(), f.writer).(connector.PathWork)
	if _, err := work.Start(run(0), []string{""}); err != nil {
		t.Fatal(err)
	}
	b := batch(values)
	reason := errors.New("rejected before")
	paths := make([]string, len(values))
	for i := range values {
		if i < len(f.Records(1)) {
			b.Records[i].Err = reason
		} else {
			paths[i] = path
		}
	}
	if err := work.WriteAt(0, b, paths); err != nil {
		t.Fatalf("WriteAt: %v", err)
	}
	for i, r := range b.Records {
		if r.Err != nil && paths[i] != "" {
			t.Errorf("record %d is rejected: %v", i, r.Err)
		}
	}
	f.commit(work)
	f.want(0)
}

// partsOf is a connection of its own that commits a run in parts.
func (f *fixture) partsOf() connector.PartWriter {
	f.t.Helper()
	target := f.Target
	target.Commit = 1
	w, err := f.connect().(connector.Destination).PrepareWrite([]connector.Target{target})
	if fault := (*connector.Fault)(nil); errors.As(err, &fault) && fault.Key == "commit" {
		f.t.Skip("the connection commits a run as a whole")
	}
	if err != nil {
		f.t.Fatalf("PrepareWrite: %v", err)
	}
	parts, ok := w.(connector.PartWriter)
	if !ok {
		f.t.Skip("the connection commits a run as a whole")
	}
	return parts
}

// part begins the next part of the n-th run, which has these checkpoints ("position note").
func (f *fixture) part(w connector.PartWriter, n int, want ...string) connector.Part {
	f.t.Helper()
	part, err := w.BeginPart(f.t.Context())
	if err != nil {
		f.t.Fatalf("BeginPart: %v", err)
	}
	f.t.Cleanup(func() { part.Rollback() })
	if f.start(part, n) {
		f.t.Fatalf("run %d is applied before its last part", n)
	}
	var got []string
	err = part.Checkpoints(func(c connector.Checkpoint) error {
		got = append(got, strconv.FormatInt(c.Position, 10)+" "+string(c.Note))
		return nil
	})
	if err != nil {
		f.t.Fatalf("Checkpoints: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("checkpoints of run %d (-expected +got):\n%s", n, diff)
	}
	return part
}

func (f *fixture) checkpoint(part connector.Part, position int64, note string) {
	f.t.Helper()
	if err := part.Checkpoint(connector.Checkpoint{Position: position, Note: []byte(note)}); err != nil {
		f.t.Fatalf("Checkpoint: %v", err)
	}
	if err := part.Rollback(); err != nil {
		f.t.Errorf("Rollback after Checkpoint: %v", err)
	}
}

// wantPart checks that the system holds so many of the run's records.
func (f *fixture) wantPart(n, records int) {
	f.t.Helper()
	if diff := cmp.Diff(shown(f.Records(n)[:records]), shown(f.Written(f.t))); diff != "" {
		f.t.Errorf("the first %d records of run %d (-expected +in the system):\n%s", records, n, diff)
	}
}

func parts(t *testing.T, h Harness) {
	f := newFixture(t, h)
	w, values := f.partsOf(), h.Records(0)
	part := f.part(w, 0)
	f.write(part, values[:1])
	f.wantPart(0, 0)
	f.checkpoint(part, 1, "first \x00\xff")
	f.wantPart(0, 1)
	f.checkpoint(f.part(f.partsOf(), 0, "1 first \x00\xff"), 7, "") // it may be empty, and its position is the caller's business
	stop := errors.New("enough")
	again, err := w.BeginPart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.start(again, 0)
	seen := 0
	if err := again.Checkpoints(func(connector.Checkpoint) error { seen++; return stop }); !errors.Is(err, stop) || seen != 1 {
		t.Errorf("Checkpoints after each has failed: %d calls, error %v", seen, err)
	}
	again.Rollback()
	part = f.part(w, 0, "1 first \x00\xff", "7 ")
	f.write(part, values[1:])
	f.wantPart(0, 1)
	f.commit(part)
	f.want(0)
	if work := f.begin(t.Context(), f.newWriter()); !f.Forgets && !f.start(work, 0) {
		t.Error("after its last part the run is not found applied")
	}
}

func partAbandoned(t *testing.T, h Harness) {
	f := newFixture(t, h)
	w, values := f.partsOf(), h.Records(0)
	part := f.part(w, 0)
	f.write(part, values[:1])
	part.Rollback()
	f.wantPart(0, 0)
	part = f.part(w, 0)
	f.write(part, values[:1])
	f.checkpoint(part, 1, "")
	part = f.part(w, 0, "1 ")
	f.write(part, values[1:])
	part.Rollback()
	ctx, cancel := context.WithCancel(t.Context())
	part, err := w.BeginPart(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Rollback()
	f.start(part, 0)
	f.write(part, values[1:])
	cancel()
	if err := part.Checkpoint(connector.Checkpoint{Position: 2}); err == nil {
		t.Error("Checkpoint succeeds after its context ended")
	}
	part.Rollback()
	f.wantPart(0, 1)
	part = f.part(f.partsOf(), 0, "1 ")
	f.write(part, values[1:])
	f.commit(part)
	f.want(0)
}

func partTwice(t *testing.T, h Harness) {
	f := newFixture(t, h)
	w, values := f.partsOf(), h.Records(0)
	for attempt := range 2 {
		part, err := w.BeginPart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.start(part, 0) // the second one asks for no checkpoints
		f.write(part, values[:1])
		if err := part.Checkpoint(connector.Checkpoint{Position: 1}); (err != nil) != (attempt == 1) || connector.IsPermanent(err) {
			t.Errorf("attempt %d at the same part: %v", attempt+1, err)
		}
		part.Rollback()
	}
	f.wantPart(0, 1)
	f.part(w, 0, "1 ")
}

func partForgotten(t *testing.T, h Harness) {
	f := newFixture(t, h)
	w, values := f.partsOf(), h.Records(0)
	for i := range values {
		part := f.part(w, 0)
		f.write(part, values[i:i+1])
		f.checkpoint(part, 0, "")
	}
	f.want(0)
}

func partsOfRuns(t *testing.T, h Harness) {
	f := newFixture(t, h)
	w := f.partsOf()
	for n := range 2 {
		part := f.part(w, n)
		f.write(part, h.Records(n)[:1])
		f.checkpoint(part, 1, strconv.Itoa(n))
	}
	for n := range 2 {
		part := f.part(w, n, "1 "+strconv.Itoa(n))
		f.write(part, h.Records(n)[1:])
		f.commit(part)
	}
	f.want(0, 1)
}

// source writes the first run and prepares to read it.
func source(t *testing.T, h Harness) (*fixture, connector.Reader, connector.ReadRequest) {
	t.Helper()
	f := newFixture(t, h)
	f.apply(f.writer, 0)
	reader, err := f.connect().(connector.Source).PrepareRead(*h.From)
	if err != nil {
		t.Fatalf("PrepareRead: %v", err)
	}
	return f, reader, connector.ReadRequest{Path: f.paths(run(0))[0], Value: func(string) (transform.Value, error) { return transform.Null, nil }}
}

func open(t *testing.T, ctx context.Context, r connector.Reader, request connector.ReadRequest) connector.Records {
	t.Helper()
	records, err := r.Open(ctx, request)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := records.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return records
}

// all reads to the end.
func all(d transform.Decoder) ([]transform.Value, error) {
	var list []transform.Value
	var b transform.Batch
	for {
		switch err := d.Decode(&b); {
		case err == io.EOF:
			return list, nil
		case err != nil:
			return list, err
		case len(b.Records) == 0:
			return list, errors.New("the decoder answers no records and no end")
		}
		for _, r := range b.Records {
			if r.Index != int64(len(list)) || r.Err != nil {
				return list, errors.New("record " + strconv.Itoa(len(list)) + " has the wrong index, or is rejected")
			}
			list = append(list, r.Value)
		}
	}
}

func read(t *testing.T, h Harness) {
	f, reader, request := source(t, h)
	for range 2 {
		got, err := all(open(t, t.Context(), reader, request))
		if err != nil {
			t.Fatalf("Decode: %v", err)
		}
		if diff := cmp.Diff(strings.Join(shown(f.Records(0)), "\n"), strings.Join(shown(got), "\n")); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
	}
}

func readers(t *testing.T, h Harness) {
	f, reader, request := source(t, h)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			records, err := reader.Open(t.Context(), request)
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			defer records.Close()
			if got, err := all(records); err != nil || len(got) != len(f.Records(0)) {
				t.Errorf("%d records, error %v", len(got), err)
			}
		})
	}
	group.Wait()
}

func readCanceled(t *testing.T, h Harness) {
	_, reader, request := source(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	records := open(t, ctx, reader, request)
	cancel()
	if _, err := all(records); !errors.Is(err, context.Canceled) || connector.IsPermanent(err) {
		t.Errorf("Decode: the error is %v, not that of the context", err)
	}
	if records, err := reader.Open(ctx, request); err == nil {
		defer records.Close()
		if _, err := all(records); !errors.Is(err, context.Canceled) {
			t.Errorf("under a context that has ended: %v", err)
		}
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Open: the error is %v, not that of the context", err)
	}
}

func readPart(t *testing.T, h Harness) {
	h.From = &connector.ReadSpec{Table: h.From.Table, Query: h.From.Query, Path: h.From.Path, Format: h.From.Format, Decode: h.From.Decode}
	h.From.Decode.Limits.BatchSize = 1
	f, reader, request := source(t, h)
	var b transform.Batch
	if err := open(t, t.Context(), reader, request).Decode(&b); err != nil || len(b.Records) != 1 {
		t.Fatalf("%d records, error %v", len(b.Records), err)
	}
	f.apply(f.writer, 1) // the open reader is in nobody's way
	f.want(0, 1)
}
