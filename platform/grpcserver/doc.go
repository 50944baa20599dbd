// Package grpcserver serves gRPC the way production needs it: every call is bounded,
// authenticated, validated, measured and logged, errors say to clients what they may know,
// and the server goes away without failing a call.
//
// # What happens to a call
//
//	connection   TLS · handshake bounded · age and keepalive policy · streams and sizes bounded
//	otelgrpc     trace context and baggage read, span started (not for health checks)
//	begin        started and in-flight counted, clock started, panics caught from here on
//	admit        correlation id · deadline floor and ceiling · authenticator · rate limit
//	receive      decoded · validated by the rules in its protobuf definition
//	handler
//	end          error -> status · counted · timed, with an exemplar if traced · one log line
//
// All of it but the first two lines is one function around each method, with everything it
// needs resolved when the service is registered. The health service is exempt from
// authentication and limits, and logged at debug level.
//
// # Errors
//
// A handler returns a fault, an error that the table of [WithErrors] knows, or anything
// else, which becomes INTERNAL with a fixed text and the trace id. Causes are logged with
// the call and never sent. Violations, reasons, retry delays and trace ids travel as
// google.rpc BadRequest, ErrorInfo, RetryInfo and RequestInfo.
//
// # Shutdown
//
// [Server.Shutdown] is the one place where the order in which a process stops is written
// down; an application adds its own steps with [Server.OnShutdown].
//
//	readiness NOT_SERVING
//	StageIntake      consumers, relays and runners take no new work
//	DrainDelay       load balancers stop sending
//	GOAWAY           clients go elsewhere; streaming handlers' contexts end with ErrDraining
//	DrainTimeout     at most that long for calls in flight, then they are cut off
//	StageFinish      work in hand is finished or handed back
//	StageClose       connections close, last opened first
//	StageFlush       the last spans leave
//
// Every step is bounded, logged, and followed by the next whatever came of it.
package grpcserver
