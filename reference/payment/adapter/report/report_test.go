package report_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/reference/payment/adapter/report"
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

func TestReport(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	registry := prometheus.NewRegistry()
	r, err := report.New(zap.New(core), registry)
	require.NoError(t, err)
	before := domain.Snapshot{ID: "p-1", OrderID: "o-1", Status: domain.Capturing}
	after := domain.Snapshot{ID: "p-1", OrderID: "o-1", Status: domain.Captured}

	r.Looked(t.Context(), before, after, nil)
	r.Looked(t.Context(), before, before, nil)
	r.Looked(t.Context(), before, before, domain.ErrPending)
	r.Looked(t.Context(), before, before, errors.New("no answer"))
	r.Looked(t.Context(), before, before, fmt.Errorf("%w: lost", domain.ErrContradiction))
	r.LateSuccess(t.Context(), before)
	r.Idle(t.Context(), errors.New("database away"))

	var levels []string
	for _, entry := range logs.All() {
		levels = append(levels, entry.Level.String()+" "+entry.Message)
	}
	require.Equal(t, []string{
		"info settled payment", "warn cannot settle payment", "error payment and provider disagree",
		"warn payment succeeded after it was voided, and is undone", "warn cannot look for payments to settle",
	}, levels)
	require.Equal(t, "o-1", logs.All()[0].ContextMap()["order_id"])
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP payment_late_successes_total Payments that succeeded at the provider after they were voided.
# TYPE payment_late_successes_total counter
payment_late_successes_total 1
# HELP payment_settler_looks_total Looks at payments that were not settled, by what came of them.
# TYPE payment_settler_looks_total counter
payment_settler_looks_total{result="contradiction"} 1
payment_settler_looks_total{result="settled"} 1
payment_settler_looks_total{result="unknown"} 1
payment_settler_looks_total{result="waiting"} 2
`)))
	_, err = report.New(nil, registry)
	require.Error(t, err, "one report a registry")
	_, err = report.New(nil, nil)
	require.NoError(t, err)
}
