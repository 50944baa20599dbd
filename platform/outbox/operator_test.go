package outbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
