package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fakeExporter takes spans as export says, and breaks off what it does when it is shut down.
type fakeExporter struct {
	export func(ctx context.Context, n int, stopped <-chan struct{}) error
	stop   sync.Once
	done   chan struct{}
}

func (e *fakeExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.export(ctx, len(spans), e.done)
}

func (e *fakeExporter) Shutdown(context.Context) error {
	e.stop.Do(func() { close(e.done) })
	return nil
}

// queueSetup is a tracer provider whose spans go through a queue to a fake exporter.
type queueSetup struct {
	*Telemetry
	metrics *spanMetrics
	logs    *observer.ObservedLogs
}

func newQueueSetup(t *testing.T, size int, export func(context.Context, int, <-chan struct{}) error) *queueSetup {
	t.Helper()
	metrics, err := newSpanMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	core, logs := observer.New(zap.WarnLevel)
	queue := newSpanQueue(&fakeExporter{export: export, done: make(chan struct{})}, size, metrics, zap.New(core))
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(queue))
	return &queueSetup{
		Telemetry: &Telemetry{TracerProvider: provider, provider: provider, queue: queue, cfg: Config{FlushTimeout: 3 * time.Second}},
		metrics:   metrics, logs: logs,
	}
}

func (s *queueSetup) end(n int) {
	for range n {
		_, span := s.TracerProvider.Tracer("test").Start(context.Background(), "work")
		span.End()
	}
}

// counted are the spans by what became of them.
type counted struct{ exported, queueFull, exportFailed, shutdown int }

func (s *queueSetup) counted() counted {
	return counted{
		int(testutil.ToFloat64(s.metrics.exported)), int(testutil.ToFloat64(s.metrics.queueFull)),
		int(testutil.ToFloat64(s.metrics.exportFailed)), int(testutil.ToFloat64(s.metrics.shutdown)),
	}
}

func TestSpanQueue(t *testing.T) {
	t.Parallel()

	t.Run("spans leave within a second, and the last ones at the shutdown", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newQueueSetup(t, 100, func(context.Context, int, <-chan struct{}) error { return nil })
			s.end(7)
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
			require.Equal(t, counted{exported: 7}, s.counted())
			s.end(5)
			require.NoError(t, s.Shutdown(t.Context()))
			require.Equal(t, counted{exported: 12}, s.counted())
		})
	})

	t.Run("what the queue does not hold is dropped at once, and counted exactly", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			goOn := make(chan struct{})
			s := newQueueSetup(t, 100, func(context.Context, int, <-chan struct{}) error { <-goOn; return nil })
			s.end(100)
			synctest.Wait() // the exporter has a batch and does not come back
			s.end(33)
			require.Equal(t, counted{queueFull: 33}, s.counted())
			close(goOn)
			synctest.Wait()
			s.end(100)
			require.NoError(t, s.Shutdown(t.Context()))
			require.Equal(t, counted{exported: 200, queueFull: 33}, s.counted())
		})
	})

	t.Run("every span is counted once, whatever happens meanwhile", func(t *testing.T) {
		t.Parallel()
		calls := 0
		s := newQueueSetup(t, 64, func(context.Context, int, <-chan struct{}) error {
			if calls++; calls%3 == 0 {
				return errors.New("unavailable")
			}
			return nil
		})
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() { s.end(5_000) })
		}
		for range 10 {
			require.NoError(t, s.provider.ForceFlush(t.Context()))
		}
		done.Wait()
		require.NoError(t, s.Shutdown(t.Context()))
		c := s.counted()
		require.Equal(t, 20_000, c.exported+c.queueFull+c.exportFailed+c.shutdown, "%+v", c)
	})

	t.Run("spans that end during the shutdown are counted", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			goOn := make(chan struct{})
			s := newQueueSetup(t, 100, func(context.Context, int, <-chan struct{}) error { <-goOn; return nil })
			_, late := s.TracerProvider.Tracer("test").Start(t.Context(), "late")
			s.end(3)
			stopped := make(chan error)
			go func() { stopped <- s.Shutdown(context.Background()) }()
			synctest.Wait()
			late.End()
			close(goOn)
			require.NoError(t, <-stopped)
			require.Equal(t, counted{exported: 3, shutdown: 1}, s.counted())
		})
	})
}

func TestTelemetry_Shutdown_givesUp(t *testing.T) {
	t.Parallel()
	hang := func(_ context.Context, _ int, stopped <-chan struct{}) error {
		<-stopped
		return errors.New("stopped")
	}

	t.Run("after FlushTimeout", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newQueueSetup(t, 2048, hang)
			s.end(2_000) // several batches
			start := time.Now()
			require.NoError(t, s.Shutdown(context.Background()), "a dead collector must not fail the exit")
			require.LessOrEqual(t, time.Since(start), 3*time.Second)
			require.GreaterOrEqual(t, time.Since(start), 2*time.Second)
			require.Equal(t, counted{exportFailed: 2_000}, s.counted())
			require.Equal(t, 2_000, lostInLogs(s.logs))
			require.NoError(t, s.Shutdown(context.Background()), "a second call does nothing")
		})
	})

	t.Run("when its context has ended", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newQueueSetup(t, 100, hang)
			s.end(5)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			start := time.Now()
			require.NoError(t, s.Shutdown(ended))
			require.Zero(t, time.Since(start))
			require.Equal(t, counted{exportFailed: 5}, s.counted())
		})
	})

	t.Run("on an exporter that cannot be stopped, with an error", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			deaf := make(chan struct{})
			s := newQueueSetup(t, 100, func(context.Context, int, <-chan struct{}) error { <-deaf; return nil })
			s.end(1)
			start := time.Now()
			require.ErrorContains(t, s.Shutdown(context.Background()), "flush spans: ")
			require.Equal(t, 3*time.Second, time.Since(start))
			close(deaf)
		})
	})
}

func TestSpanQueue_logsLostSpans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newQueueSetup(t, 100, func(context.Context, int, <-chan struct{}) error { return errors.New("unavailable") })
		for range 150 { // seconds
			s.end(2)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.Equal(t, 3, s.logs.Len(), "once a minute")
		require.NoError(t, s.Shutdown(context.Background()))
		require.Equal(t, 4, s.logs.Len(), "and the rest at the end")
		require.Equal(t, 300, lostInLogs(s.logs))
		require.Equal(t, counted{exportFailed: 300}, s.counted())
		require.Equal(t, "unavailable", s.logs.All()[0].ContextMap()["error"])
	})
}

func lostInLogs(logs *observer.ObservedLogs) (lost int) {
	for _, line := range logs.All() {
		if strings.HasPrefix(line.Message, "spans are lost") {
			lost += int(line.ContextMap()["spans"].(int64))
		}
	}
	return lost
}
