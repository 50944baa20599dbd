package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/payment/adapter/store"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/migrations"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

const rest = time.Hour

var (
	errDisk = errors.New("disk on fire")
	price   = domain.Money{Currency: "EUR", Minor: 700}
	claim   = usecase.Claim{Limit: 10, Pause: time.Hour, LongestPause: 2 * time.Hour, Watch: time.Hour}
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// bundle is the payments of a database of its own.
type bundle struct {
	*store.Payments
	pool *pgxpool.Pool
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, barrier.Migrations(), migrate.Component{Name: "payment", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, LockTimeout: time.Minute, StatementTimeout: time.Minute}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return bundle{store.New(pool, rest), pool}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// payment is a new one under a key and for an order of its own.
func payment(t *testing.T) *domain.Payment {
	t.Helper()
	p, err := domain.Open(domain.NewPayment{ID: uuid.Must(uuid.NewV7()).String(), Key: uuid.NewString(), OrderID: uuid.NewString(), Amount: price}, now())
	require.NoError(t, err)
	return p
}

func (b bundle) open(t *testing.T) domain.Snapshot {
	t.Helper()
	s, fresh, err := b.Open(t.Context(), payment(t))
	require.NoError(t, err)
	require.True(t, fresh)
	return s
}

func (b bundle) update(t *testing.T, id string, change func(*domain.Payment) error) domain.Snapshot {
	t.Helper()
	s, err := b.Update(t.Context(), id, change)
	require.NoError(t, err)
	return s
}

func (b bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// overdue has all that is not settled looked at now.
func (b bundle) overdue(t *testing.T) {
	t.Helper()
	b.exec(t, "UPDATE payments SET look_at = now() - interval '1 second' WHERE look_at IS NOT NULL")
}

func (b bundle) claim(t *testing.T) []usecase.Claimed {
	t.Helper()
	claimed, err := b.Claim(t.Context(), claim)
	require.NoError(t, err)
	return claimed
}

func learn(c domain.Charge) func(*domain.Payment) error {
	return func(p *domain.Payment) error { return p.Learn(domain.Answer{Charge: c, Reason: "no money"}, now()) }
}

func void(p *domain.Payment) error    { return p.Void(now()) }
func capture(p *domain.Payment) error { return p.Capture(now()) }

func TestPayments_Open(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("what is stored is what is read", func(t *testing.T) {
		t.Parallel()
		s := b.open(t)
		found, err := b.OfOrder(t.Context(), strings.ToUpper(s.OrderID))
		require.NoError(t, err)
		require.Equal(t, s, found)
		declined := b.update(t, s.ID, learn(domain.ChargeDeclined))
		require.Equal(t, "no money", declined.DeclineReason)
		found, err = b.OfOrder(t.Context(), s.OrderID)
		require.NoError(t, err)
		require.Equal(t, declined, found)
	})

	t.Run("of many calls with one key one is the first", func(t *testing.T) {
		t.Parallel()
		const calls = 8
		first := payment(t)
		ids, firsts := make([]string, calls), make([]bool, calls)
		var running sync.WaitGroup
		for i := range calls {
			again, err := domain.Open(domain.NewPayment{
				ID: uuid.NewString(), Key: first.Snapshot().Key, OrderID: first.Snapshot().OrderID, Amount: price,
			}, now())
			require.NoError(t, err)
			running.Go(func() {
				s, fresh, err := b.Open(t.Context(), again)
				if err == nil {
					ids[i], firsts[i] = s.ID, fresh
				}
			})
		}
		running.Wait()
		require.NotEmpty(t, ids[0])
		require.Len(t, slices.Compact(ids), 1)
		slices.SortFunc(firsts, func(a, _ bool) int { return map[bool]int{true: -1, false: 1}[a] })
		require.True(t, firsts[0])
		require.False(t, firsts[1])
	})

	t.Run("an order has one payment, and the second key stays unused", func(t *testing.T) {
		t.Parallel()
		s := b.open(t)
		second, err := domain.Open(domain.NewPayment{ID: uuid.NewString(), Key: uuid.NewString(), OrderID: s.OrderID, Amount: price}, now())
		require.NoError(t, err)
		_, _, err = b.Open(t.Context(), second)
		require.ErrorIs(t, err, domain.ErrOrderHasPayment)
		var marks int
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM slipway.saga_barrier WHERE key = $1", second.Snapshot().Key).Scan(&marks))
		require.Zero(t, marks)
	})

	t.Run("a key that the barrier has forgotten still has its payment", func(t *testing.T) {
		t.Parallel()
		p := payment(t)
		_, _, err := b.Open(t.Context(), p)
		require.NoError(t, err)
		b.exec(t, "DELETE FROM slipway.saga_barrier WHERE key = $1", p.Snapshot().Key)
		s, fresh, err := b.Open(t.Context(), p)
		require.NoError(t, err)
		require.False(t, fresh)
		require.Equal(t, p.Snapshot(), s)
	})

	t.Run("an id that is none is no order's", func(t *testing.T) {
		t.Parallel()
		for _, id := range []string{"", "o-1", uuid.NewString()} {
			_, err := b.OfOrder(t.Context(), id)
			require.ErrorIs(t, err, domain.ErrNotFound)
			_, err = b.Update(t.Context(), id, void)
			require.ErrorIs(t, err, domain.ErrNotFound)
			_, err = b.UpdateOfOrder(t.Context(), id, void)
			require.ErrorIs(t, err, domain.ErrNotFound)
		}
	})
}

func TestPayments_Undo(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("before the payment there is nothing to undo, and nothing comes after it", func(t *testing.T) {
		t.Parallel()
		p := payment(t)
		for range 2 {
			_, found, err := b.Undo(t.Context(), p.Snapshot().Key, void)
			require.NoError(t, err)
			require.False(t, found)
		}
		_, _, err := b.Open(t.Context(), p)
		require.ErrorIs(t, err, domain.ErrVoided)
		_, err = b.OfOrder(t.Context(), p.Snapshot().OrderID)
		require.ErrorIs(t, err, domain.ErrNotFound)
	})

	t.Run("after the payment it changes it, as often as it comes", func(t *testing.T) {
		t.Parallel()
		s := b.open(t)
		for range 2 {
			undone, found, err := b.Undo(t.Context(), s.Key, void)
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, domain.Voiding, undone.Status)
			require.EqualValues(t, 2, undone.Version)
		}
	})

	t.Run("a change that is refused undoes no key", func(t *testing.T) {
		t.Parallel()
		p := payment(t)
		_, _, err := b.Open(t.Context(), p)
		require.NoError(t, err)
		_, _, err = b.Undo(t.Context(), p.Snapshot().Key, func(*domain.Payment) error { return errDisk })
		require.ErrorIs(t, err, errDisk)
		_, _, err = b.Open(t.Context(), p)
		require.NoError(t, err)
	})

	t.Run("undone while it is opened, it is one or the other", func(t *testing.T) {
		t.Parallel()
		for range 20 {
			p := payment(t)
			var running sync.WaitGroup
			var opened error
			var found bool
			running.Go(func() { _, _, opened = b.Open(t.Context(), p) })
			running.Go(func() { _, found, _ = b.Undo(t.Context(), p.Snapshot().Key, void) })
			running.Wait()
			s, err := b.OfOrder(t.Context(), p.Snapshot().OrderID)
			if opened != nil {
				require.ErrorIs(t, opened, domain.ErrVoided)
				require.False(t, found)
				require.ErrorIs(t, err, domain.ErrNotFound)
				continue
			}
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, domain.Voiding, s.Status)
		}
	})
}

func TestPayments_Update(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("the second of two changes at a time fails and changes nothing", func(t *testing.T) {
		t.Parallel()
		s := b.open(t)
		_, err := b.Update(t.Context(), s.ID, func(p *domain.Payment) error {
			b.update(t, s.ID, learn(domain.ChargeHeld))
			return p.Void(now())
		})
		require.ErrorIs(t, err, domain.ErrVersionConflict)
		found, err := b.OfOrder(t.Context(), s.OrderID)
		require.NoError(t, err)
		require.Equal(t, domain.Authorized, found.Status)
	})

	t.Run("in a transaction of somebody else it happens with that or not at all, and is handed out at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.open(t)
		b.update(t, s.ID, learn(domain.ChargeHeld))
		for _, end := range []error{errDisk, nil} {
			err := postgres.InTx(t.Context(), b.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
				got, err := b.In(tx).UpdateOfOrder(t.Context(), s.OrderID, capture)
				require.NoError(t, err)
				require.Equal(t, domain.Capturing, got.Status)
				return end
			})
			require.ErrorIs(t, err, end)
			claimed := b.claim(t)
			require.Len(t, claimed, map[bool]int{true: 1, false: 0}[end == nil])
		}
	})

	t.Run("a database that is away is to be tried again", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.open(t)
		b.exec(t, "ALTER DATABASE "+pgx.Identifier{b.pool.Config().ConnConfig.Database}.Sanitize()+" SET default_transaction_read_only = on")
		b.pool.Reset()
		_, err := b.Update(t.Context(), s.ID, void)
		require.Equal(t, fault.Unavailable, fault.CodeOf(err), "%v", err)
	})
}

