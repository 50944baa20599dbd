package watermill_test

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/watermill"
)

// With Kafka the partition follows the key:
// kafka.NewWithPartitioningMarshaler(watermill.PartitionKey).
func ExamplePartitionKey() {
	m := message.NewMessage("0190163d-8694-739b-aea5-966c26f8ad91", nil)
	m.Metadata[broker.HeaderKey] = "order/42"
	key, err := watermill.PartitionKey("order", m)
	fmt.Println(key, err)
	fmt.Println(watermill.FirstToken("order.placed"))
	// Output:
	// order/42 <nil>
	// order
}
