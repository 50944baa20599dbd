package store_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/reference/order/adapter/store"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/migrations"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Closing(m).Run()) }

var at = time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)

type bundle struct {
	*store.Orders
	intake *store.Intake
	pool   *pgxpool.Pool
}

// Place is that of the intake.
func (b bundle) Place(ctx context.Context, o *domain.Order, i usecase.Idempotency) (domain.Snapshot, error) {
	s := o.Snapshot()
	return b.intake.Place(ctx, o, i, usecase.Checkout{OrderID: s.ID, Owner: s.Owner, Items: s.Items, Total: s.Total, CardToken: "tok_ok"})
}

func checkout() *saga.Definition[usecase.Checkout] {
	return (&usecase.CheckoutSteps{}).Definition(time.Minute)
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, outbox.Migrations(), sagapg.Migrations(), migrate.Component{Name: "order", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 8}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	orders := store.New(pool)
	return bundle{orders, store.NewIntake(orders, checkout(), nil), pool}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func newOrder(t require.TestingT, owner string) *domain.Order {
	o, err := domain.Place(domain.NewOrder{
		ID: newID(), Owner: owner, CustomerID: "c-1",
		Items: []domain.Item{
			{SKU: "TEA-1", Quantity: 2, UnitPrice: domain.Money{Currency: "EUR", Minor: 350}},
			{SKU: "CUP-9", Quantity: 1, UnitPrice: domain.Money{Currency: "EUR", Minor: 1200}},
		},
	}, at)
	require.NoError(t, err)
	return o
}

func key(owner, key string) usecase.Idempotency {
	return usecase.Idempotency{Owner: owner, Key: key, Hash: []byte(strings.Repeat("h", 32))}
}

func (b bundle) place(t *testing.T, o *domain.Order) domain.Snapshot {
	t.Helper()
	s, err := b.Place(t.Context(), o, key(o.Snapshot().Owner, newID()))
	require.NoError(t, err)
	return s
}

// count counts the rows of a table.
func (b bundle) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

type event struct {
	Type, AggregateID string
	AggregateVersion  int64
	Payload           []byte
}

func (b bundle) events(t *testing.T) (events []event) {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), "SELECT event_type, aggregate_id, aggregate_version, payload FROM slipway.outbox ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var e event
		require.NoError(t, rows.Scan(&e.Type, &e.AggregateID, &e.AggregateVersion, &e.Payload))
		events = append(events, e)
	}
	require.NoError(t, rows.Err())
	return events
}

