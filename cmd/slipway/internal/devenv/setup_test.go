package devenv

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// setup returns an environment that has not been started, in a folder of its own
// and with free ports.
func setup(t *testing.T, environ ...string) *Env {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL runs as another account when root runs the tests.
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o755))
	}
	p := &project.Project{Dir: dir, Services: []project.Service{
		{Name: "order", Package: "./order", GRPC: 20051, Admin: 20061, Needs: []string{"postgres", "redis", "nats"}, Calls: map[string]string{"MAIL_ADDR": "mail"}},
		{Name: "mail", Package: "./mail", GRPC: 20052, Admin: 20062},
	}}
	e := New(Config{
		Project: p, Console: console.New(nil, io.Discard, io.Discard, nil), Environ: append([]string{"PATH=" + os.Getenv("PATH")}, environ...),
		PortOffset: freeOffset(t, p), Program: "slipway",
	})
	require.NoError(t, e.at.make())
	return e
}

var (
	offsets    atomic.Int64
	baseOffset = rand.IntN(3000)
)

// freeOffset returns an offset of this test's own: multiples of 20 keep the ports of
// all tests apart.
func freeOffset(t *testing.T, p *project.Project) int {
	t.Helper()
	for range 40 {
		offset := baseOffset + int(20*offsets.Add(1))%800
		if machine.CheckPorts(t.Context(), Ports(p, nil, offset)) == nil {
			return offset
		}
	}
	require.Fail(t, "no free ports")
	return 0
}

// patience is how long a test waits for what must come, and tick how often it looks.
const (
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)
