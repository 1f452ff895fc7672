package integrator_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestExchanges plays what clients and the engine say to each other. Each folder of testdata/exchanges holds the definitions and a script;
// a line of the script begins with
//
//	#  the name of the next exchange
//	>  the request: method, path, and "as LOGIN" when a token is sent; then its headers
//	|  a line of its body
//	<  the status; then headers of the answer, without a value one that is not there
//	=  the answer's body, a line each; "*" stands for anything
//	wait  until the runs of the last receipt have ended, the first of them in the status that follows
//	file  a file below the host's folder; its lines follow behind =
//
// ${name} in a request is the value of that field in the last answer that had one, ${etag} the last entity tag. Every user's password is "password-" and the login.
func TestExchanges(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/exchanges/*/script.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		folder := filepath.Dir(script)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			yaml, err := os.ReadFile(filepath.Join(folder, "integrator.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{host: start(t, string(yaml)), tokens: map[string]string{}, values: map[string]string{}}
			for _, block := range strings.Split(string(text), "\n\n") {
				if strings.TrimSpace(block) != "" {
					p.play(strings.Split(strings.Trim(block, "\n"), "\n"))
				}
			}
		})
	}
}

// player plays one script.
type player struct {
	host   *host
	tokens map[string]string // by login
	values map[string]string // fields of answers
	others []int64           // runs of the last receipt, when there are several
}

// play plays one block.
func (p *player) play(lines []string) {
	t := p.host.t
	t.Helper()
	var name, method, path, token string
	var header, body, wantHeader, want []string
	var status int
	for _, line := range lines {
		mark, rest, _ := strings.Cut(line, " ")
		switch mark {
		case "#":
			name = rest
		case ">":
			if method != "" {
				header = append(header, p.fill(rest))
				continue
			}
			words := strings.Fields(rest)
			method, path = words[0], p.fill(words[1])
			if len(words) == 4 && words[2] == "as" {
				token = p.token(words[3])
			}
		case "|":
			body = append(body, p.fill(rest))
		case "<":
			if status == 0 {
				status, _ = strconv.Atoi(rest)
				continue
			}
			wantHeader = append(wantHeader, p.fill(rest))
		case "=":
			want = append(want, p.fill(rest))
		case "wait":
			number, err := strconv.ParseInt(p.values["auditId"], 10, 64)
			if err != nil {
				t.Fatalf("%s: wait without a receipt", name)
			}
			if got := p.host.events.settled(number).Run.Status.String(); got != rest {
				t.Errorf("%s: run %d ended in %s, want %s\n%s", name, number, got, rest, p.host.log)
			}
			for _, run := range p.others {
				p.host.events.settled(run)
			}
		case "file":
			found, err := filepath.Glob(filepath.Join(p.host.dir, rest))
			if err != nil || len(found) != 1 {
				t.Fatalf("%s: file %s: found %v", name, rest, found)
			}
			name, path = cmp.Or(name, rest), found[0]
		default:
			t.Fatalf("the script has a line that means nothing: %q", line)
		}
	}
	if method == "" {
		if path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, string(text), want)
		}
		return
	}
	got := p.host.call(method, path, token, strings.NewReader(strings.Join(body, "\n")), header...)
	if got.status != status {
		t.Errorf("%s: %s %s: status %d, want %d: %s", name, method, path, got.status, status, got.body)
		return
	}
	for _, line := range wantHeader {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if have := got.header.Get(key); !glob(value, have) {
			t.Errorf("%s: header %s is %q, want %q", name, key, have, value)
		}
	}
	if want != nil {
		compare(t, name, got.body, want)
	}
	if tag := got.header.Get("ETag"); tag != "" {
		p.values["etag"] = tag
	}
	var stored struct{ Runs []receipt }
	p.others = nil
	if json.Unmarshal([]byte(got.body), &stored) == nil {
		for _, run := range stored.Runs {
			p.others = append(p.others, run.AuditID)
		}
	}
	var fields map[string]any
	if json.Unmarshal([]byte(got.body), &fields) == nil {
		for k, v := range fields {
			if f, ok := v.(float64); ok {
				v = strconv.FormatFloat(f, 'f', -1, 64)
			}
			p.values[k] = fmt.Sprint(v)
		}
	}
}

func (p *player) token(login string) string {
	if p.tokens[login] == "" {
		p.tokens[login] = p.host.token(login, "password-"+login)
	}
	return p.tokens[login]
}

var placeholder = regexp.MustCompile(`\$\{\w+\}`)

func (p *player) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(s string) string { return p.values[s[2:len(s)-1]] })
}

func compare(t *testing.T, name, got string, want []string) {
	t.Helper()
	if pattern := strings.Join(want, "\n"); !glob(pattern, strings.TrimSuffix(got, "\n")) {
		t.Errorf("%s:\n got %s\nwant %s", name, got, pattern)
	}
}

// glob reports whether text is the pattern, in which * stands for anything.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)\A` + strings.Join(parts, ".*") + `\z`).MatchString(text)
}
