package integrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/httpapi"
	"github.com/integrator-go/integrator/internal/define"
	"github.com/integrator-go/integrator/store"
)

// sources are the definitions by who owns them. What files and Go define counts before what was made at run time under the same name: that is
// hidden for as long, and kept.
type sources struct {
	files  *define.Tree
	inGo   *define.Tree
	stored *define.Tree
}

// merge returns what is in force, and the faults of names that files and Go both define.
func (s sources) merge() (*define.Tree, Faults) {
	tree, faults := define.Merge(s.files, s.inGo)
	if tree = s.stored.Override(tree); tree == nil {
		tree, _ = define.FromGo(Definitions{})
	}
	return tree, faults
}

// owner returns who owns a definition: "file", with its place, "go", "http"; "" when there is none.
func (s sources) owner(kind, name string) (owner, place string) {
	if file, line, ok := s.files.Has(kind, name); ok {
		return httpapi.OwnerFile, fmt.Sprintf("%s:%d", file, line)
	}
	if _, _, ok := s.inGo.Has(kind, name); ok {
		return httpapi.OwnerGo, ""
	}
	if _, _, ok := s.stored.Has(kind, name); ok {
		return httpapi.OwnerHTTP, ""
	}
	return "", ""
}

// Define brings definitions made in Go into force, beside those in files, replacing what earlier calls defined under the same
// names. They are in memory: see [Engine.Persist] for others. All or nothing: the error holds every fault, as [Faults], and what was in force stays.
func (e *Engine) Define(d Definitions) error {
	tree, err := define.FromGo(d)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.set.Load().sources
	next.inGo = next.inGo.Override(tree)
	if err := e.apply(context.Background(), next, nil); err != nil {
		return err
	}
	e.hidden(next)
	return nil
}

// Persist brings connections, listeners, flows and schedules into force as if each had been put over HTTP, all or nothing: they are in the store when
// it returns, are there after a restart, and can be changed over HTTP. It replaces what is there under the same names, but a name that files or
// Define own is a fault. The error holds every fault, as [Faults], and what was in force stays; it is flow.ErrStopping when the engine does not run.
func (e *Engine) Persist(ctx context.Context, d Definitions) error {
	tree, err := define.FromGo(d)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.set.Load().sources
	var faults Faults
	tree.Each(func(kind, name string) {
		if !slices.Contains(httpapi.Kinds, kind) {
			faults = append(faults, Fault{Path: define.Join(kind, name), Reason: "the store keeps " + strings.Join(httpapi.Kinds, ", ") + " alone"})
		} else if owner, place := next.owner(kind, name); owner != "" && owner != httpapi.OwnerHTTP {
			faults = append(faults, Fault{Path: define.Join(kind, name), Reason: fmt.Sprintf("%q is defined already, %s", name, strings.TrimSpace("in "+owner+" "+place)), Hint: "change it there"})
		}
	})
	if faults != nil {
		return faults
	}
	next.stored = next.stored.Override(tree)
	return e.change(ctx, next)
}

// change is apply for definitions of the store that differ from those in it. The caller holds e.mu.
func (e *Engine) change(ctx context.Context, next sources) error {
	running := e.state.Load()
	if running == nil {
		return fmt.Errorf("integrator: define: %w", flow.ErrStopping)
	}
	ctx = context.WithoutCancel(ctx) // what has begun is not given up because somebody hangs up
	return e.apply(ctx, next, func() error {
		held, err := running.store.Get(ctx, kindDefined, "")
		if err == nil || errors.Is(err, store.ErrNotFound) {
			_, err = running.store.Put(ctx, store.Entry{Kind: kindDefined, Value: next.stored.JSON(), Version: held.Version})
		}
		if err != nil {
			return fmt.Errorf("keep the definitions: %w", err)
		}
		return nil
	})
}

// kindDefined is the catalog's kind of the one entry that holds what was defined at run time.
const kindDefined = "defined"

// load reads what was defined at run time.
func (e *Engine) load(ctx context.Context, st store.Store) (*define.Tree, error) {
	entry, err := st.Get(ctx, kindDefined, "")
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the definitions made over HTTP: %w", err)
	}
	tree, err := define.Parse("", entry.Value)
	if err != nil {
		return nil, fmt.Errorf("read the definitions made over HTTP: %w", err)
	}
	return tree, nil
}

// hidden logs which definitions made at run time files and Go hide.
func (e *Engine) hidden(s sources) {
	s.stored.Each(func(kind, name string) {
		if owner, place := s.owner(kind, name); owner != httpapi.OwnerHTTP {
			e.logger.Warn("a definition made over HTTP is hidden by one of the same name", "kind", kind, "name", name, "owner", owner, "place", place)
		}
	})
}

// definition returns a definition as the routes show it; nil when there is none.
func (s *set) definition(kind, name string) *httpapi.Definition {
	owner, place := s.sources.owner(kind, name)
	if owner == "" {
		return nil
	}
	return &httpapi.Definition{Name: name, Owner: owner, Place: place, JSON: s.tree.Entry(kind, name, s.secret)}
}

// secret reports whether what stands at a path is shown to nobody.
func (s *set) secret(path string) bool { return s.secrets[path] || s.secrets[path+"[0]"] }

func (s surface) Owner(kind, name string) (owner string) {
	owner, _ = s.e.set.Load().sources.owner(kind, name)
	return owner
}

func (s surface) Definition(kind, name string) *httpapi.Definition {
	return s.e.set.Load().definition(kind, name)
}

func (s surface) Definitions(kind string) []*httpapi.Definition {
	set := s.e.set.Load()
	definitions := []*httpapi.Definition{}
	for _, name := range set.tree.Names(kind) {
		definitions = append(definitions, set.definition(kind, name))
	}
	return definitions
}

func (s surface) Define(ctx context.Context, kind, name, file string, body []byte, agree func(held *httpapi.Definition, masked bool) error) (*httpapi.Definition, error) {
	tree, err := define.ParseEntry(file, kind, name, body)
	if err != nil {
		err = fmt.Errorf("%s %q: %w", kind, name, err)
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	set := s.e.set.Load()
	masked := false
	if err == nil {
		tree, masked = tree.Unmask(kind, name, set.sources.stored, set.secret)
	}
	if refused := agree(set.definition(kind, name), masked); refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	next := set.sources
	next.stored = next.stored.Override(tree)
	if err := s.e.change(ctx, next); err != nil {
		return nil, err
	}
	return s.Definition(kind, name), nil
}

func (s surface) Undefine(ctx context.Context, kind, name string, agree func(held *httpapi.Definition) error) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	set := s.e.set.Load()
	if err := agree(set.definition(kind, name)); err != nil {
		return err
	}
	next := set.sources
	next.stored = next.stored.Without(kind, name)
	return s.e.change(ctx, next)
}
