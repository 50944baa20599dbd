// Package health tells the world whether this process should be sent work, and why not.
//
// A [Monitor] checks the dependencies of a service in the background and publishes the
// outcome over grpc.health.v1 (Check, Watch and List), as metrics and to the code that
// asks. Liveness and readiness are different questions and have different answers:
//
//	""                  readiness, for clients that do not name a service
//	readiness           every critical dependency answers and the process is not draining
//	liveness            SERVING as long as the process answers at all
//	startup             SERVING once all critical dependencies have answered, then for good
//	dependency/<name>   that dependency answers
//
// Probes must name the service. A liveness probe that asked for "" would restart every
// replica when the database is down, and turn an outage of seconds into one of minutes.
//
// # A dependency's life
//
//	           pass                    FailureThreshold failures in a row
//	unknown ----------> up ------------------------------------------------> down
//	   |                 ^                                                     |
//	   | failure         +------------------------- pass ----------------------+
//	   +-----------------------------------------------------------------------^
//
// Readiness starts as NOT_SERVING and stays so until each critical dependency has passed.
// An optional dependency that is down is reported (service, gauge, log) and changes
// nothing else. After [Monitor.Drain] readiness is NOT_SERVING for good: no later check
// can bring it back.
package health
