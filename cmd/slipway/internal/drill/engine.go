package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// Config says what to drill. Project is required.
type Config struct {
	Project *project.Project
	Program string
	Environ []string
	// Settings are added to the environment of the services: times that are too long for a
	// drill.
	Settings []string
	// TimeScale divides what alerts wait for; 1 is real time.
	TimeScale float64
	// Progress is told what happens; it may be nil.
	Progress func(format string, args ...any)
}

// Run starts the system, runs the drills one after the other, each from a quiet system, and
// removes everything. report gets each outcome as soon as it is known.
func Run(ctx context.Context, cfg Config, drills []Drill, report func(Outcome)) (result Result, err error) {
	result = Result{Matrix: map[string][]firing{}, Began: time.Now(), Scale: cfg.TimeScale}
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	cfg.Progress("starting the system in quick motion: x %g", cfg.TimeScale)
	s, err := startSystem(ctx, cfg)
	if err != nil {
		return result, err
	}
	defer func() {
		err = errors.Join(err, s.stop(ctx))
		result.Took = time.Since(result.Began)
	}()
	e := engine{Config: cfg, system: s, source: s.metrics, pager: s.pager, sh: s.sh}
	note := func(outcomes []Outcome) {
		for _, o := range outcomes {
			report(o)
		}
		result.Outcomes = append(result.Outcomes, outcomes...)
	}
	note(e.healthy(ctx))
	for _, d := range drills {
		var outcomes []Outcome
		if missing := s.missing(d.Needs); missing != "" {
			for _, a := range d.Alerts {
				outcomes = append(outcomes, Outcome{Drill: d.Name, Fault: d.Fault, Alert: a, Skipped: "needs " + missing + " (make stack)"})
			}
		} else {
			outcomes, result.Matrix[d.Name] = e.run(ctx, d)
		}
		note(outcomes)
		if ctx.Err() != nil {
			return result, fmt.Errorf("drills: %w", ctx.Err())
		}
	}
	note(e.settle(ctx))
	return result, nil
}

func (s *System) missing(needs []observe.Component) string {
	for _, c := range needs {
		if !s.env.Stack().Has(c) {
			return string(c)
		}
	}
	return ""
}

// source tells which alerts there are.
type source interface {
	alerts(ctx context.Context) ([]firing, error)
}

// engine runs drills on a system.
type engine struct {
	Config
	system *System
	source source
	pager  *receiver
	sh     func(ctx context.Context, script string) error
	// calm says that nothing is left of the fault before.
	calm bool
	// lasting are the drills with alerts that have not resolved yet.
	lasting []lasting
	// burnt are the alerts of the error budget once a fault has touched it: their windows
	// remember it, so that any of them may fire in any drill that follows.
	burnt []Alert
}

type lasting struct {
	drill Drill
	watch *watch
}

const (
	// tick is how often Prometheus is asked.
	tick = 200 * time.Millisecond
	// within is how long an alert may take to fire, or to resolve, at a time scale of 60.
	within = 2 * time.Minute
	// silence is for how long nothing may be there before the next fault, at that scale.
	silence = 3 * time.Second
	// health is for how long the system is watched before any fault, at that scale: for longer
	// than any alert waits but those of the error budget.
	health = 20 * time.Second
	// held is for how much longer a fault stays that silences an alert, at that scale: by then
	// Alertmanager would have delivered it.
	held = 5 * time.Second
	// quick is the time scale for which this package states durations.
	quick = 60
)

// stretch returns how long what takes d in quick motion takes at the time scale of the
// drills. It never shortens it.
func (c Config) stretch(d time.Duration) time.Duration {
	return time.Duration(float64(d) * max(1, quick/c.TimeScale))
}

// run rehearses one fault, and returns which alerts came up until all was quiet again.
func (e *engine) run(ctx context.Context, d Drill) (outcomes []Outcome, seen []firing) {
	w := newWatch(d)
	err := e.rehearse(ctx, d, w)
	if !w.began.IsZero() && ctx.Err() == nil {
		err = errors.Join(err, e.quiet(ctx, d, w, "fall silent after the fault"))
	}
	err = errors.Join(err, w.undeclared(slices.Concat(d.Alerts, d.Also, d.Silenced, e.burnt)))
	if d.burns() {
		e.burnt = named(budget...)
	}
	if len(d.Lasting) > 0 && err == nil {
		e.lasting = append(e.lasting, lasting{d, w})
	}
	for _, o := range w.outcomes {
		if err != nil || !d.lasts(o.Alert) {
			outcomes = append(outcomes, o.after(err))
		}
	}
	return outcomes, slices.Collect(maps.Values(w.seen))
}

// none is the drill of the system as it should be: nothing may fire.
var none = Drill{Name: "no-fault", Fault: "none"}

// healthy watches the system before the first fault, once what its start has raised is over.
func (e *engine) healthy(ctx context.Context) []Outcome {
	e.Progress("%s: waiting until no alert is there", none.Name)
	w := newWatch(none)
	if err := e.quiet(ctx, none, w, "fall silent after the start"); err != nil {
		return e.unprovoked(err, w)
	}
	e.Progress("%s: nothing may fire", none.Name)
	clear(w.seen)
	since := time.Now()
	err := e.until(ctx, none, w, "stay away", func() bool { return time.Since(since) > e.stretch(health) })
	return e.unprovoked(cmp.Or(err, e.quiet(ctx, none, w, "stay away")), w)
}

// unprovoked is what became of the drill without a fault; nothing is said of one that went well.
func (e *engine) unprovoked(err error, w *watch) []Outcome {
	if err = errors.Join(err, w.undeclared(e.burnt)); err == nil {
		return nil
	}
	return []Outcome{{Drill: none.Name, Fault: none.Fault, Alert: Alert{Name: none.Name}, Failed: err.Error()}}
}

