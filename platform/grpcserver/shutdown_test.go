package grpcserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

var watchOrder = &orderv1.WatchOrderRequest{OrderId: orderID}

// blocking makes GetOrder wait for release, or for the end of the call if heeds.
func (b *bundle) blocking(heeds bool) (entered <-chan struct{}, release func()) {
	in, out := make(chan struct{}, 100), make(chan struct{})
	b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		in <- struct{}{}
		done := ctx.Done()
		if !heeds {
			done = nil
		}
		select {
		case <-out:
			return &orderv1.GetOrderResponse{}, nil
		case <-done:
			return nil, ctx.Err()
		}
	}
	return in, sync.OnceFunc(func() { close(out) })
}

// steps records in which order things happen.
type steps struct {
	mu    sync.Mutex
	names []string
}

func (s *steps) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

func (s *steps) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.names...)
}

func (s *steps) hook(name string) func(context.Context) error {
	return func(context.Context) error {
		s.add(name)
		return nil
	}
}

func TestServer_Shutdown_losesNoCallAndWaitsForNoStream(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{Reflection: true, DrainTimeout: patience})
	entered, release := b.blocking(true)

	answered := make(chan error, 10)
	for range cap(answered) {
		go func() {
			_, err := b.client.GetOrder(within(t), getOrder)
			answered <- err
		}()
		<-entered
	}
	orderStream, err := b.client.WatchOrder(within(t), watchOrder)
	require.NoError(t, err)
	healthStream, err := healthpb.NewHealthClient(b.conn).Watch(within(t), &healthpb.HealthCheckRequest{Service: "readiness"})
	require.NoError(t, err)
	first, err := healthStream.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, first.GetStatus())
	idleStream, err := reflectionpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(within(t))
	require.NoError(t, err)
	require.NoError(t, idleStream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}))
	listed, err := idleStream.Recv()
	require.NoError(t, err)
	require.Len(t, listed.GetListServicesResponse().GetService(), 4)
	b.watching(t, 1)

	shut := make(chan error, 1)
	go func() { shut <- b.Shutdown(within(t)) }()

	_, err = orderStream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, "server is draining", status.Convert(err).Message())
	second, err := healthStream.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, second.GetStatus())
	_, err = healthStream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	_, err = idleStream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), "a stream that waits for its client ends too")
	require.Empty(t, answered, "the calls are still in flight")
	require.Error(t, b.monitor.Ready())

	release()
	for range cap(answered) {
		require.NoError(t, <-answered)
	}
	require.NoError(t, <-shut)
	require.NoError(t, <-b.ran)
	require.Equal(t, 1, b.handled(t, "WatchOrder", "Unavailable"))
	require.Equal(t, "info", b.line(t, "WatchOrder")["level"], "an expected end is no warning")
}

