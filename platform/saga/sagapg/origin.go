package sagapg

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/propagation"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
	"github.com/slipwayhq/slipway/platform/postgres"
)

var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// origin is where a saga comes from, as headers.
func origin(ctx context.Context) propagation.MapCarrier {
	headers := propagation.MapCarrier{}
	if id := correlation.ID(ctx); id != "" {
		ctx = correlation.With(ctx, id)
	}
	propagator.Inject(ctx, headers)
	return headers
}

// codeUndefinedTable is PostgreSQL's for a table that is not there.
const codeUndefinedTable = "42P01"

// missing says what to do when there are no tables.
func missing(err error) error {
	if postgres.SQLState(err) == codeUndefinedTable {
		return fmt.Errorf("this database has no sagas, or older ones: apply the migrations (slipway migrate up): %w", err)
	}
	return err
}
