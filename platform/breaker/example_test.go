package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/platform/breaker"
)

func Example() {
	var (
		errNotFound    = errors.New("no such parcel")
		errUnreachable = errors.New("connection refused")
	)
	carrier, err := breaker.New(breaker.Config{
		Name: "carrier", Failures: 2, OpenTimeout: time.Minute,
		Classify: func(err error) breaker.Outcome {
			if errors.Is(err, errNotFound) { // The carrier is well.
				return breaker.Success
			}
			return breaker.Failure
		},
		OnChange: func(c breaker.Change) { fmt.Println(c.Name, "is", c.To, "because of", c.Reason) },
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, answer := range []error{nil, errNotFound, errUnreachable, errUnreachable, nil} {
		err := carrier.Do(context.Background(), func(context.Context) error { return answer })
		rejected := (*breaker.RejectedError)(nil)
		fmt.Println(err, "- made:", !errors.As(err, &rejected))
	}
	// Output:
	// <nil> - made: true
	// no such parcel - made: true
	// connection refused - made: true
	// carrier is open because of consecutive_failures
	// connection refused - made: true
	// carrier: circuit breaker is open, retry after 1m0s - made: false
}
