package telemetry_test

import (
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

func TestEnvironment_UnmarshalText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]telemetry.Environment{
		"development": telemetry.Development, "staging": telemetry.Staging, "production": telemetry.Production,
		"": telemetry.Development,
	} {
		var e telemetry.Environment
		require.NoError(t, e.UnmarshalText([]byte(text)))
		require.Equal(t, want, e)
	}
	for _, text := range []string{"prod", "Production", "production ", "live"} {
		var e telemetry.Environment
		require.EqualError(t, e.UnmarshalText([]byte(text)),
			`"`+text+`" is no environment: use development, staging or production`)
		require.Empty(t, e)
	}
}

func TestConfig_SetDefaults(t *testing.T) {
	t.Parallel()
	var c telemetry.Config
	c.SetDefaults()
	require.NoError(t, c.Validate())
	require.NotEmpty(t, c.ServiceVersion)
	c.ServiceVersion = ""
	require.Equal(t, telemetry.Config{
		Environment: telemetry.Development, ServiceName: "unknown_service", LogLevel: "info", QueueSize: 2048,
		FlushTimeout: 3 * time.Second, SamplingMode: "head", SampleRatio: 0.15,
	}, c)

	named := telemetry.Config{ResourceAttributes: "service.name=order,service.version=7"}
	named.SetDefaults()
	require.Equal(t, "order", named.ServiceName)
	require.Equal(t, "7", named.ServiceVersion)
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		cfg  telemetry.Config
		want string
	}{
		"environment":       {telemetry.Config{Environment: "prod"}, `ENVIRONMENT: "prod" is no environment: use development, staging or production`},
		"level":             {telemetry.Config{LogLevel: "loud"}, `LOG_LEVEL: "loud" is no level: use debug, info, warn or error`},
		"silent level":      {telemetry.Config{LogLevel: "fatal"}, `LOG_LEVEL: "fatal" is no level`},
		"endpoint":          {telemetry.Config{TracesEndpoint: "ftp://collector"}, `OTEL_EXPORTER_OTLP_ENDPOINT: "ftp://collector" is no address`},
		"endpoint, no port": {telemetry.Config{TracesEndpoint: "collector"}, `OTEL_EXPORTER_OTLP_ENDPOINT: "collector" is no address`},
		"signal endpoint":   {telemetry.Config{SignalEndpoint: "http://"}, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://" is no address`},
		"queue":             {telemetry.Config{QueueSize: -1}, `OTEL_BSP_MAX_QUEUE_SIZE: -1 is not positive`},
		"flush":             {telemetry.Config{FlushTimeout: -time.Second}, `TRACE_FLUSH_TIMEOUT: -1s is not positive`},
		"mode":              {telemetry.Config{SamplingMode: "middle"}, `TRACE_SAMPLING_MODE: "middle" is neither head nor tail`},
		"ratio too low":     {telemetry.Config{SampleRatio: 0.09}, `TRACE_SAMPLE_RATIO: 0.09 is not between 0.10 and 0.20`},
		"ratio too high":    {telemetry.Config{SampleRatio: 0.21}, `TRACE_SAMPLE_RATIO: 0.21 is not between`},
		"ratio, no number":  {telemetry.Config{SampleRatio: math.NaN()}, `TRACE_SAMPLE_RATIO: NaN is not between`},
		"sampler":           {telemetry.Config{Sampler: "sometimes"}, `OTEL_TRACES_SAMPLER: "sometimes" is not one of always_on, always_off`},
		"sampler argument":  {telemetry.Config{Sampler: "traceidratio", SamplerArg: "15%"}, `OTEL_TRACES_SAMPLER_ARG: "15%" is no ratio between 0 and 1`},
		"argument too high": {telemetry.Config{SamplerArg: "15"}, `OTEL_TRACES_SAMPLER_ARG: "15" is no ratio`},
		"attributes":        {telemetry.Config{ResourceAttributes: "team"}, `OTEL_RESOURCE_ATTRIBUTES: "team" is not key=value`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := telemetry.New(t.Context(), row.cfg, io.Discard)
			require.ErrorContains(t, err, "configure telemetry: "+row.want)
		})
	}

	t.Run("names every bad variable at once", func(t *testing.T) {
		t.Parallel()
		var cfg struct{ Telemetry telemetry.Config }
		err := config.Load([]string{
			"ENVIRONMENT=prod", "LOG_LEVEL=loud", "TRACE_SAMPLE_RATIO=0.5", "OTEL_TRACES_SAMPLER=x", "TRACE_FLUSH_TIMEOUT=3",
		}, &cfg)
		var e *config.Error
		require.ErrorAs(t, err, &e)
		require.Len(t, e.Problems, 5)
		for _, name := range []string{"ENVIRONMENT", "LOG_LEVEL", "TRACE_SAMPLE_RATIO", "OTEL_TRACES_SAMPLER", "TRACE_FLUSH_TIMEOUT"} {
			require.Equal(t, 1, strings.Count(err.Error(), name+": "), name)
		}
	})
}

func TestNew_resource(t *testing.T) {
	t.Parallel()
	attributesOf := func(t *testing.T, cfg telemetry.Config) map[string]string {
		t.Helper()
		c := startCollector(t)
		cfg.TracesEndpoint = "http://" + c.addr
		tel, _ := newTelemetry(t, cfg)
		endSpans(tel, "a")
		require.NoError(t, tel.Shutdown(t.Context()))
		return c.resource
	}

	t.Run("describes the service, the process, the host and the SDK", func(t *testing.T) {
		t.Parallel()
		got := attributesOf(t, telemetry.Config{ServiceName: "order", ServiceVersion: "1.2.3", Environment: telemetry.Staging})
		host, err := os.Hostname()
		require.NoError(t, err)
		for key, want := range map[string]string{
			"service.name": "order", "service.version": "1.2.3", "deployment.environment.name": "staging",
			"telemetry.sdk.language": "go", "telemetry.sdk.name": "opentelemetry", "host.name": host,
			"process.runtime.name": "go", "process.runtime.version": runtime.Version(),
		} {
			require.Equal(t, want, got[key], key)
		}
		require.NoError(t, uuid.Validate(got["service.instance.id"]))
		require.Contains(t, got, "telemetry.sdk.version")
		require.Contains(t, got, "process.pid")
		require.NotContains(t, got, "process.command_args", "it may hold secrets")
		require.Empty(t, got["schema"], "a schema conflicts with that of other resources")
	})

	t.Run("takes further attributes, below those of its own configuration", func(t *testing.T) {
		t.Parallel()
		got := attributesOf(t, telemetry.Config{
			ServiceName:        "order",
			ResourceAttributes: "service.name=other, team=check%2Cout ,service.instance.id=order-0,deployment.environment.name=moon",
		})
		require.Equal(t, "order", got["service.name"])
		require.Equal(t, "check,out", got["team"])
		require.Equal(t, "order-0", got["service.instance.id"])
		require.Equal(t, "development", got["deployment.environment.name"])
	})
}

func TestNew_twice(t *testing.T) {
	t.Parallel()
	first, _ := newTelemetry(t, telemetry.Config{})
	second, _ := newTelemetry(t, telemetry.Config{})
	require.NotSame(t, first.Registry, second.Registry, "two services in one process")
}
