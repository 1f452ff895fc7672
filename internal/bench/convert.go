package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/csv"
	"encoding/json"
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

const converting = `
connections:
  here: {type: file, dir: files}
flows:
  convert:
    from: {connection: here, path: in.csv, format: {type: csv, columns: {id: int, qty: int, price: decimal}}}
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
          note: note
    to: {connection: here, path: out.ndjson, format: ndjson}
`

// converted is what a conversion reports.
type converted struct {
	Seconds float64
	Peak    float64 // MiB
	Records int64
}

// converter converts the file in.csv in the folder files of a folder to another one there, in a process of its own.
type converter struct {
	name, out string
	start     func(dir string) (*process, error)
}

func (v converter) run(dir string) (r converted, err error) {
	p, err := v.start(dir)
	if err != nil {
		return r, err
	}
	if err := p.read(&r); err != nil {
		return r, err
	}
	return r, p.stop()
}

const mega = 1e6

// convert measures CSV to NDJSON from file to file. Starting the processes does not count.
func convert(c *config) error {
	converters := []converter{
		{"engine", "out.ndjson", func(dir string) (*process, error) { return c.start("convert-engine", dir) }},
		{"encoding/csv and maps", "maps.ndjson", func(dir string) (*process, error) { return c.start("convert-maps", dir) }},
	}
	if c.duckdb != "" {
		script := filepath.Join(c.dir, "duckdb.cjs")
		if err := write(script, duckdbScript); err != nil {
			return err
		}
		converters = append(converters, converter{"DuckDB, 2 threads", "duckdb.ndjson", func(dir string) (*process, error) {
			modules, err := filepath.Abs(c.duckdb)
			if err != nil {
				return nil, err
			}
			return startCommand(exec.Command("node", script, modules, filepath.Join(dir, "files")))
		}})
	} else {
		row("DuckDB", "left out: -duckdb says where it is")
	}
	small, middle := filepath.Join(c.dir, "p4-small"), filepath.Join(c.dir, "p4")
	for dir, size := range map[string]int64{small: 10 * mega, middle: 64 * mega} {
		if err := makeCSV(dir, size); err != nil {
			return err
		}
	}
	same := ""
	for _, v := range converters {
		r, err := v.run(small)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		content, err := contentOf(filepath.Join(small, "files", v.out))
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		if same == "" {
			same = content
		}
		if content != same {
			return fmt.Errorf("%s made other records than the engine", v.name)
		}
		if v.name == "engine" {
			judge("peak memory at 10 MB, engine", figures{r.Peak}, "MiB", atMost(48))
		} else {
			row("peak memory at 10 MB, "+v.name, fmt.Sprintf("%10.0f MiB", r.Peak))
		}
	}
	row("records at 10 MB", "all converters made the same")

	var sides []side
	for _, v := range append(slices.Clone(converters), converters[0]) {
		sides = append(sides, side{v.name, func() (float64, error) {
			r, err := v.run(middle)
			return 64 / r.Seconds, err
		}})
	}
	all, err := alternate(c.rounds, sides...)
	if err != nil {
		return err
	}
	for i, v := range converters {
		tell(v.name, all[i], "MB/s")
	}
	engine := mean(all[0], all[len(all)-1])
	tell("engine / encoding/csv and maps", engine.over(all[1]), "")
	if len(converters) > 2 {
		judge("engine / DuckDB", engine.over(all[2]), "", atLeast(3))
	}
	tell("control: engine / engine", all[len(all)-1].over(all[0]), "")
	if !c.large {
		return nil
	}
	large := filepath.Join(c.dir, "p4-large")
	defer os.RemoveAll(large)
	if err := makeCSV(large, 2000*mega); err != nil {
		return err
	}
	r, err := converters[0].run(large)
	if err != nil {
		return err
	}
	judge("peak memory at 2 GB, engine", figures{r.Peak}, "MiB", atMost(48))
	row("records at 2 GB", fmt.Sprintf("%10d in %.0f s", r.Records, r.Seconds))
	return nil
}

// makeCSV makes a file of about a size, and the definitions that convert it.
func makeCSV(dir string, size int64) error {
	if err := write(filepath.Join(dir, "flows", "flows.yaml"), []byte(converting)); err != nil {
		return err
	}
	path := filepath.Join(dir, "files", "in.csv")
	if err := write(path, nil); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	fmt.Fprintln(w, "id,name,city,country,qty,price,date,email,status,note")
	cities := []string{"Lisboa", "Köln", "San Francisco", "Aix-en-Provence", "東京", "Łódź", "Buenos Aires"}
	notes := []string{"as agreed", `"ring twice, then wait"`, "leave it at the door please", `"he said ""later"""`, "urgent", `"two
lines"`}
	for id, written := 0, int64(0); written < size; id++ {
		n, err := fmt.Fprintf(w, "%d,\"Customer, no. %d\",%s,%c%c,%d,%d.%02d,2026-%02d-%02d,c%d@shop.example,%s,%s\n", id, id*7919%100003, cities[id%len(cities)],
			'A'+id%26, 'A'+id/26%26, id%97+1, id*31%1000, id*17%100, id%12+1, id%28+1, id*7919%100003, []string{"open", "paid", "sent"}[id%3], notes[id*13%len(notes)])
		if err != nil {
			return errors.Join(err, file.Close())
		}
		written += int64(n)
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
	n, hash := 0, sha256.New()
	for d := json.NewDecoder(bufio.NewReader(file)); ; n++ {
		var record map[string]any
		if err := d.Decode(&record); err == io.EOF {
			return fmt.Sprintf("%d records, %x", n, hash.Sum(nil)), nil
		} else if err != nil {
			return "", err
		}
		for field, value := range record {
			if number, ok := value.(float64); ok {
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

// convertWithMaps converts as one does it in Go with the standard library.
func convertWithMaps(args []string, c *control) error {
	began := time.Now()
	records, err := convertMaps(filepath.Join(args[0], "files", "in.csv"), filepath.Join(args[0], "files", "maps.ndjson"))
	if err != nil {
		return err
	}
	return c.report(converted{time.Since(began).Seconds(), memory(os.Getpid(), "VmHWM"), records})
}

func convertMaps(from, to string) (records int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := bufio.NewWriterSize(out, 1<<16)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	reader := csv.NewReader(bufio.NewReaderSize(in, 1<<16))
	header, err := reader.Read()
	if err != nil {
		return 0, err
	}
	for ; ; records++ {
		cells, err := reader.Read()
		if err == io.EOF {
			break
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
	return records, errors.Join(w.Flush(), out.Sync())
}

// duckdbScript converts with DuckDB: its arguments are the folder of the module and the folder of the file.
//
//go:embed duckdb.cjs
var duckdbScript []byte
