package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest major version that a server is made with.
const MinMajor = 15

// places are where PostgreSQL is installed without being on the PATH: Debian
// and Ubuntu, Red Hat, Homebrew on both kinds of Mac, Postgres.app.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Binaries are an installation of PostgreSQL's server programs.
type Binaries struct {
	Dir   string
	Major int
}

// FindBinaries returns the installation in dir or, when dir is empty, the one
// on the PATH, else the newest one in the usual places. With major > 0 only that
// version will do. The error is ErrNoBinaries and says what to install.
func FindBinaries(ctx context.Context, dir string, major int) (Binaries, error) {
	var old []string
	for _, candidate := range candidates(dir) {
		found, err := inspect(ctx, candidate)
		switch {
		case err != nil:
			continue
		case found.Major >= MinMajor && (major == 0 || major == found.Major):
			return found, nil
		default:
			old = append(old, fmt.Sprintf("%d in %s", found.Major, found.Dir))
		}
	}
	want := fmt.Sprintf("PostgreSQL %d or newer", MinMajor)
	if major > 0 {
		want = fmt.Sprintf("PostgreSQL %d", major)
	}
	seen := "nothing"
	if len(old) > 0 {
		seen = strings.Join(old, ", ")
	}
	return Binaries{}, fmt.Errorf("%w: need the server programs of %s, found %s in %s; install them (Debian, Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17)",
		ErrNoBinaries, want, seen, strings.Join(searched(dir), ", "))
}

// candidates lists folders to look at, in order of preference.
func candidates(dir string) []string {
	if dir != "" {
		return []string{dir}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	var installed []string
	for _, place := range places {
		found, _ := filepath.Glob(place)
		installed = append(installed, found...)
	}
	slices.SortStableFunc(installed, func(a, b string) int { return versionIn(b) - versionIn(a) })
	return append(dirs, installed...)
}

func searched(dir string) []string {
	if dir != "" {
		return []string{dir}
	}
	return append([]string{"PATH"}, places...)
}

var number = regexp.MustCompile(`\d+`)

func versionIn(path string) int {
	n, _ := strconv.Atoi(number.FindString(path))
	return n
}

// inspect asks the programs in dir for their version.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	// Distributions link /usr/local/bin/postgres to the real folder, where the
	// other programs are.
	postgres, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Dir: filepath.Dir(postgres)}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return Binaries{}, err
	}
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: %w", postgres, err)
	}
	b.Major = versionIn(string(out))
	return b, nil
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }
