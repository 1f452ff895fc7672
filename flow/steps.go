package flow

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/internal/define"
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

// gather adds a step over all records, unless it has faults; made: its records stand for several of the source.
func (c *compiler) gather(name, path string, made bool, g transform.Gatherer) {
	if g == nil {
		return
	}
	if c.inside {
		c.fault(path, 0, "this is over all records of the run, and only some go through the steps of a when", "write it behind the when")
		return
	}
	c.plan.steps = append(c.plan.steps, step{name: name, gather: g})
	c.plan.gathers = cmp.Or(c.plan.gathers, name)
	if made {
		c.plan.remade = cmp.Or(c.plan.remade, name)
	}
	delete(c.options.Known, "parent")
	c.element, c.plan.source.single = false, false
}

// behind refuses what records do not have any more behind a step over all of them.
func (c *compiler) behind(path string, scope, doc, raw bool) {
	switch {
	case c.plan.gathers == "":
	case doc, scope && !c.element:
		c.fault(path, 0, fmt.Sprintf("behind %s a record does not know what enclosed it: there is no parent and no doc", c.plan.gathers), "take what is needed of them into a field before, with set or map")
	case raw:
		c.fault(path, 0, fmt.Sprintf("behind %s a record does not have its own text any more, which gjson and xpath read", c.plan.gathers), "use them in a step before")
	}
}

// keys compiles what records are alike or ordered by, the i-th at the place path[i] with what is below; name gives the field that a text becomes, "" when there is none.
func (c *compiler) keys(path, below string, texts []string, name func(text string) string) *transform.Mapping {
	var m transform.Map
	for i, text := range texts {
		field := ""
		at := fmt.Sprintf("%s[%d]%s", path, i, below)
		if text == "" {
			c.fault(at, 0, "a key is a path, or an expression behind =", "")
		} else if field = name(text); field == "" {
			c.fault(at, 0, fmt.Sprintf("%s is no path of a field, after which its key could be called", text), "make a field of it before, with set")
		} else if slices.ContainsFunc(m, func(f transform.MapField) bool { return f.Name == field }) {
			c.fault(at, 0, fmt.Sprintf("%q is there twice", field), "")
		} else if key := (transform.MapField{Name: field, Term: transform.Term{Text: text}}); c.compiles(at, key) {
			m = append(m, key)
		}
	}
	if len(m) < len(texts) {
		return nil
	}
	return c.mapping(path, m)
}

// compiles reports whether a field alone compiles, and adds its faults as those of what stands at path.
func (c *compiler) compiles(path string, f transform.MapField) bool {
	options := c.options
	options.Paths = nil // it is compiled again
	_, err := transform.CompileMap(transform.Map{f}, options)
	var d *transform.DefinitionError
	if errors.As(err, &d) {
		c.fault(path, d.Offset, d.Reason, d.Hint)
	} else if err != nil {
		c.report(path, err)
	}
	return err == nil
}

// misses adds a fault of a key that is missing, unless what is there has a fault already: it may be the key.
func (c *compiler) misses(path, reason, hint string, keys ...string) {
	if !c.faulty(path) {
		c.lacks(path, reason, hint, keys...)
	}
}

func itself(text string) string { return text }

// lastName is what a path's field is called.
func lastName(text string) string {
	p, err := transform.ParsePath(text)
	if err != nil {
		return ""
	}
	name, _ := p.Last()
	return name
}

func (c *compiler) sort(name, path string, keys []SortKey) transform.Gatherer {
	before := len(c.faults)
	var texts []string
	var how []transform.Direction
	for i, k := range keys {
		place := fmt.Sprintf("%s[%d]", path, i)
		c.oneOf(place+".order", k.Order, "asc", "desc")
		c.oneOf(place+".nulls", k.Nulls, "first", "last")
		descending := k.Order == "desc"
		texts, how = append(texts, k.By), append(how, transform.Direction{Descending: descending, NullsLast: k.Nulls == "last" || k.Nulls == "" && descending})
	}
	if len(keys) == 0 {
		c.fault(path, 0, "records are ordered by something", "write a path, as in sort: [customer, {by: total, order: desc}]")
	}
	if by := c.keys(path, ".by", texts, itself); by != nil && len(c.faults) == before {
		return transform.NewSort(name, by, how)
	}
	return nil
}

// oneOf checks a word that may be missing.
func (c *compiler) oneOf(path, word string, words ...string) {
	if word != "" && !slices.Contains(words, word) {
		c.fault(path, 0, fmt.Sprintf("%q is not known", word), "there are "+strings.Join(words, ", "))
	}
}

func (c *compiler) dedupe(name, path string, d *Dedupe) transform.Gatherer {
	before := len(c.faults)
	c.oneOf(path+".keep", d.Keep, "first", "last")
	if len(d.By) == 0 {
		c.misses(path, "dedupe needs a key", "write {by: [order_id], keep: first}", "by")
	}
	if by := c.keys(path+".by", "", d.By, itself); by != nil && len(c.faults) == before {
		return transform.NewDedupe(name, by, d.Keep == "last")
	}
	return nil
}

