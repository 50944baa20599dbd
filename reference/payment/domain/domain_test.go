package domain_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	price = domain.Money{Currency: "EUR", Minor: 700}
)

func open(t require.TestingT) *domain.Payment {
	p, err := domain.Open(domain.NewPayment{ID: "p-1", Key: "saga/pay", OrderID: "o-1", Amount: price}, start)
	require.NoError(t, err)
	return p
}

// in returns a payment in a state.
func in(s domain.Status, inDoubt bool) *domain.Payment {
	return domain.Rehydrate(domain.Snapshot{ID: "p-1", OrderID: "o-1", Status: s, Amount: price, InDoubt: inDoubt, Version: 7, CreatedAt: start, UpdatedAt: start})
}

func TestOpen(t *testing.T) {
	t.Parallel()

	t.Run("a payment begins by asking for the authorization", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, domain.Snapshot{
			ID: "p-1", Key: "saga/pay", OrderID: "o-1", Status: domain.Authorizing, Amount: price,
			Version: 1, CreatedAt: start, UpdatedAt: start,
		}, open(t).Snapshot())
	})

	t.Run("what is no amount is refused", func(t *testing.T) {
		t.Parallel()
		for _, m := range []domain.Money{
			{},
			{Currency: "EUR"},
			{Currency: "EUR", Minor: -1},
			{Currency: "EUR", Minor: domain.MaxAmount + 1},
			{Currency: "EUR", Minor: math.MinInt64},
			{Currency: "eur", Minor: 1},
			{Currency: "EURO", Minor: 1},
			{Currency: "E1R", Minor: 1},
		} {
			_, err := domain.Open(domain.NewPayment{ID: "p-1", Amount: m}, start)
			require.ErrorIs(t, err, domain.ErrInvalidAmount, "%v", m)
		}
		for _, minor := range []int64{1, domain.MaxAmount} {
			require.NoError(t, domain.Money{Currency: "EUR", Minor: minor}.Validate())
		}
	})
}

func TestPayment_RequireSame(t *testing.T) {
	t.Parallel()
	p := open(t)
	require.NoError(t, p.RequireSame("o-1", price))
	require.ErrorIs(t, p.RequireSame("o-2", price), domain.ErrIdempotencyMismatch)
	require.ErrorIs(t, p.RequireSame("o-1", domain.Money{Currency: "USD", Minor: 700}), domain.ErrIdempotencyMismatch)
	require.ErrorIs(t, p.RequireSame("o-1", domain.Money{Currency: "EUR", Minor: 701}), domain.ErrIdempotencyMismatch)
}

// TestPayment_commands states what each command does in each state: the state after it, "" for none, or
// the error.
func TestPayment_commands(t *testing.T) {
	t.Parallel()
	refused := domain.ErrInvalidTransition
	pending := domain.ErrPending
	table := map[domain.Status]struct{ void, capture, refund any }{
		domain.Authorizing: {domain.Voiding, pending, refused},
		domain.Authorized:  {domain.Voiding, domain.Capturing, refused},
		domain.Declined:    {nil, refused, refused},
		domain.Voiding:     {nil, refused, refused},
		domain.Voided:      {nil, refused, refused},
		domain.Capturing:   {refused, nil, pending},
		domain.Captured:    {refused, nil, domain.Refunding},
		domain.Refunding:   {refused, nil, nil},
		domain.Refunded:    {refused, nil, nil},
	}
	require.Len(t, table, len(domain.Statuses()))
	for status, row := range table {
		for name, c := range map[string]struct {
			do   func(*domain.Payment) error
			want any
		}{
			"void":    {func(p *domain.Payment) error { return p.Void(start) }, row.void},
			"capture": {func(p *domain.Payment) error { return p.Capture(start) }, row.capture},
			"refund":  {func(p *domain.Payment) error { return p.Refund("broken", start) }, row.refund},
		} {
			t.Run(fmt.Sprintf("%s of a payment that is %s", name, status), func(t *testing.T) {
				t.Parallel()
				p := in(status, false)
				before := p.Snapshot()
				err := c.do(p)
				want := before
				switch target := c.want.(type) {
				case domain.Status:
					want.Status, want.Version = target, before.Version+1
					if target == domain.Refunding {
						want.RefundReason = "broken"
					}
				case error:
					require.ErrorIs(t, err, target)
					require.Equal(t, before, p.Snapshot())
					return
				}
				require.NoError(t, err)
				require.Equal(t, want, p.Snapshot())
			})
		}
	}
}

