package usecase_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

// run runs the settler until stop is called.
func (w *world) run(t require.TestingT, o usecase.Observer) (s *usecase.Settle, stop func()) {
	s, err := usecase.NewSettle(w.payments, w.teller, o, usecase.SettleConfig{Watch: time.Hour})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// quiet hears nothing.
type quiet struct{}

func (quiet) Looked(context.Context, domain.Snapshot, domain.Snapshot, error) {}
func (quiet) LateSuccess(context.Context, domain.Snapshot)                    {}
func (quiet) Idle(context.Context, error)                                     {}

// after lets the time of a bubble pass.
func after(d time.Duration) { <-time.After(d) }

// TestSettle_moneyAgrees lets calls, answers and writes get lost or late in any order, and then has payments
// and bank agree, without a caller.
func TestSettle_moneyAgrees(t *testing.T) {
	t.Parallel()
	rests := map[domain.Status][]domain.Charge{
		domain.Authorizing: {domain.NoCharge}, // For good only a caller can go on: it has the card.
		domain.Authorized:  {domain.ChargeHeld},
		domain.Declined:    {domain.ChargeDeclined},
		domain.Voided:      {domain.NoCharge, domain.ChargeVoided, domain.ChargeDeclined},
		domain.Captured:    {domain.ChargeCaptured},
		domain.Refunded:    {domain.ChargeRefunded},
	}
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 3}), 0, 100).Draw(rt, "luck")...)
		card := rapid.SampledFrom([]domain.CardToken{"tok_ok", "tok_ok", "tok_ok", "tok_declined"}).Draw(rt, "card")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{
			"authorize", "authorize", "void", "capture", "refund", "deliver", "wait", "long wait",
		}), 1, 15).Draw(rt, "steps")
		bubble(t, func() {
			_, stop := w.run(rt, quiet{})
			defer stop()
			for _, step := range steps {
				w.step(rt, step, card)
			}
			w.luck.mu.Lock()
			w.luck.good = true
			w.luck.mu.Unlock()
			for w.bank.deliver() {
			}
			after(4 * time.Hour)
		})
		s, found, charge := w.payment()
		if !found {
			require.Empty(rt, w.bank.effects)
			return
		}
		require.Contains(rt, rests[s.Status], charge, "%+v", s)
		require.False(rt, s.InDoubt)
		require.False(rt, s.Status == domain.Voided && !slices.Contains(steps, "void"), "voided by nobody")
		slices.Sort(w.bank.effects)
		require.Equal(rt, slices.Compact(slices.Clone(w.bank.effects)), w.bank.effects, "each once")
		seen[string(s.Status)+" "+string(charge)]++
	})
	t.Logf("ended as: %v", seen)
}

// bubble runs fn in a bubble of its own, and has its panics outside: that is how rapid is told of a failure.
func bubble(t *testing.T, fn func()) {
	t.Helper()
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		fn()
	})
	if failed != nil {
		panic(failed)
	}
}

func (w *world) step(t *rapid.T, step string, card domain.CardToken) {
	ctx := context.Background()
	var err error
	switch step {
	case "authorize":
		_, err = w.authorize(ctx, card)
	case "void":
		_, _, err = w.void(ctx)
	case "capture":
		_, err = w.capture(ctx)
	case "refund":
		_, err = w.refund(ctx)
	case "deliver":
		w.bank.deliver()
	case "wait":
		after(time.Second)
	case "long wait":
		after(2 * time.Minute)
	}
	for _, known := range []error{
		nil, errCrash, domain.ErrDeclined, domain.ErrVoided, domain.ErrPending, domain.ErrInvalidTransition, domain.ErrNotFound,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	require.NoError(t, err)
}

func TestSettle_lateSuccess(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		also func(*world)
		want []string
		end  domain.Status
	}{
		"an authorization that succeeds after the void is voided": {func(*world) {}, []string{"AUTHORIZED", "VOIDED"}, domain.Voided},
		"one that was captured as well, by whomever, is refunded": {capturedThere, []string{"AUTHORIZED", "CAPTURED", "REFUNDED"}, domain.Refunded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(0, 3, 0, 0, 0) // Open is stored, the authorization comes later, nothing else goes wrong.
				_, err := w.authorize(t.Context(), "tok_ok")
				require.ErrorIs(t, err, errCrash)
				w.luck.good = true
				s, found, err := w.void(t.Context())
				require.NoError(t, err)
				require.True(t, found)
				require.Equal(t, domain.Voided, s.Status)
				require.True(t, s.InDoubt)

				observer := newMockObserver(t)
				observer.EXPECT().Looked(mock.Anything, mock.Anything, mock.Anything, nil)
				observer.EXPECT().LateSuccess(mock.Anything, mock.Anything).Once()
				_, stop := w.run(t, observer)
				defer stop()
				after(10 * time.Minute)
				require.True(t, w.bank.deliver())
				row.also(w)
				after(20 * time.Minute)
				s, _, _ = w.payment()
				require.Equal(t, row.end, s.Status)
				require.False(t, s.InDoubt)
				for i, effect := range w.bank.effects {
					require.Equal(t, row.want[i]+" "+s.ID, effect)
				}
				require.Len(t, w.bank.effects, len(row.want))
				if row.end == domain.Refunded {
					require.Equal(t, domain.LateRefund, s.RefundReason)
				}
			})
		})
	}

	t.Run("is looked for until the watch is over, counted from the last question without an answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(0, 1, 0)
			_, err := w.authorize(t.Context(), "tok_ok")
			require.ErrorIs(t, err, errCrash)
			w.luck.good = true
			_, _, err = w.void(t.Context())
			require.NoError(t, err)
			_, stop := w.run(t, quiet{})
			defer stop()
			after(50 * time.Minute)
			w.luck.mu.Lock()
			w.luck.draws, w.luck.next, w.luck.good = []int{1, 0}, 0, false // Lookup fails, the note of that does not.
			w.luck.mu.Unlock()
			after(6 * time.Minute)
			w.luck.mu.Lock()
			w.luck.good = true
			w.luck.mu.Unlock()
			after(50 * time.Minute)
			s, _, _ := w.payment()
			require.True(t, s.InDoubt, "1:46 after the void, less than an hour after the failure")
			after(20 * time.Minute)
			s, _, _ = w.payment()
			require.False(t, s.InDoubt)
			require.Equal(t, domain.Voided, s.Status)
		})
	})
}

