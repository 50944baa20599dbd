package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// run runs a command line of the command.
func run(cmd *cobra.Command, args ...string) error {
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(command.FlagError)
	return cmd.Execute()
}

func TestGroup(t *testing.T) {
	t.Parallel()
	var ran []string
	one := &cobra.Command{Use: "one NAME", Args: command.OneArg("NAME"), Run: func(_ *cobra.Command, args []string) { ran = args }}
	none := &cobra.Command{Use: "none", Args: command.NoArgs, Run: func(*cobra.Command, []string) {}}
	format := command.OutputFlag(none)
	var help bytes.Buffer
	root := command.Group(&cobra.Command{Use: "root", Short: "the root"}, one, none)
	root.SetOut(&help)

	require.NoError(t, run(root))
	require.Contains(t, help.String(), "the root")
	require.NoError(t, run(root, "one", "a"))
	require.Equal(t, []string{"a"}, ran)
	require.NoError(t, run(root, "none", "-o", "json"))
	require.Equal(t, console.JSON, *format)
	var usage command.UsageError
	for line, want := range map[string]string{
		"noen": `did you mean "none"?`, "x": `unknown command "x"`, "none a": `unknown argument "a"`, "one": "NAME is missing",
		"one a b": `unknown argument "b": it takes one NAME`, "none --nope": "unknown flag", "none -o xml": "want table or json",
	} {
		err := run(root, strings.Fields(line)...)
		require.ErrorAs(t, err, &usage, line)
		require.ErrorContains(t, err, want)
	}
}

func TestLimitFlag(t *testing.T) {
	t.Parallel()
	ran := 0
	cmd := &cobra.Command{Use: "x", Run: func(*cobra.Command, []string) { ran++ }}
	limit := command.LimitFlag(cmd)
	require.NoError(t, run(cmd))
	require.Equal(t, 100, *limit)
	require.NoError(t, run(cmd, "--limit", "1"))
	require.Equal(t, 1, *limit)
	var usage command.UsageError
	for text, want := range map[string]string{"0": "--limit 0: want 1 or more", "-3": "--limit -3: want 1 or more", "x": "invalid argument"} {
		err := run(cmd, "--limit", text)
		require.ErrorAs(t, err, &usage)
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, 2, ran)
}

func TestWho(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ann", command.Who([]string{"SLIPWAY_OPERATOR= ann "}))
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Regexp(t, `^\S+@`+host+`$`, command.Who([]string{"SLIPWAY_OPERATOR="}))
}

func TestReasonFlag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		required   bool
		args, want string
	}{
		{false, "", command.ByHand},
		{false, "--reason=", command.ByHand},
		{false, "--reason=mended", "mended"},
		{true, "--reason=mended", "mended"},
		{true, "", ""},
	} {
		cmd := &cobra.Command{Use: "x", Run: func(*cobra.Command, []string) {}}
		reason := command.ReasonFlag(cmd, c.required)
		require.NoError(t, run(cmd, strings.Fields(c.args)...))
		text, err := reason.Text()
		require.Equal(t, c.want == "", err != nil, "%v", c)
		require.Equal(t, c.want, text)
	}
}

// It changes the working directory, so nothing may run beside it.
func TestDatabase(t *testing.T) {
	url := postgrestest.New(t)
	// reach runs the command in a folder and returns the application that the database saw.
	reach := func(environ []string, args ...string) (string, error) {
		cmd := &cobra.Command{Use: "x"}
		db := command.DatabaseFlags(cmd, command.Env{Program: "slipway", Environ: environ, Console: console.New(nil, nil, nil, nil)})
		name := ""
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return db.Do(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool) error {
				return pool.QueryRow(ctx, "select current_setting('application_name') || ' ' || current_setting('search_path')").Scan(&name)
			})
		}
		cmd.SetContext(t.Context())
		return name, run(cmd, args...)
	}
	at := func(name string) string { return url + "&search_path=" + name } // tells the addresses apart
	var usage command.UsageError

	t.Chdir(t.TempDir())
	_, err := reach(nil)
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "give --database-url or set DATABASE_URL")
	seen, err := reach([]string{"DATABASE_URL=" + at("variable")})
	require.NoError(t, err)
	require.Equal(t, "slipway-cli variable", seen)

	writeProject(t, "postgres", "redis")
	_, err = reach(nil)
	require.ErrorIs(t, err, devenv.ErrNotRunning)
	require.ErrorContains(t, err, "start slipway dev")
	for _, c := range []struct{ variable, args, want string }{
		{"variable", "", "variable"},
		{"variable", "--service order", "order"},
		{"variable", "--database-url " + at("flag"), "flag"},
		{"variable", "--service order --database-url " + at("flag"), "flag"},
		{"", "", "order"},
	} {
		writeState(t, devenv.Service{Name: "order", DatabaseURL: at("order")})
		var environ []string
		if c.variable != "" {
			environ = []string{"DATABASE_URL=" + at(c.variable)}
		}
		seen, err := reach(environ, strings.Fields(c.args)...)
		require.NoError(t, err, "%v", c)
		require.Equal(t, "slipway-cli "+c.want, seen, "%v", c)
	}
	_, err = reach([]string{"DATABASE_URL=" + at("variable")}, "--service", "mail")
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "there is no service mail with a database in slipway.yaml: choose from order")

	writeProject(t, "postgres", "postgres")
	_, err = reach(nil)
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "choose a service with --service: order, mail")
	_, err = reach(nil, "--service", "mail")
	require.ErrorContains(t, err, "which database of mail?", "the environment that runs does not have it yet")
	writeProject(t, "redis", "redis")
	_, err = reach(nil)
	require.ErrorContains(t, err, "no service of slipway.yaml needs postgres")
}

// writeProject writes a slipway.yaml with two services that need these servers.
func writeProject(t *testing.T, order, mail string) {
	t.Helper()
	text := "version: 1\nservices:\n"
	for i, s := range [][2]string{{"order", order}, {"mail", mail}} {
		require.NoError(t, os.MkdirAll(s[0], 0o755))
		text += fmt.Sprintf("  - name: %s\n    package: ./%s\n    grpc: %d\n    admin: %d\n    needs: [%s]\n", s[0], s[0], 50051+i, 9464+i, s[1])
	}
	require.NoError(t, os.WriteFile("slipway.yaml", []byte(text), 0o644))
}

// writeState makes this process the running slipway dev of the folder.
func writeState(t *testing.T, services ...devenv.Service) {
	t.Helper()
	state, err := json.Marshal(devenv.State{Identity: proc.Self(), Phase: devenv.Ready, Services: services})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(".slipway", "run"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(".slipway", "run", "dev.json"), state, 0o644))
}

func TestDatabase_explains(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	for query, want := range map[string]string{
		"set role pg_monitor; create table public.x ()":           "Use an account",
		"set statement_timeout = '10ms'; select pg_sleep(60)":     "statement_timeout=0",
		"do $$ begin raise sqlstate '55P03'; end $$":              "slipway outbox blockers",
		"do $$ begin raise sqlstate 'P0001'; end $$ -- not known": "P0001",
	} {
		cmd := &cobra.Command{Use: "x"}
		db := command.DatabaseFlags(cmd, command.Env{})
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return db.Do(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool) error {
				conn, err := pool.Acquire(ctx)
				require.NoError(t, err)
				defer conn.Release()
				_, err = conn.Conn().PgConn().Exec(ctx, query).ReadAll()
				return err
			})
		}
		cmd.SetContext(t.Context())
		require.ErrorContains(t, run(cmd, "--database-url", url), want, query)
	}
}
