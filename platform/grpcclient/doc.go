// Package grpcclient opens connections to other services the way production needs them:
// every unary call has a deadline, what may be repeated is repeated within a budget, replicas
// that are not ready get no calls, and every call is counted and timed.
//
// # Retries
//
// A method is retried only when its protobuf definition says that this is safe, by
// idempotency_level NO_SIDE_EFFECTS or IDEMPOTENT, and its service was named with
// [WithServices]. Only UNAVAILABLE is retried: the call found nobody to answer it, and
// another replica may. RESOURCE_EXHAUSTED is not, because it asks for less load, or means a
// message that will be too large every time.
//
// A connection has a budget of 10 tokens. A retryable failure takes one, a success gives a
// tenth of one back, and with 5 or fewer left nothing is retried. So a service gets at most
// the calls, a tenth of those that succeed, and 5 more: 1.1 times its usual load, whatever
// fails when. The deadline spans all attempts.
// [WithoutRetry] exempts one call, [WithoutRetries] a connection.
//
// # Circuit breakers
//
// Calls of a target that fails are not made: see package breaker. A connection has one breaker,
// and methods may have their own ([WithMethodBreaker]). It stands before the whole call, so what
// counts is whether a call succeeded in the end, whatever its attempts.
//
// UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS are failures. CANCELED,
// UNAUTHENTICATED and RESOURCE_EXHAUSTED count as nothing: the caller went away, has no
// credential, or asks too often or for too much. Every other code is an answer. A stream counts
// by what comes first: an error, a message, its end, or nothing for as long as Timeout.
// Health checks and reflection are always made.
//
// A call that is not made returns UNAVAILABLE, with a RetryInfo that says when to try again; it
// is a [breaker.RejectedError] by errors.As.
//
// # Replicas
//
// Calls go in turn to every address that the target resolves to, and only to those whose
// health service answers SERVING for "readiness". A server without the health service
// counts as ready; one that has it but does not know the name "readiness" does not.
//
// A headless service in Kubernetes is named "dns:///orders.shop:50051". New replicas are
// found when a connection ends, so the servers should limit the age of connections.
//
// # What travels with a call
//
// The deadline, trace context and baggage as the propagator writes them, and the correlation
// id, if one was given, in the header x-correlation-id as well.
package grpcclient
