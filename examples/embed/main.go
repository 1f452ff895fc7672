// Embed serves an engine beside a host's own routes. Its definitions are in the folder flows, its store in the folder data.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, listener); err != nil {
		log.Fatal(err)
	}
}

// serve works until ctx ends, and then until what was begun has ended.
func serve(ctx context.Context, listener net.Listener) error {
	engine, err := integrator.New(integrator.Config{
		Dir:         "data",
		Definitions: os.DirFS("flows"),
		Drivers:     []sqldb.Driver{sqlite.Driver()},
		Secrets:     os.LookupEnv,
	})
	if err != nil {
		return err // every fault of the definitions, each with file, line and column
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a route of the host's own") })
	mux.Handle("/", engine.Handler())
	go http.Serve(listener, mux)
	defer listener.Close()
	return engine.Run(ctx)
}