// settle waits until the alerts with long windows have resolved too. No other one may fire
// meanwhile, and none may be left in the end.
func (e *engine) settle(ctx context.Context) (outcomes []Outcome) {
	rest := newWatch(none)
	for _, l := range e.lasting {
		e.Progress("%s: waiting until %s are over", l.drill.Name, strings.Join(l.drill.Lasting, ", "))
		l.watch.seen = rest.seen
		err := e.until(ctx, l.drill, l.watch, "resolve", func() bool { return e.resolved(l.drill, l.watch, true) })
		for _, o := range l.watch.outcomes {
			if l.drill.lasts(o.Alert) {
				outcomes = append(outcomes, o.after(err))
			}
		}
	}
	var err error
	if len(e.lasting) > 0 && ctx.Err() == nil {
		err = e.quiet(ctx, none, rest, "fall silent in the end")
	}
	return append(outcomes, e.unprovoked(err, rest)...)
}

func (e *engine) rehearse(ctx context.Context, d Drill, w *watch) (err error) {
	if !e.calm { // what an earlier fault has left is told of by its drill
		e.Progress("%s: waiting until no alert is there", d.Name)
		if err := e.quiet(ctx, d, newWatch(d), "fall silent before the fault"); err != nil {
			return err
		}
	}
	e.calm = false
	e.Progress("%s: %s", d.Name, d.Fault)
	w.began, e.system.about = time.Now(), nil
	heal, err := e.inject(ctx, d, w)
	if heal != nil {
		defer func() { err = errors.Join(err, heal(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return fmt.Errorf("put the fault in: %w", err)
	}
	if err := e.until(ctx, d, w, "fire and reach the pager", func() bool { return e.fired(d, w) }); err != nil {
		return err
	}
	if err := e.hold(ctx, d, w); err != nil {
		return err
	}
	by, err := e.follow(ctx, d, heal)
	if err != nil {
		return err
	}
	for _, o := range w.outcomes {
		o.Remedy, o.EndedBy = time.Since(w.began), by
	}
	return e.until(ctx, d, w, "resolve", func() bool { return e.resolved(d, w, false) })
}

// inject puts the fault in, which may take a while, and looks what comes of it already.
func (e *engine) inject(ctx context.Context, d Drill, w *watch) (heal func(context.Context) error, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		heal, err = d.inject(ctx, e.system)
	}()
	for ticker := time.Tick(tick); ; {
		select {
		case <-done:
			return heal, err
		case <-ticker:
			_ = e.look(ctx, w) // it is asked again soon
		}
	}
}

// quiet waits until no alert is there any more but those of the error budget, and the heartbeat
// arrives. What comes up meanwhile is noted: it may have been pending.
func (e *engine) quiet(ctx context.Context, d Drill, w *watch, what string) error {
	var since time.Time
	err := e.until(ctx, d, w, what, func() bool {
		others := func(f firing) bool { return !slices.Contains(budget, f.name()) }
		if !w.answered || e.heartless() || slices.ContainsFunc(w.pending, others) || slices.ContainsFunc(w.active, others) {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		}
		return !since.IsZero() && time.Since(since) > e.stretch(silence)
	})
	e.calm = err == nil
	return err
}

// until asks Prometheus again and again.
func (e *engine) until(ctx context.Context, d Drill, w *watch, what string, done func() bool) error {
	ticker, since := time.NewTicker(tick), time.Now()
	defer ticker.Stop()
	for {
		if err := e.look(ctx, w); err != nil && ctx.Err() == nil {
			e.Progress("%v", err)
		}
		if done() {
			return nil
		}
		if time.Since(since) > d.patience(e.Config) {
			return fmt.Errorf("the alerts do not %s within %s: %s", what, d.patience(e.Config), w)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// patience returns how long the alerts of a drill may take to fire, or to resolve.
func (d Drill) patience(c Config) time.Duration { return c.stretch(cmp.Or(d.Within, within)) }

// heartless tells whether whoever waits for the heartbeat would raise the alarm.
func (e *engine) heartless() bool { return e.pager.silence() > e.stretch(missedHeartbeats) }

// hold keeps the fault until Alertmanager, which waits for what else belongs to a group, would
// have delivered what is to stay silent.
func (e *engine) hold(ctx context.Context, d Drill, w *watch) error {
	if len(d.Silenced) == 0 {
		return nil
	}
	var told error
	since := time.Now()
	err := e.until(ctx, d, w, "stay silent", func() bool {
		told = e.silenced(d, w)
		return told != nil || time.Since(since) > e.stretch(held)
	})
	return cmp.Or(err, told)
}

// follow does what the runbooks of the alerts say, one after the other, and says whose they were.
// Where they are for people on a cluster only, the fault is taken away; without heal it ends by
// itself.
func (e *engine) follow(ctx context.Context, d Drill, heal func(context.Context) error) (by string, err error) {
	var followed []string
	for _, alert := range d.names() {
		script, err := mitigation(alert)
		if errors.Is(err, errNoCommands) {
			continue
		}
		if err != nil {
			return "", err
		}
		e.Progress("%s: following the runbook of %s", d.Name, alert)
		if err := e.sh(ctx, script); err != nil {
			return "", fmt.Errorf("runbook of %s: %w", alert, err)
		}
		followed = append(followed, alert)
	}
	switch {
	case len(followed) > 0:
		return "the runbook of " + strings.Join(followed, ", then of "), nil
	case heal == nil:
		return "nothing: the fault ends by itself", nil
	}
	e.Progress("%s: taking the fault away", d.Name)
	return "taking the fault away", heal(ctx)
}
