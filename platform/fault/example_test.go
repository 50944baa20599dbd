package fault_test

import (
	"errors"
	"fmt"

	"github.com/slipwayhq/slipway/platform/fault"
)

func Example() {
	outOfStock := errors.New("stock is short by 3")
	edge := fault.Table{
		{Target: outOfStock, Code: fault.FailedPrecondition, Message: "not enough in stock", Reason: "OUT_OF_STOCK"},
	}

	for _, err := range []error{
		fmt.Errorf("reserve sku-1: %w", outOfStock),
		errors.New("dial tcp 10.0.0.7:5432: connection refused"),
		fault.Invalid(fault.Violation{Field: "quantity", Description: "must be positive"}),
	} {
		e := edge.Classify(err)
		fmt.Printf("client: %s %q   log: %v\n", e.Code, e.Message, e)
	}
	// Output:
	// client: FailedPrecondition "not enough in stock"   log: not enough in stock: reserve sku-1: stock is short by 3
	// client: Internal "internal error"   log: internal error: dial tcp 10.0.0.7:5432: connection refused
	// client: InvalidArgument "the request is not valid"   log: the request is not valid
}
