// Package report tells operators what became of payments that were taken up without a caller.
package report

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// What a look at a payment came to.
const (
	resultSettled       = "settled"       // it waits for nothing any more
	resultWaiting       = "waiting"       // it is looked at again, as is right
	resultUnknown       = "unknown"       // the provider or the database did not answer
	resultContradiction = "contradiction" // somebody has to look: it does not mend itself
)

// Report implements the port Observer of the use cases, with a log and a counter.
type Report struct {
	logger *zap.Logger
	looks  *prometheus.CounterVec
	late   prometheus.Counter
}

// New returns a report. logger and reg may be nil.
func New(logger *zap.Logger, reg prometheus.Registerer) (*Report, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	r := &Report{
		logger: logger.Named("settler"),
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "payment_settler_looks_total",
			Help: "Looks at payments that were not settled, by what came of them.",
		}, []string{"result"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "payment_late_successes_total",
			Help: "Payments that succeeded at the provider after they were voided.",
		}),
	}
	for _, result := range []string{resultSettled, resultWaiting, resultUnknown, resultContradiction} {
		r.looks.WithLabelValues(result)
	}
	if reg == nil {
		return r, nil
	}
	for _, c := range []prometheus.Collector{r.looks, r.late} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the settler: %w", err)
		}
	}
	return r, nil
}

// Looked implements the port Observer.
func (r *Report) Looked(_ context.Context, before, after domain.Snapshot, err error) {
	fields := []zap.Field{
		zap.String("payment_id", before.ID), zap.String("order_id", before.OrderID),
		zap.String("before", string(before.Status)), zap.String("after", string(after.Status)),
	}
	switch {
	case errors.Is(err, domain.ErrContradiction):
		r.looks.WithLabelValues(resultContradiction).Inc()
		r.logger.Error("payment and provider disagree", append(fields, zap.Error(err))...)
	case err != nil && !errors.Is(err, domain.ErrPending):
		r.looks.WithLabelValues(resultUnknown).Inc()
		r.logger.Warn("cannot settle payment", append(fields, zap.Error(err))...)
	case after.Unsettled():
		r.looks.WithLabelValues(resultWaiting).Inc()
	default:
		r.looks.WithLabelValues(resultSettled).Inc()
		r.logger.Info("settled payment", fields...)
	}
}

// LateSuccess implements the port Observer.
func (r *Report) LateSuccess(_ context.Context, s domain.Snapshot) {
	r.late.Inc()
	r.logger.Warn("payment succeeded after it was voided, and is undone",
		zap.String("payment_id", s.ID), zap.String("order_id", s.OrderID), zap.String("status", string(s.Status)))
}

// Idle implements the port Observer.
func (r *Report) Idle(_ context.Context, err error) {
	r.logger.Warn("cannot look for payments to settle", zap.Error(err))
}
