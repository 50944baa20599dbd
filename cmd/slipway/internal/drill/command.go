package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// options are the flags of slipway drill.
type options struct {
	scale         float64
	list, all     bool
	report, junit string
}

// New returns the command slipway drill.
func New(env command.Env) *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:   "drill [ALERT...]",
		Short: "Fire alerts for real: put faults into the running system and see that they are told, and mended",
		Long: `Fire alerts for real. The project is run with its servers, its traffic, Prometheus and Alertmanager,
in a folder of its own and on ports of its own. For each drill a fault is put into the running system; its
alerts must fire, be delivered, and resolve once the commands of the runbooks' Mitigation were run. An alert
that is not declared for a fault must not fire, nor must any without a fault.

A line for each alert goes to standard output, with the time from the fault to Prometheus and to the pager,
and from the remedy to the end. Nothing is left behind.`,
		Example: `  slipway drill                                  # all, at sixty times the speed
  slipway drill SagaStuck OutboxBacklog
  slipway drill --time-scale 1 OutboxBacklog     # as long as in production
  slipway drill --report drills.md --junit drills.xml`,
	}
	f := cmd.Flags()
	f.Float64Var(&o.scale, "time-scale", 60, "divide what alerts wait for; 1 is real time")
	f.BoolVar(&o.list, "list", false, "list the drills and run none")
	f.BoolVar(&o.all, "require-all", false, "fail when a drill is skipped because a component is missing")
	f.StringVar(&o.report, "report", "", "write a report to this `file`, as Markdown, and a page with the timeline beside it")
	f.StringVar(&o.junit, "junit", "", "write the results to this `file` for a CI server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.list {
			for _, d := range Drills() {
				env.Console.Printf("%-16s %s: %s", d.Name, strings.Join(d.names(), ", "), d.Fault)
			}
			return nil
		}
		if o.scale < 1 {
			return command.Usagef("--time-scale %g: it cannot be below 1", o.scale)
		}
		drills, err := choose(args)
		if err != nil {
			return err
		}
		return o.run(cmd.Context(), env, drills)
	}
	return cmd
}

// choose returns the drills of the alerts, or all.
func choose(alerts []string) ([]Drill, error) {
	if len(alerts) == 0 {
		return Drills(), nil
	}
	for _, a := range alerts {
		if !slices.Contains(Alerts(), a) {
			return nil, command.Usagef("there is no drill for %s: choose from %s", a, strings.Join(Alerts(), ", "))
		}
	}
	return slices.DeleteFunc(Drills(), func(d Drill) bool {
		return !slices.ContainsFunc(d.names(), func(a string) bool { return slices.Contains(alerts, a) })
	}), nil
}

// settings make the services give up in seconds what they give up in minutes.
var settings = []string{"CHECKOUT_TIMEOUT=10s"}

func (o options) run(ctx context.Context, env command.Env, drills []Drill) error {
	p, err := project.Open(".")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	result, err := Run(ctx, Config{
		Project: p, Program: env.Program, Environ: env.Environ, Settings: settings, TimeScale: o.scale,
		Progress: func(format string, args ...any) { env.Console.Notef("  "+format, args...) },
	}, drills, func(outcome Outcome) { env.Console.Printf("%s", outcome) })
	err = errors.Join(err, result.write(o.report, o.junit))
	if err != nil {
		return err
	}
	skipped := 0
	for _, outcome := range result.Outcomes {
		if outcome.Skipped != "" {
			skipped++
		}
	}
	env.Console.Notef("%d alerts drilled in %s, %d skipped", len(result.Outcomes)-skipped, result.Took.Round(1e9), skipped)
	switch {
	case result.Failed():
		return errors.New("drills failed")
	case o.all && skipped > 0:
		return fmt.Errorf("%d drills were skipped, which --require-all does not allow", skipped)
	default:
		return nil
	}
}
