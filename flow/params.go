package flow

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// ParamError says which parameters of a call are missing or wrong.
type ParamError struct{ Faults []string }

// Error returns all faults.
func (e *ParamError) Error() string { return "parameters: " + strings.Join(e.Faults, "; ") }

// fault notes what is wrong, once.
func (e *ParamError) fault(text string) {
	if !slices.Contains(e.Faults, text) {
		e.Faults = append(e.Faults, text)
	}
}

// paramFormat is how parameters are kept with a run.
var paramFormat = func() transform.Format {
	f, err := jsonfmt.New(jsonfmt.Options{})
	if err != nil {
		panic(err) // impossible: these options are constant
	}
	return f
}()

// ParseParams reads a flat JSON object of parameters. Faults are *transform.SyntaxError or *ParamError.
func ParseParams(text []byte) (transform.Value, error) {
	empty := noParams
	if len(bytes.TrimSpace(text)) == 0 {
		return empty, nil
	}
	options := transform.DecodeOptions{Limits: transform.Limits{Depth: 16}}
	if err := paramFormat.Check(bytes.NewReader(text), options); err != nil {
		return empty, err
	}
	decoder, err := paramFormat.NewDecoder(bytes.NewReader(text), options)
	if err != nil {
		return empty, err
	}
	if c, ok := decoder.(io.Closer); ok {
		defer c.Close()
	}
	var b transform.Batch
	if err := decoder.Decode(&b); err != nil {
		return empty, err
	}
	if err := b.Records[0].Err; err != nil {
		return empty, err
	}
	object := b.Records[0].Value
	if object.Kind() != transform.KindObject {
		return empty, &ParamError{[]string{"a JSON object of parameters is expected"}}
	}
	var e ParamError
	for name, value := range object.Fields() {
		if k := value.Kind(); k == transform.KindObject || k == transform.KindList {
			e.Faults = append(e.Faults, fmt.Sprintf("%q is a nested value: parameters are flat", name))
		}
	}
	if e.Faults != nil {
		return empty, &e
	}
	return object, nil
}

// decodeParams reads what [Plan.Parameters] made.
func decodeParams(text []byte) transform.Value {
	v, err := ParseParams(text)
	if err != nil {
		return transform.Null // impossible: it was written by encodeParams and the store has verified it
	}
	return v
}

func encodeParams(object transform.Value) ([]byte, error) {
	if object.Len() == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	encoder, err := paramFormat.NewEncoder(&out, transform.EncodeOptions{As: "object"})
	if err != nil {
		return nil, err
	}
	if err := encoder.Encode(&transform.Batch{Records: []transform.Record{{Value: object}}}); err != nil {
		return nil, err
	}
	err = encoder.Close()
	return out.Bytes(), err
}

// Parameters checks the parameters of a call by name against those that the flow and the listener that starts it declare, fills in defaults and returns them in the
// form that a run keeps. Those of the listener's path are due too. Without declarations a flow takes what else it is given. The error is a *ParamError
// that names every fault.
func (p *Plan) Parameters(given transform.Value) ([]byte, error) {
	var e ParamError
	checked, declared := noParams, union(slices.Sorted(maps.Keys(p.heard)), slices.Sorted(maps.Keys(p.params)))
	for _, name := range p.pathParams {
		if slices.Contains(declared, name) {
			continue
		}
		if value, ok := given.Get(name); ok && !value.IsNull() {
			checked = checked.With(name, value)
			continue
		}
		e.Faults = append(e.Faults, fmt.Sprintf("%q is required, as in the path of listener %q", name, p.Listener))
	}
	if len(declared) == 0 && e.Faults == nil {
		return encodeParams(given)
	}
	for name := range given.Fields() {
		if len(declared) > 0 && !slices.Contains(declared, name) && !slices.Contains(p.pathParams, name) {
			hint := "there are " + strings.Join(declared, ", ")
			if near := define.Nearest(name, declared); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			e.Faults = append(e.Faults, fmt.Sprintf("%q is not declared (%s)", name, hint))
		}
	}
	for _, some := range []map[string]Param{p.heard, p.params} {
		for name, value := range checked.Fields() {
			given = given.With(name, value)
		}
		checked = e.check(checked, some, given)
	}
	if e.Faults != nil {
		return nil, &e
	}
	return encodeParams(checked)
}

// check adds the declared parameters to checked, converted and with defaults, and notes what is missing or wrong.
func (e *ParamError) check(checked transform.Value, declared map[string]Param, given transform.Value) transform.Value {
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		param := declared[name]
		value, ok := given.Get(name)
		switch {
		case ok && !value.IsNull():
			v, err := param.convert(value)
			if err != nil {
				e.fault(fmt.Sprintf("%q %v", name, err))
				continue
			}
			checked = checked.With(name, v)
		case param.Required:
			e.fault(fmt.Sprintf("%q is required", name))
		case param.Default != nil:
			v, err := param.convert(constant(param.Default))
			if err != nil {
				e.Faults = append(e.Faults, fmt.Sprintf("the default of %q %v", name, err))
				continue
			}
			checked = checked.With(name, v)
		}
	}
	return checked
}

