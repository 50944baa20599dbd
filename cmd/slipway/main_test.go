package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	out, _, code := slipway(t, t.TempDir(), "version")
	require.Equal(t, 0, code)
	require.Contains(t, out, "slipway ")

	_, message, code := slipway(t, t.TempDir(), "dev")
	require.Equal(t, 1, code)
	require.Contains(t, message, "no slipway.yaml found")

	_, message, code = slipway(t, t.TempDir(), "dev", "--sideways")
	require.Equal(t, 2, code)
	require.Contains(t, message, "see: slipway dev --help")
}
