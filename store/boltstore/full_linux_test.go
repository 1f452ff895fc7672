package boltstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// A full disk refuses what finds no room and keeps the rest; when there is room again the store goes on by itself.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		if os.Getenv("INTEGRATOR_REQUIRE_ALL") != "" {
			t.Fatal("a small disk must be mounted here: ", err)
		}
		t.Skip("a small disk cannot be mounted here: ", err)
	}
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := boltstore.Open(filepath.Join(disk, "data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := st.Join(t.Context(), "engine")
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), store.InlineBytes)
	var accepted []uuid.UUID
	accept := func() error {
		m := &store.Message{ID: uuid.Must(uuid.NewV7()), Body: store.Body{Inline: body, Size: int64(len(body))}}
		_, err := q.Accept(t.Context(), &store.Acceptance{Message: m, Runs: []*store.Run{{FlowID: 1, Message: m.ID}}})
		if err == nil {
			accepted = append(accepted, m.ID)
		}
		return err
	}
	for err = nil; err == nil && len(accepted) < 1000; {
		err = accept()
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(st.Health(), store.ErrFull) {
		t.Fatalf("after %d messages the error is %v and the health %v; both are ErrFull", len(accepted), err, st.Health())
	}
	spool := store.NewSpool(t.Context(), st)
	for err = nil; err == nil && spool.Size() < 8<<20; {
		_, err = spool.Write(body)
	}
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("a large body's error is %v, not ErrFull", err)
	}
	if _, err := spool.Body(); !errors.Is(err, store.ErrFull) {
		t.Errorf("ending it, the error is %v, not ErrFull", err)
	}
	spool.Abort()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := accept(); err != nil || st.Health() != nil {
		t.Fatalf("with room again the error is %v and the health %v", err, st.Health())
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err = boltstore.Open(filepath.Join(disk, "data"), nil); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, id := range accepted {
		if m, err := st.Message(t.Context(), id); err != nil || !bytes.Equal(m.Body.Inline, body) {
			t.Errorf("message %s: %v", id, err)
		}
	}
	runs, err := st.Runs(t.Context(), store.RunFilter{Limit: 2000})
	if err != nil || len(runs) != len(accepted) {
		t.Errorf("%d runs of %d messages, %v", len(runs), len(accepted), err)
	}
}
