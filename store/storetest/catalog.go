package storetest

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/integrator-go/integrator/store"
)

// oddNames are names that a catalog keeps apart.
var oddNames = []string{"", "\x00", "\x00\x00", "a", "A", "a\x00b", "ab", "a/b", "ä", "a\xff", " ", "last", strings.Repeat("n", store.NameBytes)}

var catalogCases = map[string]func(*testing.T, Harness){
	"catalog: compare and set": func(t *testing.T, h Harness) {
		r := begin(t, h)
		e := store.Entry{Kind: "flow", Name: "orders", Value: []byte("one")}
		_, err := r.Get(r.ctx, e.Kind, e.Name)
		r.is(err, store.ErrNotFound)
		r.is(r.Delete(r.ctx, e.Kind, e.Name, 0), store.ErrNotFound)
		stale := e
		stale.Version = 1000
		_, err = r.Put(r.ctx, stale)
		r.is(err, store.ErrConflict)
		first := r.put(e)
		_, err = r.Put(r.ctx, e) // there is one now
		r.is(err, store.ErrConflict)
		e.Version, e.Value = first, []byte("two")
		e.Version = r.put(e)
		got, err := r.Get(r.ctx, e.Kind, e.Name)
		r.check(err)
		r.same(got, e)
		r.is(r.Delete(r.ctx, e.Kind, e.Name, first), store.ErrConflict)
		r.check(r.Delete(r.ctx, e.Kind, e.Name, e.Version))
		_, err = r.Get(r.ctx, e.Kind, e.Name)
		r.is(err, store.ErrNotFound)
		_, err = r.Put(r.ctx, e) // it is gone
		r.is(err, store.ErrConflict)
	},
	"catalog: a name never has a version twice": func(t *testing.T, h Harness) {
		r := begin(t, h)
		seen := map[int64]bool{}
		for range 5 {
			e := store.Entry{Kind: "user", Name: "ann"}
			for range 3 {
				e.Version = r.put(e)
				if seen[e.Version] || e.Version == 0 {
					t.Fatalf("version %d was there before", e.Version)
				}
				seen[e.Version] = true
			}
			r.check(r.Delete(r.ctx, e.Kind, e.Name, e.Version))
		}
	},
	"catalog: odd names and empty values": func(t *testing.T, h Harness) {
		r := begin(t, h)
		versions := map[[2]string]int64{}
		for _, kind := range oddNames {
			for _, name := range oddNames {
				versions[[2]string{kind, name}] = r.put(store.Entry{Kind: kind, Name: name, Value: []byte(kind + "|" + name)})
			}
		}
		for _, kind := range oddNames {
			entries, err := r.List(r.ctx, kind)
			r.check(err)
			r.same(len(entries), len(oddNames))
			for i, e := range entries {
				if i > 0 && entries[i-1].Name >= e.Name {
					t.Errorf("%q is listed before %q", entries[i-1].Name, e.Name)
				}
				r.same(e, store.Entry{Kind: kind, Name: e.Name, Value: []byte(kind + "|" + e.Name), Version: versions[[2]string{kind, e.Name}]})
				got, err := r.Get(r.ctx, kind, e.Name)
				r.check(err)
				r.same(got, e)
			}
		}
		r.put(store.Entry{Kind: "empty", Name: "e"})
		got, err := r.Get(r.ctx, "empty", "e")
		r.check(err)
		r.same(len(got.Value), 0)
		none, err := r.List(r.ctx, "no such kind")
		r.check(err)
		r.same(len(none), 0)
	},
	"catalog: names beyond their limits are refused": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, long := range []string{strings.Repeat("n", store.NameBytes+1), strings.Repeat("n", 1<<20)} {
			for _, e := range []store.Entry{{Kind: long}, {Name: long}} {
				if _, err := r.Put(r.ctx, e); err == nil {
					t.Error("Put took a name that is too long")
				}
				if _, err := r.Numbers(r.ctx, e.Kind, "short", e.Name); err == nil {
					t.Error("Numbers took a name that is too long")
				}
				_, err := r.Get(r.ctx, e.Kind, e.Name)
				r.is(err, store.ErrNotFound)
			}
		}
		r.check(r.Health())
		r.put(store.Entry{Kind: "flow", Name: "orders"})
	},
	"catalog: no memory is shared": func(t *testing.T, h Harness) {
		r := begin(t, h)
		e := store.Entry{Kind: "k", Name: "n", Value: []byte("value")}
		r.put(e)
		e.Value[0] = 'x'
		for range 2 {
			got, err := r.Get(r.ctx, "k", "n")
			r.check(err)
			r.same(string(got.Value), "value")
			got.Value[0] = 'x'
			all, err := r.List(r.ctx, "k")
			r.check(err)
			r.same(string(all[0].Value), "value")
			all[0].Value[0] = 'x'
		}
	},
	"catalog: no change is lost": func(t *testing.T, h Harness) {
		r := begin(t, h)
		r.put(store.Entry{Kind: "k", Name: "counter", Value: []byte("0")})
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for range 10 {
					for {
						e, err := r.Get(r.ctx, "k", "counter")
						if err != nil {
							t.Error(err)
							return
						}
						n, _ := strconv.Atoi(string(e.Value))
						e.Value = strconv.AppendInt(nil, int64(n+1), 10)
						if _, err = r.Put(r.ctx, e); err == nil {
							break
						} else if !errors.Is(err, store.ErrConflict) {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		calls.Wait()
		e, err := r.Get(r.ctx, "k", "counter")
		r.check(err)
		r.same(string(e.Value), "80")
	},
	"numbers of names: for ever, from 1, each kind its own": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var want []int64
		for i := range oddNames {
			want = append(want, int64(i+1))
		}
		for range 2 {
			for _, kind := range []string{"flow", "", "listener", "a\x00b", "a"} {
				n, err := r.Numbers(r.ctx, kind, oddNames...)
				r.check(err)
				r.same(n, want)
			}
		}
		version := r.put(store.Entry{Kind: "flow", Name: "a"})
		r.check(r.Delete(r.ctx, "flow", "a", version))
		n, err := r.Numbers(r.ctx, "flow", "a", "new", "a", "new", "newer")
		r.check(err)
		next := int64(len(oddNames) + 1)
		r.same(n, []int64{4, next, 4, next, next + 1})
	},
	"numbers of names: one name at a time from many": func(t *testing.T, h Harness) {
		r := begin(t, h)
		numbers := make([]int64, 32)
		var calls sync.WaitGroup
		for i := range numbers {
			calls.Go(func() {
				n, err := r.Numbers(r.ctx, "flow", strconv.Itoa(i/2))
				if err != nil {
					t.Error(err)
					return
				}
				numbers[i] = n[0]
			})
		}
		calls.Wait()
		seen := map[int64]int{}
		for i, n := range numbers {
			seen[n]++
			r.same(n, numbers[i/2*2])
			r.same(n >= 1 && n <= 16, true)
		}
		r.same(len(seen), 16)
	},
}

func (r *rig) put(e store.Entry) (version int64) {
	r.Helper()
	version, err := r.Put(r.ctx, e)
	r.check(err)
	return version
}
