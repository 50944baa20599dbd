package platformfx_test

import (
	"fmt"
	"io"

	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// A service is a list of parts. ValidateApp checks that every constructor finds what it needs,
// without running one.
func Example() {
	err := fx.ValidateApp(
		fx.NopLogger,
		platformfx.Telemetry(telemetry.Config{ServiceName: "shipping"}, io.Discard),
		platformfx.Health(health.Config{}),
		platformfx.GRPCServer(grpcserver.Config{}),
	)
	fmt.Println(err)
	// Output: <nil>
}
