package outbox

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"
)

// Config is how a relay works. The zero value is a good one for production.
type Config struct {
	// Sink names the broker that the relay publishes to, and the position it keeps.
	// Each sink gets every event; of the replicas that name the same sink one
	// publishes. Empty means "broker".
	Sink string `env:"OUTBOX_SINK"`
	// Holder names this replica to operators. Empty means host name and process id.
	Holder string
	// Batch is how many events are read and published at once. After a crash at most
	// twice as many are published again. 0 means 1000.
	Batch int `env:"OUTBOX_BATCH"`
	// Linger is the least time between two reads, so that events of many
	// transactions share one; up to eight times as long when reads bring many. A
	// backlog does not wait. 0 means 5 milliseconds.
	Linger time.Duration `env:"OUTBOX_LINGER"`
	// Poll is how often an idle relay looks for events that it was not woken for.
	// 0 means 500 milliseconds.
	Poll time.Duration `env:"OUTBOX_POLL"`
	// Lease is after how long without a sign of life a standby takes over. The
	// active replica gives two signs of it within that time. 0 means a second, a minute
	// is the most: operators wait for as long to see whether a replica lives.
	Lease time.Duration `env:"OUTBOX_LEASE"`
	// Retention is how long events are kept after they were published to every sink, so
	// that they can be replayed to a broker that lost them. They may be kept half as
	// long again. It must be longer than the broker takes to sync its files. 0 means 24
	// hours.
	Retention time.Duration `env:"OUTBOX_RETENTION"`
	// PublishTimeout bounds one call to the broker. 0 means 10 seconds.
	PublishTimeout time.Duration `env:"OUTBOX_PUBLISH_TIMEOUT"`
	// MinBackoff and MaxBackoff bound the pause between attempts for a parked
	// aggregate. 0 means 100 milliseconds and 30 seconds. A broker or a database that
	// is away is asked at least every two seconds.
	MinBackoff, MaxBackoff time.Duration
	// MaxAttempts is how often an event is tried that the broker neither takes nor
	// refuses for good, before its aggregate waits for an operator. 0 means 10.
	MaxAttempts int `env:"OUTBOX_MAX_ATTEMPTS"`
	// Maintenance is how often rotation and backlog are looked after. 0 means 5
	// seconds.
	Maintenance time.Duration `env:"OUTBOX_MAINTENANCE"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.Sink = cmp.Or(c.Sink, "broker")
	if c.Holder == "" {
		host, _ := os.Hostname()
		c.Holder = fmt.Sprintf("%s/%d", cmp.Or(host, "unknown"), os.Getpid())
	}
	c.Batch = cmp.Or(c.Batch, 1000)
	c.Linger = cmp.Or(c.Linger, 5*time.Millisecond)
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	c.Lease = cmp.Or(c.Lease, time.Second)
	c.Retention = cmp.Or(c.Retention, 24*time.Hour)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 10*time.Second)
	c.MinBackoff = cmp.Or(c.MinBackoff, 100*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 30*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 10)
	c.Maintenance = cmp.Or(c.Maintenance, 5*time.Second)
}

// Validate names every field that is wrong.
func (c Config) Validate() error {
	var errs []error
	if err := checkName("OUTBOX_SINK", c.Sink); err != nil {
		errs = append(errs, err)
	}
	if c.Batch < 1 || c.Batch > 10_000 {
		errs = append(errs, fmt.Errorf("OUTBOX_BATCH: %d is not between 1 and 10000", c.Batch))
	}
	if c.MaxAttempts < 1 {
		errs = append(errs, fmt.Errorf("OUTBOX_MAX_ATTEMPTS: %d is not positive", c.MaxAttempts))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
		most  time.Duration // 0 for no bound
	}{
		{"OUTBOX_LINGER", c.Linger, 0, 0},
		{"OUTBOX_POLL", c.Poll, time.Millisecond, 0},
		{"OUTBOX_LEASE", c.Lease, 100 * time.Millisecond, time.Minute},
		{"OUTBOX_RETENTION", c.Retention, time.Second, 0},
		{"OUTBOX_PUBLISH_TIMEOUT", c.PublishTimeout, 10 * time.Millisecond, 0},
		{"OUTBOX_MAINTENANCE", c.Maintenance, 10 * time.Millisecond, 0},
		{"least backoff", c.MinBackoff, time.Millisecond, 0},
		{"longest backoff", c.MaxBackoff, c.MinBackoff, 0},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than %s", d.name, d.value, d.least))
		}
		if d.most > 0 && d.value > d.most {
			errs = append(errs, fmt.Errorf("%s: %s is longer than %s", d.name, d.value, d.most))
		}
	}
	return errors.Join(errs...)
}

// longer returns the pause after one that did not help, while the broker or the
// database is away: everything waits for it, so it stays short.
func (c Config) longer(pause time.Duration) time.Duration {
	return min(2*pause, c.MaxBackoff, 2*time.Second)
}
