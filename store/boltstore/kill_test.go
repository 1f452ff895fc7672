package boltstore_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// childFolder is the environment variable that makes the test's program a child that accepts messages into a store in the folder and
// notes each that was acknowledged in a ledger.
const (
	childFolder = "BOLTSTORE_TEST_FOLDER"
	ledgerName  = "ledger"
)

// acceptUntilKilled accepts messages, settles some runs and prints a line an acknowledgement, which the ledger has then.
func acceptUntilKilled(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	ledger, err := os.OpenFile(filepath.Join(dir, ledgerName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	fail(err)
	st, err := boltstore.Open(filepath.Join(dir, "data"), nil)
	fail(err)
	ctx := context.Background()
	q, err := st.Join(ctx, "child")
	fail(err)
	var mu sync.Mutex
	note := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, err := ledger.WriteString(line)
		fail(err)
		fail(ledger.Sync())
		fmt.Print(line)
	}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for i := 0; ; i++ {
				m := &store.Message{ID: uuid.Must(uuid.NewV7()), Listener: "child", ReceivedAt: time.Now()}
				spool := store.NewSpool(ctx, st)
				_, err := spool.Write([]byte(strings.Repeat(m.ID.String(), []int{1, 100, 10_000}[i%3])))
				fail(err)
				m.Body, err = spool.Body()
				fail(err)
				receipt, err := q.Accept(ctx, &store.Acceptance{Message: m, Claim: i%2 == 0, Runs: []*store.Run{{FlowID: 1, Message: m.ID}, {FlowID: 2, Message: m.ID}},
					Once: &store.Once{Key: m.ID.String(), Until: time.Now().Add(time.Hour)}})
				fail(err)
				note(fmt.Sprintln("accepted", m.ID, receipt.Runs[0].Number, receipt.Runs[1].Number))
				runs, _, err := q.Claim(ctx, map[int64]store.Want{1: {Runs: 1}}, 1, time.Now())
				fail(err)
				for _, run := range runs {
					run.Status, run.Ended = store.Success, time.Now()
					fail(q.Settle(ctx, []*store.Settlement{{Run: run}}))
					note(fmt.Sprintln("settled", run.Number))
				}
			}
		})
	}
	callers.Wait()
}

// A process that is killed has lost nothing that it acknowledged, and left nothing half done.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 20 + 17*round {
			lines.Scan()
			if word, _, _ := strings.Cut(lines.Text(), " "); word != "accepted" && word != "settled" {
				t.Fatal("the child says ", lines.Text())
			}
		}
		child.Process.Kill()
		child.Wait()
		checkLedger(t, dir)
	}
}

func checkLedger(t *testing.T, dir string) {
	t.Helper()
	st, err := boltstore.Open(filepath.Join(dir, "data"), &boltstore.Options{OnCorrupt: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx := t.Context()
	ledger, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(ledger)) {
		var id uuid.UUID
		var numbers [2]int64
		if _, err := fmt.Sscanf(line, "settled %d", &numbers[0]); err == nil {
			if run, err := st.Run(ctx, numbers[0]); err != nil || run.Status != store.Success {
				t.Errorf("run %d, settled, is %v, %v", numbers[0], run, err)
			}
			continue
		}
		var text string
		if _, err := fmt.Sscanf(line, "accepted %s %d %d", &text, &numbers[0], &numbers[1]); err != nil {
			t.Fatal(line, err)
		}
		id = uuid.MustParse(text)
		checkMessage(t, st, id, numbers[:])
	}
	for before := int64(0); ; { // what was not acknowledged is there wholly or not at all
		runs, err := st.Runs(ctx, store.RunFilter{Before: before})
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) == 0 {
			break
		}
		for _, run := range runs {
			checkMessage(t, st, run.Message, nil)
			before = run.Number
		}
	}
}

// checkMessage checks that a message is complete: its body, its two runs and its once-key.
func checkMessage(t *testing.T, st *boltstore.Store, id uuid.UUID, numbers []int64) {
	t.Helper()
	m, err := st.Message(t.Context(), id)
	if err != nil {
		t.Error(err)
		return
	}
	body, err := st.OpenBody(t.Context(), m.Body)
	if err != nil {
		t.Error(err)
		return
	}
	defer body.Close()
	hash := sha256.New()
	if size, err := bufio.NewReader(body).WriteTo(hash); err != nil || size != m.Body.Size || [32]byte(hash.Sum(nil)) != m.Body.SHA256 {
		t.Errorf("message %s: %d of %d bytes, %v", id, size, m.Body.Size, err)
	}
	runs, err := st.MessageRuns(t.Context(), id)
	if err != nil || len(runs) != 2 || numbers != nil && (runs[0].Number != numbers[0] || runs[1].Number != numbers[1]) {
		t.Errorf("message %s has runs %v, not %v; %v", id, runs, numbers, err)
	}
}