// TestPayment_Learn states what each answer means in each state: the state after it, or "" where the
// answer cannot be.
func TestPayment_Learn(t *testing.T) {
	t.Parallel()
	const never = domain.Status("")
	type doubt = bool
	columns := domain.Charges() // NONE, AUTHORIZED, DECLINED, VOIDED, CAPTURED, REFUNDED
	table := map[domain.Status]map[doubt][6]domain.Status{
		domain.Authorizing: {false: {domain.Authorizing, domain.Authorized, domain.Declined, never, never, never}},
		domain.Authorized:  {false: {never, domain.Authorized, never, never, never, never}},
		domain.Declined:    {false: {never, never, domain.Declined, never, never, never}},
		domain.Voiding: {
			false: {domain.Voided, domain.Voiding, domain.Voided, domain.Voided, domain.Refunding, domain.Refunded},
			true:  {domain.Voided, domain.Voiding, domain.Voided, domain.Voided, domain.Refunding, domain.Refunded},
		},
		domain.Voided: {
			false: {domain.Voided, domain.Voided, domain.Voided, domain.Voided, domain.Refunding, domain.Refunded},
			true:  {domain.Voided, domain.Voiding, domain.Voided, domain.Voided, domain.Refunding, domain.Refunded},
		},
		domain.Capturing: {false: {never, domain.Capturing, never, never, domain.Captured, never}},
		domain.Captured:  {false: {never, domain.Captured, never, never, domain.Captured, never}},
		domain.Refunding: {false: {never, domain.Refunding, never, never, domain.Refunding, domain.Refunded}},
		domain.Refunded:  {false: {domain.Refunded, domain.Refunded, never, domain.Refunded, domain.Refunded, domain.Refunded}},
	}
	require.Len(t, table, len(domain.Statuses()))
	for status, rows := range table {
		for inDoubt, row := range rows {
			for i, want := range row {
				t.Run(fmt.Sprintf("%s, in doubt %t, learns %s", status, inDoubt, columns[i]), func(t *testing.T) {
					t.Parallel()
					p := in(status, inDoubt)
					before := p.Snapshot()
					err := p.Learn(domain.Answer{Charge: columns[i], Reason: "no money"}, start.Add(time.Hour))
					after := p.Snapshot()
					if want == never {
						require.ErrorIs(t, err, domain.ErrContradiction)
						require.Equal(t, before, after)
						return
					}
					require.NoError(t, err)
					require.Equal(t, want, after.Status)
					require.Equal(t, after != before, after.Version == before.Version+1, "a change has a version")
					require.Equal(t, want == domain.Declined && status == domain.Authorizing, after.DeclineReason == "no money")
					require.Equal(t, want == domain.Refunding && status != want, after.RefundReason == domain.LateRefund)
				})
			}
		}
	}
}

func TestPayment_doubt(t *testing.T) {
	t.Parallel()

	t.Run("begins when the provider knows nothing of what is to be voided, and ends with an answer for good", func(t *testing.T) {
		t.Parallel()
		for _, from := range []domain.Status{domain.Authorizing, domain.Authorized} {
			for charge, stays := range map[domain.Charge]bool{
				domain.NoCharge: true, domain.ChargeHeld: true,
				domain.ChargeDeclined: false, domain.ChargeVoided: false, domain.ChargeCaptured: false, domain.ChargeRefunded: false,
			} {
				p := in(from, false)
				require.NoError(t, p.Void(start))
				require.False(t, p.Snapshot().InDoubt)
				require.NoError(t, p.Learn(domain.Answer{Charge: domain.NoCharge}, start))
				require.Equal(t, domain.Voided, p.Snapshot().Status)
				require.True(t, p.Snapshot().InDoubt)
				require.NoError(t, p.Learn(domain.Answer{Charge: charge}, start))
				require.Equal(t, stays, p.Snapshot().InDoubt, charge)
				require.Equal(t, stays || p.Snapshot().Status.Waiting(), p.Snapshot().Unsettled(), charge)
			}
		}
	})

	t.Run("a question without an answer begins the watch anew, trust ends it", func(t *testing.T) {
		t.Parallel()
		p := in(domain.Voided, true)
		require.NoError(t, p.Learn(domain.Answer{}, start.Add(time.Hour)))
		require.EqualValues(t, 8, p.Snapshot().Version)
		p.Trust(start.Add(2 * time.Hour))
		require.EqualValues(t, 9, p.Snapshot().Version)
		require.False(t, p.Snapshot().Unsettled())
		require.NoError(t, p.Learn(domain.Answer{}, start))
		p.Trust(start)
		require.EqualValues(t, 9, p.Snapshot().Version)
	})

	t.Run("a payment that is still to be voided is not trusted", func(t *testing.T) {
		t.Parallel()
		p := in(domain.Voiding, true)
		p.Trust(start)
		require.True(t, p.Snapshot().InDoubt)
	})
}

