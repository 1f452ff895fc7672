package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// calls are the system calls that change files, and those that say which file a descriptor is. What is traced and not understood is an error.
const calls = "openat,?open,?creat,close,write,pwrite64,writev,pwritev,?pwritev2,truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,sync,syncfs," +
	"?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?link,linkat,?symlink,symlinkat,copy_file_range,sendfile,splice,?dup2,dup3,dup"

const many = 20_000 // images

const longest = 64 << 20 // bytes of one write

// record runs the driver under strace, again and again in the same folder: each life finds what the one before has left as if it had been killed. The last
// one, whose files are large, is for many images only.
func record(dir string, images int) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "live"), 0o700); err != nil {
		return err
	}
	live, err := filepath.EvalSymlinks(filepath.Join(dir, "live"))
	if err == nil {
		live, err = filepath.Abs(live)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "root"), []byte(live), 0o600)
	}
	if err != nil {
		return err
	}
	for i := range lives {
		if i == lives-1 && images < many {
			break
		}
		command := exec.Command("strace", "-f", "-xx", "-s", strconv.Itoa(longest), "-e", "trace="+calls, "-e", "signal=none", "-o", filepath.Join(dir, fmt.Sprint("strace.", i)), program)
		command.Env = append(os.Environ(), driveFolder+"="+live, driveLife+"="+strconv.Itoa(i))
		if text, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("run the driver under strace: %w\n%s", err, text)
		}
	}
	return nil
}

// kind is what a step of a trace is.
type kind uint8

const (
	changing kind = iota // a change of files begins: it may be on disk from here on
	changed              // it has returned: a sync that begins from here on covers it
	syncing              // a sync begins
	synced               // it has returned: what it covers is on disk
	marked               // the driver says something
)

// step is an event of a trace.
type step struct {
	kind   kind
	change *change // of changing and changed
	node   *node   // of syncing and synced
	call   int     // which sync
	path   string  // that node has then
	mark   mark

	leftOut bool // a fault: the sync does nothing
}

// change is a change of a file's content, or of names.
type change struct {
	node *node // whose content it is; nil: of names
	at   int64
	data []byte // nil: the file gets the size at

	names []name // of which the change is one: all or, when a folder is synced and another not, some
	done  bool   // it has returned
}

// name is an entry of a folder that gets a node, or nil: none.
type name struct {
	folder *node
	name   string
	to     *node
}

// node is a file or a folder.
type node struct {
	id     int
	folder map[string]*node // entries, as the process sees them; nil: a file
	now    content          // of a file, likewise
	path   string           // that it got last
}

// descriptor is an open file.
type descriptor struct {
	node   *node
	at     int64
	append bool
}

// parser reads the traces of several lives, of one process each, as steps.
type parser struct {
	root  string // what is below is looked at
	top   *node
	nodes int
	steps []step
	syncs int
	open  map[int]*descriptor
	marks int // the descriptor of what the driver says, or -1
	begun map[string]*call
}

// call is a system call that has not returned.
type call struct {
	change *change
	sync   *step
	file   *descriptor // that it opens
	number int         // of file
}

// read reads the trace in dir. ends are how many steps there are behind each life.
func read(dir string) (steps []step, ends []int, top *node, err error) {
	root, err := os.ReadFile(filepath.Join(dir, "root"))
	if err != nil {
		return nil, nil, nil, err
	}
	p := &parser{root: string(root)}
	p.top = p.node(map[string]*node{}, ".")
	for i := range lives {
		p.open, p.begun, p.marks = map[int]*descriptor{}, map[string]*call{}, -1
		if err := p.file(filepath.Join(dir, fmt.Sprint("strace.", i))); errors.Is(err, os.ErrNotExist) && i > 0 {
			break
		} else if err != nil {
			return nil, nil, nil, err
		}
		ends = append(ends, len(p.steps))
	}
	return p.steps, ends, p.top, nil
}

func (p *parser) node(folder map[string]*node, path string) *node {
	p.nodes++
	return &node{id: p.nodes, folder: folder, path: path}
}

// file reads one life. A call counts as begun where strace has its first line, and as returned where it has its last.
func (p *parser) file(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	// Results stand behind what other threads do meanwhile: the lines are put together first, and each call stands where it begins and where it returns.
	type half struct {
		thread string
		text   *string
		begins bool
	}
	var halves []half
	unfinished := map[string]*string{}
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		thread, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = strings.TrimLeft(text, " ")
		first, cut := strings.CutSuffix(text, " <unfinished ...>")
		switch whole := unfinished[thread]; {
		case strings.HasPrefix(text, "+++"), strings.HasPrefix(text, "---"): // the end of a thread, a signal
		case strings.HasPrefix(text, "<...") && whole != nil:
			_, rest, _ := strings.Cut(text, " resumed>")
			*whole += rest
			halves = append(halves, half{thread, whole, false})
			delete(unfinished, thread)
		case cut:
			unfinished[thread] = &first
			halves = append(halves, half{thread, &first, true})
		default:
			halves = append(halves, half{thread, &text, true}, half{thread, &text, false})
		}
	}
	for _, h := range halves {
		if !h.begins {
			p.end(p.begun[h.thread])
			continue
		}
		if p.begun[h.thread], err = p.begin(*h.text); err != nil {
			return fmt.Errorf("%s: %.200s: %w", path, *h.text, err)
		}
	}
	return nil
}

