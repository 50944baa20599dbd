package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

func TestMessage_Validate(t *testing.T) {
	t.Parallel()
	require.NoError(t, broker.Message{ID: "1", Subject: "order.placed"}.Validate())
	for _, subject := range []string{"", ".", "a..b", "a.*", "a.>", "a b", "a#", "ä"} {
		require.ErrorContains(t, broker.Message{ID: "1", Subject: subject}.Validate(), "subject", subject)
	}
	require.ErrorContains(t, broker.Message{Subject: "a"}.Validate(), "id")
	require.Equal(t, "1", broker.Message{ID: "1"}.Dedup())
	require.Equal(t, "2", broker.Message{ID: "1", DedupID: "2"}.Dedup())
}

func TestSubscription_Validate(t *testing.T) {
	t.Parallel()
	s := broker.Subscription{Name: "payment-1", Subjects: []string{"order.>", "order.placed"}}
	s.SetDefaults()
	require.NoError(t, s.Validate())
	err := broker.Subscription{Name: "a.b", Subjects: []string{"a.*"}, Concurrency: -1}.Validate()
	for _, part := range []string{"name", "subjects", "concurrency", "ack wait"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorContains(t, broker.Subscription{Name: "a"}.Validate(), "none given")
}

func TestMatches(t *testing.T) {
	t.Parallel()
	require.True(t, broker.Matches("order.>", "order.placed"))
	require.True(t, broker.Matches("order.placed", "order.placed"))
	require.False(t, broker.Matches("order.>", "order."))
	require.False(t, broker.Matches("order.>", "orders.placed"))
	require.False(t, broker.Matches("order", "order.placed"))
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []error{nil, nil}, broker.Outcomes(nil, 2))
	down := errors.New("down")
	require.Equal(t, []error{down, down}, broker.Outcomes(down, 2))
	each := broker.Joined([]error{nil, broker.ErrRefused})
	require.Equal(t, []error{nil, broker.ErrRefused}, broker.Outcomes(each, 2))
	require.ErrorIs(t, each, broker.ErrRefused)
	require.EqualError(t, each, "publish 1 of 2 messages: message refused")
	require.NoError(t, broker.Joined([]error{nil, nil}))
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	require.True(t, broker.Ack().Settled())
	require.False(t, broker.Nack(time.Second).Settled())
	require.Equal(t, time.Second, broker.Nack(time.Second).Delay())
	require.False(t, broker.Verdict{}.Settled(), "what says nothing comes again")
	reason, terminated := broker.Terminate("poison").Terminated()
	require.True(t, terminated)
	require.Equal(t, "poison", reason)
}

func TestContext(t *testing.T) {
	t.Parallel()
	const parent = "00-01000000000000000000000000000000-0200000000000000-01"
	sent := broker.Inject(correlation.With(t.Context(), "cart-17"), map[string]string{"traceparent": parent})
	m := broker.Message{Headers: sent}
	require.Equal(t, "cart-17", correlation.ID(broker.Context(t.Context(), m)))
	require.Equal(t, "0200000000000000", broker.Origin(m).SpanID().String())
	require.False(t, broker.Origin(broker.Message{}).IsValid())

	traced := broker.Message{Headers: map[string]string{"traceparent": parent}}
	require.Equal(t, "01000000000000000000000000000000", correlation.ID(broker.Context(t.Context(), traced)))
	hostile := broker.Message{Headers: map[string]string{"correlation_id": "a\nlevel=error\x00"}}
	require.Equal(t, "alevelerror", correlation.ID(broker.Context(t.Context(), hostile)))
	require.Equal(t, map[string]string{"correlation_id": "mine"}, broker.Inject(t.Context(), map[string]string{"correlation_id": "mine"}))
	require.Empty(t, broker.Inject(t.Context(), nil))
}
