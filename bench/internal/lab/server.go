// Package lab provides what a benchmark needs around the thing it measures: a
// PostgreSQL server of its own, fresh databases, load, and counters.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// settings are those of a durable server on a small machine. Checkpoints happen
// when a benchmark asks for one: in the middle of a run they would hit one side.
var settings = map[string]string{
	"max_connections":          "200",
	"shared_buffers":           "512MB",
	"max_wal_size":             "4GB",
	"checkpoint_timeout":       "1h",
	"fsync":                    "on",
	"synchronous_commit":       "on",
	"autovacuum_naptime":       "10s",
	"log_min_messages":         "fatal",
	"shared_preload_libraries": "pg_stat_statements",
	"pg_stat_statements.track": "none", // but for the databases that count
}

// Server is a private PostgreSQL server. Its methods may be called concurrently.
type Server struct {
	pg    *pgserver.Server
	dir   string
	admin *pgxpool.Pool
	count atomic.Int64
}

// Start runs a server in a folder of its own below /var/tmp, which Close removes.
func Start(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("/var/tmp", "slipway-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the server runs under another account
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	pg, err := pgserver.Start(ctx, pgserver.Config{Dir: dir, Settings: settings})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &Server{pg: pg, dir: dir}
	if s.admin, err = pgxpool.New(ctx, pg.URL("postgres")); err != nil {
		return nil, errors.Join(fmt.Errorf("open database pool: %w", err), s.Close(ctx))
	}
	// The view shows the statements of all databases.
	if _, err := s.admin.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return nil, errors.Join(fmt.Errorf("create extension: %w", err), s.Close(ctx))
	}
	return s, nil
}

// Dir is the server's folder, on the disk that is being measured.
func (s *Server) Dir() string { return s.dir }

// Close ends the server and removes its data.
func (s *Server) Close(ctx context.Context) error {
	if s.admin != nil {
		s.admin.Close()
	}
	return errors.Join(s.pg.Stop(context.WithoutCancel(ctx)), os.RemoveAll(s.dir))
}

// Database is one of a Server. Drop it.
type Database struct {
	// Name and URL identify it.
	Name, URL string
	server    *Server
}

// Create makes an empty database.
func (s *Server) Create(ctx context.Context) (*Database, error) { return s.create(ctx, "template0") }

// Copy makes a database that is like d, to whom nobody may be connected.
func (d *Database) Copy(ctx context.Context) (*Database, error) { return d.server.create(ctx, d.Name) }

func (s *Server) create(ctx context.Context, template string) (*Database, error) {
	name := fmt.Sprintf("run_%d", s.count.Add(1))
	// FILE_COPY keeps the pages as they are and writes no WAL for them.
	sql := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY FILE_COPY", name, template)
	if _, err := s.admin.Exec(ctx, sql); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	return &Database{Name: name, URL: s.pg.URL(name), server: s}, nil
}

// Server is where the database is.
func (d *Database) Server() *Server { return d.server }

// Drop removes the database and who is connected to it.
func (d *Database) Drop(ctx context.Context) error {
	_, err := d.server.admin.Exec(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+d.Name+" WITH (FORCE)")
	if err != nil {
		return fmt.Errorf("drop database: %w", err)
	}
	return nil
}

// Pool opens a pool of at most n connections.
func (d *Database) Pool(ctx context.Context, n int) (*pgxpool.Pool, error) {
	return OpenPool(ctx, d.URL, n)
}

// OpenPool opens a pool of at most n connections.
func OpenPool(ctx context.Context, url string, n int) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	cfg.MaxConns = int32(n)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	return pool, nil
}

// Checkpoint writes what is dirty, so that no side pays for another one's writes.
func (s *Server) Checkpoint(ctx context.Context) error {
	if _, err := s.admin.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// Exec runs statements in the database at url, one after the other, each by the
// simple protocol: DO blocks may commit.
func Exec(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("execute %.80q: %w", sql, err)
		}
	}
	return nil
}

// Autovacuum switches it on or off. It begins on.
func (s *Server) Autovacuum(ctx context.Context, on bool) error {
	for _, sql := range []string{fmt.Sprintf("ALTER SYSTEM SET autovacuum = %t", on), "SELECT pg_reload_conf()"} {
		if _, err := s.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("set autovacuum: %w", err)
		}
	}
	return nil
}

// Major is the server's version.
func (s *Server) Major() int { return s.pg.Binaries().Major }