func TestOrders_Place(t *testing.T) {
	t.Parallel()

	t.Run("stores the order and its event together", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))

		read, err := b.Get(t.Context(), "shop", placed.ID)
		require.NoError(t, err)
		require.Equal(t, placed, read)

		events := b.events(t)
		require.Len(t, events, 1)
		require.Equal(t, "order.placed", events[0].Type)
		require.Equal(t, placed.ID, events[0].AggregateID)
		require.EqualValues(t, 1, events[0].AggregateVersion)
		var payload orderv1.OrderPlaced
		require.NoError(t, proto.Unmarshal(events[0].Payload, &payload))
		require.Equal(t, placed.ID, payload.GetOrder().GetId())
		require.EqualValues(t, 1900, payload.GetOrder().GetTotal().GetMinorUnits())
		require.Len(t, payload.GetOrder().GetItems(), 2)
	})

	t.Run("a rollback leaves no order, no key and no event", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		first := b.place(t, newOrder(t, "shop"))
		same, err := domain.Place(domain.NewOrder{ID: first.ID, Owner: "shop", CustomerID: "c-1", Items: first.Items}, at)
		require.NoError(t, err)
		_, err = b.Place(t.Context(), same, key("shop", "another-key")) // fails on the primary key, after the key was claimed
		require.True(t, postgres.IsUniqueViolation(err, "orders_pkey"), "%v", err)
		require.Equal(t, 1, b.count(t, "orders"))
		require.Equal(t, 1, b.count(t, "idempotency_keys"))
		require.Len(t, b.events(t), 1)
	})

	t.Run("the same key and request gives the same order, as it is now", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		first, err := b.Place(t.Context(), newOrder(t, "shop"), key("shop", "key-0001"))
		require.NoError(t, err)
		_, err = b.Update(t.Context(), "shop", first.ID, func(o *domain.Order) error { return o.Cancel("no", at) })
		require.NoError(t, err)

		again, err := b.Place(t.Context(), newOrder(t, "shop"), key("shop", "key-0001"))
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID)
		require.Equal(t, domain.Cancelled, again.Status)
		require.Equal(t, 1, b.count(t, "orders"))
		require.Len(t, b.events(t), 2)
	})

	t.Run("the same key and another request is refused", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_, err := b.Place(t.Context(), newOrder(t, "shop"), key("shop", "key-0001"))
		require.NoError(t, err)
		other := key("shop", "key-0001")
		other.Hash = []byte(strings.Repeat("x", 32))
		_, err = b.Place(t.Context(), newOrder(t, "shop"), other)
		require.ErrorIs(t, err, domain.ErrIdempotencyMismatch)
		require.Equal(t, 1, b.count(t, "orders"))
	})

	t.Run("keys of different callers do not meet", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		one, err := b.Place(t.Context(), newOrder(t, "shop"), key("shop", "key-0001"))
		require.NoError(t, err)
		two, err := b.Place(t.Context(), newOrder(t, "till"), key("till", "key-0001"))
		require.NoError(t, err)
		require.NotEqual(t, one.ID, two.ID)
	})

	t.Run("20 calls with one key at the same time place one order", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ids := make([]string, 20)
		var wg sync.WaitGroup
		for i := range ids {
			order := newOrder(t, "shop")
			wg.Go(func() {
				s, err := b.Place(t.Context(), order, key("shop", "key-0001"))
				if err == nil {
					ids[i] = s.ID
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			require.NotEmpty(t, id)
			require.Equal(t, ids[0], id)
		}
		require.Equal(t, 1, b.count(t, "orders"))
		require.Len(t, b.events(t), 1)
	})
}

func TestOrders_Update(t *testing.T) {
	t.Parallel()
	confirm := func(o *domain.Order) error { return o.Confirm(at.Add(time.Second)) }

	t.Run("stores the change and its event together", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		updated, err := b.Update(t.Context(), "shop", placed.ID, confirm)
		require.NoError(t, err)
		require.Equal(t, domain.Confirmed, updated.Status)
		read, err := b.Get(t.Context(), "shop", placed.ID)
		require.NoError(t, err)
		require.Equal(t, updated, read)

		events := b.events(t)
		require.Equal(t, "order.confirmed", events[1].Type)
		require.EqualValues(t, 2, events[1].AggregateVersion)
		var payload orderv1.OrderConfirmed
		require.NoError(t, proto.Unmarshal(events[1].Payload, &payload))
		require.EqualValues(t, 1900, payload.GetTotal().GetMinorUnits())
	})

	t.Run("the second of two concurrent changes is refused and leaves no event", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		_, err := b.Update(t.Context(), "shop", placed.ID, func(o *domain.Order) error {
			// While this transaction holds what it has read, another one changes the order.
			_, err := b.Update(t.Context(), "shop", placed.ID, confirm)
			require.NoError(t, err)
			return o.Cancel("too late", at)
		})
		require.ErrorIs(t, err, domain.ErrVersionConflict)
		read, err := b.Get(t.Context(), "shop", placed.ID)
		require.NoError(t, err)
		require.Equal(t, domain.Confirmed, read.Status)
		require.Len(t, b.events(t), 2)
	})

	t.Run("an error of the change leaves everything as it was", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		boom := errors.New("boom")
		_, err := b.Update(t.Context(), "shop", placed.ID, func(o *domain.Order) error {
			require.NoError(t, o.Confirm(at))
			return boom
		})
		require.ErrorIs(t, err, boom)
		read, err := b.Get(t.Context(), "shop", placed.ID)
		require.NoError(t, err)
		require.Equal(t, placed, read)
		require.Len(t, b.events(t), 1)
	})

	t.Run("a change that changes nothing writes nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		same, err := b.Update(t.Context(), "shop", placed.ID, func(*domain.Order) error { return nil })
		require.NoError(t, err)
		require.Equal(t, placed, same)
		require.Len(t, b.events(t), 1)
	})

	t.Run("somebody else's order and an unknown id are not found", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		for _, c := range [][2]string{{"thief", placed.ID}, {"shop", newID()}, {"shop", "no-uuid"}} {
			_, err := b.Update(t.Context(), c[0], c[1], confirm)
			require.ErrorIs(t, err, domain.ErrNotFound)
			_, err = b.Get(t.Context(), c[0], c[1])
			require.ErrorIs(t, err, domain.ErrNotFound)
		}
	})
}

func TestOrders_List(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var newest []string // the shop's orders, newest first
	for i := range 7 {
		s := b.place(t, newOrder(t, "shop"))
		newest = append([]string{s.ID}, newest...)
		if i == 3 {
			_, err := b.Update(t.Context(), "shop", s.ID, func(o *domain.Order) error { return o.Cancel("no", at) })
			require.NoError(t, err)
		}
		b.place(t, newOrder(t, "till"))
	}
	list := func(f usecase.Filter, limit int) (ids []string) {
		orders, err := b.List(t.Context(), f, limit)
		require.NoError(t, err)
		for _, o := range orders {
			require.Len(t, o.Items, 2)
			ids = append(ids, o.ID)
		}
		return ids
	}
	require.Equal(t, newest, list(usecase.Filter{Owner: "shop"}, 100))
	require.Equal(t, newest[:3], list(usecase.Filter{Owner: "shop"}, 3))
	require.Equal(t, newest[3:4], list(usecase.Filter{Owner: "shop", Status: domain.Cancelled}, 100))
	require.Len(t, list(usecase.Filter{Owner: "shop", CustomerID: "c-1"}, 100), 7)
	require.Empty(t, list(usecase.Filter{Owner: "shop", CustomerID: "c-2"}, 100))

	b.place(t, newOrder(t, "shop")) // placed between two pages, it shifts nothing
	require.Equal(t, newest[3:6], list(usecase.Filter{Owner: "shop", Before: newest[2]}, 3))
	require.Empty(t, list(usecase.Filter{Owner: "shop", Before: newest[6]}, 3))
}

