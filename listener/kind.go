package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/integrator-go/integrator/flow"
)

// Kind makes listeners of one type beside the built-in http: a folder that is watched, a port with a protocol of its own. Hosts add their
// own in integrator.Config.Listeners.
type Kind struct {
	// Name is the definition's `type`.
	Name string

	// New makes the entry point of one listener. It opens nothing. decode fills a pointer to a struct from the definition's keys by their
	// json tags, and answers every unknown or ill-typed key as a fault at its place; type, format, check, mode, timeout, max_body,
	// idempotency and enabled are the engine's.
	New func(env Env, decode func(options any) error) (EntryPoint, error)
}

// Env is what the engine gives to every entry point.
type Env struct {
	Name    string // the listener's name
	BaseDir string // what relative paths in the definition are relative to
	Now     func() time.Time
	Logger  *slog.Logger
}

// EntryPoint waits for payloads of one listener.
type EntryPoint interface {
	// Listen waits for payloads and hands each to receive, until ctx ends; then it lets go of what it holds and returns nil. It is called
	// once at a time, and again after a pause when it has returned an error.
	Listen(ctx context.Context, receive ReceiveFunc) error
}

// ReceiveFunc takes one payload in, as [Receiver.Receive] does; what the call leaves out is filled in: the user is "listener:" and the
// listener's name. It is safe for concurrent use. A body that is larger than the listener's max_body is ErrTooLarge. The caller closes
// the answer's response when it has one.
type ReceiveFunc func(ctx context.Context, c *Call) (*Answer, error)

// ErrTooLarge is the error for a body that is larger than it may be.
var ErrTooLarge = errors.New("the body is larger than is allowed here")

// Pauses before an entry point that failed is tried again.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// Listen runs the listener's entry point until ctx ends. It returns at once when the listener has none: calls of http come through the
// [Router].
func (l *Listener) Listen(ctx context.Context, r *Receiver, logger *slog.Logger) {
	if l.entry == nil {
		return
	}
	receive := func(ctx context.Context, c *Call) (*Answer, error) {
		own := *c
		if own.User == "" {
			own.User = "listener:" + l.Name
		}
		if own.Body != nil {
			own.Body = &bounded{own.Body, l.MaxBody}
			if own.Length == 0 {
				own.Length = -1 // it was left out
			}
		}
		if c.Once != nil {
			once := *c.Once // the caller's stays as it is
			own.Once = &once
		}
		return r.Receive(ctx, l, &own)
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		err := l.listen(ctx, receive)
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, flow.ErrStopping) {
				logger.Warn("a listener has not ended well", "listener", l.Name, "error", err)
			}
			return
		}
		if err == nil {
			err = errors.New("it has stopped by itself")
		}
		logger.Error("a listener does not wait for payloads; it is tried again", "listener", l.Name, "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// listen calls the entry point; a panic of it is its error.
func (l *Listener) listen(ctx context.Context, receive ReceiveFunc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return l.entry.Listen(ctx, receive)
}

// bounded is a reader that says when there is more than there may be.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one byte more tells too large from just right
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
