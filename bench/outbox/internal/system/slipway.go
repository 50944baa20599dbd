package system

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

// Slipway is ours, with the configuration of production unless another one is given.
func Slipway(cfg outbox.Config) System { return slipway{cfg} }

type slipway struct{ cfg outbox.Config }

// Name implements System.
func (s slipway) Name() string {
	if s.cfg.Batch == 0 {
		return "ours"
	}
	return fmt.Sprintf("ours_%d", s.cfg.Batch)
}

// Install implements System.
func (slipway) Install(ctx context.Context, url string) error {
	_, err := migrate.Up(ctx, url, outbox.Migrations())
	return err
}

// Tables implements System.
func (slipway) Tables() (events, bookkeeping []string) {
	return []string{"slipway.outbox_0", "slipway.outbox_1", "slipway.outbox_2"},
		[]string{"slipway.outbox_rotation", "slipway.outbox_sink", "slipway.outbox_step", "slipway.outbox_parked_aggregate", "slipway.outbox_parked"}
}

// Writer implements System.
func (slipway) Writer(context.Context, *pgxpool.Pool) (Writer, error) {
	return writerFunc(func(ctx context.Context, tx pgx.Tx, events ...Event) error {
		all := make([]outbox.Event, len(events))
		for i, e := range events {
			all[i] = outbox.Event{
				AggregateType: Kind, AggregateID: fmt.Sprint(e.Aggregate), AggregateVersion: e.Version,
				Type: Type, Version: 1, Payload: e.Payload, Headers: headers(),
			}
		}
		return outbox.Add(ctx, tx, all...)
	}), nil
}

// Fill implements System.
func (s slipway) Fill(ctx context.Context, url string, n int) error { return s.fill(ctx, url, n, 1) }

// FillBulk stores n events, perTx in a transaction, for backlogs that would take too
// long otherwise.
func FillBulk(ctx context.Context, url string, n, perTx int) error {
	return slipway{}.fill(ctx, url, n, perTx)
}

// fill says of the events that their transactions were durable: the relay would wait
// for the log to be flushed otherwise.
func (slipway) fill(ctx context.Context, url string, n, perTx int) error {
	insert := fmt.Sprintf(`INSERT INTO slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version,
			event_type, event_version, payload, headers, durable)
		SELECT (SELECT slot FROM slipway.outbox_rotation WHERE current), 0, gen_random_uuid(), '%s', g %% %d, g / %d + 1,
			'%s', 1, %s, '%s', true`, Kind, fillAggregates, fillAggregates, Type, fillPayload, headersJSON)
	return lab.Exec(ctx, url, fillLoop(insert, n, perTx)...)
}

// Relay implements System.
func (s slipway) Relay(ctx context.Context, url string, pub broker.Publisher) (Relay, error) {
	pool, err := lab.OpenPool(ctx, url, 6)
	if err != nil {
		return nil, err
	}
	relay, err := outbox.NewRelay(pool, pub, s.cfg, nil, nil)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &slipwayRelay{relay, pool}, nil
}

type slipwayRelay struct {
	*outbox.Relay

	pool *pgxpool.Pool
}

// Close implements Relay.
func (r *slipwayRelay) Close() { r.pool.Close() }
