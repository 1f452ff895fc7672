package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// A note says which run wrote a path last, and is on the disk before the file is: "number id size time path". Size and time tell whether
// the file at the path is that run's, or whether the run crashed before it put its file there.

// named reports whether the run's id is part of the path: then nobody else writes it, and no note is needed.
func (o *out) named() bool {
	return strings.Contains(o.target.Path, "${run.id}") && (o.target.Exists == "" || o.target.Exists == "replace")
}

// noteName is where the note about a file is. Files with exists: unique have a note for each run, as each run has a path of its own, and so have
// those with append, as each run has its part.
func (o *out) noteName() string {
	if o.target.Exists == "unique" || o.target.Exists == "append" {
		return noteAbout(o.path, o.run.ID.String())
	}
	return noteAbout(o.path)
}

func noteAbout(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return filepath.Join(ownDir, hex.EncodeToString(sum[:16]))
}

// done reports whether the file need not be written: an earlier attempt of the run put it in place, or a later run replaced it.
func (w *work) done(o *out) (bool, error) {
	if o.named() {
		_, err := w.root.Lstat(filepath.FromSlash(o.path))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	b, err := w.root.ReadFile(o.noteName())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var number, size, modified int64
	var text string
	var path string
	if _, err := fmt.Sscanf(string(b), "%d %s %d %d %q", &number, &text, &size, &modified, &path); err != nil {
		return false, nil // what cannot be read counts as no note
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return false, nil
	}
	// Both the number and the id must say that a run is later: numbers begin again with a new store, and ids follow the clock, which may
	// be set back.
	later := o.target.Exists != "unique" && o.target.Exists != "fail" && number > o.run.Number && strings.Compare(text, o.run.ID.String()) > 0
	if id != o.run.ID && !later {
		return false, nil
	}
	if o.target.Exists == "append" { // it stays appended, whatever became of the file
		return id == o.run.ID, nil
	}
	info, err := w.root.Lstat(filepath.FromSlash(path))
	if errors.Is(err, fs.ErrNotExist) {
		return later, nil // taken away since, as far as anyone can tell
	}
	if err != nil {
		return false, err
	}
	return info.Size() == size && info.ModTime().UnixNano() == modified, nil
}

// note says, for good, that the run puts the file at a path.
func (w *work) note(o *out, final string) error {
	return w.keep(o.noteName(), fmt.Sprintf("%d %s %d %d %q\n", o.run.Number, o.run.ID, o.info.Size(), o.info.ModTime().UnixNano(), final))
}

// keep makes a file of the connection's own, for good, in place of an earlier one.
func (w *work) keep(name, text string) error {
	switch err := w.root.Mkdir(ownDir, dirMode); {
	case err == nil:
		if err := syncDir(w.root.Open(".")); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	w.c.sweep(w.root, ownDir)
	temp := name + tempSuffix
	f, err := w.root.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := w.root.Rename(temp, name); err != nil {
		return err
	}
	return syncDir(w.root.Open(ownDir))
}
