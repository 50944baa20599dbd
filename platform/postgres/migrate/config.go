package migrate

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Config tunes a run. The zero value is ready for use.
type Config struct {
	// LockWait bounds the wait for another run. 0 means one minute.
	LockWait time.Duration
	// LockTimeout bounds each statement's wait for a table that others use: a
	// migration that waits for a lock makes everybody behind it wait too. 0 means
	// three seconds. It does not apply to CONCURRENTLY, which blocks nobody.
	LockTimeout time.Duration
	// Attempts is how often a file is tried that runs into LockTimeout or a
	// deadlock. 0 means ten.
	Attempts int
	// RefuseNewer makes Up fail on a database that has migrations newer than
	// those it was given. By default it only says so: during a rollout an older
	// program runs beside a newer schema.
	RefuseNewer bool
	// Notice receives what an operator should know while a run goes on. nil
	// drops it.
	Notice func(message string)
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.LockWait = cmp.Or(c.LockWait, time.Minute)
	c.LockTimeout = cmp.Or(c.LockTimeout, 3*time.Second)
	c.Attempts = cmp.Or(c.Attempts, 10)
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
}

func (c Config) notice(format string, args ...any) { c.Notice(fmt.Sprintf(format, args...)) }

// connect opens the one connection of a run. Its timeouts replace those of the
// role: a migration may take long, but not wait long.
func connect(ctx context.Context, url string, lockTimeout time.Duration) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	if !strings.Contains(url, "target_session_attrs") {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	for name, value := range map[string]string{
		"application_name":                    "slipway-migrate",
		"statement_timeout":                   "0",
		"idle_in_transaction_session_timeout": "0",
		"lock_timeout":                        fmt.Sprint(lockTimeout.Milliseconds()),
	} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	return conn, nil
}

// disconnect also frees the lock of a run, whether ctx is over or not.
func disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
