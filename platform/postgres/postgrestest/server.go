package postgrestest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	tcpostgres "github.com/testcontainers/testcontainers-go/modules/postgres"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// image is the oldest PostgreSQL that the platform supports.
const image = "postgres:15-alpine"

// server is where test databases are made.
type server interface {
	url(database string) string
	close()
}

// startShared is the one place that decides which server tests run on.
func startShared() (server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if dockerAnswers(ctx) {
		fmt.Fprintf(os.Stderr, "postgrestest: using a container of %s\n", image)
		return startContainer(ctx)
	}
	dir, err := newDir()
	if err != nil {
		return nil, err
	}
	removeStale(ctx)
	s, err := pgserver.Start(ctx, pgserver.Config{
		Dir: dir, Fast: true, Settings: map[string]string{"max_connections": "200"},
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	fmt.Fprintf(os.Stderr, "postgrestest: using PostgreSQL %d of %s\n", s.Binaries().Major, s.Binaries().Dir)
	return local{s, dir}, nil
}

type local struct {
	server *pgserver.Server
	dir    string
}

func (l local) url(database string) string { return l.server.URL(database) }

func (l local) close() {
	_ = l.server.Kill()
	_ = os.RemoveAll(l.dir)
}

type container struct {
	container *tcpostgres.PostgresContainer
	base      *url.URL
}

func startContainer(ctx context.Context) (server, error) {
	c, err := tcpostgres.Run(ctx, image, tcpostgres.WithDatabase("postgres"), tcpostgres.BasicWaitStrategies(),
		testcontainers.WithCmd("postgres", "-c", "fsync=off", "-c", "max_connections=200"))
	if err != nil {
		return nil, fmt.Errorf("start container of %s: %w", image, err)
	}
	address, err := c.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("find the container's address: %w", err)
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("read the container's address: %w", err)
	}
	return container{c, base}, nil
}

func (c container) url(database string) string {
	u := *c.base
	u.Path = "/" + database
	return u.String()
}

func (c container) close() { _ = testcontainers.TerminateContainer(c.container) }

// dockerAnswers asks for an engine. The library panics on some broken settings.
func dockerAnswers(ctx context.Context) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider()
	return err == nil && provider.Health(ctx) == nil
}

const dirPrefix = "slipway-postgrestest-"

// newDir makes a folder that the server's account can enter.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", fmt.Errorf("make folder for test server: %w", err)
	}
	return dir, os.Chmod(dir, 0o711)
}

// removeStale removes the folders of test binaries that are gone. The age keeps
// it away from those that are just starting.
func removeStale(ctx context.Context) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err == nil && time.Since(info.ModTime()) > 2*time.Minute {
			_ = pgserver.Remove(ctx, dir)
		}
	}
}

// databaseName is the test's name as PostgreSQL takes it, made unique.
func databaseName(test string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	shared.Lock()
	defer shared.Unlock()
	shared.databases++
	return fmt.Sprintf("t%d_%.40s", shared.databases, clean)
}

// fingerprint changes with the components and their files.
func fingerprint(comps []migrate.Component) (string, error) {
	h := sha256.New()
	for _, c := range comps {
		fmt.Fprintf(h, "%s\x00", c.Name)
		err := fs.WalkDir(c.FS, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			body, err := fs.ReadFile(c.FS, path)
			fmt.Fprintf(h, "%s\x00%s\x00", path, body)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("read migrations of %s: %w", c.Name, err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}
