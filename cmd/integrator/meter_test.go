package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A terminal cannot be had in a script, so the meter is looked at from inside.
func TestMeterShowsHowFarItHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := &meter{out: &out, source: strings.NewReader(strings.Repeat("x", 2_000_000)), total: 8_000_000, quit: make(chan struct{}), ended: make(chan struct{})}
		go m.show("load")
		if _, err := io.Copy(io.Discard, m.reader()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // the bubble's time
		m.stop()
		lines := strings.Split(out.String(), eraseLine)
		if last := lines[len(lines)-2:]; last[0] != "load: [#####...............] 25%, 1s, 2.0 MB read, 2.0 MB/s, 3s left" || last[1] != "" {
			t.Errorf("at its end the meter shows %q, then %q; want how far it has come, then a free line", last[0], last[1])
		}
	})
}
