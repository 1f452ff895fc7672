// Command kill kills a server again and again while callers send to it, and compares what was acknowledged with what arrived: `go run
// ./internal/kill -kills 3000 -seed 1`, from the root of the repository. RELIABILITY.md says what it proves.
//
// The server is this program in another role, built with the tag failpoints. Eight senders note in files of their own what they are about
// to send and, once they have a receipt, that it is acknowledged; each note is synced. The server dies at a random moment, or kills itself
// at one of the points of internal/failpoint, and is started again. After each round of kills it works off what is left and stops in order; then every
// row, file, call of an API and run is compared with the notes. A finding ends the program with exit code 1 and leaves the folder of the round.
//
// -break NAME does the same to a server with one deliberate fault, and succeeds when the fault is found; -list names the faults and points.
// The seed decides what is sent and which kills are tried in which order; the moments are the machine's.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/integrator-go/integrator/internal/failpoint"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("kill", flag.ContinueOnError)
	server := flags.String("server", "", "serve the `folder` of a round; for the program's own use")
	retention := flags.Duration("retention", -1, "how long the server keeps what has ended; for the program's own use")
	kills := flags.Int("kills", 3000, "how often the server is killed")
	size := flags.Int("round", 250, "after how many kills all is compared, and begun anew with an empty store")
	seed := flags.Uint64("seed", 0, "of what is random; 0 is the time")
	parent := flags.String("dir", "", "make the scratch folder in this `folder`; its disk is what is trusted")
	broken := flags.String("break", "", "`name` of a fault that the server gets and that must be found, or all")
	list := flags.Bool("list", false, "name the faults and the points")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *server != "":
		return serve(*server, *retention)
	case *list:
		for _, f := range faults {
			fmt.Fprintf(out, "fault %-18s %s\n", f.name, f.about)
		}
		for _, p := range failpoint.Points {
			fmt.Fprintf(out, "point %-18s in %s\n", p.Name, p.In)
		}
		return nil
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	scratch, err := os.MkdirTemp(*parent, "integrator-kill-")
	if err != nil {
		return err
	}
	if *broken != "" {
		err = breakAndFind(*broken, scratch, *kills, *size, *seed, out)
	} else {
		var program string
		if program, err = build(scratch, fault{}); err == nil {
			c := campaign{program: program, dir: scratch, kills: *kills, size: *size, seed: *seed, out: out}
			err = c.run()
		}
	}
	if err != nil {
		return fmt.Errorf("%w\nwhat there is to look at: %s", err, scratch)
	}
	return os.RemoveAll(scratch)
}

// build builds the server, with a fault in it or without.
func build(dir string, f fault) (program string, err error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	args := []string{"build", "-tags", "failpoints", "-o", filepath.Join(dir, "server")}
	if f.name != "" {
		text, err := f.apply(root)
		if err != nil {
			return "", err
		}
		changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
		mapping, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, f.file): changed}})
		if err := errors.Join(err, os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, mapping, 0o600)); err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	command := exec.Command("go", append(args, ".")...)
	command.Dir = filepath.Join(root, "internal", "kill")
	if text, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, text)
	}
	return filepath.Join(dir, "server"), nil
}

// repository is the folder of the clone that the program runs in.
func repository() (string, error) {
	text, err := exec.Command("go", "env", "GOWORK").Output()
	root := filepath.Dir(strings.TrimSpace(string(text)))
	if err == nil {
		_, err = os.Stat(filepath.Join(root, "internal", "kill"))
	}
	if err != nil {
		return "", fmt.Errorf("run it in a clone of the repository, whose sources the server is built from: %w", err)
	}
	return root, nil
}

// campaign is some rounds of kills.
type campaign struct {
	program, dir string
	kills, size  int
	seed         uint64
	out          io.Writer
	sum          figures
}

// figures is what there is to tell.
type figures struct {
	kills, random, acknowledged, unknown, runs, dead, lost, doubled, disordered, findings int
	ordered, late                                                                         int            // what came in an order, and of it replays behind what was sent later
	at                                                                                    map[string]int // kills by point
}

// other is the number of findings that are none of the others.
func (f *figures) other() int { return f.findings - f.lost - f.doubled - f.disordered }

func (c *campaign) run() error {
	began := time.Now()
	c.sum.at = map[string]int{}
	fmt.Fprintf(c.out, "seed %d, %d kills\n", c.seed, c.kills)
	var err error
	for n := 0; c.sum.kills < c.kills && err == nil; n++ {
		r := &round{program: c.program, dir: filepath.Join(c.dir, fmt.Sprint("round-", n)), random: rand.New(rand.NewPCG(c.seed, uint64(n)))}
		err = r.run(min(c.size, c.kills-c.sum.kills), &c.sum)
		fmt.Fprintf(c.out, "round %d: %d kills, %d acknowledged, %d runs, lost %d, doubled %d, %v\n", n, c.sum.kills, c.sum.acknowledged, c.sum.runs,
			c.sum.lost, c.sum.doubled, time.Since(began).Round(time.Second))
		if err == nil {
			err = os.RemoveAll(r.dir)
		}
	}
	took := time.Since(began)
	fmt.Fprintf(c.out, "\nkills         %d in %v, %.1f a second; %d at random moments\n", c.sum.kills, took.Round(time.Second),
		float64(c.sum.kills)/took.Seconds(), c.sum.random)
	fmt.Fprintf(c.out, "acknowledged  %d payloads; of %d more the sender does not know\nruns          %d settled; %d dead letters after three crashes, which were replayed\n",
		c.sum.acknowledged, c.sum.unknown, c.sum.runs, c.sum.dead)
	fmt.Fprintf(c.out, "in order      %d records by sender; %d of them replays, behind what was sent later\n", c.sum.ordered, c.sum.late)
	fmt.Fprintf(c.out, "lost          %d\ndoubled       %d\nout of order  %d\nother         %d\nseed          %d\n\n", c.sum.lost, c.sum.doubled, c.sum.disordered, c.sum.other(), c.seed)
	for _, p := range failpoint.Points {
		fmt.Fprintf(c.out, "%-18s %d\n", p.Name, c.sum.at[p.Name])
		if err == nil && c.size >= len(failpoint.Points) && c.kills >= len(failpoint.Points) && c.sum.at[p.Name] == 0 {
			err = fmt.Errorf("the server was never killed at %s", p.Name)
		}
	}
	return err
}
