package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// note is a line of a ledger: send, replay, cancel before it is asked for; acknowledged, replayed, rejects (those of Run were replayed) when it was answered,
// gone when there were no such rejects any more.
type note struct {
	What     string
	Key      string
	Listener string    `json:",omitempty"`
	Lines    int       `json:",omitempty"` // of the payload
	Run      int64     `json:",omitempty"`
	SHA256   string    `json:",omitempty"` // of the payload
	Message  string    `json:",omitempty"`
	Runs     []int64   `json:",omitempty"`
	At       time.Time // before anything was asked for
}

// ledger is a file of notes.
type ledger struct{ file *os.File }

// write makes a note durable.
func (l ledger) write(n note) error {
	line, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return l.file.Sync()
}

// gate tells the address of the server, while there is one.
type gate struct {
	mu      sync.Mutex
	address string
	changed chan struct{}
}

func (g *gate) set(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.address = address
	if g.changed != nil {
		close(g.changed)
	}
	g.changed = nil
}

// wait waits until there is a server.
func (g *gate) wait(ctx context.Context) (string, error) {
	for {
		g.mu.Lock()
		if g.address != "" {
			defer g.mu.Unlock()
			return g.address, nil
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// caller calls the server, whichever it is at the moment.
type caller struct {
	gate   *gate
	client http.Client
}

// call waits for a server and calls it once. A key makes the call one that may be repeated.
func (c *caller) call(ctx context.Context, method, path, key string, body []byte) (status int, answer []byte, err error) {
	address, err := c.gate.wait(ctx)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// ask calls until there is an answer that says something, and returns it.
func (c *caller) ask(ctx context.Context, method, path, key string, body []byte) (int, []byte, error) {
	for {
		status, answer, err := c.call(ctx, method, path, key, body)
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return status, answer, nil
		}
		time.Sleep(time.Millisecond)
	}
}

// receipt is what a listener answers.
type receipt struct {
	MessageUUID string
	AuditID     int64
	Runs        []struct{ AuditID int64 }
}

func readReceipt(answer []byte) (message string, runs []int64, err error) {
	var r receipt
	if err := json.Unmarshal(answer, &r); err != nil || r.MessageUUID == "" {
		return "", nil, fmt.Errorf("no receipt: %s", answer)
	}
	for _, run := range r.Runs {
		runs = append(runs, run.AuditID)
	}
	if runs == nil {
		runs = []int64{r.AuditID}
	}
	return r.MessageUUID, runs, nil
}

// sender sends one payload after the other.
type sender struct {
	caller
	ledger
	number int
	random *rand.Rand
	seq    int
	sent   []note // acknowledged ones, of which some are replayed

	listener string // that was called last
}

// listeners are how often each is called.
var listeners = []string{"rows", "rows", "rows", "files", "files", "both", "both", "many", "many", "flaky", "flaky", "slow", "slow", "now",
	"ordered", "append", "calls", "calls", "parts"}

// mostLines is how many lines a payload has at most.
var mostLines = map[string]int{"append": 20, "calls": 5, "parts": 150}

// work sends until sending ends. ctx bounds the calls.
func (s *sender) work(ctx, sending context.Context) error {
	for sending.Err() == nil {
		step := s.send
		if len(s.sent) > 0 && s.random.IntN(20) == 0 {
			step = s.replay
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// send sends a payload under a key of its own until it is acknowledged, or at times gives up when a call has failed.
func (s *sender) send(ctx context.Context) error {
	s.seq++
	key, listener := fmt.Sprintf("%d-%d", s.number, s.seq), listeners[s.random.IntN(len(listeners))]
	if s.listener == "ordered" && s.random.IntN(3) > 0 { // several behind each other, so that one would overtake
		listener = s.listener
	}
	s.listener = listener
	lines := 1 + s.random.IntN(max(1, mostLines[listener]))
	pad := s.random.IntN(1000)
	if s.random.IntN(10) == 0 && listener != "ordered" { // whose key is in the payload
		pad = 70<<10 + s.random.IntN(200<<10)
	}
	padding := strings.Repeat("x", pad/lines)
	body := fmt.Appendf(nil, `{"key": %q, "sender": %d, "seq": %d, "pad": %q, "lines": [`, key, s.number, s.seq, padding)
	for n := range lines {
		body = fmt.Appendf(body, `%s{"key": %q, "n": %d, "pad": %q}`, strings.Repeat(", ", min(n, 1)), key, n, padding)
	}
	body = append(body, "]}"...)
	sum := sha256.Sum256(body)
	n := note{What: "send", At: time.Now(), Key: key, Listener: listener, Lines: lines, SHA256: hex.EncodeToString(sum[:])}
	if err := s.write(n); err != nil {
		return err
	}
	for {
		status, answer, err := s.call(ctx, "POST", "/rest/v1/httplistener/"+listener, key, body)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if s.random.IntN(10) == 0 {
				return nil // what became of it stays unknown
			}
			continue
		case status == http.StatusServiceUnavailable, status == http.StatusConflict && listener == "now": // it starts; the first call's run has not ended
			time.Sleep(time.Millisecond)
			continue
		case status == http.StatusInternalServerError && listener == "now":
			return nil // the run crashed too often; the operator sees to it
		case status != http.StatusOK && status != http.StatusAccepted:
			return fmt.Errorf("listener %s answered %d to %s: %s", listener, status, key, answer)
		}
		n.What = "acknowledged"
		if n.Message, n.Runs, err = readReceipt(answer); err != nil {
			return fmt.Errorf("listener %s, %s: %w", listener, key, err)
		}
		if err := s.write(n); err != nil {
			return err
		}
		if listener == "slow" {
			if s.random.IntN(2) == 0 {
				return s.stop(ctx, n)
			}
		} else {
			s.sent = append(s.sent, n)
		}
		return nil
	}
}

// replay asks once for new runs of a payload.
func (s *sender) replay(ctx context.Context) error {
	n := s.sent[len(s.sent)-1-s.random.IntN(min(100, len(s.sent)))]
	_, err := again(ctx, s.ledger, &s.caller, n.Key, n.Message)
	return err
}

// again notes that a payload is replayed, and asks for it once. It reports whether that was answered.
func again(ctx context.Context, l ledger, c *caller, key, message string) (answered bool, err error) {
	n := note{What: "replay", At: time.Now(), Key: key, Message: message}
	if err := l.write(n); err != nil {
		return false, err
	}
	status, answer, err := c.call(ctx, "POST", "/rest/v1/messages/"+message+"/replay", "", nil)
	switch {
	case err != nil, status == http.StatusServiceUnavailable:
		return false, ctx.Err()
	case status == http.StatusNotFound:
		return true, nil // its time was over
	case status != http.StatusOK:
		return false, fmt.Errorf("the replay of %s was answered %d: %s", message, status, answer)
	}
	n.What = "replayed"
	if _, n.Runs, err = readReceipt(answer); err != nil {
		return false, fmt.Errorf("the replay of %s: %w", message, err)
	}
	return true, l.write(n)
}

// stop asks once for a run to be canceled.
func (s *sender) stop(ctx context.Context, n note) error {
	if err := s.write(note{What: "cancel", At: time.Now(), Key: n.Key, Runs: n.Runs}); err != nil {
		return err
	}
	status, answer, err := s.call(ctx, "POST", fmt.Sprintf("/rest/v1/runs/%d/cancel", n.Runs[0]), "", nil)
	expected := []int{http.StatusAccepted, http.StatusConflict, http.StatusNotFound, http.StatusServiceUnavailable}
	if err == nil && !slices.Contains(expected, status) {
		return fmt.Errorf("the cancelation of run %d was answered %d: %s", n.Runs[0], status, answer)
	}
	return ctx.Err()
}

// operator replays dead letters, runs that ended in error because they were at work in three crashes, and what runs have rejected. Any other failure is a
// finding.
type operator struct {
	caller
	ledger

	mu   sync.Mutex
	seen map[int64]bool
}

// failed is a run in the history, as far as it matters here.
type failed struct {
	AuditID                          int64
	FlowName, MessageUUID, Exception string
}

// look replays what is new: of the newest runs, or of all. It returns how many that were.
func (o *operator) look(ctx context.Context, all bool) (found int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, state := range []string{"error", "warning"} {
		replay := map[string]func(context.Context, failed) error{"error": o.again, "warning": o.rejects}[state]
		for path, more := "/rest/v1/runs?limit=100&status="+state, true; more; {
			status, answer, err := o.ask(ctx, "GET", path, "", nil)
			if err != nil {
				return found, err
			}
			var page struct {
				Runs  []failed
				After int64
			}
			if err := json.Unmarshal(answer, &page); err != nil || status != http.StatusOK {
				return found, fmt.Errorf("the history answered %d: %s", status, answer)
			}
			for _, run := range page.Runs {
				if o.seen[run.AuditID] {
					continue
				}
				if err := replay(ctx, run); errors.Is(err, errActive) {
					continue
				} else if err != nil {
					return found, err
				}
				o.seen[run.AuditID] = true
				found++
			}
			more = all && page.After != 0
			path = fmt.Sprintf("/rest/v1/runs?limit=100&status=%s&after=%d", state, page.After)
		}
	}
	return found, nil
}

// again replays a dead letter.
func (o *operator) again(ctx context.Context, run failed) error {
	if !strings.Contains(run.Exception, crashedTooOften) {
		return fmt.Errorf("run %d of %s failed: %s", run.AuditID, run.FlowName, run.Exception)
	}
	if run.MessageUUID == "" {
		return nil
	}
	status, body, err := o.ask(ctx, "GET", "/rest/v1/messages/"+run.MessageUUID+"/body", "", nil)
	if err != nil {
		return err
	}
	var payload struct{ Key string } // of the whole, or of the first of some lines
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&payload); err != nil || status != http.StatusOK {
		return fmt.Errorf("the payload of run %d, a dead letter, cannot be read: %d %s", run.AuditID, status, body)
	}
	if run.FlowName == "now" { // a synchronous call that failed runs again when its caller repeats it
		if err := o.write(note{What: "replay", At: time.Now(), Key: payload.Key}); err != nil {
			return err
		}
	}
	for answered := false; !answered; {
		if answered, err = again(ctx, o.ledger, &o.caller, payload.Key, run.MessageUUID); err != nil {
			return err
		}
	}
	return nil
}

// errActive says that a run is at work once more. Readers see a commit while it is synced; it may have been lost in a crash, and the run has ended for nobody.
var errActive = errors.New("the run has not ended")

// rejects replays what a run has rejected. That happens once, however often it is asked for.
func (o *operator) rejects(ctx context.Context, run failed) error {
	n := note{What: "rejects", At: time.Now(), Run: run.AuditID}
	status, answer, err := o.ask(ctx, "POST", fmt.Sprintf("/rest/v1/runs/%d/rejects/replay", run.AuditID), "", nil)
	if err != nil {
		return err
	}
	switch status {
	case http.StatusNotFound: // their time was over
		n.What = "gone"
	case http.StatusConflict:
		return errActive
	case http.StatusOK:
		if n.Message, n.Runs, err = readReceipt(answer); err != nil {
			return fmt.Errorf("the replay of what run %d has rejected: %w", run.AuditID, err)
		}
	default:
		return fmt.Errorf("the replay of what run %d has rejected was answered %d: %s", run.AuditID, status, answer)
	}
	return o.write(n)
}

// crashedTooOften is what the exception says of a run that was at work in three crashes.
const crashedTooOften = "when the engine crashed"

// work looks until sending ends.
func (o *operator) work(ctx, sending context.Context) error {
	for sending.Err() == nil {
		if _, err := o.look(ctx, false); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		select {
		case <-sending.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