func (c *compiler) aggregate(name, path string, a *Aggregate) transform.Gatherer {
	before := len(c.faults)
	by := c.keys(path+".by", "", a.By, lastName)
	var folds []transform.Fold
	var names []string
	if by != nil {
		names = by.Columns()
	}
	for _, f := range a.Fields {
		place := path + ".fields." + f.Name
		if slices.Contains(names, f.Name) {
			c.fault(place, 0, fmt.Sprintf("%q is there twice: it is a key", f.Name), "")
		}
		if f.Term.Text == "" {
			c.fault(place, 0, "a field of an aggregate is text", "write count, or a function of the records such as sum(qty)")
			continue
		}
		fold, err := transform.CompileFold(f.Name, f.Term.Text, c.options)
		if err != nil {
			c.report(place, err)
			continue
		}
		if e := fold.Expression(); e != nil {
			c.sees(place, e)
		}
		folds, names = append(folds, fold), append(names, f.Name)
	}
	if len(a.By)+len(a.Fields) == 0 {
		c.misses(path, "an aggregate has keys, fields or both", "write {by: [customer], fields: {total: sum(amount), n: count}}", "by", "fields")
	}
	if len(c.faults) > before || by == nil {
		return nil
	}
	c.fields(names)
	return transform.NewAggregate(name, by, folds)
}

func (c *compiler) nest(name, path string, n *Nest) transform.Gatherer {
	before := len(c.faults)
	for i, field := range n.By {
		if _, ok := topLevel(field); !ok {
			c.fault(fmt.Sprintf("%s.by[%d]", path, i), 0, fmt.Sprintf("%s is no field of the record itself", field), "make one of it before, with set")
		}
	}
	switch {
	case n.Into == "":
		c.misses(path, "nest needs a field for the list", "write {into: lines, by: [order_id]}", "into")
	case len(n.By) == 0:
		c.misses(path, "nest needs the fields in which the records of one list are alike", "write {into: lines, by: [order_id]}", "by")
	}
	by := c.keys(path+".by", "", n.By, lastName)
	if by != nil && slices.Contains(by.Columns(), n.Into) {
		c.fault(path+".into", 0, fmt.Sprintf("%q is there twice: it is a key", n.Into), "")
	}
	if by == nil || len(c.faults) > before {
		return nil
	}
	c.fields(append(by.Columns(), n.Into))
	return transform.NewNest(name, by, n.Into)
}

// topLevel returns the name of the record's field that a path is; false when it is another path.
func topLevel(text string) (string, bool) {
	p, err := transform.ParsePath(text)
	if err != nil {
		return "", false
	}
	top, ok := p.Top()
	last, _ := p.Last()
	return top, ok && top == last
}

// maxSteps bounds the steps of a flow: lists that use lists can be many.
const maxSteps = 1000

// use compiles the steps of a named list in place of a step.
func (c *compiler) use(number, path, name string) {
	list, ok := c.env.Lists[name]
	switch {
	case !ok:
		c.unknown(path, "step", name)
		return
	case slices.Contains(c.using, name):
		c.fault(path, 0, fmt.Sprintf("steps %s use themselves: %s", name, strings.Join(append(c.using, name), " uses ")), "")
		return
	case c.added > maxSteps:
		c.fault(path, 0, fmt.Sprintf("the flow has more than %d steps with all that it uses", maxSteps), "")
		return
	}
	outer := c.base
	c.base, c.using = define.Join("steps", name), append(c.using, name)
	c.steps("", number+".", list)
	c.base, c.using = outer, c.using[:len(c.using)-1]
}

// whenever compiles steps for some records. nil: they have faults.
func (c *compiler) whenever(number, path string, w *When) transform.Step {
	before := len(c.faults)
	var is *transform.Expression
	if w.If == "" {
		c.misses(path, "when needs a condition", "write {if: qty > 10, steps: […], else: […]}", "if")
	} else {
		is = c.expression(path+".if", w.If)
	}
	if len(w.Steps)+len(w.Else) == 0 {
		c.misses(path, "when has no steps", "write {if: qty > 10, steps: […], else: […]}", "steps", "else")
	}
	outer := *c
	// compiled returns the steps of one branch, and what is known of its records behind them.
	compiled := func(key, number string, steps []Step) ([]transform.Step, compiler) {
		plan := *outer.plan
		branch := outer
		branch.plan, branch.inside, branch.faults = &plan, true, nil
		plan.steps = nil
		branch.options.Known = maps.Clone(outer.options.Known)
		branch.steps(path+"."+key, number, steps)
		c.faults = append(c.faults, branch.faults...)
		var all []transform.Step
		for _, s := range plan.steps {
			all = append(all, s.run)
		}
		return all, branch
	}
	then, a := compiled("steps", number+".", w.Steps)
	other, b := compiled("else", number+" else ", w.Else)
	c.added = a.added + b.added - outer.added
	c.plan.source = a.plan.source
	c.needs(b.plan.source.options.Scope, b.plan.source.options.Raw)
	c.plan.source.single = a.plan.source.single && b.plan.source.single
	c.options.UntypedSource = a.options.UntypedSource || b.options.UntypedSource
	c.element = a.element && b.element
	if parent := a.options.Known["parent"]; parent == nil || b.options.Known["parent"] == nil || !slices.Equal(parent, b.options.Known["parent"]) {
		delete(c.options.Known, "parent")
	}
	if a.plan.mapped == nil || b.plan.mapped == nil {
		c.fields(nil)
	} else {
		c.fields(union(a.plan.mapped, b.plan.mapped))
	}
	if len(c.faults) > before {
		return nil
	}
	return transform.NewWhen(number+" (when)", is, then, other)
}
