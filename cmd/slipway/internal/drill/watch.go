package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// watch is what is known of the alerts since a fault.
type watch struct {
	began    time.Time
	outcomes []*Outcome        // one for each alert of the drill
	seen     map[string]firing // by their labels, as first seen
	answered bool              // the last time that Prometheus was asked
	active   []firing          // now
	pending  []firing          // now
}

func newWatch(d Drill) *watch {
	w := &watch{seen: map[string]firing{}}
	for _, a := range d.Alerts {
		w.outcomes = append(w.outcomes, &Outcome{Drill: d.Name, Fault: d.Fault, Alert: a})
	}
	return w
}

// String lists what is there.
func (w *watch) String() string {
	if len(w.active) == 0 {
		return "none is there"
	}
	var all []string
	for _, f := range w.active {
		all = append(all, f.id())
	}
	slices.Sort(all)
	return fmt.Sprint("there are ", all)
}

// undeclared names the alerts that came up and are not among the declared.
func (w *watch) undeclared(declared []Alert) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(w.seen)) {
		if !anyOf(declared, w.seen[id].Labels) {
			errs = append(errs, fmt.Errorf("%s fired, which is not declared", id))
		}
	}
	return errors.Join(errs...)
}

// after returns the outcome of a drill that ended with err.
func (o *Outcome) after(err error) Outcome {
	if err != nil {
		o.Failed = err.Error()
	}
	return *o
}

// look notes which alerts fire now.
func (e *engine) look(ctx context.Context, w *watch) error {
	all, err := e.source.alerts(ctx)
	if w.answered = err == nil; err != nil {
		return err
	}
	w.active, w.pending = nil, nil
	for _, f := range all {
		switch {
		case f.Labels["severity"] == "none":
		case f.State != "firing":
			w.pending = append(w.pending, f)
		default:
			w.active = append(w.active, f)
			w.see(f)
		}
	}
	return nil
}

// see notes an alert that fires, as evidence where it is declared.
func (w *watch) see(f firing) {
	if _, known := w.seen[f.id()]; known {
		return
	}
	w.seen[f.id()] = f
	for _, o := range w.outcomes {
		if !o.Alert.selects(f.Labels) || o.shows(f) {
			continue
		}
		o.Evidence = append(o.Evidence, f)
		if o.Fired == 0 {
			o.Fired = time.Since(w.began)
		}
	}
}

// fired tells whether all declared alerts have fired and were delivered.
func (e *engine) fired(d Drill, w *watch) bool {
	all := true
	for _, o := range w.outcomes {
		if d.heartbeat && o.Fired == 0 && e.heartless() {
			o.Fired, o.Delivered = time.Since(w.began), time.Since(w.began)
		}
		if told := e.pager.told(o.Alert, w.began); o.Delivered == 0 && len(told) > 0 {
			o.Delivered = told[0].firing.Sub(w.began)
		}
		all = all && o.Fired != 0 && o.Delivered != 0
	}
	for _, a := range d.Silenced {
		all = all && slices.ContainsFunc(slices.Collect(maps.Values(w.seen)), func(f firing) bool { return a.selects(f.Labels) })
	}
	return all
}

// silenced looks that nobody was told what follows from what they were told.
func (e *engine) silenced(d Drill, w *watch) error {
	for _, a := range d.Silenced {
		if len(e.pager.told(a, w.began)) > 0 {
			return fmt.Errorf("%s was delivered, although %s says it all", a, d.Alerts[0])
		}
	}
	return nil
}

// resolved tells whether the alerts of a drill are over and that was delivered too: those that
// last, or the others.
func (e *engine) resolved(d Drill, w *watch, lasting bool) bool {
	all := true
	for _, o := range w.outcomes {
		if d.lasts(o.Alert) != lasting {
			continue
		}
		over := !slices.ContainsFunc(w.active, func(f firing) bool { return o.Alert.selects(f.Labels) }) &&
			!slices.ContainsFunc(e.pager.told(o.Alert, w.began), func(d delivery) bool { return !d.resolved.After(d.firing) })
		if d.heartbeat {
			over = !e.heartless()
		}
		switch {
		case !over:
			o.Resolved = 0 // it may have come again
		case o.Resolved == 0:
			o.Resolved = max(time.Since(w.began)-o.Remedy, time.Millisecond)
		}
		all = all && over
	}
	return all
}
