package devenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// serverTimeout bounds the start of Redis and of NATS.
const serverTimeout = 20 * time.Second

// startRedis takes REDIS_URL, else runs redis-server, else the built-in one.
func (e *Env) startRedis(ctx context.Context) error {
	if given := Lookup(e.cfg.Environ, "REDIS_URL"); given != "" {
		e.servers.redis = given
		return e.addServer(Server{Name: "Redis", Addr: hostOf(given), Source: "from REDIS_URL"})
	}
	addr := loopback(RedisPort + e.cfg.PortOffset)
	e.servers.redis = "redis://" + addr + "/0"
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return e.runMiniredis(addr)
	}
	step := e.progress.Start("starting Redis")
	if err := e.runRedis(ctx, program, addr); err != nil {
		step.Fail()
		return err
	}
	step.Done("Redis at %s, %s", addr, program)
	return e.addServer(Server{Name: "Redis", Addr: addr, Source: program, Data: e.at.redis()})
}

// runRedis runs a private redis-server that keeps its data.
func (e *Env) runRedis(ctx context.Context, program, addr string) error {
	if err := os.MkdirAll(e.at.redis(), 0o755); err != nil {
		return e.at.explain(fmt.Errorf("make folder: %w", err))
	}
	log := filepath.Join(e.at.redis(), "redis.log")
	p, err := proc.Start(proc.Spec{
		Name: "redis", Path: program, Dir: e.at.redis(), Env: e.cfg.Environ,
		Args: []string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(RedisPort + e.cfg.PortOffset),
			"--dir", e.at.redis(), "--logfile", log, "--appendonly", "yes", "--save", "",
		},
	}, e.at.records())
	if err != nil {
		return err
	}
	e.redis = p
	if err := waitRedis(ctx, p, addr); err != nil {
		last := lastLine(log)
		if full := explainFull("start Redis", e.at.redis(), errors.New(last)); full != nil {
			return full
		}
		return fmt.Errorf("start Redis: %w; its log %s ends with: %s", err, log, last)
	}
	e.watch(p, func() error { return ended("Redis", p.Err()) })
	return nil
}

// runMiniredis runs Redis in this process. It forgets its data.
func (e *Env) runMiniredis(addr string) error {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(addr); err != nil {
		return fmt.Errorf("start built-in Redis: %w", err)
	}
	e.redis = builtin{stop: m.Close}
	const source = "built in, keeps nothing (install redis-server for one that does)"
	e.cfg.Console.Notef("  ✓ Redis at %s, %s", addr, source)
	return e.addServer(Server{Name: "Redis", Addr: addr, Source: source})
}

// waitRedis waits until the server answers a PING.
func waitRedis(ctx context.Context, p *proc.Process, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !pings(ctx, addr) {
		select {
		case <-tick.C:
		case <-p.Done():
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for an answer: %w", ctx.Err())
		}
	}
	return nil
}

// pingTimeout bounds one PING: whoever else has the port may not answer at all.
const pingTimeout = 500 * time.Millisecond

func pings(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	_, err = conn.Write([]byte("*1\r\n$4\r\nPING\r\n"))
	answer, errRead := bufio.NewReader(conn).ReadString('\n')
	return err == nil && errRead == nil && answer == "+PONG\r\n"
}

func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "(no log)"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// builtin is a server inside this process.
type builtin struct{ stop func() }

func (b builtin) Stop(context.Context) error { b.stop(); return nil }
func (builtin) Done() <-chan struct{}        { return nil }
func (builtin) Err() error                   { return nil }
