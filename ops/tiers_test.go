package ops_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // collectors compress
	"google.golang.org/grpc/status"
)

// Both tiers as they are in the cluster, as processes, but for addresses and the resolver, which asks
// Kubernetes there: two samplers behind one gateway. The spans of a trace come apart from each other,
// from two services; of a trace with an error all are kept, by one sampler, and of the others about a
// tenth. With spans dealt out to the samplers in turns none of the traces with an error is whole at one.
func TestKubernetesCollectors_twoTiers(t *testing.T) {
	t.Parallel()
	const traces, failing = 500, 10 // one in so many fails
	var kept [2]*tempo
	hosts := make([]string, len(kept))
	for i := range kept {
		kept[i] = startTempo(t)
		config := inConfigMap(t, "otel/kubernetes/sampler.yml")
		config["processors"].(tree)["tail_sampling"].(tree)["decision_wait"] = "3s"
		hosts[i] = startCollector(t, config, "TEMPO_OTLP_ADDR="+kept[i].addr).otlp
	}
	config := inConfigMap(t, "otel/kubernetes/gateway.yml")
	config["exporters"].(tree)["loadbalancing"].(tree)["resolver"] = tree{"static": tree{"hostnames": hosts}}
	client := startCollector(t, config).client(t)

	for n := range traces {
		for service := range 2 {
			s := &tracepb.Span{
				TraceId: binary.BigEndian.AppendUint64(make([]byte, 8, 16), uint64(n+1)*0x9E3779B97F4A7C15),
				SpanId:  binary.BigEndian.AppendUint64(nil, uint64(2*n+service+1)), Name: fmt.Sprint(n),
				StartTimeUnixNano: uint64(time.Now().UnixNano()), EndTimeUnixNano: uint64(time.Now().UnixNano()), Status: &tracepb.Status{},
			}
			if service == 1 && n%failing == 0 {
				s.Status.Code = tracepb.Status_STATUS_CODE_ERROR
			}
			client.send(t, s)
		}
	}
	whole := func() (n int) {
		for _, k := range kept {
			for trace, spans := range k.traces() {
				if trace%failing == 0 && spans == 2 {
					n++
				}
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return whole() == traces/failing }, patience, 100*time.Millisecond)
	first, second := kept[0].traces(), kept[1].traces()
	require.NotEmpty(t, first)
	require.NotEmpty(t, second)
	rest := len(first) + len(second) - traces/failing
	for trace, spans := range first {
		require.NotContains(t, second, trace, "one sampler decides on a trace")
		require.Equal(t, 2, spans, trace)
	}
	require.Less(t, rest, traces/4, "the others are sampled")
	t.Logf("%d traces with an error kept whole, %d of the other %d", traces/failing, rest, traces-traces/failing)
}

// collector is a running one: where it takes traces, and where its own metrics are.
type collector struct{ otlp, metrics string }

// startCollector runs a collector on ports of its own.
func startCollector(t *testing.T, config tree, env ...string) collector {
	t.Helper()
	c := collector{otlp: free(t), metrics: free(t)}
	config["receivers"].(tree)["otlp"] = tree{"protocols": tree{"grpc": tree{"endpoint": c.otlp}}}
	config["extensions"].(tree)["health_check"].(tree)["endpoint"] = free(t)
	reader := config["service"].(tree)["telemetry"].(tree)["metrics"].(tree)["readers"].([]any)[0]
	exporter := reader.(tree)["pull"].(tree)["exporter"].(tree)["prometheus"].(tree)
	host, port, err := net.SplitHostPort(c.metrics)
	require.NoError(t, err)
	exporter["host"] = host
	exporter["port"], err = strconv.Atoi(port)
	require.NoError(t, err)
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "collector.yml")
	require.NoError(t, os.WriteFile(file, text, 0o644))
	cmd := exec.Command(otelcol(t), "--config", file)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return c
}

// free is an address that nobody has.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// client sends spans as a service does.
type client struct{ coltracepb.TraceServiceClient }

func (c collector) client(t *testing.T) client {
	t.Helper()
	return client{coltracepb.NewTraceServiceClient(connect(t, c.otlp))}
}

// send returns once the collector has taken the spans. One that is busy says that it is unavailable, and
// wants them again; one that does not start never answers.
func (c client) send(t *testing.T, spans ...*tracepb.Span) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req := &coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}}}}}
	for {
		_, err := c.Export(ctx, req, grpc.WaitForReady(true))
		if status.Code(err) != codes.Unavailable {
			require.NoError(t, err)
			return
		}
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			require.NoError(t, err)
		}
	}
}

func connect(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tempo is where a sampler sends what it keeps.
type tempo struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans map[int]int // by the number of the trace
}

func startTempo(t *testing.T) *tempo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &tempo{addr: l.Addr().String(), spans: map[int]int{}}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, k)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return k
}

// Export implements coltracepb.TraceServiceServer.
func (k *tempo) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				var n int
				if _, err := fmt.Sscan(s.GetName(), &n); err != nil {
					return nil, err
				}
				k.spans[n]++
			}
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// traces returns how many spans of each trace have come.
func (k *tempo) traces() map[int]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[int]int, len(k.spans))
	for n, spans := range k.spans {
		all[n] = spans
	}
	return all
}
