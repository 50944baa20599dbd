package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// Config tunes the telemetry of a service. The zero value is a service in development that exports
// no traces. The variables of the OTLP exporter that are not listed here (headers, certificates,
// compression, timeout) are read by the exporter itself, as the OpenTelemetry standard says.
type Config struct {
	// Environment selects the sampling; default [Development].
	Environment Environment `env:"ENVIRONMENT"`
	// ServiceName names the service in every signal; default "unknown_service".
	ServiceName string `env:"OTEL_SERVICE_NAME"`
	// ServiceVersion is the version of the build; default what the Go toolchain recorded.
	ServiceVersion string
	// ResourceAttributes are further attributes of the service, as "key=value,key=value".
	ResourceAttributes string `env:"OTEL_RESOURCE_ATTRIBUTES"`

	// LogLevel is the least severe level that is logged: debug, info, warn or error; default info.
	LogLevel string `env:"LOG_LEVEL"`

	// TracesEndpoint is the collector's OTLP/gRPC address: https://host:4317, or http://host:4317
	// for plaintext. Empty exports nothing.
	TracesEndpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
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
	// FlushTimeout bounds how long Shutdown waits for the last spans to leave; default 3s.
	FlushTimeout time.Duration `env:"TRACE_FLUSH_TIMEOUT"`
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.Environment = cmp.Or(c.Environment, Development)
	c.ServiceName = cmp.Or(c.ServiceName, "unknown_service")
	c.ServiceVersion = cmp.Or(c.ServiceVersion, buildVersion())
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.SamplingMode = cmp.Or(c.SamplingMode, "head")
	c.SampleRatio = cmp.Or(c.SampleRatio, 0.15)
	c.FlushTimeout = cmp.Or(c.FlushTimeout, 3*time.Second)
}

// Validate reports every bad value at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := new(Environment).UnmarshalText([]byte(c.Environment)); err != nil {
		bad("ENVIRONMENT: %w", err)
	}
	if _, err := zapcore.ParseLevel(c.LogLevel); err != nil {
		bad("LOG_LEVEL: %q is no level: use debug, info, warn or error", c.LogLevel)
	}
	if u, err := url.Parse(c.TracesEndpoint); c.TracesEndpoint != "" &&
		(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad("OTEL_EXPORTER_OTLP_ENDPOINT: %q is no address of a collector: use https://host:4317, or http:// for plaintext", c.TracesEndpoint)
	}
	if c.SamplingMode != "head" && c.SamplingMode != "tail" {
		bad("TRACE_SAMPLING_MODE: %q is neither head nor tail", c.SamplingMode)
	}
	if !(c.SampleRatio >= 0.10 && c.SampleRatio <= 0.20) {
		bad("TRACE_SAMPLE_RATIO: %v is not between 0.10 and 0.20; for another share use OTEL_TRACES_SAMPLER", c.SampleRatio)
	}
	if _, err := c.standardSampler(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.resourceAttributes(); err != nil {
		errs = append(errs, err)
	}
	if c.FlushTimeout <= 0 {
		bad("TRACE_FLUSH_TIMEOUT: %s is not positive", c.FlushTimeout)
	}
	return errors.Join(errs...)
}

// resourceAttributes parses the list in the form of the OpenTelemetry specification: values are
// percent-encoded.
func (c Config) resourceAttributes() ([][2]string, error) {
	var attrs [][2]string
	for pair := range strings.SplitSeq(c.ResourceAttributes, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		text, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || strings.TrimSpace(key) == "" {
			return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %q is not key=value", pair)
		}
		attrs = append(attrs, [2]string{strings.TrimSpace(key), text})
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

// buildVersion is the module's version, else the revision it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" })
	if i < 0 {
		return "unknown"
	}
	return info.Settings[i].Value[:min(12, len(info.Settings[i].Value))]
}
