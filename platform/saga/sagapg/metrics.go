package sagapg

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipwayhq/slipway/platform/saga"
)

// metrics are of what this process does. What is true of all sagas is asked of the database
// when it is collected; see stats.
type metrics struct {
	steps    *prometheus.HistogramVec
	finished *prometheus.CounterVec
	failures *prometheus.CounterVec
	refused  prometheus.Counter
	terms    prometheus.Counter
	batch    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, r *Runner) (*metrics, error) {
	m := &metrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "saga_step_seconds", Help: "How long calls of steps and undos took, by what came of them.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"saga", "step", "result"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_finished_total", Help: "Sagas that this process brought to an end, by their state.",
		}, []string{"saga", "state"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_compensation_failures_total", Help: "Calls of undos that failed.",
		}, []string{"saga"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "saga_refused_writes_total", Help: "Progress that was not stored because another process runs the saga.",
		}),
		terms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "saga_worker_restarts_total", Help: "How often this process was taken for dead, or could not be sure that it was not.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "saga_commit_sagas", Help: "Sagas whose progress shared a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
	m.create(r)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.steps, m.finished, m.failures, m.refused, m.terms, m.batch, newStats(r)} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// create makes every series, so that an alert sees 0 and not nothing.
func (m *metrics) create(r *Runner) {
	for _, d := range r.plans {
		m.failures.WithLabelValues(d.plan.Name)
		for _, s := range []saga.Status{saga.Completed, saga.Compensated} {
			m.finished.WithLabelValues(d.plan.Name, s.String())
		}
		for i, stage := range d.plan.Stages {
			for n, s := range stage.Steps {
				if s.Kind == saga.KindStep || s.Kind == saga.KindPivot {
					m.steps.WithLabelValues(d.plan.Name, d.plan.StepName(i, saga.Command{Step: n}), saga.ClassOK.String())
				}
			}
		}
	}
}

func (m *metrics) observe(name, step string, a attempt) {
	m.steps.WithLabelValues(name, step, a.class.String()).Observe(a.took.Seconds())
	if a.command.Kind == saga.CallUndo && a.class != saga.ClassOK {
		m.failures.WithLabelValues(name).Inc()
	}
}

func (m *metrics) left(name string, status saga.Status) {
	if status.Final() {
		m.finished.WithLabelValues(name, status.String()).Inc()
	}
}
