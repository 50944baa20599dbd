// Package schedules runs simulations that are known by a seed.
package schedules

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Run plays the schedules 1 to n, on all CPUs, until one is broken. play adds to sum what
// it has seen; each CPU has a sum of its own, and add puts them together. bad is the
// lowest seed that play said no to, 0 if there was none.
func Run[T any](n uint64, play func(seed uint64, sum *T) (ok bool), add func(sum *T, part T)) (sum T, bad uint64) {
	var next atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var mine T
			var found uint64
			for seed := next.Add(1); seed <= n && found == 0; seed = next.Add(1) {
				if !play(seed, &mine) {
					found = seed
					next.Store(n)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			add(&sum, mine)
			if found != 0 && (bad == 0 || found < bad) {
				bad = found
			}
		})
	}
	wg.Wait()
	return sum, bad
}
