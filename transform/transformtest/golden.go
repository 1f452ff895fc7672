package transformtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/integrator-go/integrator/transform"
)

var update = flag.Bool("update", false, "write what the golden cases gave as what they want")

// A Case is one document and what becomes of it.
type Case struct {
	Name   string
	Format transform.Format
	Decode transform.DecodeOptions
	Encode transform.EncodeOptions
	In     []byte

	file *golden
	want *txtar.File
}

type golden struct {
	path    string
	archive *txtar.Archive
}

// Cases reads the golden cases of a format from the files that match pattern. A case is a file NAME/in of a txtar archive, or
// NAME/quoted when its bytes are written as a Go string, with NAME/want beside it, and NAME/options where it needs some:
//
//	{"format": {"delimiter": ";"}, "decode": {"records": "a[*]", "scope": true, "raw": true, "limits": {"depth": 3}}, "encode": {"as": "lines"}}
func Cases(t testing.TB, kind transform.FormatKind, pattern string) []Case {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden cases match %s (%v)", pattern, err)
	}
	var cases []Case
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g := &golden{path, archive}
		files := map[string]*txtar.File{}
		for i := range archive.Files {
			files[archive.Files[i].Name] = &archive.Files[i]
		}
		for _, f := range archive.Files {
			name, part, _ := strings.Cut(f.Name, "/")
			c := Case{Name: name, In: f.Data, file: g, want: files[name+"/want"]}
			switch part {
			case "in":
				c.In = bytes.TrimSuffix(f.Data, []byte("\n"))
			case "quoted":
				text, err := strconv.Unquote(strings.TrimSpace(string(f.Data)))
				if err != nil {
					t.Fatalf("%s: %s: %v", path, f.Name, err)
				}
				c.In = []byte(text)
			default:
				continue
			}
			if c.want == nil {
				t.Fatalf("%s: %s has no want", path, f.Name)
			}
			var options struct {
				Format json.RawMessage
				Decode transform.DecodeOptions
				Encode transform.EncodeOptions
			}
			if o := files[name+"/options"]; o != nil {
				if err := strict(o.Data, &options); err != nil {
					t.Fatalf("%s: %s: %v", path, o.Name, err)
				}
			}
			c.Decode, c.Encode = options.Decode, options.Encode
			c.Format, err = kind.New(func(v any) error {
				if options.Format == nil {
					return nil
				}
				return strict(options.Format, v)
			})
			if err != nil {
				t.Fatalf("%s: %s: %v", path, f.Name, err)
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Golden decodes every case and compares what came with what it wants: the records, then the fault if there is one, then the document
// that the encoder makes of the records when the case has encode options. Each document is also checked, and read a byte at a time,
// and must give the same.
func Golden(t *testing.T, kind transform.FormatKind, pattern string) {
	cases := Cases(t, kind, pattern)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got := c.play(t)
			if *update {
				c.want.Data = []byte(got)
			} else if diff := cmp.Diff(string(c.want.Data), got); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", c.file.path, c.Name, diff)
			}
		})
	}
	if *update {
		for _, c := range cases {
			if err := os.WriteFile(c.file.path, txtar.Format(c.file.archive), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

func (c Case) play(t *testing.T) string {
	t.Helper()
	c.Decode.Reopen = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.In)), nil }
	records, err := Decode(c.Format, bytes.NewReader(c.In), c.Decode)
	var b strings.Builder
	for _, r := range records {
		b.WriteString(ShowRecord(r) + "\n")
	}
	fault := showFault(err)
	b.WriteString(fault)
	if check := showFault(c.Format.Check(bytes.NewReader(c.In), c.Decode)); check != fault {
		t.Errorf("Check says %q and Decode says %q", check, fault)
	}
	slow, err := Decode(c.Format, iotest.OneByteReader(bytes.NewReader(c.In)), c.Decode)
	if got := showFault(err); got != fault {
		t.Errorf("read a byte at a time the fault is %q, at once %q", got, fault)
	}
	if diff := cmp.Diff(showAll(records), showAll(slow)); diff != "" {
		t.Errorf("read a byte at a time the records are others (-at once +byte by byte):\n%s", diff)
	}
	if c.Encode.As != "" || c.Encode.Columns != nil {
		text, rejected, err := Encode(c.Format, records, c.Encode)
		if strings.ContainsAny(text, "\r\x00") || !utf8.ValidString(text) || text != "" && !strings.HasSuffix(text, "\n") { // which editors and version control change
			text = strconv.Quote(text) + "\n"
		}
		b.WriteString("encoded:\n" + text)
		for _, r := range rejected {
			fmt.Fprintf(&b, "\trejected %d: %v\n", r.Index, r.Err)
		}
		b.WriteString(showFault(err))
	}
	return b.String()
}

func showAll(records []transform.Record) []string {
	var lines []string
	for _, r := range records {
		lines = append(lines, ShowRecord(r))
	}
	return lines
}

func showFault(err error) string {
	var syntax *transform.SyntaxError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &syntax):
		return fmt.Sprintf("fault at byte %d: %v\n", syntax.Offset, err)
	}
	return fmt.Sprintf("error: %v\n", err)
}

// Decode reads all records of a document.
func Decode(f transform.Format, r io.Reader, o transform.DecodeOptions) ([]transform.Record, error) {
	d, err := f.NewDecoder(r, o)
	if err != nil {
		return nil, err
	}
	var records []transform.Record
	for {
		var b transform.Batch
		switch err := d.Decode(&b); {
		case err == io.EOF && len(b.Records) == 0:
			return records, nil
		case err != nil:
			return records, err
		case len(b.Records) == 0:
			return records, errors.New("Decode returned neither records nor an error")
		}
		records = append(records, b.Records...)
	}
}

// Encode writes records as a document. It returns those that the format refused, too.
func Encode(f transform.Format, records []transform.Record, o transform.EncodeOptions) (text string, refused []transform.Record, err error) {
	var b bytes.Buffer
	e, err := f.NewEncoder(&b, o)
	if err != nil {
		return "", nil, err
	}
	batch := transform.Batch{Records: append([]transform.Record(nil), records...)}
	if err := e.Encode(&batch); err != nil {
		return b.String(), nil, err
	}
	for i, r := range batch.Records {
		if r.Err != nil && records[i].Err == nil {
			refused = append(refused, r)
		}
	}
	err = e.Close()
	return b.String(), refused, err
}
