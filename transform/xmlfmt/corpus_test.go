package xmlfmt_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/corpus"
	"github.com/integrator-go/integrator/transform/transformtest"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

// conformanceCase is a TEST of the W3C's list.
type conformanceCase struct {
	ID             string `xml:"ID,attr"`
	Type           string `xml:"TYPE,attr"`
	URI            string `xml:"URI,attr"`
	Output         string `xml:"OUTPUT,attr"`
	Recommendation string `xml:"RECOMMENDATION,attr"`
	Version        string `xml:"VERSION,attr"`
	Edition        string `xml:"EDITION,attr"`
	Namespace      string `xml:"NAMESPACE,attr"`
}

// conformanceCases reads the list: those of XML 1.0 (fifth edition) with namespaces.
func conformanceCases(t *testing.T, files fs.FS) []conformanceCase {
	list, err := files.Open("cleaned/xmlconf-flattened.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	var cases []conformanceCase
	base := []string{"xmlconf"}
	for d := xml.NewDecoder(list); ; {
		token, err := d.Token()
		if err == io.EOF {
			return cases
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			below := base[len(base)-1]
			for _, a := range token.Attr {
				if a.Name.Local == "base" {
					below = path.Join(below, a.Value)
				}
			}
			if base = append(base, below); token.Name.Local != "TEST" {
				continue
			}
			var c conformanceCase
			if err := d.DecodeElement(&c, &token); err != nil {
				t.Fatal(err)
			}
			base = base[:len(base)-1]
			if c.URI = path.Join(below, c.URI); c.Output != "" {
				c.Output = path.Join(below, c.Output)
			}
			if !strings.Contains(c.Recommendation+c.Version, "1.1") && (c.Edition == "" || strings.Contains(c.Edition, "5")) && c.Namespace != "no" {
				cases = append(cases, c)
			}
		case xml.EndElement:
			base = base[:len(base)-1]
		}
	}
}

// withoutDoctype returns a document without its DOCTYPE, and that.
func withoutDoctype(document []byte) (bare, doctype []byte) {
	for _, bom := range [][]byte{{0xFF, 0xFE}, {0xFE, 0xFF}} {
		if bytes.HasPrefix(document, bom) {
			utf16 := unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
			narrow, err := utf16.NewDecoder().Bytes(document)
			if err != nil {
				return document, nil
			}
			narrow, doctype = withoutDoctype(narrow)
			wide, err := utf16.NewEncoder().Bytes(narrow)
			if err != nil {
				return document, nil
			}
			return wide, doctype
		}
	}
	begins := prolog.FindIndex(document)
	if begins == nil {
		return document, nil
	}
	from, at := begins[1]-len("<!DOCTYPE"), begins[1]
	for inside := false; at < len(document); {
		rest := document[at:]
		switch skip := skipped.FindIndex(rest); {
		case skip != nil:
			at += skip[1]
		case rest[0] == '>' && !inside:
			return append(bytes.Clone(document[:from]), rest[1:]...), document[from : at+1]
		default:
			if rest[0] == '[' {
				inside = true
			} else if rest[0] == ']' {
				inside = false
			}
			at++
		}
	}
	return document, nil
}

var (
	prolog  = regexp.MustCompile(`(?s)\A\x{FEFF}?(?:\s|<\?.*?\?>|<!--.*?-->)*<!DOCTYPE`)
	skipped = regexp.MustCompile(`(?s)\A(?:<!--.*?-->|<\?.*?\?>|"[^"]*"|'[^']*')`)
	entity  = regexp.MustCompile(`&(?:[^#;&<\s][^;&<\s]*);`)
	five    = regexp.MustCompile(`&(?:lt|gt|amp|quot|apos);`)

	// declares finds declarations that change what a document says, or that stand elsewhere.
	declares = regexp.MustCompile(`<!ATTLIST|SYSTEM|PUBLIC`)
)

// TestConformanceSuite holds the format to the W3C's suite. What is not well-formed is refused, also without the DOCTYPE that it has been refused for
// already where the fault is not in there: testdata/conformance.txt lists those. What is well-formed is accepted without its DOCTYPE, unless it refers
// to an entity, and has the content that the suite says.
func TestConformanceSuite(t *testing.T) {
	t.Parallel()
	files := corpus.XML.Open(t)
	f := format(t, xmlfmt.Options{})
	read := func(name string) []byte {
		document, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	refusal := func(document []byte) string {
		err := f.Check(bytes.NewReader(document), transform.DecodeOptions{})
		var fault *transform.SyntaxError
		if err != nil && !errors.As(err, &fault) {
			t.Error(err)
		}
		if fault == nil {
			return ""
		}
		return fault.Reason
	}
	count := map[string]int{}
	var outside []string
	for _, c := range conformanceCases(t, files) {
		document := read(c.URI)
		bare, doctype := withoutDoctype(document)
		for _, text := range [][]byte{document, bare} {
			if len(text) > 4<<10 { // a byte at a time takes long
				continue
			}
			if err := (&transformtest.Harness{Format: f}).Agree(string(text), transform.DecodeOptions{}); err != nil {
				t.Errorf("%s: %v", c.URI, err)
			}
		}
		count[c.Type]++
		reason := refusal(bare)
		switch {
		case c.Type == "error": // which a processor may report, or not
			continue
		case c.Type == "not-wf":
			if refusal(document) == "" {
				t.Errorf("%s is not well-formed and accepted", c.URI)
			}
			if doctype != nil && reason != "" {
				outside = append(outside, c.ID)
			}
			continue
		case doctype != nil && !strings.Contains(refusal(document), "a DOCTYPE is refused"):
			t.Errorf("%s is accepted, or refused for %s", c.URI, refusal(document))
		case entity.Match(five.ReplaceAll(bare, nil)): // in a CDATA section it is text
			if count["with entities"]++; reason != "" && !strings.Contains(reason, "entity") {
				t.Errorf("%s is refused, and not for its entity: %s", c.URI, reason)
			}
			continue
		case reason != "":
			t.Errorf("%s is well-formed and refused: %s", c.URI, reason)
			continue
		}
		if c.Output == "" || declares.Match(doctype) {
			continue
		}
		count["compared"]++
		want, _ := withoutDoctype(read(c.Output))
		if got, want := content(t, f, bare), content(t, f, want); got != want {
			t.Errorf("%s is %s, and should be %s", c.URI, got, want)
		}
	}
	if diff := cmp.Diff(map[string]int{"valid": 721, "invalid": 227, "not-wf": 1017, "error": 27, "with entities": 83, "compared": 111}, count); diff != "" {
		t.Errorf("its documents are other ones (-want +got):\n%s", diff)
	}
	const list = "testdata/conformance.txt"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(list, []byte(strings.Join(outside, "\n")+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	want, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(string(want)), outside); diff != "" {
		t.Errorf("refused without their DOCTYPE (-want +got):\n%s", diff)
	}
}

// content is what a document that is well-formed says.
func content(t *testing.T, f transform.Format, document []byte) string {
	t.Helper()
	records, err := transformtest.Decode(f, bytes.NewReader(document), transform.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return transformtest.Show(records[0].Value)
}
