package outboxcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// lookEvery is how often a replay is looked at, sayEvery how often its progress is
// said.
const (
	lookEvery = 100 * time.Millisecond
	sayEvery  = 5 * time.Second
)

// waitForReplay returns when everything is published. The replay goes on without it.
func (c *commands) waitForReplay(ctx context.Context, s session, plan outbox.ReplayPlan) (replayed, error) {
	done := replayed{ReplayPlan: plan}
	step := c.env.Console.Progress().Start(fmt.Sprintf("publishing %s again", command.Count(plan.Events, "event")))
	if err := c.warnStopped(ctx, s, plan.Sink); err != nil {
		step.Fail()
		return done, err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for said := time.Now(); ; {
		p, err := s.ReplayProgress(ctx, plan.Replay)
		done.Published, done.LeftOut, done.FinishedAt = p.Published, p.LeftOut, p.FinishedAt
		if err == nil && p.Cancelled {
			step.Fail()
			return done, fmt.Errorf("replay %d was given up: slipway outbox journal says by whom", plan.Replay)
		}
		if err == nil && done.FinishedAt != nil {
			step.Done("published %s again", command.Count(done.Published, "event"))
			return done, nil
		}
		if err == nil && time.Since(said) > sayEvery {
			said = time.Now()
			c.env.Console.Notef("  … %d of %d", done.Published, plan.Events)
		}
		if err == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			step.Fail()
			if errors.Is(err, outbox.ErrNotFound) {
				return done, fmt.Errorf("replay %d is gone, and its sink with it", plan.Replay)
			}
			return done, fmt.Errorf("wait for replay %d, which goes on: %w", plan.Replay, err)
		}
	}
}

// warnStopped says why a replay will not move.
func (c *commands) warnStopped(ctx context.Context, s session, sink string) error {
	blockers, err := s.Blockers(ctx)
	if err != nil {
		return err
	}
	for _, b := range blockers {
		if b.Sink == sink && slices.Contains([]string{"paused", "no_relay", "broker"}, b.Kind) {
			c.env.Console.Notef("! nothing is published now: %s: %s", b.Detail, b.Remedy)
		}
	}
	return nil
}
