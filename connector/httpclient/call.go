package httpclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/failpoint"
	"github.com/integrator-go/integrator/transform"
)

// call is one request.
type call struct {
	what      string // for messages, without values of records
	method    string
	url       string
	key       string // Idempotency-Key; "": none
	mediaType string
	body      []byte // nil: none
}

// answer is what came of a call.
type answer struct {
	what       string
	status     int
	retryAfter time.Duration // 0: the API does not say
	excerpt    string        // of the body, in one line; "": there is none to show
}

const (
	drainMost     = 64 << 10 // of an answer's body: with more to come the connection is not used again
	excerptMost   = 500
	retryAfterMax = time.Hour
)

// call makes a call. Its error says that there was no answer.
func (c *connection) call(ctx context.Context, call *call) (*answer, error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var body io.Reader
	if call.body != nil {
		body = bytes.NewReader(call.body)
	}
	request, err := http.NewRequestWithContext(limited, call.method, call.url, body)
	if err != nil {
		return nil, connector.Permanent(fmt.Errorf("%s: the address cannot be called", call.what)) // err repeats it
	}
	request.Header.Set("User-Agent", "integrator")
	if call.mediaType != "" {
		request.Header.Set("Content-Type", call.mediaType)
	}
	for name, values := range c.header {
		request.Header[name] = values
	}
	if call.key != "" {
		request.Header.Set("Idempotency-Key", call.key)
	}
	failpoint.Hit("http.calling")
	response, err := c.client.Do(request)
	if err != nil {
		if ended := ctx.Err(); ended != nil {
			return nil, ended
		}
		if limited.Err() != nil {
			return nil, fmt.Errorf("%s: no answer within %s: %w", call.what, c.timeout, context.DeadlineExceeded)
		}
		if outer := (*url.Error)(nil); errors.As(err, &outer) {
			err = outer.Err // without the address, which holds values of records
		}
		return nil, fmt.Errorf("%s: %w", call.what, err)
	}
	defer response.Body.Close()
	a := &answer{what: call.what, status: response.StatusCode, retryAfter: c.retryAfter(response.Header.Get("Retry-After"))}
	// The status is the answer: what follows it is read only so that the connection can be used again, and to be shown.
	text, _ := io.ReadAll(io.LimitReader(response.Body, drainMost))
	failpoint.Hit("http.answered")
	a.excerpt = c.excerpt(text)
	return a, nil
}

// retryAfter returns how long the API wants to be left alone: seconds, or until a date (RFC 9110 section 10.2.3). It is believed for an hour.
func (c *connection) retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(retryAfterMax/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(date.Sub(c.now()), 0), retryAfterMax)
	}
	return 0
}

// excerpt returns the beginning of an answer in one line, "" for one that is no text or that gives credentials back.
func (c *connection) excerpt(body []byte) string {
	for _, secret := range c.secrets {
		if secret != "" && bytes.Contains(body, []byte(secret)) {
			return ""
		}
	}
	if bytes.IndexByte(body, 0) >= 0 {
		return ""
	}
	text := strings.ToValidUTF8(string(body[:min(len(body), excerptMost)]), "")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
}

// String says what the API answered, for operators.
func (a *answer) String() string {
	s := fmt.Sprintf("%s: the API answered %s", a.what, statusText(a.status))
	if a.excerpt != "" {
		s += ": " + a.excerpt
	}
	return s
}

// statusText returns a status with its name, where it has one.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprint(status, " ", http.StatusText(status)))
}

// failed returns what an answer means that is not 2xx: a *transform.Fault rejects the record, any other error ends the attempt.
func (c *connection) failed(a *answer) error {
	err := errors.New(a.String())
	switch {
	case a.status < 400:
		return connector.Permanent(fmt.Errorf("%w: redirects are not followed: write the address where the API answers as the connection's url", err))
	case a.status == http.StatusUnauthorized:
		return connector.Permanent(fmt.Errorf("%w: it does not take the connection's credentials", err))
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly, a.status == http.StatusTooManyRequests, a.status >= 500:
		if a.retryAfter > 0 {
			return connector.RetryAfter(err, a.retryAfter)
		}
		return err
	}
	return &transform.Fault{Kind: "refused", Reason: "the destination answered " + statusText(a.status), Err: err}
}

// control looks at the address that a name has led to, right before it is connected to.
func control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err == nil && !refused(to.Addr()) {
		return nil
	}
	return connector.Permanent(errors.New("the host's address is a link-local or metadata address: no connection is made to it"))
}
