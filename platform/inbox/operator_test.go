package inbox_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// stuck is a consumer with the order "a" of six events, of which the second is a
// dead letter.
func stuck(t *testing.T, mode inbox.Mode) (running, *stream, *poison, inbox.DeadLetter) {
	t.Helper()
	r, s := fresh(t, mode)
	p := &poison{payloads: []string{"a:2"}, err: errPermanent}
	r.start(t, failing(p.fail))
	s.publish(history("a", 6)...)
	s.empty(t)
	letters := deadLetters(t, r)
	require.Len(t, letters, 1)
	return r, s, p, letters[0]
}

func without(all []string, gone string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == gone })
}

func TestOperator_Redrive(t *testing.T) {
	t.Parallel()
	all := payloads(history("a", 6))
	for mode, want := range map[inbox.Mode][]string{
		inbox.ByVersion: all, inbox.ByID: append(without(all, "a:2"), "a:2"),
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s, p, d := stuck(t, mode)
			op := inbox.NewOperator(r.pool)
			ids, err := op.Redrive(t.Context(), inbox.Selection{IDs: []int64{d.ID}}, act)
			require.NoError(t, err)
			require.Equal(t, []int64{d.ID}, ids)
			require.Eventually(t, func() bool { // it fails again, and waits for the operator again
				d, err = op.Show(t.Context(), d.ID)
				require.NoError(t, err)
				return d.Attempts == 2 && d.RedriveRequestedAt == nil
			}, patience, pace)
			require.Nil(t, d.ResolvedAt)

			p.cured.Store(true)
			_, err = op.Redrive(t.Context(), inbox.Selection{Consumer: "shipping"}, act)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return slices.Equal(want, effects(t, r.pool, "order/a")) }, patience, pace)
			s.publish(history("a", 6)...) // other ids, the same versions
			s.empty(t)
			d, err = op.Show(t.Context(), d.ID)
			require.NoError(t, err)
			require.Equal(t, "redriven", d.Resolution)
			require.NotNil(t, d.ResolvedAt)
			if mode == inbox.ByVersion {
				require.Equal(t, want, effects(t, r.pool, "order/a"))
			}
		})
	}
}

func TestOperator_Discard(t *testing.T) {
	t.Parallel()
	all := payloads(history("a", 6))
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s, p, d := stuck(t, mode)
			op := inbox.NewOperator(r.pool)
			whole, err := op.Show(t.Context(), d.ID)
			require.NoError(t, err)
			ids, err := op.Discard(t.Context(), []int64{d.ID, 999}, act)
			require.NoError(t, err)
			require.Equal(t, []int64{d.ID}, ids)
			require.Eventually(t, func() bool { return slices.Equal(without(all, "a:2"), effects(t, r.pool, "order/a")) }, patience, pace)

			p.cured.Store(true)
			again := message("a", 2)
			again.ID = whole.MessageID
			s.publish(again)
			s.empty(t)
			require.Equal(t, without(all, "a:2"), effects(t, r.pool, "order/a"), "it does not come back")
			require.Empty(t, deadLetters(t, r))
			ids, err = op.Redrive(t.Context(), inbox.Selection{IDs: []int64{d.ID}}, act)
			require.NoError(t, err)
			require.Empty(t, ids)
			ids, err = op.Discard(t.Context(), []int64{d.ID}, act)
			require.NoError(t, err)
			require.Empty(t, ids)
		})
	}
}

// The operator gives up what is being redriven right now, and must not undo it.
func TestOperator_discardWhileRedriven(t *testing.T) {
	t.Parallel()
	r, _, _, d := stuck(t, inbox.ByVersion)
	ctx := t.Context()
	tx, err := r.pool.Begin(ctx) // takes the locks of a redrive
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	exec(t, tx, "update slipway.inbox_watermark set version = 2, held = false")
	exec(t, tx, "update slipway.inbox_dead set resolved_at = now(), resolution = 'redriven'")
	discarded := make(chan error, 1)
	go func() {
		_, err := inbox.NewOperator(r.pool).Discard(ctx, []int64{d.ID}, act)
		discarded <- err
	}()
	waitForLockWait(t, r.pool)
	require.NoError(t, tx.Commit(ctx))
	require.ErrorContains(t, <-discarded, "resolved meanwhile")
	found, err := inbox.NewOperator(r.pool).Show(ctx, d.ID)
	require.NoError(t, err)
	require.Equal(t, "redriven", found.Resolution)
	require.Equal(t, 0, one[int](t, r.pool, "select count(*) from slipway.inbox_journal"))
}

func exec(tb testing.TB, tx pgx.Tx, sql string) {
	tb.Helper()
	_, err := tx.Exec(tb.Context(), sql)
	require.NoError(tb, err)
}