// ParamsOf returns the declared parameters of a message, converted and with defaults, in the form that a run keeps; later declarations see what
// earlier ones have made of a value. A value comes from the message's Params, which a query cannot override, else from its Query. nil: nothing is declared, or
// given. The error is a *ParamError that names every fault.
func ParamsOf(m *store.Message, declared ...map[string]Param) ([]byte, error) {
	if !slices.ContainsFunc(declared, func(some map[string]Param) bool { return len(some) > 0 }) {
		return nil, nil
	}
	var e ParamError
	checked := noParams
	for _, some := range declared {
		if len(some) == 0 {
			continue
		}
		given := checked
		for name := range some {
			if _, ok := given.Get(name); ok {
				continue
			}
			values := valuesOf(m.Params, name)
			if values == nil {
				if values = valuesOf(m.Query, name); len(values) > 1 {
					e.Faults = append(e.Faults, fmt.Sprintf("%q is there more than once", name))
				}
			}
			if values != nil {
				given = given.With(name, transform.Untyped(values[0]))
			}
		}
		checked = e.check(checked, some, given)
	}
	if e.Faults != nil {
		slices.Sort(e.Faults)
		return nil, &e
	}
	return encodeParams(checked)
}

func valuesOf(pairs []store.Pair, name string) (values []string) {
	for _, p := range pairs {
		if p.Name == name {
			values = append(values, p.Value)
		}
	}
	return values
}

// constant returns the value of a constant in a definition, which is text, a number or a bool.
func constant(v any) transform.Value {
	switch text := fmt.Sprint(v); v.(type) {
	case bool:
		return transform.Bool(v.(bool))
	case string:
		return transform.Untyped(text)
	default:
		if transform.IsNumber(text) {
			return transform.Number(text)
		}
		return transform.Untyped(text)
	}
}

// paramTypes are the types that a parameter can have, with what is expected of its value.
var paramTypes = map[string]string{
	"text":    "text",
	"int":     "a whole number",
	"decimal": "a number",
	"bool":    "true or false",
	"date":    "a date as 2026-01-31",
}

// convert returns the value in the parameter's type, or why it does not fit.
func (p Param) convert(v transform.Value) (transform.Value, error) {
	kind := p.Type
	if kind == "" {
		kind = "text"
	}
	text, fits := v.Text(), false
	switch kind {
	case "text":
		fits, v = v.IsText(), transform.Text(text)
	case "int":
		fits, v = transform.IsNumber(text) && !strings.ContainsAny(text, ".eE"), transform.Number(text)
	case "decimal":
		fits, v = transform.IsNumber(text), transform.Number(text)
	case "bool":
		fits, v = text == "true" || text == "false", transform.Bool(text == "true")
	case "date":
		_, err := time.Parse(time.DateOnly, text)
		fits, v = err == nil, transform.Text(text)
	}
	if !fits {
		return v, fmt.Errorf("must be %s", paramTypes[kind])
	}
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, text) {
		return v, fmt.Errorf("must be one of %s", strings.Join(p.Enum, ", "))
	}
	for _, bound := range []struct {
		limit any
		wrong int
		words string
	}{{p.Min, -1, "at least"}, {p.Max, 1, "at most"}} {
		if bound.limit == nil {
			continue
		}
		order := strings.Compare(text, fmt.Sprint(bound.limit)) // dates as text
		if kind == "int" || kind == "decimal" {
			a, errA := transform.ParseDecimal(text)
			b, errB := transform.ParseDecimal(fmt.Sprint(bound.limit))
			if errA != nil || errB != nil {
				return v, fmt.Errorf("cannot be compared with its bound %v", bound.limit)
			}
			order = a.Cmp(b)
		}
		if order == bound.wrong {
			return v, fmt.Errorf("must be %s %v", bound.words, bound.limit)
		}
	}
	return v, nil
}

// NeverParameter names what a query may hold that steers the call itself, or proves who calls.
func NeverParameter(name string) bool {
	return name == "wait" || name == "dry_run" || strings.EqualFold(name, "Authorization")
}

// CheckParams checks declarations of parameters. Paths of faults begin with base. inPath are the names of a listener's path, which are always given.
func CheckParams(params map[string]Param, base string, inPath []string) (faults define.Faults) {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p, path := params[name], define.Join(base, name)
		fault := func(key, reason, hint string) {
			faults = append(faults, define.Fault{Path: path + key, Reason: reason, Hint: hint})
		}
		if NeverParameter(name) {
			fault("", fmt.Sprintf("%s is never a parameter", name), "give it another name")
			continue
		}
		if _, ok := paramTypes[p.Type]; !ok && p.Type != "" {
			fault(".type", fmt.Sprintf("type %q is not known", p.Type), "there are text, int, decimal, bool, date")
			continue
		}
		if p.Default != nil {
			if slices.Contains(inPath, name) {
				fault(".default", "a parameter of the listener's path is always given", "leave the default out")
			} else if p.Required {
				fault(".default", "a required parameter has no use for a default", "leave one of the two out")
			} else if _, err := p.convert(constant(p.Default)); err != nil {
				fault(".default", "the default "+err.Error(), "")
			}
		}
		if (p.Min != nil || p.Max != nil) && p.Type != "int" && p.Type != "decimal" && p.Type != "date" {
			fault("", "min and max need the type int, decimal or date", "")
		}
	}
	return faults
}
