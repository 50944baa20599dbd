package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/migrations"
)

// BenchmarkReservations_Reserve has 64 clients reserve, on a server whose commits are durable: each an
// article of its own, or all the same one. What a bare UPDATE of the row of that one takes is the most that
// a database can do there.
func BenchmarkReservations_Reserve(b *testing.B) {
	const clients = 64
	dir, err := pgserver.Place(b.TempDir())
	require.NoError(b, err)
	server, err := pgserver.Start(b.Context(), pgserver.Config{Dir: dir})
	if err != nil {
		b.Skip("no PostgreSQL on this machine:", err)
	}
	b.Cleanup(func() { _ = server.Stop(context.Background()) })
	_, err = migrate.Up(b.Context(), server.URL("postgres"), barrier.Migrations(), migrate.Component{Name: "inventory", FS: migrations.FS})
	require.NoError(b, err)
	pool, err := postgres.Open(b.Context(), postgres.Config{URL: server.URL("postgres"), MaxConns: 20}, nil, nil, nil)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	s := bundle{newStores(pool), pool}

	reserve := func(line domain.Line) error {
		_, err := s.Reserve(context.Background(), reservation(b, line))
		return err
	}
	bare := func(line domain.Line) error {
		_, err := pool.Exec(context.Background(), "UPDATE stock SET reserved = reserved + $2 WHERE sku = $1", line.SKU, line.Quantity)
		return err
	}
	for _, row := range []struct {
		name     string
		articles int
		do       func(domain.Line) error
	}{{"articles=64", clients, reserve}, {"articles=1", 1, reserve}, {"bare_update", 1, bare}} {
		b.Run(row.name, func(b *testing.B) {
			for n := range row.articles {
				s.set(b, sku(n), 1_000_000_000)
			}
			all := share(b, clients, func(client int) error { return row.do(domain.Line{SKU: sku(client % row.articles), Quantity: 1}) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64(all[len(all)*99/100])/1e6, "p99-ms")
		})
	}
}

// share has the clients do the work of the benchmark, and returns how long each call took, sorted.
func share(b *testing.B, clients int, do func(client int) error) []time.Duration {
	b.Helper()
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	took := make([][]time.Duration, clients)
	var running sync.WaitGroup
	b.ResetTimer()
	for c := range clients {
		running.Go(func() {
			for range work {
				began := time.Now()
				if err := do(c); err != nil {
					b.Error(err)
					return
				}
				took[c] = append(took[c], time.Since(began))
			}
		})
	}
	running.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	return all
}

func sku(n int) string { return fmt.Sprintf("SKU-%d", n) }
