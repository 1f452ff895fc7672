package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// check opens a store as a crash has left it, and looks for all that the ledger says. It accepts one message more, and looks once more.
func check(dir string, l *ledger) error {
	c := &checker{ledger: l}
	var more message
	var id uuid.UUID
	for _, last := range []bool{false, true} {
		err := c.open(dir, func(st *boltstore.Store) error {
			c.look(st, dir)
			q, err := st.Join(context.Background(), "check")
			if err != nil {
				return err
			}
			if last {
				c.message(st, id, more)
			} else {
				c.work(q)
				if id, more, err = c.accept(st, q); err != nil {
					return err
				}
			}
			return q.Leave()
		})
		if err != nil {
			c.find("%v", err)
			break
		}
	}
	if len(c.findings) == 0 {
		return nil
	}
	if len(c.findings) > 10 {
		c.findings = append(c.findings[:10], fmt.Sprintf("and %d more", len(c.findings)-10))
	}
	return errors.New(strings.Join(c.findings, "\n"))
}

// checker compares a store with a ledger.
type checker struct {
	ledger   *ledger
	findings []string
	runs     map[int64]store.Run // that the store has
	by       map[uuid.UUID][]int64
	bodies   map[uuid.UUID]bool // large ones that something has
}

func (c *checker) find(format string, args ...any) {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
}

func (c *checker) open(dir string, f func(st *boltstore.Store) error) error {
	st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(err error) { c.find("told of damage: %v", err) }})
	if err != nil {
		return fmt.Errorf("does not open: %w", err)
	}
	return errors.Join(f(st), st.Close())
}

// look compares all that is there.
func (c *checker) look(st *boltstore.Store, dir string) {
	var err error
	if c.runs, err = runsOf(st); err != nil {
		c.find("runs: %v", err)
	}
	c.by, c.bodies = map[uuid.UUID][]int64{}, map[uuid.UUID]bool{uuid.Nil: true}
	for n, r := range c.runs {
		c.by[r.Message] = append(c.by[r.Message], n)
		c.run(st, r)
	}
	for n, r := range c.ledger.runs {
		if _, there := c.runs[n]; !there && r.gone == no && (r.status != 0 || c.ledger.messages[r.message].accepted == yes) {
			c.find("run %d of message %s is lost", n, r.message)
		}
	}
	for id, m := range c.ledger.messages {
		c.message(st, id, m)
	}
	for name, e := range c.ledger.entries {
		got, err := st.Get(context.Background(), "power", name)
		if errors.Is(err, store.ErrNotFound) && e.value == "" {
			continue
		}
		if err != nil || string(got.Value) != e.value && (string(got.Value) != e.next || e.next == "") {
			c.find("entry %s is %q, %v; it is %q, and %q was asked for", name, got.Value, err, e.value, e.next)
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if id, err := uuid.Parse(entry.Name()); err != nil || !c.bodies[id] {
				c.find("%s stays, and nothing has it", path)
			}
		}
		return err
	})
	if err != nil {
		c.find("%v", err)
	}
}

// run compares a run that is there.
func (c *checker) run(st *boltstore.Store, r store.Run) {
	said, known := c.ledger.runs[r.Number]
	if !known {
		if c.ledger.messages[r.Message].accepted != maybe {
			c.find("run %d of message %s was never accepted", r.Number, r.Message)
		}
		if r.Status.Settled() {
			c.find("run %d is %s, and nobody has settled it", r.Number, r.Status)
		}
		return
	}
	if said.gone == yes {
		c.find("run %d was pruned and is there", r.Number)
	}
	if r.Message != said.message {
		c.find("run %d is of message %s, not %s", r.Number, r.Message, said.message)
	}
	is := r.Status
	if !is.Settled() {
		is = 0
	}
	if is != said.status && (said.next == 0 || is != said.next) {
		c.find("run %d is %s; it was settled as %s, and %s was asked for (unknown: no end)", r.Number, r.Status, said.status, said.next)
	}
	if is == store.Error && r.Exception != exceptionOf(r.Number) {
		c.find("run %d has failed with %q", r.Number, r.Exception)
	}
	if is == 0 || is == store.Canceled {
		return
	}
	rejects, log, err := st.Attachments(context.Background(), r.Number)
	c.bodies[rejects.Blob] = true
	if err != nil || string(log.Inline) != logOf(r.Number) {
		c.find("run %d has the log %q, %v", r.Number, log.Inline, err)
	}
	if is != store.Warning {
		return
	}
	err = bodyIs(st, rejects, message{size: rejects.Size, sum: rejects.SHA256})
	if err != nil && (!errors.Is(err, store.ErrErased) || c.ledger.messages[r.Message].erased == no) {
		c.find("the rejects of run %d: %v", r.Number, err)
	}
}

