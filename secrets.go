package integrator

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// secrets takes the values of secrets out of texts, in every encoding that a driver's or a peer's message may show them in. It is safe
// for concurrent use.
type secrets struct {
	mu       sync.Mutex
	known    []string
	replacer atomic.Pointer[strings.Replacer] // nil: there are no secrets
}

// minSecret is the length from which a secret is taken out of texts: shorter ones would take words apart.
const minSecret = 4

func (s *secrets) add(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) < minSecret || slices.Contains(s.known, value) {
		return
	}
	s.known = append(s.known, value)
	var forms []string
	for _, v := range s.known {
		forms = append(forms, encodings(v)...)
	}
	// The longest first: one form may begin like another.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, f := range slices.Compact(forms) {
		pairs = append(pairs, f, "***")
	}
	s.replacer.Store(strings.NewReplacer(pairs...))
}

// redact returns text without secrets.
func (s *secrets) redact(text string) string {
	if r := s.replacer.Load(); r != nil {
		return r.Replace(text)
	}
	return text
}

// encodings returns the forms in which a value may come back.
func encodings(value string) []string {
	inJSON, _ := json.Marshal(value) // cannot fail
	quoted := strconv.Quote(value)
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), string(inJSON[1 : len(inJSON)-1]),
		quoted[1 : len(quoted)-1], hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value)))}
	// Inside a longer text, as in user:password, Base64 shows a value in one of three alignments. The characters at its ends also
	// hold bits of the neighbours, and are left out.
	for lead := range 3 {
		padded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", lead) + value))
		first := (lead*8 + 5) / 6
		last := (lead + len(value)) * 8 / 6
		if core := padded[first:last]; len(core) >= 2*minSecret {
			forms = append(forms, core, strings.NewReplacer("+", "-", "/", "_").Replace(core))
		}
	}
	return forms
}

// redactor is a log handler that takes secrets out of what it is given.
type redactor struct {
	slog.Handler
	secrets *secrets
}

func (r redactor) Handle(ctx context.Context, record slog.Record) error {
	if r.secrets.replacer.Load() == nil {
		return r.Handler.Handle(ctx, record)
	}
	clean := slog.NewRecord(record.Time, record.Level, r.secrets.redact(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(r.attr(a))
		return true
	})
	return r.Handler.Handle(ctx, clean)
}

func (r redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = r.attr(a)
	}
	return redactor{r.Handler.WithAttrs(clean), r.secrets}
}

func (r redactor) WithGroup(name string) slog.Handler {
	return redactor{r.Handler.WithGroup(name), r.secrets}
}

func (r redactor) attr(a slog.Attr) slog.Attr {
	value := a.Value.Resolve()
	switch value.Kind() {
	case slog.KindString:
		value = slog.StringValue(r.secrets.redact(value.String()))
	case slog.KindAny:
		if err, ok := value.Any().(error); ok {
			value = slog.StringValue(r.secrets.redact(err.Error()))
		}
	case slog.KindGroup:
		var group []slog.Attr
		for _, member := range value.Group() {
			group = append(group, r.attr(member))
		}
		value = slog.GroupValue(group...)
	}
	return slog.Attr{Key: a.Key, Value: value}
}