// errTrace is of what the model does not know.
var errTrace = errors.New("the trace has a call that is not modelled")

// begin takes the step of a call that begins. The text has its result, unless the process ended in it.
func (p *parser) begin(text string) (*call, error) {
	name, rest, ok := strings.Cut(text, "(")
	if !ok {
		return nil, fmt.Errorf("%w: no call", errTrace)
	}
	result := int64(-1) // the process ended in it
	if i := strings.LastIndex(rest, " = "); i >= 0 {
		word, _, _ := strings.Cut(rest[i+3:], " ")
		if n, err := strconv.ParseInt(word, 0, 64); err == nil && n < 0 {
			return nil, nil // it failed
		} else if err == nil {
			result = n
		}
		rest = rest[:i]
	}
	rest = strings.TrimSuffix(strings.TrimRight(rest, " "), ")")
	args := strings.Split(rest, ", ")
	number := func(i int) int64 { n, _ := strconv.ParseInt(args[i], 0, 64); return n }
	of := func(i int) *descriptor { return p.open[int(number(i))] }
	switch name {
	case "openat":
		return p.opens(args, result)
	case "close":
		delete(p.open, int(number(0)))
		if int(number(0)) == p.marks {
			p.marks = -1
		}
		return nil, nil
	case "write", "pwrite64":
		if int(number(0)) == p.marks {
			return nil, p.mark(args[1])
		}
		d := of(0)
		if d == nil {
			return nil, nil
		}
		data, err := unquote(args[1])
		if err != nil {
			return nil, err
		}
		if result >= 0 {
			data = data[:result]
		}
		at := d.at
		switch {
		case name == "pwrite64":
			at = number(3)
		case d.append:
			at = d.node.now.size
		default:
			d.at += int64(len(data))
		}
		return p.change(&change{node: d.node, at: at, data: data}), nil
	case "copy_file_range":
		from, to := of(0), of(2)
		switch {
		case from == nil && to == nil || result <= 0:
			return nil, nil
		case from == nil || to == nil || args[1] != "NULL" || args[3] != "NULL":
			return nil, errTrace
		}
		data := from.node.now.bytes(from.at, result)
		from.at, to.at = from.at+result, to.at+result
		return p.change(&change{node: to.node, at: to.at - result, data: data}), nil
	case "ftruncate":
		d := of(0)
		if d == nil {
			return nil, nil
		}
		return p.change(&change{node: d.node, at: number(1)}), nil
	case "fsync", "fdatasync":
		d := of(0)
		if d == nil {
			return nil, nil
		}
		p.syncs++
		s := step{kind: syncing, node: d.node, call: p.syncs, path: d.node.path}
		p.steps = append(p.steps, s)
		s.kind = synced
		return &call{sync: &s}, nil
	case "mkdirat", "mkdir", "unlinkat", "unlink", "rmdir", "renameat", "renameat2", "rename", "linkat", "link":
		return p.names(name, args)
	case "sync", "syncfs":
		return nil, errTrace
	case "open", "creat", "truncate":
		if folder, _, err := p.at("AT_FDCWD", args[0]); folder != nil || err != nil {
			return nil, errTrace
		}
		return nil, nil
	case "symlink", "symlinkat":
		return nil, errTrace
	}
	for i := range args {
		if p.open[int(number(i))] != nil && number(i) > 2 {
			return nil, errTrace
		}
	}
	return nil, nil
}

// end takes the step of a call that has returned.
func (p *parser) end(c *call) {
	switch {
	case c == nil:
	case c.sync != nil:
		p.steps = append(p.steps, *c.sync)
	case c.change != nil:
		p.steps = append(p.steps, step{kind: changed, change: c.change})
	}
	if c != nil && c.file != nil { // not before: another thread may be closing one of that number
		p.open[c.number] = c.file
	}
}

func (p *parser) change(c *change) *call {
	if c.node != nil {
		c.node.now.apply(c, all, whole)
	}
	p.steps = append(p.steps, step{kind: changing, change: c})
	return &call{change: c}
}

// unquote decodes a string of strace.
func unquote(arg string) ([]byte, error) {
	if len(arg) < 2 || arg[0] != '"' || arg[len(arg)-1] != '"' {
		return nil, fmt.Errorf("%w: a string that is cut off", errTrace)
	}
	return hex.DecodeString(strings.ReplaceAll(arg[1:len(arg)-1], `\x`, ""))
}

