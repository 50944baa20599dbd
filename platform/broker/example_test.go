package broker_test

import (
	"fmt"

	"github.com/slipwayhq/slipway/platform/broker"
)

func ExampleOutcomes() {
	err := broker.Joined([]error{nil, broker.ErrRefused, broker.ErrSkipped})
	for i, fate := range broker.Outcomes(err, 3) {
		fmt.Println(i, fate)
	}
	// Output:
	// 0 <nil>
	// 1 message refused
	// 2 message skipped after a failed one of its key
}
