package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// Tools finds a program of Prometheus or Alertmanager: what make stack has built in root/.bin, and
// what the system has. Rules have to work with both.
func Tools(root, name string) []string {
	var found []string
	if built, err := filepath.Abs(filepath.Join(root, ".bin", name)); err == nil {
		if _, err := exec.LookPath(built); err == nil {
			found = append(found, built)
		}
	}
	if installed, err := exec.LookPath(name); err == nil {
		found = append(found, installed)
	}
	return found
}

// ErrInvalid says that promtool does not understand the rules, so that no test has run.
var ErrInvalid = errors.New("rules are invalid")

// Tester runs the tests of rules in a folder of its own. It is not safe for concurrent use.
type Tester struct {
	promtool, dir string
	files         []File
}

// NewTester prepares a folder: the files of rules, and the tests that fsys has as *.yml.
func NewTester(promtool, dir string, files []File, tests fs.FS) (*Tester, error) {
	t := &Tester{promtool: promtool, dir: dir, files: files}
	for _, sub := range []string{"rules", "tests"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("prepare tests: %w", err)
		}
	}
	names, err := fs.Glob(tests, "*.yml")
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(tests, name)
		if err != nil {
			return nil, fmt.Errorf("read tests: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tests", name), text, 0o644); err != nil {
			return nil, fmt.Errorf("copy tests: %w", err)
		}
	}
	for _, f := range files {
		if err := t.write(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tester) write(f File) error {
	text, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Name, err)
	}
	if err := os.WriteFile(filepath.Join(t.dir, "rules", f.Name), text, 0o644); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	return nil
}

// Test runs the tests of some alerts, of all without one. It reports whether they pass, and what
// promtool says.
func (t *Tester) Test(ctx context.Context, alerts ...string) (passed bool, said string, err error) {
	args := []string{"test", "rules"}
	for _, a := range alerts {
		args = append(args, filepath.Join("tests", a+".yml"))
	}
	if len(alerts) == 0 {
		files, err := filepath.Glob(filepath.Join(t.dir, "tests", "*.yml"))
		if err != nil {
			return false, "", fmt.Errorf("list tests: %w", err)
		}
		args = append(args, files...)
	}
	cmd := exec.CommandContext(ctx, t.promtool, args...)
	cmd.Dir = t.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	said = out.String()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, said, nil
	case ctx.Err() != nil:
		return false, said, ctx.Err()
	case !errors.As(err, &exit):
		return false, said, fmt.Errorf("run promtool: %w", err)
	case strings.Contains(said, "could not parse expression") || strings.Contains(said, "parse error"):
		return false, said, fmt.Errorf("%w: %s", ErrInvalid, said)
	}
	return false, said, nil
}

// TestWith is [Tester.Test] with another file in place of the one of its name.
func (t *Tester) TestWith(ctx context.Context, f File, alerts ...string) (passed bool, said string, err error) {
	if err := t.write(f); err != nil {
		return false, "", err
	}
	passed, said, err = t.Test(ctx, alerts...)
	for _, original := range t.files {
		if original.Name == f.Name {
			err = errors.Join(err, t.write(original))
		}
	}
	return passed, said, err
}
