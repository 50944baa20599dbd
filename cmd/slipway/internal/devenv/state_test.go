package devenv

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

func TestFind(t *testing.T) {
	t.Parallel()
	e := setup(t)
	p := e.cfg.Project
	_, err := Find(p)
	require.ErrorIs(t, err, ErrNotRunning)

	require.NoError(t, e.state.update(func(s *State) {
		s.Identity, s.Phase = proc.Self(), Ready
		s.Services = []Service{{Name: "order", DatabaseURL: "postgres://order"}, {Name: "mail"}}
	}))
	found, err := Find(p)
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), found.PID)
	require.ErrorIs(t, Idle(p, "slipway"), ErrRunning)
	url, ok := found.DatabaseURL("order")
	require.True(t, ok)
	require.Equal(t, "postgres://order", url)
	_, ok = found.DatabaseURL("mail")
	require.False(t, ok)

	require.NoError(t, e.state.update(func(s *State) { s.Started = "long ago" }))
	_, err = Find(p)
	require.ErrorIs(t, err, ErrNotRunning, "another process has the pid by now")
	require.NoError(t, Idle(p, "slipway"))
}

func TestEndLeft(t *testing.T) {
	t.Parallel()
	e := setup(t)
	left := exec.Command("sleep", "600")
	require.NoError(t, left.Start())
	_, err := e.at.records().Add("redis", left.Process.Pid, syscall.SIGTERM)
	require.NoError(t, err)

	lock, err := proc.TakeLock(e.at.lock())
	require.NoError(t, err)
	names, err := EndLeft(e.cfg.Project)
	require.NoError(t, err)
	require.Empty(t, names, "it is not left behind while an environment runs")
	require.NoError(t, lock.Release())
	require.Equal(t, []string{"redis"}, Left(e.cfg.Project))

	ended := make(chan error, 1)
	go func() { ended <- left.Wait() }()
	names, err = EndLeft(e.cfg.Project)
	require.NoError(t, err)
	require.Equal(t, []string{"redis"}, names)
	require.EqualError(t, <-ended, "signal: terminated")
	require.Empty(t, Left(e.cfg.Project))
}

func TestEnv_Start_refusesASecondOne(t *testing.T) {
	t.Parallel()
	e := setup(t)
	lock, err := proc.TakeLock(e.at.lock())
	require.NoError(t, err)
	require.ErrorIs(t, e.Start(t.Context()), ErrRunning)
	require.NoError(t, e.Stop(t.Context()), "which stops nothing")
	require.NoError(t, lock.Release())
}

func TestLayout_explain(t *testing.T) {
	t.Parallel()
	at := setup(t).at
	require.ErrorContains(t, at.explain(os.ErrPermission), "sudo chown -R")
	require.ErrorContains(t, at.explain(syscall.ENOSPC), "disk full")
	require.Equal(t, os.ErrClosed, at.explain(os.ErrClosed))
}

func TestState_Summary(t *testing.T) {
	t.Parallel()
	s := State{
		Dir: "/shop/.slipway", Phase: Ready, Since: time.Now(), Try: []string{"go run ./shopper --target $order"},
		Servers: []Server{
			{Name: "PostgreSQL", Addr: "127.0.0.1:15432", Source: "PostgreSQL 17 of /usr/bin", Data: "/shop/.slipway/postgres"},
			{Name: "Redis", Addr: "127.0.0.1:16379", Source: "built in"},
		},
		Services: []Service{
			{Name: "order", GRPC: "127.0.0.1:50051", Admin: "127.0.0.1:9464", DatabaseURL: "postgres://order:p@127.0.0.1:15432/order"},
			{Name: "mail", GRPC: "127.0.0.1:50052", Admin: "127.0.0.1:9465"},
		},
	}
	var text strings.Builder
	s.Summary(&text, "slipway")
	require.Equal(t, `  order       gRPC     127.0.0.1:50051
              metrics  http://127.0.0.1:9464/metrics
              tables   psql 'postgres://order:p@127.0.0.1:15432/order'
  mail        gRPC     127.0.0.1:50052
              metrics  http://127.0.0.1:9465/metrics
  PostgreSQL  127.0.0.1:15432 (PostgreSQL 17 of /usr/bin)
  Redis       127.0.0.1:16379 (built in)
  data        /shop/.slipway
              /shop/.slipway/postgres

  try         go run ./shopper --target 127.0.0.1:50051
  stop        Ctrl-C, or slipway dev stop
  start over  slipway dev --fresh
`, text.String())

	s.Log = "/shop/.slipway/dev.log"
	text.Reset()
	s.Summary(&text, "slipway")
	require.Contains(t, text.String(), "log         /shop/.slipway/dev.log\n")
	require.Contains(t, text.String(), "stop        slipway dev stop\n")
}
