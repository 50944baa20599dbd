package devenv

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

func TestFetchPostgres(t *testing.T) {
	t.Parallel()
	archive := programs(t)

	t.Run("keeps the programs and nothing else", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "cache", "postgres")
		require.NoError(t, fetchPostgres(t.Context(), serve(t, archive, fmt.Sprintf("%x", sha256.Sum256(archive))), dir))
		found, err := pgserver.FindBinaries(t.Context(), filepath.Join(dir, "bin"), 17)
		require.NoError(t, err)
		require.Equal(t, 17, found.Major)
		left, err := os.ReadDir(filepath.Dir(dir))
		require.NoError(t, err)
		require.Len(t, left, 1)
	})

	for name, c := range map[string]struct{ sum, want string }{
		"refuses an archive that is not what its checksum says": {"0000", "checksums do not match"},
		"says when there is no archive":                         {"", "no version found matching"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := filepath.Join(t.TempDir(), "cache")
			err := fetchPostgres(t.Context(), serve(t, archive, c.sum), filepath.Join(cache, "postgres"))
			require.ErrorContains(t, err, "download PostgreSQL: ")
			require.ErrorContains(t, err, c.want)
			left, err := os.ReadDir(cache)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}

	t.Run("can be interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		asked, answered := make(chan struct{}), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(asked)
			<-answered
			w.WriteHeader(http.StatusNotFound)
		}))
		cache := filepath.Join(t.TempDir(), "cache")
		go func() { <-asked; cancel() }()
		require.ErrorIs(t, fetchPostgres(ctx, server.URL, filepath.Join(cache, "postgres")), context.Canceled)
		close(answered)
		require.Eventually(t, func() bool {
			left, err := os.ReadDir(cache)
			return err == nil && len(left) == 0
		}, patience, tick)
		server.Close()
	})
}

// serve is a repository with one archive, or none when there is no checksum.
func serve(t *testing.T, archive []byte, sum string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case sum == "" || !strings.Contains(r.URL.Path, string(downloadVersion)):
			w.WriteHeader(http.StatusNotFound)
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			_, _ = w.Write([]byte(sum))
		default:
			_, _ = w.Write(archive)
		}
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL
}

// programs packs stand-ins for PostgreSQL's programs as the repository does: a zip
// that holds a tar.xz.
func programs(t *testing.T) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("xz, which packs the archive, is not installed")
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for name, script := range map[string]string{
		"postgres": "echo 'postgres (PostgreSQL) 17.5'", "initdb": "exit 1", "pg_ctl": "exit 1",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	packed, err := exec.Command("tar", "-C", dir, "-cJf", "-", "bin").Output()
	require.NoError(t, err)
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = w.Write(packed)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return archive.Bytes()
}
