package grpcclient

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/platform/breaker"
)

// Config says whom a connection leads to, and how. Only Target is required; sizes are bytes.
// An application with several clients tells their variables apart by envPrefix.
type Config struct {
	// Target is a gRPC name: "host:port", "dns:///host:port" or another resolver's scheme.
	Target string `env:"TARGET"`
	// Timeout is the deadline of unary calls that come without one; default 5s.
	Timeout time.Duration `env:"TIMEOUT"`
	// MaxAttempts bounds the attempts of a call that may be retried, the first included;
	// default 3, at most 5, 1 for no retries.
	MaxAttempts int `env:"MAX_ATTEMPTS"`
	// MaxRecvBytes bounds a response message; default 4 MiB.
	MaxRecvBytes int `env:"MAX_RECV_BYTES"`
	// MaxSendBytes bounds a request message; default 4 MiB. The server has a limit of its own.
	MaxSendBytes int `env:"MAX_SEND_BYTES"`
	// KeepaliveTime is the silence after which the server is pinged, with calls in flight
	// or without; default 30s, at least 10s, which is what servers put up with.
	KeepaliveTime time.Duration `env:"KEEPALIVE_TIME"`
	// KeepaliveTimeout is how long a ping may stay unanswered before the connection is
	// given up; default 10s.
	KeepaliveTimeout time.Duration `env:"KEEPALIVE_TIMEOUT"`
	// BreakerDisabled makes calls whatever became of those before them.
	BreakerDisabled bool `env:"BREAKER_DISABLED"`
	// Breaker says when no calls are made because too many have failed. Its name is that of the
	// target by default.
	Breaker breaker.Config `envPrefix:"BREAKER_"`
	// TokenFile holds the bearer token that goes with each call, alone in its file; it is read
	// again when it changes. Empty means none. With Insecure it travels in the clear: only
	// where something else encrypts.
	TokenFile string `env:"TOKEN_FILE"`
	// Insecure turns TLS off. Nothing but this does.
	Insecure bool `env:"INSECURE"`
	TLS      TLS
}

// TLS names the PEM files of a connection. All empty means the system's authorities and no
// client certificate.
type TLS struct {
	// CAFile has the authorities that may vouch for the server. It is read once.
	CAFile string `env:"TLS_CA_FILE"`
	// CertFile and KeyFile prove who the client is. They are read again for each handshake,
	// so renewed certificates are picked up.
	CertFile string `env:"TLS_CERT_FILE"`
	KeyFile  string `env:"TLS_KEY_FILE"`
	// ServerName is the name the server's certificate must have; default the target's host.
	ServerName string `env:"TLS_SERVER_NAME"`
}

const (
	// minKeepaliveTime and maxAttempts are gRPC's own limits: it silently uses them for
	// values beyond.
	minKeepaliveTime = 10 * time.Second
	maxAttempts      = 5
)

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 3)
	c.MaxRecvBytes = cmp.Or(c.MaxRecvBytes, 4<<20)
	c.MaxSendBytes = cmp.Or(c.MaxSendBytes, 4<<20)
	c.KeepaliveTime = cmp.Or(c.KeepaliveTime, 30*time.Second)
	c.KeepaliveTimeout = cmp.Or(c.KeepaliveTimeout, 10*time.Second)
	c.Breaker.Name = cmp.Or(c.Breaker.Name, c.Target)
	c.Breaker.SetDefaults()
}

// Validate reports every bad value at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Target == "" {
		bad("TARGET: is required and not set")
	}
	if c.Timeout <= 0 {
		bad("TIMEOUT: %s is not positive", c.Timeout)
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > maxAttempts {
		bad("MAX_ATTEMPTS: %d is not between 1 and %d", c.MaxAttempts, maxAttempts)
	}
	if c.MaxRecvBytes <= 0 || c.MaxRecvBytes > math.MaxInt32 {
		bad("MAX_RECV_BYTES: %d is not between 1 and %d", c.MaxRecvBytes, math.MaxInt32)
	}
	if c.MaxSendBytes <= 0 || c.MaxSendBytes > math.MaxInt32 {
		bad("MAX_SEND_BYTES: %d is not between 1 and %d", c.MaxSendBytes, math.MaxInt32)
	}
	if c.KeepaliveTime < minKeepaliveTime {
		bad("KEEPALIVE_TIME: %s is below %s", c.KeepaliveTime, minKeepaliveTime)
	}
	if c.KeepaliveTimeout <= 0 {
		bad("KEEPALIVE_TIMEOUT: %s is not positive", c.KeepaliveTimeout)
	}
	if err := c.Breaker.Validate(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			bad("BREAKER_%s", line)
		}
	}
	if c.Insecure && c.TLS != (TLS{}) {
		bad("INSECURE: excludes TLS files")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("TLS_CERT_FILE: a client needs both a certificate file and a key file, or neither")
	}
	return errors.Join(errs...)
}
