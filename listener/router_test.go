package listener_test

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/integrator-go/integrator/listener"
)

// lines returns the lines of a file of cases, without comments.
func lines(t testing.TB, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" || line[0] == '#' })
}

func compile(t testing.TB, name string, d listener.Definition) *listener.Listener {
	t.Helper()
	l, faults := listener.Compile(name, "listeners."+name, d, listener.Environment{Format: formatOf})
	if faults != nil {
		t.Fatal(faults)
	}
	return l
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, line := range lines(t, "testdata/patterns.txt") {
		pattern, want, _ := strings.Cut(line, " => ")
		got := "ok"
		_, faults := listener.Compile("l", "listeners.l", listener.Definition{Path: pattern}, listener.Environment{})
		if faults != nil {
			f := faults[0]
			if f.Path != "listeners.l.path" || len(faults) > 1 {
				t.Errorf("%q: faults at other places: %v", pattern, faults)
			}
			f.Path = ""
			got = fmt.Sprintf("%d: %s", f.Offset, f.Error())
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", pattern, got, want)
		}
	}
	for _, pattern := range []string{"/a\x00b", "/a\xff", "/a\nb", "/a\u202eb", "/\u2024\u2024"} {
		if _, faults := listener.Compile("l", "listeners.l", listener.Definition{Path: pattern}, listener.Environment{}); faults == nil {
			t.Errorf("%q was compiled", pattern)
		}
	}
}

// calls are the listeners and the calls of testdata/match.txt.
func calls(t testing.TB) (r *listener.Router, calls [][2]string) {
	t.Helper()
	var all []*listener.Listener
	for _, line := range lines(t, "testdata/match.txt") {
		if rest, ok := strings.CutPrefix(line, "listener "); ok {
			name, rest, _ := strings.Cut(rest, " ")
			methods, path, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
			all = append(all, compile(t, name, listener.Definition{Path: strings.TrimLeft(path, " "), Method: strings.Split(methods, ",")}))
			continue
		}
		call, want, _ := strings.Cut(line, " => ")
		calls = append(calls, [2]string{call, want})
	}
	r, faults := listener.NewRouter(all)
	if faults != nil {
		t.Fatal(faults)
	}
	return r, calls
}

func TestMatch(t *testing.T) {
	t.Parallel()
	r, calls := calls(t)
	for _, c := range calls {
		method, path, _ := strings.Cut(c[0], " ")
		l, params, allow := r.Match(method, path)
		var got string
		switch {
		case l != nil:
			got = l.Name
			for _, p := range params {
				got += fmt.Sprintf(" %s=%q", p.Name, p.Value)
			}
		case len(allow) > 0:
			got = "405 " + strings.Join(allow, " ")
		default:
			got = "404"
		}
		if got != c[1] {
			t.Errorf("%s\n got %s\nwant %s", c[0], got, c[1])
		}
	}
}

func TestNewRouterConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		first, second   string
		method1, method []string
		want            []string
	}{
		{"the same path", "/a", "/a", nil, nil, []string{"POST"}},
		{"a slash at the end", "/a", "/a/", nil, nil, []string{"POST"}},
		{"another name of the parameter", "/a/{b}/c", "/a/{x}/c", nil, nil, []string{"POST"}},
		{"another name of the rest", "/a/{b...}", "/a/{x...}", nil, nil, []string{"POST"}},
		{"methods in common", "/a", "/a", []string{"get", "POST", "PUT"}, []string{"PUT", "GET", "DELETE"}, []string{"PUT", "GET"}},
		{"other methods", "/a", "/a", []string{"GET"}, []string{"PUT"}, nil},
		{"a literal beside a parameter", "/a/b", "/a/{b}", nil, nil, nil},
		{"a parameter beside the rest", "/a/{b}", "/a/{b...}", nil, nil, nil},
		{"another case", "/a", "/A", nil, nil, nil},
		{"one below the other", "/a", "/a/b", nil, nil, nil},
	} {
		_, faults := listener.NewRouter([]*listener.Listener{
			compile(t, "first", listener.Definition{Path: c.first, Method: c.method1}), compile(t, "second", listener.Definition{Path: c.second, Method: c.method})})
		var got, want []string
		for _, f := range faults {
			got = append(got, f.Error())
		}
		for _, method := range c.want {
			want = append(want, fmt.Sprintf(`listeners.second.path: listener "first" waits for %s on an equivalent path already (%s) (give one of the two another path or method)`, method, c.first))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// FuzzMatch: no path makes the router fail, and the parameters of one that matches lead to the same place when they are encoded again.
func FuzzMatch(f *testing.F) {
	r, calls := calls(f)
	for _, c := range calls {
		method, path, _ := strings.Cut(c[0], " ")
		f.Add(method, path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		l, params, allow := r.Match(method, path)
		if l == nil {
			if len(params) > 0 || !slices.IsSorted(allow) || slices.Contains(allow, method) {
				t.Errorf("%s %q leads nowhere, with %v and %v", method, path, params, allow)
			}
			return
		}
		if !slices.Contains(l.Methods(), method) || allow != nil {
			t.Errorf("%s %q leads to %s, which takes %v; allowed are %v", method, path, l.Name, l.Methods(), allow)
		}
		var again strings.Builder
		values := params
		for part := range strings.SplitSeq(strings.Trim(l.Path(), "/"), "/") {
			if !strings.HasPrefix(part, "{") {
				again.WriteString("/" + url.PathEscape(part))
				continue
			}
			for segment := range strings.SplitSeq(values[0].Value, "/") {
				if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "\\\x00\r\n") {
					t.Errorf("%s %q gives %q", method, path, params)
				}
				again.WriteString("/" + url.PathEscape(segment))
			}
			values = values[1:]
		}
		l2, params2, _ := r.Match(method, again.String())
		if l2 != l || cmp.Diff(params, params2) != "" {
			t.Errorf("%s %q leads to %s %q, but %q to %v %q", method, path, l.Name, params, again.String(), l2, params2)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	var all []*listener.Listener
	for i := range 10_000 {
		all = append(all, compile(b, fmt.Sprint("l", i), listener.Definition{Path: fmt.Sprintf("/shop-%d/{store}/orders", i)}))
	}
	r, faults := listener.NewRouter(all)
	if faults != nil {
		b.Fatal(faults)
	}
	for name, path := range map[string]string{"parameter": "/shop-7777/north/orders", "encoded": "/shop-7777/n%6frth/orders", "nowhere": "/shop-7777/north/returns"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if l, _, _ := r.Match("POST", path); (l == nil) != (name == "nowhere") {
					b.Fatal("another listener")
				}
			}
		})
	}
}
