// Package commandtest runs the commands that operate on a database, in the process of a
// test.
package commandtest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// Patience is what a test waits for something that takes milliseconds on an idle machine.
const Patience = 60 * time.Second

// Operator is who the commands of a rig say they are.
const Operator = "ann"

// Rig is a database and the group of commands that operates on it.
type Rig struct {
	T     *testing.T
	Group string // as saga, of slipway saga list
	URL   string
	Pool  *pgxpool.Pool // nil for a rig made with At
	in    io.Reader
}

// New returns a rig with a fresh database that has the components.
func New(t *testing.T, group string, components ...migrate.Component) *Rig {
	t.Helper()
	r := At(t, group, postgrestest.New(t, components...))
	var err error
	r.Pool, err = postgres.Open(t.Context(), postgres.Config{URL: r.URL + "&synchronous_commit=on"}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(r.Pool.Close)
	return r
}

// At returns a rig for a database that need not be there.
func At(t *testing.T, group, url string) *Rig {
	t.Helper()
	return &Rig{T: t, Group: group, URL: url, in: strings.NewReader("")}
}

// Call runs a command.
func (r *Rig) Call(args ...string) (stdout, stderr string, code int) {
	var out, problem bytes.Buffer
	code = r.main(cli.Streams{In: r.in, Out: &out, Err: &problem}, args...)
	return out.String(), problem.String(), code
}

func (r *Rig) main(streams cli.Streams, args ...string) int {
	environ := []string{"DATABASE_URL=" + r.URL, "SLIPWAY_OPERATOR=" + Operator}
	return cli.Main(append([]string{"slipway", r.Group}, args...), environ, streams)
}

// Start runs a command that waits for something. It returns what it says on its error
// output so far, and its exit code when it ends.
func (r *Rig) Start(args ...string) (said *Notes, ended <-chan int) {
	said, code := &Notes{}, make(chan int, 1)
	go func() { code <- r.main(cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: said}, args...) }()
	return said, code
}

// EndsWith waits for the end of a command that was started.
func (r *Rig) EndsWith(code int, ended <-chan int) {
	r.T.Helper()
	select {
	case got := <-ended:
		require.Equal(r.T, code, got)
	case <-time.After(Patience):
		require.Fail(r.T, "it never ends")
	}
}

// OK runs a command that must succeed and returns what it says.
func (r *Rig) OK(args ...string) string {
	r.T.Helper()
	out, problem, code := r.Call(args...)
	require.Equal(r.T, cli.ExitOK, code, "%v: %s", args, problem)
	return out
}

// Fails runs a command that must fail, without a result, and returns why.
func (r *Rig) Fails(code int, args ...string) string {
	r.T.Helper()
	out, problem, got := r.Call(args...)
	require.Equal(r.T, code, got, "%v: %s%s", args, out, problem)
	require.Empty(r.T, out, args)
	return problem
}

// Asks returns the question of a command: a terminal that has ended gives no answer.
func (r *Rig) Asks(args ...string) string {
	r.T.Helper()
	null, err := os.Open(os.DevNull)
	require.NoError(r.T, err)
	defer null.Close()
	asked := &Rig{T: r.T, Group: r.Group, URL: r.URL, in: null}
	question, _, found := strings.Cut(asked.Fails(cli.ExitUsage, args...), " [y/N] ")
	require.True(r.T, found, question)
	return question
}

// Decoded runs a command that must succeed and reads its JSON.
func Decoded[T any](r *Rig, args ...string) T {
	r.T.Helper()
	var value T
	text := r.OK(append(args, "--output", "json")...)
	require.NoError(r.T, json.Unmarshal([]byte(text), &value), text)
	return value
}

// Eventually waits for a condition.
func (r *Rig) Eventually(condition func() bool) {
	r.T.Helper()
	require.Eventually(r.T, condition, Patience, 10*time.Millisecond)
}

// Exec executes a statement on the database.
func (r *Rig) Exec(sql string, args ...any) {
	r.T.Helper()
	_, err := r.Pool.Exec(r.T.Context(), sql, args...)
	require.NoError(r.T, err)
}
