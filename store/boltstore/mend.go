package boltstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// mender makes whole what a rescue has brought into a fresh file: afterwards whatever refers to something finds it.
type mender struct {
	ctx    context.Context
	fill   *filler
	bad    map[uuid.UUID]bool // large bodies that are missing or damaged
	hurt   bool               // pages that say where rows are were damaged
	note   func(format string, args ...any)
	result *Repaired
	now    time.Time

	bodiless map[uuid.UUID]bool   // messages whose payload is lost
	lost     map[int64]*store.Run // what indexes say of runs that are not there
	names    map[int64]string     // flows by number
	next     int64                // above every run's number
	known    int64                // above every number that something intact says was handed out
}

// flowKind is the kind of the numbers that runs know as FlowID.
const flowKind = "flow"

const lostRun = "store repair: what was stored of this run is damaged"

func (m *mender) mend() error {
	for _, step := range []func() error{m.messages, m.active, m.ended, m.indexes, m.lostRuns, m.runs, m.runless, m.attachments, m.onceKeys, m.counters} {
		if err := step(); err != nil {
			return err
		}
	}
	return m.fill.commit()
}

// each calls f with the rows of a bucket. f may write and remove any row but later ones of the bucket.
func (m *mender) each(name []byte, f func(key []byte, held any) error) error {
	b := bucketOf(name)
	for after := []byte(nil); ; {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		from, err := m.fill.bucket(name)
		if err != nil {
			return err
		}
		type row struct{ key, value []byte }
		var rows []row
		cursor, size := from.Cursor(), 0
		for k, v := cursor.Seek(after); k != nil && len(rows) < mendAtOnce && size < fillAtMost; k, v = cursor.Next() {
			if !bytes.Equal(k, after) {
				rows = append(rows, row{bytes.Clone(k), bytes.Clone(v)})
				size += len(k) + len(v)
			}
		}
		if len(rows) == 0 {
			return nil
		}
		for _, r := range rows {
			held, err := b.unseal(r.key, r.value)
			if err != nil {
				return err
			}
			if err := f(r.key, held); err != nil {
				return err
			}
		}
		after = rows[len(rows)-1].key
	}
}

// get returns what a row holds; nil without one.
func (m *mender) get(name, key []byte) (any, error) {
	b, err := m.fill.bucket(name)
	if err != nil {
		return nil, err
	}
	value := b.Get(key)
	if value == nil {
		return nil, nil
	}
	return bucketOf(name).unseal(key, value)
}

func (m *mender) put(name, key []byte, value []byte) error {
	return m.fill.put(name, key, seal(name, key, value))
}

func (m *mender) putRun(name []byte, r *store.Run) error {
	key := numberKey(r.Number)
	b, err := m.fill.bucket(name)
	if err != nil {
		return err
	}
	var rejects, log store.Body
	if value := b.Get(key); value != nil { // it keeps what else its row has
		if rejects, log, err = attachedBy(value[envelopeLength:]); err != nil {
			return err
		}
	}
	return m.put(name, key, encodeEnded(r, rejects, log))
}

// find returns a run, ended or active; nil without one.
func (m *mender) find(number int64) (*store.Run, error) {
	for _, name := range [][]byte{bucketHistory, bucketActive} {
		if held, err := m.get(name, numberKey(number)); held != nil || err != nil {
			r, _ := held.(*store.Run)
			return r, err
		}
	}
	return nil, nil
}

// message returns the message of a run; nil when it is lost.
func (m *mender) message(r *store.Run) (*store.Message, error) {
	if r.Message == uuid.Nil {
		return nil, nil
	}
	held, err := m.get(bucketMessages, r.Message[:])
	message, _ := held.(*store.Message)
	return message, err
}

func (m *mender) own(b store.Body) error {
	if b.Blob == uuid.Nil {
		return nil
	}
	return m.put(bucketBlobs, b.Blob[:], make([]byte, envelopeLength))
}

// messages notes which large bodies are referred to, and gives up those that are lost: such a message is as one whose body was erased.
func (m *mender) messages() error {
	err := m.each(bucketBlobs, func(key []byte, _ any) error { return m.fill.remove(bucketBlobs, key) })
	if err != nil {
		return err
	}
	return m.each(bucketMessages, func(key []byte, held any) error {
		message := held.(*store.Message)
		b, err := m.fill.bucket(bucketMessages)
		if err != nil {
			return err
		}
		runs := runsOf(b.Get(key)[envelopeLength:])
		for _, n := range runs { // the index says it from here on, like those of other runs
			m.known = max(m.known, n+1)
			if err := m.fill.put(bucketMessageRuns, pairKey(key, n), nil); err != nil {
				return err
			}
		}
		if !m.bad[message.Body.Blob] {
			if len(runs) > 0 {
				err = m.put(bucketMessages, key, encodeMessage(message))
			}
			return errors.Join(err, m.own(message.Body))
		}
		m.note("messages %s: its payload is lost, it is kept as erased", message.ID)
		m.bodiless[message.ID] = true
		message.Body.Blob, message.Erased = uuid.Nil, true
		return m.put(bucketMessages, key, encodeMessage(message))
	})
}

