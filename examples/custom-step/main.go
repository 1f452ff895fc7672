// Custom-step adds a step in Go to a flow: it looks up the currency of a country, leaves out what needs none, and rejects what it does not know.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"testing/fstest"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/transform"
)

const definitions = `
flows:
  price:
    params: {country: text, amount: decimal}
    steps:
      - go: currency
      - map: {price: "= text(round(amount * 1.19, 2)) + ' ' + currency"}
    on_reject: keep
    respond: {}
`

// currencies is what the step knows. A step that looks further afield takes care of ctx.
var currencies = map[string]string{"DE": "EUR", "PL": "PLN", "SE": "SEK"}

// currency is called for each record, from one goroutine for each run.
func currency(_ context.Context, r *transform.Record) error {
	country := r.Value.Field("country").Text()
	if country == "" {
		return transform.ErrDrop
	}
	code, ok := currencies[country]
	if !ok {
		return &transform.Fault{Field: "country", Reason: "no currency is known for it"}
	}
	r.Value = r.Value.With("currency", transform.Text(code))
	return nil
}

func main() {
	dir, err := os.MkdirTemp("", "custom-step-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	engine, err := integrator.New(integrator.Config{
		Dir:         dir,
		Definitions: fstest.MapFS{"price.yaml": {Data: []byte(definitions)}},
		Steps:       map[string]transform.Func{"currency": currency},
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	go engine.Run(context.Background())
	<-engine.Ready()
	defer engine.Close()
	for _, params := range []map[string]any{{"country": "DE", "amount": 12.35}, {"country": "XX", "amount": 1}, {"amount": 1}} {
		result, err := engine.RunFlow(context.Background(), "price", params)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s", result.Status, result.Response)
		for _, r := range result.Rejects {
			fmt.Printf("  %s: %s: %s\n", r.Step, r.Field, r.Reason)
		}
	}
}
