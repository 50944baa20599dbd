package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// buckets are those of the server, so that both views of a call can be compared.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, .75, 1, 1.5, 2.5, 5, 10, 30}

// metrics counts calls as their callers see them: one call is one, whatever its attempts.
type metrics struct {
	handled *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"grpc_service", "grpc_method"}
	handled, err := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_client_handled_total",
		Help: "Total number of RPCs completed by the client, regardless of success or failure.",
	}, append(labels, "grpc_code")))
	if err != nil {
		return nil, err
	}
	seconds, err := register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "grpc_client_handling_seconds",
		Help:    "Seconds from the start of an RPC until the client was done with it, retries included.",
		Buckets: buckets,
	}, labels))
	if err != nil {
		return nil, err
	}
	return &metrics{handled: handled, seconds: seconds}, nil
}

// register returns c, or what another connection registered before under the same name.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	if taken := (prometheus.AlreadyRegisteredError{}); errors.As(err, &taken) {
		if existing, ok := taken.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("register gRPC client metrics: %w", err)
	}
	return c, nil
}

// create makes every series of the methods: an alert on a code that was never returned sees
// 0, and the first burst of a new code is seen whole.
func (m *metrics) create(services []protoreflect.ServiceDescriptor) {
	for service, method := range methodsOf(services) {
		m.seconds.WithLabelValues(service, string(method.Name()))
		for code := range codes.Unauthenticated + 1 {
			m.handled.WithLabelValues(service, string(method.Name()), code.String())
		}
	}
}

func (m *metrics) observe(fullMethod string, err error, start time.Time) {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	m.handled.WithLabelValues(service, method, status.Code(err).String()).Inc()
	m.seconds.WithLabelValues(service, method).Observe(time.Since(start).Seconds())
}

func (m *metrics) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	start := time.Now()
	err := invoke(ctx, method, req, reply, cc, opts...)
	m.observe(method, err, start)
	return err
}

// stream counts a stream when it ends, which gRPC tells even of one that the caller dropped
// by cancelling its context, or that never began.
func (m *metrics) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	start := time.Now()
	var once sync.Once
	ended := func(err error) { once.Do(func() { m.observe(method, err, start) }) }
	stream, err := open(ctx, desc, cc, method, append(opts, grpc.OnFinish(ended))...)
	if err != nil {
		ended(err)
	}
	return stream, err
}
