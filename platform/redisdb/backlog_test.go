package redisdb

import (
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBacklog(t *testing.T) {
	t.Parallel()

	t.Run("remembers the highest version of each key until it is sent", func(t *testing.T) {
		t.Parallel()
		var b backlog
		b.add("a", 3)
		b.add("a", 2)
		require.Equal(t, int64(3), b.floor("a"))
		require.Zero(t, b.floor("b"))

		down := errors.New("down")
		require.ErrorIs(t, b.drain(func(map[string]int64) error { return down }), down)
		require.Equal(t, int64(3), b.floor("a"))

		require.NoError(t, b.drain(func(sent map[string]int64) error {
			require.Equal(t, map[string]int64{"a": 3}, sent)
			return nil
		}))
		require.Zero(t, b.floor("a"))
		require.NoError(t, b.drain(func(map[string]int64) error { return down }), "nothing is left to send")
	})

	t.Run("keeps what came while it was sending, and lets only one send", func(t *testing.T) {
		t.Parallel()
		var b backlog
		b.add("a", 1)
		var seen []int64
		require.NoError(t, b.drain(func(sent map[string]int64) error {
			seen = append(seen, sent["a"])
			if len(seen) == 1 {
				b.add("a", 2)
			}
			return b.drain(func(map[string]int64) error { return errors.New("two at once") })
		}))
		require.Equal(t, []int64{1, 2}, seen)
	})

	t.Run("sends in portions and is bounded", func(t *testing.T) {
		t.Parallel()
		var b backlog
		for i := range maxUnsent + 5 {
			b.add(strconv.Itoa(i), 1)
		}
		b.add("0", 9)
		require.Equal(t, int64(9), b.floor("0"), "what is in it may still grow")
		total := 0
		require.NoError(t, b.drain(func(sent map[string]int64) error {
			require.LessOrEqual(t, len(sent), sendAtOnce)
			total += len(sent)
			return nil
		}))
		require.Equal(t, maxUnsent, total)
	})
}
