package telemetry_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencies keeps drivers and frameworks out of everyone who logs: of gRPC only what the
// exporter of traces needs itself.
func TestDependencies(t *testing.T) {
	t.Parallel()
	own := deps(t, ".")
	for _, foreign := range []string{
		"github.com/jackc/pgx", "github.com/redis/", "github.com/nats-io/", "go.uber.org/fx", "go.uber.org/dig",
		"github.com/caarlos0/env", "go.opentelemetry.io/contrib/", "github.com/slipwayhq/slipway/platform/",
	} {
		for _, dep := range own {
			if strings.HasPrefix(dep, foreign) && !strings.HasPrefix(dep, "github.com/slipwayhq/slipway/platform/internal/") &&
				dep != "github.com/slipwayhq/slipway/platform/telemetry" {
				t.Errorf("telemetry pulls in %s", dep)
			}
		}
	}
	exporter := deps(t, "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc")
	for _, dep := range own {
		if strings.HasPrefix(dep, "google.golang.org/grpc") {
			require.True(t, slices.Contains(exporter, dep), "telemetry pulls in %s, which the exporter does not need", dep)
		}
	}
}

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	require.NoError(t, err)
	return strings.Fields(string(list))
}
