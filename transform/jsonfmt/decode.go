package jsonfmt

import (
	"io"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/internal/feed"
	"github.com/integrator-go/integrator/transform/internal/scope"
	"github.com/integrator-go/integrator/transform/internal/window"
)

func (f *format) scanner(limits transform.Limits) *scanner {
	return &scanner{lastWins: f.options.DuplicateKeys == "last", limits: limits.WithDefaults(), root: f.root.Shape()}
}

// walker goes through one document along the path of its records.
type walker struct {
	*scanner
	selector transform.Selector
	omit     transform.Selector // what the records leave out
	raw      bool
	scopes   *scope.Scopes
	emit     func(r *transform.Record, size int64) error // nil: the document is only checked
	found    transform.Record                            // last
}

// document reads the whole document.
func (w *walker) document() error {
	c, err := w.space()
	if err != nil {
		return err
	}
	if c == 0 && w.At == len(w.Text) {
		return w.Fault(w.At, "the document is empty")
	}
	if err := w.walk(w.selector); err != nil {
		return err
	}
	return w.end()
}

// walk reads the value that comes next, which the steps lead into.
func (w *walker) walk(steps transform.Selector) error {
	if w.scopes != nil && len(steps) == len(w.selector)-len(w.selector.Enclosing()) {
		if err := w.scopes.Advance(); err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		return w.record()
	}
	c, err := w.space()
	if err != nil {
		return err
	}
	switch all := steps[0].All; {
	case all && c == '[':
		return w.walkList(steps[1:])
	case all && c != 'n':
		return w.walk(steps[1:]) // one value counts as a list of one
	case !all && c == '{':
		return w.walkObject(steps[0].Name, steps[1:])
	}
	return w.skip()
}

func (w *walker) walkList(steps transform.Selector) error {
	if err := w.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		if more, err := w.element(first); err != nil || !more {
			return err
		}
		if err := w.walk(steps); err != nil {
			return err
		}
	}
}

func (w *walker) walkObject(into string, steps transform.Selector) error {
	if err := w.enter(); err != nil {
		return err
	}
	fields := transform.NewShapeBuilder(w.root)
	for {
		name, place, err := w.member(&fields)
		if err != nil || place < 0 {
			return err
		}
		if name == into {
			err = w.walk(steps)
		} else {
			err = w.skip()
		}
		if err != nil {
			return err
		}
	}
}

// record reads the value that comes next as a record.
func (w *walker) record() error {
	if _, err := w.space(); err != nil {
		return err
	}
	r := &w.found
	*r = transform.Record{Line: w.Begin(w.At, w.limits.RecordBytes, w.raw)}
	var err error
	if r.Value, err = w.value(w.emit != nil, w.omit); err != nil {
		return err
	}
	r.Source = r.Value
	if w.raw {
		r.Raw = w.Kept()
	}
	size, err := w.Finish(w.At)
	if err != nil || w.emit == nil {
		return err
	}
	if w.scopes != nil {
		r.Scope = w.scopes.Now()
	}
	return w.emit(r, size)
}

// decoder returns the decoder of the records of r. Its scopes come from the same document opened again.
func (f *format) decoder(r io.Reader, o transform.DecodeOptions, selector, omit transform.Selector) (*feed.Feed, error) {
	w := &walker{scanner: f.scanner(o.Limits), selector: selector, omit: omit, raw: o.Raw}
	w.Window = window.New("json", r)
	if o.Scope && len(selector) > 0 {
		var err error
		if w.scopes, err = f.scopes(o, selector); err != nil {
			return nil, err
		}
	}
	d := feed.New(w.limits, func(d *feed.Feed) error {
		w.emit, w.Wait, w.batch = d.Emit, d.Wait, d.Batch
		if err := w.Start(); err != nil {
			return err
		}
		return w.document()
	})
	d.Holds = w.values.Holds
	d.Release = func() {
		w.values.Free()
		w.scopes.Close()
	}
	return d, nil
}

// scopes prepares what DecodeOptions.Scope asks for.
func (f *format) scopes(o transform.DecodeOptions, selector transform.Selector) (*scope.Scopes, error) {
	enclosing := selector.Enclosing()
	return scope.Open(o, func(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
		return f.decoder(r, o, nil, selector)
	}, func(r io.Reader, o transform.DecodeOptions) (transform.Decoder, error) {
		return f.decoder(r, o, enclosing, selector[len(enclosing):])
	})
}