// TestOrders_List_cost counts the rows that a page reads of an owner with many orders, whether the
// server plans each call or keeps a plan for all of them.
func TestOrders_List_cost(t *testing.T) {
	t.Parallel()
	lists := map[string]struct {
		filter usecase.Filter
		found  int
	}{
		"first page":                  {usecase.Filter{}, 20},
		"page in the middle":          {usecase.Filter{Before: "0190a5c2-0000-7000-8000-000000002710"}, 20},
		"a customer":                  {usecase.Filter{CustomerID: "c-42"}, 4},
		"a customer in another state": {usecase.Filter{CustomerID: "c-42", Status: domain.Cancelled}, 0},
		"the usual state":             {usecase.Filter{Status: domain.Confirmed}, 20},
		"a rare state":                {usecase.Filter{Status: domain.Pending}, 1},
	}
	for _, mode := range []string{"auto", "force_generic_plan"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			orders, read := manyOrders(t, mode)
			for name, row := range lists {
				if mode != "auto" && row.filter.Status == domain.Pending {
					continue // A plan for every state cannot know that this one is rare.
				}
				row.filter.Owner = "shop"
				for range 10 { // From the sixth time on the server may keep its plan.
					before := read()
					found, err := orders.List(t.Context(), row.filter, 20)
					require.NoError(t, err, name)
					require.Len(t, found, row.found, name)
					require.LessOrEqual(t, read()-before, 40, name)
				}
			}
		})
	}
}

// manyOrders returns a store with 20,000 orders of the shop on one session, and how many of their
// rows that session has read.
func manyOrders(t *testing.T, planCacheMode string) (orders *store.Orders, read func() int) {
	t.Helper()
	b := setup(t)
	_, err := b.pool.Exec(t.Context(), `INSERT INTO orders
			(id, owner, customer_id, status, currency, total_minor, version, created_at, updated_at)
		SELECT ('0190a5c2-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'shop', 'c-' || n % 5000,
			CASE n WHEN 77 THEN 'PENDING' ELSE 'CONFIRMED' END, 'EUR', 100, 2, $1, $1
		FROM generate_series(1, 20000) AS n`, at)
	require.NoError(t, err)
	_, err = b.pool.Exec(t.Context(), "ANALYZE orders")
	require.NoError(t, err)
	session, err := postgres.Open(t.Context(), postgres.Config{URL: b.pool.Config().ConnString(), MaxConns: 1}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(session.Close)
	_, err = session.Exec(t.Context(), "SET plan_cache_mode = "+planCacheMode)
	require.NoError(t, err)
	return store.New(session), func() (n int) {
		_, err := session.Exec(t.Context(), "SELECT pg_stat_force_next_flush()")
		require.NoError(t, err)
		require.NoError(t, session.QueryRow(t.Context(),
			"SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'orders'").Scan(&n))
		return n
	}
}

func TestOrders_Versions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := b.place(t, newOrder(t, "shop"))
	versions, err := b.Versions(t.Context(), []string{placed.ID, newID(), "no-uuid"})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{placed.ID: 1}, versions)
}

// TestOrders_roundTrip stores any valid order and reads the same one.
func TestOrders_roundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[A-Za-z0-9._:-]{1,64}`)
		items := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) domain.Item {
			return domain.Item{
				SKU:       rapid.StringMatching(`[A-Z0-9][A-Z0-9-]{0,31}`).Draw(t, "sku"),
				Quantity:  rapid.Int32Range(1, 1000).Draw(t, "quantity"),
				UnitPrice: domain.Money{Currency: "EUR", Minor: rapid.Int64Range(1, 1_000_000).Draw(t, "price")},
			}
		}), 1, 100).Draw(t, "items")
		when := time.UnixMicro(rapid.Int64Range(0, 4102444800_000000).Draw(t, "when")).UTC()
		o, err := domain.Place(domain.NewOrder{
			ID: newID(), Owner: text.Draw(t, "owner"), CustomerID: text.Draw(t, "customer"), Items: items,
		}, when)
		require.NoError(t, err)
		want := o.Snapshot()
		_, err = b.Place(ctx, o, key(want.Owner, newID()))
		require.NoError(t, err)
		got, err := b.Get(ctx, want.Owner, want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestOrders_withoutDatabase(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://nobody@127.0.0.1:1/none"}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = store.New(pool).Get(ctx, "shop", newID())
	require.Error(t, err)
	require.NotErrorIs(t, err, domain.ErrNotFound)
}
