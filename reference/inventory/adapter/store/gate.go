package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// width is how many reservations of the same article are in the database at once: one that has its row,
// and some that are ready for it.
const width = 4

// gate lets few of those who want the same article into the database. There they would only wait for its
// row, each with a connection that reservations of other articles need. It is safe for concurrent use.
type gate struct {
	seed maphash.Seed
	// places are for all articles; two that share one have less of it, and nothing else.
	places [256]chan struct{}
}

func newGate() *gate {
	g := &gate{seed: maphash.MakeSeed()}
	for i := range g.places {
		g.places[i] = make(chan struct{}, width)
	}
	return g
}

// enter waits for a place for each line, first come first served, until ctx ends. Everybody takes places
// in one order. The caller must leave, unless there is an error.
func (g *gate) enter(ctx context.Context, lines []domain.Line) (leave func(), err error) {
	var wanted []uint64
	for _, l := range lines {
		wanted = append(wanted, maphash.String(g.seed, l.SKU)%uint64(len(g.places)))
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	for i, place := range wanted {
		select {
		case g.places[place] <- struct{}{}:
		case <-ctx.Done():
			g.leave(wanted[:i])
			return nil, fmt.Errorf("wait for others who reserve the same: %w", ctx.Err())
		}
	}
	return func() { g.leave(wanted) }, nil
}

func (g *gate) leave(places []uint64) {
	for _, place := range places {
		<-g.places[place]
	}
}
