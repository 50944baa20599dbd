package grpcserver

import (
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
)

const (
	kindUnary        = "unary"
	kindServerStream = "server_stream"
	kindClientStream = "client_stream"
	kindBidiStream   = "bidi_stream"
	// unknown stands for every service and method that is not registered, so that callers
	// cannot make series up.
	unknown = "unknown"

	codeCount = int(codes.Unauthenticated) + 1
)

// buckets are narrow below the second that latency alerts ask about.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, .75, 1, 1.5, 2.5, 5, 10, 30}

// method is all that a call needs to know of its RPC method, resolved once when the service
// is registered: nothing is looked up by label while calls are served.
type method struct {
	service, name, full, kind string
	// public methods need no authentication, are not limited and are logged at debug level.
	public bool
	logger *zap.Logger

	started  prometheus.Counter
	handled  [codeCount]prometheus.Counter
	seconds  prometheus.Observer
	inFlight atomic.Int64
}

// observe counts a call that ended. The exemplar leads from a bucket to a trace, so it is
// kept only when the trace is.
func (m *method) observe(code codes.Code, elapsed time.Duration, span trace.SpanContext) {
	m.handled[code].Inc()
	if !span.IsSampled() {
		m.seconds.Observe(elapsed.Seconds())
		return
	}
	id := span.TraceID()
	m.seconds.(prometheus.ExemplarObserver).ObserveWithExemplar(elapsed.Seconds(),
		prometheus.Labels{"trace_id": hex.EncodeToString(id[:])})
}

// metrics has the names and labels of go-grpc-middleware's Prometheus provider, so that
// dashboards and rules made for it work.
type metrics struct {
	started  *prometheus.CounterVec
	handled  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
	cutOff   prometheus.Counter
	inFlight *inFlight
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"grpc_service", "grpc_method", "grpc_type"}
	m := &metrics{
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_started_total",
			Help: "Total number of RPCs started on the server.",
		}, labels),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_handled_total",
			Help: "Total number of RPCs completed on the server, regardless of success or failure.",
		}, append(labels, "grpc_code")),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "grpc_server_handling_seconds",
			Help:    "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
			Buckets: buckets,
		}, labels),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grpc_server_panics_recovered_total",
			Help: "Total number of RPCs whose handler panicked.",
		}),
		cutOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grpc_server_drain_cut_off_total",
			Help: "Total number of RPCs cut off because they outlasted the drain timeout.",
		}),
		inFlight: &inFlight{desc: prometheus.NewDesc("grpc_server_in_flight_requests",
			"RPCs that have started and not ended.", labels, nil)},
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.started, m.handled, m.seconds, m.panics, m.cutOff, m.inFlight} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register gRPC server metrics: %w", err)
		}
	}
	return m, nil
}

// method creates every series of a method: an alert on a code that was never returned sees
// 0, and the first burst of a new code is seen whole.
func (m *metrics) method(service, name, kind string) *method {
	md := &method{
		service: service, name: name, full: "/" + service + "/" + name, kind: kind,
		started: m.started.WithLabelValues(service, name, kind),
		seconds: m.seconds.WithLabelValues(service, name, kind),
	}
	for code := range md.handled {
		md.handled[code] = m.handled.WithLabelValues(service, name, kind, codes.Code(code).String())
	}
	m.inFlight.add(md)
	return md
}

// inFlight exposes the methods' own counters, which cost a call less than a gauge.
type inFlight struct {
	desc    *prometheus.Desc
	mu      sync.Mutex
	methods []*method
}

func (f *inFlight) add(m *method) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.methods = append(f.methods, m)
}

// total is the number of calls in flight over all methods.
func (f *inFlight) total() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int64
	for _, m := range f.methods {
		n += m.inFlight.Load()
	}
	return n
}

// Describe implements [prometheus.Collector].
func (f *inFlight) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

// Collect implements [prometheus.Collector].
func (f *inFlight) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.methods {
		ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue,
			float64(m.inFlight.Load()), m.service, m.name, m.kind)
	}
}
