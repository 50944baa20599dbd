package outbox_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/watermill"
)

// driver is a publisher of Watermill that never takes the key order/bad, and does not say why.
type driver struct {
	mu     sync.Mutex
	stored map[string]int // by key
}

// Publish implements message.Publisher.
func (d *driver) Publish(_ string, messages ...*message.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range messages {
		if m.Metadata[broker.HeaderKey] == "order/bad" {
			return errors.New("a field is missing")
		}
		d.stored[m.Metadata[broker.HeaderKey]]++
	}
	return nil
}

// Close implements message.Publisher.
func (*driver) Close() error { return nil }

func (d *driver) count(key string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stored[key]
}

// Over Watermill, whose drivers do not tell a message that the broker never takes from a broker that is away, one
// such message holds up its aggregate only: it is parked, tried again, and left to an operator in the end. It fails
// with a publisher that takes every error for that of a broker which is away: nothing behind the event is published.
func TestRelay_poisonOverWatermill(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	d := &driver{stored: map[string]int{}}
	cfg := quick()
	cfg.MaxAttempts = 3
	add(t, ctx, pool, event("bad", 1), event("good", 1), event("bad", 2))
	relay, _, _ := start(t, pool, watermill.NewPublisher(d, watermill.PublisherConfig{}), cfg)
	version := int64(1)
	more := func() {
		version++
		add(t, ctx, pool, event("good", version))
		relay.Wake()
		eventually(t, func() bool { return d.count("order/good") == int(version) })
	}
	more()
	waits := "select count(*) = 1 from slipway.outbox_parked_aggregate where aggregate_id = 'bad' and next_attempt_at is null"
	for !rows[bool](t, pool, waits)[0] {
		more() // an attempt counts when the broker takes others meanwhile
		require.Less(t, version, int64(5000), "it is tried for ever")
	}
	require.Equal(t, []int64{1, 2}, rows[int64](t, pool, `select e.aggregate_version from slipway.outbox_parked p join slipway.outbox e using (id) order by e.id`))
	require.Zero(t, d.count("order/bad"))
}
