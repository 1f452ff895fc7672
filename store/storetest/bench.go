package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/integrator-go/integrator/store"
)

// Bench measures a back end: Accept of a small message with one run from 1 and 64 callers, and a run's way from Accept to Settle.
func Bench(b *testing.B, h Harness) {
	body := string(large[:1024])
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("accept/callers=%d", callers), func(b *testing.B) {
			r, queue := benchRig(b, h)
			each(b, callers, func() error {
				_, err := queue.Accept(b.Context(), r.of(r.newMessage(body), 1))
				return err
			})
		})
		b.Run(fmt.Sprintf("claim and settle/callers=%d", callers), func(b *testing.B) {
			r, queue := benchRig(b, h)
			for left := b.N; left > 0; left -= 1000 {
				a := &store.Acceptance{}
				for range min(left, 1000) {
					a.Runs = append(a.Runs, r.newRun(1))
				}
				if _, err := queue.Accept(b.Context(), a); err != nil {
					b.Fatal(err)
				}
			}
			each(b, callers, func() error {
				runs, _, err := queue.Claim(b.Context(), map[int64]store.Want{1: {Runs: 1}}, 1, time.Now())
				if err != nil {
					return err
				}
				return queue.Settle(b.Context(), []*store.Settlement{ended(runs[0], store.Success)})
			})
		})
	}
}

func benchRig(b *testing.B, h Harness) (*rig, store.Queue) {
	st := h.New(b)
	b.Cleanup(func() { st.Close() })
	queue, err := st.Join(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	return &rig{}, queue
}

// each does b.N calls, shared by the callers.
func each(b *testing.B, callers int, call func() error) {
	var begun atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}
