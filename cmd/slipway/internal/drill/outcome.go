package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what became of one alert of a drill. Times are since the fault, or for
// Resolved since the remedy.
type Outcome struct {
	Drill     string
	Fault     string
	Alert     Alert
	Fired     time.Duration
	Delivered time.Duration
	Remedy    time.Duration // since the fault
	Resolved  time.Duration
	// EndedBy is what was done against the fault: the runbooks that were followed.
	EndedBy string
	// Evidence has every alert that fired as this one, with the value that it had first.
	Evidence []firing
	// Skipped says why the drill was not run, Failed what went wrong.
	Skipped string
	Failed  string
}

// String is the line for standard output: the alert, what became of it, and the labels that
// tell it from others of its name.
func (o Outcome) String() string {
	about := strings.Trim(strings.TrimPrefix(o.Alert.String(), o.Alert.Name), "{}")
	why := func(text string) string {
		if about != "" {
			text = about + ": " + text
		}
		return strings.ReplaceAll(text, "\n", "; ")
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
	switch {
	case o.Skipped != "":
		return fmt.Sprintf("drill %s skipped: %s", o.Alert.Name, why(o.Skipped))
	case o.Failed != "":
		return fmt.Sprintf("drill %s FAILED: %s", o.Alert.Name, why(o.Failed))
	}
	return strings.TrimSpace(fmt.Sprintf("drill %s fired=%s delivered=%s resolved=%s ok %s", o.Alert.Name, seconds(o.Fired), seconds(o.Delivered), seconds(o.Resolved), about))
}

// shows tells whether an alert is among the evidence.
func (o Outcome) shows(f firing) bool {
	return slices.ContainsFunc(o.Evidence, func(known firing) bool { return known.id() == f.id() })
}

// evidence writes down what fired. A heartbeat that stays away has no value.
func (o Outcome) evidence(between string) string {
	var all []string
	for _, f := range o.Evidence {
		all = append(all, f.String())
	}
	if len(all) == 0 && o.Fired != 0 {
		return "the heartbeat stays away"
	}
	slices.Sort(all)
	return strings.Join(all, between)
}

// OK tells whether the alert did what it must.
func (o Outcome) OK() bool { return o.Failed == "" && o.Skipped == "" }

// Result is what came of all drills.
type Result struct {
	Outcomes []Outcome
	// Matrix has, for each drill, the alerts that came up while it ran.
	Matrix map[string][]firing
	Began  time.Time
	Took   time.Duration
	Scale  float64
}

// Failed tells whether something went wrong.
func (r Result) Failed() bool {
	return slices.ContainsFunc(r.Outcomes, func(o Outcome) bool { return o.Failed != "" })
}
