package connector

// Definition is a connection as a person writes it: its kind, and the keys that the kind understands.
type Definition struct {
	Type    string         `json:"type"`
	Options map[string]any `json:"-" define:"rest"`
}
