package outbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// blocker returns what of the kind holds the outbox up.
func blocker(t *testing.T, operator *outbox.Operator, kind string) (b outbox.Blocker, ok bool) {
	t.Helper()
	all, err := operator.Blockers(t.Context())
	require.NoError(t, err)
	for _, b := range all {
		if b.Kind == kind {
			return b, true
		}
	}
	return b, false
}

// A relay with a long lease gives a sign of life less than once a second while it is idle. It is alive,
// and its sink is not to be removed. With an operator who watches for a second it is taken for dead
// right after each sign.
func TestOperator_waitsForSignsOfLife(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	cfg := quick()
	cfg.Lease, cfg.Maintenance = 4*time.Second, time.Hour
	relay, _, _ := start(t, pool, &sink{}, cfg)
	eventually(t, relay.Active)
	beat := func() int64 { return rows[int64](t, pool, "select beat from slipway.outbox_position")[0] }
	last := beat()
	eventually(t, func() bool { return beat() > last })
	_, dead := blocker(t, outbox.NewOperator(pool), "no_relay")
	require.False(t, dead)
}

// A broker that takes nothing is named as what holds the events up, until it takes them.
func TestOperator_blockersNameTheBroker(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	later, set := skew(t, pool)
	s := &sink{}
	relay, _, _ := start(t, pool, s, quick())
	operator := outbox.NewOperator(later)
	named := func() bool {
		b, ok := blocker(t, operator, "broker")
		require.True(t, !ok || b.Sink == "broker" && b.Age > 50*time.Minute, b)
		return ok
	}
	add(t, t.Context(), pool, event("a", 1))
	eventually(t, func() bool { return s.count() == 1 })
	set(time.Hour)
	eventually(t, func() bool { return !named() }, "nothing waits")

	s.failing(func(broker.Message) error { return broker.ErrUnavailable })
	add(t, t.Context(), pool, event("a", 2))
	relay.Wake()
	eventually(t, named)
	_, err := operator.Pause(t.Context(), by, "")
	require.NoError(t, err)
	require.False(t, named(), "an operator holds them up")
	_, err = operator.Resume(t.Context(), by, "")
	require.NoError(t, err)
	s.failing(nil)
	eventually(t, func() bool { return s.count() == 2 && !named() })
}
