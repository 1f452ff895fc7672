package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/store"
)

// conversion is a case that converts a file to another one.
type conversion struct {
	name         string
	in, out      string  // formats, as definitions and file names have them
	from         string  // format of the input with its options
	more         string  // steps
	table        string  // how DuckDB reads the input; "": it cannot
	columns      string  // what DuckDB makes of it
	to           string  // how DuckDB writes the output
	other        string  // role of a loop with the standard library
	with         string  // what that is
	duck, beside float64 // least ratios to DuckDB and to the loop; 0: none
}

var (
	csvToLines = conversion{name: "p4", in: "csv", out: "ndjson", from: "{type: csv, columns: {id: int, qty: int, price: decimal}}", more: `
    steps:
      - map:
          order: id
          customer: name
          city: city
          country: country
          quantity: qty
          price: price
          total: "= qty * price"
          day: date
          state: "= upper(status)"
          note: note`,
		table: `read_csv('in.csv', header = true, columns = {id: 'bigint', name: 'varchar', city: 'varchar', country: 'varchar', qty: 'bigint',
			price: 'decimal(12,2)', date: 'varchar', email: 'varchar', status: 'varchar', note: 'varchar'})`,
		columns: `id as "order", name as customer, city, country, qty as quantity, price, qty * price as total, "date" as day, upper(status) as state, note`,
		to:      "format json", other: "convert-csv", with: "encoding/csv and maps", duck: 3}
	linesToCSV = conversion{name: "p5", in: "ndjson", out: "csv", from: "ndjson",
		table: `read_json('in.ndjson', format = 'newline_delimited', columns = {id: 'bigint', name: 'varchar', city: 'varchar', country: 'varchar', qty: 'bigint',
			price: 'decimal(12,2)', date: 'varchar', email: 'varchar', status: 'varchar', note: 'varchar'})`,
		columns: "*", to: "format csv, header", other: "convert-ndjson", with: "encoding/json and maps", duck: 1}
	xmlToLines = conversion{name: "p6", in: "xml", out: "ndjson", from: "{type: xml, records: /orders/order}", other: "convert-xml", with: "encoding/xml", beside: 6}
)

// flow is the definition of the conversion.
func (v *conversion) flow() string {
	return fmt.Sprintf(`
connections:
  here: {type: file, dir: files}
flows:
  convert:
    from: {connection: here, path: in.%s, format: %s}%s
    to: {connection: here, path: out.%s, format: %s}
`, v.in, v.from, v.more, v.out, v.out)
}

// converted is what a conversion reports.
type converted struct {
	Seconds float64
	Peak    float64 // MiB
	Records int64
}

// converter converts the file in of the folder files of a folder to another one there, in a process of its own.
type converter struct {
	name, out string
	start     func(dir string) (*process, error)
}

func (v converter) run(dir string) (r converted, processor float64, err error) {
	p, err := v.start(dir)
	if err != nil {
		return r, 0, err
	}
	if err := p.read(&r); err != nil {
		return r, 0, err
	}
	processor = p.processor()
	return r, processor, p.stop()
}

const mega = 1e6

// convert measures the conversion of files. Starting the processes does not count, but for their processor time.
func (v *conversion) convert(c *config) error {
	converters := []converter{
		{"engine", "out." + v.out, func(dir string) (*process, error) { return c.start("convert-engine", dir) }},
		{v.with, "loop." + v.out, func(dir string) (*process, error) { return c.start(v.other, dir) }},
	}
	switch {
	case v.table == "":
	case c.duckdb == "":
		row("DuckDB", "left out: -duckdb says where it is")
	default:
		script := filepath.Join(c.dir, "duckdb.cjs")
		if err := write(script, duckdbScript); err != nil {
			return err
		}
		modules, err := filepath.Abs(c.duckdb)
		if err != nil {
			return err
		}
		converters = append(converters, converter{"DuckDB, 2 threads", "duckdb." + v.out, func(dir string) (*process, error) {
			query := fmt.Sprintf("copy (select %s from %s) to 'duckdb.%s' (%s)", v.columns, v.table, v.out, v.to)
			command := exec.Command("node", script, modules, query)
			command.Dir = filepath.Join(dir, "files")
			return startCommand(command)
		}})
	}
	small, middle := filepath.Join(c.dir, v.name+"-small"), filepath.Join(c.dir, v.name)
	for dir, size := range map[string]int64{small: 10 * mega, middle: 64 * mega} {
		if err := v.prepare(dir, size); err != nil {
			return err
		}
	}
	defer os.RemoveAll(middle)
	same := ""
	for _, one := range converters {
		r, _, err := one.run(small)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		content, err := contentOf(filepath.Join(small, "files", one.out))
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		if same == "" {
			same = content
		}
		if content != same {
			return fmt.Errorf("%s made %s and the engine %s", one.name, content, same)
		}
		if one.name == "engine" {
			judge("peak memory at 10 MB, engine", figures{r.Peak}, "MiB", atMost(48))
		} else {
			row("peak memory at 10 MB, "+one.name, fmt.Sprintf("%10.0f MiB", r.Peak))
		}
	}
	row("records at 10 MB", "all converters made the same: "+strings.Split(same, ",")[0])

	var sides []side
	processors := make([]figures, len(converters)+1)
	for i, one := range append(slices.Clone(converters), converters[0]) {
		sides = append(sides, side{one.name, func() (float64, error) {
			r, processor, err := one.run(middle)
			processors[i] = append(processors[i], processor)
			return 64 / r.Seconds, err
		}})
	}
	all, err := alternate(c.rounds, sides...)
	if err != nil {
		return err
	}
	for i, one := range converters {
		tell(one.name, all[i], "MB/s")
		tell("  its processor time", processors[i][1:], "s")
	}
	engine := mean(all[0], all[len(all)-1])
	compare := func(what string, reference figures, least float64) {
		if least > 0 {
			judge("engine / "+what, engine.over(reference), "", atLeast(least))
		} else {
			tell("engine / "+what, engine.over(reference), "")
		}
	}
	compare(v.with, all[1], v.beside)
	if len(converters) > 2 {
		compare("DuckDB", all[2], v.duck)
	}
	tell("control: engine / engine", all[len(all)-1].over(all[0]), "")
	if !c.large {
		return nil
	}
	large := filepath.Join(c.dir, v.name+"-large")
	defer os.RemoveAll(large)
	if err := v.prepare(large, 2000*mega); err != nil {
		return err
	}
	r, _, err := converters[0].run(large)
	if err != nil {
		return err
	}
	judge("peak memory at 2 GB, engine", figures{r.Peak}, "MiB", atMost(48))
	row("records at 2 GB", fmt.Sprintf("%10d in %.0f s", r.Records, r.Seconds))
	return nil
}

