package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/transform"
)

const (
	benchRows  = 20_000 // in one transaction
	benchBatch = 500
)

var benchColumns = []string{"id", "customer", "street", "city", "note", "qty", "price", "total", "day", "paid"}

const benchTable = "create table t (id integer primary key, customer text, street text, city text, note text, qty integer, price numeric, total numeric, day text, paid boolean)"

func benchRecord(shape *transform.Shape, i int) transform.Value {
	return transform.NewObject(shape, []transform.Value{
		transform.Int(int64(i)), transform.Text("Anna Example"), transform.Text("Long Street 12"), transform.Text("Springfield"),
		transform.Text("deliver in the morning"), transform.Int(int64(i % 7)), transform.Number("19.95"), transform.Number("139.65"),
		transform.Text("2026-03-01"), transform.Bool(i%2 == 0),
	})
}

// benchRow is the same record as a Go program of its own would hold it.
type benchRow struct {
	id                           int64
	customer, street, city, note string
	qty                          int64
	price, total                 float64
	day                          string
	paid                         bool
}

func typedRows() []benchRow {
	rows := make([]benchRow, benchRows)
	for i := range rows {
		rows[i] = benchRow{int64(i), "Anna Example", "Long Street 12", "Springfield", "deliver in the morning", int64(i % 7), 19.95, 139.65, "2026-03-01", i%2 == 0}
	}
	return rows
}

func benchDB(b *testing.B) (base string, db *sql.DB) {
	base = b.TempDir()
	db, err := sqlite.Driver().Open(sqldb.Config{Path: filepath.Join(base, "odd #1?%41 name.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(b.Context(), benchTable); err != nil {
		b.Fatal(err)
	}
	return base, db
}

// BenchmarkLoad compares what the engine does with the driver's own loop of prepared statements, for several widths of a statement. Each
// transaction has the same rows; an upsert meets those of the one before.
func BenchmarkLoad(b *testing.B) {
	const upsert = " on conflict (id) do update set customer = excluded.customer, street = excluded.street, city = excluded.city, note = excluded.note, qty = excluded.qty, price = excluded.price, total = excluded.total, day = excluded.day, paid = excluded.paid"
	rows := typedRows()
	for _, action := range []string{"insert", "upsert"} {
		b.Run(action+"/engine", func(b *testing.B) {
			base, db := benchDB(b)
			shape := transform.NewShape(benchColumns...)
			var batches []*transform.Batch
			for i := range benchRows {
				if i%benchBatch == 0 {
					batches = append(batches, &transform.Batch{})
				}
				last := batches[len(batches)-1]
				last.Records = append(last.Records, transform.Record{Value: benchRecord(shape, i)})
			}
			w, err := connect(b, base).(connector.Destination).PrepareWrite([]connector.Target{{Table: "t", Action: action, Key: []string{"id"}}})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			rate(b, db, action, func() error {
				work, err := w.Begin(b.Context())
				if err != nil {
					return err
				}
				defer work.Rollback()
				n++
				if _, err := work.Start(run(n), []string{""}); err != nil {
					return err
				}
				for _, batch := range batches {
					if err := work.Write(0, batch); err != nil {
						return err
					}
				}
				return work.Commit()
			})
		})
		for _, width := range []int{1, 8, 16, 32, 64, 128} {
			b.Run(fmt.Sprintf("%s/driver-%d", action, width), func(b *testing.B) {
				_, db := benchDB(b)
				text := "insert into t values " + strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?,?,?,?,?),", width), ",")
				if action == "upsert" {
					text += upsert
				}
				rate(b, db, action, func() error {
					tx, err := db.BeginTx(b.Context(), nil)
					if err != nil {
						return err
					}
					defer tx.Rollback()
					statement, err := tx.PrepareContext(b.Context(), text)
					if err != nil {
						return err
					}
					var args []any
					for i := 0; i+width <= benchRows; i += width {
						args = args[:0]
						for _, r := range rows[i : i+width] {
							args = append(args, r.id, r.customer, r.street, r.city, r.note, r.qty, r.price, r.total, r.day, r.paid)
						}
						if _, err := statement.ExecContext(b.Context(), args...); err != nil {
							return err
						}
					}
					return tx.Commit()
				})
			})
		}
	}
}

// rate reports rows a second; for inserts the table is emptied between the transactions.
func rate(b *testing.B, db *sql.DB, action string, load func() error) {
	b.ReportAllocs()
	var spent time.Duration
	for range b.N {
		start := time.Now()
		if err := load(); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
		if action == "insert" {
			b.StopTimer()
			if _, err := db.ExecContext(b.Context(), "delete from t"); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/spent.Seconds(), "rows/s")
}
