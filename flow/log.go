package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/integrator-go/integrator/store"
)

// Bounds of the log of one run, in bytes: its beginning and its end are kept, so that neither what happened first nor how it ended is lost.
const (
	logEnds = 24 << 10 // each of the two
	logLine = 16 << 10 // one entry; the whole is kept inline

	logUsual = 192 // of a run that went well
)

// runLog is the log of one run over all of its attempts, for who operates the engine: an entry begins with its time, and its further lines are
// indented, so that nothing that a payload brought can pass for an entry.
// It is safe for concurrent use, so that it can be read while the run goes on.
type runLog struct {
	mu         sync.Mutex
	head, tail []byte
	left       int // lines left out between the two
	redact     func(string) string
	now        func() time.Time
}

func (l *runLog) add(format string, args ...any) {
	text := l.redact(fmt.Sprintf(format, args...))
	if !plain(text) {
		text = strings.ReplaceAll(strings.Map(visible, text), "\n", "\n    ")
	}
	if len(text) > logLine {
		text = strings.ToValidUTF8(text[:logLine], "") + "…"
	}
	line := l.now().UTC().AppendFormat(make([]byte, 0, len(time.RFC3339Nano)+len(text)+2), time.RFC3339Nano)
	line = append(line, ' ')
	line = append(line, text...)
	l.append(append(line, '\n'))
}

// append adds an entry, or one of its lines.
func (l *runLog) append(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil {
		l.head = make([]byte, 0, max(logUsual, len(line)))
	}
	if l.tail == nil && len(l.head)+len(line) <= logEnds {
		l.head = append(l.head, line...)
		return
	}
	l.tail = append(l.tail, line...)
	for len(l.tail) > logEnds {
		l.tail = l.tail[bytes.IndexByte(l.tail, '\n')+1:]
		l.left++
	}
}

// plain reports whether a text has printable ASCII alone.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// visible replaces what a terminal would act upon.
func visible(r rune) rune {
	if unicode.IsControl(r) && r != '\n' && r != '\t' {
		return unicode.ReplacementChar
	}
	return r
}

// text returns the log.
func (l *runLog) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := bytes.Clone(l.head)
	if l.left > 0 {
		text = fmt.Appendf(text, "… %d lines are left out here\n", l.left)
	}
	return append(text, l.tail...)
}

// body returns the log as it is stored.
func (l *runLog) body() store.Body {
	text := l.text() // short enough to be kept inline
	return store.Body{Inline: text, Size: int64(len(text)), SHA256: sha256.Sum256(text)}
}

// resume takes up the log of a run that was claimed before. What cannot be read of it is told in it.
func (r *Runner) resume(j *job) {
	if j.run.Due.Equal(j.run.Queued) { // as it is until the run is queued again
		return
	}
	text, err := r.storedLog(r.working, j.run.Number)
	if err != nil {
		j.log.add("what the log said of earlier attempts cannot be read: %v", err)
	}
	for entry := range strings.Lines(text) {
		j.log.append([]byte(entry))
	}
}

// Log returns the log of a run over all of its attempts, as far as it has come: for those who operate the engine. The error wraps
// store.ErrNotFound when there is no such run.
func (r *Runner) Log(ctx context.Context, number int64) (string, error) {
	r.mu.Lock()
	j := r.active[number]
	r.mu.Unlock()
	if j != nil {
		return string(j.log.text()), nil
	}
	return r.storedLog(ctx, number)
}

func (r *Runner) storedLog(ctx context.Context, number int64) (string, error) {
	_, body, err := r.store.Attachments(ctx, number)
	if err != nil || body.Size == 0 {
		return "", err
	}
	reader, err := r.store.OpenBody(ctx, body)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	text, err := io.ReadAll(reader)
	return string(text), err
}

// destinations tells what each destination got.
func (j *job) destinations() {
	for _, d := range j.wrote {
		if d.applied {
			j.log.add("  %s: an earlier attempt has written it", d)
		} else {
			j.log.add("  %s: %d records", d, d.records)
		}
	}
	if j.untaken > 0 {
		j.log.add("  no destination took: %d records", j.untaken)
	}
	if j.rejects == nil {
		return
	}
	for _, step := range j.rejects.steps {
		j.log.add("  rejected by %s: %d records", step, j.rejects.count[step])
	}
}

// destination is what one of the flow's destinations gets of a run.
type destination struct {
	connection string
	action     string
	where      string // the table, or the path with its ${…} filled in
	applied    bool   // an earlier attempt has written everything
	records    int64
}

func (d destination) String() string {
	if d.where == "" {
		return fmt.Sprintf("%s (%s)", d.connection, d.action)
	}
	return fmt.Sprintf("%s (%s %s)", d.connection, d.action, d.where)
}
