// Quickstart drives an engine as a third-party application would: it fetches tokens, posts JSON, CSV and XML to listeners, runs a flow by
// name, and shows what arrived where. Everything is embedded; it works in a temporary folder and leaves nothing behind unless -keep is given.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
	"github.com/integrator-go/integrator/connector/sqldb"
	"github.com/integrator-go/integrator/connector/sqldb/sqlite"
)

//go:embed flows input
var files embed.FS

func main() {
	keep := flag.String("keep", "", "work in this new folder and leave it, with the definitions and the input, to go on by hand")
	flag.Parse()
	if err := quickstart(context.Background(), os.Stdout, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// quickstart does it all in folder, or in a temporary one when folder is "".
func quickstart(ctx context.Context, out io.Writer, folder string) (err error) {
	dir := folder
	if folder == "" {
		if dir, err = os.MkdirTemp("", "integrator-quickstart-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.CopyFS(dir, files); err != nil {
		return err
	}
	definitions, err := fs.Sub(files, "flows")
	if err != nil {
		return err
	}
	base := filepath.Join(dir, "flows")
	if err := os.MkdirAll(base, 0o750); err != nil {
		return err
	}

	// The engine: one import, one folder, one file of definitions.
	engine, err := integrator.New(integrator.Config{
		Dir: filepath.Join(base, "data"), BaseDir: base, Definitions: definitions,
		Drivers: []sqldb.Driver{sqlite.Driver()},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	select {
	case <-engine.Ready():
	case err := <-done:
		return err
	}
	defer func() { err = errors.Join(err, engine.Close(), <-done) }()

	// A server of our own carries its handler.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: engine.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) // ends with Close
	defer server.Close()

	// An API user, who may send to every listener and run every flow.
	users, err := engine.Auth()
	if err != nil {
		return err
	}
	c := &client{url: "http://" + listener.Addr().String(), login: "shop", password: rand.Text()}
	if err := users.Save(ctx, auth.User{Login: c.login, Role: auth.API, Listeners: []string{"*"}, Flows: []string{"*"}}, auth.Secret(c.password)); err != nil {
		return err
	}
	return drive(ctx, out, c, base, folder)
}

// drive sends the input and shows what became of it.
func drive(ctx context.Context, out io.Writer, c *client, base, kept string) error {
	fmt.Fprintf(out, "An engine serves %s with the definitions of examples/quickstart/flows.\n", c.url)
	for _, send := range []struct{ file, path string }{
		{"earthquakes.json", "/earthquakes"}, {"strikes.csv", "/strikes/faa"}, {"airports.xml", "/airports"},
	} {
		payload, err := files.ReadFile("input/" + send.file)
		if err != nil {
			return err
		}
		began := time.Now()
		receipt, err := c.post(ctx, listeners+send.path, payload)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nPOST %s%s   %d bytes of %s, durable after %v\n  %s\n", listeners, send.path, len(payload), send.file,
			time.Since(began).Round(time.Millisecond), receipt)
		if err := c.await(ctx, out, receipt); err != nil {
			return err
		}
	}
	answer, err := c.post(ctx, "/plugins/flows/rest/v1/flow-name/summary/run", []byte(`{"from": 4.5}`))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nPOST /plugins/flows/rest/v1/flow-name/summary/run   {\"from\": 4.5}\n  %s\n", answer)

	fmt.Fprintln(out, "\nWhat arrived:")
	if err := showTables(out, filepath.Join(base, "desk.db")); err != nil {
		return err
	}
	written, err := filepath.Glob(filepath.Join(base, "out", "[^.]*"))
	if err != nil {
		return err
	}
	for _, name := range written {
		if err := showFile(out, name); err != nil {
			return err
		}
	}
	if err := c.history(ctx, out); err != nil {
		return err
	}
	byHand(out, kept)
	return nil
}

// showTables prints the rows that arrived in the database.
func showTables(out io.Writer, path string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, table := range []struct{ name, columns, order string }{
		{"earthquakes", "magnitude || '  ' || place", "magnitude desc"}, {"airports", "code || '  ' || name || ', ' || city", "code"},
	} {
		var count int
		if err := db.QueryRow("select count(*) from " + table.name).Scan(&count); err != nil {
			return err
		}
		fmt.Fprintf(out, "  table %s, %d rows:\n", table.name, count)
		rows, err := db.Query("select " + table.columns + " from " + table.name + " order by " + table.order + " limit 3")
		if err != nil {
			return err
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				return errors.Join(err, rows.Close())
			}
			fmt.Fprintln(out, "    "+line)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// showFile prints the first lines of a file.
func showFile(out io.Writer, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.SplitAfterN(string(text), "\n", 4)
	fmt.Fprintf(out, "  file out/%s, %d lines:\n    %s\n", filepath.Base(path), bytes.Count(text, []byte("\n")),
		strings.TrimSpace(strings.Join(lines[:min(3, len(lines))], "    ")))
	return nil
}

// byHand tells how to go on.
func byHand(out io.Writer, kept string) {
	if kept == "" {
		fmt.Fprint(out, "\nNothing of this is left. To try it by hand, keep it:  go run ./examples/quickstart -keep quickstart\nand then:\n")
		kept = "quickstart"
	} else {
		fmt.Fprintf(out, "\nAll of it is in %s. To go on by hand:\n", kept)
	}
	fmt.Fprintf(out, `
  go run ./cmd/integrator user add me --role api --listener '*' --flow '*' --generate --data %[1]s/flows/data
  go run ./cmd/integrator serve %[1]s/flows --data %[1]s/flows/data      # and in another terminal:

  token=$(curl -s 127.0.0.1:8080/rest/v1/token-auth/issue -d '{"login": "me", "password": "…"}' | cut -d'"' -f4)     # good for 30 s
  curl -H "Authorization: Bearer $token" --data-binary @%[1]s/input/earthquakes.json 127.0.0.1:8080%[2]s/earthquakes
  curl -H "Authorization: Bearer $token" 127.0.0.1:8080/rest/v1/runs
`, kept, listeners)
}

// listeners is where payloads are sent.
const listeners = "/plugins/schedules/rest/v1/httplistener"

// client is a third-party application.
type client struct{ url, login, password string }

// call sends a request with a token that was fetched for it.
func (c *client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	credentials, err := json.Marshal(map[string]string{"login": c.login, "password": c.password})
	if err != nil {
		return nil, err
	}
	answer, err := c.send(ctx, "POST", "/rest/v1/token-auth/issue", "", credentials)
	if err != nil {
		return nil, err
	}
	var issued struct{ Token string }
	if err := json.Unmarshal(answer, &issued); err != nil {
		return nil, err
	}
	return c.send(ctx, method, path, issued.Token, body)
}

func (c *client) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	answer, err := c.call(ctx, "POST", path, body)
	return bytes.TrimSpace(answer), err
}

func (c *client) send(ctx context.Context, method, path, token string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return answer, err
}

// await asks for a message until its runs have ended, and prints how they did.
func (c *client) await(ctx context.Context, out io.Writer, receipt []byte) error {
	var message struct {
		MessageUUID string
		AuditID     int64
		Status      string
		Runs        []struct {
			FlowName, Status, Exception string
			Read, Written, Rejected     int64
		}
	}
	if err := json.Unmarshal(receipt, &message); err != nil {
		return err
	}
	for message.Status == "received" {
		time.Sleep(20 * time.Millisecond)
		answer, err := c.call(ctx, "GET", "/rest/v1/messages/"+message.MessageUUID, nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(answer, &message); err != nil {
			return err
		}
	}
	for _, r := range message.Runs {
		fmt.Fprintf(out, "  flow %s ends in %s: read %d, written %d, rejected %d %s\n", r.FlowName, r.Status, r.Read, r.Written, r.Rejected, r.Exception)
		if r.Rejected > 0 {
			rejects, err := c.call(ctx, "GET", fmt.Sprintf("/rest/v1/runs/%d/rejects", message.AuditID), nil)
			if err != nil {
				return err
			}
			first, _, _ := bytes.Cut(rejects, []byte("\n"))
			fmt.Fprintf(out, "  the first reject: %s\n", first)
		}
	}
	return nil
}

// history prints the runs, newest first.
func (c *client) history(ctx context.Context, out io.Writer) error {
	answer, err := c.call(ctx, "GET", "/rest/v1/runs", nil)
	if err != nil {
		return err
	}
	var history struct {
		Runs []struct {
			AuditID                   int64
			FlowName, Trigger, Status string
			Read, Written, Rejected   int64
			Started, Ended            time.Time
		}
	}
	if err := json.Unmarshal(answer, &history); err != nil {
		return err
	}
	fmt.Fprintln(out, "  run history:")
	for _, r := range history.Runs {
		fmt.Fprintf(out, "    %d  %-17s by %-8s  %-7s  read %5d, written %5d, rejected %2d  in %v\n", r.AuditID, r.FlowName, r.Trigger, r.Status, r.Read, r.Written,
			r.Rejected, r.Ended.Sub(r.Started).Round(time.Millisecond))
	}
	return nil
}