func TestServer_Shutdown_failsNoCallUnderLoad(t *testing.T) {
	t.Parallel()
	leaving, staying := setup(t, grpcserver.Config{}), setup(t, grpcserver.Config{})
	replicas := manual.NewBuilderWithScheme("replicas")
	replicas.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: leaving.Addr().String()}, {Addr: staying.Addr().String()}}})
	conn, err := grpc.NewClient("replicas:///", grpc.WithResolvers(replicas), grpc.WithDisableRetry(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := orderv1.NewOrderServiceClient(conn)

	stop := make(chan struct{})
	failed := make(chan error, 8)
	for range cap(failed) {
		go func() {
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				if _, err := client.GetOrder(within(t), getOrder); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	served := func(b *bundle) int { return b.handled(t, "GetOrder", "OK") }
	require.Eventually(t, func() bool { return served(leaving) > 100 && served(staying) > 100 }, patience, time.Millisecond)
	require.NoError(t, leaving.Shutdown(within(t)))
	before := served(staying)
	require.Eventually(t, func() bool { return served(staying) > before+100 }, patience, time.Millisecond)
	close(stop)
	for range cap(failed) {
		require.NoError(t, <-failed)
	}
}

func TestServer_Shutdown_sendsClientsAwayBeforeItEndsStreams(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	peer := connect(t, b.Addr())
	peer.open(t, orderv1.OrderService_WatchOrder_FullMethodName, watchOrder)
	b.watching(t, 1)
	shut := make(chan error, 1)
	go func() { shut <- b.Shutdown(within(t)) }()
	require.Equal(t, http2.ErrCodeNo, peer.goneAway(t))
	for ended := false; !ended; {
		frame, err := peer.ReadFrame()
		require.NoError(t, err)
		switch frame := frame.(type) {
		case *http2.PingFrame:
			require.NoError(t, peer.WritePing(true, frame.Data))
		case *http2.HeadersFrame:
			ended = frame.StreamEnded()
		}
	}
	require.NoError(t, <-shut)
}

func TestServer_Shutdown_stepsInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{DrainDelay: 100 * time.Millisecond, ProbeAddr: "127.0.0.1:0"})
	var s steps
	probe := healthpb.NewHealthClient(dial(t, b.ProbeAddr()))
	ask := func(service string) healthpb.HealthCheckResponse_ServingStatus {
		got, _ := probe.Check(within(t), &healthpb.HealthCheckRequest{Service: service})
		return got.GetStatus()
	}
	b.OnShutdown(grpcserver.StageFlush, "telemetry", func(context.Context) error {
		assert.Equal(t, healthpb.HealthCheckResponse_SERVING, ask("liveness"))
		assert.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, ask("readiness"))
		s.add("telemetry")
		return nil
	})
	b.OnShutdown(grpcserver.StageClose, "postgres", s.hook("postgres"))
	b.OnShutdown(grpcserver.StageClose, "redis", s.hook("redis"))
	b.OnShutdown(grpcserver.StageFinish, "consumer", func(context.Context) error {
		s.add("consumer")
		if _, err := net.Dial("tcp", b.Addr().String()); err == nil {
			return errors.New("the port is still open")
		}
		return nil
	})
	b.OnShutdown(grpcserver.StageIntake, "relay", func(ctx context.Context) error {
		assert.True(t, b.monitor.Draining())
		_, err := b.client.GetOrder(ctx, getOrder)
		s.add("relay")
		return err // Calls are served during the delay.
	})
	start := time.Now()
	require.NoError(t, b.Shutdown(within(t)))
	require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
	require.Equal(t, []string{"relay", "consumer", "redis", "postgres", "telemetry"}, s.list())
	require.Len(t, b.logs.FilterMessage("shutdown step").All(), 5)
	_, err := probe.Check(within(t), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "the probe listener ends last")
}

func TestServer_Shutdown_goesOnAfterBadHooks(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{HookTimeout: 50 * time.Millisecond})
	var s steps
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	b.OnShutdown(grpcserver.StageIntake, "relay", func(context.Context) error { panic("boom") })
	b.OnShutdown(grpcserver.StageIntake, "runner", s.hook("runner"))
	b.OnShutdown(grpcserver.StageClose, "postgres", s.hook("postgres"))
	b.OnShutdown(grpcserver.StageClose, "broker", func(context.Context) error { <-hang; return nil })
	b.OnShutdown(grpcserver.StageClose, "redis", func(context.Context) error { return errors.New("already closed") })
	b.OnShutdown(grpcserver.StageFlush, "telemetry", s.hook("telemetry"))
	err := b.Shutdown(within(t))
	require.Equal(t, []string{"runner", "postgres", "telemetry"}, s.list())
	require.ErrorContains(t, err, "shut down relay: panic: boom")
	require.ErrorContains(t, err, "shut down redis: already closed")
	require.ErrorContains(t, err, "shut down broker: context deadline exceeded")
	require.NotContains(t, err.Error(), "postgres")
}

func TestServer_Shutdown_cutsOffWhatOutlastsIt(t *testing.T) {
	t.Parallel()
	for name, heeds := range map[string]bool{"a handler that heeds its context": true, "a handler that ignores it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, grpcserver.Config{DrainTimeout: 100 * time.Millisecond})
			var s steps
			b.OnShutdown(grpcserver.StageClose, "postgres", s.hook("postgres"))
			entered, release := b.blocking(heeds)
			defer release()
			answered := make(chan error, 1)
			go func() {
				_, err := b.client.GetOrder(within(t), getOrder)
				answered <- err
			}()
			<-entered
			start := time.Now()
			err := b.Shutdown(within(t))
			require.Less(t, time.Since(start), b.Budget()+time.Second)
			require.ErrorContains(t, err, "drain calls: 1 cut off after 1")
			require.Equal(t, codes.Unavailable, status.Code(<-answered))
			require.NoError(t, <-b.ran, "serving ends all the same")
			require.Equal(t, []string{"postgres"}, s.list())
			require.Equal(t, 1, b.count(t, "grpc_server_drain_cut_off_total"))
			ignored := b.logs.FilterMessage("handlers ignore the end of their calls").Len()
			require.Equal(t, !heeds, ignored == 1)
		})
	}
	t.Run("a stream whose handler ignores its end", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{DrainTimeout: 100 * time.Millisecond})
		hang := make(chan struct{})
		defer close(hang)
		b.orders.watch = func(*orderv1.WatchOrderRequest, grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
			<-hang
			return nil
		}
		stream, err := b.client.WatchOrder(within(t), watchOrder)
		require.NoError(t, err)
		b.watching(t, 1)
		require.ErrorContains(t, b.Shutdown(within(t)), "1 cut off")
		_, err = stream.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.NoError(t, <-b.ran)
	})
}

