package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Config tunes a [Monitor]. The zero value means the documented defaults.
type Config struct {
	// Interval is the time between two checks of a dependency that passes, give or take a
	// tenth so that replicas do not check in step; default 10s. A dependency that fails is
	// checked five times as often until it passes.
	Interval time.Duration `env:"HEALTH_INTERVAL"`
	// Timeout bounds one check; default 2s.
	Timeout time.Duration `env:"HEALTH_TIMEOUT"`
	// Critical names the dependencies without which the service is not ready; default
	// postgres and redis. A name that is no dependency of the service is ignored, so "none"
	// makes all of them optional.
	Critical []string `env:"HEALTH_CRITICAL"`
	// FailureThreshold is the number of failures in a row after which a dependency that was
	// up counts as down; default 2.
	FailureThreshold int `env:"HEALTH_FAILURE_THRESHOLD"`
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.Interval = cmp.Or(c.Interval, 10*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	c.FailureThreshold = cmp.Or(c.FailureThreshold, 2)
	if len(c.Critical) == 0 {
		c.Critical = []string{"postgres", "redis"}
	}
}

// Validate reports every bad value at once.
func (c Config) Validate() error {
	var errs []error
	if c.Interval <= 0 {
		errs = append(errs, fmt.Errorf("health interval %s is not positive", c.Interval))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("health timeout %s is not positive", c.Timeout))
	}
	if c.FailureThreshold < 1 {
		errs = append(errs, fmt.Errorf("health failure threshold %d is below 1", c.FailureThreshold))
	}
	return errors.Join(errs...)
}

// Check reports whether a dependency can do what the service needs of it: nil, or why
// not. It must return when ctx ends; one that does not is counted as failed and is not
// called again before it has returned.
type Check func(ctx context.Context) error

// Dependency is something outside the process that the service needs.
type Dependency struct {
	// Name is lower case, for example "postgres"; it becomes a metric label and the health
	// service "dependency/<name>".
	Name string
	// Check is called by one goroutine at a time.
	Check Check
}

func validateDependencies(deps []Dependency) error {
	var errs []error
	seen := make(map[string]bool, len(deps))
	for _, d := range deps {
		switch {
		case d.Name == "":
			errs = append(errs, errors.New("health dependency without a name"))
		case d.Check == nil:
			errs = append(errs, fmt.Errorf("health dependency %q without a check", d.Name))
		case seen[d.Name]:
			errs = append(errs, fmt.Errorf("health dependency %q is there twice", d.Name))
		}
		seen[d.Name] = true
	}
	return errors.Join(errs...)
}
