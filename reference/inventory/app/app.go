// Package app puts the inventory service together: configuration, wiring, and the program around them.
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
	"go.uber.org/fx"
	"go.uber.org/zap"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/platform/bearer"
	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/platform/telemetry"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/messaging"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/migrations"
	"github.com/slipwayhq/slipway/reference/inventory/usecase"
)

// Main runs the service until it is told to stop, and returns the exit code of the process.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("inventory", flag.ContinueOnError)
	flags.SetOutput(stderr)
	show := flags.Bool("config", false, "print the effective configuration, secrets masked, and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return platformfx.ExitOK
	case err != nil:
		return platformfx.ExitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "inventory takes no arguments, only flags: %q\n", flags.Args())
		return platformfx.ExitUsage
	case *version:
		fmt.Fprintln(stdout, "inventory", buildVersion())
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
		fx.Provide(
			store.NewReservations,
			store.NewWarehouse,
			func(pool *pgxpool.Pool, logger *zap.Logger) (*barrier.Cleaner, error) {
				return barrier.NewCleaner(pool, cfg.Barrier, logger)
			},
			newService,
			newCommit,
		),
		migrateOnStart(cfg),
		fx.Invoke(func(s *grpcserver.Server, service *grpcapi.Service) {
			inventoryv1.RegisterInventoryServiceServer(s, service)
		}),
		platformfx.Loop[*barrier.Cleaner]("barrier cleaner", grpcserver.StageIntake),
		platformfx.Consumer(cfg.Inbox, func(c *messaging.Commit) inbox.Handler { return c.Handle }),
		platformfx.GRPCServer(cfg.Server), // Last: it opens the port when everything else has started.
	)
}

func newService(reservations *store.Reservations, warehouse *store.Warehouse) *grpcapi.Service {
	return &grpcapi.Service{
		Reserving:  &usecase.Reserve{Reservations: reservations, NewID: newID, Now: now},
		Releasing:  &usecase.Release{Reservations: reservations, Now: now},
		Committing: &usecase.Commit{Reservations: reservations, Now: now},
		Setting:    &usecase.SetStock{Warehouse: warehouse, Now: now},
		Warehouse:  warehouse,
	}
}

// newCommit has reservations committed in the transaction of the message.
func newCommit(reservations *store.Reservations) *messaging.Commit {
	return &messaging.Commit{Execute: func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error) {
		commit := &usecase.Commit{Reservations: reservations.In(tx), Now: now}
		return commit.Execute(ctx, orderID)
	}}
}

// migrateOnStart applies the migrations before the service serves, if the configuration says so.
func migrateOnStart(cfg Config) fx.Option {
	if !cfg.MigrateOnStart {
		return fx.Options()
	}
	return fx.Invoke(func(lc fx.Lifecycle, logger *zap.Logger) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			applied, err := migrate.Up(ctx, cfg.Database.URL,
				inbox.Migrations(), barrier.Migrations(), migrate.Component{Name: "inventory", FS: migrations.FS})
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
