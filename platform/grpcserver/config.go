package grpcserver

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// Config tunes a [Server]. The zero value means the documented defaults; sizes are bytes.
type Config struct {
	// Addr is where the services are served; default ":50051". Port 0 picks a free one.
	Addr string `env:"GRPC_ADDR"`
	// ProbeAddr serves only the health service, in plaintext, for probes that cannot speak
	// TLS; empty for none. With TLS on, a kubelet can probe nothing else.
	ProbeAddr string `env:"PROBE_ADDR"`
	// Reflection lets anyone who may call the server list its services and messages.
	Reflection bool `env:"GRPC_REFLECTION"`
	TLS        TLS

	// DrainDelay is how long the server keeps serving after readiness went NOT_SERVING, so
	// that load balancers stop sending before it stops accepting; 0 for no delay.
	DrainDelay time.Duration `env:"DRAIN_DELAY"`
	// DrainTimeout bounds the wait for calls in flight before they are cut off; default 15s.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT"`
	// HookTimeout bounds each function given to [Server.OnShutdown]; default 3s.
	HookTimeout time.Duration `env:"DRAIN_HOOK_TIMEOUT"`

	// MaxRecvBytes bounds a request message; default 1 MiB.
	MaxRecvBytes int `env:"GRPC_MAX_RECV_BYTES"`
	// MaxSendBytes bounds a response message; default 4 MiB, what clients accept by default.
	MaxSendBytes int `env:"GRPC_MAX_SEND_BYTES"`
	// MaxHeaderListBytes bounds the metadata of a call; default 16 KiB, enough for a token
	// and full baggage.
	MaxHeaderListBytes int `env:"GRPC_MAX_HEADER_LIST_BYTES"`
	// MaxConcurrentStreams bounds the calls in flight on one connection; default 1000. A
	// client above it waits without an error, so the limit stands far above what a gateway
	// with many watches needs and below what one connection could do harm with.
	MaxConcurrentStreams int `env:"GRPC_MAX_CONCURRENT_STREAMS"`
	// ConnectionTimeout bounds the handshakes of a new connection; default 10s.
	ConnectionTimeout time.Duration `env:"GRPC_CONNECTION_TIMEOUT"`
	// MaxConnectionAge is when a connection is told to go away, give or take a tenth, so
	// that clients find new replicas; default 10m.
	MaxConnectionAge time.Duration `env:"GRPC_MAX_CONNECTION_AGE"`
	// MaxConnectionAgeGrace is how long calls may still take on such a connection; default
	// 1m. Longer streams are cut with UNAVAILABLE and are to be opened again.
	MaxConnectionAgeGrace time.Duration `env:"GRPC_MAX_CONNECTION_AGE_GRACE"`
	// KeepaliveTime is the silence after which a client is pinged; default 1m.
	KeepaliveTime time.Duration `env:"GRPC_KEEPALIVE_TIME"`
	// KeepaliveTimeout is how long a ping may stay unanswered before the connection is
	// closed; default 20s.
	KeepaliveTimeout time.Duration `env:"GRPC_KEEPALIVE_TIMEOUT"`
	// KeepaliveMinTime is how often clients may ping, with calls in flight or without;
	// default 10s. One that pings faster is disconnected.
	KeepaliveMinTime time.Duration `env:"GRPC_KEEPALIVE_MIN_TIME"`

	// MinDeadline is the floor: a call that arrives with less time left is refused with
	// DEADLINE_EXCEEDED before any work is done; default 5ms.
	MinDeadline time.Duration `env:"GRPC_MIN_DEADLINE"`
	// MaxDeadline is the ceiling: a unary call without a deadline, or with a longer one, gets
	// this one; default 30s. Streams are bounded by the age of their connection instead.
	MaxDeadline time.Duration `env:"GRPC_MAX_DEADLINE"`
}

// TLS names the PEM files of the server's identity. All empty means plaintext. Changed
// files are read again within a second; broken ones are logged and the last good ones kept.
type TLS struct {
	CertFile string `env:"TLS_CERT_FILE"`
	KeyFile  string `env:"TLS_KEY_FILE"`
	// ClientCAFile demands a client certificate signed by one of its authorities.
	ClientCAFile string `env:"TLS_CLIENT_CA_FILE"`
}

func (t TLS) enabled() bool { return t != TLS{} }

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.Addr = cmp.Or(c.Addr, ":50051")
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 15*time.Second)
	c.HookTimeout = cmp.Or(c.HookTimeout, 3*time.Second)
	c.MaxRecvBytes = cmp.Or(c.MaxRecvBytes, 1<<20)
	c.MaxSendBytes = cmp.Or(c.MaxSendBytes, 4<<20)
	c.MaxHeaderListBytes = cmp.Or(c.MaxHeaderListBytes, 16<<10)
	c.MaxConcurrentStreams = cmp.Or(c.MaxConcurrentStreams, 1000)
	c.ConnectionTimeout = cmp.Or(c.ConnectionTimeout, 10*time.Second)
	c.MaxConnectionAge = cmp.Or(c.MaxConnectionAge, 10*time.Minute)
	c.MaxConnectionAgeGrace = cmp.Or(c.MaxConnectionAgeGrace, time.Minute)
	c.KeepaliveTime = cmp.Or(c.KeepaliveTime, time.Minute)
	c.KeepaliveTimeout = cmp.Or(c.KeepaliveTimeout, 20*time.Second)
	c.KeepaliveMinTime = cmp.Or(c.KeepaliveMinTime, 10*time.Second)
	c.MinDeadline = cmp.Or(c.MinDeadline, 5*time.Millisecond)
	c.MaxDeadline = cmp.Or(c.MaxDeadline, 30*time.Second)
}

// Validate reports every bad value at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DrainDelay < 0 {
		bad("drain delay %s is negative", c.DrainDelay)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"drain timeout", c.DrainTimeout},
		{"hook timeout", c.HookTimeout},
		{"connection timeout", c.ConnectionTimeout},
		{"max connection age", c.MaxConnectionAge},
		{"max connection age grace", c.MaxConnectionAgeGrace},
		{"keepalive time", c.KeepaliveTime},
		{"keepalive timeout", c.KeepaliveTimeout},
		{"keepalive min time", c.KeepaliveMinTime},
		{"min deadline", c.MinDeadline},
		{"max deadline", c.MaxDeadline},
	} {
		if d.value <= 0 {
			bad("%s %s is not positive", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"max recv bytes", c.MaxRecvBytes},
		{"max send bytes", c.MaxSendBytes},
		{"max header list bytes", c.MaxHeaderListBytes},
		{"max concurrent streams", c.MaxConcurrentStreams},
	} {
		if n.value <= 0 || n.value > math.MaxInt32 {
			bad("%s %d is not between 1 and %d", n.name, n.value, math.MaxInt32)
		}
	}
	if c.MinDeadline >= c.MaxDeadline {
		bad("min deadline %s is not below max deadline %s", c.MinDeadline, c.MaxDeadline)
	}
	if c.TLS.enabled() && (c.TLS.CertFile == "" || c.TLS.KeyFile == "") {
		bad("TLS needs a certificate file and a key file")
	}
	return errors.Join(errs...)
}
