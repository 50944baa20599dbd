// Package telemetry gives a service its logs, traces and metrics, and an HTTP server to look at
// them: a zap logger that writes JSON, an OpenTelemetry tracer provider whose sampling follows the
// environment and the traffic, and a Prometheus registry.
//
// [New] builds them from a [Config] without touching a global, so that two services can live in one
// process. A collector that is slow or dead costs spans, which are counted, and nothing else.
//
// # Sampling
//
//	environment                         strategy                          share kept
//	development, staging                AlwaysOn                          all
//	production                          ParentBased(TraceIDRatioBased)    SampleRatio, 10 to 20 %
//	production above 10,000 requests/s  ParentBased(TraceIDRatioBased)    1 to 5 %
//
// The last row is entered and left by the measured rate of requests, with hysteresis, and keeps
// about 500 traces a second. The share in force is the metric trace_sampling_ratio.
//
// Sampling in the service and "keep every error" exclude each other: nine of ten error traces
// would be gone before a collector could see them. With SamplingMode "tail" the service keeps
// everything and the collector decides.
//
// The standard variables OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG override all of this.
package telemetry
