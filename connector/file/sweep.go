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
)

// sweep removes what crashed attempts left in a folder and, in the folder of notes, old notes: once for each folder, when it is first
// written to. What cannot be removed stays for the next time.
func (c *connection) sweep(root *os.Root, dir string) {
	c.mu.Lock()
	known := c.swept[dir] || len(c.swept) == sweptMost // beyond that, folders are made for single runs
	if !known {
		c.swept[dir] = true
	}
	c.mu.Unlock()
	if known {
		return
	}
	d, err := root.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	now := c.now()
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
