package doctor_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/doctor"
)

const file = `
version: 1
services:
  - { name: order, package: ./order, grpc: 1, admin: 20061, needs: [postgres, redis, nats] }
`

func TestDoctor_Examine(t *testing.T) { //nolint:paralleltest // changes the PATH
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "order"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "slipway.yaml"), []byte(file), 0o644))
	d := doctor.Doctor{Program: "slipway", PortOffset: 21000}

	t.Run("reports each check of a project", func(t *testing.T) {
		results := d.Examine(t.Context(), dir)
		var names []string
		for _, r := range results {
			names = append(names, r.Name)
			require.NotEmpty(t, r.Detail, r.Name)
			require.True(t, r.Status != doctor.Warn || r.Mend != "", "%s says how to mend it", r.Name)
		}
		require.Equal(t, []string{
			"project", "go", "account", "folder", "disk space", "postgresql", "redis", "nats", "ports", "leftovers", "prometheus",
		}, names)
		require.Equal(t, doctor.OK, find(t, results, "go").Status)
		require.Equal(t, doctor.OK, find(t, results, "nats").Status)
	})

	t.Run("does not fail for what is optional or built in", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		results := d.Examine(t.Context(), dir)
		require.Equal(t, doctor.Fail, find(t, results, "go").Status)
		require.Equal(t, doctor.Warn, find(t, results, "redis").Status)
		require.Equal(t, doctor.Warn, find(t, results, "prometheus").Status)
		require.True(t, doctor.Failed(results))
	})

	t.Run("tries the server of DATABASE_URL", func(t *testing.T) {
		given := doctor.Doctor{Environ: []string{"DATABASE_URL=postgres://x@127.0.0.1:1/x", "REDIS_URL=r", "BROKER_URL=n"}}
		results := given.Examine(t.Context(), dir)
		require.Equal(t, doctor.Fail, find(t, results, "postgresql").Status)
		require.Contains(t, find(t, results, "postgresql").Detail, "connect to the server of DATABASE_URL")
		require.Equal(t, "REDIS_URL is set", find(t, results, "redis").Detail)
		require.Equal(t, "BROKER_URL is set", find(t, results, "nats").Detail)
	})

	t.Run("fails without a project", func(t *testing.T) {
		results := d.Examine(t.Context(), t.TempDir())
		require.Equal(t, doctor.Fail, find(t, results, "project").Status)
		require.True(t, doctor.Failed(results))
		require.False(t, doctor.Failed(results[1:]))
	})
}

func find(t *testing.T, results []doctor.Result, name string) doctor.Result {
	t.Helper()
	for _, r := range results {
		if r.Name == name {
			return r
		}
	}
	require.Fail(t, "no such check", name)
	return doctor.Result{}
}
