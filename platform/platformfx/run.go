package platformfx

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// Exit codes: those of [Run], and of a program around it.
const (
	ExitOK     = 0 // stopped by a signal, drained in order
	ExitFailed = 1 // could not start, a loop died, the drain failed, or a second signal cut it short
	ExitUsage  = 2 // for a program that was called in a wrong way
)

const (
	startTimeout = 15 * time.Second
	// stopMargin is what Fx gets beyond the drain's own budget, which already bounds every step.
	stopMargin = 2 * time.Second
)

// Run starts the application, waits for SIGINT, SIGTERM or a loop that died, drains, and returns
// the exit code of the process. A second signal during the drain returns at once.
func Run(opts ...fx.Option) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	var server *grpcserver.Server
	app := fx.New(fx.Options(opts...), fx.WithLogger(quietLogger), fx.Populate(&server))
	if err := start(app); err != nil {
		fmt.Fprintln(os.Stderr, "cannot start:", err)
		return ExitFailed
	}
	code := ExitOK
	select {
	case <-signals:
	case end := <-app.Wait():
		code = end.ExitCode
	}
	if err := drain(app, server.Budget()+stopMargin, signals); err != nil {
		fmt.Fprintln(os.Stderr, "stopped with an error:", err)
		return ExitFailed
	}
	return code
}

func start(app *fx.App) error {
	if err := app.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return app.Start(ctx)
}

// drain stops the application within its budget; a further signal gives up at once.
func drain(app *fx.App, budget time.Duration, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- app.Stop(ctx) }()
	select {
	case err := <-stopped:
		return err
	case s := <-signals:
		return fmt.Errorf("%v during the drain: stopped at once", s)
	}
}

// quietLogger keeps Fx's own events out of the log, but for its errors.
func quietLogger(logger *zap.Logger) fxevent.Logger {
	l := &fxevent.ZapLogger{Logger: logger.Named("fx")}
	l.UseLogLevel(zapcore.DebugLevel)
	return l
}
