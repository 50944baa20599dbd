package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipwayhq/slipway/bench/internal/process"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// streamName is that of the stream that all publish to, and streamSubject what it
// holds.
const (
	streamName    = "BENCH"
	streamSubject = system.Kind + ".>"
)

// natsTimeout bounds the start of a server and calls to it.
const natsTimeout = 30 * time.Second

// serveNATS is the process of a server with JetStream. It says where it listens and
// ends with its input.
func serveNATS(dir string, always bool) error {
	s, err := natsserver.NewServer(&natsserver.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: natsserver.RANDOM_PORT,
		JetStream: true, StoreDir: dir, SyncAlways: always, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	go s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(natsTimeout) {
		return errors.New("NATS does not accept connections")
	}
	return process.Serve(os.Stdin, os.Stdout, s.ClientURL(), noAnswer)
}

// natsServer is a server in a process of its own.
type natsServer struct {
	url     string
	dir     string
	process *process.Process
}

// startNATS keeps the server's files below dir.
func startNATS(ctx context.Context, dir string, always bool) (*natsServer, error) {
	s := &natsServer{}
	var err error
	if s.dir, err = os.MkdirTemp(dir, "nats-"); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	kind := natsProcess
	if always {
		kind = natsAlwaysProcess
	}
	s.process, err = process.Start(ctx, &s.url, "-serve", kind, "-dir", filepath.Join(s.dir, "store"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *natsServer) stop() error { return errors.Join(s.process.Stop(), os.RemoveAll(s.dir)) }

// link is a connection to a server. Close it.
type link struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

func connectNATS(url string) (*link, error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &link{conn, js}, nil
}

func (l *link) close() { l.conn.Close() }

// newStream makes an empty stream, whatever was there.
func (l *link) newStream(ctx context.Context) error {
	err := l.js.DeleteStream(ctx, streamName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream: %w", err)
	}
	_, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{streamSubject}, Storage: jetstream.FileStorage, Replicas: 1,
		// As Slipway's driver declares it. The others do not notice.
		AllowAtomicPublish: true, AllowBatchPublish: true,
	})
	if err != nil {
		return fmt.Errorf("create stream: %w", err)
	}
	return nil
}

// stored returns how many messages the stream has.
func (l *link) stored(ctx context.Context) (int, error) {
	s, err := l.js.Stream(ctx, streamName)
	if err != nil {
		return 0, fmt.Errorf("look at stream: %w", err)
	}
	return int(s.CachedInfo().State.Msgs), nil
}

// consume hands each message to fn until stop is called.
func (l *link) consume(ctx context.Context, fn func(payload []byte)) (stop func(), err error) {
	c, err := l.js.CreateOrUpdateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000,
	})
	if err != nil {
		return nil, fmt.Errorf("create consumer: %w", err)
	}
	run, err := c.Consume(func(m jetstream.Msg) {
		fn(m.Data())
		_ = m.Ack() // what is not acknowledged comes again, and changes nothing then
	})
	if err != nil {
		return nil, fmt.Errorf("consume: %w", err)
	}
	return func() {
		run.Stop()
		<-run.Closed()
	}, nil
}

func toNATS(m broker.Message) *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Data: m.Payload, Header: make(nats.Header, len(m.Headers)+1)}
	for key, value := range m.Headers {
		out.Header.Set(key, value)
	}
	out.Header.Set(nats.MsgIdHdr, m.Dedup())
	return out
}

// oneByOne publishes a message at a time and waits for each, as watermill's publisher
// for JetStream does.
type oneByOne struct{ *link }

// Publish implements broker.Publisher.
func (p oneByOne) Publish(ctx context.Context, messages []broker.Message) error {
	for i := range messages {
		if _, err := p.js.PublishMsg(ctx, toNATS(messages[i])); err != nil {
			return fmt.Errorf("publish message: %w", err)
		}
	}
	return nil
}

// async publishes a batch without waiting for one before the next, and then waits for
// all. It keeps no order when one of them fails.
type async struct{ *link }

// Publish implements broker.Publisher.
func (p async) Publish(ctx context.Context, messages []broker.Message) error {
	futures := make([]jetstream.PubAckFuture, len(messages))
	for i := range messages {
		var err error
		if futures[i], err = p.js.PublishMsgAsync(toNATS(messages[i])); err != nil {
			return fmt.Errorf("publish message: %w", err)
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return fmt.Errorf("publish message: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
