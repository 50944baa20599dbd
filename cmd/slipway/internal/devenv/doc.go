// Package devenv runs a project on one machine, for development: the servers that
// its services need, the services themselves, and one merged log.
//
// Everything that belongs to it is in .slipway/ beside slipway.yaml:
//
//	bin/              the services, as built last
//	build/            what the compiler needs for the moment
//	postgres/         the private PostgreSQL (elsewhere when root may not hand this folder over)
//	redis/ nats/      data and logs of the other servers
//	observability/    configuration, data and logs of the observability stack
//	logs/             the services' output, for the collector
//	credentials.json  passwords of the databases
//	dev.log           the log of an environment that runs in the background
//	run/              lock, state and a record of each process, while it runs
//
// The processes end with the one that started them: in order when it is asked to
// stop, at once on Linux when it is killed, and at the latest with the next start,
// which ends what the records name.
package devenv
