package grpcclient_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

// Each call carries the token of the file, a renewed one soon after it was written, and the last good
// one while there is none. Tried once without reading the file again.
func TestDial_token(t *testing.T) {
	t.Parallel()
	server := serve(t)
	got := make(chan []string, 1)
	server.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
		got <- metadata.ValueFromIncomingContext(ctx, "authorization")
		return &orderv1.GetOrderResponse{}, nil
	}
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("one\n")
	conn, err := grpcclient.Dial(grpcclient.Config{Target: server.addr, Insecure: true, TokenFile: file})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	sent := func() string {
		_, err := orderv1.NewOrderServiceClient(conn).GetOrder(t.Context(), &orderv1.GetOrderRequest{})
		require.NoError(t, err)
		values := <-got
		require.Len(t, values, 1)
		return values[0]
	}
	require.Equal(t, "Bearer one", sent())
	write("two")
	require.Eventually(t, func() bool { return sent() == "Bearer two" }, patience, 50*time.Millisecond)
	write("")
	for read := time.Now(); time.Since(read) < 1500*time.Millisecond; { // it is read once a second
		require.Equal(t, "Bearer two", sent())
	}
}

func TestDial_badToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": " \n", "lines": "one\ntwo"} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := grpcclient.Dial(grpcclient.Config{Target: "x", Insecure: true, TokenFile: file})
		require.ErrorContains(t, err, "holds no token of one line", name)
	}
	_, err := grpcclient.Dial(grpcclient.Config{Target: "x", Insecure: true, TokenFile: filepath.Join(dir, "none")})
	require.ErrorContains(t, err, "read bearer token")
}
