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
// would, and counts: every sampled span that ends is exported or dropped for one reason.
type spanQueue struct {
	sdktrace.SpanProcessor
	exporter *countingExporter
	metrics  *spanMetrics
	size     int64
	waiting  atomic.Int64
}

// newSpanQueue sends ended spans to exporter in batches, a second after they ended at the latest.
func newSpanQueue(exporter sdktrace.SpanExporter, size int, metrics *spanMetrics, logger *zap.Logger) *spanQueue {
	q := &spanQueue{size: int64(size), metrics: metrics}
	q.exporter = &countingExporter{SpanExporter: exporter, queue: q, logger: logger}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(q.exporter,
		sdktrace.WithMaxQueueSize(size+1), // one more for the marker that ForceFlush queues
		sdktrace.WithMaxExportBatchSize(min(size, sdktrace.DefaultMaxExportBatchSize)),
		sdktrace.WithBatchTimeout(time.Second),
	)
	return q
}

// OnEnd implements [sdktrace.SpanProcessor]. It never blocks.
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	switch {
	case !s.SpanContext().IsSampled():
	case q.waiting.Add(1) > q.size:
		q.waiting.Add(-1)
		q.metrics.queueFull.Inc()
	default:
		q.SpanProcessor.OnEnd(s)
	}
}

// Shutdown implements [sdktrace.SpanProcessor]: it exports what is queued, and counts what comes
// meanwhile, which the processor takes no more. Until ctx ends it waits for the exporter; see
// [spanQueue.giveUp].
func (q *spanQueue) Shutdown(ctx context.Context) error {
	if err := q.SpanProcessor.Shutdown(ctx); err != nil {
		return err
	}
	q.metrics.shutdown.Add(float64(max(0, q.waiting.Swap(0))))
	q.exporter.reportLost()
	return nil
}

// giveUp breaks off the export under way and lets every further one fail at once.
func (q *spanQueue) giveUp() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = q.exporter.Shutdown(ended) // The error is that of the context.
}

// lostSpansEvery is how often at most lost spans are logged.
const lostSpansEvery = time.Minute

// countingExporter counts what happens to each span. It tells the SDK nothing of failures: the SDK
// would hand them to a process-wide error handler. The processor never calls ExportSpans twice at
// the same time.
type countingExporter struct {
	sdktrace.SpanExporter
	queue  *spanQueue
	logger *zap.Logger

	answer   answer
	loggedAt time.Time
	lost     int64 // since loggedAt
	cause    error
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *countingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	answered := context.WithValue(ctx, answerKey{}, &e.answer)
	e.answer = answer{}
	err := e.SpanExporter.ExportSpans(answered, spans)

	n, lost := int64(len(spans)), int64(0)
	switch {
	case e.answer.accepted: // perhaps in part, which the exporter calls an error
		lost = min(n, e.answer.rejected)
	case err != nil:
		lost = n
	}
	e.queue.waiting.Add(-n)
	e.queue.metrics.exported.Add(float64(n - lost))
	e.queue.metrics.exportFailed.Add(float64(lost))
	if err != nil {
		e.lost, e.cause = e.lost+lost, err
	}
	if time.Since(e.loggedAt) >= lostSpansEvery {
		e.reportLost()
	}
	return nil
}

// reportLost logs what was lost since it was last said.
func (e *countingExporter) reportLost() {
	if e.cause == nil {
		return
	}
	e.logger.Warn("spans are lost: the collector does not take them", zap.Int64("spans", e.lost), zap.Error(e.cause))
	e.loggedAt, e.lost, e.cause = time.Now(), 0, nil
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
		Help: "Sampled spans that were lost: the queue was full, the export failed, or they ended during the shutdown.",
	}, []string{"reason"})
	return &spanMetrics{
		exported:     exported,
		queueFull:    dropped.WithLabelValues("queue_full"),
		exportFailed: dropped.WithLabelValues("export_failed"),
		shutdown:     dropped.WithLabelValues("shutdown"),
	}, registerAll(reg, exported, dropped)
}
