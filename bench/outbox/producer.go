package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// producer is a way to write the events of business transactions. rates are its
// transactions a second, by the number of clients, one a turn; cpu are the microseconds
// that one of them took of all CPUs.
type producer struct {
	name   string
	system system.System // nil changes the business row only
	relay  bool
	listen bool

	database *lab.Database
	rates    map[int][]float64
	cpu      map[int][]float64
	lag      int // the most events that a relay was behind at the end of a round
}

// producers begin with the two that are compared most: they take two turns in each
// round, A B B A and then B A A B, so that neither gains from when a checkpoint was. The
// others take a turn in every third round.
// Only Slipway's relay runs: those of the peers could only slow them down.
func producers() []*producer {
	return []*producer{
		{name: "bare_insert", system: system.Slipway(outbox.Config{})},
		{name: "ours_with_relay", system: system.Slipway(outbox.Config{}), relay: true},
		{name: "business_only"},
		{name: "plain_table", system: system.Claim(1000)},
		{name: "notify", system: system.Notifying(), listen: true},
		{name: "watermill", system: system.WatermillDefault(system.WatermillOptions{Batch: 100})},
		{name: "river", system: system.River()},
	}
}

func runProducers(ctx context.Context, b *bench) error {
	rounds := 3 * pick(b.options, b.runs, 4, 1)
	length := pick(b.options, 0, 4*time.Second, time.Second)
	clients := []int{16, 64}
	all := producers()
	if b.alone {
		all = all[:2]
	}
	for _, p := range all {
		if err := p.prepare(ctx, b.server); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	first, second, others := all[0], all[1], all[2:]
	for round := range rounds {
		turns := []*producer{first, second, second, first}
		first, second = second, first
		if round%3 == 0 {
			turns = append(turns, others...)
		}
		for _, n := range clients {
			if err := b.server.Checkpoint(ctx); err != nil {
				return err
			}
			for _, p := range turns {
				if err := p.round(ctx, n, length); err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
			}
			logf("  round %d of %d, %d clients:%s", round+1, rounds, n, lastRates(all, n))
		}
		slices.Reverse(others)
	}
	b.print(producerLine(all, clients, rounds))
	var errs []error
	for _, p := range all {
		errs = append(errs, p.database.Drop(ctx))
	}
	return errors.Join(errs...)
}

func lastRates(all []*producer, clients int) string {
	var text string
	for _, p := range all {
		text += fmt.Sprintf(" %s %.0f/s", p.name, p.rates[clients][len(p.rates[clients])-1])
	}
	return text
}

func (p *producer) prepare(ctx context.Context, server *lab.Server) error {
	db, err := server.Create(ctx)
	if err != nil {
		return err
	}
	p.database, p.rates, p.cpu = db, make(map[int][]float64), make(map[int][]float64)
	return furnish(ctx, db, p.system)
}

// round lets clients write for a while, after a short time to warm up.
func (p *producer) round(ctx context.Context, clients int, length time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return openShop(ctx, p.database, p.system, clients, func(s *shop) error {
		detach, err := p.attach(ctx, s)
		if err != nil {
			return err
		}
		w, err := s.measure(ctx, clients, length)
		p.rates[clients] = append(p.rates[clients], w.rate)
		p.cpu[clients] = append(p.cpu[clients], float64(w.cpu.Microseconds()))
		if p.relay {
			p.lag = max(p.lag, w.lag)
		}
		return errors.Join(err, detach())
	})
}

// attach runs what belongs to the producer: its relay, or who listens for its
// notifications.
func (p *producer) attach(ctx context.Context, s *shop) (detach func() error, err error) {
	switch {
	case p.relay:
		relay, err := startRelay(ctx, p.system, p.database.URL, &s.sink)
		if err != nil {
			return nil, err
		}
		s.wake = relay.Wake
		return func() error {
			err := s.drained(ctx)
			return errors.Join(err, relay.stop())
		}, nil
	case p.listen:
		conn, err := pgx.Connect(ctx, p.database.URL)
		if err != nil {
			return nil, fmt.Errorf("connect to database: %w", err)
		}
		return listen(ctx, conn)
	default:
		return func() error { return nil }, nil
	}
}

// listen hears notifications and does nothing with them.
func listen(ctx context.Context, conn *pgx.Conn) (stop func() error, err error) {
	if _, err := conn.Exec(ctx, "LISTEN outbox"); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), conn.Close(ctx))
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return
			}
		}
	}()
	return func() error {
		cancel()
		<-ended
		return conn.Close(context.WithoutCancel(ctx))
	}, nil
}

// producerLine gives ratios that are medians of those of the rounds. cpu_ratio is what a
// transaction takes of all CPUs without the relay to what it takes with it: where they
// are busy it is the ratio of the rates.
func producerLine(all []*producer, clients []int, rounds int) *figure.Line {
	byName := make(map[string]*producer)
	for _, p := range all {
		byName[p.name] = p
	}
	line := figure.NewLine("B3")
	ratio := func(key, of, base string, n int) {
		a, b := byName[of].rates[n], byName[base].rates[n]
		line.Ratio(fmt.Sprintf("%s_%d", key, n), figure.PairedRatio(a, b)).
			Ratio(fmt.Sprintf("%s_%d_spread", key, n), figure.PairedSpread(a, b))
	}
	bare, ours := byName["bare_insert"], byName["ours_with_relay"]
	for _, n := range clients {
		ratio("ratio", ours.name, bare.name, n)
		low, high := figure.PairedInterval(ours.rates[n], bare.rates[n])
		line.Ratio(fmt.Sprintf("ratio_%d_low", n), low).Ratio(fmt.Sprintf("ratio_%d_high", n), high).
			Ratio(fmt.Sprintf("cpu_ratio_%d", n), figure.PairedRatio(bare.cpu[n], ours.cpu[n])).
			Ratio(fmt.Sprintf("cpu_ratio_%d_spread", n), figure.PairedSpread(bare.cpu[n], ours.cpu[n])).
			Rate(fmt.Sprintf("cpu_us_%d", n), figure.Median(ours.cpu[n]))
	}
	for _, n := range clients {
		if byName["notify"] != nil { // and with it the other peers
			ratio("notify_ratio", "notify", "plain_table", n)
		}
		for _, p := range all {
			line.Rate(fmt.Sprintf("%s_%d", p.name, n), figure.Median(p.rates[n]))
		}
	}
	return line.Int("relay_lag_max", ours.lag).Int("rounds", rounds)
}
