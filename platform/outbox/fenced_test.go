package outbox

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// What a replica has on its way when it is stopped arrives after another one has taken over. Seen to fail without the
// term in mineSQL, and when a refusal is not counted.
func TestLedger_refusesAndCountsStaleWrites(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), postgrestest.New(t, Migrations())
	m, err := newMetrics("test", nil)
	require.NoError(t, err)
	relay := &Relay{m: m, cfg: Config{Sink: "test"}}
	relay.cfg.SetDefaults()
	open := func(holder string) (*ledger, *pgx.Conn) {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		require.NoError(t, register(ctx, conn, "test", zap.NewNop()))
		return relay.newLedger(&leaseTable{conn: conn, sink: "test", holder: holder, lease: relay.cfg.Lease}, &sync.Mutex{}, monotonic()), conn
	}
	takeOver := func(l *ledger) position {
		seen, err := l.db.sight(ctx)
		require.NoError(t, err)
		pos, ok, err := l.take(ctx, seen)
		require.NoError(t, err)
		require.True(t, ok)
		return pos
	}
	stale, _ := open("stale")
	old := takeOver(stale)
	require.NoError(t, stale.save(ctx, old, true, nil), "it is its own")

	fresh, conn := open("fresh")
	takeOver(fresh)
	moved, err := parseSnapshot("740:740:")
	require.NoError(t, err)
	require.NoError(t, fresh.save(ctx, position{done: moved}, true, nil))

	writes := map[string]func() error{
		"sign of life": func() error { _, err := stale.beat(ctx); return err },
		"position":     func() error { return stale.save(ctx, old, true, nil) },
		"parked": func() error {
			p := parking{}
			p.behind(&stored{words: words{text: "order/7", ends: [parts]uint32{5, 6, 7, 7, 7, 7, 7, 7, 7}}})
			return stale.save(ctx, old, true, p)
		},
		"redriven":     func() error { return stale.redriven(ctx, redriven{aggregate: aggregate{"order", "7"}, empty: true}) },
		"begin replay": func() error { _, err := stale.beginReplay(ctx, 1); return err },
		"replayed":     func() error { return stale.replayed(ctx, repeated{replay: 1}) },
	}
	refused := 0
	for name, write := range writes {
		require.ErrorIs(t, write(), errFenced, name)
		refused++
		require.InDelta(t, refused, testutil.ToFloat64(m.fenced), 0, name)
	}
	require.NoError(t, stale.free(ctx), "it gives back what it does not have")

	var snapshot, holder string
	var parked int
	require.NoError(t, conn.QueryRow(ctx, `SELECT p.snapshot::text, s.holder, (SELECT count(*) FROM slipway.outbox_parked)
		FROM slipway.outbox_position p JOIN slipway.outbox_sink s USING (sink)`).Scan(&snapshot, &holder, &parked))
	require.Equal(t, "740:740:", snapshot)
	require.Equal(t, "fresh", holder)
	require.Zero(t, parked)
}
