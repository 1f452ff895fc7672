package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// process is a process that plays a part of a case.
type process struct {
	command *exec.Cmd
	stdin   io.Closer
	reports *json.Decoder
}

// control is how a part speaks to the case that started it.
type control struct {
	reports *json.Encoder
	until   io.Reader
}

// report tells the case something.
func (c *control) report(v any) error { return c.reports.Encode(v) }

// wait returns when the case wants the part to end.
func (c *control) wait() { io.Copy(io.Discard, c.until) }

// start starts this program in a role.
func (c *config) start(role string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	own := []string{"-role", role}
	if c.profile != "" {
		own = append(own, "-profile", c.profile)
	}
	return startCommand(exec.Command(program, append(own, args...)...))
}

func startCommand(command *exec.Cmd) (*process, error) {
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &process{command, stdin, json.NewDecoder(stdout)}, nil
}

// read reads the next report.
func (p *process) read(v any) error {
	if err := p.reports.Decode(v); err != nil {
		return errors.Join(fmt.Errorf("%s says no more: %w", p.command.Args[0], err), p.stop())
	}
	return nil
}

// stop makes the process end and waits for it.
func (p *process) stop() error {
	p.stdin.Close()
	return p.command.Wait()
}

// end is stop for an engine. It returns what its store wrote.
func (p *process) end() (wrote ended, err error) {
	p.stdin.Close()
	err = p.reports.Decode(&wrote)
	return wrote, errors.Join(err, p.command.Wait())
}

// memory returns a line of the process's status in MiB: VmRSS, or VmHWM, which is its peak. It is 0 where the system does not tell.
func memory(pid int, line string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), line+":")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.ParseFloat(number, 64)
	return kib / 1024
}

func (p *process) memory(line string) float64 { return memory(p.command.Process.Pid, line) }

// processor returns the seconds that the processors have worked for the process; 0 where the system does not tell.
func (p *process) processor() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	const user, system, ticksOfSecond = 11, 12, 100
	var ticks float64
	for _, i := range []int{user, system} {
		if i < len(fields) {
			n, _ := strconv.ParseFloat(fields[i], 64)
			ticks += n
		}
	}
	return ticks / ticksOfSecond
}
