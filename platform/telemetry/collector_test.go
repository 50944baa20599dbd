package telemetry_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/slipwayhq/slipway/platform/telemetry"
)

// collector is an OTLP receiver in this process.
type collector struct {
	otlp.UnimplementedTraceServiceServer
	addr string
	// export answers; nil accepts everything.
	export func(context.Context) (*otlp.ExportTraceServiceResponse, error)

	mu       sync.Mutex
	spans    []string
	resource map[string]string
	headers  metadata.MD
}

func startCollector(t *testing.T, opts ...grpc.ServerOption) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &collector{addr: listener.Addr().String()}
	server := grpc.NewServer(opts...)
	otlp.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return c
}

func (c *collector) Export(ctx context.Context, r *otlp.ExportTraceServiceRequest) (*otlp.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	c.headers, _ = metadata.FromIncomingContext(ctx)
	for _, rs := range r.GetResourceSpans() {
		c.resource = stringAttributes(rs.GetResource().GetAttributes())
		c.resource["schema"] = rs.GetSchemaUrl()
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans = append(c.spans, s.GetName())
			}
		}
	}
	c.mu.Unlock()
	if c.export != nil {
		return c.export(ctx)
	}
	return &otlp.ExportTraceServiceResponse{}, nil
}

func (c *collector) received() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

func stringAttributes(attrs []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range attrs {
		m[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return m
}

func newTelemetry(t *testing.T, cfg telemetry.Config) (*telemetry.Telemetry, *lines) {
	t.Helper()
	out := &lines{}
	tel, err := telemetry.New(t.Context(), cfg, out)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	return tel, out
}

func endSpans(tel *telemetry.Telemetry, names ...string) {
	for _, name := range names {
		_, span := tel.TracerProvider.Tracer("test").Start(context.Background(), name)
		span.End()
	}
}

func requireSpanMetrics(t *testing.T, tel *telemetry.Telemetry, exported, failed string) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(tel.Registry, strings.NewReader(`
# HELP trace_spans_dropped_total Sampled spans that were lost: the queue was full, the export failed, or they ended during the shutdown.
# TYPE trace_spans_dropped_total counter
trace_spans_dropped_total{reason="export_failed"} `+failed+`
trace_spans_dropped_total{reason="queue_full"} 0
trace_spans_dropped_total{reason="shutdown"} 0
# HELP trace_spans_exported_total Spans that the collector accepted.
# TYPE trace_spans_exported_total counter
trace_spans_exported_total `+exported+`
`), "trace_spans_dropped_total", "trace_spans_exported_total"))
}

func TestTelemetry_Shutdown(t *testing.T) {
	t.Parallel()

	t.Run("delivers the spans of the last moment", func(t *testing.T) {
		t.Parallel()
		c := startCollector(t)
		tel, _ := newTelemetry(t, telemetry.Config{TracesEndpoint: "http://" + c.addr})
		endSpans(tel, "first", "last")
		require.NoError(t, tel.Shutdown(t.Context()))
		require.Equal(t, []string{"first", "last"}, c.received())
		requireSpanMetrics(t, tel, "2", "0")
	})

	t.Run("counts what the collector accepts in part", func(t *testing.T) {
		t.Parallel()
		c := startCollector(t)
		c.export = func(context.Context) (*otlp.ExportTraceServiceResponse, error) {
			return &otlp.ExportTraceServiceResponse{
				PartialSuccess: &otlp.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"},
			}, nil
		}
		tel, out := newTelemetry(t, telemetry.Config{TracesEndpoint: "http://" + c.addr})
		endSpans(tel, "a", "b", "c", "d", "e")
		require.NoError(t, tel.Shutdown(t.Context()))
		requireSpanMetrics(t, tel, "3", "2")
		require.Contains(t, out.String(), "too old")
	})

	for name, dead := range map[string]func(t *testing.T) string{
		"refuses connections":           refusing,
		"takes connections and is mute": mute,
		"takes calls and never answers": hanging,
	} {
		t.Run("is bounded when the collector "+name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			tel, out := newTelemetry(t, telemetry.Config{TracesEndpoint: "http://" + dead(t), FlushTimeout: 2 * time.Second})
			endSpans(tel, "a", "b", "c")
			require.Less(t, time.Since(start), 5*time.Second, "the start waited for the collector")

			start = time.Now()
			require.NoError(t, tel.Shutdown(t.Context()))
			require.Less(t, time.Since(start), 5*time.Second, "the exporter alone takes ten")
			requireSpanMetrics(t, tel, "0", "3")
			require.Contains(t, out.String(), `"level":"warn"`)
			require.Contains(t, out.String(), `"msg":"spans are lost: the collector does not take them"`)
			require.Contains(t, out.String(), `"spans":3`)
		})
	}
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// mute is an address whose connections stay silent.
func mute(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener.Addr().String()
}

// hanging is a collector that takes calls and never answers.
func hanging(t *testing.T) string {
	t.Helper()
	c := startCollector(t)
	c.export = func(ctx context.Context) (*otlp.ExportTraceServiceResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.addr
}

func TestConfig_endpoints(t *testing.T) {
	t.Parallel()

	t.Run("the endpoint of the signal goes first", func(t *testing.T) {
		t.Parallel()
		c := startCollector(t)
		tel, _ := newTelemetry(t, telemetry.Config{
			TracesEndpoint: "http://" + refusing(t), SignalEndpoint: "http://" + c.addr,
		})
		endSpans(tel, "a")
		require.NoError(t, tel.Shutdown(t.Context()))
		require.Equal(t, []string{"a"}, c.received())
	})

	t.Run("without an endpoint spans have ids and go nowhere", func(t *testing.T) {
		t.Parallel()
		tel, out := newTelemetry(t, telemetry.Config{})
		_, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "a")
		require.True(t, span.SpanContext().IsValid())
		span.End()
		require.NoError(t, tel.Shutdown(t.Context()))
		requireSpanMetrics(t, tel, "0", "0")
		require.Empty(t, out.String())
	})
}

// The exporter library reads the rest of the standard's variables from the process's environment,
// which these tests therefore change.
func TestConfig_standardVariables(t *testing.T) {
	t.Run("headers, TLS and its certificate", func(t *testing.T) {
		certificate, authority := selfSigned(t)
		c := startCollector(t, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
		t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", authority)
		for _, endpoint := range []string{"https://" + c.addr, c.addr} {
			tel, _ := newTelemetry(t, telemetry.Config{TracesEndpoint: endpoint})
			endSpans(tel, endpoint)
			require.NoError(t, tel.Shutdown(t.Context()))
			require.Contains(t, c.received(), endpoint)
			require.Equal(t, []string{"acme"}, c.headers.Get("x-tenant"))
		}
	})

	t.Run("plaintext for host:port", func(t *testing.T) {
		c := startCollector(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.addr)
		t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
		tel, _ := newTelemetry(t, telemetry.Config{TracesEndpoint: c.addr})
		endSpans(tel, "a")
		require.NoError(t, tel.Shutdown(t.Context()))
		require.Equal(t, []string{"a"}, c.received())
	})

	t.Run("TLS is never left out by itself", func(t *testing.T) {
		c := startCollector(t)
		tel, _ := newTelemetry(t, telemetry.Config{TracesEndpoint: c.addr, FlushTimeout: 2 * time.Second})
		endSpans(tel, "a")
		require.NoError(t, tel.Shutdown(t.Context()))
		require.Empty(t, c.received())
	})
}

// selfSigned returns a certificate for 127.0.0.1 and a file with it.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
