// Package app puts the payment service together: configuration, wiring, and the program around them.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/bearer"
	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/platform/telemetry"
	"github.com/slipwayhq/slipway/reference/payment/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/payment/adapter/messaging"
	"github.com/slipwayhq/slipway/reference/payment/adapter/provider"
	"github.com/slipwayhq/slipway/reference/payment/adapter/report"
	"github.com/slipwayhq/slipway/reference/payment/adapter/store"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/migrations"
	"github.com/slipwayhq/slipway/reference/payment/providersim"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

// Main runs the service until it is told to stop, and returns the exit code of the process.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("payment", flag.ContinueOnError)
	flags.SetOutput(stderr)
	show := flags.Bool("config", false, "print the effective configuration, secrets masked, and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return platformfx.ExitOK
	case err != nil:
		return platformfx.ExitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "payment takes no arguments, only flags: %q\n", flags.Args())
		return platformfx.ExitUsage
	case *version:
		fmt.Fprintln(stdout, "payment", buildVersion())
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
		platformfx.NATS(cfg.Broker),
		platformfx.Health(cfg.Health),
		platformfx.Admin(cfg.Admin),
		platformfx.ServerOption(func() grpcserver.Option { return grpcserver.WithErrors(grpcapi.Errors) }),
		platformfx.ServerOption(func(logger *zap.Logger) (grpcserver.Option, error) {
			auth, err := bearer.New(cfg.Auth, logger)
			return grpcserver.WithAuthenticator(auth), err
		}),
		providedBy(cfg),
		fx.Provide(
			func(pool *pgxpool.Pool) *store.Payments { return store.New(pool, cfg.SettleAfter) },
			func(pool *pgxpool.Pool, logger *zap.Logger) (*barrier.Cleaner, error) {
				return barrier.NewCleaner(pool, cfg.Barrier, logger)
			},
			report.New,
			func(payments *store.Payments, p *provider.Client) *usecase.Teller {
				return &usecase.Teller{Payments: payments, Provider: p, Now: now}
			},
			func(payments *store.Payments, teller *usecase.Teller, r *report.Report) (*usecase.Settle, error) {
				return usecase.NewSettle(payments, teller, r, cfg.Settle)
			},
			newService,
			newCapture,
		),
		migrateOnStart(cfg),
		fx.Invoke(func(s *grpcserver.Server, service *grpcapi.Service) {
			paymentv1.RegisterPaymentServiceServer(s, service)
		}),
		platformfx.Loop[*barrier.Cleaner]("barrier cleaner", grpcserver.StageIntake),
		platformfx.Loop[*usecase.Settle]("payment settler", grpcserver.StageIntake),
		platformfx.Consumer(cfg.Inbox, func(c *messaging.Capture) inbox.Handler { return c.Handle }),
		platformfx.GRPCServer(cfg.Server), // Last: it opens the port when everything else has started.
	)
}

func newService(payments *store.Payments, teller *usecase.Teller) *grpcapi.Service {
	return &grpcapi.Service{
		Authorizing: &usecase.Authorize{Payments: payments, Teller: teller, NewID: newID, Now: now},
		Voiding:     &usecase.Void{Payments: payments, Teller: teller, Now: now},
		Capturing:   &usecase.Capture{Payments: payments, Teller: teller, Now: now},
		Refunding:   &usecase.Refund{Payments: payments, Teller: teller, Now: now},
		Payments:    payments,
	}
}

// newCapture has the capture begin in the transaction of the message, and the settler go on with it.
func newCapture(payments *store.Payments, teller *usecase.Teller, settle *usecase.Settle) *messaging.Capture {
	return &messaging.Capture{
		Wake: settle.Wake,
		Begin: func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error) {
			capture := &usecase.Capture{Payments: payments.In(tx), Teller: teller, Now: now}
			return capture.Begin(ctx, orderID)
		},
	}
}

// providedBy provides the client of the provider that the configuration names; without a name it is a
// simulated one in this process.
func providedBy(cfg Config) fx.Option {
	if cfg.Provider.URL != "" {
		return fx.Provide(func(reg prometheus.Registerer, tp trace.TracerProvider) (*provider.Client, error) {
			return provider.New(cfg.Provider, reg, tp)
		})
	}
	return fx.Options(
		fx.Provide(
			func(logger *zap.Logger) (*providersim.Server, error) {
				s, err := providersim.Listen("127.0.0.1:0", cfg.ProviderLedger)
				if err != nil {
					return nil, fmt.Errorf("simulate payment provider, as PROVIDER_URL is not set: %w", err)
				}
				logger.Info("simulating the payment provider", zap.String("url", s.URL()), zap.String("ledger", cfg.ProviderLedger))
				return s, nil
			},
			func(s *providersim.Server, reg prometheus.Registerer, tp trace.TracerProvider) (*provider.Client, error) {
				own := cfg.Provider
				own.URL = s.URL()
				return provider.New(own, reg, tp)
			},
		),
		platformfx.Loop[*providersim.Server]("payment provider simulator", grpcserver.StageClose),
	)
}

// migrateOnStart applies the migrations before the service serves, if the configuration says so.
func migrateOnStart(cfg Config) fx.Option {
	if !cfg.MigrateOnStart {
		return fx.Options()
	}
	return fx.Invoke(func(lc fx.Lifecycle, logger *zap.Logger) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			applied, err := migrate.Up(ctx, cfg.Database.URL,
				inbox.Migrations(), barrier.Migrations(), migrate.Component{Name: "payment", FS: migrations.FS})
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
