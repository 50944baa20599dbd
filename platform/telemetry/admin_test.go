package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/telemetry"
)

// admin is an admin server that runs until the test ends.
type admin struct {
	*telemetry.Admin
	tel  *telemetry.Telemetry
	out  *lines
	stop func() error
}

func startAdmin(t *testing.T, cfg telemetry.AdminConfig, ready func() error, extra ...func(*telemetry.Admin)) *admin {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	tel, out := newTelemetry(t, telemetry.Config{ServiceName: "order", ServiceVersion: "1.2.3"})
	a, err := telemetry.NewAdmin(cfg, tel, ready)
	require.NoError(t, err)
	for _, fn := range extra {
		fn(a)
	}
	require.Nil(t, a.Addr())
	require.NoError(t, a.Listen())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var stopped atomic.Bool
	stop := func() error {
		if stopped.Swap(true) {
			return nil
		}
		cancel()
		return <-done
	}
	t.Cleanup(func() { require.NoError(t, stop()) })
	return &admin{a, tel, out, stop}
}

// ask sends a request and returns its status, its body and its content type.
func (a *admin) ask(t *testing.T, method, path, body string, header ...string) (status int, answer, contentType string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content), response.Header.Get("Content-Type")
}

func (a *admin) get(t *testing.T, path string) (int, string) {
	t.Helper()
	status, answer, _ := a.ask(t, http.MethodGet, path, "")
	return status, answer
}

func TestAdmin_metrics(t *testing.T) {
	t.Parallel()
	a := startAdmin(t, telemetry.AdminConfig{}, nil)
	calls := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "call_seconds", Help: "Calls.", Buckets: []float64{1}})
	a.tel.Registry.MustRegister(calls)
	calls.(prometheus.ExemplarObserver).ObserveWithExemplar(0.5, prometheus.Labels{"trace_id": traceHex})

	t.Run("shows process, build and sampling", func(t *testing.T) {
		t.Parallel()
		_, metrics := a.get(t, "/metrics")
		for _, want := range []string{
			"\ngo_goroutines ", "\nprocess_open_fds ", "\ntrace_sampling_ratio 1\n",
			"\ntrace_spans_dropped_total{reason=\"queue_full\"} 0\n", "\nlog_lines_dropped_total{level=\"info\"} 0\n",
			"\nbuild_info{environment=\"development\",goversion=\"go",
		} {
			require.Contains(t, metrics, want)
		}
	})

	t.Run("shows exemplars to those who ask for OpenMetrics", func(t *testing.T) {
		t.Parallel()
		_, metrics, contentType := a.ask(t, http.MethodGet, "/metrics", "", "Accept", "application/openmetrics-text;version=1.0.0")
		require.Contains(t, contentType, "application/openmetrics-text")
		require.Contains(t, metrics, `# {trace_id="`+traceHex+`"} 0.5`)
		_, plain := a.get(t, "/metrics")
		require.NotContains(t, plain, traceHex)
	})
}

// broken is a collector whose source is away.
type broken struct{}

func (broken) Describe(chan<- *prometheus.Desc) {}
func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("saga_stuck", "", nil, nil), errors.New("database is down"))
}

func TestAdmin_metrics_brokenCollector(t *testing.T) {
	t.Parallel()
	a := startAdmin(t, telemetry.AdminConfig{}, nil)
	a.tel.Registry.MustRegister(broken{})
	status, metrics := a.get(t, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, metrics, "\ngo_goroutines ")
	require.Contains(t, a.out.String(), "database is down")
	require.Contains(t, a.out.String(), `"logger":"admin"`)
}

func TestAdmin_probes(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	a := startAdmin(t, telemetry.AdminConfig{}, func() error {
		if down.Load() {
			return errors.New("postgres: connection refused")
		}
		return nil
	})
	for range 2 {
		status, answer := a.get(t, "/readyz")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "ok\n", answer)
		down.Store(true)
		status, answer = a.get(t, "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "postgres: connection refused\n", answer)
		status, answer = a.get(t, "/healthz")
		require.Equal(t, http.StatusOK, status, "a dependency that is down must not restart the process")
		require.Equal(t, "ok\n", answer)
		down.Store(false)
	}
	always := startAdmin(t, telemetry.AdminConfig{}, nil)
	status, _ := always.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
}

