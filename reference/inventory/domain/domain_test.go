package domain_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func reserve(t require.TestingT, lines ...domain.Line) *domain.Reservation {
	r, err := domain.Reserve(domain.NewReservation{ID: "r-1", Key: "saga/reserve", OrderID: "o-1", Lines: lines}, start)
	require.NoError(t, err)
	return r
}

// in returns a reservation in a state.
func in(s domain.Status) *domain.Reservation {
	return domain.Rehydrate(domain.Snapshot{
		ID: "r-1", OrderID: "o-1", Status: s, Lines: []domain.Line{{"TEA-1", 2}, {"TEA-2", 3}}, Version: 7, CreatedAt: start, UpdatedAt: start,
	})
}

func TestReserve(t *testing.T) {
	t.Parallel()

	t.Run("promises the sum of each article, in the order of the articles", func(t *testing.T) {
		t.Parallel()
		r := reserve(t, domain.Line{SKU: "TEA-1", Quantity: 2}, domain.Line{SKU: "CUP-9", Quantity: 1}, domain.Line{SKU: "TEA-1", Quantity: 3})
		require.Equal(t, domain.Snapshot{
			ID: "r-1", Key: "saga/reserve", OrderID: "o-1", Status: domain.Reserved, Lines: []domain.Line{{"CUP-9", 1}, {"TEA-1", 5}},
			Version: 1, CreatedAt: start, UpdatedAt: start,
		}, r.Snapshot())
		require.Equal(t, []domain.Movement{{SKU: "CUP-9", Reserved: 1}, {SKU: "TEA-1", Reserved: 5}}, r.DrainMovements())
		require.Empty(t, r.DrainMovements(), "movements are drained once")
	})

	t.Run("refuses what is no reservation", func(t *testing.T) {
		t.Parallel()
		for name, lines := range map[string][]domain.Line{
			"no lines":    {},
			"no article":  {{"", 1}},
			"no quantity": {{"TEA-1", 0}},
			"negative":    {{"TEA-1", 2}, {"CUP-9", -1}},
			"too many":    {{"TEA-1", 1_000_000_001}},
			"in sum":      {{"TEA-1", 1_000_000_000}, {"TEA-1", 1}},
			"overflow":    {{"TEA-1", math.MaxInt64}, {"TEA-1", math.MaxInt64}},
		} {
			_, err := domain.Reserve(domain.NewReservation{ID: "r-1", Lines: lines}, start)
			require.ErrorIs(t, err, domain.ErrInvalidReservation, name)
		}
		reserve(t, domain.Line{SKU: "TEA-1", Quantity: 1_000_000_000})
	})

	t.Run("keeps no reference to the lines of others", func(t *testing.T) {
		t.Parallel()
		r := reserve(t, domain.Line{SKU: "TEA-1", Quantity: 2})
		s := r.Snapshot()
		again := domain.Rehydrate(s)
		s.Lines[0].Quantity = 9
		require.EqualValues(t, 2, r.Snapshot().Lines[0].Quantity)
		require.EqualValues(t, 2, again.Snapshot().Lines[0].Quantity)
	})
}

func TestSnapshot_SameRequest(t *testing.T) {
	t.Parallel()
	s := reserve(t, domain.Line{SKU: "TEA-1", Quantity: 2}, domain.Line{SKU: "CUP-9", Quantity: 1}).Snapshot()
	require.True(t, s.SameRequest(reserve(t, domain.Line{SKU: "CUP-9", Quantity: 1}, domain.Line{SKU: "TEA-1", Quantity: 1}, domain.Line{SKU: "TEA-1", Quantity: 1}).Snapshot()))
	require.False(t, s.SameRequest(reserve(t, domain.Line{SKU: "TEA-1", Quantity: 2}).Snapshot()))
	require.False(t, s.SameRequest(reserve(t, domain.Line{SKU: "TEA-1", Quantity: 2}, domain.Line{SKU: "CUP-9", Quantity: 2}).Snapshot()))
	other := s
	other.OrderID = "o-2"
	require.False(t, s.SameRequest(other))
}

// TestReservation_commands states what each command does in each state: the state after it, nil for
// none, or the error.
func TestReservation_commands(t *testing.T) {
	t.Parallel()
	refused := domain.ErrInvalidTransition
	table := map[domain.Status]struct{ release, commit any }{
		domain.Reserved:  {domain.Released, domain.Committed},
		domain.Released:  {nil, refused},
		domain.Committed: {refused, nil},
	}
	moves := map[domain.Status][]domain.Movement{
		domain.Released:  {{SKU: "TEA-1", Reserved: -2}, {SKU: "TEA-2", Reserved: -3}},
		domain.Committed: {{SKU: "TEA-1", OnHand: -2, Reserved: -2, Committed: 2}, {SKU: "TEA-2", OnHand: -3, Reserved: -3, Committed: 3}},
	}
	require.Len(t, table, len(domain.Statuses()))
	for _, status := range domain.Statuses() {
		for name, row := range map[string]struct {
			command func(*domain.Reservation, time.Time) error
			want    any
		}{
			"release": {(*domain.Reservation).Release, table[status].release},
			"commit":  {(*domain.Reservation).Commit, table[status].commit},
		} {
			r := in(status)
			before := r.Snapshot()
			err := row.command(r, start.Add(time.Second))
			next, changes := row.want.(domain.Status)
			if !changes {
				want, _ := row.want.(error)
				require.ErrorIs(t, err, want, "%s in %s", name, status)
				require.Equal(t, before, r.Snapshot())
				require.Empty(t, r.DrainMovements())
				continue
			}
			require.NoError(t, err)
			before.Status, before.Version, before.UpdatedAt = next, 8, start.Add(time.Second)
			require.Equal(t, before, r.Snapshot(), "%s in %s", name, status)
			require.Equal(t, moves[next], r.DrainMovements())
		}
	}
}

