// Package redistest gives each test a Redis server of its own, so that tests may run side by
// side and one may stop, restart or pause its server without the others noticing.
//
// The servers are processes of an installed redis-server or valkey-server, else containers if
// Docker answers, else miniredis inside the test process. Which of them is decided once and
// printed to standard error. Nothing is left behind, not even by a test binary that is killed.
package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
)

// patience bounds everything that waits for a server.
const patience = 30 * time.Second

// Server is a Redis server that belongs to one test, empty and without persistence. Its methods
// fail the test when they cannot do their work; call them from the goroutine of the test.
type Server struct {
	tb      testing.TB
	backend backend
}

// backend is where a server runs.
type backend interface {
	addr() string
	stop()
	start() error
	pause()
	resume()
}

// New returns a client of a new server. Both are closed when the test ends.
func New(tb testing.TB) *redis.Client {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: Start(tb).Addr(), DisableIdentity: true})
	tb.Cleanup(func() { client.Close() })
	return client
}

// Start returns a new server, which ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return &Server{tb: tb, backend: decide().start(tb)}
}

// StartMini returns a new miniredis whatever is installed, for code that must work on it too.
func StartMini(tb testing.TB) *Server {
	tb.Helper()
	return &Server{tb: tb, backend: startMini(tb)}
}

// Addr returns the server's host:port. It stays the same for the server's life.
func (s *Server) Addr() string { return s.backend.addr() }

// URL returns redis://host:port/0.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Stop ends the server as a crash does: connections break, new ones are refused.
func (s *Server) Stop() { s.backend.stop() }

// Restart stops the server if it runs and starts it empty at the same address.
func (s *Server) Restart() {
	s.tb.Helper()
	s.backend.stop()
	if err := s.backend.start(); err != nil {
		s.tb.Fatalf("restart redis: %v", err)
	}
}

// Pause makes the server hang: it accepts connections and answers nothing.
func (s *Server) Pause() { s.backend.pause() }

// Resume ends a Pause.
func (s *Server) Resume() { s.backend.resume() }

// proxied is a server that cannot be stopped or paused itself: the way to it can.
type proxied struct {
	proxy  *faultproxy.Proxy
	target string
}

func newProxied(tb testing.TB, target string) *proxied {
	tb.Helper()
	return &proxied{proxy: faultproxy.Start(tb, target), target: target}
}

func (p *proxied) addr() string { return p.proxy.Addr() }
func (p *proxied) pause()       { p.proxy.SetFault(faultproxy.Fault{Stall: true}) }
func (p *proxied) resume()      { p.proxy.SetFault(faultproxy.Fault{}) }

func (p *proxied) stop() {
	p.proxy.SetFault(faultproxy.Fault{Refuse: true})
	p.proxy.Cut()
}

// start forgets what a restarted process would have forgotten.
func (p *proxied) start() error {
	client := redis.NewClient(&redis.Options{Addr: p.target, DisableIdentity: true})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := client.ScriptFlush(ctx).Err(); err != nil {
		return err
	}
	p.proxy.SetFault(faultproxy.Fault{})
	return nil
}
