package platformfx

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/inbox"
)

// Consumer runs a consumer of the provided broker.Subscriber over the provided pool. Its handler is
// that of a provided H. It stops with the intake, another replica goes on.
func Consumer[H any](cfg inbox.Config, handler func(H) inbox.Handler) fx.Option {
	return fx.Invoke(func(p consumerParams, h H) error {
		c, err := inbox.NewConsumer(p.Pool, p.Subscriber, cfg, handler(h), p.Loop.Logger, p.Registerer, p.Tracer)
		if err != nil {
			return err
		}
		p.Loop.loop("consumer "+cfg.Name, grpcserver.StageIntake, c)
		return nil
	})
}

type consumerParams struct {
	fx.In

	Loop       loopParams
	Pool       *pgxpool.Pool
	Subscriber broker.Subscriber
	Registerer prometheus.Registerer
	Tracer     trace.TracerProvider
}
