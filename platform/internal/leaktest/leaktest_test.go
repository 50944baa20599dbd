package leaktest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

// leak makes the test program, started again by TestMain_seesLeaks, leave a goroutine behind.
const leak = "LEAKTEST_LEAK"

func TestMain(m *testing.M) {
	if os.Getenv(leak) != "" {
		go func() { select {} }()
	}
	leaktest.Main(m)
}

func TestMain_seesLeaks(t *testing.T) {
	t.Parallel()
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	again.Env = append(os.Environ(), leak+"=yes")
	output, err := again.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "leaktest_test.TestMain.func1")
}
