// Package scope finds what encloses the records of a list: it runs ahead over the same document, opened again, because a field of an enclosing
// element may stand behind its list.
package scope

import (
	"errors"
	"io"

	"github.com/integrator-go/integrator/transform"
)

// Scopes knows what encloses the records that a decoder reads. It is used by one goroutine. A nil Scopes knows nothing.
type Scopes struct {
	now     *transform.Scope
	doc     transform.Value
	parents transform.Decoder // of the enclosing elements
	batch   transform.Batch
	used    int
	closers []io.Closer
}

// Open reads the whole document without its record list, and starts on the elements that enclose the lists. Each function returns a decoder of
// the document that it is given.
func Open(o transform.DecodeOptions, whole, parents func(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error)) (*Scopes, error) {
	if o.Reopen == nil {
		return nil, errors.New("transform: DecodeOptions.Scope needs Reopen")
	}
	s := &Scopes{}
	open := func(decoder func(io.Reader, transform.DecodeOptions) (transform.Decoder, error)) (transform.Decoder, error) {
		r, err := o.Reopen()
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, r)
		d, err := decoder(r, transform.DecodeOptions{Limits: o.Limits})
		if c, ok := d.(io.Closer); ok && err == nil {
			s.closers = append(s.closers, c)
		}
		return d, err
	}
	d, err := open(whole)
	if err == nil {
		var doc transform.Batch
		if err = d.Decode(&doc); err == nil {
			s.doc = doc.Records[0].Value
			s.parents, err = open(parents)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Advance moves on to the next enclosing element.
func (s *Scopes) Advance() error {
	if s.used == len(s.batch.Records) {
		s.used = 0
		if err := s.parents.Decode(&s.batch); err != nil {
			if err == io.EOF {
				err = errors.New("transform: the document that was read a second time is another one")
			}
			return err
		}
	}
	s.now = &transform.Scope{Parent: s.batch.Records[s.used].Value, Doc: s.doc}
	s.used++
	return nil
}

// Now returns what encloses the record that is read.
func (s *Scopes) Now() *transform.Scope {
	if s == nil {
		return nil
	}
	return s.now
}

// Close closes what was opened.
func (s *Scopes) Close() {
	if s == nil {
		return
	}
	for _, c := range s.closers {
		c.Close()
	}
	s.closers = nil
}