func TestPayments_Claim(t *testing.T) {
	t.Parallel()

	t.Run("what waits is left to its caller, then handed out once, and again after a pause", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.open(t)
		require.Empty(t, b.claim(t))
		b.overdue(t)
		require.Equal(t, []usecase.Claimed{{Snapshot: s}}, b.claim(t))
		require.Empty(t, b.claim(t))
		b.overdue(t)
		require.Len(t, b.claim(t), 1)
	})

	t.Run("the pause doubles with each look, up to the longest, and starts anew with the next state", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.open(t)
		until := func() time.Duration {
			var seconds float64
			require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT extract(epoch FROM look_at - clock_timestamp()) FROM payments").Scan(&seconds))
			return time.Duration(seconds * float64(time.Second)).Round(time.Hour / 2)
		}
		require.Equal(t, rest, until())
		for _, want := range []time.Duration{time.Hour, 2 * time.Hour, 2 * time.Hour} {
			b.overdue(t)
			b.claim(t)
			require.Equal(t, want, until())
		}
		b.exec(t, "UPDATE payments SET looks = 2147483000")
		b.overdue(t)
		b.claim(t)
		require.Equal(t, 2*time.Hour, until())
		b.update(t, s.ID, void)
		require.Equal(t, rest, until())
		b.overdue(t)
		b.claim(t)
		require.Equal(t, time.Hour, until())
	})

	t.Run("nobody looks at what rests", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, way := range [][]func(*domain.Payment) error{
			{learn(domain.ChargeHeld)},
			{learn(domain.ChargeDeclined)},
			{learn(domain.ChargeHeld), void, learn(domain.ChargeVoided)},
			{learn(domain.ChargeHeld), capture, learn(domain.ChargeCaptured)},
		} {
			s := b.open(t)
			for _, change := range way {
				b.update(t, s.ID, change)
			}
		}
		b.overdue(t)
		require.Empty(t, b.claim(t))
	})

	t.Run("a payment in doubt is watched for a time that a change starts anew", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.open(t)
		b.update(t, s.ID, void)
		s = b.update(t, s.ID, learn(domain.NoCharge))
		require.True(t, s.InDoubt)
		watched := func() bool {
			b.overdue(t)
			claimed := b.claim(t)
			require.Len(t, claimed, 1)
			return claimed[0].Watched
		}
		require.False(t, watched())
		b.exec(t, "UPDATE payments SET in_doubt_since = in_doubt_since - interval '61 minutes'")
		require.True(t, watched())
		b.update(t, s.ID, func(p *domain.Payment) error { return p.Learn(domain.Answer{}, now()) })
		require.False(t, watched())
		b.update(t, s.ID, func(p *domain.Payment) error { p.Trust(now()); return nil })
		b.overdue(t)
		require.Empty(t, b.claim(t))
	})

	t.Run("replicas share", func(t *testing.T) {
		t.Parallel()
		const payments, replicas = 40, 4
		b := setup(t)
		for range payments {
			b.open(t)
		}
		b.overdue(t)
		var mu sync.Mutex
		var ids []string
		var running sync.WaitGroup
		for range replicas {
			running.Go(func() {
				for {
					claimed, err := b.Claim(t.Context(), usecase.Claim{Limit: 3, Pause: time.Hour, LongestPause: time.Hour, Watch: time.Hour})
					if err != nil || len(claimed) == 0 {
						return
					}
					mu.Lock()
					for _, c := range claimed {
						ids = append(ids, c.ID)
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()
		slices.Sort(ids)
		require.Len(t, slices.Compact(ids), payments)
		require.Len(t, ids, payments)
	})

	t.Run("looking for nothing among many payments reads an index that has nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.exec(t, `INSERT INTO payments (id, idempotency_key, order_id, status, currency, amount_minor, version, created_at, updated_at)
			SELECT gen_random_uuid(), n, gen_random_uuid(), 'CAPTURED', 'EUR', 1, 3, now(), now() FROM generate_series(1, 5000) n`)
		b.exec(t, "ANALYZE payments")
		rows, err := b.pool.Query(t.Context(), "EXPLAIN SELECT id FROM payments WHERE look_at <= clock_timestamp() ORDER BY look_at LIMIT 8 FOR UPDATE SKIP LOCKED")
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(plan), "payments_look_at")
	})
}
