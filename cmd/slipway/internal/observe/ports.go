package observe

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
)

// Ports are where the components listen, on 127.0.0.1.
type Ports struct {
	Prometheus, Alertmanager, PostgresExporter int
	// OTLPGRPC and OTLPHTTP take traces, CollectorMetrics has the collector's own
	// metrics, CollectorHealth tells whether it is ready.
	OTLPGRPC, OTLPHTTP, CollectorMetrics, CollectorHealth int
	Loki, LokiGRPC                                        int
	// TempoOTLP is where the collector sends traces to.
	Tempo, TempoGRPC, TempoOTLP int
}

// UsualPorts returns the ports that the programs have everywhere, moved by an offset.
func UsualPorts(offset int) Ports {
	p := Ports{
		Prometheus: 9090, Alertmanager: 9093, PostgresExporter: 9187,
		OTLPGRPC: 4317, OTLPHTTP: 4318, CollectorMetrics: 8888, CollectorHealth: 13133,
		Loki: 3100, LokiGRPC: 9095, Tempo: 3200, TempoGRPC: 9096, TempoOTLP: 4319,
	}
	for _, n := range p.all() {
		*n.number += offset
	}
	return p
}

// FreePorts returns ports that nobody listens on at the moment.
func FreePorts(ctx context.Context) (Ports, error) {
	var p Ports
	for _, n := range p.all() {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return Ports{}, fmt.Errorf("find a free port for %s: %w", n.use, err)
		}
		defer l.Close() // together, so that no port is given out twice
		*n.number = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// List names the ports that some components need.
func (p Ports) List(components ...Component) []machine.Port {
	var list []machine.Port
	for _, n := range p.all() {
		for _, c := range components {
			if n.component == c {
				list = append(list, machine.Port{Number: *n.number, For: n.use})
			}
		}
	}
	return list
}

// of returns the port at which a component is asked.
func (p Ports) of(c Component) int {
	return p.List(c)[0].Number
}

type port struct {
	component Component
	use       string
	number    *int
}

// all lists the ports, of each component first the one at which it is asked.
func (p *Ports) all() []port {
	return []port{
		{Prometheus, "Prometheus", &p.Prometheus},
		{Alertmanager, "Alertmanager", &p.Alertmanager},
		{PostgresExporter, "postgres_exporter", &p.PostgresExporter},
		{Collector, "the collector's metrics", &p.CollectorMetrics},
		{Collector, "OTLP over gRPC", &p.OTLPGRPC},
		{Collector, "OTLP over HTTP", &p.OTLPHTTP},
		{Collector, "the collector's health", &p.CollectorHealth},
		{Loki, "Loki", &p.Loki},
		{Loki, "Loki gRPC", &p.LokiGRPC},
		{Tempo, "Tempo", &p.Tempo},
		{Tempo, "Tempo gRPC", &p.TempoGRPC},
		{Tempo, "Tempo OTLP", &p.TempoOTLP},
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
