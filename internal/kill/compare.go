package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	_ "github.com/integrator-go/integrator/connector/sqldb/sqlite"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// letter is what the ledgers say of a payload.
type letter struct {
	note              // with the receipt, if there is one
	acknowledged bool // or a replay of it was
	cancel       bool // it was asked for
	replays      int  // asked for, answered or not
}

// line is a record of a payload; most have one.
type line struct {
	Key string
	N   int
}

// arrival is a line that arrived somewhere.
type arrival struct {
	line
	Run int64
}

// payload is what is stored of a message.
type payload struct {
	key, sum  string
	rejectsOf int64 // run whose rejects it is, which have no key; 0: none
}

// evidence is all that is compared.
type evidence struct {
	letters  map[string]*letter             // by key
	receipts []note                         // with runs that must be there
	gone     bool                           // rejects were pruned before they were replayed
	runs     map[int64]*store.Run           // the history
	payloads map[uuid.UUID]payload          // of messages
	arrived  map[string]map[int64][]arrival // by place and run
	order    map[string][]arrival           // by place, in the order in which they are there
	copies   map[string]map[line]int        // how many runs brought a line to a place
	pruned   time.Time                      // runs that ended before may be gone; zero: none
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

func (e *evidence) disordered(format string, args ...any) {
	e.sum.disordered++
	e.find("out of order: "+format, args...)
}

func (e *evidence) find(format string, args ...any) {
	e.sum.findings++
	e.findings = append(e.findings, fmt.Sprintf(format, args...))
}

// compare compares what the ledgers say with the history, the database and the files.
func (r *round) compare(sum *figures) error {
	e := &evidence{letters: map[string]*letter{}, runs: map[int64]*store.Run{}, payloads: map[uuid.UUID]payload{}, arrived: map[string]map[int64][]arrival{},
		order: map[string][]arrival{}, copies: map[string]map[line]int{}, pruned: r.pruned, sum: sum}
	for _, places := range placesOf {
		for _, place := range places {
			e.arrived[place], e.copies[place] = map[int64][]arrival{}, map[line]int{}
		}
	}
	if err := errors.Join(e.readLedgers(r.dir), e.readHistory(r.dir), e.readPlaces(r)); err != nil {
		return err
	}
	e.compareRuns()
	e.compareLetters()
	e.compareArrivals()
	e.compareOrder()
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
		if n.Runs != nil && n.What != "cancel" {
			e.receipts = append(e.receipts, n)
		}
		switch n.What {
		case "acknowledged":
			e.letters[n.Key].acknowledged, e.letters[n.Key].note = true, n
		case "replayed":
			e.letters[n.Key].acknowledged = true
		case "replay":
			e.letters[n.Key].replays++
		case "cancel":
			e.letters[n.Key].cancel = true
		case "gone":
			e.gone = true
		}
	}
	for _, l := range e.letters {
		if l.acknowledged {
			e.sum.acknowledged++
		} else {
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
			if _, known := e.payloads[run.Message]; known || run.Message == uuid.Nil {
				continue
			}
			if e.payloads[run.Message], err = readPayload(ctx, st, run.Message); err != nil {
				e.lost("the payload of run %d: %v", run.Number, err)
			}
		}
	}
}

