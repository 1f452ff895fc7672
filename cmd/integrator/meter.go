package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// meter shows on a terminal that something is going on: for how long, and how much has been read for it. Elsewhere it shows nothing.
type meter struct {
	source io.Reader  // nil: none
	total  int64      // bytes that there are to read; 0: nobody knows
	out    io.Writer  // nil: nothing is shown
	mu     sync.Mutex // held while something is written
	read   atomic.Int64
	quit   chan struct{}
	ended  chan struct{}
}

// startMeter starts to show what is going on, such as the run of a flow, on out. total is how many bytes there are to read for it, 0 when nobody knows.
func startMeter(out *os.File, what string, source io.Reader, total int64) *meter {
	m := &meter{source: source, total: total, quit: make(chan struct{}), ended: make(chan struct{})}
	if !term.IsTerminal(int(out.Fd())) {
		close(m.ended)
		return m
	}
	m.out = out
	go m.show(what)
	return m
}

// reader returns the source, counted; nil without one.
func (m *meter) reader() io.Reader {
	if m.source == nil {
		return nil
	}
	return m
}

// Read reads from the source.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.source.Read(p)
	m.read.Add(int64(n))
	return n, err
}

// stop ends the display and waits until the line is free.
func (m *meter) stop() {
	close(m.quit)
	<-m.ended
}

// say prints a line while the meter runs.
func (m *meter) say(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil {
		fmt.Fprint(m.out, eraseLine)
	}
	fmt.Println(line)
}

func (m *meter) write(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprint(m.out, text)
}

const eraseLine = "\r\x1b[K"

func (m *meter) show(what string) {
	defer close(m.ended)
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		m.write(eraseLine + what + ": " + m.progress(time.Since(began)))
		select {
		case <-tick.C:
		case <-m.quit:
			m.write(eraseLine)
			return
		}
	}
}

// progress tells how far it has come after a time, at which rate, and where the total is known how much longer it takes at that rate.
func (m *meter) progress(took time.Duration) string {
	line, read := took.Round(time.Second).String(), m.read.Load()
	if m.source == nil && read == 0 {
		return line
	}
	line += fmt.Sprintf(", %.1f MB read", float64(read)/1e6)
	if took < time.Second {
		return line
	}
	rate := float64(read) / took.Seconds()
	line += fmt.Sprintf(", %.1f MB/s", rate/1e6)
	if read == 0 || m.total < read {
		return line
	}
	const width = 20
	done := int(width * read / m.total)
	left := time.Duration(float64(m.total-read) / rate * float64(time.Second))
	return fmt.Sprintf("[%s%s] %d%%, %s, %s left", strings.Repeat("#", done), strings.Repeat(".", width-done), 100*read/m.total, line, left.Round(time.Second))
}
