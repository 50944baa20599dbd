package devenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// ErrDownload says that PostgreSQL can be had by a download only.
var ErrDownload = errors.New("PostgreSQL has to be downloaded")

// probeTimeout bounds questions to other machines.
const probeTimeout = 3 * time.Second

// PostgresSource says where a start would take PostgreSQL from: an error means that
// it could not, but for ErrDownload.
func PostgresSource(ctx context.Context, p *project.Project, environ []string) (string, error) {
	w, err := choosePostgres(ctx, layoutOf(p), environ)
	switch {
	case err != nil:
		return "", err
	case w.url != "":
		return w.source + " at " + hostOf(w.url), connects(ctx, w.url)
	case w.programs != nil && w.programs.Major == 0:
		return "", fmt.Errorf("the data in %s was made by PostgreSQL %d: %w", w.place, dataMajor(w.place), w.errPrograms)
	case w.programs != nil || w.docker:
		return w.source, nil
	}
	if err := downloads(ctx); err != nil {
		return "", w.noneOpen(err)
	}
	return "", ErrDownload
}

func connects(ctx context.Context, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect to the server of DATABASE_URL: %w", err)
	}
	return conn.Close(ctx)
}

func downloads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, repository, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", repository, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// PostgresPlace returns the folder of the private server.
func PostgresPlace(p *project.Project) (string, error) {
	return pgserver.Place(layoutOf(p).postgres())
}

// Writable says why the project's folder .slipway cannot be written to, or nil.
func Writable(p *project.Project) error {
	at := layoutOf(p)
	if err := at.make(); err != nil {
		return err
	}
	f, err := os.CreateTemp(at.run(), "probe-")
	if err != nil {
		return at.explain(err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Left names the processes that a killed environment of the project has left.
func Left(p *project.Project) []string {
	var names []string
	for _, record := range layoutOf(p).records().List() {
		if record.Alive() {
			names = append(names, record.Name)
		}
	}
	return names
}
