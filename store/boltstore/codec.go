package boltstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// Every stored value is an envelope: version, flags, key id (both reserved, 0), CRC-32C of the bucket's name, the key, these three and the
// payload, then the payload. The payload is a list of fields: a varint of tag<<1|kind, then a varint (kind 0) or a length and bytes
// (kind 1). Fields with zero values are left out, unknown tags are skipped. Rows that only point at others have no value: what they point
// at is verified.

const (
	valueVersion   = 1
	headLength     = 3
	envelopeLength = headLength + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(bucket, key, value []byte) uint32 {
	c := crc32.Update(0, castagnoli, bucket)
	c = crc32.Update(c, castagnoli, key)
	c = crc32.Update(c, castagnoli, value[:headLength])
	return crc32.Update(c, castagnoli, value[envelopeLength:])
}

// seal fills in the envelope of a value whose payload begins at envelopeLength.
func seal(bucket, key, value []byte) []byte {
	value[0], value[1], value[2] = valueVersion, 0, 0
	binary.BigEndian.PutUint32(value[headLength:], checksum(bucket, key, value))
	return value
}

// unseal returns the payload of a value, verified. It points into the value.
func unseal(bucket, key, value []byte) ([]byte, error) {
	switch {
	case len(value) < envelopeLength, binary.BigEndian.Uint32(value[headLength:]) != checksum(bucket, key, value):
		return nil, fmt.Errorf("%w: %s %x", store.ErrCorrupt, bucket, key)
	case value[0] != valueVersion || value[1] != 0 || value[2] != 0:
		return nil, fmt.Errorf("%w: %s %x is of a version that this engine does not know", store.ErrCorrupt, bucket, key)
	}
	return value[envelopeLength:], nil
}

// fields builds a payload.
type fields []byte

func newFields(size int) fields { return make(fields, envelopeLength, envelopeLength+size) }

func (f *fields) int(tag int, v int64) {
	if v != 0 {
		*f = binary.AppendUvarint(*f, uint64(tag)<<1)
		*f = binary.AppendVarint(*f, v)
	}
}

func (f *fields) bytes(tag int, v []byte) {
	if len(v) > 0 {
		*f = binary.AppendUvarint(*f, uint64(tag)<<1|1)
		*f = binary.AppendUvarint(*f, uint64(len(v)))
		*f = append(*f, v...)
	}
}

func (f *fields) text(tag int, v string) { f.bytes(tag, []byte(v)) }

func (f *fields) time(tag int, t time.Time) {
	if !t.IsZero() {
		f.int(tag, t.UnixNano())
	}
}

func (f *fields) id(tag int, id uuid.UUID) {
	if id != uuid.Nil {
		f.bytes(tag, id[:])
	}
}

func (f *fields) bool(tag int, v bool) {
	if v {
		f.int(tag, 1)
	}
}

var errUndecodable = fmt.Errorf("%w: a value cannot be decoded", store.ErrCorrupt)

// walk calls set for each field of a payload.
func walk(payload []byte, set func(tag int, number int64, data []byte) error) error {
	for len(payload) > 0 {
		head, n := binary.Uvarint(payload)
		if n <= 0 {
			return errUndecodable
		}
		payload = payload[n:]
		if head&1 == 0 {
			v, n := binary.Varint(payload)
			if n <= 0 {
				return errUndecodable
			}
			payload = payload[n:]
			if err := set(int(head>>1), v, nil); err != nil {
				return err
			}
			continue
		}
		length, n := binary.Uvarint(payload)
		if n <= 0 || length > uint64(len(payload)-n) {
			return errUndecodable
		}
		if err := set(int(head>>1), 0, payload[n:n+int(length)]); err != nil {
			return err
		}
		payload = payload[n+int(length):]
	}
	return nil
}

func instant(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }

func idOf(data []byte) uuid.UUID {
	var id uuid.UUID
	copy(id[:], data)
	return id
}

// nested appends a field whose payload is built by build. It is there also when it is empty: as one of a list it counts.
func (f *fields) nested(tag int, build func(*fields)) {
	*f = binary.AppendUvarint(*f, uint64(tag)<<1|1)
	start := len(*f)
	*f = append(*f, 0) // the length of a short one
	build(f)
	length := uint64(len(*f) - start - 1)
	if length < 0x80 {
		(*f)[start] = byte(length)
		return
	}
	var head [binary.MaxVarintLen64]byte
	*f = slices.Replace(*f, start, start+1, head[:binary.PutUvarint(head[:], length)]...)
}

func (f *fields) body(tag int, b store.Body) {
	f.nested(tag, func(f *fields) {
		f.bytes(1, b.Inline)
		f.id(2, b.Blob)
		f.int(3, b.Size)
		if b.SHA256 != [32]byte{} {
			f.bytes(4, b.SHA256[:])
		}
	})
}

func decodeBody(data []byte) (b store.Body, err error) {
	err = walk(data, func(tag int, n int64, data []byte) error {
		switch tag {
		case 1:
			b.Inline = append([]byte(nil), data...)
		case 2:
			b.Blob = idOf(data)
		case 3:
			b.Size = n
		case 4:
			copy(b.SHA256[:], data)
		}
		return nil
	})
	return b, err
}

// messageRuns is the tag of the runs that a message came with, by number. A run that came later has a row of bucketMessageRuns.
const messageRuns = 14

func encodeMessage(m *store.Message, runs ...int64) []byte {
	f := newFields(320 + len(m.Body.Inline))
	f.id(1, m.ID)
	f.text(2, m.Listener)
	f.text(3, m.User)
	f.time(4, m.ReceivedAt)
	f.text(5, m.Method)
	for i, pairs := range [][]store.Pair{m.Params, m.Query, m.Header} {
		for _, p := range pairs {
			f.nested(6+i, func(f *fields) {
				f.text(1, p.Name)
				f.text(2, p.Value)
			})
		}
	}
	f.body(9, m.Body)
	f.bool(10, m.Erased)
	f.int(11, m.RejectsOf)
	for _, id := range m.Derived {
		f.id(12, id)
	}
	f.text(13, m.Format)
	for _, n := range runs {
		f.int(messageRuns, n)
	}
	return f
}

// runsOf returns the numbers of the runs that a message came with, from its payload.
func runsOf(payload []byte) (runs []int64) {
	walk(payload, func(tag int, n int64, _ []byte) error {
		if tag == messageRuns {
			runs = append(runs, n)
		}
		return nil
	})
	return runs
}

func decodeMessage(payload []byte) (*store.Message, error) {
	m := &store.Message{}
	err := walk(payload, func(tag int, n int64, data []byte) (err error) {
		switch tag {
		case 1:
			m.ID = idOf(data)
		case 2:
			m.Listener = string(data)
		case 3:
			m.User = string(data)
		case 4:
			m.ReceivedAt = instant(n)
		case 5:
			m.Method = string(data)
		case 6, 7, 8:
			var p store.Pair
			err = walk(data, func(tag int, _ int64, data []byte) error {
				switch tag {
				case 1:
					p.Name = string(data)
				case 2:
					p.Value = string(data)
				}
				return nil
			})
			pairs := map[int]*[]store.Pair{6: &m.Params, 7: &m.Query, 8: &m.Header}[tag]
			*pairs = append(*pairs, p)
		case 9:
			m.Body, err = decodeBody(data)
		case 10:
			m.Erased = n != 0
		case 11:
			m.RejectsOf = n
		case 12:
			m.Derived = append(m.Derived, idOf(data))
		case 13:
			m.Format = string(data)
		}
		return err
	})
	return m, err
}

// Tags of a run that are looked at by themselves.
const (
	runStatus = 13
	runEpoch  = 19
	runBytes  = 28

	runRejects = 29 // and its log, of a run that has ended, where they are small: others have a row of bucketAttachments
	runLog     = 30
)

// usualRun is how many bytes most runs take, and bodyHead how many a body takes beside its own, at most.
const (
	usualRun = 217
	bodyHead = 64
)

// attachedAtMost is how many bytes of rejects and log a run's row has.
const attachedAtMost = 4 << 10

// attachedBy returns the rejects and the log that a run's payload has.
func attachedBy(payload []byte) (rejects, log store.Body, err error) {
	err = walk(payload, func(tag int, _ int64, data []byte) (err error) {
		switch tag {
		case runRejects:
			rejects, err = decodeBody(data)
		case runLog:
			log, err = decodeBody(data)
		}
		return err
	})
	return rejects, log, err
}

// fits reports whether rejects and log fit into a run's row.
func fits(rejects, log store.Body) bool {
	return rejects.Blob == uuid.Nil && log.Blob == uuid.Nil && len(rejects.Inline)+len(log.Inline) <= attachedAtMost
}

// encodeEnded encodes a run with its rejects and its log.
func encodeEnded(r *store.Run, rejects, log store.Body) []byte {
	f := runFields(r, len(rejects.Inline)+len(log.Inline)+bodyHead)
	if rejects.Size > 0 {
		f.body(runRejects, rejects)
	}
	if log.Size > 0 {
		f.body(runLog, log)
	}
	return f
}

func encodeRun(r *store.Run) []byte { return runFields(r, 0) }

// runFields has room for more.
func runFields(r *store.Run, more int) fields {
	f := newFields(usualRun + more)
	f.id(1, r.ID)
	f.int(2, r.Number)
	f.int(3, r.Parent)
	f.text(4, r.Flow)
	f.int(5, r.FlowID)
	f.text(6, r.Trigger)
	f.id(7, r.Message)
	f.text(8, r.User)
	f.bytes(9, r.Params)
	f.text(10, r.Order)
	f.time(11, r.Queued)
	f.text(12, r.Version)
	f.int(runStatus, int64(r.Status))
	f.time(14, r.Due)
	f.time(15, r.Started)
	f.time(16, r.Ended)
	f.int(17, int64(r.Attempts))
	f.int(18, int64(r.Crashes))
	f.int(runEpoch, r.Epoch)
	f.int(20, r.Read)
	f.int(21, r.Written)
	f.int(22, r.Rejected)
	f.text(23, r.Kind)
	f.text(24, r.Exception)
	f.text(25, r.ErrorID)
	f.text(26, r.Reason)
	f.time(27, r.Scheduled)
	f.int(runBytes, r.Bytes)
	return f
}

func decodeRun(payload []byte) (store.Run, error) {
	var r store.Run
	err := walk(payload, func(tag int, n int64, data []byte) error {
		switch tag {
		case 1:
			r.ID = idOf(data)
		case 2:
			r.Number = n
		case 3:
			r.Parent = n
		case 4:
			r.Flow = string(data)
		case 5:
			r.FlowID = n
		case 6:
			r.Trigger = string(data)
		case 7:
			r.Message = idOf(data)
		case 8:
			r.User = string(data)
		case 9:
			r.Params = append([]byte(nil), data...)
		case 10:
			r.Order = string(data)
		case 11:
			r.Queued = instant(n)
		case 12:
			r.Version = string(data)
		case runStatus:
			r.Status = store.Status(n)
		case 14:
			r.Due = instant(n)
		case 15:
			r.Started = instant(n)
		case 16:
			r.Ended = instant(n)
		case 17:
			r.Attempts = int(n)
		case 18:
			r.Crashes = int(n)
		case runEpoch:
			r.Epoch = n
		case 20:
			r.Read = n
		case 21:
			r.Written = n
		case 22:
			r.Rejected = n
		case 23:
			r.Kind = string(data)
		case 24:
			r.Exception = string(data)
		case 25:
			r.ErrorID = string(data)
		case 26:
			r.Reason = string(data)
		case 27:
			r.Scheduled = instant(n)
		case runBytes:
			r.Bytes = n
		}
		return nil
	})
	return r, err
}

func encodeOnce(o *store.Once, receipt *store.Receipt) []byte {
	f := newFields(256)
	f.time(1, o.Until)
	f.bytes(2, o.BodyHash[:])
	f.id(3, receipt.Message)
	for _, r := range receipt.Runs {
		f.nested(4, func(f *fields) {
			f.text(1, r.Flow)
			f.int(2, r.FlowID)
			f.int(3, r.Number)
		})
	}
	return f
}

// once is a used once-key.
type once struct {
	until    time.Time
	bodyHash [32]byte
	receipt  store.Receipt
}

func decodeOnce(payload []byte) (o once, err error) {
	err = walk(payload, func(tag int, n int64, data []byte) error {
		switch tag {
		case 1:
			o.until = instant(n)
		case 2:
			copy(o.bodyHash[:], data)
		case 3:
			o.receipt.Message = idOf(data)
		case 4:
			var r store.ReceiptRun
			err := walk(data, func(tag int, n int64, data []byte) error {
				switch tag {
				case 1:
					r.Flow = string(data)
				case 2:
					r.FlowID = n
				case 3:
					r.Number = n
				}
				return nil
			})
			o.receipt.Runs = append(o.receipt.Runs, r)
			return err
		}
		return nil
	})
	return o, err
}

func encodeEntry(e store.Entry) []byte {
	f := newFields(len(e.Value) + 16)
	f.int(1, e.Version)
	f.bytes(2, e.Value)
	return f
}

func decodeEntry(kind, name string, payload []byte) (store.Entry, error) {
	e := store.Entry{Kind: kind, Name: name}
	err := walk(payload, func(tag int, n int64, data []byte) error {
		switch tag {
		case 1:
			e.Version = n
		case 2:
			e.Value = append([]byte(nil), data...)
		}
		return nil
	})
	return e, err
}

func encodeAttachments(rejects, log store.Body) []byte {
	f := newFields(128 + len(rejects.Inline) + len(log.Inline))
	f.body(1, rejects)
	f.body(2, log)
	return f
}

func decodeAttachments(payload []byte) (rejects, log store.Body, err error) {
	err = walk(payload, func(tag int, _ int64, data []byte) (err error) {
		switch tag {
		case 1:
			rejects, err = decodeBody(data)
		case 2:
			log, err = decodeBody(data)
		}
		return err
	})
	return rejects, log, err
}
