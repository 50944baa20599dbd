package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// compiler asks go for its version in dir: it takes the module's own into account.
func (d Doctor) compiler(ctx context.Context, dir string) Result {
	path, err := exec.LookPath("go")
	if err != nil {
		return fail("there is no go command on the PATH", "install Go: https://go.dev/dl")
	}
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Dir, cmd.Env = dir, d.Environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fail(strings.TrimSpace(string(out)), "install the Go version that go.mod asks for: https://go.dev/dl")
	}
	return ok(fmt.Sprintf("%s (%s)", strings.TrimSpace(string(out)), path))
}

func (d Doctor) account(_ context.Context, p *project.Project) Result {
	if os.Geteuid() != 0 {
		return ok(fmt.Sprintf("user %d", os.Geteuid()))
	}
	place, err := devenv.PostgresPlace(p)
	if err != nil {
		return fail(err.Error(), "run as another account than root")
	}
	return ok("root; PostgreSQL is handed over to another account, with its data in " + place)
}

func (d Doctor) folder(_ context.Context, p *project.Project) Result {
	if err := devenv.Writable(p); err != nil {
		return fail(err.Error(), "")
	}
	return ok(".slipway is writable")
}

// roomy is how much free space gives no cause for a warning.
const roomy = 1 << 30

func (d Doctor) disk(_ context.Context, p *project.Project) Result {
	place, err := devenv.PostgresPlace(p)
	if err != nil {
		place = p.Dir
	}
	least, where := uint64(1<<63), p.Dir
	for _, dir := range []string{p.Dir, place} {
		free, err := machine.Free(dir)
		if err != nil {
			return warn(err.Error(), "")
		}
		if free < least {
			least, where = free, dir
		}
	}
	detail := fmt.Sprintf("%d MB free for %s", least/machine.MB, where)
	switch {
	case least < devenv.MinFree:
		return fail(detail, fmt.Sprintf("free some space: a start needs %d MB", devenv.MinFree/machine.MB))
	case least < roomy:
		return warn(detail, "free some space: builds and databases grow")
	}
	return ok(detail)
}

func (d Doctor) postgres(ctx context.Context, p *project.Project) Result {
	if !p.Needs(project.Postgres) {
		return ok("not needed")
	}
	source, err := devenv.PostgresSource(ctx, p, d.Environ)
	switch {
	case errors.Is(err, devenv.ErrDownload):
		return warn("none is installed and there is no Docker; it will be downloaded",
			"install PostgreSQL to work offline (Debian, Ubuntu: apt install postgresql; macOS: brew install postgresql@17)")
	case err != nil:
		return fail(err.Error(), "")
	}
	return ok(source)
}

func (d Doctor) redis(_ context.Context, p *project.Project) Result {
	if !p.Needs(project.Redis) {
		return ok("not needed")
	}
	if devenv.Lookup(d.Environ, "REDIS_URL") != "" {
		return ok("REDIS_URL is set")
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		return ok(path)
	}
	return warn("the built-in one, which keeps nothing over a restart", "install redis-server for one that does")
}

func (d Doctor) nats(_ context.Context, p *project.Project) Result {
	switch {
	case !p.Needs(project.NATS):
		return ok("not needed")
	case devenv.Lookup(d.Environ, "BROKER_URL") != "":
		return ok("BROKER_URL is set")
	}
	return ok("built in")
}

func (d Doctor) ports(ctx context.Context, p *project.Project) Result {
	if state, err := devenv.Find(p); err == nil {
		return ok(fmt.Sprintf("in use by slipway dev, process %d", state.PID))
	}
	ports := devenv.Ports(p, d.Environ, d.PortOffset)
	err := machine.CheckPorts(ctx, ports)
	var taken *machine.TakenError
	switch {
	case errors.As(err, &taken):
		return fail(err.Error(), "stop what holds them, or move all ports: "+d.Program+" dev --port-offset "+
			fmt.Sprint(d.PortOffset+machine.FreeOffset(ctx, ports, 100)))
	case err != nil:
		return fail(err.Error(), "choose other ports with --port-offset")
	}
	return ok(fmt.Sprintf("all %d are free", len(ports)))
}

func (d Doctor) leftovers(_ context.Context, p *project.Project) Result {
	if _, err := devenv.Find(p); err == nil {
		return ok("none")
	}
	if names := devenv.Left(p); len(names) > 0 {
		return warn("left by an earlier run: "+strings.Join(names, ", "), "the next start ends them, and so does: "+d.Program+" dev stop")
	}
	return ok("none")
}

// prometheus looks for what the alert rules can be tried with.
func (d Doctor) prometheus(context.Context, *project.Project) Result {
	var missing []string
	for _, program := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return warn("not installed: "+strings.Join(missing, ", "), "optional: install Prometheus to collect the services' metrics")
	}
	return ok("installed (optional)")
}
