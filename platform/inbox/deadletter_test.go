package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func deadLetters(tb testing.TB, r running) []inbox.DeadLetter {
	tb.Helper()
	letters, err := inbox.NewOperator(r.pool).List(tb.Context(), inbox.Filter{Consumer: r.cfg.Name})
	require.NoError(tb, err)
	return letters
}

// poison is an error for the given payloads, for as long as it is there.
type poison struct {
	payloads []string
	err      error
	cured    atomic.Bool
}

func (p *poison) fail(payload string) error {
	for _, bad := range p.payloads {
		if bad == payload && !p.cured.Load() {
			return p.err
		}
	}
	return nil
}

var errPermanent = inbox.Permanent(errors.New("not like this"))

// What repeating does not mend becomes a dead letter at once. With one of the codes left out of those the message is
// handed over again.
func TestConsumer_permanent(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"marked":      fmt.Errorf("apply: %w", errPermanent),
		"invalid":     fault.New(fault.InvalidArgument, "no"),
		"not found":   fault.New(fault.NotFound, "no"),
		"too late":    fault.New(fault.FailedPrecondition, "no"),
		"unsupported": fault.New(fault.Unimplemented, "no"),
		"there":       fault.New(fault.AlreadyExists, "no"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stream{}
			r := running{pool: setup(t), sub: s, cfg: quick("shipping", inbox.ByID)}
			ran := r.start(t, failing(func(string) error { return err }))
			m := message("a", 1)
			s.publish(m)
			s.empty(t)
			require.Equal(t, 1, s.deliveries(m.ID))
			letters := deadLetters(t, r)
			require.Len(t, letters, 1)
			require.Equal(t, "permanent", letters[0].Class)
			require.Equal(t, 1, letters[0].Attempts)
			require.Equal(t, err.Error(), letters[0].Error)
			require.Empty(t, effects(t, r.pool, "order/a"))
			require.Eventually(t, func() bool { return ran.value(t, "dead_letters", "") == 1 }, patience, time.Millisecond)
		})
	}
	require.NoError(t, inbox.Permanent(nil))
}

// The acknowledgement is lost after the dead letter was stored. With a row and no
// mark there are two of them, or the handler runs behind the operator's back.
func TestConsumer_deadLetterThenCrash(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			var calls atomic.Int32
			r.start(t, failing(func(string) error { calls.Add(1); return errPermanent }))
			s.lose = 3
			m := message("a", 1)
			s.publish(m)
			s.empty(t)
			require.Equal(t, 4, s.deliveries(m.ID))
			require.Equal(t, int32(1), calls.Load())
			require.Len(t, deadLetters(t, r), 1)
		})
	}
}

// With Nack for the poison instead of a dead letter its key, and with it in time
// every worker, waits for ever.
func TestConsumer_poisonBlocksNobody(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			p := &poison{err: errors.New("no")}
			for i := range 10 {
				p.payloads = append(p.payloads, fmt.Sprintf("bad%d:1", i))
			}
			r.start(t, failing(p.fail))
			for i := range 10 {
				s.publish(message(fmt.Sprintf("bad%d", i), 1))
				s.publish(message(fmt.Sprintf("bad%d", i), 2))
				s.publish(history(strconv.Itoa(i), 10)...)
			}
			s.empty(t)
			for i := range 10 {
				require.ElementsMatch(t, payloads(history(strconv.Itoa(i), 10)), effects(t, r.pool, fmt.Sprintf("order/%d", i)))
				if r.cfg.Mode == inbox.ByID {
					require.Equal(t, []string{fmt.Sprintf("bad%d:2", i)}, effects(t, r.pool, fmt.Sprintf("order/bad%d", i)))
				} else {
					require.Empty(t, effects(t, r.pool, fmt.Sprintf("order/bad%d", i)), "it waits for the one before")
				}
			}
			for _, d := range deadLetters(t, r) {
				require.Equal(t, "exhausted", d.Class)
				require.Equal(t, 3, d.Attempts)
				require.Equal(t, r.cfg.Mode == inbox.ByVersion, d.Waiting == 1)
			}
		})
	}
}

func TestConsumer_malformed(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			r.start(t, writing)
			change := func(do func(m *broker.Message)) broker.Message {
				m := message("a", 1)
				do(&m)
				return m
			}
			bad := []broker.Message{
				change(func(m *broker.Message) { m.ID = "" }),
				change(func(m *broker.Message) { m.ID = "a\x00b"; m.Key = "\xff\x00" }),
				change(func(m *broker.Message) { m.ID = strings.Repeat("x", 513); m.Headers["h"] = "\x00\xff" }),
			}
			if r.cfg.Mode == inbox.ByVersion {
				bad = append(bad,
					change(func(m *broker.Message) { m.Headers[broker.HeaderAggregateVersion] = "first" }),
					change(func(m *broker.Message) { m.Headers[broker.HeaderAggregateVersion] = "0" }),
					change(func(m *broker.Message) { m.Headers = nil }),
					change(func(m *broker.Message) { m.Key = "" }))
			}
			for range 2 {
				s.publish(bad...)
				s.empty(t)
				letters := deadLetters(t, r)
				require.Len(t, letters, len(bad), "a second delivery makes no second row")
				for _, d := range letters {
					require.Equal(t, "malformed", d.Class)
				}
			}
			require.Empty(t, effects(t, r.pool, "order/a"))
		})
	}
}

// With the error taken for one that may pass the message comes again for ever.
func TestConsumer_tooOld(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByID)
	r.start(t, writing)
	old := message("a", 1)
	old.ID = idOf(time.Now().Add(-9 * day))
	s.publish(old, message("a", 2))
	s.empty(t)
	require.Equal(t, []string{"a:2"}, effects(t, r.pool, "order/a"))
	letters := deadLetters(t, r)
	require.Len(t, letters, 1)
	require.Equal(t, "too_old", letters[0].Class)
	require.Contains(t, letters[0].Error, "older than the retention")

	_, err := inbox.NewOperator(r.pool).Redrive(t.Context(), inbox.Selection{IDs: []int64{letters[0].ID}}, act)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(deadLetters(t, r)) == 0 }, patience, time.Millisecond)
	s.publish(old)
	s.empty(t)
	require.Equal(t, []string{"a:2", "a:1"}, effects(t, r.pool, "order/a"), "the operator's decision stands")
	require.Empty(t, deadLetters(t, r))
}

// The attempt that would be the last fails while another process applies the
// message: what has an effect must not be a dead letter too.
func TestConsumer_deadLetterAgainstAnotherReplica(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByID)
	m := message("a", 1)
	failed, other := make(chan struct{}), make(chan struct{})
	r.start(t, func(context.Context, pgx.Tx, broker.Message) error {
		close(failed)
		<-other
		return errPermanent
	})
	s.publish(m)
	<-failed
	applied := make(chan error, 1)
	go func() { // it waits for the mark of the one that fails
		_, err := apply(t.Context(), r.pool, "shipping", m.ID)
		applied <- err
	}()
	waitForLockWait(t, r.pool)
	close(other)
	require.NoError(t, <-applied)
	s.empty(t)
	require.Equal(t, 1, one[int](t, r.pool, "select count(*) from effects")+one[int](t, r.pool, "select count(*) from slipway.inbox_dead"))
}

var act = inbox.Act{Who: "ann", Reason: "fixed"}