// active ends runs that cannot go on, and drops those that have ended.
func (m *mender) active() error {
	return m.each(bucketActive, func(key []byte, held any) error {
		run := held.(*store.Run)
		m.known = max(m.known, run.Number+1)
		ended, err := m.get(bucketHistory, key)
		if err != nil {
			return err
		}
		if ended != nil {
			return m.fill.remove(bucketActive, key)
		}
		message, err := m.message(run)
		if err != nil || run.Message == uuid.Nil || message != nil && !m.bodiless[message.ID] {
			return err
		}
		m.note("active %d: the payload of its message %s is lost, it ends in error", run.Number, run.Message)
		m.result.Failed++
		run.Status, run.Ended, run.Epoch, run.Kind = store.Error, m.now, 0, "internal"
		run.Exception = fmt.Sprintf("store repair: the payload of message %s is damaged", run.Message)
		return errors.Join(m.putRun(bucketHistory, run), m.fill.remove(bucketActive, key))
	})
}

// ended makes runs forget messages that are lost.
func (m *mender) ended() error {
	return m.each(bucketHistory, func(_ []byte, held any) error {
		run := held.(*store.Run)
		m.known = max(m.known, run.Number+1)
		message, err := m.message(run)
		if err != nil || message != nil || run.Message == uuid.Nil {
			return err
		}
		run.Message = uuid.Nil
		return m.putRun(bucketHistory, run)
	})
}

