// Command power asks what a store keeps when the power fails: `go run ./internal/power -images 200000 -seed 7`, from the root of the repository.
// RELIABILITY.md says what it proves.
//
// It runs the real store under strace, which takes down each write, sync and change of names, and what the driver was answered in between. From that it
// makes images: what a disk may have after a crash at any of those moments, when all that it must keep is what was synced. Each image is opened, and
// all that had been acknowledged at that moment must be there. A finding ends the program with exit code 1 and leaves the trace and the image.
//
// -flips flips bits in files of a store as bad sectors do: what is hit may be lost and is told, and never is anything delivered that was not accepted.
//
// -break NAME leaves out syncs of a kind, and succeeds when that is found; -list names them. The seed and the trace decide the images: `-trace DIR
// -seed S -image N` makes one of them again and leaves it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

func main() {
	if folder := os.Getenv(driveFolder); folder != "" {
		exit(drive(folder, os.Getenv(driveLife)))
	}
	exit(do(os.Args[1:], os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "power:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// memory is where images are made unless another folder is named: nothing is asked of a disk.
const memory = "/dev/shm"

func do(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("power", flag.ContinueOnError)
	images := flags.Int("images", 200_000, "how many images are made and opened")
	flips := flags.Int("flips", 5000, "how many stores get flipped bits")
	seed := flags.Uint64("seed", 0, "of what is random; 0 is the time")
	one := flags.Int("image", -1, "make this image only, and leave it")
	trace := flags.String("trace", "", "take the trace in this `folder`, which a finding has left, in place of a new one")
	parent := flags.String("dir", "", "make the scratch folder in this `folder`; in memory where that can be")
	workers := flags.Int("workers", runtime.NumCPU(), "how many images are opened at the same time")
	broken := flags.String("break", "", "`name` of what is left out and must be found, or all")
	list := flags.Bool("list", false, "name what can be left out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		for _, f := range faults {
			fmt.Fprintf(out, "%-18s %s\n", f.name, f.about)
		}
		return nil
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	if _, err := os.Stat(memory); *parent == "" && err == nil {
		*parent = memory
	}
	scratch, err := os.MkdirTemp(*parent, "integrator-power-")
	if err != nil {
		return err
	}
	if *trace == "" {
		*trace = filepath.Join(scratch, "trace")
		if err := record(*trace, *images); err != nil {
			return errors.Join(err, os.RemoveAll(scratch))
		}
	}
	c := &campaign{dir: scratch, trace: *trace, seed: *seed, workers: *workers, out: out}
	if c.steps, c.ends, c.top, err = read(*trace); err == nil {
		switch {
		case *one >= 0:
			return c.show(*one)
		case *broken != "":
			err = c.breakAndFind(*broken, *images)
		default:
			if err = c.run(*images); err == nil {
				err = c.rot(*flips)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%w\nwhat there is to look at: %s", err, scratch)
	}
	return os.RemoveAll(scratch)
}

// campaign is images of a trace.
type campaign struct {
	dir, trace string
	seed       uint64
	workers    int
	out        io.Writer
	steps      []step
	ends       []int // of lives
	faulty     bool  // only moments are tried at which something is owed by a sync that was left out
	top        *node
}

// shot is an image that is to be opened.
type shot struct {
	number, step int
	image        image
	ledger       *ledger
}

// found is what an image has brought to light.
type found struct {
	number, step int
	err          error
}

func (f *found) Error() string {
	return fmt.Sprintf("image %d, a crash at step %d: %v", f.number, f.step, f.err)
}

// moments returns behind which steps a crash may leave something that it did not leave before.
func (c *campaign) moments() []int {
	d, moments := newDisk(c.top), []int{}
	for i, s := range c.steps {
		if d.take(s) && (!c.faulty || len(d.owed) > 0) {
			moments = append(moments, i)
		}
	}
	return moments
}

// randomOf is what decides about an image.
func (c *campaign) randomOf(number int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(number)))
}

// at returns the moment of an image: each of them in turn, those that follow each other far apart.
func at(number int, moments []int) int {
	stride := len(moments)*618/1000 | 1
	for gcd(stride, len(moments)) > 1 {
		stride += 2
	}
	return moments[number%len(moments)*stride%len(moments)]
}

func gcd(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}

// shots makes images, those of early moments first, until make returns false.
func (c *campaign) shots(from, count int, take func(shot) bool) {
	moments := c.moments()
	numbers := map[int][]int{}
	for n := from; n < from+count; n++ {
		i := at(n, moments)
		numbers[i] = append(numbers[i], n)
	}
	d, l := newDisk(c.top), newLedger()
	var shared *ledger // of the images of a moment
	for i, s := range c.steps {
		if d.take(s); s.kind == marked {
			l.take(s.mark)
			shared = nil
		}
		for _, n := range numbers[i] {
			if shared == nil {
				shared = l.clone()
			}
			if !take(shot{n, i, d.crash(c.randomOf(n), c.top), shared}) {
				return
			}
		}
	}
}

// hang is how long an image may take: one that takes longer ends the program, which says where it hangs.
const hang = 2 * time.Minute

// open opens an image in a folder of its own, which stays when there is a finding.
func (c *campaign) open(s shot) error {
	dir := filepath.Join(c.dir, fmt.Sprint("image-", s.number))
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = s.image.write(dir)
	}
	if err != nil {
		return err
	}
	watch := time.AfterFunc(hang, func() { panic(fmt.Sprintf("%s hangs", dir)) })
	defer watch.Stop()
	err = check(filepath.Join(dir, dataName), s.ledger)
	if backup := s.ledger.backup; backup != nil && s.number%8 == 0 {
		if in := check(filepath.Join(dir, backupName), backup); in != nil {
			err = errors.Join(err, fmt.Errorf("the backup: %w", in))
		}
	}
	if err != nil {
		os.RemoveAll(dir) // as it was before it was opened
		return errors.Join(&found{s.number, s.step, err}, os.Mkdir(dir, 0o700), s.image.write(dir))
	}
	return os.RemoveAll(dir)
}

// try opens images, of so many numbers from one on, until one has a finding.
func (c *campaign) try(from, count int) (opened int, err error) {
	todo := make(chan shot)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range c.workers {
		group.Go(func() {
			for s := range todo {
				found := c.open(s)
				mu.Lock()
				opened++
				if err == nil {
					err = found
				}
				mu.Unlock()
			}
		})
	}
	c.shots(from, count, func(s shot) bool {
		todo <- s
		mu.Lock()
		defer mu.Unlock()
		return err == nil
	})
	close(todo)
	group.Wait()
	return opened, err
}

// pass is how many images are made before the trace is begun anew.
const pass = 5000

func (c *campaign) run(count int) error {
	began := time.Now()
	fmt.Fprintf(c.out, "seed %d: %d steps, %d moments\n", c.seed, len(c.steps), len(c.moments()))
	opened, err := 0, error(nil)
	for opened < count && err == nil { // from the beginning to the end of the trace each time
		var n int
		n, err = c.try(opened, min(pass, count-opened))
		if opened += n; opened < count {
			fmt.Fprintf(c.out, "%d images in %v\n", opened, time.Since(began).Round(time.Second))
		}
	}
	took := time.Since(began)
	fmt.Fprintf(c.out, "%d images in %v, %.0f a second\n", opened, took.Round(time.Second), float64(opened)/took.Seconds())
	var f *found
	if errors.As(err, &f) {
		return fmt.Errorf("%w\nmake it again with -trace %s -seed %d -image %d", err, c.trace, c.seed, f.number)
	}
	return err
}

// show makes one image and leaves it.
func (c *campaign) show(number int) (err error) {
	c.shots(number, 1, func(s shot) bool {
		dir := filepath.Join(c.dir, fmt.Sprint("image-", number))
		if err = c.open(s); err == nil {
			err = errors.Join(os.Mkdir(dir, 0o700), s.image.write(dir))
		}
		fmt.Fprintf(c.out, "image %d is in %s; the crash came behind step %d of the trace:\n", number, dir, s.step)
		for i := max(0, s.step-15); i <= s.step; i++ {
			fmt.Fprintf(c.out, "%8d %s\n", i, c.steps[i])
		}
		return false
	})
	return err
}
