// Package app puts the order service together: configuration, wiring, and the program around them.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"
	"go.uber.org/zap"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/bearer"
	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/platform/telemetry"
	"github.com/slipwayhq/slipway/reference/order/adapter/cache"
	"github.com/slipwayhq/slipway/reference/order/adapter/clients"
	"github.com/slipwayhq/slipway/reference/order/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/order/adapter/store"
	"github.com/slipwayhq/slipway/reference/order/adapter/watch"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/migrations"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Main runs the service until it is told to stop, and returns the exit code of the process.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("order", flag.ContinueOnError)
	flags.SetOutput(stderr)
	show := flags.Bool("config", false, "print the effective configuration, secrets masked, and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return platformfx.ExitOK
	case err != nil:
		return platformfx.ExitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "order takes no arguments, only flags: %q\n", flags.Args())
		return platformfx.ExitUsage
	case *version:
		fmt.Fprintln(stdout, "order", buildVersion())
		return platformfx.ExitOK
	}
	cfg, err := Load(environ)
	if err == nil && *show {
		err = config.Print(stdout, environ, &cfg)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return platformfx.ExitFailed
	}
	if *show {
		return platformfx.ExitOK
	}
	return platformfx.Run(New(cfg, stdout))
}

// New returns the service as an Fx application. Its log goes to out.
func New(cfg Config, out io.Writer) fx.Option {
	return fx.Options(
		platformfx.Telemetry(cfg.Telemetry, out),
		platformfx.Postgres(cfg.Database),
		platformfx.Redis(cfg.Cache),
		platformfx.NATS(cfg.Broker),
		platformfx.NATSPublisher(cfg.Events),
		platformfx.Health(cfg.Health),
		platformfx.Admin(cfg.Admin),
		platformfx.ServerOption(func() grpcserver.Option { return grpcserver.WithErrors(grpcapi.Errors) }),
		platformfx.ServerOption(func(logger *zap.Logger) (grpcserver.Option, error) {
			auth, err := bearer.New(cfg.Auth, logger)
			return grpcserver.WithAuthenticator(auth), err
		}),
		platformfx.ServerOption(func(client *redis.Client, logger *zap.Logger, reg prometheus.Registerer) (grpcserver.Option, error) {
			return rateLimit(cfg.RateLimit, client, logger, reg)
		}),
		fx.Provide(
			store.New,
			cache.New,
			store.NewKeyCleaner,
			func(orders *store.Orders, logger *zap.Logger) *watch.Hub { return watch.NewHub(orders, logger) },
			listeners,
			newCheckout,
			store.NewIntake,
			newService,
		),
		// Sagas try again.
		platformfx.Client(cfg.Inventory, inventoryv1.NewInventoryServiceClient, grpcclient.WithoutRetries(),
			grpcclient.WithServices(inventoryv1.InventoryService_ServiceDesc.ServiceName)),
		platformfx.Client(cfg.Payment, paymentv1.NewPaymentServiceClient, grpcclient.WithoutRetries(),
			grpcclient.WithServices(paymentv1.PaymentService_ServiceDesc.ServiceName)),
		fx.Provide(clients.NewInventory, clients.NewPayments),
		fx.Supply(checkoutTimeout(cfg.CheckoutTimeout)),
		platformfx.SagaDefinition(func(d *saga.Definition[usecase.Checkout]) *saga.Definition[usecase.Checkout] { return d }),
		migrateOnStart(cfg),
		fx.Invoke(func(s *grpcserver.Server, service *grpcapi.Service) { orderv1.RegisterOrderServiceServer(s, service) }),
		platformfx.Loop[*store.KeyCleaner]("idempotency key cleaner", grpcserver.StageIntake),
		platformfx.Loop[*watch.Hub]("order watch hub", grpcserver.StageFinish),
		platformfx.Saga(cfg.Sagas),
		platformfx.Outbox(cfg.Outbox, cfg.Database),
		platformfx.GRPCServer(cfg.Server), // Last: it opens the port when everything else has started.
	)
}

// checkoutTimeout tells the duration apart from others.
type checkoutTimeout time.Duration

// listeners hear of every change of an order.
func listeners(orderCache *cache.Orders, hub *watch.Hub, relay *outbox.Relay) []usecase.Listener {
	return []usecase.Listener{orderCache, hub, waker{relay}}
}

func newCheckout(
	orders *store.Orders, inventory *clients.Inventory, payments *clients.Payments, told []usecase.Listener, timeout checkoutTimeout,
) *saga.Definition[usecase.Checkout] {
	steps := &usecase.CheckoutSteps{Orders: orders, Inventory: inventory, Payments: payments, Listeners: told, Now: now}
	return steps.Definition(time.Duration(timeout))
}

func newService(
	orders *store.Orders, intake *store.Intake, orderCache *cache.Orders, hub *watch.Hub, told []usecase.Listener,
) *grpcapi.Service {
	return &grpcapi.Service{
		Place:  &usecase.PlaceOrder{Orders: intake, Listeners: told, NewID: newID, Now: now},
		Get:    &usecase.GetOrder{Orders: orders, Cache: orderCache},
		List:   &usecase.ListOrders{Orders: orders},
		Cancel: &usecase.CancelOrder{Orders: orders, Listeners: told, Now: now},
		Watch:  &usecase.WatchOrder{Orders: orders, Changes: hub},
	}
}

// waker tells the relay of every change: it has stored an event.
type waker struct{ relay *outbox.Relay }

// OrderChanged implements [usecase.Listener].
func (w waker) OrderChanged(context.Context, domain.Snapshot) { w.relay.Wake() }

// rateLimit limits the calls of each caller, over all replicas; 0 limits nothing.
func rateLimit(perSecond int, client *redis.Client, logger *zap.Logger, reg prometheus.Registerer) (grpcserver.Option, error) {
	if perSecond == 0 {
		return grpcserver.WithRateLimit(nil), nil
	}
	limiter, err := redisdb.NewLimiter(client, redisdb.LimitConfig{Name: "order", Rate: perSecond}, logger, reg)
	if err != nil {
		return nil, err
	}
	return grpcserver.WithRateLimit(func(ctx context.Context, _ string) error {
		caller, _ := grpcserver.PrincipalFrom(ctx)
		return limiter.Allow(ctx, caller.ID)
	}), nil
}

// migrateOnStart applies the migrations before the service serves, if the configuration says so.
func migrateOnStart(cfg Config) fx.Option {
	if !cfg.MigrateOnStart {
		return fx.Options()
	}
	return fx.Invoke(func(lc fx.Lifecycle, logger *zap.Logger) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			applied, err := migrate.Up(ctx, cfg.Database.URL, outbox.Migrations(), sagapg.Migrations(), migrate.Component{Name: "order", FS: migrations.FS})
			for _, a := range applied {
				logger.Info("migrated", zap.String("component", a.Component), zap.String("version", a.Version))
			}
			return err
		}))
	})
}

// buildVersion is the version that logs, traces and metrics name.
func buildVersion() string {
	var t telemetry.Config
	t.SetDefaults()
	return t.ServiceVersion
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// now has the precision of the database, so that what is answered is what is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
