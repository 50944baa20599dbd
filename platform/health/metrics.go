package health

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are created for every dependency at construction: an alert on a dependency that
// has never moved sees 0, not nothing.
type metrics struct {
	up    *prometheus.GaugeVec
	flips *prometheus.CounterVec
	check *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, deps []Dependency) (*metrics, error) {
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dependency_up",
			Help: "Whether the dependency answers: 1 up, 0 down or not checked yet.",
		}, []string{"dependency"}),
		flips: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dependency_flips_total",
			Help: "Changes of a dependency's state, by the state it changed to.",
		}, []string{"dependency", "to"}),
		check: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dependency_check_seconds",
			Help:    "Duration of the checks of a dependency, passed and failed.",
			Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2, 5},
		}, []string{"dependency"}),
	}
	for _, d := range deps {
		m.up.WithLabelValues(d.Name)
		m.flips.WithLabelValues(d.Name, stateUp.String())
		m.flips.WithLabelValues(d.Name, stateDown.String())
		m.check.WithLabelValues(d.Name)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.up, m.flips, m.check} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register health metrics: %w", err)
		}
	}
	return m, nil
}
