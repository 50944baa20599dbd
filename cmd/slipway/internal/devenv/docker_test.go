package devenv

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// fakeDocker stands in for the docker program: it writes down how it is called, and
// a container is a process that waits for SIGINT.
const fakeDocker = `#!/bin/sh
echo "$@" >>"$DOCKER_LOG"
case $1 in
run) trap 'exit 0' INT; echo $$ >"$DOCKER_LOG.pid"; echo "password ${#POSTGRES_PASSWORD}" >>"$DOCKER_LOG"; while :; do sleep 0.01; done ;;
stop) kill -INT "$(cat "$DOCKER_LOG.pid")" ;;
esac
`

func TestEnv_runContainer(t *testing.T) { //nolint:paralleltest // changes the PATH
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "docker"), []byte(fakeDocker), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	log := filepath.Join(bin, "log")
	e := setup(t, "DOCKER_LOG="+log)

	// What listens on the container's port is a private server with its password.
	port := PostgresPort + e.cfg.PortOffset
	server, err := pgserver.Start(t.Context(), pgserver.Config{Dir: e.at.postgres(), Port: port, Fast: true})
	if err != nil {
		t.Skipf("no PostgreSQL: %v", err)
	}
	defer func() { require.NoError(t, server.Stop(t.Context())) }()
	password := passwordOf(t, server.URL("postgres"))
	require.NoError(t, proc.WriteFile(e.at.credentials(), map[string]string{dockerCredential: password}))

	require.NoError(t, dockerAnswers(t.Context(), e.cfg.Environ))
	db, err := e.runContainer(t.Context())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", strings.Split(hostOf(db.adminURL), ":")[0])
	require.NoError(t, db.server.Stop(t.Context()))
	require.NoError(t, removeVolume(t.Context(), e))

	name := e.at.containerName()
	calls, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		"version --format {{.Server.Version}}",
		"rm --force " + name,
		"run --rm --name " + name + " --publish " + loopback(port) + ":5432 --volume " + name + ":/var/lib/postgresql/data --env POSTGRES_PASSWORD postgres:17-alpine",
		"password 26",
		"stop -t 10 " + name,
		"version --format {{.Server.Version}}",
		"rm --force " + name,
		"volume rm --force " + name, "",
	}, "\n"), string(calls))
}

func passwordOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	password, _ := u.User.Password()
	return password
}
