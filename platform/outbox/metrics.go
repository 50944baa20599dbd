package outbox

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one relay. A standby reports nothing unsent: take the maximum
// over the replicas.
type metrics struct {
	unsent, active, parkedAggregates, parkedEvents, oldestWriter prometheus.Gauge
	published, fenced, async                                     prometheus.Counter
	failures                                                     *prometheus.CounterVec
	latency, window                                              prometheus.Histogram

	// head is when the oldest unsettled event was stored, in nanoseconds of the
	// database's clock, 0 for none; ahead is that clock's lead over this machine's.
	head, ahead atomic.Int64
}

// Classes of publish errors.
const (
	classRefused     = "refused"
	classUnavailable = "unavailable"
	classOther       = "other"
)

func newMetrics(sink string, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"sink": sink}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		unsent:           gauge("outbox_unsent_events_total", "Committed events that are neither published nor parked. 0 on a standby."),
		active:           gauge("outbox_relay_active", "1 on the replica that publishes."),
		parkedAggregates: gauge("outbox_parked_aggregates", "Aggregates whose events wait because one could not be published."),
		parkedEvents:     gauge("outbox_parked_events", "Events that wait behind one that could not be published."),
		oldestWriter:     gauge("outbox_oldest_writer_seconds", "Age of the oldest open transaction that has written. Its events are not yet visible."),
		published:        counter("outbox_published_events_total", "Events that the broker acknowledged, repetitions included."),
		fenced:           counter("outbox_fenced_writes_total", "Writes of a replica that had lost the lease, refused."),
		async:            counter("outbox_async_commit_events_total", "Events of transactions that did not wait for the disk. Each delays its batch."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "outbox_publish_errors_total", Help: "Events that the broker did not acknowledge, by class.", ConstLabels: labels,
		}, []string{"class"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "outbox_publish_latency_seconds", Help: "From storing an event to the broker's acknowledgement.", ConstLabels: labels,
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 300, 3600},
		}),
		window: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "outbox_window_events", Help: "Events read at once.", ConstLabels: labels,
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000},
		}),
	}
	for _, class := range []string{classRefused, classUnavailable, classOther} {
		m.failures.WithLabelValues(class)
	}
	if reg == nil {
		return m, nil
	}
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "outbox_oldest_unsent_seconds", Help: "Age of the oldest event that is neither published nor parked.", ConstLabels: labels,
	}, m.oldest)
	for _, c := range []prometheus.Collector{
		m.unsent, m.active, m.parkedAggregates, m.parkedEvents, m.oldestWriter, m.published, m.fenced, m.async, m.failures, m.latency, m.window, oldest,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register outbox metrics: %w", err)
		}
	}
	return m, nil
}

// oldest is the age of the oldest unsettled event in seconds.
func (m *metrics) oldest() float64 {
	head := m.head.Load()
	if head == 0 {
		return 0
	}
	return max(0, time.Duration(m.dbNow().UnixNano()-head).Seconds())
}

// dbNow is about the time on the database's clock.
func (m *metrics) dbNow() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

// sync takes over the database's clock.
func (m *metrics) sync(now time.Time) {
	if !now.IsZero() {
		m.ahead.Store(int64(time.Until(now)))
	}
}

// pending says which events are read and not settled.
func (m *metrics) pending(events []stored) {
	if len(events) == 0 {
		m.head.Store(0)
		return
	}
	oldest := events[0].createdAt
	for i := range events {
		if events[i].createdAt.Before(oldest) {
			oldest = events[i].createdAt
		}
	}
	m.head.Store(oldest.UnixNano())
}

// inactive clears what only the active replica knows.
func (m *metrics) inactive() {
	m.active.Set(0)
	m.unsent.Set(0)
	m.parkedAggregates.Set(0)
	m.parkedEvents.Set(0)
	m.head.Store(0)
}
