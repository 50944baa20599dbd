package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func TestShopper(t *testing.T) {
	t.Parallel()

	t.Run("finds nothing wrong with a service that does what it should", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{}, nil)
		require.Empty(t, r.Lost)
		require.Empty(t, r.Wrong)
		require.True(t, r.OK)
		require.Equal(t, "OK: all 60 orders were placed and read back unchanged", r.Verdict)
		require.Equal(t, 60, r.Orders.Placed)
		require.Positive(t, r.States["CANCELLED"])
		require.Equal(t, 60, r.States["CANCELLED"]+r.States["PENDING"])
		require.EqualValues(t, r.States["CANCELLED"], r.Cancellations.Done)
		require.Positive(t, r.Repeats.Total)
		require.Equal(t, r.Repeats.Total, r.Repeats.Right)
		require.EqualValues(t, 60, r.Watched.Orders)
		require.EqualValues(t, 60, r.ReadBack.ByID)
		require.EqualValues(t, 60, r.ReadBack.InList)
		require.Zero(t, r.Retries)
		require.Positive(t, r.Latency.P50)
		require.GreaterOrEqual(t, r.Latency.Max, r.Latency.P99)
	})

	t.Run("follows orders until they are confirmed", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{settle: true}}, func(o *options) { o.wait = patience })
		require.True(t, r.OK, r.Wrong)
		require.Equal(t, 60, r.States["CONFIRMED"]+r.States["CANCELLED"])
		require.EqualValues(t, 60, r.Watched.Final)
		require.EqualValues(t, r.States["CANCELLED"], r.Cancellations.Done)
	})

	t.Run("places an order again with the same key when the answer was lost", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{answerLost: 3}}, nil)
		require.True(t, r.OK, r.Wrong)
		require.Equal(t, 60, r.Orders.Placed)
		require.EqualValues(t, 20, r.Retries)
	})

	t.Run("takes the order that only the repeated call was answered with", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{answerLost: 3}}, func(o *options) { o.retries, o.repeat = 0, 1 })
		require.True(t, r.OK, r.Wrong)
		require.Equal(t, 60, r.Orders.Placed)
		require.EqualValues(t, 40, r.Repeats.Right, "the others had nothing to be compared with")
	})

	t.Run("tries again when the service is busy", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{busy: 4}}, func(o *options) { o.retries = 8 })
		require.True(t, r.OK, r.Wrong)
		require.Positive(t, r.Retries)
	})

	t.Run("opens broken streams again where they were", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{breakStream: 2, settle: true}}, func(o *options) { o.wait = patience })
		require.True(t, r.OK, r.Wrong)
		require.Positive(t, r.Watched.Reconnects)
		require.EqualValues(t, 60, r.Watched.Final)

		r = shopAt(t, &fakeService{faults: faults{breakStream: 2}}, func(o *options) { o.wait = 500 * time.Millisecond })
		require.True(t, r.OK, r.Wrong)
		require.Positive(t, r.Watched.Reconnects)
	})

	t.Run("watches no more at once than it may", func(t *testing.T) {
		t.Parallel()
		s := shopperAt(t, &fakeService{}, func(o *options) { o.watch, o.cancel, o.wait = 5, 0, time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.shop(ctx)
		}()
		require.Eventually(t, func() bool { return s.counts.placed.Load() == 60 && s.counts.watched.Load() >= 5 }, patience, time.Millisecond)
		require.EqualValues(t, 5, s.counts.watched.Load())
		cancel()
		<-done
	})

	t.Run("watches nothing on demand", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{}, func(o *options) { o.watch = 0 })
		require.True(t, r.OK, r.Wrong)
		require.Zero(t, r.Watched.Orders)
	})
}

func TestShopper_detects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults      faults
		lost, wrong string // what the first finding of each kind says; empty for none
		lostCount   int    // 0 for at least one
	}{
		"acknowledged orders that are lost": {
			faults: faults{lose: 6}, lost: "NotFound", lostCount: 10,
		},
		"orders with changed items": {
			faults: faults{change: 6}, wrong: "item 1 as",
		},
		"orders with a changed total": {
			faults: faults{discount: 6}, wrong: "the total",
		},
		"orders that are another one's when they are read": {
			faults: faults{getWrong: true}, wrong: "GetOrder shows customer",
		},
		"orders that are another one's in the lists": {
			faults: faults{listWrong: true}, wrong: "ListOrders shows customer",
		},
		"orders that no list shows": {
			faults: faults{hide: 6}, lost: "no page of ListOrders", lostCount: 10,
		},
		"orders that the lists show twice": {
			faults: faults{listTwice: 6}, wrong: "twice",
		},
		"orders that nobody placed": {
			faults: faults{twice: 6}, wrong: "nobody placed",
		},
		"keys that are forgotten": {
			faults: faults{forgetKeys: true}, wrong: "the same key gave order",
		},
		"cancellations that are forgotten": {
			faults: faults{forgetStop: true}, wrong: "after the order was cancelled",
		},
		"streams that end too early": {
			faults: faults{endStream: true}, wrong: "WatchOrder ended although",
		},
		"streams that show what is known": {
			faults: faults{repeatEvent: true}, wrong: "WatchOrder shows version 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := shopAt(t, &fakeService{faults: c.faults}, func(o *options) {
				if c.faults.endStream || c.faults.repeatEvent {
					o.wait = time.Second
				}
			})
			require.False(t, r.OK)
			require.Contains(t, r.Verdict, "FAILED")
			requireFinding(t, r.Lost, c.lost)
			requireFinding(t, r.Wrong, c.wrong)
			if c.lostCount > 0 {
				require.Len(t, r.Lost, c.lostCount)
			}
		})
	}

	t.Run("orders that are refused", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{refuse: 6}}, func(o *options) { o.repeat = 0 })
		require.False(t, r.OK)
		require.Equal(t, 10, r.Orders.Rejected)
		require.Contains(t, r.Verdict, "10 of 60 orders could not be placed; none that was acknowledged is lost")
		require.Contains(t, r.Failed[0], "the order is not valid")
		require.Empty(t, r.Lost)
		require.Empty(t, r.Wrong)
	})

	t.Run("orders that were placed although no answer came", func(t *testing.T) {
		t.Parallel()
		r := shopAt(t, &fakeService{faults: faults{answerLost: 6}}, func(o *options) { o.retries, o.repeat = 0, 0 })
		require.Equal(t, 10, r.Orders.Unanswered)
		require.Equal(t, 10, r.Orders.FoundLater)
		require.Empty(t, r.Wrong, "they are not orders that nobody placed")
	})

	t.Run("a service that loses every answer, within the budget for retries", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{faults: faults{answerLost: 1, forgetKeys: true}}
		r := shopAt(t, fake, func(o *options) { o.orders, o.retries, o.repeat = 100, 4, 0 })
		require.Equal(t, 100, r.Orders.Unanswered)
		require.EqualValues(t, 300, r.Retries, "two for each order and a hundred")
	})
}

func requireFinding(t *testing.T, findings []finding, text string) {
	t.Helper()
	if text == "" {
		require.Empty(t, findings)
		return
	}
	require.NotEmpty(t, findings)
	require.NotEmpty(t, findings[0].OrderID)
	for _, f := range findings {
		if strings.Contains(f.Problem, text) {
			return
		}
	}
	require.Fail(t, "no finding says "+text, "%v", findings)
}
