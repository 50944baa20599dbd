// Package migrate applies versioned SQL files to a PostgreSQL database.
//
// The files are in the directory format of Atlas: <version>_<description>.sql in
// the order of their names, and a file atlas.sum with their hashes, which Hash
// writes. A database takes the files of several components in one run: those of
// platform packages, which embed theirs, and those of a service. Each applied
// file has a row in slipway.schema_migrations.
//
// One run at a time changes a database: a run holds an advisory lock from its
// first look to its last statement, on the connection that also executes the
// files, so that neither can outlive the other. Poolers that hand each
// transaction to another server connection break that: use a direct URL.
//
// What is true after a crash: a file is applied with its row, or not at all. A
// file that begins with
//
//	-- atlas:txmode none
//
// and a blank line is executed statement by statement without a transaction
// (for CREATE INDEX CONCURRENTLY); its row counts the statements that are done,
// and the next run goes on with the one that follows. The statement that ran
// when a crash came may have been done without having been counted: write it so
// that it can be repeated.
package migrate
