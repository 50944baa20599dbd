package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/migrations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

var errDisk = errors.New("disk on fire")

// stores are all that keep something in a database.
type stores struct {
	*store.Reservations
	*store.Warehouse
}

func newStores(pool *pgxpool.Pool) stores {
	return stores{store.NewReservations(pool), store.NewWarehouse(pool)}
}

// bundle is the stores of a database of its own.
type bundle struct {
	stores
	pool *pgxpool.Pool
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, barrier.Migrations(), migrate.Component{Name: "inventory", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 64, LockTimeout: time.Minute, StatementTimeout: time.Minute}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return bundle{newStores(pool), pool}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// reservation is a new one under a key and for an order of its own.
func reservation(t require.TestingT, lines ...domain.Line) *domain.Reservation {
	r, err := domain.Reserve(domain.NewReservation{ID: newID(), Key: newID(), OrderID: newID(), Lines: lines}, now())
	require.NoError(t, err)
	return r
}

// set sets the stock of an article.
func (b bundle) set(tb testing.TB, sku string, onHand int64) {
	tb.Helper()
	_, err := b.UpdateStock(tb.Context(), sku, func(s domain.Stock) (domain.Stock, error) { return s.Set(onHand, 0, now()) })
	require.NoError(tb, err)
}

// stock reads an article as on hand/reserved/committed.
func (b bundle) stock(t *testing.T, sku string) string {
	t.Helper()
	stocks, err := b.Stocks(t.Context(), []string{sku})
	require.NoError(t, err)
	if len(stocks) == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d/%d/%d", stocks[0].OnHand, stocks[0].Reserved, stocks[0].Committed)
}

func (b bundle) reserve(t *testing.T, lines ...domain.Line) domain.Snapshot {
	t.Helper()
	s, err := b.Reserve(t.Context(), reservation(t, lines...))
	require.NoError(t, err)
	return s
}

// again asks for the same as s.
func again(t require.TestingT, s domain.Snapshot) *domain.Reservation {
	r, err := domain.Reserve(domain.NewReservation{ID: newID(), Key: s.Key, OrderID: s.OrderID, Lines: s.Lines}, now())
	require.NoError(t, err)
	return r
}

func (b bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (b bundle) count(t *testing.T, sql string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func line(sku string, quantity int64) domain.Line { return domain.Line{SKU: sku, Quantity: quantity} }

func keep(*domain.Reservation) error      { return nil }
func release(r *domain.Reservation) error { return r.Release(now()) }
func commit(r *domain.Reservation) error  { return r.Commit(now()) }

func TestReservations_Reserve(t *testing.T) {
	t.Parallel()

	t.Run("what is stored is what is read, and is held", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		b.set(t, "A-1", 5)
		b.set(t, "A1", 5)
		s := b.reserve(t, line("TEA-1", 2), line("A1", 1), line("A-1", 3))
		found, err := b.UpdateOfOrder(t.Context(), strings.ToUpper(s.OrderID), keep)
		require.NoError(t, err)
		require.Equal(t, s, found)
		require.Equal(t, "5/2/0 5/3/0 5/1/0", b.stock(t, "TEA-1")+" "+b.stock(t, "A-1")+" "+b.stock(t, "A1"))
	})

	t.Run("of many calls with one key one holds", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 100)
		const calls = 8
		first := reservation(t, line("TEA-1", 1)).Snapshot()
		ids := make([]string, calls)
		var running sync.WaitGroup
		for i := range calls {
			running.Go(func() {
				s, err := b.Reserve(t.Context(), again(t, first))
				assert.NoError(t, err)
				ids[i] = s.ID
			})
		}
		running.Wait()
		require.Len(t, slices.Compact(ids), 1)
		require.Equal(t, "100/1/0", b.stock(t, "TEA-1"))
	})

	t.Run("an order has one reservation, and the second key stays unused", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		s := b.reserve(t, line("TEA-1", 1))
		used := s.Key
		s.Key = newID()
		_, err := b.Reserve(t.Context(), again(t, s))
		require.ErrorIs(t, err, domain.ErrOrderHasReservation)
		require.Equal(t, "5/1/0", b.stock(t, "TEA-1"))
		require.EqualValues(t, 1, b.count(t, "SELECT count(*) FROM slipway.saga_barrier"))
		require.EqualValues(t, 1, b.count(t, "SELECT count(*) FROM slipway.saga_barrier WHERE key = $1", used))
	})

	t.Run("a key that the barrier has forgotten still has its reservation", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		s := b.reserve(t, line("TEA-1", 1))
		b.exec(t, "DELETE FROM slipway.saga_barrier")
		held, err := b.Reserve(t.Context(), again(t, s))
		require.NoError(t, err)
		require.Equal(t, s, held)
		require.Equal(t, "5/1/0", b.stock(t, "TEA-1"))
	})

	t.Run("all lines or none, and what is short is named", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		b.set(t, "MUG-1", 1)
		r := reservation(t, line("TEA-1", 5), line("MUG-1", 2), line("NOBODY-KNOWS", 1))
		_, err := b.Reserve(t.Context(), r)
		require.ErrorIs(t, err, domain.ErrOutOfStock)
		var shortage *domain.ShortageError
		require.ErrorAs(t, err, &shortage)
		require.Equal(t, []string{"MUG-1", "NOBODY-KNOWS"}, shortage.SKUs)
		require.Equal(t, "5/0/0 1/0/0", b.stock(t, "TEA-1")+" "+b.stock(t, "MUG-1"))
		for _, table := range []string{"slipway.saga_barrier", "reservations", "reservation_lines"} {
			require.Zero(t, b.count(t, "SELECT count(*) FROM "+table), table)
		}
		b.set(t, "MUG-1", 2)
		b.set(t, "NOBODY-KNOWS", 1)
		held, err := b.Reserve(t.Context(), again(t, r.Snapshot()))
		require.NoError(t, err)
		require.Equal(t, domain.Reserved, held.Status)
		require.Equal(t, "5/5/0 2/2/0", b.stock(t, "TEA-1")+" "+b.stock(t, "MUG-1"))
	})

	t.Run("who waits too long for an article in demand is to try again", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		impatient, err := postgres.Open(t.Context(), postgres.Config{URL: b.pool.Config().ConnString(), LockTimeout: 10 * time.Millisecond}, nil, nil, nil)
		require.NoError(t, err)
		t.Cleanup(impatient.Close)
		require.NoError(t, postgres.InTx(t.Context(), b.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "SELECT FROM stock FOR UPDATE"); err != nil {
				return err
			}
			_, err := newStores(impatient).Reserve(t.Context(), reservation(t, line("TEA-1", 1)))
			require.Equal(t, fault.ResourceExhausted, fault.CodeOf(err), "%v", err)
			return nil
		}))
	})

	t.Run("a database that is away is to be tried again", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.exec(t, "ALTER DATABASE "+pgx.Identifier{b.pool.Config().ConnConfig.Database}.Sanitize()+" SET default_transaction_read_only = on")
		b.pool.Reset()
		_, err := b.Reserve(t.Context(), reservation(t, line("TEA-1", 1)))
		require.Equal(t, fault.Unavailable, fault.CodeOf(err), "%v", err)
	})
}

