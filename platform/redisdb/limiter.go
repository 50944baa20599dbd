package redisdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/fault"
)

// What became of an Allow, as the label "result" of rate_limit_decisions_total.
const (
	decisionAllowed = "allowed"
	decisionLimited = "limited"
	decisionBypass  = "bypass" // allowed: Redis was left alone because it did not answer before
	decisionError   = "error"  // allowed: Redis failed
)

// LimitConfig describes a [Limiter]. The zero value means the documented defaults.
type LimitConfig struct {
	// Name starts every key and is the label "limiter" of the metrics; default "default".
	// Limiters of one name share their counts.
	Name string
	// Rate is how many calls a key may make in each Per; default 100.
	Rate int `env:"RATE_LIMIT"`
	// Per is the time that Rate stands for; default 1s.
	Per time.Duration `env:"RATE_LIMIT_PER"`
	// Burst is how many calls a key that was idle may make at once; default Rate.
	Burst int `env:"RATE_LIMIT_BURST"`
}

// SetDefaults fills the zero fields.
func (c *LimitConfig) SetDefaults() {
	c.Name = cmp.Or(c.Name, "default")
	c.Rate = cmp.Or(c.Rate, 100)
	c.Per = cmp.Or(c.Per, time.Second)
	c.Burst = cmp.Or(c.Burst, c.Rate)
}

// Validate reports every bad value at once.
func (c LimitConfig) Validate() error {
	var errs []error
	if c.Rate < 1 {
		errs = append(errs, fmt.Errorf("rate limit %d is below 1", c.Rate))
	}
	if c.Per <= 0 {
		errs = append(errs, fmt.Errorf("rate limit period %s is not positive", c.Per))
	}
	if c.Burst < 1 {
		errs = append(errs, fmt.Errorf("rate limit burst %d is below 1", c.Burst))
	}
	return errors.Join(errs...)
}

// Limiter spreads the calls of each key evenly over time (the generic cell rate algorithm),
// counted in Redis over all replicas. Its methods may be called from any goroutine.
type Limiter struct {
	cfg       LimitConfig
	limiter   *redis_rate.Limiter
	guard     *guard
	decisions map[string]prometheus.Counter
}

// NewLimiter returns a limiter that counts in client. It starts nothing. A nil logger or
// registerer means no logs or metrics.
func NewLimiter(client redis.UniversalClient, cfg LimitConfig, logger *zap.Logger, reg prometheus.Registerer) (*Limiter, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	decisions, err := counters(reg, prometheus.CounterOpts{
		Name: "rate_limit_decisions_total",
		Help: "Calls that asked a rate limiter, by its decision.",
	}, "limiter", cfg.Name, decisionAllowed, decisionLimited, decisionBypass, decisionError)
	if err != nil {
		return nil, err
	}
	return &Limiter{
		cfg:       cfg,
		limiter:   redis_rate.NewLimiter(client),
		guard:     newGuard(logger, cfg.Name),
		decisions: decisions,
	}, nil
}

// Allow counts a call of key. It returns nil, or a ResourceExhausted *fault.Error that says
// when to try again. When Redis does not answer it allows: a limiter that is down must not
// take the service with it. It does not end with ctx, but within the client's timeouts.
func (l *Limiter) Allow(ctx context.Context, key string) error {
	var result *redis_rate.Result
	err := l.guard.do(func() (err error) {
		result, err = l.limiter.Allow(context.WithoutCancel(ctx), l.cfg.Name+":{"+key+"}", redis_rate.Limit{
			Rate: l.cfg.Rate, Burst: l.cfg.Burst, Period: l.cfg.Per,
		})
		return err
	})
	decision := decisionOf(result, err)
	l.decisions[decision].Inc()
	if decision != decisionLimited {
		return nil
	}
	return &fault.Error{
		Code:       fault.ResourceExhausted,
		Message:    "rate limit exceeded",
		Reason:     "RATE_LIMITED",
		RetryAfter: result.RetryAfter,
	}
}

func decisionOf(result *redis_rate.Result, err error) string {
	switch {
	case errors.Is(err, errBypassed):
		return decisionBypass
	case err != nil:
		return decisionError
	case result.Allowed > 0:
		return decisionAllowed
	}
	return decisionLimited
}
