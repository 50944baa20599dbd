package saga

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"
)

// Invocation is a call of a step in the form in which a store keeps things.
type Invocation struct {
	Command

	ID     string
	Stage  int
	Data   []byte // the state as JSON; empty for the zero state
	Reason string
	Token  int64
	Signal []byte
}

// Result is what has come of an invocation.
type Result struct {
	Class    Class
	Err      error
	After    time.Duration // pause that the error asks for
	Happened bool          // the answer of a verification
	Data     []byte        // the state after the call; nil if it has not changed
}

// ResultOf returns what has come of a call that ended with err, nil for success.
func ResultOf(err error) Result {
	return Result{Class: ClassOf(err), Err: err, After: retryAfter(err)}
}

// Event returns the result as an event of the machine.
func (r Result) Event(c Command) Event {
	e := Event{
		Kind: Returned, Stage: c.Stage, Step: c.Step, Call: c.Kind, Class: r.Class, After: r.After, Happened: r.Happened,
	}
	if r.Err != nil {
		e.Error = r.Err.Error()
	}
	return e
}

// StepName returns the name of what a call of the stage calls: of the step, or of its undo.
func (p Plan) StepName(stage int, c Command) string {
	return p.Stages[stage].Steps[c.Step].nameOf(c.Kind.during())
}

// Key returns what all calls of a step carry: the saga's id, a slash and the step's name. An undo
// without a step has its own name there.
func (p Plan) Key(id string, stage, step int) string {
	s := p.Stages[stage].Steps[step]
	return id + "/" + s.Name
}

// PanicError is the error of a call that has panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the value without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Invoke makes a call. A panic is a [PanicError] of unknown outcome. An error after the context has
// ended, by the step's timeout or because its caller stops, is of unknown outcome too, whatever the step
// says of it; a step that succeeds nevertheless has succeeded.
func (d *Definition[S]) Invoke(ctx context.Context, v Invocation) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Class: ClassUnknown, Err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	stage, plan := d.stages[v.Stage][v.Step], d.plan.Stages[v.Stage].Steps[v.Step]
	c := &Call[S]{
		State: new(S), SagaID: v.ID, Saga: d.plan.Name, Step: plan.Name, Key: d.plan.Key(v.ID, v.Stage, v.Step),
		Attempt: v.Attempt, Token: v.Token, Signal: v.Signal,
	}
	if v.Kind == CallUndo {
		c.Step, c.Reason = plan.Undo, v.Reason
	}
	if len(v.Data) > 0 {
		if err := json.Unmarshal(v.Data, c.State); err != nil {
			return Result{Class: ClassRetryable, Err: fmt.Errorf("decode state: %w", err)}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, plan.CallTimeout())
	defer cancel()
	happened, err := stage.call(ctx, v.Kind, c)
	r = ResultOf(err)
	r.Happened = happened && err == nil
	if err != nil && ctx.Err() != nil {
		r.Class = ClassUnknown
	}
	if r.Class == ClassOK {
		r.Data, r.Err = changed(v.Data, c.State)
		if r.Err != nil {
			r.Class = ClassUnknown
		}
	}
	return r
}

// CallTimeout returns what bounds one call: the step's timeout, unless that says how long it takes.
func (s PlanStep) CallTimeout() time.Duration {
	if s.Kind == KindWait || s.Kind == KindTimer {
		return DefaultTimeout
	}
	return s.Timeout
}

func (s *Stage[S]) call(ctx context.Context, kind CallKind, c *Call[S]) (happened bool, err error) {
	switch {
	case kind == CallVerify:
		return s.verify(ctx, c)
	case kind == CallUndo:
		return false, s.undo(ctx, c)
	case s.action == nil: // a wait that takes nothing from its signal
		return false, nil
	default:
		return false, s.action(ctx, c)
	}
}

// changed returns the state as JSON, or nil if that is what it was.
func changed(before []byte, state any) ([]byte, error) {
	after, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if bytes.Equal(before, after) {
		return nil, nil
	}
	return after, nil
}

// sameJSON tells whether two values differ in blanks only.
func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	if a == nil || b == nil || json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}

// Merge takes over what a step of a parallel group has changed: the fields of the state, at its top
// level, that differ between before and after. current is the state with what others have changed.
func Merge(current, before, after []byte) ([]byte, error) {
	if after == nil {
		return current, nil
	}
	if bytes.Equal(current, before) {
		return after, nil
	}
	var c, b, a map[string]json.RawMessage
	for _, part := range []struct {
		text []byte
		into *map[string]json.RawMessage
	}{{current, &c}, {before, &b}, {after, &a}} {
		if len(part.text) == 0 {
			continue
		}
		if err := json.Unmarshal(part.text, part.into); err != nil {
			return nil, errors.Join(errors.New("merge state of parallel steps: it is not a JSON object"), err)
		}
	}
	merged := maps.Clone(c)
	if merged == nil {
		merged = map[string]json.RawMessage{}
	}
	for field, value := range a {
		if !sameJSON(b[field], value) {
			merged[field] = value
		}
	}
	for field := range b {
		if _, kept := a[field]; !kept {
			delete(merged, field)
		}
	}
	return json.Marshal(merged)
}
