// Package transform turns payloads into records, changes them, and turns them back: the record model ([Value], [Record], [Batch]), the formats
// that read and write it ([Format]; each kind is a package below this one), and what happens in between: paths, expressions ([CompileExpression]),
// mappings ([CompileMap]) and steps ([Step]).
//
//	e, err := transform.CompileExpression("qty * price", transform.CompileOptions{})
//	…
//	total, err := e.Eval(&transform.Env{}, &transform.Record{Value: order}) // exact: 3 * 105.55 is 316.65
//
// # Records
//
// A record is a tree of values: null, bool, number, text, bytes, object, list. Numbers keep the digits they were written with until an
// expression computes with them, and computing is exact. Text of a source that knows no types is untyped: it counts as a number where a number
// is due and it reads as one. Objects keep the order of their fields; those of one form share the list of names, their [Shape].
//
// # Who owns which memory
//
// Records travel in batches. A decoder fills a [Batch] and gives it away; steps change its records in place; an encoder or a destination reads
// it and keeps nothing. Decoding, steps and writing may be at three goroutines, each of which has a batch to itself until it hands it on.
//
// Four kinds of memory belong to a batch:
//
//   - the list of its records;
//   - the bodies of objects and lists, in a few large pieces (slabs) that decoders and maps take from it ([Batch.Values], [Batch.Object]);
//   - texts: those that were read are substrings of the piece of the document that the decoder looked at, which several batches may share, so that
//     the decoder lends it to each ([Batch.Hold]); those that an expression made lie in small pieces that the collector owns;
//   - names: a [Shape] is shared by all records of a form, and belongs to nobody.
//
// Values never change, and nothing of this is written to a second time: a reject, another destination or a Go step may hold a value for as long as it
// likes. What outlives the run is cloned, so that one kept field does not hold a whole batch ([Value.Clone]).
//
// The exception is [Batch.Recycle]. Who calls it knows that nobody holds anything of the batch, and the next records are made in its memory. A run does
// so when its steps and what writes its records are all a [Borrower]: the steps of this package, and files. It has some seven batches then, however
// long the document is, and the collector has nothing to do. With one Go step, or one destination that may keep values, each batch is new. A decoder
// that has begun a record when it hands over a batch calls [Batch.Abandon], which takes that batch's memory out of use.
//
// # Security considerations
//
// Payloads are hostile, definitions are trusted. Formats refuse what is not well-formed with line and column, resolve no entities, open
// nothing, and hold every limit of [Limits] while they read. Expressions see data as values and never as source; their own size, the depth of
// their closures, the work that they may do and the memory that they may make are bounded, so that no document makes an expression cost more.
package transform
