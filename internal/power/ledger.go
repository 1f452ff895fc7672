package main

import (
	"maps"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// mark is what the driver says: before it asks for something ("accepting"), and once it has been answered ("accepted").
type mark struct {
	What    string
	Message uuid.UUID    `json:",omitzero"`
	Size    int64        `json:",omitempty"`
	SHA256  []byte       `json:",omitempty"`
	Of      int          `json:",omitempty"` // how many runs it has
	Runs    []int64      `json:",omitempty"` // of accepted, pruning, pruned and spared
	Run     int64        `json:",omitempty"` // of settling, settled and unsettled
	Status  store.Status `json:",omitempty"` // that the run gets; Queued: it is tried again
	Name    string       `json:",omitempty"` // of an entry
	Value   string       `json:",omitempty"`
}

// known says whether something holds.
type known uint8

const (
	no    known = iota
	maybe       // it was asked for
	yes         // it was answered
)

// ledger is what is known of a store after some marks.
type ledger struct {
	messages map[uuid.UUID]message
	runs     map[int64]run
	entries  map[string]entry
	backup   *ledger // what a backup has; nil: there may be none
}

// message is what is known of a message.
type message struct {
	size             int64
	sum              [32]byte
	accepted, erased known
	of               int     // how many runs it has
	runs             []int64 // when it is accepted
}

// run is what is known of a run.
type run struct {
	message uuid.UUID
	status  store.Status // 0: it has not ended
	next    store.Status // that was asked for; 0: none
	gone    known
}

// entry is what is known of an entry of the catalog.
type entry struct{ value, next string } // "": none

func newLedger() *ledger {
	return &ledger{messages: map[uuid.UUID]message{}, runs: map[int64]run{}, entries: map[string]entry{}}
}

func (l *ledger) clone() *ledger {
	return &ledger{maps.Clone(l.messages), maps.Clone(l.runs), maps.Clone(l.entries), l.backup}
}

// take takes what the driver says.
func (l *ledger) take(m mark) {
	said, r, e := l.messages[m.Message], l.runs[m.Run], l.entries[m.Name]
	switch m.What {
	case "accepting":
		l.messages[m.Message] = message{size: m.Size, sum: [32]byte(m.SHA256), accepted: maybe, of: m.Of}
	case "accepted":
		said.accepted, said.runs = yes, m.Runs
		l.messages[m.Message] = said
		for _, n := range m.Runs {
			r := l.runs[n] // somebody may have settled it before its message was answered
			r.message = m.Message
			l.runs[n] = r
		}
	case "settling":
		r.message, r.next = m.Message, m.Status
		l.runs[m.Run] = r
	case "settled":
		if r.next = 0; m.Status.Settled() {
			r.status = m.Status
		}
		l.runs[m.Run] = r
	case "unsettled":
		r.next = 0
		l.runs[m.Run] = r
	case "erasing":
		said.erased = maybe
		l.messages[m.Message] = said
	case "erased":
		said.erased = yes
		l.messages[m.Message] = said
	case "pruning", "pruned", "spared":
		for _, n := range m.Runs {
			r := l.runs[n]
			r.gone = map[string]known{"pruning": maybe, "pruned": yes, "spared": no}[m.What]
			l.runs[n] = r
		}
	case "putting":
		e.next = m.Value
		l.entries[m.Name] = e
	case "backedUp":
		l.backup = l.clone()
	case "put":
		l.entries[m.Name] = entry{value: m.Value}
	}
}

// gone says whether a message is not there any more: with the last of its runs.
func (l *ledger) gone(m message) known {
	if len(m.runs) == 0 {
		return no
	}
	least := yes
	for _, n := range m.runs {
		least = min(least, l.runs[n].gone)
	}
	return least
}
