package grpcserver_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

func TestConfig_Validate_namesEveryBadValue(t *testing.T) {
	t.Parallel()
	cfg := grpcserver.Config{
		DrainDelay: -1, DrainTimeout: -1, HookTimeout: -1, ConnectionTimeout: -1,
		MaxConnectionAge: -1, MaxConnectionAgeGrace: -1,
		KeepaliveTime: -1, KeepaliveTimeout: -1, KeepaliveMinTime: -1,
		MinDeadline: time.Minute, MaxDeadline: time.Second,
		MaxRecvBytes: -1, MaxSendBytes: 1 << 40, MaxHeaderListBytes: -1, MaxConcurrentStreams: -1,
		TLS: grpcserver.TLS{ClientCAFile: "ca.pem"},
	}
	cfg.SetDefaults()
	err := cfg.Validate()
	for _, name := range []string{
		"drain delay", "drain timeout", "hook timeout", "connection timeout", "max connection age -",
		"max connection age grace", "keepalive time -", "keepalive timeout", "keepalive min time",
		"min deadline 1m0s is not below", "max recv", "max send", "max header", "max concurrent", "TLS needs",
	} {
		require.ErrorContains(t, err, name)
	}
	_, err = grpcserver.New(cfg, nil)
	require.ErrorContains(t, err, "configure gRPC server")
	_, err = grpcserver.New(grpcserver.Config{}, nil)
	require.ErrorContains(t, err, "no health monitor")
}

func TestServer_limitsMessages(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 2<<10)
	t.Run("received", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxRecvBytes: 1 << 10})
		_, err := b.client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{CustomerId: big})
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.Equal(t, 1, b.handled(t, "PlaceOrder", "ResourceExhausted"))
		require.Equal(t, "ResourceExhausted", b.line(t, "PlaceOrder")["grpc.code"])
	})
	t.Run("sent", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxSendBytes: 1 << 10})
		b.orders.get = func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
			return &orderv1.GetOrderResponse{Order: &orderv1.Order{CustomerId: big}}, nil
		}
		_, err := b.client.GetOrder(within(t), getOrder)
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.Equal(t, 1, b.handled(t, "GetOrder", "ResourceExhausted"))
		require.Equal(t, "ResourceExhausted", b.line(t, "GetOrder")["grpc.code"])
	})
	t.Run("metadata", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxHeaderListBytes: 1 << 10})
		_, err := b.client.GetOrder(within(t), getOrder)
		require.NoError(t, err)
		_, err = b.client.GetOrder(metadata.AppendToOutgoingContext(within(t), "x-big", big), getOrder)
		require.ErrorContains(t, err, "header list size")
		require.Equal(t, 1, b.count(t, "grpc_server_started_total", "GetOrder"))
	})
}

func TestServer_limitsStreams(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{MaxConcurrentStreams: 1})
	ctx, cancel := context.WithCancel(within(t))
	stream, err := b.client.WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: orderID})
	require.NoError(t, err)
	b.watching(t, 1)

	short, stop := context.WithTimeout(within(t), 100*time.Millisecond)
	defer stop()
	_, err = b.client.GetOrder(short, getOrder)
	require.Equal(t, codes.DeadlineExceeded, status.Code(err), "the second call waits for its turn")
	require.Zero(t, b.count(t, "grpc_server_started_total", "GetOrder"))

	cancel()
	_, err = stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
	_, err = b.client.GetOrder(within(t), getOrder)
	require.NoError(t, err)
}

func TestServer_limitsConnections(t *testing.T) {
	t.Parallel()
	t.Run("one that never shakes hands is closed", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{ConnectionTimeout: 100 * time.Millisecond})
		conn, err := net.Dial("tcp", b.Addr().String())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.Copy(io.Discard, conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	t.Run("one that grows old is told to go away", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxConnectionAge: 100 * time.Millisecond})
		require.Equal(t, http2.ErrCodeNo, connect(t, b.Addr()).goneAway(t))
	})
	t.Run("a stream that stays on an old one is cut", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxConnectionAge: 100 * time.Millisecond, MaxConnectionAgeGrace: 100 * time.Millisecond})
		stream, err := b.client.WatchOrder(within(t), &orderv1.WatchOrderRequest{OrderId: orderID})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
	})
	t.Run("one that pings too often is closed", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{})
		peer := connect(t, b.Addr())
		for range 5 {
			require.NoError(t, peer.WritePing(false, [8]byte{1}))
		}
		require.Equal(t, http2.ErrCodeEnhanceYourCalm, peer.goneAway(t))
	})
	t.Run("one that pings as often as it may is kept", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{KeepaliveMinTime: time.Nanosecond})
		peer := connect(t, b.Addr())
		for range 20 {
			require.NoError(t, peer.WritePing(false, [8]byte{1}))
			for {
				frame, err := peer.ReadFrame()
				require.NoError(t, err)
				require.NotEqual(t, http2.FrameGoAway, frame.Header().Type)
				if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
					break
				}
			}
		}
	})
	t.Run("one that answers no ping is closed", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{KeepaliveTime: time.Second, KeepaliveTimeout: 100 * time.Millisecond})
		peer := connect(t, b.Addr())
		for {
			if _, err := peer.ReadFrame(); err != nil {
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
				return
			}
		}
	})
}

// watching waits until n WatchOrder streams are open on the server.
func (b *bundle) watching(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return b.metric(t, "grpc_server_in_flight_requests", "WatchOrder").GetGauge().GetValue() == float64(n)
	}, patience, time.Millisecond)
}

// peer is a client that speaks HTTP/2 frames and follows no rule by itself.
type peer struct {
	*http2.Framer
	conn net.Conn
}

func connect(t *testing.T, addr net.Addr) peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	p := peer{http2.NewFramer(conn, conn), conn}
	require.NoError(t, p.WriteSettings())
	return p
}

// open begins a call and sends its only request.
func (p peer) open(t *testing.T, method string, request proto.Message) {
	t.Helper()
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", method},
		{":authority", "test"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
	}
	require.NoError(t, p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true}))
	message, err := proto.Marshal(request)
	require.NoError(t, err)
	require.NoError(t, p.WriteData(1, true, append([]byte{0, 0, 0, 0, byte(len(message))}, message...)))
}

// goneAway reads up to GOAWAY and returns its code.
func (p peer) goneAway(t *testing.T) http2.ErrCode {
	t.Helper()
	for {
		frame, err := p.ReadFrame()
		require.NoError(t, err)
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			return frame.ErrCode
		case *http2.HeadersFrame:
			t.Fatal("the call ended before GOAWAY")
		}
	}
}
