package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// Config tunes the telemetry of a service. The zero value is a service in development that exports
// no traces.
//
// Variables of the OTLP exporter that have no field here (OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE,
// _CLIENT_CERTIFICATE, _CLIENT_KEY, _INSECURE, _COMPRESSION, _TIMEOUT and their _TRACES_ forms) are
// read from the process's environment by the exporter library, as the OpenTelemetry standard says.
type Config struct {
	// Environment selects the sampling; default [Development].
	Environment Environment `env:"ENVIRONMENT"`
	// ServiceName names the service in every signal; default is service.name of
	// ResourceAttributes, else "unknown_service".
	ServiceName string `env:"OTEL_SERVICE_NAME"`
	// ServiceVersion is the version of the build; default is service.version of
	// ResourceAttributes, else what the Go toolchain recorded.
	ServiceVersion string
	// ResourceAttributes are further attributes of the service, as "key=value,key=value" with
	// percent-encoded values.
	ResourceAttributes string `env:"OTEL_RESOURCE_ATTRIBUTES"`

	// LogLevel is the least severe level that is logged: debug, info, warn or error; default info.
	LogLevel string `env:"LOG_LEVEL"`

	// TracesEndpoint is the collector's OTLP/gRPC address: https://host:4317 or host:4317 for TLS,
	// http://host:4317 for plaintext. With host:port, OTEL_EXPORTER_OTLP_INSECURE=true means
	// plaintext too. Empty exports nothing.
	TracesEndpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	// SignalEndpoint goes before TracesEndpoint, as the standard has it for the variable that
	// speaks of traces alone.
	SignalEndpoint string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"`
	// QueueSize is how many ended spans may wait for the collector; what comes on top is dropped
	// and counted. Default 2048, the standard's; with tail sampling under load take more. A span
	// takes about 1 to 2 KB.
	QueueSize int `env:"OTEL_BSP_MAX_QUEUE_SIZE"`
	// FlushTimeout bounds [Telemetry.Shutdown]; default 3s.
	FlushTimeout time.Duration `env:"TRACE_FLUSH_TIMEOUT"`

	// SamplingMode is "head" (the service decides, by the table in the package comment) or "tail"
	// (the service keeps everything and the collector decides); default head.
	SamplingMode string `env:"TRACE_SAMPLING_MODE"`
	// SampleRatio is the share of traces kept in production, 0.10 to 0.20; default 0.15.
	SampleRatio float64 `env:"TRACE_SAMPLE_RATIO"`
	// PublicEdge distrusts the sampled flag of callers: set it where strangers call.
	PublicEdge bool `env:"TRACE_PUBLIC_EDGE"`
	// Sampler and SamplerArg override the sampling with one of OpenTelemetry's standard samplers.
	Sampler    string `env:"OTEL_TRACES_SAMPLER"`
	SamplerArg string `env:"OTEL_TRACES_SAMPLER_ARG"`
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	attrs, _ := c.resourceAttributes() // Validate reports the error.
	c.Environment = cmp.Or(c.Environment, Development)
	c.ServiceName = cmp.Or(c.ServiceName, attrs["service.name"], "unknown_service")
	c.ServiceVersion = cmp.Or(c.ServiceVersion, attrs["service.version"], buildVersion())
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.QueueSize = cmp.Or(c.QueueSize, 2048)
	c.FlushTimeout = cmp.Or(c.FlushTimeout, 3*time.Second)
	c.SamplingMode = cmp.Or(c.SamplingMode, "head")
	c.SampleRatio = cmp.Or(c.SampleRatio, 0.15)
}

// Validate reports every bad value at once, each by the name of its variable.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := new(Environment).UnmarshalText([]byte(c.Environment)); err != nil {
		bad("ENVIRONMENT: %w", err)
	}
	if l, err := zapcore.ParseLevel(c.LogLevel); err != nil || l > zapcore.ErrorLevel {
		bad("LOG_LEVEL: %q is no level: use debug, info, warn or error", c.LogLevel)
	}
	if c.QueueSize < 1 {
		bad("OTEL_BSP_MAX_QUEUE_SIZE: %d is not positive", c.QueueSize)
	}
	if c.FlushTimeout <= 0 {
		bad("TRACE_FLUSH_TIMEOUT: %s is not positive", c.FlushTimeout)
	}
	if c.SamplingMode != "head" && c.SamplingMode != "tail" {
		bad("TRACE_SAMPLING_MODE: %q is neither head nor tail", c.SamplingMode)
	}
	if !(c.SampleRatio >= 0.10 && c.SampleRatio <= 0.20) {
		bad("TRACE_SAMPLE_RATIO: %v is not between 0.10 and 0.20; for another share use OTEL_TRACES_SAMPLER", c.SampleRatio)
	}
	_, _, samplerErr := c.standardSampler()
	_, attrsErr := c.resourceAttributes()
	return errors.Join(append(errs, samplerErr, attrsErr,
		checkEndpoint("OTEL_EXPORTER_OTLP_ENDPOINT", c.TracesEndpoint),
		checkEndpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.SignalEndpoint))...)
}

// endpoint is where spans go, "" for nowhere.
func (c Config) endpoint() string { return cmp.Or(c.SignalEndpoint, c.TracesEndpoint) }

func checkEndpoint(name, endpoint string) error {
	if endpoint == "" {
		return nil
	}
	if !strings.Contains(endpoint, "://") {
		if host, port, err := net.SplitHostPort(endpoint); err == nil && host != "" && port != "" {
			return nil
		}
	} else if u, err := url.Parse(endpoint); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		return nil
	}
	return fmt.Errorf("%s: %q is no address of a collector: use https://host:4317, or http://host:4317 for plaintext", name, endpoint)
}

// resourceAttributes parses the list in the form of the OpenTelemetry specification.
func (c Config) resourceAttributes() (map[string]string, error) {
	attrs := map[string]string{}
	for pair := range strings.SplitSeq(c.ResourceAttributes, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		text, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || strings.TrimSpace(key) == "" {
			return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %q is not key=value", pair)
		}
		attrs[strings.TrimSpace(key)] = text
	}
	return attrs, nil
}

// ratioArg parses the argument of the ratio samplers; the specification's default is 1.
func (c Config) ratioArg() (float64, error) {
	if c.SamplerArg == "" {
		return 1, nil
	}
	r, err := strconv.ParseFloat(c.SamplerArg, 64)
	if err != nil || !(r >= 0 && r <= 1) {
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is no ratio between 0 and 1", c.SamplerArg)
	}
	return r, nil
}
