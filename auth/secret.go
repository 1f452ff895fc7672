package auth

import (
	"fmt"
	"log/slog"
)

// Secret is text that shows as *** wherever it is printed, logged or encoded. The zero value is an empty secret. Package fmt cannot ask a
// value in an unexported field how it wants to be shown: keep secrets in exported fields, or out of structs that are printed.
type Secret string

const masked = "***"

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns ***.
func (s Secret) String() string { return masked }

// Format writes *** whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { f.Write([]byte(masked)) }

// MarshalText returns ***: for JSON, XML and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue returns ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }
