package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// meter shows on a terminal that a run is going on: for how long, and how much of its payload has been read. Elsewhere it shows nothing.
type meter struct {
	source io.Reader // nil: none
	read   atomic.Int64
	quit   chan struct{}
	ended  chan struct{}
}

// startMeter starts to show the run of a flow on out.
func startMeter(out *os.File, flow string, source io.Reader) *meter {
	m := &meter{source: source, quit: make(chan struct{}), ended: make(chan struct{})}
	if !term.IsTerminal(int(out.Fd())) {
		close(m.ended)
		return m
	}
	go m.show(out, flow)
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

const eraseLine = "\r\x1b[K"

func (m *meter) show(out io.Writer, flow string) {
	defer close(m.ended)
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		line := fmt.Sprintf("%s: %s", flow, time.Since(began).Round(time.Second))
		if m.source != nil {
			line += fmt.Sprintf(", %.1f MB read", float64(m.read.Load())/1e6)
		}
		fmt.Fprint(out, eraseLine+line)
		select {
		case <-tick.C:
		case <-m.quit:
			fmt.Fprint(out, eraseLine)
			return
		}
	}
}
