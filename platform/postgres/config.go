package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config is how a service reaches its database. Only URL is required. Settings
// of a connection in the URL's query take precedence over the fields:
// ?statement_timeout=0 switches that timeout off, ?target_session_attrs=any
// accepts a standby. The size of the pool is that of the fields.
type Config struct {
	// URL may name several hosts: postgres://user:password@a:5432,b:5432/orders.
	URL string `env:"DATABASE_URL,required"`
	// MaxConns is the most connections that a pool opens. 0 means 10. The sum over
	// all replicas must stay below the server's max_connections.
	MaxConns int `env:"DATABASE_MAX_CONNS"`
	// MinConns are kept open when idle. 0 keeps none.
	MinConns int `env:"DATABASE_MIN_CONNS"`
	// MaxConnLifetime is after how long a connection is replaced, give or take a
	// fifth so that not all go at once. 0 means 30 minutes.
	MaxConnLifetime time.Duration `env:"DATABASE_MAX_CONN_LIFETIME"`
	// StatementTimeout bounds each statement, on the server. 0 means 5 seconds.
	StatementTimeout time.Duration `env:"DATABASE_STATEMENT_TIMEOUT"`
	// LockTimeout bounds each wait for a lock, on the server. 0 means 2 seconds.
	LockTimeout time.Duration `env:"DATABASE_LOCK_TIMEOUT"`
	// IdleInTxTimeout ends a session that holds a transaction open and does
	// nothing, which holds up vacuum for all. 0 means 10 seconds.
	IdleInTxTimeout time.Duration `env:"DATABASE_IDLE_IN_TX_TIMEOUT"`
	// ConnectTimeout bounds the attempt to connect to one host, and the ping of a
	// connection that was idle. 0 means 3 seconds.
	ConnectTimeout time.Duration `env:"DATABASE_CONNECT_TIMEOUT"`
	// AppName is what the server shows of a connection and the label "pool" of the
	// pool's metrics. Empty means "slipway".
	AppName string
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.MaxConns = cmp.Or(c.MaxConns, 10)
	c.MaxConnLifetime = cmp.Or(c.MaxConnLifetime, 30*time.Minute)
	c.StatementTimeout = cmp.Or(c.StatementTimeout, 5*time.Second)
	c.LockTimeout = cmp.Or(c.LockTimeout, 2*time.Second)
	c.IdleInTxTimeout = cmp.Or(c.IdleInTxTimeout, 10*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 3*time.Second)
	c.AppName = cmp.Or(c.AppName, "slipway")
}

// Validate names every field that is wrong. The password is not in the error.
func (c Config) Validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("DATABASE_URL: must be set"))
	} else if _, err := pgxpool.ParseConfig(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("DATABASE_URL: %w", err))
	}
	if c.MaxConns < 1 {
		errs = append(errs, fmt.Errorf("DATABASE_MAX_CONNS: %d is not positive", c.MaxConns))
	}
	if c.MinConns < 0 || c.MinConns > c.MaxConns {
		errs = append(errs, fmt.Errorf("DATABASE_MIN_CONNS: %d is not between 0 and %d", c.MinConns, c.MaxConns))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"DATABASE_MAX_CONN_LIFETIME", c.MaxConnLifetime},
		{"DATABASE_STATEMENT_TIMEOUT", c.StatementTimeout},
		{"DATABASE_LOCK_TIMEOUT", c.LockTimeout},
		{"DATABASE_IDLE_IN_TX_TIMEOUT", c.IdleInTxTimeout},
		{"DATABASE_CONNECT_TIMEOUT", c.ConnectTimeout},
	} {
		if d.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than 1ms", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

// apply puts the settings into a parsed URL, where that does not have its own.
func (c Config) apply(conn *pgx.ConnConfig) {
	for name, value := range map[string]string{
		"application_name":                    c.AppName,
		"statement_timeout":                   milliseconds(c.StatementTimeout),
		"lock_timeout":                        milliseconds(c.LockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(c.IdleInTxTimeout),
	} {
		if _, ok := conn.RuntimeParams[name]; !ok {
			conn.RuntimeParams[name] = value
		}
	}
	if !strings.Contains(c.URL, "connect_timeout") {
		conn.ConnectTimeout = c.ConnectTimeout
	}
	if c.wantsWrites() {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// wantsWrites reports whether only a server that accepts writes will do.
func (c Config) wantsWrites() bool {
	return !strings.Contains(c.URL, "target_session_attrs") ||
		strings.Contains(c.URL, "target_session_attrs=read-write")
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