// message looks for a message with its body, its runs and its once-key.
func (c *checker) message(st *boltstore.Store, id uuid.UUID, said message) {
	gone, runs := c.ledger.gone(said), c.by[id]
	m, err := st.Message(context.Background(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if said.accepted == yes && gone == no || len(runs) > 0 {
			c.find("message %s is lost: %v", id, err)
		}
		return
	case err != nil:
		c.find("message %s: %v", id, err)
		return
	case gone == yes:
		c.find("message %s was pruned and is there", id)
	case said.accepted != yes && len(runs) != said.of:
		c.find("message %s was not answered, and has runs %v", id, runs)
	}
	if m.ID != id || m.Listener != "power" || m.Body.Size != said.size || m.Body.SHA256 != said.sum {
		c.find("message %s is another: %s of %s, %d bytes", id, m.ID, m.Listener, m.Body.Size)
	}
	c.bodies[m.Body.Blob] = true
	switch err := bodyIs(st, m.Body, said); {
	case errors.Is(err, store.ErrErased) && m.Erased && said.erased != no:
	case err != nil:
		c.find("message %s: %v", id, err)
	case said.erased == yes:
		c.find("message %s was erased, and has its body", id)
	}
}

// bodyIs returns why a body is not the one that was accepted.
func bodyIs(st *boltstore.Store, b store.Body, said message) error {
	body, err := st.OpenBody(context.Background(), b)
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	if err == nil && (n != said.size || [32]byte(sum.Sum(nil)) != said.sum) {
		err = fmt.Errorf("%w, of %d bytes", errAnother, n)
	}
	return err
}

var errAnother = errors.New("its body is another")

// work claims what waits, repeats calls under their keys, and accepts a message.
func (c *checker) work(q store.Queue) {
	ctx := context.Background()
	claimed, _, err := q.Claim(ctx, map[int64]store.Want{1: {Runs: 1 << 20}, 2: {Runs: 1 << 20}}, 1<<20, farAway)
	if err != nil {
		c.find("claim: %v", err)
	}
	var want []int64
	type turn struct {
		flow  int64
		order string
	}
	first := map[turn]int64{}
	for n, r := range c.runs {
		if t := (turn{r.FlowID, r.Order}); r.Order != "" && !r.Status.Settled() && (first[t] == 0 || n < first[t]) {
			first[t] = n
		}
	}
	for n, r := range c.runs {
		if !r.Status.Settled() && (r.Order == "" || first[turn{r.FlowID, r.Order}] == n) {
			want = append(want, n)
		}
	}
	var got []int64
	for _, r := range claimed {
		got = append(got, r.Number)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.find("runs %v are queued, and %v wait", got, want)
	}
	some := 0
	for id, m := range c.ledger.messages { // in any order, so that they are others each time
		if m.accepted != yes || m.of != 2 || c.ledger.gone(m) != no || m.erased != no {
			continue
		}
		if some++; some > 5 {
			break
		}
		receipt, err := q.Accept(ctx, &store.Acceptance{Message: &store.Message{ID: id}, Once: onceOf(id)})
		if err != nil || !receipt.Repeated || len(receipt.Runs) != 2 || receipt.Runs[0].Number != m.runs[0] || receipt.Runs[1].Number != m.runs[1] {
			c.find("message %s was accepted as runs %v; its once-key now says %+v, %v", id, m.runs, receipt, err)
		}
	}
}

func (c *checker) accept(st *boltstore.Store, q store.Queue) (uuid.UUID, message, error) {
	body := []byte("one more")
	a, err := acceptance(st, body)
	if err != nil {
		return uuid.Nil, message{}, err
	}
	receipt, err := q.Accept(context.Background(), a)
	if err != nil {
		return uuid.Nil, message{}, err
	}
	said := message{size: int64(len(body)), sum: sha256.Sum256(body), accepted: yes, of: len(a.Runs)}
	more := c.ledger.clone()
	for _, r := range receipt.Runs {
		said.runs = append(said.runs, r.Number)
		if _, known := c.runs[r.Number]; known {
			c.find("run %d was handed out twice", r.Number)
		}
		more.runs[r.Number] = run{message: a.Message.ID}
	}
	more.messages[a.Message.ID] = said
	c.ledger = more
	return a.Message.ID, said, nil
}

// farAway is a time at which every run is due.
var farAway = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