// order is a record of the files.
type order struct {
	ID      int             `json:"id" xml:"id,attr"`
	Name    string          `json:"name" xml:"name"`
	City    string          `json:"city" xml:"city"`
	Country string          `json:"country" xml:"country"`
	Qty     int             `json:"qty" xml:"qty"`
	Price   json.RawMessage `json:"price" xml:"price"`
	Date    string          `json:"date" xml:"date"`
	Email   string          `json:"email" xml:"email"`
	Status  string          `json:"status" xml:"status"`
	Note    string          `json:"note" xml:"note"`
}

var (
	cities = []string{"Lisboa", "Köln", "San Francisco", "Aix-en-Provence", "東京", "Łódź", "Buenos Aires"}
	notes  = []string{"as agreed", "ring twice, then wait", "leave it at the door please", `he said "later"`, "urgent", "two\nlines"}
)

func orderOf(id int) order {
	return order{ID: id, Name: fmt.Sprintf("Customer, no. %d", id*7919%100003), City: cities[id%len(cities)], Country: string([]byte{'A' + byte(id%26), 'A' + byte(id/26%26)}), Qty: id%97 + 1,
		Price: fmt.Appendf(nil, "%d.%02d", id*31%1000, id*17%100), Date: fmt.Sprintf("2026-%02d-%02d", id%12+1, id%28+1), Email: fmt.Sprintf("c%d@shop.example", id*7919%100003),
		Status: []string{"open", "paid", "sent"}[id%3], Note: notes[id*13%len(notes)]}
}

// appendTo writes the record in a format.
func (o *order) appendTo(b []byte, format string) ([]byte, error) {
	switch format {
	case "csv":
		quoted := func(s string) string {
			if strings.ContainsAny(s, "\",\n") {
				return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
			}
			return s
		}
		return fmt.Appendf(b, "%d,%s,%s,%s,%d,%s,%s,%s,%s,%s\n", o.ID, quoted(o.Name), o.City, o.Country, o.Qty, o.Price, o.Date, o.Email, o.Status, quoted(o.Note)), nil
	case "ndjson":
		text, err := json.Marshal(o)
		return append(append(b, text...), '\n'), err
	}
	text, err := xml.MarshalIndent(o, "  ", "  ")
	return append(append(b, text...), '\n'), err
}

// prepare makes a file of about a size, and the definitions that convert it.
func (v *conversion) prepare(dir string, size int64) error {
	if err := write(filepath.Join(dir, "flows", "flows.yaml"), []byte(v.flow())); err != nil {
		return err
	}
	path := filepath.Join(dir, "files", "in."+v.in)
	if err := write(path, nil); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	w.WriteString(map[string]string{"csv": "id,name,city,country,qty,price,date,email,status,note\n", "xml": "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<orders>\n"}[v.in])
	var text []byte
	for id, written := 0, int64(0); written < size; id++ {
		o := orderOf(id)
		if text, err = o.appendTo(text[:0], v.in); err != nil {
			return errors.Join(err, file.Close())
		}
		w.Write(text) // Flush tells of an error
		written += int64(len(text))
	}
	if v.in == "xml" {
		w.WriteString("</orders>\n")
	}
	return errors.Join(w.Flush(), file.Close())
}

