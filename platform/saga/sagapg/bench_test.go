package sagapg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

type nothing struct {
	N int `json:"n"`
}

// BenchmarkRunner runs sagas of three steps that do nothing, from Start to the end.
func BenchmarkRunner(b *testing.B) {
	for _, clients := range []int{1, 16, 64, 512} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			pool := setup(b)
			var mu sync.Mutex
			waiting := map[string]chan struct{}{}
			step := func(context.Context, *saga.Call[nothing]) error { return nil }
			last := func(_ context.Context, c *saga.Call[nothing]) error {
				mu.Lock()
				defer mu.Unlock()
				close(waiting[c.SagaID])
				return nil
			}
			d := saga.Define("bench", 1, saga.Step("one", step), saga.Step("two", step), saga.Step("three", last))
			r, err := sagapg.NewRunner(pool, []sagapg.Definition{d}, sagapg.Config{Concurrency: 1024}, nil, nil, nil)
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			var clientsDone sync.WaitGroup
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			began := time.Now()
			for range clients {
				clientsDone.Go(func() {
					for range work {
						id, over := newID(), make(chan struct{})
						mu.Lock()
						waiting[id] = over
						mu.Unlock()
						assert.NoError(b, sagapg.Launch(ctx, r, d, id, nothing{}))
						<-over
					}
				})
			}
			clientsDone.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "sagas/s")
			cancel()
			require.NoError(b, <-done)
		})
	}
}
