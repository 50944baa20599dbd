// Package telemetry gives a service its logs, traces and metrics, and an HTTP server to look at
// them: a zap logger that writes JSON, an OpenTelemetry tracer provider whose sampling follows the
// environment and the traffic, and a Prometheus registry.
//
// [New] builds them from a [Config] without touching a global, so that two services can live in one
// process. A collector that is slow or dead costs spans, which are counted, and nothing else: not
// the start, not a request, not the exit code.
//
// # Sampling
//
//	environment                         strategy                          share kept
//	development, staging                AlwaysOn                          all
//	production                          ParentBased(TraceIDRatioBased)    SampleRatio, 10 to 20 %
//	production above 10,000 requests/s  ParentBased(TraceIDRatioBased)    1 to 5 %
//
// The last row is entered and left by the rate of requests, measured over windows of five seconds:
// entered above 10,000/s, left after half a minute below 8,000/s. It spends a budget of about 500
// traces a second. The share in force is the metric trace_sampling_ratio.
//
// Sampling in the service and "keep every error" exclude each other: at 15 % six of seven error
// traces are gone before a collector could see them. With SamplingMode "tail" the service keeps
// everything, whatever its callers decided, and the collector decides.
//
// What a request causes later, a message or a step of a saga, is a trace of its own that links to
// the request's. In production it is kept if that was.
//
// With PublicEdge the sampled flag of a caller counts for nothing, and neither does its trace id:
// whoever may choose one of the two may choose to be traced always.
//
// The standard variables OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG override all of this.
//
// # Logs
//
// Each line has ts, level, msg, service, version and environment, and logger if it was named;
// [Fields] adds trace_id, span_id and correlation_id. Errors are logged as "error" ([zap.Error]),
// personal data with [Sensitive], durations as seconds under a key that says so, for example
// "wait_seconds". In production, lines below warn that repeat are thinned to the first 100 of a
// message and every 100th of the rest, each second; what is left out is counted in
// log_lines_dropped_total. Lines at warn and above are always written.
//
// # Where the ideas come from
//
// Samplers, their names and arguments, resource attributes, propagation and the batching of spans
// follow the OpenTelemetry specification; trace context and baggage on the wire are W3C
// recommendations; the thinning of repeated lines is zap's, restricted to lines that nobody is
// woken for.
package telemetry