// readPayload reads a stored payload.
func readPayload(ctx context.Context, st store.Store, id uuid.UUID) (p payload, err error) {
	m, err := st.Message(ctx, id)
	if err != nil {
		return payload{}, err
	}
	body, err := st.OpenBody(ctx, m.Body)
	if err != nil {
		return payload{}, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil || m.RejectsOf != 0 {
		return payload{rejectsOf: m.RejectsOf}, err
	}
	var document line
	err = json.Unmarshal(text, &document)
	hash := sha256.Sum256(text)
	return payload{key: document.Key, sum: hex.EncodeToString(hash[:])}, err
}

// keyOf returns the key of a run's payload, "" when its rejects' run is not there any more.
func (e *evidence) keyOf(run *store.Run) string {
	p := e.payloads[run.Message]
	if p.rejectsOf == 0 {
		return p.key
	}
	if of := e.runs[p.rejectsOf]; of != nil {
		return e.keyOf(of)
	}
	return ""
}

// readPlaces reads what arrived.
func (e *evidence) readPlaces(r *round) error {
	db, err := sql.Open("sqlite", filepath.Join(r.dir, "warehouse.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	for place := range e.arrived {
		switch {
		case place == "api":
			for _, a := range r.api.lines {
				e.arrive(place, a)
			}
			for _, finding := range r.api.differ {
				e.find("%s", finding)
			}
		case strings.HasSuffix(place, "/"):
			err = e.readFolder(place, filepath.Join(r.dir, "out", place))
		case strings.Contains(place, "."):
			err = e.readFile(place, filepath.Join(r.dir, "grown", place))
		default:
			err = e.readTable(place, db)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing arrived there
			return fmt.Errorf("%s: %w", place, err)
		}
	}
	return nil
}

// arrive notes a line. A run brings it to each place once.
func (e *evidence) arrive(place string, a arrival) {
	runs := e.arrived[place]
	if slices.Contains(runs[a.Run], a) {
		e.doubled("%s has line %d of %s from run %d once more", place, a.N, a.Key, a.Run)
	} else {
		e.copies[place][a.line]++
	}
	runs[a.Run] = append(runs[a.Run], a)
	e.order[place] = append(e.order[place], a)
}

// readTable reads the rows that arrived, in the order in which they did.
func (e *evidence) readTable(place string, db *sql.DB) error {
	var there int
	if err := db.QueryRow("select count(*) from sqlite_master where name = ?", place).Scan(&there); err != nil || there == 0 {
		return err // nothing arrived there
	}
	n := "0"
	if place == "parts_rows" {
		n = "n"
	}
	rows, err := db.Query("select key, " + n + ", run from " + place + " order by rowid")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a arrival
		if err := rows.Scan(&a.Key, &a.N, &a.Run); err != nil {
			return err
		}
		e.arrive(place, a)
	}
	return rows.Err()
}

// readFolder reads the files that arrived. Each holds one record.
func (e *evidence) readFolder(place, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
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
	return nil
}

// readFile reads a file that has grown, all of which is lines that parse.
func (e *evidence) readFile(place, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		e.find("%s ends in the middle of a line", place)
	}
	if !strings.HasSuffix(place, ".csv") {
		for row := range bytes.Lines(text) {
			var a arrival
			if err := json.Unmarshal(row, &a); err != nil {
				e.find("%s has %.80q: %v", place, row, err)
				continue
			}
			e.arrive(place, a)
		}
		return nil
	}
	table, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || !slices.Equal(table[0], []string{"key", "n", "run", "pad"}) {
		e.find("%s is no table of key, n, run, pad: %v", place, err)
		return nil
	}
	for _, row := range table[1:] {
		a := arrival{line: line{Key: row[0]}}
		var err error
		if a.N, err = strconv.Atoi(row[1]); err == nil {
			a.Run, err = strconv.ParseInt(row[2], 10, 64)
		}
		if err != nil || strings.Trim(row[3], "x") != "" {
			e.find("%s has the row %.80q: %v", place, row, err)
			continue
		}
		e.arrive(place, a)
	}
	return nil
}

// old reports whether a run of what was sent at a time may have been pruned.
func (e *evidence) old(at time.Time) bool { return at.Before(e.pruned) }

