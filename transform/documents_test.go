package transform_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/csvfmt"
	"github.com/integrator-go/integrator/transform/jsonfmt"
	"github.com/integrator-go/integrator/transform/xmlfmt"
)

// document is the records of the benchmarks in one format.
type document struct {
	format transform.Format
	decode transform.DecodeOptions
	text   []byte
	read   func(io.Reader) error // as one does it with the standard library, or with the tokenizer that will be in it
}

// documents returns some 2 MB of records of ten fields in each format.
func documents(b testing.TB) map[string]*document {
	must := func(f transform.Format, err error) transform.Format {
		if err != nil {
			b.Fatal(err)
		}
		return f
	}
	d := map[string]*document{
		"csv":    {format: must(csvfmt.New(csvfmt.Options{Columns: map[string]string{"id": "int", "qty": "int", "price": "decimal"}})), read: readCSV},
		"ndjson": {format: must(jsonfmt.NewLines(jsonfmt.Options{})), read: readJSON},
		"json":   {format: must(jsonfmt.New(jsonfmt.Options{})), decode: transform.DecodeOptions{Records: "[*]"}, read: readJSON},
		"xml":    {format: must(xmlfmt.New(xmlfmt.Options{})), decode: transform.DecodeOptions{Records: "/all/records/record"}, read: readXML},
	}
	d["csv"].text = []byte("id,name,city,country,qty,price,date,email,status,note\n")
	cities := []string{"Lisboa", "Köln", "San Francisco", "Aix-en-Provence", "東京", "Łódź", "Buenos Aires"}
	notes := []string{"as agreed", `"ring twice, then wait"`, "leave it at the door please", `"he said ""later"""`, "urgent", "\"two\nlines\""}
	for id := range 20_000 {
		d["csv"].text = fmt.Appendf(d["csv"].text, "%d,\"Customer, no. %d\",%s,%c%c,%d,%d.%02d,2026-%02d-%02d,c%d@shop.example,%s,%s\n", id, id*7919%100003, cities[id%len(cities)],
			'A'+id%26, 'A'+id/26%26, id%97+1, id*31%1000, id*17%100, id%12+1, id%28+1, id*7919%100003, []string{"open", "paid", "sent"}[id%3], notes[id*13%len(notes)])
	}
	for name, document := range d {
		if name != "csv" {
			var out bytes.Buffer
			encoder, err := document.format.NewEncoder(&out, transform.EncodeOptions{})
			if err != nil {
				b.Fatal(err)
			}
			each(b, d["csv"], true, func(batch *transform.Batch) error { return encoder.Encode(batch) })
			encoder.Close()
			document.text = out.Bytes()
			if name == "xml" { // several lists, so that elements around them begin in the middle of the document
				parts := bytes.SplitAfter(out.Bytes(), []byte("</record>"))
				document.text = []byte("<all>")
				for i, part := range parts {
					if i > 0 && i%3000 == 0 && i < len(parts)-1 {
						document.text = append(document.text, "</records><records>"...)
					}
					document.text = append(document.text, bytes.TrimPrefix(part, []byte(`<?xml version="1.0" encoding="UTF-8"?>`))...)
				}
				document.text = append(document.text, "</all>"...)
			}
		}
	}
	return d
}

// each decodes a document, and recycles its batches if that is asked for.
func each(b testing.TB, d *document, recycle bool, f func(*transform.Batch) error) {
	decoder, err := d.format.NewDecoder(bytes.NewReader(d.text), d.decode)
	if err != nil {
		b.Fatal(err)
	}
	for batch := new(transform.Batch); ; {
		if err := decoder.Decode(batch); err == io.EOF {
			return
		} else if err != nil {
			b.Fatal(err)
		}
		if err := f(batch); err != nil {
			b.Fatal(err)
		}
		if recycle {
			batch.Recycle()
		} else {
			batch = new(transform.Batch)
		}
	}
}

