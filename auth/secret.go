package auth

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is text that shows as *** wherever it is printed, logged or encoded. The zero value is an empty secret.
type Secret string

const masked = "***"

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns ***.
func (s Secret) String() string { return masked }

// Format writes *** whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { f.Write([]byte(masked)) }

// MarshalJSON writes ***.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(masked) }

// LogValue returns ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }
