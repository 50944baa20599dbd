package usecase

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// SettleConfig is how payments are taken up that nobody waits for.
type SettleConfig struct {
	// Pause is until a payment is looked at again that the first look did not settle. It doubles up to
	// LongestPause. 0 means 15 seconds and 5 minutes. It must be longer than a call of the provider.
	Pause        time.Duration `env:"SETTLE_PAUSE"`
	LongestPause time.Duration `env:"SETTLE_LONGEST_PAUSE"`
	// Watch is for how long a voided payment is watched whose authorization may still succeed, after
	// the last answer that the provider has failed to give. 0 means 24 hours.
	Watch time.Duration `env:"SETTLE_WATCH"`
	// Poll is how often is looked for payments. 0 means one second.
	Poll time.Duration `env:"SETTLE_POLL"`
	// Concurrency is how many payments are in hand at once. 0 means 8.
	Concurrency int `env:"SETTLE_CONCURRENCY"`
}

// SetDefaults fills the fields that are zero.
func (c *SettleConfig) SetDefaults() {
	c.Pause = cmp.Or(c.Pause, 15*time.Second)
	c.LongestPause = cmp.Or(c.LongestPause, max(c.Pause, 5*time.Minute))
	c.Watch = cmp.Or(c.Watch, 24*time.Hour)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Concurrency = cmp.Or(c.Concurrency, 8)
}

// Validate names every field that is wrong.
func (c SettleConfig) Validate() error {
	var errs []error
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"SETTLE_PAUSE", c.Pause, time.Millisecond},
		{"SETTLE_LONGEST_PAUSE", c.LongestPause, c.Pause},
		{"SETTLE_WATCH", c.Watch, time.Millisecond},
		{"SETTLE_POLL", c.Poll, time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than %s", d.name, d.value, d.least))
		}
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("SETTLE_CONCURRENCY: %d is not positive", c.Concurrency))
	}
	return errors.Join(errs...)
}

// Settle takes up payments whose callers are gone: it asks the provider what became of them, finishes
// what was begun, and voids or refunds what succeeds at the provider after it was voided here. Any
// number of replicas may run it.
type Settle struct {
	payments Claimer
	teller   *Teller
	observer Observer
	cfg      SettleConfig
	wake     chan struct{}
}

// NewSettle returns a loop that does nothing before Run.
func NewSettle(payments Claimer, teller *Teller, observer Observer, cfg SettleConfig) (*Settle, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration of the settler: %w", err)
	}
	return &Settle{payments: payments, teller: teller, observer: observer, cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Wake says that a payment is about to be committed that is to be taken up at once. It is a hint: the
// loop looks more often for about as long as Poll.
func (s *Settle) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// firstPause is until the second look after Wake; from there on the pause doubles up to Poll.
const firstPause = 2 * time.Millisecond

// Run settles until ctx ends, then waits for what is in hand and returns nil. A store that fails is
// asked again after Poll.
func (s *Settle) Run(ctx context.Context) error {
	freed := make(chan struct{}, s.cfg.Concurrency)
	inHand := 0
	defer func() {
		for ; inHand > 0; inHand-- {
			<-freed
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := s.cfg.Poll
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-freed:
			inHand--
			if inHand+1 < s.cfg.Concurrency {
				continue // There was room before.
			}
		case <-s.wake:
			pause = firstPause
		case <-timer.C:
			pause = min(2*pause, s.cfg.Poll)
		}
		claimed := s.claim(ctx, s.cfg.Concurrency-inHand)
		for _, c := range claimed {
			inHand++
			go func() {
				defer func() { freed <- struct{}{} }()
				s.look(context.WithoutCancel(ctx), c)
			}()
		}
		timer.Reset(pause)
	}
}

// claim returns at most limit payments.
func (s *Settle) claim(ctx context.Context, limit int) []Claimed {
	if limit == 0 {
		return nil
	}
	claimed, err := s.payments.Claim(ctx, Claim{
		Limit: limit, Pause: s.cfg.Pause, LongestPause: s.cfg.LongestPause, Watch: s.cfg.Watch,
	})
	if err != nil && ctx.Err() == nil {
		s.observer.Idle(ctx, err)
	}
	return claimed
}

// look brings one payment forward as far as it goes.
func (s *Settle) look(ctx context.Context, c Claimed) {
	var after domain.Snapshot
	var err error
	switch c.Status {
	case domain.Authorizing:
		after, err = s.teller.lookUp(ctx, c.Snapshot)
	case domain.Voided:
		after, err = s.reexamine(ctx, c)
	default:
		after, err = s.teller.Finish(ctx, c.Snapshot)
	}
	s.observer.Looked(ctx, c.Snapshot, after, err)
}

// reexamine looks whether a voided payment was authorized after all, and then undoes that. The doubt
// ends when the provider knows nothing of it although it was watched for long enough.
func (s *Settle) reexamine(ctx context.Context, c Claimed) (domain.Snapshot, error) {
	after, err := s.teller.lookUp(ctx, c.Snapshot)
	switch {
	case err != nil:
		return after, err
	case after.Status != domain.Voided:
		s.observer.LateSuccess(ctx, after)
		return s.teller.Finish(ctx, after)
	case !c.Watched || after.Version != c.Version:
		return after, nil
	}
	return again(func() (domain.Snapshot, error) {
		return s.teller.Payments.Update(ctx, c.ID, func(p *domain.Payment) error {
			if p.Snapshot().Version == c.Version { // Nobody has asked in vain since.
				p.Trust(s.teller.Now())
			}
			return nil
		})
	})
}
