package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagatest"
)

func ExampleRun() {
	type state struct{ PaymentID string }
	nothing := func(context.Context, *saga.Call[state]) error { return nil }
	checkout := saga.Define("checkout", 1,
		saga.Undo("cancel-order", nothing),
		saga.Step("reserve-stock", nothing).Undo("release-stock", nothing),
		saga.Step("authorize-payment", func(_ context.Context, c *saga.Call[state]) error {
			c.State.PaymentID = "p-1"
			return nil
		}).Undo("void-payment", nothing),
		saga.Pivot("confirm-order", nothing),
	)
	t := &testing.T{} // that of the test

	r := sagatest.Run(t, checkout, state{})
	fmt.Println(r.Status, r.State.PaymentID, r.Steps())

	r = sagatest.Run(t, checkout, state{},
		sagatest.Crash("reserve-stock"),
		sagatest.Fail("authorize-payment", saga.Rejected(errors.New("card declined"))),
		sagatest.FailTimes("release-stock", 2, errors.New("timeout")),
	)
	fmt.Println(r.Status, r.Instance.Reason)
	for _, c := range r.Calls {
		fmt.Println(" ", c.Step, c.Attempt, c.Class)
	}
	// Output:
	// completed p-1 [reserve-stock authorize-payment confirm-order]
	// compensated authorize-payment: card declined
	//   reserve-stock 1 ok
	//   reserve-stock 2 ok
	//   authorize-payment 1 rejected
	//   release-stock 1 unknown
	//   release-stock 2 unknown
	//   release-stock 3 ok
	//   cancel-order 1 ok
}
