package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is a PostgreSQL server that this process runs. Its methods may be
// called from several goroutines.
type Server struct {
	cfg      Config
	layout   layout
	account  account
	bin      Binaries
	port     int
	password string

	mu      sync.Mutex
	lock    *os.File
	socket  string
	process *process
	logFrom int64
	stopped bool // by Stop or Kill
}

// Start makes a cluster in cfg.Dir when there is none, starts its server and
// returns when it accepts connections. ctx bounds the start only: the server
// runs until Stop, Kill or the end of this process. The errors that an operator
// can mend are those of this package, for errors.Is.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, (*Server).initialize)
}

// start makes the cluster with the function when there is none.
func start(ctx context.Context, cfg Config, fill func(*Server, context.Context) error) (*Server, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	s := &Server{cfg: cfg, port: cfg.Port}
	if err := s.prepare(ctx, fill); err != nil {
		s.release()
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.launch(ctx); err != nil {
		s.release()
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s, nil
}

// prepare ends with a complete cluster that nobody uses.
func (s *Server) prepare(ctx context.Context, fill func(*Server, context.Context) error) error {
	var err error
	if s.layout, err = newLayout(s.cfg.Dir); err != nil {
		return err
	}
	if s.account, err = accountFor(s.layout.data()); err != nil {
		return err
	}
	if s.bin, err = s.layout.binaries(ctx, s.cfg.BinDir); err != nil {
		return err
	}
	if err := s.account.reach(s.bin.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.layout.dir, 0o755); err != nil {
		return wrapIO(fmt.Errorf("make folder: %w", err), s.layout)
	}
	if err := s.account.reach(s.layout.dir); err != nil {
		return err
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(s.layout.data()); errors.Is(err, os.ErrNotExist) {
		if err := fill(s, ctx); err != nil {
			return err
		}
	}
	password, err := os.ReadFile(s.layout.password())
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	s.password = string(password)
	return nil
}

// acquire takes the folder and ends what a dead owner left in it.
func (s *Server) acquire(ctx context.Context) error {
	lock, err := s.layout.acquire()
	if err != nil {
		return wrapIO(err, s.layout)
	}
	s.lock = lock
	return s.layout.clean(ctx)
}

// release gives the folder back.
func (s *Server) release() {
	if isShortRun(s.socket) {
		_ = os.RemoveAll(s.socket)
	}
	if s.lock != nil {
		release(s.lock)
	}
	s.lock, s.socket = nil, ""
}

// launch runs the server and waits until it is ready.
func (s *Server) launch(ctx context.Context) error {
	var err error
	if s.socket, err = s.layout.runDir(s.account); err != nil {
		return wrapIO(fmt.Errorf("make socket folder: %w", err), s.layout)
	}
	if s.port != 0 {
		return s.launchOn(ctx, s.port)
	}
	// Between finding a free port and using it another program may take it.
	for range 5 {
		var port int
		if port, err = freePort(ctx); err != nil {
			return err
		}
		if err = s.launchOn(ctx, port); !errors.Is(err, ErrPortTaken) {
			s.port = port
			return err
		}
	}
	return err
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) launchOn(ctx context.Context, port int) error {
	log, offset, err := s.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.bin.path("postgres"), s.arguments(port)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.layout.dir
	p, err := s.account.start(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	s.process, s.logFrom, s.stopped = p, offset, false
	return s.waitReady(ctx, port)
}

func (s *Server) arguments(port int) []string {
	settings := map[string]string{
		"log_timezone": "UTC", "timezone": "UTC",
		"log_line_prefix": "%m [%p] %q%u@%d %a ",
	}
	if s.cfg.Fast {
		maps.Copy(settings, map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
		})
	}
	maps.Copy(settings, s.cfg.Settings)
	maps.Copy(settings, map[string]string{
		"cluster_name":            s.layout.clusterName(),
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": s.socket,
	})
	args := []string{"-D", s.layout.data()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// waitReady reads what the postmaster says of itself, as pg_ctl does.
func (s *Server) waitReady(ctx context.Context, port int) error {
	p := s.process
	ready := func() bool {
		f, ok := s.layout.readPIDFile()
		return p.ended() || ok && f.pid == p.pid && (f.status == "ready" || f.status == "standby")
	}
	if err := poll(ctx, s.cfg.StartTimeout, ready); err != nil {
		s.stopNow(context.WithoutCancel(ctx), p)
		return fmt.Errorf("wait until it accepts connections: %w (log: %s)", err, s.layout.log())
	}
	if p.ended() {
		return explain(readFrom(s.layout.log(), s.logFrom), s.layout, port)
	}
	return nil
}

// URL returns the address of a database for the superuser, over TCP.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password),
		Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Addr returns host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// SocketDir returns the folder of the unix socket, which needs no password.
func (s *Server) SocketDir() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket
}

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return s.layout.log() }

// Binaries returns the installation that the server runs from.
func (s *Server) Binaries() Binaries { return s.bin }

// Done is closed when the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.done
}

// Err says why a server ended that nobody stopped, ErrDiskFull for instance. It
// is nil while the server runs, after a clean end, and after Stop and Kill.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.process.ended() || s.process.err == nil || s.stopped {
		return nil
	}
	return explain(readFrom(s.layout.log(), s.logFrom), s.layout, s.port)
}

