package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// The environment makes the program the driver of a store in a folder; there are so many lives, one after the other.
const (
	driveFolder = "INTEGRATOR_POWER_FOLDER"
	driveLife   = "INTEGRATOR_POWER_LIFE"
	lives       = 3
	marksName   = "marks"
	dataName    = "data"
	backupName  = "backup"
)

// driver uses a store as an engine does, and says what it does.
type driver struct {
	dir    string
	marks  *os.File
	st     *boltstore.Store
	queue  store.Queue
	passed chan struct{} // gets something after a checkpoint

	pruning sync.RWMutex // what has ended does not change while it is pruned
	mu      sync.Mutex
	kept    []uuid.UUID // messages that nobody has erased
	entries map[string]int64
}

// drive is a life of a driver, which ends without an orderly stop.
func drive(dir, life string) error {
	marks, err := os.OpenFile(filepath.Join(dir, marksName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	d := &driver{dir: filepath.Join(dir, dataName), marks: marks, passed: make(chan struct{}, 1), entries: map[string]int64{}}
	if err := d.open(); err != nil {
		return err
	}
	steps := map[string][]func() error{
		"0": {d.busy, d.quiet, d.busy},
		"1": {d.busy, d.prune, d.quiet, d.backUp, d.busy, d.again, d.busy, d.quiet, d.prune, d.busy},
		"2": {d.busy, d.large, d.busy},
	}[life]
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) open() (err error) {
	d.st, err = boltstore.Open(d.dir, &boltstore.Options{OnCorrupt: func(err error) { fmt.Fprintln(os.Stderr, err); os.Exit(1) },
		OnCheckpoint: func(int64, time.Duration) {
			select {
			case d.passed <- struct{}{}:
			default:
			}
		}})
	if err == nil {
		d.queue, err = d.st.Join(context.Background(), "driver")
	}
	return err
}

// say writes a mark. It stands in the trace where it was said.
func (d *driver) say(m mark) error {
	text, err := json.Marshal(m)
	if err == nil {
		_, err = d.marks.Write(text)
	}
	return err
}

// around says what is asked for and what is answered.
func (d *driver) around(before, after string, m mark, f func() error) error {
	m.What = before
	if err := d.say(m); err != nil {
		return err
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", before, err)
	}
	m.What = after
	return d.say(m)
}

// busy is some callers at work at the same time.
func (d *driver) busy() error {
	var group sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
			for range 12 {
				for _, f := range []func(*rand.Rand) error{d.accept, d.settle, d.other} {
					if errs[i] = errors.Join(errs[i], f(random)); errs[i] != nil {
						return
					}
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// large is bodies of which a file of the journal has room for some only.
func (d *driver) large() error {
	for range 80 {
		if err := d.accepts(make([]byte, store.InlineBytes-1), rand.New(rand.NewPCG(1, 1))); err != nil {
			return err
		}
	}
	return nil
}

// quiet waits until the store has made a checkpoint for want of work.
func (d *driver) quiet() error {
	select {
	case <-d.passed: // of earlier
	default:
	}
	if err := d.accepts([]byte("last"), rand.New(rand.NewPCG(1, 1))); err != nil {
		return err
	}
	<-d.passed
	return nil
}

// backUp makes a backup while nobody changes anything: it has all.
func (d *driver) backUp() error {
	return d.around("backingUp", "backedUp", mark{}, func() error {
		_, err := d.st.Backup(context.Background(), filepath.Join(filepath.Dir(d.dir), backupName), nil)
		return err
	})
}

// again closes the store, makes it anew and opens it.
func (d *driver) again() error {
	if err := errors.Join(d.queue.Leave(), d.st.Close()); err != nil {
		return err
	}
	if _, err := boltstore.Compact(context.Background(), d.dir, nil); err != nil {
		return err
	}
	return d.open()
}

// accept accepts a body of any size.
func (d *driver) accept(random *rand.Rand) error {
	size := 1 + random.IntN(2000)
	switch random.IntN(8) {
	case 0:
		size = 1 + random.IntN(30_000)
	case 1:
		size = store.InlineBytes + random.IntN(100_000)
	}
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	return d.accepts(body, random)
}

func (d *driver) accepts(body []byte, random *rand.Rand) error {
	a, err := acceptance(d.st, body)
	if err != nil {
		return err
	}
	if random.IntN(4) == 0 {
		a.Runs[0].Order = strconv.Itoa(random.IntN(2))
	}
	sum := sha256.Sum256(body)
	m := mark{What: "accepting", Message: a.Message.ID, Size: int64(len(body)), SHA256: sum[:], Of: len(a.Runs)}
	if err := d.say(m); err != nil {
		return err
	}
	receipt, err := d.queue.Accept(context.Background(), a)
	if err != nil {
		return err
	}
	m.What = "accepted"
	for _, r := range receipt.Runs {
		m.Runs = append(m.Runs, r.Number)
	}
	d.mu.Lock()
	d.kept = append(d.kept, m.Message)
	d.mu.Unlock()
	return d.say(m)
}

// acceptance is a message with a body and two runs.
func acceptance(st store.Store, body []byte) (*store.Acceptance, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	spool := store.NewSpool(context.Background(), st)
	if _, err := spool.Write(body); err != nil {
		return nil, err
	}
	now := time.Now()
	m := &store.Message{ID: id, Listener: "power", ReceivedAt: now}
	if m.Body, err = spool.Body(); err != nil {
		return nil, err
	}
	a := &store.Acceptance{Message: m, Once: onceOf(id)}
	for flow := range int64(2) {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		a.Runs = append(a.Runs, &store.Run{ID: id, Flow: "power", FlowID: flow + 1, Message: m.ID, Queued: now, Due: now})
	}
	return a, nil
}

func onceOf(id uuid.UUID) *store.Once {
	return &store.Once{Scope: "power", Key: id.String(), Until: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// exceptionOf is what a run has failed with.
func exceptionOf(number int64) string { return fmt.Sprintf("run %d has failed", number) }

// logOf is what a run is settled with, each time.
func logOf(number int64) string { return fmt.Sprintf("log of run %d", number) }

// settle claims runs and settles most of them.
func (d *driver) settle(random *rand.Rand) error {
	ctx := context.Background()
	runs, _, err := d.queue.Claim(ctx, map[int64]store.Want{1: {Runs: 1, Version: "v"}, 2: {Runs: 1, Version: "v"}}, 2, time.Now())
	if err == nil {
		err = d.queue.Begin(ctx, runs)
	}
	if err != nil {
		return err
	}
	for _, run := range runs {
		run.Status = []store.Status{store.Success, store.Success, store.Warning, store.Error, store.Queued, store.Running}[random.IntN(6)]
		if run.Status == store.Running {
			continue // it stays at work
		}
		log := []byte(logOf(run.Number))
		s := &store.Settlement{Run: run, Log: store.Body{Inline: log, Size: int64(len(log)), SHA256: sha256.Sum256(log)}}
		switch run.Status {
		case store.Warning:
			spool := store.NewSpool(ctx, d.st)
			if _, err := spool.Write(make([]byte, 1+random.IntN(2*store.InlineBytes))); err != nil {
				return err
			}
			if s.Rejects, err = spool.Body(); err != nil {
				return err
			}
		case store.Error:
			s.Run.Exception = exceptionOf(run.Number)
		}
		d.pruning.RLock()
		s.Run.Ended = time.Now()
		err := d.around("settling", "settled", mark{Message: run.Message, Run: run.Number, Status: run.Status},
			func() error { return d.queue.Settle(ctx, []*store.Settlement{s}) })
		d.pruning.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// other erases a message, stores an entry, cancels a run, or records one that was never queued.
func (d *driver) other(random *rand.Rand) error {
	ctx := context.Background()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch random.IntN(8) {
	case 3:
		return d.cancel()
	case 4:
		return d.insert()
	case 0:
		i := random.IntN(len(d.kept))
		id := d.kept[i]
		d.kept = append(d.kept[:i], d.kept[i+1:]...)
		return d.around("erasing", "erased", mark{Message: id}, func() error {
			err := d.st.Erase(ctx, id)
			if errors.Is(err, store.ErrNotFound) { // it was pruned
				err = nil
			}
			return err
		})
	case 1, 2:
		name, value := strconv.Itoa(random.IntN(3)), strconv.FormatUint(random.Uint64(), 10)
		e, err := d.st.Get(ctx, "power", name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return d.around("putting", "put", mark{Name: name, Value: value}, func() error {
			_, err := d.st.Put(ctx, store.Entry{Kind: "power", Name: name, Value: []byte(value), Version: e.Version})
			return err
		})
	}
	return nil
}

// cancel cancels a run that waits. Nobody settles it meanwhile.
func (d *driver) cancel() error {
	ctx := context.Background()
	d.pruning.Lock()
	defer d.pruning.Unlock()
	waiting, err := d.st.Runs(ctx, store.RunFilter{Status: store.Queued, Limit: 1})
	if err != nil || len(waiting) == 0 {
		return err
	}
	m := mark{What: "settling", Message: waiting[0].Message, Run: waiting[0].Number, Status: store.Canceled}
	if err := d.say(m); err != nil {
		return err
	}
	canceled, err := d.queue.Cancel(ctx, m.Run, time.Now())
	if m.What = "settled"; !canceled {
		m.What = "unsettled"
	}
	return errors.Join(err, d.say(m))
}

// insert records a run that was carried out at once, with its message.
func (d *driver) insert() error {
	ctx := context.Background()
	body := []byte("done")
	a, err := acceptance(d.st, body)
	if err != nil {
		return err
	}
	run := *a.Runs[0]
	if run.Number, err = d.queue.NextNumber(ctx); err != nil {
		return err
	}
	run.Status, run.Attempts, run.Started, run.Ended = store.Success, 1, time.Now(), time.Now()
	sum, log := sha256.Sum256(body), []byte(logOf(run.Number))
	m := mark{What: "accepting", Message: a.Message.ID, Size: int64(len(body)), SHA256: sum[:], Of: 1}
	if err := d.say(m); err != nil {
		return err
	}
	err = d.around("settling", "settled", mark{Message: a.Message.ID, Run: run.Number, Status: run.Status}, func() error {
		return d.queue.Settle(ctx, []*store.Settlement{{Run: run, Insert: true, Message: a.Message, Log: store.Body{Inline: log, Size: int64(len(log)), SHA256: sha256.Sum256(log)}}})
	})
	m.What, m.Runs = "accepted", []int64{run.Number}
	return errors.Join(err, d.say(m))
}

// prune removes the half of what has ended.
func (d *driver) prune() error {
	ctx := context.Background()
	d.pruning.Lock()
	defer d.pruning.Unlock()
	kept, err := d.st.Kept(ctx)
	if err != nil {
		return err
	}
	before, err := d.ended()
	if err != nil {
		return err
	}
	m := mark{What: "pruning"}
	for n := range before {
		m.Runs = append(m.Runs, n)
	}
	if err := d.say(m); err != nil {
		return err
	}
	if _, err := d.st.Prune(ctx, store.Keep{Runs: kept.Runs / 2}, 1000); err != nil {
		return err
	}
	after, err := d.ended()
	if err != nil {
		return err
	}
	m = mark{What: "pruned"}
	spared := mark{What: "spared"}
	for n := range before {
		if after[n] {
			spared.Runs = append(spared.Runs, n)
		} else {
			m.Runs = append(m.Runs, n)
		}
	}
	return errors.Join(d.say(m), d.say(spared))
}

// ended returns the runs that have ended.
func (d *driver) ended() (map[int64]bool, error) {
	all, err := runsOf(d.st)
	ended := map[int64]bool{}
	for n, r := range all {
		if r.Status.Settled() {
			ended[n] = true
		}
	}
	return ended, err
}

// runsOf returns all runs of a store by number.
func runsOf(st store.Store) (map[int64]store.Run, error) {
	all := map[int64]store.Run{}
	for before := int64(0); ; {
		page, err := st.Runs(context.Background(), store.RunFilter{Before: before, Limit: 1000})
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		for _, r := range page {
			before, all[r.Number] = r.Number, r
		}
	}
}
