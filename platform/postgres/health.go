package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrReadOnly is the health check's error for a server that answers and does
// not accept writes: a standby, or a former primary.
var ErrReadOnly = errors.New("database is read-only")

// HealthCheck returns a check of the database and a function that ends it. The
// check has one connection of its own, so that a pool whose connections are all
// busy is not taken for a dead database. It connects at the first call, and again
// within a call when the connection is lost or has become read-only. ctx bounds
// each call; calls at the same time wait for each other.
func HealthCheck(cfg Config) (check func(ctx context.Context) error, end func()) {
	cfg.SetDefaults()
	p := &prober{cfg: cfg, turn: make(chan struct{}, 1)}
	return p.check, p.end
}

// prober is the connection of a health check. turn guards conn and ended.
type prober struct {
	cfg   Config
	turn  chan struct{}
	conn  *pgx.Conn
	ended bool
}

func (p *prober) check(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return fmt.Errorf("check database: %w", ctx.Err())
	}
	if p.ended {
		return errors.New("check database: the check has ended")
	}
	reused := p.conn != nil
	err := p.probe(ctx)
	if err != nil && reused && ctx.Err() == nil {
		err = p.probe(ctx) // the server may have been replaced since the last call
	}
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	return nil
}

// probe asks over the connection, which is closed unless all is well.
func (p *prober) probe(ctx context.Context) (err error) {
	if p.conn == nil {
		if p.conn, err = p.connect(ctx); err != nil {
			return err
		}
	}
	var readOnly bool
	err = p.conn.QueryRow(ctx, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool").Scan(&readOnly)
	if err == nil && readOnly && p.cfg.wantsWrites() {
		err = ErrReadOnly
	}
	if err != nil {
		p.close(ctx)
	}
	return err
}

func (p *prober) connect(ctx context.Context) (*pgx.Conn, error) {
	if err := p.cfg.Validate(); err != nil {
		return nil, err
	}
	parsed, err := pgxpool.ParseConfig(p.cfg.URL) // takes the pool's settings out of the URL
	if err != nil {
		return nil, err
	}
	cfg := parsed.ConnConfig
	p.cfg.apply(cfg)
	cfg.RuntimeParams["application_name"] += "-health"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if errors.Is(err, pgconn.ErrReadOnlyConnection) {
		return nil, fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return conn, err
}

func (p *prober) close(ctx context.Context) {
	if p.conn != nil {
		_ = p.conn.Close(ctx)
		p.conn = nil
	}
}

// end waits for a call that is under way.
func (p *prober) end() {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.ended = true
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	p.close(ctx)
}
