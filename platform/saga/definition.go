package saga

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Defaults of a definition.
const (
	// DefaultTimeout bounds an attempt of a step.
	DefaultTimeout = 10 * time.Second
	// DefaultStuckAfter is how long a saga may fail to get on before it counts as stuck.
	DefaultStuckAfter = 5 * time.Minute
)

// Definition is a process over a state S, which is stored as JSON: S must keep what it holds when it is
// marshalled. A definition is immutable once it is used, and safe for concurrent use then.
type Definition[S any] struct {
	plan   Plan
	stages [][]*Stage[S]
	errs   []error // what is wrong with the functions
	check  sync.Once
	fault  error // what check found
}

// Define describes a saga. Its steps run in their order. The name and the version identify it: sagas
// in flight finish with the version that they began with, so a change of steps needs a new version
// beside the old one. What is wrong with a definition is reported where it is used first.
func Define[S any](name string, version int, stages ...*Stage[S]) *Definition[S] {
	d := &Definition[S]{plan: Plan{Name: name, Version: version, StuckAfter: DefaultStuckAfter}}
	for _, s := range stages {
		group := []*Stage[S]{s}
		if s != nil && s.group != nil {
			group = s.group
		}
		var stage PlanStage
		for n, step := range group {
			if step == nil {
				step, group[n] = &Stage[S]{}, &Stage[S]{}
			}
			d.errs = append(d.errs, step.missing()...)
			stage.Steps = append(stage.Steps, step.plan())
		}
		d.stages = append(d.stages, group)
		d.plan.Stages = append(d.plan.Stages, stage)
	}
	return d
}

// Timeout bounds the time from the start of a saga to its pivot: what is not done by then is undone.
// By default there is no bound.
func (d *Definition[S]) Timeout(timeout time.Duration) *Definition[S] {
	d.plan.Timeout = timeout
	return d
}

// StuckAfter sets how long a saga may fail to get on before it counts as stuck; default 5m.
func (d *Definition[S]) StuckAfter(after time.Duration) *Definition[S] {
	d.plan.StuckAfter = after
	return d
}

// Plan returns what the definition says, or everything that is wrong with it.
func (d *Definition[S]) Plan() (Plan, error) {
	d.check.Do(func() {
		d.fault = d.plan.Validate()
		if len(d.errs) > 0 {
			d.fault = errors.Join(d.fault, fmt.Errorf("saga %s: %w", d.plan.Name, errors.Join(d.errs...)))
		}
	})
	return d.plan, d.fault
}

// Stage is one entry of a definition. Its methods complete it and return it.
type Stage[S any] struct {
	name, undoName   string
	kind             StepKind
	action, undo     Func[S]
	verify           VerifyFunc[S]
	timeout          time.Duration
	retry, undoRetry Policy
	group            []*Stage[S]
}

// Step does something that can be undone, or that needs no undo.
func Step[S any](name string, action Func[S]) *Stage[S] {
	return &Stage[S]{name: name, kind: KindStep, action: action}
}

// Pivot is the step that decides: before it everything can be undone, after it nothing is. Steps after
// it are tried until they succeed, or an operator is needed. It is best a local transaction; see
// [VerifyFunc] for what its verification must hold.
func Pivot[S any](name string, action Func[S]) *Stage[S] {
	return &Stage[S]{name: name, kind: KindPivot, action: action}
}

// Undo does nothing as long as the saga goes well, and something when it is undone: what there was
// before the saga began, for example the order itself.
func Undo[S any](name string, undo Func[S]) *Stage[S] {
	return &Stage[S]{name: name, kind: KindUndo, undoName: name, undo: undo}
}

// Parallel runs steps side by side. They are undone side by side too.
func Parallel[S any](steps ...*Stage[S]) *Stage[S] {
	return &Stage[S]{group: append([]*Stage[S]{}, steps...)}
}

// Wait waits for a signal of the given name; received, which may be nil, takes its payload from
// [Call.Signal]. What does not come in time counts as rejected. A signal that comes early is kept.
func Wait[S any](signal string, atMost time.Duration, received Func[S]) *Stage[S] {
	return &Stage[S]{name: signal, kind: KindWait, timeout: atMost, action: received}
}

// Sleep waits for time to pass.
func Sleep[S any](name string, d time.Duration) *Stage[S] {
	return &Stage[S]{name: name, kind: KindTimer, timeout: d}
}

// Undo names what undoes the step.
func (s *Stage[S]) Undo(name string, undo Func[S]) *Stage[S] {
	s.undoName, s.undo = name, undo
	return s
}

// Verify sets how to find out whether the step has happened, when its outcome is unknown. It is asked as
// often as the step is tried; of a step with an undo five times at most, then the step is undone.
func (s *Stage[S]) Verify(verify VerifyFunc[S]) *Stage[S] {
	s.verify = verify
	return s
}

// Timeout bounds one attempt of the step, of its undo and of its verification; default 10s. For a wait
// and a timer it is how long they take; their functions have 10s.
func (s *Stage[S]) Timeout(timeout time.Duration) *Stage[S] {
	s.timeout = timeout
	return s
}

// Retry sets how often and when the step is tried again.
func (s *Stage[S]) Retry(p Policy) *Stage[S] {
	s.retry = p
	return s
}

// UndoRetry sets how often and when the undo is tried again, before an operator is needed.
// Default: as [Policy], but 20 attempts.
func (s *Stage[S]) UndoRetry(p Policy) *Stage[S] {
	s.undoRetry = p
	return s
}

// missing reports functions that are nil: a step without one would be taken for done.
func (s *Stage[S]) missing() (errs []error) {
	if s.action == nil && (s.kind == KindStep || s.kind == KindPivot) {
		errs = append(errs, fmt.Errorf("step %s: it has no function", s.name))
	}
	if s.undo != nil && s.undoName == "" {
		errs = append(errs, fmt.Errorf("step %s: its undo has no name", s.name))
	}
	if s.undo == nil && s.undoName != "" {
		errs = append(errs, fmt.Errorf("step %s: its undo %s has no function", s.name, s.undoName))
	}
	return errs
}

func (s *Stage[S]) plan() PlanStep {
	timeout := s.timeout
	if s.kind != KindWait && s.kind != KindTimer {
		timeout = cmp.Or(timeout, DefaultTimeout)
	}
	undoRetry := s.undoRetry
	undoRetry.MaxAttempts = cmp.Or(undoRetry.MaxAttempts, 20)
	return PlanStep{
		Name: s.name, Kind: s.kind, Undo: s.undoName, Verify: s.verify != nil,
		Timeout: timeout,
		Retry:   s.retry.withDefaults(), UndoRetry: undoRetry.withDefaults(),
	}
}
