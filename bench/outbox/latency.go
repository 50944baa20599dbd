package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/internal/process"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// course is a way from a commit to a consumer of JetStream. Its figures have one entry
// a run.
type course struct {
	name   string
	system system.System
	ours   bool // publishes by Slipway's driver
	remote bool // another process has the lease, this one only tells it of commits
	single bool // publishes a message at a time, as it gets them

	p50, p99, most  []time.Duration // from commit to receipt
	due99           []time.Duration // from when it was due
	rate, sustained []float64       // received a second: at the pace, and without one
	missing         int
}

func courses() []*course {
	ours := system.Slipway(outbox.Config{})
	return []*course{
		{name: "ours", system: ours, ours: true},
		{name: "ours_remote", system: ours, ours: true, remote: true},
		{name: "watermill", system: system.WatermillDefault(system.WatermillOptions{Batch: 100}), single: true},
		{name: "watermill_50ms", system: system.WatermillDefault(system.WatermillOptions{Batch: 100, Poll: 50 * time.Millisecond}), single: true},
		{name: "claim_100ms", system: system.Claim(1000)},
	}
}

func runLatency(ctx context.Context, b *bench) (err error) {
	length := pick(b.options, b.duration, 30*time.Second, 4*time.Second)
	runs := pick(b.options, b.runs, 3, 1)
	server, err := startNATS(ctx, b.server.Dir(), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	all := courses()
	for run := range runs {
		for i := range all {
			c := all[(run+i)%len(all)]
			if err := c.run(ctx, b, server, length); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			logf("  run %d: %s p50 %s p99 %s max %s, from due p99 %s, %.0f/s, without pace %.0f/s, %d missing", run+1, c.name,
				c.p50[run], c.p99[run], c.most[run], c.due99[run], c.rate[run], c.sustained[run], c.missing)
		}
	}
	b.print(latencyLine(all, runs, length))
	return nil
}

// run measures on a database and a stream of its own.
func (c *course) run(ctx context.Context, b *bench, server *natsServer, length time.Duration) (err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	if err := furnish(ctx, db, c.system); err != nil {
		return err
	}
	if err := b.server.Checkpoint(ctx); err != nil {
		return err
	}
	l, err := connectNATS(server.url)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.newStream(ctx); err != nil {
		return err
	}
	return c.travel(ctx, db, l, server.url, length)
}

func (c *course) travel(ctx context.Context, db *lab.Database, l *link, url string, length time.Duration) error {
	n := int(length.Seconds() * paceRate)
	j := newJourneys(n)
	stop, err := l.consume(ctx, j.receive)
	if err != nil {
		return err
	}
	defer stop()
	if c.remote { // it must be first, to have the lease
		active, err := process.Start(ctx, new(int), "-serve", liveRelayProcess, "-url", db.URL, "-sink", url)
		if err != nil {
			return err
		}
		defer active.Kill()
		sleep(ctx, time.Second)
	}
	pub, closePub, err := c.publisher(l, url)
	if err != nil {
		return err
	}
	defer closePub()
	relay, err := startRelay(ctx, c.system, db.URL, pub)
	if err != nil {
		return err
	}
	err = openShop(ctx, db, c.system, paceClients, func(s *shop) error {
		s.wake = relay.Wake
		return c.measure(ctx, s, j, n, length)
	})
	return errors.Join(err, relay.stop())
}

func (c *course) publisher(l *link, url string) (broker.Publisher, func(), error) {
	switch {
	case c.ours:
		pub, err := dialOurs(url, false)
		if err != nil {
			return nil, nil, err
		}
		return pub, pub.close, nil
	case c.single:
		return oneByOne{l}, func() {}, nil
	default:
		return async{l}, func() {}, nil
	}
}

// measure keeps the pace, waits for what is under way, and then writes as fast as it
// can.
func (c *course) measure(ctx context.Context, s *shop, j *journeys, n int, length time.Duration) error {
	if err := s.warm(ctx); err != nil {
		return err
	}
	j.settle(ctx, n, 2*time.Second)
	j.reset()
	begin := time.Now()
	if err := s.pace(ctx, n, j.commit); err != nil {
		return err
	}
	c.rate = append(c.rate, float64(j.arrived.Load())/time.Since(begin).Seconds())
	j.settle(ctx, n, 10*time.Second)
	committed, due, missing := j.waited(0, n)
	c.missing += missing
	c.p50 = append(c.p50, figure.Percentile(committed, 50))
	c.p99 = append(c.p99, figure.Percentile(committed, 99))
	c.most = append(c.most, figure.Percentile(committed, 100))
	c.due99 = append(c.due99, figure.Percentile(due, 99))

	before, begin := j.arrivals.Load(), time.Now()
	if _, err := s.measure(ctx, paceClients, length/4); err != nil {
		return err
	}
	c.sustained = append(c.sustained, float64(j.arrivals.Load()-before)/time.Since(begin).Seconds())
	return nil
}

func latencyLine(all []*course, runs int, length time.Duration) *figure.Line {
	line := figure.NewLine("B2")
	for _, c := range all {
		line.Millis(c.name+"_p50_ms", middle(c.p50)).Millis(c.name+"_p99_ms", middle(c.p99)).
			Millis(c.name+"_max_ms", middle(c.most)).Millis(c.name+"_due_p99_ms", middle(c.due99)).
			Ratio(c.name+"_p99_spread", figure.Spread(seconds(c.p99))).
			Rate(c.name+"_rate", figure.Median(c.rate)).Rate(c.name+"_sustained", figure.Median(c.sustained)).
			Int(c.name+"_missing", c.missing)
	}
	return line.Int("rate", paceRate).Int("writers", paceClients).Text("duration", length.String()).Int("runs", runs)
}

func seconds(times []time.Duration) []float64 {
	all := make([]float64, len(times))
	for i, t := range times {
		all[i] = t.Seconds()
	}
	return all
}

func middle(times []time.Duration) time.Duration {
	return time.Duration(figure.Median(seconds(times)) * float64(time.Second))
}
