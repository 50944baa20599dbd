package inbox

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// result is what became of a message, once or finally.
type result string

const (
	applied   result = "applied"
	duplicate result = "duplicate"
	early     result = "early"
	retried   result = "retried"
	dead      result = "dead"
)

type metrics struct {
	messages    map[result]prometheus.Counter
	handle, lag prometheus.Observer
	deadLetters prometheus.Gauge
	earlyCount  prometheus.Gauge
	earlyAge    prometheus.Gauge
}

// newMetrics registers the metrics of a consumer, with all series at zero. reg may
// be nil.
func newMetrics(consumer string, reg prometheus.Registerer) (*metrics, error) {
	own := prometheus.Labels{"consumer": consumer}
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "inbox_messages_total", ConstLabels: own,
		Help: "Deliveries of messages by what became of them; retried ones come again.",
	}, []string{"result"})
	handle := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inbox_handle_seconds", ConstLabels: own, Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		Help: "Time that the handler took, also when it failed.",
	})
	lag := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inbox_lag_seconds", ConstLabels: own, Buckets: prometheus.ExponentialBuckets(0.005, 3, 14),
		Help: "Time from when the producer stored the event to when it was applied here.",
	})
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, ConstLabels: own, Help: help})
	}
	m := &metrics{
		messages: map[result]prometheus.Counter{}, handle: handle, lag: lag,
		deadLetters: gauge("dead_letters", "Dead letters that wait for an operator."),
		earlyCount:  gauge("inbox_early_messages", "Events that wait for an earlier one of their aggregate."),
		earlyAge:    gauge("inbox_early_oldest_seconds", "Age of the oldest event that waits for an earlier one."),
	}
	for _, r := range []result{applied, duplicate, early, retried, dead} {
		m.messages[r] = messages.WithLabelValues(string(r))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{messages, handle, lag, m.deadLetters, m.earlyCount, m.earlyAge} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register inbox metrics: %w", err)
		}
	}
	return m, nil
}
