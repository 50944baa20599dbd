package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// spanQueue stands in front of the SDK's batch processor, which drops spans silently when its
// queue is full. It knows how many spans are queued or on their way, drops before the processor
// would, and counts every span that is lost.
type spanQueue struct {
	sdktrace.SpanProcessor
	size    int64
	waiting atomic.Int64
	metrics *spanMetrics
}

type spanMetrics struct {
	exported, queueFull, exportFailed, shutdown prometheus.Counter
}

func newSpanMetrics(reg prometheus.Registerer) (*spanMetrics, error) {
	exported := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "trace_spans_exported_total",
		Help: "Spans that the collector accepted.",
	})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "trace_spans_dropped_total",
		Help: "Sampled spans that were lost: the queue was full, the export failed, or the process ended first.",
	}, []string{"reason"})
	for _, c := range []prometheus.Collector{exported, dropped} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return &spanMetrics{
		exported:     exported,
		queueFull:    dropped.WithLabelValues("queue_full"),
		exportFailed: dropped.WithLabelValues("export_failed"),
		shutdown:     dropped.WithLabelValues("shutdown"),
	}, nil
}

// newSpanQueue batches ended spans to exporter; failures are logged at most once a minute.
func newSpanQueue(exporter sdktrace.SpanExporter, metrics *spanMetrics, logger *zap.Logger) *spanQueue {
	q := &spanQueue{size: sdktrace.DefaultMaxQueueSize, metrics: metrics}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(
		&countingExporter{SpanExporter: exporter, queue: q, logger: logger},
		sdktrace.WithMaxQueueSize(sdktrace.DefaultMaxQueueSize),
		sdktrace.WithBatchTimeout(time.Second),
	)
	return q
}

// OnEnd implements [sdktrace.SpanProcessor].
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > q.size {
		q.waiting.Add(-1)
		q.metrics.queueFull.Inc()
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// Shutdown implements [sdktrace.SpanProcessor]: it exports what is queued until ctx ends, and
// counts what is left then.
func (q *spanQueue) Shutdown(ctx context.Context) error {
	err := q.SpanProcessor.Shutdown(ctx)
	q.metrics.shutdown.Add(float64(max(0, q.waiting.Swap(0))))
	return err
}

// countingExporter counts what happens to each span. It tells the SDK nothing of failures: the SDK
// would hand them to a global error handler.
type countingExporter struct {
	sdktrace.SpanExporter
	queue  *spanQueue
	logger *zap.Logger
	logged time.Time // only the processor's goroutine exports
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *countingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	n := int64(len(spans))
	e.queue.waiting.Add(-n)
	if err == nil {
		e.queue.metrics.exported.Add(float64(n))
		return nil
	}
	e.queue.metrics.exportFailed.Add(float64(n))
	if now := time.Now(); now.Sub(e.logged) > time.Minute {
		e.logged = now
		e.logger.Warn("spans are lost: the collector does not take them", zap.Int64("spans", n), zap.Error(err))
	}
	return nil
}
