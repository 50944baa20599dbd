package devenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

const (
	// downloadVersion is the PostgreSQL that is downloaded when there is no other.
	downloadVersion = embeddedpostgres.V17
	// repository holds the programs, about 30 MB, with their checksums.
	repository = "https://repo1.maven.org/maven2"
)

// downloadDir is where the downloaded programs are kept, for all projects of the
// account.
func downloadDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "slipway", "postgres-"+string(downloadVersion))
	if place, err := pgserver.Place(dir); err == nil {
		return place
	}
	return dir
}

func (e *Env) download(ctx context.Context) (pgserver.Binaries, error) {
	dir := downloadDir()
	step := e.progress.Start("downloading PostgreSQL " + string(downloadVersion))
	if err := fetchPostgres(ctx, repository, dir); err != nil {
		step.Fail()
		return pgserver.Binaries{}, err
	}
	step.Done("downloaded PostgreSQL %s to %s", downloadVersion, dir)
	return pgserver.FindBinaries(ctx, filepath.Join(dir, "bin"), 0)
}

// fetchPostgres downloads the programs into dir, which appears when it is complete.
func fetchPostgres(ctx context.Context, from, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "download-")
	if err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	fetched := make(chan error, 1)
	go func() { fetched <- fetchInto(from, work) }()
	select {
	case err = <-fetched:
	case <-ctx.Done(): // the library cannot be interrupted; what it makes is removed when it is done
		go func() {
			_ = errors.Join(<-fetched, os.RemoveAll(work))
		}()
		return fmt.Errorf("download PostgreSQL: %w", ctx.Err())
	}
	defer os.RemoveAll(work)
	if err != nil {
		return fmt.Errorf("download PostgreSQL: %w", err)
	}
	if err := os.Rename(filepath.Join(work, "programs"), dir); err != nil {
		return fmt.Errorf("keep PostgreSQL: %w", err)
	}
	return nil
}

// fetchInto has the library download and unpack the programs. The library always
// starts a server then: on a folder that only claims to hold data this fails, which
// is what we want, since pgserver is to run it.
func fetchInto(from, work string) error {
	data := filepath.Join(work, "no data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major := string(downloadVersion)[:2]
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major), 0o600); err != nil {
		return err
	}
	programs := filepath.Join(work, "programs")
	err := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(downloadVersion).BinaryRepositoryURL(from).Port(0).Logger(io.Discard).
		CachePath(filepath.Join(work, "archive")).RuntimePath(filepath.Join(work, "runtime")).
		DataPath(data).BinariesPath(programs)).Start()
	if _, missing := os.Stat(filepath.Join(programs, "bin", "postgres")); missing == nil {
		return nil
	}
	if err == nil {
		err = errors.New("the archive holds no PostgreSQL")
	}
	return err
}
