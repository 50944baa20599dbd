package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Config is how to reach the servers.
type Config struct {
	// URL may name several servers: nats://user:password@a:4222,nats://b:4222.
	URL string `env:"BROKER_URL,required"`
	// Name is what the servers show of the connection. Empty means "slipway".
	Name string
	// ConnectTimeout bounds the attempt to connect to one server. 0 means 3 seconds.
	ConnectTimeout time.Duration `env:"BROKER_CONNECT_TIMEOUT"`
	// RequestTimeout bounds each question to JetStream. 0 means 5 seconds.
	RequestTimeout time.Duration `env:"BROKER_REQUEST_TIMEOUT"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.Name = cmp.Or(c.Name, "slipway")
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 3*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 5*time.Second)
}

// Validate names every field that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("BROKER_URL: must be set"))
	}
	if c.ConnectTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("BROKER_CONNECT_TIMEOUT: %s is shorter than 1ms", c.ConnectTimeout))
	}
	if c.RequestTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("BROKER_REQUEST_TIMEOUT: %s is shorter than 1ms", c.RequestTimeout))
	}
	return errors.Join(errs...)
}

// Conn is a connection that is made anew for as long as it takes. Safe for
// concurrent use.
type Conn struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	cfg Config
	log *zap.Logger
}

// Connect returns a connection, also when no server answers yet: it fails only for a
// configuration that can never work. A nil logger is none.
func Connect(cfg Config, log *zap.Logger) (*Conn, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	c := &Conn{cfg: cfg, log: log.Named("nats")}
	nc, err := nats.Connect(cfg.URL, c.options()...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if c.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(cfg.RequestTimeout)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to jetstream: %w", err)
	}
	c.nc = nc
	return c, nil
}

func (c *Conn) options() []nats.Option {
	return []nats.Option{
		nats.Name(c.cfg.Name),
		nats.Timeout(c.cfg.ConnectTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		// What cannot be sent now fails now: a message that waited in the client would
		// be stored after its own repetition.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.log.Warn("lost connection to nats", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.log.Info("connected to nats again", zap.String("server", nc.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.log.Warn("nats reported an error", zap.Error(err))
		}),
	}
}

// Close ends the connection. End subscriptions first.
func (c *Conn) Close() { c.nc.Close() }

// HealthCheck tells whether JetStream answers.
func (c *Conn) HealthCheck(ctx context.Context) error {
	if _, err := c.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask jetstream: %w", offline(err))
	}
	return nil
}

var errOffline = errors.New("no connection to nats, trying to get one")

// offline says plainly that there is no connection. The client, which is told to keep
// nothing for later, speaks of a full buffer.
func offline(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		return errOffline
	}
	return err
}