func TestAdmin_loglevel(t *testing.T) {
	t.Parallel()
	a := startAdmin(t, telemetry.AdminConfig{}, nil)
	_, answer := a.get(t, "/loglevel")
	require.JSONEq(t, `{"level":"info"}`, answer)

	status, answer, _ := a.ask(t, http.MethodPut, "/loglevel", `{"level":"debug"}`)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"level":"debug"}`, answer)
	require.Equal(t, zap.DebugLevel, a.tel.Level.Level())
	a.tel.Logger.Debug("seen")
	require.Contains(t, a.out.String(), "seen")

	status, _, _ = a.ask(t, http.MethodPut, "/loglevel", `{"level":"loud"}`)
	require.Equal(t, http.StatusBadRequest, status)
	status, _, _ = a.ask(t, http.MethodDelete, "/loglevel", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

func TestAdmin_pprof(t *testing.T) {
	t.Parallel()

	t.Run("is off by default", func(t *testing.T) {
		t.Parallel()
		a := startAdmin(t, telemetry.AdminConfig{}, nil)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile"} {
			status, _ := a.get(t, path)
			require.Equal(t, http.StatusNotFound, status, path)
		}
	})

	t.Run("serves profiles when switched on", func(t *testing.T) {
		t.Parallel()
		a := startAdmin(t, telemetry.AdminConfig{Pprof: true}, nil)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol"} {
			status, _ := a.get(t, path)
			require.Equal(t, http.StatusOK, status, path)
		}
	})
}

func TestAdmin_index(t *testing.T) {
	t.Parallel()
	channelz := func(a *telemetry.Admin) {
		a.Handle("/debug/channelz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "channels") }))
	}
	a := startAdmin(t, telemetry.AdminConfig{Pprof: true}, nil, channelz)
	status, answer, contentType := a.ask(t, http.MethodGet, "/", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "application/json", contentType)
	require.JSONEq(t, `{"endpoints":["/debug/channelz","/debug/pprof/","/healthz","/loglevel","/metrics","/readyz"]}`, answer)
	_, answer = a.get(t, "/debug/channelz")
	require.Equal(t, "channels", answer)
	status, _ = a.get(t, "/nothing")
	require.Equal(t, http.StatusNotFound, status)
}

func TestAdmin_Listen(t *testing.T) {
	t.Parallel()
	a := startAdmin(t, telemetry.AdminConfig{}, nil)
	require.NoError(t, a.Listen(), "a second call does nothing")

	second, err := telemetry.NewAdmin(telemetry.AdminConfig{Addr: a.Addr().String()}, a.tel, nil)
	require.NoError(t, err)
	for _, err := range []error{second.Listen(), second.Run(t.Context())} {
		require.ErrorContains(t, err, a.Addr().String()+": bind: address already in use")
		require.ErrorContains(t, err, "set ADMIN_ADDR to a free one")
	}
}

func TestNewAdmin(t *testing.T) {
	t.Parallel()
	tel, _ := newTelemetry(t, telemetry.Config{})
	_, err := telemetry.NewAdmin(telemetry.AdminConfig{Addr: "9464"}, tel, nil)
	require.EqualError(t, err, `configure admin server: ADMIN_ADDR: "9464" is not host:port`)
	var cfg telemetry.AdminConfig
	cfg.SetDefaults()
	require.Equal(t, telemetry.AdminConfig{Addr: "127.0.0.1:9464"}, cfg)
}

func TestAdmin_Run(t *testing.T) {
	t.Parallel()
	// begin starts an admin server and sends it a request, which is under way until finish closes.
	begin := func(t *testing.T) (a *admin, status <-chan int, finish chan<- struct{}) {
		t.Helper()
		began, end, answered := make(chan struct{}), make(chan struct{}), make(chan int, 1)
		a = startAdmin(t, telemetry.AdminConfig{}, func() error { close(began); <-end; return nil })
		go func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			response, err := client.Get("http://" + a.Addr().String() + "/readyz")
			if err != nil {
				answered <- 0
				return
			}
			answered <- response.StatusCode
			response.Body.Close()
		}()
		<-began
		return a, answered, end
	}

	t.Run("lets a request in flight finish", func(t *testing.T) {
		t.Parallel()
		a, status, finish := begin(t)
		stopped := make(chan error, 1)
		go func() { stopped <- a.stop() }()
		close(finish)
		require.NoError(t, <-stopped)
		require.Equal(t, http.StatusOK, <-status)
	})

	t.Run("cuts off what does not end", func(t *testing.T) {
		t.Parallel()
		a, status, finish := begin(t)
		defer close(finish)
		start := time.Now()
		require.NoError(t, a.stop())
		require.Less(t, time.Since(start), 10*time.Second)
		require.Zero(t, <-status)
	})
}
