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
// it and keeps nothing. Values never change, and their text may point into the buffer that a decoder read: that buffer lives as long as any
// value of it does, because no decoder writes into a buffer twice. So a reject, another destination or a Go step may hold a value for as long
// as it likes; what outlives the run is cloned, so that one kept field does not hold a whole buffer ([Value.Clone]).
//
// # Security considerations
//
// Payloads are hostile, definitions are trusted. Formats refuse what is not well-formed with line and column, resolve no entities, open
// nothing, and hold every limit of [Limits] while they read. Expressions see data as values and never as source; their own size, the depth of
// their closures, the work that they may do and the memory that they may make are bounded, so that no document makes an expression cost more.
package transform
