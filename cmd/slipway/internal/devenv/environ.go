package devenv

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// The fixed ports of the servers. Those of the services are in slipway.yaml; an
// offset moves them all.
const (
	PostgresPort = 15432
	RedisPort    = 16379
	NATSPort     = 14222
)

// Lookup returns the value of a variable that is set and not empty.
func Lookup(environ []string, name string) string {
	value := ""
	for _, v := range environ {
		if key, val, _ := strings.Cut(v, "="); key == name {
			value = val
		}
	}
	return value
}

// Ports lists the fixed ports that the environment listens on.
func Ports(p *project.Project, environ []string, offset int) []machine.Port {
	var ports []machine.Port
	for _, s := range p.Services {
		ports = append(ports,
			machine.Port{Number: s.GRPC + offset, For: s.Name + " gRPC"},
			machine.Port{Number: s.Admin + offset, For: s.Name + " admin"})
	}
	for _, s := range []struct {
		need, variable, name string
		port                 int
	}{
		{project.Postgres, "DATABASE_URL", "PostgreSQL", PostgresPort},
		{project.Redis, "REDIS_URL", "Redis", RedisPort},
		{project.NATS, "BROKER_URL", "NATS", NATSPort},
	} {
		if p.Needs(s.need) && Lookup(environ, s.variable) == "" {
			ports = append(ports, machine.Port{Number: s.port + offset, For: s.name})
		}
	}
	return ports
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// addresses are where a service finds its servers.
type addresses struct{ database, redis, broker string }

// environment returns what a service is started with: the caller's environment,
// and over it what development decides. A server that the service does not need
// is not in it.
func (e *Env) environment(s project.Service, at addresses) []string {
	set := map[string]string{
		"ENVIRONMENT":       "development",
		"GRPC_ADDR":         loopback(s.GRPC + e.cfg.PortOffset),
		"ADMIN_ADDR":        loopback(s.Admin + e.cfg.PortOffset),
		"OTEL_SERVICE_NAME": s.Name,
	}
	if collector := e.observability.tracesTo(); collector != "" {
		set[collectorVariable] = collector
	}
	if Lookup(e.cfg.Environ, "AUTH_MODE") == "" {
		set["AUTH_MODE"] = "none"
	}
	needs := map[string]string{project.Postgres: "DATABASE_URL", project.Redis: "REDIS_URL", project.NATS: "BROKER_URL"}
	values := map[string]string{project.Postgres: at.database, project.Redis: at.redis, project.NATS: at.broker}
	for _, need := range s.Needs {
		set[needs[need]] = values[need]
	}
	for variable, callee := range s.Calls {
		if other, ok := e.cfg.Project.Service(callee); ok {
			set[variable] = loopback(other.GRPC + e.cfg.PortOffset)
		}
	}
	environ := slices.DeleteFunc(slices.Clone(e.cfg.Environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, replaced := set[name]
		return replaced || slices.Contains(slices.Collect(maps.Values(needs)), name)
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		environ = append(environ, name+"="+set[name])
	}
	return environ
}

// closing is what a service gets beside its drain for closing its connections and
// for its last traces.
const closing = 10 * time.Second

// drainBudget bounds the stop of a service: what the service itself takes by its
// environment, and some time for closing.
func drainBudget(environ []string) time.Duration {
	budget := 15*time.Second + closing
	if d, err := time.ParseDuration(Lookup(environ, "DRAIN_TIMEOUT")); err == nil && d > 0 {
		budget = d + closing
	}
	if d, err := time.ParseDuration(Lookup(environ, "DRAIN_DELAY")); err == nil && d > 0 {
		budget += d
	}
	return budget
}
