package main

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
	"github.com/slipwayhq/slipway/platform/broker"
)

func TestCollector(t *testing.T) {
	t.Parallel()
	c, err := startCollector(t.Context())
	require.NoError(t, err)
	pub, err := dialCollector(t.Context(), c.addr())
	require.NoError(t, err)
	require.NoError(t, pub.Publish(t.Context(), []broker.Message{numberedMessage(1), numberedMessage(2)}))
	require.NoError(t, pub.Publish(t.Context(), []broker.Message{numberedMessage(1)}))
	require.EqualValues(t, os.Getpid(), c.active.Load(), "it knows who published last")

	torn, err := net.Dial("unix", c.addr())
	require.NoError(t, err)
	_, err = torn.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 4711), 2))
	require.NoError(t, err)
	_, err = torn.Write(numberedMessage(3).Payload) // the second event never comes
	require.NoError(t, err)
	require.NoError(t, torn.Close())
	pub.close()
	require.NoError(t, c.stop())

	committed := audit.NewLedger()
	committed.Commit(audit.Event{Aggregate: 7, Version: 1, Nonce: 1})
	require.Equal(t, audit.Verdict{Committed: 1, Arrivals: 3, Phantoms: 1, Duplicates: 1}, audit.Judge(committed, c.arrived),
		"a batch of which a part came did not come")
}

func TestCollector_stall(t *testing.T) {
	t.Parallel()
	var c collector
	before, after := c.stall()
	require.Equal(t, stallFor, before+after)
	before, after = c.stall()
	require.Zero(t, before+after, "not again at once")
	c.stalled.Store(time.Now().Add(-2 * stallEvery).UnixNano())
	before, after = c.stall()
	require.Equal(t, stallFor, before+after)
}