// indexes removes rows that no run says, and gathers what they say of runs that are not there. Nothing verifies an index's own row: one of a number that was
// never handed out is damage.
func (m *mender) indexes() error {
	if held, err := m.get(bucketMeta, keyNumbers); err != nil {
		return err
	} else if payload, ok := held.([]byte); ok {
		n, _ := binary.Varint(payload)
		m.known = max(m.known, n)
	}
	for i := range buckets {
		b := &buckets[i]
		if b.hint == nil {
			continue
		}
		some := store.Run{Message: uuid.Max}
		ofEnded := b.point(&some) == nil
		some.Status = store.Success
		ofFailed := b.point(&some) == nil
		err := m.each(b.name, func(key []byte, _ any) error {
			var said store.Run
			b.hint(key, &said)
			run, err := m.find(said.Number)
			if err != nil {
				return err
			}
			if run != nil {
				if bytes.Equal(b.point(run), key) {
					return nil
				}
				return m.fill.remove(b.name, key)
			}
			if said.Number <= 0 || said.Number >= m.known {
				m.note("%s %s: there was no such run", b.name, b.show(key))
				return m.fill.remove(b.name, key)
			}
			lost := m.lost[said.Number]
			if lost == nil {
				lost = &store.Run{}
				m.lost[said.Number] = lost
			}
			b.hint(key, lost)
			switch {
			case ofFailed:
				lost.Status = store.Error
			case ofEnded && lost.Status == 0:
				lost.Status = store.Success
			}
			return m.fill.remove(b.name, key)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lostRuns writes what is left of runs that are not there into the history.
func (m *mender) lostRuns() error {
	err := m.each(bucketNumbers, func(key []byte, held any) error {
		if kind, name, _ := splitName(key); kind == flowKind {
			m.names[held.(int64)] = name
		}
		return nil
	})
	if err != nil || len(m.lost) == 0 {
		return err
	}
	err = m.each(bucketOnce, func(_ []byte, held any) error {
		for _, r := range held.(once).receipt.Runs {
			if lost := m.lost[r.Number]; lost != nil {
				lost.Flow, lost.FlowID = r.Flow, r.FlowID
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for number, run := range m.lost {
		if run.ID, err = uuid.NewV7(); err != nil {
			return err
		}
		message, err := m.message(run)
		if err != nil {
			return err
		}
		if run.Flow == "" {
			run.Flow = m.names[run.FlowID]
		}
		if run.Queued = run.Ended; message != nil {
			run.User, run.Queued = message.User, message.ReceivedAt
		} else {
			run.Message = uuid.Nil
		}
		switch {
		case run.Status == 0 && message != nil && !m.bodiless[message.ID]:
			m.note("active %d: it is lost, its message %s is intact: replay it", number, message.ID)
			m.result.Replay = append(m.result.Replay, message.ID)
			run.Exception = lostRun + "; replay its message"
		case run.Status == 0:
			m.note("active %d: it is lost with its payload", number)
			run.Exception = lostRun
		default:
			m.note("history %d: it is lost but for its end", number)
		}
		if run.Status == 0 {
			m.result.Failed++
			run.Status, run.Ended = store.Error, m.now
		}
		if run.Status == store.Error {
			run.Kind, run.Exception = "internal", cmp.Or(run.Exception, lostRun)
		}
		if err := m.putRun(bucketHistory, run); err != nil {
			return err
		}
	}
	return nil
}

// runs puts every run into its indexes, and gives flows the numbers back that runs know them by.
func (m *mender) runs() error {
	for _, name := range [][]byte{bucketActive, bucketHistory} {
		err := m.each(name, func(_ []byte, held any) error {
			run := held.(*store.Run)
			m.next = max(m.next, run.Number+1)
			if run.Flow != "" && run.FlowID > 0 && m.names[run.FlowID] == "" {
				m.names[run.FlowID] = run.Flow
				if err := m.put(bucketNumbers, nameKey(flowKind, run.Flow), number64(run.FlowID)); err != nil {
					return err
				}
			}
			for i := range buckets {
				if b := &buckets[i]; b.point != nil {
					if key := b.point(run); key != nil {
						if err := m.fill.put(b.name, key, nil); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// runless lists the messages that no run tells of any more. Where no page is lost they are those that nobody wanted.
func (m *mender) runless() error {
	if !m.hurt {
		return nil
	}
	return m.each(bucketMessages, func(key []byte, held any) error {
		to, err := m.fill.bucket(bucketMessageRuns)
		if err != nil {
			return err
		}
		if k, _ := to.Cursor().Seek(key); bytes.HasPrefix(k, key) || held.(*store.Message).Erased {
			return nil
		}
		id := held.(*store.Message).ID
		m.note("messages %s: it is intact, and whether it had runs is lost: replay it unless nobody wanted it", id)
		m.result.Replay = append(m.result.Replay, id)
		return nil
	})
}

// attachments gives up bodies that are lost, and those of runs that are.
func (m *mender) attachments() error {
	return m.each(bucketAttachments, func(key []byte, held any) error {
		bodies := held.([2]store.Body)
		run, err := m.find(numberOf(key))
		if err != nil {
			return err
		}
		if run == nil {
			m.note("attachments %s: the run that they belong to is lost", showNumber(key))
			return m.fill.remove(bucketAttachments, key)
		}
		changed := false
		for i := range bodies {
			if m.bad[bodies[i].Blob] {
				bodies[i], changed = store.Body{}, true
			} else if err := m.own(bodies[i]); err != nil {
				return err
			}
		}
		if !changed {
			return nil
		}
		return m.put(bucketAttachments, key, encodeAttachments(bodies[0], bodies[1]))
	})
}

// onceKeys makes the order anew in which once-keys are forgotten.
func (m *mender) onceKeys() error {
	err := m.each(bucketOnceUntil, func(key []byte, _ any) error { return m.fill.remove(bucketOnceUntil, key) })
	if err != nil {
		return err
	}
	return m.each(bucketOnce, func(key []byte, held any) error {
		return m.fill.put(bucketOnceUntil, append(timeKey(held.(once).until), key...), nil)
	})
}

// counters lifts the counters over everything that was counted. What they had counted beyond is not known when they are lost.
func (m *mender) counters() error {
	var version int64
	err := m.each(bucketCatalog, func(_ []byte, held any) error {
		version = max(version, held.(store.Entry).Version)
		return nil
	})
	if err != nil {
		return err
	}
	last := map[string]int64{}
	err = m.each(bucketNumbers, func(key []byte, held any) error {
		kind, _, _ := splitName(key)
		last[kind] = max(last[kind], held.(int64))
		return nil
	})
	if err != nil {
		return err
	}
	lift := func(key []byte, least, spare int64) error {
		held, err := m.get(bucketMeta, key)
		if err != nil {
			return err
		}
		if payload, ok := held.([]byte); ok {
			if n, _ := binary.Varint(payload); n >= least {
				return nil
			}
		}
		return m.put(bucketMeta, key, number64(least+spare))
	}
	err = errors.Join(lift(keyVersions, version, numbersAtOnce), lift(keyNumbers, m.next, numbersAtOnce))
	if held, getErr := m.get(bucketMeta, keyEpoch); getErr != nil || held == nil {
		err = errors.Join(err, getErr, lift(keyEpoch, m.now.Unix(), 0)) // above every epoch that there can have been
	}
	for kind, n := range last {
		err = errors.Join(err, lift(nameKey("last", kind), n, 0))
	}
	return err
}

// number64 is the value of putNumber, to be sealed.
func number64(n int64) []byte { return binary.AppendVarint(make([]byte, envelopeLength), n) }
