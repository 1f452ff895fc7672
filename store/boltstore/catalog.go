package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

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
	payload, err := s.open(bucketCatalog, key, value)
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
			payload, err := s.open(bucketCatalog, k, v)
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
		apply: func(tx *bolt.Tx) error {
			if err := putNumber(tx, bucketMeta, keyVersions, version); err != nil {
				return err
			}
			stored := e
			stored.Version = version
			key := nameKey(e.Kind, e.Name)
			return tx.Bucket(bucketCatalog).Put(key, seal(bucketCatalog, key, encodeEntry(stored)))
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
		apply: func(tx *bolt.Tx) error { return tx.Bucket(bucketCatalog).Delete(nameKey(kind, name)) },
	})
}

// NumberOf returns the number that belongs to a name.
func (s *Store) NumberOf(ctx context.Context, kind, name string) (n int64, err error) {
	if err := store.CheckName(kind, name); err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	key, last := nameKey(kind, name), nameKey("last", kind)
	err = s.view(ctx, func(tx *bolt.Tx) error {
		n, err = number(tx, bucketNumbers, key)
		return err
	})
	if err != nil || n != 0 {
		return n, err
	}
	err = s.do(ctx, &operation{
		check: func(tx *bolt.Tx) (err error) {
			if n, err = number(tx, bucketNumbers, key); err == nil && n == 0 {
				n, err = number(tx, bucketMeta, last)
				n++
			} else if err == nil {
				err = errDone
			}
			return err
		},
		apply: func(tx *bolt.Tx) error {
			if err := putNumber(tx, bucketMeta, last, n); err != nil {
				return err
			}
			return putNumber(tx, bucketNumbers, key, n)
		},
	})
	if err != nil && !errors.Is(err, errDone) {
		return 0, err
	}
	return n, nil
}
