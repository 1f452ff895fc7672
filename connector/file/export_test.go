package file

// JournalOf is where the journal of appending to a path is.
func JournalOf(path string) string { return noteAbout(path, "append") }
