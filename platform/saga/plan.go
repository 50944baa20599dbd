package saga

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Plan is what a definition says without its functions: the part that the state machine needs, and that
// a store keeps so that operators can work without the program that defined the saga.
type Plan struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	// Timeout bounds a saga until its pivot; 0 for no bound.
	Timeout time.Duration `json:"timeout,omitempty"`
	// StuckAfter is how long a saga may fail to get on before it counts as stuck.
	StuckAfter time.Duration `json:"stuck_after"`
	Stages     []PlanStage   `json:"stages"`
}

// PlanStage is one step, or several that run in parallel.
type PlanStage struct {
	Steps []PlanStep `json:"steps"`
}

// StepKind tells what a step does.
type StepKind string

// The kinds of steps.
const (
	KindStep  StepKind = "step"
	KindPivot StepKind = "pivot"
	KindUndo  StepKind = "undo"  // does nothing forward
	KindWait  StepKind = "wait"  // for a signal
	KindTimer StepKind = "timer" // for time to pass
)

// PlanStep is one step of a stage.
type PlanStep struct {
	Name   string   `json:"name"`
	Kind   StepKind `json:"kind"`
	Undo   string   `json:"undo,omitempty"` // name of the undo; empty for none
	Verify bool     `json:"verify,omitempty"`
	// Timeout bounds an attempt; for waits and timers it is how long they take.
	Timeout   time.Duration `json:"timeout"`
	Retry     Policy        `json:"retry"`
	UndoRetry Policy        `json:"undo_retry"`
}

// verifyAttempts bounds how often the outcome of a step is asked for that can be undone: the undo is
// right whatever the answer, and who waits for the saga waits for it.
const verifyAttempts = 5

// policy says how often what the state asks for is tried again.
func (s PlanStep) policy(state StepState) Policy {
	p := s.Retry
	switch {
	case state == StepUndoing:
		p = s.UndoRetry
	case state == StepVerifying && s.Undo != "" && (p.MaxAttempts < 0 || p.MaxAttempts > verifyAttempts):
		p.MaxAttempts = verifyAttempts
	}
	return p
}

// nameOf returns the name of what the state asks for.
func (s PlanStep) nameOf(state StepState) string {
	if state == StepUndoing {
		return s.Undo
	}
	return s.Name
}

// Shape identifies what instances in flight depend on: the names, kinds and order of steps. A
// definition whose shape changes needs a new version; timeouts and policies may change without one.
func (p Plan) Shape() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s/%d", p.Name, p.Version)
	for i, stage := range p.Stages {
		for _, s := range stage.Steps {
			fmt.Fprintf(h, "\n%d %s %s %s %t", i, s.Kind, s.Name, s.Undo, s.Verify)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// pivot returns the index of the pivot's stage, or the number of stages without one: then every stage
// can be undone.
func (p Plan) pivot() int {
	i := slices.IndexFunc(p.Stages, func(s PlanStage) bool {
		return len(s.Steps) > 0 && s.Steps[0].Kind == KindPivot
	})
	if i < 0 {
		return len(p.Stages)
	}
	return i
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Validate reports everything that is wrong with the plan at once.
func (p Plan) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName.MatchString(p.Name) {
		bad("name %q is not made of lower-case letters, digits and dashes", p.Name)
	}
	if p.Version < 1 {
		bad("version %d is below 1", p.Version)
	}
	if p.Timeout < 0 {
		bad("timeout %s is negative", p.Timeout)
	}
	if p.StuckAfter <= 0 {
		bad("stuck after %s is not positive", p.StuckAfter)
	}
	if len(p.Stages) == 0 {
		bad("it has no steps")
		return fmt.Errorf("saga %s: %w", p.Name, errors.Join(errs...))
	}
	errs = append(errs, p.validateSteps()...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("saga %s: %w", p.Name, err)
	}
	return nil
}

func (p Plan) validateSteps() (errs []error) {
	seen := map[string]bool{}
	use := func(n string) {
		if !validName.MatchString(n) {
			errs = append(errs, fmt.Errorf("step name %q is not made of lower-case letters, digits and dashes", n))
		}
		if seen[n] {
			errs = append(errs, fmt.Errorf("step name %q is used twice", n))
		}
		seen[n] = true
	}
	pivot, pivots := p.pivot(), 0
	for i, stage := range p.Stages {
		if len(stage.Steps) == 0 {
			errs = append(errs, fmt.Errorf("stage %d has no steps", i+1))
		}
		for _, s := range stage.Steps {
			if s.Kind != KindUndo {
				use(s.Name)
			}
			if s.Undo != "" {
				use(s.Undo)
			}
			if s.Kind == KindPivot {
				pivots++
			}
			if err := s.validate(len(stage.Steps) > 1, i, pivot); err != nil {
				errs = append(errs, fmt.Errorf("step %s: %w", s.Name, err))
			}
		}
	}
	if pivots > 1 {
		errs = append(errs, errors.New("it has more than one pivot"))
	}
	return errs
}

func (s PlanStep) validate(parallel bool, stage, pivot int) error {
	errs := []error{s.Retry.validate(), s.UndoRetry.validate()}
	switch s.Kind {
	case KindStep, KindPivot, KindWait:
	case KindUndo, KindTimer:
		if s.Verify {
			errs = append(errs, errors.New("there is nothing to verify"))
		}
	default:
		errs = append(errs, fmt.Errorf("kind %q is unknown; a parallel group holds steps only", s.Kind))
	}
	if s.Timeout <= 0 && s.Kind != KindUndo {
		errs = append(errs, errors.New("its timeout is not positive"))
	}
	if s.Undo != "" && stage >= pivot {
		errs = append(errs, errors.New("nothing is undone from the pivot on"))
	}
	if s.Kind == KindUndo && s.Undo != s.Name {
		errs = append(errs, fmt.Errorf("its undo is named %q", s.Undo))
	}
	if parallel && s.Kind != KindStep {
		errs = append(errs, fmt.Errorf("a %s cannot run in parallel", s.Kind))
	}
	return errors.Join(errs...)
}

// String returns the names of the steps, those of a parallel group in brackets.
func (p Plan) String() string {
	stages := make([]string, len(p.Stages))
	for i, stage := range p.Stages {
		names := make([]string, len(stage.Steps))
		for j, s := range stage.Steps {
			names[j] = s.Name
		}
		stages[i] = strings.Join(names, " | ")
		if len(names) > 1 {
			stages[i] = "[" + stages[i] + "]"
		}
	}
	return strings.Join(stages, " -> ")
}
