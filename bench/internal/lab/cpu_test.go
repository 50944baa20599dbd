package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	t.Run("reads behind a name with anything in it", func(t *testing.T) {
		t.Parallel()
		s, err := parseStat("42 (a ) 1 (b) S 7 42 42 0 -1 4194560 100 200 0 0 30 20 5 4 20 0 1 0 9 9 9")
		require.NoError(t, err)
		require.Equal(t, stat{pid: 42, parent: 7, own: 500 * time.Millisecond, ended: 90 * time.Millisecond}, s)
	})
	t.Run("refuses what is none", func(t *testing.T) {
		t.Parallel()
		for _, line := range []string{"", "42 postgres S 7", "42 (x) S 7", "a (x) S 7 4 4 0 -1 4 1 2 0 0 3 2 5 4"} {
			_, err := parseStat(line)
			require.Error(t, err, line)
		}
	})
}
