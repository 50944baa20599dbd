package main

import (
	"context"
	"sync"

	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// bare is the name of what is no system: the steps are called one after the other, and
// nothing is stored. No system can be faster: what it gets to is what the steps, the clients
// and the participant leave of the machine.
const bare = "steps_alone"

// bareSteps implements rig.System.
type bareSteps struct {
	call  rig.StepFunc
	sagas sync.WaitGroup

	mu     sync.Mutex
	counts rig.Counts
	err    error // why a saga has not come to its end
}

// openBare is a rig.OpenFunc.
func openBare(_ context.Context, _ rig.Options, _ string, call rig.StepFunc) (rig.System, error) {
	return &bareSteps{call: call}, nil
}

// Start implements rig.System.
func (s *bareSteps) Start(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	s.count(func(c *rig.Counts) { c.Active++ })
	s.sagas.Go(func() {
		undone, err := rig.Run(func(step string) error { return s.call(ctx, id, step) })
		s.count(func(c *rig.Counts) {
			switch c.Active--; {
			case err != nil:
				s.err = err
			case undone:
				c.Undone++
			default:
				c.Done++
			}
		})
	})
	return nil
}

func (s *bareSteps) count(change func(*rig.Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// Counts implements rig.System.
func (s *bareSteps) Counts(context.Context) (rig.Counts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts, s.err
}

// Close implements rig.System.
func (s *bareSteps) Close() { s.sagas.Wait() }
