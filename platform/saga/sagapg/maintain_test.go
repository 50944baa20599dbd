package sagapg_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// Days get their partitions before they come, and go as a whole when they are past the retention. What
// was stored before its day had one goes by age.
func TestRunner_retention(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	exec := func(sql string) {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, table := range []string{"saga_finished", "saga_journal"} {
		exec("CREATE TABLE slipway." + table + "_d20200101 PARTITION OF slipway." + table + " FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00')")
	}
	for _, at := range []string{"2020-01-01 12:00+00", "2019-01-01"} {
		exec(`INSERT INTO slipway.saga_finished (finished_at, created_at, definition, stage, status, backward, id, data, headers, reason, problem)
			VALUES ('` + at + `', now(), 1, 0, 3, false, gen_random_uuid(), '{}', '{}', '', '')`)
	}
	exec("INSERT INTO slipway.saga_signal (at, saga_id, name, payload) VALUES ('2020-01-01', gen_random_uuid(), 'paid', '')")
	exec("INSERT INTO slipway.saga_worker (name, definitions, ended_at) VALUES ('gone', '{}', '2020-01-01')")
	cfg := quick()
	cfg.Maintenance = 20 * time.Millisecond
	s := newSteps()
	start(t, pool, cfg, s.trip())
	eventually(t, func() bool {
		return query[int](t, pool, "SELECT count(*) FROM pg_class WHERE relname ~ '^saga_(finished|journal)_d20200101$'") == 0 &&
			query[int](t, pool, "SELECT count(*) FROM slipway.saga_finished") == 0 &&
			query[int](t, pool, "SELECT count(*) FROM slipway.saga_signal") == 0 &&
			query[int](t, pool, "SELECT count(*) FROM slipway.saga_worker WHERE name = 'gone'") == 0
	})
	ended(t, pool, begin(t, pool, s.trip(), trip{}))
	require.Zero(t, query[int](t, pool, "SELECT count(*) FROM ONLY slipway.saga_finished_default"), "today has a partition")
	require.Equal(t, 6, query[int](t, pool, `SELECT count(*) FROM pg_inherits WHERE inhparent IN ('slipway.saga_finished'::regclass, 'slipway.saga_journal'::regclass)
		AND inhrelid::regclass::text ~ '_d\d{8}$'`), "and so have the next two days")
}

// One saga with very many instances does not hold up another.
func TestRunner_isFair(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	release := s.gate("flood")
	flood := saga.Define("flood", 1, saga.Step("flood", s.of("flood")))
	other := saga.Define("other", 1, saga.Step("other", s.of("other")))
	require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
		for range 500 {
			if _, err := sagapg.Start(ctx, tx, nil, flood, newID(), trip{}); err != nil {
				return err
			}
		}
		return nil
	}))
	id := begin(t, pool, other, trip{})
	cfg := quick()
	cfg.Concurrency = 10
	start(t, pool, cfg, flood, other)
	ended(t, pool, id)
	require.LessOrEqual(t, s.count("flood"), 10)
	release()
	eventually(t, func() bool { return s.count("flood") == 500 })
}

// Sagas that are launched share commits, and each begins at once.
func TestLaunch(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	r, _, _ := start(t, pool, quick(), s.trip())
	var ids []string
	for range 100 {
		ids = append(ids, newID())
	}
	errs := make(chan error, len(ids))
	for _, id := range ids {
		go func() { errs <- sagapg.Launch(context.Background(), r, s.trip(), id, trip{}) }()
	}
	for range ids {
		require.NoError(t, <-errs)
	}
	for _, id := range ids {
		status, _ := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
	}
	require.Equal(t, 100, s.count("book"))

	release := s.gate("flight")
	defer release()
	id := newID()
	require.NoError(t, sagapg.Launch(t.Context(), r, s.trip(), id, trip{}))
	require.ErrorIs(t, sagapg.Launch(t.Context(), r, s.trip(), id, trip{}), sagapg.ErrExists)
}
