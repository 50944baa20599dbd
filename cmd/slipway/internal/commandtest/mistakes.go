package commandtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// Mistake is a command line that is wrong, with what is said about it.
type Mistake = struct {
	Args []string
	Want string
}

// Mistakes makes sure that they are refused before anything is done.
func Mistakes(t *testing.T, group string, mistakes []Mistake) {
	t.Helper()
	for _, m := range mistakes {
		t.Run(strings.Join(m.Args, " "), func(t *testing.T) {
			t.Parallel()
			out, message, code := At(t, group, "postgres://nobody@127.0.0.1:1/none").Call(m.Args...)
			require.Equal(t, cli.ExitUsage, code, message)
			require.Empty(t, out)
			require.Contains(t, message, m.Want)
			require.Contains(t, message, "see: slipway "+group)
		})
	}
}

// WithoutTables makes sure that every command says what to do on a database without the
// tables, and says it once.
func WithoutTables(t *testing.T, group string, every [][]string) {
	t.Helper()
	r := At(t, group, postgrestest.New(t))
	for _, args := range every {
		message := r.Fails(cli.ExitFailed, args...)
		require.Contains(t, message, "apply the migrations (slipway migrate up)", args)
		require.Equal(t, 1, strings.Count(message, "slipway migrate up"), message)
	}
}

// Unreachable makes sure that every command says which database it cannot reach, and keeps
// the password to itself.
func Unreachable(t *testing.T, group string, every [][]string) {
	t.Helper()
	r := At(t, group, "postgres://ann:secret@127.0.0.1:1/none")
	for _, args := range every {
		message := r.Fails(cli.ExitFailed, args...)
		require.Contains(t, message, "connect to the database of DATABASE_URL: ")
		require.Contains(t, message, "Does it run, and is the address right?")
		require.NotContains(t, message, "secret")
	}
}
