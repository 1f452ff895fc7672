package file

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	tempPrefix = ownDir + "-" // of files that are not in place yet
	tempSuffix = ".tmp"
	keepTemps  = 24 * time.Hour      // after the last write
	keepNotes  = 30 * 24 * time.Hour // which is longer than a run waits for its next attempt
	sweptMost  = 1000                // folders that are remembered as swept
	sweepAgain = time.Hour
)

// sweep removes what crashed attempts left in a folder and, in the folder of notes, old notes: when the folder is written to, once an
// hour at most. What cannot be removed stays for the next time.
func (c *connection) sweep(root *os.Root, dir string) {
	now := c.now()
	c.mu.Lock()
	last, known := c.swept[dir]
	due := !known && len(c.swept) < sweptMost || known && now.Sub(last) > sweepAgain // beyond sweptMost, folders are made for single runs
	if due {
		c.swept[dir] = now
	}
	c.mu.Unlock()
	if !due {
		return
	}
	d, err := root.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			var keep time.Duration
			switch {
			case dir == ownDir:
				keep = keepNotes
			case strings.HasPrefix(e.Name(), tempPrefix) && strings.HasSuffix(e.Name(), tempSuffix):
				keep = keepTemps
			default:
				continue
			}
			name := filepath.Join(dir, e.Name())
			if info, err := root.Lstat(name); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > keep {
				root.Remove(name)
			}
		}
		if err != nil {
			return
		}
	}
}
