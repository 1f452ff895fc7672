package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// decay is what flipped bits have come to.
type decay struct {
	ledger                       *ledger
	above                        int64 // every number that was handed out
	stores, refused, told, mends int   // of stores: not opened before it was repaired, damage told, repaired
	ghosts                       int   // ended runs that only a damaged index tells of
	warned                       bool  // a report says that free pages were searched
	lost, most                   int   // messages that are lost after that, in all and of one store
	back                         int   // settled runs that are queued again, erased bodies and pruned runs: what the journal had of it is lost
}

// rot flips bits in files of stores: of one that was closed, and of one that had crashed and has all that was written.
func (c *campaign) rot(count int) error {
	if count == 0 {
		return nil
	}
	began := time.Now()
	d, l := newDisk(c.top), newLedger()
	for _, s := range c.steps[:c.ends[min(1, len(c.ends)-1)]] { // before the files get large
		if d.take(s); s.kind == marked {
			l.take(s.mark)
		}
	}
	above := int64(0)
	for n := range l.runs {
		above = max(above, n+2000) // some are reserved
	}
	crashed := d.crash(nil, c.top)
	dir := filepath.Join(c.dir, "closed")
	if err := errors.Join(os.Mkdir(dir, 0o700), crashed.write(dir)); err != nil {
		return err
	}
	st, err := boltstore.Open(filepath.Join(dir, dataName), nil)
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		return err
	}
	closed, err := take(dir)
	if err != nil {
		return err
	}
	sum := &decay{ledger: l, above: above}
	var mu sync.Mutex
	var group sync.WaitGroup
	todo := make(chan int)
	for range c.workers {
		group.Go(func() {
			for n := range todo {
				one := &decay{ledger: l, above: above}
				found := c.flip(n, []image{crashed, closed}[n%2], one)
				mu.Lock()
				sum.stores, sum.refused, sum.told, sum.mends = sum.stores+1, sum.refused+one.refused, sum.told+one.told, sum.mends+one.mends
				sum.lost, sum.most, sum.back, sum.ghosts = sum.lost+one.lost, max(sum.most, one.lost), sum.back+one.back, sum.ghosts+one.ghosts
				if err == nil {
					err = found
				}
				mu.Unlock()
			}
		})
	}
	for n := range count {
		mu.Lock()
		stop := err != nil
		mu.Unlock()
		if stop {
			break
		}
		todo <- n
	}
	close(todo)
	group.Wait()
	fmt.Fprintf(c.out, "%d stores with flipped bits in %v: %d told of it, %d refused, %d repaired; lost %d messages, at most %d of a store; %d that were settled, erased or pruned are back; %d ghosts\n", sum.stores,
		time.Since(began).Round(time.Second), sum.told, sum.refused, sum.mends, sum.lost, sum.most, sum.back, sum.ghosts)
	return err
}

// take reads a folder as an image.
func take(dir string) (image, error) {
	im := image{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		if im[name] = nil; entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		im[name] = &content{size: int64(len(text))}
		for page := range slices.Chunk(text, pageSize) {
			im[name].pages = append(im[name].pages, append(page, make([]byte, pageSize-len(page))...))
		}
		return err
	})
	return im, err
}

// flip makes a store with some flipped bits, and looks at it.
func (c *campaign) flip(n int, from image, d *decay) error {
	random := rand.New(rand.NewPCG(c.seed, ^uint64(n)))
	dir := filepath.Join(c.dir, fmt.Sprint("flip-", n))
	if err := errors.Join(os.Mkdir(dir, 0o700), from.write(dir)); err != nil {
		return err
	}
	where, err := flipIn(dir, random, from)
	if err != nil {
		return err
	}
	watch := time.AfterFunc(hang, func() { panic(fmt.Sprintf("%s hangs: %s", dir, where)) })
	defer watch.Stop()
	err = d.look(filepath.Join(dir, dataName))
	switch {
	case err != nil:
	case d.back > 0 && !d.warned && n%2 == 1: // the journal of a crashed one has changes, of which some are lost, or find the rows no more that they are of
		err = fmt.Errorf("%w: %d runs and messages that were settled or erased are back", errWrong, d.back)
	case 4*d.lost > len(d.ledger.messages):
		err = fmt.Errorf("%w: %d of %d messages are lost", errWrong, d.lost, len(d.ledger.messages))
	}
	if err != nil {
		return fmt.Errorf("store %d, %s, seed %d: %w", n, where, c.seed, err)
	}
	return os.RemoveAll(dir)
}

