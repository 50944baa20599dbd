package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// Config says when a breaker opens and for how long. The zero value of each field is a default,
// except that of Name.
type Config struct {
	// Name is whom the breaker keeps calls away from, for errors and metrics. It is required, and
	// is no variable.
	Name string
	// Failures is how many calls in a row, all within Window, have to fail; default 10,
	// negative for any number. Calls that were in flight together when one replica of many died fail
	// in a row as well, so it should be above what one replica is sent at a time.
	Failures int `env:"FAILURES"`
	// Ratio is the part of the calls of Window that has to fail, above 0 and at most 1; default 0.5,
	// negative for any part.
	Ratio float64 `env:"RATIO"`
	// MinCalls is how many calls must have ended before Ratio counts; default 20.
	MinCalls int `env:"MIN_CALLS"`
	// Window is how long a call is remembered, to a tenth of it; default 10s.
	Window time.Duration `env:"WINDOW"`
	// OpenTimeout is how long no call passes after the first opening; default 1s, at least 1ms. It is
	// doubled with each opening until the breaker has closed.
	OpenTimeout time.Duration `env:"OPEN_TIMEOUT"`
	// MaxOpen bounds the doubling; default 30s.
	MaxOpen time.Duration `env:"MAX_OPEN"`
	// HalfOpenProbes is how many calls pass before the breaker closes, and all have to succeed;
	// default 3.
	HalfOpenProbes int `env:"HALF_OPEN_PROBES"`
	// Classify tells what an error says about the callee; default each is a [Failure]. It is not asked
	// about nil, which is a [Success], nor about what is ignored on every account. It is called
	// in parallel.
	Classify func(error) Outcome
	// OnChange, if not nil, is told of every change of the state, one at a time and in their order.
	// The breaker waits for it: it must be quick and must not use the breaker.
	OnChange func(Change)
}

// buckets is how many parts a window has. The oldest part is forgotten as a whole.
const buckets = 10

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.Failures = cmp.Or(c.Failures, 10)
	c.Ratio = cmp.Or(c.Ratio, 0.5)
	c.MinCalls = cmp.Or(c.MinCalls, 20)
	c.Window = cmp.Or(c.Window, 10*time.Second)
	c.OpenTimeout = cmp.Or(c.OpenTimeout, time.Second)
	c.MaxOpen = cmp.Or(c.MaxOpen, max(30*time.Second, c.OpenTimeout))
	c.HalfOpenProbes = cmp.Or(c.HalfOpenProbes, 3)
}

// inherit fills the zero fields, but Name, with those of base.
func (c *Config) inherit(base Config) {
	c.Failures = cmp.Or(c.Failures, base.Failures)
	c.Ratio = cmp.Or(c.Ratio, base.Ratio)
	c.MinCalls = cmp.Or(c.MinCalls, base.MinCalls)
	c.Window = cmp.Or(c.Window, base.Window)
	c.OpenTimeout = cmp.Or(c.OpenTimeout, base.OpenTimeout)
	c.MaxOpen = cmp.Or(c.MaxOpen, max(base.MaxOpen, c.OpenTimeout))
	c.HalfOpenProbes = cmp.Or(c.HalfOpenProbes, base.HalfOpenProbes)
	if c.Classify == nil {
		c.Classify = base.Classify
	}
	if c.OnChange == nil {
		c.OnChange = base.OnChange
	}
}

func (c Config) validateNamed() error {
	err := c.Validate()
	if c.Name == "" {
		return errors.Join(errors.New("name is required and not set"), err)
	}
	return err
}

// Validate reports every bad value at once. It does not ask for a Name, which [New] does.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Failures == 0 || c.Failures > math.MaxInt32 {
		bad("FAILURES: %d is not between 1 and %d, or negative", c.Failures, math.MaxInt32)
	}
	if c.Ratio == 0 || c.Ratio > 1 || math.IsNaN(c.Ratio) {
		bad("RATIO: %v is not above 0 and at most 1, or negative", c.Ratio)
	}
	if c.Failures < 0 && c.Ratio < 0 {
		bad("FAILURES: no number and no RATIO of failures would ever open the breaker")
	}
	if c.MinCalls < 1 || c.MinCalls > math.MaxInt32 {
		bad("MIN_CALLS: %d is not between 1 and %d", c.MinCalls, math.MaxInt32)
	}
	if c.Window < buckets*time.Millisecond {
		bad("WINDOW: %s is below %s", c.Window, buckets*time.Millisecond)
	}
	if c.OpenTimeout < time.Millisecond {
		bad("OPEN_TIMEOUT: %s is below %s", c.OpenTimeout, time.Millisecond)
	}
	if c.MaxOpen < c.OpenTimeout {
		bad("MAX_OPEN: %s is below OPEN_TIMEOUT, %s", c.MaxOpen, c.OpenTimeout)
	}
	if c.HalfOpenProbes < 1 || c.HalfOpenProbes > math.MaxInt32 {
		bad("HALF_OPEN_PROBES: %d is not between 1 and %d", c.HalfOpenProbes, math.MaxInt32)
	}
	return errors.Join(errs...)
}