// compareRuns compares the history with what arrived.
func (e *evidence) compareRuns() {
	replays := map[int64]map[uuid.UUID]bool{} // messages of rejects by the run that rejected them
	for _, run := range e.runs {
		if of := e.payloads[run.Message].rejectsOf; of != 0 {
			if replays[of] == nil {
				replays[of] = map[uuid.UUID]bool{}
			}
			replays[of][run.Message] = true
		}
	}
	for number, run := range e.runs {
		e.sum.runs++
		key := e.keyOf(run)
		whole, known := int64(1), true // lines that the run reads
		if of := e.payloads[run.Message].rejectsOf; of != 0 {
			if known = e.runs[of] != nil; known {
				whole = e.runs[of].Rejected
			}
		} else if l := e.letters[key]; l != nil {
			whole = int64(l.Lines)
		}
		least, most := whole, whole
		switch {
		case run.Flow == "parts" && (run.Status == store.Success || run.Status == store.Warning):
			if run.Read != run.Written+run.Rejected || known && run.Read != whole || (run.Rejected > 0) != (run.Status == store.Warning) {
				e.find("run %d of %s is a %s of %d lines: read %d, written %d, rejected %d", number, run.Flow, run.Status, whole, run.Read, run.Written, run.Rejected)
			}
			if n := len(replays[number]); run.Rejected > 0 && n == 0 {
				e.lost("what run %d has rejected was replayed, and there is no run of it", number)
			} else if n > 1 {
				e.doubled("what run %d has rejected was replayed %d times", number, n)
			}
		case run.Status == store.Success:
		case run.Status == store.Canceled && run.Flow == "slow":
			least, most = 0, 0
		case run.Status == store.Error && strings.Contains(run.Exception, crashedTooOften): // its destination may have committed
			least = 0
			e.sum.dead++
		case run.Flow == "tick" && run.Status == store.Queued: // became due while the server stopped
			least, most = 0, 0
		default:
			e.find("run %d of %s stands at %s: %s", number, run.Flow, run.Status, run.Exception)
		}
		if run.Flow == "parts" {
			least, most = run.Written, run.Written
		}
		for _, place := range placesOf[run.Flow] {
			there := e.arrived[place][number]
			switch n := int64(len(there)); {
			case n < least:
				e.lost("run %d of %s is a %s, and %s has %d lines of it, not %d", number, run.Flow, run.Status, place, n, least)
			case n > most:
				e.find("run %d of %s is a %s, and %s has %d lines of it, not %d", number, run.Flow, run.Status, place, n, most)
			case n > 0 && run.Flow != "tick" && key != "" && there[0].Key != key:
				e.find("run %d of %s is of %s, and %s has %s", number, run.Flow, key, place, there[0].Key)
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
		id, _ := uuid.Parse(l.Message) // none of one that was not acknowledged
		for _, flow := range flowsOf[l.Listener] {
			for _, place := range placesOf[flow] {
				for n := range l.Lines {
					copies := e.copies[place][line{key, n}]
					if l.acknowledged && !l.cancel && copies == 0 && (place != "parts_rows" || !e.gone || !e.old(l.At)) {
						e.lost("%s was acknowledged as %s, and %s has nothing of line %d", key, l.Message, place, n)
					}
					if copies > 1+l.replays {
						e.doubled("line %d of %s is in %s %d times; %d replays were asked for", n, key, place, copies, l.replays)
					}
				}
			}
			if l.Message != "" && !e.old(l.At) && !flows[id][flow] {
				e.lost("%s was acknowledged as %s, which has no run of %s", key, l.Message, flow)
			}
		}
		if l.Message != "" && !e.old(l.At) && e.payloads[id].sum != l.SHA256 {
			e.find("the payload of %s, %s, is not what was sent", key, l.Message)
		}
	}
	for _, n := range e.receipts {
		for _, number := range n.Runs {
			if run := e.runs[number]; !e.old(n.At) && (run == nil || run.Message.String() != n.Message) {
				e.lost("%s was %s as %s with run %d, which the history does not have", n.Key, n.What, n.Message, number)
			}
		}
	}
}

// compareArrivals compares what arrived with the ledgers and the history.
func (e *evidence) compareArrivals() {
	for place, runs := range e.arrived {
		for number, lines := range runs {
			key := lines[0].Key
			l := e.letters[key]
			at, err := time.Parse(time.RFC3339, key)
			if place != "tick_rows" && l == nil || place == "tick_rows" && err != nil {
				e.find("%s has %s, which nobody sent", place, key)
				continue
			}
			if l != nil {
				at = l.At
			}
			if e.runs[number] == nil && !e.old(at) {
				e.find("%s has %s from run %d, which the history does not have", place, key, number)
			}
			if l != nil && place != "api" && place != "parts_rows" && len(lines) != l.Lines {
				e.find("%s has %d of the %d lines of %s from run %d", place, len(lines), l.Lines, key, number)
			}
			if i := slices.IndexFunc(lines, func(a arrival) bool { return a.Key != key || l != nil && a.N >= l.Lines }); i >= 0 {
				e.find("%s has line %d of %s from run %d of %s", place, lines[i].N, lines[i].Key, number, key)
			}
		}
	}
	for due, n := range e.copies["tick_rows"] {
		if n > 1 {
			e.doubled("the due time %s has %d runs", due.Key, n)
		}
	}
}

// compareOrder compares the order of what arrived with that in which it was accepted, sender by sender. What a sender has sent later was accepted later, and
// has higher runs; the runs of one sender arrive as their numbers rise. So only a replay brings something behind what was sent after it.
func (e *evidence) compareOrder() {
	accepted := map[[2]int]int64{} // first runs by sender and number
	for key, l := range e.letters {
		if l.Listener == "ordered" && l.Message != "" {
			accepted[senderOf(key)] = l.Runs[0]
		}
	}
	last := map[int]int64{} // run by sender
	for _, k := range slices.SortedFunc(maps.Keys(accepted), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) }) {
		if run := accepted[k]; run < last[k[0]] {
			e.disordered("%d-%d was accepted as run %d, behind run %d, which was sent before it", k[0], k[1], run, last[k[0]])
		} else {
			last[k[0]] = run
		}
	}
	for _, place := range placesOf["ordered"] {
		lastRun, lastSent := map[int]int64{}, map[int]int{} // by sender
		for _, a := range e.order[place] {
			l := e.letters[a.Key]
			if l == nil {
				continue // told already
			}
			k := senderOf(a.Key)
			if a.Run < lastRun[k[0]] {
				e.disordered("%s has %s from run %d behind run %d", place, a.Key, a.Run, lastRun[k[0]])
			}
			if k[1] < lastSent[k[0]] {
				if e.sum.late++; l.replays == 0 {
					e.disordered("%s has %s behind %d-%d, and it was not replayed", place, a.Key, k[0], lastSent[k[0]])
				}
			}
			lastRun[k[0]], lastSent[k[0]] = max(a.Run, lastRun[k[0]]), max(k[1], lastSent[k[0]])
			e.sum.ordered++
		}
	}
}

// senderOf splits a key into the sender and its number.
func senderOf(key string) (k [2]int) {
	fmt.Sscanf(key, "%d-%d", &k[0], &k[1]) // senders make no others
	return k
}
