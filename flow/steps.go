package flow

import (
	"cmp"
	"maps"
	"strings"

	"github.com/integrator-go/integrator/transform"
)

// split compiles a step that makes a record of each element of a list. nil: it has faults.
func (c *compiler) split(name, path, list string) transform.Step {
	m := c.mapping(strings.TrimSuffix(path, ".split"), transform.Map{{Name: "split", Term: transform.Term{Text: list}}})
	if m == nil {
		return nil
	}
	c.options.Known = maps.Clone(c.options.Known)
	delete(c.options.Known, "parent")
	if c.plan.mapped != nil {
		c.options.Known["parent"] = c.plan.mapped
	}
	c.fields(nil)
	c.element, c.plan.source.single = true, false
	return transform.NewSplit(name, m)
}

// flatten compiles a step that takes nested objects apart. nil: it has faults.
func (c *compiler) flatten(name, path string, f *Flatten) transform.Step {
	if f.Depth < 0 {
		c.fault(path+".depth", 0, "a negative number means nothing here", "")
		return nil
	}
	c.fields(nil)
	return transform.NewFlatten(name, cmp.Or(f.Separator, "."), f.Depth)
}
