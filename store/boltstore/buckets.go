package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/store"
)

// bucket says what the rows of a bucket are. What makes, checks, copies and mends stores goes by the table of them alone.
type bucket struct {
	name []byte
	show func(key []byte) string // a key in words

	// decode reads a value; nil for an index, whose rows have none.
	decode func(key, payload []byte) (any, error)

	// An index of runs: point returns the key that a run has in it, nil when it has none; hint notes in a run what a key says of it, its
	// Number at least, and is false for what is no key of the index.
	point func(r *store.Run) []byte
	hint  func(key []byte, r *store.Run) bool
}

var buckets = []bucket{
	{name: bucketMeta, show: showText, decode: func(_, payload []byte) (any, error) { return payload, nil }},
	{name: bucketMessages, show: showID, decode: func(_, payload []byte) (any, error) { return decodeMessage(payload) }},
	{name: bucketMessageRuns, show: showPair(16, showID),
		point: func(r *store.Run) []byte {
			if r.Message == uuid.Nil {
				return nil
			}
			return pairKey(r.Message[:], r.Number)
		},
		hint: func(key []byte, r *store.Run) bool {
			r.Message = idOf(key)
			return numberAt(key, 16, r)
		}},
	{name: bucketActive, show: showNumber, decode: decodeRow},
	{name: bucketHistory, show: showNumber, decode: decodeRow},
	{name: bucketByFlow, show: showPair(8, showNumber),
		point: func(r *store.Run) []byte {
			if !r.Status.Settled() {
				return nil
			}
			return pairKey(numberKey(r.FlowID), r.Number)
		},
		hint: func(key []byte, r *store.Run) bool {
			if !numberAt(key, 8, r) {
				return false
			}
			r.FlowID = int64(binary.BigEndian.Uint64(key))
			return true
		}},
	{name: bucketFailed, show: showNumber,
		point: func(r *store.Run) []byte {
			if !r.Status.Settled() || r.Status == store.Success {
				return nil
			}
			return numberKey(r.Number)
		},
		hint: func(key []byte, r *store.Run) bool { return numberAt(key, 0, r) }},
	{name: bucketEnded, show: showPair(8, showTime),
		point: func(r *store.Run) []byte {
			if !r.Status.Settled() {
				return nil
			}
			return pairKey(timeKey(r.Ended), r.Number)
		},
		hint: func(key []byte, r *store.Run) bool {
			if !numberAt(key, 8, r) {
				return false
			}
			r.Ended = timeOf(key)
			return true
		}},
	{name: bucketAttachments, show: showNumber, decode: func(_, payload []byte) (any, error) {
		rejects, log, err := decodeAttachments(payload)
		return [2]store.Body{rejects, log}, err
	}},
	{name: bucketBlobs, show: showID, decode: func(_, payload []byte) (any, error) { return payload, nil }},
	{name: bucketOnce, show: showName, decode: func(_, payload []byte) (any, error) { return decodeOnce(payload) }},
	{name: bucketOnceUntil, show: showText},
	{name: bucketCatalog, show: showName, decode: func(key, payload []byte) (any, error) {
		kind, name, ok := splitName(key)
		if !ok {
			return nil, errUndecodable
		}
		return decodeEntry(kind, name, payload)
	}},
	{name: bucketNumbers, show: showName, decode: func(_, payload []byte) (any, error) {
		n, size := binary.Varint(payload)
		if size <= 0 {
			return nil, errUndecodable
		}
		return n, nil
	}},
}

// bucketOf returns the entry of the table; nil for a bucket that is not the store's.
func bucketOf(name []byte) *bucket {
	for i := range buckets {
		if bytes.Equal(buckets[i].name, name) {
			return &buckets[i]
		}
	}
	return nil
}

// unseal verifies a row and returns what it holds; nil for a row of an index.
func (b *bucket) unseal(key, value []byte) (any, error) {
	if b.decode == nil {
		if len(value) > 0 || b.hint != nil && !b.hint(key, &store.Run{}) {
			return nil, errUndecodable
		}
		return nil, nil
	}
	payload, err := unseal(b.name, key, value)
	if err != nil {
		return nil, err
	}
	return b.decode(key, payload)
}

func decodeRow(key, payload []byte) (any, error) {
	r, err := decodeRun(payload)
	if err == nil && !bytes.Equal(key, numberKey(r.Number)) {
		err = errUndecodable
	}
	return &r, err
}

func numberAt(key []byte, at int, r *store.Run) bool {
	if len(key) != at+8 {
		return false
	}
	r.Number = int64(binary.BigEndian.Uint64(key[at:]))
	return true
}

// timeOf reads what timeKey wrote.
func timeOf(key []byte) time.Time {
	n := binary.BigEndian.Uint64(key)
	if n == 0 {
		return time.Time{}
	}
	return instant(int64(n ^ 1<<63))
}

// splitName reads what nameKey wrote.
func splitName(key []byte) (kind, name string, ok bool) {
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) {
		return "", "", false
	}
	return string(key[n : n+int(length)]), string(key[n+int(length):]), true
}

func showText(key []byte) string { return strconv.Quote(string(key)) }

func showNumber(key []byte) string {
	if len(key) != 8 {
		return fmt.Sprintf("%x", key)
	}
	return strconv.FormatInt(int64(binary.BigEndian.Uint64(key)), 10)
}

func showID(key []byte) string {
	if len(key) != 16 {
		return fmt.Sprintf("%x", key)
	}
	return idOf(key).String()
}

func showTime(key []byte) string { return timeOf(key).Format(time.RFC3339Nano) }

func showName(key []byte) string {
	kind, name, ok := splitName(key)
	if !ok {
		return fmt.Sprintf("%x", key)
	}
	return strconv.Quote(kind) + " " + strconv.Quote(name)
}

// showPair shows a key of two parts: the first of a length, the second a number.
func showPair(length int, first func([]byte) string) func([]byte) string {
	return func(key []byte) string {
		if len(key) != length+8 {
			return fmt.Sprintf("%x", key)
		}
		return first(key[:length]) + " " + showNumber(key[length:])
	}
}
