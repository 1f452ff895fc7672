package integrator

import (
	"context"
	"fmt"
	"io"
	"sync"

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
	failed    *metrics.Counter
}

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
	return &meter{set: set, next: next, failed: set.NewCounter("integrator_store_failures_total")}
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
	case flow.FailStop:
		m.failed.Inc()
	}
	m.next.Observe(event)
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

// WriteMetrics writes the engine's metrics in the text format of Prometheus: payloads accepted and refused, runs by how they ended (those in
// error are the dead letters), retries, records, times of commits, waits and attempts, and how many runs are queued and at work. A host serves
// them where its own are; GET /metrics asks for a token.
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
	_, err = fmt.Fprintf(w, "integrator_runs_queued %d\nintegrator_runs_running %d\n", queued, running)
	return err
}
