package sagapg

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"
)

// Config is how a runner works. The zero value is a good one for production.
type Config struct {
	// Name names this process to operators. Empty means host name and process id.
	Name string
	// Concurrency is how many sagas run at once in this process. 0 means 256.
	Concurrency int `env:"SAGA_CONCURRENCY"`
	// Poll is how often an idle runner looks for sagas that it was not woken for: retries,
	// timers, signals, and what other processes have started. 0 means 500 milliseconds.
	Poll time.Duration `env:"SAGA_POLL"`
	// Lease is after how long without a sign of life the sagas of a process are taken
	// over. It gives three signs within that time. 0 means 1.5 seconds.
	Lease time.Duration `env:"SAGA_LEASE"`
	// Hold is how long a pause may be for which a saga stays with its process. Longer ones
	// are left to whoever polls then. 0 means 500 milliseconds.
	Hold time.Duration `env:"SAGA_HOLD"`
	// Grace is how long calls on their way may take to come back when the process stops,
	// before they are given up. 0 means 5 seconds.
	Grace time.Duration `env:"SAGA_GRACE"`
	// Retention is for how long sagas that are over, and every attempt at their steps, are
	// kept. Days go as a whole. What operators did is kept for ever. 0 means 14 days.
	Retention time.Duration `env:"SAGA_RETENTION"`
	// Maintenance is how often partitions are looked after. 0 means a minute.
	Maintenance time.Duration `env:"SAGA_MAINTENANCE"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	if c.Name == "" {
		host, _ := os.Hostname()
		c.Name = fmt.Sprintf("%s/%d", cmp.Or(host, "unknown"), os.Getpid())
	}
	c.Concurrency = cmp.Or(c.Concurrency, 256)
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	c.Lease = cmp.Or(c.Lease, 1500*time.Millisecond)
	c.Hold = cmp.Or(c.Hold, 500*time.Millisecond)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	c.Retention = cmp.Or(c.Retention, 14*24*time.Hour)
	c.Maintenance = cmp.Or(c.Maintenance, time.Minute)
}

// Validate names every field that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Concurrency < 1 || c.Concurrency > 100_000 {
		errs = append(errs, fmt.Errorf("SAGA_CONCURRENCY: %d is not between 1 and 100000", c.Concurrency))
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"SAGA_POLL", c.Poll, 10 * time.Millisecond},
		{"SAGA_LEASE", c.Lease, 100 * time.Millisecond},
		{"SAGA_HOLD", c.Hold, 0},
		{"SAGA_GRACE", c.Grace, 0},
		{"SAGA_RETENTION", c.Retention, time.Hour},
		{"SAGA_MAINTENANCE", c.Maintenance, 10 * time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than %s", d.name, d.value, d.least))
		}
	}
	return errors.Join(errs...)
}
