package domain_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func place(t require.TestingT, items ...domain.Item) *domain.Order {
	o, err := domain.Place(domain.NewOrder{ID: "o-1", Owner: "shop", CustomerID: "c-1", Items: items}, start)
	require.NoError(t, err)
	return o
}

func item(quantity int32, price int64) domain.Item {
	return domain.Item{SKU: "TEA-1", Quantity: quantity, UnitPrice: domain.Money{Currency: "EUR", Minor: price}}
}

func TestPlace(t *testing.T) {
	t.Parallel()

	t.Run("accepts an order as pending at version 1 and says so", func(t *testing.T) {
		t.Parallel()
		o := place(t, item(2, 350), item(1, 100))
		s := o.Snapshot()
		require.Equal(t, domain.Pending, s.Status)
		require.EqualValues(t, 1, s.Version)
		require.Equal(t, domain.Money{Currency: "EUR", Minor: 800}, s.Total)
		require.Equal(t, []domain.Event{domain.OrderPlaced{Order: s}}, o.DrainEvents())
		require.Empty(t, o.DrainEvents(), "events are drained once")
	})

	t.Run("refuses what is no order", func(t *testing.T) {
		t.Parallel()
		dollars := item(1, 100)
		dollars.UnitPrice.Currency = "USD"
		for name, items := range map[string][]domain.Item{
			"no items":        {},
			"no quantity":     {item(0, 100)},
			"no price":        {item(1, 0)},
			"two currencies":  {item(1, 100), dollars},
			"total too large": {item(1000, domain.MaxTotal)},
			"overflow":        {item(2, math.MaxInt64/2+1)},
		} {
			_, err := domain.Place(domain.NewOrder{ID: "o-1", Items: items}, start)
			require.ErrorIs(t, err, domain.ErrInvalidOrder, name)
		}
	})

	t.Run("keeps no reference to the caller's items", func(t *testing.T) {
		t.Parallel()
		items := []domain.Item{item(1, 100)}
		o := place(t, items...)
		items[0].Quantity = 9
		o.Snapshot().Items[0].Quantity = 8
		require.EqualValues(t, 1, o.Snapshot().Items[0].Quantity)
	})
}

func TestOrder_RequireVersion(t *testing.T) {
	t.Parallel()
	o := place(t, item(1, 100))
	require.NoError(t, o.RequireVersion(0))
	require.NoError(t, o.RequireVersion(1))
	require.ErrorIs(t, o.RequireVersion(2), domain.ErrVersionConflict)
}

// TestOrder_anySequenceOfCommands drives the state machine with random commands and compares it
// with the rules stated independently.
func TestOrder_anySequenceOfCommands(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := place(t, item(rapid.Int32Range(1, 1000).Draw(t, "quantity"), rapid.Int64Range(1, 1_000_000).Draw(t, "price")))
		o.DrainEvents()
		now := start
		for range rapid.IntRange(0, 12).Draw(t, "commands") {
			before := o.Snapshot()
			now = now.Add(time.Second)
			cancel := rapid.Bool().Draw(t, "cancel")
			var err error
			target := domain.Confirmed
			if cancel {
				target = domain.Cancelled
				err = o.Cancel("because", now)
			} else {
				err = o.Confirm(now)
			}
			after, events := o.Snapshot(), o.DrainEvents()

			switch before.Status {
			case domain.Pending:
				require.NoError(t, err)
				require.Equal(t, target, after.Status)
				require.Equal(t, before.Version+1, after.Version)
				require.Equal(t, now, after.UpdatedAt)
				require.Len(t, events, 1)
				require.Equal(t, after.Version, events[0].Version())
				require.Equal(t, cancel, after.CancelReason == "because")
			case target:
				require.NoError(t, err, "repeating a command is harmless")
				require.Equal(t, before, after)
				require.Empty(t, events)
			default:
				require.ErrorIs(t, err, domain.ErrInvalidTransition)
				require.Equal(t, before, after, "a refused command changes nothing")
				require.Empty(t, events)
			}
			require.Equal(t, before.Total, after.Total)
			require.Equal(t, before.CreatedAt, after.CreatedAt)
			require.Equal(t, after.Status != domain.Pending, after.Status.Final())
			require.Equal(t, after, domain.Rehydrate(after).Snapshot())
		}
	})
}

func TestStatus_CanBecome(t *testing.T) {
	t.Parallel()
	all := []domain.Status{domain.Pending, domain.Confirmed, domain.Cancelled}
	allowed := map[[2]domain.Status]bool{
		{domain.Pending, domain.Confirmed}: true,
		{domain.Pending, domain.Cancelled}: true,
	}
	for _, from := range all {
		for _, to := range all {
			require.Equal(t, allowed[[2]domain.Status{from, to}], from.CanBecome(to), "%s to %s", from, to)
		}
	}
}

func TestMoney(t *testing.T) {
	t.Parallel()

	t.Run("addition is commutative, keeps the currency and never wraps round", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			amount := rapid.Int64Range(0, math.MaxInt64)
			a := domain.Money{Currency: "EUR", Minor: amount.Draw(t, "a")}
			b := domain.Money{Currency: "EUR", Minor: amount.Draw(t, "b")}
			ab, errAB := a.Add(b)
			ba, errBA := b.Add(a)
			require.Equal(t, ab, ba)
			require.Equal(t, errAB, errBA)
			if errAB == nil {
				require.GreaterOrEqual(t, ab.Minor, max(a.Minor, b.Minor))
				require.Equal(t, "EUR", ab.Currency)
			} else {
				require.ErrorIs(t, errAB, domain.ErrAmountOverflow)
				require.Greater(t, a.Minor, math.MaxInt64-b.Minor)
			}
		})
	})

	t.Run("multiplication is repeated addition", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			m := domain.Money{Currency: "EUR", Minor: rapid.Int64Range(0, math.MaxInt64/8).Draw(t, "m")}
			n := rapid.Int32Range(0, 12).Draw(t, "n")
			product, errProduct := m.Times(n)
			sum, errSum := domain.Money{Currency: "EUR"}, error(nil)
			for range n {
				if sum, errSum = sum.Add(m); errSum != nil {
					break
				}
			}
			require.Equal(t, errSum, errProduct)
			if errSum == nil {
				require.Equal(t, sum, product)
			}
		})
	})

	t.Run("different currencies do not add up", func(t *testing.T) {
		t.Parallel()
		_, err := domain.Money{Currency: "EUR", Minor: 1}.Add(domain.Money{Currency: "USD", Minor: 1})
		require.ErrorIs(t, err, domain.ErrCurrencyMismatch)
	})
}
