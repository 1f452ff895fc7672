package integrator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestStepsAreDocumented runs the examples of DEFINITIONS.md: steps, the records they are given, and what they make of them.
func TestStepsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("DEFINITIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "| step | of | makes |\n|---|---|---|\n")
	if !ok {
		t.Fatal("DEFINITIONS.md has no examples of steps")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	row := regexp.MustCompile("^\\| `(.*)` \\| `(.*)` \\| `(.*)` \\|$")
	var yaml, flows strings.Builder
	yaml.WriteString("listeners:\n")
	var rows [][]string
	for i, line := range strings.Split(table, "\n") {
		cells := row.FindStringSubmatch(line)
		if cells == nil {
			t.Fatalf("this is no example: %s", line)
		}
		rows = append(rows, cells)
		steps := regexp.MustCompile(`, (map|set|filter|sort): `).ReplaceAllString(cells[1], "}, {$1: ")
		fmt.Fprintf(&yaml, "  l%d: {path: /%d, format: json, mode: sync}\n", i, i)
		fmt.Fprintf(&flows, "  f%d: {from: {listener: l%d, records: \"[*]\"}, steps: [{%s}], respond: {}}\n", i, i, steps)
	}
	h := start(t, yaml.String()+"flows:\n"+flows.String()+"users:\n  ops: {role: operator, password: password-ops}\n")
	token := h.token("ops", "password-ops")
	for i, cells := range rows {
		t.Run(cells[1], func(t *testing.T) {
			var want, got bytes.Buffer
			if err := json.Compact(&want, []byte(cells[3])); err != nil {
				t.Fatal(err)
			}
			answer := h.post(fmt.Sprintf("%s/%d", listeners, i), token, cells[2])
			if err := json.Compact(&got, []byte(answer.body)); err != nil || got.String() != want.String() {
				t.Errorf("of %s it makes %d %s, documented is %s", cells[2], answer.status, answer.body, want.String())
			}
		})
	}
}