// capturedThere captures what is held without the service knowing.
func capturedThere(w *world) {
	s, _, _ := w.payment()
	if _, err := w.bank.Capture(context.Background(), s.ID, s.Amount); err != nil {
		panic(err)
	}
}

func TestSettle_Run(t *testing.T) {
	t.Parallel()

	t.Run("leaves a payment to its caller for a while", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(0, 2, 0) // The authorization succeeds without an answer.
			_, err := w.authorize(t.Context(), "tok_ok")
			require.ErrorIs(t, err, errCrash)
			_, stop := w.run(t, quiet{})
			defer stop()
			after(50 * time.Second)
			s, _, _ := w.payment()
			require.Equal(t, domain.Authorizing, s.Status)
			after(15 * time.Second)
			s, _, _ = w.payment()
			require.Equal(t, domain.Authorized, s.Status)
		})
	})

	t.Run("looks at once when it is woken, and until what it was woken for is committed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			_, err := w.authorize(t.Context(), "tok_ok")
			require.NoError(t, err)
			w.payments.rest = 0
			s, stop := w.run(t, quiet{})
			defer stop()
			after(400 * time.Millisecond)
			s.Wake()
			s.Wake()
			after(30 * time.Millisecond)
			capture := &usecase.Capture{Payments: w.payments, Teller: w.teller, Now: time.Now}
			_, err = capture.Begin(t.Context(), "o-1")
			require.NoError(t, err)
			after(70 * time.Millisecond)
			p, _, _ := w.payment()
			require.Equal(t, domain.Captured, p.Status)
		})
	})

	t.Run("asks for no more than it has hands, and finishes what is in hand", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			claimer, updater, provider := newMockClaimer(t), newMockUpdater(t), newMockProvider(t)
			free := make(chan struct{})
			var limits []int
			claimer.EXPECT().Claim(mock.Anything, mock.Anything).RunAndReturn(func(_ context.Context, c usecase.Claim) (claimed []usecase.Claimed, _ error) {
				limits = append(limits, c.Limit)
				for range min(2, c.Limit) {
					claimed = append(claimed, usecase.Claimed{Snapshot: domain.Snapshot{ID: "p-1", Status: domain.Authorizing}})
				}
				return claimed, nil
			})
			provider.EXPECT().Lookup(mock.Anything, "p-1").RunAndReturn(func(ctx context.Context, _ string) (domain.Answer, error) {
				<-free
				return domain.Answer{Charge: domain.NoCharge}, ctx.Err()
			})
			s, err := usecase.NewSettle(claimer, &usecase.Teller{Payments: updater, Provider: provider, Now: time.Now}, quiet{}, usecase.SettleConfig{Concurrency: 3})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			after(10 * time.Second)
			require.Equal(t, []int{3, 1}, limits)
			cancel()
			synctest.Wait()
			require.Empty(t, ended)
			close(free)
			require.NoError(t, <-ended)
		})
	})

	t.Run("says what became of a payment, and that a store is away", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			claimer, updater, provider, observer := newMockClaimer(t), newMockUpdater(t), newMockProvider(t), newMockObserver(t)
			voiding := domain.Snapshot{ID: "p-1", Status: domain.Voiding}
			claimer.EXPECT().Claim(mock.Anything, mock.Anything).Return(nil, errCrash).Once()
			claimer.EXPECT().Claim(mock.Anything, mock.Anything).Return([]usecase.Claimed{{Snapshot: voiding}}, nil).Once()
			claimer.EXPECT().Claim(mock.Anything, mock.Anything).Return(nil, nil)
			provider.EXPECT().Void(mock.Anything, "p-1").Return(domain.Answer{Charge: domain.ChargeVoided}, nil)
			voided := domain.Snapshot{ID: "p-1", Status: domain.Voided}
			updater.EXPECT().Update(mock.Anything, "p-1", mock.Anything).Return(voided, nil)
			observer.EXPECT().Idle(mock.Anything, errCrash).Once()
			observer.EXPECT().Looked(mock.Anything, voiding, voided, nil).Once()
			s, err := usecase.NewSettle(claimer, &usecase.Teller{Payments: updater, Provider: provider, Now: time.Now}, observer, usecase.SettleConfig{})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			require.NoError(t, s.Run(ctx))
		})
	})
}

func TestSettleConfig(t *testing.T) {
	t.Parallel()
	bad := usecase.SettleConfig{Pause: -1, LongestPause: -2, Watch: -1, Poll: -1, Concurrency: -1}
	_, err := usecase.NewSettle(nil, nil, nil, bad)
	for _, name := range []string{"SETTLE_PAUSE", "SETTLE_LONGEST_PAUSE", "SETTLE_WATCH", "SETTLE_POLL", "SETTLE_CONCURRENCY"} {
		require.ErrorContains(t, err, name)
	}
	long := usecase.SettleConfig{Pause: time.Hour}
	long.SetDefaults()
	require.NoError(t, long.Validate(), "what is not set fits to what is")
}
