package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing/fstest"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/transform"
)

type convertCommand struct {
	In      string `arg:"" help:"File to read; - is standard input."`
	Out     string `arg:"" help:"File to write, in one go when all of it is there; - is standard output."`
	From    string `placeholder:"FORMAT" help:"Format of IN, by name or with options as in definitions: '{type: csv, delimiter: \";\"}'. Unless told, the name of IN says."`
	To      string `placeholder:"FORMAT" help:"Format of OUT, likewise."`
	Records string `placeholder:"PATH" help:"Where in a document the records are, such as orders[*] or /orders/order."`
	Filter  string `placeholder:"EXPR" help:"Only the records for which the expression is true."`
	Map     string `placeholder:"MAP" help:"The fields of OUT, as the step map has them: '{id: id, total: \"= qty * price\"}', or @FILE. It comes after --filter."`
	Unpack  string `placeholder:"NAME" help:"How IN is packed: gzip, zstd or none. Unless told, the name of IN says: .gz, .zst."`
	Pack    string `placeholder:"NAME" help:"How OUT is to be packed, likewise."`
	Rejects string `placeholder:"FILE" help:"Where rejected records go, as lines of JSON: their fields with _record, _line, _step, _field, _reason."`
}

func (convertCommand) Help() string {
	return `Names tell formats by their ends: .json, .ndjson or .jsonl, .csv, .tsv, .xml, with .gz or .zst behind it; of form and of fixed, which needs its columns, --from and --to tell. A JSON
document that is a list is its elements, any other document one record, unless --records says where its records are.

Records that cannot be read, or do not fit OUT, are rejected: they go to --rejects, the first of them to standard error, and the others are converted.
OUT and --rejects are written under other names, synced and renamed: files that were there stay until then, and whatever ends the conversion early
leaves nothing. Standard output gets what is done as it is done.

Exit codes: 0 success; 1 nothing was written, because IN cannot be read or OUT not be written; 2 wrong usage, format, expression or map; 3 OUT is
complete but for rejected records.

Example:

    integrator convert orders.csv orders.ndjson --filter "qty > 0" --map '{id: id, total: "= qty * price"}'`
}

func (c *convertCommand) Run(ctx context.Context) error {
	from, unpack, err := formOf("--from", c.From, "--unpack", c.Unpack, c.In)
	if err != nil {
		return err
	}
	to, pack, err := formOf("--to", c.To, "--pack", c.Pack, c.Out)
	if err != nil {
		return err
	}
	v := &conversion{paths: map[string]string{"out": c.Out, "rejects": c.Rejects}, pack: pack}
	if v.in, err = openInput(ctx, c.In, unpack); err != nil {
		return err
	}
	defer v.in.Close()
	records := c.Records
	if records == "" && from == "json" && v.in.isList() {
		records = "[*]"
	}
	s, err := c.script(from, to, records)
	if err != nil {
		return err
	}
	engine, err := integrator.New(integrator.Config{Store: newSpillStore(), Logger: slog.New(slog.DiscardHandler), Env: environment, Connectors: []connector.Kind{v.kind()},
		Definitions: fstest.MapFS{scriptName: {Data: s.text.Bytes()}}, Limits: integrator.Limits{DrainTimeout: time.Nanosecond}})
	if err != nil {
		return s.inArguments(err)
	}
	if c.Out == "-" {
		signal.Ignore(syscall.SIGPIPE) // a reader that leaves is an error of the write
	}
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	var result *integrator.Result
	select {
	case <-engine.Ready():
		v.in.meter = startMeter(os.Stderr, c.In, nil, v.in.size)
		result, err = engine.RunFlow(ctx, scriptFlow, nil)
		v.in.meter.stop()
	case err = <-ended:
		ended <- nil
	}
	engine.Close()
	err = errors.Join(err, <-ended)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: nothing was written")
	case err != nil:
		return err
	}
	return c.show(result)
}

// show tells how the conversion ended and returns the error that the exit code comes from.
func (c *convertCommand) show(result *integrator.Result) error {
	for _, path := range result.Missed {
		fmt.Fprintf(os.Stderr, "integrator: warning: no record has %s\n", oneLine(path))
	}
	if err := result.Err; err != nil {
		var syntax *transform.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("%s:%d:%d: %s", c.In, syntax.Line, syntax.Column, syntax.Reason)
		}
		if f := (*flow.Failure)(nil); errors.As(err, &f) {
			err = f.Err
		}
		return err
	}
	if result.Rejected == 0 && c.Rejects != "" { // what is there is of another conversion
		if err := writeEmpty(c.Rejects); err != nil {
			return err
		}
	}
	if result.Rejected > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d read, %d written, %d rejected\n", c.In, result.Read, result.Written, result.Rejected)
		showRejects(result.Rejects, result.Rejected)
		return errRejected
	}
	return nil
}

