package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// The classes of calls without an answer.
const (
	classTimeout   = "timeout"    // nobody knows whether it had an effect
	classCancelled = "cancelled"  // the same, and the caller gave up
	classBroken    = "error"      // the provider or the way to it is broken
	classRefused   = "refused"    // the provider takes the request for wrong: one side has a defect
	classUnread    = "unreadable" // it has answered something else
)

var (
	calls   = []string{"authorize", "lookup", "void", "capture", "refund"}
	classes = []string{classTimeout, classCancelled, classBroken, classRefused, classUnread}
)

type metrics struct {
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "payment_provider_call_seconds",
		Help:    "Duration of calls of the payment provider, by what they were answered with.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"call", "result"})}
	for _, call := range calls {
		for _, charge := range domain.Charges() {
			m.seconds.WithLabelValues(call, strings.ToLower(string(charge)))
		}
		for _, class := range classes {
			m.seconds.WithLabelValues(call, class)
		}
	}
	if reg == nil {
		return m, nil
	}
	if err := reg.Register(m.seconds); err != nil {
		return nil, fmt.Errorf("register metrics of the payment provider: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(call string, answer domain.Answer, err error, took time.Duration) {
	result := strings.ToLower(string(answer.Charge))
	if err != nil {
		result = classOf(err)
	}
	m.seconds.WithLabelValues(call, result).Observe(took.Seconds())
}

func classOf(err error) string {
	var status *statusError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return classCancelled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return classTimeout
	case errors.As(err, &status) && status.status < 500 && status.status != 429 && status.status != 408:
		return classRefused
	case errors.As(err, &status), errors.As(err, &network):
		return classBroken
	}
	return classUnread
}
