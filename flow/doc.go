// Package flow holds what a person defines to happen to payloads, and what makes it happen: a [Definition] is compiled to a [Plan], and the
// [Runner] takes each run of a plan from acceptance to settlement.
//
//	plan, faults := flow.Compile("load-orders", 1, "flows.load-orders", definition, environment)
//	…
//	receipt, err := runner.Submit(ctx, flow.Submission{Message: message, Plans: []*flow.Plan{plan}, Trigger: "listener"})
//
// # What is promised
//
// Never lost: Submit and Call return without an error only when the message and its runs are durable in the store. From then on each run is
// executed until it has settled as success, warning, error or canceled. A run that ended in error keeps its message, so that it can be
// looked at and sent again.
//
// Applied once where the destination dedupes, at least once elsewhere: a crash between a destination's commit and the settlement executes the
// run again, with the same id, the same start time and the same definitions; destinations that keep run ids (SQL tables, files that stay where
// they were put) find that they have it, and calls of an API carry the same keys. A run with several connections commits them one after the other: a crash in between is completed by the next attempt.
//
// All or nothing for each connection: what a run writes to one connection takes effect together, when the run has seen all of its records, or
// not at all. A destination with Commit is the exception that its definition asks for: the run is committed in parts, each of them all or nothing,
// and what is committed stays when the run fails later. See below. The calls of an API are another: each takes effect when it is made, one record after the
// other, and none is made behind a record that ends the run. A rejected record is left out of every destination that stands behind the one which rejected it,
// and of all on the same connection where that can take back what it wrote (SQL). With Each a record is several rows, and one of them that is rejected rejects the record.
//
// Rejects: where OnReject.To sends rejected records they are once for each run that ended in warning: written with the destinations on the same connection (a table), or committed before
// all of them.
//
// Order: runs of one flow begin in the order in which they became due, as far as they wait in one engine, and run at the same time where the
// flow allows it. Only an order key keeps them one after the other.
//
// # Attempts
//
// A run that nobody waits for is tried again when it failed for a passing reason: an error of a source or a destination that is not marked
// by [Permanent], a time limit, or an error marked by [RetryAfter]. The pause doubles from the flow's back-off to its cap, with a fifth of
// jitter, and holds no worker. Rejected input, what an error of a Go step makes of a record included, refusals, panics and internal faults
// are not tried again. A run that an orderly stop interrupts keeps its attempts. A run that was at work in
// three crashes is taken for their cause and ends in error; those that were at work in one are executed one at a time.
//
// # Large runs in parts
//
// A run of a flow whose destination has Commit is committed after every so many records of its source. When it reads a payload, the next attempt
// goes on behind the last part that was committed: the steps and the destination see no record of that part again, and the run's counters
// and rejects are those of a single attempt. With any other source each attempt begins at the first record, and the destination's action is one
// that can be repeated. Crashes are counted from the last part on. A replay is another run: it begins at the first record.
//
// # Small runs together
//
// Runs of one flow whose payloads are small, and whom nobody waits for an answer of, share a piece of work on each connection, up to the
// flow's group. Each keeps its own counters, rejects and status; a fault splits the group, and each run answers for itself.
package flow
