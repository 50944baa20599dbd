package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// counter is a sink that only counts.
type counter struct{ n atomic.Int64 }

func (c *counter) Publish(_ context.Context, messages []broker.Message) error {
	c.n.Add(int64(len(messages)))
	return nil
}

// fill stores n events of 1000 aggregates with 256 bytes each, in transactions of 1000.
func fill(tb testing.TB, pool *pgxpool.Pool, n int) {
	tb.Helper()
	const each = 1000
	for i := 0; i < n; i += each {
		exec(tb, pool, fmt.Sprintf(`insert into slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version, event_type,
			event_version, payload, headers) select (select slot from slipway.outbox_rotation where current), 0, gen_random_uuid(), 'order', (i %% 1000)::text, i / 1000 + 1, 'order.placed', 1,
			decode(repeat('78', 256), 'hex'), '{"traceparent":"00-01000000000000000000000000000000-0200000000000000-01","correlation_id":"01000000000000000000000000000000"}'
			from generate_series(%d, %d) i`, i, i+each-1))
	}
}

func BenchmarkRelay_drain(b *testing.B) {
	const n = 200_000
	for _, batch := range []int{1000, 4000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			pool := setup(b)
			fill(b, pool, n)
			b.ResetTimer()
			for b.Loop() {
				exec(b, pool, "truncate slipway.outbox_sink, slipway.outbox_step cascade")
				s := &counter{}
				began := time.Now()
				_, _, stop := start(b, pool, s, outbox.Config{Batch: batch})
				eventually(b, func() bool { return s.n.Load() >= n })
				b.ReportMetric(n/time.Since(began).Seconds(), "events/s")
				stop()
			}
		})
	}
}