func TestStock_Move(t *testing.T) {
	t.Parallel()
	s := domain.Stock{SKU: "TEA-1", OnHand: 5, Reserved: 3, Version: 7, UpdatedAt: start}
	later := start.Add(time.Second)
	moved, err := s.Move(domain.Movement{SKU: "TEA-1", Reserved: 2}, later)
	require.NoError(t, err)
	require.Equal(t, domain.Stock{SKU: "TEA-1", OnHand: 5, Reserved: 5, Version: 8, UpdatedAt: later}, moved)
	moved, err = s.Move(domain.Movement{SKU: "TEA-1", Reserved: 3}, later)
	require.ErrorIs(t, err, domain.ErrOutOfStock)
	require.EqualError(t, err, "out of stock: TEA-1")
	require.Equal(t, s, moved)
}

func TestStock_Set(t *testing.T) {
	t.Parallel()
	s := domain.Stock{SKU: "TEA-1", OnHand: 5, Reserved: 3, Committed: 9, Version: 7, UpdatedAt: start}
	later := start.Add(time.Second)
	for name, row := range map[string]struct {
		onHand, expected int64
		want             error
	}{
		"more":                    {onHand: 8},
		"as many as are promised": {onHand: 3, expected: 7},
		"fewer than are promised": {onHand: 2, want: domain.ErrStockReserved},
		"a version of before":     {onHand: 8, expected: 6, want: domain.ErrVersionConflict},
		"a version to come":       {onHand: 5, expected: 8, want: domain.ErrVersionConflict},
	} {
		got, err := s.Set(row.onHand, row.expected, later)
		require.ErrorIs(t, err, row.want, name)
		want := s
		if row.want == nil {
			want.OnHand, want.Version, want.UpdatedAt = row.onHand, 8, later
		}
		require.Equal(t, want, got, name)
	}

	t.Run("what is known changes nothing", func(t *testing.T) {
		t.Parallel()
		got, err := s.Set(5, 0, later)
		require.NoError(t, err)
		require.Equal(t, s, got)
	})

	t.Run("nothing of an article makes it known", func(t *testing.T) {
		t.Parallel()
		got, err := domain.Stock{SKU: "TEA-1"}.Set(0, 0, later)
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Version)
		_, err = domain.Stock{SKU: "TEA-1"}.Set(0, 1, later)
		require.ErrorIs(t, err, domain.ErrVersionConflict)
	})
}

// TestStock_anySequence moves the stock of an article for orders that end in any way, with deliveries
// between them, and keeps the books on the side.
func TestStock_anySequence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := start
		stock, err := domain.Stock{SKU: "TEA-1"}.Set(rapid.Int64Range(0, 30).Draw(t, "on hand"), 0, now)
		require.NoError(t, err)
		total := stock.OnHand
		var orders []*domain.Reservation
		apply := func(r *domain.Reservation) (err error) {
			for _, m := range r.DrainMovements() {
				stock, err = stock.Move(m, now)
			}
			return err
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				r := reserve(t, domain.Line{SKU: "TEA-1", Quantity: rapid.Int64Range(1, 12).Draw(t, "quantity")})
				free := stock.OnHand - stock.Reserved
				if err := apply(r); err != nil {
					require.Less(t, free, r.Snapshot().Lines[0].Quantity)
					return
				}
				orders = append(orders, r)
			},
			"end": func(t *rapid.T) {
				if len(orders) == 0 {
					return
				}
				r := rapid.SampledFrom(orders).Draw(t, "order")
				if rapid.Bool().Draw(t, "commit") {
					_ = r.Commit(now)
				} else {
					_ = r.Release(now)
				}
				require.NoError(t, apply(r))
			},
			"set": func(t *rapid.T) {
				onHand := rapid.Int64Range(0, 40).Draw(t, "on hand")
				set, err := stock.Set(onHand, 0, now)
				require.Equal(t, onHand < stock.Reserved, err != nil)
				if err == nil {
					stock, total = set, onHand+stock.Committed
				}
			},
			"": func(t *rapid.T) {
				now = now.Add(time.Second)
				held := map[domain.Status]int64{}
				for _, r := range orders {
					held[r.Snapshot().Status] += r.Snapshot().Lines[0].Quantity
				}
				require.Equal(t, total, stock.OnHand+stock.Committed)
				require.Equal(t, held[domain.Reserved], stock.Reserved)
				require.Equal(t, held[domain.Committed], stock.Committed)
				require.GreaterOrEqual(t, stock.Reserved, int64(0))
				require.LessOrEqual(t, stock.Reserved, stock.OnHand)
			},
		})
	})
}