// stopTimeout bounds Stop when its context has no deadline.
const stopTimeout = 10 * time.Second

// Stop ends the server: sessions are cut and everything is written. When ctx
// (at most ten seconds) is over first, the server is ended at once, which costs
// the next start a recovery, and Stop returns an error that says so.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.release()
	p := s.process
	if p.ended() {
		return nil
	}
	s.stopped = true
	familyOf(s.layout).signal(syscall.SIGCONT) // a paused server could not end
	p.interrupt()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		s.stopNow(context.WithoutCancel(ctx), p)
		return fmt.Errorf("stop PostgreSQL: %w: ended it at once, the next start recovers", ctx.Err())
	}
}

// stopNow ends the server without a checkpoint and leaves no process.
func (s *Server) stopNow(ctx context.Context, p *process) {
	_ = syscall.Kill(p.pid, syscall.SIGQUIT)
	ended := func() bool { return p.ended() }
	if poll(ctx, 5*time.Second, ended) != nil {
		_ = s.killAll(ctx, p)
	}
}

// Kill ends every process of the server with SIGKILL, as a crash would.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.release()
	s.stopped = s.stopped || !s.process.ended()
	return s.killAll(context.Background(), s.process)
}

func (s *Server) killAll(ctx context.Context, p *process) error {
	gone := func() bool {
		f := familyOf(s.layout)
		f.signal(syscall.SIGKILL)
		return f.empty() && p.ended()
	}
	if err := poll(ctx, 10*time.Second, gone); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

// Restart starts the server again after Stop or Kill, on the same port.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.process.ended() {
		return errors.New("restart PostgreSQL: it is running")
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	s.release()
	err := s.acquire(ctx)
	if err == nil {
		err = s.launch(ctx)
	}
	if err != nil {
		s.release()
		return fmt.Errorf("restart PostgreSQL: %w", err)
	}
	return nil
}

// Pause freezes every process of the server, as a hung machine would: it keeps
// its connections and answers nothing.
func (s *Server) Pause() error { return s.signalAll(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return s.signalAll(syscall.SIGCONT) }

func (s *Server) signalAll(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := familyOf(s.layout)
	if f.postmaster == 0 {
		return errors.New("signal PostgreSQL: it is not running")
	}
	_ = syscall.Kill(f.postmaster, sig)
	familyOf(s.layout).signal(sig) // with the children forked until just now
	return nil
}

// hostPort splits Addr for programs that want both.
func (s *Server) hostPort() (host, port string) {
	host, port, _ = strings.Cut(s.Addr(), ":")
	return host, port
}
