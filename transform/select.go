package transform

// Selector is where the records of a document are, as the path in DecodeOptions.Records says: names lead inward, All goes over the
// elements of a list. Formats walk along it while they read.
type Selector []SelectorStep

// SelectorStep is one step of a [Selector]: into the field of that name, or over all elements.
type SelectorStep struct {
	Name string
	All  bool
}

// ParseSelector reads the path of records: `orders[*]`, `[*]`, `a[*].b[*]`, `a["odd name"]`. The error is a *DefinitionError; an empty
// path is the document itself.
func ParseSelector(text string) (Selector, error) {
	if text == "" {
		return nil, nil
	}
	p, err := ParsePath(text)
	if err != nil {
		if d, ok := err.(*DefinitionError); ok {
			d.Hint = "the path of records is as in orders[*] or data.orders[*]"
		}
		return nil, err
	}
	if p.root != rootThis {
		return nil, &DefinitionError{Reason: "the path of records begins inside the document", Hint: "write this." + text + " for a field of that name"}
	}
	var s Selector
	for _, step := range p.steps {
		switch step.kind {
		case stepIndex:
			return nil, &DefinitionError{Reason: "the path of records takes all elements of a list", Hint: "write [*]"}
		case stepAll:
			s = append(s, SelectorStep{All: true})
		default:
			s = append(s, SelectorStep{Name: step.name})
		}
	}
	return s, nil
}

// Lists returns how many lists the selector goes over.
func (s Selector) Lists() int {
	n := 0
	for _, step := range s {
		if step.All {
			n++
		}
	}
	return n
}

// Enclosing returns the selector of the elements that enclose the records: what comes before the name of the innermost list.
func (s Selector) Enclosing() Selector {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].All {
			if i > 0 && !s[i-1].All {
				return s[:i-1]
			}
			return s[:i]
		}
	}
	if len(s) == 0 {
		return nil
	}
	return s[:len(s)-1]
}
