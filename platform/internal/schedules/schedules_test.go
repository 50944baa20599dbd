package schedules_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/schedules"
)

func TestRun(t *testing.T) {
	t.Parallel()
	add := func(sum *uint64, part uint64) { *sum += part }
	sum, bad := schedules.Run(1000, func(seed uint64, sum *uint64) bool {
		*sum += seed
		return true
	}, add)
	require.Zero(t, bad)
	require.EqualValues(t, 500_500, sum, "each schedule once")

	_, bad = schedules.Run(1000, func(seed uint64, _ *uint64) bool { return seed < 3 }, add)
	require.EqualValues(t, 3, bad, "the first one that is broken")
}