// formats are what the ends of names say of files.
var formats = map[string]string{".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".tsv": `{type: csv, delimiter: "\t"}`, ".xml": "xml"}

// formOf returns the format of a file, as definitions write it, and how it is packed: as arguments say, or the file's name.
func formOf(formatFlag, format, packFlag, pack, path string) (string, *file.Compression, error) {
	packed, err := file.Choose(append(compressions(), file.Gzip()), pack, path)
	if err != nil {
		return "", nil, usagef("%s: %w", packFlag, err)
	}
	name := strings.ToLower(path)
	if packed != nil {
		name = strings.TrimSuffix(name, packed.Extension)
	}
	if format == "" {
		if format = formats[filepath.Ext(name)]; format == "" {
			return "", nil, usagef("%s: which format is it? its name does not tell: write %s csv, or json, ndjson, xml, form or fixed with its columns", path, formatFlag)
		}
	}
	return format, packed, nil
}

// script is the definition of a conversion. Parts of it are arguments of the command: faults in them are told at their places there.
type script struct {
	text  bytes.Buffer
	lines int
	parts []part
}

// part is where an argument stands in a script.
type part struct {
	name        string // of the argument or its file
	first, last int    // lines
	inset       int    // characters before it in each line
}

const (
	scriptName = "convert.yaml"
	scriptFlow = "convert"
)

// script returns the definition of the conversion: one flow on one connection.
func (c *convertCommand) script(from, to, records string) (*script, error) {
	s := &script{}
	s.line("connections: {files: {type: files}}")
	s.line("flows:")
	s.line("  " + scriptFlow + ":")
	s.line("    from:")
	s.line("      connection: files")
	s.line("      path: in")
	s.yaml("--from", "      ", "format:", from)
	if records != "" {
		s.quoted("--records", "      records: ", records)
	}
	if c.Filter != "" || c.Map != "" {
		s.line("    steps:")
	}
	if c.Filter != "" {
		s.quoted("--filter", "      - filter: ", c.Filter)
	}
	if c.Map != "" {
		name, text := "--map", c.Map
		if path, ok := strings.CutPrefix(text, "@"); ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, usagef("--map: %w", err)
			}
			name, text = path, string(b)
		}
		s.yaml(name, "      ", "- map:", text)
	}
	s.line("    to:")
	s.line("      connection: files")
	s.line("      path: out")
	s.yaml("--to", "      ", "format:", to)
	s.line("    on_reject:")
	s.line("      action: keep")
	if c.Rejects != "" {
		s.line("      to: {connection: files, path: rejects, format: ndjson}")
	}
	return s, nil
}

func (s *script) line(text string) {
	s.text.WriteString(text + "\n")
	s.lines++
}

// yaml adds a key with an argument that is YAML. It stands further in than the key, so that it can be nothing but its value.
func (s *script) yaml(name, indent, key, text string) {
	const further = "      "
	s.line(indent + key)
	first := s.lines + 1
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		s.line(indent + further + strings.TrimRight(line, "\r\n"))
	}
	s.parts = append(s.parts, part{name, first, s.lines, len(indent + further)})
}

// quoted adds a key with an argument that is text.
func (s *script) quoted(name, key, text string) {
	quoted, _ := json.Marshal(text) // text has a JSON form, which YAML reads
	s.line(key + string(quoted))
	s.parts = append(s.parts, part{name, s.lines, s.lines, len(key) + 1})
}

// inArguments returns an error whose faults are placed in the arguments.
func (s *script) inArguments(err error) error {
	var faults integrator.Faults
	if !errors.As(err, &faults) {
		return err
	}
	for i := range faults {
		f := &faults[i]
		f.Path = ""
		at := slices.IndexFunc(s.parts, func(p part) bool { return f.Line <= p.last })
		if at < 0 {
			at = len(s.parts) - 1
		}
		p := s.parts[at]
		f.File, f.Line, f.Column = p.name, max(f.Line-p.first, 0)+1, max(f.Column-p.inset, 1)
	}
	return faults
}
