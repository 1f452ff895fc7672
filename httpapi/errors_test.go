package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// TestProblems makes each error of the table, and each with a type of its own, an answer: what the error says is for the log alone, unless it is
// about the caller's own input.
func TestProblems(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.1.2.3:5432"
	for _, c := range conditions {
		p := problemOf(fmt.Errorf("%s: %w", secret, c.err))
		if p.Status != c.status || p.name() != c.name || p.Title != c.title || p.retryAfter != c.retry || strings.Contains(p.Error(), secret) {
			t.Errorf("%v is answered with %d %s: %s", c.err, p.Status, p.name(), p.Error())
		}
		if (p.Status == 503) != (p.retryAfter > 0) {
			t.Errorf("%v has status %d and Retry-After %v", c.err, p.Status, p.retryAfter)
		}
		if (p.unexpected != nil) != (p.Status >= 500) {
			t.Errorf("%v has status %d, and the log gets %v", c.err, p.Status, p.unexpected)
		}
	}
	syntax := &transform.SyntaxError{Format: "json", Line: 2, Column: 3, Offset: 4, Reason: "odd"}
	for _, c := range []struct {
		err    error
		status int
		name   string
		detail string
	}{
		{&listener.PayloadError{Err: syntax}, 400, "payload-malformed", "json: line 2, column 3: odd"},
		{&flow.KeyError{Reason: "no key", Err: syntax}, 400, "payload-malformed", "json: line 2, column 3: odd"},
		{&flow.KeyError{Reason: "no key"}, 422, "key", "no key"},
		{&flow.AcceptError{There: []string{"text/csv"}}, 406, "not-acceptable", "there are text/csv"},
		{&flow.ParamError{Faults: []string{"one", "two"}}, 400, "parameters", "parameters: one; two"},
		{syntax, 400, "malformed", "json: line 2, column 3: odd"},
		{&auth.ThrottledError{RetryAfter: time.Minute}, 429, "throttled", "wait before the next attempt"},
		{&listener.RateError{RetryAfter: time.Minute}, 429, "rate", "this listener takes no more calls at the moment: come again after Retry-After"},
		{errors.New(secret), 500, "internal", "the engine's log has more under this error id"},
	} {
		p := problemOf(fmt.Errorf("call: %w", c.err))
		if p.Status != c.status || p.name() != c.name || p.Detail != c.detail {
			t.Errorf("%v is answered with %d %s %q", c.err, p.Status, p.name(), p.Detail)
		}
		if (p.Status == 429) != (p.retryAfter > 0) || (p.name() == "payload-malformed") != (p.Line == 2) || (p.Status == 500) != (p.unexpected != nil) {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
	for kind, want := range map[string]string{flow.KindInput: "422 rejected", flow.KindConnection: "500 run-failed", flow.KindRefused: "500 run-failed", flow.KindTimeout: "504 timeout",
		flow.KindCanceled: "409 canceled", flow.KindInternal: "500 run-failed"} {
		run := &store.Run{Number: 7, Flow: "f", Kind: kind, Reason: "public", Exception: secret, ErrorID: "id"}
		p := problemOfRun(run, &flow.Failure{Flow: "f", Kind: kind, Err: errors.New(secret)}, nil)
		if got := fmt.Sprint(p.Status, " ", p.name()); got != want || p.Detail != "public" || p.Run != 7 || p.Flow != "f" || p.Kind != kind || p.ErrorID != "id" {
			t.Errorf("a run that failed because of %s: %s, %+v", kind, got, p)
		}
	}
	if p := problemOfRun(&store.Run{Kind: flow.KindInput}, &flow.Failure{Kind: flow.KindInput, Err: syntax}, nil); p.Status != 400 || p.Column != 3 {
		t.Errorf("a run whose payload is malformed: %+v", p)
	}
}

// TestProblemsAreDocumented holds the types of problems in the code to the table of HTTP.md: each has one status and one title, and is met by a test.
func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	codes := map[string]int{} // by the names of net/http
	for code := 400; code < 600; code++ {
		codes["Status"+strings.NewReplacer(" ", "", "-", "", "'", "").Replace(http.StatusText(code))] = code
	}
	status, title := map[string]int{}, map[string]string{}
	note := func(name string, code int, words string) {
		if status[name] != 0 && (status[name] != code || title[name] != words) {
			t.Errorf("problem %s is %d %q and %d %q", name, status[name], title[name], code, words)
		}
		status[name], title[name] = code, words
	}
	for _, c := range conditions {
		note(c.name, c.status, c.title)
	}
	for name, text := range read(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, call := range regexp.MustCompile(`[^c] problem\(([^,]+), ([^,]+), ([^,]+),`).FindAllStringSubmatch(text, -1) {
			if call[1] == "c.status" { // a row of conditions
				continue
			}
			code := codes[strings.TrimPrefix(call[1], "http.")]
			kind, err := strconv.Unquote(call[2])
			words, err2 := strconv.Unquote(call[3])
			if code == 0 || err != nil || err2 != nil {
				t.Errorf("%s: the status, the type and the title of a problem are constants: %s", name, call[0])
			}
			note(kind, code, words)
		}
	}
	documented := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([45]\\d\\d) \\|").FindAllStringSubmatch(read(t, "../HTTP.md")["../HTTP.md"], -1) {
		documented[row[1]], _ = strconv.Atoi(row[2])
	}
	if diff := cmp.Diff(documented, status); diff != "" {
		t.Errorf("HTTP.md's table (-) and the code (+) differ:\n%s", diff)
	}
	tests := ""
	for _, pattern := range []string{"../testdata/exchanges/*/script.txt", "../*_test.go", "../cmd/integrator/*_test.go"} {
		for _, text := range read(t, pattern) {
			tests += text
		}
	}
	for _, name := range slices.Sorted(maps.Keys(status)) {
		if !slices.ContainsFunc(conditions, func(c condition) bool { return c.name == name }) && !strings.Contains(tests, "problem:"+name+`"`) {
			t.Errorf("no test gets problem %s", name)
		}
	}
}

// read returns the files that the pattern fits.
func read(t *testing.T, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || names == nil {
		t.Fatalf("%s fits nothing: %v", pattern, err)
	}
	texts := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	return texts
}