func TestOperator(t *testing.T) {
	t.Parallel()
	r, _, _, d := stuck(t, inbox.ByVersion)
	op := inbox.NewOperator(r.pool)
	ctx := t.Context()

	t.Run("shows the whole message", func(t *testing.T) {
		whole, err := op.Show(ctx, d.ID)
		require.NoError(t, err)
		require.Equal(t, "a:2", string(whole.Payload))
		require.Empty(t, d.Payload, "a list has no payloads")
		require.Equal(t, "2", whole.Headers["aggregate_version"])
		require.Equal(t, int64(4), whole.Waiting)
		require.Equal(t, "order.changed", whole.Subject)
		require.WithinDuration(t, time.Now(), whole.FirstAt, time.Hour)
		text, err := json.Marshal(whole)
		require.NoError(t, err)
		require.Contains(t, string(text), `"class":"permanent","error":"not like this","attempts":1`)
	})
	t.Run("knows what does not exist", func(t *testing.T) {
		_, err := op.Show(ctx, 999)
		require.ErrorIs(t, err, inbox.ErrNotFound)
		letters, err := op.List(ctx, inbox.Filter{Consumer: "nobody"})
		require.NoError(t, err)
		require.Empty(t, letters)
	})
	t.Run("lists everybody's without a filter", func(t *testing.T) {
		letters, err := op.List(ctx, inbox.Filter{Limit: 1})
		require.NoError(t, err)
		require.Len(t, letters, 1)
	})
	t.Run("wants to know who, why and which", func(t *testing.T) {
		_, err := op.Redrive(ctx, inbox.Selection{Consumer: "shipping"}, inbox.Act{Who: "ann"})
		require.ErrorIs(t, err, inbox.ErrInvalid)
		_, err = op.Redrive(ctx, inbox.Selection{}, act)
		require.ErrorIs(t, err, inbox.ErrInvalid)
		_, err = op.Discard(ctx, []int64{d.ID}, inbox.Act{Reason: "so"})
		require.ErrorIs(t, err, inbox.ErrInvalid)
		_, err = op.Discard(ctx, nil, act)
		require.ErrorIs(t, err, inbox.ErrInvalid)
	})
	t.Run("lists those of a key", func(t *testing.T) {
		for key, want := range map[string]int{"order/a": 1, "order/b": 0} {
			letters, err := op.List(ctx, inbox.Filter{Key: key})
			require.NoError(t, err)
			require.Len(t, letters, want)
		}
	})
	t.Run("knows who has consumed", func(t *testing.T) {
		_, err := r.pool.Exec(ctx, "insert into slipway.inbox_consumer (consumer, mode, retention) values ('billing', 'by_id', '1 day')")
		require.NoError(t, err)
		names, err := op.Consumers(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"billing", "shipping"}, names)
	})
	t.Run("journals what it does", func(t *testing.T) {
		empty, err := op.Journal(ctx, 10)
		require.NoError(t, err)
		require.Empty(t, empty)
		_, err = op.Redrive(ctx, inbox.Selection{IDs: []int64{999}}, inbox.Act{Who: "bob", Reason: "a try"})
		require.NoError(t, err)
		_, err = op.Discard(ctx, []int64{d.ID}, act)
		require.NoError(t, err)
		all, err := op.Journal(ctx, 10)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.WithinDuration(t, time.Now(), all[0].At, time.Hour)
		require.Equal(t, inbox.JournalEntry{At: all[0].At, Who: "ann", Action: "discard", Reason: "fixed", Detail: "discarded dead letters [1]"}, all[0])
		require.Equal(t, inbox.JournalEntry{At: all[1].At, Who: "bob", Action: "redrive", Reason: "a try", Detail: "asked for dead letters []"}, all[1])
		last, err := op.Journal(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, all[:1], last)
	})
}

func TestOperator_withoutTables(t *testing.T) {
	t.Parallel()
	r := running{pool: open(t, postgrestest.New(t)), sub: &stream{}, cfg: quick("shipping", inbox.ByID)}
	op := inbox.NewOperator(r.pool)
	ctx := t.Context()
	consumer, err := inbox.NewConsumer(r.pool, r.sub, r.cfg, writing, nil, nil, nil)
	require.NoError(t, err)
	for name, do := range map[string]func() error{
		"list":      func() error { _, err := op.List(ctx, inbox.Filter{}); return err },
		"show":      func() error { _, err := op.Show(ctx, 1); return err },
		"redrive":   func() error { _, err := op.Redrive(ctx, inbox.Selection{Consumer: "x"}, act); return err },
		"discard":   func() error { _, err := op.Discard(ctx, []int64{1}, act); return err },
		"skip":      func() error { _, err := op.Skip(ctx, "x", "y", 1, act); return err },
		"waiting":   func() error { _, err := op.Waiting(ctx, inbox.Filter{}); return err },
		"consumers": func() error { _, err := op.Consumers(ctx); return err },
		"journal":   func() error { _, err := op.Journal(ctx, 1); return err },
		"run":       func() error { return consumer.Run(ctx) },
	} {
		require.ErrorContains(t, do(), "apply the migrations (slipway migrate up)", name)
	}
}
