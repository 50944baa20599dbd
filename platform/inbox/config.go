package inbox

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/platform/broker"
)

// Mode is how a consumer recognises what it has applied.
type Mode string

const (
	// ByID keeps the id of each message for the retention. Messages need an id and
	// nothing else, and a dead letter blocks nobody.
	ByID Mode = "by_id"
	// ByVersion keeps one row for each aggregate, the version that was applied last.
	// It notices gaps and applies events in the order of their versions, for all
	// time. It needs every event of the aggregate, with versions that count 1, 2, 3:
	// subscribe to all their types.
	ByVersion Mode = "by_version"
)

// Config is how a consumer works. Only Name and Subjects are required.
type Config struct {
	// Name identifies the consumer, to the broker and in the tables. Its replicas
	// share it. It holds letters, digits, "-" and "_".
	Name string
	// Subjects are exact, or end in ".>" for everything below: "order.>".
	Subjects []string
	// Mode is ByID when empty. It cannot change in the life of a name.
	Mode Mode
	// JoinLate lets the first version that is seen of an aggregate be any in
	// ByVersion mode; lower ones that come later are duplicates. Else events wait
	// for version 1.
	JoinLate bool
	// Concurrency is how many messages are in hand at once. 0 means 16. Each takes a
	// connection of the pool for as long as its handler runs.
	Concurrency int
	// AckWait is after how long the broker takes a silent process for dead. 0 means
	// 30 seconds.
	AckWait time.Duration
	// MaxAttempts is how often a message is tried that fails with errors that may
	// pass, before it is a dead letter. 0 means 8. An outage of the database is not
	// an attempt.
	MaxAttempts int
	// MinBackoff and MaxBackoff bound the pause between attempts: it doubles, and a
	// random half of it is taken off. 0 means 500 milliseconds and one minute.
	MinBackoff, MaxBackoff time.Duration
	// HandlerTimeout bounds the handler; its context ends then, and its transaction
	// is rolled back. 0 means 30 seconds.
	HandlerTimeout time.Duration
	// Retention is for how long the ids of messages are kept, and dead letters that
	// are resolved. It must be longer than the broker keeps messages, or what is
	// replayed from before is dead letters. Of the consumers of a database the
	// longest counts. 0 means 7 days.
	Retention time.Duration
	// Poll is how often dead letters to redrive and waiting events are looked for.
	// 0 means one second.
	Poll time.Duration
	// MaintenanceInterval is how often partitions, old rows and gauges are looked
	// after. 0 means 30 seconds.
	MaintenanceInterval time.Duration
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.Mode = cmp.Or(c.Mode, ByID)
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.AckWait = cmp.Or(c.AckWait, 30*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 8)
	c.MinBackoff = cmp.Or(c.MinBackoff, 500*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, time.Minute)
	c.HandlerTimeout = cmp.Or(c.HandlerTimeout, 30*time.Second)
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.MaintenanceInterval = cmp.Or(c.MaintenanceInterval, 30*time.Second)
}

// maxRetention keeps the number of partitions sane.
const maxRetention = 366 * 24 * time.Hour

// Validate names every field that is wrong.
func (c Config) Validate() error {
	errs := []error{c.subscription().Validate()}
	if c.Mode != ByID && c.Mode != ByVersion {
		errs = append(errs, fmt.Errorf("mode: %q is neither by_id nor by_version", c.Mode))
	}
	if c.JoinLate && c.Mode != ByVersion {
		errs = append(errs, errors.New("join late: only by_version knows what is late"))
	}
	if c.MaxAttempts < 1 {
		errs = append(errs, fmt.Errorf("max attempts: %d is not positive", c.MaxAttempts))
	}
	if c.Retention > maxRetention {
		errs = append(errs, fmt.Errorf("retention: %s is longer than %s", c.Retention, maxRetention))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"min backoff", c.MinBackoff, time.Millisecond},
		{"max backoff", c.MaxBackoff, c.MinBackoff},
		{"handler timeout", c.HandlerTimeout, time.Millisecond},
		{"retention", c.Retention, time.Hour},
		{"poll", c.Poll, time.Millisecond},
		{"maintenance interval", c.MaintenanceInterval, time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than %s", d.name, d.value, d.least))
		}
	}
	return errors.Join(errs...)
}

func (c Config) subscription() broker.Subscription {
	return broker.Subscription{Name: c.Name, Subjects: c.Subjects, Concurrency: c.Concurrency, AckWait: c.AckWait}
}
