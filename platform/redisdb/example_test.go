package redisdb_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/redisdb"
)

func ExampleCache() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client, err := redisdb.Open(redisdb.Config{URL: "redis://" + server.Addr()}, nil, nil)
	if err != nil {
		panic(err)
	}
	defer client.Close()

	type Product struct {
		Version int64
		Name    string
	}
	products, err := redisdb.NewCache(client, redisdb.CacheConfig[Product]{
		Prefix:  "product",
		Version: func(p Product) int64 { return p.Version },
	}, nil, nil)
	if err != nil {
		panic(err)
	}

	ctx := context.Background()
	row := Product{1, "kettle"}
	load := func(context.Context) (Product, error) {
		fmt.Println("loading")
		return row, nil
	}
	for range 2 {
		p, _ := products.Get(ctx, "42", load)
		fmt.Println(p.Name)
	}
	row = Product{2, "steel kettle"} // committed, then:
	products.Invalidate(ctx, "42", row.Version)
	p, _ := products.Get(ctx, "42", load)
	fmt.Println(p.Name)
	// Output:
	// loading
	// kettle
	// kettle
	// loading
	// steel kettle
}

func ExampleLimiter() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client, err := redisdb.Open(redisdb.Config{URL: "redis://" + server.Addr()}, nil, nil)
	if err != nil {
		panic(err)
	}
	defer client.Close()

	limiter, err := redisdb.NewLimiter(client, redisdb.LimitConfig{Rate: 1, Per: time.Hour, Burst: 2}, nil, nil)
	if err != nil {
		panic(err)
	}
	for range 3 {
		if err := limiter.Allow(context.Background(), "customer-7"); err != nil {
			fmt.Println(fault.CodeOf(err), err)
			continue
		}
		fmt.Println("allowed")
	}
	// Output:
	// allowed
	// allowed
	// ResourceExhausted rate limit exceeded
}
