package boltstore_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

var update = flag.Bool("update", false, "make the store file of today's format anew; never after its release")

// A store of every format that was released opens, and tells what it told then.
func TestFormats(t *testing.T) {
	t.Parallel()
	if *update {
		dir := filepath.Join("testdata", "format2")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		fill(t, dir, 6)
		database := filepath.Join(dir, databaseName)
		if err := os.Truncate(database, used(t, database)); err != nil {
			t.Fatal(err)
		}
	}
	folders, err := filepath.Glob(filepath.Join("testdata", "format*", databaseName))
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	for _, database := range folders {
		stored := filepath.Dir(database)
		t.Run(filepath.Base(stored), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(stored)); err != nil {
				t.Fatal(err)
			}
			st, err := boltstore.Open(dir, &boltstore.Options{OnCorrupt: func(err error) { t.Error(err) }})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			got := tell(t, st)
			golden := stored + ".json"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("difference from what is wanted (-) to what is there (+):\n%s", diff)
			}
		})
	}
}

// tell writes down all that a filled store tells.
func tell(t *testing.T, st *boltstore.Store) string {
	t.Helper()
	c := contents{}
	runs, err := st.Runs(t.Context(), store.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := st.Join(t.Context(), "reader")
	if err != nil {
		t.Fatal(err)
	}
	c["epoch"] = q.Epoch()
	if c["kept"], err = st.Kept(t.Context()); err != nil {
		t.Fatal(err)
	}
	var messages []uuid.UUID
	for _, run := range runs {
		number, err := st.Numbers(t.Context(), "flow", run.Message.String())
		if err != nil {
			t.Fatal(err)
		}
		c["number of "+run.Message.String()] = number[0]
		receipt, err := q.Accept(t.Context(), &store.Acceptance{Once: &store.Once{Scope: "ann", Key: run.Message.String(), Until: time.Now().Add(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		c["receipt of "+run.Message.String()] = receipt
		messages = append(messages, run.Message)
	}
	for key, value := range read(t.Context(), st, messages) {
		switch v := value.(type) {
		case string:
			if len(v) > 100 {
				value = fmt.Sprintf("%d bytes, SHA-256 %x", len(v), sha256.Sum256([]byte(v)))
			}
		case store.Run:
			if v.Crashes > 0 { // what a crash left is due from the moment of Join on
				v.Due = time.Time{}
			}
			value = v
		}
		c[key] = value
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "\t")
	if err := encoder.Encode(c); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
