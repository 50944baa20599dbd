package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

// NATS provides the connection to the servers, a broker.Subscriber over it, and watches JetStream as
// the dependency "nats". It starts also when no server answers yet.
func NATS(cfg nats.Config) fx.Option {
	return fx.Options(
		fx.Provide(
			func(logger *zap.Logger) (*nats.Conn, error) { return nats.Connect(cfg, logger) },
			func(conn *nats.Conn) broker.Subscriber { return nats.NewSubscriber(conn, nats.SubscriberConfig{}) },
		),
		fx.Invoke(func(s *grpcserver.Server, conn *nats.Conn) {
			s.OnShutdown(grpcserver.StageClose, "nats", func(context.Context) error { conn.Close(); return nil })
		}),
		Dependency(func(conn *nats.Conn) health.Dependency {
			return health.Dependency{Name: "nats", Check: conn.HealthCheck}
		}),
	)
}

// NATSPublisher provides a broker.Publisher into the stream of the service.
func NATSPublisher(cfg nats.PublisherConfig) fx.Option {
	return fx.Provide(func(conn *nats.Conn, reg prometheus.Registerer) (broker.Publisher, error) {
		return nats.NewPublisher(conn, cfg, reg)
	})
}
