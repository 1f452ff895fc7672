package spill

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

type pair struct{ key, value []byte }

// fill adds n random entries, of few keys, and returns them in the order that is due.
func fill(t *testing.T, s *Sorter, n int) []pair {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var want []pair
	for i := range n {
		key, value := fmt.Appendf(nil, "%d", random.IntN(n)), fmt.Appendf(nil, "%d", i)
		if random.IntN(50) == 0 {
			value = append(value, bytes.Repeat([]byte("x"), random.IntN(3000))...)
		}
		want = append(want, pair{key, value})
		if err := s.Add(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(want, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return want
}

func TestSorter(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		entries int
		memory  int64
		levels  int
	}{{0, 1 << 20, 0}, {1, 1, 0}, {1000, 1 << 20, 0}, {1000, 20_000, 1}, {10, 1, 1}, {20_000, 10_000, 2}, {5000, 1, 3}} {
		t.Run(fmt.Sprint(row.entries, " in ", row.memory), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := New(dir, row.memory)
			defer s.Close()
			for again := range 2 { // a sorter that was closed is as new
				want := fill(t, s, row.entries)
				if len(s.levels) != row.levels || s.Spilled() != (row.levels > 0) {
					t.Errorf("%d levels of runs, want %d", len(s.levels), row.levels)
				}
				if names, _ := os.ReadDir(dir); len(names) > 0 {
					t.Errorf("files have names: %v", names)
				}
				r, err := s.Sort(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; ; i++ {
					key, value, err := r.Next()
					if err == io.EOF {
						if i != len(want) {
							t.Errorf("%d entries, want %d", i, len(want))
						}
						break
					}
					if err != nil || !bytes.Equal(key, want[i].key) || !bytes.Equal(value, want[i].value) {
						t.Fatalf("entry %d of time %d is %s %.20s, %v, want %s %.20s", i, again, key, value, err, want[i].key, want[i].value)
					}
				}
				if _, _, err := r.Next(); err != io.EOF {
					t.Errorf("behind the last is %v", err)
				}
				s.Close()
			}
		})
	}
}

// TestMemory: what a sorter holds stays below its budget, however much it is given.
func TestMemory(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir(), 8<<20)
	defer s.Close()
	value := make([]byte, 1000)
	for i := range 40_000 {
		if err := s.Add(t.Context(), fmt.Append(nil, i), value); err != nil {
			t.Fatal(err)
		}
		if held := (len(s.blocks) + len(s.spare) + 1) * blockSize; held > 9<<20 {
			t.Fatalf("%d bytes are held after %d entries", held, i)
		}
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	s := New(t.TempDir(), 100)
	defer s.Close()
	gone := errors.New("gone")
	cancel(gone)
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = s.Add(ctx, []byte("key"), []byte("value"))
	}
	if !errors.Is(err, gone) {
		t.Errorf("adding goes on with %v", err)
	}
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(file+"/below", 1)
	defer s.Close()
	first := s.Add(t.Context(), []byte("a"), nil)
	if second := s.Add(t.Context(), []byte("b"), nil); first != nil || second == nil {
		t.Error(cmp.Or(first, errors.New("where no file can be made nothing is spilled")))
	}
}