// at returns the folder and the last element of a path; nil when it is none of ours.
func (p *parser) at(folder, arg string) (*node, string, error) {
	text, err := unquote(arg)
	if err != nil {
		return nil, "", err
	}
	path, from := string(text), p.top
	if !filepath.IsAbs(path) {
		fd, _ := strconv.Atoi(folder)
		d := p.open[fd]
		if d == nil {
			return nil, "", nil // below the working directory, which is elsewhere
		}
		from = d.node
	} else {
		rest, ok := strings.CutPrefix(path, p.root+"/")
		if path == p.root {
			return p.top, ".", nil
		}
		if !ok {
			return nil, "", nil
		}
		path = rest
	}
	elements := strings.Split(filepath.Clean(path), "/")
	for _, e := range elements[:len(elements)-1] {
		if from = from.folder[e]; from == nil {
			return nil, "", nil
		}
	}
	return from, elements[len(elements)-1], nil
}

// opens takes an open, which may make a file.
func (p *parser) opens(args []string, result int64) (*call, error) {
	folder, last, err := p.at(args[0], args[1])
	if err != nil || folder == nil || result < 0 {
		return nil, err
	}
	if folder == p.top && last == marksName {
		p.marks = int(result)
		return nil, nil
	}
	c := &call{}
	found := folder.folder[last]
	switch {
	case last == ".":
		found = folder
	case found == nil && strings.Contains(args[2], "O_CREAT"):
		found = p.node(nil, filepath.Join(folder.path, last))
		folder.folder[last] = found
		c = p.change(&change{names: []name{{folder, last, found}}})
	case found == nil:
		return nil, fmt.Errorf("%w: opens what is not there", errTrace)
	case strings.Contains(args[2], "O_TRUNC") && found.now.size > 0:
		c = p.change(&change{node: found})
	}
	c.file, c.number = &descriptor{node: found, append: strings.Contains(args[2], "O_APPEND")}, int(result)
	return c, nil
}

// names takes a change of names.
func (p *parser) names(call string, args []string) (*call, error) {
	here := "AT_FDCWD"
	if !strings.Contains(call, "at") { // mkdir, not mkdirat
		full := []string{here}
		full = append(full, args[0])
		if call == "rename" || call == "link" {
			full = append(full, here)
		}
		args = append(full, args[1:]...)
	}
	folder, last, err := p.at(args[0], args[1])
	if err != nil || folder == nil {
		return nil, err
	}
	c := &change{}
	switch call {
	case "mkdir", "mkdirat":
		c.names = []name{{folder, last, p.node(map[string]*node{}, filepath.Join(folder.path, last))}}
	case "unlink", "unlinkat", "rmdir":
		c.names = []name{{folder, last, nil}}
	default:
		to, as, err := p.at(args[2], args[3])
		if err != nil || to == nil || folder.folder[last] == nil {
			return nil, errors.Join(errTrace, err)
		}
		c.names = []name{{to, as, folder.folder[last]}}
		if strings.HasPrefix(call, "rename") {
			c.names = append(c.names, name{folder, last, nil})
		}
	}
	for _, n := range c.names {
		if n.to == nil {
			delete(n.folder.folder, n.name)
		} else {
			n.folder.folder[n.name], n.to.path = n.to, filepath.Join(n.folder.path, n.name)
		}
	}
	return p.change(c), nil
}

// mark takes what the driver says.
func (p *parser) mark(arg string) error {
	text, err := unquote(arg)
	if err != nil {
		return err
	}
	s := step{kind: marked}
	if err := json.Unmarshal(text, &s.mark); err != nil {
		return fmt.Errorf("%w: %w", errTrace, err)
	}
	p.steps = append(p.steps, s)
	return nil
}

// String says what a step is, on one line.
func (s step) String() string {
	switch c := s.change; s.kind {
	case changing, changed:
		word := "begins"
		if s.kind == changed {
			word = "returned"
		}
		switch {
		case c.node == nil:
			var what []string
			for _, n := range c.names {
				verb := "gets"
				if n.to == nil {
					verb = "loses"
				}
				what = append(what, fmt.Sprintf("%s %s %s", n.folder.path, verb, n.name))
			}
			return word + " " + strings.Join(what, ", ")
		case c.data == nil:
			return fmt.Sprintf("%s size %d of %s", word, c.at, c.node.path)
		}
		return fmt.Sprintf("%s write of %d bytes at %d of %s", word, len(c.data), c.at, c.node.path)
	case syncing, synced:
		return map[kind]string{syncing: "begins", synced: "returned"}[s.kind] + " sync of " + s.path
	}
	text, _ := json.Marshal(s.mark)
	return fmt.Sprintf("mark %.200s", text)
}