func TestServer_Shutdown_isNotHeldUp(t *testing.T) {
	t.Parallel()
	t.Run("by a connection on which nothing is sent", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{ConnectionTimeout: time.Hour, DrainTimeout: time.Hour, ProbeAddr: "127.0.0.1:0"})
		for _, addr := range []net.Addr{b.Addr(), b.ProbeAddr()} {
			silent, err := net.Dial("tcp", addr.String())
			require.NoError(t, err)
			defer func() { _ = silent.Close() }()
		}
		_, err := b.client.GetOrder(within(t), getOrder)
		require.NoError(t, err)
		require.NoError(t, b.Shutdown(within(t)))
		require.NoError(t, <-b.ran)
	})
	t.Run("by the delay, when its context ends", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{DrainDelay: time.Hour, DrainTimeout: time.Hour})
		var s steps
		b.OnShutdown(grpcserver.StageClose, "postgres", func(ctx context.Context) error {
			s.add("postgres")
			return ctx.Err() // A function has its own time.
		})
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		require.NoError(t, b.Shutdown(ctx))
		require.Equal(t, []string{"postgres"}, s.list())
	})
}

func TestServer_Shutdown_twice(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	entered, proceed := make(chan struct{}), make(chan struct{})
	b.OnShutdown(grpcserver.StageClose, "postgres", func(context.Context) error {
		close(entered)
		<-proceed
		return errors.New("already closed")
	})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- b.Shutdown(within(t)) }()
	<-entered
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, b.Shutdown(expired), context.Canceled)
	go func() { second <- b.Shutdown(within(t)) }()
	require.Empty(t, b.ran, "Run returns when the shutdown is over, not when serving is")
	close(proceed)
	require.ErrorContains(t, <-first, "already closed")
	require.ErrorContains(t, <-second, "already closed")
	require.NoError(t, <-b.ran)
}

func TestServer_Run(t *testing.T) {
	t.Parallel()
	t.Run("drains when its context ends", func(t *testing.T) {
		t.Parallel()
		b := newBundle(t, grpcserver.Config{})
		b.OnShutdown(grpcserver.StageClose, "postgres", func(context.Context) error { return io.ErrClosedPipe })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, b.Run(ctx), io.ErrClosedPipe)
		require.True(t, b.monitor.Draining())
	})
	t.Run("returns at once after a shutdown", func(t *testing.T) {
		t.Parallel()
		b := newBundle(t, grpcserver.Config{})
		require.NoError(t, b.Listen())
		addr := b.Addr().String()
		require.NoError(t, b.Shutdown(within(t)))
		require.ErrorIs(t, b.Listen(), grpc.ErrServerStopped)
		require.NoError(t, b.Run(within(t)))
		_, err := net.Dial("tcp", addr)
		require.Error(t, err, "the port is closed although it was never served")
	})
	t.Run("names a port that is taken", func(t *testing.T) {
		t.Parallel()
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = taken.Close() }()
		b := newBundle(t, grpcserver.Config{Addr: taken.Addr().String()})
		require.ErrorContains(t, b.Listen(), taken.Addr().String())
		require.Nil(t, b.Addr())
		b = newBundle(t, grpcserver.Config{ProbeAddr: taken.Addr().String()})
		require.ErrorContains(t, b.Run(within(t)), "listen for probes")
		require.Nil(t, b.ProbeAddr())
	})
}

func TestServer_Budget(t *testing.T) {
	t.Parallel()
	b := newBundle(t, grpcserver.Config{DrainDelay: 5 * time.Second, DrainTimeout: 10 * time.Second, HookTimeout: 2 * time.Second})
	none := func(context.Context) error { return nil }
	require.Equal(t, 16*time.Second, b.Budget())
	b.OnShutdown(grpcserver.StageIntake, "relay", none)
	b.OnShutdown(grpcserver.StageIntake, "runner", none)
	b.OnShutdown(grpcserver.StageFlush, "telemetry", none)
	require.Equal(t, 20*time.Second, b.Budget(), "side by side")
	b.OnShutdown(grpcserver.StageClose, "redis", none)
	b.OnShutdown(grpcserver.StageClose, "postgres", none)
	require.Equal(t, 24*time.Second, b.Budget(), "one after the other")
	hurried, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, b.Shutdown(hurried))
}
