package devenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// image is what PostgreSQL runs from in Docker.
const image = "postgres:17-alpine"

// dockerCredential is under which name the superuser's password is kept.
const dockerCredential = "superuser in Docker"

// containerName is that of the project's container and of its volume.
func (l layout) containerName() string {
	sum := sha256.Sum256([]byte(l.root))
	return fmt.Sprintf("slipway-%x", sum[:6])
}

// dockerAnswers says why Docker cannot be used, or nil.
func dockerAnswers(ctx context.Context, environ []string) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("there is no docker command")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return docker(ctx, environ, "version", "--format", "{{.Server.Version}}")
}

// docker runs a command of the docker program.
func docker(ctx context.Context, environ []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var problem bytes.Buffer
	cmd.Env, cmd.Stderr, cmd.WaitDelay = environ, &problem, time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("docker %s: no answer: %w", args[0], ctx.Err())
		}
		return fmt.Errorf("docker %s: %s", args[0], cmp.Or(strings.TrimSpace(problem.String()), err.Error()))
	}
	return nil
}

// container is PostgreSQL in Docker. The docker program stays attached to it and
// passes signals on, also the one that it gets when this process is gone.
type container struct {
	*proc.Process
	name    string
	environ []string
}

// runContainer starts PostgreSQL in a container. Its data is in a volume.
func (e *Env) runContainer(ctx context.Context) (database, error) {
	name := e.at.containerName()
	password, err := e.credential(dockerCredential)
	if err != nil {
		return database{}, err
	}
	_ = docker(ctx, e.cfg.Environ, "rm", "--force", name) // left by an earlier run
	program, err := exec.LookPath("docker")
	if err != nil {
		return database{}, fmt.Errorf("find docker: %w", err)
	}
	port := PostgresPort + e.cfg.PortOffset
	output := logview.New(discard{}, logview.Text, false, nil).Stream("docker")
	p, err := proc.Start(proc.Spec{
		Name: "docker", Path: program, Dir: e.at.root, Output: output,
		Args: []string{
			"run", "--rm", "--name", name, "--publish", loopback(port) + ":5432",
			"--volume", name + ":/var/lib/postgresql/data", "--env", "POSTGRES_PASSWORD", image,
		},
		Env:        append(e.cfg.Environ[:len(e.cfg.Environ):len(e.cfg.Environ)], "POSTGRES_PASSWORD="+password),
		StopSignal: syscall.SIGINT, DeathSignal: syscall.SIGINT,
	}, e.at.records())
	if err != nil {
		return database{}, err
	}
	c := &container{Process: p, name: name, environ: e.cfg.Environ}
	admin := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password),
		Host: loopback(port), Path: "/postgres", RawQuery: "sslmode=disable",
	}
	if err := c.waitReady(ctx, admin.String()); err != nil {
		stopErr := c.Stop(context.WithoutCancel(ctx))
		if full := explainFull("start PostgreSQL in Docker", e.at.root, errors.New(output.Last())); full != nil {
			return database{}, full
		}
		return database{}, errors.Join(fmt.Errorf("start PostgreSQL in Docker: %w; docker said:\n%s", err, output.Last()), stopErr)
	}
	return database{server: c, adminURL: admin.String(), source: image + " in Docker, container " + name, data: "Docker volume " + name}, nil
}

// pullTimeout bounds the start of a container, with the download of its image.
const pullTimeout = 5 * time.Minute

func (c *container) waitReady(ctx context.Context, adminURL string) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, adminURL)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-c.Done():
			return errors.New("the container ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for connections: %w", err)
		}
	}
}

// Stop ends the container in order or, when ctx is over, at once.
func (c *container) Stop(ctx context.Context) error {
	_ = docker(ctx, c.environ, "stop", "-t", "10", c.name)
	err := c.Process.Stop(ctx)
	if errors.Is(err, proc.ErrKilled) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		removeErr := docker(ctx, c.environ, "rm", "--force", c.name)
		return errors.Join(err, removeErr)
	}
	return nil // docker hands on the exit code of PostgreSQL, which is none of a failure here
}

// removeVolume deletes the data of the container, if it ever had any.
func removeVolume(ctx context.Context, e *Env) error {
	if !e.hasCredential(dockerCredential) {
		return nil
	}
	if err := dockerAnswers(ctx, e.cfg.Environ); err != nil {
		return fmt.Errorf("remove Docker volume %s: %w", e.at.containerName(), err)
	}
	_ = docker(ctx, e.cfg.Environ, "rm", "--force", e.at.containerName())
	return docker(ctx, e.cfg.Environ, "volume", "rm", "--force", e.at.containerName())
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
