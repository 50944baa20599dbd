package postgrestest_test

import (
	"fmt"
	"testing"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func ExampleNew() {
	test := func(t *testing.T) {
		t.Helper()
		url := postgrestest.New(t) // and the components that the test needs
		_ = url                    // open a pool on it
	}
	fmt.Printf("%T\n", test)
	// Output: func(*testing.T)
}