// TestMemoryOfLargeDocuments decodes documents of many times the window's size into batches by turns, as a run does: each is looked at when others
// have been decoded behind it, in the memory of those before it.
func TestMemoryOfLargeDocuments(t *testing.T) {
	t.Parallel()
	for name, d := range documents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hash := func(most int, recycle bool) string {
				sum := sha256.New()
				decoder, err := d.format.NewDecoder(&pieces{bytes.NewReader(d.text), most}, d.decode)
				if err != nil {
					t.Fatal(err)
				}
				var batches [7]transform.Batch
				var text []byte
				for i, left := 0, len(batches); ; i++ {
					b := &batches[i%len(batches)]
					for k := range b.Records {
						var unfit error
						if text, unfit = jsonfmt.Append(text[:0], b.Records[k].Value); unfit != nil {
							t.Fatal(unfit)
						}
						sum.Write(text)
					}
					if recycle {
						b.Recycle()
					} else {
						*b = transform.Batch{}
					}
					if err == nil {
						err = decoder.Decode(b)
					}
					if err != nil && err != io.EOF {
						t.Fatal(err)
					}
					if err != nil {
						left--
					}
					if left < 0 {
						return fmt.Sprintf("%x", sum.Sum(nil))
					}
				}
			}
			want := hash(1<<20, false)
			for _, most := range []int{1 << 20, 50_000, 3_000, 100} {
				if got := hash(most, true); got != want {
					t.Errorf("read %d bytes at a time the records are others", most)
				}
			}
		})
	}
}

// pieces reads at most so many bytes at a time.
type pieces struct {
	r    io.Reader
	most int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.most)]) }

func readCSV(r io.Reader) error {
	reader := csv.NewReader(r)
	reader.ReuseRecord = true
	for {
		if _, err := reader.Read(); err != nil {
			return err
		}
	}
}

func readJSON(r io.Reader) error {
	reader := jsontext.NewDecoder(r)
	for {
		if _, err := reader.ReadToken(); err != nil {
			return err
		}
	}
}

func readXML(r io.Reader) error {
	reader := xml.NewDecoder(r)
	for {
		if _, err := reader.RawToken(); err != nil {
			return err
		}
	}
}

// BenchmarkReference reads the documents of BenchmarkDecode with other libraries, and copies one.
func BenchmarkReference(b *testing.B) {
	for name, d := range documents(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(d.text)))
			for b.Loop() {
				if err := d.read(bytes.NewReader(d.text)); err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("copy", func(b *testing.B) {
		d := documents(b)["csv"]
		to := make([]byte, len(d.text))
		b.SetBytes(int64(len(d.text)))
		for b.Loop() {
			copy(to, d.text)
		}
	})
}

// BenchmarkDecode decodes into batches that are used again, and into new ones.
func BenchmarkDecode(b *testing.B) {
	for name, d := range documents(b) {
		for _, recycle := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s recycled %v", name, recycle), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(d.text)))
				for b.Loop() {
					each(b, d, recycle, func(*transform.Batch) error { return nil })
				}
			})
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, d := range documents(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(d.text)))
			for b.Loop() {
				if err := d.format.Check(bytes.NewReader(d.text), d.decode); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	all := documents(b)
	var batches []*transform.Batch
	each(b, all["csv"], false, func(batch *transform.Batch) error {
		batches = append(batches, batch)
		return nil
	})
	for name, d := range all {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(d.text)))
			for b.Loop() {
				encoder, err := d.format.NewEncoder(io.Discard, transform.EncodeOptions{})
				if err != nil {
					b.Fatal(err)
				}
				for _, batch := range batches {
					if err := encoder.Encode(batch); err != nil {
						b.Fatal(err)
					}
				}
				encoder.Close()
			}
		})
	}
}

// BenchmarkMap measures a map of ten fields in bytes of the CSV that its records come from.
func BenchmarkMap(b *testing.B) {
	d := documents(b)["csv"]
	for name, two := range map[string]string{"copies": `"total": "email", "state": "status"`, "two expressions": `"total": "= qty * price", "state": "= upper(status)"`} {
		m := mapping(b, `{"order": "id", "customer": "name", "city": "city", "country": "country", "quantity": "qty", "price": "price", "day": "date", "note": "note", `+two+`}`)
		step := transform.NewMap("map", m)
		var decoded, batch transform.Batch
		each(b, d, false, func(some *transform.Batch) error {
			decoded.Records = append(decoded.Records, some.Records...)
			return nil
		})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(d.text)))
			for b.Loop() {
				for some := range slices.Chunk(decoded.Records, 500) {
					batch.Recycle()
					batch.Records = append(batch.Records, some...)
					if err := step.Apply(b.Context(), &transform.Env{}, &batch); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
