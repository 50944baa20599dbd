package platformfx

import (
	"context"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// Runner is a loop: Run works until its context ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Loop starts the provided T with the application and ends it in the given stage of the drain.
// A loop that ends by itself takes the application down with exit code 1: a service whose relay
// or monitor is dead must not look alive.
func Loop[T Runner](name string, stage grpcserver.Stage) fx.Option {
	return fx.Invoke(func(p loopParams, r T) { p.loop(name, stage, r) })
}

type loopParams struct {
	fx.In

	Lifecycle fx.Lifecycle
	Stop      fx.Shutdowner
	Server    *grpcserver.Server
	Logger    *zap.Logger
}

func (p loopParams) loop(name string, stage grpcserver.Stage, r Runner) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p.Lifecycle.Append(fx.StartHook(func() error {
		if l, ok := r.(interface{ Listen() error }); ok {
			if err := l.Listen(); err != nil {
				return err
			}
		}
		go func() {
			defer close(done)
			if err := r.Run(ctx); ctx.Err() == nil {
				died(p.Stop, p.Logger, name, err)
			}
		}()
		return nil
	}))
	p.Server.OnShutdown(stage, name, func(stopping context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-stopping.Done():
			return context.Cause(stopping)
		}
	})
}

// died takes the application down with exit code 1.
func died(stop fx.Shutdowner, logger *zap.Logger, name string, err error) {
	logger.Error("loop ended by itself", zap.String("loop", name), zap.Error(err))
	_ = stop.Shutdown(fx.ExitCode(ExitFailed))
}
