package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
)

const partsDefinitions = `
connections: {warehouse: {type: sql, driver: sqlite, path: warehouse.db}}
listeners: {orders: {path: /orders, format: {type: csv, columns: {id: int}}}}
flows:
  load:
    from: {listener: orders}
    steps: [{reject: {when: "id % 1000 == 7", reason: unlucky}}]
    to: {connection: warehouse, table: orders, commit: 1000}      # insert without a key: twice would show
    on_reject: keep
users: {shop: {role: operator, password: "${secret.SHOP}"}}
`

// TestKilledInALargeLoad kills the server again and again while it loads one large payload in parts, more often than a run that makes no
// headway may be at work in a crash. Each attempt goes on where the one before was killed; in the end every record is in the table once,
// and the run has the counters and rejects of one that nothing disturbed.
func TestKilledInALargeLoad(t *testing.T) {
	t.Parallel()
	const records, each, kills = 200_000, 1000, 5
	s := newVictim(t, partsDefinitions)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "warehouse.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("create table orders (id integer check (id % 1000 <> 8), note text)"); err != nil {
		t.Fatal(err)
	}
	count := func(query string) (n int) {
		t.Helper()
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	body := bytes.NewBufferString("id,note\n")
	for id := range records {
		fmt.Fprintf(body, "%d,as large as a note is\n", id)
	}
	s.start()
	s.send("load", body.String())
	for count("select count(*) from sqlite_master where name = 'integrator_parts'") == 0 { // until the first part is committed
	}
	position := 0
	for kill := range kills {
		// In the first half: who looks at the table may be slow.
		for want := max((kill+1)*records/(2*kills), position+1); count("select max(records) from integrator_parts") < want; {
		}
		s.kill()
		at := count("select max(records) from integrator_parts")
		if at <= position || at >= records {
			t.Fatalf("killed at record %d, the time before at %d", at, position)
		}
		if rows := count("select count(*) from orders"); rows != at-2*at/each {
			t.Errorf("killed at record %d the table has %d rows", at, rows)
		}
		position = at
		s.start()
	}
	var run struct {
		AuditID                 int64
		Status, Exception       string
		Read, Written, Rejected int
		Attempts                int
	}
	for run.Status == "" || run.Status == "queued" || run.Status == "running" {
		status, answer, err := s.call("GET", "/rest/v1/runs", "", "")
		var page struct{ Runs []json.RawMessage }
		if err != nil || status != http.StatusOK || json.Unmarshal(answer, &page) != nil || len(page.Runs) != 1 || json.Unmarshal(page.Runs[0], &run) != nil {
			t.Fatalf("history: %d %s %v", status, answer, err)
		}
	}
	const rejected = 2 * records / each
	if run.Status != "warning" || run.Read != records || run.Written != records-rejected || run.Rejected != rejected || run.Attempts != kills+1 {
		t.Errorf("the run: %+v\n%s", run, &s.log)
	}
	_, rejects, err := s.call("GET", fmt.Sprintf("/rest/v1/runs/%d/rejects", run.AuditID), "", "")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(rejects), []byte("\n"))
	for i, line := range lines {
		var reject struct {
			ID     int    `json:"id"`
			Record int    `json:"_record"`
			Step   string `json:"_step"`
		}
		want, step := i/2*each+7+i%2, []string{"step 1 (reject)", "warehouse"}[i%2]
		if err := json.Unmarshal(line, &reject); err != nil || reject.ID != want || reject.Record != want+1 || reject.Step != step {
			t.Fatalf("reject %d is %s (%v), want id %d of %s", i+1, line, err, want, step)
		}
	}
	if len(lines) != rejected {
		t.Errorf("%d rejects are kept, want %d", len(lines), rejected)
	}
	if rows, different := count("select count(*) from orders"), count("select count(distinct id) from orders"); rows != records-rejected || different != rows {
		t.Errorf("the table has %d rows of %d records, want %d: nothing lost, nothing twice", rows, different, records-rejected)
	}
	s.stop()
}
