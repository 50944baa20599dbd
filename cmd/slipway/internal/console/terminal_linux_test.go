package console_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

func TestProgress_onATerminal(t *testing.T) {
	t.Parallel()
	terminal := openTerminal(t)
	c := console.New(nil, io.Discard, terminal.tty, nil)
	step := c.Progress().Start("building order")
	terminal.waitFor(t, "building order 0 s")
	c.Notef("a line between")
	step.Done("built order")
	seen := terminal.waitFor(t, "built order")
	require.Contains(t, seen, "\r\x1b[Ka line between", "the live line makes room")
	require.Contains(t, seen, "\r\x1b[K  ✓ built order", "and is gone at the end")
}

func TestConsole_Colour(t *testing.T) {
	t.Parallel()
	terminal := openTerminal(t)
	require.True(t, console.New(nil, terminal.tty, io.Discard, []string{"NO_COLOR="}).Colour())
	require.False(t, console.New(nil, terminal.tty, io.Discard, []string{"NO_COLOR=1"}).Colour())
	require.False(t, console.New(nil, terminal.tty, io.Discard, []string{"TERM=dumb"}).Colour())
}

func TestConsole_Confirm(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false} {
		terminal := openTerminal(t)
		_, err := terminal.control.WriteString(answer)
		require.NoError(t, err)
		ok, err := console.New(terminal.tty, io.Discard, io.Discard, nil).Confirm("Delete everything?")
		require.NoError(t, err)
		require.Equal(t, want, ok, "%q", answer)
	}
}

// terminal is a pseudo terminal: what is written to tty is read as a person would
// see it.
type terminal struct {
	tty, control *os.File
	seen         chan string
	text         string
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	require.NoError(t, unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	term := &terminal{tty: tty, control: control, seen: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		part := make([]byte, 4096)
		for {
			n, err := control.Read(part)
			if err != nil {
				return
			}
			term.seen <- string(part[:n])
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, tty.Close()) // ends the read
		<-done
		_ = control.Close()
	})
	return term
}

// waitFor returns everything that was seen until the text appears.
func (s *terminal) waitFor(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !strings.Contains(s.text, text) {
		select {
		case part := <-s.seen:
			s.text += part
		case <-deadline:
			require.Fail(t, "never seen", "%q in %q", text, s.text)
		}
	}
	return s.text
}
