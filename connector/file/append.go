package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/transform"
)

// Appending to a file goes in four steps, each on the disk before the next: the run's records are complete in a temporary file; a journal says where in
// the path's file they will stand; they are written there; a note says that the run has appended. Whoever appends next and finds the journal of a
// run without its note cuts the file off where that run began: its next attempt appends again. Who else appends to such a file does so while no run
// of the engine's that crashed waits for its next attempt.

// appender starts writing records that continue a file.
func appender(w io.Writer, t *connector.Target) (transform.AppendEncoder, error) {
	format, ok := t.Format.(transform.Appender)
	if !ok {
		return nil, errors.New("nothing can be appended to a document of this format")
	}
	return format.NewAppender(w, t.Encode)
}

// journalName is where the journal of a path is.
func (o *out) journalName() string { return noteAbout(o.path, "append") }

// mend takes back what a run that crashed has appended without its note. The caller holds commits.
func (w *work) mend(o *out) error {
	b, err := w.root.ReadFile(o.journalName())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var text string
	var offset, length int64
	if _, err := fmt.Sscanf(string(b), "%s %d %d", &text, &offset, &length); err != nil {
		return nil // what cannot be read counts as no journal
	}
	crashed := *o
	if crashed.run.ID, err = uuid.Parse(text); err != nil {
		return nil
	}
	if done, err := w.done(&crashed); done || err != nil {
		return err
	}
	f, err := w.root.OpenFile(filepath.FromSlash(o.path), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // taken away since
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return nil
	case info.Size() <= offset: // not a byte of it is there
	case info.Size() > offset+length: // somebody has appended behind it, and loses nothing
		crashed.info = info
		if err := w.note(&crashed, o.path); err != nil {
			return err
		}
	default:
		if err := errors.Join(f.Truncate(offset), f.Sync()); err != nil {
			return err
		}
	}
	return w.root.Remove(o.journalName()) // what others append from here on is theirs
}

// append writes what the run has in its temporary file behind the path's file. The caller holds commits, and has mended it.
func (w *work) append(o *out) error {
	part, err := w.root.Open(o.temp)
	if err != nil {
		return err
	}
	defer part.Close()
	f, err := w.root.OpenFile(filepath.FromSlash(o.path), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return connector.Permanent(fmt.Errorf("%s is no file", o.path))
	}
	offset, head := info.Size(), o.encoder.(transform.AppendEncoder).Head()
	if offset > 0 {
		if err := continues(f, offset, head); err != nil {
			if errors.Is(err, errOtherColumns) && o.target.Encode.Columns == nil { // it was the payload that settled them
				err = &transform.Fault{Kind: "input", Reason: "the file has other columns than the first record: a map in the definition settles them", Err: err}
			}
			return fmt.Errorf("append to %s: %w", o.path, err)
		}
		head = nil
	}
	if err := w.keep(o.journalName(), fmt.Sprintf("%s %d %d\n", o.run.ID, offset, int64(len(head))+o.info.Size())); err != nil {
		return err
	}
	failpoint.Hit("append.journaled")
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(f, io.MultiReader(bytes.NewReader(head), part)); err != nil {
		if undo := f.Truncate(offset); undo != nil { // a disk that is full keeps no half record
			return errors.Join(err, undo)
		}
		return errors.Join(err, w.root.Remove(o.journalName()))
	}
	failpoint.Hit("append.written")
	if err := f.Sync(); err != nil {
		return err
	}
	if err := w.syncFolders(o, map[string]bool{}); err != nil {
		return err
	}
	failpoint.Hit("append.synced")
	if err := w.note(o, o.path); err != nil {
		return err
	}
	return w.root.Remove(o.journalName()) // should it come back after a crash, the note tells that it is over
}

var errOtherColumns = errors.New("the file begins with other columns than the run's records have")

// continues returns why records cannot stand behind a file's end.
func continues(f io.ReaderAt, size int64, head []byte) error {
	begin := make([]byte, len(head))
	if _, err := f.ReadAt(begin, 0); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(begin, head) {
		return connector.Permanent(errOtherColumns)
	}
	end := make([]byte, 1)
	if _, err := f.ReadAt(end, size-1); err != nil {
		return err
	}
	if end[0] != '\n' {
		return connector.Permanent(errors.New("the file does not end with the end of a line"))
	}
	return nil
}
