// Package pgserver runs a private PostgreSQL server from binaries that are
// installed on the machine: for development, for tests and for fault drills.
//
// A server lives in one folder (Config.Dir):
//
//	data/         the cluster, made by initdb at the first start
//	password      the superuser's password, drawn at the first start
//	postgres.log  the server's log
//	run/          the unix socket (in /tmp when the path would be too long)
//	lock          held by the process that runs the server
//
// It listens on 127.0.0.1 with password authentication and on a unix socket in
// a folder that only its own account can enter. Started by root it runs as the
// owner of its data, else as postgres, else as nobody.
//
// The server ends with the process that started it, however that ends. What a
// crash leaves behind all the same (a stale postmaster.pid, a paused server) is
// cleaned up by the next Start in the same folder.
package pgserver
