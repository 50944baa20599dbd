package devenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
)

// natsSync is how often JetStream syncs its files to disk. An acknowledged message
// survives the end of slipway dev at any moment, kill -9 included, but not a power
// cut within this time. The server's own default is two minutes.
const natsSync = 10 * time.Second

// startNATS takes BROKER_URL, else runs the built-in server with JetStream.
func (e *Env) startNATS(ctx context.Context) error {
	if given := Lookup(e.cfg.Environ, "BROKER_URL"); given != "" {
		e.servers.broker = given
		return e.addServer(Server{Name: "NATS", Addr: hostOf(given), Source: "from BROKER_URL"})
	}
	step := e.progress.Start("starting NATS")
	addr := loopback(NATSPort + e.cfg.PortOffset)
	if err := e.runNATS(ctx); err != nil {
		step.Fail()
		return err
	}
	e.servers.broker = "nats://" + addr
	source := fmt.Sprintf("built in, JetStream on disk, synced every %s", natsSync)
	step.Done("NATS at %s, %s", addr, source)
	return e.addServer(Server{Name: "NATS", Addr: addr, Source: source, Data: e.at.nats()})
}

func (e *Env) runNATS(ctx context.Context) error {
	if err := os.MkdirAll(e.at.nats(), 0o755); err != nil {
		return e.at.explain(fmt.Errorf("make folder: %w", err))
	}
	log, err := os.OpenFile(filepath.Join(e.at.nats(), "nats.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return e.at.explain(fmt.Errorf("open log of NATS: %w", err))
	}
	s, err := natsserver.NewServer(&natsserver.Options{
		ServerName: "slipway-dev", Host: "127.0.0.1", Port: NATSPort + e.cfg.PortOffset,
		JetStream: true, StoreDir: e.at.nats(), SyncInterval: natsSync,
		NoSigs: true, DisableJetStreamBanner: true,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("configure NATS: %w", err), log.Close())
	}
	logger := &natsLog{file: log, full: func(line string) {
		if err := machine.DiskFull("NATS", e.at.nats(), line); err != nil {
			e.cfg.Console.Notef("  ! %v", err)
		}
	}}
	s.SetLoggerV2(logger, false, false, false)
	e.nats = builtin{stop: func() {
		s.Shutdown()
		s.WaitForShutdown()
		_ = log.Close()
	}}
	go s.Start()
	return waitNATS(ctx, s, logger)
}

func waitNATS(ctx context.Context, s *natsserver.Server, log *natsLog) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	for !s.ReadyForConnections(100 * time.Millisecond) {
		if fatal := log.fatalText(); fatal != "" {
			if full := machine.DiskFull("start NATS", filepath.Dir(log.file.Name()), fatal); full != nil {
				return full
			}
			return fmt.Errorf("start NATS: %s", fatal)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("start NATS: wait until it is ready: %w", ctx.Err())
		}
	}
	return nil
}

// natsLog writes the server's log to a file. The server's own logger would end the
// program on a fatal error.
type natsLog struct {
	file *os.File
	full func(line string) // told once about a line of an error

	mu    sync.Mutex
	fatal string
	once  sync.Once
}

func (l *natsLog) write(level, format string, args []any) string {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(l.file, "%s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), level, line)
	return line
}

func (l *natsLog) Noticef(format string, args ...any) { l.write("INFO", format, args) }
func (l *natsLog) Warnf(format string, args ...any)   { l.problem("WARN", format, args) }
func (l *natsLog) Errorf(format string, args ...any)  { l.problem("ERROR", format, args) }
func (l *natsLog) Debugf(string, ...any)              {}
func (l *natsLog) Tracef(string, ...any)              {}

func (l *natsLog) Fatalf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = l.write("FATAL", format, args)
}

func (l *natsLog) fatalText() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// problem passes the first line on that tells of a full disk.
func (l *natsLog) problem(level, format string, args []any) {
	if line := l.write(level, format, args); machine.DiskFull("", "/", line) != nil {
		l.once.Do(func() { l.full(line) })
	}
}