func TestReservations_Undo(t *testing.T) {
	t.Parallel()

	t.Run("gives back once, and nothing is held after it", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		s := b.reserve(t, line("TEA-1", 2))
		for range 2 {
			undone, found, err := b.Undo(t.Context(), s.Key, release)
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, domain.Released, undone.Status)
			require.EqualValues(t, 2, undone.Version)
			require.Equal(t, "5/0/0", b.stock(t, "TEA-1"))
		}
		_, err := b.Reserve(t.Context(), again(t, s))
		require.ErrorIs(t, err, domain.ErrReleased)
		require.Equal(t, "5/0/0", b.stock(t, "TEA-1"))
	})

	t.Run("without a reservation there will be none", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		r := reservation(t, line("TEA-1", 2))
		_, found, err := b.Undo(t.Context(), r.Snapshot().Key, release)
		require.NoError(t, err)
		require.False(t, found)
		_, err = b.Reserve(t.Context(), r)
		require.ErrorIs(t, err, domain.ErrReleased)
		require.Equal(t, "5/0/0", b.stock(t, "TEA-1"))
	})

	t.Run("an undo that fails has not happened", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.set(t, "TEA-1", 5)
		s := b.reserve(t, line("TEA-1", 2))
		_, _, err := b.Undo(t.Context(), s.Key, func(r *domain.Reservation) error {
			require.NoError(t, r.Release(now()))
			return errDisk
		})
		require.ErrorIs(t, err, errDisk)
		held, err := b.Reserve(t.Context(), again(t, s))
		require.NoError(t, err)
		require.Equal(t, s, held)
		require.Equal(t, "5/2/0", b.stock(t, "TEA-1"))
	})
}

