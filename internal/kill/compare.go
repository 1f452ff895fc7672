package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	_ "github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// letter is what the ledgers say of a payload.
type letter struct {
	note
	acknowledged bool
	cancel       bool // it was asked for
	replays      int  // asked for, answered or not
	runs         []int64
}

// arrival is one record that arrived somewhere.
type arrival struct {
	Key string
	Run int64
}

// evidence is all that is compared.
type evidence struct {
	letters  map[string]*letter            // by key
	runs     map[int64]*store.Run          // the history
	keys     map[uuid.UUID]string          // of messages
	sums     map[uuid.UUID]string          // of their payloads
	arrived  map[string]map[int64][]string // keys by place and run
	distinct map[string]map[string]int     // runs by place and key
	pruned   time.Time                     // runs that ended before may be gone; zero: none
	sum      *figures
	findings []string
}

func (e *evidence) lost(format string, args ...any) {
	e.sum.lost++
	e.find("lost: "+format, args...)
}

func (e *evidence) doubled(format string, args ...any) {
	e.sum.doubled++
	e.find("doubled: "+format, args...)
}

func (e *evidence) find(format string, args ...any) {
	e.sum.findings++
	e.findings = append(e.findings, fmt.Sprintf(format, args...))
}

// compare compares what the ledgers say with the history, the database and the files.
func (r *round) compare(sum *figures) error {
	e := &evidence{letters: map[string]*letter{}, runs: map[int64]*store.Run{}, keys: map[uuid.UUID]string{}, sums: map[uuid.UUID]string{},
		arrived: map[string]map[int64][]string{}, distinct: map[string]map[string]int{}, pruned: r.pruned, sum: sum}
	for _, places := range placesOf {
		for _, place := range places {
			e.arrived[place], e.distinct[place] = map[int64][]string{}, map[string]int{}
		}
	}
	if err := errors.Join(e.readLedgers(r.dir), e.readHistory(r.dir), e.readTables(r.dir), e.readFiles(r.dir)); err != nil {
		return err
	}
	e.compareRuns()
	e.compareLetters()
	if len(e.findings) == 0 {
		return nil
	}
	shown := e.findings
	if len(shown) > 20 {
		shown = append(shown[:20:20], "…")
	}
	return fmt.Errorf("%s\n%d findings", strings.Join(shown, "\n"), len(e.findings))
}

// readLedgers reads what was sent and asked for.
func (e *evidence) readLedgers(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.ledger"))
	if err != nil {
		return err
	}
	var notes []note
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		for decoder := json.NewDecoder(bufio.NewReader(file)); ; {
			var n note
			if err := decoder.Decode(&n); err == io.EOF {
				break
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if n.What == "send" {
				e.letters[n.Key] = &letter{note: n}
			} else {
				notes = append(notes, n)
			}
		}
	}
	for _, n := range notes {
		l := e.letters[n.Key]
		switch n.What {
		case "acknowledged":
			if !l.acknowledged {
				e.sum.acknowledged++
			}
			l.acknowledged, l.Message = true, n.Message
			l.runs = append(l.runs, n.Runs...)
		case "replay":
			l.replays++
		case "cancel":
			l.cancel = true
		}
	}
	for _, l := range e.letters {
		if !l.acknowledged {
			e.sum.unknown++
		}
	}
	return nil
}

