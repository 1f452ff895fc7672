package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// convertFile runs the command and returns what it wrote.
func convertFile(t *testing.T, in, from, out, to string) string {
	t.Helper()
	if code := run(t.Context(), []string{"convert", in, out, "--from", from, "--to", to}); code != exitSuccess {
		t.Errorf("%s → %s: exit code %d", from, to, code)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestConvertEachPair converts a small corpus from each format to each other and back: what both can hold comes back as it was, byte for byte.
func TestConvertEachPair(t *testing.T) {
	t.Parallel()
	const fixed = "{type: fixed, columns: {id: 1-3, text: 4-63}}"
	rows := []string{"json", "ndjson", "csv", `{type: csv, delimiter: ";", encoding: utf-16, quoting: all, line_end: crlf}`, "{type: xml, records: /records/record}"}
	for name, c := range map[string]struct {
		formats []string
		texts   []string
	}{
		"any format":                {append([]string{fixed}, rows...), naughty},
		"formats with line ends":    {rows, append([]string{"two\nlines", "\ttab", " blanks ", "a\r\nb", "\r"}, naughty...)},
		"one record is a form, too": {[]string{"ndjson", "csv", "form"}, []string{"a=b&c=d +%20 ü"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			source := filepath.Join(dir, "source")
			var lines []byte
			for i, text := range c.texts {
				line, err := json.Marshal(map[string]string{"id": string(rune('a' + i%26)), "text": text})
				if err != nil {
					t.Fatal(err)
				}
				lines = append(append(lines, line...), '\n')
			}
			if err := os.WriteFile(source, lines, 0o600); err != nil {
				t.Fatal(err)
			}
			first, there, back := filepath.Join(dir, "first"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
			for _, from := range c.formats {
				want := convertFile(t, source, "ndjson", first, from)
				for _, to := range c.formats {
					convertFile(t, first, from, there, to)
					if got := convertFile(t, there, to, back, from); got != want {
						t.Errorf("%s → %s: %q came back as %q", from, to, want, got)
					}
				}
			}
		})
	}
}

// naughty is text that formats have to quote, to escape or to leave alone, and that each of them can hold.
var naughty = []string{
	"plain", `say "no"`, "a, b; c|d", "it's", "<b>&amp;</b> ]]>", `back\slash \n`, "=1+1", "@SUM(A1)", "+1", "-1", "00012", "1e400", "12345678901234567890.10", "NaN", "null",
	"true", "undefined", "${env.HOME}", "../../etc/passwd", "'; DROP TABLE x; --", "zwölf Köln Łódź", "東京 の 人", "😀👩‍👩‍👧", "e\u0301 é", "\u202eright to left", "\u200bzero width",
	"ﬁ ligature", "\ufffd", "%s%d%n", "#comment", "a=b&c=d", "{[(", "* ? ~", "NUL", "0x1F", "１２３", "I i İ ı",
}

// TestConvertRejectsMany rejects more than is held in memory.
func TestConvertRejectsMany(t *testing.T) {
	t.Parallel()
	const records = 5000
	dir := t.TempDir()
	in, rejects := filepath.Join(dir, "in.csv"), filepath.Join(dir, "rejects")
	if err := os.WriteFile(in, []byte("id,text\n"+strings.Repeat("x,"+strings.Repeat("y", 100)+"\n", records)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"convert", in, filepath.Join(dir, "out.ndjson"), "--filter", "id > 1", "--rejects", rejects}); code != exitRejected {
		t.Errorf("exit code %d", code)
	}
	content, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(content), `"_line":`); n != records || !strings.Contains(string(content), `"_record":5000,"_line":5001,`) {
		t.Errorf("%d of %d rejected records are in the file", n, records)
	}
}

// TestConvertInterrupted interrupts a conversion that waits for its input.
func TestConvertInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, out := filepath.Join(dir, "pipe"), filepath.Join(dir, "out")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"convert", pipe, filepath.Join(out, "out.ndjson"), "--from", "csv"})
	}()
	files := func() int {
		list, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for deadline := time.Now().Add(patience); files() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is written")
		}
	}
	interrupt()
	if code := <-ended; code != exitFailure || files() != 0 {
		t.Errorf("exit code %d, and %d files are left", code, files())
	}
}
