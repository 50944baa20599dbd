// Package postgres opens pools of PostgreSQL connections that survive a
// failover, owns the one way to run a transaction, and checks a database's
// health without taking a connection from the pool.
//
// Connections go to a server that accepts writes (target_session_attrs is
// read-write unless the URL says otherwise), so a URL with several hosts finds
// the new primary after a failover. A connection that has reported a read-only
// or ending server is not used again. Statements, lock waits and idle
// transactions have timeouts on the server.
package postgres
