package integrator

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/transform"
)

// Schema returns the JSON Schema (2020-12) of definition files, for editors that complete and check them: the keys of the engine's structs, with the
// kinds of connections, formats and listeners, the drivers and the Go steps that config lists; nothing else of it is looked at. What a schema cannot say
// (references, paths, expressions) New checks.
func Schema(config Config) []byte {
	const base = "#/$defs/"
	root := reflect.TypeFor[Definitions]()
	defs := define.Schemas(base, config.schemaOptions(), root)
	const top = "integrator.Definitions"
	schema := defs[top].(map[string]any)
	delete(defs, top)
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "Definitions of an integration engine"
	schema["patternProperties"] = map[string]any{"^x-": true}
	schema["$defs"] = config.known(defs)
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // impossible: it is made of maps, lists and texts
	}
	return append(text, '\n')
}

// known adds to schemas the names that the configuration gives.
func (c *Config) known(defs map[string]any) map[string]any {
	var drivers []string
	for _, d := range c.Drivers {
		drivers = append(drivers, d.Name)
	}
	property := func(def, name string) map[string]any {
		return defs[def].(map[string]any)["properties"].(map[string]any)[name].(map[string]any)
	}
	if drivers != nil {
		property("connector.Definition.sql", "driver")["enum"] = drivers
	}
	if c.Steps != nil {
		property("flow.Step", "go")["enum"] = slices.Sorted(maps.Keys(c.Steps))
	}
	return defs
}

// errProbe ends the making of something of which only the keys are asked.
var errProbe = errors.New("only the keys are asked for")

// schemaOptions returns the kinds that definitions can name.
func (c *Config) schemaOptions() define.SchemaOptions {
	// A kind tells what keys it has by what it wants to have filled.
	probe := func(to map[string]reflect.Type, name string, make func(decode func(any) error)) {
		make(func(options any) error {
			if t := reflect.TypeOf(options); t != nil && t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
				to[name] = t.Elem()
			}
			return errProbe
		})
	}
	connections, formats, listeners := map[string]reflect.Type{}, map[string]reflect.Type{}, map[string]reflect.Type{}
	for name, kind := range c.connectors() {
		probe(connections, name, func(decode func(any) error) { kind.New(connector.Env{Name: name, Now: time.Now}, decode) })
	}
	for name, kind := range c.formats() {
		probe(formats, name, func(decode func(any) error) { kind.New(decode) })
	}
	for _, kind := range c.Listeners {
		probe(listeners, kind.Name, func(decode func(any) error) {
			kind.New(listener.Env{Name: kind.Name, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}, decode)
		})
	}
	as := map[string]any{"as": map[string]any{"enum": []string{"array", "object", "lines"}, "description": "writing: how records become a document"}}
	return define.SchemaOptions{Kinds: map[reflect.Type]define.SchemaKinds{
		reflect.TypeFor[connector.Definition](): {Options: connections, Required: true},
		reflect.TypeFor[transform.FormatRef]():  {Options: formats, Required: true, Others: true, Extra: as},
		reflect.TypeFor[listener.Definition]():  {Options: listeners},
	}}
}