// readHistory reads all runs and their payloads.
func (e *evidence) readHistory(dir string) (err error) {
	st, err := boltstore.Open(filepath.Join(dir, "data"), &boltstore.Options{OnCorrupt: func(err error) { e.find("%v", err) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ctx := context.Background()
	for before := int64(0); ; {
		runs, err := st.Runs(ctx, store.RunFilter{Before: before, Limit: 1000})
		if err != nil {
			return err
		}
		if len(runs) == 0 {
			return nil
		}
		for i := range runs {
			run := &runs[i]
			before, e.runs[run.Number] = run.Number, run
			if run.Status.Settled() && run.Ended.Before(e.pruned) {
				e.pruned = run.Ended // the longest ended go first
			}
			if _, known := e.keys[run.Message]; known || run.Message == uuid.Nil {
				continue
			}
			if e.keys[run.Message], e.sums[run.Message], err = readPayload(ctx, st, run.Message); err != nil {
				e.lost("the payload of run %d: %v", run.Number, err)
			}
		}
	}
}

// readPayload returns the key that a stored payload has, and its checksum.
func readPayload(ctx context.Context, st store.Store, id uuid.UUID) (key, sum string, err error) {
	m, err := st.Message(ctx, id)
	if err != nil {
		return "", "", err
	}
	body, err := st.OpenBody(ctx, m.Body)
	if err != nil {
		return "", "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return "", "", err
	}
	var payload struct{ Key string }
	if err := json.Unmarshal(text, &payload); err != nil {
		return "", "", err
	}
	hash := sha256.Sum256(text)
	return payload.Key, hex.EncodeToString(hash[:]), nil
}

// arrive notes a record. A run brings one to each place.
func (e *evidence) arrive(place string, a arrival) {
	runs := e.arrived[place]
	if runs[a.Run] == nil {
		e.distinct[place][a.Key]++
	} else {
		e.doubled("%s has %s from run %d once more", place, a.Key, a.Run)
	}
	runs[a.Run] = append(runs[a.Run], a.Key)
}

// readTables reads the rows that arrived.
func (e *evidence) readTables(dir string) error {
	db, err := sql.Open("sqlite", filepath.Join(dir, "warehouse.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	for place := range e.arrived {
		if strings.HasSuffix(place, "/") {
			continue
		}
		var there int
		if err := db.QueryRow("select count(*) from sqlite_master where name = ?", place).Scan(&there); err != nil {
			return err
		}
		if there == 0 {
			continue // nothing arrived there
		}
		rows, err := db.Query("select key, run from " + place)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a arrival
			if err := rows.Scan(&a.Key, &a.Run); err != nil {
				return err
			}
			e.arrive(place, a)
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

// readFiles reads the files that arrived. Each holds one record.
func (e *evidence) readFiles(dir string) error {
	for place := range e.arrived {
		if !strings.HasSuffix(place, "/") {
			continue
		}
		folder := filepath.Join(dir, "out", place)
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".") {
				continue // of an attempt that crashed; nobody sees it
			}
			text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
			if err != nil {
				return err
			}
			var a arrival
			if err := json.Unmarshal(text, &a); err != nil || text[len(text)-1] != '\n' {
				e.find("%s%s is not whole: %q, %v", place, entry.Name(), text, err)
				continue
			}
			e.arrive(place, a)
		}
	}
	return nil
}

// old reports whether a run of what was sent at a time may have been pruned.
func (e *evidence) old(at time.Time) bool { return at.Before(e.pruned) }

// compareRuns compares the history with what arrived.
func (e *evidence) compareRuns() {
	for number, run := range e.runs {
		least, none := 1, false
		switch {
		case run.Status == store.Success:
		case run.Status == store.Canceled && run.Flow == "slow":
			least, none = 0, true
		case run.Status == store.Error && strings.Contains(run.Exception, crashedTooOften): // its destination may have committed
			least = 0
			e.sum.dead++
		case run.Flow == "tick" && run.Status == store.Queued: // became due while the server stopped
			least, none = 0, true
		default:
			e.find("run %d of %s stands at %s: %s", number, run.Flow, run.Status, run.Exception)
		}
		e.sum.runs++
		for _, place := range placesOf[run.Flow] {
			keys := e.arrived[place][number]
			switch {
			case len(keys) < least:
				e.lost("run %d of %s is a success, and %s has nothing of it", number, run.Flow, place)
			case none && len(keys) > 0:
				e.find("run %d of %s is %s, and %s has %v", number, run.Flow, run.Status, place, keys)
			case len(keys) == 1 && run.Flow != "tick" && keys[0] != e.keys[run.Message]:
				e.find("run %d of %s is of %s, and %s has %s", number, run.Flow, e.keys[run.Message], place, keys[0])
			}
		}
	}
}

// compareLetters compares the ledgers with what arrived and with the history.
func (e *evidence) compareLetters() {
	flows := map[uuid.UUID]map[string]bool{}
	for _, run := range e.runs {
		if flows[run.Message] == nil {
			flows[run.Message] = map[string]bool{}
		}
		flows[run.Message][run.Flow] = true
	}
	for key, l := range e.letters {
		for _, flow := range flowsOf[l.Listener] {
			for _, place := range placesOf[flow] {
				n := e.distinct[place][key]
				if l.acknowledged && !l.cancel && n == 0 {
					e.lost("%s was acknowledged as %s, and %s has nothing of it", key, l.Message, place)
				}
				if n > 1+l.replays {
					e.doubled("%s is in %s %d times; %d replays were asked for", key, place, n, l.replays)
				}
			}
			if id, _ := uuid.Parse(l.Message); l.acknowledged && !e.old(l.At) && !flows[id][flow] {
				e.lost("%s was acknowledged as %s, which has no run of %s", key, l.Message, flow)
			}
		}
		if !l.acknowledged || e.old(l.At) {
			continue
		}
		for _, number := range l.runs {
			if run := e.runs[number]; run == nil || run.Message.String() != l.Message {
				e.lost("%s was acknowledged as %s with run %d, which the history does not have", key, l.Message, number)
			}
		}
		if id, _ := uuid.Parse(l.Message); e.sums[id] != l.SHA256 {
			e.find("the payload of %s, %s, is not what was sent", key, l.Message)
		}
	}
	for place, runs := range e.arrived {
		for number, keys := range runs {
			l := e.letters[keys[0]]
			at, err := time.Parse(time.RFC3339, keys[0])
			if place != "tick_rows" && l == nil || place == "tick_rows" && err != nil {
				e.find("%s has %s, which nobody sent", place, keys[0])
				continue
			}
			if l != nil {
				at = l.At
			}
			if e.runs[number] == nil && !e.old(at) {
				e.find("%s has %s from run %d, which the history does not have", place, keys[0], number)
			}
		}
	}
	for due, n := range e.distinct["tick_rows"] {
		if n > 1 {
			e.doubled("the due time %s has %d runs", due, n)
		}
	}
}