// flipIn flips up to three bits of a file, where something stands. Half of the stores are hit in the database.
func flipIn(dir string, random *rand.Rand, from image) (where string, err error) {
	kinds := []string{".db", ".db", ".journal.", "/blobs/"}
	kind := kinds[random.IntN(len(kinds))]
	var names []string
	for name, c := range from {
		if c != nil && c.size > 0 && strings.Contains(name, kind) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	name := names[random.IntN(len(names))]
	of, where := from[name], name
	for range 1 + random.IntN(3) {
		for range 10_000 {
			at := random.Int64N(of.size)
			page := of.pages[at/pageSize]
			if page == nil || page[at%pageSize] == 0 {
				continue
			}
			file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
			if err != nil {
				return "", err
			}
			bit := random.IntN(8)
			_, err = file.WriteAt([]byte{page[at%pageSize] ^ 1<<bit}, at)
			where += fmt.Sprintf(", bit %d of byte %d", bit, at)
			if err = errors.Join(err, file.Close()); err != nil {
				return "", err
			}
			break
		}
	}
	return where, nil
}

// look opens a store, and repairs it when it does not open or lacks something.
func (d *decay) look(dir string) error {
	told := 0
	see := func() (lost int, err error) {
		st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(error) { told++ }})
		if err != nil {
			return 0, err
		}
		lost, back, ghosts, found := d.see(st)
		if err := st.Close(); err != nil && !errors.Is(err, store.ErrBroken) {
			found = errors.Join(found, err)
		}
		d.back, d.ghosts = back, ghosts
		if found != nil {
			err = fmt.Errorf("%w: %w", errWrong, found)
		}
		return lost, err
	}
	lost, err := see()
	if errors.Is(err, errWrong) {
		return err
	}
	if told > 0 {
		d.told = 1
	}
	if err != nil {
		d.refused = 1
	}
	if err == nil && lost == 0 && told == 0 {
		return nil
	}
	d.mends = 1
	repaired, err := boltstore.Repair(context.Background(), dir, nil)
	if err != nil {
		return fmt.Errorf("it cannot be repaired: %w", err)
	}
	report, _ := os.ReadFile(filepath.Join(repaired.Aside, "report.txt")) // there is none without faults
	d.warned = strings.Contains(string(report), "may have come back")
	told = 0
	if d.lost, err = see(); err != nil {
		return fmt.Errorf("after it was repaired: %w", err)
	}
	if told > 0 {
		return errors.New("after it was repaired damage is told")
	}
	return nil
}

// errWrong is of what is there and should not be.
var errWrong = errors.New("wrong")

// see compares what is there with what was accepted, and counts messages that are not.
func (d *decay) see(st *boltstore.Store) (lost, back, ghosts int, err error) {
	ctx := context.Background()
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for id, said := range d.ledger.messages {
		m, err := st.Message(ctx, id)
		if err != nil {
			if said.accepted == yes && d.ledger.gone(said) == no {
				lost++
			}
			continue
		}
		if m.ID != id || m.Listener != "power" || m.Body.Size != said.size || m.Body.SHA256 != said.sum {
			say("message %s is another", id)
		}
		switch err := bodyIs(st, m.Body, said); {
		case errors.Is(err, errAnother):
			say("message %s: %w", id, err)
		case err != nil && said.erased == no:
			lost++
		case err == nil && said.erased == yes:
			back++
		}
	}
	runs, _ := runsOf(st)
	for n, r := range runs {
		switch said, known := d.ledger.runs[n]; {
		case (!known || said.gone == yes) && r.Message == uuid.Nil && r.Status.Settled() && n < d.above:
			ghosts++
		case !known && d.ledger.messages[r.Message].accepted != maybe:
			say("run %d of message %s was never accepted", n, r.Message)
		case strings.HasPrefix(r.Exception, "store repair: "):
		case !known:
		case r.Message != said.message && r.Message != uuid.Nil:
			say("run %d is of message %s, not %s", n, r.Message, said.message)
		case !r.Status.Settled() && said.status != 0, said.gone == yes:
			back++
		case r.Status.Settled() && r.Status != said.status && r.Status != said.next:
			say("run %d is %s; it was settled as %s", n, r.Status, said.status)
		case r.Status == store.Error && r.Exception != exceptionOf(n):
			say("run %d has failed with %q", n, r.Exception)
		}
	}
	q, err := st.Join(ctx, "flip")
	if err != nil {
		return lost, back, ghosts, errors.Join(wrong...) // it says so
	}
	claimed, _, _ := q.Claim(ctx, map[int64]store.Want{1: {Runs: 1 << 20}, 2: {Runs: 1 << 20}}, 1<<20, farAway)
	for _, r := range claimed {
		if said, known := d.ledger.runs[r.Number]; known && r.Message != said.message || !known && d.ledger.messages[r.Message].accepted != maybe {
			say("run %d goes out with message %s", r.Number, r.Message)
		}
	}
	q.Leave()
	return lost, back, ghosts, errors.Join(wrong...)
}
