package transform

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Column is the type that a definition gives to a column of a format without types: `columns: {qty: int, day: date dd.MM.yyyy}`. The
// zero Column is text.
type Column struct {
	name   string
	layout Layout
}

// ParseColumn reads a column's type: text, int, decimal, bool, or date with a layout (yyyy-MM-dd when there is none). The error is a
// *DefinitionError.
func ParseColumn(text string) (Column, error) {
	name, layout, _ := strings.Cut(strings.TrimSpace(text), " ")
	c := Column{name: name}
	switch name {
	case "text", "int", "decimal", "bool":
		if layout != "" {
			return c, &DefinitionError{Offset: len(name), Reason: fmt.Sprintf("%s takes no layout", name), Hint: "only date does, as in date dd.MM.yyyy"}
		}
		return c, nil
	case "date":
		if layout = strings.TrimSpace(layout); layout == "" {
			layout = "yyyy-MM-dd"
		}
		var err error
		if c.layout, err = ParseLayout(layout); err != nil {
			return c, &DefinitionError{Offset: len(name) + 1, Reason: err.Error()}
		}
		return c, nil
	}
	return c, &DefinitionError{Reason: fmt.Sprintf("%q is no type of a column", name), Hint: "there are text, int, decimal, bool and date LAYOUT"}
}

// Value returns the text as a value of the column's type: a number digit for digit, a date as ISO 8601 has it. The error says what
// would have been right, without the text.
func (c Column) Value(text string) (Value, error) {
	switch c.name {
	case "int":
		number := plainNumber(text)
		if !isInteger(number) {
			return Null, errors.New("is no whole number")
		}
		return Number(number), nil
	case "decimal":
		number := plainNumber(text)
		if !IsNumber(number) {
			return Null, errors.New("is no number with a decimal point")
		}
		return Number(number), nil
	case "bool":
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			return Bool(true), nil
		case "false", "no", "0":
			return Bool(false), nil
		}
		return Null, errors.New("is neither true nor false")
	case "date":
		t, err := c.layout.Parse(text, time.UTC)
		if err != nil {
			return Null, fmt.Errorf("is no date as %s", c.layout)
		}
		return Text(isoTime(t, c.layout.hasTime)), nil
	}
	return Text(text), nil
}

// Text returns what a document has for a value in the column, which Value reads as that value again: a date in the column's layout, a bool as
// 1 or 0, anything else as it is. The error says what would have been right, without the text.
func (c Column) Text(v Value) (string, error) {
	text := v.Text()
	if c.name == "date" {
		t, err := parseISO(text, time.UTC)
		if err != nil {
			return "", errors.New("is no date in ISO 8601, which would be written in the column's layout")
		}
		written := c.layout.Format(t)
		if again, err := c.layout.Parse(written, time.UTC); err != nil || !again.Equal(t) {
			return "", fmt.Errorf("has a part that %s leaves out", c.layout)
		}
		return written, nil
	}
	read, err := c.Value(text)
	switch {
	case err != nil:
		return "", err
	case c.name == "bool" && read.IsTrue():
		return "1", nil
	case c.name == "bool":
		return "0", nil
	}
	return text, nil
}

// IsNumber reports whether the column's type is int or decimal.
func (c Column) IsNumber() bool { return c.name == "int" || c.name == "decimal" }

// IsText reports whether the column's type is text.
func (c Column) IsText() bool { return c.name == "text" || c.name == "" }

// isInteger reports whether text is a number without point and exponent.
func isInteger(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || digits[0] == '0' && len(digits) > 1 {
		return false
	}
	for i := range len(digits) {
		if digits[i]-'0' > 9 {
			return false
		}
	}
	return true
}

// plainNumber takes away a plus sign and leading zeros, which people write and JSON does not know.
func plainNumber(text string) string {
	if text != "" && '1' <= text[0] && text[0] <= '9' {
		return text
	}
	digits, negative := strings.CutPrefix(text, "-")
	if after, plus := strings.CutPrefix(digits, "+"); plus && !negative && after != "" && after[0] != '-' {
		digits = after
	}
	for len(digits) > 1 && digits[0] == '0' && '0' <= digits[1] && digits[1] <= '9' {
		digits = digits[1:]
	}
	if negative {
		return "-" + digits
	}
	return digits
}
