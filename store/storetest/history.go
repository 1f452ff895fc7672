package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

var historyCases = map[string]func(*testing.T, Harness){
	"history: runs are chosen by what is asked": func(t *testing.T, h Harness) {
		r := begin(t, h)
		statuses := []store.Status{store.Queued, store.Running, store.Success, store.Warning, store.Error, store.Canceled}
		var all []store.Run
		for i := range 60 {
			n := r.add(int64(i%2+1), func(run *store.Run) {
				run.User, run.Queued = []string{"ann", "bob", ""}[i%3], noon.Add(time.Duration(i)*time.Second)
			})
			if status := statuses[i%5]; status != store.Queued {
				run := r.claim(1, 2)[0]
				if status.Settled() {
					r.settle(ended(run, status))
				}
			} else if i%4 != 0 {
				_, err := r.queue.Cancel(r.ctx, n, noon)
				r.check(err)
			} else {
				r.settle(again(r.claim(1, 2)[0], noon.Add(time.Hour)))
			}
			all = append(all, r.run(n))
		}
		slices.Reverse(all)
		middle := all[30].Number
		for name, filter := range map[string]store.RunFilter{
			"all": {}, "flow": {FlowID: 2}, "unknown flow": {FlowID: 3}, "user": {User: "bob"}, "since": {Since: noon.Add(20 * time.Second)},
			"before": {Before: middle}, "before all": {Before: 1}, "limit": {Limit: 7}, "flow and status": {FlowID: 1, Status: store.Error},
			"user and since and flow": {User: "ann", Since: noon.Add(9 * time.Second), FlowID: 1, Before: middle}, "queued": {Status: store.Queued},
			"running": {Status: store.Running}, "success": {Status: store.Success}, "warning": {Status: store.Warning}, "error": {Status: store.Error},
			"canceled": {Status: store.Canceled}, "running of a flow": {Status: store.Running, FlowID: 2}, "last": {Limit: 1},
		} {
			var want []store.Run
			for _, run := range all {
				if (filter.FlowID == 0 || run.FlowID == filter.FlowID) && (filter.Status == 0 || run.Status == filter.Status) &&
					(filter.User == "" || run.User == filter.User) && !run.Queued.Before(filter.Since) && (filter.Before == 0 || run.Number < filter.Before) &&
					(filter.Limit == 0 || len(want) < filter.Limit) {
					want = append(want, run)
				}
			}
			t.Log(name)
			got, err := r.Runs(r.ctx, filter)
			r.check(err)
			r.same(got, want)
		}
	},
	"history: pages follow each other": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var want []int64
		for range 13 {
			a := &store.Acceptance{}
			for i := range 10 {
				a.Runs = append(a.Runs, r.newRun(int64(i%2+1)))
			}
			r.accept(a)
			for _, run := range a.Runs {
				want = append(want, run.Number)
			}
		}
		for _, run := range r.claim(1) {
			r.settle(ended(run, store.Error))
		}
		slices.Reverse(want)
		for _, limit := range []int{0, 1, 9, 65, 1000} {
			var got []int64
			for before := int64(0); ; before = got[len(got)-1] {
				page, err := r.Runs(r.ctx, store.RunFilter{Before: before, Limit: limit})
				r.check(err)
				if size := limit; size == 0 && len(got) == 0 {
					r.same(len(page), 100)
				}
				if len(page) == 0 {
					break
				}
				got = append(got, numbers(page)...)
			}
			r.same(got, want)
		}
	},
	"history: what is not there": func(t *testing.T, h Harness) {
		r := begin(t, h)
		_, err := r.Message(r.ctx, newID())
		r.is(err, store.ErrNotFound)
		_, err = r.Store.Run(r.ctx, 7)
		r.is(err, store.ErrNotFound)
		_, _, err = r.Attachments(r.ctx, 7)
		r.is(err, store.ErrNotFound)
		r.is(r.Erase(r.ctx, newID()), store.ErrNotFound)
		runs, err := r.MessageRuns(r.ctx, newID())
		r.check(err)
		r.same(len(runs), 0)
		r.add(1, nil)
		runs, err = r.MessageRuns(r.ctx, uuid.Nil)
		r.check(err)
		r.same(len(runs), 0)
	},
	"history: the log of earlier attempts": func(t *testing.T, h Harness) {
		r := begin(t, h)
		n, canceled := r.add(1, nil), r.add(2, nil)
		log := func(n int64, want string) {
			t.Helper()
			rejects, log, err := r.Attachments(r.ctx, n)
			r.check(err)
			content, err := r.read(log)
			r.check(err)
			r.same([]string{fmt.Sprint(rejects.Size), string(content)}, []string{"0", want})
		}
		for _, run := range r.claim(1, 2) {
			s := again(run, noon)
			s.Log = inline("first\n")
			r.settle(s)
		}
		log(n, "first\n")
		s := again(r.claim(1)[0], noon) // says nothing more
		r.settle(s)
		log(n, "first\n")
		s = ended(r.claim(1)[0], store.Success)
		s.Log = inline("first\nsecond\n")
		r.settle(s)
		log(n, "first\nsecond\n")
		_, err := r.queue.Cancel(r.ctx, canceled, noon)
		r.check(err)
		log(canceled, "first\n")
		if h.Reopen != nil {
			r.reopen()
			log(n, "first\nsecond\n")
			log(canceled, "first\n")
		}
		_, err = r.Prune(r.ctx, store.Keep{Since: noon.Add(time.Hour)}, 10)
		r.check(err)
		_, _, err = r.Attachments(r.ctx, canceled)
		r.is(err, store.ErrNotFound)
	},
	"history: rejects and log": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, bodies := range [][2]store.Body{{inline("rejects"), inline("log")}, {inline(""), inline("log")}, {r.blob(large), inline("")}, {r.blob(large), r.blob(large)}, {}} {
			n := r.add(1, nil)
			rejects, log, err := r.Attachments(r.ctx, n)
			r.check(err)
			r.same([]store.Body{rejects, log}, []store.Body{{}, {}})
			s := ended(r.claim(1)[0], store.Warning)
			s.Rejects, s.Log = bodies[0], bodies[1]
			r.settle(s)
			rejects, log, err = r.Attachments(r.ctx, n)
			r.check(err)
			for i, got := range []store.Body{rejects, log} {
				want, err := r.read(bodies[i])
				r.check(err)
				content, err := r.read(got)
				r.check(err)
				r.same(content, want)
				r.same(got.Size, bodies[i].Size)
			}
		}
	},
	"erase: the body goes, the rest stays": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, body := range []store.Body{inline("secret"), r.blob(large), inline("")} {
			m := r.newMessage("")
			m.Body = body
			receipt := r.accept(r.of(m, 1))
			for range 2 {
				r.check(r.Erase(r.ctx, m.ID))
				got, err := r.Message(r.ctx, m.ID)
				r.check(err)
				want := *m
				want.Body.Inline, want.Body.Blob, want.Erased = nil, uuid.Nil, true
				r.same(*got, want)
				if body.Size > 0 {
					_, err = r.OpenBody(r.ctx, got.Body)
					r.is(err, store.ErrErased)
				}
			}
			if body.Blob != uuid.Nil {
				_, err := r.OpenBody(r.ctx, body)
				r.is(err, store.ErrNotFound)
			}
			runs, err := r.MessageRuns(r.ctx, m.ID)
			r.check(err)
			r.same(numbers(runs), []int64{receipt.Runs[0].Number})
		}
	},
	"erase: rejected records go too, and messages that are made of them": func(t *testing.T, h Harness) {
		r := begin(t, h)
		for _, body := range []func() store.Body{func() store.Body { return inline("secret") }, func() store.Body { return r.blob(large) }} {
			var messages []*store.Message
			var runs []int64
			var bodies []store.Body // that are to go
			for i := range 3 {      // each of rejects of the one before
				m := r.newMessage("")
				m.Body = body()
				if i > 0 {
					m.RejectsOf = runs[i-1]
				}
				run := r.claimed(r.of(m, 1))
				s := ended(run, store.Warning)
				s.Rejects, s.Log = body(), inline("log")
				r.settle(s)
				messages, runs = append(messages, m), append(runs, run.Number)
				bodies = append(bodies, m.Body, s.Rejects)
			}
			other := r.newMessage("stays")
			end := ended(r.claimed(r.of(other, 2)), store.Warning)
			end.Rejects = inline("stays too")
			r.settle(end)
			replay := r.of(messages[1], 3)
			replay.Message = nil // it is there
			waits := r.claimed(replay)
			kept, err := r.Kept(r.ctx)
			r.check(err)
			for range 2 {
				r.check(r.Erase(r.ctx, messages[0].ID))
				if h.Reopen != nil {
					r.check(r.queue.Leave())
					r.reopen()
				}
				for i, m := range messages {
					got, err := r.Message(r.ctx, m.ID)
					r.check(err)
					r.same([]any{got.Erased, got.Body.Size, got.Body.Held()}, []any{true, m.Body.Size, int64(0)})
					rejects, log, err := r.Attachments(r.ctx, runs[i])
					r.check(err)
					r.same([]int64{rejects.Size, rejects.Held()}, []int64{m.Body.Size, 0})
					_, err = r.OpenBody(r.ctx, rejects)
					r.is(err, store.ErrErased)
					content, err := r.read(log)
					r.check(err)
					r.same(string(content), "log")
				}
				for _, b := range bodies {
					if b.Blob != uuid.Nil {
						_, err := r.OpenBody(r.ctx, b)
						r.is(err, store.ErrNotFound)
					}
				}
				r.kept(kept.Runs, kept.Bytes-6*bodies[0].Size)
			}
			rejects, _, err := r.Attachments(r.ctx, end.Run.Number)
			r.check(err)
			r.same(rejects, end.Rejects)
			got, err := r.Message(r.ctx, other.ID)
			r.check(err)
			r.same(got.Body, other.Body)

			// What comes too late is not kept either.
			late := r.newMessage("late")
			late.RejectsOf = runs[2]
			_, err = r.queue.Accept(r.ctx, r.of(late, 1))
			r.is(err, store.ErrErased)
			_, err = r.Message(r.ctx, late.ID)
			r.is(err, store.ErrNotFound)
			if h.Reopen != nil { // it was freed
				runs, _ := r.claimAt(time.Now().Add(time.Hour), 1, 3)
				waits = runs[0]
			}
			s := ended(waits, store.Warning)
			s.Rejects, s.Log = body(), inline("log")
			r.settle(s)
			rejects, _, err = r.Attachments(r.ctx, waits.Number)
			r.check(err)
			r.same([]int64{rejects.Size, rejects.Held()}, []int64{s.Rejects.Size, 0})
			if s.Rejects.Blob != uuid.Nil {
				_, err := r.OpenBody(r.ctx, s.Rejects)
				r.is(err, store.ErrNotFound)
			}
			r.kept(kept.Runs+1, kept.Bytes-6*bodies[0].Size+3)
			_, err = r.Prune(r.ctx, store.Keep{Since: noon.Add(time.Hour)}, 100)
			r.check(err)
			r.kept(0, 0)
		}
	},
	"prune: the longest ended first, no more than asked for": func(t *testing.T, h Harness) {
		r := begin(t, h)
		var n []int64
		for i, minutes := range []int{3, 1, 4, 2, 5} { // ended in another order than queued
			n = append(n, r.add(1, func(run *store.Run) { run.Queued = noon.Add(time.Duration(-i) * time.Hour) }))
			s := ended(r.claim(1)[0], store.Success)
			s.Run.Ended = noon.Add(time.Duration(minutes) * time.Minute)
			r.settle(s)
		}
		for _, step := range []struct {
			before  time.Time
			limit   int
			removed int
			left    []int64
		}{
			{noon.Add(time.Minute), 9, 0, []int64{n[4], n[3], n[2], n[1], n[0]}}, // before, not at
			{noon.Add(5 * time.Minute), 1, 1, []int64{n[4], n[3], n[2], n[0]}},
			{noon.Add(5 * time.Minute), 2, 2, []int64{n[4], n[2]}},
			{noon.Add(5 * time.Minute), 9, 1, []int64{n[4]}},
			{noon.Add(5 * time.Minute), 9, 0, []int64{n[4]}},
		} {
			removed, err := r.Prune(r.ctx, store.Keep{Since: step.before}, step.limit)
			r.check(err)
			r.same(removed, step.removed)
			for _, filter := range []store.RunFilter{{}, {FlowID: 1}} {
				runs, err := r.Runs(r.ctx, filter)
				r.check(err)
				r.same(numbers(runs), step.left)
			}
			_, err = r.Store.Run(r.ctx, n[1])
			r.same(err == nil, slices.Contains(step.left, n[1]))
		}
	},
	"prune: messages that nobody wanted": func(t *testing.T, h Harness) {
		r := begin(t, h)
		body := r.blob([]byte("large"))
		var unwanted []*store.Message
		for i := range 4 {
			m := r.newMessage(fmt.Sprint(i))
			if m.ReceivedAt = noon.Add(time.Duration(i) * time.Minute); i == 1 {
				m.Body = body
			}
			unwanted = append(unwanted, m)
			r.accept(&store.Acceptance{Message: m})
		}
		waits := r.newMessage("waits")
		r.accept(r.of(waits, 1))
		found := func() (n int) {
			for _, m := range unwanted {
				if _, err := r.Message(r.ctx, m.ID); err == nil {
					n++
				}
			}
			return n
		}
		for _, step := range []struct {
			keep          store.Keep
			limit, remain int
		}{
			{store.Keep{Runs: 1, Bytes: 1}, 9, 4}, // they are no runs
			{store.Keep{Since: noon}, 9, 4},
			{store.Keep{Since: noon.Add(3 * time.Minute)}, 2, 2},
			{store.Keep{Since: noon.Add(3 * time.Minute)}, 9, 1},
			{store.Keep{Since: noon.Add(3 * time.Minute)}, 9, 1},
			{store.Keep{Since: noon.Add(time.Hour)}, 9, 0},
		} {
			before := found()
			removed, err := r.Prune(r.ctx, step.keep, step.limit)
			r.check(err)
			r.same(found(), step.remain)
			r.same(removed, before-step.remain)
		}
		_, err := r.OpenBody(r.ctx, body)
		r.is(err, store.ErrNotFound)
		_, err = r.Message(r.ctx, waits.ID)
		r.check(err)
	},
	"prune: by age, by count and by bytes": func(t *testing.T, h Harness) {
		for name, step := range map[string]struct {
			keep store.Keep
			left int
		}{
			"nothing":                   {store.Keep{}, 5},
			"as many as there are":      {store.Keep{Runs: 5, Bytes: 50}, 5},
			"fewer runs":                {store.Keep{Runs: 3}, 3},
			"fewer bytes":               {store.Keep{Bytes: 39}, 3},
			"no byte less":              {store.Keep{Bytes: 40}, 4},
			"one byte":                  {store.Keep{Bytes: 1}, 0},
			"what keeps least decides":  {store.Keep{Since: noon.Add(2 * time.Minute), Runs: 2, Bytes: 49}, 2},
			"of all three, age":         {store.Keep{Since: noon.Add(5 * time.Minute), Runs: 2, Bytes: 49}, 1},
			"of all three, bytes":       {store.Keep{Since: noon.Add(2 * time.Minute), Runs: 4, Bytes: 9}, 0},
			"active runs are not meant": {store.Keep{Runs: 1, Bytes: 10}, 1},
		} {
			t.Log(name)
			r := begin(t, h)
			var n []int64
			for i := range 5 { // each has 10 bytes
				s := ended(r.claimed(r.of(r.newMessage("body"), 1)), store.Warning)
				s.Run.Ended, s.Rejects, s.Log = noon.Add(time.Duration(i+1)*time.Minute), inline("two"), inline("log")
				r.settle(s)
				n = append(n, s.Run.Number)
			}
			r.accept(r.of(r.newMessage("waits, and is not settled"), 2))
			r.claimed(r.of(r.newMessage("claimed"), 3))
			r.kept(5, 50)
			removed, err := r.Prune(r.ctx, step.keep, 9)
			r.check(err)
			r.same(removed, 5-step.left)
			runs, err := r.Runs(r.ctx, store.RunFilter{FlowID: 1})
			r.check(err)
			slices.Reverse(runs)
			r.same(numbers(runs), n[5-step.left:])
			r.kept(int64(step.left), int64(10*step.left))
			r.waiting(1, 1)
			if h.Reopen != nil {
				r.reopen()
				r.kept(int64(step.left), int64(10*step.left))
			}
		}
	},
	"prune: what several runs share counts once": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("body")
		m.Body = r.blob(large)
		r.accept(r.of(m, 1, 2, 3))
		one, two, three := r.claim(1)[0], r.claim(2)[0], r.claim(3)[0]
		r.same([]int64{one.Bytes, two.Bytes, three.Bytes}, []int64{m.Body.Size, 0, 0})
		end := func(run store.Run, minute int) {
			t.Helper()
			s := ended(run, store.Success)
			s.Run.Ended, s.Run.Bytes, s.Log = noon.Add(time.Duration(minute)*time.Minute), 7, inline("log") // nobody asks the caller
			r.settle(s)
		}
		prune := func(keep store.Keep, want int) {
			t.Helper()
			removed, err := r.Prune(r.ctx, keep, 9)
			r.check(err)
			r.same(removed, want)
		}
		end(one, 1)
		r.kept(1, m.Body.Size+3)
		end(three, 2)
		r.kept(2, m.Body.Size+6)
		prune(store.Keep{Runs: 1}, 1)
		r.kept(1, 3) // the body is for the one that is active
		r.same(r.run(two.Number).Bytes, m.Body.Size)
		end(two, 3)
		r.kept(2, m.Body.Size+6)
		replay := r.newRun(1)
		replay.Message = m.ID
		r.accept(&store.Acceptance{Runs: []*store.Run{replay}})
		prune(store.Keep{Bytes: m.Body.Size + 3}, 1)
		r.kept(1, m.Body.Size+3)
		end(r.claim(1)[0], 4)
		r.kept(2, m.Body.Size+6)
		if h.Reopen != nil {
			r.reopen()
			r.kept(2, m.Body.Size+6)
		}
		prune(store.Keep{Runs: 1}, 1)
		r.kept(1, m.Body.Size+3)
		r.same(r.run(replay.Number).Bytes, m.Body.Size+3)
		content, err := r.read(m.Body)
		r.check(err)
		r.same(content, large)
		prune(store.Keep{Bytes: 1}, 1)
		r.kept(0, 0)
		_, err = r.Message(r.ctx, m.ID)
		r.is(err, store.ErrNotFound)
	},
	"prune: active runs stay, and messages that have a run left": func(t *testing.T, h Harness) {
		r := begin(t, h)
		m := r.newMessage("")
		m.Body = r.blob(large)
		r.accept(r.of(m, 1, 2, 3))
		one, two := r.claim(1)[0], r.claim(2)[0] // the third stays queued
		r.settle(ended(one, store.Error))
		later := noon.Add(time.Hour)
		prune := func(want int) {
			t.Helper()
			removed, err := r.Prune(r.ctx, store.Keep{Since: later}, 100)
			r.check(err)
			r.same(removed, want)
		}
		prune(1)
		content, err := r.read(m.Body)
		r.check(err)
		r.same(content, large)
		runs, err := r.MessageRuns(r.ctx, m.ID)
		r.check(err)
		r.same(len(runs), 2)
		r.settle(ended(two, store.Error))
		prune(1)
		r.settle(ended(r.claim(3)[0], store.Success))
		prune(1)
		_, err = r.Message(r.ctx, m.ID)
		r.is(err, store.ErrNotFound)
		_, err = r.read(m.Body)
		r.is(err, store.ErrNotFound)
		prune(0)
	},
	"prune: rejects and logs go with their run": func(t *testing.T, h Harness) {
		r := begin(t, h)
		n := r.add(1, nil)
		s := ended(r.claim(1)[0], store.Warning)
		s.Rejects, s.Log = r.blob(large), r.blob(large)
		r.settle(s)
		_, err := r.Prune(r.ctx, store.Keep{Since: noon.Add(time.Hour)}, 1)
		r.check(err)
		_, _, err = r.Attachments(r.ctx, n)
		r.is(err, store.ErrNotFound)
		for _, body := range []store.Body{s.Rejects, s.Log} {
			_, err = r.OpenBody(r.ctx, body)
			r.is(err, store.ErrNotFound)
		}
	},
	"prune: many": func(t *testing.T, h Harness) {
		r := begin(t, h)
		const count = 1000
		for range count / 100 {
			a := &store.Acceptance{}
			for range 100 {
				a.Runs = append(a.Runs, r.newRun(1))
			}
			r.accept(a)
			var settlements []*store.Settlement
			for _, run := range r.claim(1) {
				settlements = append(settlements, ended(run, store.Error))
			}
			r.settle(settlements...)
		}
		last := r.add(1, nil)
		total := 0
		for {
			removed, err := r.Prune(r.ctx, store.Keep{Since: noon.Add(time.Hour)}, 300)
			r.check(err)
			if total += removed; removed == 0 {
				break
			}
		}
		r.same(total, count)
		runs, err := r.Runs(r.ctx, store.RunFilter{Limit: count})
		r.check(err)
		r.same(fmt.Sprint(numbers(runs)), fmt.Sprint([]int64{last}))
	},
}