func TestReservations_UpdateOfOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("what was committed has left, once", func(t *testing.T) {
		t.Parallel()
		b.set(t, "TEA-1", 5)
		s := b.reserve(t, line("TEA-1", 2))
		for range 2 {
			done, err := b.UpdateOfOrder(t.Context(), s.OrderID, commit)
			require.NoError(t, err)
			require.Equal(t, domain.Committed, done.Status)
			require.Equal(t, "3/0/2", b.stock(t, "TEA-1"))
		}
		_, err := b.UpdateOfOrder(t.Context(), s.OrderID, release)
		require.ErrorIs(t, err, domain.ErrInvalidTransition)
	})

	t.Run("an unknown order is not found", func(t *testing.T) {
		t.Parallel()
		for _, id := range []string{newID(), "no id", ""} {
			_, err := b.UpdateOfOrder(t.Context(), id, commit)
			require.ErrorIs(t, err, domain.ErrNotFound, id)
		}
	})

	t.Run("in a transaction of the caller it is the caller's to end", func(t *testing.T) {
		t.Parallel()
		b.set(t, "MUG-1", 5)
		s := b.reserve(t, line("MUG-1", 2))
		for _, end := range []error{errDisk, nil} {
			err := postgres.InTx(t.Context(), b.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
				_, err := b.In(tx).UpdateOfOrder(t.Context(), s.OrderID, commit)
				require.NoError(t, err)
				return end
			})
			require.ErrorIs(t, err, end)
			require.Equal(t, map[bool]string{true: "3/0/2", false: "5/2/0"}[end == nil], b.stock(t, "MUG-1"))
		}
	})
}

// TestReservations_crowd has many callers reserve, release and commit the same few articles, in lines of
// any order. Nobody waits in a circle, nothing is promised twice, and the books are right. Each caller is
// a replica of its own, so that no gate keeps it apart from the others, only the order of the locks.
func TestReservations_crowd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const articles, pieces, callers, rounds = 4, 200, 64, 10
	for n := range articles {
		b.set(t, sku(n), pieces)
	}
	var sold, short atomic.Int64
	var running sync.WaitGroup
	for c := range callers {
		random := rand.New(rand.NewPCG(1, uint64(c)))
		running.Go(func() {
			b := bundle{newStores(b.pool), b.pool}
			for range rounds {
				var lines []domain.Line
				for _, n := range random.Perm(articles)[:1+random.IntN(articles)] {
					lines = append(lines, line(sku(n), 1+random.Int64N(3)))
				}
				s, err := b.Reserve(t.Context(), reservation(t, lines...))
				if errors.Is(err, domain.ErrOutOfStock) {
					short.Add(1)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				var ends sync.WaitGroup // Both at once: one of them is too late.
				if random.IntN(3) > 0 {
					ends.Go(func() { _, _, _ = b.Undo(t.Context(), s.Key, release) })
				}
				if random.IntN(3) > 0 {
					ends.Go(func() {
						if _, err := b.UpdateOfOrder(t.Context(), s.OrderID, commit); err == nil {
							sold.Add(1)
						}
					})
				}
				ends.Wait()
			}
		})
	}
	running.Wait()
	require.Positive(t, short.Load())
	require.Equal(t, sold.Load(), b.count(t, "SELECT count(*) FROM reservations WHERE status = 'COMMITTED'"))
	for n := range articles {
		in := func(status domain.Status) int64 {
			return b.count(t, `SELECT coalesce(sum(quantity), 0)::bigint FROM reservation_lines JOIN reservations r ON r.id = reservation_id
				WHERE sku = $1 AND status = $2`, sku(n), string(status))
		}
		require.Equal(t, fmt.Sprintf("%d/%d/%d", pieces-in(domain.Committed), in(domain.Reserved), in(domain.Committed)), b.stock(t, sku(n)))
	}
}

// TestReservations_agreeWithTheDomain compares the stock after any movements with what the domain says.
func TestReservations_agreeWithTheDomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		article := "SKU-" + strings.ToUpper(newID()[9:])
		b.set(t, article, rapid.Int64Range(0, 20).Draw(rt, "on hand"))
		want, err := b.Stocks(t.Context(), []string{article})
		require.NoError(rt, err)
		for range rapid.IntRange(0, 8).Draw(rt, "orders") {
			r := reservation(rt, line(article, rapid.Int64Range(1, 9).Draw(rt, "quantity")))
			expected, refused := want[0].Move(movement(rt, r), r.Snapshot().UpdatedAt)
			held, err := b.Reserve(t.Context(), again(rt, r.Snapshot()))
			require.Equal(rt, refused != nil, errors.Is(err, domain.ErrOutOfStock), "%v, %v", refused, err)
			want[0] = expected
			if refused == nil && rapid.Bool().Draw(rt, "ends") {
				r = domain.Rehydrate(held)
				end := rapid.SampledFrom([]func(*domain.Reservation) error{release, commit}).Draw(rt, "end")
				require.NoError(rt, end(r))
				want[0], err = want[0].Move(movement(rt, r), r.Snapshot().UpdatedAt)
				require.NoError(rt, err)
				_, err = b.UpdateOfOrder(t.Context(), held.OrderID, end)
				require.NoError(rt, err)
			}
			got, err := b.Stocks(t.Context(), []string{article})
			require.NoError(rt, err)
			got[0].UpdatedAt = want[0].UpdatedAt
			require.Equal(rt, want, got)
		}
	})
}

// movement is the only one of a reservation.
func movement(t require.TestingT, r *domain.Reservation) domain.Movement {
	movements := r.DrainMovements()
	require.Len(t, movements, 1)
	return movements[0]
}