func TestSnapshot_Outcome(t *testing.T) {
	t.Parallel()
	for status, want := range map[domain.Status]error{
		domain.Authorizing: domain.ErrPending, domain.Declined: domain.ErrDeclined,
		domain.Voiding: domain.ErrVoided, domain.Voided: domain.ErrVoided,
	} {
		require.ErrorIs(t, in(status, false).Snapshot().Outcome(), want)
	}
	for _, status := range []domain.Status{domain.Authorized, domain.Capturing, domain.Captured, domain.Refunding, domain.Refunded} {
		require.NoError(t, in(status, false).Snapshot().Outcome())
	}
	err := domain.Rehydrate(domain.Snapshot{Status: domain.Declined, DeclineReason: "expired_card"}).Snapshot().Outcome()
	require.ErrorContains(t, err, "expired_card")
}

// TestPayment_anySequence drives payments with random commands and answers.
func TestPayment_anySequence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, now := open(t), start
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			before := p.Snapshot()
			now = now.Add(time.Second)
			err := step(t, p, now)
			after := p.Snapshot()

			known := errors.Is(err, domain.ErrInvalidTransition) || errors.Is(err, domain.ErrPending) || errors.Is(err, domain.ErrContradiction)
			require.True(t, err == nil || known, "%v", err)
			if err != nil || after.Version == before.Version {
				require.Equal(t, before, after, "what is no change changes nothing")
				continue
			}
			require.Equal(t, before.Version+1, after.Version)
			require.Equal(t, now, after.UpdatedAt)
			require.True(t, before.Status == after.Status || before.Status.CanBecome(after.Status), "%s to %s", before.Status, after.Status)
			require.Equal(t, [4]any{before.ID, before.Key, before.OrderID, before.Amount}, [4]any{after.ID, after.Key, after.OrderID, after.Amount})
			require.False(t, after.InDoubt && after.Status != domain.Voiding && after.Status != domain.Voided, "doubt is about what was voided")
			require.Equal(t, after, domain.Rehydrate(after).Snapshot())
		}
	})
}

// step is a random command or answer, and makes sure that it is harmless a second time.
func step(t *rapid.T, p *domain.Payment, now time.Time) error {
	answer := domain.Answer{Charge: rapid.SampledFrom(domain.Charges()).Draw(t, "charge")}
	do := map[string]func() error{
		"void":    func() error { return p.Void(now) },
		"capture": func() error { return p.Capture(now) },
		"refund":  func() error { return p.Refund("broken", now) },
		"learn":   func() error { return p.Learn(answer, now) },
		"trust":   func() error { p.Trust(now); return nil },
	}[rapid.SampledFrom([]string{"void", "capture", "refund", "learn", "learn", "learn", "trust"}).Draw(t, "step")]
	err := do()
	once := p.Snapshot()
	if again := do(); err != nil {
		require.EqualError(t, again, err.Error())
	}
	require.Equal(t, once, p.Snapshot(), "repeated")
	return err
}

func TestCardToken_isNeverPrinted(t *testing.T) {
	t.Parallel()
	token := struct{ Card domain.CardToken }{"tok_ok"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, token), "tok_ok")
	}
}
