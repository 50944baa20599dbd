// Package postgrestest gives tests real PostgreSQL databases.
//
// New returns a fresh database with the migrations of the components applied.
// All tests of a test binary share one server, started by the first one: in a
// container when a Docker engine answers, else from binaries on this machine
// (see pgserver). A set of components is migrated once, into a template that
// further databases are copied from. Without either kind of server the test is
// skipped with the reason, or fails where the environment variable CI is set.
//
// The server gives up durability for speed and ends with the test binary. Its
// folder is removed by Closing, else by a later run.
//
// StartServer and StartPair start servers that a test may stop, kill, pause and
// promote.
package postgrestest
