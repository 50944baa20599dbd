package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// relayConns is how many connections a relay may take: so many stay free for calls.
const relayConns = 6

// Outbox provides the relay that publishes the events of the database through the provided
// broker.Publisher, and runs it over a pool of its own: calls that hold all connections do not stop
// it. It stops with the intake, another replica goes on. Call its Wake after commits.
func Outbox(cfg outbox.Config, database postgres.Config) fx.Option {
	database.SetDefaults()
	database.AppName, database.MaxConns, database.MinConns = database.AppName+"-relay", relayConns, 0
	return fx.Options(
		fx.Provide(func(s *grpcserver.Server, pub broker.Publisher, logger *zap.Logger, reg prometheus.Registerer) (*outbox.Relay, error) {
			pool, err := postgres.Open(context.Background(), database, logger, reg, nil)
			if err != nil {
				return nil, err
			}
			s.OnShutdown(grpcserver.StageClose, "pool of the outbox relay", func(context.Context) error { pool.Close(); return nil })
			return outbox.NewRelay(pool, pub, cfg, logger, reg)
		}),
		Loop[*outbox.Relay]("outbox relay", grpcserver.StageIntake),
	)
}
