package devenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// layout is where the parts of an environment are.
type layout struct{ root string }

func layoutOf(p *project.Project) layout { return layout{root: filepath.Join(p.Dir, ".slipway")} }

func (l layout) bin(service string) string { return filepath.Join(l.root, "bin", service) }
func (l layout) build() string             { return filepath.Join(l.root, "build") }
func (l layout) postgres() string          { return filepath.Join(l.root, "postgres") }
func (l layout) redis() string             { return filepath.Join(l.root, "redis") }
func (l layout) nats() string              { return filepath.Join(l.root, "nats") }
func (l layout) observability() string     { return filepath.Join(l.root, "observability") }
func (l layout) logs() string              { return filepath.Join(l.root, "logs") }
func (l layout) credentials() string       { return filepath.Join(l.root, "credentials.json") }
func (l layout) log() string               { return filepath.Join(l.root, "dev.log") }
func (l layout) run() string               { return filepath.Join(l.root, "run") }
func (l layout) lock() string              { return filepath.Join(l.run(), "lock") }
func (l layout) state() string             { return filepath.Join(l.run(), "dev.json") }
func (l layout) records() proc.Records     { return proc.Records{Dir: l.run()} }

// make creates the folders that are there in any case.
func (l layout) make() error {
	for _, dir := range []string{l.root, l.run(), l.bin("")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return l.explain(fmt.Errorf("make folder: %w", err))
		}
	}
	// What is in here belongs to this machine only.
	ignore := filepath.Join(l.root, ".gitignore")
	if _, err := os.Stat(ignore); err == nil {
		return nil
	}
	return l.explain(os.WriteFile(ignore, []byte("*\n"), 0o644))
}

// explain says what to do about the usual reasons for which the folder cannot be
// written to.
func (l layout) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %s must be writable for you; if another account made it: sudo chown -R %d %s", err, l.root, os.Getuid(), l.root)
	}
	if full := machine.DiskFull("write to "+l.root, l.root, err.Error()); full != nil {
		return full
	}
	return err
}

// OpenLog opens the file for the output of an environment in the background, empty.
func OpenLog(p *project.Project) (*os.File, error) {
	at := layoutOf(p)
	if err := at.make(); err != nil {
		return nil, err
	}
	f, err := os.Create(at.log())
	if err != nil {
		return nil, at.explain(fmt.Errorf("open log: %w", err))
	}
	return f, nil
}
