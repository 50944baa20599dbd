package command_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
)

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Microsecond: "1 ms", 340 * time.Millisecond: "340 ms", 4200 * time.Millisecond: "4.2 s",
		3*time.Minute + 20*time.Second: "3 m 20 s", 2*time.Hour + 5*time.Minute + time.Second: "2 h 5 m", 76 * time.Hour: "3 d 4 h", -time.Minute: "-1 m 0 s",
	} {
		require.Equal(t, want, command.Age(d))
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 8_192_000: "8.2 MB", 999_960: "1.0 MB", 5e15: "5.0 PB", 5e18: "5000.0 PB"} {
		require.Equal(t, want, command.Bytes(n))
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 event", command.Count(1, "event"))
	require.Equal(t, "0 events", command.Count(0, "event"))
}

func TestTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 9, 30, 0, 0, time.Local)
	require.Equal(t, "2026-11-23 09:30:00", command.Time(&at))
	require.Equal(t, "-", command.Time(nil))
}

func TestCell(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b [31mc �", command.Cell("a\tb\x1b[31mc\n\xff"))
	require.Equal(t, strings.Repeat("ä", 100), command.Cell(strings.Repeat("ä", 100)))
	require.Equal(t, strings.Repeat("ä", 99)+"…", command.Cell(strings.Repeat("ä", 101)))
}

func TestPayload(t *testing.T) {
	t.Parallel()
	require.Equal(t, "two\n\tlines ä", command.Payload([]byte("two\n\tlines ä\n")))
	require.Empty(t, command.Payload(nil))
	for _, bytes := range []string{"\x1b[2J", "\xff", "a\x00", "a\rb"} {
		require.False(t, command.Printable([]byte(bytes)))
		require.Contains(t, command.Payload([]byte(bytes)), "00000000  ")
	}
}
