package file_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/connectortest"
	"github.com/integrator-go/integrator/connector/file"
	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/transformtest"
)

// TestPackedConnection writes packed files, as the connection says or their names.
func TestPackedConnection(t *testing.T) {
	for _, name := range []string{"by connection", "by name"} {
		t.Run(name, func(t *testing.T) {
			h, definition := harness(), `{"dir": "a/b", "compression": "gzip"}`
			if name == "by name" {
				definition = `{"dir": "a/b"}`
				path := h.Path
				h.Target.Path += ".gz"
				h.Path = func(run connector.Run) string { return path(run) + ".GZ" }
			}
			h.New = func(t *testing.T) connectortest.System {
				base := t.TempDir()
				return connectortest.System{
					Connect: func() connector.Connection { return connect(t, base, definition) },
					Written: func(t *testing.T) []transform.Value {
						var list []transform.Value
						for name, text := range tree(t, filepath.Join(base, "a", "b")) {
							plain, err := gzip.NewReader(strings.NewReader(text))
							if err != nil {
								t.Fatalf("%s: %v", name, err)
							}
							records, err := transformtest.Decode(lines, plain, transform.DecodeOptions{})
							if err != nil {
								t.Errorf("%s: %v", name, err)
							}
							for _, r := range records {
								list = append(list, r.Value)
							}
						}
						return list
					},
				}
			}
			connectortest.Run(t, h)
		})
	}
}

// packed returns text as gzip.
func packed(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	must(io.WriteString(w, text))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestReadPacked reads packed files, whole ones and others.
func TestReadPacked(t *testing.T) {
	t.Parallel()
	base, text := t.TempDir(), strings.Repeat(`{"a":1}`+"\n", 10_000)
	for name, content := range map[string][]byte{"whole.gz": packed(text), "two.gz": append(packed(text), packed(text)...), "cut.gz": packed(text)[:100], "empty.gz": {},
		"plain.gz": []byte(text), "behind.gz": append(packed(text), "x"...), "flipped.gz": append(packed(text)[:60], packed(text)[61:]...)} {
		if err := os.WriteFile(filepath.Join(base, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(definition, path string) (n int, err error) {
		reader, err := connect(t, base, definition).(connector.Source).PrepareRead(connector.ReadSpec{Path: path, Format: lines})
		if err != nil {
			t.Fatal(err)
		}
		records, err := reader.Open(t.Context(), connector.ReadRequest{})
		if err != nil {
			return 0, err
		}
		defer records.Close()
		for {
			var b transform.Batch
			if err := records.Decode(&b); err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
			n += len(b.Records)
		}
	}
	for _, c := range []struct {
		definition, path string
		records          int
		fault            string
	}{
		{`{"dir": "."}`, "whole.gz", 10_000, ""},
		{`{"dir": "."}`, "two.gz", 20_000, ""},
		{`{"dir": ".", "compression": "none"}`, "plain.gz", 10_000, ""},
		{`{"dir": "."}`, "cut.gz", 0, "gzip: the data ends early"},
		{`{"dir": "."}`, "empty.gz", 0, "gzip: the data ends early"},
		{`{"dir": "."}`, "plain.gz", 0, "gzip: the data is damaged"},
		{`{"dir": "."}`, "behind.gz", 0, "gzip: the data"},
		{`{"dir": "."}`, "flipped.gz", 0, "gzip: the data"},
	} {
		n, err := read(c.definition, c.path)
		var fault *transform.Fault
		switch {
		case c.fault == "" && (err != nil || n != c.records):
			t.Errorf("%s with %s: %d records, %v", c.path, c.definition, n, err)
		case c.fault != "" && (!errors.As(err, &fault) || fault.Kind != "input" || !strings.Contains(fault.Reason, c.fault)):
			t.Errorf("%s with %s: %v, want a fault of the input: %s", c.path, c.definition, err, c.fault)
		}
	}
}

// TestPackedPayload puts payloads as they are into files that a name calls packed.
func TestPackedPayload(t *testing.T) {
	t.Parallel()
	for definition, unpack := range map[string]bool{`{"dir": "."}`: false, `{"dir": ".", "compression": "gzip"}`: true} {
		base := t.TempDir()
		writer, err := connect(t, base, definition).(connector.Destination).PrepareWrite([]connector.Target{{Path: "a.gz", Format: lines, Raw: true}})
		if err != nil {
			t.Fatal(err)
		}
		work, err := writer.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := work.Start(connector.Run{ID: uuid.New(), Number: 1}, []string{"a.gz"}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(work.Write(0, &transform.Batch{Records: []transform.Record{{Value: transform.Int(7)}}}), work.Commit()); err != nil {
			t.Fatal(err)
		}
		content := must(os.ReadFile(filepath.Join(base, "a.gz")))
		if unpack {
			content = must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(content)))))
		}
		if string(content) != "7\n" {
			t.Errorf("%s: the file holds %q", definition, content)
		}
	}
}

func TestPackedIsNotAppendedTo(t *testing.T) {
	t.Parallel()
	target := connector.Target{Path: "a.ndjson.gz", Format: lines, Exists: "append"}
	_, err := connect(t, t.TempDir(), `{"dir": "."}`).(connector.Destination).PrepareWrite([]connector.Target{target})
	var fault *connector.Fault
	if !errors.As(err, &fault) || fault.Key != "exists" {
		t.Errorf("appending to a packed file: %v", err)
	}
	target.Path = "${param.name}"
	work := must(must(connect(t, t.TempDir(), `{"dir": "."}`).(connector.Destination).PrepareWrite([]connector.Target{target})).Begin(t.Context()))
	if _, err := work.Start(connector.Run{ID: uuid.New()}, []string{"a.ndjson.gz"}); !connector.IsPermanent(err) {
		t.Errorf("appending to a file that a value calls packed: %v", err)
	}
	if err := work.Rollback(); err != nil {
		t.Error(err)
	}
	if _, err := file.Kind().New(connector.Env{}, func(o any) error { return json.Unmarshal([]byte(`{"dir": ".", "compression": "zip"}`), o) }); !errors.As(err, &fault) || fault.Key != "compression" {
		t.Errorf("a compression that there is not: %v", err)
	}
}
