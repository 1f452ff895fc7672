package memstore_test

import (
	"testing"

	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/store/memstore"
	"github.com/integrator-go/integrator/store/storetest"
)

var harness = storetest.Harness{New: func(testing.TB) store.Store { return memstore.New() }, Exclusive: true}

func TestStore(t *testing.T) { storetest.Run(t, harness) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, harness) }
