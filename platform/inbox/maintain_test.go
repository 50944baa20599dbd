package inbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/inbox"
)

// partitions are the days that have one.
const partitions = `select right(c.relname, 8) from pg_inherits i join pg_class c on c.oid = i.inhrelid
	where i.inhparent = 'slipway.inbox'::regclass and c.relname ~ 'inbox_d\d' order by 1`

func days(from, to int) []string {
	var all []string
	for d := from; d <= to; d++ {
		all = append(all, time.Now().UTC().AddDate(0, 0, d).Format("20060102"))
	}
	return all
}

// There is a partition for each day that somebody remembers and for two to come. With a horizon that knows only the
// retention of who asks, the days of a consumer that keeps ids for longer are gone.
func TestMaintain_partitions(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	maintained(t, pool, 5*day)
	require.Equal(t, days(-5, 2), rows[string](t, pool, partitions))
	maintained(t, pool, 2*day)
	require.Equal(t, days(-2, 2), rows[string](t, pool, partitions))

	t.Run("keeps the longest retention of the consumers", func(t *testing.T) {
		_, err := pool.Exec(t.Context(), "insert into slipway.inbox_consumer values ('long', 'by_id', '2 days')")
		require.NoError(t, err)
		maintained(t, pool, day)
		require.Equal(t, days(-2, 2), rows[string](t, pool, partitions))
	})
	t.Run("forgets consumers that are gone", func(t *testing.T) {
		_, err := pool.Exec(t.Context(), "update slipway.inbox_consumer set seen_at = now() - interval '4 days'")
		require.NoError(t, err)
		maintained(t, pool, day)
		require.Equal(t, days(-1, 2), rows[string](t, pool, partitions))
	})
	t.Run("lets many do it at once", func(t *testing.T) {
		pool := setup(t)
		var all sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			all.Go(func() { errs[i] = inbox.Maintain(t.Context(), pool, 5*day) })
		}
		all.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		maintained(t, pool, 5*day)
		require.Equal(t, days(-5, 2), rows[string](t, pool, partitions))
	})
}

// P17. With a plain DROP TABLE the maintenance waits for the long transaction with
// its exclusive lock in the queue, and every insert behind it. (Tried with that and
// no lock timeout: the insert in here did not come back.)
func TestMaintain_longTransaction(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	maintained(t, pool, 5*day)
	long, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer long.Rollback(ctx)
	_, err = inbox.Once(ctx, long, "long", idOf(time.Now().Add(-4*day)), func() error { return nil })
	require.NoError(t, err)
	_, err = apply(ctx, pool, "old", idOf(time.Now().Add(-3*day)))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	require.NoError(t, inbox.Maintain(ctx, pool, day)) // does not wait for it
	fresh, err := apply(ctx, pool, "new", newID())
	require.NoError(t, err)
	require.True(t, fresh)
	require.Equal(t, 1, one[int](t, pool, "select count(*) from only slipway.inbox_d"+days(0, 0)[0]))
	require.Zero(t, one[int64](t, pool, "select pg_relation_size('slipway.inbox_d"+days(-3, -3)[0]+"')"),
		"a partition that the transaction has not used is empty at once")

	require.NoError(t, long.Commit(ctx))
	maintained(t, pool, day)
	require.Equal(t, days(-1, 2), rows[string](t, pool, partitions))
}

// What is not dropped with its day goes by age, row by row, all of it in one call. With one batch a call, with dead
// letters that go by their first attempt, or without a look at the age of what lies in the future, it is not what is
// left here.
func TestMaintain_trim(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	maintained(t, pool, 3*day)
	for _, sql := range []string{
		`insert into slipway.inbox (consumer, day, message_id, received_at)
			select 'c', '-infinity', gen_random_uuid(), now() - interval '5 days' from generate_series(1, 2500)`,
		`insert into slipway.inbox (consumer, day, message_id) values ('c', '-infinity', gen_random_uuid())`,
		`insert into slipway.inbox (consumer, day, message_id) values ('c', current_date - 9, gen_random_uuid())`,
		`insert into slipway.inbox (consumer, day, message_id, received_at) values ('c', current_date + 900, gen_random_uuid(), now() - interval '5 days')`,
		`insert into slipway.inbox (consumer, day, message_id) values ('c', current_date + 900, gen_random_uuid())`,
		`insert into slipway.inbox_attempt values ('c', 'old', 1, now(), now() - interval '5 days'), ('c', 'new', 1, now(), now())`,
		`insert into slipway.inbox_dead (consumer, message_id, key, subject, headers, payload, class, error, attempts, first_at, resolved_at)
			values ('c', 'gone', '', 's', '{}', '', 'x', 'x', 1, now(), now() - interval '5 days'),
			('c', 'resolved', '', 's', '{}', '', 'x', 'x', 1, now(), now()),
			('c', 'open', '', 's', '{}', '', 'x', 'x', 1, now() - interval '50 days', null)`,
	} {
		_, err := pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	maintained(t, pool, 3*day)
	require.Equal(t, 1, one[int](t, pool, "select count(*) from only slipway.inbox_other"))
	require.Equal(t, 1, one[int](t, pool, "select count(*) from only slipway.inbox_default"))
	require.Equal(t, []string{"new"}, rows[string](t, pool, "select message_id from slipway.inbox_attempt"))
	require.Equal(t, []string{"resolved", "open"}, rows[string](t, pool, "select message_id from slipway.inbox_dead order by id"))
}

// What runs once a second, or under a lock, must not read tables as they grow.
func TestMaintain_plans(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	_, err := pool.Exec(ctx, `insert into slipway.inbox_early (version, consumer, key, message_id, subject, headers, payload)
		select n % 100 + 5, 'c', 'order/' || n / 100, n, 's', '{}', '' from generate_series(0, 49999) n`)
	require.NoError(t, err)
	_, err = pool.Exec(ctx, `insert into slipway.inbox_dead (consumer, message_id, key, subject, headers, payload, class, error, attempts, first_at)
		select 'c', n, '', 's', '{}', '', 'x', 'x', 1, now() from generate_series(0, 4999) n`)
	require.NoError(t, err)
	for _, analysed := range []bool{false, true} {
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
			for want, sql := range map[string]string{
				"inbox_early_ready": `select key from slipway.inbox_early where consumer = 'c' and ready_at <= clock_timestamp() order by ready_at limit 100`,
				"inbox_early_pkey":  `delete from slipway.inbox_early where consumer = 'c' and key = 'order/7' and version <= 3`,
				"inbox_dead_redrive": `select id from slipway.inbox_dead
					where consumer = 'c' and redrive_requested_at is not null and resolved_at is null order by id limit 100`,
			} {
				require.Contains(t, fmt.Sprint(rows[string](t, tx, "explain "+sql)), want, "analysed: %v", analysed)
			}
			return nil
		}))
		_, err = pool.Exec(ctx, "analyze slipway.inbox_early, slipway.inbox_dead")
		require.NoError(t, err)
	}
}

// Updates of the watermark leave no index entries behind. With an index on version
// none of them is HOT.
func TestInOrder_isHOT(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	for v := range int64(50) {
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := inbox.InOrder(ctx, tx, "c", "a", v+1, func() error { return nil })
			return err
		}))
	}
	require.Eventually(t, func() bool {
		return one[bool](t, pool, `select n_tup_upd = 49 and n_tup_hot_upd = n_tup_upd
			from pg_stat_user_tables where relname = 'inbox_watermark'`)
	}, patience, 50*time.Millisecond)
}
