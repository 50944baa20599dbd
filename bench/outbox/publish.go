package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

const (
	// publishBatch is how many events Slipway's relay hands over at once.
	publishBatch = 1000
	// publishTime bounds a run: who is slower publishes fewer.
	publishTime = 10 * time.Second
	// publishKeys is over how many aggregates the events are spread.
	publishKeys = 1000
)

// track is a way to publish to JetStream. rates are its events a second, by whether
// the server syncs always, one a run.
type track struct {
	name  string
	open  func(url string, always bool) (broker.Publisher, func(), error)
	batch int // how much is handed over at once
	rates map[bool][]float64
}

func tracks() []*track {
	open := func(wrap func(*link) broker.Publisher) func(string, bool) (broker.Publisher, func(), error) {
		return func(url string, _ bool) (broker.Publisher, func(), error) {
			l, err := connectNATS(url)
			if err != nil {
				return nil, nil, err
			}
			return wrap(l), l.close, nil
		}
	}
	return []*track{
		{name: "ours", batch: publishBatch, rates: map[bool][]float64{}, open: func(url string, always bool) (broker.Publisher, func(), error) {
			pub, err := dialOurs(url, always)
			if err != nil {
				return nil, nil, err
			}
			return pub, pub.close, nil
		}},
		{name: "async_loop", batch: publishBatch, rates: map[bool][]float64{}, open: open(func(l *link) broker.Publisher { return flow{l} })},
		{name: "async_1000", batch: publishBatch, rates: map[bool][]float64{}, open: open(func(l *link) broker.Publisher { return async{l} })},
		{name: "one_by_one", batch: 100, rates: map[bool][]float64{}, open: open(func(l *link) broker.Publisher { return oneByOne{l} })},
	}
}

// flow publishes without ever waiting for more than the window of the connection: the
// fastest that a plain loop can be. What fails it learns at the end.
type flow struct{ *link }

// Publish implements broker.Publisher, but for the fate of the messages.
func (p flow) Publish(_ context.Context, messages []broker.Message) error {
	for i := range messages {
		if _, err := p.js.PublishMsgAsync(toNATS(messages[i]), jetstream.WithStallWait(natsTimeout)); err != nil {
			return fmt.Errorf("publish message: %w", err)
		}
	}
	return nil
}

// finish waits for all.
func (p flow) finish(ctx context.Context) error {
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func runPublish(ctx context.Context, b *bench) error {
	n := pick(b.options, b.events, 300_000, 20_000)
	runs := pick(b.options, b.runs, 3, 1)
	all := tracks()
	for _, always := range []bool{false, true} {
		if err := publishAll(ctx, b, all, n, runs, always); err != nil {
			return err
		}
	}
	b.print(publishLine(all, n, runs))
	return nil
}

func publishAll(ctx context.Context, b *bench, all []*track, n, runs int, always bool) (err error) {
	server, err := startNATS(ctx, b.server.Dir(), always)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	for run := range runs {
		for i := range all {
			t := all[(run+i)%len(all)]
			rate, done, err := t.run(ctx, server.url, n, always)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			t.rates[always] = append(t.rates[always], rate)
			logf("  run %d, sync always %t: %s publishes %d events at %.0f/s", run+1, always, t.name, done, rate)
		}
	}
	return nil
}

// run publishes n events to an empty stream, or as many as it can in the time, and
// looks whether they are there.
func (t *track) run(ctx context.Context, url string, n int, always bool) (rate float64, done int, err error) {
	admin, err := connectNATS(url)
	if err != nil {
		return 0, 0, err
	}
	defer admin.close()
	if err := admin.newStream(ctx); err != nil {
		return 0, 0, err
	}
	pub, closePub, err := t.open(url, always)
	if err != nil {
		return 0, 0, err
	}
	defer closePub()
	begin := time.Now()
	for done < n && time.Since(begin) < publishTime {
		messages := numbered(done, min(t.batch, n-done))
		if err := pub.Publish(ctx, messages); err != nil {
			return 0, done, err
		}
		done += len(messages)
	}
	if f, ok := pub.(flow); ok {
		if err := f.finish(ctx); err != nil {
			return 0, done, err
		}
	}
	rate = float64(done) / time.Since(begin).Seconds()
	stored, err := admin.stored(ctx)
	if err == nil && stored != done {
		err = fmt.Errorf("published %d messages, the stream has %d", done, stored)
	}
	return rate, done, err
}

// numbered makes the messages that Slipway's relay would.
func numbered(from, n int) []broker.Message {
	messages := make([]broker.Message, n)
	for i := range messages {
		number := from + i
		payload := make([]byte, system.PayloadSize)
		system.Mark(payload, int64(number%publishKeys), int64(number/publishKeys+1), int64(number))
		id, key := fmt.Sprintf("01920000-0000-7000-8000-%012d", number), system.Kind+"/"+strconv.Itoa(number%publishKeys)
		messages[i] = broker.Message{ID: id, Subject: system.Type, Key: key, Payload: payload, Headers: map[string]string{
			broker.HeaderID: id, broker.HeaderKey: key, broker.HeaderEventType: system.Type, broker.HeaderEventVersion: "1",
			broker.HeaderAggregateType: system.Kind, broker.HeaderAggregateID: strconv.Itoa(number % publishKeys),
			broker.HeaderAggregateVersion: strconv.Itoa(number/publishKeys + 1), broker.HeaderTime: "2026-01-02T03:04:05.678901Z",
		}}
	}
	return messages
}

func publishLine(all []*track, n, runs int) *figure.Line {
	line := figure.NewLine("B6")
	ours, loop := all[0], all[1]
	for _, mode := range []struct {
		suffix string
		always bool
	}{{"", false}, {"_always", true}} {
		for _, t := range all {
			line.Rate(t.name+mode.suffix, figure.Median(t.rates[mode.always]))
		}
		line.Ratio("ratio"+mode.suffix, figure.PairedRatio(ours.rates[mode.always], loop.rates[mode.always])).
			Ratio("spread"+mode.suffix, figure.Spread(ours.rates[mode.always]))
	}
	return line.Int("events", n).Int("runs", runs)
}
