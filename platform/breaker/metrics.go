package breaker

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of all breakers of a registerer.
type metrics struct {
	state       *prometheus.Desc
	rejections  *prometheus.CounterVec
	transitions *prometheus.CounterVec

	mu       sync.Mutex
	breakers []*Breaker
}

// newMetrics returns the metrics of reg, which other breakers may have registered before. reg may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		state: prometheus.NewDesc("circuit_breaker_state",
			"1 for the state that the circuit breaker is in, 0 for the others.", []string{"name", "state"}, nil),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "circuit_breaker_rejections_total",
			Help: "Calls that the circuit breaker did not let pass, by the reason.",
		}, []string{"name", "reason"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "circuit_breaker_transitions_total",
			Help: "Changes of the state of the circuit breaker, by their reason.",
		}, []string{"name", "from", "to", "reason"}),
	}
	if reg == nil {
		return m, nil
	}
	err := reg.Register(m)
	if taken := (prometheus.AlreadyRegisteredError{}); errors.As(err, &taken) {
		if existing, ok := taken.ExistingCollector.(*metrics); ok {
			return existing, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("register circuit breaker metrics: %w", err)
	}
	return m, nil
}

// add makes all series of b.
func (m *metrics) add(b *Breaker) {
	for _, t := range transitions {
		m.transitions.WithLabelValues(b.config.Name, string(t.from), string(t.to), string(t.reason))
	}
	for _, reason := range rejectionReasons {
		m.rejections.WithLabelValues(b.config.Name, reason)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breakers = append(m.breakers, b)
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.state
	m.rejections.Describe(ch)
	m.transitions.Describe(ch)
}

// Collect implements [prometheus.Collector]. It asks for the states first: that alone
// can change them, and a transition that is seen must have been counted.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for name, worst := range m.worst() {
		for i, s := range states {
			value := 0.0
			if i == worst {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, value, name, string(s))
		}
	}
	m.rejections.Collect(ch)
	m.transitions.Collect(ch)
}

// worst returns the worst state, as its index, of the breakers of each name.
func (m *metrics) worst() map[string]int {
	m.mu.Lock()
	breakers := slices.Clone(m.breakers)
	m.mu.Unlock()
	worst := map[string]int{}
	for _, b := range breakers {
		worst[b.config.Name] = max(worst[b.config.Name], slices.Index(states, b.State()))
	}
	return worst
}
