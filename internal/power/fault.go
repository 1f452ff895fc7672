package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fault is syncs that a trace is bereft of, or answers that come too early in it: images of it are those of a store that has the fault.
type fault struct {
	name, about string
	without     func(path string, folder bool) bool // whether a sync of it is left out
	early       bool                                // answers come before the sync
}

var faults = []fault{
	{"no-journal-sync", "commits are written to the journal and not synced", func(path string, _ bool) bool { return strings.Contains(path, ".journal.") }, false},
	{"no-database-sync", "checkpoints are written to the database and not synced", func(path string, _ bool) bool { return strings.HasSuffix(path, ".db") }, false},
	{"no-fresh-sync", "what compacting writes is not synced", func(path string, _ bool) bool { return strings.HasSuffix(path, ".db.new") }, false},
	{"no-body-sync", "large bodies are written and not synced", func(path string, folder bool) bool { return !folder && strings.Contains(path, "/blobs/") }, false},
	{"no-body-name", "the folders that large bodies come into are not synced", func(path string, folder bool) bool { return folder && strings.Contains(path, "/blobs/") }, false},
	{"no-body-folder", "the folder of these folders is not synced", func(path string, folder bool) bool { return folder && filepath.Base(path) == "blobs" }, false},
	{"no-store-name", "the folder of the store's files is not synced", func(path string, folder bool) bool { return path == dataName }, false},
	{"no-backup-sync", "backups are written and not synced", func(path string, _ bool) bool { return strings.HasPrefix(path, backupName) }, false},
	{"early-answer", "answers come before the journal is synced", nil, true},
}

// apply returns the steps with the fault.
func (f fault) apply(steps []step) []step {
	var with []step
	last := -1 // where the last sync of the journal has begun
	for _, s := range steps {
		s.leftOut = f.without != nil && s.kind == synced && f.without(s.path, s.node.folder != nil)
		if s.kind == syncing && strings.Contains(s.path, ".journal.") {
			last = len(with)
		}
		with = append(with, s)
		if f.early && s.kind == marked && strings.HasSuffix(s.mark.What, "ed") && last >= 0 {
			copy(with[last+1:], with[last:])
			with[last] = s
			last++
		}
	}
	return with
}

// shortPass is pass where something is to be found soon.
const shortPass = 200

// breakAndFind opens images of a trace with a fault until it is found.
func (c *campaign) breakAndFind(name string, count int) error {
	known := false
	for _, f := range faults {
		if f.name != name && name != "all" {
			continue
		}
		known = true
		with := *c
		with.faulty = f.without != nil
		with.steps, with.dir = f.apply(c.steps), filepath.Join(c.dir, f.name)
		if err := os.Mkdir(with.dir, 0o700); err != nil {
			return err
		}
		var finding *found
		var err error
		opened := 0
		for opened < count && err == nil { // from the beginning to the end of the trace each time
			var n int
			n, err = with.try(opened, min(shortPass, count-opened))
			opened += n
		}
		if !errors.As(err, &finding) {
			return fmt.Errorf("fault %s was not found with %d images, seed %d; it ended with %v", f.name, opened, c.seed, err)
		}
		first, _, _ := strings.Cut(finding.Error(), "\n")
		fmt.Fprintf(c.out, "%-18s found with %d images: %s\n", f.name, opened, first)
	}
	if !known {
		return fmt.Errorf("there is no fault %q: -list names them", name)
	}
	return nil
}
