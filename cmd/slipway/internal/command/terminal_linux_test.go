package command_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// consent returns the flag --yes of a command that was called with args by somebody at in.
func consent(t *testing.T, in io.Reader, out io.Writer, args ...string) *command.Consent {
	t.Helper()
	cmd := &cobra.Command{Use: "x", Run: func(*cobra.Command, []string) {}}
	c := command.ConsentFlag(cmd, command.Env{Console: console.New(in, io.Discard, out, nil)})
	require.NoError(t, run(cmd, args...))
	return c
}

func TestConsent(t *testing.T) {
	t.Parallel()
	var usage command.UsageError
	t.Run("is given by the flag", func(t *testing.T) {
		c := consent(t, strings.NewReader(""), io.Discard, "--yes")
		require.NoError(t, c.Possible())
		require.NoError(t, c.Ask("Really?"))
	})
	t.Run("cannot be had from a pipe", func(t *testing.T) {
		c := consent(t, strings.NewReader("y\n"), io.Discard)
		require.ErrorAs(t, c.Possible(), &usage)
		require.ErrorAs(t, c.Ask("Really?"), &usage)
	})
	t.Run("cannot be had from a terminal that has ended", func(t *testing.T) {
		null, err := os.Open(os.DevNull)
		require.NoError(t, err)
		defer null.Close()
		require.ErrorAs(t, consent(t, null, io.Discard).Ask("Really?"), &usage)
	})
	t.Run("is asked for on a terminal", func(t *testing.T) {
		for answer, want := range map[string]string{"yes\n": "", "no\n": "nothing was changed", "\n": "nothing was changed"} {
			var asked strings.Builder
			c := consent(t, terminal(t, answer), &asked)
			require.NoError(t, c.Possible())
			err := c.Ask("Really?")
			require.Equal(t, want, errorText(err))
			require.Equal(t, "Really? [y/N] ", asked.String())
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// terminal returns a pseudo terminal at which somebody has typed the answer.
func terminal(t *testing.T, answer string) *os.File {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = control.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	_, err = control.WriteString(answer)
	require.NoError(t, err)
	return tty
}
