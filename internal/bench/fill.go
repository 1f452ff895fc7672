package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/boltstore"
)

// manyRuns is how many runs an engine should bear that wait.
const manyRuns = 1_000_000

// queueRuns fills the store below dir with runs of flows, in turn, that are due in a year. It returns the number of the last one.
func queueRuns(dir string, runs int, flows ...string) (last int64, err error) {
	return last, fill(dir, flows, func(ctx context.Context, queue store.Queue, ids []int64) error {
		now := time.Now()
		for n := 0; n < runs; n += together {
			a := &store.Acceptance{}
			for i := n; i < min(n+together, runs); i++ {
				flow := i % len(flows)
				a.Runs = append(a.Runs, &store.Run{ID: newID(), Flow: flows[flow], FlowID: ids[flow], Trigger: "listener", User: login, Queued: now,
					Due: now.Add(365 * 24 * time.Hour)})
			}
			if _, err := queue.Accept(ctx, a); err != nil {
				return err
			}
			last = a.Runs[len(a.Runs)-1].Number
		}
		return nil
	})
}

// endRuns fills the store below dir with runs of a flow that ended well at a time, each with its message. It returns the number of the last one.
func endRuns(dir string, runs int, flow string, at time.Time, body []byte) (last int64, err error) {
	return last, fill(dir, []string{flow}, func(ctx context.Context, queue store.Queue, ids []int64) error {
		inline := store.Body{Inline: body, Size: int64(len(body)), SHA256: sha256.Sum256(body)}
		for n := 0; n < runs; n += together {
			var all []*store.Settlement
			for i := n; i < min(n+together, runs); i++ {
				m := &store.Message{ID: newID(), Listener: "events", User: login, ReceivedAt: at, Method: "POST", Body: inline,
					Header: []store.Pair{{Name: "Content-Type", Value: "application/json"}}}
				if last, err = queue.NextNumber(ctx); err != nil {
					return err
				}
				all = append(all, &store.Settlement{Insert: true, Message: m, Run: store.Run{ID: newID(), Number: last, Flow: flow, FlowID: ids[0], Trigger: "listener",
					Message: m.ID, User: login, Queued: at, Due: at, Started: at, Ended: at.Add(time.Duration(i) * time.Microsecond), Attempts: 1, Read: 1,
					Status: store.Success}})
			}
			if err := queue.Settle(ctx, all); err != nil {
				return err
			}
		}
		return nil
	})
}

// together is how many runs are stored in one call.
const together = 1000

// fill opens the store below dir and lets do fill it. ids are the numbers that belong to flows.
func fill(dir string, flows []string, do func(ctx context.Context, queue store.Queue, ids []int64) error) (err error) {
	st, err := boltstore.Open(filepath.Join(dir, "data"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ctx := context.Background()
	ids, err := st.Numbers(ctx, "flow", flows...)
	if err != nil {
		return err
	}
	queue, err := st.Join(ctx, login)
	if err != nil {
		return err
	}
	defer queue.Leave()
	return do(ctx, queue, ids)
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
