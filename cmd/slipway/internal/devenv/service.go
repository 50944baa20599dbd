package devenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// service is a running service.
type service struct {
	project.Service
	addr    string
	process *proc.Process
	output  *logview.Stream
}

func (s *service) stop(ctx context.Context) error {
	defer s.output.Flush()
	return s.process.Stop(ctx)
}

// died describes the end of a service that nobody stopped.
func (s *service) died() error {
	s.output.Flush()
	return fmt.Errorf("%w; its last lines were:\n%s", ended(s.Name, s.process.Err()), strings.TrimRight(s.output.Last(), "\n"))
}

func ended(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s ended by itself, with exit code 0", name)
	}
	return fmt.Errorf("%s ended: %w", name, err)
}

// build compiles the services, one after the other: they share most packages.
func (e *Env) build(ctx context.Context) error {
	compiler, err := exec.LookPath("go")
	if err != nil {
		return errors.New("build services: there is no go command on the PATH: install Go from https://go.dev/dl")
	}
	if err := errors.Join(os.RemoveAll(e.at.build()), os.MkdirAll(e.at.build(), 0o755)); err != nil {
		return e.at.explain(fmt.Errorf("make folder for the compiler: %w", err))
	}
	defer os.RemoveAll(e.at.build())
	for _, s := range e.cfg.Project.Services {
		step := e.progress.Start("building " + s.Name)
		if err := e.buildOne(ctx, compiler, s); err != nil {
			step.Fail()
			return err
		}
		step.Done("built %s", s.Name)
	}
	return nil
}

// buildScript runs the compiler so that it ends with everything that it has started:
// go build leaves its compile and link processes running when it is killed. The
// shell gets SIGTERM when this process asks for it or is gone, and kills its group.
const buildScript = `trap 'kill -KILL 0' TERM; "$0" "$@" & wait $!`

func (e *Env) buildOne(ctx context.Context, compiler string, s project.Service) error {
	output := &strings.Builder{}
	p, err := proc.Start(proc.Spec{
		Name: "build-" + s.Name, Path: "/bin/sh", Dir: e.cfg.Project.Dir, Output: output,
		Env:         append(slices.Clone(e.cfg.Environ), "GOTMPDIR="+e.at.build()),
		Args:        []string{"-c", buildScript, compiler, "build", "-o", e.at.bin(s.Name), "./" + filepath.ToSlash(filepath.Clean(s.Package))},
		DeathSignal: syscall.SIGTERM,
	}, e.at.records())
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
	err = p.Stop(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", s.Name, ctx.Err())
	}
	if full := explainFull("build "+s.Name, e.at.root, errors.New(output.String())); full != nil {
		return full
	}
	if err != nil {
		return fmt.Errorf("build %s: it does not compile:\n%s", s.Name, strings.TrimSpace(output.String()))
	}
	return nil
}

// launch starts the services and waits until they are ready.
func (e *Env) launch(ctx context.Context) error {
	for _, s := range e.cfg.Project.Services {
		if err := e.run(s); err != nil {
			return err
		}
	}
	group, waiting := errgroup.WithContext(ctx)
	group.Go(func() error { return e.startObservability(waiting) })
	for _, s := range e.services {
		group.Go(func() error {
			step := e.progress.Start("waiting for " + s.Name)
			if err := s.waitReady(waiting); err != nil {
				step.Fail()
				return err
			}
			step.Done("%s is ready at %s", s.Name, s.addr)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, s := range e.services {
		e.watch(s.process, s.died)
	}
	return nil
}

func (e *Env) run(s project.Service) error {
	at := e.servers
	at.database = e.databases[s.Name]
	running := &service{Service: s, addr: loopback(s.GRPC + e.cfg.PortOffset), output: e.view.Stream(s.Name)}
	var output io.Writer = running.output
	if log, err := e.openLog(s.Name); err != nil {
		return err
	} else if log != nil {
		output = io.MultiWriter(output, log)
	}
	p, err := proc.Start(proc.Spec{
		Name: s.Name, Path: e.at.bin(s.Name), Dir: e.cfg.Project.Dir, Env: e.environment(s, at), Output: output,
	}, e.at.records())
	if err != nil {
		return err
	}
	running.process = p
	e.services = append(e.services, running)
	return e.state.update(func(st *State) {
		st.Services = append(st.Services, Service{
			Name: s.Name, PID: p.PID(), GRPC: running.addr,
			Admin: loopback(s.Admin + e.cfg.PortOffset), DatabaseURL: at.database,
		})
	})
}

// readyTimeout is how long a service may take until it is ready.
const readyTimeout = 60 * time.Second

// waitReady asks the health service until it says that readiness is SERVING.
func (s *service) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client, err := dialHealth(s.addr)
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer := askReadiness(ctx, client)
		if answer == serving {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.process.Done():
			return s.died()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("wait for %s: %w", s.Name, ctx.Err())
			}
			return fmt.Errorf("%s is not ready after %s: its health service says %q of readiness; its last lines were:\n%s",
				s.Name, readyTimeout, answer, s.output.Last())
		}
	}
}

const serving = "SERVING"

func dialHealth(addr string) (*grpc.ClientConn, error) {
	client, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return client, nil
}

// askReadiness returns a status of the health service, or why there is none.
func askReadiness(ctx context.Context, client *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "readiness"})
	if err != nil {
		return err.Error()
	}
	return answer.GetStatus().String()
}

// Readiness asks a running service for its readiness: SERVING, NOT_SERVING, or why
// it does not answer.
func (s Service) Readiness(ctx context.Context) string {
	client, err := dialHealth(s.GRPC)
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	return askReadiness(ctx, client)
}
