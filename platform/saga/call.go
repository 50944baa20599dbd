package saga

import "context"

// Func is a step, an undo, or what happens with a signal. It may change c.State: the change is stored
// with the result. It must return soon after ctx ends, and must not keep c.
type Func[S any] func(ctx context.Context, c *Call[S]) error

// VerifyFunc finds out whether a step has happened whose outcome is unknown. False means that it has
// not and never will. An error means that this cannot be said now; the question is asked again.
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
