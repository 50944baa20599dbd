package devenv

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
)

func TestEnv_startObservability(t *testing.T) {
	t.Parallel()

	t.Run("does nothing when it was not asked for", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		require.Empty(t, e.observability.usedPorts())
		require.NoError(t, e.startObservability(t.Context()))
		log, err := e.openLog("order")
		require.NoError(t, err)
		require.Nil(t, log)
		e.cfg.Environ = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317"}
		log, err = e.openLog("order")
		require.NoError(t, err)
		require.NotNil(t, log, "there is a collector elsewhere")
		require.NoError(t, log.Close())
	})

	t.Run("says what is missing and goes on", func(t *testing.T) {
		t.Parallel()
		var notes bytes.Buffer
		e := setup(t, "PATH=/nowhere")
		e.cfg.Console, e.cfg.Observability = console.New(nil, &notes, &notes, nil), true
		e.observability = newObservability(e.cfg)
		require.NoError(t, e.startObservability(t.Context()))
		for _, c := range observe.Components() {
			require.Contains(t, notes.String(), "! "+string(c)+" is left out: no program ")
		}
		require.Empty(t, e.observability.usedPorts())
		for _, variable := range e.environment(e.cfg.Project.Services[0], addresses{}) {
			require.NotContains(t, variable, "OTEL_EXPORTER", "spans that nobody takes")
		}
		require.NoError(t, e.observability.Stop(t.Context()))
	})

	t.Run("claims the ports of what it found, and sends traces and logs there", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		bin := filepath.Join(e.cfg.Project.Dir, ".bin")
		require.NoError(t, os.Mkdir(bin, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(bin, "otelcol"), nil, 0o755))
		e.cfg.Observability, e.cfg.Environ = true, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://elsewhere"}
		e.observability = newObservability(e.cfg)
		require.Len(t, e.observability.usedPorts(), 4)
		require.Equal(t, observe.UsualPorts(e.cfg.PortOffset).CollectorMetrics, e.observability.usedPorts()[0].Number)
		endpoint := "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + loopback(4317+e.cfg.PortOffset)
		environ := e.environment(e.cfg.Project.Services[0], addresses{})
		require.Contains(t, environ, endpoint)
		require.NotContains(t, environ, "OTEL_EXPORTER_OTLP_ENDPOINT=https://elsewhere")
		log, err := e.openLog("order")
		require.NoError(t, err)
		_, err = log.Write([]byte("{}\n"))
		require.NoError(t, err)
		require.NoError(t, errors.Join(e.observability.Stop(t.Context()), log.Close()))
		text, err := os.ReadFile(filepath.Join(e.at.logs(), "order.json"))
		require.NoError(t, err)
		require.Equal(t, "{}\n", string(text))
	})
}

func TestReceiveAlerts(t *testing.T) {
	t.Parallel()
	var notes bytes.Buffer
	a, err := receiveAlerts(t.Context(), console.New(nil, &notes, &notes, nil))
	require.NoError(t, err)
	post := func(text string) int {
		resp, err := http.Post(a.url+"/pager", "application/json", strings.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, post(`{"alerts":[
		{"status":"firing","labels":{"alertname":"HighErrorRate","severity":"page"},"annotations":{"summary":"order fails"}},
		{"status":"firing","labels":{"alertname":"Watchdog","severity":"none"}},
		{"status":"resolved","labels":{"alertname":"Other"}}]}`))
	require.Equal(t, http.StatusBadRequest, post(`{`))
	require.NoError(t, a.stop())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, "  ! alert HighErrorRate firing (page): order fails\n  ! alert Other resolved (no severity): \n", notes.String())
}
