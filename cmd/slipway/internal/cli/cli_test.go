package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// call runs a command line in this process.
func call(environ []string, args ...string) (stdout, stderr string, code int) {
	var out, problem bytes.Buffer
	code = Main(append([]string{"slipway"}, args...), environ, Streams{In: strings.NewReader(""), Out: &out, Err: &problem})
	return out.String(), problem.String(), code
}

func TestMain_usage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dve"}, `unknown command "dve", did you mean "dev"?`},
		{[]string{"--nope"}, "unknown flag: --nope"},
		{[]string{"dev", "stopp"}, `unknown command "stopp", did you mean "stop"?`},
		{[]string{"dev", "--port-offset", "ten"}, `invalid argument "ten"`},
		{[]string{"dev", "--time-scale", "0.5"}, "--time-scale 0.5: it cannot be below 1"},
		{[]string{"dev", "--time-scale", "60"}, "--time-scale 60: there are no alerts without --observability"},
		{[]string{"drill", "--time-scale", "0"}, "--time-scale 0: it cannot be below 1"},
		{[]string{"drill", "Nothing"}, "there is no drill for Nothing"},
		{[]string{"dev", "--log-format", "xml"}, "want text or json"},
		{[]string{"dev", "stop", "now"}, `unknown argument "now"`},
		{[]string{"version", "--output", "yaml"}, "want table or json"},
		{[]string{"version", "please"}, `unknown argument "please"`},
		{[]string{"migrate", "down"}, `unknown command "down"`},
		{[]string{"migrate", "up", "--dir", "x"}, "--dir needs --service"},
		{[]string{"doctor", "me"}, `unknown argument "me"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			out, message, code := call(nil, c.args...)
			require.Equal(t, ExitUsage, code, message)
			require.Empty(t, out)
			require.Contains(t, message, c.want)
			require.Regexp(t, `\nsee: slipway.* --help\n$`, message)
		})
	}
}

func TestCommands_helpHasAnExample(t *testing.T) {
	t.Parallel()
	a := &app{program: "slipway", console: console.New(nil, nil, nil, nil)}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Example, cmd.CommandPath())
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		path := strings.Fields(cmd.CommandPath())[1:]
		out, _, code := call(nil, append(path, "--help")...)
		require.Equal(t, ExitOK, code)
		require.Contains(t, out, "Examples:")
	}
	walk(a.root())
}

func TestVersion(t *testing.T) {
	t.Parallel()
	out, _, code := call(nil, "version")
	require.Equal(t, ExitOK, code)
	require.Regexp(t, `^slipway \S+ .*go1\.\d+.* \w+/\w+\n$`, out)

	out, _, code = call(nil, "version", "--output", "json")
	require.Equal(t, ExitOK, code)
	var b build
	require.NoError(t, json.Unmarshal([]byte(out), &b))
	require.Equal(t, thisBuild(), b)
	require.Equal(t, "v1 (0123456789ab of today, modified) go1 os/arch",
		build{Version: "v1", Revision: "0123456789abcdef", Time: "today", Modified: true, Go: "go1", Platform: "os/arch"}.String())
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "20260101000000_orders.sql"), []byte("CREATE TABLE orders ();\n"), 0o644))
	files := []string{"--service", "order", "--dir", dir}
	on := func(command ...string) []string { return append(append([]string{"migrate"}, command...), files...) }
	environ := []string{"DATABASE_URL=" + url}

	_, message, code := call(nil, on("up")...)
	require.NotEqual(t, ExitOK, code)
	require.Contains(t, message, "which database")
	_, message, code = call(environ, on("up")...)
	require.Equal(t, ExitFailed, code)
	require.Contains(t, message, "atlas.sum", "it does not apply what nobody has signed off")
	out, _, code := call(environ, on("hash")...)
	require.Equal(t, ExitOK, code)
	require.Equal(t, "wrote "+dir+"/atlas.sum\n", out)

	out, _, code = call(nil, append(on("status", "--output", "json"), "--database-url", url)...)
	require.Equal(t, ExitOK, code)
	require.Equal(t, []string{"outbox pending", "inbox pending", "saga pending", "barrier pending", "order pending"}, conditions(t, out))

	out, _, code = call(environ, on("print")...)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "CREATE TABLE orders ()")

	out, _, code = call(environ, on("up", "--output", "json")...)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, `"component": "order"`)
	out, _, code = call(environ, on("up")...)
	require.Equal(t, ExitOK, code)
	require.Equal(t, "nothing to apply\n", out)

	out, _, code = call(environ, on("status", "--output", "json")...)
	require.Equal(t, ExitOK, code)
	require.Equal(t, []string{"outbox applied", "inbox applied", "saga applied", "barrier applied", "order applied"}, conditions(t, out))
	out, _, code = call(environ, on("status")...)
	require.Equal(t, ExitOK, code)
	require.Regexp(t, `(?m)^order +order +20260101000000 +orders +applied +\d{4}-`, out)

	out, _, code = call(environ, on("print")...)
	require.Equal(t, ExitOK, code)
	require.Equal(t, "-- Nothing to apply.\n", out)
	out, _, code = call(nil, on("print", "--all")...)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "CREATE TABLE orders ()")
}

// conditions returns the distinct component and condition of each row.
func conditions(t *testing.T, text string) []string {
	t.Helper()
	var rows []state
	require.NoError(t, json.Unmarshal([]byte(text), &rows), text)
	var seen []string
	for _, r := range rows {
		line := r.Component + " " + string(r.Condition)
		if len(seen) == 0 || seen[len(seen)-1] != line {
			seen = append(seen, line)
		}
		require.Equal(t, r.Condition == migrate.ConditionApplied, r.AppliedAt != nil)
	}
	return seen
}
