package redisgroup_test

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/slipwayhq/slipway/platform/broker/watermill"
	"github.com/slipwayhq/slipway/platform/broker/watermill/redisgroup"
)

func ExampleOpen() {
	open := redisgroup.Open(redis.Options{Addr: "redis:6379"}, nil)
	// Subscribe connects, and waits for a server that is not there yet.
	s, err := watermill.NewSubscriber(open, watermill.SubscriberConfig{}, nil, nil)
	fmt.Println(s != nil, err)
	// Output: true <nil>
}