// contentOf returns the number of a file's records with a hash of their fields; numbers count by what they are worth.
func contentOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var next func() (map[string]any, error)
	if filepath.Ext(path) == ".csv" {
		reader := csv.NewReader(bufio.NewReader(file))
		header, err := reader.Read()
		if err != nil {
			return "", err
		}
		next = func() (map[string]any, error) {
			cells, err := reader.Read()
			if err != nil {
				return nil, err
			}
			record := map[string]any{}
			for i, name := range header {
				record[name] = cells[i]
			}
			return record, nil
		}
	} else {
		decoder := json.NewDecoder(bufio.NewReader(file))
		next = func() (record map[string]any, err error) { return record, decoder.Decode(&record) }
	}
	n, hash := 0, sha256.New()
	for ; ; n++ {
		record, err := next()
		if err == io.EOF {
			return fmt.Sprintf("%d records, %x", n, hash.Sum(nil)), nil
		} else if err != nil {
			return "", err
		}
		for field, value := range record {
			if number, err := strconv.ParseFloat(fmt.Sprint(value), 64); err == nil {
				record[field] = strconv.FormatFloat(number, 'f', 2, 64)
			}
		}
		fmt.Fprintln(hash, record)
	}
}

func convertWithEngine(args []string, c *control) error {
	_, err := withEngine(args[0], integrator.Retention{}, func(ctx context.Context, engine *integrator.Engine, _ store.Store) error {
		began := time.Now()
		result, err := engine.RunFlow(ctx, "convert", nil)
		if err == nil {
			err = result.Err
		}
		if err != nil {
			return err
		}
		return c.report(converted{time.Since(began).Seconds(), memory(os.Getpid(), "VmHWM"), result.Written})
	})
	return err
}

// convertWith is a role that converts as one does it in Go with the standard library.
func convertWith(in, out string, loop func(r io.Reader, w *bufio.Writer) (records int64, err error)) func([]string, *control) error {
	return func(args []string, c *control) error {
		began := time.Now()
		from, err := os.Open(filepath.Join(args[0], "files", "in."+in))
		if err != nil {
			return err
		}
		defer from.Close()
		to, err := os.Create(filepath.Join(args[0], "files", "loop."+out))
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(to, 1<<16)
		records, err := loop(bufio.NewReaderSize(from, 1<<16), w)
		if err := errors.Join(err, w.Flush(), to.Sync(), to.Close()); err != nil {
			return err
		}
		return c.report(converted{time.Since(began).Seconds(), memory(os.Getpid(), "VmHWM"), records})
	}
}

func convertCSV(r io.Reader, w *bufio.Writer) (records int64, err error) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	reader := csv.NewReader(r)
	header, err := reader.Read()
	if err != nil {
		return 0, err
	}
	for ; ; records++ {
		cells, err := reader.Read()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return 0, err
		}
		record := map[string]string{}
		for i, name := range header {
			record[name] = cells[i]
		}
		id, err1 := strconv.Atoi(record["id"])
		qty, err2 := strconv.Atoi(record["qty"])
		price, err3 := strconv.ParseFloat(record["price"], 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return 0, err
		}
		err = encoder.Encode(map[string]any{"order": id, "customer": record["name"], "city": record["city"], "country": record["country"],
			"quantity": qty, "price": price, "total": float64(qty) * price, "day": record["date"], "state": strings.ToUpper(record["status"]), "note": record["note"]})
		if err != nil {
			return 0, err
		}
	}
}

func convertLines(r io.Reader, w *bufio.Writer) (records int64, err error) {
	names := []string{"id", "name", "city", "country", "qty", "price", "date", "email", "status", "note"}
	writer := csv.NewWriter(w)
	if err := writer.Write(names); err != nil {
		return 0, err
	}
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	cells := make([]string, len(names))
	for ; ; records++ {
		var record map[string]any
		if err := decoder.Decode(&record); err == io.EOF {
			break
		} else if err != nil {
			return 0, err
		}
		for i, name := range names {
			cells[i] = fmt.Sprint(record[name])
		}
		if err := writer.Write(cells); err != nil {
			return 0, err
		}
	}
	writer.Flush()
	return records, writer.Error()
}

// convertXML reads an order token by token: what encoding/xml does fastest and still checks that tags match.
func convertXML(r io.Reader, w *bufio.Writer) (records int64, err error) {
	decoder := xml.NewDecoder(r)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	var record map[string]string // that is read
	var field string
	var content []byte
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return 0, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			field, content = token.Name.Local, content[:0]
			if field == "order" {
				record = map[string]string{}
				for _, a := range token.Attr {
					record["@"+a.Name.Local] = a.Value
				}
			}
		case xml.CharData:
			content = append(content, token...)
		case xml.EndElement:
			if token.Name.Local != "order" {
				if record != nil {
					record[field] = string(content)
				}
				break
			}
			if err := encoder.Encode(record); err != nil {
				return 0, err
			}
			record = nil
			records++
		}
	}
}

// duckdbScript converts with DuckDB, in the folder of the files: its arguments are the folder of the module and the query.
//
//go:embed duckdb.cjs
var duckdbScript []byte
