// Custom-store puts a store of its own under an engine: the default one, with a journal of everything that was accepted beside it. The
// store's test is one call of the suite that every store passes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing/fstest"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// Journal is a store that notes each accepted message and run in a file, durably, before it is acknowledged.
type Journal struct {
	store.Store
	mu    sync.Mutex
	file  *os.File
	close func() error // of the file, once
}

// OpenJournal opens the store in dir.
func OpenJournal(dir string) (*Journal, error) {
	st, err := boltstore.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "journal.ndjson"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &Journal{Store: st, file: file, close: sync.OnceValue(file.Close)}, nil
}

// Join returns the queue, whose Accept writes the journal.
func (j *Journal) Join(ctx context.Context, engine string) (store.Queue, error) {
	q, err := j.Store.Join(ctx, engine)
	return &queue{q, j}, err
}

// Close closes both.
func (j *Journal) Close() error { return errors.Join(j.Store.Close(), j.close()) }

type queue struct {
	store.Queue
	journal *Journal
}

// Accept accepts first: the journal holds nothing that was not. When it cannot be written, the caller is told that it is not known whether
// the acceptance took effect, and repeats it.
func (q *queue) Accept(ctx context.Context, a *store.Acceptance) (*store.Receipt, error) {
	receipt, err := q.Queue.Accept(ctx, a)
	if err != nil || receipt.Repeated {
		return receipt, err
	}
	line, _ := json.Marshal(receipt.Runs) // cannot fail
	q.journal.mu.Lock()
	defer q.journal.mu.Unlock()
	_, err = q.journal.file.Write(append(line, '\n'))
	if err == nil {
		err = q.journal.file.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w: %w", err, store.ErrUnavailable)
	}
	return receipt, nil
}

func main() {
	dir, err := os.MkdirTemp("", "custom-store-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	st, err := OpenJournal(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close() // who opens, closes
	flows := fstest.MapFS{"f.yaml": {Data: []byte("connections: {out: {type: file, dir: out}}\nflows: {note: {to: {connection: out, path: note.json, format: json}}}")}}
	engine, err := integrator.New(integrator.Config{Store: st, BaseDir: dir, Definitions: flows, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	go engine.Run(context.Background())
	<-engine.Ready()
	defer engine.Close()
	engine.RunFlow(context.Background(), "note", map[string]any{"text": "hello"})
	journal, _ := os.ReadFile(filepath.Join(dir, "journal.ndjson"))
	fmt.Print(string(journal))
}
