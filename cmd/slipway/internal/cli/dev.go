package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/timescale"
)

// devOptions are the flags of slipway dev.
type devOptions struct {
	fresh, yes       bool
	portOffset       int
	observability    bool
	timeScale        float64
	detach, detached bool // detached marks the process that detach has started
	logFormat        logview.Format
	given            []string // the flags as they were given, but for detach
}

func (a *app) dev() *cobra.Command {
	o := devOptions{logFormat: logview.Text}
	cmd := command.Group(&cobra.Command{
		Use:   "dev",
		Short: "Run the project's services with the servers that they need",
		Long: `Run the services that slipway.yaml names, on this machine, with one merged log.

The servers that they need are found or started: PostgreSQL (DATABASE_URL, else installed programs run
privately, else Docker, else downloaded), Redis (REDIS_URL, else redis-server, else a built-in one) and
NATS with JetStream (BROKER_URL, else a built-in one). Data survives restarts, in .slipway/.

With --observability, Prometheus, Alertmanager, postgres_exporter, the OpenTelemetry Collector, Loki and Tempo run
beside them, as far as their programs are found.

Ctrl-C drains the services and stops the servers. A second Ctrl-C ends everything at once.`,
		Example: `  slipway dev                     # until Ctrl-C
  slipway dev --fresh --yes       # with empty databases
  slipway dev --port-offset 100   # beside another one
  slipway dev --observability     # with metrics, alerts, logs and traces
  slipway dev --observability --time-scale 60   # and alerts in seconds instead of minutes
  slipway dev --detach            # in the background, see status and stop`,
	}, a.devStop(), a.devStatus())
	f := cmd.Flags()
	f.BoolVar(&o.fresh, "fresh", false, "wipe the data first")
	f.BoolVar(&o.yes, "yes", false, "do not ask before wiping")
	f.IntVar(&o.portOffset, "port-offset", 0, "add this to every port")
	f.BoolVar(&o.observability, "observability", false, "run the observability stack too (make stack builds it)")
	f.Float64Var(&o.timeScale, "time-scale", 1, "divide what alerts wait for, to see them sooner")
	f.BoolVar(&o.detach, "detach", false, "start in the background and return when ready")
	f.BoolVar(&o.detached, "detached", false, "")
	f.Var(&o.logFormat, "log-format", "show the log for people, or as its raw lines")
	_ = f.MarkHidden("detached")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return command.Unknown(cmd, args[0])
		}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if f.Name != "detach" {
				o.given = append(o.given, "--"+f.Name+"="+f.Value.String())
			}
		})
		return a.runDev(o)
	}
	return cmd
}

func (a *app) runDev(o devOptions) error {
	if o.timeScale < 1 {
		return command.Usagef("--time-scale %g: it cannot be below 1", o.timeScale)
	}
	if o.timeScale > 1 && !o.observability {
		return command.Usagef("--time-scale %g: there are no alerts without --observability", o.timeScale)
	}
	p, err := project.Open(".")
	if err != nil {
		return err
	}
	ports := devenv.Ports(p, a.environ, o.portOffset)
	if o.observability {
		ports = append(ports, observe.UsualPorts(o.portOffset).List(observe.Components()...)...)
	}
	for _, port := range ports {
		if port.Number < 1 || port.Number > 65535 {
			return command.Usagef("--port-offset %d: that makes the port for %s %d", o.portOffset, port.For, port.Number)
		}
	}
	if err := devenv.Idle(p, a.program); err != nil {
		return err
	}
	if o.fresh && !o.yes {
		if err := a.confirmWipe(p); err != nil {
			return err
		}
	}
	if o.detach {
		return a.detach(p, o)
	}
	return a.foreground(devenv.Config{
		Project: p, Console: a.console, Environ: a.environ, Program: a.program,
		PortOffset: o.portOffset, Fresh: o.fresh, LogFormat: o.logFormat, Detached: o.detached,
		Observability: o.observability,
		Transform:     func(name string, text []byte) ([]byte, error) { return timescale.File(name, text, o.timeScale) },
	})
}

func (a *app) confirmWipe(p *project.Project) error {
	ok, err := a.console.Confirm("Delete all development data (databases, Redis, NATS) of " + p.Dir + "?")
	switch {
	case errors.Is(err, console.ErrNotAsked):
		return command.Usagef("--fresh deletes the data of %s: add --yes to confirm, there is no terminal to ask on", p.Dir)
	case err != nil:
		return err
	case !ok:
		return errors.New("nothing was deleted or started")
	}
	return nil
}

// foreground runs the environment until it is asked to stop or something dies.
func (a *app) foreground(cfg devenv.Config) error {
	stop, kill, release := a.signals()
	defer release()
	env := devenv.New(cfg)
	err := env.Start(stop)
	if err == nil {
		a.welcome(cfg, env)
		err = env.Wait(stop)
	}
	interrupted := stop.Err() != nil
	if err != nil && !interrupted {
		a.console.Notef("\nslipway: %v\n", err)
	}
	stopErr := env.Stop(kill)
	if stopErr != nil {
		a.console.Notef("slipway: %v", stopErr)
	}
	if stopErr != nil || err != nil && !interrupted {
		return errReported
	}
	return nil
}

// welcome shows the summary. The JSON log stays free of it, and so does the log of
// an environment in the background, whose starter shows it.
func (a *app) welcome(cfg devenv.Config, env *devenv.Env) {
	took := env.Took().Round(10 * time.Millisecond)
	switch {
	case cfg.Detached:
		a.console.Notef("ready in %s", took)
	case cfg.LogFormat == logview.JSON:
		a.console.Notef("\nready in %s\n", took)
		env.State().Summary(a.console.Notices(), a.program)
	default:
		a.console.Printf("\nready in %s\n\n%s", took, summary(env.State(), a.program))
	}
}

// sameSignal is how close to the first one a further signal is taken for the same:
// make, timeout and others pass on what the terminal has sent to everybody already.
const sameSignal = 500 * time.Millisecond

// signals returns contexts that the first and the second signal end.
func (a *app) signals() (stop, kill context.Context, release func()) {
	stop, cancelStop := context.WithCancel(context.Background())
	kill, cancelKill := context.WithCancel(context.Background())
	received := make(chan os.Signal, 4)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// With a handler in place a closed pipe is an error of Write. Without, it would
	// end the process before the services are drained: Ctrl-C ends `| tee` as well.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case <-received:
			}
			switch {
			case first.IsZero():
				first = time.Now()
				a.console.Notef("\nstopping; once more ends everything at once")
				cancelStop()
			case time.Since(first) > sameSignal:
				cancelKill()
			}
		}
	}()
	return stop, kill, func() {
		signal.Stop(received)
		signal.Stop(pipe)
		close(done)
		cancelStop()
		cancelKill()
	}
}
