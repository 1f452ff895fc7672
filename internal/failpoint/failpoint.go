// Package failpoint names the steps of a payload's way at which a crash is tried. [Hit] marks such a step in the code. In ordinary builds it is
// an empty function that leaves nothing in the program; built with the tag failpoints, the process kills itself at the step that the
// environment variable INTEGRATOR_FAILPOINT names. The command internal/kill does that to a server, for every point.
package failpoint

// Point is a step at which a crash is tried.
type Point struct {
	Name string
	In   string // the function that marks it, once: package.Function or package.Type.Method
}

// Points are all that there are, in the order of a payload's way.
var Points = []Point{
	{"receive.read", "listener.Receiver.Receive"},        // the body is read, and nothing of it is kept but a large one
	{"blob.synced", "boltstore.blobWriter.Commit"},       // a large body is synced under its temporary name
	{"blob.renamed", "boltstore.blobWriter.Commit"},      // it has its name, and the folder is not synced
	{"blob.durable", "boltstore.blobWriter.Commit"},      // the folder is synced, and nothing refers to the body
	{"accept.written", "boltstore.Queue.Accept"},         // the message and its runs are written and not committed
	{"journal.written", "boltstore.journal.commit"},      // a commit is in the journal, and not synced
	{"accept.committed", "boltstore.Queue.Accept"},       // they are committed, and nobody knows
	{"accept.answering", "httpapi.handler.listen"},       // the answer is about to leave
	{"claim.written", "boltstore.Queue.Claim"},           // runs are marked as claimed, and not committed
	{"claim.committed", "boltstore.Queue.Claim"},         // they are claimed, and nobody works on them
	{"begin.noting", "flow.Runner.attempt"},              // before it is noted that runs are at work
	{"begin.noted", "flow.Runner.attempt"},               // after
	{"sql.committing", "sqldb.work.end"},                 // rows and the run's mark are written and not committed
	{"sql.committed", "sqldb.work.end"},                  // they are committed, and the run is not settled
	{"file.noting", "file.work.place"},                   // the file is whole under its temporary name, before the note about it
	{"file.placing", "file.work.place"},                  // before it gets its name
	{"file.placed", "file.work.Commit"},                  // it has its name, and the folder is not synced
	{"file.committed", "file.work.Commit"},               // all files are in their places, their folders synced, and the run is not settled
	{"append.journaled", "file.work.append"},             // it is noted where records will stand in a file, and they do not
	{"append.written", "file.work.append"},               // they stand there, and are not synced
	{"append.synced", "file.work.append"},                // they are synced, and no note says that the run has appended
	{"append.noted", "file.work.place"},                  // the note does, and the run's temporary file is still there
	{"http.calling", "httpclient.connection.call"},       // an API is about to be called
	{"http.answered", "httpclient.connection.call"},      // it has answered, and nobody knows
	{"part.noting", "sqldb.work.Checkpoint"},             // records of a part are written, and nothing is noted about them
	{"part.committed", "sqldb.work.Checkpoint"},          // the part is committed, and the next one not begun
	{"retry.decided", "flow.Runner.settlement"},          // the attempt failed, and the run is to be queued again
	{"settle.deciding", "flow.Runner.settle"},            // destinations have committed, and nothing is written about it
	{"settle.written", "boltstore.Queue.Settle"},         // what became of runs is written and not committed
	{"settle.committed", "boltstore.Queue.Settle"},       // it is committed, and nobody knows
	{"retry.committed", "boltstore.Queue.Settle"},        // a run is queued again
	{"cancel.written", "boltstore.Queue.Cancel"},         // a queued run is canceled, and not committed
	{"cancel.committed", "boltstore.Queue.Cancel"},       // it is committed, and nobody knows
	{"cancel.active", "flow.Runner.cancelActive"},        // a run at work is told to stop
	{"replay.copied", "flow.Runner.Replay"},              // rejected records are copied, and no message has them
	{"replay.storing", "flow.Runner.Replay"},             // the message is there, and its new runs are not stored
	{"replay.stored", "flow.Runner.Replay"},              // they are stored, and nobody knows
	{"tick.due", "flow.Runner.fire"},                     // a schedule is due, and its run is not stored
	{"tick.stored", "flow.Runner.tick"},                  // its run is stored under the once-key of the due time
	{"tick.remembered", "flow.Runner.tick"},              // the due time is stored as the last one
	{"prune.written", "boltstore.Store.Prune"},           // old runs are deleted, and not committed
	{"prune.committed", "boltstore.Store.Prune"},         // they are, and their large bodies are there
	{"prune.unlinked", "boltstore.Store.Prune"},          // a large body is gone
	{"checkpoint.committing", "boltstore.Store.settled"}, // what the journal has is in the database's transaction, and not committed
	{"checkpoint.committed", "boltstore.Store.settled"},  // it is committed, and the journal still has it
	{"join.began", "boltstore.Store.Join"},               // a new epoch is stored, and the claims of the crashed one are not freed
	{"join.freed", "boltstore.Store.Join"},               // they are freed, and what was at work is still noted
	{"join.renewed", "boltstore.Store.Join"},             // nothing is noted as being at work any more
}
