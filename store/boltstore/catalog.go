package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/integrator-go/integrator/store"
)

// keyVersions is the counter that all versions of the catalog come from, so that a name never gets one twice.
var keyVersions = []byte("versions")

// Get returns an entry of the catalog.
func (s *Store) Get(ctx context.Context, kind, name string) (e store.Entry, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		e, err = s.entry(tx, kind, name)
		return err
	})
	return e, err
}

func (s *Store) entry(tx *bolt.Tx, kind, name string) (store.Entry, error) {
	key := nameKey(kind, name)
	value := tx.Bucket(bucketCatalog).Get(key)
	if value == nil {
		return store.Entry{}, fmt.Errorf("%s %q: %w", kind, name, store.ErrNotFound)
	}
	payload, err := s.unseal(bucketCatalog, key, value)
	if err != nil {
		return store.Entry{}, err
	}
	return decodeEntry(kind, name, payload)
}

// List returns the entries of a kind by name.
func (s *Store) List(ctx context.Context, kind string) (entries []store.Entry, err error) {
	prefix := nameKey(kind, "")
	err = s.view(ctx, func(tx *bolt.Tx) error {
		cursor := tx.Bucket(bucketCatalog).Cursor()
		for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
			payload, err := s.unseal(bucketCatalog, k, v)
			if err != nil {
				continue // told to OnCorrupt; the others are still there
			}
			e, err := decodeEntry(kind, string(k[len(prefix):]), payload)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// Put stores an entry.
func (s *Store) Put(ctx context.Context, e store.Entry) (version int64, err error) {
	if err := store.CheckName(e.Kind, e.Name); err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	err = s.do(ctx, &operation{
		check: func(tx *bolt.Tx) error {
			if err := s.unchanged(tx, e.Kind, e.Name, e.Version); err != nil {
				return err
			}
			last, err := number(tx, bucketMeta, keyVersions)
			version = last + 1
			return err
		},
		apply: func(tx *writeTx) error {
			if err := putNumber(tx, bucketMeta, keyVersions, version); err != nil {
				return err
			}
			stored := e
			stored.Version = version
			key := nameKey(e.Kind, e.Name)
			return tx.put(bucketCatalog, key, seal(bucketCatalog, key, encodeEntry(stored)))
		},
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// unchanged refuses when the entry has another version; 0 means that there is none.
func (s *Store) unchanged(tx *bolt.Tx, kind, name string, version int64) error {
	held, err := s.entry(tx, kind, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if held.Version != version {
		return fmt.Errorf("%s %q: %w", kind, name, store.ErrConflict)
	}
	return nil
}

// Delete removes an entry.
func (s *Store) Delete(ctx context.Context, kind, name string, version int64) error {
	return s.do(ctx, &operation{
		check: func(tx *bolt.Tx) error {
			if _, err := s.entry(tx, kind, name); err != nil {
				return err
			}
			return s.unchanged(tx, kind, name, version)
		},
		apply: func(tx *writeTx) error { return tx.delete(bucketCatalog, nameKey(kind, name)) },
	})
}

// Numbers returns the numbers that belong to names.
func (s *Store) Numbers(ctx context.Context, kind string, names ...string) ([]int64, error) {
	for _, name := range names {
		if err := store.CheckName(kind, name); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	var numbers []int64
	read := func(tx *bolt.Tx) error {
		numbers = make([]int64, len(names))
		for i, name := range names {
			var err error
			if numbers[i], err = number(tx, bucketNumbers, nameKey(kind, name)); err != nil {
				return err
			}
		}
		if slices.Contains(numbers, 0) {
			return nil
		}
		return errDone
	}
	lastKey := nameKey("last", kind)
	err := s.view(ctx, read)
	if err == nil {
		var last int64
		err = s.do(ctx, &operation{
			check: func(tx *bolt.Tx) (err error) {
				if err = read(tx); err == nil {
					last, err = number(tx, bucketMeta, lastKey)
				}
				return err
			},
			apply: func(tx *writeTx) error {
				for i, name := range names {
					key := nameKey(kind, name)
					if held, err := number(tx.Tx, bucketNumbers, key); err != nil {
						return err
					} else if held != 0 { // also for a name that is there twice
						numbers[i] = held
						continue
					}
					last++
					numbers[i] = last
					if err := putNumber(tx, bucketNumbers, key, last); err != nil {
						return err
					}
				}
				return putNumber(tx, bucketMeta, lastKey, last)
			},
		})
	}
	if err != nil && !errors.Is(err, errDone) {
		return nil, err
	}
	return numbers, nil
}
