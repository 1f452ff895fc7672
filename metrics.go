package integrator

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/store"
)

// meter is the observer that metrics are made of. It hands each event on.
type meter struct {
	set       *metrics.Set
	next      flow.Observer
	listeners sync.Map // name → *listenerMetrics
	flows     sync.Map // name → *flowMetrics
	delivered sync.Map // connection → *metrics.PrometheusHistogram
	failed    *metrics.Counter

	commit, operations, checkpoint *metrics.PrometheusHistogram // of the store
}

// Bounds of what histograms tell apart. A commit takes a fraction of a millisecond where the disk is good.
var (
	seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	counts  = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000}
)

type listenerMetrics struct {
	accepted, bytes *metrics.Counter
	commit          *metrics.PrometheusHistogram
}

type flowMetrics struct {
	settled                 map[store.Status]*metrics.Counter
	read, written, rejected *metrics.Counter
	waited, took            *metrics.PrometheusHistogram
}

func newMeter(next flow.Observer) *meter {
	set := metrics.NewSet()
	return &meter{set: set, next: next, failed: set.NewCounter("integrator_store_failures_total"),
		commit:     set.NewPrometheusHistogramExt("integrator_store_commit_seconds", seconds),
		operations: set.NewPrometheusHistogramExt("integrator_store_commit_operations", counts),
		checkpoint: set.NewPrometheusHistogramExt("integrator_store_checkpoint_seconds", seconds)}
}

// labelled returns a metric's name with its labels, in pairs (the text format of Prometheus 0.0.4 escapes as Go does).
func labelled(name string, labels ...string) string {
	for i := 0; i < len(labels); i += 2 {
		separator := ","
		if i == 0 {
			separator = "{"
		}
		name += fmt.Sprintf("%s%s=%q", separator, labels[i], labels[i+1])
	}
	return name + "}"
}

// Observe counts.
func (m *meter) Observe(event flow.Event) {
	switch e := event.(type) {
	case flow.Accepted:
		l := m.listener(e.Listener)
		l.accepted.Inc()
		l.bytes.Add(int(e.Bytes))
		l.commit.Update(e.Took.Seconds())
	case flow.Refused:
		m.set.GetOrCreateCounter(labelled("integrator_refused_total", "listener", e.Listener, "reason", e.Reason)).Inc()
	case flow.Started:
		m.flow(e.Flow).waited.Update(e.Waited.Seconds())
	case flow.Settled:
		f := m.flow(e.Run.Flow)
		if c := f.settled[e.Run.Status]; c != nil {
			c.Inc()
		}
		f.took.Update(e.Took.Seconds())
		if e.Run.Status.Settled() {
			f.read.Add(int(e.Run.Read))
			f.written.Add(int(e.Run.Written))
			f.rejected.Add(int(e.Run.Rejected))
		}
	case flow.Delivered:
		m.delivery(e.Connection).Update(e.Took.Seconds())
	case flow.Committed:
		m.commit.Update(e.Took.Seconds())
		m.operations.Update(float64(e.Operations))
	case flow.Checkpointed:
		m.checkpoint.Update(e.Took.Seconds())
	case flow.FailStop:
		m.failed.Inc()
	}
	m.next.Observe(event)
}

func (m *meter) delivery(connection string) *metrics.PrometheusHistogram {
	if d, ok := m.delivered.Load(connection); ok {
		return d.(*metrics.PrometheusHistogram)
	}
	d := m.set.GetOrCreatePrometheusHistogramExt(labelled("integrator_destination_commit_seconds", "connection", connection), seconds)
	held, _ := m.delivered.LoadOrStore(connection, d)
	return held.(*metrics.PrometheusHistogram)
}

func (m *meter) listener(name string) *listenerMetrics {
	if l, ok := m.listeners.Load(name); ok {
		return l.(*listenerMetrics)
	}
	l := &listenerMetrics{
		accepted: m.set.GetOrCreateCounter(labelled("integrator_accepted_total", "listener", name)),
		bytes:    m.set.GetOrCreateCounter(labelled("integrator_accepted_bytes_total", "listener", name)),
		commit:   m.set.GetOrCreatePrometheusHistogram(labelled("integrator_accept_commit_seconds", "listener", name)),
	}
	held, _ := m.listeners.LoadOrStore(name, l)
	return held.(*listenerMetrics)
}

func (m *meter) flow(name string) *flowMetrics {
	if f, ok := m.flows.Load(name); ok {
		return f.(*flowMetrics)
	}
	records := func(what string) *metrics.Counter {
		return m.set.GetOrCreateCounter(labelled("integrator_records_total", "flow", name, "what", what))
	}
	f := &flowMetrics{
		settled: map[store.Status]*metrics.Counter{
			store.Queued: m.set.GetOrCreateCounter(labelled("integrator_retries_total", "flow", name)),
		},
		read: records("read"), written: records("written"), rejected: records("rejected"),
		waited: m.set.GetOrCreatePrometheusHistogram(labelled("integrator_run_wait_seconds", "flow", name)),
		took:   m.set.GetOrCreatePrometheusHistogram(labelled("integrator_run_seconds", "flow", name)),
	}
	for _, status := range []store.Status{store.Success, store.Warning, store.Error, store.Canceled} {
		f.settled[status] = m.set.GetOrCreateCounter(labelled("integrator_runs_total", "flow", name, "status", status.String()))
	}
	held, _ := m.flows.LoadOrStore(name, f)
	return held.(*flowMetrics)
}

// WriteMetrics writes the engine's metrics in the text format of Prometheus: those that the table in HTTP.md lists. A host serves them where
// its own are; GET /metrics asks for a token. Names of flows, listeners and connections are those of definitions, so that there are no more
// series than these make.
func (e *Engine) WriteMetrics(ctx context.Context, w io.Writer) error {
	e.meter.set.WritePrometheus(w)
	s := e.state.Load()
	if s == nil {
		return nil
	}
	queued, running, err := s.queue.Waiting(ctx)
	if err != nil {
		return fmt.Errorf("integrator: count the runs: %w", err)
	}
	oldest, err := s.queue.Oldest(ctx)
	if err != nil {
		return fmt.Errorf("integrator: look for the oldest run: %w", err)
	}
	waits := time.Duration(0)
	if !oldest.IsZero() {
		waits = max(0, e.config.Clock().Sub(oldest))
	}
	_, err = fmt.Fprintf(w, "integrator_runs_queued %d\nintegrator_runs_running %d\nintegrator_queue_age_seconds %g\n", queued, running, waits.Seconds())
	// What a store that has failed does not tell is left out: the rest is wanted then.
	if kept, keptErr := s.store.Kept(ctx); keptErr == nil && err == nil {
		_, err = fmt.Fprintf(w, "integrator_history_runs %d\nintegrator_history_bytes %d\n", kept.Runs, kept.Bytes)
	}
	if sized, ok := s.store.(interface{ Size() (int64, error) }); ok && err == nil {
		if size, sizeErr := sized.Size(); sizeErr == nil {
			_, err = fmt.Fprintf(w, "integrator_store_bytes %d\n", size)
		}
	}
	return err
}
