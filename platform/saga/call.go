package saga

import "context"

// Func is a step, an undo, or what happens with a signal. It may change c.State: the change is stored
// if it returns no error. It must return soon after ctx ends, and must not keep c.
type Func[S any] func(ctx context.Context, c *Call[S]) error

// VerifyFunc finds out whether a step has happened whose outcome is unknown. An error means that this
// cannot be said now; the question is asked again. If the step has not happened, it is undone all the
// same, because an attempt may still be on its way. The pivot is not: false must mean there that it has
// not happened and never will, so keep late attempts from having their effect before you say so, for
// example with a mark in the row that the pivot would change.
type VerifyFunc[S any] func(ctx context.Context, c *Call[S]) (happened bool, err error)

// Call is one call of a step.
type Call[S any] struct {
	// State is that of the saga. Steps of a parallel group work on copies: of each, the fields that it
	// changed are taken over.
	State *S
	// SagaID and Saga are the saga's id and the name of its definition.
	SagaID string
	Saga   string
	// Step is the name of the step, or of the undo.
	Step string
	// Key is the same for each attempt of a step, its undo and its verification:
	// the saga's id, a slash and the step's name.
	Key string
	// Attempt counts from 1.
	Attempt int
	// Reason is why the saga is undone; empty for steps.
	Reason string
	// Token proves who runs the saga: a store refuses it when another process has taken over.
	Token int64
	// Signal is the payload of the signal that a Wait has waited for.
	Signal []byte
}
