package observe_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestConfiguration has the programs check the files that they are given, with the
// defaults that containers run with.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	folder, err := filepath.Abs("../../../../ops")
	require.NoError(t, err)
	for _, c := range []struct {
		file, program string
		args          []string
	}{
		{"prometheus/prometheus.yml", "promtool", []string{"check", "config"}},
		{"alertmanager/alertmanager.yml", "amtool", []string{"check-config"}},
		{"otel/collector.yml", "otelcol", []string{"validate", "--config"}},
		{"loki/loki.yml", "loki", []string{"-config.expand-env=true", "-verify-config", "-config.file"}},
	} {
		t.Run(c.program+" accepts "+c.file, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(folder, c.file)
			if _, err := os.Stat(file); err != nil {
				t.Skip("not there: " + c.file)
			}
			cmd := exec.Command(tool(t, c.program), append(c.args, file)...)
			cmd.Dir = t.TempDir()
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// tool finds a program that make stack builds, or one of the PATH, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	bin, err := filepath.Abs(built)
	require.NoError(t, err)
	path, err := exec.LookPath(filepath.Join(bin, name))
	if err != nil {
		path, err = exec.LookPath(name)
	}
	if err == nil && name == "loki" {
		out, _ := exec.Command(path, "-version").CombinedOutput()
		if !strings.HasPrefix(string(out), "loki, version") {
			t.Skip("the loki of the PATH is another program")
		}
	}
	if err != nil {
		t.Skipf("no %s: build it with: make stack", name)
	}
	return path
}
