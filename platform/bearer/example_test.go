package bearer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc/metadata"

	"github.com/slipwayhq/slipway/platform/bearer"
)

func Example() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "tokens")
	line := fmt.Sprintf("shop:%x\n", sha256.Sum256([]byte("s3cret")))
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		panic(err)
	}

	authenticate, err := bearer.New(bearer.Config{Mode: bearer.Token, TokensFile: file}, nil)
	if err != nil {
		panic(err)
	}
	for _, token := range []string{"s3cret", "guess"} {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+token))
		caller, err := authenticate(ctx, "/slipway.order.v1.OrderService/GetOrder")
		fmt.Printf("%q %v\n", caller.ID, err)
	}
	// Output:
	// "shop" <nil>
	// "" a valid bearer token is required
}
