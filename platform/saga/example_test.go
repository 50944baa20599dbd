package saga_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

// Checkout is the state of the example's saga.
type Checkout struct{ ReservationID string }

func ExampleDefine() {
	do := func(context.Context, *saga.Call[Checkout]) error { return nil }
	reserve := func(_ context.Context, c *saga.Call[Checkout]) error {
		c.State.ReservationID = "r-1" // of a call with c.Key
		return nil
	}
	checkout := saga.Define("checkout", 1,
		saga.Undo("cancel-order", do),
		saga.Step("reserve-stock", reserve).Undo("release-stock", do),
		saga.Step("authorize-payment", do).Undo("void-payment", do).Timeout(3*time.Second),
		saga.Pivot("confirm-order", do),
	).Timeout(15 * time.Minute)

	plan, err := checkout.Plan()
	fmt.Println(plan, err)
	// Output: cancel-order -> reserve-stock -> authorize-payment -> confirm-order <nil>
}

func ExamplePlan_Next() {
	do := func(context.Context, *saga.Call[Checkout]) error { return nil }
	plan, _ := saga.Define("checkout", 1,
		saga.Step("reserve-stock", do).Undo("release-stock", do),
		saga.Pivot("confirm-order", do),
	).Plan()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	instance, commands := plan.Start("saga-1", now)
	for _, class := range []saga.Class{saga.ClassOK, saga.ClassRejected, saga.ClassOK} {
		fmt.Println(instance.Status, plan.StepName(instance.Stage, commands[0]), class)
		e := saga.Result{Class: class}.Event(commands[0])
		instance, commands = plan.Next("saga-1", instance, e, now)
	}
	fmt.Println(instance.Status)
	// Output:
	// running reserve-stock ok
	// running confirm-order rejected
	// compensating release-stock ok
	// compensated
}

func ExampleRejected() {
	declined := errors.New("card declined")
	fmt.Println(saga.ClassOf(saga.Rejected(declined)), saga.ClassOf(saga.Retryable(declined)), saga.ClassOf(declined), saga.ClassOf(nil))
	// Output: rejected retryable unknown ok
}
